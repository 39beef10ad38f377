"""The application under load, and what it says about its own process at /figures."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastws import FastWS, WebSocket, WebSocketDisconnect
from fastws._timers import TimerWheel

BROADCAST_INTERVAL = 0.5  # seconds


class ErrorCount(logging.Handler):
    """Counts what is logged as an error, by whoever; the lines themselves go on to stderr."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


errors = ErrorCount()
room: set[WebSocket] = set()


@asynccontextmanager
async def lifespan(app: FastWS) -> AsyncIterator[None]:
    logging.getLogger().addHandler(errors)
    logging.getLogger("fastws").addHandler(errors)
    broadcaster = asyncio.create_task(broadcast())
    yield
    broadcaster.cancel()


app = FastWS(lifespan=lifespan)


async def broadcast() -> None:
    """Send a running number to the room for ever: a receiver sees where one is missing."""
    number = 0
    while True:
        await asyncio.sleep(BROADCAST_INTERVAL)
        number += 1
        for ws in tuple(room):
            # Not awaited: one who reads nothing is cut at ws-max-backpressure and delays nobody.
            with suppress(WebSocketDisconnect):
                _ = ws.send_text(f"{number}")


@app.websocket("/echo", ws_per_message_deflate="dedicated")
async def echo(ws: WebSocket) -> None:
    await ws.accept()
    async for message in ws:
        if isinstance(message, str):
            await ws.send_text(message)
        else:
            await ws.send_bytes(message)


@app.websocket("/room")
async def listen(ws: WebSocket) -> None:
    await ws.accept()
    room.add(ws)
    try:
        async for _ in ws:
            pass
    finally:
        room.discard(ws)


@app.get("/figures")
async def figures() -> dict[str, Any]:
    """What a leak would show in; a full collection first, so that garbage is none."""
    gc.collect()
    # What the C library keeps for later is no leak either.
    ctypes.CDLL(None).malloc_trim(0)
    statm = Path("/proc/self/statm").read_text("ascii")  # noqa: ASYNC240 - no disk is behind it
    resident = int(statm.split()[1]) * os.sysconf("SC_PAGESIZE")
    wheels = [thing for thing in gc.get_objects() if type(thing) is TimerWheel]
    return {
        "resident": resident,
        "files": len(os.listdir("/proc/self/fd")),
        "tasks": len(asyncio.all_tasks()),
        "timers": sum(wheel.scheduled for wheel in wheels),
        "room": len(room),
        "errors": errors.count,
        "cpu_seconds": time.process_time(),
    }
