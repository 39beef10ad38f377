"""The command line: ``fastws run module:app``, with the options of the table in ``config.py``."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import click

from fastws import __version__, server
from fastws.config import GROUPS, OPTIONS, Config, ConfigError, options_from_environment
from fastws.importer import ApplicationError
from fastws.options import FLAG, SWITCH, Option
from fastws.sockets import BindError

__all__ = ["main"]


def _declarations(option: Option) -> Iterator[click.Option]:
    """The command line's form of an option. Its value is handed on as it was typed."""
    names = [f"--{name}" for name in (option.name, *option.aliases)]
    help = f"{option.help}.  [default: {option.default_text}]"
    if option.kind is FLAG:
        yield click.Option([*names, option.keyword], is_flag=True, default=None, help=option.help)
    elif option.kind is SWITCH:
        # --access-log, --access-log off and, as uvicorn has it, --no-access-log.
        yield click.Option(
            [*names, option.keyword], metavar="[on|off]", flag_value="on", help=help, is_flag=False
        )
        yield click.Option([f"--no-{option.name}"], is_flag=True, default=None, hidden=True)
    else:
        yield click.Option(
            [*names, option.keyword],
            metavar=option.kind.metavar,
            multiple=option.kind.repeated,
            help=help,
        )


class _GroupedCommand(click.Command):
    """A command whose ``--help`` shows the options under the headings of the table."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups = {option.keyword: option.group for option in OPTIONS}
        sections: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        others: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record is not None:
                sections.get(groups.get(parameter.name or "", ""), others).append(record)
        for group, title in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl(sections[group])
        with formatter.section("Other"):
            formatter.write_dl(others)


@click.group()
@click.version_option(__version__, prog_name="fastws")
def main() -> None:
    """A WebSocket server and framework for Python."""


def _run(app: str, **typed: Any) -> None:
    """Serve APP, written module:attribute; a bare module stands for module:app.

    Sizes are written 4096, 64KiB or 1MiB, times 20s, 500ms or 2m; none lifts a limit.
    """
    given: dict[str, object] = {}
    for name, value in typed.items():
        if value not in (None, ()):
            switched_off = name.startswith("no_")
            given[name.removeprefix("no_")] = "off" if switched_off else value
    try:
        server.run(Config.from_options(app, options_from_environment(os.environ) | given))
    except ConfigError as error:
        _fail(str(error), status=2)
    except ApplicationError as error:
        if error.__cause__ is not None:
            _print_traceback(error.__cause__)
        _fail(str(error))
    except BindError as error:
        _fail(str(error))
    except Exception as error:
        _print_traceback(error)
        kind = f"{type(error).__name__}: {error}"
        _fail(f"the application failed to start or to stop: {kind}")


main.add_command(
    _GroupedCommand(
        "run",
        callback=_run,
        help=_run.__doc__,
        params=[click.Argument(["app"]), *(o for option in OPTIONS for o in _declarations(option))],
    )
)


def _fail(sentence: str, status: int = 1) -> NoReturn:
    click.echo(f"fastws: {sentence}", err=True)
    sys.exit(status)


def _print_traceback(error: BaseException) -> None:
    """Show where the application failed, without the frames that only led there."""
    trace = error.__traceback__
    while trace is not None and _is_machinery(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    lines: Sequence[str] = traceback.format_exception(type(error), error, trace)
    click.echo("".join(lines), err=True, nl=False)


def _is_machinery(filename: str) -> bool:
    return filename.startswith("<frozen importlib") or filename.endswith(
        ("fastws/importer.py", "importlib/__init__.py")
    )
