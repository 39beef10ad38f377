"""HTTP responses: of the handlers of ``@app.get``, and of refused handshakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastws._json import encode_json
from fastws.datastructures import Headers, Receive, Scope, Send
from fastws.exceptions import HTTPException
from fastws.http_fields import HeaderPairs, normalize_headers

__all__ = [
    "HTMLResponse",
    "JSONResponse",
    "MutableHeaders",
    "PlainTextResponse",
    "Response",
    "error_response",
    "to_response",
]


class MutableHeaders(Headers):
    """The headers of a response: assigning one replaces all of that name."""

    __slots__ = ()

    def __setitem__(self, name: str, value: str) -> None:
        # Checked first: whatever cannot be sent leaves everything as it was.
        pairs = _lower(normalize_headers([(name, value)]))
        if name in self:
            del self[name]
        self._list += pairs

    def __delitem__(self, name: str) -> None:
        """Remove every header of that name; there need not be one."""
        unwanted = name.lower().encode("latin-1", "replace")
        self._list[:] = [pair for pair in self._list if pair[0] != unwanted]

    def append(self, name: str, value: str) -> None:
        """Add a header beside those of the same name, such as a second ``Set-Cookie``."""
        self._list += _lower(normalize_headers([(name, value)]))

    def setdefault(self, name: str, value: str) -> str:
        """The value of a header; it is set if there is none."""
        if name not in self:
            self[name] = value
        return self[name]

    def update(self, other: Mapping[str, str]) -> None:
        """Assign each of some headers."""
        for name in other:
            self[name] = other[name]


def _lower(pairs: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in pairs]


class Response:
    """A whole HTTP response. It is an ASGI application too, which sends it.

    Parameters:
        content: the body; text is encoded as UTF-8.
        status_code: 200 to 599.
        headers: additional headers, as a mapping or as pairs.
        media_type: the ``Content-Type``; ``; charset=utf-8`` is added to a text type without one.
            The class's own if left out.

    Raises:
        ValueError: the status is out of range, or a header has a character in it that could end
            it (RFC 9110 section 5.5).
        TypeError: the content has no form as bytes.
    """

    media_type: str | None = None

    status_code: int
    body: bytes
    raw_headers: list[tuple[bytes, bytes]]
    """As they are sent, names in lower case, ``content-type`` and ``content-length`` included."""

    def __init__(
        self,
        content: Any = None,
        status_code: int = 200,
        headers: HeaderPairs | None = None,
        media_type: str | None = None,
    ) -> None:
        if not 200 <= status_code <= 599:
            raise ValueError(f"the status of a response is {status_code}: expected 200 to 599")
        self.status_code = int(status_code)
        self.media_type = media_type or self.media_type
        self.body = self.render(content)
        self.raw_headers = _lower(normalize_headers(headers or ()))
        given = {name for name, _ in self.raw_headers}
        if self.media_type is not None and b"content-type" not in given:
            self.raw_headers += normalize_headers([("content-type", self._content_type())])
        # RFC 9110 section 8.6: neither of these has content, and 204 must not have a length.
        if b"content-length" not in given and self.status_code not in (204, 304):
            self.raw_headers.append((b"content-length", b"%d" % len(self.body)))

    @property
    def headers(self) -> MutableHeaders:
        """The headers, to be read and changed: a view of ``raw_headers``."""
        return MutableHeaders(raw=self.raw_headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an HTTP request, or refuse a WebSocket, as an ASGI application.

        A server without the extension ``websocket.http.response`` refuses with its 403.
        """
        prefix = ""
        if scope["type"] == "websocket":
            if "websocket.http.response" not in (scope.get("extensions") or {}):
                await send({"type": "websocket.close", "code": 1000, "reason": ""})
                return
            prefix = "websocket."
        headers = list(self.raw_headers)
        names = {name for name, _ in headers}
        if b"upgrade" in names and b"connection" not in names:
            # A hop's own header, which Connection must name (RFC 9110 section 7.8).
            headers.append((b"connection", b"Upgrade"))
        status = self.status_code
        await send({"type": f"{prefix}http.response.start", "status": status, "headers": headers})
        body = b"" if scope.get("method") == "HEAD" else self.body
        await send({"type": f"{prefix}http.response.body", "body": body})

    def render(self, content: Any) -> bytes:
        """The body for ``content``."""
        if content is None:
            return b""
        if isinstance(content, str):
            return content.encode()
        if isinstance(content, (bytes, bytearray, memoryview)):
            return bytes(content)
        raise TypeError(
            f"the content of a {type(self).__name__} is a {type(content).__name__}: "
            "expected str or bytes, or use JSONResponse"
        )

    def _content_type(self) -> str:
        assert self.media_type is not None
        if self.media_type.startswith("text/") and "charset=" not in self.media_type.lower():
            return f"{self.media_type}; charset=utf-8"
        return self.media_type

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status_code}, {len(self.body)} bytes>"


class HTMLResponse(Response):
    """A page."""

    media_type = "text/html"


class PlainTextResponse(Response):
    """Text."""

    media_type = "text/plain"


class JSONResponse(Response):
    """Any object that has a JSON form."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return encode_json(content)


def to_response(
    result: Any, response_class: type[Response] | None = None, status_code: int = 200
) -> Response:
    """What a handler of ``@app.get`` returned, as a response.

    A :class:`Response` is taken as it is. Anything else is given to ``response_class``; without
    one, ``str`` is sent as ``text/plain``, ``bytes`` as ``application/octet-stream``, and all
    other objects as JSON. Text is not taken for a page: a browser would run what a careless
    handler let a visitor put into it.

    Raises:
        TypeError: the result has no form that the response class takes.
    """
    if isinstance(result, Response):
        return result
    if response_class is not None:
        return response_class(result, status_code)
    if isinstance(result, str):
        return PlainTextResponse(result, status_code)
    if isinstance(result, (bytes, bytearray, memoryview)):
        return Response(result, status_code, media_type="application/octet-stream")
    return JSONResponse(result, status_code)


def error_response(error: HTTPException) -> Response:
    """What an :class:`HTTPException` says to the peer: JSON with its ``detail``."""
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)
