"""Plain requests of a test client, and the responses to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httptools
import orjson

from fastws.datastructures import Headers
from fastws.exceptions import HandshakeError
from fastws.http_fields import HeaderPairs, normalize_headers
from fastws.http_head import build_message

__all__ = ["Reply", "TestResponse", "with_cookies"]


@dataclass(frozen=True)
class TestResponse:
    """The response to a plain request.

    Parameters:
        status_code: its status.
        headers: its headers; names in any case.
        content: its body.
    """

    __test__ = False

    status_code: int
    headers: Headers
    content: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body, read as JSON."""
        return orjson.loads(self.content)


class Reply:
    """One request and the response to it, sans-I/O, for :class:`fastws.dialing.Exchange`.

    Parameters:
        method: of the request.
        target: path and query.
        host: the Host header.
        headers: more headers.

    Raises:
        ValueError: a header must not be sent.
    """

    error: HandshakeError | None = None
    refused = False

    def __init__(
        self, method: str, target: str, host: str, headers: list[tuple[bytes, bytes]]
    ) -> None:
        own = [(b"Host", host.encode("latin-1")), (b"Connection", b"close")]
        self.request = build_message(f"{method} {target} HTTP/1.1", own + headers)
        self._is_head = method == "HEAD"
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""
        self._complete = False
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> bool:
        if data:
            self._parser.feed_data(data)
        return self._complete

    def give_up(self) -> bool:
        return True

    @property
    def response(self) -> TestResponse:
        """What came."""
        return TestResponse(self._parser.get_status_code(), Headers(raw=self._headers), self._body)

    # Called by httptools.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        # Its length is that of the body that GET would have.
        self._complete = self._is_head

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._complete = True


def with_cookies(
    headers: HeaderPairs | None, cookies: Mapping[str, str] | None
) -> list[tuple[bytes, bytes]]:
    """Headers with one more for the cookies.

    Raises:
        ValueError: one must not be sent.
    """
    pairs = normalize_headers(headers)
    if cookies:
        text = "; ".join(f"{name}={value}" for name, value in cookies.items())
        pairs += normalize_headers([("Cookie", text)])
    return pairs
