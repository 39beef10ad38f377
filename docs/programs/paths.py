from enum import Enum
from uuid import UUID

from fastws import FastWS, WebSocket

app = FastWS()


# -- text --
@app.websocket("/tables/{name}")
async def table(ws: WebSocket, name: str) -> None:
    await ws.accept()
    await ws.send_text(f"Welcome to {name}")
    await ws.close()


# -- number --
@app.websocket("/seats/{seat}")
async def seat(ws: WebSocket, seat: int) -> None:
    await ws.accept()
    async for text in ws.iter_text():
        await ws.send_text(f"seat {seat}, next to {seat + 1}: {text}")
    print(f"seat {seat} is free")


# -- types --
class Level(Enum):
    QUIET = "quiet"
    LOUD = "loud"


@app.websocket("/devices/{device}/{level}")
async def device(ws: WebSocket, level: Level, device: UUID) -> None:
    await ws.accept()
    await ws.send_json({"device": device, "level": level, "version": device.version})


# -- convertors --
@app.websocket("/numbers/{number:int}")
async def number(ws: WebSocket, number: int) -> None:
    await ws.accept()
    await ws.send_json(number + 1)


@app.websocket("/files/{path:path}")
async def file(ws: WebSocket, path: str) -> None:
    await ws.accept()
    await ws.send_json(path.split("/"))
