"""The command line: ``fastws run module:app``, with the options of the table in ``config.py``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from fastws import __version__, console, reports
from fastws.config import OPTIONS, ConfigError
from fastws.importer import ApplicationError, load_application, traceback_of
from fastws.launch import launch
from fastws.server_command import ServerCommand, given_options
from fastws.settings import Given, Origin, load_settings, unknown_variables
from fastws.sockets import BindError
from fastws.tls import TLS

__all__ = ["main"]

TARGET = tuple(option for option in OPTIONS if option.keyword in ("factory", "app_dir", "env_file"))
"""What it takes to import the application."""

DEV = Origin("fastws dev", "set by fastws dev")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`fastws run --help` lists every option of the server, by what it is about.",
)
@click.version_option(__version__, prog_name="fastws")
def main() -> None:
    """A WebSocket server and framework for Python."""


def _command(name: str, options: Sequence[Any] = OPTIONS) -> Callable[[Callable[..., None]], None]:
    """Make a command of a function that is called with what was typed, by keyword."""

    def add(function: Callable[..., None]) -> None:
        main.add_command(ServerCommand(name, options, function))

    return add


@_command("run")
def _run(**typed: Any) -> None:
    """Serve an application.

    APP is written module:attribute; a bare module stands for module:app.
    """
    with _failures_reported(start=True):
        launch(load_settings(given_options(typed)).config)


@_command("dev")
def _dev(**typed: Any) -> None:
    """Serve an application, and start again when its files change.

    It is `fastws run` with --reload, --workers 1 and --log-level debug.
    """
    meant = {"reload": Given(True, DEV), "workers": Given(1, DEV), "log_level": Given("debug", DEV)}
    with _failures_reported(start=True):
        launch(load_settings(given_options(typed), meant=meant).config)


@_command("check")
def _check(**typed: Any) -> None:
    """Show the options in effect, and check the application.

    For each option: its value, and where that comes from. Takes the options of `fastws run`. The
    exit status is 0 if all is well, 1 if the application cannot be imported, and 2 if an option,
    of the server or of a route, is wrong, or a file of TLS cannot be used.
    """
    with _failures_reported():
        settings = load_settings(given_options(typed))
        config = settings.config
        click.echo(reports.options_report(settings))
        for note in unknown_variables(os.environ):
            click.echo(f"\nNote: {note}")
        app = load_application(config.app, app_dir=config.app_dir, factory=config.factory)
        TLS.of(config)
        problems = reports.route_problems(config, app)
        if problems:
            raise ConfigError("\n".join(problems))
        if of_routes := reports.route_options_report(config, app):
            click.echo(f"\n{of_routes}")
        count = len(app.routes)
        click.echo(f"\n{config.app} can be served: {count} route{'s' * (count != 1)}.")


@_command("routes", TARGET)
def _routes(**typed: Any) -> None:
    """List the routes of an application.

    For each: its path, name and handler, the dependencies that are called for it, and the options
    that it has of its own.
    """
    with _failures_reported():
        config = load_settings(given_options(typed)).config
        app = load_application(config.app, app_dir=config.app_dir, factory=config.factory)
        click.echo(reports.routes_report(app))


main.add_command(console.command)


@contextmanager
def _failures_reported(*, start: bool = False) -> Iterator[None]:
    """End the process with a sentence, and a status, for each way in which this can fail.

    Parameters:
        start: whether the application is started and stopped, which may fail in any way.
    """
    try:
        yield
    except ConfigError as error:
        _fail(str(error), status=2)
    except ApplicationError as error:
        click.echo(traceback_of(error.__cause__), err=True, nl=False)
        _fail(str(error))
    except BindError as error:
        _fail(str(error))
    except Exception as error:
        if not start:
            raise
        click.echo(traceback_of(error), err=True, nl=False)
        kind = f"{type(error).__name__}: {error}"
        _fail(f"the application failed to start or to stop: {kind}")


def _fail(sentence: str, status: int = 1) -> NoReturn:
    for line in sentence.splitlines():
        click.echo(f"fastws: {line}", err=True)
    sys.exit(status)
