"""What the proxies' tests serve: an echo, and what the server knows of the client."""

from __future__ import annotations

from fastws import FastWS, WebSocket

app = FastWS()


@app.websocket("/echo")
async def echo(ws: WebSocket) -> None:
    await ws.accept(subprotocol=ws.subprotocols[0] if ws.subprotocols else None)
    async for message in ws:
        if isinstance(message, str):
            await ws.send_text(message)
        else:
            await ws.send_bytes(message)


@app.websocket("/whoami")
async def whoami(ws: WebSocket) -> None:
    await ws.accept()
    client = None if ws.client is None else ws.client.host
    await ws.send_json({"url": str(ws.url), "client": client})


@app.websocket("/same", origins="same")
async def same(ws: WebSocket) -> None:
    await ws.accept()
    await ws.send_text("let in")


@app.websocket("/leaves")
async def leaves(ws: WebSocket) -> None:
    await ws.accept()
    await ws.close(4321, "au revoir")
