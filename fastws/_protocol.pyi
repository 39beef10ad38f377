"""The rules of a WebSocket connection after its opening handshake (RFC 6455 sections 5 to 7)."""

from typing_extensions import Buffer, disjoint_base

from fastws.codes import Violation, WebSocketState
from fastws.deflate import Deflater, Inflater
from fastws.events import Event
from fastws.handshake import Upgrade
from fastws.limits import Limits
from fastws.protocol import Accepted, Refused

__all__ = ["Protocol", "Session"]

@disjoint_base
class Session:
    """What every connection has in common; Cython code builds on it, see ``_protocol.pxd``."""

    @property
    def close_code(self) -> int | None:
        """How the connection ended (section 7.1.5): the code of the peer's CLOSE, 1005 if it had
        none; the code this end failed the connection with; 1006 if TCP ended without a CLOSE.
        ``None`` as long as messages may come."""

    @property
    def close_reason(self) -> str | None:
        """The reason that goes with :attr:`close_code`, ``""`` if there was none."""

    @property
    def sent_reason(self) -> str | None:
        """The reason in the CLOSE that this end sent; ``None`` before it is sent."""

    @property
    def messages_received(self) -> int:
        """Messages that the peer sent and that were handed on, whole."""

    @property
    def bytes_received(self) -> int:
        """Bytes of their payloads, inflated."""

    @property
    def messages_sent(self) -> int:
        """Messages sent, or queued to be."""

    @property
    def bytes_sent(self) -> int:
        """Bytes of their payloads, before they are compressed."""

