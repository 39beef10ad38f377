from fastws import FastWS, WebSocket

app = FastWS()


# -- kinds --
@app.websocket("/kinds")
async def kinds(ws: WebSocket) -> None:
    await ws.accept()
    title = await ws.receive_text()
    picture = await ws.receive_bytes()
    await ws.send_text(f"{title} has {len(picture)} bytes")
    await ws.send_bytes(picture[:4])
    await ws.send_json({"title": title, "size": len(picture)})


# -- events --
@app.websocket("/events")
async def events(ws: WebSocket) -> None:
    await ws.accept()
    while True:
        event = await ws.receive()
        if event["type"] == "websocket.disconnect":
            print(f"disconnect, code {event['code']}, reason {event['reason']!r}")
            break
        kind = "text" if "text" in event else "bytes"
        await ws.send_text(f"{kind}: {len(event[kind])}")


# -- either --
@app.websocket("/either")
async def either(ws: WebSocket) -> None:
    await ws.accept()
    async for message in ws:
        if isinstance(message, str):
            await ws.send_text(message)
        else:
            await ws.send_bytes(message)
