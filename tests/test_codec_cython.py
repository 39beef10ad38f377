"""The .pxd is usable from other Cython code: a module that cimports it is built and run."""

from __future__ import annotations

from types import ModuleType

import pytest

from fastws._codec import build_frame
from fastws.limits import Limits
from tests.cythonized import compile_module
from tests.wire import BINARY, CLOSE, CONT, PING, PONG, TEXT, bytewise, close_payload, frame

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
