"""What ends a connection by the clock: no progress, no message, old age, too many messages."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastws import WebSocket
from tests.connections import MIB, echo, talking
from tests.robustness.client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    build,
)
from tests.support import TIMEOUT, run

SHORT = TIMEOUT / 20

LIFETIME = "the connection is older than ws-max-lifetime allows"
IDLE = "no message within ws-idle-timeout"
UNSENT = "the peer took no bytes within ws-write-timeout"
RATE = "more messages a second than limit-message-rate"


# ------------------------------------------------------------------------- write timeout


@pytest.mark.parametrize("awaited", [True, False])
def test_a_peer_that_takes_no_bytes_is_cut(awaited: bool) -> None:
    async def handler(ws: WebSocket) -> None:
        sending = ws.send_bytes(bytes(24 * MIB))
        if awaited:
            await sending
        await ws.receive_text()

    async def main() -> None:
        async with talking(handler, slow=True, ws_write_timeout=SHORT) as (peer, watched):
            peer.stop_reading()
            await watched.ended_with(1006, UNSENT)
            assert watched.sockets[0].close_code == 1006

    run(main())


def test_few_bytes_that_a_peer_does_not_take_are_enough() -> None:
    """The transport's buffer never reaches its mark."""
    filled = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        # The kernel takes some; a little more than that is left here.
        while ws._link.unsent_bytes == 0:
            await ws.send_bytes(bytes(1000))
            await asyncio.sleep(0)
        filled.set()
        await ws.receive_text()

    async def main() -> None:
        async with talking(handler, slow=True, ws_write_timeout=SHORT) as (peer, watched):
            peer.stop_reading()
            await asyncio.wait_for(filled.wait(), TIMEOUT)
            await watched.ended_with(1006, UNSENT)

    run(main())


def test_a_peer_that_takes_bytes_slowly_is_not_cut() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.send_bytes(bytes(12 * MIB))

    async def main() -> None:
        async with talking(handler, slow=True, ws_write_timeout=SHORT) as (peer, watched):
            assert (await peer.exactly(10))[0] == 0x80 | BINARY
            for _ in range(12):
                await peer.exactly(MIB)
                await asyncio.sleep(SHORT / 5)  # slow: in all much longer than the timeout
            await peer.expect((CLOSE, b"\x03\xe8"))
            assert await watched.outcome() is None

    run(main())


# -------------------------------------------------------------------------- idle timeout


@pytest.mark.parametrize("sign", [b"", build(b"", PING), build(b"", PONG)])
def test_a_connection_without_messages_is_closed(sign: bytes) -> None:
    async def main() -> None:
        async with talking(echo, ws_idle_timeout=SHORT) as (peer, watched):
            await peer.send(build(b"x"))
            await peer.expect((TEXT, b"x"))
            loop = asyncio.get_running_loop()
            since = loop.time()
            frames = asyncio.ensure_future(peer.until_close())
            while not frames.done():
                await peer.send_if_possible(sign)
                await asyncio.wait({frames}, timeout=SHORT / 5)
            assert {frame.opcode for frame in await frames} <= {PONG}
            assert loop.time() - since >= 0.9 * SHORT
            await watched.ended_with(1001, IDLE)

    run(main())


@pytest.mark.parametrize("direction", ["received", "sent"])
def test_messages_in_either_direction_keep_a_connection_open(direction: str) -> None:
    async def handler(ws: WebSocket) -> None:
        for _ in range(8):
            if direction == "sent":
                await asyncio.sleep(SHORT / 3)
                await ws.send_text("tick")
            else:
                await ws.receive_text()

    async def main() -> None:
        async with talking(handler, ws_idle_timeout=SHORT) as (peer, watched):
            for _ in range(8):
                if direction == "received":
                    await asyncio.sleep(SHORT / 3)
                    await peer.send(build(b"tick"))
                else:
                    await peer.expect((TEXT, b"tick"))
            await peer.expect((CLOSE, b"\x03\xe8"))
            assert await watched.outcome() is None

    run(main())


def test_a_handler_that_is_late_with_its_messages_is_not_idle() -> None:
    async def handler(ws: WebSocket) -> None:
        await asyncio.sleep(3 * SHORT)
        for number in range(3):
            assert await ws.receive_text() == str(number)
        await ws.send_text("done")

    async def main() -> None:
        async with talking(handler, ws_idle_timeout=SHORT) as (peer, watched):
            await peer.send(b"".join(build(b"%d" % number) for number in range(3)))
            await peer.expect((TEXT, b"done"), (CLOSE, b"\x03\xe8"))
            assert await watched.outcome() is None

    run(main())


