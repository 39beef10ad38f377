"""The figures to reach, and whether a run reached them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.contenders import DROP_IN, FASTWS, FASTWS_ZLIB_NG, PEERS
from benchmarks.report import Rows, Target
from benchmarks.running import Server
from benchmarks.servers.arguments import DEFLATE

Results = Mapping[str, Rows]
"""By the key of the workload, or of the idle connections."""


@dataclass(frozen=True)
class Goal:
    """`value` finds the figure in the results of the workload `key`, and shows it with its spread
    or with whom it is against. KeyError where a server that it needs has no figure."""

    title: str
    limit: float
    at_most: bool
    key: str
    value: Callable[[Rows], tuple[float, str]]


def _own(figure: str) -> Callable[[Rows], tuple[float, str]]:
    def value(rows: Rows) -> tuple[float, str]:
        spread = rows[FASTWS.name][figure]
        return spread.median, spread.show()

    return value


def _against_best(
    chosen: Callable[[Server], bool], server: str = FASTWS.name
) -> Callable[[Rows], tuple[float, str]]:
    """CPU, against the best of the chosen peers."""

    def value(rows: Rows) -> tuple[float, str]:
        peers = {
            peer.name: rows[peer.name]["cpu_ratio"].median
            for peer in PEERS
            if chosen(peer) and peer.name in rows
        }
        if not peers:
            raise KeyError("peers")
        best = min(peers, key=peers.__getitem__)
        ratio = rows[server]["cpu_ratio"].median / peers[best]
        return ratio, f"{ratio:.2f} ({best})"

    return value


def _rate_against(peer: str) -> Callable[[Rows], tuple[float, str]]:
    def value(rows: Rows) -> tuple[float, str]:
        figure = "throughput_ratio"
        ratio = rows[FASTWS.name][figure].median / rows[peer][figure].median
        return ratio, f"{ratio:.2f}"

    return value


def _drop_in(rows: Rows) -> tuple[float, str]:
    """Messages for each CPU second, against uvicorn with its own implementation."""
    ratio = rows["fastapi"]["cpu_ratio"].median / rows[DROP_IN.name]["cpu_ratio"].median
    return ratio, f"{ratio:.2f}"


def _any_peer(peer: Server) -> bool:
    return True


def _compressed(compression: str) -> list[Goal]:
    """Python's peers, of those that compress with the same parameters."""

    def is_like(peer: Server) -> bool:
        return peer.program == "python" and compression in peer.exact

    key = f"deflate-{compression}"
    title = "compressed JSON echo, {}, {}: CPU, × the best Python peer with the same parameters"
    return [
        Goal(title.format(compression, library), limit, True, key, _against_best(is_like, server))
        for library, limit, server in (
            ("zlib", 0.9, FASTWS.name),
            ("zlib-ng", 0.5, FASTWS_ZLIB_NG.name),
        )
    ]


GOALS = (
    Goal(
        "64 B echo, 50 connections, 1 in flight: CPU, × TCP echo",
        1.10,
        True,
        "echo-64-1",
        _own("cpu_ratio"),
    ),
    Goal(
        "64 B echo, 50 connections, 16 in flight: messages/s, × TCP echo",
        0.75,
        False,
        "echo-64-16",
        _own("throughput_ratio"),
    ),
    Goal(
        "JSON echo, 1 KB: CPU, × the best Python peer with an `await` API",
        0.5,
        True,
        "json-1k",
        _against_best(lambda peer: peer.awaits),
    ),
    Goal("1 MiB echo: CPU, × TCP echo", 1.25, True, "binary-1m", _own("cpu_ratio")),
    Goal("fan-out: CPU, × `send()` loop in C", 1.10, True, "fanout", _own("cpu_ratio")),
    Goal("fan-out: CPU, × the best peer", 1.0, True, "fanout", _against_best(_any_peer)),
    *(goal for compression in DEFLATE for goal in _compressed(compression)),
    Goal("handshakes/s, × picows", 1.0, False, "handshakes", _rate_against("picows")),
    Goal("handshakes/s, × uvicorn", 1.8, False, "handshakes", _rate_against("uvicorn")),
    Goal("idle connection, KB", 3.5, True, "idle-5k", _own("opened_kb")),
    Goal(
        "idle connection with compression negotiated, KB",
        4.0,
        True,
        "idle-5k-deflate",
        _own("opened_kb"),
    ),
    Goal(
        "FastAPI, messages a CPU second, × without: 1 in flight", 1.6, False, "echo-64-1", _drop_in
    ),
    Goal(
        "FastAPI, messages a CPU second, × without: 16 in flight",
        2.5,
        False,
        "echo-64-16",
        _drop_in,
    ),
)


def goals_table(results: Results) -> list[str]:
    """Markdown lines, of what was measured at all. Where fastws, or every peer that a figure is
    against, has none, that is said: a figure that cannot be told is not one that is reached."""
    lines = []
    for goal in GOALS:
        if goal.key not in results:
            continue
        try:
            value, shown = goal.value(results[goal.key])
        except KeyError:
            lines.append(f"| {goal.title} | not measured | |")
            continue
        verdict = Target(goal.title, goal.limit, goal.at_most).verdict(value)
        lines.append(f"| {goal.title} | {shown} | {verdict} |")
    if not lines:
        return []
    return ["### Figures to reach", "", "| figure | measured | goal |", "|---|---|---|", *lines, ""]
