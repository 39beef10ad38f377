"""Receiving events before they are asked for."""

from __future__ import annotations

import asyncio

import pytest

from fastws.datastructures import Message
from fastws.read_ahead import ReadAhead
from tests.support import run, within


def test_events_come_in_order_and_the_disconnect_is_told_at_once() -> None:
    async def main() -> None:
        told: list[str] = []
        events: list[Message] = [
            {"type": "websocket.receive", "text": "one"},
            {"type": "websocket.disconnect", "code": 1001},
        ]
        given = iter(events)

        async def receive() -> Message:
            return next(given)

        ahead = ReadAhead(receive, lambda: told.append("gone"))
        await asyncio.sleep(0)
        assert told == ["gone"]
        assert [await ahead.receive(), await ahead.receive()] == events
        # Whoever asks again is told again, and does not wait for ever.
        assert await within(ahead.receive()) == events[1]

    run(main())


def test_what_the_server_raised_is_raised_each_time() -> None:
    async def main() -> None:
        async def receive() -> Message:
            raise LookupError("of the server")

        ahead = ReadAhead(receive, lambda: None)
        for _ in range(3):
            with pytest.raises(LookupError, match="of the server"):
                await within(ahead.receive())

    run(main())


def test_nothing_is_received_after_stop() -> None:
    async def main() -> None:
        asked = 0

        async def receive() -> Message:
            nonlocal asked
            asked += 1
            await asyncio.sleep(0)
            return {"type": "websocket.receive", "text": "more"}

        ahead = ReadAhead(receive, lambda: None)
        await ahead.receive()
        ahead.stop()
        await asyncio.sleep(0)
        before = asked
        for _ in range(5):
            await asyncio.sleep(0)
        assert asked == before

    run(main())
