"""D1 to D8: load, slow peers, dead peers, each row over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest

from fastws import FastWS, WebSocket, WebSocketDisconnect
from tests.connections import SMALL_BUFFER, Watched, steps, until
from tests.faults import Faults, faulty
from tests.robustness.client import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Peer,
    build,
    close_frame,
    serving,
)
from tests.robustness.ends import (
    KIB,
    MIB,
    dial,
    empty,
    growth,
    over_both,
    resume_reading,
    watching,
)
from tests.support import TIMEOUT, run

LITTLE = 128 * KIB  # bytes that a peer may cost that does not read


async def comes_to_rest(progress: Callable[[], int]) -> int:
    """Wait until ``progress`` stands still: whoever makes it is blocked."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 2 * TIMEOUT
    seen, still = -1, 0
    # Looks, not seconds: a look comes after everybody had a turn.
    while still < 20:
        assert loop.time() < deadline, "it never stood still"
        await asyncio.sleep(0.002)
        still = still + 1 if progress() == seen else 0
        seen = progress()
    return seen


# D1 to D3: peers that do not read


@pytest.mark.measures
@over_both
@pytest.mark.parametrize("size", [100, 1 * KIB, 16 * KIB])
def test_d01_a_reader_that_stops_blocks_send_and_costs_little(size: int) -> None:
    content = bytes(size)
    begin = asyncio.Event()
    sent = 0

    async def handler(ws: WebSocket) -> None:
        nonlocal sent
        await begin.wait()
        while True:
            await ws.send_bytes(content)
            sent += 1

    async def main() -> None:
        async with watching(handler, receive_buffer=SMALL_BUFFER) as (peer, watched, _):
            peer.stop_reading()
            with growth() as grown:
                begin.set()
                count = await comes_to_rest(lambda: sent)
                assert count > 0
                assert grown.peak < LITTLE
                # It stays so.
                await asyncio.sleep(TIMEOUT / 50)
                assert sent == count
                assert grown.bytes < LITTLE
            peer.reset()
            await watched.ended_with(1006)

    run(main())


@over_both
def test_d02_a_reader_that_resumes_gets_every_byte() -> None:
    random.seed(2)
    contents = [random.randbytes(random.choice((10, KIB, 100 * KIB, MIB))) for _ in range(50)]
    sent = 0

    async def handler(ws: WebSocket) -> None:
        nonlocal sent
        for content in contents:
            await ws.send_bytes(content)
            sent += 1

    async def main() -> None:
        async with watching(handler, receive_buffer=SMALL_BUFFER) as (peer, watched, _):
            pauses = 0
            for number, content in enumerate(contents):
                if number % 10 == 0:
                    # Meanwhile the handler gets as far as it can, and there it waits.
                    peer.stop_reading()
                    pauses += await comes_to_rest(lambda: sent) < len(contents)
                    resume_reading(peer)
                await peer.expect((BINARY, content))
            assert pauses > 2, "it was never stopped: there is too little to send"
            await peer.expect((CLOSE, b"\x03\xe8"))
            await peer.send(close_frame(1000))
            assert await peer.rest() == b""
            assert await watched.outcome() is None

    run(main())


@over_both
def test_d03_a_broadcast_with_one_stuck_reader() -> None:
    peers_count, stuck_number = 50, 17
    # Random, so that nobody gets what was another's; and enough for the stuck one to be cut.
    random.seed(3)
    contents = [random.randbytes(16 * KIB) for _ in range(40)]
    sockets: list[WebSocket] = []
    ends: dict[WebSocket, WebSocketDisconnect] = {}
    app = FastWS()

    @app.websocket("/")
    async def listener(ws: WebSocket) -> None:
        await ws.accept()
        sockets.append(ws)
        try:
            await ws.receive()
            await ws.receive()
        except WebSocketDisconnect as error:
            ends[ws] = error
            raise

    async def read_all(peer: Peer) -> None:
        for content in contents:
            await peer.expect((BINARY, content))

    async def main() -> None:
        # As much as the kernel takes from a sender would hide the stuck one for long.
        options = {"ws_max_backpressure": 256 * KIB}
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(serving(app, **options))
            address = server.addresses[0]
            peers = []
            for number in range(peers_count):
                buffer = SMALL_BUFFER if number == stuck_number else None
                dialled = dial(address, receive_buffer=buffer)
                peers.append(await stack.enter_async_context(dialled))
                await until(lambda: len(sockets) == len(peers))
            stuck = sockets[stuck_number]
            peers[stuck_number].stop_reading()
            others = [peer for number, peer in enumerate(peers) if number != stuck_number]
            # What the kernel keeps for it is used up first.
            await asyncio.wait_for(stuck.send_bytes(bytes(100)), TIMEOUT)
            filling = asyncio.ensure_future(fill(stuck))
            await until(filling.done)

            reading = asyncio.gather(*map(read_all, others))
            for content in contents:
                for ws in sockets:
                    # Once its handler has ended, a send to it raises.
                    if ws not in ends:
                        _ = ws.send_bytes(content)
                await asyncio.sleep(0)
            await reading
            await until(lambda: ends)
            assert list(ends) == [stuck]
            assert ends[stuck].code == 1013
            assert "ws-max-backpressure" in ends[stuck].reason
            for peer in others:
                await peer.end(1000)
            await until(lambda: len(ends) == peers_count)
            assert {end.code for end in ends.values()} == {1000, 1013}

    async def fill(ws: WebSocket) -> None:
        while True:
            sending = asyncio.ensure_future(ws.send_bytes(bytes(16 * KIB)))
            await asyncio.wait({sending}, timeout=TIMEOUT / 50)
            if not sending.done():
                sending.cancel()
                return

    run(main())


