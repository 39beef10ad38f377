"""Routing benchmark: `python -m benchmarks.routes --help`.

How long an application looks for the route of a WebSocket, with 1 and with 1,000 routes. It should
not matter how many there are, nor which one it is. The last column is what trying one route after
the other takes, as the oracle of the tests does it.
"""

from __future__ import annotations

import argparse
import timeit
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from fastws.app import FastWS
from fastws.routing import APIWebSocketRoute
from fastws.websocket import WebSocket

COUNTS = (1, 1000)


class Shape(NamedTuple):
    """Routes that differ in a number, and the path of one of them."""

    title: str
    route: str
    path: str


SHAPES = (
    Shape("static", "/rooms/{}/feed", "/rooms/{}/feed"),
    Shape("a parameter at the end", "/rooms-{}/{{name}}", "/rooms-{}/lobby"),
    Shape("a parameter first, an int last", "/{{tenant}}/topic-{}/{{n:int}}", "/acme/topic-{}/42"),
    Shape("a path at the end", "/files-{}/{{rest:path}}", "/files-{}/a/b/c.txt"),
)


async def endpoint(ws: WebSocket) -> None:
    """A handler to have routes for."""


def application(shape: Shape, count: int) -> FastWS:
    app = FastWS()
    for number in range(count):
        app.add_websocket_route(shape.route.format(number), endpoint)
    return app


def find_in_turn(routes: Sequence[APIWebSocketRoute], path: str) -> object:
    for route in routes:
        params = route.match(path)
        if params is not None:
            return route, params
    return None


def nanoseconds(call: Callable[[], object], seconds: float) -> float:
    """The least time of a call, of five measurements of ``seconds`` together."""
    timer = timeit.Timer(call)
    number, took = timer.autorange()
    number = max(1, int(number * seconds / 5 / took))
    return min(timer.repeat(repeat=5, number=number)) / number * 1e9


def measure(shape: Shape, seconds: float) -> str:
    cells = [shape.title]
    for count in COUNTS:
        app = application(shape, count)
        for number in dict.fromkeys((0, count - 1)):
            path = shape.path.format(number)
            found = app.find_websocket(path)
            assert found is not None, path
            assert found[0].path == shape.route.format(number)
            cells.append(f"{nanoseconds(partial(app.find_websocket, path), seconds):.0f}")
        unknown = partial(app.find_websocket, "/no/such/route")
        cells.append(f"{nanoseconds(unknown, seconds):.0f}")
    routes = [route for route in app.routes if isinstance(route, APIWebSocketRoute)]
    cells.append(f"{nanoseconds(partial(find_in_turn, routes, path), seconds):.0f}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.routes",
        description="Time to find the route of a WebSocket, in nanoseconds.",
    )
    parser.add_argument("--seconds", type=float, default=0.5, help="for each number (%(default)s)")
    seconds = parser.parse_args().seconds
    print("ns a lookup; routes: 1, then 1,000")
    print()
    print("| paths | 1: it | 1: none | 1,000: first | last | none | last, one after the other |")
    print("|---|---|---|---|---|---|---|")
    for shape in SHAPES:
        print(measure(shape, seconds), flush=True)


if __name__ == "__main__":
    main()
