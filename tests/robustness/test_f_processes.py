"""F1 to F4 of the robustness cases: workers that die, stop, are replaced, or cannot start."""

from __future__ import annotations

import asyncio
import collections
import os
import signal
import struct
import sys
from pathlib import Path

import pytest

from tests.processes import LISTENING, Process, Socket, pid_of_request, websockets
from tests.serving import frame, handshake, status_of
from tests.support import run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="workers need POSIX signals")

over_each = pytest.mark.parametrize("listening", LISTENING)


async def answer_close(socket: Socket) -> int:
    """Answer the server's CLOSE, see it end TCP, do so too, and return the close code."""
    opcode, payload = await socket.frame()
    assert opcode == 8
    await socket.send(frame(payload, opcode=8))
    assert await socket.rest() == b""
    await socket.close()
    (code,) = struct.unpack(">H", payload[:2])
    return int(code)


async def echoes(socket: Socket) -> bool:
    await socket.send(frame(b"still here"))
    return await socket.frame() == (1, b"still here")


# F1: kill -9 of a worker


@over_each
def test_f1_a_killed_worker_is_replaced_and_the_others_sockets_stay(
    listening: str, tmp_path: Path
) -> None:
    async def main(server: Process) -> None:
        async with websockets(server, 200) as sockets:
            victim = sockets[0].pid
            theirs = [socket for socket in sockets if socket.pid == victim]
            others = [socket for socket in sockets if socket.pid != victim]
            assert len({socket.pid for socket in sockets}) == 4
            os.kill(victim, signal.SIGKILL)
            await server.line(rf"process {victim}\) was ended by SIGKILL: another starts now")
            await server.line(r"worker \d \(process \d+\) is ready", count=5)
            for socket in theirs:
                try:
                    assert await socket.rest() == b""
                except ConnectionError:
                    pass  # unread bytes make it a RST
            assert all(await asyncio.gather(*map(echoes, others)))
            assert await pid_of_request(server) != victim

    with Process.over(listening, tmp_path, "--workers", "4") as server:
        run(main(server))


# F2: SIGTERM with open sockets


@over_each
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_f2_a_signal_closes_every_socket_of_every_worker_with_1012(
    listening: str, number: signal.Signals, tmp_path: Path
) -> None:
    async def main(server: Process) -> None:
        async with websockets(server, 100) as sockets:
            server.process.send_signal(number)
            codes = await asyncio.gather(*map(answer_close, sockets))
            assert codes == [1012] * 100
            assert await server.ended() == 0

    with Process.over(listening, tmp_path, "--workers", "4") as server:
        run(main(server))
        server.wait_for_silence()
    assert "Traceback" not in server.output
    assert not (tmp_path / "fastws.sock").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_f2_a_signal_to_all_the_processes_does_the_same(number: signal.Signals) -> None:
    async def main(server: Process) -> None:
        async with websockets(server, 40) as sockets:
            os.killpg(server.process.pid, number)
            codes = await asyncio.gather(*map(answer_close, sockets))
            assert codes == [1012] * 40
            assert await server.ended() == 0

    with Process("tests.processes:app", "--workers", "2", own_group=True) as server:
        run(main(server))
    assert "Traceback" not in server.output


# F3: rolling restart


@over_each
def test_f3_a_rolling_restart_refuses_no_connection(listening: str, tmp_path: Path) -> None:
    async def main(server: Process) -> None:
        async with websockets(server, 40) as old:
            replaced = asyncio.create_task(server.line("all workers are replaced"))
            closed = [asyncio.create_task(answer_close(socket)) for socket in old]
            before = {socket.pid for socket in old}
            server.process.send_signal(signal.SIGHUP)
            served = 0
            while not (replaced.done() and all(each.done() for each in closed)):
                await pid_of_request(server)
                async with websockets(server, 1):
                    served += 1
            await replaced
            assert [await each for each in closed] == [1012] * 40
            async with websockets(server, 40) as new:
                assert not before & {socket.pid for socket in new}
            assert served

    with Process.over(listening, tmp_path, "--workers", "2") as server:
        run(main(server))


# F4: SIGTERM during handshakes; crash loop


