"""One WebSocket on an asyncio or uvloop transport.

What an application calls is :class:`fastws._channel.Channel`, through
:class:`fastws.websocket.WebSocket`; this is the server's side of it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from typing_extensions import final

from fastws._awaitables import Awaitable
from fastws._protocol import Session
from fastws._timers import TimerWheel
from fastws.codes import WebSocketState
from fastws.handshake import Upgrade
from fastws.http_fields import HeaderPairs
from fastws.limits import DeflateOptions, Limits

@final
class Connection(Session):
    """One WebSocket, from its valid upgrade request to the end of TCP.

    It is made when the request's head is known to be in order, and answers nothing by itself:
    :meth:`start` makes it the transport's protocol and runs the handler, which accepts or refuses.
    From :meth:`start` on it belongs to the loop's thread and keeps itself alive until TCP is lost.

    Parameters:
        transport: the transport, whose bytes up to the end of the head have been read.
        upgrade: what :func:`fastws.handshake.check_upgrade` made of the request.
        head: the request up to and with its empty line.
        loop: the loop of the transport.
        timers: the loop's wheel, for this connection's deadlines.
        limits: sizes in bytes and times in seconds; see :class:`fastws.limits.Limits`.
        deflate: what to agree to of permessage-deflate (RFC 7692); ``None`` declines every offer.
        client: the peer's host and port, ``None`` on a Unix socket.
        server: this end's.
        secure: whether this is TLS.
        root_path: for the ASGI scope.
        lifespan_state: what the lifespan left, for ``ws.state``; it is not changed.
        extra_headers: headers that every response to the opening handshake carries.
        strict_send: whether every send to a peer that is gone raises; see :attr:`dropped`.
        on_lost: called once with the connection when TCP is lost; the handler may still run.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        upgrade: Upgrade,
        head: bytes,
        *,
        loop: asyncio.AbstractEventLoop,
        timers: TimerWheel,
        limits: Limits,
        deflate: DeflateOptions | None = None,
        client: tuple[str, int] | None = None,
        server: tuple[str, int] | None = None,
        secure: bool = False,
        root_path: str = "",
        lifespan_state: Mapping[str, Any] | None = None,
        extra_headers: Iterable[tuple[str, str]] = (),
        strict_send: bool = False,
        on_lost: Callable[[Connection], object] | None = None,
    ) -> None: ...

    # Given once

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def head(self) -> bytes:
        """The request's head as it was received."""

    @property
    def client(self) -> tuple[str, int] | None:
        """The peer's host and port, ``None`` on a Unix socket."""

    @property
    def server(self) -> tuple[str, int] | None:
        """This end's host and port, ``None`` on a Unix socket."""

    @property
    def secure(self) -> bool:
        """Whether this is TLS."""

    @property
    def root_path(self) -> str: ...
    @property
    def lifespan_state(self) -> Mapping[str, Any] | None: ...
    @property
    def id(self) -> str:
        """A name for logs: the process's, then the connection's within it."""

    @property
    def subprotocols(self) -> tuple[str, ...]:
        """What the peer offers, in its order of preference (RFC 6455 section 4.2.1)."""

    # How it stands

    @property
    def subprotocol(self) -> str | None:
        """What the application chose of them, ``None`` before it did or without one."""

    @property
    def client_state(self) -> WebSocketState:
        """What may still be received: see :attr:`fastws._channel.Channel.client_state`."""

    @property
    def application_state(self) -> WebSocketState:
        """What may still be sent: see :attr:`fastws._channel.Channel.application_state`."""

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """The handler's, from :meth:`start` until it is done."""

    @property
    def dropped(self) -> int:
        """Sends that came from outside the handler after the peer had gone and before the handler
        was told, at most 5 seconds long: they do nothing, for an exception would end whoever sent,
        such as the handler whose broadcast this is."""

    # For the server

    def start(
        self,
        ws: object,
        coroutine: Coroutine[Any, Any, Any],
        early: bytes = b"",
        *,
        cancel_on_disconnect: bool = False,
    ) -> None:
        """Take the transport over and run the handler as a task.

        The handler's outcome ends the connection: :func:`fastws.exceptions.ending_of` says how.

        Parameters:
            ws: what the handler was given.
            coroutine: the handler's call.
            early: bytes that came behind the head, from a peer that did not wait for the answer;
                they are read as frames once the application has accepted.
            cancel_on_disconnect: cancel the handler as soon as the peer is gone, unless it waits
                for a message and so is told.
        """

    def call_at_end(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once, when the handler or TCP has ended; at once if TCP has."""

    def refuse(
        self, status: int, headers: HeaderPairs | None = None, body: bytes | str = b""
    ) -> None:
        """Answer the opening handshake with an HTTP response, and close.

        Parameters:
            status: its status.
            headers: its headers beside those that every response carries.
            body: its body; ``str`` is encoded as UTF-8.

        Raises:
            ValueError: a header must not be sent. Nothing is sent.
            RuntimeError: the connection was accepted or refused before, or this is another
                thread than the loop's.
        """

    def shutdown(self, code: int, reason: str = "") -> None:
        """The server stops: close with ``code``, and let the handler see it as a disconnect.

        A connection that is not accepted yet is refused with 503. One that is over, or closing
        already, is left to it. The handler is not cancelled: give it its time, then
        :meth:`abort`.

        Parameters:
            code: the close code for the peer and the handler, 1012 or 1001.
            reason: at most 123 bytes of UTF-8.

        Raises:
            ValueError: the code or the reason must not be sent.
        """

    def abort(self) -> None:
        """Cut TCP, whatever is unsent, and cancel the handler."""

    # Called by the transport: asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Bytes have come.

        Reading stops, by ``pause_reading()``, once ``max_queue`` messages or ``max_queue_bytes``
        wait to be received, and goes on when they are down to a quarter.
        """

    def eof_received(self) -> bool | None:
        """The peer's side of TCP has ended. True keeps the transport for what is still to be
        sent: the messages that came before are delivered, and may be answered."""

    def pause_writing(self) -> None:
        """The write buffer is above ``write_limit``: sends that are awaited wait."""

    def resume_writing(self) -> None:
        """The write buffer is down to a quarter of it."""

    def connection_lost(self, exc: Exception | None) -> None:
        """TCP is gone; ``exc`` says why if it was not closed in order."""

    # Called by the timer wheel and at the end of a step of the loop

    def on_timer(self) -> None:
        """The deadline of the present state has passed: of the application's accept, the
        keepalive, the closing handshake, or the handler's answer to the last messages."""

    def on_step_end(self) -> None:
        """Write the frames that this step of the loop has gathered."""

@final
class Receive(Awaitable):
    """What a receive returns: the next message, for one task."""

@final
class Pause(Awaitable):
    """What a send returns while the write buffer is above its mark, and a close until the closing
    handshake is done."""
