"""What the package consists of, how it fails without its extension, and what `make` offers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli
from packaging.requirements import Requirement

import fastws
from tests.support import ROOT, TIMEOUT

PACKAGE = ROOT / "fastws"
COMPILED = sorted(path.stem for path in PACKAGE.glob("_*.pyx"))
OF_INTEGRATIONS = {"_asgi_channel"}
"""Those that `import fastws` leaves to `import fastws.integrations.uvicorn`."""

TARGETS = {
    *{"build", "run", "test", "test-browser", "lint", "types", "debug", "asan", "coverage"},
    *{"autobahn", "bench", "bench-peers", "bench-instructions", "soak", "dist", "clean"},
}


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def run_python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, ''); {code}"],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=4 * TIMEOUT,
    )


@pytest.mark.parametrize("missing", sorted({*COMPILED} - OF_INTEGRATIONS))
def test_import_without_a_compiled_module_fails_with_one_sentence(
    missing: str, tmp_path: Path
) -> None:
    shutil.copytree(PACKAGE, tmp_path / "fastws", ignore=shutil.ignore_patterns(f"{missing}.*"))
    done = run_python("import fastws", tmp_path)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert re.match(r"ImportError: fastws\b", last), done.stderr
    assert "compiled" in last
    assert "make build" in last or "pip install" in last, "the sentence says what to do"


def test_package_is_typed_and_ships_what_cython_users_need(pyproject: dict[str, Any]) -> None:
    assert (PACKAGE / "py.typed").exists()
    for name in COMPILED:
        for suffix in (".pyx", ".pxd", ".pyi"):
            assert (PACKAGE / f"{name}{suffix}").exists()
    patterns = set(pyproject["tool"]["setuptools"]["package-data"]["*"])
    beside = {path for path in PACKAGE.rglob("*") if path.suffix in {".pyx", ".pxd", ".pyi", ".h"}}
    assert {f"*{path.suffix}" for path in beside} | {"py.typed"} == patterns


def test_every_package_is_listed(pyproject: dict[str, Any]) -> None:
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in PACKAGE.rglob("*.py")
        if "__pycache__" not in path.parts
    }
    assert set(pyproject["tool"]["setuptools"]["packages"]) == found


def test_version_is_written_in_one_place(pyproject: dict[str, Any]) -> None:
    assert "version" not in pyproject["project"]
    assert pyproject["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "fastws.__version__"}
    quoted = re.compile(rf"""["']{re.escape(fastws.__version__)}["']""")
    places = [
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.py", "*.toml", "*.pyx", "*.pxd", "*.pyi")
        for path in [*PACKAGE.rglob(pattern), *ROOT.glob(pattern)]
        if quoted.search(path.read_text(encoding="utf-8"))
    ]
    assert places == ["fastws/__init__.py"]


def test_make_builds_with_one_version_of_what_pip_needs(pyproject: dict[str, Any]) -> None:
    needed = map(Requirement, pyproject["build-system"]["requires"])
    taken = {each.name: each for each in map(Requirement, pyproject["dependency-groups"]["build"])}
    for requirement in needed:
        pin = taken.pop(requirement.name)
        (version,) = {clause.version for clause in pin.specifier}
        assert version in requirement.specifier
    assert not taken


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_help_is_the_default_and_lists_every_target_in_a_line_each() -> None:
    shown = [
        subprocess.run(
            ["make", "--no-print-directory", *goal],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=4 * TIMEOUT,
            check=True,
        ).stdout
        for goal in ([], ["help"])
    ]
    assert shown[0] == shown[1]
    listed = re.findall(r"^ +make ([a-z-]+) +\S", shown[0], re.MULTILINE)
    assert sorted(listed) == sorted(TARGETS | {"help"})
    declared = re.findall(r"^\.PHONY: (help .*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert sorted(declared[0].split()) == sorted(listed)


def test_the_machine_check_names_an_interpreter_that_is_too_old() -> None:
    check = "import runpy; runpy.run_path('tools/check_machine.py', run_name='__main__')"
    old = run_python(f"sys.version_info = (3, 9, 0, 'final', 0); {check}", ROOT)
    assert old.returncode != 0
    assert len(old.stderr.splitlines()) == 1
    assert "needs Python 3.10 or newer" in old.stderr
    assert "make PYTHON=" in old.stderr


def test_the_machine_check_is_silent_where_nothing_is_missing() -> None:
    done = subprocess.run(
        [sys.executable, "tools/check_machine.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=4 * TIMEOUT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
