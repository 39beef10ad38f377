"""The supervisor and its workers: how they start, fail, hang and end.

What happens to connections is in ``robustness/test_f_processes.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import pty
import re
import signal
import socket
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from fastws import FastWS
from fastws.config import Config, ConfigError
from fastws.importer import ApplicationError
from fastws.pipe import Failure, HandOver, Pipe
from fastws.server import serve, serve_async
from fastws.sockets import BindError
from fastws.workers import SilenceWatch, check_can_supervise
from tests.processes import Process, open_socket, pid_of_request, websockets
from tests.serving import frame, handshake, status_of
from tests.support import TIMEOUT, run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="workers need POSIX signals")

TWO = ("--workers", "2")


def write(directory: Path, source: str, name: str = "served.py") -> None:
    (directory / name).write_text(textwrap.dedent(source))


# The pipe between them


@contextlib.contextmanager
def pipes() -> Iterator[tuple[Pipe, Pipe]]:
    ends = [Pipe(each) for each in socket.socketpair()]
    try:
        yield ends[0], ends[1]
    finally:
        for end in ends:
            end.close()


def test_what_is_handed_over_arrives() -> None:
    config = Config.from_options("module:app", {"ws_max_size": "64KiB", "workers": 2})
    with pipes() as (ours, theirs):
        HandOver(config, ["fastws", "run"], 1, [[5], [6]]).send(ours)
        assert HandOver.receive(theirs) == HandOver(config, ["fastws", "run"], 1, [[5], [6]])


def test_a_worker_whose_supervisor_is_gone_gets_nothing() -> None:
    with pipes() as (ours, theirs):
        ours.close()
        assert HandOver.receive(theirs) is None


def test_an_object_that_cannot_leave_the_process_is_not_handed_over() -> None:
    with pipes() as (ours, _), pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        HandOver(Config(lambda: None), [], 0, []).send(ours)


def test_messages_and_the_end_of_the_stream_are_reported_in_order() -> None:
    seen: list[object] = []

    async def main() -> None:
        ended = asyncio.Event()
        with pipes() as (ours, theirs):
            theirs.attach(asyncio.get_running_loop(), seen.append, ended.set)
            for number in range(100):
                ours.send("number", number)
            ours.send("last")
            ours.close()
            await asyncio.wait_for(ended.wait(), TIMEOUT)

    run(main())
    assert seen == [*({"number": number} for number in range(100)), {"last": None}]


def test_nobody_is_blocked_by_an_end_that_reads_nothing() -> None:
    async def main() -> None:
        with pipes() as (ours, _):
            ours.attach(asyncio.get_running_loop(), print, print)
            for _ in range(100_000):
                ours.send("alive")
            ours.detach(asyncio.get_running_loop())

    run(main())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConfigError("wrong option"), ConfigError),
        (BindError("busy port"), BindError),
        (ApplicationError("no module"), ApplicationError),
    ],
)
def test_a_failure_keeps_its_kind_and_sentence(error: Exception, kind: type[Exception]) -> None:
    failure = Failure.of(error)
    assert type(failure.error()) is kind
    assert str(failure.error()) == str(error)
    assert failure.traceback == ""


def test_a_failure_of_the_application_has_its_traceback() -> None:
    def start() -> None:
        raise LookupError("no database")

    try:
        start()
    except LookupError as error:
        failure = Failure.of(error)
    assert "in start\n" in failure.traceback
    assert str(failure.error()) == (
        "the application failed to start or to stop: LookupError: no database"
    )


# What cannot be done by several processes


def test_an_application_object_cannot_be_served_by_workers() -> None:
    with pytest.raises(ConfigError, match=r"workers is 4: expected an application given as module"):
        serve(FastWS(), workers=4)


def test_nor_from_another_thread_than_the_main_one() -> None:
    errors: list[Exception] = []

    def check() -> None:
        try:
            check_can_supervise("workers is 4")
        except ConfigError as error:
            errors.append(error)

    thread = threading.Thread(target=check)
    thread.start()
    thread.join()
    assert str(errors[0]).startswith("workers is 4: expected to be called in the main thread")


def test_nor_inside_a_loop() -> None:
    with pytest.raises(ConfigError, match=r"^workers is 4: expected serve\(\)"):
        run(serve_async("tests.processes:app", workers=4))


# Starting


def test_the_screen_names_the_address_the_routes_and_the_workers() -> None:
    with Process("tests.processes:app", *TWO) as server:
        screen = server.output
        served = run(pid_of_request(server))
    assert f"  http://127.0.0.1:{server.port}\n" in screen
    assert "  websocket /stuck\n" in screen
    found = re.search(r"^Workers: 2, processes (\d+), (\d+)$", screen, re.MULTILINE)
    assert found is not None
    assert str(served) in found.groups()


def test_the_screen_is_a_line_of_json_where_lines_are() -> None:
    options = ("--log-format", "json", "--no-access-log")
    with Process("tests.processes:app", *TWO, *options) as server:
        pass
    assert all(line.startswith("{") for line in server.output.splitlines()), server.output
    messages = [json.loads(line)["message"] for line in server.output.splitlines()]
    (screen,) = [each for each in messages if each.startswith("fastws is serving\n")]
    assert f"  http://127.0.0.1:{server.port}\n" in screen
    assert "\nWorkers: 2, processes " in screen


def test_lines_name_the_process() -> None:
    with Process("tests.processes:app", *TWO) as server:
        pid = run(pid_of_request(server))
        server.wait_for(rf" \[{pid}\] INFO .*GET /pid")
        server.wait_for(rf" \[{server.process.pid}\] INFO worker 1 \(process \d+\) is ready")


def start_and_fail(*options: str, directory: Path) -> tuple[int, str]:
    """Start what cannot start; its exit status and what it said."""
    server = Process("served:app", *options, cwd=directory)
    with pytest.raises(RuntimeError), server:
        pass
    return server.process.returncode, server.output


def test_an_application_that_cannot_be_imported_is_reported_once(tmp_path: Path) -> None:
    write(tmp_path, "def app:\n")
    status, output = start_and_fail("--workers", "4", directory=tmp_path)
    assert status == 1
    assert "Traceback" not in output  # Nothing of the application's ran.
    assert output.count("SyntaxError: expected '('\n") == 1
    sentence = "fastws: importing 'served' failed: SyntaxError: expected '(' (served.py, line 1)"
    assert output.splitlines()[-1] == sentence


def test_an_application_that_cannot_start_is_reported_once(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        from fastws import FastWS
        app = FastWS()

        @app.on_startup
        async def connect():
            raise LookupError("no database")
        """,
    )
    status, output = start_and_fail(*TWO, directory=tmp_path)
    assert status == 1
    assert output.count("Traceback") == 1
    assert output.splitlines()[-1] == (
        "fastws: the application failed to start or to stop: LookupError: no database"
    )


