"""websockets: its asyncio server on uvloop."""

from __future__ import annotations

import orjson
import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.extensions.base import ServerExtensionFactory
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

from benchmarks.servers.arguments import BACKLOG, DEFLATE, announce_ready, arguments

receivers: set[ServerConnection] = set()


async def handler(connection: ServerConnection) -> None:
    assert connection.request is not None
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


def extensions(compression: str) -> list[ServerExtensionFactory]:
    deflate = DEFLATE.get(compression)
    if deflate is None:
        return []
    return [
        ServerPerMessageDeflateFactory(
            server_no_context_takeover=not deflate.takeover,
            client_no_context_takeover=not deflate.takeover,
            server_max_window_bits=deflate.window_bits,
            client_max_window_bits=deflate.window_bits,
            compress_settings={"level": deflate.level, "memLevel": deflate.mem_level},
        )
    ]


async def main() -> None:
    given = arguments()
    async with serve(
        handler,
        given.host,
        given.port,
        compression=None,
        extensions=extensions(given.compression),
        backlog=BACKLOG,
    ) as server:
        announce_ready()
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
