"""Keepalive and ping()."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastws import (
    WebSocket,
    WebSocketDisconnect,
)
from tests.connections import (
    Watched,
    echo,
    steps,
    talking,
    until,
)
from tests.robustness.client import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    build,
    close_frame,
    websocket,
)
from tests.serving import serving
from tests.support import TIMEOUT, run


def test_ping_returns_the_seconds_to_its_pong() -> None:
    async def handler(ws: WebSocket) -> None:
        assert 0 <= await ws.ping() < TIMEOUT
        assert 0 <= await ws.ping(b"mine") < TIMEOUT
        first, second = ws.ping(b"1"), ws.ping(b"2")
        await asyncio.gather(first, second)

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            for expected in (None, b"mine"):
                opcode, payload = await peer.frame()
                assert opcode == PING
                assert expected in (None, payload)
                await peer.send(build(b"unrelated", PONG) + build(payload, PONG))
            await peer.expect((PING, b"1"), (PING, b"2"))
            # Section 5.5.3: the answer to the latest stands for all.
            await peer.send(build(b"2", PONG))
            assert await watched.outcome() is None

    run(main())


def test_ping_with_wrong_data() -> None:
    async def handler(ws: WebSocket) -> None:
        with pytest.raises(ValueError, match="125"):
            _ = ws.ping(bytes(126))
        waiting = asyncio.ensure_future(ws.ping(b"twice"))
        with pytest.raises(ValueError, match="waiting"):
            _ = ws.ping(b"twice")
        await waiting
        # Nobody waits any more: the data is free again.
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(ws.ping(b"late"), TIMEOUT / 500)
        await ws.ping(b"late")

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.expect((PING, b"twice"))
            await peer.send(build(b"twice", PONG))
            await peer.expect((PING, b"late"), (PING, b"late"))
            await peer.send(build(b"late", PONG))
            assert await watched.outcome() is None

    run(main())


@pytest.mark.parametrize("how", ["reset", "close"])
def test_ping_ends_with_the_connection(how: str) -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.ping()

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            assert (await peer.frame())[0] == PING
            if how == "reset":
                peer.reset()
                await watched.ended_with(1006)
            else:
                await peer.send(close_frame(4000))
                await watched.ended_with(4000)

    run(main())


def test_ping_raises_once_no_pong_can_come() -> None:
    begin = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await begin.wait()
        with pytest.raises(WebSocketDisconnect) as caught:
            await ws.ping()
        assert caught.value.code == 4000
        assert await ws.receive_text() == "still to be received"

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.send(build(b"still to be received") + close_frame(4000))
            await steps(5)
            begin.set()
            assert await peer.ended() == (4000, "")
            assert await watched.outcome() is None

    run(main())


INTERVAL = TIMEOUT / 25


def keepalive(**options: Any) -> dict[str, Any]:
    return {"ws_ping_interval": INTERVAL, "ws_ping_timeout": INTERVAL, **options}


def test_a_silent_peer_is_pinged_and_an_answer_keeps_it_alive() -> None:
    async def main() -> None:
        async with talking(echo, **keepalive()) as (peer, _):
            for _ in range(4):
                opcode, payload = await peer.frame()
                assert opcode == PING
                await peer.send(build(payload, PONG))
            await peer.send(build(b"alive"))
            await peer.expect((TEXT, b"alive"))
            await peer.end()

    run(main())


@pytest.mark.parametrize("answer", [b"", build(b"stale", PONG), build(b"", PONG) * 3])
def test_a_peer_that_does_not_answer_is_ended_with_1011(answer: bytes) -> None:
    async def main() -> None:
        async with talking(echo, **keepalive()) as (peer, watched):
            assert (await peer.frame())[0] == PING
            await peer.send(answer)
            code, payload = await peer.frame()
            assert (code, payload[:2]) == (CLOSE, b"\x03\xf3")
            assert b"ws-ping-timeout" in payload
            assert await peer.until_end() == []
            error = await watched.outcome()
            assert isinstance(error, WebSocketDisconnect)
            assert error.code == 1011

    run(main())


@pytest.mark.parametrize("sign", [build(b"data"), build(b"", PING), build(b"x", length=5)[:3]])
def test_any_inbound_byte_but_a_stale_pong_keeps_a_peer_alive(sign: bytes) -> None:
    async def main() -> None:
        async with talking(echo, **keepalive()) as (peer, _):
            rounds = 0
            while rounds < 3:
                opcode, _payload = await peer.frame()
                assert opcode in (PING, PONG, TEXT)
                if opcode == PING:
                    rounds += 1
                    await peer.send(sign if len(sign) > 3 or rounds == 1 else build(b"y")[2:3])

    run(main())


def test_no_ping_if_it_is_turned_off() -> None:
    async def main() -> None:
        options = keepalive(ws_ping_interval="none", ws_close_timeout=INTERVAL)
        async with talking(echo, **options) as (peer, _):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(peer.reader.read(1), 3 * INTERVAL)

    run(main())


def test_a_slow_handler_raises_no_false_alarm() -> None:
    # Its queue is full, so nothing is read, and no pong could be seen.
    go_on = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await go_on.wait()
        async for message in ws:
            await ws.send_text(str(message))

    async def main() -> None:
        async with talking(handler, **keepalive(ws_max_queue=2)) as (peer, _):
            await peer.send(b"".join(build(b"%d" % number) for number in range(10)))
            await asyncio.sleep(4 * INTERVAL)
            go_on.set()
            numbers: list[int] = []
            while len(numbers) < 10:
                opcode, payload = await peer.frame()
                assert opcode in (TEXT, PING)
                if opcode == TEXT:
                    numbers.append(int(payload))
                else:
                    await peer.send(build(payload, PONG))
            assert numbers == list(range(10))
            await peer.end()

    run(main())


async def forever(_: WebSocket) -> None:
    """A handler that receives nothing."""
    await asyncio.Event().wait()


@pytest.mark.parametrize("how", ["reset", "close", "half-close"])
@pytest.mark.parametrize("messages", [0, 40], ids=["", "its messages fill the queue"])
def test_who_leaves_is_noticed_by_a_handler_that_does_not_receive(how: str, messages: int) -> None:
    watched = Watched(forever, cancel_on_disconnect=True)

    async def main() -> None:
        async with serving(watched.app, **keepalive()) as server:
            async with websocket(server) as peer:
                frames = [build(b"%d" % number) for number in range(messages)]
                if how == "half-close":
                    # In one read: behind a second one nothing is read any more, an EOF neither.
                    await peer.send(b"".join(frames))
                    peer.half_close()
                else:
                    for frame in frames:
                        await peer.send_split(frame)
                    if how == "reset":
                        peer.reset()
                    else:
                        await peer.close()
                assert isinstance(await watched.outcome(), asyncio.CancelledError)
            hub = server.hub
            assert hub is not None
            await until(lambda: not hub.connections)

    run(main())


def test_a_peer_whose_messages_wait_is_pinged_once_an_interval_and_need_not_answer() -> None:
    receive = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await receive.wait()
        await echo(ws)

    async def main() -> None:
        # Each look at the clock for the write timeout is one at the keepalive too.
        options = keepalive(ws_write_timeout=INTERVAL)
        async with talking(handler, **options) as (peer, watched):
            for number in range(20):
                await peer.send(build(b"%d" % number))
            begin = asyncio.get_running_loop().time()
            for _ in range(4):
                assert (await peer.frame())[0] == PING
            taken = asyncio.get_running_loop().time() - begin
            assert taken > 3 * 0.9 * INTERVAL
            receive.set()
            await peer.expect(*((TEXT, b"%d" % number) for number in range(20)))
            assert watched.outcomes.empty()
            # From here on it has to answer again.
            assert (await peer.frame())[0] == PING
            assert (await peer.ended())[0] == 1011

    run(main())
