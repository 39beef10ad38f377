import asyncio

from fastws import Depends, FastWS, HTTPException, WebSocket

app = FastWS()


def step() -> int:
    return 1


@app.websocket("/counter")
async def counter(ws: WebSocket, step: int = Depends(step)) -> None:
    await ws.accept()
    total = 0
    async for _ in ws:
        total += step
        await ws.send_json(total)


@app.websocket("/alarm/{minutes}")
async def alarm(ws: WebSocket, minutes: int) -> None:
    if minutes > 60:
        raise HTTPException(403, "an hour at most")
    await ws.accept()
    await asyncio.sleep(60 * minutes)
    await ws.send_text("time is up")
