from fastws import FastWS, WebSocket

app = FastWS()


@app.websocket("/hello")
async def hello(ws: WebSocket) -> None:
    await ws.accept()
    name = await ws.receive_text()
    await ws.send_text(f"Hello, {name}!")
