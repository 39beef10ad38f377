"""What the runs amount to: medians with their spread, ratios to the TCP echo, Markdown tables."""

from __future__ import annotations

import datetime
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module, metadata

from benchmarks.running import IdleMemory, Sample, Server, Workload

LOAD_SATURATED = 0.90
CORE_CONTENDED = 0.05


@dataclass(frozen=True)
class Compared:
    """One run of a server with the mean of the TCP echo's runs directly before and after it."""

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
    }


def memory_figures(runs: Sequence[IdleMemory]) -> Figures:
    return {
        "opened_kb": Spread.of([run.opened / 1024 for run in runs]),
        "exchanged_kb": Spread.of([run.exchanged / 1024 for run in runs]),
    }


def _percent(spread: Spread) -> str:
    return f"{spread.median:.0%}"


def echo_table(
    workload: Workload, rows: dict[Server, Figures], target: Target, targeted: str
) -> list[str]:
    """Markdown lines of one echo workload; the target is judged for the server named `targeted`."""
    lines = [
        f"### {workload.title}",
        "",
        "| server | CPU µs a message | × TCP echo | messages/s | × TCP echo | p50 µs | p99 µs "
        "| server core: busy, lost | load core | target |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for server, figures in rows.items():
        is_baseline = "cpu_ratio" not in figures
        verdict = target.verdict(figures[target.figure].median) if server.name == targeted else ""
        cells = [
            server.title,
            figures["cpu_us"].show(),
            "1" if is_baseline else figures["cpu_ratio"].show(),
            f"{figures['messages_per_second'].median:,.0f}",
            "1" if is_baseline else figures["throughput_ratio"].show(),
            f"{figures['p50_us'].median:,.0f}",
            f"{figures['p99_us'].median:,.0f}",
            f"{_percent(figures['server_busy'])}, {_percent(figures['server_lost'])}",
            _percent(figures["load_busy"]),
            verdict,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, "", *_warnings(workload, rows)]


def _warnings(workload: Workload, rows: dict[Server, Figures]) -> list[str]:
    lines = []
    for server, figures in rows.items():
        if figures["load_busy"].median > LOAD_SATURATED:
            lines.append(
                f"- {server.name}: the load generator used {_percent(figures['load_busy'])} of its "
                "core and may limit the messages/s; the CPU a message stands."
            )
    contended = [s.name for s, f in rows.items() if f["server_lost"].median > CORE_CONTENDED]
    if contended:
        lines.append(
            f"- The machine was not quiet: other processes took more than {CORE_CONTENDED:.0%} of "
            f"the server's core from {', '.join(contended)}. Throughput and latency suffer most; "
            "messages for each CPU second of the server, × TCP echo, are steadier: "
            + ", ".join(
                f"{server.name} {1 / figures['cpu_ratio'].median:.2f}"
                for server, figures in rows.items()
                if "cpu_ratio" in figures
            )
            + "."
        )
    return [*lines, ""] if lines else []


def memory_table(
    connections: int, rows: dict[Server, Figures], target: Target, targeted: str
) -> list[str]:
    """Markdown lines of the memory of idle connections; 1 KB is 1,024 bytes."""
    lines = [
        f"### Memory of an idle connection, {connections:,} open",
        "",
        "| server | KB, opened | KB, after one message each | target |",
        "|---|---|---|---|",
    ]
    for server, figures in rows.items():
        verdict = target.verdict(figures[target.figure].median) if server.name == targeted else ""
        opened, exchanged = figures["opened_kb"].show(), figures["exchanged_kb"].show()
        lines.append(f"| {server.title} | {opened} | {exchanged} | {verdict} |")
    return [*lines, ""]


def _cpu_model() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
        for line in info:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # built in place, not installed
        return str(import_module(package).__version__)


def environment(servers: Sequence[Server]) -> dict[str, str]:
    """Return what the figures depend on: hardware, kernel, interpreter, packages; no path."""
    packages = dict.fromkeys(package for server in servers for package in server.packages)
    return {
        "date": datetime.date.today().isoformat(),
        "CPU": _cpu_model(),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    } | {package: _version(package) for package in packages}
