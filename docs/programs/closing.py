from fastws import FastWS, WebSocket, WebSocketClosed, WebSocketDisconnect

app = FastWS()


# -- codes --
@app.websocket("/counter")
async def counter(ws: WebSocket) -> None:
    await ws.accept()
    try:
        while True:
            text = await ws.receive_text()
            if text == "bye":
                await ws.close(code=1000, reason="have a good day")
                break
            elif text == "manager!":
                await ws.close(code=1011, reason="the manager is out")
                break
            else:
                await ws.send_text(f"noted: {text}")
    except WebSocketDisconnect as gone:
        print(f"gone with code {gone.code} and reason {gone.reason!r}")


# -- policy --
@app.websocket("/members")
async def members(ws: WebSocket) -> None:
    await ws.accept()
    if await ws.receive_text() != "mellon":
        await ws.close(code=1008)
        return
    await ws.send_text("come in")


# -- last --
@app.websocket("/last")
async def last(ws: WebSocket) -> None:
    await ws.accept()
    for number in range(1000):
        await ws.send_text(f"line {number}")


# -- after --
@app.websocket("/after")
async def after(ws: WebSocket) -> None:
    await ws.accept()
    await ws.close(4001, "done here")
    await ws.close()  # does nothing
    try:
        await ws.send_text("one more thing")
    except WebSocketClosed as closed:
        print(f"too late: closed with {closed.code}, {ws.close_reason!r}")
