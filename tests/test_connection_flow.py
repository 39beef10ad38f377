"""Flow control: fast senders, slow handlers, and peers that do not read."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from fastws import (
    WebSocket,
    WebSocketDisconnect,
)
from tests.connections import (
    KIB,
    MIB,
    SMALL_BUFFER,
    steps,
    talking,
    until,
)
from tests.robustness.client import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    build,
    measured,
    websocket,
)
from tests.support import TIMEOUT, run


def test_a_fast_sender_and_a_slow_handler_lose_nothing() -> None:
    message = bytes(64 * KIB)
    count = 400
    begin = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await begin.wait()
        for number in range(count):
            assert await ws.receive_bytes() == message + number.to_bytes(4, "big")
            if number % 50 == 0:
                await steps(10)
        await ws.send_text("all")

    async def main() -> None:
        async with talking(handler) as (peer, watched):

            async def send() -> None:
                for number in range(count):
                    await peer.send(build(message + number.to_bytes(4, "big"), BINARY))

            sending = asyncio.create_task(send())
            # The server stops reading, and so the client cannot go on: it has all the time it
            # would need.
            done, _ = await asyncio.wait({sending}, timeout=TIMEOUT / 10)
            assert not done
            begin.set()
            await sending
            await peer.expect((TEXT, b"all"))
            assert await watched.outcome() is None

    run(main())


@pytest.mark.parametrize("size", [64, 64 * KIB])
def test_a_peer_that_sends_and_does_not_read_costs_bounded_memory(size: int) -> None:
    message = bytes(size)
    count = 64 * MIB // size if size > KIB else 300_000

    async def main() -> None:
        with measured() as server:
            async with websocket(server, receive_buffer=SMALL_BUFFER) as peer:
                before, _ = await server.traced()
                batch = build(message, BINARY) * max(1, 64 * KIB // size)

                async def send() -> None:
                    for _ in range(count // max(1, 64 * KIB // size)):
                        await peer.send(batch)

                sending = asyncio.create_task(send())
                await asyncio.wait({sending}, timeout=TIMEOUT / 5)
                _, peak = await server.traced()
                # Queue, write buffer, one read, and one message on its way in and out.
                assert peak - before < 3 * MIB
                assert not sending.done()
                peer.reset()
                await asyncio.wait({sending}, timeout=TIMEOUT)
                assert sending.exception() is not None

    run(main())


def test_an_awaited_send_waits_above_the_mark_and_goes_on() -> None:
    content = bytes(24 * MIB)
    blocked = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await ws.send_text("small ones do not wait")
        sending = asyncio.ensure_future(ws.send_bytes(content))
        done, _ = await asyncio.wait({sending}, timeout=TIMEOUT / 50)
        assert not done
        blocked.set()
        await sending
        await ws.send_text("after")

    async def main() -> None:
        async with talking(handler, slow=True) as (peer, watched):
            await asyncio.wait_for(blocked.wait(), TIMEOUT)
            await peer.expect((TEXT, b"small ones do not wait"), (BINARY, content))
            await peer.expect((TEXT, b"after"), (CLOSE, b"\x03\xe8"))
            assert await watched.outcome() is None

    run(main())


def test_tasks_that_each_await_their_send_are_not_cut_off() -> None:
    content = bytes(MIB)
    senders = 24

    async def send_all(ws: WebSocket) -> None:
        async def send() -> None:
            await ws.send_bytes(content)

        await asyncio.gather(*(send() for _ in range(senders)))

    async def main() -> None:
        async with talking(send_all, slow=True) as (peer, watched):
            for _ in range(senders):
                await peer.expect((BINARY, content))
            assert await watched.outcome() is None

    run(main())


def test_sends_that_nobody_awaits_end_the_connection_with_1013() -> None:
    async def handler(ws: WebSocket) -> None:
        sent = 0
        while True:
            _ = ws.send_bytes(bytes(64 * KIB))
            sent += 64 * KIB
            assert sent < 64 * MIB

    async def main() -> None:
        async with talking(handler, slow=True) as (peer, watched):
            error = await watched.outcome()
            assert isinstance(error, WebSocketDisconnect)
            assert error.code == 1013
            assert "ws-max-backpressure" in error.reason
            frames = await peer.until_end()
            assert {frame.opcode for frame in frames} <= {BINARY, CLOSE}

    run(main())


@pytest.mark.parametrize("how", ["wait_for", "cancel"])
def test_a_cancelled_send_loses_nothing_and_the_connection_goes_on(how: str) -> None:
    content = bytes(range(256)) * 256
    sent: list[bool] = []
    given_up = asyncio.Event()

    async def send(ws: WebSocket) -> bool:
        """Whether a send went through without waiting for long."""
        if how == "wait_for":
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(ws.send_bytes(content), TIMEOUT / 20)
                return True
            return False
        sending = asyncio.ensure_future(ws.send_bytes(content))
        await asyncio.wait({sending}, timeout=TIMEOUT / 20)
        return not sending.cancel()

    async def handler(ws: WebSocket) -> None:
        while all(sent):
            sent.append(await send(ws))
        # The buffer is above its mark, and not by much.
        sent.append(await send(ws))
        given_up.set()
        await ws.send_text("last")

    async def main() -> None:
        async with talking(handler, slow=True) as (peer, watched):
            await asyncio.wait_for(given_up.wait(), TIMEOUT)
            assert sent[-2:] == [False, False]
            await peer.expect(*[(BINARY, content)] * len(sent))
            await peer.expect((TEXT, b"last"), (CLOSE, b"\x03\xe8"))
            assert await watched.outcome() is None

    run(main())


def test_a_send_that_waits_ends_when_the_peer_is_lost() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.send_bytes(bytes(24 * MIB))

    async def main() -> None:
        async with talking(handler, slow=True) as (peer, watched):
            await until(lambda: watched.sockets)
            await steps(5)
            peer.reset()
            await watched.ended_with(1006)

    run(main())


def test_pings_from_a_peer_that_does_not_read_leave_one_pong_to_send() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.send_bytes(bytes(24 * MIB))
        await ws.receive_text()

    async def main() -> None:
        async with talking(handler, slow=True) as (peer, watched):
            await until(lambda: watched.sockets)
            await steps(5)
            await peer.send(b"".join(build(b"%d" % number, PING) for number in range(1000)))
            await steps(20)
            await peer.expect((BINARY, bytes(24 * MIB)))
            opcode, payload = await peer.frame()
            assert opcode == PONG
            # One of them, at most a few: those that came while the buffer was empty again.
            await peer.send(build(b"end"))
            rest = await peer.until_close()
            assert len(rest) < 100
            assert ([payload] + [frame.payload for frame in rest])[-1] == b"999"
            assert await watched.outcome() is None

    run(main())
