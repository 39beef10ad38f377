"""Sends in the middle of a send: the collector may run a finalizer wherever Python runs, and one
that says goodbye to everybody sends on the very connection that is sending."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from fastws._channel import Channel
from fastws._codec import FrameParser, PreparedMessage
from fastws._connection import Connection
from fastws._timers import TimerWheel
from fastws.broadcasting import broadcast
from fastws.deflate import Deflater, Inflater
from fastws.events import Event
from fastws.limits import Limits
from tests.connections import KIB, MIB, steps
from tests.support import run, within
from tests.test_outlet import Far, tcp_pair

BUFFER = 16 * KIB
"""Bytes that a connection gathers at most."""


class Interrupted(asyncio.Transport):
    """A transport around another: before and after each call ``finalizer`` runs once."""

    def __init__(self, inner: asyncio.Transport) -> None:
        super().__init__()
        self.inner = inner
        self.finalizer: Callable[[], object] = lambda: None
        self.is_running = False
        self.is_counting = False

    def __getattribute__(self, name: str) -> Any:
        if name in ("inner", "finalizer", "is_running", "is_counting", "interrupt", "__class__"):
            return super().__getattribute__(name)
        found = getattr(self.inner, name)
        if not callable(found):
            return found

        def interrupted(*given: Any, **named: Any) -> Any:
            # asyncio's goes over what it has to write, and raises if that grows meanwhile.
            assert not (self.is_counting and name == "write")
            self.is_counting = name == "get_write_buffer_size"
            self.interrupt()
            try:
                return found(*given, **named)
            finally:
                self.interrupt()
                self.is_counting = False

        return interrupted

    def interrupt(self) -> None:
        if not self.is_running:
            self.is_running = True
            try:
                self.finalizer()
            finally:
                self.is_running = False


# What is written past the transport is the same with one that passes for uvloop's.
Plain: Any = type(
    "TCPTransport",
    (Interrupted,),
    {"__module__": "uvloop.loop", "__qualname__": "TCPTransport"},
)


class Interrupting:
    """A compressor in the middle of which ``finalizer`` runs."""

    def __init__(self, finalizer: Callable[[], object], context_takeover: bool) -> None:
        self._deflater = Deflater(12, context_takeover, 1, 5)
        self._finalizer = finalizer
        self.context_takeover = context_takeover
        self.key = self._deflater.key

    def compress(self, payload: Any) -> bytes:
        self._finalizer()
        try:
            return self._deflater.compress(payload)
        finally:
            self._finalizer()


@contextlib.asynccontextmanager
async def linked(
    kind: Any, deflater: Any = None, inflater: Inflater | None = None
) -> AsyncIterator[tuple[Channel, Any, Far]]:
    """A client's connection over a tight TCP, its transport, and the other end."""
    loop = asyncio.get_running_loop()
    near, other = tcp_pair(4 * KIB)
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
    around = kind(transport)
    limits = Limits(max_backpressure=64 * MIB, max_size=None)
    connection = Connection(around, None, b"", timers=TimerWheel(loop), limits=limits)
    channel = Channel(connection)
    connection.start_client(deflater=deflater, threshold=0)
    far = Far(other, False)
    far.parser = FrameParser(client=False, limits=limits, inflater=inflater)
    try:
        yield channel, around, far
    finally:
        around.finalizer = lambda: None
        connection.abort()
        other.close()
        await steps(4)


class Conversation:
    """Messages of a sender and of finalizers, each with its number; in what sizes they come."""

    def __init__(self, channel: Channel, seed: int) -> None:
        self._channel = channel
        self._random = random.Random(seed)
        self.sent: dict[bytes, list[bytes]] = {b"outer": [], b"inner": []}

    def make(self, who: bytes) -> bytes:
        sizes = [20, 200, 5 * KIB, BUFFER - 60, BUFFER, 3 * BUFFER, 200 * KIB]
        number = len(self.sent[who])
        # As long, and in the compressed ones like each other, so that the window matters.
        message = (b"%s %06d;" % (who, number)) * (self._random.choice(sizes) // 13 + 1)
        self.sent[who].append(message)
        return message

    def interrupt(self) -> None:
        if len(self.sent[b"inner"]) < 400 and self._random.random() < 0.4:
            message = self.make(b"inner")
            if self._random.random() < 0.3:
                _ = broadcast([self._channel], message)
            else:
                _ = self._channel.send_bytes(message)

    def send(self) -> None:
        message = self.make(b"outer")
        if self._random.random() < 0.3:
            _ = broadcast([self._channel], PreparedMessage(message))
        else:
            # Not awaited: a send that waits has sent all the same.
            _ = self._channel.send_bytes(message)

    async def end(self, far: Far, events: list[Event]) -> None:
        """Receive what is missing of ``events``: each sender's came whole and in its own order."""
        # What is written to make room is one more occasion.
        while len(events) < sum(map(len, self.sent.values())):
            events += await within(far.events(1))
        for who, sent in self.sent.items():
            assert [event for event in events if bytes(event)[:5] == who] == sent  # type: ignore[arg-type]
        assert len(self.sent[b"inner"]) > 20


@pytest.mark.parametrize("kind", [Plain, Interrupted], ids=["past the transport", "through it"])
@pytest.mark.parametrize("several", [1, 4], ids=["one by one", "four at a time"])
@pytest.mark.parametrize("seed", range(4))
def test_a_send_in_the_middle_of_another_breaks_no_frame(
    kind: Any, several: int, seed: int
) -> None:
    async def main() -> None:
        async with linked(kind) as (channel, transport, far):
            conversation = Conversation(channel, seed)
            transport.finalizer = conversation.interrupt
            events: list[Event] = []
            for _ in range(40):
                for _ in range(several):
                    conversation.send()
                if len(events) % 3 == 0:
                    await asyncio.sleep(0)
                events += await far.events(1, 64 * KIB)
            await conversation.end(far, events)

    run(main())


@pytest.mark.parametrize("context_takeover", [True, False], ids=["dedicated", "shared"])
@pytest.mark.parametrize("kind", [Plain, Interrupted], ids=["past the transport", "through it"])
@pytest.mark.parametrize("seed", range(3))
def test_a_send_in_the_middle_of_a_compressed_one_leaves_the_window_as_it_was(
    kind: Any, context_takeover: bool, seed: int
) -> None:
    async def main() -> None:
        finalizers: list[Callable[[], object]] = []

        def interrupt() -> None:
            for finalizer in finalizers:
                finalizer()

        deflater = Interrupting(interrupt, context_takeover)
        inflater = Inflater(12, context_takeover)
        async with linked(kind, deflater, inflater) as (channel, transport, far):
            conversation = Conversation(channel, seed)
            running = False

            def once() -> None:
                nonlocal running
                if not running:
                    running = True
                    conversation.interrupt()
                    running = False

            finalizers.append(once)
            transport.finalizer = once
            events: list[Event] = []
            for _ in range(60):
                conversation.send()
                events += await far.events(1, 64 * KIB)
            await conversation.end(far, events)

    run(main())
