"""Runs the tests under coverage.py and prints the table; `make coverage` starts it in the variant.

    python tools/coverage_report.py [pytest options]

The exit status is that of the tests, or 1 where a module of FLOORS has lines that no test ran.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

#: Per cent of the lines of a file that the tests must run.
FLOORS = {"fastws/_codec.pyx": 100.0}

REPORT = Path("build/coverage.json")


def coverage(*words: str) -> int:
    return subprocess.run([sys.executable, "-m", "coverage", *words]).returncode


def below_floor() -> list[str]:
    """A sentence for each file under its floor, or without any measured line."""
    files = json.loads(REPORT.read_text())["files"]
    sentences = []
    for name, floor in FLOORS.items():
        measured = files.get(name)
        if measured is None:
            sentences.append(f"{name}: not measured; is it compiled with line tracing?")
        elif measured["summary"]["percent_covered"] < floor:
            percent = measured["summary"]["percent_covered"]
            sentences.append(
                f"{name}: the tests run {percent:.2f} % of its lines, and {floor:g} % is required; "
                "the table lists the others"
            )
    return sentences


def main() -> int:
    coverage("erase")
    chosen = ["-m", "not browser and not foreign and not measures", "-p", "no:cacheprovider"]
    tests = coverage("run", "-m", "pytest", *chosen, *sys.argv[1:])
    coverage("combine", "--quiet")
    coverage("report")
    REPORT.parent.mkdir(exist_ok=True)
    coverage("json", "--quiet", "-o", str(REPORT))
    sentences = below_floor()
    for sentence in sentences:
        print(sentence)
    return tests or int(bool(sentences))


if __name__ == "__main__":
    sys.exit(main())
