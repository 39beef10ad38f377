"""Granian with one worker; the variant is its interface, asgi (the bare application) or rsgi."""

# mypy: disable-error-code="import-not-found"
# A machine that only checks types need not have Granian.

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from granian import Granian
from granian.rsgi import Scope, WebsocketMessageType, WebsocketProtocol

from benchmarks.servers.arguments import BACKLOG, announce_ready, arguments


class Application:
    """RSGI, Granian's own interface."""

    def __init__(self) -> None:
        self.receivers: set[Any] = set()

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        announce_ready()

    async def __rsgi__(self, scope: Scope, protocol: WebsocketProtocol) -> None:
        transport = await protocol.accept()
        if scope.path == "/receive":
            self.receivers.add(transport)
        while (message := await transport.receive()).kind != WebsocketMessageType.close:
            if scope.path == "/publish":
                for receiver in self.receivers.copy():
                    await receiver.send_str(message.data)
            elif scope.path == "/json":
                await transport.send_str(orjson.dumps(orjson.loads(message.data)).decode())
            elif message.kind == WebsocketMessageType.bytes:
                await transport.send_bytes(message.data)
            else:
                await transport.send_str(message.data)
        self.receivers.discard(transport)
        protocol.close()


rsgi = Application()

if __name__ == "__main__":
    given = arguments()
    target = "granian_echo:rsgi" if given.variant == "rsgi" else "asgi_app:app"
    Granian(
        f"benchmarks.servers.{target}",
        address=given.host,
        port=given.port,
        interface=given.variant,
        workers=1,
        backlog=BACKLOG,
        log_level="critical",
        log_access=False,
    ).serve()
