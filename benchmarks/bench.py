"""The benchmarks that run servers: `python -m benchmarks.bench --help`.

README.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path

from benchmarks import micro, report
from benchmarks.contenders import FASTWS, OWN, SEND_LOOP, SERVERS, TCP_ECHO
from benchmarks.goals import goals_table
from benchmarks.running import (
    BUILD,
    HERE,
    PEERS_PYTHON,
    BenchmarkError,
    Cores,
    IdleMemory,
    RunningServer,
    Sample,
    Server,
    Workload,
    build_load,
    measure_idle_memory,
    run_load,
)
from benchmarks.workloads import IDLE, SHORT, WORKLOADS, Idle

BY_KEY = {workload.key: workload for workload in WORKLOADS}
ECHO = (
    (BY_KEY["echo-64-1"], report.Target("cpu_ratio", 1.10, at_most=True)),
    (BY_KEY["echo-64-16"], report.Target("throughput_ratio", 0.75, at_most=False)),
)
BETWEEN_BASELINES = 3
"""Servers measured one after the other before the baseline has its turn again."""

# For the estimate of a whole run. Starting, connecting and closing, in seconds.
_AROUND_A_RUN = 0.15
_START = 0.8
_IDLE = 1.7
_IDLE_CONNECTION = 0.00027


class Options(argparse.Namespace):
    rounds: int
    seconds: float
    warmup: float
    nice: int
    peers: bool
    quick: bool
    show: bool
    only: list[str]
    output: Path


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench",
        description="Server CPU, throughput, latency and memory of WebSocket servers.",
    )
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="repetitions of every run (%(default)s)")
    add("--seconds", type=float, help="measured window of a run (3; with --peers 0.5)")
    add("--warmup", type=float, help="seconds before the window (0.5; with --peers 0.15)")
    add("--peers", action="store_true", help="every workload, and what `make bench-peers` installs")
    add(
        "--only",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="only the workloads and the servers of these names, as in 'echo-64*' fastws picows",
    )
    add(
        "--list",
        action="store_true",
        dest="show",
        help="name workloads and servers, estimate the time, end",
    )
    add("--quick", action="store_true", help="one short round: does everything run?")
    add("--nice", type=int, default=0, help="of server and load; below 0 needs privileges")
    add(
        "--output",
        type=Path,
        help="directory of RESULTS.md and results.json (build/results; of a whole --peers, this)",
    )
    options = parser.parse_args(arguments, namespace=Options())
    if options.output is None:
        # What is committed has everything in it.
        whole = options.peers and not options.only and not options.quick
        options.output = HERE if whole else BUILD / "results"
    if options.quick:
        options.rounds = 1
        options.seconds = options.seconds or 0.5
        options.warmup = 0.1
    options.seconds = options.seconds or (0.5 if options.peers else 3.0)
    if options.warmup is None:
        options.warmup = 0.15 if options.peers else 0.5
    if options.rounds < 1 or options.seconds <= 0 or options.warmup < 0:
        parser.error("--rounds and --seconds must be above 0, --warmup at least 0")
    for pattern in options.only:
        if not _matching([pattern], _keys()) and not _matching([pattern], list(SERVERS)):
            names = ", ".join([*_keys(), *SERVERS])
            parser.error(f"--only {pattern} names none of {names}")
    return options


def _keys() -> list[str]:
    return [workload.key for workload in (*WORKLOADS, *IDLE)] + [micro.KEY]


def _matching(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]


def choose_keys(options: Options) -> list[str]:
    keys = _keys() if options.peers else list(SHORT)
    return _matching(options.only, _keys()) or keys


def choose_servers(options: Options, versions: dict[str, str]) -> tuple[list[Server], list[Server]]:
    """Return the servers to measure, and those that are left out as they are not installed.

    fastws, and whatever is asked for by name, must be installed; other peers may be missing.
    """
    asked = _matching(options.only, list(SERVERS))
    chosen, missing = [], []
    for name in asked or (list(SERVERS) if options.peers else [FASTWS.name]):
        if SERVERS[name].packages[0] in versions:
            chosen.append(SERVERS[name])
        elif asked or name == FASTWS.name:
            raise BenchmarkError(f"{name} is not installed: `make bench-peers` installs the peers.")
        else:
            missing.append(SERVERS[name])
    return chosen, missing


def choose_cores(nice: int) -> Cores:
    """Return the last core for the server; the first, with the system's own work, for the load."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        print("one core for server and load: only ratios of CPU mean something", file=sys.stderr)
    return Cores(server=available[-1], load=available[0], nice=nice)


