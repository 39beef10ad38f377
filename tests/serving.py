"""A server in the test's own loop, and a client that puts any bytes on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import AsyncIterator
from typing import Any

from fastws.config import Config
from fastws.server import Server
from tests.support import TIMEOUT, within

__all__ = ["KEY", "Client", "connect", "exchange", "frame", "handshake", "serving", "status_of"]

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""The key of RFC 6455 section 1.3."""


@contextlib.asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[Server]:
    """Serve ``app`` on a free port for the length of the block; it must then stop in time."""
    ssl_context = options.pop("ssl_context", None)
    options = {"port": 0, **options}
    server = Server(Config.from_options(app, options, ssl_context=ssl_context))
    running = asyncio.create_task(server.serve())
    started = asyncio.create_task(server.started.wait())
    await asyncio.wait({running, started}, return_when=asyncio.FIRST_COMPLETED, timeout=TIMEOUT)
    started.cancel()
    if running.done():
        running.result()
    try:
        yield server
    finally:
        server.stop()
        done, _ = await asyncio.wait({running}, timeout=TIMEOUT)
        if not done:
            server.stop()
        await asyncio.wait_for(running, TIMEOUT)


class Client:
    """One TCP connection to a server. Every method gives up after TIMEOUT seconds."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.transport = writer.transport

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await within(self.writer.drain())

    async def head(self) -> bytes:
        """The next response up to its empty line."""
        return await within(self.reader.readuntil(b"\r\n\r\n"))

    async def exactly(self, count: int) -> bytes:
        return await within(self.reader.readexactly(count))

    async def rest(self) -> bytes:
        """Everything up to EOF; ConnectionResetError if there is a RST in its place."""
        return await within(self.reader.read())

    async def frame(self) -> tuple[int, bytes]:
        """The opcode and the payload of the next frame, which is whole and not masked."""
        first, length = await self.exactly(2)
        assert first & 0x80, "a fragment"
        assert first & 0x70 == 0, "a reserved bit"
        if length == 126:
            (length,) = struct.unpack(">H", await self.exactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", await self.exactly(8))
        return first & 0x0F, await self.exactly(length)

    def stop_reading(self) -> None:
        """Leave what arrives in the kernel, until its buffers and then the server's are full."""
        assert hasattr(self.transport, "pause_reading")
        self.transport.pause_reading()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def connect(server: Server, **options: Any) -> AsyncIterator[Client]:
    """A connection to ``server``; ``options`` are those of ``asyncio.open_connection``."""
    host, port = server.addresses[0]
    opening = asyncio.open_connection(host, port, **options)
    client = Client(*await asyncio.wait_for(opening, TIMEOUT))
    try:
        yield client
    finally:
        await client.close()


async def exchange(server: Server, data: bytes) -> bytes:
    """Send ``data`` on a connection of its own and return all that comes back until EOF."""
    async with connect(server) as client:
        await client.send(data)
        return await client.rest()


def handshake(
    path: str = "/", *added: str, without: str = "", method: str = "GET", version: str = "1.1"
) -> bytes:
    """A client's opening handshake.

    Parameters:
        path: the request target.
        added: further header lines; one with the name of a usual one takes its place.
        without: the name of a usual header to leave out.
    """
    usual = [
        "Host: example.org",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
    ]
    replaced = {line.partition(":")[0].lower() for line in added} | {without.lower()}
    lines = [line for line in usual if line.partition(":")[0].lower() not in replaced]
    lines = [f"{method} {path} HTTP/{version}", *lines, *added]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")


def frame(payload: bytes, opcode: int = 0x1) -> bytes:
    """One whole frame as a client sends it, masked."""
    mask = os.urandom(4)
    length = len(payload)
    if length < 126:
        header = struct.pack(">BB", 0x80 | opcode, 0x80 | length)
    elif length < 65536:
        header = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, length)
    else:
        header = struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, length)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return header + mask + masked


def status_of(response: bytes) -> int:
    """The status of a response, which must be well-formed up to its empty line."""
    line = response.partition(b"\r\n")[0]
    assert line.startswith(b"HTTP/1.1 "), response
    assert b"\r\n\r\n" in response, response
    return int(line[9:12])
