"""FastAPI on uvicorn, with the WebSocket implementation that uvicorn chooses by itself."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from fastapi import FastAPI, WebSocket

from benchmarks.servers.arguments import announce_ready, host_and_port

app = FastAPI()


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.send_text(await websocket.receive_text())


class Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        announce_ready()


def serve(ws: type[asyncio.Protocol] | str) -> None:
    """Serve the application with uvicorn's defaults, and this for its option ``ws``."""
    host, port = host_and_port()
    config = uvicorn.Config(app, host=host, port=port, ws=ws, log_level="critical", backlog=4096)
    Server(config).run()


if __name__ == "__main__":
    serve("auto")
