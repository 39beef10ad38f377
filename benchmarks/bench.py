"""Echo and memory benchmarks: `python -m benchmarks.bench --help`.

README.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks import report
from benchmarks.running import (
    BUILD,
    HERE,
    BenchmarkError,
    Cores,
    IdleMemory,
    Sample,
    Server,
    Workload,
    build_load,
    measure_idle_memory,
    run_load,
    running,
)

TCP_ECHO = Server("tcp", "uvloop TCP echo, no WebSocket", "tcp_echo", ("uvloop",), mode="tcp")
FASTWS = Server(
    "fastws", "**fastws**, coroutine API", "fastws_echo", ("fastws", "uvloop", "httptools")
)
PEERS = (
    Server("picows", "picows, callbacks", "picows_echo", ("picows", "aiofastnet", "uvloop")),
    Server("websockets", "websockets", "websockets_echo", ("websockets", "uvloop")),
    Server(
        "uvicorn",
        "uvicorn, bare ASGI",
        "uvicorn_echo",
        ("uvicorn", "websockets", "httptools", "uvloop"),
    ),
)
SERVERS = {server.name: server for server in (FASTWS, *PEERS)}

ECHO = (
    (
        Workload("echo-64-1", "Echo of 64 B text, 50 connections, 1 in flight", 50, 1, 64),
        report.Target("cpu_ratio", 1.20, at_most=True),
    ),
    (
        Workload("echo-64-16", "Echo of 64 B text, 50 connections, 16 in flight", 50, 16, 64),
        report.Target("throughput_ratio", 0.60, at_most=False),
    ),
)
IDLE_TARGET = report.Target("opened_kb", 4.5, at_most=True)
IDLE_CONNECTIONS = 5000
IDLE_ROUNDS = 3  # memory hardly varies: more rounds tell no more


class Options(argparse.Namespace):
    rounds: int
    seconds: float
    warmup: float
    nice: int
    peers: bool
    quick: bool
    servers: list[str]
    output: Path


def parse_options(arguments: list[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench",
        description="Server CPU, throughput and memory of echo servers.",
    )
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="repetitions of every pair of runs (%(default)s)")
    add("--seconds", type=float, default=3.0, help="measured window of a run (%(default)s)")
    add("--warmup", type=float, default=0.5, help="seconds before the window (%(default)s)")
    add("--peers", action="store_true", help="also measure the installed peers")
    names = ", ".join(SERVERS)
    add("--servers", nargs="+", choices=SERVERS, metavar="NAME", help=f"only these of {names}")
    add("--quick", action="store_true", help="one short round into build/: does everything run?")
    add("--nice", type=int, default=0, help="of server and load; below 0 needs privileges")
    add("--output", type=Path, default=HERE, help="directory of RESULTS.md and results.json")
    options = parser.parse_args(arguments, namespace=Options())
    if options.rounds < 1 or options.seconds <= 0 or options.warmup < 0:
        parser.error("--rounds and --seconds must be above 0, --warmup at least 0")
    if options.quick:
        options.rounds, options.seconds, options.output = 1, 1.0, BUILD
    return options


def choose_servers(options: Options) -> list[Server]:
    """Return the servers to measure.

    fastws, and whatever is asked for by name, must be importable; other peers may be missing.
    """
    chosen = []
    for name in options.servers or (list(SERVERS) if options.peers else [FASTWS.name]):
        if importlib.util.find_spec(SERVERS[name].packages[0]) is not None:
            chosen.append(SERVERS[name])
        elif options.servers or name == FASTWS.name:
            raise BenchmarkError(f"{name} is not installed: install it, or leave it out.")
        else:
            print(f"{name} is not installed: left out", file=sys.stderr)
    return chosen


def choose_cores(nice: int) -> Cores:
    """Return the last core for the server; the first, with the system's own work, for the load."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        print("one core for server and load: only ratios of CPU mean something", file=sys.stderr)
    return Cores(server=available[-1], load=available[0], nice=nice)


