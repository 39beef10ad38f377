"""FrameParser and the frame builders: every vector runs whole, byte by byte and at random cuts."""

from __future__ import annotations

import json
import random
import sys
import tracemalloc
from array import array
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fastws._codec import FrameParser, PreparedMessage, build_frame
from fastws.codes import MAX_CONTROL_PAYLOAD, VIOLATIONS, Opcode
from fastws.deflate import Deflater
from fastws.events import Close, Event, Ping, Pong
from fastws.limits import Limits
from tests.wire import (
    BINARY,
    CLOSE,
    CONT,
    KEY,
    PING,
    PONG,
    TEXT,
    UNLIMITED,
    Outcome,
    bytewise,
    close_payload,
    cut,
    fragments,
    frame,
    outcome_of,
    parse,
    slow_outcome,
)

ENDPOINTS = pytest.mark.parametrize("client", [False, True], ids=["server", "client"])


def key_for(client: bool) -> bytes | None:
    """The mask of frames sent to this end."""
    return None if client else KEY


# ------------------------------------------------------------------ RFC 6455 section 5.7


@pytest.mark.parametrize(
    ("client", "wire", "expected"),
    [
        (True, "81 05 48 65 6c 6c 6f", "Hello"),
        (False, "81 85 37 fa 21 3d 7f 9f 4d 51 58", "Hello"),
        (True, "01 03 48 65 6c 80 02 6c 6f", "Hello"),
        (True, "89 05 48 65 6c 6c 6f", Ping(b"Hello")),
        (False, "8a 85 37 fa 21 3d 7f 9f 4d 51 58", Pong(b"Hello")),
        (True, "82 7e 01 00" + "a5" * 256, b"\xa5" * 256),
        (True, "82 7f 00 00 00 00 00 01 00 00" + "a5" * 65536, b"\xa5" * 65536),
    ],
    ids=["unmasked", "masked", "fragmented", "ping", "pong", "256 bytes", "64 KiB"],
)
def test_examples_of_the_rfc(client: bool, wire: str, expected: Event) -> None:
    assert parse(bytes.fromhex(wire), client=client) == Outcome([expected])


# ------------------------------------------------------------------------------- messages

LENGTHS = [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 63, 64, 65, 124, 125, 126, 127, 128, 129, 255, 256]
LENGTHS += [257, 511, 512, 1000, 65534, 65535, 65536, 65537, 70000]