@disjoint_base
class Protocol(Session):
    """One end of a connection: bytes in, events out; messages in, bytes out.

    It starts CONNECTED, for callers that did the opening handshake themselves;
    :class:`fastws.protocol.ServerProtocol` and :class:`fastws.protocol.ClientProtocol` do it.

    PING and CLOSE are answered, rules that the peer breaks end the connection, and messages after
    a CLOSE of our own are dropped (section 1.4). Not for more than one thread at a time.

    Parameters:
        client: whether this end is the client, which masks its frames with a fresh key each.
        limits: ``max_size`` and ``max_fragments`` are used.
        inflater: made by :func:`fastws.deflate.inflater_for` if permessage-deflate was negotiated.
        deflater: made by :func:`fastws.deflate.deflater_for`, likewise.
        threshold: messages of fewer bytes are sent uncompressed.
        connecting: for subclasses that do the opening handshake: start CONNECTING.
    """

    def __init__(
        self,
        *,
        client: bool = False,
        limits: Limits = ...,
        inflater: Inflater | None = None,
        deflater: Deflater | None = None,
        threshold: int = 0,
        connecting: bool = False,
    ) -> None: ...
    @property
    def state(self) -> WebSocketState:
        """CONNECTED until our CLOSE is sent, CLOSING until our side of TCP ends, DISCONNECTED
        after that."""

    @property
    def error(self) -> Violation | None:
        """The rule of the framing that the peer broke; it is answered without the caller's doing.
        A failed opening handshake is ``handshake_error`` of the subclasses."""

    @property
    def close_expected(self) -> bool:
        """Whether only the end of TCP is left to wait for. If the peer does not end it within
        ``close_timeout`` seconds, the caller should."""

    def receive_data(self, data: Buffer) -> None:
        """Take bytes from the peer; then ask for :meth:`events_received`.

        Bad input raises nothing.

        Parameters:
            data: ``bytes``; another buffer is copied first.

        Raises:
            RuntimeError: :meth:`receive_eof` was called before.
            TypeError: ``data`` is no buffer.
            MemoryError: there is none for a message: end TCP.
        """

    def receive_eof(self) -> None:
        """Take the end of the peer's side of TCP, orderly or not; then ask for
        :meth:`events_received`, which may have been waiting, and :meth:`data_to_send`.

        Without a CLOSE before it, :attr:`close_code` is 1006.
        """

    def events_received(self) -> list[Event | Accepted | Refused | Upgrade]:
        """What has come in since the last call, in wire order.

        Text is a ``str``, binary ``bytes``; :class:`~fastws.events.Ping` (its PONG is sent
        already), :class:`~fastws.events.Pong`, :class:`~fastws.events.Close`. What the opening
        handshake brings stands in :mod:`fastws.protocol`. A violation is no event: see
        :attr:`error`.
        """

    def data_to_send(self) -> list[bytes]:
        """What to write since the last call, in order; call it after whatever else was called.

        An empty piece, always the last, means: end our side of TCP (``shutdown(SHUT_WR)``), and go
        on reading until the peer has ended its own. Closing at once, with bytes unread, would
        destroy what is on its way (section 7.1.1).

        The CLOSE that answers the peer's, or its violation, goes out once :meth:`events_received`
        has nothing left: so the answers to the messages before it go out in front of it.
        """

    def send_text(self, data: str | Buffer, *, fin: bool = True) -> None:
        """Send a text message, or the first fragment of one.

        Parameters:
            data: ``str``, or UTF-8 in a buffer, which is checked.
            fin: ``False`` begins a fragmented message (section 5.4), never compressed: finish it
                with :meth:`send_continuation`. A fragment may end inside a code point.

        Raises:
            RuntimeError: the state is not CONNECTED, or a fragmented message is open.
            ValueError: ``data`` is not valid UTF-8, or not encodable.
            TypeError: ``data`` is neither ``str`` nor a buffer.
        """

    def send_bytes(self, data: Buffer, *, fin: bool = True) -> None:
        """Send a binary message, or the first fragment of one.

        Parameters:
            data: the message; it is copied.
            fin: as in :meth:`send_text`.

        Raises:
            RuntimeError: the state is not CONNECTED, or a fragmented message is open.
            TypeError: ``data`` is no buffer.
        """

    def send_continuation(self, data: str | Buffer, *, fin: bool) -> None:
        """Send the next fragment of the message that is open.

        Parameters:
            data: as the method that began the message takes it.
            fin: whether this fragment is the last.

        Raises:
            RuntimeError: the state is not CONNECTED, or no fragmented message is open.
            ValueError: the text is not valid UTF-8, or ends inside a code point.
            TypeError: ``data`` is not of the kind that the message is.
        """

    def send_ping(self, data: Buffer = b"") -> None:
        """Send a PING (section 5.5.2), also between fragments.

        Parameters:
            data: at most 125 bytes, which the PONG repeats.

        Raises:
            RuntimeError: the state is not CONNECTED.
            ValueError: ``data`` is too long.
            TypeError: ``data`` is no buffer.
        """

    def send_pong(self, data: Buffer = b"") -> None:
        """Send a PONG that nobody asked for (section 5.5.3); PINGs are answered without it.

        Parameters and exceptions are those of :meth:`send_ping`.
        """

    def close(self, code: int | None = 1000, reason: str | None = "") -> None:
        """Begin the closing handshake, or go on with the peer's (section 7.1.2).

        Messages that still come are dropped. Does nothing where a CLOSE was sent before. The
        caller gives the peer ``close_timeout`` seconds.

        Parameters:
            code: 1000-1003, 1007-1014 or 3000-4999; ``None`` for a CLOSE without a code. The
                peer's own code is echoed if its CLOSE came first (section 5.5.1).
            reason: at most 123 bytes of UTF-8.

        Raises:
            ValueError: the code or the reason must not be sent. Nothing was sent.
            RuntimeError: the opening handshake is not done.
        """

    def fail(self, code: int, reason: str = "") -> None:
        """End the connection for a fault (section 7.1.7): send CLOSE if none was sent, end our
        side of TCP, and read nothing more. Before the opening handshake is done: end TCP.

        Parameters:
            code: as in :meth:`close`; 1011 for a fault of our own.
            reason: at most 123 bytes of UTF-8.

        Raises:
            ValueError: the code or the reason must not be sent. Nothing was done.
        """

    # For subclasses that do the opening handshake.

    def _receive_handshake(self, data: bytes) -> None:
        """Overridden: called with what arrives while CONNECTING, and with ``b""`` at the end of
        TCP."""

    def _report(self, event: Accepted | Refused | Upgrade) -> None:
        """Add an event to what :meth:`events_received` returns."""

    def _queue(self, data: bytes) -> None:
        """Add bytes to what :meth:`data_to_send` returns."""

    def _connect(
        self,
        inflater: Inflater | None = None,
        deflater: Deflater | None = None,
        threshold: int = 0,
    ) -> None:
        """The opening handshake is done: the state is CONNECTED, and what follows are frames."""

    def _give_up(self) -> None:
        """The opening handshake failed: our side of TCP ends, the state is DISCONNECTED."""
