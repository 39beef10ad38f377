"""Options that contradict each other: a sentence that names both."""

from __future__ import annotations

import ssl

import pytest

from fastws import FastWS
from fastws.config import Config, ConfigError


def make_context() -> ssl.SSLContext:
    raise AssertionError("only its name is looked at")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"ws_write_limit": "2MiB"},
            "ws-write-limit is 2MiB: expected at most ws-max-backpressure, which is 1MiB",
        ),
        (
            {"max_header_size": "4KiB"},
            "max-header-line is 8KiB: expected at most max-header-size, which is 4KiB",
        ),
        (
            {"drain_window": "40s"},
            "drain-window is 40s: expected at most timeout-graceful-shutdown, which is 30s",
        ),
        (
            {"uds": "chat.sock", "fd": 3},
            "uds is chat.sock and fd is 3: expected at most one of them",
        ),
        (
            {"reload": True, "workers": 2},
            "reload is on and workers is 2: expected 1 worker while files are watched",
        ),
        (
            {"metrics": "/status", "health": "/status"},
            "metrics and health are both /status: expected different paths",
        ),
        (
            {"workers": 4, "ssl_context_factory": make_context},
            "workers is 4: expected ssl-context-factory given as module:attribute, which another "
            "process can import",
        ),
    ],
)
def test_a_contradiction_gets_a_sentence(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Config.from_options("chat:app", options)
    assert str(raised.value) == sentence
    # What was said about them can be added.
    assert set(raised.value.options) & options.keys()


@pytest.mark.parametrize(
    "options",
    [
        {"ws_write_limit": "1MiB"},
        {"drain_window": "40s", "timeout_graceful_shutdown": "none"},
        {"metrics": "/metrics", "health": "/health"},
        {"workers": 4, "ssl_context_factory": "tls:make"},
        {"ssl_context_factory": make_context},
        {"uds": "chat.sock"},
    ],
)
def test_what_goes_together(options: dict[str, object]) -> None:
    Config.from_options("chat:app", options)


@pytest.mark.parametrize(
    ("options", "start"),
    [({"workers": 4}, "workers is 4"), ({"reload": "on"}, "reload is on")],
)
def test_other_processes_are_given_nothing_that_lives_in_this_one(
    options: dict[str, object], start: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        Config.from_options(FastWS(), options)
    assert str(raised.value) == (
        f"{start}: expected an application given as module:attribute, which another process can "
        "import"
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with pytest.raises(ConfigError) as raised:
        Config.from_options("chat:app", options, ssl_context=context)
    assert str(raised.value) == (
        f"{start}: expected ssl-certfile or ssl-context-factory in the place of ssl_context, "
        "which another process cannot be given"
    )
