"""Frames for tests, made and read the slow and obvious way, so that they can judge the fast one."""

from __future__ import annotations

import codecs
import random
import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from fastws._codec import FrameParser
from fastws.codes import Opcode, is_valid_close_code
from fastws.events import Close, Event, Ping, Pong
from fastws.limits import DEFAULT_LIMITS, Limits

CONT, TEXT, BINARY, CLOSE, PING, PONG = Opcode

KEY = bytes.fromhex("37fa213d")
"""The masking key of the examples in RFC 6455 section 5.7."""

UNLIMITED = Limits(max_size=None, max_fragments=None)


# ------------------------------------------------------------------------------------ frames


def apply_mask(data: bytes, key: bytes) -> bytes:
    return bytes(byte ^ key[i % 4] for i, byte in enumerate(data))


def length_field(n: int) -> bytes:
    """The length in its shortest form: its 7 bits, and the extended length."""
    if n < 126:
        return bytes([n])
    return b"\x7e" + struct.pack("!H", n) if n <= 0xFFFF else b"\x7f" + struct.pack("!Q", n)


def frame(
    opcode: int,
    payload: bytes | str = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    key: bytes | None = KEY,
    length: bytes | None = None,
) -> bytes:
    """One frame (RFC 6455 section 5.2), right or wrong.

    Parameters:
        rsv: the three reserved bits, RSV1 being 4.
        key: masks the payload; ``None`` leaves it unmasked.
        length: the length field to write instead of the right one.
    """
    data = payload.encode() if isinstance(payload, str) else payload
    field = bytearray(length_field(len(data)) if length is None else length)
    if key is not None:
        field[0] |= 0x80
        data = key + apply_mask(data, key)
    return bytes([fin << 7 | rsv << 4 | opcode]) + field + data


def close_payload(code: int, reason: bytes | str = b"") -> bytes:
    return struct.pack("!H", code) + (reason.encode() if isinstance(reason, str) else reason)


def fragments(opcode: int, *pieces: bytes | str, rsv: int = 0, key: bytes | None = KEY) -> bytes:
    """A message in as many frames as there are pieces; ``rsv`` goes on the first."""
    last = len(pieces) - 1
    return b"".join(
        frame(CONT if i else opcode, piece, fin=i == last, rsv=0 if i else rsv, key=key)
        for i, piece in enumerate(pieces)
    )


