from fastws import FastWS, HTTPException, Response, WebSocket

app = FastWS()
full = {"cellar"}


# -- exception --
@app.websocket("/rooms/{room}")
async def enter(ws: WebSocket, room: str) -> None:
    if room in full:
        raise HTTPException(503, detail=f"{room} is full", headers={"Retry-After": "60"})
    await ws.accept()
    await ws.send_text(f"welcome to {room}")


# -- response --
@app.websocket("/moved")
async def moved(ws: WebSocket) -> None:
    await ws.send_denial_response(308, {"Location": "/rooms/attic"}, "it is in the attic now\n")


@app.websocket("/teapot")
async def teapot(ws: WebSocket) -> None:
    await ws.send_denial_response(Response("short and stout\n", 418, media_type="text/plain"))


# -- close --
@app.websocket("/closed")
async def closed(ws: WebSocket) -> None:
    await ws.close()