@over_each
def test_f4_handshakes_under_way_get_503(listening: str, tmp_path: Path) -> None:
    async def main(server: Process) -> None:
        half, whole = await server.open(), await server.open()
        # A worker reads both before it can tell that the second waits for a decision; they may be
        # two workers, so the first has its answer to an earlier request as a sign.
        await half.send(b"GET /pid HTTP/1.1\r\nHost: here\r\n\r\nGET / HTTP/1.1\r\nHo")
        assert status_of(await half.head()) == 200
        await whole.send(handshake("/undecided"))
        await server.line("^undecided")
        server.process.send_signal(signal.SIGTERM)
        for client in (half, whole):
            assert b"HTTP/1.1 503 " in await client.rest()
            await client.close()
        assert await server.ended() == 0

    with Process.over(listening, tmp_path, "--workers", "2") as server:
        run(main(server))


def newest(server: Process) -> int:
    """The process that was ready last."""
    lines = [line for line in server.output.splitlines() if "is ready" in line]
    return int(lines[-1].partition("(process ")[2].partition(")")[0])


@pytest.mark.parametrize("listening", ["tcp", "unix"])
def test_f4_a_crash_loop_is_slowed_down_and_the_others_serve_for_the_missing(
    listening: str, tmp_path: Path
) -> None:
    async def main(server: Process) -> None:
        os.kill(newest(server), signal.SIGKILL)
        await server.line("was ended by SIGKILL: another starts now")
        await server.line("is ready", count=5)
        os.kill(newest(server), signal.SIGKILL)
        await server.line("another starts in 1 s, for 2 have ended in a row")
        async with websockets(server, 40) as sockets:
            serving = {socket.pid for socket in sockets}
            assert len(serving) == 3 or server.output.count("is ready") > 5
        await server.line("is ready", count=6)
        # What a neighbour took it has given back.
        async with websockets(server, 80) as sockets:
            assert newest(server) in {socket.pid for socket in sockets}
        os.kill(newest(server), signal.SIGKILL)
        await server.line("another starts in 2 s, for 3 have ended in a row")

    with Process.over(listening, tmp_path, "--workers", "4") as server:
        run(main(server))


# Fairness


@pytest.mark.parametrize("at_once", [50, 1_000])
@pytest.mark.parametrize("listening", ["tcp", "unix"])
def test_connections_are_spread_evenly(listening: str, at_once: int, tmp_path: Path) -> None:
    """Four workers have 1,000 connections within ± 20 %, however they come.

    For TCP the kernel's hash makes it a matter of luck: the share of a worker is binomial
    (n = 1,000, p = 1/4) with a standard deviation of 13.7, so that one of four is beyond 50 once in
    a thousand times. Not so twice in a row.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 1_500
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))

    async def shares(server: Process) -> list[int]:
        async with websockets(server, 1_000, at_once=at_once) as sockets:
            return list(collections.Counter(socket.pid for socket in sockets).values())

    def even(shares: list[int]) -> bool:
        return len(shares) == 4 and all(200 <= share <= 300 for share in shares)

    options = ("--workers", "4", "--no-access-log")
    with Process.over(listening, tmp_path, *options) as server:
        found = run(shares(server))
        if not even(found) and listening == "tcp":
            found = run(shares(server))
        assert even(found), found


def test_one_port_that_workers_share_is_spread_evenly_too() -> None:
    async def main(server: Process) -> None:
        async with websockets(server, 100) as sockets:
            shares = collections.Counter(socket.pid for socket in sockets)
            assert sorted(shares.values()) == [50, 50]
            assert sockets[0].client is not None
            assert sockets[0].client[0] == "127.0.0.1"

    with Process("tests.processes:app", "--workers", "2", "--reuse-port", "off") as server:
        run(main(server))


@over_each
def test_bursts_during_a_rolling_restart_are_served(listening: str, tmp_path: Path) -> None:
    async def main(server: Process) -> None:
        replaced = asyncio.create_task(server.line("all workers are replaced"))
        server.process.send_signal(signal.SIGHUP)
        while not replaced.done():
            await asyncio.gather(*(pid_of_request(server) for _ in range(50)))
        await replaced

    with Process.over(listening, tmp_path, "--workers", "2", "--no-access-log") as server:
        run(main(server))
