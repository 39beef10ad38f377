"""The framing of RFC 6455 for both roles, without sockets and without a clock.

Other Cython code reads ``_codec.pxd``: the same classes, without the list of events.
"""

from typing_extensions import Buffer, disjoint_base, final

from fastws.codes import Violation
from fastws.deflate import Deflater, Inflater
from fastws.events import Event
from fastws.limits import Limits

__all__ = ["FrameParser", "PreparedMessage", "build_frame"]

@final
class FrameParser:
    """Turns the bytes of one direction of a connection into events (RFC 6455 sections 5 and 8).

    Bytes may come cut anywhere. Bad input raises nothing: the parser stops, :attr:`error` says
    why, and everything after it is ignored. UTF-8 is checked as it arrives, also within a frame;
    limits are checked on a frame's header, before any memory is taken for it, and a message
    arriving in pieces takes at most twice what has arrived of it.

    Answering is the caller's: PONG for :class:`~fastws.events.Ping`, CLOSE for
    :class:`~fastws.events.Close` and for an error, a message after its own CLOSE is to be thrown
    away. :class:`fastws.protocol.Protocol` does all that.

    Parameters:
        client: whether this end is the client, which receives unmasked frames; a server receives
            masked ones (section 5.1).
        limits: ``max_size`` and ``max_fragments`` are used.
        inflater: made by :func:`fastws.deflate.inflater_for` if permessage-deflate was negotiated;
            without one a compressed message is a violation. It is this parser's alone.

    Raises:
        OverflowError: a limit is negative.
    """

    def __init__(
        self,
        *,
        client: bool = False,
        limits: Limits = ...,
        inflater: Inflater | None = None,
    ) -> None: ...
    def feed(self, data: Buffer) -> list[Event]:
        """Read the next bytes of the connection.

        Parameters:
            data: ``bytes``; another buffer is copied first.

        Returns:
            What is complete with them, in wire order: text as ``str``, binary as ``bytes``,
            :class:`~fastws.events.Ping`, :class:`~fastws.events.Pong`,
            :class:`~fastws.events.Close`. Messages in front of an error are among them, so look at
            :attr:`error` after having worked on them. Nothing follows a CLOSE or an error.

        Raises:
            TypeError: ``data`` is no buffer.
            MemoryError: there is none for a message. The parser is finished: end the connection.
        """

    @property
    def error(self) -> Violation | None:
        """What the peer did wrong: close with its ``code`` and ``reason`` (section 7.1.7)."""

    @property
    def is_finished(self) -> bool:
        """Whether CLOSE or an error was read, or :meth:`feed` raised: further input is ignored."""

def build_frame(
    opcode: int,
    data: str | Buffer = b"",
    *,
    fin: bool = True,
    rsv1: bool = False,
    mask: Buffer | None = None,
) -> bytes:
    """One frame (RFC 6455 section 5.2).

    The rules about the order of frames, and about what a CLOSE may say, are not checked here:
    :func:`fastws.codes.encode_close` makes a CLOSE's payload.

    Parameters:
        opcode: one of :class:`fastws.codes.Opcode`.
        data: the payload; a ``str`` goes out as UTF-8. At most 125 bytes for a control frame.
        fin: whether this is the last frame of its message.
        rsv1: whether this begins a message compressed with permessage-deflate (RFC 7692
            section 6).
        mask: for a client, four bytes that nobody can predict and that are new for each frame
            (section 5.3); ``None`` for a server.

    Raises:
        ValueError: the opcode is reserved, a control frame is too long or not final, the mask has
            not four bytes, or the ``str`` cannot be encoded (a lone surrogate).
        TypeError: ``data`` is neither ``str`` nor a buffer.
    """

@disjoint_base
class PreparedMessage:
    """A message that a server sends to many: framed once, and compressed once where that is
    possible.

    Parameters:
        data: text as ``str``, binary as a buffer, which is copied unless it is ``bytes``.

    Raises:
        ValueError: the ``str`` cannot be encoded (a lone surrogate).
        TypeError: ``data`` is neither ``str`` nor a buffer.
    """

    def __init__(self, data: str | Buffer) -> None: ...
    @property
    def data(self) -> str | bytes:
        """The message; a copy if it was given in another buffer than ``bytes``."""

    def frame(self, deflater: Deflater | None = None) -> bytes:
        """The frame for one receiver.

        Receivers whose compression takes no context over share a compressed frame, by the
        parameters they negotiated. Every other one gets the plain frame, which RFC 7692
        section 6 allows at any time: a compressed frame of its own would have to be made for each.

        Parameters:
            deflater: the receiver's; ``None`` if it negotiated no compression, or if the message
                is under the threshold for it.
        """
