"""The bare ASGI application that several servers serve."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from benchmarks.servers.arguments import announce_ready

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

receivers: set[Send] = set()


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    match scope["path"]:
        case "/json":
            while (message := await receive())["type"] == "websocket.receive":
                value = orjson.loads(message["text"])
                await send({"type": "websocket.send", "text": orjson.dumps(value).decode()})
        case "/binary":
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "bytes": message["bytes"]})
        case "/receive":
            receivers.add(send)
            await receive()
            receivers.discard(send)
        case "/publish":
            while (message := await receive())["type"] == "websocket.receive":
                published = {"type": "websocket.send", "text": message["text"]}
                for receiver in receivers.copy():
                    await receiver(published)
        case _:
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})


async def lifespan(receive: Receive, send: Send) -> None:
    """Servers listen right after it; whoever waits for "ready" then connects until they do."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
        announce_ready()
