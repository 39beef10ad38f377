"""Test modules in Cython, for what Python cannot reach: compiled against the build under test."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from tests.support import ROOT, TIMEOUT

__all__ = ["compile_module"]

BUILD = """
import sys
from Cython.Build import cythonize
from setuptools import Extension, setup
name, source, target, *flags = sys.argv[1:]
module = Extension(
    name, [source], include_dirs=["fastws"], extra_compile_args=flags, extra_link_args=flags
)
setup(
    ext_modules=cythonize([module], build_dir=target, include_path=["."], quiet=True),
    script_args=["-q", "build_ext", "--build-lib", target, "--build-temp", target],
)
"""


def compile_module(name: str, folder: Path) -> ModuleType:
    """Compile ``tests/cython/<name>.pyx`` in ``folder``, which is empty, and import it."""
    # A sanitizer's runtime that is preloaded for the tests must not judge the compiler.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    flags = ["-fsanitize=address,undefined"] if os.environ.get("FASTWS_SANITIZE") == "1" else []
    source = Path("tests") / "cython" / f"{name}.pyx"
    done = subprocess.run(
        [sys.executable, "-c", BUILD, name, str(source), str(folder), *flags],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=40 * TIMEOUT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (library,) = [path for path in folder.iterdir() if path.suffix in (".so", ".pyd")]
    spec = importlib.util.spec_from_file_location(name, library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
