"""Plain TCP echo on uvloop: the transport's own limit, to which every other server is compared."""

from __future__ import annotations

import asyncio
from typing import cast

import uvloop

from benchmarks.servers.arguments import BACKLOG, announce_ready, arguments


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast and no isinstance(): uvloop's transport is not a subclass of asyncio's.
        self.write = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        self.write(data)


async def main() -> None:
    given = arguments()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, given.host, given.port, backlog=BACKLOG)
    announce_ready()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
