"""node's ``ws``, installed once below ``build/``."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.support import ROOT

__all__ = ["node_with_ws"]

VERSION = "8"
INSTALLED = ROOT / "build" / "node"
INSTALL_TIMEOUT = 300.0


@cache
def node_with_ws() -> tuple[str, dict[str, str]]:
    """The node program, and the environment in which it finds ``ws``.

    Where node or npm is missing the test is skipped; on CI, which has both, it fails.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        sentence = "node and npm are needed: `apt-get install nodejs npm` has them"
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with (INSTALLED / ".lock").open("w") as lock:
        # Several processes of tests may come here at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (INSTALLED / "node_modules" / "ws" / "package.json").exists():
            install(npm, INSTALLED)
    return node, {**os.environ, "NODE_PATH": str(INSTALLED / "node_modules")}


def install(npm: str, directory: Path) -> None:
    command = [npm, "install", "--no-save", "--no-audit", "--no-fund", f"ws@{VERSION}"]
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=INSTALL_TIMEOUT
    )
    if done.returncode != 0:
        pytest.fail(f"npm could not install ws:\n{done.stdout}{done.stderr}")
