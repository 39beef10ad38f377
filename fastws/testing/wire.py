"""What came over the wire: frames, for assertions and for people."""

from __future__ import annotations

import linecache
import os
from collections.abc import Iterable
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from fastws.codes import Opcode

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "Frame",
    "message_count",
    "read_frames",
    "shown_bytes",
    "shown_frames",
    "status_line",
    "waits_at",
]

SHOWN = 10
"""Frames in a report, the latest."""

SHOWN_BYTES = 60
"""Bytes of a payload in a report."""

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + os.sep


@dataclass(frozen=True, repr=False)
class Frame:
    """A frame as the server sent it (RFC 6455 section 5.2).

    Parameters:
        opcode: its kind.
        payload: its bytes; compressed ones if ``rsv1`` is set (RFC 7692 section 7.2).
        fin: whether it is the last of its message.
        rsv1: whether the message that it begins is compressed.
    """

    opcode: Opcode
    payload: bytes
    fin: bool = True
    rsv1: bool = False

    @property
    def close_code(self) -> int | None:
        """The code of a CLOSE, if it has one."""
        if self.opcode is not Opcode.CLOSE or len(self.payload) < 2:
            return None
        return int.from_bytes(self.payload[:2], "big")

    @property
    def close_reason(self) -> str:
        """The reason of a CLOSE, ``""`` without one."""
        return self.payload[2:].decode("utf-8", "replace") if self.opcode is Opcode.CLOSE else ""

    def __str__(self) -> str:
        if self.opcode is Opcode.CLOSE:
            code = self.close_code
            reason = f" {self.close_reason!r}" if self.close_reason else ""
            return "CLOSE without a code" if code is None else f"CLOSE {code}{reason}"
        words: list[str] = [self.opcode.name]
        if not self.fin:
            words.append("(a fragment)")
        if self.rsv1:
            words.append(f"(compressed, {len(self.payload)} bytes)")
        elif self.opcode is Opcode.TEXT:
            words.append(shown_bytes(self.payload.decode("utf-8", "replace")))
        elif self.payload:
            words.append(shown_bytes(self.payload))
        return " ".join(words)

    def __repr__(self) -> str:
        return f"<Frame {self}>"


def shown_bytes(payload: str | bytes) -> str:
    """A payload for people, not the whole of it."""
    if len(payload) <= SHOWN_BYTES:
        return repr(payload)
    return f"{payload[:SHOWN_BYTES]!r}… ({len(payload)} in all)"


def read_frames(received: bytes | bytearray) -> tuple[list[Frame], bytes]:
    """The frames behind the head of the response, and what there is of one that is not complete."""
    head = received.find(b"\r\n\r\n")
    if head < 0 or not received.startswith(b"HTTP/1.1 101"):
        return [], b""
    frames: list[Frame] = []
    position = head + 4
    while True:
        frame, end = _read_frame(received, position)
        if frame is None:
            return frames, bytes(received[position:])
        frames.append(frame)
        position = end


def _read_frame(data: bytes | bytearray, start: int) -> tuple[Frame | None, int]:
    if len(data) < start + 2:
        return None, start
    first, length = data[start], data[start + 1] & 0x7F
    start += 2
    extra = {126: 2, 127: 8}.get(length, 0)
    if extra:
        if len(data) < start + extra:
            return None, start
        length = int.from_bytes(data[start : start + extra], "big")
        start += extra
    if len(data) < start + length:
        return None, start
    payload = bytes(data[start : start + length])
    frame = Frame(Opcode(first & 0x0F), payload, bool(first & 0x80), bool(first & 0x40))
    return frame, start + length


def message_count(frames: Iterable[Frame]) -> int:
    """How many messages these frames complete."""
    data = (Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION)
    return sum(frame.fin and frame.opcode in data for frame in frames)


def status_line(received: bytes | bytearray) -> str:
    """The first line of the server's response, ``""`` if there is none."""
    line, end, _ = bytes(received[:200]).partition(b"\r\n")
    return line.decode("latin-1") if end else ""


def shown_frames(frames: list[Frame], rest: bytes) -> str:
    """Frames for a report."""
    parts = [str(frame) for frame in frames[-SHOWN:]]
    if len(frames) > SHOWN:
        parts.insert(0, f"{len(frames) - SHOWN} earlier frames")
    if rest:
        parts.append(f"{len(rest)} bytes of a frame that is not complete")
    return ", ".join(parts) or "no frame"


def waits_at(task: asyncio.Task[Any]) -> str:
    """Where a task waits: a place in a file, and the line that stands there."""
    frames = list(_frames(task.get_coro()))
    # The program's own line says more than that of a library below it.
    own = [frame for frame in frames if not _is_library(frame.f_code.co_filename)]
    found = (own or frames)[-1:]
    if not found:
        return "in code that is not Python's"
    code, line = found[0].f_code, found[0].f_lineno
    path = os.path.relpath(code.co_filename)
    path = code.co_filename if path.startswith(os.pardir) else path
    text = linecache.getline(code.co_filename, line).strip()
    return f"{path}:{line}, in {code.co_name}: {text}"


def _frames(waiting: Any) -> Iterable[FrameType]:
    """The frames of a coroutine and of those that it awaits, the outermost first."""
    while waiting is not None:
        kind = "gi" if hasattr(waiting, "gi_frame") else "cr"
        frame = getattr(waiting, f"{kind}_frame", None)
        if frame is None:
            return
        yield frame
        waiting = waiting.gi_yieldfrom if kind == "gi" else waiting.cr_await


def _is_library(path: str) -> bool:
    return path.startswith((_PACKAGE, _LIBRARY)) or "site-packages" in path
