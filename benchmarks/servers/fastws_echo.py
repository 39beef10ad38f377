"""fastws, through the coroutine API that its users write."""

from __future__ import annotations

from benchmarks.servers.arguments import announce_ready, host_and_port
from fastws import FastWS, WebSocket

app = FastWS()


@app.websocket("/ws")
async def echo(ws: WebSocket) -> None:
    await ws.accept()
    while True:
        await ws.send_text(await ws.receive_text())


@app.on_startup
async def started() -> None:
    announce_ready()


if __name__ == "__main__":
    host, port = host_and_port()
    app.serve(host=host, port=port, log_level="warning", access_log=False)
