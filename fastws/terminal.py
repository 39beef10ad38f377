"""How ``fastws connect`` shows messages and asks for them: on a terminal, or as plain lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from prompt_toolkit.formatted_text import StyleAndTextTuples
    from prompt_toolkit.history import History

__all__ = ["PlainScreen", "Screen", "Terminal", "escaped", "hex_dump"]

MOST_DUMPED = 512
"""Bytes of one message that are shown."""

_STYLES = {
    "time": "fg:ansibrightblack",
    "sent": "fg:ansicyan",
    "received": "fg:ansigreen",
    "note": "fg:ansiyellow",
    "error": "fg:ansired",
}


def escaped(text: str) -> str:
    """A peer's text with everything escaped that could drive a terminal, but for line ends.

    That are control characters, and what changes the direction of writing or is not there to see.
    A backslash stands for itself, so that JSON stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def hex_dump(data: bytes, most: int = MOST_DUMPED) -> Iterator[str]:
    """Lines of 16 bytes: their place, in hexadecimal digits, and as ASCII."""
    for start in range(0, min(len(data), most), 16):
        row = data[start : min(start + 16, most)]
        digits = " ".join((row[:8].hex(" "), row[8:].hex(" "))).strip()
        plain = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        yield f"{start:08x}  {digits:<47}  |{plain}|"
    if len(data) > most:
        yield f"… and {len(data) - most} more bytes"


class Screen(Protocol):
    """Where messages, and what happens to the connection, are shown."""

    def sent(self, message: str | bytes) -> None: ...
    def received(self, message: str | bytes) -> None: ...
    def note(self, text: str) -> None: ...
    def error(self, text: str) -> None: ...


class PlainScreen:
    """For scripts: the messages received to standard output, one a line; the rest to standard
    error. A binary message is shown as the command that sends it, ``/hex 01ff``.

    Parameters:
        quiet: leaves out the notes.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        # Into a file or a pipe texts go as they are; on a terminal they must not act.
        self._safe = not sys.stdout.isatty()

    def sent(self, message: str | bytes) -> None:
        """Nothing: whoever wrote it has it."""

    def received(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            message = f"/hex {message.hex()}"
        line = message if self._safe else escaped(message)
        sys.stdout.buffer.write(line.encode("utf-8") + b"\n")
        # Each at once: the reader of a pipe may be about to answer.
        sys.stdout.buffer.flush()

    def note(self, text: str) -> None:
        if not self._quiet:
            self.error(text)

    def error(self, text: str) -> None:
        print(escaped(text), file=sys.stderr, flush=True)


class Terminal:
    """A prompt with history, and coloured lines above it.

    Raises:
        ImportError: prompt_toolkit is not installed.
    """

    def __init__(self) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.styles import Style

        self._session: PromptSession[str] = PromptSession(
            history=_history(), interrupt_exception=EOFError
        )
        self._style = Style.from_dict(_STYLES)

    def raw_mode(self) -> AbstractContextManager[None]:
        """For the length of a conversation: what is typed between two prompts waits for the next
        one. Otherwise a Ctrl-D would be lost in between."""
        mode: AbstractContextManager[None] = self._session.app.input.raw_mode()
        return mode

    async def ask(self) -> str:
        """The next line.

        Raises:
            EOFError: Ctrl-D, or Ctrl-C.
        """
        line: str = await self._session.prompt_async("> ", handle_sigint=False)
        return line

    def sent(self, message: str | bytes) -> None:
        # The prompt has left a text where it was typed.
        if isinstance(message, bytes):
            self._show("sent", ">", message)

    def received(self, message: str | bytes) -> None:
        self._show("received", "<", message)

    def note(self, text: str) -> None:
        self._show("note", "-", text)

    def error(self, text: str) -> None:
        self._show("error", "!", text)

    def _show(self, kind: str, sign: str, message: str | bytes) -> None:
        if isinstance(message, bytes):
            lines = [f"{len(message)} bytes", *hex_dump(message)]
        else:
            lines = escaped(message).split("\n")
        time = datetime.now().strftime("%H:%M:%S.%f")[:-3]
        parts: StyleAndTextTuples = [
            ("class:time", time),
            (f"class:{kind}", f" {sign} {lines[0]}"),
        ]
        indent = " " * (len(time) + 3)
        parts += [(f"class:{kind}", f"\n{indent}{line}") for line in lines[1:]]
        self._print(parts)

    def _print(self, parts: StyleAndTextTuples) -> None:
        from prompt_toolkit.renderer import print_formatted_text

        # Above the prompt, without the detour that prompt_toolkit's own functions for that take:
        # they put the terminal out of raw mode for a moment, and a Ctrl-D typed in it is lost.
        prompt = self._session.app
        if prompt.is_running:
            prompt.renderer.erase()
        print_formatted_text(prompt.output, [*parts, ("", "\n")], self._style)
        prompt.output.flush()
        if prompt.is_running:
            prompt.invalidate()


def _history() -> History:
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    try:
        path = _history_path()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What was typed may be secret.
        path.touch(mode=0o600)
    except (OSError, RuntimeError):
        # No home, or one that cannot be written to: remember for as long as this runs.
        return InMemoryHistory()
    return FileHistory(path)


def _history_path() -> Path:
    """Where history is kept (XDG Base Directory Specification; LOCALAPPDATA on Windows)."""
    base = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_STATE_HOME")
    directory = Path(base) if base else Path.home() / ".local" / "state"
    return directory / "fastws" / "connect-history"