def test_a_wrong_option_of_a_route_is_reported_once(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        from fastws import FastWS
        app = FastWS()

        @app.websocket("/", ws_max_queue="many")
        async def handler(ws): ...
        """,
    )
    status, output = start_and_fail(*TWO, directory=tmp_path)
    assert status == 2
    assert output.count("route /: ws-max-queue is") == 1
    assert "Traceback" not in output


def test_a_worker_that_is_killed_while_it_starts_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    status, output = start_and_fail(*TWO, directory=tmp_path)
    assert status == 1
    assert re.search(
        r"^fastws: no worker could start: worker .* was ended by SIGKILL$", output, re.M
    )


def test_workers_that_start_go_on_without_one_that_does_not(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        import os
        from tests.processes import app

        try:
            os.mkdir("first")
        except FileExistsError:
            pass
        else:
            os._exit(3)
        """,
    )
    with Process("served:app", *TWO, cwd=tmp_path) as server:
        server.wait_for(r"worker \d \(process \d+\) ended with status 3: another starts now")
        server.wait_for("is ready", count=2)


def test_stopping_while_the_application_is_imported_takes_no_time(tmp_path: Path) -> None:
    write(
        tmp_path,
        "import os; os.write(1, b'importing\\n')\nimport threading\nthreading.Event().wait()\n",
    )
    with Process("served:app", *TWO, cwd=tmp_path, first="^importing") as server:
        assert server.stop() == 0
    assert "Traceback" not in server.output


