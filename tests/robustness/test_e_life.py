"""E1 to E9: how connections end, each row over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fastws import HTTPException, WebSocket, WebSocketDisconnect, WebSocketException
from fastws.server import Server
from tests.connections import SMALL_BUFFER, Handler, Watched, echo, logged, steps
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
    exchange,
    serving,
    wire,
)
from tests.robustness.ends import KIB, MIB, dial, empty, over_both, watching
from tests.serving import handshake, status_of
from tests.support import TIMEOUT, run

NORMAL = (CLOSE, b"\x03\xe8")
SHORT = TIMEOUT / 20  # seconds of a closing handshake that is to run into its deadline


async def ended(peer: Peer, server: Server) -> None:
    """The client closes TCP, and with that everything on the server must end."""
    await peer.close()
    await empty(server)


# E1 to E3: the closing handshake


@over_both
@pytest.mark.parametrize("count", [64, 1])
def test_e01_a_close_over_a_slow_link(count: int) -> None:
    # What is on its way takes four times as long as a closing handshake may: as long as the peer
    # goes on reading, it is not cut. One large message, or many.
    size = 6 * MIB // count
    close_timeout = 2 * SHORT
    contents = [random.Random(number).randbytes(size) for number in range(count)]

    async def handler(ws: WebSocket) -> None:
        for content in contents:
            await ws.send_bytes(content)
        await ws.close(3001, "that was all")

    async def main() -> None:
        watched = Watched(handler, ws_max_size=8 * MIB)
        slow = Faults(bandwidth=6 * MIB / (4 * close_timeout), buffer=64 * KIB)
        async with serving(watched.app, ws_close_timeout=close_timeout) as server:
            async with faulty(server.addresses[0], to_client=slow) as proxy:
                async with dial(proxy.address, receive_buffer=64 * KIB) as peer:
                    # It talks all the while: closing with unread bytes would be a RST.
                    await peer.send(build(b"unread") * 1000)
                    for content in contents:
                        await peer.expect((BINARY, content))
                        await peer.send(build(b"unread"))
                    await peer.expect((CLOSE, b"\x0b\xb9that was all"))
                    await peer.send(close_frame(3001))
                    assert await peer.rest() == b""
                assert await watched.outcome() is None
                await ended(peer, server)

    run(main())


@over_both
@pytest.mark.parametrize("end", ["close", "return", "raise", "violation", "shutdown"])
def test_e02_a_peer_that_never_answers_the_close(end: str) -> None:
    async def handler(ws: WebSocket) -> None:
        begun = loop_time()
        if end == "close":
            await ws.close(4000)
            assert SHORT < loop_time() - begun + 0.002 < TIMEOUT
        elif end == "raise":
            raise WebSocketException(4000)
        elif end in ("violation", "shutdown"):
            await ws.receive_text()

    def loop_time() -> float:
        return asyncio.get_running_loop().time()

    async def main() -> None:
        options: dict[str, Any] = {"ws_close_timeout": SHORT, "shutdown_code": 4000}
        async with watching(handler, **options) as (peer, watched, server):
            begun = loop_time()
            if end == "violation":
                await peer.send(build(b"", 15))
            elif end == "shutdown":
                server.stop()
            opcode, payload = await peer.frame()
            code = {"return": 1000, "violation": 1002}.get(end, 4000)
            assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, code)
            # It goes on as if there had been none, and leaves TCP open.
            with contextlib.suppress(ConnectionError):
                await peer.send(build(b"what?"))
            assert await peer.until_end() == []
            await watched.outcome()
            await empty(server)
            assert loop_time() - begun < SHORT + TIMEOUT / 2

    run(main())


@over_both
def test_e02_a_peer_that_answers_the_close_and_leaves_tcp_open() -> None:
    async def main() -> None:
        async with watching(echo, ws_close_timeout=SHORT) as (peer, watched, server):
            await peer.send(close_frame(3001))
            await peer.expect((CLOSE, b"\x0b\xb9"))
            peer.stop_reading()
            await watched.ended_with(3001)
            await empty(server)
            peer.transport.abort()

    run(main())


@over_both
@pytest.mark.parametrize("count", range(4))
def test_e03_several_closes_are_one(count: int) -> None:
    async def handler(ws: WebSocket) -> None:
        closes: list[Awaitable[None]] = [ws.close(3001), ws.close(3002)]
        closing = asyncio.gather(*closes, ws.close(3003))
        await steps(count)
        await ws.close(3004)
        await closing
        await ws.close(3005)
        assert ws.close_code == 3001

    async def main() -> None:
        async with watching(handler) as (peer, watched, server):
            await peer.expect((CLOSE, b"\x0b\xb9"))
            await peer.send(close_frame(3001))
            assert await peer.rest() == b""
            assert await watched.outcome() is None
            await ended(peer, server)

    run(main())


@over_both
@pytest.mark.parametrize("first", ["server", "client", "both"])
def test_e03_a_simultaneous_close_is_one_each_way(first: str) -> None:
    # With this latency both are on their way before either arrives.
    latency = Faults(latency=TIMEOUT / 100)
    go = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await go.wait()
        await ws.close(3001)

    async def main() -> None:
        watched = Watched(handler)
        async with serving(watched.app) as server:
            async with faulty(server.addresses[0], to_server=latency, to_client=latency) as proxy:
                async with dial(proxy.address) as peer:
                    if first != "client":
                        go.set()
                    if first == "server":
                        await steps(3)
                    await peer.send(close_frame(4001) + build(b"too late") + close_frame(4002))
                    if first == "client":
                        await steps(3)
                        go.set()
                    assert await peer.ended() in ((3001, ""), (4001, ""))
                assert await watched.outcome() is None
                await ended(peer, server)

    run(main())


@over_both
@pytest.mark.parametrize("count", range(6))
def test_e03_a_close_that_crosses_the_peers(count: int) -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.receive_text()
        await steps(count)
        await ws.close(3001)
        await ws.close(3001)

    async def main() -> None:
        async with watching(handler) as (peer, watched, server):
            await peer.send(build(b"x") + close_frame(4001))
            assert await peer.ended() in ((3001, ""), (4001, ""))
            assert await watched.outcome() is None
            await ended(peer, server)

    run(main())


# E4, E5: sends and receives that are disturbed

SENDS: dict[str, Callable[[WebSocket], Awaitable[Any]]] = {
    "text": lambda ws: ws.send_text("x" * 5000),
    "bytes": lambda ws: ws.send_bytes(bytes(5000)),
    "json": lambda ws: ws.send_json(list(range(1000))),
    "ping": lambda ws: ws.ping(),
}


@over_both
@pytest.mark.parametrize("what", SENDS)
@pytest.mark.parametrize("how", ["reset", "eof", "close", "violation"])
def test_e04_a_send_that_races_with_the_disconnect(how: str, what: str) -> None:
    errors: list[BaseException] = []

    async def send_for_ever(ws: WebSocket, count: int) -> None:
        await ws.receive_text()
        await steps(count)
        while True:
            try:
                await asyncio.wait_for(SENDS[what](ws), TIMEOUT)
            except BaseException as error:
                errors.append(error)
                raise
            await asyncio.sleep(0)

    async def main() -> None:
        for count in range(6):

            async def handler(ws: WebSocket, count: int = count) -> None:
                await send_for_ever(ws, count)

            async with watching(handler) as (peer, watched, server):
                await peer.send(build(b"go"))
                if how == "reset":
                    peer.reset()
                elif how == "eof":
                    await peer.close()
                elif how == "close":
                    await peer.send(close_frame(1001))
                else:
                    await peer.send(build(b"", 15))
                code = {"close": 1001, "violation": 1002}.get(how, 1006)
                error = await watched.outcome()
                assert type(error) is WebSocketDisconnect, repr(error)
                assert error.code == code
                peer.transport.abort()
                await ended(peer, server)
        assert {type(error) for error in errors} == {WebSocketDisconnect}

    run(main())


@over_both
def test_e04_a_handler_that_never_pauses_learns_of_the_disconnect() -> None:
    # No await in it waits, once nothing is written any more: it must not keep the loop for ever.
    gone = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await gone.wait()
        for _ in range(1_000_000):
            await ws.send_bytes(bytes(100))

    async def main() -> None:
        async with watching(handler) as (peer, watched, server):
            await peer.close()
            await steps(10)
            gone.set()
            await watched.ended_with(1006)
            await ended(peer, server)

    run(main())


@over_both
@pytest.mark.parametrize("how", ["cancel", "wait_for", "timeout="])
def test_e05_a_receive_given_up_loses_nothing(how: str) -> None:
    got: list[str] = []
    count = 30
    given_up = 0

    async def handler(ws: WebSocket) -> None:
        nonlocal given_up
        while len(got) < count:
            try:
                if how == "timeout=":
                    got.append(await ws.receive_text(timeout=0.0005))
                elif how == "wait_for":
                    got.append(await asyncio.wait_for(ws.receive_text(), 0.0005))
                else:
                    receiving = asyncio.ensure_future(ws.receive_text())
                    await steps(given_up % 7)
                    # One that has its message cannot be cancelled any more.
                    if receiving.cancel():
                        await asyncio.wait({receiving})
                    got.append(receiving.result())
            except (asyncio.TimeoutError, asyncio.CancelledError):
                given_up += 1
                await asyncio.sleep(0.0002)
        await ws.send_text("usable")

    async def main() -> None:
        async with watching(handler) as (peer, watched, server):
            for number in range(count):
                await peer.send(build(b"%d" % number))
                await asyncio.sleep(0.001)
            await peer.expect((TEXT, b"usable"), NORMAL)
            await peer.send(close_frame())
            assert await watched.outcome() is None
            await ended(peer, server)
        assert got == [str(number) for number in range(count)]
        assert given_up > 0

    run(main())


@over_both
@pytest.mark.parametrize("how", ["cancel", "wait_for"])
def test_e05_a_send_given_up_is_sent_all_the_same(how: str) -> None:
    content = random.Random(5).randbytes(64 * KIB)
    given_up = 0
    sent = 0
    stuck = asyncio.Event()

    async def send(ws: WebSocket) -> None:
        nonlocal sent
        data = sent.to_bytes(4, "big") + content
        sent += 1
        if how == "wait_for":
            await asyncio.wait_for(ws.send_bytes(data), TIMEOUT / 50)
            return
        sending = asyncio.ensure_future(ws.send_bytes(data))
        await asyncio.wait({sending}, timeout=TIMEOUT / 50)
        if sending.cancel():
            await asyncio.wait({sending})
        sending.result()

    async def handler(ws: WebSocket) -> None:
        nonlocal given_up
        while given_up < 3:
            try:
                await send(ws)
            except (asyncio.TimeoutError, asyncio.CancelledError):
                given_up += 1
        stuck.set()
        assert await ws.receive_text() == "still usable"
        await ws.send_text("last")

    async def main() -> None:
        async with watching(handler, receive_buffer=SMALL_BUFFER) as (peer, watched, server):
            await asyncio.wait_for(stuck.wait(), TIMEOUT)
            await peer.send(build(b"still usable"))
            for number in range(sent):
                await peer.expect((BINARY, number.to_bytes(4, "big") + content))
            await peer.expect((TEXT, b"last"), NORMAL)
            await peer.send(close_frame())
            assert await watched.outcome() is None
            await ended(peer, server)

    run(main())


# E6, E7: handlers that end


@over_both
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LookupError("lost"), 500),
        (None, 500),
        (HTTPException(401), 401),
        (WebSocketException(4000), 403),
    ],
)
def test_e06_a_handler_that_ends_before_accept(
    error: BaseException | None, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(ws: WebSocket) -> None:
        if error is not None:
            raise error

    async def main() -> None:
        watched = Watched(handler, accept=False)
        async with serving(watched.app) as server:
            # Frames that came too early are no request.
            assert status_of(await exchange(server, handshake() + build(b"x") * 3)) == status
            assert await watched.outcome() is error
            await empty(server)

    run(main())
    assert len(logged(caplog)) == (1 if status == 500 else 0)


@over_both
@pytest.mark.parametrize("ending", ["raise", "cancel", "return"])
def test_e06_a_handler_that_ends_after_accept(
    ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.send_text("last words")
        if ending == "raise":
            raise LookupError("lost")
        if ending == "cancel":
            raise asyncio.CancelledError

    async def main() -> None:
        async with watching(handler) as (peer, watched, server):
            await peer.expect((TEXT, b"last words"))
            opcode, payload = await peer.frame()
            code = 1000 if ending == "return" else 1011
            assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, code)
            assert b"lost" not in payload, "what failed is nobody's business"
            await peer.send(close_frame(code))
            assert await peer.rest() == b""
            await watched.outcome()
            await ended(peer, server)

    run(main())
    assert len(logged(caplog)) == (1 if ending == "raise" else 0)


async def closes(ws: WebSocket) -> None:
    await ws.close(3001)


async def closes_and_leaves(ws: WebSocket) -> None:
    _ = ws.close(3001)


async def returns(ws: WebSocket) -> None:
    pass


async def fails(ws: WebSocket) -> None:
    raise WebSocketException(3001)


async def aborts(ws: WebSocket) -> None:
    ws._link.abort()


@over_both
@pytest.mark.parametrize("taken", [0, 1, 2, 16, 20])
@pytest.mark.parametrize("end", [closes, closes_and_leaves, returns, fails, aborts])
def test_e07_frames_that_wait_when_the_handler_ends_are_dropped(end: Handler, taken: int) -> None:
    # More than the queue holds, so that some wait as messages and some as bytes. All of it is read
    # at once; what is behind is no message any more.
    burst = [build(b"%d" % number) for number in range(40)]
    burst += [build(b"", PING), build(b"part", fin=False), build(b"whole", PING)]
    waiting = asyncio.Event()
    got: list[str] = []

    async def handler(ws: WebSocket) -> None:
        await waiting.wait()
        got.extend([await ws.receive_text() for _ in range(taken)])
        await end(ws)

    async def main() -> None:
        async with watching(handler) as (peer, watched, server):
            await peer.send(b"".join(burst))
            await steps(10)
            waiting.set()
            frames = await peer.until_close() if end is not aborts else await peer.until_end()
            assert {frame.opcode for frame in frames} <= {PONG}
            await peer.send_if_possible(build(b"more", fin=False) + close_frame(3001))
            # A PING is answered until the peer's CLOSE has come.
            assert {frame.opcode for frame in await peer.until_end()} <= {PONG}
            await watched.outcome()
            await ended(peer, server)
        assert got == [str(number) for number in range(taken)]

    run(main())


# E8, E9: what must not be sent, and ends without a CLOSE


@over_both
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        *((code, "") for code in (-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 1 << 16)),
        *((1000, reason) for reason in ("x" * 124, "ä" * 62, "\U0001f600" * 31, "\ud800")),
    ],
)
@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "not yet"])
def test_e08_a_close_that_must_not_be_sent(code: int, reason: str, accepted: bool) -> None:
    async def handler(ws: WebSocket) -> None:
        with pytest.raises(ValueError):
            _ = ws.close(code, reason)
        if not accepted:
            await ws.accept()
        # As if nothing had been said.
        await ws.send_text(await ws.receive_text())
        await ws.close(3001, "x" * 123)

    async def main() -> None:
        watched = Watched(handler, accept=accepted)
        async with serving(watched.app) as server, dial(server.addresses[0]) as peer:
            await peer.send(build(b"alive"))
            await peer.expect((TEXT, b"alive"), (CLOSE, b"\x0b\xb9" + b"x" * 123))
            await peer.send(close_frame(3001))
            assert await watched.outcome() is None

    run(main())


@over_both
@pytest.mark.parametrize("count", [1, 16, 100])
@pytest.mark.parametrize("how", ["eof", "reset", "half-close", "no farewell", "frame cut off"])
def test_e09_an_end_without_a_close(how: str, count: int) -> None:
    # asyncio's TLS transports have no second half: what is sent after the EOF goes nowhere.
    got: list[str] = []
    begin = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await begin.wait()
        while True:
            got.append(await ws.receive_text())
            if how == "half-close" and not wire.is_tls:
                await ws.send_text(got[-1])
            await steps(len(got) % 3)

    async def main() -> None:
        async with watching(handler) as (peer, watched, server):
            messages = [build(b"%d" % number) for number in range(count)]
            await peer.send(b"".join(messages))
            if how == "frame cut off":
                await peer.send(build(b"never whole", length=100))
            # All of it has arrived, and waits.
            await steps(10)
            if how == "reset":
                peer.reset()
            elif how == "half-close":
                peer.half_close()
            elif how == "no farewell":
                # Over TLS a FIN without TLS's own alert.
                peer.transport.abort()
            else:
                peer.writer.close()
            await steps(10)
            begin.set()
            if how == "half-close" and not wire.is_tls:
                await peer.expect(*[(TEXT, b"%d" % number) for number in range(count)])
                assert await peer.rest() == b""
            await watched.ended_with(1006)
            await ended(peer, server)
        assert got == [str(number) for number in range(count)]

    run(main())
