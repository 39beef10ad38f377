"""What a test client raises, beside the exceptions of the package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from fastws.client_handshake import HandshakeRefused
from fastws.exceptions import WebSocketDisconnect

__all__ = ["NotInTime", "WebSocketDenialResponse"]


class NotInTime(AssertionError, TimeoutError):
    """What a test waits for has not happened; the message tells what has."""


class WebSocketDenialResponse(HandshakeRefused, WebSocketDisconnect):
    """The application refused the opening handshake with an HTTP response.

    It is a ``HandshakeError`` and, as Starlette's, a ``WebSocketDisconnect``: its ``code`` is 1006,
    since no close code comes over the wire before a connection is accepted.

    Attributes:
        status: the response's status, also as ``status_code``.
        headers: pairs, names in lower case; :meth:`header` finds one.
        body: the bytes, also as ``content``, ``text`` and :meth:`json`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        by_proxy: bool = False,
    ) -> None:
        super().__init__(status, message, headers, body, by_proxy)
        self.code = 1006
        self.reason = ""

    def __reduce__(self) -> Any:
        return HandshakeRefused.__reduce__(self)

    @property
    def status_code(self) -> int:
        return self.status

    @property
    def content(self) -> bytes:
        return self.body

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body, read as JSON."""
        return orjson.loads(self.body)
