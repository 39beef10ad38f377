"""Packages of node, each installed once below ``build/``."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.support import ROOT

__all__ = ["node_with", "node_with_ws"]

INSTALL_TIMEOUT = 300.0


def node_with_ws() -> tuple[str, dict[str, str]]:
    """As :func:`node_with`, for the WebSocket client and server ``ws``."""
    return node_with("ws", "8", ROOT / "build" / "node")


@cache
def node_with(package: str, version: str, folder: Path) -> tuple[str, dict[str, str]]:
    """The node program, and the environment in which it finds a package.

    Where node or npm is missing the test is skipped; on CI, which has both, it fails.

    Parameters:
        folder: where to install it; npm would remove another package that it finds there.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        sentence = "node and npm are needed: `apt-get install nodejs npm` has them"
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        # Several processes of tests may come here at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "node_modules" / package / "package.json").exists():
            install(npm, folder, f"{package}@{version}")
    return node, {**os.environ, "NODE_PATH": str(folder / "node_modules")}


def install(npm: str, folder: Path, package: str) -> None:
    command = [npm, "install", "--no-save", "--no-audit", "--no-fund", package]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT
    )
    if done.returncode != 0:
        pytest.fail(f"npm could not install {package}:\n{done.stdout}{done.stderr}")
