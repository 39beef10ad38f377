import asyncio

from fastws import FastWS, WebSocket

app = FastWS()
PAUSE = 0.05  # seconds; 20 or 30 would be more usual


# -- task --
async def beat(ws: WebSocket) -> None:
    while True:
        await asyncio.sleep(PAUSE)
        try:
            await ws.send_json({"type": "beat"})
        except Exception as error:
            print(f"the heart stopped: {type(error).__name__}")
            break


@app.websocket("/task")
async def with_task(ws: WebSocket) -> None:
    await ws.accept()
    heart = asyncio.create_task(beat(ws))
    try:
        async for text in ws.iter_text():
            await ws.send_json({"type": "echo", "text": text})
    finally:
        await heart
        print("and its handler is done")


# -- group --
async def tick(ws: WebSocket) -> None:
    try:
        while True:
            await asyncio.sleep(PAUSE)
            await ws.send_json({"type": "tick"})
    finally:
        print("the clock stopped")


@app.websocket("/group")
async def with_group(ws: WebSocket) -> None:
    await ws.accept()
    ws.tasks.create_task(tick(ws))
    async for text in ws.iter_text():
        await ws.send_json({"type": "echo", "text": text})


# -- cancel --
@app.websocket("/prices", cancel_on_disconnect=True)
async def prices(ws: WebSocket) -> None:
    await ws.accept()
    price = 100
    try:
        while True:
            price += 1
            await ws.send_json({"price": price})
            await asyncio.sleep(3600 if price > 102 else 0)
    finally:
        print("nobody asks for prices any more")


# -- ping --
@app.websocket("/distance")
async def distance(ws: WebSocket) -> None:
    await ws.accept()
    seconds = await ws.ping()
    await ws.send_json({"milliseconds": seconds * 1000})
