"""Builds a variant of fastws in a copy of the tree, build/<name>/, and runs a command there.

    python tools/variant.py asan -- python -m pytest

Only files that changed are copied, with their times, so that only what changed is compiled again.
The command runs in the copy, with the copy first on PYTHONPATH: it and every process that it starts
import the variant, and the build in place stays what it is.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

SWITCH = {"asan": "FASTWS_SANITIZE", "coverage": "FASTWS_COVERAGE", "debug": "FASTWS_DEBUG"}

FOLDERS = ["autobahn", "benchmarks", "docs", "examples", "fastws", "tests", "tools"]
FILES = [
    "CHANGELOG.md",
    "LICENSE",
    "MANIFEST.in",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "pyproject.toml",
    "setup.py",
]
NOT_COPIED = {".so", ".pyd", ".c", ".pyc", ".o"}
# Folders of results, at any depth.
RESULTS = {"__pycache__", "artifacts", "build", "reports"}
# The C in these is written by hand; everywhere else it comes from Cython.
HAND_WRITTEN_C = {"benchmarks", "tests"}


def is_source(relative: Path) -> bool:
    """Whether a file, named relative to the tree, belongs in the copy."""
    generated = relative.suffix in NOT_COPIED and not (
        relative.suffix == ".c" and relative.parts[0] in HAND_WRITTEN_C
    )
    hidden = any(part.startswith(".") for part in relative.parts)
    return not (generated or hidden or RESULTS & set(relative.parts))


def files(root: Path) -> set[Path]:
    """Every file of the tree's folders, and of its top level those that are listed."""
    below = (path for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file())
    found = {path.relative_to(root) for path in below}
    return found | {Path(name) for name in FILES if (root / name).exists()}


def sync(target: Path) -> set[Path]:
    """Makes `target` a copy of the tree's sources; returns what changed."""
    wanted = {relative for relative in files(ROOT) if is_source(relative)}
    changed = set()
    for relative in wanted:
        source, copy = ROOT / relative, target / relative
        if copy.exists() and filecmp.cmp(source, copy, shallow=True):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, copy)
        changed.add(relative)
    for relative in files(target) - wanted:
        # What a build made of a .pyx file goes when that file goes.
        origin = relative.with_name(relative.name.split(".")[0] + ".pyx")
        if is_source(relative) or (relative.suffix in NOT_COPIED and origin not in wanted):
            (target / relative).unlink()
    return changed


def sanitizer_environment() -> dict[str, str]:
    """What lets an interpreter that was built without the sanitizers load modules built with them.

    Their run-time libraries must be the first in the process. Python's own allocator hides
    overflows within its arenas from AddressSanitizer, hence PYTHONMALLOC; the interpreter never
    frees everything at its end, hence no leak check.
    """
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    libraries = []
    # libstdc++ too: the sanitizer looks for __cxa_throw when the process starts.
    for name in ("libasan.so", "libubsan.so", "libstdc++.so.6"):
        command = [compiler, f"-print-file-name={name}"]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if Path(answer).is_absolute():
            libraries.append(str(Path(answer).resolve()))
        elif name == "libasan.so":
            sys.exit(f"{compiler} has no {name}: name a gcc that has it, as in `make asan CC=gcc`.")
    return {
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "halt_on_error=1:abort_on_error=1:print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variant", choices=sorted(SWITCH))
    parser.add_argument("command", nargs="*", help="run in the copy once it is built")
    arguments = parser.parse_args()

    target = ROOT / "build" / arguments.variant
    changed = sync(target)
    environment = {**os.environ, SWITCH[arguments.variant]: "1"}
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--parallel", "2"]
    if Path("setup.py") in changed:
        build.append("--force")
    built = subprocess.run(build, cwd=target, env=environment).returncode
    if built or not arguments.command:
        return built
    environment["PYTHONPATH"] = str(target)
    environment.setdefault("FASTWS_TEST_TIMEOUT", "15")  # Every variant is slow.
    if arguments.variant == "asan":
        environment.update(sanitizer_environment())
    return subprocess.run(arguments.command, cwd=target, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
