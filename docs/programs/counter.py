from fastws import Depends, FastWS, WebSocket

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
