"""D9: no file descriptors left. Each row in a process of its own, whose limit is lowered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from fastws import FastWS, WebSocket
from tests.connections import until
from tests.robustness.client import TEXT, Measured, Peer, build, measured, websocket
from tests.serving import handshake
from tests.support import TIMEOUT, run

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="another process's limit is lowered with prlimit(2)"
)

FILES = 96
"""Descriptors that the server may have."""

app = FastWS()
taken: list[int] = []


@app.websocket("/")
async def echo(ws: WebSocket) -> None:
    """Echoes; "take" and "give" have the application take all descriptors, and give them back."""
    await ws.accept()
    async for message in ws:
        if message == "take":
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(0))
        elif message == "give":
            while taken:
                os.close(taken.pop())
        await ws.send_text(message)


@contextlib.contextmanager
def short_of_files(loop: str) -> Iterator[Measured]:
    import resource

    options = ("--limit-connections", "1000", "--access-log", "off", "--loop", loop)
    with measured(*options, tracing=False, app=f"{__name__}:app") as server:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        yield server


async def ask(peer: Peer, text: bytes) -> None:
    await peer.send(build(text))
    await peer.expect((TEXT, text))


@contextlib.asynccontextmanager
async def knocking(server: Measured, count: int) -> AsyncIterator[list[socket.socket]]:
    """Connect, as far as the kernel is concerned, and send a handshake on each connection."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(socket.socket()) for _ in range(count)]
        for link in links:
            link.setblocking(False)
            await asyncio.wait_for(loop.sock_connect(link, (server.host, server.port)), TIMEOUT)
            await loop.sock_sendall(link, handshake())
        yield links


async def assert_waits(server: Measured, link: socket.socket) -> None:
    """For a while nothing happens on this connection, nor in the server."""
    before = server.cpu()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.get_running_loop().sock_recv(link, 1), 1)
    assert server.cpu() - before < 0.3, "it is busy with waiting"


async def is_accepted(link: socket.socket) -> bool:
    head = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(link, 65536), TIMEOUT)
    return head.startswith(b"HTTP/1.1 101 ")


def open_files(server: Measured) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_d09_connections_that_take_all_descriptors(loop: str) -> None:
    async def main() -> None:
        with short_of_files(loop) as server:
            async with websocket(server) as peer:
                await ask(peer, b"before")
                async with knocking(server, 2 * FILES) as links:
                    # As many as there is room for are served; the others wait.
                    for link in links[: FILES // 2]:
                        assert await is_accepted(link)
                    await assert_waits(server, links[-1])
                    await ask(peer, b"while there are none")
                    assert open_files(server) < FILES
                    # They are served in their turn, for nothing has refused them.
                    for link in links[:-1]:
                        link.close()
                    assert await is_accepted(links[-1])
                await ask(peer, b"after")
                async with websocket(server) as other:
                    await ask(other, b"another")
        assert server.output.count("descriptors") == 1, server.output
        assert "Traceback" not in server.output

    run(main())


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_d09_an_application_that_takes_all_descriptors(loop: str) -> None:
    async def main() -> None:
        with short_of_files(loop) as server:
            async with websocket(server) as peer:
                await ask(peer, b"take")
                # It looks twice a second; what comes before that, uvloop accepts and closes.
                await until(lambda: "descriptors" in server.output)
                async with knocking(server, 20) as links:
                    await assert_waits(server, links[0])
                    await ask(peer, b"while there are none")
                    await ask(peer, b"give")
                    for link in links:
                        assert await is_accepted(link)
                async with websocket(server) as other:
                    await ask(other, b"another")
        assert server.output.count("descriptors") == 1, server.output
        assert "Traceback" not in server.output

    run(main())