def estimate_seconds(options: Options, keys: Sequence[str], servers: Sequence[Server]) -> float:
    a_run = options.warmup + options.seconds + _AROUND_A_RUN
    timed = idle = 0.0
    started: set[tuple[Server, str]] = set()
    for key in keys:
        taking_part = [server for server in servers if server.takes_part_in(key)]
        if key in BY_KEY:
            baselines = 1 + -(-len(taking_part) // BETWEEN_BASELINES)
            timed += (len(taking_part) + baselines) * a_run
            started |= {(server, BY_KEY[key].compression) for server in taking_part}
        for one in IDLE:
            if one.key == key:
                each = _IDLE + _IDLE_CONNECTION * one.connections
                idle += each * (len(taking_part) + 1) * idle_rounds(options, one)
    timed = options.rounds * (timed + len(started) * _START)
    return timed + idle + (micro.SECONDS if micro.KEY in keys else 0)


def idle_rounds(options: Options, idle: Idle) -> int:
    """Memory hardly varies: of the most connections one round will do."""
    return min(options.rounds, 3) if idle.connections == IDLE[0].connections else 1


class Bench:
    """The runs of one invocation.

    A server's process lives through all workloads of a round. Where a server fails in a workload,
    that is its result there; it is started afresh for the next one.
    """

    def __init__(
        self,
        options: Options,
        load: Path,
        cores: Cores,
        python: Path,
        servers: Sequence[Server],
        missing: Sequence[Server] = (),
    ) -> None:
        self.options = options
        self.load = load
        self.cores = cores
        self.python = python
        self.servers = servers
        self.missing = missing
        self.failures: dict[str, dict[str, list[str]]] = {}
        """Sentences, by the key of the workload and the name of the server; one a round."""
        self._processes: dict[tuple[Server, str], RunningServer] = {}
        self._last: dict[tuple[Server, str], str] = {}  # the key of the workload it did last

    @contextmanager
    def round(self) -> Iterator[None]:
        try:
            yield
        finally:
            for key in list(self._processes):
                self._note_death(key)
            for process in self._processes.values():
                process.stop()
            self._processes.clear()

    def _note_death(self, key: tuple[Server, str]) -> None:
        """A process that ended by itself has failed in what it did last, its figure or not."""
        process = self._processes[key]
        if not process.is_alive:
            self._failed(self._last[key], key[0], process.failure("after its measured window"))
            del self._processes[key]
            process.stop()

    def _process(self, server: Server, compression: str) -> RunningServer:
        key = (server, compression)
        if key in self._processes:
            self._note_death(key)
        if key not in self._processes:
            self._processes[key] = RunningServer(server, self.cores, self.python, compression)
        return self._processes[key]

    def run(self, server: Server, workload: Workload) -> Sample:
        options = self.options
        compression = "off" if server.raw else workload.compression
        process = self._process(server, compression)
        self._last[server, compression] = workload.key
        try:
            sample = run_load(
                self.load, process, workload, self.cores, options.warmup, options.seconds
            )
        except BenchmarkError:
            self._processes.pop((server, compression)).stop()
            raise
        print(
            f"{workload.key} {server.name}: {sample.cpu_us:.2f} µs, "
            f"{sample.messages_per_second:,.0f}/s, server {sample.server_busy:.0%}, "
            f"load {sample.load_busy:.0%}",
            file=sys.stderr,
        )
        return sample

    def _failed(self, key: str, server: Server, error: BenchmarkError) -> None:
        self.failures.setdefault(key, {}).setdefault(server.name, []).append(error.brief)
        print(f"FAILED {key} {error}", file=sys.stderr)

    def _is_out(self, key: str, server: Server) -> bool:
        """Whether it is not measured there, or failed twice: once may have been the machine."""
        gave_up = len(self.failures.get(key, {}).get(server.name, [])) > 1
        return gave_up or not server.takes_part_in(key)

    def _turns(self, key: str, turn: int) -> list[list[Server]]:
        """In each round others are neighbours of the baseline, and first."""
        left = [server for server in self.servers if not self._is_out(key, server)]
        shift = turn % len(left) if left else 0
        left = left[shift:] + left[:shift]
        return [left[i : i + BETWEEN_BASELINES] for i in range(0, len(left), BETWEEN_BASELINES)]

    def compare(self, workload: Workload, turn: int, rows: Measured) -> None:
        """Run baseline, some servers, baseline, the next ones, …: a slow spell hits both."""
        try:
            self._compare(workload, turn, rows)
        except BenchmarkError as error:
            self._failed(workload.key, baseline_of(workload), error)

    def _compare(self, workload: Workload, turn: int, rows: Measured) -> None:
        baseline = baseline_of(workload)
        before = self.run(baseline, workload)
        rows.baselines.append(before)
        for servers in self._turns(workload.key, turn):
            samples: dict[str, Sample] = {}
            for server in servers:
                try:
                    samples[server.name] = self.run(server, workload)
                except BenchmarkError as error:
                    self._failed(workload.key, server, error)
            if samples:
                after = self.run(baseline, workload)
                rows.baselines.append(after)
                for name, sample in samples.items():
                    pair = report.Compared.between(before, sample, after)
                    rows.compared.setdefault(name, []).append(pair)
                before = after

    def idle(self, idle: Idle) -> report.Rows:
        runs: dict[str, list[IdleMemory]] = {}
        for _ in range(idle_rounds(self.options, idle)):
            for server in (TCP_ECHO, *self.servers):
                if self._is_out(idle.key, server):
                    continue
                connections = 500 if self.options.quick else idle.connections
                compression = "off" if server.raw else idle.compression
                try:
                    memory = measure_idle_memory(
                        self.load, server, connections, self.cores, self.python, compression
                    )
                except BenchmarkError as error:
                    self._failed(idle.key, server, error)
                else:
                    runs.setdefault(server.name, []).append(memory)
                    kilobytes = memory.opened / 1024
                    print(f"{idle.key} {server.name}: {kilobytes:.2f} KB", file=sys.stderr)
        return {name: report.memory_figures(memories) for name, memories in runs.items()}


class Measured:
    """The samples of one workload, over all rounds."""

    def __init__(self) -> None:
        self.baselines: list[Sample] = []
        self.compared: dict[str, list[report.Compared]] = {}

    def rows(self, baseline: Server) -> report.Rows:
        if not self.compared:
            return {}
        return {baseline.name: report.sample_figures(self.baselines)} | {
            name: report.server_figures(runs) for name, runs in self.compared.items()
        }


def baseline_of(workload: Workload) -> Server:
    return SEND_LOOP if workload.activity == "fanout" else TCP_ECHO


def measure(bench: Bench, keys: Sequence[str]) -> dict[str, report.Rows]:
    workloads = [workload for workload in WORKLOADS if workload.key in keys]
    measured = {workload.key: Measured() for workload in workloads}
    for turn in range(bench.options.rounds):
        with bench.round():
            for workload in workloads:
                bench.compare(workload, turn, measured[workload.key])
    results = {w.key: measured[w.key].rows(baseline_of(w)) for w in workloads}
    return results | {idle.key: bench.idle(idle) for idle in IDLE if idle.key in keys}


def _missing(bench: Bench) -> list[str]:
    if not bench.missing:
        return []
    titles = ", ".join(server.title for server in bench.missing)
    return [f"Not installed, and so compared with nothing: {titles}.", ""]


def write_up(
    bench: Bench,
    results: dict[str, report.Rows],
    environment: dict[str, str],
    codec: Sequence[micro.Figure],
) -> list[str]:
    options = bench.options
    servers = {server.name: server for server in (TCP_ECHO, SEND_LOOP, *SERVERS.values())}
    lines = [
        "# Results",
        "",
        ", ".join(f"{name} {value}" for name, value in environment.items()) + ".",
        "",
        f"Medians of {options.rounds} round(s) of {options.seconds:g} s, in parentheses the lowest "
        "and the highest; a figure without them was seen once, or was the same each time, and the "
        "codec's are the best of many. Ratios are to the baseline's runs directly before and "
        "after. A server that could not do a workload is last in its table, with what happened. "
        "README.md explains the columns.",
        "",
        *_missing(bench),
        *goals_table(results),
        *micro.goals_table(codec),
    ]
    for workload in WORKLOADS:
        if workload.key in results:
            failures = bench.failures.get(workload.key, {})
            lines += report.workload_table(
                workload, results[workload.key], baseline_of(workload), servers, failures
            )
    for idle in IDLE:
        if idle.key in results:
            failures = bench.failures.get(idle.key, {})
            lines += report.memory_table(idle, results[idle.key], servers, failures)
    return lines + micro.tables(codec)


def as_json(
    bench: Bench,
    results: dict[str, report.Rows],
    environment: dict[str, str],
    codec: Sequence[micro.Figure],
) -> str:
    spreads = {
        key: {
            name: {figure: asdict(spread) for figure, spread in figures.items()}
            for name, figures in rows.items()
        }
        for key, rows in results.items()
    }
    whole = {
        "environment": environment,
        "rounds": bench.options.rounds,
        "seconds": bench.options.seconds,
        "results": spreads,
        "failures": bench.failures,
        "codec": [asdict(figure) for figure in codec],
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def draw(python: Path, results: Path) -> None:
    """Plots need matplotlib, which the peers' environment has."""
    command = [str(python), "-m", "benchmarks.plots", str(results), str(results.parent / "plots")]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchmarkError(f"The plots could not be drawn:\n{done.stderr}")


def main() -> int:
    options = parse_options()
    use_peers = (options.peers or options.only) and PEERS_PYTHON.exists()
    python = PEERS_PYTHON if use_peers else Path(sys.executable)
    try:
        versions = report.versions(python, [TCP_ECHO, *SERVERS.values()])
        servers, missing = choose_servers(options, versions)
        keys = choose_keys(options)
        expected = estimate_seconds(options, keys, servers)
        print(f"about {expected / 60:.0f} minutes", file=sys.stderr)
        if options.show:
            print("workloads:", *keys, "\nservers:", *(server.name for server in servers))
            return 0
        cores = choose_cores(options.nice)
        bench = Bench(options, build_load(), cores, python, servers, missing)
        started = time.monotonic()
        codec = micro.measure(python, options.quick) if micro.KEY in keys else []
        results = measure(bench, keys)
    except BenchmarkError as error:  # nothing can be built or run
        print(error, file=sys.stderr)
        return 1
    needed = dict.fromkeys(package for server in servers for package in server.packages)
    environment = report.machine() | {
        name: versions[name] for name in ("Python", *needed) if name in versions
    }
    text = "\n".join(write_up(bench, results, environment, codec)).rstrip() + "\n"
    print(text)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "RESULTS.md").write_text(text, encoding="utf-8")
    path = options.output / "results.json"
    path.write_text(as_json(bench, results, environment, codec), encoding="utf-8")
    print(f"took {(time.monotonic() - started) / 60:.1f} minutes", file=sys.stderr)
    if options.peers:
        try:
            draw(python, path)
        except BenchmarkError as error:
            print(error, file=sys.stderr)
            return 1
    own = [
        f"{server.name} in {key}"
        for key, failed in bench.failures.items()
        for server in OWN
        if server.name in failed
    ]
    if own:
        print(f"failed: {', '.join(own)}", file=sys.stderr)
    return 1 if own else 0


if __name__ == "__main__":
    sys.exit(main())
