"""What ``fastws check`` and ``fastws routes`` print: options and where they come from, routes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import click

from fastws.app import FastWS
from fastws.config import GROUPS, OPTIONS, Config, ConfigError, find_option
from fastws.dependencies import compile_plan
from fastws.paths import compile_path
from fastws.requests import Request
from fastws.routing import AnyRoute, APIWebSocketRoute
from fastws.settings import DEFAULT, Settings
from fastws.signatures import name_of
from fastws.websocket import WebSocket

__all__ = ["options_report", "route_options_report", "route_problems", "routes_report"]

NAME_WIDTH = max(len(option.name) for option in OPTIONS)

VALUE_WIDTH = 24
"""Characters up to which a column of values grows; a longer value pushes what follows aside."""


def options_report(settings: Settings) -> str:
    """Every option under its heading: its name, its value, and where that comes from."""
    sections = []
    for group, title in GROUPS.items():
        rows = []
        if group == "target":
            rows.append(("app", str(settings.config.app), settings.origin("app").label))
        rows += [
            (
                option.name,
                option.kind.show(getattr(settings.config, option.keyword)),
                settings.origin(option.keyword).label,
            )
            for option in OPTIONS
            if option.group == group
        ]
        sections.append("\n".join([click.style(title, bold=True), *_lines(rows)]))
    return "\n\n".join(sections)


def _lines(rows: Iterable[tuple[str, str, str]], name_width: int = NAME_WIDTH) -> Iterator[str]:
    for name, value, label in rows:
        text = f"  {name:{name_width}}  {value:{VALUE_WIDTH}}  {label}"
        yield click.style(text, dim=True) if label == DEFAULT.label else text


def route_options_report(config: Config, app: FastWS) -> str:
    """The routes that have options of their own, with these and the server's; else empty."""
    blocks = []
    for route in app.routes:
        options = getattr(route, "options", {})
        own = config.for_route(options)
        rows = []
        for name in options:
            option = find_option(name)
            value, server = (
                option.kind.show(getattr(source, option.keyword)) for source in (own, config)
            )
            rows.append((option.name, value, f"route; the server has {server}"))
        if rows:
            blocks += [f"  {route.path}", *(f"  {line}" for line in _lines(rows, NAME_WIDTH - 2))]
    return "\n".join([click.style("Options of routes", bold=True), *blocks]) if blocks else ""


def route_problems(config: Config, app: FastWS) -> list[str]:
    """A sentence for each route that has a wrong option."""
    problems = []
    for route in app.routes:
        try:
            config.for_route(getattr(route, "options", {}))
        except ConfigError as error:
            problems.append(f"route {route.path}: {error}")
    return problems


def routes_report(app: FastWS) -> str:
    """A table of the routes, in the order in which they are asked."""
    head = ("kind", "path", "name", "handler", "dependencies", "options")
    rows = [head, *(_route_row(app, route) for route in app.routes)]
    if len(rows) == 1:
        return "The application has no routes."
    return "\n".join(_table(rows))


def _route_row(app: FastWS, route: AnyRoute) -> tuple[str, ...]:
    is_websocket = isinstance(route, APIWebSocketRoute)
    plan = compile_plan(
        route.endpoint,
        compile_path(route.path).text_of(),
        WebSocket if is_websocket else Request,
        route.dependencies,
    )
    options = ", ".join(
        f"{name.replace('_', '-')} {_shown(name, value)}"
        for name, value in getattr(route, "options", {}).items()
    )
    module = getattr(route.endpoint, "__module__", "")
    return (
        "websocket" if is_websocket else "http",
        route.path,
        route.name,
        f"{module}:{name_of(route.endpoint)}",
        str(len(plan.steps)),
        options,
    )


def _shown(name: str, value: object) -> str:
    try:
        option = find_option(name)
        return option.kind.show(option.parse(value))
    except ConfigError:
        return str(value)


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        line = "  ".join(cells).rstrip()
        yield click.style(line, bold=True) if number == 0 else line
