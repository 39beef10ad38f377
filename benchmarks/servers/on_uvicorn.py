"""How the applications that uvicorn serves are served."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn

from benchmarks.servers.arguments import BACKLOG, announce_ready, arguments


class Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        announce_ready()


def serve(app: Any, ws: Any = None) -> None:
    """Serve the application with uvicorn's defaults; `ws` is its option, by default the variant."""
    given = arguments()
    config = uvicorn.Config(
        app,
        host=given.host,
        port=given.port,
        ws=ws or given.variant or "auto",
        ws_per_message_deflate=given.compression != "off",
        lifespan="off",
        log_level="critical",
        backlog=BACKLOG,
    )
    Server(config).run()