def test_stopping_while_the_application_starts_cancels_that(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        import asyncio, os
        from fastws import FastWS
        app = FastWS()

        @app.on_startup
        async def connect():
            os.write(1, b"starting\\n")  # a line of its own, whoever writes at the same time
            try:
                await asyncio.Event().wait()
            finally:
                os.write(1, b"cancelled\\n")
        """,
    )
    with Process("served:app", *TWO, cwd=tmp_path, first="^starting") as server:
        server.wait_for("^starting", count=2)
        assert server.stop(signal.SIGINT) == 0
    assert server.output.count("cancelled") == 2
    assert "Traceback" not in server.output


# Ending


def test_a_second_signal_cuts_what_is_open() -> None:
    async def main(server: Process) -> None:
        async with websockets(server, 4, "/stuck") as sockets:
            server.process.send_signal(signal.SIGTERM)
            for each in sockets:
                assert (await each.frame())[0] == 8
            server.process.send_signal(signal.SIGTERM)
            for each in sockets:
                with contextlib.suppress(ConnectionError):
                    assert await each.rest() == b""
            assert await server.ended() == 0

    options = ("--timeout-graceful-shutdown", "none", "--ws-close-timeout", "1h")
    with Process("tests.processes:app", *TWO, *options) as server:
        run(main(server))


def test_a_third_signal_kills() -> None:
    async def main(server: Process) -> None:
        client = await server.open()
        await client.send(handshake("/blocks"))
        assert status_of(await client.head()) == 101
        for _ in range(3):
            server.process.send_signal(signal.SIGTERM)
            # Two of the same that wait are one: each is to be seen before the next is sent.
            await asyncio.to_thread(wait_for_no_signal, server.process.pid)
        assert await server.ended() == 0
        await client.close()

    options = ("--timeout-graceful-shutdown", "none", "--timeout-worker-healthcheck", "1h")
    with Process("tests.processes:app", *TWO, *options) as server:
        run(main(server))


def wait_for_no_signal(pid: int) -> None:
    """Block until no signal waits to be taken by the process."""
    while True:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return
        pending = re.findall(r"^S\w+Pnd:\s+(\w+)$", status, re.M)
        if not any(int(mask, 16) for mask in pending):
            return


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("listening", ["tcp", "unix"])
def test_a_worker_gets_the_sockets_only_and_its_children_nothing(
    listening: str, tmp_path: Path
) -> None:
    write(
        tmp_path,
        """
        import subprocess, sys
        from tests.processes import app

        CODE = "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"

        @app.get("/inherited")
        def inherited() -> str:
            command = [sys.executable, "-c", CODE]
            return subprocess.run(command, close_fds=False, capture_output=True, text=True).stdout
        """,
    )

    async def main(server: Process) -> None:
        client = await server.open()
        await client.send(b"GET /inherited HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        # The fourth is that of the directory.
        assert b"[0, 1, 2, 3]" in await client.rest()
        await client.close()
        shared = files(server.process.pid) & files(await pid_of_request(server))
        assert len({each for each in shared if each.startswith("socket:")}) == 2

    path = tmp_path / "fastws.sock" if listening == "unix" else None
    with Process("served:app", *TWO, cwd=tmp_path, path=path) as server:
        run(main(server))


def files(pid: int) -> set[str]:
    directory = f"/proc/{pid}/fd"
    found = set()
    for fd in os.listdir(directory):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"{directory}/{fd}"))
    return found


@pytest.mark.parametrize("listening", ["tcp", "unix"])
def test_workers_end_when_their_supervisor_is_killed(listening: str, tmp_path: Path) -> None:
    async def main(server: Process) -> None:
        async with websockets(server, 10) as sockets:
            server.process.kill()
            for each in sockets:
                opcode, payload = await each.frame()
                assert (opcode, payload[:2]) == (8, b"\x03\xf4")
                await each.send(frame(payload, opcode=8))

    with Process.over(listening, tmp_path, *TWO) as server:
        run(main(server))
        server.wait_for_silence()
    assert server.output.count("the supervisor has ended without a word: stopping") == 2


def test_a_failing_shutdown_makes_the_status_one(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        from fastws import FastWS
        app = FastWS()

        @app.on_shutdown
        async def disconnect():
            raise LookupError("no database")
        """,
    )
    with Process("served:app", *TWO, cwd=tmp_path) as server:
        assert server.stop() == 1
    assert server.output.count("Traceback") == 1
    assert server.output.endswith("to start or to stop: LookupError: no database\n")


@pytest.mark.parametrize("listening", ["tcp", "unix"])
def test_a_worker_that_gets_the_signal_itself_is_replaced_at_once(
    listening: str, tmp_path: Path
) -> None:
    async def main(server: Process) -> None:
        client = await open_socket(server)
        os.kill(client.pid, signal.SIGTERM)
        assert (await client.frame())[1][:2] == b"\x03\xf4"
        # It waits for the client's CLOSE, for ever; nobody waits for it.
        await server.line(rf"process {client.pid}\) was told to stop by a signal: another starts")
        await server.line("is ready", count=3)
        for _ in range(20):
            assert await pid_of_request(server) != client.pid
        await client.send(frame(b"\x03\xf4", opcode=8))
        assert await client.rest() == b""
        await client.close()
        await server.line(rf"process {client.pid}\) ended with status 0")
        assert server.stop() == 0

    options = ("--timeout-graceful-shutdown", "none", "--ws-close-timeout", "1h")
    with Process.over(listening, tmp_path, *TWO, *options) as server:
        run(main(server))


