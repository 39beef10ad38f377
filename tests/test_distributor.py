"""Connections that are handed over: in turn, to who can take them, and lost by none."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from fastws import distributor
from fastws.accepting import Acceptor, AcceptQueue
from fastws.distributor import Distributor
from tests.connections import steps, until
from tests.support import TIMEOUT, run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors are those of POSIX")

Queues = tuple[Distributor, list[AcceptQueue], Path]


@contextlib.contextmanager
def distributing(directory: Path, places: int = 3) -> Iterator[Queues]:
    """A distributor for a Unix socket, its queues, and where to connect to."""
    path = directory / "fastws.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.setblocking(False)
        listening.listen(1_000)
        made = Distributor([listening], places)
        try:
            yield made, made.queues, path
        finally:
            made.close()


@contextlib.contextmanager
def connected(path: Path, count: int) -> Iterator[list[socket.socket]]:
    """So many connections, each with its number sent."""
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(count):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(path))
            client.send(bytes([number % 256]))
            clients.append(client)
        yield clients


def taken(queue: socket.socket) -> list[int]:
    """The numbers of what a worker would now take out of its queue."""
    numbers: list[int] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            link, _ = queue.accept()
            with link:
                assert not link.get_inheritable()
                numbers += link.recv(1)
    return numbers


def test_connections_go_to_each_in_turn(tmp_path: Path) -> None:
    async def main() -> None:
        with distributing(tmp_path) as (made, queues, path):
            made.share_among([0, 1, 2])
            with connected(path, 9):
                await steps(20)
                found = [taken(queue) for queue in queues]
            assert sorted(found) == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]

    run(main())


def test_only_to_those_that_can_take_them(tmp_path: Path) -> None:
    async def main() -> None:
        with distributing(tmp_path) as (made, queues, path):
            made.share_among([2])
            with connected(path, 4):
                await steps(20)
                assert [taken(queue) for queue in queues] == [[], [], [0, 1, 2, 3]]

    run(main())


def test_nothing_is_accepted_while_nobody_can(tmp_path: Path) -> None:
    async def main() -> None:
        with distributing(tmp_path) as (made, queues, path), connected(path, 4):
            made.share_among([])
            await steps(20)
            made.share_among([0])
            made.share_among([])
            await steps(20)
            assert [taken(queue) for queue in queues] == [[], [], []]
            made.share_among([1])
            await steps(20)
            assert taken(queues[1]) == [0, 1, 2, 3]

    run(main())


def test_a_full_queue_is_passed_over(tmp_path: Path) -> None:
    async def main() -> None:
        with distributing(tmp_path) as (made, queues, path):
            shrink(made, 0)
            made.share_among([0, 1])
            with connected(path, 60):
                served: list[int] = []
                await until(lambda: take(queues[1], served) + len(waiting) >= 60)
                assert len(waiting) < 30 < len(served)

    waiting: list[int] = []

    def take(queue: AcceptQueue, served: list[int]) -> int:
        served += taken(queue)
        return len(served)

    def shrink(made: Distributor, place: int) -> None:
        made._ends[place].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        # What fits in is never taken.
        with contextlib.suppress(BlockingIOError):
            while True:
                socket.send_fds(made._ends[place], [b"\0"], [made._ends[place].fileno()])

    run(main())


def test_where_all_are_full_the_rest_waits_and_none_is_lost(tmp_path: Path) -> None:
    async def main() -> None:
        with distributing(tmp_path, 2) as (made, queues, path):
            for end in made._ends:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            made.share_among([0, 1])
            with connected(path, 100):
                await steps(20)
                found: list[int] = []
                while len(found) < 100:
                    got = [number for queue in queues for number in taken(queue)]
                    assert len(got) < 100
                    found += got
                    await asyncio.sleep(0.001)
                assert sorted(found) == list(range(100))

    run(main())


def test_what_a_worker_left_in_its_queue_is_there_for_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        with distributing(tmp_path, 1) as (made, queues, path):
            made.share_among([0])
            with connected(path, 6):
                await steps(20)
                dead = AcceptQueue(fileno=os.dup(queues[0].fileno()))
                dead.accept()[0].close()
                dead.close()
                assert taken(queues[0]) == [1, 2, 3, 4, 5]

    run(main())


def test_without_a_descriptor_a_connection_stays_in_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(fd: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    async def main() -> None:
        with distributing(tmp_path, 1) as (made, queues, path):
            made.share_among([0])
            with connected(path, 1):
                await steps(20)
                with monkeypatch.context() as patched:
                    patched.setattr(os, "dup", none_left)
                    with pytest.raises(OSError, match="Too many open files"):
                        queues[0].accept()
                assert taken(queues[0]) == [0]

    run(main())


def test_a_supervisor_without_descriptors_waits_and_says_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Short(socket.socket):
        missing = 3

        def accept(self) -> tuple[socket.socket, object]:
            if self.missing:
                self.missing -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    monkeypatch.setattr(distributor, "RETRY", 0.001)

    async def main() -> None:
        with distributing(tmp_path, 1) as (made, queues, path):
            listening = Short(fileno=os.dup(made._listening[0].fileno()))
            made._listening = [listening]
            made.share_among([0])
            with connected(path, 1):
                await until(lambda: taken(queues[0]) == [0])
            made.close()
            listening.close()

    run(main())
    (record,) = caplog.records
    assert "new connections wait: the supervisor cannot accept" in record.getMessage()


def test_an_acceptor_serves_what_is_in_its_queue(tmp_path: Path) -> None:
    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.Transport", transport)

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)
            self.transport.close()

    async def echoed(client: socket.socket) -> bytes:
        client.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=client)
        try:
            return await asyncio.wait_for(reader.read(), TIMEOUT)
        finally:
            writer.close()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with distributing(tmp_path, 1) as (made, queues, path):
            acceptor = Acceptor(loop, Echo, [AcceptQueue(fileno=os.dup(queues[0].fileno()))], 1)
            made.share_among([0])
            with connected(path, 20) as clients:
                await acceptor.start()
                answers = await asyncio.gather(*map(echoed, clients))
            assert answers == [bytes([number]) for number in range(20)]
            # The supervisor has ended: there is nothing to accept, and nothing fails.
            made.close()
            await steps(20)
            acceptor.close()

    run(main())


def test_what_is_closed_lets_its_connections_go(tmp_path: Path) -> None:
    async def main() -> None:
        with distributing(tmp_path, 1) as (made, _, path):
            made.share_among([0])
            with connected(path, 3) as clients:
                await steps(20)
                made.close()
                made.share_among([0])
                for client in clients:
                    client.settimeout(TIMEOUT)
                    with contextlib.suppress(ConnectionResetError):  # its byte was not read
                        assert client.recv(1) == b""

    run(main())
