"""Where options come from: which source wins, and how an error says where a value was set."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fastws.config import ConfigError
from fastws.settings import (
    Given,
    Origin,
    Settings,
    config_from_keywords,
    load_settings,
    read_env_file,
    unknown_variables,
)


def load(directory: Path, environ: dict[str, str] | None = None, /, **typed: object) -> Settings:
    """The settings of a command in `directory`, of the application chat:app if none is typed."""
    typed.setdefault("app", "chat:app")
    return load_settings(typed, environ={} if environ is None else environ, directory=directory)


def write(directory: Path, *lines: str, name: str = "pyproject.toml") -> Path:
    path = directory / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# Precedence


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(
    tmp_path: Path,
) -> None:
    write(tmp_path, "[tool.fastws]", "port = 1", "workers = 1", 'host = "a"', "backlog = 1")
    environ = {"FASTWS_PORT": "2", "FASTWS_WORKERS": "2", "FASTWS_HOST": "b"}
    settings = load(tmp_path, environ, port="3", workers="3")
    config = settings.config
    assert (config.port, config.workers, config.host, config.backlog) == (3, 3, "b", 1)
    labels = [settings.origin(name).label for name in ("port", "host", "backlog", "loop")]
    assert labels == ["command line", "FASTWS_HOST", "pyproject.toml", "default"]


def test_what_a_command_means_is_behind_what_was_typed(tmp_path: Path) -> None:
    dev = Origin("fastws dev", "set by fastws dev")
    meant = {"log_level": Given("debug", dev), "port": Given(1, dev)}
    settings = load_settings(
        {"app": "chat:app", "port": "2"},
        meant=meant,
        environ={"FASTWS_LOG_LEVEL": "error"},
        directory=tmp_path,
    )
    assert (settings.config.log_level, settings.config.port) == ("debug", 2)
    assert settings.origin("log_level") == dev


@pytest.mark.parametrize(
    ("environ", "workers", "label"),
    [
        ({"WEB_CONCURRENCY": "3"}, 3, "WEB_CONCURRENCY"),
        ({"WEB_CONCURRENCY": "3", "FASTWS_WORKERS": "2"}, 2, "FASTWS_WORKERS"),
        ({"WEB_CONCURRENCY": ""}, 1, "default"),
        ({"WEB_CONCURRENCY": "3", "FASTWS_WORKERS": ""}, 3, "WEB_CONCURRENCY"),
    ],
)
def test_variables_of_other_programs(
    tmp_path: Path, environ: dict[str, str], workers: int, label: str
) -> None:
    settings = load(tmp_path, environ)
    assert settings.config.workers == workers
    assert settings.origin("workers").label == label


def test_an_alias_is_a_variable_and_a_key_too(tmp_path: Path) -> None:
    assert load(tmp_path, {"FASTWS_LIMIT_CONCURRENCY": "5"}).config.limit_connections == 5
    write(tmp_path, "[tool.fastws]", "limit-concurrency = 6")
    assert load(tmp_path).config.limit_connections == 6


def test_a_wrong_value_that_another_one_overrides_does_not_matter(tmp_path: Path) -> None:
    assert load(tmp_path, {"WEB_CONCURRENCY": "auto"}, workers="2").config.workers == 2


def test_the_application_comes_from_the_same_places(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^there is nothing to serve: name an application"):
        load_settings({}, environ={}, directory=tmp_path)
    write(tmp_path, "[tool.fastws]", 'app = "a:app"')
    assert load_settings({}, environ={}, directory=tmp_path).config.app == "a:app"
    environ = {"FASTWS_APP": "b:app"}
    settings = load_settings({}, environ=environ, directory=tmp_path)
    assert (settings.config.app, settings.origin("app").label) == ("b:app", "FASTWS_APP")


# Errors


@pytest.mark.parametrize(
    ("environ", "typed", "where"),
    [
        ({}, {"port": "http"}, "set on the command line"),
        ({"FASTWS_PORT": "http"}, {}, "set by FASTWS_PORT"),
    ],
)
def test_an_error_says_where_the_value_was_set(
    tmp_path: Path, environ: dict[str, str], typed: dict[str, object], where: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, environ, **typed)
    expected = f"port is http: expected a whole number from 0 to 65535 ({where})"
    assert str(raised.value) == expected


def test_a_contradiction_says_where_each_of_them_was_set(tmp_path: Path) -> None:
    path = write(tmp_path, "[tool.fastws]", "fd = 3")
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, {"FASTWS_UDS": "chat.sock"})
    assert str(raised.value) == (
        "uds is chat.sock and fd is 3: expected at most one of them "
        f"(uds set by FASTWS_UDS, fd set by tool.fastws.fd in {path})"
    )
    with pytest.raises(ConfigError, match=r"one of them \(set on the command line\)$"):
        load(tmp_path, uds="chat.sock", fd="4")
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, max_header_size="4KiB")
    assert str(raised.value).endswith(
        "(max-header-line by default, max-header-size set on the command line)"
    )


def test_variables_that_set_nothing_are_told() -> None:
    environ = {"FASTWS_WS_MAX_SISE": "1", "FASTWS_PORT": "1", "FASTWS_ZZZ": "1", "OTHER": "1"}
    assert list(unknown_variables(environ)) == [
        "FASTWS_WS_MAX_SISE sets no option: did you mean FASTWS_WS_MAX_SIZE?",
        "FASTWS_ZZZ sets no option",
    ]


# pyproject.toml


def test_the_nearest_file_that_has_the_table(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    write(tmp_path, "[tool.fastws]", "port = 1")
    write(tmp_path / "a", "[tool.other]", "port = 2")
    assert load(below).config.port == 1
    write(below, "[tool.fastws]", "backlog = 3")
    config = load(below).config
    assert (config.port, config.backlog) == (8000, 3)


def test_values_as_the_file_has_them(tmp_path: Path) -> None:
    write(
        tmp_path,
        "[tool.fastws]",
        "ws_max_size = 1024",
        'ws-ping-interval = "none"',
        "ws-close-timeout = 1.5",
        "ws-per-message-deflate = true",
        'ws-origins = ["https://a.example", "same"]',
        "ssl-min-version = 1.3",
        "access-log = false",
        "reuse-port = true",
        "uds-permissions = 0o600",
        "[tool.fastws.header]",
        'X-A = "b"',
    )
    config = load(tmp_path).config
    assert config.ws_max_size == 1024
    assert config.ws_ping_interval is None
    assert config.ws_close_timeout == 1.5
    assert config.ws_per_message_deflate == "dedicated"
    assert config.ws_origins == ("https://a.example", "same")
    assert config.ssl_min_version == "1.3"
    assert config.access_log is False
    assert config.reuse_port == "on"
    assert config.uds_permissions == 0o600
    assert config.header == (("X-A", "b"),)


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    write(
        tmp_path,
        "[tool.fastws]",
        'app-dir = "src"',
        'ssl-certfile = "/etc/chat.pem"',
        'reload-dir = ["src", "pages"]',
        'log-config = "none"',
    )
    config = load(below).config
    assert config.app_dir == str(tmp_path / "src")
    assert config.ssl_certfile == "/etc/chat.pem"
    assert config.reload_dir == (str(tmp_path / "src"), str(tmp_path / "pages"))
    assert config.log_config is None
    # Where no other place can be meant they stay as they are written.
    monkeypatch.chdir(tmp_path)
    assert load(tmp_path).config.app_dir == "src"


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            ["[tool.fastws]", "prot = 1"],
            "there is no option prot: did you mean port? (set by tool.fastws.prot in {path})",
        ),
        (
            ["[tool.fastws]", 'port = "http"'],
            "port is http: expected a whole number from 0 to 65535 "
            "(set by tool.fastws.port in {path})",
        ),
        (
            ["[tool.fastws]", "ws-max-size = 1", "ws_max_size = 2"],
            "ws-max-size is given twice (set by tool.fastws.ws_max_size in {path})",
        ),
        (
            ["[tool.fastws]", "app-dir = 1"],
            "app-dir is 1: expected a directory (set by tool.fastws.app-dir in {path})",
        ),
        (["[tool]", "fastws = 1"], "tool.fastws in {path} is 1: expected a table of options"),
        (["[tool.fastws"], "{path} cannot be read: "),
    ],
)
def test_a_wrong_file_gets_a_sentence(tmp_path: Path, lines: list[str], sentence: str) -> None:
    path = write(tmp_path, *lines)
    with pytest.raises(ConfigError) as raised:
        load(tmp_path)
    expected = sentence.format(path=path)
    assert str(raised.value).startswith(expected)
    assert "\n" not in str(raised.value)
    if not expected.endswith(": "):
        assert str(raised.value) == expected


# --env-file


def test_a_file_of_lines_becomes_part_of_the_environment(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "# A comment.",
        "FASTWS_PORT=9000",
        "export FASTWS_HOST='::1'  # another",
        "",
        'SECRET="a b"',
        "HOME=/nowhere",
        name="prod.env",
    )
    environ = {"HOME": "/home"}
    settings = load(tmp_path, environ, env_file=str(path))
    assert (settings.config.port, settings.config.host) == (9000, "::1")
    assert environ["SECRET"] == "a b"
    assert environ["HOME"] == "/home"
    assert settings.origin("port").label == "FASTWS_PORT, env-file"


def test_the_file_itself_is_found_through_any_source(tmp_path: Path) -> None:
    path = write(tmp_path, "FASTWS_PORT=1", name="a.env")
    assert load(tmp_path, {"FASTWS_ENV_FILE": str(path)}).config.port == 1
    write(tmp_path, "[tool.fastws]", 'env-file = "a.env"')
    assert load(tmp_path).config.port == 1
    # What is said aloud goes before what a file says.
    assert load(tmp_path, {"FASTWS_PORT": "2"}).config.port == 2


def test_values_of_the_file_refer_to_others(tmp_path: Path) -> None:
    path = write(tmp_path, "A=1", "B=${A}2", name="a.env")
    assert read_env_file(str(path)) == {"A": ("1", 1), "B": ("12", 2)}


def test_a_wrong_value_names_its_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, "", "# The port.", "", "FASTWS_PORT=http", name="a.env")
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, env_file=str(path))
    assert str(raised.value) == (
        "port is http: expected a whole number from 0 to 65535 "
        f"(set by FASTWS_PORT in {path}, line 4)"
    )


@pytest.mark.parametrize("line", ["NAME", "'NAME", "a b=1", "A='"])
def test_a_line_that_sets_nothing(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, "A=1", line, name="a.env")
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, env_file=str(path))
    assert str(raised.value) == f"env-file is {path}, whose line 2 is not NAME=VALUE"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.env"
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, env_file=str(missing))
    assert str(raised.value) == (
        f"env-file is {missing}, which cannot be read: No such file or directory"
    )
    binary = tmp_path / "binary.env"
    binary.write_bytes(b"A=\xff\n")
    with pytest.raises(ConfigError, match="which cannot be read: 'utf-8' codec"):
        load(tmp_path, env_file=str(binary))


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dotenv", None)
    with pytest.raises(ConfigError, match=r"needs the package python-dotenv: install fastws\[env"):
        load(tmp_path, env_file=str(write(tmp_path, "A=1", name="a.env")))


# Keywords


def test_keywords_are_the_only_source_of_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTWS_PORT", "1")
    monkeypatch.delenv("FASTWS_TEST_LINE", raising=False)
    write(tmp_path, "[tool.fastws]", "backlog = 1")
    path = write(tmp_path, "FASTWS_TEST_LINE=2", name="a.env")
    try:
        config = config_from_keywords("chat:app", {"env_file": path, "workers": "2"})
        assert (config.port, config.backlog, config.workers) == (8000, 2048, 2)
        assert os.environ["FASTWS_TEST_LINE"] == "2"
    finally:
        os.environ.pop("FASTWS_TEST_LINE", None)
    with pytest.raises(ConfigError, match=r"^there is no option prot: did you mean port\?$"):
        config_from_keywords("chat:app", {"prot": 1})
