"""picows: callbacks on frames, no coroutine and no message queue."""

# mypy: disable-error-code="import-not-found", allow-subclassing-any
# A machine that only checks types need not have picows.

from __future__ import annotations

import asyncio

import orjson
import uvloop
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_create_server,
)

from benchmarks.servers.arguments import BACKLOG, announce_ready, arguments

receivers: set[WSTransport] = set()


class Listener(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            self.on_message(transport, frame)

    def on_message(self, transport: WSTransport, frame: WSFrame) -> None:
        transport.send(frame.msg_type, frame.get_payload_as_bytes())


class JSONListener(Listener):
    def on_message(self, transport: WSTransport, frame: WSFrame) -> None:
        value = orjson.loads(frame.get_payload_as_memoryview())
        transport.send(WSMsgType.TEXT, orjson.dumps(value))


class Receiver(Listener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        receivers.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        receivers.discard(transport)


class Publisher(Listener):
    def on_message(self, transport: WSTransport, frame: WSFrame) -> None:
        message = frame.get_payload_as_bytes()
        for receiver in receivers:
            receiver.send(WSMsgType.TEXT, message)


LISTENERS: dict[str, type[Listener]] = {
    "/json": JSONListener,
    "/receive": Receiver,
    "/publish": Publisher,
}


def listener(request: WSUpgradeRequest) -> Listener:
    return LISTENERS.get(request.path.decode(), Listener)()


async def main() -> None:
    given = arguments()
    server: asyncio.Server = await ws_create_server(
        listener, given.host, given.port, backlog=BACKLOG
    )
    announce_ready()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
