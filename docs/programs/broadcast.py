from fastws import FastWS, WebSocket, WebSocketDisconnect

app = FastWS()


# -- set --
listeners: set[WebSocket] = set()


@app.websocket("/radio")
async def radio(ws: WebSocket) -> None:
    await ws.accept()
    listeners.add(ws)
    try:
        while True:
            news = await ws.receive_text()
            for listener in listeners.copy():
                try:
                    await listener.send_json({"news": news, "listeners": len(listeners)})
                except Exception:
                    listeners.discard(listener)
    except Exception as error:
        print(f"a listener is gone: {error}")
    finally:
        listeners.discard(ws)


# -- list --
wall: list[WebSocket] = []


@app.websocket("/wall")
async def post(ws: WebSocket) -> None:
    await ws.accept()
    wall.append(ws)
    try:
        while True:
            note = await ws.receive_text()
            for reader in wall.copy():
                await reader.send_text(note)
    except WebSocketDisconnect:
        wall.remove(ws)


# -- groups --
topics: dict[str, set[WebSocket]] = {"sports": set(), "weather": set()}


@app.websocket("/topics/{topic}")
async def follow(ws: WebSocket, topic: str) -> None:
    followers = topics.get(topic)
    if followers is None:
        await ws.send_denial_response(404, body=f"there is no topic {topic}\n")
        return
    await ws.accept()
    followers.add(ws)
    try:
        async for news in ws.iter_text():
            for follower in followers - {ws}:
                await follower.send_text(f"{topic}: {news}")
    finally:
        followers.discard(ws)
