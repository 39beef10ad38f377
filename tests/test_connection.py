"""The compiled connection on a real socket: its states, its end with the server, what is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
import weakref
import zlib
from pathlib import Path
from typing import Any

import pytest

from fastws import (
    FastWS,
    WebSocket,
    WebSocketClosed,
    WebSocketDisconnect,
    WebSocketState,
    WebSocketTypeError,
)
from fastws._connection import Connection
from fastws._timers import TimerWheel
from tests.connections import (
    MIB,
    Watched,
    echo,
    steps,
    talking,
    until,
)
from tests.robustness.client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Peer,
    build,
    close_frame,
    websocket,
)
from tests.serving import connect, handshake, serving, status_of
from tests.support import TIMEOUT, ServerProcess, run

# -------------------------------------------------------------------- states, iteration


def test_states_at_each_stage() -> None:
    def check(ws: WebSocket, state: WebSocketState, number: int) -> None:
        assert ws.client_state is ws.application_state is state
        assert ws.client_state == number
        assert number == ws.application_state

    async def handler(ws: WebSocket) -> None:
        check(ws, WebSocketState.CONNECTING, 0)
        assert ws.close_code is None
        await ws.accept()
        check(ws, WebSocketState.CONNECTED, 1)
        assert await ws.receive_text() == "x"
        with pytest.raises(WebSocketDisconnect):
            await ws.receive_text()
        check(ws, WebSocketState.DISCONNECTED, 3)

    async def main() -> None:
        watched = Watched(handler, accept=False)
        async with serving(watched.app) as server, websocket(server) as peer:
            await peer.send(build(b"x") + close_frame(1000))
            assert (await peer.ended())[0] == 1000
            assert await watched.outcome() is None

    run(main())


def test_messages_that_wait_keep_the_client_connected() -> None:
    begin = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await begin.wait()
        assert ws.client_state.is_active
        assert await ws.receive_text() == "x"
        with pytest.raises(WebSocketDisconnect):
            await ws.receive_text()
        assert ws.client_state.is_over

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.send(build(b"x") + close_frame(1000))
            await steps(5)
            begin.set()
            assert (await peer.ended())[0] == 1000
            assert await watched.outcome() is None

    run(main())


@pytest.mark.parametrize("end", ["close", "eof", "reset", "error"])
def test_iterations_end_quietly_at_the_disconnect(end: str) -> None:
    got: list[Any] = []

    async def handler(ws: WebSocket) -> None:
        async for message in ws:
            got.append(message)
            if message == b"\x01":
                break
        async for text in ws.iter_text():
            got.append(text)
            if text == "b":
                break
        async for data in ws.iter_bytes():
            got.append(data)
            if data == b"\x02":
                break
        got.extend([item async for item in ws.iter_json()])

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            data = build(b"a") + build(b"\x01", BINARY) + build(b"b") + build(b"\x02", BINARY)
            await peer.send(data + build(b'{"c": null}') + build(b"null"))
            await until(lambda: len(got) == 4)
            if end == "close":
                await peer.send(close_frame(3000))
            elif end == "eof":
                peer.half_close()
            elif end == "reset":
                peer.reset()
            else:
                await peer.send(build(b"", 15))
            assert await watched.outcome() is None
            assert got == ["a", b"\x01", "b", b"\x02", {"c": None}, None]
            assert watched.sockets[0].client_state == WebSocketState.DISCONNECTED

    run(main())


def test_receive_json() -> None:
    async def handler(ws: WebSocket) -> None:
        assert await ws.receive_json() == {"a": [1, 2.5, "ä", None]}
        assert await ws.receive_json(mode="binary") == [True]
        assert await ws.receive_json() is None
        with pytest.raises(json.JSONDecodeError):
            await ws.receive_json()
        with pytest.raises(ValueError, match="line 1"):
            await ws.receive_json("binary")
        with pytest.raises(RuntimeError, match="mode"):
            await ws.receive_json("other")
        with pytest.raises(WebSocketTypeError) as caught:
            await ws.receive_json()
        assert caught.value.data == b"[]"
        await ws.send_json({"a": "ä", "b": [1, None]})
        await ws.send_json({1: 2}, mode="binary")

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.send(build('{"a": [1, 2.5, "ä", null]}'.encode()))
            await peer.send(build(b"[true]", BINARY) + build(b"null") + build(b"{"))
            await peer.send(build(b"\xff", BINARY) + build(b"[]", BINARY))
            await peer.expect((TEXT, '{"a":"ä","b":[1,null]}'.encode()), (BINARY, b'{"1":2}'))
            assert await watched.outcome() is None

    run(main())


# ------------------------------------------------------------------------------ figures

OFFER = "Sec-WebSocket-Extensions: permessage-deflate"


def test_messages_and_their_bytes_are_counted_each_way() -> None:
    async def handler(ws: WebSocket) -> None:
        for _ in range(4):
            message = await ws.receive()
            assert message.get("text") != "dropped"
        await ws.send_text("é€")
        await ws.send_bytes(bytes(1000))
        await ws.send_json({"a": 1})

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            pieces = build(b"ab", fin=False) + build(b"", PING) + build(b"cd", CONTINUATION)
            await peer.send(build(b"") + build("é".encode()) + pieces + build(bytes(300), BINARY))
            assert await watched.outcome() is None
            link = watched.sockets[0]._link
            assert (link.messages_received, link.bytes_received) == (4, 0 + 2 + 4 + 300)
            assert (link.messages_sent, link.bytes_sent) == (3, 5 + 1000 + 7)

    run(main())


@pytest.mark.parametrize("mode", ["shared", "dedicated"])
def test_bytes_are_counted_as_the_application_sees_them(mode: str) -> None:
    async def main() -> None:
        watched = Watched(echo)
        async with serving(watched.app, ws_per_message_deflate=mode) as server:
            async with websocket(server, "/", OFFER) as peer:
                compressor = zlib.compressobj(wbits=-15)
                payload = compressor.compress(bytes(5000)) + compressor.flush(zlib.Z_SYNC_FLUSH)
                await peer.send(build(payload[:-4], TEXT, rsv=4))
                frame = await peer.read_frame()
                assert frame.rsv == 4
                assert len(frame.payload) < 5000
                link = watched.sockets[0]._link
                assert (link.messages_received, link.bytes_received) == (1, 5000)
                assert (link.messages_sent, link.bytes_sent) == (1, 5000)
                await peer.end()

    run(main())


def test_the_time_of_opening_and_the_last_round_trip() -> None:
    async def handler(ws: WebSocket) -> None:
        assert ws._link.opened_at == 0
        loop = asyncio.get_running_loop()
        before = loop.time()
        await ws.accept()
        assert before <= ws._link.opened_at <= loop.time()
        assert ws._link.round_trip is None
        measured = await ws.ping()
        assert ws._link.round_trip == measured

    async def main() -> None:
        watched = Watched(handler, accept=False)
        async with serving(watched.app) as server, websocket(server) as peer:
            _, payload = await peer.frame()
            await peer.send(build(payload, PONG))
            assert await watched.outcome() is None

    run(main())


def test_what_waits_to_be_received_and_to_be_sent_is_told() -> None:
    async def handler(ws: WebSocket) -> None:
        link = ws._link
        assert (link.queued_bytes, link.unsent_bytes) == (0, 0)
        await ws.receive_text()
        await until(lambda: link.queued_bytes == 3)
        await ws.receive_text()
        assert link.queued_bytes == 0
        sending = ws.send_bytes(bytes(24 * MIB))
        assert 0 < link.unsent_bytes <= 24 * MIB + 10
        await sending

    async def main() -> None:
        async with talking(handler, slow=True) as (peer, watched):
            await peer.send(build(b"go"))
            await peer.send(build(b"abc"))
            await peer.exactly(24 * MIB + 10)
            assert await watched.outcome() is None
            link = watched.sockets[0]._link
            await peer.expect((CLOSE, b"\x03\xe8"))
            await peer.send(close_frame(1000))
            assert await peer.rest() == b""
            await until(lambda: link.unsent_bytes == 0)

    run(main())


def test_tcp_lost_behind_a_full_queue_is_1006() -> None:
    lost = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await asyncio.wait_for(lost.wait(), TIMEOUT)
        assert (ws.close_code, ws.close_reason) == (1006, "")
        # What was read is delivered nevertheless.
        assert [await ws.receive_text() for _ in range(3)] == ["x", "x", "x"]

    async def main() -> None:
        async with talking(handler, ws_max_queue=1) as (peer, watched):
            await peer.send(build(b"x") * 3)
            link = watched.sockets[0]._link
            await until(lambda: link.queued_bytes)
            peer.reset()
            await until(lambda: link.application_state is WebSocketState.DISCONNECTED)
            lost.set()
            assert await watched.outcome() is None

    run(main())


# ----------------------------------------------------------------------------- shutdown


def test_a_server_that_stops_tells_every_client_1012() -> None:
    async def main() -> None:
        watched = Watched(echo)
        async with contextlib.AsyncExitStack() as stack:
            async with serving(watched.app) as server:
                peers = [await stack.enter_async_context(websocket(server)) for _ in range(20)]
                server.stop()
                for peer in peers:
                    opcode, payload = await peer.frame()
                    assert (opcode, payload[:2]) == (CLOSE, b"\x03\xf4")
                for _ in peers:
                    error = await watched.outcome()
                    assert isinstance(error, WebSocketDisconnect)
                    assert not isinstance(error, WebSocketClosed)
                    assert error.code == 1012
                for peer in peers:
                    await peer.send(close_frame(1012))
                    assert await peer.rest() == b""

    run(main())


def test_a_server_that_stops_lets_a_handler_finish_and_refuses_what_is_not_accepted() -> None:
    finished = []

    async def handler(ws: WebSocket) -> None:
        if ws.headers.get("x-wait"):
            await asyncio.Event().wait()
        await ws.accept()
        with pytest.raises(WebSocketDisconnect):
            await ws.receive_text()
        with pytest.raises(WebSocketDisconnect):
            await ws.send_text("too late")
        await asyncio.sleep(TIMEOUT / 50)
        finished.append(True)

    async def main() -> None:
        watched = Watched(handler, accept=False)
        async with serving(watched.app) as server:
            async with websocket(server) as peer, connect(server) as waiting:
                await waiting.send(handshake("/", "X-Wait: yes"))
                await until(lambda: len(watched.sockets) == 2)
                server.stop()
                opcode, payload = await peer.frame()
                assert (opcode, payload[:2]) == (CLOSE, b"\x03\xf4")
                await peer.send(close_frame(1012))
                assert status_of(await waiting.rest()) == 503
                outcomes = [await watched.outcome(), await watched.outcome()]
                assert sorted(map(repr, outcomes)) == ["CancelledError()", "None"]
        assert finished == [True]

    run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_sigterm_tells_every_client_1012() -> None:
    async def main() -> None:
        with ServerProcess("tests.robustness.client:app") as process:
            async with contextlib.AsyncExitStack() as stack:
                peers = [await stack.enter_async_context(websocket(process)) for _ in range(10)]
                process.process.send_signal(signal.SIGTERM)
                for peer in peers:
                    opcode, payload = await peer.frame()
                    assert (opcode, payload[:2]) == (CLOSE, b"\x03\xf4")
                    await peer.send(close_frame(1012))
                    assert await peer.rest() == b""
            assert await asyncio.to_thread(process.process.wait, TIMEOUT) in (0, -signal.SIGTERM)

    run(main())


# -------------------------------------------------------------------------------- leaks


def live_connections() -> list[Connection]:
    gc.collect()
    return [thing for thing in gc.get_objects() if type(thing) is Connection]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_500_connections_leave_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    app = FastWS()
    sockets: list[weakref.ref[WebSocket]] = []

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        sockets.append(weakref.ref(ws))
        await ws.accept()
        async for message in ws:
            await ws.send_text(str(message))
            if message == "close":
                await ws.close()
            elif message == "raise":
                raise LookupError
            elif message == "return":
                return
            elif message == "ping":
                asyncio.ensure_future(ws.ping()).add_done_callback(lambda task: task.exception())

    async def one(peer: Peer, number: int) -> None:
        kind = ("close", "raise", "return", "ping", "eof", "reset", "wrong", "part")[number % 8]
        await peer.send(build(kind.encode()))
        await peer.expect((TEXT, kind.encode()))
        if kind == "eof":
            peer.half_close()
        elif kind == "wrong":
            await peer.send(build(b"", 15))
        elif kind == "part":
            await peer.send(build(b"half", length=100))
        if kind in ("reset", "part", "ping"):
            peer.reset()
        else:
            if kind != "eof":
                await peer.send_if_possible(close_frame(1000))
            await peer.until_end()

    async def main() -> None:
        async with serving(app, access_log=False) as server:
            # Those of other tests, whose exceptions pytest keeps; kept here as well, so that none
            # of their addresses is used again.
            earlier = live_connections()
            tasks_before = len(asyncio.all_tasks())
            files_before = open_files()
            for _ in range(10):
                async with contextlib.AsyncExitStack() as stack:
                    peers = [await stack.enter_async_context(websocket(server)) for _ in range(50)]
                    await asyncio.gather(*(one(peer, n) for n, peer in enumerate(peers)))
                    del peers
            await until(lambda: len(asyncio.all_tasks()) == tasks_before)
            await until(lambda: set(map(id, live_connections())) <= set(map(id, earlier)))
            await until(lambda: open_files() == files_before)
            assert len(sockets) == 500
            assert [ref for ref in sockets if ref() is not None] == []
            wheels = [thing for thing in gc.get_objects() if type(thing) is TimerWheel]
            await until(lambda: [wheel.scheduled for wheel in wheels if wheel.scheduled] == [])

    # A traceback that was logged would hold a handler's frame, and with it all the rest.
    with caplog.at_level(logging.CRITICAL, "fastws.error"):
        run(main())
