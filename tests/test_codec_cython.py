"""The .pxd is usable from other Cython code: a module that cimports it is built and run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from types import ModuleType

import pytest

from fastws._codec import build_frame
from fastws.limits import Limits
from tests.cythonized import compile_module
from tests.wire import (
    BINARY,
    CLOSE,
    CONT,
    KEY,
    PING,
    PONG,
    TEXT,
    bytewise,
    close_payload,
    frame,
)

pytest.importorskip("Cython")


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    folder = tmp_path_factory.mktemp("drive_codec")
    return compile_module("drive_codec", folder)


STREAM = b"".join(
    [
        frame(TEXT, "héllo"),
        frame(BINARY, bytes(200), fin=False),
        frame(PING, b"1"),
        frame(CONT, b"end"),
        frame(PONG),
        frame(CLOSE, close_payload(1001, "gone")),
        frame(TEXT, "late"),
    ]
)

pytestmark = pytest.mark.slow


def test_events(drive: ModuleType) -> None:
    expected = [
        (TEXT, "héllo"),
        (PING, b"1"),
        (BINARY, bytes(200) + b"end"),
        (PONG, b""),
        (CLOSE, 1001, "gone"),
    ]
    assert drive.read([STREAM], Limits()) == expected
    assert drive.read(bytewise(STREAM), Limits()) == expected


def test_an_error(drive: ModuleType) -> None:
    found = drive.read([frame(TEXT, "ab") + frame(TEXT, "abc")], Limits(max_size=2))
    assert found == [(TEXT, "ab"), (-2, "MESSAGE_TOO_BIG")]


def test_input_that_comes_faster_than_events_are_asked_for(drive: ModuleType) -> None:
    texts = [str(n) * n for n in range(10)]
    found = drive.read_late([frame(TEXT, text) for text in texts])
    assert found == [text for text in texts for _ in range(2)]


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        (b"", (False, False, True)),
        (frame(TEXT, "whole"), (True, False, True)),
        (frame(TEXT, "part", fin=False), (True, False, False)),
        (frame(TEXT, "cut")[:-1], (True, False, False)),
        (frame(TEXT, "cut")[:1], (True, False, False)),
    ],
)
def test_where_a_parser_stands(
    drive: ModuleType, piece: bytes, expected: tuple[bool, bool, bool]
) -> None:
    assert drive.rests(piece) == expected


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_frames(drive: ModuleType, size: int) -> None:
    payload = b"x" * size
    assert set(drive.build(payload)) == {build_frame(BINARY, payload)}


# ------------------------------------------------------------------------- reading in place

READ_AT_ONCE = 65536
"""Bytes for which there is room at least."""


def text_of(chosen: random.Random, size: int) -> str:
    alphabet = chosen.choice(["ab", "abé", "a€", "😀x"])
    return "".join(chosen.choices(alphabet, k=size))


def stream_of(chosen: random.Random, key: bytes | None) -> bytes:
    """Messages whole and in fragments, control frames between them; sometimes with a fault."""
    frames: list[bytes] = []
    for _ in range(chosen.randrange(1, 5)):
        opcode = chosen.choice([TEXT, BINARY])
        size = chosen.choice([0, 3, 125, 126, 300, 5000])
        data = text_of(chosen, size).encode() if opcode == TEXT else chosen.randbytes(size)
        if chosen.random() < 0.1 and data:
            spoilt = chosen.randrange(len(data))
            data = data[:spoilt] + b"\xff" + data[spoilt + 1 :]
        cuts = sorted(chosen.choices(range(len(data) + 1), k=chosen.choice([0, 0, 1, 3])))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        for number, piece in enumerate(pieces):
            fin = number == len(pieces) - 1
            frames.append(frame(CONT if number else opcode, piece, fin=fin, key=key))
            if chosen.random() < 0.3:
                frames.append(frame(chosen.choice([PING, PONG]), b"control", key=key))
    fault = chosen.random()
    if fault < 0.1:
        frames.append(frame(CONT, b"of nothing", key=key))
    elif fault < 0.2:
        frames.append(frame(CLOSE, close_payload(1000, "bye"), key=key))
    elif fault < 0.3:
        frames.append(frame(TEXT, b"x", rsv=chosen.randrange(1, 8), key=key))
    return b"".join(frames)


def cut(chosen: random.Random, data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = chosen.choice([1, 2, chosen.randrange(1, 100), chosen.randrange(1, 4000)])
        yield data[at : at + size]
        at += size


@pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
@pytest.mark.parametrize("limits", [Limits(), Limits(max_size=4000, max_fragments=3)])
def test_what_is_put_in_place_gives_the_same_events(
    drive: ModuleType, limits: Limits, client: bool
) -> None:
    put = 0
    for seed in range(400):
        chosen = random.Random(seed)
        data = stream_of(chosen, None if client else KEY)
        expected, _ = drive.read_with_budget([data], limits, 1000, client)
        assert drive.read_with_budget(bytewise(data), limits, 1000, client)[0] == expected, seed
        for least in (1, 100):
            found, in_place, _ = drive.read_in_place(cut(chosen, data), limits, least, client)
            put += in_place
            assert found == expected, (seed, least)
    assert put > 100_000


@pytest.mark.parametrize("kind", [TEXT, BINARY])
@pytest.mark.parametrize("step", [1000, 4099, 100_000, 10**9])
def test_a_long_payload_put_in_place_is_whole(drive: ModuleType, kind: int, step: int) -> None:
    data = ("aé€😀" * 120_000).encode() if kind == TEXT else random.Random(1).randbytes(1_200_003)
    # The key as an integer masks faster.
    stream = build_frame(kind, data, mask=KEY) + build_frame(TEXT, "next", mask=KEY)
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
    found, in_place, _ = drive.read_in_place(pieces, Limits(max_size=None))
    assert [event for event, _ in found] == [kind, TEXT]
    assert found[0][1] == (data.decode() if kind == TEXT else data)
    assert found[1][1] == "next"
    assert in_place > 0 or step > len(stream)


def test_a_fault_in_text_is_told_as_soon_as_it_is_in_place(drive: ModuleType) -> None:
    stream = build_frame(TEXT, b"a" * 100_000 + b"\xff" + b"a" * 100_000, mask=KEY)
    for end, expected in ((100_014, []), (100_015, [(-2, "INVALID_UTF8")])):
        found, _, _ = drive.read_in_place([stream[:1000], stream[1000:end]], Limits())
        assert found == expected


@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("step", [1000, 16_000, 65_536, 200_000])
def test_what_is_reserved_is_twice_what_has_arrived_and_a_read_at_most(
    drive: ModuleType, fin: bool, step: int
) -> None:
    stream = build_frame(BINARY, bytes(4_000_000), fin=fin, mask=KEY)
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
    _, in_place, excess = drive.read_in_place(pieces, Limits(max_size=None))
    assert in_place > 3_000_000
    assert excess <= READ_AT_ONCE


# --------------------------------------------------------------------------- short messages


SHORT: list[tuple[str, list[bytes]]] = [
    ("whole", [frame(TEXT, "a"), frame(BINARY, b"b" * 125), frame(TEXT, ""), frame(BINARY)]),
    ("not ASCII", [frame(TEXT, "é€😀"), frame(TEXT, b"\xff")]),
    ("not short", [frame(TEXT, "a" * 126), frame(TEXT, "b")]),
    ("within a message", [frame(TEXT, "a", fin=False), frame(TEXT, "b")]),
    ("continued", [frame(TEXT, "a", fin=False), frame(CONT, "b"), frame(TEXT, "c")]),
    ("reserved bit", [frame(TEXT, "a", rsv=4)]),
    ("reserved opcode", [frame(3, "a")]),
    ("not masked", [frame(TEXT, "a"), frame(TEXT, "b", key=None)]),
    ("too long", [frame(TEXT, "12345678"), frame(BINARY, b"123456789")]),
    ("length not minimal", [frame(TEXT, "a", length=b"\x7e\x00\x01")]),
    ("control", [frame(PING, b"x"), frame(TEXT, "a"), frame(CLOSE, close_payload(1000))]),
]


@pytest.mark.parametrize("frames", [frames for _, frames in SHORT], ids=[name for name, _ in SHORT])
@pytest.mark.parametrize("budget", [0, 1, 2, 1000])
def test_short_messages_are_read_by_the_rules_of_all_others(
    drive: ModuleType, frames: list[bytes], budget: int
) -> None:
    stream = b"".join(frames)
    for limits in (Limits(), Limits(max_size=8), Limits(max_size=0)):
        # Byte by byte no frame is whole when its header is read.
        expected = drive.read_with_budget(bytewise(stream), limits, budget)
        assert drive.read_with_budget([stream], limits, budget) == expected
        assert drive.read_with_budget(frames, limits, budget) == expected


def test_short_messages_of_a_server_are_not_masked(drive: ModuleType) -> None:
    frames = [frame(TEXT, "a", key=None), frame(BINARY, b"b", key=None), frame(TEXT, "c")]
    expected = ([(TEXT, "a"), (BINARY, b"b"), (-2, "MASKED_FRAME")], 8)
    assert drive.read_with_budget(frames, Limits(), 10, True) == expected
    assert drive.read_with_budget([b"".join(frames)], Limits(), 10, True) == expected
    assert drive.read_with_budget(bytewise(b"".join(frames)), Limits(), 10, True) == expected
