"""Text from peers in the log."""

from __future__ import annotations

import logging

import pytest

from fastws import logs
from fastws.logs import peer_name, printable


@pytest.mark.parametrize("text", ["", "/chat/room?x=1", "/größe/日本", "a b"])
def test_harmless_text_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", r"a\nb"),
        ("a\r\nb", r"a\r\nb"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x00\x7f\x9b", r"\x00\x7f\x9b"),
        ("\u2028\u202e", r"\u2028\u202e"),
        ("\ud800", r"\ud800"),
        ('say "hi"', r"say \"hi\""),
        ("back\\slash", r"back\\slash"),
    ],
)
def test_what_could_forge_a_line_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("address", "shown"),
    [(("10.0.0.1", 80), "10.0.0.1:80"), (("::1", 80), "[::1]:80"), (None, "-")],
)
def test_peers(address: tuple[str, int] | None, shown: str) -> None:
    assert peer_name(address) == shown


@pytest.fixture
def own_log(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """A logger in the place of the package's, without the handlers that pytest adds."""
    logger = logging.Logger("own")
    monkeypatch.setattr(logs, "log", logger)
    return logger


def test_set_up_happens_once_and_sets_the_level(own_log: logging.Logger) -> None:
    logs.configure_logging("warning")
    logs.configure_logging("debug")
    assert len(own_log.handlers) == 1
    assert own_log.level == logging.DEBUG


def test_a_programs_own_handlers_are_used(own_log: logging.Logger) -> None:
    handler = logging.NullHandler()
    own_log.addHandler(handler)
    logs.configure_logging("info")
    assert own_log.handlers == [handler]