class Bench:
    """The runs of one invocation. A server that fails is left out from then on and reported."""

    def __init__(self, options: Options, load: Path, cores: Cores, servers: list[Server]) -> None:
        self.options = options
        self.load = load
        self.cores = cores
        self.servers = servers
        self.failures: dict[Server, str] = {}

    def run(self, server: Server, workload: Workload) -> Sample:
        """Measure a fresh process: the luck of one (memory layout, hashes) averages out."""
        with running(server, self.cores) as target:
            sample = run_load(
                self.load, target, workload, self.cores, self.options.warmup, self.options.seconds
            )
        print(
            f"{workload.key} {server.name}: {sample.cpu_us:.2f} µs, "
            f"{sample.messages_per_second:,.0f}/s, server {sample.server_busy:.0%}, "
            f"load {sample.load_busy:.0%}",
            file=sys.stderr,
        )
        return sample

    def attempt(self, server: Server, measure: Callable[[], None]) -> None:
        if server in self.failures:
            return
        try:
            measure()
        except BenchmarkError as error:
            self.failures[server] = str(error)
            print(f"FAILED {error}", file=sys.stderr)

    def require_a_server(self) -> None:
        if self.failures.keys() == set(self.servers):
            raise BenchmarkError("No server is left to measure: each one failed, see above.")

    def echo(self, workload: Workload) -> dict[Server, report.Figures]:
        """Run TCP echo, a server, TCP echo, the next one, …: a slow spell hits both of a pair."""
        baselines: list[Sample] = []
        compared: dict[Server, list[report.Compared]] = {server: [] for server in self.servers}

        def pair(server: Server) -> None:
            sample = self.run(server, workload)
            before = baselines[-1]
            baselines.append(self.run(TCP_ECHO, workload))
            compared[server].append(report.Compared.between(before, sample, baselines[-1]))

        for _ in range(self.options.rounds):
            self.require_a_server()
            baselines.append(self.run(TCP_ECHO, workload))
            for server in self.servers:
                self.attempt(server, lambda server=server: pair(server))  # type: ignore[misc]
        rows = {TCP_ECHO: report.sample_figures(baselines)}
        return rows | {s: report.server_figures(runs) for s, runs in compared.items() if runs}

    def idle(self, connections: int) -> dict[Server, report.Figures]:
        measured: dict[Server, list[IdleMemory]] = {server: [] for server in self.servers}

        def measure(server: Server) -> None:
            memory = measure_idle_memory(self.load, server, connections, self.cores)
            measured[server].append(memory)
            print(f"idle {server.name}: {memory.opened / 1024:.2f} KB", file=sys.stderr)

        for _ in range(min(self.options.rounds, IDLE_ROUNDS)):
            for server in self.servers:
                self.attempt(server, lambda server=server: measure(server))  # type: ignore[misc]
        return {s: report.memory_figures(runs) for s, runs in measured.items() if runs}


def by_name(rows: dict[Server, report.Figures]) -> dict[str, dict[str, dict[str, float]]]:
    return {
        server.name: {figure: asdict(spread) for figure, spread in figures.items()}
        for server, figures in rows.items()
    }


def main() -> int:
    options = parse_options()
    try:
        servers = choose_servers(options)
        load = build_load()
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    bench = Bench(options, load, choose_cores(options.nice), servers)
    environment = report.environment([TCP_ECHO, *servers])
    lines = [
        "# Results",
        "",
        ", ".join(f"{name} {value}" for name, value in environment.items()) + ".",
        "",
        f"Medians of {options.rounds} round(s) of {options.seconds:g} s, in parentheses the lowest "
        "and the highest. Ratios are to the TCP echo's runs directly before and after. "
        "README.md explains the columns.",
        "",
    ]
    results: dict[str, object] = {"environment": environment, "rounds": options.rounds}
    connections = 500 if options.quick else IDLE_CONNECTIONS
    try:
        for workload, target in ECHO:
            rows = bench.echo(workload)
            results[workload.key] = by_name(rows)
            lines += report.echo_table(workload, rows, target, FASTWS.name)
        memory = bench.idle(connections)
        bench.require_a_server()
    except BenchmarkError as error:  # the TCP echo or every server: nothing can be compared
        print(error, file=sys.stderr)
        return 1
    results["idle"] = {"connections": connections, "servers": by_name(memory)}
    lines += report.memory_table(connections, memory, IDLE_TARGET, FASTWS.name)
    for server in bench.failures:
        lines.append(f"- {server.name} failed and is not, or not fully, in the tables.")
    text = "\n".join(lines).rstrip() + "\n"
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "RESULTS.md").write_text(text, encoding="utf-8")
    as_json = json.dumps(results, indent=2) + "\n"
    (options.output / "results.json").write_text(as_json, encoding="utf-8")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
