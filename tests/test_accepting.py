"""Accepting connections, pausing and resuming; with real descriptors in test_d09_files.py."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fastws import accepting
from fastws.accepting import Acceptor
from tests.connections import until
from tests.support import TIMEOUT, run


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert hasattr(transport, "write")
        transport.write(b"hello")
        transport.close()


class Shortage:
    """Says how many descriptors an acceptor finds, instead of taking them all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_short = False
        monkeypatch.setattr(Acceptor, "_is_short", lambda _: self.is_short)
        monkeypatch.setattr(Acceptor, "_can_resume", lambda _: not self.is_short)
        monkeypatch.setattr(accepting, "LOOK_INTERVAL", 0.01)
        monkeypatch.setattr(accepting, "RECOVERED", 0.05)


@contextlib.asynccontextmanager
async def accepting_on(*sockets: socket.socket) -> AsyncIterator[Acceptor]:
    acceptor = Acceptor(asyncio.get_running_loop(), Greeter, sockets, backlog=10)
    await acceptor.start()
    try:
        yield acceptor
    finally:
        acceptor.close()
        for listening in sockets:
            assert listening.fileno() == -1, "they belong to the acceptor"


def bound() -> socket.socket:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.setblocking(False)
    return listening


async def greeting(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await asyncio.wait_for(reader.read(), TIMEOUT)
    finally:
        writer.close()
        await writer.wait_closed()


def check(acceptor: Acceptor) -> None:
    """What new connections bring about: a look at the descriptors."""
    for _ in range(accepting.CHECK_EVERY):
        acceptor.check()


def test_connections_wait_during_a_pause(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        shortage = Shortage(monkeypatch)
        first, second = bound(), bound()
        ports = [listening.getsockname()[1] for listening in (first, second)]
        async with accepting_on(first, second) as acceptor:
            for port in ports:
                assert await greeting(port) == b"hello"
            for _ in range(3):
                shortage.is_short = True
                check(acceptor)
                assert not acceptor.is_accepting
                waiting = [asyncio.create_task(greeting(port)) for port in ports]
                await asyncio.sleep(0.03)
                assert not any(task.done() for task in waiting)
                shortage.is_short = False
                assert await asyncio.gather(*waiting) == [b"hello", b"hello"]
            await until(lambda: "no longer wait" in caplog.text)
            # What comes back after that is told again.
            shortage.is_short = True
            await until(lambda: not acceptor.is_accepting)

    with caplog.at_level(logging.INFO, "fastws"):
        run(main())
    messages = [record.levelname for record in caplog.records]
    assert messages == ["WARNING", "INFO", "WARNING"]


def test_a_pause_ends_with_the_acceptor(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        shortage = Shortage(monkeypatch)
        listening = bound()
        port = listening.getsockname()[1]
        async with accepting_on(listening) as acceptor:
            shortage.is_short = True
            check(acceptor)
            waiting = asyncio.create_task(greeting(port))
            await asyncio.sleep(0.03)
        with contextlib.suppress(ConnectionError):
            assert await waiting == b""
        with pytest.raises(ConnectionRefusedError):
            await greeting(port)
        assert not acceptor.is_accepting

    run(main())


def test_descriptors_that_somebody_else_takes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        shortage = Shortage(monkeypatch)
        listening = bound()
        port = listening.getsockname()[1]
        failures = 0
        listen = Acceptor._listen

        async def fail_twice(self: Acceptor) -> None:
            nonlocal failures
            failures += 1
            if failures <= 2:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            await listen(self)

        async with accepting_on(listening) as acceptor:
            monkeypatch.setattr(Acceptor, "_listen", fail_twice)
            shortage.is_short = True
            check(acceptor)
            shortage.is_short = False
            assert await greeting(port) == b"hello"
            assert failures == 3

    run(main())


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets")
def test_accepting_on_a_unix_socket_leaves_its_file(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.setblocking(False)
        async with accepting_on(listening):
            reader, writer = await asyncio.open_unix_connection(path)
            assert await asyncio.wait_for(reader.read(), TIMEOUT) == b"hello"
            writer.close()

    run(main())
    assert os.path.exists(path), "it belongs to who made it"


def test_no_limit_is_never_short(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no limit of descriptors")

    async def main() -> None:
        async with accepting_on(bound()) as acceptor:
            assert not acceptor._is_short()
            assert acceptor._can_resume()
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            monkeypatch.setattr("resource.getrlimit", lambda _: unlimited)
            assert not acceptor._is_short()
            monkeypatch.setattr(accepting, "resource", None)
            assert not acceptor._is_short()

    run(main())


def test_descriptors_are_looked_at_once_in_several_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with accepting_on(bound()) as acceptor:
            looks = 0

            def look(_: Acceptor) -> bool:
                nonlocal looks
                looks += 1
                return False

            monkeypatch.setattr(Acceptor, "_is_short", look)
            monkeypatch.setattr(accepting, "LOOK_INTERVAL", 1000)
            before = looks
            for _ in range(3 * accepting.CHECK_EVERY):
                acceptor.check()
            assert looks - before == 3

    run(main())


def test_what_comes_unseen_between_two_looks_fits_the_reserve() -> None:
    most = accepting.ACCEPTED_AT_ONCE + accepting.CHECK_EVERY
    assert most <= accepting.RESERVED_FILES


def test_many_connections_that_come_at_once_are_all_accepted() -> None:
    async def main() -> None:
        listening = bound()
        port = listening.getsockname()[1]
        async with accepting_on(listening):
            for _ in range(5):
                # As many as the backlog holds.
                greetings = await asyncio.gather(*(greeting(port) for _ in range(10)))
                assert greetings == [b"hello"] * 10

    run(main())


def test_nothing_listens_after_the_end() -> None:
    async def main() -> None:
        listening = bound()
        port = listening.getsockname()[1]
        async with accepting_on(listening) as acceptor:
            assert await greeting(port) == b"hello"
            acceptor.close()
            await asyncio.sleep(0)
            with pytest.raises(ConnectionRefusedError):
                await greeting(port)

    run(main())
