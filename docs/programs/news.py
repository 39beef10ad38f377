from fastws import FastWS, WebSocket, broadcast

app = FastWS()
readers: set[WebSocket] = set()


@app.websocket("/news")
async def news(ws: WebSocket) -> None:
    await ws.accept()
    readers.add(ws)
    try:
        async for text in ws.iter_text():
            await broadcast(readers, text)
    finally:
        readers.discard(ws)
