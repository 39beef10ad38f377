"""What the runs amount to: medians with their spread, ratios to the baseline, Markdown tables."""

from __future__ import annotations

import datetime
import json
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.running import PEERS, BenchmarkError, IdleMemory, Sample, Server, Workload
from benchmarks.workloads import Idle

LOAD_SATURATED = 0.90
CORE_CONTENDED = 0.05


@dataclass(frozen=True)
class Compared:
    """One run of a server with the mean of the baseline's runs before and after it."""

    sample: Sample
    baseline_cpu_us: float
    baseline_messages_per_second: float

    @classmethod
    def between(cls, before: Sample, sample: Sample, after: Sample) -> Compared:
        return cls(
            sample,
            (before.cpu_us + after.cpu_us) / 2,
            (before.messages_per_second + after.messages_per_second) / 2,
        )

    @property
    def cpu_ratio(self) -> float:
        return self.sample.cpu_us / self.baseline_cpu_us

    @property
    def throughput_ratio(self) -> float:
        return self.sample.messages_per_second / self.baseline_messages_per_second


@dataclass(frozen=True)
class Spread:
    """Median, lowest and highest of the rounds."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def show(self, digits: int = 2) -> str:
        low, high = f"{self.lowest:,.{digits}f}", f"{self.highest:,.{digits}f}"
        middle = f"{self.median:,.{digits}f}"
        return middle if low == high else f"{middle} ({low}–{high})"


@dataclass(frozen=True)
class Target:
    """A figure to reach: `figure` is a key of a row's spreads."""

    figure: str
    limit: float
    at_most: bool

    def verdict(self, value: float) -> str:
        met = value <= self.limit if self.at_most else value >= self.limit
        return f"{'≤' if self.at_most else '≥'} {self.limit:.2f}: {'met' if met else 'missed'}"


Figures = dict[str, Spread]
Rows = dict[str, Figures]
"""By the server's name, the baseline first; a server that failed has none."""

Failures = Mapping[str, Sequence[str]]
"""Sentences by the server's name, one for each round that failed."""


def server_figures(runs: Sequence[Compared]) -> Figures:
    return sample_figures([run.sample for run in runs]) | {
        "cpu_ratio": Spread.of([run.cpu_ratio for run in runs]),
        "throughput_ratio": Spread.of([run.throughput_ratio for run in runs]),
    }


def sample_figures(samples: Sequence[Sample]) -> Figures:
    return {
        "cpu_us": Spread.of([s.cpu_us for s in samples]),
        "messages_per_second": Spread.of([s.messages_per_second for s in samples]),
        "p50_us": Spread.of([s.p50_us for s in samples]),
        "p99_us": Spread.of([s.p99_us for s in samples]),
        "server_busy": Spread.of([s.server_busy for s in samples]),
        "server_lost": Spread.of([s.server_lost for s in samples]),
        "load_busy": Spread.of([s.load_busy for s in samples]),
        "unclosed": Spread.of([s.unclosed for s in samples]),
    }


def memory_figures(runs: Sequence[IdleMemory]) -> Figures:
    return {
        "opened_kb": Spread.of([run.opened / 1024 for run in runs]),
        "exchanged_kb": Spread.of([run.exchanged / 1024 for run in runs]),
    }


# ---------------------------------------------------------------------------- tables


def _percent(spread: Spread) -> str:
    return f"{spread.median:.0%}"


def _by_cost(rows: Rows, figure: str) -> list[str]:
    """The baseline stays in front; the rest from the least to the most."""
    if not rows:
        return []
    first, *others = rows
    return [first, *sorted(others, key=lambda name: rows[name][figure].median)]


