"""How values are written: what each kind of option reads, shows and refuses."""

from __future__ import annotations

from typing import Any

import pytest

from fastws.options import (
    FLAG,
    HEADERS,
    NAMES,
    ORIGINS,
    SWITCH,
    TEXT,
    ConfigError,
    Kind,
    Option,
    choice,
    duration,
    number,
    size,
)


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
    assert str(written) in sentence or repr(written) in sentence
    assert sentence.endswith(f": expected {kind.accepts}")
    assert "\n" not in sentence.replace(str(written), "")


@pytest.mark.parametrize(
    ("kind", "written", "meant"),
    [
        (number(0, 65535), "8000", 8000),
        (number(0, 65535), 65535, 65535),
        (number(1, nothing="auto"), "auto", None),
        (number(1, nothing="auto"), None, None),
        (choice("on", "off", synonyms={True: "on"}), True, "on"),
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


def test_an_option_is_a_keyword_with_underscores() -> None:
    option = Option("ws-max-size", size(), 65536, "queue", "Help")
    assert option.keyword == "ws_max_size"
    assert option.default_text == "64KiB"
