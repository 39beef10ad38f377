"""The shapes of Starlette's guide: an endpoint class, a function, a mount, pure ASGI middleware."""

from typing import Any

from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.routing import Mount, WebSocketRoute
from starlette.websockets import WebSocket


class Echo(WebSocketEndpoint):
    encoding = "json"

    async def on_connect(self, websocket: WebSocket) -> None:
        chosen = next(iter(websocket.scope["subprotocols"]), None)
        await websocket.accept(subprotocol=chosen, headers=[(b"x-served-by", b"echo")])

    async def on_receive(self, websocket: WebSocket, data: Any) -> None:
        await websocket.send_json({"got": data, "seen": websocket.scope["seen"]})

    async def on_disconnect(self, websocket: WebSocket, close_code: int) -> None:
        print(f"left with {close_code}", flush=True)


async def count(websocket: WebSocket) -> None:
    await websocket.accept()
    async for data in websocket.iter_bytes():
        await websocket.send_text(f"{len(data)} {websocket.path_params['unit']}")


class Seen:
    """Middleware."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app({**scope, "seen": True}, receive, send)


app = Starlette(
    routes=[
        WebSocketRoute("/echo", Echo),
        Mount("/count", routes=[WebSocketRoute("/{unit}", count)]),
    ],
    middleware=[Middleware(Seen)],
)
