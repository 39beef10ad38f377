"""The server's log: its set-up, and text from peers made harmless."""

from __future__ import annotations

import logging

__all__ = ["access_log", "configure_logging", "log", "peer_name", "printable"]

log = logging.getLogger("fastws")
"""What the server says about itself and about failures."""

access_log = logging.getLogger("fastws.access")
"""One line for each request, refusal and connection."""


def printable(text: str) -> str:
    """Return ``text`` with everything escaped that could forge a log line or drive a terminal.

    These are control characters, line separators of any kind, lone surrogates and the quotes that
    surround such text in a line.
    """
    if text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(
        character
        if character.isprintable() and character not in '"\\'
        else character.encode("unicode_escape").decode("ascii")
        if character != '"'
        else '\\"'
        for character in text
    )


def peer_name(address: tuple[str, int] | None) -> str:
    """A peer's address for a line; ``-`` if it has none, as on a Unix socket."""
    if address is None:
        return "-"
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def configure_logging(level: str) -> None:
    """Set the level, and write to standard error unless the program has set logging up itself."""
    log.setLevel(level.upper())
    if not log.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