def workload_table(
    workload: Workload,
    rows: Rows,
    baseline: Server,
    servers: Mapping[str, Server],
    failures: Failures,
) -> list[str]:
    """Markdown lines of one workload."""
    plural = "deliveries" if workload.unit == "delivery" else f"{workload.unit}s"
    base = "TCP echo" if baseline.name == "tcp" else "`send()` loop"
    lines = [
        f"### {workload.title}",
        "",
        f"| server | CPU µs a {workload.unit} | × {base} | {plural}/s | × {base} "
        "| p50 µs | p99 µs | server core: busy, lost | load core |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in _by_cost(rows, "cpu_ratio"):
        figures = rows[name]
        is_baseline = "cpu_ratio" not in figures
        cells = [
            servers[name].title,
            figures["cpu_us"].show(),
            "1" if is_baseline else figures["cpu_ratio"].show(),
            f"{figures['messages_per_second'].median:,.0f}",
            "1" if is_baseline else figures["throughput_ratio"].show(),
            f"{figures['p50_us'].median:,.0f}",
            f"{figures['p99_us'].median:,.0f}",
            f"{_percent(figures['server_busy'])}, {_percent(figures['server_lost'])}",
            _percent(figures["load_busy"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += _failed_rows(rows, servers, failures, 9)
    return [*lines, "", *_warnings(rows, servers, failures)]


def _what(sentences: Sequence[str]) -> str:
    """What happened, without the name of the server in front."""
    return sentences[0].partition(": ")[2].replace("|", "\\|")


def _failed_rows(
    rows: Rows, servers: Mapping[str, Server], failures: Failures, columns: int
) -> list[str]:
    """Of the servers that have no figure at all."""
    return [
        f"| {servers[name].title} | {_what(sentences)} |" + " |" * (columns - 2)
        for name, sentences in failures.items()
        if name not in rows
    ]


def _warnings(rows: Rows, servers: Mapping[str, Server], failures: Failures) -> list[str]:
    lines = [
        f"- {servers[name].title} failed in {len(sentences)} round(s): {_what(sentences)}."
        for name, sentences in failures.items()
        if name in rows
    ]
    if not rows:
        return [*lines, ""] if lines else []
    saturated = [
        f"{name} ({_percent(figures['load_busy'])})"
        for name, figures in rows.items()
        if figures["load_busy"].median > LOAD_SATURATED
    ]
    if saturated:
        lines.append(
            "- The load generator was near the limit of its core and may limit the messages/s of "
            f"{', '.join(saturated)}; the CPU a message stands."
        )
    unclosed = [
        f"{name} ({figures['unclosed'].highest:.0f})"
        for name, figures in rows.items()
        if figures["unclosed"].highest > 0
    ]
    if unclosed:
        lines.append(f"- Connections left open after the closing handshake: {', '.join(unclosed)}.")
    # Half of the servers: those of several threads wait for themselves.
    lost = statistics.median(figures["server_lost"].median for figures in rows.values())
    if lost > CORE_CONTENDED:
        lines.append(
            f"- The machine was not quiet: others took {lost:.0%} of the server's core. "
            "Throughput and latency suffer most; compare CPU."
        )
    return [*lines, ""] if lines else []


def memory_table(
    idle: Idle, rows: Rows, servers: Mapping[str, Server], failures: Failures
) -> list[str]:
    """Markdown lines of the memory of idle connections; 1 KB is 1,024 bytes."""
    lines = [
        f"### {idle.title}",
        "",
        "| server | KB, opened | × TCP echo | KB, after one message each |",
        "|---|---|---|---|",
    ]
    base = rows.get("tcp")
    for name in sorted(rows, key=lambda name: rows[name]["opened_kb"].median):
        opened = rows[name]["opened_kb"]
        ratio = "" if base is None else f"{opened.median / base['opened_kb'].median:.2f}"
        cells = [servers[name].title, opened.show(), ratio, rows[name]["exchanged_kb"].show()]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, *_failed_rows(rows, servers, failures, 4), ""]


# ---------------------------------------------------------------------------- the machine

_VERSIONS = """
import json, platform, sys
from importlib import metadata
versions = {"Python": platform.python_implementation() + " " + platform.python_version()}
for name in sys.argv[1:]:
    try:
        versions[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(versions))
"""


def _node_versions() -> dict[str, str]:
    package = PEERS / "node_modules" / "ws" / "package.json"
    try:
        node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
        ws = json.loads(package.read_text(encoding="utf-8"))["version"]
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"ws": f"{ws} on Node.js {node.stdout.strip().removeprefix('v')}"}


def versions(python: Path, servers: Sequence[Server]) -> dict[str, str]:
    """Versions of Python and of what the servers need; what is not installed is left out.

    Raises BenchmarkError when that Python does not run.
    """
    import fastws

    needed = dict.fromkeys(
        package for server in servers if server.program == "python" for package in server.packages
    )
    command = [str(python), "-c", _VERSIONS, *needed]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchmarkError(f"{python.name} of the peers' environment does not run.")
    found: dict[str, str] = json.loads(done.stdout)
    # It is this tree's, wherever it is installed.
    found["fastws"] = fastws.__version__
    if any(server.program == "node" for server in servers):
        found |= _node_versions()
    return found


def _cpu_model() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
        for line in info:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine() -> dict[str, str]:
    """Return what the figures depend on besides versions: no path, no name of the machine."""
    return {
        "date": datetime.date.today().isoformat(),
        "CPU": _cpu_model(),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
    }
