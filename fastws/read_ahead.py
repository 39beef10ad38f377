"""Receiving events before they are asked for, so that a peer that leaves is noticed at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastws.datastructures import Message, Receive

__all__ = ["ReadAhead"]

MAX_AHEAD = 16
"""Events kept for the handler; behind them not even a disconnect is seen."""


class ReadAhead:
    """A ``receive`` in front of an ASGI server's, which it calls from a task of its own.

    Parameters:
        receive: the server's.
        on_disconnect: called as soon as the server tells of the disconnect.
    """

    def __init__(self, receive: Receive, on_disconnect: Callable[[], object]) -> None:
        self._receive = receive
        self._on_disconnect = on_disconnect
        self._events: asyncio.Queue[Message | Exception] = asyncio.Queue(MAX_AHEAD)
        self._last: Message | Exception | None = None
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def receive(self) -> Message:
        """The next event; raises what the server raised in its place. The last one comes again."""
        event = self._last if self._events.empty() else None
        if event is None:
            event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        return event

    def stop(self) -> None:
        """Receive no more."""
        self._task.cancel()

    async def _run(self) -> None:
        try:
            while True:
                event = await self._receive()
                await self._events.put(event)
                if event["type"] == "websocket.disconnect":
                    self._last = event
                    self._on_disconnect()
                    return
        except Exception as error:
            await self._events.put(error)
            self._last = error
