"""uvicorn in the test's own loop, with this package's WebSockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from websockets.asyncio.client import connect

from tests.robustness.client import Peer, open_peer
from tests.support import TIMEOUT

__all__ = ["DROP_IN", "Application", "Uvicorn", "accept", "listening", "serving", "until"]

DROP_IN = "fastws.integrations.uvicorn:WebSocketProtocol"

Application = Any


class Uvicorn(uvicorn.Server):
    """The running server, and connections to it.

    Parameters:
        config: uvicorn's.
        listening: the socket that it listens on.
    """

    def __init__(self, config: uvicorn.Config, listening: socket.socket) -> None:
        super().__init__(config)
        self.listening = listening

    @property
    def address(self) -> Any:
        return self.listening.getsockname()

    def open(self, path: str = "/", **options: Any) -> connect:
        """A WebSocket, by another project's client."""
        host, port = self.address
        usual = {"proxy": None, "open_timeout": TIMEOUT, "compression": None}
        return connect(f"ws://{host}:{port}{path}", **{**usual, **options})

    @asynccontextmanager
    async def peer(self, path: str = "/", *headers: str, **options: Any) -> AsyncIterator[Peer]:
        """A WebSocket, by a client that follows no rule."""
        peer, _ = await open_peer(self.address, path, *headers, **options)
        try:
            yield peer
        finally:
            await peer.close()

    async def answer(self, data: bytes) -> bytes:
        """All that comes back on a connection of its own."""
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            writer.write(data)
            return await asyncio.wait_for(reader.read(), TIMEOUT)
        finally:
            writer.close()
            await writer.wait_closed()

    async def stop(self) -> None:
        """Shut down as a signal would make it."""
        await asyncio.wait_for(self.shutdown([self.listening]), 3 * TIMEOUT)


def listening() -> socket.socket:
    """A socket on a free port; who connects from now on is served once there is a server."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=100)
    sock.setblocking(False)
    return sock


@asynccontextmanager
async def serving(
    app: Application,
    *,
    sock: socket.socket | None = None,
    state: Mapping[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Uvicorn]:
    """Serve ``app`` for the length of the block.

    Parameters:
        app: an ASGI application.
        sock: what to listen on; a free port by default.
        state: what its lifespan would have left.
        options: uvicorn's.
    """
    options = {"ws": DROP_IN, "lifespan": "off", "log_config": None, **options}
    config = uvicorn.Config(app, **options)
    config.load()
    server = Uvicorn(config, sock or listening())
    server.lifespan = config.lifespan_class(config)
    server.lifespan.state.update(state or {})
    # What Server.serve() does, less its signals and the tenth of a second between its looks.
    await server.startup([server.listening])
    await server.on_tick(0)
    try:
        yield server
        if server.listening.fileno() != -1:
            await server.stop()
        left = server.server_state
        await until(lambda: not left.connections and not left.tasks)
    finally:
        for each in server.servers:
            each.close()
        server.listening.close()


async def accept(receive: Any, send: Any, **fields: Any) -> None:
    """Accept the connection, as an application without a framework does."""
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept", **fields})


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop go on until ``condition`` holds."""

    async def watch() -> None:
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)

    await asyncio.wait_for(watch(), TIMEOUT)
