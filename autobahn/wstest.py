"""Where the suite's ``wstest`` comes from: a docker engine, this machine, or a build of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

__all__ = ["DockerWstest", "LocalWstest", "Mode", "Wstest", "WstestError", "find_wstest"]

Mode = Literal["fuzzingclient", "fuzzingserver"]

IMAGE = "crossbario/autobahn-testsuite"
#: The suite is Python 2 and pins every requirement; this virtualenv is the last that makes a
#: Python 2 environment and itself runs on Python 2.
SUITE = "autobahntestsuite==25.10.1"
VIRTUALENV = "virtualenv==20.15.1"


class WstestError(Exception):
    """No ``wstest`` can be had; the message says why and what to do."""


class Wstest(Protocol):
    """A way to start ``wstest`` in a directory that holds its ``spec.json``."""

    @property
    def description(self) -> str:
        """What is used, for the person who reads the run's output."""

    @property
    def testee_host(self) -> str:
        """The name under which wstest reaches a server on this machine's loopback."""

    @property
    def listen_host(self) -> str:
        """The host for the fuzzingserver's URL."""

    def command(self, mode: Mode, directory: Path, port: int) -> list[str]:
        """The command line; ``port`` is the loopback port that a fuzzingserver listens on."""


@dataclass(frozen=True)
class DockerWstest:
    """The suite's own image. Its fuzzingserver is published on loopback only."""

    description: str = f"the docker image {IMAGE}"
    listen_host: str = "0.0.0.0"

    @property
    def testee_host(self) -> str:
        return "127.0.0.1" if _docker_shares_our_network() else "host.docker.internal"

    def command(self, mode: Mode, directory: Path, port: int) -> list[str]:
        network = ["--network", "host"] if _docker_shares_our_network() else []
        if mode == "fuzzingserver":
            network = ["--publish", f"127.0.0.1:{port}:{port}"]
        # Reports belong to who runs this, not to root.
        user = ["--user", f"{os.getuid()}:{os.getgid()}"] if hasattr(os, "getuid") else []
        return [
            *("docker", "run", "--rm", "--init", *network, *user),
            *("--volume", f"{directory}:/shard", "--workdir", "/shard"),
            *("--env", "PYTHONUNBUFFERED=1", IMAGE),
            *("wstest", "--mode", mode, "--spec", "spec.json", "--webport", "0"),
        ]


def _docker_shares_our_network() -> bool:
    # `--network host` is this machine only where containers need no virtual machine.
    return sys.platform.startswith("linux")


# wstest listens on every interface, and no option of it changes that: a fuzzingserver is nothing
# to offer to the network, hence the default of its listenWS(factory, context, backlog, interface).
_ON_LOOPBACK = """\
import sys
from autobahntestsuite import wstest
wstest.fuzzing.listenWS.__defaults__ = (None, 50, "127.0.0.1")
sys.exit(wstest.run())
"""


@dataclass(frozen=True)
class LocalWstest:
    """The suite as installed for a Python 2.7 of this machine."""

    python: Path
    description: str
    testee_host: str = "127.0.0.1"
    listen_host: str = "127.0.0.1"

    def command(self, mode: Mode, directory: Path, port: int) -> list[str]:
        return [
            *(str(self.python), "-u", "-c", _ON_LOOPBACK),
            *("--mode", mode, "--spec", "spec.json", "--webport", "0"),
        ]


def find_wstest(cache: Path) -> Wstest:
    """A docker engine if one answers, else an installed ``wstest``, else one built in ``cache``.

    Parameters:
        cache: the directory to build in, and to find an earlier build in.

    Raises ``WstestError`` where there is neither, nor a Python 2.7 to build with.
    """
    if docker_engine_answers():
        return DockerWstest()
    installed = shutil.which("wstest")
    if installed is not None:
        # The launcher of a virtual environment stands beside the interpreter that it starts.
        python = Path(installed).resolve().with_name("python")
        if _has_suite(python):
            return LocalWstest(python, f"the installed {installed}")
    python = cache / "py27" / "bin" / "python"
    if not _has_suite(python):
        _build(cache)
    return LocalWstest(python, f"{SUITE} in {_short(cache)}")


def docker_engine_answers() -> bool:
    """Whether ``docker`` can run something: the command alone, without its engine, cannot."""
    return shutil.which("docker") is not None and _succeeds(["docker", "info"])


def _has_suite(python: Path) -> bool:
    # Not where this package stands: the suite imports a package that is also called autobahn.
    elsewhere = python.parent
    command = [str(python), "-c", "import autobahntestsuite.wstest"]
    return python.exists() and _succeeds(command, elsewhere)


def _build(cache: Path) -> None:
    python2 = _find_python2()
    print(f"building wstest ({SUITE}) in {_short(cache)}: once, about a minute", flush=True)
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir(parents=True)
    (cache / ".gitignore").write_text("*\n", encoding="utf-8")
    boot, environment = cache / "boot", cache / "py27"
    log = cache / "build.log"
    _log_run([python2, "-m", "pip", "install", "--target", str(boot), VIRTUALENV], log)
    _log_run([python2, "-m", "virtualenv", str(environment)], log, PYTHONPATH=str(boot))
    _log_run([str(environment / "bin" / "pip"), "install", SUITE], log)
    if not _has_suite(environment / "bin" / "python"):
        raise WstestError(f"wstest was built but does not start: see {_short(log)}")


_IS_PYTHON2_WITH_PIP = "import pip, sys; sys.exit(sys.version_info[:2] != (2, 7))"


def _find_python2() -> str:
    for candidate in _python2_candidates():
        # A pyenv shim exists also for versions that are not active: only a run tells.
        if _succeeds([candidate, "-c", _IS_PYTHON2_WITH_PIP]):
            return candidate
    raise WstestError(
        "wstest cannot be run: no docker engine answers, no wstest is installed, and there is no "
        "Python 2.7 with pip to build one with. Start a docker engine, or install Python 2.7: "
        "Debian 12 and later do not package it, `pyenv install 2.7.18` builds it."
    )


def _python2_candidates() -> Iterator[str]:
    on_path = shutil.which("python2.7")
    if on_path is not None:
        yield on_path
    if shutil.which("pyenv") is not None:
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=False)
        versions = Path(root.stdout.strip()) / "versions"
        yield from (str(path) for path in sorted(versions.glob("2.7.*/bin/python2.7")))


def _succeeds(command: Sequence[str], directory: Path | None = None) -> bool:
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _log_run(command: Sequence[str], log: Path, **environment: str) -> None:
    with log.open("a", encoding="utf-8") as output:
        print("$", *command, file=output, flush=True)
        done = subprocess.run(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            check=False,
        )
    if done.returncode != 0:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1]
        raise WstestError(
            f"`{' '.join(command)}` ended with status {done.returncode} ({last}): see {_short(log)}"
        )


def _short(path: Path) -> str:
    return os.path.relpath(path)
