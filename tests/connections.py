"""What the tests of the compiled connection share: a handler that is watched, a peer beside it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from fastws import (
    FastWS,
    WebSocket,
    WebSocketDisconnect,
)
from tests.robustness.client import (
    Peer,
    websocket,
)
from tests.serving import serving
from tests.support import TIMEOUT

KIB = 1024
MIB = 1024 * KIB
SMALL_BUFFER = 8 * KIB

Handler = Callable[[WebSocket], Awaitable[Any]]


class Watched:
    """An application with one handler, of which it remembers how it went."""

    def __init__(self, handler: Handler, *, accept: bool = True, **options: Any) -> None:
        self.app = FastWS()
        self.sockets: list[WebSocket] = []
        self.outcomes: asyncio.Queue[BaseException | None] = asyncio.Queue()

        @self.app.websocket("/", **options)
        async def watched(ws: WebSocket) -> None:
            self.sockets.append(ws)
            try:
                if accept:
                    await ws.accept()
                await handler(ws)
            except BaseException as error:
                self.outcomes.put_nowait(error)
                raise
            self.outcomes.put_nowait(None)

    async def outcome(self) -> BaseException | None:
        """What the next handler to end has raised."""
        return await asyncio.wait_for(self.outcomes.get(), TIMEOUT)

    async def ended_with(self, code: int, reason: str = "") -> None:
        """The handler must end with a WebSocketDisconnect."""
        error = await self.outcome()
        assert isinstance(error, WebSocketDisconnect), error
        assert (error.code, error.reason) == (code, reason)


@contextlib.asynccontextmanager
async def talking(
    handler: Handler, *, slow: bool = False, **options: Any
) -> AsyncIterator[tuple[Peer, Watched]]:
    """A connection to a server that accepts it and then runs ``handler``.

    Parameters:
        slow: the client's kernel keeps little of what the client does not read.
        options: of the server.
    """
    watched = Watched(handler)
    async with serving(watched.app, **options) as server:
        async with websocket(server, receive_buffer=SMALL_BUFFER if slow else None) as peer:
            yield peer, watched


async def echo(ws: WebSocket) -> None:
    while True:
        message = await ws.receive_text()
        await ws.send_text(message)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until ``condition`` holds, which no event tells."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TIMEOUT
    while not condition():
        assert loop.time() < deadline, "the condition was not met in time"
        await asyncio.sleep(0.001)


async def steps(count: int) -> None:
    """Let the loop take some steps."""
    for _ in range(count):
        await asyncio.sleep(0)


def logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged at level ERROR or above; the list is emptied."""
    records = [record for record in caplog.records if record.levelno >= logging.ERROR]
    caplog.clear()
    return records
