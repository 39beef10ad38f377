import asyncio

from fastws import FastWS, WebSocket

app = FastWS()
SHORT = 0.2  # seconds


# -- whole --
async def talk(ws: WebSocket) -> None:
    async for text in ws.iter_text():
        await ws.send_text(f"go on: {text}")


@app.websocket("/session")
async def session(ws: WebSocket) -> None:
    await ws.accept()
    try:
        await asyncio.wait_for(talk(ws), timeout=SHORT)
    except asyncio.TimeoutError:
        await ws.close(reason="time is up")


# -- message --
@app.websocket("/quiz")
async def quiz(ws: WebSocket) -> None:
    await ws.accept()
    for number in range(1, 4):
        await ws.send_text(f"question {number}")
        try:
            answer = await ws.receive_text(timeout=SHORT)
        except TimeoutError:
            await ws.send_text("too slow")
        else:
            await ws.send_text(f"you said {answer}")
