"""HTTP responses: of the handlers of ``@app.get``, and of refused handshakes."""

from __future__ import annotations

from typing import Any

from fastws._json import encode_json
from fastws.exceptions import HTTPException
from fastws.http_fields import HeaderPairs, normalize_headers

__all__ = [
    "HTMLResponse",
    "JSONResponse",
    "PlainTextResponse",
    "Response",
    "error_response",
    "to_response",
]


class Response:
    """A whole HTTP response.

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
        self.raw_headers = [
            (name.lower(), value) for name, value in normalize_headers(headers or ())
        ]
        given = {name for name, _ in self.raw_headers}
        if self.media_type is not None and b"content-type" not in given:
            self.raw_headers += normalize_headers([("content-type", self._content_type())])
        # RFC 9110 section 8.6: neither of these has content, and 204 must not have a length.
        if b"content-length" not in given and self.status_code not in (204, 304):
            self.raw_headers.append((b"content-length", b"%d" % len(self.body)))

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
