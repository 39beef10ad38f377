"""fastws, through the coroutine API that its users write; the variant is what compresses."""

from __future__ import annotations

from typing import Any

from benchmarks.servers.arguments import BACKLOG, DEFLATE, announce_ready, arguments
from fastws import FastWS, WebSocket, WebSocketDisconnect, broadcast

app = FastWS()
receivers: set[WebSocket] = set()


@app.websocket("/ws")
async def echo(ws: WebSocket) -> None:
    await ws.accept()
    while True:
        await ws.send_text(await ws.receive_text())


@app.websocket("/binary")
async def echo_binary(ws: WebSocket) -> None:
    await ws.accept()
    while True:
        await ws.send_bytes(await ws.receive_bytes())


@app.websocket("/json")
async def echo_json(ws: WebSocket) -> None:
    await ws.accept()
    while True:
        await ws.send_json(await ws.receive_json())


@app.websocket("/receive")
async def receive(ws: WebSocket) -> None:
    await ws.accept()
    receivers.add(ws)
    try:
        await ws.receive_text()
    except WebSocketDisconnect:
        receivers.discard(ws)


@app.websocket("/publish")
async def publish(ws: WebSocket) -> None:
    await ws.accept()
    while True:
        message = await ws.receive_text()
        await broadcast(receivers, message)


@app.on_startup
async def started() -> None:
    announce_ready()


if __name__ == "__main__":
    given = arguments()
    deflate = DEFLATE.get(given.compression)
    if deflate is None:
        compression: dict[str, Any] = {"ws_per_message_deflate": "off"}
    else:
        compression = {
            "ws_per_message_deflate": "dedicated" if deflate.takeover else "shared",
            "ws_deflate_level": deflate.level,
            "ws_deflate_mem_level": deflate.mem_level,
            "ws_deflate_window_bits": deflate.window_bits,
            "ws_deflate_library": given.variant or "zlib",
        }
    app.serve(
        host=given.host,
        port=given.port,
        **compression,
        backlog=BACKLOG,
        log_level="warning",
        access_log=False,
    )
