"""Hypercorn with the bare ASGI application, on uvloop."""

# mypy: disable-error-code="arg-type"
# Its own types for ASGI messages are dictionaries with fixed keys.

from __future__ import annotations

import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config

from benchmarks.servers.arguments import BACKLOG, arguments
from benchmarks.servers.asgi_app import app


async def main() -> None:
    given = arguments()
    config = Config()
    config.bind = [f"{given.host}:{given.port}"]
    config.backlog = BACKLOG
    config.loglevel = "CRITICAL"
    await serve(app, config)


if __name__ == "__main__":
    uvloop.run(main())
