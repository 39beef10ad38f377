"""A WebSocket of the synchronous face, in the words of Starlette's."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from fastws.testing.client import Connecting
from fastws.testing.websocket import TestWebSocket
from fastws.testing.wire import Frame

if TYPE_CHECKING:
    from fastws.testing.sync import TestClient

__all__ = ["WebSocketTestSession"]

__tracebackhide__ = True
"""pytest shows the line of the test, none below it."""

T = TypeVar("T")

_OF_HANDSHAKE = {
    *("connection", "content-length", "date", "sec-websocket-accept", "sec-websocket-extensions"),
    *("sec-websocket-protocol", "server", "upgrade"),
}


class WebSocketTestSession:
    """A WebSocket of the synchronous face: the methods of Starlette's class of this name, and those
    of :class:`TestWebSocket`.

    Attributes:
        accepted_subprotocol: what the application chose of the subprotocols.
        extra_headers: the headers that the application added to its 101 response, as pairs.
    """

    accepted_subprotocol: str | None
    extra_headers: list[tuple[bytes, bytes]]

    def __init__(self, client: TestClient, connecting: Connecting) -> None:
        self._client = client
        self._connecting = connecting
        self._opened: TestWebSocket | None = None

    def __enter__(self) -> WebSocketTestSession:
        client = self._client
        client._enter(lifespan=False)
        try:
            self._opened = client._run(client._client._connect(*self._connecting._arguments))
        except BaseException:
            client._leave()
            raise
        self.accepted_subprotocol = self._opened.subprotocol
        self.extra_headers = [
            (name, value)
            for name, value in self._opened.response_headers.raw
            if name.decode("latin-1").lower() not in _OF_HANDSHAKE
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._client._run(self.ws._leave(error))
        finally:
            self._client._leave(error)

    @property
    def ws(self) -> TestWebSocket:
        """The asynchronous one that does the work."""
        if self._opened is None:
            raise RuntimeError("the session is not open: `with client.websocket_connect(…) as …`")
        return self._opened

    # Sending

    def send(self, message: Mapping[str, Any]) -> None:
        """Send what an ASGI event says: ``websocket.receive`` with ``text`` or ``bytes``, or
        ``websocket.disconnect`` with a ``code``.

        Raises:
            ValueError: it is of another type.
        """
        kind = message["type"]
        if kind == "websocket.disconnect":
            self.close(message.get("code", 1000), message.get("reason"))
        elif kind != "websocket.receive":
            raise ValueError(
                f"the event is {kind!r}: expected 'websocket.receive' or 'websocket.disconnect'"
            )
        elif message.get("text") is not None:
            self.send_text(message["text"])
        else:
            self.send_bytes(message["bytes"])

    def send_text(self, data: str) -> None:
        """Send a text message."""
        self._client._run(_awaited(self.ws.send_text, data))

    def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""
        self._client._run(_awaited(self.ws.send_bytes, data))

    def send_json(self, data: Any, mode: Literal["text", "binary"] = "text") -> None:
        """Send an object as JSON."""
        self._client._run(_awaited(self.ws.send_json, data, mode))

    def ping(self, data: bytes = b"") -> float:
        """Send a PING and wait for its PONG."""
        return self._client._run(self.ws.ping(data))

    def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close the connection, and wait until the server has closed TCP."""
        self._client._run(self.ws.close(code, reason))

    # Receiving

    def receive(self, timeout: float | None = None) -> dict[str, Any]:
        """What the application sends next, as an ASGI event: ``websocket.send`` with ``text`` or
        ``bytes``, or once ``websocket.close`` with ``code`` and ``reason``.

        Parameters and errors are those of :meth:`TestWebSocket.receive_text`, here and below.
        """
        event = self._client._run(self.ws.receive(timeout))
        if event["type"] == "websocket.receive":
            return {**event, "type": "websocket.send"}
        return {**event, "type": "websocket.close"}

    def receive_text(self, timeout: float | None = None) -> str:
        """The next message, which must be text."""
        return self._client._run(self.ws.receive_text(timeout))

    def receive_bytes(self, timeout: float | None = None) -> bytes:
        """The next message, which must be binary."""
        return self._client._run(self.ws.receive_bytes(timeout))

    def receive_json(
        self, mode: Literal["text", "binary"] = "text", timeout: float | None = None
    ) -> Any:
        """The next message, read as JSON."""
        return self._client._run(self.ws.receive_json(mode, timeout))

    # How it stands

    @property
    def frames(self) -> list[Frame]:
        """Every frame from the server, received or not."""
        return self.ws.frames

    @property
    def raw_received(self) -> bytes:
        """Every byte from the server, from the response's first on."""
        return self.ws.raw_received

    @property
    def close_code(self) -> int | None:
        """The code that the connection ended with, ``None`` while it lasts."""
        return self.ws.close_code

    @property
    def close_reason(self) -> str | None:
        """The reason that came with the code."""
        return self.ws.close_reason

    # Faults

    def drop(self) -> None:
        """TCP is gone without a word: see :meth:`TestWebSocket.drop`."""
        self._client._run(_done(self.ws.drop))

    def reset(self) -> None:
        """TCP ends with a RST."""
        self._client._run(_done(self.ws.reset))

    def stall_reads(self) -> None:
        """Read nothing any more."""
        self._client._run(_done(self.ws.stall_reads))

    def resume_reads(self) -> None:
        """Go on reading."""
        self._client._run(_done(self.ws.resume_reads))

    def send_raw(self, data: bytes) -> None:
        """Put any bytes on the wire."""
        self._client._run(self.ws.send_raw(data))

    def send_eof(self) -> None:
        """End this side of TCP without a CLOSE."""
        self._client._run(self.ws.send_eof())


async def _awaited(call: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    """A call that has to be made within the loop."""
    return await call(*args)


async def _done(call: Callable[[], None]) -> None:
    call()