def test_a_worker_whose_loop_is_blocked_is_killed_and_replaced() -> None:
    async def main(server: Process) -> None:
        client = await server.open()
        await client.send(handshake("/blocks"))
        assert status_of(await client.head()) == 101
        await server.line(r"has said nothing for 0\.5 s: it is killed")
        await server.line("was ended by SIGKILL: another starts now")
        await server.line("is ready", count=3)
        with contextlib.suppress(ConnectionError):
            assert await client.rest() == b""
        await client.close()

    options = ("--timeout-worker-healthcheck", "500ms")
    with Process("tests.processes:app", *TWO, *options) as server:
        run(main(server))


@dataclass
class Reporting:
    """A worker as far as a SilenceWatch looks at it."""

    heard_at: float
    is_ready: bool = True


def silent(watch: SilenceWatch, workers: list[Reporting], now: float) -> list[Reporting]:
    return cast("list[Reporting]", watch.silent(cast("Any", workers), now))


def test_a_worker_is_silent_that_was_ready_and_said_nothing_in_time() -> None:
    dead, alive, starting = Reporting(0), Reporting(3), Reporting(0, is_ready=False)
    watch = SilenceWatch(5, now=0)
    for now in range(1, 6):
        assert not silent(watch, [dead, alive, starting], now)
    assert silent(watch, [dead, alive, starting], 6) == [dead]


def test_workers_are_not_blamed_for_what_the_supervisor_did_not_hear() -> None:
    worker = Reporting(1)
    watch = SilenceWatch(5, now=1)
    assert not silent(watch, [worker], 60)
    for now in range(61, 66):
        assert not silent(watch, [worker], now)
    assert silent(watch, [worker], 66) == [worker]


# Figures of all


