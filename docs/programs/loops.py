from fastws import FastWS, WebSocket, WebSocketDisconnect

app = FastWS()


# -- plain --
@app.websocket("/plain")
async def plain(ws: WebSocket) -> None:
    await ws.accept()
    while True:
        text = await ws.receive_text()
        await ws.send_text(text.upper())


# -- caught --
@app.websocket("/caught")
async def caught(ws: WebSocket) -> None:
    await ws.accept()
    count = 0
    try:
        while True:
            text = await ws.receive_text()
            count += 1
            await ws.send_text(f"{count}: {text}")
    except WebSocketDisconnect as gone:
        print(f"gone with {gone.code} after {count} messages")


# -- iterated --
@app.websocket("/iterated")
async def iterated(ws: WebSocket) -> None:
    await ws.accept()
    async for text in ws.iter_text():
        await ws.send_text(text[::-1])
    print("the loop has ended, and so has the connection")
