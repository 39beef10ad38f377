"""The programs of docs/guide/testing.md and deployment.md."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from fastws.testing import NotInTime, TestClient
from tests.docs.conftest import Serve
from tests.docs.programs import Program, ask, ending
from tests.support import ROOT, TIMEOUT, run


def test_counter_counts(serve: Serve) -> None:
    program = serve("counter")

    async def work() -> None:
        async with program.open("/counter") as ws:
            assert [await ask(ws, message) for message in ("a", b"b", "")] == [1, 2, 3]
        refusal = await program.refusal("/alarm/120")
        assert (refusal.status, refusal.json()) == (403, {"detail": "an hour at most"})

    run(work())


def test_the_tests_of_the_page_about_testing_pass() -> None:
    done = subprocess.run(
        [
            *[sys.executable, "-m", "pytest", "-q", "-p", "fastws.pytest_plugin"],
            "docs/programs/test_counter.py",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=8 * TIMEOUT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 passed" in done.stdout


def test_what_a_missing_message_is_told_with_is_on_the_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from docs.programs.counter import app

    monkeypatch.chdir(ROOT)
    with TestClient(app) as client, client.websocket_connect("/counter") as session:
        with pytest.raises(NotInTime) as missed:
            session.receive_json(timeout=0.1)
    page = (ROOT / "docs" / "guide" / "testing.md").read_text(encoding="utf-8")
    assert f"```\n{missed.value}\n```" in page


def test_a_route_has_options_of_its_own(serve: Serve) -> None:
    program = serve("deployed")

    async def work() -> None:
        assert program.get("/health").json() == {"connections": 0}
        own = {"origin": f"http://{program.host}:{program.port}"}
        async with program.open("/upload", **own) as ws:
            assert await ask(ws, b"12345") == {"size": 5, "protocol": None}
            assert program.get("/health").json() == {"connections": 1}
        async with program.open("/upload", subprotocols=["other", "sizes.v1"]) as ws:
            assert ws.subprotocol == "sizes.v1"
            assert (await ask(ws, b""))["protocol"] == "sizes.v1"
        assert (await program.refusal("/upload", Origin="http://evil.example")).status == 403
        if program.is_native:
            # The limit of another server is that server's.
            async with program.open("/upload") as ws:
                await ws.send(bytes(64 * 1024 + 1))
                assert (await ending(ws))[:2] == ([], 1009)

    run(work())


def test_a_server_that_stops_says_so_to_its_clients() -> None:
    async def work(program: Program) -> None:
        async with program.open("/upload") as ws:
            await ask(ws, b"")
            program.process.send_signal(signal.SIGTERM)
            assert (await ending(ws))[:2] == ([], 1012)

    with Program("docs.programs.deployed") as program:
        run(work(program))
        assert program.process.wait(TIMEOUT) == 0
    program.assert_quiet()


@pytest.mark.parametrize("module", ["docs.programs.journal", "docs.programs.deployed"])
def test_a_program_serves_itself(module: str) -> None:
    async def work(program: Program, path: str) -> None:
        async with program.open(path) as ws:
            await ws.send("hello" if path == "/journal" else b"hello")
            assert await ws.recv()

    # Its port is written in the program: change it, and run that.
    program = Program(module)
    code = (
        "import pathlib, sys; path = pathlib.Path(sys.argv[1]); text = path.read_text('utf-8');"
        f" text = text.replace('port=8000', 'port={program.port}');"
        " exec(compile(text, path, 'exec'), {'__name__': '__main__', '__file__': str(path)})"
    )
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    program.command = [sys.executable, "-c", code, str(path)]
    with program:
        run(work(program, "/journal" if module.endswith("journal") else "/upload"))
    program.assert_quiet()


def test_an_application_is_mounted_in_another() -> None:
    async def work(program: Program) -> None:
        async with program.open("/live/caught") as ws:
            assert await ask(ws, "x") == "1: x"
        async with program.open("/parts/seats/7") as ws:
            assert await ask(ws, "x") == "seat 7, next to 8: x"
        assert (await program.refusal("/parts/seats/x")).complaints == [("path", "seat")]

    with Program("tests.docs.mounted", "uvicorn") as program:
        run(work(program))
    program.assert_quiet()


@pytest.mark.parametrize("name", ["hello", "loops", "manager", "dependencies"])
def test_programs_run_under_hypercorn_too(name: str) -> None:
    pytest.importorskip("hypercorn")
    paths = {
        "hello": "/hello",
        "loops": "/caught",
        "manager": "/table/1",
        "dependencies": "/people",
    }
    answers = {
        "hello": "Hello, 1!",
        "loops": "1: 1",
        "manager": "you said 1",
        "dependencies": {"name": "Ada", "open": True},
    }

    async def work() -> None:
        async with program.open(paths[name]) as ws:
            assert await ask(ws, "1") == answers[name]
        async with program.open(paths[name]) as ws:
            assert await ask(ws, "1") == answers[name]

    with Program(f"docs.programs.{name}", "hypercorn") as program:
        run(work())
    program.assert_quiet()


def test_hypercorn_refuses_with_any_response() -> None:
    pytest.importorskip("hypercorn")

    async def work(program: Program) -> None:
        refusal = await program.refusal("/rooms/cellar")
        assert (refusal.status, refusal.json()) == (503, {"detail": "cellar is full"})
        refusal = await program.refusal("/teapot")
        assert (refusal.status, refusal.body) == (418, b"short and stout\n")

    with Program("docs.programs.refusing", "hypercorn") as program:
        run(work(program))
    program.assert_quiet()
