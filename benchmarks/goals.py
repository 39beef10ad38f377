"""The figures to reach, and whether a run reached them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.contenders import FASTWS, FASTWS_ZLIB_NG, PEERS
from benchmarks.report import Rows, Target

Results = Mapping[str, Rows]
"""By the key of the workload, or of the idle connections."""


@dataclass(frozen=True)
class Goal:
    """`value` finds the figure in the results; KeyError where what it needs was not measured."""

    title: str
    limit: float
    at_most: bool
    value: Callable[[Results], float]


def _median(results: Results, key: str, figure: str, server: str = "fastws") -> float:
    return results[key][server][figure].median


def _own(key: str, figure: str) -> Callable[[Results], float]:
    return lambda results: _median(results, key, figure)


def _against_best_awaiting_peer(
    key: str, server: str = FASTWS.name, *, same_parameters: bool = False
) -> Callable[[Results], float]:
    def value(results: Results) -> float:
        peers = [
            _median(results, key, "cpu_ratio", peer.name)
            for peer in PEERS
            if peer.awaits
            and peer.name in results[key]
            and (peer.takes_parameters or not same_parameters)
        ]
        if not peers:
            raise KeyError(key)
        return _median(results, key, "cpu_ratio", server) / min(peers)

    return value


def _against_best_peer(key: str) -> Callable[[Results], float]:
    def value(results: Results) -> float:
        peers = [
            _median(results, key, "cpu_ratio", peer.name)
            for peer in PEERS
            if peer.name in results[key]
        ]
        if not peers:
            raise KeyError(key)
        return _median(results, key, "cpu_ratio") / min(peers)

    return value


def _rate_against(key: str, peer: str) -> Callable[[Results], float]:
    return lambda results: (
        _median(results, key, "throughput_ratio") / _median(results, key, "throughput_ratio", peer)
    )


def _drop_in(key: str) -> Callable[[Results], float]:
    """Messages for each CPU second, against uvicorn with its own implementation."""
    return lambda results: (
        _median(results, key, "cpu_ratio", "fastapi")
        / _median(results, key, "cpu_ratio", "drop-in")
    )


GOALS = (
    Goal(
        "64 B echo, 50 connections, 1 in flight: CPU, × TCP echo",
        1.10,
        True,
        _own("echo-64-1", "cpu_ratio"),
    ),
    Goal(
        "64 B echo, 50 connections, 16 in flight: messages/s, × TCP echo",
        0.75,
        False,
        _own("echo-64-16", "throughput_ratio"),
    ),
    Goal(
        "JSON echo, 1 KB: CPU, × the best Python peer with an `await` API",
        0.5,
        True,
        _against_best_awaiting_peer("json-1k"),
    ),
    Goal("1 MiB echo: CPU, × TCP echo", 1.25, True, _own("binary-1m", "cpu_ratio")),
    Goal("fan-out: CPU, × `send()` loop in C", 1.10, True, _own("fanout", "cpu_ratio")),
    Goal("fan-out: CPU, × the best peer", 1.0, True, _against_best_peer("fanout")),
    Goal(
        "compressed JSON echo, dedicated, zlib: CPU, × the best `await` peer, same parameters",
        0.9,
        True,
        _against_best_awaiting_peer("deflate-dedicated", same_parameters=True),
    ),
    Goal(
        "compressed JSON echo, shared, zlib: CPU, × the best `await` peer, same parameters",
        0.9,
        True,
        _against_best_awaiting_peer("deflate-shared", same_parameters=True),
    ),
    Goal(
        "compressed JSON echo, dedicated, zlib-ng: CPU, × the best `await` peer, same parameters",
        0.5,
        True,
        _against_best_awaiting_peer("deflate-dedicated", FASTWS_ZLIB_NG.name, same_parameters=True),
    ),
    Goal(
        "compressed JSON echo, shared, zlib-ng: CPU, × the best `await` peer, same parameters",
        0.5,
        True,
        _against_best_awaiting_peer("deflate-shared", FASTWS_ZLIB_NG.name, same_parameters=True),
    ),
    Goal("handshakes/s, × picows", 1.0, False, _rate_against("handshakes", "picows")),
    Goal("handshakes/s, × uvicorn", 1.8, False, _rate_against("handshakes", "uvicorn")),
    Goal("idle connection, KB", 3.5, True, _own("idle-5k", "opened_kb")),
    Goal(
        "idle connection with compression negotiated, KB",
        4.0,
        True,
        _own("idle-5k-deflate", "opened_kb"),
    ),
    Goal(
        "FastAPI, messages a CPU second, × without: 1 in flight", 1.6, False, _drop_in("echo-64-1")
    ),
    Goal(
        "FastAPI, messages a CPU second, × without: 16 in flight",
        2.5,
        False,
        _drop_in("echo-64-16"),
    ),
)


def goals_table(results: Results) -> list[str]:
    """Markdown lines; what was not measured is left out."""
    lines = []
    for goal in GOALS:
        try:
            value = goal.value(results)
        except KeyError:
            continue
        verdict = Target(goal.title, goal.limit, goal.at_most).verdict(value)
        lines.append(f"| {goal.title} | {value:.2f} | {verdict} |")
    if not lines:
        return []
    return ["### Figures to reach", "", "| figure | measured | goal |", "|---|---|---|", *lines, ""]
