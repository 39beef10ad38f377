"""picows: callbacks on frames, no coroutine and no message queue.

The ignored type errors are those of a machine without picows.
"""

from __future__ import annotations

import asyncio

import uvloop
from picows import (  # type: ignore[import-not-found,unused-ignore]
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_create_server,
)

from benchmarks.servers.arguments import announce_ready, host_and_port


class Echo(WSListener):  # type: ignore[misc,unused-ignore]
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_bytes())


def listener(request: WSUpgradeRequest) -> WSListener:
    return Echo()


async def main() -> None:
    host, port = host_and_port()
    server: asyncio.Server = await ws_create_server(listener, host, port, backlog=4096)
    announce_ready()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
