"""One WebSocket on an asyncio or uvloop transport.

What an application calls is :class:`fastws._channel.Channel`, through
:class:`fastws.websocket.WebSocket`; this is the side of it that a server or a client makes. What
it is made of has a room for each: see ``_connection.pxd``.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from typing_extensions import final

from fastws._closing import Closing
from fastws._timers import TimerWheel
from fastws.deflate import Deflater, Inflater
from fastws.handshake import Upgrade
from fastws.http_fields import HeaderPairs
from fastws.limits import DeflateOptions, Limits

def running_connection() -> Connection | None:
    """The connection whose handler, or a task that this has started, is running; for logs."""

@final
class Connection(Closing):
    """One WebSocket on a transport, to the end of TCP.

    A server makes it when the request's head is known to be in order. It answers nothing by
    itself: :meth:`start` makes it the transport's protocol and runs the handler, which accepts or
    refuses. A client makes it, without an ``upgrade``, when the server's 101 response is known to
    be in order, and calls :meth:`start_client`. From then on it belongs to the loop's thread and
    keeps itself alive until TCP is lost.

    Parameters:
        transport: the transport, whose bytes up to the end of the head have been read.
        upgrade: what :func:`fastws.handshake.check_upgrade` made of the request; ``None`` at the
            client's end.
        head: the request, or at the client's end the response, up to and with its empty line.
        timers: the loop's wheel, for this connection's deadlines.
        limits: sizes in bytes and times in seconds; see :class:`fastws.limits.Limits`.
        deflate: what to agree to of permessage-deflate (RFC 7692); ``None`` declines every offer.
        client: the peer's host and port; ``None`` if it is who the transport says, during and
            after the connection.
        server: this end's.
        secure: whether this is TLS.
        root_path: for the ASGI scope.
        lifespan_state: what the lifespan left, for ``ws.state``; it is not changed.
        extra_headers: headers that every response to the opening handshake carries, from
            :func:`~fastws.http_fields.normalize_headers`; none that belongs to the handshake.
        strict_send: whether every send to a peer that is gone raises; see :attr:`dropped`. At the
            client's end every one does.
        on_answered: called once with the connection and the status that answers its opening
            handshake: 101, or that of a refusal. Not if the peer leaves before.
        on_lost: called once with the connection when TCP is lost; the handler may still run.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        upgrade: Upgrade | None,
        head: bytes,
        *,
        timers: TimerWheel,
        limits: Limits,
        deflate: DeflateOptions | None = None,
        client: tuple[str, int] | None = None,
        server: tuple[str, int] | None = None,
        secure: bool = False,
        root_path: str = "",
        lifespan_state: Mapping[str, Any] | None = None,
        extra_headers: Sequence[tuple[bytes, bytes]] = (),
        strict_send: bool = False,
        on_answered: Callable[[Connection, int], object] | None = None,
        on_lost: Callable[[Connection], object] | None = None,
    ) -> None: ...

    # Given once

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
    def subprotocols(self) -> tuple[str, ...]:
        """What the peer offers, in its order of preference (RFC 6455 section 4.2.1)."""

    # How it stands

    @property
    def subprotocol(self) -> str | None:
        """What the application chose of them, ``None`` before it did or without one."""

    # For the server

    def start(
        self,
        ws: object,
        coroutine: Coroutine[Any, Any, Any],
        early: bytes = b"",
        *,
        cancel_on_disconnect: bool = False,
        name: str | None = None,
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
            name: the task's; ``None`` for one that asyncio makes up.
        """

    def __call__(self, task: asyncio.Task[Any]) -> None:
        """For the handler's task, which calls this when it is done."""

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

    # For the client

    def start_client(
        self,
        early: bytes = b"",
        *,
        subprotocol: str | None = None,
        inflater: Inflater | None = None,
        deflater: Deflater | None = None,
        threshold: int = 0,
    ) -> None:
        """Take the transport over as the client's end: the opening handshake is done.

        There is no task of a handler: the verbs of :class:`fastws._channel.Channel` are the whole
        of it, but for those of the opening handshake, which raise ``RuntimeError``. Frames are
        masked with keys that nobody can predict (RFC 6455 section 5.3); frames that the server
        masks end the connection with 1002 (section 5.1). ``close()`` ends once the server has
        closed TCP, as section 7.1.1 wants it, and at the latest ``close_timeout`` seconds after
        the closing handshake.

        Limits, flow control, keepalive and the timeouts are those of a server's connection.

        Parameters:
            early: bytes that came behind the response's head: frames.
            subprotocol: what the server chose.
            inflater: made by :func:`fastws.deflate.inflater_for` with ``client=True`` if
                permessage-deflate was negotiated.
            deflater: made by :func:`fastws.deflate.deflater_for`, likewise.
            threshold: messages of fewer bytes are sent uncompressed.

        Raises:
            RuntimeError: the connection was made with an upgrade request, or has been started.
        """

    # Called by the transport: asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Bytes have come.

        Reading stops, by ``pause_reading()``, once ``max_queue`` messages or ``max_queue_bytes``
        wait to be received, and goes on when they are down to a quarter.
        """

    def buffer_for_reading(self, size_hint: int) -> memoryview | bytearray:
        """For :class:`~fastws.intake.Intake`: where the next bytes of a long payload go."""

    def buffer_read(self, size: int) -> None:
        """For :class:`~fastws.intake.Intake`: so many bytes have been put there."""

    def eof_received(self) -> bool | None:
        """The peer's side of TCP has ended. True keeps the transport for what is still to be
        sent: the messages that came before are delivered, and may be answered."""

    def pause_writing(self) -> None:
        """The write buffer is above ``write_limit``: sends that are awaited wait."""

    def resume_writing(self) -> None:
        """The write buffer is down to a quarter of it."""

    def connection_lost(self, exc: Exception | None) -> None:
        """TCP is gone; ``exc`` says why if it was not closed in order."""

    # Called by the timer wheel

    def on_timer(self) -> None:
        """The deadline of the present state has passed: of the application's accept, the
        keepalive, the closing handshake, or the handler's answer to the last messages."""
