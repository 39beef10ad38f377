"""Where options come from, and which source wins.

The command line goes first, then the environment (with what ``--env-file`` added to it), then
``[tool.fastws]`` of the nearest ``pyproject.toml`` that has such a table, then the defaults.
"""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastws.config import OPTIONS, Config, find_option
from fastws.kinds import TEXT
from fastws.options import ConfigError, Option, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "DEFAULT",
    "Given",
    "Origin",
    "Settings",
    "config_from_keywords",
    "load_settings",
    "read_env_file",
    "unknown_variables",
]

APP = Option("app", TEXT, None, "target", "The application, as module:attribute")
"""What to serve: no option, but it comes from the same sources."""

PREFIX = "FASTWS_"


@dataclass(frozen=True)
class Origin:
    """Where a value comes from.

    Parameters:
        label: short, for a table.
        sentence: how to find it, for the end of an error.
    """

    label: str
    sentence: str


@dataclass(frozen=True)
class Given:
    """A value as somebody wrote it, and where."""

    value: object
    origin: Origin


DEFAULT = Origin("default", "by default")
COMMAND_LINE = Origin("command line", "set on the command line")

Source = Mapping[str, Given]
"""The options that one place sets, by keyword."""


@dataclass(frozen=True)
class Settings:
    """The options in effect, and where each of them comes from.

    Parameters:
        config: the options.
        origins: by keyword; what is not in it is at its default.
    """

    config: Config
    origins: Mapping[str, Origin]

    def origin(self, keyword: str) -> Origin:
        """Where the value of an option comes from."""
        return self.origins.get(keyword, DEFAULT)


def load_settings(
    typed: Mapping[str, object],
    *,
    meant: Source | None = None,
    environ: MutableMapping[str, str] | None = None,
    directory: Path | None = None,
) -> Settings:
    """Gather the options from all their sources.

    The lines of ``env-file`` become part of the environment, for the application to find there;
    what is set already stays.

    Parameters:
        typed: what the command line says, by keyword, ``app`` too.
        meant: what the command itself stands for: behind what was typed, before all else.
        environ: the environment, by default this process's.
        directory: where to look for ``pyproject.toml``, and then above; by default the current one.

    Raises:
        ConfigError: an option does not exist or has a value that it does not take; the message
            says where that was set. Or a file cannot be read, or nothing says what to serve.
    """
    environ = os.environ if environ is None else environ
    command_line = {name: Given(value, COMMAND_LINE) for name, value in typed.items()}
    project = _from_pyproject(Path.cwd() if directory is None else directory)
    early = [command_line, meant or {}, _from_environment(environ, {}), project]
    lines = _load_env_file(_first(early, "env_file"), environ)
    sources = [command_line, meant or {}, _from_environment(environ, lines), project]

    app = _first(sources, APP.keyword)
    if app is None:
        raise ConfigError(
            "there is nothing to serve: name an application, such as chat:app, on the command "
            "line, in FASTWS_APP, or as app of [tool.fastws] in pyproject.toml"
        )
    found = {
        option.keyword: given
        for option in OPTIONS
        if (given := _first(sources, option.keyword)) is not None
    }
    origins = {keyword: given.origin for keyword, given in found.items()}
    values = {option.keyword: _parsed(option, found.get(option.keyword)) for option in OPTIONS}
    try:
        config = Config(_parsed(APP, app), **values)
    except ConfigError as error:
        raise _located(error, origins) from None
    return Settings(config, {APP.keyword: app.origin, **origins})


def config_from_keywords(
    app: Any, options: Mapping[str, object], *, ssl_context: ssl.SSLContext | None = None
) -> Config:
    """The configuration that the keywords of ``serve()`` stand for; no other source is asked.

    The lines of ``env_file`` become part of the environment.

    Raises:
        ConfigError: an option does not exist or has a value that it does not take.
    """
    config = Config.from_options(app, options, ssl_context=ssl_context)
    if config.env_file is not None:
        _load_env_file(Given(config.env_file, DEFAULT), os.environ)
    return config


def _first(sources: Iterable[Source], keyword: str) -> Given | None:
    return next((source[keyword] for source in sources if keyword in source), None)


def _parsed(option: Option, given: Given | None) -> Any:
    if given is None:
        return option.default
    try:
        return option.parse(given.value)
    except ConfigError as error:
        raise ConfigError(f"{error} ({given.origin.sentence})") from None


def _located(error: ConfigError, origins: Mapping[str, Origin]) -> ConfigError:
    """The error of a combination, with where each of its options was set."""
    sentences = {name: origins.get(name, DEFAULT).sentence for name in error.options}
    if len(set(sentences.values())) > 1:
        where = [f"{name.replace('_', '-')} {where}" for name, where in sentences.items()]
    else:
        where = list(dict.fromkeys(sentences.values()))
    return ConfigError(f"{error} ({', '.join(where)})") if where else error


