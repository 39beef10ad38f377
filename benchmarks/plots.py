"""Plots of results.json: `python -m benchmarks.plots RESULTS.JSON DIRECTORY`.

One PNG and one SVG each, on a transparent background, in colours that can be read on white and on
black.
"""

# mypy: disable-error-code="import-not-found"
# Only the peers' environment has matplotlib.

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contenders import SEND_LOOP, SERVERS, TCP_ECHO

if TYPE_CHECKING:
    from collections.abc import Sequence

# Each has a contrast of 3 and more to white as well as to black.
INK = "#808080"
OWN = "#1f8f5f"
PEER = "#7a86a8"
BASELINE = "#b07d2b"

Results = dict[str, dict[str, dict[str, dict[str, float]]]]
"""By workload, server and figure: median, lowest, highest."""


@dataclass(frozen=True)
class Plot:
    """Horizontal bars of one figure; the axis is logarithmic where the peers are far apart."""

    name: str
    title: str
    axis: str
    key: str
    figure: str
    digits: int
    logarithmic: bool = False
    most_is_best: bool = False


PLOTS = (
    Plot(
        "echo",
        "Echo of 64 B text, 50 connections, 1 in flight",
        "CPU of the server a message, × TCP echo (less is better)",
        "echo-64-1",
        "cpu_ratio",
        2,
    ),
    Plot(
        "echo-in-flight",
        "Echo of 64 B text, 50 connections, 16 in flight",
        "CPU of the server a message, × TCP echo (less is better)",
        "echo-64-16",
        "cpu_ratio",
        1,
        logarithmic=True,
    ),
    Plot(
        "json",
        "JSON echo, 1 KB parsed and serialised",
        "CPU of the server a message, × TCP echo of the same bytes (less is better)",
        "json-1k",
        "cpu_ratio",
        1,
        logarithmic=True,
    ),
    Plot(
        "fanout",
        "128 B to 1,000 receivers",
        "CPU of the server a delivery, × a bare send() loop in C (less is better)",
        "fanout",
        "cpu_ratio",
        2,
    ),
    Plot(
        "handshakes",
        "Opening and closing handshakes",
        "a second, × TCP connections that echo as much (more is better)",
        "handshakes",
        "throughput_ratio",
        2,
        most_is_best=True,
    ),
    Plot(
        "memory",
        "5,000 idle connections",
        "KB of resident memory each (less is better)",
        "idle-5k",
        "opened_kb",
        1,
    ),
)


def _title(name: str) -> str:
    servers = {s.name: s for s in (TCP_ECHO, SEND_LOOP, *SERVERS.values())}
    plain = re.sub(r"[*`]", "", servers[name].title)
    return plain.partition(" (")[0]


def _colour(name: str) -> str:
    if name in (TCP_ECHO.name, SEND_LOOP.name):
        return BASELINE
    return OWN if name in ("fastws", "fastws-zlib-ng", "drop-in") else PEER


def bars(plot: Plot, results: Results) -> list[tuple[str, float]]:
    """Name and median of each server that has the figure, the best first."""
    rows = results.get(plot.key, {})
    found = []
    for name, figures in rows.items():
        if plot.figure in figures:
            found.append((name, figures[plot.figure]["median"]))
        elif plot.figure in ("cpu_ratio", "throughput_ratio"):
            found.append((name, 1.0))  # the baseline itself
    return sorted(found, key=lambda bar: bar[1], reverse=plot.most_is_best)


def draw(plot: Plot, shown: Sequence[tuple[str, float]], save: Callable[[Any], None]) -> None:
    import matplotlib

    matplotlib.use("agg")
    # Text stays text in the SVG: it is small, and can be searched.
    matplotlib.rcParams["svg.fonttype"] = "none"
    # The same results give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "fastws"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8.6, 0.9 + 0.29 * len(shown)), layout="constrained")
    names = [_title(name) for name, _ in shown]
    values = [value for _, value in shown]
    drawn = axes.barh(names, values, color=[_colour(name) for name, _ in shown], height=0.72)
    axes.invert_yaxis()
    if plot.logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    axes.bar_label(
        drawn, labels=[f"{value:,.{plot.digits}f}" for value in values], padding=3, color=INK
    )
    axes.margins(x=0.1, y=0.01)
    axes.set_title(plot.title, color=INK, loc="left", fontsize=12, fontweight="bold")
    axes.set_xlabel(plot.axis, color=INK)
    axes.tick_params(colors=INK, which="both", left=False)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(INK)
    for label, (name, _) in zip(axes.get_yticklabels(), shown, strict=True):
        label.set_color(_colour(name) if _colour(name) != PEER else INK)
        label.set_fontweight("bold" if _colour(name) == OWN else "normal")
    if plot.logarithmic:
        axes.set_xlim(left=0.5)
    save(figure)
    pyplot.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("directory", type=Path)
    options = parser.parse_args()
    results: Results = json.loads(options.results.read_text(encoding="utf-8"))["results"]
    options.directory.mkdir(parents=True, exist_ok=True)
    for plot in PLOTS:
        shown = bars(plot, results)
        if len(shown) < 2:
            continue

        def save(figure: Any, name: str = plot.name) -> None:
            path = options.directory / name
            figure.savefig(path.with_suffix(".png"), transparent=True, dpi=110)
            # Without a date, the same results give the same file.
            figure.savefig(path.with_suffix(".svg"), transparent=True, metadata={"Date": None})

        draw(plot, shown, save)
    return 0


if __name__ == "__main__":
    sys.exit(main())
