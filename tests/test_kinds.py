"""How values are written: what each kind of option reads, shows and refuses."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from fastws.kinds import (
    AUTO_SWITCH,
    CLOSE_CODE,
    DIRECTORY,
    FACTORY,
    FLAG,
    HEADERS,
    NAMES,
    ORIGINS,
    PATH,
    PATHS,
    PEERS,
    PERMISSIONS,
    SECRET,
    SWITCH,
    TEXT,
    TEXTS,
    URL_PATH,
    choice,
    duration,
    number,
    size,
)
from fastws.options import ConfigError, Kind, Option


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("0", 0),
        ("1000", 1000),
        (1000, 1000),
        ("64KiB", 64 * 1024),
        ("64 kib", 64 * 1024),
        ("1.5KiB", 1536),
        ("1MiB", 1024**2),
        ("2GiB", 2 * 1024**3),
        ("64KB", 64_000),
        ("1MB", 10**6),
        ("1GB", 10**9),
        ("12B", 12),
        (" 12 ", 12),
    ],
)
def test_sizes(written: object, meant: int) -> None:
    parsed = size().parse(written)
    assert parsed == meant
    assert type(parsed) is int


@pytest.mark.parametrize(
    ("written", "meant"),
    [("20s", 20), ("20", 20), (20, 20), (0.5, 0.5), ("500ms", 0.5), ("2m", 120), ("2min", 120)]
    + [("1h", 3600), ("1.5 s", 1.5)],
)
def test_times(written: object, meant: float) -> None:
    assert duration().parse(written) == pytest.approx(meant)


@pytest.mark.parametrize("written", [None, "none", "None", " none "])
@pytest.mark.parametrize("kind", [size(optional=True), duration(optional=True)])
def test_none_lifts_a_limit_where_that_is_allowed(kind: Kind, written: object) -> None:
    assert kind.parse(written) is None


NO_QUANTITY: list[object] = ["", "x", "-1", "1e3", "1_000", "٣", "1 2", "0x10", True, [], b"1"]


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        *((kind, written) for kind in (size(), duration()) for written in NO_QUANTITY),
        (size(), None),
        (size(), "none"),
        (size(), "0.5B"),
        (size(), "20s"),
        (size(), -1),
        (size(), float("nan")),
        (size(), 1.5),
        (size(least=1), 0),
        (duration(), None),
        (duration(), "none"),
        (duration(), "0s"),
        (duration(), "64KiB"),
        (duration(), float("inf")),
        (number(1, 9), 0),
        (number(1, 9), 10),
        (number(1, 9), "10"),
        (number(1, 9), "1.0"),
        (number(1, 9), 1.0),
        (number(1, 9), True),
        (number(1, 9), None),
        (number(0), "1_0"),
        (number(0), " 1"),
        (number(0), "٣"),
        (choice("on", "off"), "of"),
        (choice("on", "off"), 1),
        (choice("on", "off"), []),
        (SWITCH, "maybe"),
        (SWITCH, 1),
        (SWITCH, None),
        (FLAG, "x"),
        (TEXT, 1),
        (TEXT, None),
        (ORIGINS, ""),
        (ORIGINS, "*"),
        (ORIGINS, "example.org"),
        (ORIGINS, "https://example.org/"),
        (ORIGINS, "https://example.org/path"),
        (ORIGINS, "any,https://example.org"),
        (ORIGINS, ["https://example.org", 1]),
        (ORIGINS, 1),
        (ORIGINS, []),
        (choice("none", "optional", synonyms={"1": "optional"}), True),
        (AUTO_SWITCH, 1),
        (PATH, ""),
        (PATH, 1),
        (DIRECTORY, None),
        (DIRECTORY, ""),
        (PATHS, [1]),
        (PATHS, ""),
        (PEERS, "10.0.0.1/8"),
        (PEERS, "localhost"),
        (PERMISSIONS, "669"),
        (PERMISSIONS, 0o1777),
        (PERMISSIONS, True),
        (URL_PATH, "metrics"),
        (URL_PATH, "/a b"),
        (URL_PATH, "/{name}"),
        (URL_PATH, 1),
        (FACTORY, "make"),
        (FACTORY, 1),
        (CLOSE_CODE, 1005),
        (CLOSE_CODE, "1e3"),
        (NAMES, "a b"),
        (NAMES, "a,a"),
        (NAMES, "a,"),
        (HEADERS, "no colon"),
        (HEADERS, "bad name: x"),
        (HEADERS, "X-A: b\r\nX-C: d"),
        (HEADERS, [("X-A", "b\n")]),
        (HEADERS, [("X-A", 1)]),
        (HEADERS, [1]),
        (HEADERS, 1),
        (HEADERS, "Connection: close"),
        (HEADERS, "Content-Length: 3"),
        (HEADERS, "Sec-WebSocket-Protocol: chat"),
    ],
)
def test_what_is_refused(kind: Kind, written: object) -> None:
    option = Option("some-option", kind, None, "logs", "Help")
    with pytest.raises(ConfigError) as raised:
        option.parse(written)
    sentence = str(raised.value)
    assert sentence.startswith("some-option is ")
    assert (str(written) or "empty") in sentence or repr(written) in sentence
    assert sentence.endswith(f": expected {kind.accepts}")
    assert "\n" not in sentence.replace(str(written), "")


@pytest.mark.parametrize(
    ("kind", "written", "meant"),
    [
        (number(0, 65535), "8000", 8000),
        (number(0, 65535), 65535, 65535),
        (number(1, nothing="auto"), "auto", None),
        (number(1, nothing="auto"), None, None),
        (choice("on", "off", synonyms={"true": "on"}), True, "on"),
        (choice("1.2", "1.3"), 1.2, "1.2"),
        (choice("none", "required", synonyms={"2": "required"}), ssl.CERT_REQUIRED, "required"),
        (AUTO_SWITCH, False, "off"),
        (AUTO_SWITCH, "Auto", "auto"),
        (PATH, "None", None),
        (PATH, Path("a") / "b", str(Path("a") / "b")),
        (DIRECTORY, "none", "none"),
        (DIRECTORY, Path("."), "."),
        (PATHS, Path("a"), ("a",)),
        (PATHS, [Path("a"), "b"], ("a", "b")),
        (PATHS, "none", ()),
        (TEXTS, "*.py, *.html", ("*.py", "*.html")),
        (PEERS, "10.0.0.0/8,::1,unix,*", ("10.0.0.0/8", "::1", "unix", "*")),
        (PEERS, "none", ()),
        (PERMISSIONS, "660", 0o660),
        (PERMISSIONS, 0o660, 0o660),
        (URL_PATH, "/metrics", "/metrics"),
        (URL_PATH, "none", None),
        (FACTORY, "package.module:make", "package.module:make"),
        (FACTORY, ssl.create_default_context, ssl.create_default_context),
        (CLOSE_CODE, "4000", 4000),
        (choice("on", "off"), " ON ", "on"),
        (SWITCH, "on", True),
        (SWITCH, "Yes", True),
        (SWITCH, True, True),
        (SWITCH, "off", False),
        (SWITCH, "0", False),
        (TEXT, "", ""),
        (ORIGINS, None, ("any",)),
        (ORIGINS, "same", ("same",)),
        (ORIGINS, "null,same", ("null", "same")),
        (
            ORIGINS,
            "https://a.example, http://[::1]:8000",
            ("https://a.example", "http://[::1]:8000"),
        ),
        (ORIGINS, ["https://a.example"], ("https://a.example",)),
        (NAMES, None, ()),
        (NAMES, "chat, chat.v2", ("chat", "chat.v2")),
        (NAMES, ["chat"], ("chat",)),
        (HEADERS, None, ()),
        (HEADERS, "none", ()),
        (HEADERS, "X-A: b:c", (("X-A", "b:c"),)),
        (HEADERS, ("X-A:b", "X-C:d"), (("X-A", "b"), ("X-C", "d"))),
        (HEADERS, {"X-A": "b"}, (("X-A", "b"),)),
        (HEADERS, [("X-A", "b")], (("X-A", "b"),)),
    ],
)
def test_what_is_read(kind: Kind, written: object, meant: object) -> None:
    assert kind.parse(written) == meant


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        (size(), 0, "0"),
        (size(), 1000, "1000"),
        (size(), 65536, "64KiB"),
        (size(), 3 * 1024**2, "3MiB"),
        (size(), 1024**3, "1GiB"),
        (size(optional=True), None, "none"),
        (duration(), 20.0, "20s"),
        (duration(), 0.5, "0.5s"),
        (duration(optional=True), None, "none"),
        (duration(), 12345678.0, "12345678s"),
        (duration(), 0.000001, "0.000001s"),
        (PATH, None, "none"),
        (DIRECTORY, "src", "src"),
        (PATHS, ("a", "b"), "a,b"),
        (TEXTS, (), "none"),
        (PEERS, ("unix",), "unix"),
        (PERMISSIONS, 0o44, "044"),
        (URL_PATH, None, "none"),
        (FACTORY, "a:b", "a:b"),
        (FACTORY, None, "none"),
        (number(1, nothing="auto"), None, "auto"),
        (number(1), 7, "7"),
        (choice("on", "off"), "on", "on"),
        (SWITCH, True, "on"),
        (NAMES, (), "none"),
        (NAMES, ("a", "b"), "a,b"),
        (ORIGINS, ("https://a.example", "same"), "https://a.example,same"),
    ],
)
def test_a_value_is_shown_as_it_can_be_written(kind: Kind, value: Any, shown: str) -> None:
    assert kind.show(value) == shown
    assert kind.parse(shown) == value


def test_an_empty_text_and_an_empty_list_of_headers_are_visible() -> None:
    assert TEXT.show("") == '""'
    assert HEADERS.show(()) == "none"
    assert HEADERS.show((("X-A", "b"),)) == "X-A:b"


def test_a_secret_is_never_shown() -> None:
    assert SECRET.show("hunter2") == "(not shown)"
    assert SECRET.show(None) == "none"
    with pytest.raises(ConfigError) as raised:
        Option("some-password", SECRET, None, "tls", "Help").parse(12345)
    assert str(raised.value) == "some-password is something else: expected a text"


def test_a_function_is_shown_by_its_name() -> None:
    assert FACTORY.show(ssl.create_default_context) == "create_default_context"
