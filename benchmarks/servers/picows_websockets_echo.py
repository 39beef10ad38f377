"""picows.websockets: the interface of `websockets` on picows."""

# mypy: disable-error-code="import-not-found"
# A machine that only checks types need not have picows.

from __future__ import annotations

import orjson
import uvloop
from picows.websockets import ServerConnection, broadcast, serve

from benchmarks.servers.arguments import BACKLOG, announce_ready, arguments

receivers: set[ServerConnection] = set()


async def handler(connection: ServerConnection) -> None:
    match connection.request.path:
        case "/json":
            async for message in connection:
                await connection.send(orjson.dumps(orjson.loads(message)).decode())
        case "/receive":
            receivers.add(connection)
            try:
                await connection.wait_closed()
            finally:
                receivers.discard(connection)
        case "/publish":
            async for message in connection:
                broadcast(receivers, message)
        case _:
            async for message in connection:
                await connection.send(message)


async def main() -> None:
    given = arguments()
    compression = None if given.compression == "off" else "deflate"
    async with serve(
        handler, given.host, given.port, compression=compression, backlog=BACKLOG
    ) as server:
        announce_ready()
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
