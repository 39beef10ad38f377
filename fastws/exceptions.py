"""What fastws raises.

::

    Exception
    ├── ConnectionError (OSError)
    │   └── WebSocketDisconnect            the connection is over; .code and .reason say how
    │       └── WebSocketClosed            … because this application closed it (RuntimeError too)
    ├── TypeError
    │   └── WebSocketTypeError             a message of the other kind arrived; .data keeps it
    ├── WebSocketException                 raised by the application: close with .code, .reason
    ├── HTTPException                      raised by the application: refuse with .status_code
    └── HandshakeError                     the opening handshake broke a rule; .status answers it

Mistakes in calling the API raise the built-in ``ValueError``, ``TypeError`` or ``RuntimeError``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from fastws.codes import fitting_reason

__all__ = [
    "Ending",
    "HTTPException",
    "HandshakeError",
    "WebSocketClosed",
    "WebSocketDisconnect",
    "WebSocketException",
    "WebSocketTypeError",
    "ending_of",
]


class WebSocketDisconnect(ConnectionError):
    """The connection is over.

    A ``ConnectionError``, hence an ``OSError`` as ASGI 2.4 wants it of a send after a disconnect.

    Parameters:
        code: the peer's close code; 1005 if its CLOSE had none, 1006 if TCP was lost without a
            CLOSE, 1001 or 1012 if this server goes away, or the code this endpoint failed the
            connection with (RFC 6455 section 7.1.5 and 7.1.7).
        reason: the close reason, ``""`` if there was none.
    """

    code: int
    reason: str

    def __init__(self, code: int = 1000, reason: str | None = None) -> None:
        # One string only: OSError takes two positional arguments for errno and strerror.
        super().__init__(f"{code} {reason}" if reason else f"{code}")
        self.code = code
        self.reason = reason or ""

    def __reduce__(self) -> tuple[type[WebSocketDisconnect], tuple[int, str]]:
        return type(self), (self.code, self.reason)


class WebSocketClosed(WebSocketDisconnect, RuntimeError):
    """This application closed the connection itself and then used it again."""


class WebSocketTypeError(TypeError):
    """The next message is of the other kind (text instead of binary, or the reverse).

    The message has been taken off the queue; it is in ``data``. Escaping a handler this closes the
    connection with 1003.

    Parameters:
        message: the sentence to show.
        data: the message that arrived.
    """

    data: str | bytes

    def __init__(self, message: str, data: str | bytes) -> None:
        super().__init__(message)
        self.data = data

    def __reduce__(self) -> tuple[type[WebSocketTypeError], tuple[str, str | bytes]]:
        return type(self), (str(self), self.data)


class WebSocketException(Exception):
    """Raised by an application to close the connection with ``code`` and ``reason``.

    Parameters:
        code: a close code that may be sent: 1000-1003, 1007-1014 or 3000-4999.
        reason: at most 123 bytes of UTF-8.
    """

    code: int
    reason: str

    def __init__(self, code: int, reason: str | None = None) -> None:
        super().__init__(f"{code} {reason}" if reason else f"{code}")
        self.code = code
        self.reason = reason or ""

    def __reduce__(self) -> tuple[type[WebSocketException], tuple[int, str]]:
        return type(self), (self.code, self.reason)


class HTTPException(Exception):
    """Raised by an application before ``accept()`` to refuse with an HTTP response.

    Parameters:
        status_code: the HTTP status, 400 to 599 as a rule.
        detail: JSON-able; becomes ``{"detail": …}``. The status phrase if left out.
        headers: additional response headers.
    """

    status_code: int
    detail: Any
    headers: Mapping[str, str] | None

    def __init__(
        self, status_code: int, detail: Any = None, headers: Mapping[str, str] | None = None
    ) -> None:
        if detail is None:
            detail = HTTPStatus(status_code).phrase
        super().__init__(f"{status_code}: {detail}")
        self.status_code = status_code
        self.detail = detail
        self.headers = headers

    def __reduce__(self) -> tuple[type[HTTPException], tuple[int, Any, Mapping[str, str] | None]]:
        return type(self), (self.status_code, self.detail, self.headers)


class HandshakeError(Exception):
    """An opening handshake broke a rule of RFC 6455 section 4 or RFC 9112.

    Parameters:
        status: the HTTP status that answers it.
        message: a sentence for the peer and the log.
        headers: additional response headers, such as ``Sec-WebSocket-Version``.
    """

    status: int
    message: str
    headers: Sequence[tuple[str, str]]

    def __init__(self, status: int, message: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message
        self.headers = headers

    def __reduce__(self) -> tuple[type[HandshakeError], tuple[int, str, Sequence[tuple[str, str]]]]:
        return type(self), (self.status, self.message, self.headers)


class Ending(NamedTuple):
    """What a finished handler means for its connection."""

    code: int
    """The close code to send if the connection is open."""
    reason: str
    """The close reason to send with it."""
    status: int
    """The HTTP status to refuse with if the handler never accepted."""
    is_error: bool
    """Whether the log gets the traceback: the handler failed, as opposed to ended."""


def ending_of(error: BaseException | None) -> Ending:
    """The one rule for how a handler's outcome ends its connection.

    Parameters:
        error: what the handler raised, ``None`` if it returned.
    """
    match error:
        case None:
            return Ending(1000, "", 500, False)
        case WebSocketDisconnect():
            return Ending(1000, "", 403, False)
        case WebSocketException():
            return Ending(error.code, error.reason, 403, False)
        case HTTPException():
            # After accept() there is no HTTP response any more: a mistake worth a traceback.
            return Ending(1011, "", error.status_code, True)
        case WebSocketTypeError():
            return Ending(1003, fitting_reason(str(error)), 500, False)
        case _:
            return Ending(1011, "", 500, True)
