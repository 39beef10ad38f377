"""The other files of the deployment pages, checked by the tools that read them."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner
from websockets.sync.client import unix_connect

from fastws.cli import main
from tests.deployment.proxies import PAGES, needs
from tests.support import ROOT, TIMEOUT


def commands() -> list[list[str]]:
    """Every `fastws run` in the files, as its words."""
    docker = re.search(r"^CMD (\[.*\])$", (PAGES / "Dockerfile").read_text(), re.MULTILINE)
    unit = re.search(r"^ExecStart=(.*)$", (PAGES / "fastws.service").read_text(), re.MULTILINE)
    assert docker is not None
    assert unit is not None
    deployment = next(yaml.safe_load_all((PAGES / "kubernetes.yaml").read_text()))
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    return [yaml.safe_load(docker[1]), shlex.split(unit[1]), container["args"]]


@pytest.mark.parametrize("words", commands(), ids=["Dockerfile", "systemd", "Kubernetes"])
def test_the_options_in_the_files_exist(words: list[str], tmp_path: Path) -> None:
    assert Path(words[0]).name == "fastws"
    assert words[1] == "run"
    (tmp_path / "chat.py").write_text("from fastws import FastWS\napp = FastWS()\n")
    arguments = ["check", *words[2:], "--app-dir", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output


def test_kubernetes_takes_the_manifests() -> None:
    version = kubernetes_validate.latest_version()
    documents = list(yaml.safe_load_all((PAGES / "kubernetes.yaml").read_text()))
    assert [document["kind"] for document in documents] == ["Deployment", "Service", "Ingress"]
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.foreign
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    program = needs("systemd-analyze")
    binary = tmp_path / "fastws"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    for name in ("fastws.service", "fastws.socket"):
        text = (PAGES / name).read_text()
        (tmp_path / name).write_text(text.replace("/srv/chat/.venv/bin/fastws", str(binary)))
    done = subprocess.run(
        [program, "verify", tmp_path / "fastws.service", tmp_path / "fastws.socket"],
        capture_output=True,
        text=True,
        timeout=6 * TIMEOUT,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.foreign
def test_a_socket_that_systemd_opened_is_served(tmp_path: Path) -> None:
    """With systemd's own tool for trying that, and the options of the unit."""
    program = needs("systemd-socket-activate")
    listened = tmp_path / "fastws.sock"
    command = [program, "--listen", str(listened)]
    command += ["-E", f"PYTHONPATH={ROOT}", "-E", f"PATH={os.environ['PATH']}"]
    command += [sys.executable, "-m", "fastws", "run", "tests.deployment.application:app"]
    command += ["--forwarded-allow-ips", "unix"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        _await_listening(listened)
        # The first connection starts the server.
        with unix_connect(
            str(listened), uri="ws://localhost/echo", open_timeout=4 * TIMEOUT, proxy=None
        ) as ws:
            ws.send("hello")
            assert ws.recv(TIMEOUT) == "hello"
    finally:
        process.terminate()
        process.wait(4 * TIMEOUT)
    # The socket is systemd's: the server leaves it in its place.
    assert listened.is_socket(), (tmp_path / "log").read_text()


def _await_listening(path: Path) -> None:
    """Until the socket takes connections: bind() and listen() are two steps."""
    deadline = time.monotonic() + 4 * TIMEOUT
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
                return
            except OSError:
                assert time.monotonic() < deadline
        time.sleep(0.02)
