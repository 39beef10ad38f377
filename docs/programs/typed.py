from dataclasses import dataclass

import msgspec

from fastws import FastWS, WebSocket

app = FastWS()


# -- one --
@dataclass
class Order:
    item: str
    count: int = 1


@app.websocket("/orders")
async def orders(ws: WebSocket) -> None:
    await ws.accept()
    while True:
        try:
            order = await ws.receive_json(type=Order)
        except ValueError as error:
            await ws.send_json({"error": str(error)})
        else:
            await ws.send_json(order)


# -- many --
class Move(msgspec.Struct, tag="move"):
    x: int
    y: int


class Say(msgspec.Struct, tag="say"):
    text: str


class Moved(msgspec.Struct, tag="moved"):
    x: int
    y: int
    steps: int


@app.websocket("/game", receive=Move | Say, send=Moved | Say)
async def game(ws: WebSocket) -> None:
    await ws.accept()
    steps = 0
    async for message in ws.iter_json():
        match message:
            case Move(x, y):
                steps += abs(x) + abs(y)
                await ws.send_json(Moved(x, y, steps))
            case Say(text):
                await ws.send_json(Say(f"you said {text}"))
