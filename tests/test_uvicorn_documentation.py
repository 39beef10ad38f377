"""The programs of FastAPI's own documentation, unchanged, on uvicorn with the drop-in.

They are in FastAPI's source distribution, which is fetched once for the version that is installed.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib.metadata
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from tests.docs.programs import Program
from tests.support import ROOT, TIMEOUT, run
from tests.uvicorn_server import DROP_IN

FOLDER = "docs_src/websockets_"
FETCH_TIMEOUT = 300.0


@pytest.fixture(scope="module")
def sources() -> Path:
    """The folder that has FastAPI's ``docs_src``."""
    version = importlib.metadata.version("fastapi")
    folder = ROOT / "build" / f"fastapi-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        # Several processes of tests may come here at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / FOLDER).exists():
            fetch(version, folder)
    return folder


def fetch(version: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "fastapi"]
    done = subprocess.run(
        [*command, "--dest", str(folder), f"fastapi=={version}"],
        capture_output=True,
        text=True,
        timeout=FETCH_TIMEOUT,
    )
    if done.returncode != 0:
        pytest.fail(f"pip could not fetch fastapi {version}:\n{done.stdout}{done.stderr}")
    root = f"fastapi-{version}"
    with tarfile.open(folder / f"{root}.tar.gz") as archive:
        for member in archive.getmembers():
            if member.isfile() and member.name.startswith(f"{root}/{FOLDER}/"):
                member.name = member.name.removeprefix(f"{root}/")
                archive.extract(member, folder)


@pytest.fixture
def programs(request: pytest.FixtureRequest, sources: Path) -> Iterator[list[Program]]:
    """A program of the documentation in each of the spellings that it has there."""
    names = sorted(path.stem for path in (sources / FOLDER).glob(f"{request.param}*.py"))
    assert names
    words = ("--ws", DROP_IN, "--app-dir", str(sources))
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                Program(f"{FOLDER.replace('/', '.')}.{name}", "uvicorn", other=words)
            )
            for name in names
        ]


def tutorial(number: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("programs", [f"tutorial{number:03}"], indirect=True)


async def hear(ws: ClientConnection) -> Any:
    return await asyncio.wait_for(ws.recv(), TIMEOUT)


def assert_has_page(program: Program) -> None:
    page = program.get("/")
    assert page.status == 200
    assert b"new WebSocket(" in page.body


@tutorial(1)
def test_an_echo(programs: list[Program]) -> None:
    async def talk(program: Program) -> None:
        async with program.open("/ws") as ws:
            for text in ("one", "", "zwölf " * 50_000):
                await ws.send(text)
                assert await hear(ws) == f"Message text was: {text}"
        assert ws.close_code == 1000

    for program in programs:
        assert_has_page(program)
        run(talk(program))


@tutorial(2)
def test_dependencies_that_may_refuse(programs: list[Program]) -> None:
    async def talk(program: Program) -> None:
        for path, headers, who in (
            ("/items/foo/ws?q=3", {"Cookie": "session=ann"}, "ann"),
            ("/items/foo/ws?q=3&token=bob", {}, "bob"),
        ):
            async with program.open(path, additional_headers=headers) as ws:
                for text in ("one", "two"):
                    await ws.send(text)
                    assert await hear(ws) == f"Session cookie or query token value is: {who}"
                    assert await hear(ws) == "Query parameter q is: 3"
                    assert await hear(ws) == f"Message text was: {text}, for item ID: foo"
        for path in ("/items/foo/ws", "/items/foo/ws?token=bob&q=three"):
            assert (await program.refusal(path)).status == 403

    for program in programs:
        assert_has_page(program)
        run(talk(program))


@tutorial(3)
def test_a_chat(programs: list[Program]) -> None:
    async def talk(program: Program) -> None:
        async with program.open("/ws/1") as one:
            for leave in ("close", "abort"):
                async with program.open("/ws/2") as two:
                    await two.send("hi")
                    assert await hear(two) == "You wrote: hi"
                    assert await hear(two) == await hear(one) == "Client #2 says: hi"
                    if leave == "abort":
                        two.transport.abort()
                assert await hear(one) == "Client #2 left the chat"

    for program in programs:
        assert_has_page(program)
        run(talk(program))
        program.assert_quiet()
