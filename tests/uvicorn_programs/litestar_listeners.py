"""Litestar: a handler, listeners, streams, and channels with a page that publishes."""

import asyncio
from collections.abc import AsyncGenerator

from litestar import Litestar, WebSocket, get, websocket
from litestar.channels import ChannelsPlugin
from litestar.channels.backends.memory import MemoryChannelsBackend
from litestar.exceptions import WebSocketException
from litestar.handlers import websocket_listener, websocket_stream


@websocket("/once")
async def once(socket: WebSocket) -> None:  # type: ignore[type-arg]
    await socket.accept(subprotocols=socket.scope["subprotocols"][0])
    await socket.send_json({"got": await socket.receive_json()})
    await socket.close(code=3001, reason="done")


@websocket("/refused")
async def refused(socket: WebSocket) -> None:  # type: ignore[type-arg]
    raise WebSocketException(detail="not here", code=4003)


@websocket_listener("/text")
async def text(data: str) -> str:
    return data


@websocket_listener("/json")
async def json(data: dict[str, str]) -> dict[str, str]:
    return data


@websocket_listener("/bytes", receive_mode="binary", send_mode="binary")
async def binary(data: bytes) -> bytes:
    return data


@websocket_stream("/count")
async def count() -> AsyncGenerator[int, None]:
    for number in range(3):
        yield number


@websocket_stream("/forever")
async def forever() -> AsyncGenerator[str, None]:
    try:
        while True:
            yield "tick"
            await asyncio.sleep(0.01)
    finally:
        print("the stream has ended", flush=True)


@get("/publish")
async def publish(channels: ChannelsPlugin) -> str:
    channels.publish("to all", "news")
    return "published"


channels = ChannelsPlugin(MemoryChannelsBackend(), channels=["news"], create_ws_route_handlers=True)
app = Litestar(
    [once, refused, text, json, binary, count, forever, publish],
    plugins=[channels],
)
