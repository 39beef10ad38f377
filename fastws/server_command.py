"""A command that takes options of the table: how they are typed, and shown by ``--help``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from fastws.config import GROUPS, OPTIONS, find_option
from fastws.kinds import FLAG, SWITCH
from fastws.options import Option

__all__ = ["ServerCommand", "given_options"]

SWITCH_WORDS = {"on", "off", "true", "false", "yes", "no", "1", "0"}

UVICORN_ONLY = {
    "--h11-max-incomplete-event-size": "use --max-header-size",
    "--http": "there is only one parser here",
    "--interface": "an application is a FastWS",
    "--limit-max-requests": "a worker serves for as long as it lives",
    "--reload-delay": "changes are seen as they happen",
    "--ssl-version": "use --ssl-min-version",
    "--use-colors": "the log has no colours",
    "--ws": "there is only one implementation here",
}
"""Options that a command line for uvicorn may have, and what to do about them."""

HOW_TO_WRITE = """\
Defaults stand in brackets. Sizes are written 4096, 64KiB or 1MiB, times 20s, 500ms or 2m.
Instead of --date-header off one may write --no-date-header. An option marked * can also be given
for a single route: @app.websocket("/path", ws_max_size="64KiB").
"""

SOURCES = """\
What the command line leaves out is taken from the environment (FASTWS_APP_DIR for --app-dir; lines
of --env-file count as that), else from [tool.fastws] in pyproject.toml, else it is the default.
`fastws check APP` shows the outcome.
"""


class ServerCommand(click.Command):
    """A command with APP and some of the options.

    Parameters:
        name: of the command.
        options: those it takes.
        function: called with what was typed, by keyword; its docstring is the command's help.
    """

    def __init__(self, name: str, options: Sequence[Option], function: Callable[..., None]) -> None:
        self._options = options
        super().__init__(
            name,
            callback=function,
            help=inspect.getdoc(function),
            params=[
                click.Argument(["app"], required=False, metavar="APP"),
                *(_declared(option) for option in options),
            ],
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, list(self._spelled_out(args)))
        except click.NoSuchOption as error:
            known = UVICORN_ONLY.get(error.option_name.replace("--no-", "--"))
            if known is None:
                raise
            raise click.UsageError(
                f"{error.option_name} is an option of uvicorn's: leave it out; {known}.", ctx
            ) from None

    def _spelled_out(self, words: Sequence[str]) -> Iterator[str]:
        """Each switch with its value: --access-log, --access-log off, --no-access-log.

        A switch takes the word behind it only if that is a value, as it may be APP.
        """
        switches = {
            f"--{name}"
            for option in self._options
            if option.kind in (FLAG, SWITCH)
            for name in (option.name, *option.aliases)
        }
        queue = list(words)
        while queue:
            word = queue.pop(0)
            if word == "--":
                yield from (word, *queue)
                return
            if word in switches:
                takes = bool(queue) and queue[0].lower() in SWITCH_WORDS
                yield f"{word}={queue.pop(0) if takes else 'on'}"
            elif word.replace("--no-", "--", 1) in switches:
                yield word.replace("--no-", "--", 1) + "=off"
            else:
                yield word

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for group, title in GROUPS.items():
            rows = [_help_row(option) for option in self._options if option.group == group]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
        with formatter.section("Other"):
            formatter.write_dl([("-h, --help", "Show this message and exit.")])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for paragraph in (HOW_TO_WRITE, SOURCES) if self._options is OPTIONS else (SOURCES,):
            formatter.write_paragraph()
            formatter.write_text(" ".join(paragraph.split()))


def given_options(typed: Mapping[str, Any]) -> dict[str, object]:
    """What was typed, by keyword, without what was not."""
    given: dict[str, object] = {}
    for name, value in typed.items():
        if value is None or value == ():
            continue
        separator = None if name == "app" else find_option(name).kind.separator
        given[name] = value if separator is None else separator.join(value)
    return given


def _declared(option: Option) -> click.Option:
    """The command line's form of an option. Its value is handed on as it was typed."""
    names = [f"--{name}" for name in (option.name, *option.aliases)]
    return click.Option([*names, option.keyword], multiple=option.kind.repeated)


def _help_row(option: Option) -> tuple[str, str]:
    """An option as it is typed, and what it is for."""
    metavar = f"[{option.kind.metavar}]" if option.kind is SWITCH else option.kind.metavar
    name = f"--{option.name} {metavar}".rstrip()
    mark = " *" if option.per_route else ""
    others = (*(f"--{alias}" for alias in option.aliases), *option.variables)
    also = "".join(f"; also {other}" for other in others)
    default = "" if option.kind is FLAG else f" [{option.default_text}]"
    return name, f"{option.help}{also}.{default}{mark}"