def test_one_scrape_shows_the_sums_of_all_workers(tmp_path: Path) -> None:
    async def scrape(server: Process) -> dict[str, float]:
        client = await server.open()
        await client.send(b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        body = (await client.rest()).partition(b"\r\n\r\n")[2].decode()
        await client.close()
        lines = [line.rpartition(" ") for line in body.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    async def scrape_until(server: Process, name: str, value: float) -> dict[str, float]:
        # Workers tell each other once a second what they have.
        while True:
            figures = await scrape(server)
            if figures.get(name) == value:
                return figures

    async def main(server: Process) -> None:
        async with websockets(server, 20) as sockets:
            assert len({socket.pid for socket in sockets}) == 2
            figures = await scrape_until(server, "fastws_connections", 20)
            assert figures["fastws_connections_opened_total"] == 20
            assert figures['fastws_messages_total{direction="sent"}'] == 20
            server.process.send_signal(signal.SIGHUP)
            for each in sockets:
                assert (await each.frame())[0] == 8
                await each.send(frame(b"\x03\xf4", opcode=8))
                await each.close()
            await server.line("ended with status 0: it has made room", count=2)
        figures = await scrape_until(server, "fastws_connections", 0)
        assert figures["fastws_connections_opened_total"] == 20
        assert figures['fastws_connections_closed_total{code="1012"}'] == 20

    # Through a Unix socket, so that each of the two has some of the connections for certain.
    options = (*TWO, "--metrics", "/metrics", "--no-access-log")
    environment = {"TMPDIR": str(tmp_path)}
    path = tmp_path / "fastws.sock"
    with Process("tests.processes:app", *options, env=environment, path=path) as server:
        assert [*tmp_path.glob("fastws-metrics-*")]
        run(main(server))
        assert server.stop() == 0
    assert not [*tmp_path.iterdir()]


# Replacing all


def test_workers_are_replaced_by_ones_with_the_new_code(tmp_path: Path) -> None:
    async def version(server: Process) -> bytes:
        client = await server.open()
        await client.send(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        answer = await client.rest()
        await client.close()
        return answer.rpartition(b"\r\n\r\n")[2]

    source = "from fastws import FastWS\napp = FastWS()\n@app.get('/')\ndef version(): return {}\n"
    write(tmp_path, source.format(1))
    with Process("served:app", *TWO, cwd=tmp_path) as server:
        assert run(version(server)) == b"1"
        write(tmp_path, source.format(22))
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("ended with status 0: it has made room for another", count=2)
        assert run(version(server)) == b"22"


def test_new_code_that_fails_leaves_the_workers_that_are_there(tmp_path: Path) -> None:
    write(tmp_path, "from tests.processes import app\n")
    with Process("served:app", *TWO, cwd=tmp_path) as server:
        before = run(pid_of_request(server))
        write(tmp_path, "from tests.processes import missing\n")
        server.process.send_signal(signal.SIGHUP)
        line = server.wait_for("while it started: the workers that are left stay")
        assert "ImportError: cannot import name 'missing'" in line
        assert run(pid_of_request(server)) == before or "is ready" in server.output
        write(tmp_path, "from tests.processes import app  # again\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("all workers are replaced")
    assert server.output.count("is ready") == 4


def test_asked_again_while_it_replaces_it_does_so_once_more() -> None:
    with Process("tests.processes:app", *TWO) as server:
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("replacing 2 workers")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("all workers are replaced", count=2)
        assert server.stop() == 0
    assert server.output.count("is ready") == 6


def test_asked_before_it_serves_it_does_so_then(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        import os, time
        os.write(1, b"importing\\n")
        while not os.path.exists("go"):
            time.sleep(0.01)
        from tests.processes import app
        """,
    )
    with Process("served:app", *TWO, cwd=tmp_path, first="^importing") as server:
        server.process.send_signal(signal.SIGHUP)
        wait_for_no_signal(server.process.pid)
        assert "replacing" not in server.output
        (tmp_path / "go").touch()
        server.wait_for("all workers are replaced")
        assert server.stop() == 0


def test_asked_before_it_serves_it_still_ends_if_it_cannot(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        import os, time
        os.write(1, b"importing\\n")
        while not os.path.exists("go"):
            time.sleep(0.01)
        raise LookupError("no settings")
        """,
    )
    with Process("served:app", *TWO, cwd=tmp_path, first="^importing") as server:
        server.process.send_signal(signal.SIGHUP)
        wait_for_no_signal(server.process.pid)
        (tmp_path / "go").touch()
        assert server.process.wait(4 * TIMEOUT) == 1


def test_told_to_stop_while_it_replaces_it_stops(tmp_path: Path) -> None:
    async def main(server: Process) -> None:
        async with websockets(server, 10) as sockets:
            write(tmp_path, "import os, time; os.write(1, b'importing\\n'); time.sleep(9999)\n")
            server.process.send_signal(signal.SIGHUP)
            await server.line("^importing")
            server.process.send_signal(signal.SIGTERM)
            for each in sockets:
                assert (await each.frame())[1][:2] == b"\x03\xf4"
                await each.send(frame(b"\x03\xf4", opcode=8))
                await each.close()
            assert await server.ended() == 0

    write(tmp_path, "from tests.processes import app\n")
    with Process("served:app", *TWO, cwd=tmp_path) as server:
        run(main(server))
        server.wait_for_silence()
    assert "Traceback" not in server.output


def test_a_worker_that_dies_while_its_successor_starts_is_replaced_by_that(tmp_path: Path) -> None:
    async def main(server: Process) -> None:
        before = re.findall(r"worker 1 \(process (\d+)\) is ready", server.output)
        write(
            tmp_path,
            """
            import os, time
            os.write(1, b"importing\\n")
            while not os.path.exists("go"):
                time.sleep(0.01)
            from tests.processes import app
            """,
        )
        server.process.send_signal(signal.SIGHUP)
        await server.line("^importing")
        os.kill(int(before[0]), signal.SIGKILL)
        await server.line(rf"process {before[0]}\) was ended by SIGKILL: another starts now")
        (tmp_path / "go").touch()
        await server.line("all workers are replaced")

    write(tmp_path, "from tests.processes import app\n")
    with Process("served:app", *TWO, cwd=tmp_path) as server:
        run(main(server))
        assert server.stop() == 0
    assert server.output.count("is ready") == 4


def test_it_stops_when_its_terminal_is_closed() -> None:
    ours, theirs = pty.openpty()
    take = (
        "import fcntl, os, sys, termios; os.setsid(); fd = os.open(sys.argv[1], os.O_RDWR);"
        "fcntl.ioctl(fd, termios.TIOCSCTTY, 0); os.close(fd); os.execv(sys.argv[2], sys.argv[2:])"
    )
    server = Process("tests.processes:app", *TWO)
    opened = os.ttyname(theirs)
    server.command = [sys.executable, "-c", take, opened, *server.command]
    try:
        with server:
            os.close(ours)
            assert server.process.wait(4 * TIMEOUT) == 0
    finally:
        os.close(theirs)
    assert "the terminal is gone: stopping" in server.output
