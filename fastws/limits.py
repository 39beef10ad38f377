"""Every limit of a connection, once: its name, unit and default."""

from __future__ import annotations

from dataclasses import dataclass

from fastws.deflate_library import LIBRARIES, Library, zlib_module

__all__ = ["DEFAULT_LIMITS", "DeflateOptions", "Limits"]

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class DeflateOptions:
    """How to compress, and what to ask of the peer (permessage-deflate, RFC 7692).

    A value that is out of range raises ``ValueError``, and so does a library that is not installed.

    Parameters:
        mode: ``"dedicated"`` keeps a compression window for the connection (context takeover:
            smaller messages, more memory); ``"shared"`` starts every message afresh in both
            directions, so that no state is kept between messages.
        threshold: messages of fewer bytes are sent uncompressed.
        window_bits: base-2 logarithm of the largest window used for what is sent, 9 to 15.
        mem_level: zlib's memory level, 1 to 9.
        level: zlib's compression level, 1 to 9.
        library: what compresses and decompresses: ``"zlib"``, or ``"zlib-ng"``, which is faster and
            takes more memory, of the package of this name (``fastws[fast-deflate]``).
    """

    mode: str = "dedicated"
    threshold: int = KIB
    window_bits: int = 12
    mem_level: int = 5
    level: int = 1
    library: Library = "zlib"

    def __post_init__(self) -> None:
        if self.mode not in ("shared", "dedicated"):
            raise ValueError(f"compression mode is {self.mode!r}: expected 'shared' or 'dedicated'")
        # zlib cannot compress with a window of 2^8 bytes (it silently takes 2^9).
        for name, low, high in (("window_bits", 9, 15), ("mem_level", 1, 9), ("level", 1, 9)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"deflate {name} is {value}: expected {low} to {high}")
        if self.threshold < 0:
            raise ValueError(f"deflate threshold is {self.threshold}: expected 0 or more bytes")
        if self.library not in LIBRARIES:
            raise ValueError(f"deflate library is {self.library!r}: expected 'zlib' or 'zlib-ng'")
        # What is missing is told here, not at the first connection that compresses.
        zlib_module(self.library)


@dataclass(frozen=True)
class Limits:
    """What one connection may use. Sizes are bytes, times are seconds, ``None`` is no limit.

    Parameters:
        max_size: bytes of a message, inflated, over all its fragments; inclusive.
        max_fragments: frames of one message, empty ones counted; inclusive.
        max_queue: messages received that no receive call has taken yet; reading stops there.
        max_queue_bytes: bytes of such messages; reading stops at whichever comes first.
        write_limit: bytes in the write buffer above which ``await send_…()`` waits (it goes on
            once the buffer is down to a quarter).
        max_backpressure: bytes in the write buffer above which a send that does not wait ends the
            connection with 1013.
        write_timeout: seconds in which a peer that takes none of the bytes that wait for it is cut.
        ping_interval: seconds without inbound bytes after which a PING is sent.
        ping_timeout: seconds a peer has to show life after that PING.
        idle_timeout: seconds without a message, in either direction, after which the connection is
            closed; PING and PONG do not count.
        max_lifetime: seconds after accept() in which the connection is closed, whatever it does.
        message_rate: messages a second that the peer may send, a second's worth at once; above
            that the connection ends with 1008, before the message is made.
        open_timeout: seconds from the accepted TCP connection to a complete request.
        accept_timeout: seconds the application has to accept or refuse.
        close_timeout: seconds the peer has to answer a CLOSE and to close TCP.
        max_header_line: bytes of the request line, and of each header line.
        max_header_count: header lines of a request.
        max_header_size: bytes of a request's head, everything counted.
    """

    max_size: int | None = MIB
    max_fragments: int | None = 4096
    max_queue: int = 16
    max_queue_bytes: int = MIB
    write_limit: int = 64 * KIB
    max_backpressure: int = MIB
    write_timeout: float | None = 30.0
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0
    idle_timeout: float | None = None
    max_lifetime: float | None = None
    message_rate: int | None = None
    open_timeout: float | None = 10.0
    accept_timeout: float | None = 30.0
    close_timeout: float = 10.0
    max_header_line: int = 8 * KIB
    max_header_count: int = 128
    max_header_size: int = 32 * KIB


DEFAULT_LIMITS = Limits()
