"""websockets: its asyncio server on uvloop."""

from __future__ import annotations

import uvloop
from websockets.asyncio.server import ServerConnection, serve

from benchmarks.servers.arguments import announce_ready, host_and_port


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    host, port = host_and_port()
    async with serve(echo, host, port, compression=None, backlog=4096) as server:
        announce_ready()
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
