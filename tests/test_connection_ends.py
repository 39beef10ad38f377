"""How connections end: by the peer, by TCP, by close()."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastws import (
    WebSocket,
    WebSocketClosed,
    WebSocketDisconnect,
    WebSocketState,
)
from tests.connections import (
    KIB,
    Watched,
    echo,
    logged,
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
    close_frame,
)
from tests.serving import connect, handshake, serving, status_of
from tests.support import TIMEOUT, run

# ---------------------------------------------------------------------- how a peer ends


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1001, "gone"), (3000, "größer"), (4999, ""), (1005, "")]
)
def test_the_peers_close_is_the_handlers_disconnect(
    code: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with talking(echo) as (peer, watched):
            await peer.send(
                build(b"1") + close_frame(None if code == 1005 else code, reason.encode())
            )
            await peer.expect((TEXT, b"1"))
            assert await peer.ended() == (code, "")
            await watched.ended_with(code, reason)
            ws = watched.sockets[0]
            assert (ws.close_code, ws.close_reason) == (code, reason)

    run(main())
    assert logged(caplog) == []


def test_receive_gives_one_disconnect_and_then_raises() -> None:
    async def handler(ws: WebSocket) -> None:
        assert await ws.receive() == {"type": "websocket.receive", "text": "ä"}
        assert await ws.receive() == {"type": "websocket.receive", "bytes": b"\xff"}
        expected = {"type": "websocket.disconnect", "code": 3001, "reason": "why"}
        assert await ws.receive() == expected
        for _ in range(2):
            with pytest.raises(WebSocketDisconnect) as caught:
                await ws.receive()
            assert (caught.value.code, caught.value.reason) == (3001, "why")

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.send(
                build("ä".encode()) + build(b"\xff", BINARY) + close_frame(3001, b"why")
            )
            assert await peer.ended() == (3001, "")
            assert await watched.outcome() is None

    run(main())


@pytest.mark.parametrize("how", ["reset", "eof", "close"])
def test_lost_tcp_is_1006_after_the_messages_that_had_arrived(how: str) -> None:
    got = []
    begin = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await begin.wait()
        while True:
            got.append(await ws.receive_text())

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            # More than the queue holds, so that some still wait undecoded.
            await peer.send(b"".join(build(b"%d" % number) for number in range(100)))
            await steps(5)
            if how == "reset":
                peer.reset()
                await until(lambda: watched.sockets[0].application_state.is_over)
            elif how == "eof":
                peer.half_close()
            else:
                await peer.close()
            await steps(5)
            begin.set()
            await watched.ended_with(1006)
            assert got == [str(number) for number in range(len(got))]
            assert len(got) == 100

    run(main())


@pytest.mark.parametrize("count", [1, 16, 100])
def test_after_a_half_close_queued_messages_are_delivered_and_answered(count: int) -> None:
    async def slow_echo(ws: WebSocket) -> None:
        while True:
            message = await ws.receive_text()
            await steps(3)
            await ws.send_text(message)

    async def main() -> None:
        async with talking(slow_echo) as (peer, watched):
            await peer.send(b"".join(build(b"%d" % number) for number in range(count)))
            peer.half_close()
            await peer.expect(*((TEXT, b"%d" % number) for number in range(count)))
            assert await peer.rest() == b""
            await watched.ended_with(1006)

    run(main())


def test_after_a_half_close_a_handler_that_only_sends_goes_on_for_a_bounded_time() -> None:
    async def ticker(ws: WebSocket) -> None:
        while True:
            await ws.send_text("tick")
            await asyncio.sleep(TIMEOUT / 100)

    async def main() -> None:
        async with talking(ticker, ws_close_timeout=TIMEOUT / 10) as (peer, watched):
            peer.half_close()
            frames = await peer.until_end()
            assert {frame.opcode for frame in frames} == {TEXT}
            await watched.ended_with(1006)

    run(main())


def test_a_half_closed_connection_with_a_full_queue_ends_with_its_handler() -> None:
    begin = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await begin.wait()

    async def main() -> None:
        async with talking(handler, ws_max_queue=2, ws_close_timeout=4 * TIMEOUT) as (
            peer,
            watched,
        ):
            # The queue is exactly full: nothing is left to be decoded, only the end to be noticed.
            await peer.send(build(b"1") + build(b"2"))
            peer.half_close()
            await steps(5)
            begin.set()
            assert await peer.ended() == (1000, "")
            assert await watched.outcome() is None

    run(main())


def test_over_tls_an_eof_delivers_what_came_before(caplog: pytest.LogCaptureFixture) -> None:
    certificate = Path(__file__).parent / "localhost.pem"
    offered = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    offered.load_cert_chain(certificate)
    trusted = ssl.create_default_context(cafile=certificate)
    got = []

    async def handler(ws: WebSocket) -> None:
        while True:
            got.append(await ws.receive_text())
            await steps(2)

    async def main() -> None:
        watched = Watched(handler)
        async with serving(watched.app, ssl_context=offered) as server:
            async with connect(server, ssl=trusted, server_hostname="localhost") as client:
                await client.send(handshake())
                assert status_of(await client.head()) == 101
                await client.send(b"".join(build(b"%d" % number) for number in range(10)))
            await watched.ended_with(1006)
        assert got == [str(number) for number in range(10)]

    run(main())
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_frame_cut_off_by_eof_is_not_delivered() -> None:
    async def main() -> None:
        async with talking(echo) as (peer, watched):
            await peer.send(build(b"whole") + build(b"half", length=8))
            peer.half_close()
            await peer.expect((TEXT, b"whole"))
            assert await peer.rest() == b""
            await watched.ended_with(1006)

    run(main())


@pytest.mark.parametrize("how", ["reset", "close frame", "eof"])
def test_a_handler_that_only_sends_learns_that_the_peer_left(how: str) -> None:
    async def ticker(ws: WebSocket) -> None:
        while True:
            await ws.send_text("tick")
            await asyncio.sleep(0)

    async def main() -> None:
        async with talking(ticker) as (peer, watched):
            await peer.expect((TEXT, b"tick"))
            if how == "reset":
                peer.reset()
            elif how == "eof":
                await peer.close()
            else:
                await peer.send(close_frame(1001))
            await watched.ended_with(1001 if how == "close frame" else 1006)

    run(main())


@pytest.mark.parametrize("count", range(8))
def test_a_send_that_races_with_a_reset_never_raises_what_a_transport_raises(count: int) -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.receive_text()
        await steps(count)
        while True:
            _ = ws.send_bytes(bytes(10 * KIB))
            await asyncio.sleep(0)

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.send(build(b"go"))
            peer.reset()
            await watched.ended_with(1006)

    run(main())


# ---------------------------------------------------------------------------- own close


def test_close_waits_for_the_peers_close_and_then_everything_raises() -> None:
    closed = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await ws.close(3000, "enough")
        closed.set()
        assert ws.close_code == 3000
        assert ws.client_state == ws.application_state == WebSocketState.DISCONNECTED
        await ws.close()
        await ws.close(1001, "again")
        calls: list[Callable[[], Awaitable[Any]]] = [
            ws.receive_text,
            ws.receive_bytes,
            ws.receive_json,
            ws.ping,
            lambda: ws.send_text("x"),
            lambda: ws.send_bytes(b"x"),
            lambda: ws.send_json({}),
        ]
        for call in calls:
            with pytest.raises(WebSocketClosed) as caught:
                await call()
            assert isinstance(caught.value, WebSocketDisconnect)
            assert isinstance(caught.value, RuntimeError)
            assert caught.value.code == 3000
        assert [message async for message in ws] == []

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.expect((CLOSE, b"\x0b\xb8enough"))
            await steps(10)
            assert not closed.is_set()
            assert watched.sockets[0].client_state == WebSocketState.CLOSING
            await peer.send(close_frame(3000))
            assert await peer.rest() == b""
            assert await watched.outcome() is None

    run(main())


def test_close_waits_no_longer_than_close_timeout() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.close()

    async def main() -> None:
        async with talking(handler, ws_close_timeout=TIMEOUT / 20) as (peer, watched):
            assert [frame.opcode for frame in await peer.until_end()] == [CLOSE]
            assert await watched.outcome() is None

    run(main())


def test_a_close_that_is_not_awaited_is_sent() -> None:
    async def handler(ws: WebSocket) -> None:
        _ = ws.close(4000)
        assert ws.application_state == WebSocketState.CLOSING
        with pytest.raises(WebSocketClosed):
            _ = ws.send_text("x")

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.expect((CLOSE, b"\x0f\xa0"))
            await peer.send(close_frame(4000))
            assert await peer.rest() == b""
            assert await watched.outcome() is None

    run(main())


def test_closes_from_several_tasks_send_one_close_and_all_wait() -> None:
    async def handler(ws: WebSocket) -> None:
        await asyncio.gather(*(ws.close(code) for code in (4000, 4001, 4002)))

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.expect((CLOSE, b"\x0f\xa0"))
            await peer.send(close_frame(4000))
            assert await peer.rest() == b""
            assert await watched.outcome() is None

    run(main())


def test_a_simultaneous_close_sends_one_close_each() -> None:
    proceed = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await proceed.wait()
        await ws.close(4000)

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            # Both have sent theirs before either has read the other's.
            proceed.set()
            await peer.send(close_frame(4001))
            frames = await peer.until_end()
            assert [frame.opcode for frame in frames] == [CLOSE]
            assert await watched.outcome() is None

    run(main())


@pytest.mark.parametrize("count", range(6))
def test_a_close_that_races_with_the_peers_close(count: int) -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.receive_text()
        await steps(count)
        await ws.close(4000)
        await ws.close(4000)

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.send(build(b"x"))
            await peer.send(close_frame(4001))
            frames = await peer.until_end()
            assert [frame.opcode for frame in frames] == [CLOSE]
            assert frames[0].payload in (b"\x0f\xa0", b"\x0f\xa1")
            assert await watched.outcome() is None

    run(main())


def test_close_ends_a_receive_of_another_task() -> None:
    async def handler(ws: WebSocket) -> None:
        receiving = asyncio.create_task(ws.receive_text())
        await steps(2)
        _ = ws.close()
        with pytest.raises(WebSocketClosed):
            await receiving

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.expect((CLOSE, b"\x03\xe8"))
            await peer.send(close_frame(1000))
            assert await watched.outcome() is None

    run(main())


def test_a_peer_that_still_sends_sees_the_close_and_no_reset() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.receive_bytes()
        await ws.send_text("last words")

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.send(build(bytes(64 * KIB), BINARY) * 100)
            assert await watched.outcome() is None
            await peer.expect((TEXT, b"last words"), (CLOSE, b"\x03\xe8"))
            await peer.send(build(bytes(64 * KIB), BINARY) * 10 + close_frame(1000))
            assert await peer.rest() == b""

    run(main())


def test_a_ping_after_our_close_is_answered_and_messages_are_dropped() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.close()

    async def main() -> None:
        async with talking(handler) as (peer, _):
            await peer.expect((CLOSE, b"\x03\xe8"))
            await peer.send(build(b"dropped") + build(b"still there?", PING) + build(b"dropped"))
            await peer.expect((PONG, b"still there?"))
            await peer.send(close_frame(1000))
            assert await peer.rest() == b""

    run(main())


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65536])
def test_a_bad_close_code_is_a_valueerror_before_anything_is_sent(code: int) -> None:
    async def handler(ws: WebSocket) -> None:
        with pytest.raises(ValueError, match=str(code)):
            await ws.close(code)
        await ws.send_text("alive")
        await ws.close(4000)

    async def main() -> None:
        async with talking(handler) as (peer, _):
            await peer.expect((TEXT, b"alive"), (CLOSE, b"\x0f\xa0"))

    run(main())


@pytest.mark.parametrize("reason", ["x" * 124, "ä" * 62, "\ud800"])
def test_a_bad_close_reason_is_a_valueerror_before_anything_is_sent(reason: str) -> None:
    async def handler(ws: WebSocket) -> None:
        with pytest.raises(ValueError):
            await ws.close(4000, reason)
        await ws.close(4000, "ä" * 61 + "x")

    async def main() -> None:
        async with talking(handler) as (peer, _):
            await peer.expect((CLOSE, b"\x0f\xa0" + ("ä" * 61 + "x").encode()))

    run(main())
