"""Serving with ``--reload``: what a change does to the process, its sockets and its errors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fastws.config import Config, ConfigError
from fastws.reload import Reloader, SourceFilter
from tests.processes import Process, pid_of_request, websockets
from tests.serving import frame
from tests.support import ROOT, run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="workers need POSIX signals")

SERVED = "from tests.processes import app\n"
PATIENT = ("--timeout-graceful-shutdown", "1h", "--ws-close-timeout", "1h")


def reloading(
    directory: Path, main: Callable[[Process], Awaitable[None]], *options: str, source: str = SERVED
) -> str:
    """Run ``main`` with a server of a copy of ``source`` that it can change; what that said."""
    (directory / "served.py").write_text(source)

    async def test(server: Process) -> None:
        await main(server)

    with Process("served:app", "--reload", *options, cwd=directory, first="^Watching") as server:
        run(test(server))
        assert server.stop(signal.SIGINT) == 0
    return server.output


def change(server_directory: Path, source: str) -> None:
    """Write the application anew, as editors do: another file takes the name."""
    other = server_directory / "served.py.new"
    other.write_text(source)
    other.rename(server_directory / "served.py")


def test_a_change_starts_the_application_again(tmp_path: Path) -> None:
    async def main(server: Process) -> None:
        before = await pid_of_request(server)
        change(tmp_path, SERVED + "# more\n")
        await server.line(r"served\.py changed: starting again")
        await server.line("is ready", count=2)
        assert await pid_of_request(server) != before

    output = reloading(tmp_path, main)
    assert f"\nWatching {tmp_path}\n" in output
    assert output.count("fastws is serving") == 1
    assert "Traceback" not in output


def test_open_sockets_see_1012_and_are_not_waited_for(tmp_path: Path) -> None:
    async def main(server: Process) -> None:
        async with (
            websockets(server, 3) as answering,
            websockets(server, 3) as silent,
            websockets(server, 3, "/stuck") as stuck,
        ):
            change(tmp_path, SERVED + "# more\n")
            for each in [*answering, *silent, *stuck]:
                opcode, payload = await each.frame()
                assert (opcode, payload[:2]) == (8, b"\x03\xf4")
            for each in answering:
                await each.send(frame(payload, opcode=8))
            assert await pid_of_request(server) != answering[0].pid
            for each in [*silent, *stuck]:
                with contextlib.suppress(ConnectionError):
                    assert await each.rest() == b""

    reloading(tmp_path, main, *PATIENT)


def test_a_blocked_process_is_killed_and_replaced(tmp_path: Path) -> None:
    source = (
        "from tests.processes import app\n"
        "@app.on_shutdown\n"
        "def forever():\n"
        "    import threading\n"
        "    threading.Event().wait()\n"
    )

    async def main(server: Process) -> None:
        before = await pid_of_request(server)
        change(tmp_path, SERVED)
        await server.line("is ready", count=2)
        assert await pid_of_request(server) != before

    reloading(tmp_path, main, *PATIENT, source=source)


def test_a_syntax_error_is_shown_once_and_the_next_change_waited_for(tmp_path: Path) -> None:
    async def main(server: Process) -> None:
        change(tmp_path, "def app:\n")
        await server.line("waiting for a file to change")
        # Whoever comes now waits for the answer of what comes next.
        asked = asyncio.create_task(pid_of_request(server))
        change(tmp_path, SERVED)
        assert await asked > 0

    output = reloading(tmp_path, main)
    assert "Traceback" not in output  # Nothing of the application's ran.
    assert output.count("SyntaxError: expected '('\n") == 1
    assert output.count("importing 'served' failed: SyntaxError") == 1


def test_where_lines_are_json_all_of_them_are(tmp_path: Path) -> None:
    async def main(server: Process) -> None:
        change(tmp_path, "1 / 0\n")
        await server.line("waiting for a file to change")

    (tmp_path / "served.py").write_text(SERVED)
    options = ("--reload", "--log-format", "json")
    with Process("served:app", *options, cwd=tmp_path, first="Watching") as server:
        run(main(server))
        assert server.stop(signal.SIGINT) == 0
    assert all(line.startswith("{") for line in server.output.splitlines()), server.output
    messages = [json.loads(line)["message"] for line in server.output.splitlines()]
    (failure,) = [each for each in messages if "importing 'served' failed" in each]
    assert "Traceback (most recent call last)" in failure


def test_it_can_begin_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text("def app:\n")
    first = "waiting for a file to change"
    with Process("served:app", "--reload", cwd=tmp_path, first=first) as server:
        change(tmp_path, SERVED)
        server.wait_for("^Watching")
        assert run(pid_of_request(server)) > 0


def test_a_process_that_dies_is_reported(tmp_path: Path) -> None:
    async def main(server: Process) -> None:
        pid = await pid_of_request(server)
        os.kill(pid, signal.SIGKILL)
        await server.line(rf"worker 1 \(process {pid}\) was ended by SIGKILL")
        await server.line("waiting for a file to change")
        change(tmp_path, SERVED + "# more\n")
        await server.line("is ready", count=2)

    reloading(tmp_path, main)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_the_processes_ends_at_once(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(SERVED)

    async def main(server: Process) -> None:
        async with websockets(server, 3, "/stuck") as sockets:
            os.killpg(server.process.pid, number)
            for each in sockets:
                assert (await each.frame())[0] == 8
            assert await server.ended() == 0

    options = ("--reload", *PATIENT)
    first = "^Watching"
    with Process("served:app", *options, cwd=tmp_path, own_group=True, first=first) as server:
        run(main(server))
    assert "Traceback" not in server.output


def test_a_unix_socket_is_kept_over_changes(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(SERVED)
    path = tmp_path / "fastws.sock"

    async def main(server: Process) -> None:
        before = await pid_of_request(server)
        made = path.stat()
        change(tmp_path, SERVED + "# more\n")
        await server.line("is ready", count=2)
        assert await pid_of_request(server) != before
        assert path.stat() == made

    with Process("served:app", "--reload", cwd=tmp_path, path=path, first="^Watching") as server:
        run(main(server))
        server.stop()
    assert not path.exists()


def test_the_dev_command_reloads(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(SERVED)
    server = Process("served:app", cwd=tmp_path, first="^Watching")
    server.command[server.command.index("run")] = "dev"
    with server:
        change(tmp_path, SERVED + "# more\n")
        server.wait_for("is ready", count=2)


# What is watched


@pytest.mark.parametrize(
    ("path", "matters"),
    [
        ("/src/app.py", True),
        ("/src/package/routes.py", True),
        ("/src/page.html", True),
        ("/src/notes.txt", False),
        ("/src/.app.py", False),
        ("/src/app.py~", False),
        ("/src/.venv/lib/app.py", False),
        ("/src/build/app.py", False),
        ("/src", False),
        ("/elsewhere/app.py", False),
    ],
)
def test_which_files_matter(path: str, matters: bool) -> None:
    chosen = SourceFilter([Path("/src")], ["*.py", "*.html"], [".*", "*~", "build"])
    assert chosen(None, path) is matters


def test_a_hidden_directory_above_is_no_reason_to_watch_nothing() -> None:
    assert SourceFilter([Path("/home/.work/src")], ["*.py"], [".*"])(None, "/home/.work/src/a.py")


def test_the_directory_of_the_application_is_watched_or_those_that_are_named(
    tmp_path: Path,
) -> None:
    async def watched(**options: object) -> list[Path]:
        config = Config.from_options("served:app", {"port": 0, "reload": True, **options})
        reloader = Reloader(config)
        reloader.close()
        return reloader.directories

    assert run(watched(app_dir=str(tmp_path))) == [tmp_path]
    assert run(watched(reload_dir=[str(tmp_path), str(ROOT)])) == [tmp_path, ROOT]


def test_a_directory_that_does_not_exist_gets_a_sentence(tmp_path: Path) -> None:
    async def main() -> None:
        missing = str(tmp_path / "missing")
        with pytest.raises(ConfigError, match=r"reload-dir is .*missing: expected a directory"):
            Reloader(Config.from_options("served:app", {"reload": True, "reload_dir": [missing]}))

    run(main())


def test_without_watchfiles_a_sentence_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)

    async def main() -> None:
        config = Config.from_options("served:app", {"port": 0, "reload": True})
        with pytest.raises(ConfigError, match=r"needs the package watchfiles: install fastws\["):
            await Reloader(config).run()

    run(main())
