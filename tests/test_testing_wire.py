"""Frames for assertions and for people."""

from __future__ import annotations

import asyncio
import struct

import pytest

from fastws.codes import Opcode
from fastws.testing.wire import (
    Frame,
    message_count,
    read_frames,
    shown_frames,
    status_line,
    waits_at,
)
from tests.support import run

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_a_frame_is_read_when_all_of_it_is_there(size: int) -> None:
    if size > 65535:
        length = b"\x7f" + struct.pack(">Q", size)
    elif size > 125:
        length = b"\x7e" + struct.pack(">H", size)
    else:
        length = bytes([size])
    frame = b"\x82" + length + bytes(size)
    for end in sorted({0, 1, 2, 3, 9, len(frame) - 1} & set(range(len(frame)))):
        assert read_frames(HEAD + frame[:end]) == ([], frame[:end])
    whole = [Frame(Opcode.BINARY, bytes(size))]
    assert read_frames(HEAD + frame) == (whole, b"")
    assert read_frames(HEAD + frame + b"\x89") == (whole, b"\x89")


@pytest.mark.parametrize("received", [b"", HEAD[:-1], b"HTTP/1.1 404 Not Found\r\n\r\n\x81\x00"])
def test_without_a_101_there_are_no_frames(received: bytes) -> None:
    assert read_frames(received) == ([], b"")


def test_frames_are_shown_in_a_line() -> None:
    frames = [
        Frame(Opcode.TEXT, b"a", fin=False),
        Frame(Opcode.CONTINUATION, b"b"),
        Frame(Opcode.TEXT, b"\xaa\x00", rsv1=True),
        Frame(Opcode.BINARY, b"x" * 100),
        Frame(Opcode.PING, b""),
        Frame(Opcode.PONG, b"p"),
        Frame(Opcode.CLOSE, b"\x03\xe8bye"),
        Frame(Opcode.CLOSE, b""),
    ]
    assert shown_frames(frames, b"\x81") == (
        "TEXT (a fragment) 'a', CONTINUATION b'b', TEXT (compressed, 2 bytes), "
        f"BINARY {b'x' * 60!r}… (100 in all), PING, PONG b'p', CLOSE 1000 'bye', "
        "CLOSE without a code, 1 bytes of a frame that is not complete"
    )
    assert message_count(frames) == 3
    assert shown_frames(12 * [Frame(Opcode.PING, b"")], b"").startswith("2 earlier frames, PING")
    assert shown_frames([], b"") == "no frame"
    assert repr(frames[4]) == "<Frame PING>"
    assert frames[4].close_reason == ""


def test_the_status_line_is_the_first() -> None:
    assert status_line(HEAD) == "HTTP/1.1 101 Switching Protocols"
    assert status_line(HEAD[:10]) == ""


def test_the_place_where_a_task_waits_is_the_programs_own_line() -> None:
    async def waits() -> None:
        await asyncio.wait_for(asyncio.sleep(60), 60)  # it waits

    async def finds() -> None:
        await waits()

    async def main() -> str:
        task = asyncio.create_task(finds())
        await asyncio.sleep(0)
        place = waits_at(task)
        task.cancel()
        return place

    place = run(main())
    assert "test_testing_wire.py:" in place
    assert place.endswith("in waits: await asyncio.wait_for(asyncio.sleep(60), 60)  # it waits")
