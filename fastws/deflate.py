"""permessage-deflate (RFC 7692): what is agreed in the opening handshake, and (de)compression.

Sans-I/O: bytes in, bytes out. An endpoint holds one :class:`Inflater` and one :class:`Deflater` per
connection; neither makes zlib state before the first compressed message, and neither keeps any
between messages where no context is taken over (section 7.1.1).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import DEFLATED, Z_FULL_FLUSH, Z_SYNC_FLUSH

from fastws.deflate_library import Library, zlib_module
from fastws.exceptions import HandshakeError
from fastws.limits import DeflateOptions

if TYPE_CHECKING:
    # The types of every library's; mypy has no others.
    from zlib import _Compress, _Decompress

    from fastws.handshake import Extension

__all__ = [
    "Deflater",
    "DeflateParameters",
    "DeflateViolation",
    "InflateError",
    "InflateOverflow",
    "Inflater",
    "MAX_FINAL_BLOCKS",
    "TooManyFinalBlocks",
    "accept_offer",
    "deflater_for",
    "inflater_for",
    "negotiate",
    "offer",
]

EXTENSION = "permessage-deflate"

MAX_FINAL_BLOCKS = 1024
"""Final blocks (BFINAL=1) one message may hold: two bytes of it cost us a fresh zlib stream."""

SLICE = 8 * 1024
"""Bytes of input given to zlib at once: it copies what it leaves over, so that must be little."""

STEP = 32 * 1024
"""Bytes of output taken from zlib at once: the size of its first output block, which it returns
uncopied when it is full."""

TAIL = b"\x00\x00\xff\xff"
"""The end of an empty stored block, which the sender removes (section 7.2.1)."""

# A message ends in the middle of an empty stored block that TAIL completes. Empty stored blocks
# after it change nothing. But a stream that stopped anywhere else takes these bytes for symbols,
# data or code lengths, so it shows: by an error, by output, or by its end. The longest thing that
# could swallow them unseen is the header of a dynamic block, 286 bytes (RFC 1951 section 3.2.7).
END_OF_MESSAGE = TAIL + (b"\x00" + TAIL) * 80


class DeflateViolation(ValueError):
    """A compressed message that must end the connection.

    Attributes:
        violation: its name in :data:`fastws.codes.VIOLATIONS`.
    """

    violation: str


class InflateError(DeflateViolation):
    """The data is not what a DEFLATE compressor makes, or it stops half-way."""

    violation = "INVALID_DEFLATE"


class InflateOverflow(DeflateViolation):
    """The message is larger, inflated, than there is room for."""

    violation = "MESSAGE_TOO_BIG"


class TooManyFinalBlocks(DeflateViolation):
    """A message has more than :data:`MAX_FINAL_BLOCKS` final blocks."""

    violation = "TOO_MANY_FINAL_BLOCKS"


# ---------------------------------------------------------------------------- negotiation


@dataclass(frozen=True)
class DeflateParameters:
    """What both sides agreed on (RFC 7692 section 7.1), and what this side keeps to it with.

    Windows are given as base-2 logarithms of their bytes.

    Parameters:
        server_no_context_takeover: the server compresses each message afresh.
        client_no_context_takeover: the client compresses each message afresh.
        server_max_window_bits: the largest window of what the server sends.
        client_max_window_bits: the largest window of what the client sends.
        library: this endpoint's choice, see :class:`fastws.limits.DeflateOptions`; the peer does
            not learn of it.
    """

    server_no_context_takeover: bool
    client_no_context_takeover: bool
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15
    library: Library = "zlib"


_WINDOW_BITS = {str(bits): bits for bits in range(8, 16)}
# zlib cannot compress with a window of 2^8 bytes (it takes 2^9).
_LEAST_COMPRESSING_BITS = 9


def _parse_parameters(
    parameters: Sequence[tuple[str, str | None]],
) -> dict[str, int | None]:
    """The parameters of one offer or answer; ``None`` stands for a parameter without a value.

    Raises:
        ValueError: a parameter is unknown, comes twice, or has a value it must not have (RFC 7692
            section 7.1 lists exactly these faults).
    """
    parsed: dict[str, int | None] = {}
    for name, value in parameters:
        if name in parsed:
            raise ValueError(f"{EXTENSION} names {name} twice")
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if value is not None:
                raise ValueError(f"{EXTENSION} gives {name} a value: it takes none")
            parsed[name] = None
        elif name in ("server_max_window_bits", "client_max_window_bits"):
            if value is None:
                if name == "server_max_window_bits":
                    raise ValueError(f"{EXTENSION} gives {name} no value: expected 8 to 15")
                parsed[name] = None
            elif value in _WINDOW_BITS:
                parsed[name] = _WINDOW_BITS[value]
            else:
                raise ValueError(f"{EXTENSION} has {name}={value[:20]!r}: expected 8 to 15")
        else:
            raise ValueError(f"{EXTENSION} has the unknown parameter {name[:40]!r}")
    return parsed


def _element(parameters: DeflateParameters, *, server_bits: bool, client_bits: bool) -> str:
    """``parameters`` as an element of Sec-WebSocket-Extensions."""
    parts = [EXTENSION]
    if parameters.server_no_context_takeover:
        parts.append("server_no_context_takeover")
    if parameters.client_no_context_takeover:
        parts.append("client_no_context_takeover")
    if server_bits:
        parts.append(f"server_max_window_bits={parameters.server_max_window_bits}")
    if client_bits:
        parts.append(f"client_max_window_bits={parameters.client_max_window_bits}")
    return "; ".join(parts)


def negotiate(
    offers: Sequence[Extension], options: DeflateOptions
) -> tuple[str, DeflateParameters] | None:
    """The server's choice among a client's offers (RFC 7692 section 7.1).

    An offer with a fault is declined and the next one is looked at: nothing is raised.

    Parameters:
        offers: :attr:`fastws.handshake.Upgrade.extensions`, in the client's order of preference.
        options: this server's wishes; ``window_bits`` bounds both windows as far as the offer
            lets a server do so, mode ``"shared"`` asks for no context takeover both ways.

    Returns:
        The value of Sec-WebSocket-Extensions and what it means, or ``None`` to send no such header.
    """
    shared = options.mode == "shared"
    for name, offered in offers:
        if name != EXTENSION:
            continue
        try:
            wanted = _parse_parameters(offered)
        except ValueError:
            continue
        server_bits = min(wanted.get("server_max_window_bits") or 15, options.window_bits)
        if server_bits < _LEAST_COMPRESSING_BITS:
            continue
        # Only a client that names client_max_window_bits can be told to use a smaller window
        # (section 7.1.2.2); from any other 15 bits must be expected.
        bounds_client = "client_max_window_bits" in wanted
        client_bits = 15
        if bounds_client:
            client_bits = min(wanted["client_max_window_bits"] or 15, options.window_bits)
        parameters = DeflateParameters(
            server_no_context_takeover=shared or "server_no_context_takeover" in wanted,
            client_no_context_takeover=shared or "client_no_context_takeover" in wanted,
            server_max_window_bits=server_bits,
            client_max_window_bits=client_bits,
            library=options.library,
        )
        # A server may state its own window unasked (7.1.2.1): the client then needs less memory.
        states_server = server_bits < 15 or "server_max_window_bits" in wanted
        return (
            _element(parameters, server_bits=states_server, client_bits=bounds_client),
            parameters,
        )
    return None


def _offered(options: DeflateOptions) -> DeflateParameters:
    shared = options.mode == "shared"
    return DeflateParameters(shared, shared, options.window_bits, options.window_bits)


def offer(options: DeflateOptions) -> str:
    """The client's offer as the value of Sec-WebSocket-Extensions (RFC 7692 section 7.1).

    Parameters:
        options: ``window_bits`` is asked for both ways, mode ``"shared"`` asks for no context
            takeover both ways.
    """
    bounded = options.window_bits < 15
    element = _element(_offered(options), server_bits=bounded, client_bits=bounded)
    # Without a value the parameter still lets the server choose a smaller window (7.1.2.2).
    return element if bounded else f"{element}; client_max_window_bits"


def accept_offer(
    extensions: Sequence[Extension], options: DeflateOptions
) -> DeflateParameters | None:
    """What the server answered to :func:`offer`, as the client understands it.

    Parameters:
        extensions: the second value of :func:`fastws.client_handshake.check_response`.
        options: those the offer was made from.

    Returns:
        What was agreed, ``None`` if the server declined.

    Raises:
        HandshakeError: 502; the answer breaks RFC 7692 section 7.1, so the client must fail the
            connection. The message says how.
    """
    if not extensions:
        return None
    if len(extensions) > 1:
        raise HandshakeError(502, "the server accepted more than one extension: one was offered")
    name, answered = extensions[0]
    if name != EXTENSION:
        raise HandshakeError(502, f"the server accepted {name[:40]!r}, which was not offered")
    try:
        agreed = _parse_parameters(answered)
    except ValueError as error:
        raise HandshakeError(502, f"the server's answer for {error}") from None
    offered = _offered(options)
    if "client_max_window_bits" in agreed and agreed["client_max_window_bits"] is None:
        raise HandshakeError(502, "the server's client_max_window_bits has no value")
    server_bits = agreed.get("server_max_window_bits") or 15
    client_bits = agreed.get("client_max_window_bits") or offered.client_max_window_bits
    if offered.server_no_context_takeover and "server_no_context_takeover" not in agreed:
        raise HandshakeError(502, "the server left out server_no_context_takeover, asked of it")
    for bits, bound, parameter in (
        (server_bits, offered.server_max_window_bits, "server_max_window_bits"),
        (client_bits, offered.client_max_window_bits, "client_max_window_bits"),
    ):
        if bits > bound:
            raise HandshakeError(
                502, f"the server answered {parameter}={bits}, more than the {bound} offered"
            )
    if client_bits < _LEAST_COMPRESSING_BITS:
        raise HandshakeError(
            502, f"the server wants client_max_window_bits={client_bits}: zlib needs 9 or more"
        )
    return DeflateParameters(
        server_no_context_takeover="server_no_context_takeover" in agreed,
        # The client binds itself by its own offer, whatever the answer says (7.1.1.2).
        client_no_context_takeover=(
            offered.client_no_context_takeover or "client_no_context_takeover" in agreed
        ),
        server_max_window_bits=server_bits,
        client_max_window_bits=client_bits,
        library=options.library,
    )


def deflater_for(
    parameters: DeflateParameters, options: DeflateOptions, *, client: bool
) -> Deflater:
    """The compressor of this endpoint, the client if ``client``, else the server."""
    if client:
        bits = parameters.client_max_window_bits
        afresh = parameters.client_no_context_takeover
    else:
        bits = parameters.server_max_window_bits
        afresh = parameters.server_no_context_takeover
    return Deflater(
        min(bits, options.window_bits),
        not afresh,
        options.level,
        options.mem_level,
        parameters.library,
    )


def inflater_for(parameters: DeflateParameters, *, client: bool) -> Inflater:
    """The decompressor of this endpoint, the client if ``client``, else the server."""
    if client:
        bits = parameters.server_max_window_bits
        afresh = parameters.server_no_context_takeover
    else:
        bits = parameters.client_max_window_bits
        afresh = parameters.client_no_context_takeover
    return Inflater(bits, not afresh, parameters.library)


# -------------------------------------------------------------------------- decompression


class Inflater:
    """Decompresses the messages of one direction, piece by piece as they arrive.

    After an exception the direction is lost: fail the connection with ``error.violation``.

    Parameters:
        window_bits: base-2 logarithm of the window agreed on, 8 to 15.
        context_takeover: whether a message may refer to the ones before it.
        library: what decompresses.

    Raises:
        ValueError: ``window_bits`` is out of range, or the library cannot be imported.
    """

    __slots__ = (
        "_context_takeover",
        "_final_blocks",
        "_stream",
        "_unfinished",
        "_window_bits",
        "_zlib",
    )

    def __init__(self, window_bits: int, context_takeover: bool, library: Library = "zlib") -> None:
        if not 8 <= window_bits <= 15:
            raise ValueError(f"window_bits to inflate with is {window_bits}: expected 8 to 15")
        self._zlib = zlib_module(library)
        self._window_bits = window_bits
        self._context_takeover = context_takeover
        self._stream: _Decompress | None = None
        # Whether the stream holds bytes of this message, so that TAIL has something to complete.
        self._unfinished = False
        self._final_blocks = 0

    def inflate(self, chunk: bytes | bytearray | memoryview, room: int) -> bytes:
        """Decompress the next bytes of a message.

        Parameters:
            chunk: payload bytes, unmasked; cut anywhere. Read during the call only.
            room: bytes the message may still grow by; the caller takes what is returned off it.
                Negative for no limit.

        Returns:
            At most ``room`` bytes, which may be none. More than 32 KiB of them are joined from
            pieces, which takes their size in memory twice for a moment; :meth:`pieces` does not.

        Raises:
            InflateOverflow: the data goes on beyond ``room``; nothing beyond it was kept.
            InflateError: the data is corrupt.
            TooManyFinalBlocks: more than 1,024 in this message.
        """
        pieces = list(self.pieces(chunk, room))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def pieces(self, chunk: bytes | bytearray | memoryview, room: int) -> Iterable[bytes]:
        """Decompress as :meth:`inflate` does, in pieces of at most 32 KiB.

        Take all of them: what was not taken is missing from the message. A caller that puts each
        where it belongs before it takes the next needs the room for the message, 64 KiB, and the
        state of zlib.
        """
        limit = sys.maxsize - 1 if room < 0 else room
        if not 0 < len(chunk) <= SLICE:
            return self._pieces(chunk, limit, None, 0)
        # Most messages are short, and there is no more of them than the first piece. Python's zlib
        # takes memory for all that is wanted: few shrink to less than an eighth.
        wanted = min(STEP, limit + 1, 1024 + 8 * len(chunk))
        piece = self._step(chunk, wanted)
        stream = self._stream
        assert stream is not None
        if len(piece) < wanted and not stream.eof:
            return (piece,) if piece else ()
        return self._pieces(chunk, limit, piece, wanted)

    def _step(self, data: bytes | bytearray | memoryview, wanted: int) -> bytes:
        """At most ``wanted`` of what there is; ``data`` is what zlib has not been given yet."""
        stream = self._stream
        if stream is None:
            stream = self._stream = self._zlib.decompressobj(-self._window_bits)
        self._unfinished = True
        try:
            return stream.decompress(data, wanted)
        except self._zlib.error as error:
            self._drop()
            raise InflateError(f"the compressed message is corrupt: {error}") from None

    def _pieces(
        self, chunk: bytes | bytearray | memoryview, limit: int, piece: bytes | None, wanted: int
    ) -> Iterator[bytes]:
        """The pieces of ``chunk``, of which the first, of at most ``wanted``, may be made."""
        view = memoryview(chunk)
        have = 0
        for start in range(0, len(view), SLICE):
            data: bytes | memoryview = view[start : start + SLICE]
            while True:
                if self._stream is None and not data:
                    break
                if piece is None:
                    # One byte more than there is room for tells "too much" from "just enough".
                    wanted = min(STEP, limit - have + 1)
                    piece = self._step(data, wanted)
                stream = self._stream
                assert stream is not None
                size = len(piece)
                if size:
                    have += size
                    if have > limit:
                        self._drop()
                        raise InflateOverflow(f"the message inflates to more than {limit} bytes")
                    yield piece
                # Let go of before the next one is made.
                piece = None
                if stream.eof:
                    # A final block ends zlib's stream, but not the message (RFC 7692 section
                    # 7.2.3.4 has one in each): what is left begins another stream.
                    data = stream.unused_data
                    self._end_stream()
                elif size == wanted:
                    # There may be more, even without input left: zlib holds back what did not fit.
                    data = stream.unconsumed_tail
                else:
                    break

    def finish(self, room: int) -> bytes:
        """Complete the message (RFC 7692 section 7.2.2); the next ``inflate`` begins another.

        Parameters:
            room: as in :meth:`inflate`; all data is out before the end of a message, so nothing is
                taken of it.

        Returns:
            ``b""``: the shape of ``inflate``, for symmetry.

        Raises:
            InflateError: the compressed data stops half-way.
        """
        stream = self._stream
        self._final_blocks = 0
        # No bytes, or none after a final block: there is no block for TAIL to complete, and zlib
        # would take it for the beginning of one.
        if self._unfinished and stream is not None:
            self._unfinished = False
            try:
                sound = not stream.decompress(END_OF_MESSAGE, 1) and not stream.eof
            except self._zlib.error:
                sound = False
            if not sound:
                self._drop()
                raise InflateError("the compressed message stops half-way through a block")
        if not self._context_takeover:
            self._stream = None
        return b""

    def _end_stream(self) -> None:
        self._drop()
        self._final_blocks += 1
        if self._final_blocks > MAX_FINAL_BLOCKS:
            raise TooManyFinalBlocks(f"more than {MAX_FINAL_BLOCKS} final blocks in a message")

    def _drop(self) -> None:
        self._stream = None
        self._unfinished = False


# ---------------------------------------------------------------------------- compression


class _SharedCompressors(threading.local):
    """The compressors of a thread that no context is taken over with, by their settings."""

    def __init__(self) -> None:
        self.idle: dict[tuple[int, int, int, Library], _Compress] = {}


_shared_compressors = _SharedCompressors()


class Deflater:
    """Compresses the messages of one direction, each as a whole.

    Without context takeover all connections of a thread with the same settings use one compressor;
    with it, each has its own, made at the first message.

    Parameters:
        window_bits: base-2 logarithm of the window agreed on, 9 to 15 (zlib has no compressor for
            8).
        context_takeover: whether a message refers to the ones before it.
        level: zlib's compression level, 1 to 9.
        mem_level: zlib's memory level, 1 to 9.
        library: what compresses.

    Raises:
        ValueError: ``window_bits`` is out of range, or the library cannot be imported.
    """

    __slots__ = ("_context_takeover", "_settings", "_stream")

    def __init__(
        self,
        window_bits: int,
        context_takeover: bool,
        level: int,
        mem_level: int,
        library: Library = "zlib",
    ) -> None:
        if not _LEAST_COMPRESSING_BITS <= window_bits <= 15:
            raise ValueError(f"window_bits to deflate with is {window_bits}: expected 9 to 15")
        zlib_module(library)
        self._settings = (window_bits, level, mem_level, library)
        self._context_takeover = context_takeover
        self._stream: _Compress | None = None

    @property
    def key(self) -> tuple[int, int, int, Library]:
        """Deflaters without context takeover that have this in common make the same bytes."""
        return self._settings

    @property
    def context_takeover(self) -> bool:
        """Whether a message refers to the ones before it."""
        return self._context_takeover

    def compress(self, payload: bytes | bytearray | memoryview) -> bytes:
        """The payload of the one or more frames that carry ``payload`` (RFC 7692 section 7.2.1)."""
        if not payload:
            # An empty stored block less its TAIL (section 7.2.3.6); it leaves the window as it is,
            # so zlib need not know.
            return b"\x00"
        # A compressor is out of its place while at work: if anything interrupts it half-way (out
        # of memory, a signal), nobody finds it with the rest of this message still in it. The next
        # message then starts a stream of its own, which any peer can follow: it only refers less
        # far back.
        if self._context_takeover:
            stream = self._stream or self._new_stream()
            self._stream = None
            data = _flushed(stream, payload, Z_SYNC_FLUSH)
            self._stream = stream
        else:
            idle = _shared_compressors.idle
            known = self._settings in idle
            stream = idle.pop(self._settings) if known else self._new_stream()
            # A full flush also forgets the window, so the next message cannot refer back.
            data = _flushed(stream, payload, Z_FULL_FLUSH)
            idle[self._settings] = stream
        return data

    def _new_stream(self) -> _Compress:
        window_bits, level, mem_level, library = self._settings
        made: _Compress = zlib_module(library).compressobj(level, DEFLATED, -window_bits, mem_level)
        return made


def _flushed(stream: _Compress, payload: bytes | bytearray | memoryview, flush_mode: int) -> bytes:
    beginning = stream.compress(payload)
    return beginning + stream.flush(flush_mode)[: -len(TAIL)]
