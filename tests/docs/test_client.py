"""The program of docs/guide/client.md, against the servers of other pages."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from docs.programs import client
from tests.docs.conftest import Serve
from tests.support import ROOT, TIMEOUT, free_port, run

PROGRAM = "docs.programs.client"


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def test_a_block(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    url = serve("hello").url
    run(client.greet(url))
    assert capsys.readouterr().out == "Hello, Ada!\n"
    done = subprocess.run(
        [sys.executable, "-m", PROGRAM, url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=4 * TIMEOUT,
    )
    assert (done.returncode, done.stdout) == (0, "Hello, Ada!\n"), done.stderr


def test_loops(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    url = serve("closing").url
    run(client.watch(url))
    lines = [f"line {number}00" for number in range(1, 10)]
    assert capsys.readouterr().out.splitlines() == [*lines, "closed with 1000"]
    run(client.count(url))
    assert capsys.readouterr().out == "noted: one\n"
    run(client.download(url))
    total = sum(len(f"line {number}") for number in range(1000))
    assert capsys.readouterr().out == f"{total}\n"


def test_refusals(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    url = serve("refusing").url
    run(client.enter(url, "attic"))
    assert capsys.readouterr().out == "welcome to attic\n"
    run(client.enter(url, "cellar"))
    assert capsys.readouterr().out == "refused with 503: wait 60 s\n"
    run(client.enter(f"ws://127.0.0.1:{free_port()}", "attic"))
    assert capsys.readouterr().out.startswith("no connection: ")


def test_again_and_again(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    url = serve("closing").url
    heard = ""

    async def follow_for_a_while() -> None:
        nonlocal heard
        following = asyncio.ensure_future(client.follow(url))
        while heard.count("\n") < 2 and not following.done():
            await asyncio.wait({following}, timeout=0.05)
            heard += capsys.readouterr().out
        following.cancel()
        await asyncio.wait({following})

    run(follow_for_a_while())
    assert heard.startswith("gone with 1011 the manager is out: once more\n" * 2)
