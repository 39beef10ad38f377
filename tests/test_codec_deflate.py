"""Compressed messages through FrameParser: rows C1 to C7 of the list of attacks, cut anywhere."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from fastws._codec import FrameParser
from fastws.codes import VIOLATIONS, Opcode
from fastws.deflate import MAX_FINAL_BLOCKS, Deflater, Inflater
from fastws.deflate_library import LIBRARIES, Library
from fastws.events import Close, Ping
from fastws.limits import Limits
from tests.wire import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    TEXT,
    Outcome,
    close_payload,
    fragments,
    frame,
    outcome_of,
    three_ways,
)

MIB = 1024 * 1024
RSV1 = 4

both = pytest.mark.parametrize("library", LIBRARIES)


def deflating(
    *,
    takeover: bool = True,
    bits: int = 15,
    limits: Limits | None = None,
    library: Library = "zlib",
) -> Callable[[], FrameParser]:
    """Makes server parsers that have negotiated permessage-deflate."""
    return lambda: FrameParser(
        limits=limits or Limits(), inflater=Inflater(bits, takeover, library)
    )


def compress(data: bytes | str, *, level: int = 6, bits: int = 15) -> bytes:
    """One message, as any peer would send it (RFC 7692 section 7.2.1)."""
    stream = zlib.compressobj(level, zlib.DEFLATED, -bits)
    data = data.encode() if isinstance(data, str) else data
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def compress_finally(data: bytes) -> bytes:
    """One message in a final block (RFC 7692 section 7.2.3.4)."""
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush(zlib.Z_FINISH) + b"\0"


def packed(opcode: int, data: bytes | str) -> bytes:
    return frame(opcode, compress(data), rsv=RSV1)


@both
@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ("f2 48 cd c9 c9 07 00", "Hello"),
        ("00 05 00 fa ff 48 65 6c 6c 6f 00", "Hello"),
        ("f3 48 cd c9 c9 07 00 00", "Hello"),
        ("f2 48 05 00 00 00 ff ff ca c9 c9 07 00", "Hello"),
    ],
    ids=["fixed", "stored", "final block", "two blocks"],
)
def test_examples_of_rfc_7692(library: Library, payload: str, expected: str) -> None:
    stream = frame(TEXT, bytes.fromhex(payload), rsv=RSV1)
    assert three_ways(deflating(library=library), stream) == Outcome([expected])


@both
def test_the_example_of_context_takeover(library: Library) -> None:
    """RFC 7692 section 7.2.3.2: the second message refers to the first."""
    first, second = bytes.fromhex("f2 48 cd c9 c9 07 00"), bytes.fromhex("f2 00 11 00 00")
    stream = frame(TEXT, first, rsv=RSV1) + frame(TEXT, second, rsv=RSV1)
    assert three_ways(deflating(library=library), stream) == Outcome(["Hello", "Hello"])
    # Where none was negotiated, there is nothing to refer to.
    assert three_ways(deflating(takeover=False, library=library), stream) == Outcome(
        ["Hello"], "INVALID_DEFLATE"
    )


@both
@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize("bits", [9, 12, 15])
def test_messages_of_our_own_deflater(library: Library, takeover: bool, bits: int) -> None:
    source = random.Random(bits)
    deflater = Deflater(bits, takeover, 6, 8, library)
    stream, expected = b"", []
    for size in (0, 1, 100, 5000, 40_000):
        data = bytes(source.choices(b"abcdefgh", k=size))
        stream += frame(BINARY, deflater.compress(data), rsv=RSV1)
        expected.append(data)
    make = deflating(takeover=takeover, bits=bits, library=library)
    assert three_ways(make, stream, rounds=3) == Outcome([*expected])


def test_fragments_of_a_compressed_message_with_control_frames_between() -> None:
    text = "compressed über alles " * 50
    data = compress(text)
    for cut in range(len(data) + 1):
        stream = b"".join(
            [
                frame(TEXT, data[:cut], rsv=RSV1, fin=False),
                frame(PING, b"!"),
                frame(CONT, b"", fin=False),
                frame(CONT, data[cut:]),
            ]
        )
        assert outcome_of(deflating()(), [stream]) == Outcome([Ping(b"!"), text])
    assert three_ways(deflating(), stream) == Outcome([Ping(b"!"), text])


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_text_of_compressed_messages_is_checked_as_it_arrives(opcode: Opcode) -> None:
    bad = b"fine " * 100 + b"\xed\xa0\x80" + b" more" * 1000
    data = compress(bad, level=1)
    outcome = three_ways(deflating(), frame(opcode, data, rsv=RSV1))
    assert outcome == (Outcome([], "INVALID_UTF8") if opcode == TEXT else Outcome([bad]))
    if opcode == TEXT:
        assert outcome_of(deflating()(), [frame(TEXT, data, rsv=RSV1)[:-1]]).error == "INVALID_UTF8"
    truncated = frame(TEXT, compress("é".encode()[:1]), rsv=RSV1)
    assert three_ways(deflating(), truncated) == Outcome([], "INVALID_UTF8")


def test_a_compressed_bit_without_negotiation() -> None:
    assert outcome_of(FrameParser(), [packed(TEXT, "x")]) == Outcome([], "RESERVED_BITS")


def test_b11_the_compressed_bit_where_it_must_not_be() -> None:
    inside = frame(TEXT, compress("ab"), rsv=RSV1, fin=False)
    for stream in (
        inside + frame(CONT, rsv=RSV1),
        frame(TEXT, "a", fin=False) + frame(CONT, rsv=RSV1),
        frame(PING, rsv=RSV1),
        frame(CLOSE, rsv=RSV1),
        frame(TEXT, rsv=RSV1 | 1),
        frame(TEXT, rsv=RSV1 | 2),
        frame(TEXT, rsv=2),
    ):
        assert three_ways(deflating(), stream) == Outcome([], "RESERVED_BITS")


# ------------------------------------------------------------------------------ the limit


@both
@pytest.mark.parametrize("pieces", [1, 2, 7])
@pytest.mark.parametrize("size", [0, 1, 100, 32_768, 32_769, 100_000])
def test_c1_exactly_the_limit_and_one_more(library: Library, size: int, pieces: int) -> None:
    make = deflating(limits=Limits(max_size=size), library=library)
    for opcode, data in ((BINARY, b"m" * size), (TEXT, b"m" * size)):
        for length, accepted in ((size, True), (size + 1, False)):
            payload = compress(b"m" * length)
            step = -(-len(payload) // pieces)
            parts = [payload[i : i + step] for i in range(0, len(payload), step)]
            outcome = three_ways(make, fragments(opcode, *parts, rsv=RSV1), rounds=3)
            expected = data.decode() if opcode == TEXT else data
            assert outcome == (Outcome([expected]) if accepted else Outcome([], "MESSAGE_TOO_BIG"))


@both
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_c1_a_bomb_takes_no_more_than_the_limit(library: Library, opcode: Opcode) -> None:
    bomb = compress(bytes(200 * MIB), level=9, bits=12)
    data = frame(opcode, bomb, rsv=RSV1)
    parser = deflating(bits=12, library=library)()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        parser.feed(data)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert parser.error is VIOLATIONS["MESSAGE_TOO_BIG"]
    # The frame itself is unmasked into a copy of its own.
    assert peak - len(bomb) <= MIB + 64 * 1024


@both
def test_c2_a_bomb_in_fragments_and_over_messages(library: Library) -> None:
    limits = Limits(max_size=10_000)
    payload = compress(b"m" * 10_001)
    parts = [payload[i : i + 1] for i in range(len(payload))]
    stream = fragments(BINARY, *parts, rsv=RSV1)
    assert three_ways(deflating(limits=limits, library=library), stream) == Outcome(
        [], "MESSAGE_TOO_BIG"
    )

    # The window makes a few bytes of the next messages large: each is judged by itself.
    deflater = Deflater(15, True, 9, 9, library)
    block = random.Random(2).randbytes(10_000)
    good = [frame(BINARY, deflater.compress(block), rsv=RSV1) for _ in range(20)]
    bad = frame(BINARY, deflater.compress(block + b"!"), rsv=RSV1)
    outcome = three_ways(deflating(limits=limits, library=library), b"".join(good) + bad, rounds=3)
    assert outcome == Outcome([block] * 20, "MESSAGE_TOO_BIG")


@both
def test_c3_a_final_block_and_then_another_message(library: Library) -> None:
    stream = frame(TEXT, compress_finally(b"first"), rsv=RSV1) + packed(TEXT, "second") * 2
    for takeover in (True, False):
        outcome = three_ways(deflating(takeover=takeover, library=library), stream)
        assert outcome == Outcome(["first", "second", "second"])


@both
def test_c4_thousands_of_final_blocks(library: Library) -> None:
    empty_final = b"\x03\x00"
    allowed = frame(BINARY, empty_final * MAX_FINAL_BLOCKS + b"\0", rsv=RSV1)
    assert three_ways(deflating(library=library), allowed * 2, rounds=2) == Outcome([b"", b""])
    refused = frame(BINARY, empty_final * (MAX_FINAL_BLOCKS + 1) + b"\0", rsv=RSV1)
    assert three_ways(deflating(library=library), refused, rounds=2) == Outcome(
        [], "TOO_MANY_FINAL_BLOCKS"
    )


@both
def test_c4_more_compressed_bytes_than_any_message_needs(library: Library) -> None:
    """Empty stored blocks take time and give nothing: their sum is limited too, on the header."""
    limits = Limits(max_size=1000)
    most = 2 * 1000 + 65_536
    blocks = b"\x00\x00\x00\xff\xff" * (most // 5)
    make = deflating(limits=limits, library=library)
    assert outcome_of(make(), [frame(BINARY, blocks + b"\0", rsv=RSV1)]) == Outcome([b""])
    too_many = frame(BINARY, blocks + blocks + b"\0", rsv=RSV1)
    assert outcome_of(make(), [too_many[:14]]) == Outcome([], "MESSAGE_TOO_BIG")
    half = fragments(BINARY, blocks, b"\0" * 10, rsv=RSV1)
    assert outcome_of(make(), [half]) == Outcome([], "MESSAGE_TOO_BIG")
    unlimited = deflating(limits=Limits(max_size=None), library=library)
    assert outcome_of(unlimited(), [too_many + packed(TEXT, "next")]).error is None


def test_compressed_messages_without_a_limit() -> None:
    data = random.Random(3).randbytes(50_000) * 100
    make = deflating(limits=Limits(max_size=None, max_fragments=None))
    assert outcome_of(make(), [frame(BINARY, compress(data), rsv=RSV1)]) == Outcome([data])


# --------------------------------------------------------------------------- what is broken


@both
@pytest.mark.parametrize(
    "payload",
    [
        b"\xff\xff\xff\xff",
        b"\x07",
        compress("half of a block " * 20)[:-5],
        b"\x00\x05\x00\x05\x00Hello\x00",
        compress("Hello")[:-1] + b"\x06",
    ],
)
def test_c5_corrupt_data(library: Library, payload: bytes) -> None:
    stream = packed(TEXT, "before") + frame(BINARY, payload, rsv=RSV1) + packed(TEXT, "after")
    assert three_ways(deflating(library=library), stream) == Outcome(["before"], "INVALID_DEFLATE")
    assert VIOLATIONS["INVALID_DEFLATE"].code == 1007


@both
def test_c6_a_distance_beyond_the_window(library: Library) -> None:
    """The peer agreed to 2^9 bytes and refers back 20,000: seen across messages."""
    block = random.Random(4).randbytes(300)
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    messages = [block, random.Random(5).randbytes(20_000), block]
    frames = [
        frame(
            BINARY,
            (stream.compress(message) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4],
            rsv=RSV1,
        )
        for message in messages
    ]
    outcome = three_ways(deflating(bits=9, library=library), b"".join(frames), rounds=3)
    assert outcome == Outcome([*messages[:2]], "INVALID_DEFLATE")
    assert three_ways(deflating(bits=15, library=library), b"".join(frames), rounds=3) == Outcome(
        [*messages]
    )


@both
def test_c6_the_compressed_bit_with_an_empty_payload(library: Library) -> None:
    stream = frame(TEXT, rsv=RSV1) + frame(BINARY, rsv=RSV1) + fragments(TEXT, "", "", rsv=RSV1)
    assert three_ways(deflating(library=library), stream) == Outcome(["", b"", ""])
    stream += packed(TEXT, "next")
    assert three_ways(deflating(library=library), stream) == Outcome(["", b"", "", "next"])


@both
def test_c7_compressed_and_plain_messages_mixed(library: Library) -> None:
    source = random.Random(6)
    deflater = Deflater(12, True, 1, 5, library)
    stream, expected = [], []
    for i in range(10_000):
        text = f"message {i} " * source.randrange(4)
        expected.append(text)
        if source.random() < 0.5:
            stream.append(frame(TEXT, deflater.compress(text.encode()), rsv=RSV1))
        else:
            stream.append(frame(TEXT, text))
    assert outcome_of(deflating(bits=12, library=library)(), [b"".join(stream)]) == Outcome(
        [*expected]
    )


def test_nothing_is_inflated_after_close_or_an_error() -> None:
    stream = packed(TEXT, "a") + frame(CLOSE, close_payload(1000)) + packed(TEXT, "b")
    assert three_ways(deflating(), stream) == Outcome(["a", Close(1000, "")])


def test_a_fault_of_the_inflater_ends_the_stream() -> None:
    """What is not about the peer's data is raised, not blamed on the peer."""

    class Broken(Inflater):
        def pieces(self, chunk: object, room: int) -> object:  # type: ignore[override]
            raise RuntimeError("broken")

    parser = FrameParser(inflater=Broken(15, True))
    with pytest.raises(RuntimeError, match="broken"):
        parser.feed(packed(TEXT, "x"))
    assert parser.is_finished
    assert parser.error is None
    assert parser.feed(frame(TEXT, "late")) == []