@ENDPOINTS
@pytest.mark.parametrize("length", LENGTHS)
def test_payloads_of_every_kind_of_length(length: int, client: bool) -> None:
    data = random.Random(length).randbytes(length)
    text = "".join(chr(97 + byte % 26) for byte in data)
    wide = text[: length // 2] + "é" if length else ""
    key = key_for(client)
    stream = frame(BINARY, data, key=key) + frame(TEXT, text, key=key) + frame(TEXT, wide, key=key)
    assert parse(stream, client=client) == Outcome([data, text, wide])


@ENDPOINTS
def test_every_opcode_in_one_stream(client: bool) -> None:
    key = key_for(client)
    stream = b"".join(
        [
            frame(PING, b"1", key=key),
            frame(TEXT, "text", key=key),
            frame(PONG, key=key),
            frame(BINARY, b"binary", key=key),
            fragments(TEXT, "a", "", "bc", key=key),
            frame(PING, b"x" * MAX_CONTROL_PAYLOAD, key=key),
            frame(CLOSE, close_payload(1001, "gone"), key=key),
        ]
    )
    assert parse(stream, client=client) == Outcome(
        [Ping(b"1"), "text", Pong(b""), b"binary", "abc", Ping(b"x" * 125), Close(1001, "gone")]
    )


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_empty_messages(opcode: Opcode) -> None:
    empty: str | bytes = "" if opcode == TEXT else b""
    assert parse(frame(opcode)) == Outcome([empty])
    assert parse(fragments(opcode, "", "", "")) == Outcome([empty])
    assert parse(fragments(opcode, "") + frame(opcode, "x")).events[0] == empty


def test_every_mask_is_applied_at_its_phase() -> None:
    source = random.Random(1)
    for _ in range(50):
        key = source.randbytes(4)
        pieces = [source.randbytes(source.randrange(9)) for _ in range(4)]
        stream = b"".join(
            frame(CONT if i else BINARY, piece, fin=i == 3, key=key)
            for i, piece in enumerate(pieces)
        )
        assert parse(stream) == Outcome([b"".join(pieces)])


def test_text_comes_as_str_and_binary_as_bytes() -> None:
    for stream in (frame(TEXT, "abc"), fragments(TEXT, "a", "bc")):
        assert [type(event) for event in parse(stream).events] == [str]
    for stream in (frame(BINARY, "abc"), fragments(BINARY, "a", "bc")):
        assert [type(event) for event in parse(stream).events] == [bytes]


def test_strings_are_as_compact_as_python_makes_them() -> None:
    for text in ("a" * 100, "é" * 100, "€" * 100, "🙂" * 100):
        (event,) = FrameParser().feed(frame(TEXT, text))
        assert sys.getsizeof(event) == sys.getsizeof(text.encode().decode())


# ----------------------------------------------------------------------------- violations

HUGE = b"\x7f" + b"\x7f" + b"\xff" * 7
SMALL = Limits(max_size=100, max_fragments=3)

INVALID: list[tuple[str, bytes]] = [
    *[("RESERVED_BITS", frame(TEXT, "x", rsv=rsv)) for rsv in range(1, 8)],
    ("RESERVED_BITS", frame(PING, rsv=4)),
    ("RESERVED_BITS", frame(TEXT, "a", fin=False) + frame(CONT, rsv=4)),
    *[("RESERVED_OPCODE", frame(opcode)) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
    ("LENGTH_TOP_BIT", frame(BINARY, length=b"\x7f\x80" + bytes(7))),
    ("LENGTH_TOP_BIT", frame(BINARY, length=b"\x7f" + b"\xff" * 8)),
    ("LENGTH_NOT_MINIMAL", frame(BINARY, b"x" * 125, length=b"\x7e\x00\x7d")),
    ("LENGTH_NOT_MINIMAL", frame(BINARY, length=b"\x7e\x00\x00")),
    ("LENGTH_NOT_MINIMAL", frame(BINARY, b"x" * 126, length=b"\x7f" + bytes(7) + b"\x7e")),
    ("LENGTH_NOT_MINIMAL", frame(TEXT, length=b"\x7f" + bytes(6) + b"\xff\xff")),
    ("UNMASKED_FRAME", frame(TEXT, "secret", key=None)),
    ("UNMASKED_FRAME", frame(CLOSE, key=None)),
    ("UNEXPECTED_CONTINUATION", frame(CONT, "x")),
    ("UNEXPECTED_CONTINUATION", frame(CONT, "x", fin=False)),
    ("EXPECTED_CONTINUATION", frame(TEXT, "a", fin=False) + frame(TEXT, "b")),
    ("EXPECTED_CONTINUATION", frame(BINARY, "a", fin=False) + frame(TEXT, "b", fin=False)),
    ("EXPECTED_CONTINUATION", frame(TEXT, "", fin=False) + frame(BINARY, "")),
    *[("FRAGMENTED_CONTROL", frame(opcode, fin=False)) for opcode in (CLOSE, PING, PONG)],
    *[("CONTROL_TOO_LONG", frame(opcode, b"x" * 126)) for opcode in (CLOSE, PING, PONG)],
    ("CONTROL_TOO_LONG", frame(PING, length=HUGE)),
    ("CLOSE_PAYLOAD_OF_ONE_BYTE", frame(CLOSE, b"\x03")),
    *[
        ("INVALID_CLOSE_CODE", frame(CLOSE, close_payload(code)))
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    ],
    ("INVALID_CLOSE_CODE", frame(CLOSE, close_payload(5000, b"\xff"))),
    ("INVALID_CLOSE_REASON", frame(CLOSE, close_payload(1000, b"\xce\xba\xed\xa0\x80"))),
    ("INVALID_CLOSE_REASON", frame(CLOSE, close_payload(1000, "é".encode()[:1]))),
    ("INVALID_UTF8", frame(TEXT, b"\xff")),
    ("INVALID_UTF8", frame(TEXT, b"abc" * 30 + b"\xc3")),
    ("MESSAGE_TOO_BIG", frame(BINARY, bytes(101))),
    ("MESSAGE_TOO_BIG", frame(BINARY, length=HUGE)),
    ("MESSAGE_TOO_BIG", fragments(TEXT, "a" * 50, "b" * 51)),
    ("TOO_MANY_FRAGMENTS", fragments(BINARY, "", "", "", "")),
]

INVALID_IDS = [f"{name}-{i}" for i, (name, _) in enumerate(INVALID)]


@pytest.mark.parametrize(("name", "wire"), INVALID, ids=INVALID_IDS)
def test_what_breaks_a_rule_ends_the_stream(name: str, wire: bytes) -> None:
    """Messages in front are delivered; nothing of the bad frame is, and nothing after it."""
    stream = frame(TEXT, "before") + frame(PING) + wire + frame(TEXT, "after") + frame(PING)
    expected = Outcome(["before", Ping(b"")], name)
    assert parse(stream, limits=SMALL) == expected
    assert slow_outcome(stream, limits=SMALL) == expected


def test_what_breaks_a_rule_as_a_client() -> None:
    stream = frame(TEXT, "before", key=None) + frame(TEXT, "masked")
    assert parse(stream, client=True) == Outcome(["before"], "MASKED_FRAME")


def test_every_violation_of_the_framing_has_a_vector() -> None:
    of_deflate = {"INVALID_DEFLATE", "TOO_MANY_FINAL_BLOCKS"}  # test_codec_deflate.py
    of_the_clock = {"TOO_MANY_MESSAGES"}  # test_connection_timeouts.py
    elsewhere = {"MASKED_FRAME"} | of_deflate | of_the_clock
    assert {name for name, _ in INVALID} == set(VIOLATIONS) - elsewhere


def test_the_error_tells_code_and_reason() -> None:
    parser = FrameParser()
    assert parser.error is None
    assert not parser.is_finished
    assert parser.feed(frame(TEXT, b"\xff")) == []
    assert parser.error is VIOLATIONS["INVALID_UTF8"]
    assert parser.error.code == 1007
    assert parser.is_finished


@pytest.mark.parametrize(("name", "wire"), INVALID, ids=INVALID_IDS)
def test_a_wrong_frame_is_told_at_its_first_two_bytes(name: str, wire: bytes) -> None:
    """What they can tell is not put off until a length arrives that may never come."""
    of_the_start = {
        "RESERVED_BITS",
        "RESERVED_OPCODE",
        "UNMASKED_FRAME",
        "FRAGMENTED_CONTROL",
        "CONTROL_TOO_LONG",
    }
    if name in of_the_start and not wire.startswith(frame(TEXT, "a", fin=False)):
        assert parse(wire[:2]).error == name
    else:
        assert parse(wire[:1]).error is None


# ---------------------------------------------------------------------------------- CLOSE


def test_close_codes() -> None:
    sendable = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
    for code in [*range(5100), 9999, 65535]:
        outcome = outcome_of(FrameParser(), [frame(CLOSE, close_payload(code, "why"))])
        if code in sendable:
            assert outcome == Outcome([Close(code, "why")])
        else:
            assert outcome == Outcome([], "INVALID_CLOSE_CODE")


def test_close_without_code_is_1005() -> None:
    assert parse(frame(CLOSE)) == Outcome([Close(1005, "")])


def test_close_reason_of_every_length() -> None:
    for length in (0, 1, 122, 123):
        assert parse(frame(CLOSE, close_payload(1000, "r" * length))) == Outcome(
            [Close(1000, "r" * length)]
        )


def test_nothing_is_read_after_close() -> None:
    stream = frame(CLOSE, close_payload(1000)) + frame(TEXT, "late") + b"\xff" * 50
    assert parse(stream) == Outcome([Close(1000, "")])
    parser = FrameParser()
    parser.feed(frame(CLOSE))
    assert parser.is_finished
    assert parser.feed(frame(TEXT, "late")) == []
    assert parser.error is None


# ------------------------------------------------------------------------------------ UTF-8

VALID_TEXTS = {
    "Greek": "κόσμε",
    "one byte": "\x00\x7f",
    "two bytes": "\x80\u07ff",
    "three bytes": "\u0800\ud7ff\ue000\uffff",
    "four bytes": "\U00010000\U0010ffff",
    "byte order mark": "\ufeff bom",
    "the last byte only": "a" * 100 + "é",
    "all of two bytes": "é" * 100,
    "one in the middle": "ascii " * 20 + "🙂" + "ascii " * 20,
}

# The bytes of each that can still be the beginning of something, and the one that cannot.
INVALID_UTF8 = {
    "a continuation byte alone": (b"", b"\x80"),
    "the last of them": (b"", b"\xbf"),
    "overlong, two bytes": (b"", b"\xc0"),
    "overlong, two bytes, the last": (b"", b"\xc1"),
    "overlong, three bytes": (b"\xe0", b"\x9f"),
    "overlong, four bytes": (b"\xf0", b"\x8f"),
    "the first surrogate": (b"\xed", b"\xa0"),
    "the last surrogate": (b"\xed", b"\xbf"),
    "above U+10FFFF": (b"\xf4", b"\x90"),
    "far above": (b"", b"\xf5"),
    "five bytes": (b"", b"\xf8"),
    "no lead byte at all": (b"", b"\xff"),
    "truncated after one of two": (b"\xc3", b"a"),
    "truncated after two of three": (b"\xe2\x82", b"a"),
    "truncated after three of four": (b"\xf0\x9f\x99", b"a"),
    "a lead byte in place of a continuation": (b"\xe2\x82", b"\xe2"),
}


@pytest.mark.parametrize("text", VALID_TEXTS.values(), ids=VALID_TEXTS)
def test_b18_valid_text_whatever_cuts_it(text: str) -> None:
    data = text.encode("utf-8")
    assert parse(frame(TEXT, data)) == Outcome([text])
    # Each split point between two frames as well as within one.
    for at in range(len(data) + 1):
        stream = fragments(TEXT, data[:at], data[at:])
        assert outcome_of(FrameParser(), [stream]) == Outcome([text])
        assert outcome_of(FrameParser(), bytewise(stream)) == Outcome([text])
    assert parse(fragments(TEXT, *bytewise(data))) == Outcome([text])


@pytest.mark.parametrize("case", INVALID_UTF8)
def test_b18_invalid_text_whatever_cuts_it(case: str) -> None:
    good, bad = INVALID_UTF8[case]
    for around in (b"", b"around it, more than sixteen bytes", "ключ".encode()):
        data = around + good + bad + around
        assert parse(frame(TEXT, data)) == Outcome([], "INVALID_UTF8")
        for at in range(len(data) + 1):
            stream = fragments(TEXT, data[:at], data[at:])
            assert outcome_of(FrameParser(), [stream]).error == "INVALID_UTF8"
        assert parse(frame(BINARY, data)) == Outcome([data])


@pytest.mark.parametrize("case", INVALID_UTF8)
def test_b17_invalid_text_in_a_frame_still_arriving(case: str) -> None:
    """1007 at the byte that makes it invalid, not when the frame is complete."""
    good, bad = INVALID_UTF8[case]
    start = frame(TEXT, "é".encode() + good + bad + b"more" * 100)
    before = len(start) - 400 - len(bad)
    for pieces in ([start[:before], start[before : before + 1]], list(bytewise(start))):
        parser = FrameParser()
        used = 0
        for piece in pieces:
            assert parser.error is None, "too early"
            parser.feed(piece)
            used += len(piece)
            if used > before:
                break
        assert parser.error is VIOLATIONS["INVALID_UTF8"]


@pytest.mark.parametrize("ending", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x99", b"\xf0"])
def test_b17_a_message_that_ends_inside_a_code_point(ending: bytes) -> None:
    assert parse(frame(TEXT, b"text" + ending)) == Outcome([], "INVALID_UTF8")
    assert parse(fragments(TEXT, b"text", ending, b"")) == Outcome([], "INVALID_UTF8")
    # A fragment may, and nothing is wrong yet.
    assert parse(frame(TEXT, b"text" + ending, fin=False)) == Outcome([])


def test_the_utf8_state_does_not_outlive_a_message() -> None:
    stream = fragments(TEXT, b"\xe2\x82", b"\xac") + frame(BINARY, b"\xc3") + frame(TEXT, "é")
    assert parse(stream + fragments(TEXT, "a", "b")) == Outcome(["€", b"\xc3", "é", "ab"])


# --------------------------------------------------------------------- limits and memory


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Bytes that Python objects took at most within the block, in the list's only item."""
    result = [0]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        yield result
        result[0] = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def test_b1_a_length_with_the_top_bit() -> None:
    for length in (1 << 63, (1 << 63) + 5, (1 << 64) - 1):
        for limits in (Limits(), UNLIMITED):
            field = b"\x7f" + length.to_bytes(8, "big")
            outcome = parse(frame(BINARY, length=field), limits=limits)
            assert outcome == Outcome([], "LENGTH_TOP_BIT")


@pytest.mark.parametrize("length", [(1 << 20) + 1, 1 << 31, 1 << 32, (1 << 62) + 1, (1 << 63) - 1])
def test_b2_a_length_that_never_comes_takes_no_memory(length: int) -> None:
    field = b"\x7f" + length.to_bytes(8, "big")
    start = frame(BINARY, length=field)
    assert parse(start) == Outcome([], "MESSAGE_TOO_BIG")
    # Nor does it with no limit at all, for as long as the bytes do not come.
    for parser in (FrameParser(), FrameParser(limits=UNLIMITED)):
        with peak_memory() as peak:
            parser.feed(start + b"x" * 1000)
        assert peak[0] <= 64 * 1024


@pytest.mark.parametrize("size", [0, 1, 125, 126, 1000, 65535, 65536])
def test_b3_exactly_the_limit_and_one_more(size: int) -> None:
    limits = Limits(max_size=size)
    data = b"m" * size
    assert parse(frame(BINARY, data), limits=limits) == Outcome([data])
    assert parse(fragments(BINARY, data, b""), limits=limits) == Outcome([data])
    assert parse(frame(BINARY, data + b"m"), limits=limits) == Outcome([], "MESSAGE_TOO_BIG")


def test_b3_is_decided_on_the_header() -> None:
    parser = FrameParser(limits=Limits(max_size=1000))
    parser.feed(frame(BINARY, bytes(1001))[:8])
    assert parser.error is VIOLATIONS["MESSAGE_TOO_BIG"]


def test_b4_fragments_whose_sum_is_too_big() -> None:
    limits = Limits(max_size=100)
    good = fragments(TEXT, "a" * 40, "b" * 60)
    assert parse(good * 2, limits=limits).events == ["a" * 40 + "b" * 60] * 2
    assert parse(fragments(TEXT, "a" * 40, "b" * 61), limits=limits).error == "MESSAGE_TOO_BIG"
    # The sum must not wrap around.
    field = b"\x7f" + ((1 << 63) - 1).to_bytes(8, "big")
    stream = frame(BINARY, b"x" * 100, fin=False) + frame(CONT, length=field)
    assert parse(stream, limits=limits).error == "MESSAGE_TOO_BIG"


def test_b5_a_hundred_thousand_fragments() -> None:
    stream = frame(TEXT, "x", fin=False) + frame(CONT, "x", fin=False) * 131_000
    assert outcome_of(FrameParser(), [stream]) == Outcome([], "TOO_MANY_FRAGMENTS")
    allowed = fragments(TEXT, *["x"] * 4096)
    assert outcome_of(FrameParser(), [allowed]) == Outcome(["x" * 4096])
    refused = fragments(TEXT, *["x"] * 4097)
    assert outcome_of(FrameParser(), [refused]) == Outcome([], "TOO_MANY_FRAGMENTS")


def test_b6_endless_empty_fragments() -> None:
    parser = FrameParser(limits=Limits(max_fragments=10))
    parser.feed(frame(BINARY, fin=False))
    for _ in range(9):
        assert parser.error is None
        parser.feed(frame(CONT, fin=False))
    assert parser.error is None
    parser.feed(frame(CONT, fin=False))
    assert parser.error is VIOLATIONS["TOO_MANY_FRAGMENTS"]


def test_fragments_are_counted_for_each_message() -> None:
    limits = Limits(max_fragments=2)
    stream = fragments(TEXT, "a", "b") + frame(PING) + fragments(TEXT, "c", "d")
    assert parse(stream, limits=limits) == Outcome(["ab", Ping(b""), "cd"])


def test_b7_a_mebibyte_in_fragments_of_one_byte() -> None:
    """Linear: an algorithm that is not would run into the test's timeout by a wide margin."""
    count = 1 << 20
    stream = frame(BINARY, "x", fin=False) + frame(CONT, "x", fin=False) * (count - 2)
    parser = FrameParser(limits=Limits(max_fragments=count))
    view = memoryview(stream)
    for start in range(0, len(view), 64 * 1024):
        assert parser.feed(bytes(view[start : start + 64 * 1024])) == []
    assert parser.feed(frame(CONT, "x")) == [b"x" * count]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("step", [1, 1000])
def test_b8_a_dribbled_frame_takes_twice_its_size_at_most(opcode: Opcode, step: int) -> None:
    size = 100_000
    data = frame(opcode, b"d" * size)
    pieces = [data[i : i + step] for i in range(0, len(data), step)]
    parser = FrameParser()
    with peak_memory() as peak:
        for piece in pieces:
            events = parser.feed(piece)
    assert events == ["d" * size if opcode == TEXT else b"d" * size]
    assert peak[0] <= 2 * size + 4096


def test_b8_fragments_take_twice_their_size_at_most() -> None:
    pieces = [frame(BINARY, b"d" * 1000, fin=False)] + [frame(CONT, b"d" * 1000, fin=False)] * 99
    parser = FrameParser()
    with peak_memory() as peak:
        for piece in pieces:
            parser.feed(piece)
        parser.feed(frame(CONT))
    assert peak[0] <= 2 * 100_000 + 4096


def test_a_parser_at_rest_holds_nothing_of_its_messages() -> None:
    parser = FrameParser()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        parser.feed(frame(BINARY, bytes(50_000)))
        parser.feed(fragments(TEXT, "a" * 50_000, "b"))
        parser.feed(frame(PING, b"p" * 100))
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held < 1024


def test_an_error_lets_go_of_the_message_and_of_the_control_frame() -> None:
    for stream in (
        frame(BINARY, bytes(50_000), fin=False) + frame(TEXT),
        frame(BINARY, bytes(50_000), fin=False) + frame(CLOSE),
        frame(TEXT, b"a" * 50_000, fin=False) + frame(CONT, b"\xff"),
    ):
        parser = FrameParser()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            parser.feed(stream)
            held = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert parser.is_finished
        assert held < 1024


def test_out_of_memory_ends_the_stream_and_lets_go_of_everything() -> None:
    """A parser that has lost its place must not take payload for frames, nor hand out memory that
    nobody filled."""
    testcapi = pytest.importorskip("_testcapi")
    if sys.gettrace() is not None:
        pytest.skip("a tracer needs memory itself")
    outcomes = set()
    for allowed in range(12):
        parser = FrameParser()
        parser.feed(frame(BINARY, b"a" * 300, fin=False))
        piece = frame(CONT, b"b" * 3000, fin=False)
        testcapi.set_nomemory(allowed, allowed + 1)
        try:
            parser.feed(piece)
        except MemoryError:
            failed = True
        else:
            failed = False
        finally:
            testcapi.remove_mem_hooks()
        outcomes.add(parser.is_finished)
        # The parser was not reached if it was the list of events that found no memory.
        if parser.is_finished:
            assert failed
            assert parser.error is None
            assert parser.feed(frame(CONT)) == []
    assert outcomes == {True, False}


# ------------------------------------------------------------------------ rows B9 to B20


def test_b9_an_unmasked_frame_is_never_delivered() -> None:
    for opcode in Opcode:
        for fin in (True, False):
            start = frame(opcode, "secret", key=None, fin=fin)
            outcome = parse(start + frame(TEXT, "after"))
            assert outcome.events == []
            assert outcome.error is not None
            assert VIOLATIONS[outcome.error].code == 1002


def test_b10_reserved_bits_and_opcodes_and_wrong_control_frames_at_the_header() -> None:
    for first in range(256):
        opcode, fin = first & 15, first & 128
        known = opcode in list(Opcode)
        if known and not first & 0x70 and (fin or opcode < CLOSE) and opcode != CONT:
            continue
        outcome = parse(bytes([first, 0x80]))
        assert outcome.error is not None
        assert VIOLATIONS[outcome.error].code == 1002
    for second in (126, 127):
        assert parse(bytes([0x80 | PING, 0x80 | second])).error == "CONTROL_TOO_LONG"


def test_b12_continuations_without_a_message_and_messages_in_a_message() -> None:
    assert parse(frame(CONT)).error == "UNEXPECTED_CONTINUATION"
    assert parse(frame(TEXT) + frame(CONT)) == Outcome([""], "UNEXPECTED_CONTINUATION")
    for first in ("", "x"):
        for opcode in (TEXT, BINARY):
            stream = frame(opcode, first, fin=False) + frame(TEXT, "new")
            assert parse(stream) == Outcome([], "EXPECTED_CONTINUATION")


def test_b13_control_frames_between_fragments() -> None:
    stream = b"".join(
        [
            frame(TEXT, b"\xe2\x82", fin=False),
            frame(PING, b"1"),
            frame(CONT, fin=False),
            frame(PONG, b"2"),
            frame(CONT, b"\xac", fin=False),
            frame(PING),
            frame(CONT, "!"),
        ]
    )
    assert parse(stream) == Outcome([Ping(b"1"), Pong(b"2"), Ping(b""), "€!"])


def test_b14_close_between_fragments() -> None:
    stream = frame(TEXT, "a", fin=False) + frame(CLOSE, close_payload(1000)) + frame(CONT, "b")
    assert parse(stream) == Outcome([Close(1000, "")])


@pytest.mark.parametrize("reason", [good + bad for good, bad in INVALID_UTF8.values()])
def test_b15_close_with_a_bad_reason(reason: bytes) -> None:
    stream = frame(CLOSE, close_payload(1000, b"reason" + reason))
    assert parse(stream) == Outcome([], "INVALID_CLOSE_REASON")
    assert VIOLATIONS["INVALID_CLOSE_REASON"].code == 1007


@pytest.mark.parametrize("name", ["INVALID_CLOSE_CODE", "CLOSE_PAYLOAD_OF_ONE_BYTE"])
def test_b15_close_with_a_bad_code(name: str) -> None:
    assert VIOLATIONS[name].code == 1002


@pytest.mark.parametrize("end", [frame(CLOSE), frame(TEXT, b"\xff"), frame(CONT)])
def test_b16_whatever_follows_the_end_is_ignored(end: bytes) -> None:
    alone = parse(frame(TEXT, "m") + end)
    for more in (frame(TEXT, "more"), frame(CLOSE), b"\xff" * 100, frame(PING) * 100):
        assert parse(frame(TEXT, "m") + end + more) == alone


@pytest.mark.parametrize(
    ("size", "field"),
    [
        *[(n, b"\x7e" + n.to_bytes(2, "big")) for n in (0, 1, 124, 125)],
        *[(n, b"\x7f" + n.to_bytes(8, "big")) for n in (0, 125, 126, 65534, 65535)],
    ],
)
def test_b19_a_length_longer_than_need_be(size: int, field: bytes) -> None:
    stream = frame(BINARY, bytes(size), length=field)
    assert parse(stream) == Outcome([], "LENGTH_NOT_MINIMAL")


def test_b20_a_stream_at_every_split_point() -> None:
    stream = b"".join(
        [
            frame(TEXT, "héllo"),
            frame(BINARY, bytes(range(130))),
            frame(PING, b"ping"),
            fragments(TEXT, "a€", "", "🙂"),
            fragments(BINARY, bytes(200), b"\xff"),
            frame(CLOSE, close_payload(3000, "über")),
        ]
    )
    whole = outcome_of(FrameParser(), [stream])
    assert len(whole.events) == 6
    for first in range(len(stream) + 1):
        assert outcome_of(FrameParser(), cut(stream, [first])) == whole
        for second in range(first, len(stream) + 1, 41):
            assert outcome_of(FrameParser(), cut(stream, [first, second])) == whole


# -------------------------------------------------------------------------------- the API


@pytest.mark.parametrize("kind", [bytearray, memoryview, lambda data: array("B", data)])
def test_any_buffer_can_be_fed(kind: type[bytearray]) -> None:
    parser = FrameParser()
    data = kind(frame(BINARY, b"abc") + frame(TEXT, "start", fin=False))
    assert parser.feed(data) == [b"abc"]
    assert parser.feed(memoryview(frame(CONT, "-end"))[::1]) == ["start-end"]


def test_a_buffer_may_change_after_it_was_fed() -> None:
    parser = FrameParser()
    data = bytearray(frame(BINARY, b"abc")[:-1])
    parser.feed(data)
    data[:] = bytes(len(data))
    assert parser.feed(frame(BINARY, b"abc")[-1:]) == [b"abc"]


@pytest.mark.parametrize("data", ["text", None, 5])
def test_what_is_no_buffer_cannot_be_fed(data: object) -> None:
    with pytest.raises(TypeError):
        FrameParser().feed(data)  # type: ignore[arg-type]


def test_feeding_nothing_changes_nothing() -> None:
    parser = FrameParser()
    assert parser.feed(b"") == []
    parser.feed(frame(TEXT, "ab")[:-1])
    assert parser.feed(b"") == []
    assert parser.feed(frame(TEXT, "ab")[-1:]) == ["ab"]


def test_a_negative_limit_is_refused() -> None:
    for limits in (Limits(max_size=-1), Limits(max_fragments=-1)):
        with pytest.raises(OverflowError):
            FrameParser(limits=limits)


def test_a_limit_beyond_what_a_frame_can_announce_is_none() -> None:
    parser = FrameParser(limits=Limits(max_size=1 << 70, max_fragments=1 << 64))
    assert parser.feed(frame(BINARY, length=HUGE)) == []
    assert parser.error is None


def test_keyword_arguments_only() -> None:
    with pytest.raises(TypeError):
        FrameParser(True)  # type: ignore[call-arg]


# ------------------------------------------------------------------------- building frames


@pytest.mark.parametrize("key", [None, KEY, bytes(4)])
@pytest.mark.parametrize("length", LENGTHS)
def test_built_frames_are_the_slow_ones(length: int, key: bytes | None) -> None:
    data = random.Random(length).randbytes(length)
    assert build_frame(BINARY, data, mask=key) == frame(BINARY, data, key=key)
    assert build_frame(CONT, data, fin=False, mask=key) == frame(CONT, data, fin=False, key=key)
    assert build_frame(TEXT, data, rsv1=True, mask=key) == frame(TEXT, data, rsv=4, key=key)


def test_built_control_frames() -> None:
    for opcode in (CLOSE, PING, PONG):
        for length in (0, 1, 125):
            assert build_frame(opcode, bytes(length)) == frame(opcode, bytes(length), key=None)


@pytest.mark.parametrize("data", ["héllo", "héllo".encode(), bytearray(b"h\xc3\xa9llo")])
def test_the_payload_may_be_text_or_any_buffer(data: str | bytes) -> None:
    assert build_frame(TEXT, data) == frame(TEXT, "héllo", key=None)


@pytest.mark.parametrize("mask", [bytearray(KEY), memoryview(KEY)])
def test_the_mask_may_be_any_buffer(mask: bytearray) -> None:
    assert build_frame(TEXT, "x", mask=mask) == frame(TEXT, "x")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((3, b""), {}, "opcode 3 is reserved"),
        ((-1, b""), {}, "opcode -1 is reserved"),
        ((16, b""), {}, "opcode 16 is reserved"),
        ((PING, b""), {"fin": False}, "must not be fragmented"),
        ((PING, bytes(126)), {}, "at most 125 bytes, not 126"),
        ((TEXT, b""), {"mask": b"abc"}, "4 bytes, not 3"),
        ((TEXT, "\ud800"), {}, "surrogates not allowed"),
    ],
)
def test_frames_that_must_not_be(
    arguments: tuple[int, str | bytes], options: dict[str, bytes], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_frame(*arguments, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [None, 5, ["x"]])
def test_frames_of_what_is_neither_text_nor_a_buffer(data: object) -> None:
    with pytest.raises(TypeError):
        build_frame(TEXT, data)  # type: ignore[arg-type]


# ------------------------------------------------------------------------ PreparedMessage

MESSAGE = json.dumps({"id": 5, "words": ["one", "two", "three"] * 50})


def test_a_prepared_message_is_the_frame_of_each_receiver() -> None:
    for data in (MESSAGE, MESSAGE.encode(), "", b"", "é" * 100, bytearray(b"buffer")):
        opcode = TEXT if isinstance(data, str) else BINARY
        prepared = PreparedMessage(data)
        assert prepared.data == data
        assert type(prepared.data) in (str, bytes)
        assert prepared.frame() == build_frame(opcode, data)
        payload = data.encode() if isinstance(data, str) else bytes(data)
        for settings in [(12, 1, 5), (15, 6, 8), (12, 1, 5)]:
            bits, level, mem_level = settings
            shared = Deflater(bits, False, level, mem_level)
            own = Deflater(bits, False, level, mem_level)
            expected = build_frame(opcode, own.compress(payload), rsv1=True)
            assert prepared.frame(shared) == expected


def test_a_prepared_message_is_plain_where_context_is_taken_over() -> None:
    prepared = PreparedMessage(MESSAGE)
    assert prepared.frame(Deflater(12, True, 1, 5)) == build_frame(TEXT, MESSAGE)


def test_a_prepared_message_is_built_once() -> None:
    prepared = PreparedMessage(MESSAGE)
    assert prepared.frame() is prepared.frame()
    one, other = Deflater(12, False, 1, 5), Deflater(12, False, 1, 5)
    assert prepared.frame(one) is prepared.frame(other)
    assert prepared.frame(Deflater(15, False, 1, 5)) is not prepared.frame(one)
    assert prepared.frame(Deflater(12, False, 1, 5, "zlib-ng")) is not prepared.frame(one)


def test_a_prepared_message_keeps_its_own_copy_of_a_buffer() -> None:
    data = bytearray(b"before")
    prepared = PreparedMessage(data)
    data[:] = b"after!"
    assert prepared.frame() == build_frame(BINARY, b"before")


def test_what_cannot_be_prepared() -> None:
    with pytest.raises(TypeError):
        PreparedMessage(5)  # type: ignore[arg-type]
    with pytest.raises(UnicodeEncodeError):
        PreparedMessage("\ud800")
