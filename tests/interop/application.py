"""What other implementations' clients talk to."""

from __future__ import annotations

from fastws import FastWS, WebSocket, WebSocketDisconnect

app = FastWS()
ends: dict[str, tuple[int, str]] = {}


async def answer(ws: WebSocket) -> None:
    await ws.accept()
    async for message in ws:
        if isinstance(message, str):
            await ws.send_text(message)
        else:
            await ws.send_bytes(message)


@app.websocket("/off")
async def plain(ws: WebSocket) -> None:
    await answer(ws)


@app.websocket("/dedicated", ws_per_message_deflate="dedicated", ws_deflate_threshold=0)
async def dedicated(ws: WebSocket) -> None:
    await answer(ws)


@app.websocket("/shared", ws_per_message_deflate="shared", ws_deflate_threshold=0)
async def shared(ws: WebSocket) -> None:
    await answer(ws)


@app.websocket("/speaks")
async def speaks(ws: WebSocket) -> None:
    known = [name for name in ws.subprotocols if name in ("chat.v2", "chat.v1")]
    await ws.accept(subprotocol=known[0] if known else None)
    await ws.send_text(ws.subprotocol or "none")


@app.websocket("/pings")
async def pings(ws: WebSocket) -> None:
    await ws.accept()
    await ws.ping(b"are you there?")
    await ws.send_text("alive")


@app.websocket("/closes")
async def closes(ws: WebSocket) -> None:
    await ws.accept()
    await ws.close(4321, "au revoir, ça suffit")


@app.websocket("/listens/{name}")
async def listens(ws: WebSocket, name: str) -> None:
    await ws.accept()
    try:
        await ws.receive()
        await ws.receive_text()
    except WebSocketDisconnect as gone:
        ends[name] = (gone.code, gone.reason)


@app.websocket("/told/{name}")
async def told(ws: WebSocket, name: str) -> None:
    """How the connection of that name ended."""
    await ws.accept()
    await ws.send_json(ends.get(name))
