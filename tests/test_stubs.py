"""The stub of a compiled module says what the module is: no more, no less, the same signatures."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, TIMEOUT

COMPILED = sorted(path.stem for path in (ROOT / "fastws").glob("_*.pyx"))

#: What Cython adds to a module, and no stub names; and the constructors, whose parameters a C type
#: does not tell.
FROM_CYTHON = [r"fastws\._\w+\.__(test|pyx_capi)__", r"fastws\._\w+\.\w+\.__init__"]


def stubtest(*modules: str, allowlist: Path) -> subprocess.CompletedProcess[str]:
    """Have mypy compare names, parameters, defaults, properties and bases with the live modules."""
    allowlist.write_text("\n".join(FROM_CYTHON))
    return subprocess.run(
        [
            *[sys.executable, "-m", "mypy.stubtest", "--concise", "--ignore-disjoint-bases"],
            *["--mypy-config-file", str(ROOT / "pyproject.toml")],
            *["--allowlist", str(allowlist), "--ignore-unused-allowlist"],
            *modules,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=40 * TIMEOUT,
    )


def test_there_are_compiled_modules() -> None:
    assert "_codec" in COMPILED


@pytest.mark.parametrize("name", COMPILED)
def test_every_compiled_module_has_header_and_stub(name: str) -> None:
    for suffix in (".pxd", ".pyi"):
        assert (ROOT / "fastws" / f"{name}{suffix}").exists(), f"fastws/{name}{suffix} is missing"


@pytest.mark.slow
def test_modules_and_stubs_do_not_differ(tmp_path: Path) -> None:
    done = stubtest(*(f"fastws.{name}" for name in COMPILED), allowlist=tmp_path / "allowed")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", COMPILED)
def test_public_functions_and_methods_tell_their_signature(name: str) -> None:
    module = importlib.import_module(f"fastws.{name}")
    for public, value in vars(module).items():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        members = vars(value) if inspect.isclass(value) else {public: value}
        for member_name, member in members.items():
            if callable(member) and not member_name.startswith("_"):
                inspect.signature(member)  # Raises ValueError where there is none.