# -------------------------------------------------------------------------- max lifetime


def test_a_connection_is_closed_at_its_age_whatever_it_does() -> None:
    async def main() -> None:
        async with talking(echo, ws_max_lifetime=SHORT) as (peer, watched):
            since = asyncio.get_running_loop().time()
            frames = asyncio.ensure_future(peer.until_close())
            while not frames.done():
                await peer.send_if_possible(build(b"busy"))
                await asyncio.wait({frames}, timeout=SHORT / 20)
            assert {frame.opcode for frame in await frames} == {TEXT}
            assert asyncio.get_running_loop().time() - since >= 0.9 * SHORT
            await watched.ended_with(1001, LIFETIME)

    run(main())


def test_the_options_work_together_on_one_timer() -> None:
    """The nearest deadline of all is met, though others were started before it."""

    async def main() -> None:
        options: dict[str, Any] = {
            "ws_ping_interval": SHORT / 2,
            "ws_ping_timeout": TIMEOUT,
            "ws_idle_timeout": 3 * SHORT,
            "ws_max_lifetime": 2 * SHORT,
            "ws_write_timeout": TIMEOUT,
        }
        async with talking(echo, **options) as (peer, watched):
            assert (await peer.frame())[0] == PING
            await peer.expect((CLOSE, b"\x03\xe9" + LIFETIME.encode()))
            await watched.ended_with(1001, LIFETIME)

    run(main())


# -------------------------------------------------------------------------- message rate


def test_more_messages_a_second_than_allowed_end_with_1008() -> None:
    received: list[str] = []

    async def handler(ws: WebSocket) -> None:
        async for message in ws:
            assert isinstance(message, str)
            received.append(message)
            await ws.send_text(message)
        assert ws.close_code == 1008

    async def main() -> None:
        async with talking(handler, limit_message_rate=5) as (peer, watched):
            await peer.send(b"".join(build(b"%d" % number) for number in range(9)))
            # Those before it are delivered and answered first.
            await peer.expect(*((TEXT, b"%d" % number) for number in range(5)))
            assert await peer.ended() == (1008, RATE)
            assert await watched.outcome() is None
            assert received == ["0", "1", "2", "3", "4"]
            assert watched.sockets[0]._link.messages_received == 5

    run(main())


def test_the_message_above_the_rate_is_not_waited_for() -> None:
    """Its header is enough: a payload of it that never comes changes nothing."""

    async def main() -> None:
        async with talking(echo, limit_message_rate=1) as (peer, watched):
            await peer.send(build(b"x") + build(b"", BINARY, length=100_000))
            await peer.expect((TEXT, b"x"))
            assert await peer.ended() == (1008, RATE)
            await watched.ended_with(1008, RATE)

    run(main())


def test_fragments_count_as_one_message_and_control_frames_as_none() -> None:
    async def main() -> None:
        async with talking(echo, limit_message_rate=2) as (peer, _):
            message = build(b"a", TEXT, fin=False) + build(b"b", CONTINUATION, fin=False) * 8
            message += build(b"", PING) * 8 + build(b"c", CONTINUATION)
            await peer.send(message)
            await peer.expect(*[(PONG, b"")] * 8, (TEXT, b"abbbbbbbbc"))
            await peer.send(build(b"second"))
            await peer.expect((TEXT, b"second"))
            await peer.end()

    run(main())


def test_the_right_to_send_comes_back_with_time() -> None:
    async def main() -> None:
        async with talking(echo, limit_message_rate=100) as (peer, _):
            for _ in range(3):
                await peer.send(build(b"x") * 50)
                await peer.expect(*[(TEXT, b"x")] * 50)
                await asyncio.sleep(0.6)  # earns 60
            await peer.end()

    run(main())


def test_what_a_full_queue_kept_from_being_read_is_not_above_the_rate() -> None:
    begin = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await begin.wait()
        await echo(ws)

    async def main() -> None:
        async with talking(handler, limit_message_rate=20, ws_max_queue=2) as (peer, _):
            await peer.send(build(b"x") * 3)
            await asyncio.sleep(0.6)  # earns 12
            await peer.send(build(b"x") * 25)
            begin.set()
            await peer.expect(*[(TEXT, b"x")] * 28)
            # Nobody earns that twice.
            await peer.send(build(b"x") * 60)
            while (await peer.frame())[0] == TEXT:
                pass

    run(main())
