"""FastAPI on uvicorn, with and without this package's WebSocket protocol class:
`python -m benchmarks.uvicorn_dropin --help`.

Both serve the same application with uvicorn's defaults, turn and turn about, each run in a fresh
process. A ratio is between a run and the mean of the other's runs directly before and after it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks import report
from benchmarks.bench import ECHO, choose_cores
from benchmarks.running import (
    BenchmarkError,
    Cores,
    Sample,
    Server,
    Workload,
    build_load,
    run_load,
    running,
)

PACKAGES = ("fastapi", "starlette", "uvicorn", "websockets", "httptools", "uvloop")
DEFAULT = Server("uvicorn", "FastAPI on uvicorn", "fastapi_echo", PACKAGES)
DROP_IN = Server("drop-in", "FastAPI on uvicorn, `--ws fastws…`", "fastapi_fastws_echo", PACKAGES)

TARGETS = {"echo-64-1": 1.6, "echo-64-16": 2.5}
"""Messages for each second of CPU, as a multiple of those without this package."""


def ratios(without: Sequence[Sample], having: Sequence[Sample]) -> report.Spread:
    """The runs `without` stand before, between and after the others: one more of them."""
    return report.Spread.of(
        [
            (before.cpu_us + after.cpu_us) / 2 / sample.cpu_us
            for before, sample, after in zip(without, having, without[1:], strict=False)
        ]
    )


def measure(workload: Workload, rounds: int, seconds: float, cores: Cores) -> list[str]:
    """Run one workload; the lines of its table."""
    load = build_load()

    def run(server: Server) -> Sample:
        with running(server, cores) as target:
            sample = run_load(load, target, workload, cores, 0.5, seconds)
        print(f"{workload.key} {server.name}: {sample.cpu_us:.2f} µs", file=sys.stderr)
        return sample

    without, having = [run(DEFAULT)], []
    for _ in range(rounds):
        having.append(run(DROP_IN))
        without.append(run(DEFAULT))
    target = report.Target("ratio", TARGETS[workload.key], at_most=False)
    ratio = ratios(without, having)
    lines = [
        f"### {workload.title}",
        "",
        "| server | CPU µs a message | messages a CPU second | messages/s | × without | target |",
        "|---|---|---|---|---|---|",
    ]
    for server, samples in ((DEFAULT, without), (DROP_IN, having)):
        cells = [
            server.title,
            report.Spread.of([sample.cpu_us for sample in samples]).show(),
            report.Spread.of([1e6 / sample.cpu_us for sample in samples]).show(0),
            report.Spread.of([sample.messages_per_second for sample in samples]).show(0),
            ratio.show() if server is DROP_IN else "1",
            target.verdict(ratio.median) if server is DROP_IN else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.uvicorn_dropin",
        description="CPU of FastAPI on uvicorn, with and without this package's protocol class.",
    )
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a run (%(default)s)")
    parser.add_argument("--nice", type=int, default=0, help="of server and load")
    options = parser.parse_args()
    cores = choose_cores(options.nice)
    try:
        for workload, _ in ECHO:
            print("\n".join(measure(workload, options.rounds, options.seconds, cores)), flush=True)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