# D4 to D6: peers that send a lot


@pytest.mark.measures
@over_both
@pytest.mark.parametrize("size", [64, 64 * KIB])
def test_d04_a_fast_sender_and_a_slow_handler(size: int) -> None:
    # Enough to fill every buffer on the way several times.
    count = 64 * MIB // size if size > KIB else 200_000
    batch_size = max(1, 64 * KIB // size)
    taken = 0
    proceed = asyncio.Semaphore(0)

    async def handler(ws: WebSocket) -> None:
        nonlocal taken
        while True:
            await proceed.acquire()
            message = await ws.receive_bytes()
            assert (len(message), message[:4]) == (size, taken.to_bytes(4, "big"))
            taken += 1

    async def main() -> None:
        async with watching(handler) as (peer, watched, _):
            key = bytes(4)
            head = build(bytes(size), BINARY)[: -size - 4] + key
            sent = 0

            async def send() -> None:
                nonlocal sent
                tail = bytes(size - 4)
                while sent < count:
                    numbers = range(sent, min(count, sent + batch_size))
                    data = [head + number.to_bytes(4, "big") + tail for number in numbers]
                    peer.writer.write(b"".join(data))
                    await peer.writer.drain()
                    sent += len(data)

            sending = asyncio.ensure_future(send())
            await comes_to_rest(lambda: sent)
            with growth() as grown:
                flat = []
                for _ in range(10):
                    # It takes a few now and then: each time some more come in, and no more.
                    for _ in range(40):
                        proceed.release()
                    expected = taken + 40
                    await until(lambda expected=expected: taken == expected)  # type: ignore[misc]
                    await comes_to_rest(lambda: sent)
                    flat.append(grown.bytes)
                assert not sending.done()
                # A queue, two reads of the loop and one message on its way, or none of them.
                assert max(flat) - min(flat) < 2 * MIB
                assert abs(flat[-1]) < 2 * MIB
            for _ in range(count):
                proceed.release()
            await asyncio.wait_for(sending, 2 * TIMEOUT)
            await until(lambda: taken == count)
            peer.reset()
            await watched.ended_with(1006)

    run(main())


@over_both
def test_d05_a_ping_flood_from_a_peer_that_never_reads_leaves_one_pong() -> None:
    content = bytes(64 * KIB)
    count = 20_000
    flooded = asyncio.Event()
    sent = 0

    async def handler(ws: WebSocket) -> None:
        async def send() -> None:
            nonlocal sent
            while not flooded.is_set():
                sent += 1
                await ws.send_bytes(content)

        sending = asyncio.ensure_future(send())
        assert await ws.receive_text() == "flooded"
        flooded.set()
        await sending
        assert await ws.receive_text() == "read"

    async def main() -> None:
        async with watching(handler, receive_buffer=SMALL_BUFFER) as (peer, watched, _):
            peer.stop_reading()
            await comes_to_rest(lambda: sent)
            for start in range(0, count, 1000):
                batch = range(start, start + 1000)
                await peer.send(b"".join(build(b"%d" % number, PING) for number in batch))
            await peer.send(build(b"flooded"))
            await asyncio.wait_for(flooded.wait(), TIMEOUT)
            resume_reading(peer)
            await peer.expect(*[(BINARY, content)] * sent, (PONG, b"%d" % (count - 1)))
            await peer.send(build(b"read"))
            await peer.expect((CLOSE, b"\x03\xe8"))
            assert await watched.outcome() is None

    run(main())


@pytest.mark.measures
@over_both
def test_d05_a_ping_flood_alone_costs_little() -> None:
    # The pongs themselves fill the buffers here: all are owed while the writer drains.
    batch = b"".join(build(bytes(120) + b"%05d" % number, PING) for number in range(1000))
    flooded = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await ws.receive_text()
        flooded.set()
        await ws.receive_text()

    async def main() -> None:
        async with watching(handler, receive_buffer=SMALL_BUFFER) as (peer, watched, _):
            peer.stop_reading()
            with growth() as grown:
                for _ in range(100):
                    await peer.send(batch)
                    await steps(3)
                await peer.send(build(b"last", PING) + build(b"flooded"))
                await asyncio.wait_for(flooded.wait(), TIMEOUT)
                # 13 MB of them came; what there was for a moment is what was just read.
                assert grown.peak < LITTLE + 512 * KIB
                assert grown.bytes < LITTLE
            resume_reading(peer)
            frame = await peer.frame()
            while frame != (PONG, b"last"):
                assert frame[0] == PONG
                frame = await peer.frame()
            await peer.send(build(b"read"))
            await peer.expect((CLOSE, b"\x03\xe8"))
            assert await watched.outcome() is None

    run(main())


@pytest.mark.measures
@over_both
def test_d06_unsolicited_pongs_cost_nothing() -> None:
    batch = (build(b"", PONG) + build(bytes(125), PONG)) * 2500

    async def handler(ws: WebSocket) -> None:
        # One that is waited for does not make the others dear.
        pinging = asyncio.ensure_future(ws.ping(b"mine"))
        async for message in ws:
            await ws.send_text(str(message))
        pinging.cancel()

    async def main() -> None:
        async with watching(handler) as (peer, watched, _):
            await peer.expect((PING, b"mine"))
            for _ in range(2):
                await peer.send(batch)
            await peer.send(build(b"first"))
            await peer.expect((TEXT, b"first"))
            with growth() as grown:
                for _ in range(40):
                    await peer.send(batch)
                    await steps(3)
                await peer.send(build(b"alive"))
                await peer.expect((TEXT, b"alive"))
                # 200,000 of them came: what there was for a moment is what was just read.
                assert grown.peak < MIB
                assert grown.bytes < 32 * KIB
            await peer.end()
            assert await watched.outcome() is None

    run(main())


# D7, D8: keepalive

INTERVAL = TIMEOUT / 25
KEEPALIVE: dict[str, Any] = {"ws_ping_interval": INTERVAL, "ws_ping_timeout": INTERVAL}
TICK = 0.1  # seconds: a deadline is met at most as much late


async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await (ws.send_text(message) if isinstance(message, str) else ws.send_bytes(message))
    await ws.receive_text()  # raises what says how it ended


@over_both
@pytest.mark.parametrize("answer", ["nothing", "stale pongs", "half of a pong"])
def test_d07_no_pong(answer: str) -> None:
    async def main() -> None:
        async with watching(echo, **KEEPALIVE) as (peer, watched, server):
            opcode, payload = await peer.frame()
            assert opcode == PING
            if answer == "stale pongs":
                wrong = bytes(byte ^ 1 for byte in payload)
                await peer.send(build(wrong, PONG) + build(b"", PONG) + build(payload * 2, PONG))
            opcode, payload = await peer.frame()
            assert (opcode, payload[:2]) == (CLOSE, b"\x03\xf3")
            assert b"ws-ping-timeout" in payload
            # Not a closing handshake: it is cut.
            assert await peer.until_end() == []
            await watched.ended_with(1011, payload[2:].decode())
            await empty(server)

    run(main())


@over_both
def test_d07_stale_pongs_that_never_cease_keep_nobody_alive() -> None:
    async def main() -> None:
        async with watching(echo, **KEEPALIVE) as (peer, watched, _):

            async def chatter() -> None:
                while True:
                    await peer.send(build(b"stale", PONG))
                    await asyncio.sleep(INTERVAL / 10)

            chattering = asyncio.ensure_future(chatter())
            # The CLOSE may be lost: what the peer goes on sending is answered with a RST.
            opcodes = {frame.opcode for frame in await peer.until_end()}
            assert opcodes in ({PING}, {PING, CLOSE})
            error = await watched.outcome()
            assert isinstance(error, WebSocketDisconnect)
            assert error.code == 1011
            chattering.cancel()
            await asyncio.wait({chattering})

    run(main())


@over_both
def test_d07_a_pong_late_behind_a_large_message_that_arrives() -> None:
    content = random.Random(7).randbytes(200 * KIB)

    async def main() -> None:
        async with watching(echo, **KEEPALIVE) as (peer, watched, _):
            opcode, payload = await peer.frame()
            assert opcode == PING
            # The answer comes behind a message that takes four times as long as an answer may.
            data = build(content, BINARY) + build(payload, PONG)
            pieces = 40
            step = len(data) // pieces + 1
            for start in range(0, len(data), step):
                await peer.send(data[start : start + step])
                await asyncio.sleep(4 * INTERVAL / pieces)
            frames = [await peer.read_frame()]
            while frames[-1].opcode != BINARY:
                assert frames[-1].opcode == PING
                frames.append(await peer.read_frame())
            assert frames[-1].payload == content
            await peer.send(build(b"alive"))
            await answer_until(peer, (TEXT, b"alive"))
            await peer.end()
            await watched.ended_with(1000)

    run(main())


async def answer_until(peer: Peer, expected: tuple[int, bytes]) -> None:
    """Answer PINGs until ``expected`` comes, which must be the first that is none."""
    while True:
        opcode, payload = await peer.frame()
        if opcode != PING:
            assert (opcode, payload) == expected
            return
        await peer.send(build(payload, PONG))


@over_both
def test_d07_a_pong_late_behind_a_large_message_that_is_sent() -> None:
    # The peer reads all the time, but slowly: the PING is behind megabytes that it has yet to see.
    content = bytes(6 * MIB)
    begin = asyncio.Event()
    # What the proxy and the kernel hold, and a busy machine, are in the time of the answer.
    options = {**KEEPALIVE, "ws_ping_timeout": 3 * INTERVAL}

    async def handler(ws: WebSocket) -> None:
        await begin.wait()
        await ws.send_bytes(content)
        await echo(ws)

    async def main() -> None:
        # More than half of it in the ping's timeout, all of it in more than that: a busy machine
        # has a fifth to lose.
        slow = Faults(bandwidth=len(content) / (5 * INTERVAL), buffer=64 * KIB)
        watched = Watched(handler)
        async with serving(watched.app, **options) as server:
            async with faulty(server.addresses[0], to_client=slow) as proxy:
                async with dial(proxy.address, receive_buffer=64 * KIB) as peer:
                    begin.set()
                    await answer_until(peer, (BINARY, content))
                    await peer.send(build(b"alive"))
                    await answer_until(peer, (TEXT, b"alive"))
                    await peer.send(close_frame())
                    await answer_until(peer, (CLOSE, b"\x03\xe8"))
                    await watched.ended_with(1000)

    run(main())


@over_both
@pytest.mark.parametrize("work", ["idle", "talking", "stuck in send"])
def test_d08_a_half_open_peer_is_gone_in_time(work: str) -> None:
    interval, timeout = 2 * INTERVAL, 2 * INTERVAL
    options = {**KEEPALIVE, "ws_ping_interval": interval, "ws_ping_timeout": timeout}

    async def handler(ws: WebSocket) -> None:
        while work == "stuck in send":
            await ws.send_bytes(bytes(64 * KIB))
        await echo(ws)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        watched = Watched(handler)
        # A peer without power acknowledges nothing; one behind a gateway that lost it seems to.
        lost = Faults(swallows=work != "stuck in send")
        async with serving(watched.app, access_log=False, **options) as server:
            async with faulty(server.addresses[0], to_server=lost, to_client=lost) as proxy:
                async with dial(proxy.address) as peer:
                    if work == "talking":
                        await peer.send(build(b"last words"))
                        await peer.expect((TEXT, b"last words"))
                    elif work == "stuck in send":
                        await peer.expect((BINARY, bytes(64 * KIB)))
                    proxy.link.black_hole()
                    begun = loop.time()
                    await empty(server)
                    took = loop.time() - begun
                    # An interval may be 10 % longer, and a turn of the loop late.
                    assert took < interval + timeout + 2 * TICK + TIMEOUT / 10
                    error = await watched.outcome()
                    assert isinstance(error, WebSocketDisconnect)
                    assert error.code == 1011
                    # It does not know: over TLS it would wait for an answer to its farewell.
                    peer.transport.abort()

    run(main())
