"""The table of options, and what is derived from it."""

from __future__ import annotations

import dataclasses
import pickle
import ssl
import sys
from types import MappingProxyType

import pytest

from fastws.config import GROUPS, OPTIONS, Config, ConfigError, find_option
from fastws.kinds import TEXT
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
    # The default is in its internal form already, and is shown as it can be written.
    assert option.parse(option.default) == option.default
    if option.kind is not TEXT:  # An empty one is shown as "".
        assert option.parse(option.default_text) == option.default or option.kind.is_secret


def test_names_and_aliases_are_distinct() -> None:
    names = [name for option in OPTIONS for name in (option.name, *option.aliases)]
    assert len(set(names)) == len(names)
    variables = [variable for option in OPTIONS for variable in option.environment]
    assert len(set(variables)) == len(variables)


PER_ROUTE = """
    ws-max-size ws-max-fragments ws-max-queue ws-max-queue-bytes
    ws-write-limit ws-max-backpressure ws-write-timeout
    ws-ping-interval ws-ping-timeout ws-idle-timeout ws-accept-timeout ws-close-timeout
    ws-max-lifetime
    ws-per-message-deflate ws-deflate-threshold ws-deflate-window-bits ws-deflate-mem-level
    ws-deflate-level ws-deflate-library
    ws-origins ws-subprotocols
    limit-message-rate
"""


def test_what_is_about_one_connection_is_an_option_of_a_route() -> None:
    # Not ws-open-timeout: it is over before the route is known.
    assert {option.name for option in OPTIONS if option.per_route} == set(PER_ROUTE.split())


DEFAULTS = {
    "lifespan": "auto",
    "host": "127.0.0.1",
    "port": "8000",
    "backlog": "2048",
    "reuse-port": "auto",
    "workers": "1",
    "timeout-worker-healthcheck": "5s",
    "loop": "auto",
    "ws-max-size": "1MiB",
    "ws-max-fragments": "4096",
    "ws-max-queue": "16",
    "ws-max-queue-bytes": "1MiB",
    "ws-write-limit": "64KiB",
    "ws-max-backpressure": "1MiB",
    "ws-write-timeout": "30s",
    "ws-ping-interval": "20s",
    "ws-ping-timeout": "20s",
    "ws-idle-timeout": "none",
    "ws-open-timeout": "10s",
    "ws-accept-timeout": "30s",
    "ws-close-timeout": "10s",
    "ws-max-lifetime": "none",
    "ws-per-message-deflate": "off",
    "ws-deflate-threshold": "1KiB",
    "ws-deflate-window-bits": "12",
    "ws-deflate-mem-level": "5",
    "ws-deflate-level": "1",
    "ws-deflate-library": "zlib",
    "limit-connections": "auto",
    "limit-connections-per-ip": "none",
    "limit-message-rate": "none",
    "header-read-timeout": "10s",
    "max-header-line": "8KiB",
    "max-header-count": "128",
    "max-header-size": "32KiB",
    "timeout-graceful-shutdown": "30s",
    "shutdown-code": "1012",
    "timeout-keep-alive": "5s",
    "forwarded-allow-ips": "127.0.0.1",
    "server-header": "off",
    "date-header": "on",
    "ssl-min-version": "1.2",
    "ssl-handshake-timeout": "10s",
    "log-level": "info",
    "log-format": "text",
    "access-log": "on",
}


@pytest.mark.parametrize(("name", "shown"), DEFAULTS.items())
def test_the_defaults_that_users_rely_on(name: str, shown: str) -> None:
    assert find_option(name).default_text == shown


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


def test_the_library_that_compresses() -> None:
    made = config(ws_per_message_deflate="shared", ws_deflate_library="zlib-ng")
    assert made.deflate == DeflateOptions(mode="shared", library="zlib-ng")
    route = config().for_route({"ws_per_message_deflate": True, "ws_deflate_library": "zlib-ng"})
    assert route.deflate == DeflateOptions(library="zlib-ng")


NO_ZLIB_NG = (
    r"^ws-deflate-library is zlib-ng, which needs the package zlib-ng, .*: install "
    r"fastws\[fast-deflate\] .*, or choose zlib$"
)


def test_a_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zlib_ng.zlib_ng", None)
    assert config(ws_per_message_deflate="shared", ws_deflate_library="zlib").deflate is not None
    with pytest.raises(ConfigError, match=NO_ZLIB_NG) as raised:
        config(ws_deflate_library="zlib-ng")
    assert raised.value.options == ("ws_deflate_library",)
    with pytest.raises(ConfigError, match=NO_ZLIB_NG):
        config().for_route({"ws_deflate_library": "zlib-ng"})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"port": "http"}, "port is http: expected a whole number from 0 to 65535"),
        (
            {"ws_deflate_library": "zopfli"},
            "ws-deflate-library is zopfli: expected zlib or zlib-ng",
        ),
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
        ({"ws_max_sice": 1}, "there is no option ws_max_sice: did you mean ws-max-size?"),
        ({"zzz": 1}, "there is no option zzz"),
        (
            {"limit_connections": 1, "limit_concurrency": 2},
            "limit-connections is given twice: expected one value",
        ),
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


def test_the_servers_options_hold_for_a_route_together_with_its_own() -> None:
    with pytest.raises(ConfigError, match=r"^ws-write-limit is 2MiB: expected at most ws-max-back"):
        config().for_route({"ws_write_limit": "2MiB"})


# For another process


EVERYTHING: dict[str, object] = {
    "host": "::1",
    "uds_permissions": 0o600,
    "ws_max_size": None,
    "ws_ping_interval": 0.25,
    "ws_origins": ["https://a.example", "same"],
    "limit_connections": 10,
    "header": {"X-A": "b"},
    "proxy_headers": False,
    "ssl_certfile": "cert.pem",
    "ssl_keyfile_password": "secret",
    "ssl_context_factory": "tls:make",
    "workers": 4,
}


def test_another_process_gets_the_same_options() -> None:
    made = config(**EVERYTHING)
    assert Config.from_options(made.app, made.to_options()) == made
    assert made.to_options().keys() == EVERYTHING.keys()
    assert config().to_options() == {}


def test_a_configuration_is_pickled_without_what_was_worked_out_from_it() -> None:
    made = config(**EVERYTHING)
    made.for_route(MappingProxyType({"ws_max_size": 1}))
    assert made.limits.max_size is None
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert again.limits == made.limits


def test_a_context_is_not_pickled() -> None:
    made = Config("chat:app", ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
    with pytest.raises(TypeError, match="give ssl_certfile, or ssl_context_factory"):
        pickle.dumps(made)


def test_a_configuration_shows_no_secrets() -> None:
    assert "secret" not in repr(config(**EVERYTHING))
