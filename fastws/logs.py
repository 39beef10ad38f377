"""The server's log: its set-up, its form, and text from peers made harmless.

Two loggers: ``fastws`` for what the server says about itself and about failures, and
``fastws.access`` for a line at each request, answer and end of a connection; see
:mod:`fastws.access_log`.
"""

from __future__ import annotations

import configparser
import importlib
import json
import logging
import logging.config
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from fastws import asgi_connection
from fastws._connection import running_connection
from fastws.options import ConfigError

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[Any]
else:
    _StreamHandler = logging.StreamHandler  # Python 3.10 has no parameter for it.

__all__ = [
    "ConnectionFilter",
    "JSONFormatter",
    "access_log",
    "configure_logging",
    "log",
    "peer_name",
    "printable",
]

log = logging.getLogger("fastws")
"""What the server says about itself and about failures."""

access_log = logging.getLogger("fastws.access")
"""One line for each request, refusal and connection."""

TEXT_FORMAT = "%(asctime)s %(levelname)s %(message)s"
TEXT_FORMAT_OF_MANY = "%(asctime)s [%(process)d] %(levelname)s %(message)s"
"""Where the lines of several processes come together."""


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


# Which connection a record is about


class ConnectionFilter(logging.Filter):
    """Adds ``connection`` to each record: the ``ws.id`` of the connection whose handler, or a task
    that it started, is logging; ``-`` elsewhere.

    For a handler of your own, whose format may then have ``%(connection)s`` in it. It lets every
    record pass.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "connection"):
            record.connection = running_id() or "-"
        return True


def running_id() -> str | None:
    """The id of the connection whose handler is running, ``None`` outside of any."""
    running: Any = running_connection() or asgi_connection.current_connection.get(None)
    return None if running is None else running.id


# JSON

_USUAL = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "connection"}
"""What every record has: any other attribute came with ``extra=``."""


class JSONFormatter(logging.Formatter):
    """One JSON object a line.

    Its fields: ``time`` (UTC, ISO 8601), ``level``, ``logger``, ``message``, ``process`` (the pid);
    ``connection``, the ``ws.id``, where the record is about one; ``traceback`` and ``stack`` where
    there is one, as text; and whatever else came with ``extra=``. What has no form in JSON is
    written as ``str()`` has it.
    """

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        connection = getattr(record, "connection", None) or running_id()
        if connection not in (None, "-"):
            fields["connection"] = connection
        for name, value in vars(record).items():
            if name not in _USUAL:
                fields.setdefault(name, value)
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        try:
            return orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except orjson.JSONEncodeError:
            # A lone surrogate, or an integer beyond 64 bits: ASCII has room for both.
            return json.dumps(fields, default=str, skipkeys=True)


# Set-up


class _OwnHandler(_StreamHandler):
    """Standard error, as long as the program has no handler of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        # An application that is imported after this was added may set logging up then.
        if not logging.root.handlers or self in logging.root.handlers:
            super().emit(record)


def configure_logging(
    level: str, form: str = "text", file: str | None = None, *, many: bool = False
) -> None:
    """Set logging up, in the way of the options ``log-level``, ``log-format`` and ``log-config``.

    A program that has set logging up itself, for ``fastws`` or for all, keeps its own handlers.

    Parameters:
        level: the least severe message of the server's own to log.
        form: ``"text"``, or ``"json"``: then all that the program logs is one JSON object a line.
        file: a file that :mod:`logging.config` reads, in the place of the other two: JSON, TOML or
            YAML (``dictConfig``), or INI (``fileConfig``).
        many: whether several processes write to one place, so that each line says which.

    Raises:
        ConfigError: the file cannot be read, or says what logging does not accept.
    """
    if file is not None:
        _configure_from(Path(file))
        return
    log.setLevel(level.upper())
    if log.hasHandlers():
        if form == "json" and not _has_json():
            log.warning(
                "log-format is json, which has no effect: the program has set logging up itself; "
                "give its handler a fastws.logs.JSONFormatter"
            )
        return
    handler = _OwnHandler()
    if form == "json":
        handler.setFormatter(JSONFormatter())
        # For the application's own lines, too: a reader of JSON wants nothing else.
        logging.root.addHandler(handler)
    else:
        handler.setFormatter(logging.Formatter(TEXT_FORMAT_OF_MANY if many else TEXT_FORMAT))
        log.addHandler(handler)


def _has_json() -> bool:
    handlers = (*log.handlers, *logging.root.handlers)
    return any(isinstance(handler.formatter, JSONFormatter) for handler in handlers)


def _configure_from(path: Path) -> None:
    readers: dict[str, Callable[[Path], object]] = {
        ".json": _read_json,
        ".toml": _read_toml,
        ".yaml": _read_yaml,
        ".yml": _read_yaml,
    }
    suffix = path.suffix.lower()
    try:
        if suffix in (".ini", ".cfg", ".conf"):
            if not path.is_file():
                raise FileNotFoundError(f"No such file: {str(path)!r}")
            # Otherwise the loggers that exist, this server's among them, would fall silent.
            logging.config.fileConfig(path, disable_existing_loggers=False)
        elif suffix in readers:
            settings = readers[suffix](path)
            if not isinstance(settings, dict):
                raise ValueError("it is no table of settings")
            logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, **settings})
        else:
            raise ConfigError(
                f"log-config is {path}: expected a file whose name ends with "
                ".json, .toml, .yaml or .ini"
            )
    except ConfigError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        # logging.config hides what was wrong behind the name of the entry.
        cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
        raise ConfigError(f"log-config {path} cannot be used: {error}{cause}") from error
    except (configparser.Error, RuntimeError) as error:
        raise ConfigError(f"log-config {path} cannot be used: {error}") from error


def _read_json(path: Path) -> object:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_toml(path: Path) -> object:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError:
            raise ConfigError(
                f"log-config is {path}: before Python 3.11 a TOML file needs the package tomli: "
                "install it, or write the file in JSON"
            ) from None
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _read_yaml(path: Path) -> object:
    try:
        # Types for it are a package of their own.
        yaml: Any = importlib.import_module("yaml")
    except ImportError:
        raise ConfigError(
            f"log-config is {path}: a YAML file needs the package PyYAML: "
            "install it, or write the file in JSON or TOML"
        ) from None
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
