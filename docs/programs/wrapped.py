import time
from typing import Any

from fastws import FastWS, WebSocket, WebSocketException
from fastws.middleware import ASGIApp, CallNext

app = FastWS()


# -- function --
@app.middleware("websocket")
async def timed(ws: WebSocket, call_next: CallNext) -> None:
    start = time.monotonic()
    try:
        await call_next(ws)
    finally:
        print(f"{ws.url.path} was open for {time.monotonic() - start:.1f} s")


# -- class --
class Label:
    """As for any ASGI application; what is written for Starlette fits as well."""

    def __init__(self, app: ASGIApp, name: str) -> None:
        self.app = app
        self.name = name

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["label"] = self.name
        await self.app(scope, receive, send)


app.add_middleware(Label, name="corner shop")


# -- handlers --
class OutOfStock(Exception):
    pass


@app.exception_handler(OutOfStock)
async def sold_out(ws: WebSocket, error: OutOfStock) -> None:
    await ws.close(4004, f"no more {error}")


@app.exception_handler(Exception)
async def anything_else(ws: WebSocket, error: Exception) -> None:
    print(f"caught {type(error).__name__}: {error}")
    await ws.close(1011, "our fault")


# -- shop --
@app.websocket("/shop")
async def shop(ws: WebSocket) -> None:
    await ws.accept()
    await ws.send_text(f"welcome to the {ws.scope['label']}")
    stock = {"tea": 1}
    async for item in ws.iter_text():
        if item == "moon":
            raise WebSocketException(4005, "not for sale")
        if stock[item] == 0:
            raise OutOfStock(item)
        stock[item] -= 1
        await ws.send_text(f"one {item}")
