"""Both type checkers accept tests/typing/uses.py, and find every mistake of misuses.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.node import node_with
from tests.support import ROOT, TIMEOUT

PROGRAMS = ROOT / "tests" / "typing"

PYRIGHT = "1.1.414"
"""A version that is known: each next one may find more."""

pytestmark = pytest.mark.slow


def mypy(*paths: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *map(str, paths)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=40 * TIMEOUT,
    )


def pyright(project: Path) -> dict[str, int]:
    """Check a folder that has a pyrightconfig.json; returns the summary, which counts errors."""
    folder = ROOT / "build" / f"pyright-{PYRIGHT}"
    node, environment = node_with("pyright", PYRIGHT, folder)
    program = folder / "node_modules" / "pyright" / "index.js"
    done = subprocess.run(
        [node, str(program), "-p", str(project), "--pythonpath", sys.executable, "--outputjson"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=40 * TIMEOUT,
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    found = json.loads(done.stdout)
    for problem in found["generalDiagnostics"]:
        line = problem.get("range", {}).get("start", {}).get("line", -1) + 1
        print(f"{problem['file']}:{line}: {problem['message']} ({problem.get('rule')})")
    summary: dict[str, int] = found["summary"]
    return summary


def test_mypy() -> None:
    done = mypy(*sorted(PROGRAMS.glob("*.py")))
    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright() -> None:
    summary = pyright(PROGRAMS)
    assert summary["filesAnalyzed"] == len(list(PROGRAMS.glob("*.py")))
    assert (summary["errorCount"], summary["warningCount"]) == (0, 0)


def test_a_mistake_without_its_comment_is_found(tmp_path: Path) -> None:
    """That the checks check: they see the package, and what is wrong with its use."""
    mistake = "import fastws\nlength: str = fastws.build_frame(1, b'')\n"
    (tmp_path / "mistake.py").write_text(mistake)
    done = mypy(tmp_path / "mistake.py")
    assert "Incompatible types in assignment" in done.stdout, done.stdout + done.stderr
    config = {"include": ["."], "extraPaths": [str(ROOT)], "typeCheckingMode": "strict"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    assert pyright(tmp_path)["errorCount"] == 1
