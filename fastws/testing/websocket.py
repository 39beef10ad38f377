"""The client's end of a WebSocket in a test: receives that end in time, and faults."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from fastws._channel import Channel
from fastws._connection import Connection
from fastws.datastructures import URL, Headers
from fastws.exceptions import WebSocketDisconnect, WebSocketTypeError
from fastws.http_head import parse_response
from fastws.iterating import Iterating
from fastws.messages import decoder_of
from fastws.testing.errors import NotInTime
from fastws.testing.site import Visit
from fastws.testing.transports import MemoryTransport
from fastws.testing.wire import Frame, message_count, read_frames, shown_frames, status_line

if TYPE_CHECKING:
    from fastws.testing.client import AsyncTestClient

__all__ = ["TestWebSocket"]

__tracebackhide__ = True
"""pytest shows the line of the test, none below it."""

T = TypeVar("T")


class TestWebSocket(Channel, Iterating):
    """The client's end of a WebSocket in a test.

    It sends, pings and closes as the application's own :class:`~fastws.websocket.WebSocket` does.
    Every receive has a time limit, and says what arrived instead. Where the connection has ended
    because the handler failed, the handler's exception is raised.
    """

    __test__ = False
    __slots__ = ("__dict__", "__weakref__")

    _decoder_of = staticmethod(decoder_of)

    _link: Connection
    _visit: Visit
    _transport: MemoryTransport

    def __init__(
        self, connection: Connection, client: AsyncTestClient, url: str, patience: float
    ) -> None:
        super().__init__(connection)
        self._client = client
        self._url = url
        self._patience = patience
        self._taken = 0

    @property
    def url(self) -> URL:
        """Where the connection leads."""
        return URL(self._url)

    @property
    def response_headers(self) -> Headers:
        """The headers of the application's 101 response; names in any case."""
        return Headers(raw=parse_response(self._link.head).headers)

    @property
    def handler(self) -> asyncio.Task[Any] | None:
        """The task that runs the handler, also when it has ended."""
        return self._visit.task

    @property
    def raw_received(self) -> bytes:
        """Every byte from the server, from the response's first on."""
        return bytes(self._transport.received)

    @property
    def frames(self) -> list[Frame]:
        """Every frame from the server, received or not."""
        return read_frames(self._transport.received)[0]

    # Receiving

    async def receive_text(self, timeout: float | None = None) -> str:
        """The next message, which must be text.

        Parameters:
            timeout: seconds of real time, however the clock is moved; ``None`` is the
                connection's limit, ``math.inf`` is none.

        Raises:
            NotInTime: there is none; the message tells what there is, and what the handler does.
            WebSocketTypeError: it is binary.
            WebSocketDisconnect: the connection is over.
            Exception: what the handler raised, if it failed.
        """
        seconds = self._seconds(timeout)
        return await self._take(super().receive_text(seconds), "text message", timeout)

    async def receive_bytes(self, timeout: float | None = None) -> bytes:
        """The next message, which must be binary; else as :meth:`receive_text`."""
        seconds = self._seconds(timeout)
        return await self._take(super().receive_bytes(seconds), "binary message", timeout)

    async def receive_json(
        self, mode: str = "text", timeout: float | None = None, *, type: Any = None
    ) -> Any:
        """The next message, read as JSON; else as :meth:`receive_text`.

        Parameters:
            mode: ``"text"`` or ``"binary"``, the kind that the message must have.
            timeout: as there.
            type: what the message must be, and becomes.
        """
        waiting: Coroutine[Any, Any, Any] = super().receive_json(
            mode, self._seconds(timeout), type=type
        )
        return await self._take(waiting, "message", timeout)

    async def receive(self, timeout: float | None = None) -> dict[str, Any]:
        """The next message of either kind, or the end of the connection, as an ASGI event; else as
        :meth:`receive_text`."""
        event = await self._take(super().receive(self._seconds(timeout)), "message", timeout)
        if event["type"] == "websocket.disconnect":
            self._taken -= 1
            self._raise_failure()
        return event

    async def __anext__(self) -> str | bytes:
        try:
            event = await self.receive()
        except WebSocketDisconnect:
            raise StopAsyncIteration from None
        if event["type"] == "websocket.disconnect":
            raise StopAsyncIteration
        message: str | bytes = event["text"] if "text" in event else event["bytes"]
        return message

    def _seconds(self, timeout: float | None) -> float | None:
        seconds = self._patience if timeout is None else timeout
        return None if seconds == math.inf else seconds

    async def _take(self, waiting: Coroutine[Any, Any, T], what: str, timeout: float | None) -> T:
        try:
            message = await waiting
        except TimeoutError:
            self._raise_failure()
            seconds = self._seconds(timeout) or 0.0
            raise NotInTime(self._report(f"no {what} arrived within {seconds:g} s")) from None
        except WebSocketTypeError as error:
            self._taken += 1
            raise WebSocketTypeError(f"{error}; it is {error.data!r}", error.data) from None
        except WebSocketDisconnect:
            self._raise_failure()
            raise
        self._taken += 1
        return message

    async def ping(self, data: Any = b"") -> float:
        """Send a PING and wait for its PONG: its value is the round trip in seconds.

        Raises:
            NotInTime: there is no PONG in time.
            WebSocketDisconnect: the connection is over.
        """
        try:
            return await self._client.clock.within(self._patience, super().ping(data))
        except TimeoutError:
            raise NotInTime(self._report(f"no PONG arrived within {self._patience:g} s")) from None

    def _report(self, sentence: str) -> str:
        """A sentence, and how things stand."""
        received = self._transport.received
        frames, rest = read_frames(received)
        count = message_count(frames)
        code = self.close_code
        state = "is open" if code is None else f"is over: {code} {self.close_reason or ''}".strip()
        if self._transport._stalled:
            state += ", but this end does not read: resume_reads() goes on"
        return (
            f"{sentence}.\n"
            f"Arrived: {status_line(received)}; then {shown_frames(frames, rest)}.\n"
            f"Messages: {count}, of which the test has received {self._taken}.\n"
            f"The connection {state}.\n"
            f"{self._visit.handler_state}"
        )

    def _raise_failure(self) -> None:
        if self._client._settings.raise_server_exceptions:
            self._visit.raise_failure()

    # The end

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close the connection, and wait until the server has closed TCP.

        Raises:
            NotInTime: it has not, in time; TCP is cut.
            ValueError: the code or the reason must not be sent.
        """
        try:
            await self._client.clock.within(self._patience, super().close(code, reason))
        except TimeoutError:
            report = self._report(f"close() was not answered within {self._patience:g} s")
            self._link.abort()
            raise NotInTime(report) from None

    async def _leave(self, error: BaseException | None) -> None:
        """The end of the block, or of the client."""
        client, site = self._client, self._client._open_site
        if self in client._websockets:
            client._websockets.remove(self)
        transport = self._transport
        if transport.is_silent:
            transport.peer.give_up()
        else:
            transport.unstall()
            try:
                await site.clock.within(client._settings.timeout, super().close())
            except TimeoutError:
                # A handler that still has messages to answer, or that has sent EOF.
                self._link.abort()
        await site.finish(self._visit)
        if error is None or isinstance(error, (WebSocketDisconnect, NotInTime)):
            self._raise_failure()
        elif self._visit.failures and hasattr(error, "add_note"):
            error.add_note(f"The handler failed as well: {self._visit.failures[0]!r}")

    # Faults

    def drop(self) -> None:
        """TCP is gone without a word, as when a cable is cut.

        The server is told nothing: what it sends goes nowhere, and it finds out by its keepalive,
        see :meth:`AsyncTestClient.advance`. At the end of the block its TCP gives up.
        """
        self._transport.vanish()

    def reset(self) -> None:
        """TCP ends with a RST, as when the client's process is killed with bytes unread: the
        server's transport sees ``ConnectionResetError``."""
        self._transport.reset()

    def stall_reads(self) -> None:
        """Read nothing any more, with the receive window full: all that the server sends stays in
        its write buffer."""
        self._transport.stall()

    def resume_reads(self) -> None:
        """Go on reading."""
        self._transport.unstall()

    async def send_raw(self, data: bytes) -> None:
        """Put any bytes on the wire, behind all that was sent before."""
        await asyncio.sleep(0)  # The frames of one step are written together at its end.
        self._transport.write(data)

    async def send_eof(self) -> None:
        """End this side of TCP without a CLOSE (half-close): the server may still send."""
        await asyncio.sleep(0)
        self._transport.write_eof()

    def __repr__(self) -> str:
        return f"<TestWebSocket {self._url} {self.client_state.name}>"
