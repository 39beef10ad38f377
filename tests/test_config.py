"""The table of options, and what is derived from it."""

from __future__ import annotations

import dataclasses

import pytest

from fastws.config import (
    GROUPS,
    OPTIONS,
    Config,
    ConfigError,
    options_from_environment,
    options_markdown,
)
from fastws.limits import DEFAULT_LIMITS, DeflateOptions, Limits


def config(**options: object) -> Config:
    return Config.from_options("chat:app", options)


def test_the_defaults_are_those_of_the_limits() -> None:
    assert config().limits == DEFAULT_LIMITS
    assert config(ws_per_message_deflate="dedicated").deflate == DeflateOptions()
    assert config().deflate is None


def test_every_limit_is_an_option() -> None:
    declared = {field.metadata.get("limit") for field in dataclasses.fields(Config)} - {None}
    assert declared == {field.name for field in dataclasses.fields(Limits)}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_an_option_is_well_declared(option) -> None:  # type: ignore[no-untyped-def]
    assert option.group in GROUPS
    assert option.help
    assert not option.help.endswith(".")
    # The default is in its internal form already.
    assert option.parse(option.default) == option.default


def test_names_and_aliases_are_distinct() -> None:
    names = [name for option in OPTIONS for name in (option.name, *option.aliases)]
    assert len(set(names)) == len(names)


def test_options_are_parsed() -> None:
    made = config(ws_max_size="64KiB", ws_ping_interval="none", ws_close_timeout="500ms", port="0")
    assert made.limits.max_size == 65536
    assert made.limits.ping_interval is None
    assert made.limits.close_timeout == 0.5
    assert made.port == 0
    assert Config("chat:app", ws_max_size=65536).ws_max_size == 65536


@pytest.mark.parametrize("name", ["ws_max_size", "ws-max-size"])
def test_names_with_dashes_and_with_underscores(name: str) -> None:
    assert config(**{name: 1}).ws_max_size == 1


def test_an_alias() -> None:
    assert config(limit_concurrency=5).limit_connections == 5


@pytest.mark.parametrize(
    ("value", "mode"),
    [("off", None), (False, None), ("false", None), ("shared", "shared"), ("true", "dedicated")]
    + [(True, "dedicated"), ("dedicated", "dedicated")],
)
def test_compression_modes(value: object, mode: str | None) -> None:
    deflate = config(ws_per_message_deflate=value, ws_deflate_level="9").deflate
    if mode is None:
        assert deflate is None
    else:
        assert deflate == DeflateOptions(mode=mode, level=9)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"port": "http"}, "port is http: expected a whole number from 0 to 65535"),
        ({"port": 70000}, "port is 70000: expected a whole number from 0 to 65535"),
        (
            {"ws_max_size": "lots"},
            "ws-max-size is lots: expected a size such as 4096, 64KiB or 1MiB, at least 1, or none",
        ),
        (
            {"log_level": "loud"},
            "log-level is loud: expected critical, error, warning, info or debug",
        ),
        (
            {"shutdown_code": 1005},
            "shutdown-code is 1005: expected a close code: 1000-1003, 1007-1014 or 3000-4999",
        ),
        (
            {"ws_write_limit": "2MiB"},
            "ws-write-limit is 2MiB: expected at most ws-max-backpressure, which is 1MiB",
        ),
        (
            {"max_header_size": "4KiB"},
            "max-header-line is 8KiB: expected at most max-header-size, which is 4KiB",
        ),
        ({"ws_max_sice": 1}, "there is no option ws_max_sice: did you mean ws-max-size?"),
        ({"zzz": 1}, "there is no option zzz"),
    ],
)
def test_a_wrong_option_gets_a_sentence(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        config(**options)
    assert str(raised.value) == sentence


# Per route


def test_a_route_without_options_has_the_servers() -> None:
    made = config()
    assert made.for_route({}) is made


def test_a_route_takes_its_own_options() -> None:
    made = config(ws_max_size="64KiB", ws_max_queue=3)
    options = {"ws_max_size": "none", "ws_per_message_deflate": True, "ws_origins": "same"}
    route = made.for_route(options)
    assert route.limits == dataclasses.replace(made.limits, max_size=None)
    assert route.deflate == DeflateOptions()
    assert route.ws_origins == ("same",)
    assert made.deflate is None


def test_a_routes_options_are_worked_out_once() -> None:
    made = config()
    options = {"ws_max_size": 1}
    assert made.for_route(options) is made.for_route(options)
    assert made.for_route(options).limits is made.for_route(options).limits
    # An equal mapping is another route's.
    assert made.for_route({"ws_max_size": 1}) is not made.for_route(options)


def test_an_option_of_the_server_is_none_of_a_route() -> None:
    with pytest.raises(ConfigError, match=r"^port is an option of the server, not of a route$"):
        config().for_route({"port": 1})
    with pytest.raises(ConfigError, match=r"^there is no option size$"):
        config().for_route({"size": 1})
    with pytest.raises(ConfigError, match=r"^ws-max-size is big: expected"):
        config().for_route({"ws_max_size": "big"})


# The environment and the documentation


def test_the_environment() -> None:
    environ = {"FASTWS_PORT": "0", "FASTWS_WS_MAX_SIZE": "1KiB", "FASTWS_TEST_TIMEOUT": "5"}
    assert options_from_environment(environ) == {"port": 0, "ws_max_size": 1024}


def test_a_wrong_value_in_the_environment_names_its_variable() -> None:
    with pytest.raises(ConfigError) as raised:
        options_from_environment({"FASTWS_PORT": "x"})
    expected = "port is x: expected a whole number from 0 to 65535 (set by FASTWS_PORT)"
    assert str(raised.value) == expected


def test_the_documentation_has_every_option() -> None:
    table = options_markdown()
    for option in OPTIONS:
        row = next(
            line
            for line in table.splitlines()
            if line.startswith(f"| `--{option.name}") and line[len(f"| `--{option.name}")] in " `"
        )
        assert f"| `{option.default_text}` |" in row
        assert row.count("|") - row.count("\\|") == 5
    assert [line[4:] for line in table.splitlines() if line.startswith("###")] == list(
        GROUPS.values()
    )
