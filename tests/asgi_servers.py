"""The servers that an application must work under, over real sockets: this package's and others."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config as HypercornConfig
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests import serving as own
from tests.support import TIMEOUT

__all__ = ["ASGI_SERVERS", "SERVERS", "Client", "close_of", "running"]

ASGI_SERVERS = ["uvicorn-websockets", "uvicorn-wsproto", "hypercorn"]
SERVERS = ["fastws", *ASGI_SERVERS]


@asynccontextmanager
async def running(app: Any, server: str, **options: Any) -> AsyncIterator[str]:
    """Serve ``app`` for the length of the block; the value is the server's ``host:port``.

    Parameters:
        app: what to serve.
        server: one of SERVERS.
        options: ``root_path``.
    """
    if server == "fastws":
        async with own.serving(app, **options) as started:
            host, port = started.addresses[0]
            yield f"{host}:{port}"
        return
    # It listens already, so that nobody has to wait for the server before connecting.
    listening = socket.create_server(("127.0.0.1", 0), backlog=100)
    listening.setblocking(False)
    host, port = listening.getsockname()
    start = _hypercorn if server == "hypercorn" else _uvicorn
    try:
        async with start(app, listening, server, **options):
            yield f"{host}:{port}"
    finally:
        listening.close()


@asynccontextmanager
async def _uvicorn(
    app: Any, listening: socket.socket, server: str, **options: Any
) -> AsyncIterator[None]:
    ws = {"uvicorn-websockets": "websockets-sansio", "uvicorn-wsproto": "wsproto"}[server]
    config = uvicorn.Config(app, ws=ws, lifespan="on", log_config=None, **options)
    serving = uvicorn.Server(config)
    task = asyncio.create_task(serving.serve([listening]))
    try:
        yield
    finally:
        serving.should_exit = True
        await asyncio.wait({task}, timeout=2 * TIMEOUT)
        await asyncio.wait_for(task, TIMEOUT)


@asynccontextmanager
async def _hypercorn(
    app: Any, listening: socket.socket, server: str, **options: Any
) -> AsyncIterator[None]:
    config = HypercornConfig()
    # The server closes it.
    config.bind = [f"fd://{listening.detach()}"]
    config.graceful_timeout = TIMEOUT
    config.errorlog = None
    config.root_path = options.pop("root_path", "")
    assert not options, options
    stop = asyncio.Event()

    async def stopped() -> None:
        await stop.wait()

    task = asyncio.create_task(hypercorn_serve(app, config, shutdown_trigger=stopped))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait({task}, timeout=2 * TIMEOUT)
        await asyncio.wait_for(task, TIMEOUT)


class Client:
    """Opens connections to one server.

    Parameters:
        address: its ``host:port``.
        server: which of SERVERS it is.
    """

    def __init__(self, address: str, server: str) -> None:
        self.address = address
        self.server = server

    def open(self, path: str, **options: Any) -> connect:
        return connect(f"ws://{self.address}{path}", proxy=None, **options)

    async def refused(self, path: str, **options: Any) -> tuple[int, bytes]:
        """The status and body of a refused handshake."""
        with pytest.raises(InvalidStatus) as caught:
            await self.open(path, **options)
        return caught.value.response.status_code, bytes(caught.value.response.body)

    async def request(self, line: str, *headers: str) -> tuple[str, bytes]:
        """The head, in lower case, and the body of the response to a plain HTTP request."""
        host, port = self.address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            lines = [f"{line} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", ""]
            writer.write("\r\n".join(lines).encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            return head.decode().lower(), body
        finally:
            writer.close()


async def close_of(ws: ClientConnection) -> tuple[int | None, str | None]:
    """How the server closes, once everything before has been read."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await ws.recv()
    return ws.close_code, ws.close_reason
