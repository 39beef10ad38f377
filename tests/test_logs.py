"""Text from peers in the log, and the log's set-up."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastws import FastWS, WebSocket, logs
from fastws.logs import ConnectionFilter, JSONFormatter, peer_name, printable
from fastws.options import ConfigError
from tests.asgi_servers import SERVERS, Client, running
from tests.support import ROOT, TIMEOUT, run


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


# Set-up


@pytest.fixture
def own_log(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """A logger in the place of the package's, without the handlers that pytest adds."""
    logger = logging.Logger("own")
    monkeypatch.setattr(logs, "log", logger)
    return logger


@contextlib.contextmanager
def root_handlers(*handlers: logging.Handler) -> Iterator[None]:
    """Give the root logger these handlers, and no others, for the length of the block."""
    before = logging.root.handlers
    logging.root.handlers = list(handlers)
    try:
        yield
    finally:
        logging.root.handlers = before


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


def test_the_servers_own_handler_stands_back_for_one_that_comes_later(
    own_log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """An application that is imported calls logging.basicConfig(): no line is to come twice."""
    with root_handlers():
        logs.configure_logging("info")
        own_log.info("first")
    with root_handlers(logging.NullHandler()):
        own_log.info("second")
    written = capsys.readouterr().err
    assert "INFO first" in written
    assert "second" not in written


def test_json_beside_handlers_that_the_program_has_is_said_to_have_no_effect(
    own_log: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    own_log.addHandler(logging.StreamHandler(sys.stderr))
    with root_handlers():
        logs.configure_logging("info", "json")
    assert "log-format is json, which has no effect" in capsys.readouterr().err


# JSON


def line(**extra: Any) -> dict[str, Any]:
    record = logging.LogRecord("a.logger", logging.INFO, "file", 1, "%d of %s", (1, "two"), None)
    vars(record).update(extra)
    text = JSONFormatter().format(record)
    assert "\n" not in text
    fields: dict[str, Any] = json.loads(text)
    return fields


def test_a_json_line_has_these_fields() -> None:
    fields = line()
    assert fields["message"] == "1 of two"
    assert (fields["logger"], fields["level"]) == ("a.logger", "info")
    assert fields.keys() == {"time", "level", "logger", "message", "process"}


def test_what_came_with_extra_is_in_a_json_line_and_replaces_nothing() -> None:
    fields = line(user="ada", level="forged", connection="1-2")
    assert (fields["user"], fields["level"], fields["connection"]) == ("ada", "info", "1-2")
    assert "connection" not in line(connection="-")


@pytest.mark.parametrize("value", [object(), {1: 2}, "\ud800", 1 << 70, {"\n": {"\ud800"}}])
def test_anything_can_be_in_a_json_line(value: Any) -> None:
    assert "thing" in line(thing=value)


def test_a_traceback_is_one_field() -> None:
    try:
        raise LookupError("nothing there")
    except LookupError:
        fields = line(exc_info=sys.exc_info(), stack_info="Stack:\n  here")
    assert fields["traceback"].startswith("Traceback (most recent call last):\n")
    assert fields["traceback"].endswith("LookupError: nothing there")
    assert fields["stack"] == "Stack:\n  here"


# Whose handler is logging


@pytest.mark.parametrize("server", SERVERS)
def test_a_handlers_own_lines_can_name_its_connection(server: str) -> None:
    app = FastWS()
    shop = logging.getLogger("tests.shop")
    records: list[logging.LogRecord] = []
    ids: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        shop.warning("in the handler")
        ids.append(ws.id)

        async def work() -> None:
            shop.warning("in a task")
            await ws.close()

        await ws.tasks.create_task(work())

    async def main() -> None:
        async with running(app, server) as address:
            async with Client(address, server).open("/") as ws:
                await ws.wait_closed()
        shop.warning("elsewhere")

    keeper = Keeper()
    keeper.addFilter(ConnectionFilter())
    shop.addHandler(keeper)
    try:
        run(main())
    finally:
        shop.removeHandler(keeper)
    assert [vars(record)["connection"] for record in records] == [*ids, *ids, "-"]


# --log-config

SETTINGS = {
    "formatters": {"short": {"format": "SHORT %(name)s %(message)s"}},
    "handlers": {"err": {"class": "logging.StreamHandler", "formatter": "short"}},
    "loggers": {"fastws": {"level": "WARNING", "handlers": ["err"]}},
}
JSON = json.dumps(SETTINGS)
TOML = """
[formatters.short]
format = "SHORT %(name)s %(message)s"
[handlers.err]
class = "logging.StreamHandler"
formatter = "short"
[loggers.fastws]
level = "WARNING"
handlers = ["err"]
"""
YAML = """
formatters: {short: {format: "SHORT %(name)s %(message)s"}}
handlers: {err: {class: logging.StreamHandler, formatter: short}}
loggers: {fastws: {level: WARNING, handlers: [err]}}
"""
INI = """
[loggers]
keys = root, fastws
[handlers]
keys = err
[formatters]
keys = short
[logger_root]
handlers =
[logger_fastws]
level = WARNING
handlers = err
qualname = fastws
[handler_err]
class = StreamHandler
formatter = short
args = ()
[formatter_short]
format = SHORT %(name)s %(message)s
"""
CODE = """
import sys
from fastws.logs import access_log, configure_logging, log
configure_logging("debug", "json", sys.argv[1])
log.warning("kept")
access_log.warning("kept too")
log.info("left out")
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [("log.json", JSON), ("log.toml", TOML), ("log.yaml", YAML), ("log.ini", INI)],
)
def test_a_file_sets_logging_up(name: str, text: str, tmp_path: Path) -> None:
    """In a process of its own, for it changes the process."""
    if name.endswith("yaml"):
        pytest.importorskip("yaml")
    path = tmp_path / name
    path.write_text(text)
    command = [sys.executable, "-c", CODE, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=4 * TIMEOUT)
    assert done.stderr == "SHORT fastws kept\nSHORT fastws.access kept too\n"


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("log.txt", "", "expected a file whose name ends with .json, .toml, .yaml or .ini"),
        ("log.json", None, "No such file"),
        ("log.ini", None, "No such file"),
        ("log.json", "{", "cannot be used: Expecting property name"),
        ("log.json", "[]", "it is no table of settings"),
        ("log.toml", "x", "cannot be used: "),
        ("log.yaml", "a: [", "cannot be used: "),
        ("log.ini", "[", "cannot be used: "),
        ("log.json", '{"handlers": {"x": {"class": "nowhere.Handler"}}}', "nowhere"),
        ("log.json", '{"loggers": {"fastws": {"handlers": ["none"]}}}', "Unable to configure"),
    ],
)
def test_a_file_that_cannot_be_used_gets_a_sentence(
    name: str, text: str | None, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        logs.configure_logging("info", file=str(path))
    assert sentence in str(raised.value)
    assert str(raised.value).startswith("log-config ")


def test_yaml_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "log.yaml").write_text(YAML)
    with pytest.raises(ConfigError, match="a YAML file needs the package PyYAML: install it, or"):
        logs.configure_logging("info", file=str(tmp_path / "log.yaml"))