# The environment


def _from_environment(environ: Mapping[str, str], lines: Mapping[str, str]) -> Source:
    """The options that variables set. One that is empty does not.

    Parameters:
        environ: the environment.
        lines: where those variables stand that came from a file.
    """
    found = {}
    for option in (APP, *OPTIONS):
        for variable in option.environment:
            if environ.get(variable):
                label, sentence = variable, f"set by {variable}"
                if variable in lines:
                    label, sentence = f"{variable}, env-file", f"{sentence} in {lines[variable]}"
                found[option.keyword] = Given(environ[variable], Origin(label, sentence))
                break
    return found


def unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each ``FASTWS_…`` variable that sets no option: perhaps it was meant to."""
    known = {
        variable
        for option in (APP, *OPTIONS)
        for variable in option.environment
        if variable.startswith(PREFIX)
    }
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and variable not in known:
            yield f"{variable} sets no option{did_you_mean(variable, known, prefix=PREFIX)}"


def _load_env_file(given: Given | None, environ: MutableMapping[str, str]) -> dict[str, str]:
    """Add what a file says to the environment, and return where each added variable stands."""
    path = _parsed(find_option("env-file"), given)
    if path is None:
        return {}
    assert given is not None
    lines = {}
    for name, (value, line) in read_env_file(path).items():
        if name not in environ:
            environ[name] = value
            lines[name] = f"{path}, line {line}"
    return lines


def read_env_file(path: str) -> dict[str, tuple[str, int]]:
    """Read lines of ``NAME=VALUE``: by name, the value and the number of its line.

    Values may be quoted, and refer to others as ``${NAME}``; ``#`` begins a comment.

    Raises:
        ConfigError: the file cannot be read, a line is none of these, or python-dotenv is missing.
    """
    try:
        from dotenv import dotenv_values
        from dotenv.parser import parse_stream
    except ImportError:
        raise ConfigError(
            f"env-file is {path}, which needs the package python-dotenv: install fastws[env-file]"
        ) from None
    try:
        with open(path, encoding="utf-8") as stream:
            bindings = list(parse_stream(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"env-file is {path}, which cannot be read: {_reason(error)}") from None
    lines = {}
    for binding in bindings:
        text = binding.original.string
        blank = len(text) - len(text.lstrip())
        line = binding.original.line + text.count("\n", 0, blank)
        if binding.error or (binding.key is not None and binding.value is None):
            raise ConfigError(f"env-file is {path}, whose line {line} is not NAME=VALUE")
        if binding.key is not None:
            lines[binding.key] = line
    values = dotenv_values(path)
    return {name: (values[name] or "", line) for name, line in lines.items()}


# pyproject.toml


def _from_pyproject(directory: Path) -> Source:
    """The options that the nearest ``[tool.fastws]`` sets, in ``directory`` or above it."""
    directory = directory.resolve()
    for place in (directory, *directory.parents):
        path = place / "pyproject.toml"
        table = _tool_table(path)
        if table is not None:
            return dict(_keys(table, path))
    return {}


def _tool_table(path: Path) -> Mapping[str, Any] | None:
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {_reason(error)}") from None
    tools = document.get("tool")
    table = tools.get("fastws") if isinstance(tools, Mapping) else None
    if table is not None and not isinstance(table, Mapping):
        raise ConfigError(f"tool.fastws in {path} is {table!r}: expected a table of options")
    return table


def _keys(table: Mapping[str, object], path: Path) -> Iterator[tuple[str, Given]]:
    seen = set()
    for key, value in table.items():
        origin = Origin(path.name, f"set by tool.fastws.{key} in {path}")
        try:
            option = APP if key == APP.name else find_option(key)
        except ConfigError as error:
            raise ConfigError(f"{error} ({origin.sentence})") from None
        if option.keyword in seen:
            raise ConfigError(f"{option.name} is given twice ({origin.sentence})")
        seen.add(option.keyword)
        if option.kind.is_path:
            value = _relative_to(path.parent, option, value)
        yield option.keyword, Given(value, origin)


def _relative_to(directory: Path, option: Option, value: object) -> object:
    """A path in the file is one from where the file is. What is no path is left as it is."""
    try:
        parsed = option.kind.parse(value)
    except (ValueError, TypeError):
        return value
    if isinstance(parsed, tuple):
        return tuple(_joined(directory, item) for item in parsed)
    return parsed if parsed is None else _joined(directory, parsed)


def _joined(directory: Path, path: str) -> str:
    # In the current directory, paths stay as they are written.
    return path if directory.samefile(".") else str(directory / path)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