class Frame(NamedTuple):
    """A frame as it was read."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0
    key: bytes | None = None


def read_frame(data: bytes) -> tuple[Frame, bytes] | None:
    """The first frame of ``data`` and what follows, ``None`` if it is not complete."""
    if len(data) < 2:
        return None
    length, at = data[1] & 0x7F, 2
    if length >= 126:
        at = 4 if length == 126 else 10
        if len(data) < at:
            return None
        length = int.from_bytes(data[2:at], "big")
    key = None
    if data[1] & 0x80:
        key, at = data[at : at + 4], at + 4
    if len(data) < at + length:
        return None
    payload = data[at : at + length]
    if key is not None:
        payload = apply_mask(payload, key)
    fin, rsv, opcode = bool(data[0] & 0x80), data[0] >> 4 & 7, data[0] & 15
    return Frame(opcode, payload, fin, rsv, key), data[at + length :]


def read_frames(data: bytes) -> list[Frame]:
    """All frames of ``data``, which must end with one."""
    frames = []
    while data:
        found = read_frame(data)
        assert found is not None, f"{data[:20]!r} is not a whole frame"
        frames.append(found[0])
        data = found[1]
    return frames


# --------------------------------------------------------------------------------- outcomes


class Outcome(NamedTuple):
    """What a stream comes to: its events, and the name of the violation that ended it."""

    events: list[Event]
    error: str | None = None


def outcome_of(parser: FrameParser, pieces: Iterable[bytes]) -> Outcome:
    events = [event for piece in pieces for event in parser.feed(piece)]
    return Outcome(events, parser.error.name if parser.error else None)


def bytewise(data: bytes) -> Iterator[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


def cut(data: bytes, positions: Iterable[int]) -> list[bytes]:
    """``data`` in pieces that begin and end at ``positions``."""
    marks = [0, *sorted(positions), len(data)]
    return [data[a:b] for a, b in pairwise(marks)]


def random_cuts(data: bytes, seed: int) -> list[bytes]:
    source = random.Random(seed)
    count = source.randrange(1, max(2, min(len(data), 12)))
    return cut(data, (source.randrange(len(data) + 1) for _ in range(count)))


def three_ways(make: Callable[[], FrameParser], data: bytes, *, rounds: int = 8) -> Outcome:
    """Run ``data`` whole, byte by byte and at random cuts (B20): the outcome must be the same.

    Parameters:
        make: a new parser for each run.
        rounds: of random cuts.
    """
    whole = outcome_of(make(), [data])
    assert outcome_of(make(), bytewise(data)) == whole, "byte by byte"
    for seed in range(rounds):
        pieces = random_cuts(data, seed)
        assert outcome_of(make(), pieces) == whole, f"cut into {[len(piece) for piece in pieces]}"
    return whole


def parse(data: bytes, *, client: bool = False, limits: Limits = DEFAULT_LIMITS) -> Outcome:
    """The outcome of an uncompressed stream, in all three ways."""
    return three_ways(lambda: FrameParser(client=client, limits=limits), data)


# ----------------------------------------------------------------------------- the slow oracle


class Violated(Exception):
    """Carries the name of the violation out of :func:`slow_outcome`."""


class SlowMessage:
    """A message under way."""

    def __init__(self, opcode: int) -> None:
        self.opcode = opcode
        self.body = b""
        self.frames = 0
        self.decoder = codecs.getincrementaldecoder("utf-8")()

    def add(self, payload: bytes, *, final: bool) -> None:
        self.body += payload
        if self.opcode == TEXT:
            try:
                self.decoder.decode(payload, final)
            except UnicodeDecodeError:
                raise Violated("INVALID_UTF8") from None


def slow_outcome(data: bytes, *, client: bool = False, limits: Limits = DEFAULT_LIMITS) -> Outcome:
    """What FrameParser must make of an uncompressed stream: the same rules, one after the other,
    in no hurry."""
    events: list[Event] = []
    message: SlowMessage | None = None
    try:
        while len(data) >= 2:
            first, second = data[0], data[1]
            opcode, fin = first & 15, bool(first & 128)
            message = check_start(first, second, message, client)
            length = check_length(data)
            if length is None:
                break
            if message is not None and opcode < CLOSE:
                message.frames += 1
                if limits.max_fragments is not None and message.frames > limits.max_fragments:
                    raise Violated("TOO_MANY_FRAGMENTS")
                if limits.max_size is not None and len(message.body) + length > limits.max_size:
                    raise Violated("MESSAGE_TOO_BIG")
            found = read_frame(data)
            if found is None:
                if message is not None and opcode < CLOSE:
                    at = header_length(second)
                    key = bytes(4) if client else data[at - 4 : at]
                    message.add(apply_mask(data[at:], key), final=False)
                break
            payload, data = found[0].payload, found[1]
            if opcode == CLOSE:
                events.append(close_event(payload))
                break
            if opcode >= CLOSE:
                events.append(Ping(payload) if opcode == PING else Pong(payload))
                continue
            assert message is not None
            message.add(payload, final=fin)
            if fin:
                events.append(message.body.decode() if message.opcode == TEXT else message.body)
                message = None
    except Violated as violated:
        return Outcome(events, str(violated))
    return Outcome(events)


def header_length(second: int) -> int:
    return 2 + {126: 2, 127: 8}.get(second & 127, 0) + (4 if second & 128 else 0)


def check_start(
    first: int, second: int, message: SlowMessage | None, client: bool
) -> SlowMessage | None:
    """The message that a frame with these two bytes belongs to, or goes in between."""
    opcode = first & 15
    if first & 0x70:
        raise Violated("RESERVED_BITS")
    if opcode not in list(Opcode):
        raise Violated("RESERVED_OPCODE")
    if opcode >= CLOSE:
        if not first & 128:
            raise Violated("FRAGMENTED_CONTROL")
        if second & 127 > 125:
            raise Violated("CONTROL_TOO_LONG")
    elif opcode == CONT and message is None:
        raise Violated("UNEXPECTED_CONTINUATION")
    elif opcode != CONT and message is not None:
        raise Violated("EXPECTED_CONTINUATION")
    if bool(second & 128) == client:
        raise Violated("MASKED_FRAME" if client else "UNMASKED_FRAME")
    return SlowMessage(opcode) if opcode in (TEXT, BINARY) else message


def check_length(data: bytes) -> int | None:
    """The length, ``None`` while the header is not complete."""
    if len(data) < header_length(data[1]):
        return None
    short = data[1] & 127
    if short < 126:
        return short
    length = int.from_bytes(data[2 : 4 if short == 126 else 10], "big")
    if length >= 1 << 63:
        raise Violated("LENGTH_TOP_BIT")
    if length < 126 or (short == 127 and length <= 0xFFFF):
        raise Violated("LENGTH_NOT_MINIMAL")
    return length


def close_event(payload: bytes) -> Close:
    if not payload:
        return Close(1005, "")
    if len(payload) == 1:
        raise Violated("CLOSE_PAYLOAD_OF_ONE_BYTE")
    code = int.from_bytes(payload[:2], "big")
    if not is_valid_close_code(code):
        raise Violated("INVALID_CLOSE_CODE")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise Violated("INVALID_CLOSE_REASON") from None
