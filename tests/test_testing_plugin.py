"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import tomli

from fastws import pytest_plugin
from tests.support import ROOT, TIMEOUT

HEAD = """
import asyncio

import pytest

from fastws import FastWS, WebSocket

started = []


async def lifespan(app):
    started.append("start")
    yield
    started.append("end")


app = FastWS(lifespan=lifespan)


@app.websocket("/echo")
async def echo(ws: WebSocket):
    await ws.accept()
    async for message in ws:
        await ws.send_text(message)


@app.websocket("/stays")
async def stays(ws: WebSocket):
    await ws.accept()
    await asyncio.Event().wait()


@app.websocket("/forgets")
async def forgets(ws: WebSocket):
    await ws.accept()
    app.state.task = asyncio.create_task(asyncio.Event().wait(), name="forgotten")
"""


def outcome(directory: Path, tests: str, *arguments: str) -> tuple[dict[str, int], str]:
    """How many tests passed, failed and so on, and the output."""
    (directory / "test_it.py").write_text(HEAD + tests, encoding="utf-8")
    done = subprocess.run(
        [
            *[sys.executable, "-m", "pytest", "-q", "-p", "fastws.pytest_plugin"],
            *["-p", "no:cacheprovider", "-W", "error", *arguments, str(directory)],
        ],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=8 * TIMEOUT,
    )
    output = done.stdout + done.stderr
    last = done.stdout.strip().splitlines()[-1]
    return {word: int(count) for count, word in re.findall(r"(\d+) (\w+)", last)}, output


def test_a_client_needs_no_block_and_is_closed_in_the_end(tmp_path: Path) -> None:
    counts, output = outcome(
        tmp_path,
        """
def test_sync(fastws_client):
    client = fastws_client(app)
    with client.websocket_connect("/echo") as session:
        assert started == ["start"]
        session.send_text("hi")
        assert session.receive_text() == "hi"
    assert client.get("/nowhere").status_code == 404
    assert started == ["start"]


def test_closed():
    assert started == ["start", "end"]


def test_block(fastws_client):
    with fastws_client(app, timeout=5) as client:
        with client.websocket_connect("/echo"):
            pass
    assert not client.is_open
""",
    )
    assert counts == {"passed": 3}, output


def test_it_goes_with_plugins_for_asynchronous_tests_and_without(tmp_path: Path) -> None:
    counts, output = outcome(
        tmp_path,
        """
async def talk(fastws_client):
    async with fastws_client(app) as client, client.connect("/echo") as ws:
        await ws.send_text("hi")
        assert await ws.receive_text() == "hi"
        with pytest.raises(RuntimeError):
            fastws_client(app).get("/")


@pytest.mark.anyio
async def test_anyio(fastws_client, anyio_backend_name):
    assert anyio_backend_name == "asyncio"
    await talk(fastws_client)


@pytest.fixture
def anyio_backend():
    return "asyncio"


def test_none(fastws_client):
    asyncio.run(talk(fastws_client))
""",
    )
    assert counts == {"passed": 2}, output


def test_what_is_left_running_fails_the_test(tmp_path: Path) -> None:
    counts, output = outcome(
        tmp_path,
        """
@pytest.mark.parametrize("path", ["/stays", "/forgets"])
def test_sync(fastws_client, path):
    with fastws_client(app).websocket_connect(path):
        pass


def test_async(fastws_client):
    async def main():
        async with fastws_client(app) as client, client.connect("/forgets"):
            pass

    asyncio.run(main())


def test_unclosed(fastws_client):
    async def main():
        await fastws_client(app).__aenter__()

    asyncio.run(main())
""",
    )
    assert counts == {"passed": 4, "errors": 4}, output
    assert "left running: 60 s after its connection was over: The handler of /stays" in output
    assert output.count("left running: the task forgotten waits at") == 2
    assert "a test client is still open: leave its `async with` block" in output


def test_a_failure_at_the_end_fails_the_test(tmp_path: Path) -> None:
    counts, output = outcome(
        tmp_path,
        """
async def broken(app):
    yield
    raise LookupError("in the shutdown")


def test_sync(fastws_client):
    fastws_client(FastWS(lifespan=broken)).get("/")
""",
    )
    assert counts == {"passed": 1, "error": 1}, output
    assert "closing a test client raised LookupError('in the shutdown')" in output


def test_pytest_finds_the_plugin_where_the_package_is_installed(tmp_path: Path) -> None:
    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ((name, module),) = project["entry-points"]["pytest11"].items()
    # As pip writes it; an environment of developers may be older than the declaration.
    installed = tmp_path / "site" / "fastws-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: fastws\nVersion: 0\n")
    (installed / "entry_points.txt").write_text(f"[pytest11]\n{name} = {module}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--fixtures", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={"PYTHONPATH": os.pathsep.join([str(installed.parent), str(ROOT)]), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=8 * TIMEOUT,
    )
    assert re.search(rf"fixtures defined from {re.escape(module)} -+\nfastws_client", done.stdout)
    # `-p` with the module's name is not a second one.
    assert name == module == pytest_plugin.__name__
