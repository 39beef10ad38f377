"""The compiled connection on a real socket: receiving, sending, liveness, and every way to end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import json
import logging
import os
import random
import signal
import ssl
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from fastws import (
    FastWS,
    HTTPException,
    WebSocket,
    WebSocketClosed,
    WebSocketDisconnect,
    WebSocketException,
    WebSocketState,
    WebSocketTypeError,
)
from fastws._connection import Connection
from fastws._timers import TimerWheel
from tests.robustness.client import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Peer,
    build,
    close_frame,
    measured,
    websocket,
)
from tests.serving import connect, exchange, handshake, serving, status_of
from tests.support import TIMEOUT, ServerProcess, run

KIB = 1024
MIB = 1024 * KIB
SMALL_BUFFER = 8 * KIB

Handler = Callable[[WebSocket], Awaitable[Any]]


class Watched:
    """An application with one handler, of which it remembers how it went."""

    def __init__(self, handler: Handler, *, accept: bool = True, **options: Any) -> None:
        self.app = FastWS()
        self.sockets: list[WebSocket] = []
        self.outcomes: asyncio.Queue[BaseException | None] = asyncio.Queue()

        @self.app.websocket("/", **options)
        async def watched(ws: WebSocket) -> None:
            self.sockets.append(ws)
            try:
                if accept:
                    await ws.accept()
                await handler(ws)
            except BaseException as error:
                self.outcomes.put_nowait(error)
                raise
            self.outcomes.put_nowait(None)

    async def outcome(self) -> BaseException | None:
        """What the next handler to end has raised."""
        return await asyncio.wait_for(self.outcomes.get(), TIMEOUT)

    async def ended_with(self, code: int, reason: str = "") -> None:
        """The handler must end with a WebSocketDisconnect."""
        error = await self.outcome()
        assert isinstance(error, WebSocketDisconnect), error
        assert (error.code, error.reason) == (code, reason)


@contextlib.asynccontextmanager
async def talking(
    handler: Handler, *, slow: bool = False, **options: Any
) -> AsyncIterator[tuple[Peer, Watched]]:
    """A connection to a server that accepts it and then runs ``handler``.

    Parameters:
        slow: the client's kernel keeps little of what the client does not read.
        options: of the server.
    """
    watched = Watched(handler)
    async with serving(watched.app, **options) as server:
        async with websocket(server, receive_buffer=SMALL_BUFFER if slow else None) as peer:
            yield peer, watched


async def echo(ws: WebSocket) -> None:
    while True:
        message = await ws.receive_text()
        await ws.send_text(message)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until ``condition`` holds, which no event tells."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TIMEOUT
    while not condition():
        assert loop.time() < deadline, "the condition was not met in time"
        await asyncio.sleep(0.001)


async def steps(count: int) -> None:
    """Let the loop take some steps."""
    for _ in range(count):
        await asyncio.sleep(0)


def logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged at level ERROR or above; the list is emptied."""
    records = [record for record in caplog.records if record.levelno >= logging.ERROR]
    caplog.clear()
    return records


# ------------------------------------------------------------------ how a handler ends


def test_a_handler_that_returns_closes_with_1000() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.send_text("bye")

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.expect((TEXT, b"bye"), (CLOSE, b"\x03\xe8"))
            await peer.send(close_frame(1000))
            assert await peer.rest() == b""
            assert await watched.outcome() is None
            assert watched.sockets[0].close_code == 1000

    run(main())


@pytest.mark.parametrize("awaited", [True, False])
def test_the_last_message_is_whole_even_to_a_slow_reader(awaited: bool) -> None:
    content = random.Random(0).randbytes(24 * MIB)

    async def handler(ws: WebSocket) -> None:
        await ws.receive_text()
        sending = ws.send_bytes(content)
        if awaited:
            await sending

    async def main() -> None:
        # Time to answer the CLOSE counts from its arrival, not from when it was queued.
        options = {"ws_close_timeout": TIMEOUT / 10}
        async with talking(handler, slow=True, **options) as (peer, watched):
            await peer.send(build(b"now"))
            if not awaited:
                assert await watched.outcome() is None
            header = await peer.exactly(10)
            assert header[0] == 0x80 | BINARY
            received = bytearray()
            for number in range(8):
                received += await peer.exactly(len(content) // 8)
                if number % 2:
                    await asyncio.sleep(TIMEOUT / 20)
            assert received == content
            await peer.expect((CLOSE, b"\x03\xe8"))
            await peer.send(close_frame(1000))
            assert await peer.rest() == b""

    run(main())


def test_a_handler_that_raises_closes_with_1011_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.send_text("before")
        raise LookupError("the handler's own")

    async def main() -> None:
        async with talking(handler) as (peer, _):
            await peer.expect((TEXT, b"before"), (CLOSE, b"\x03\xf3"))
            await peer.send(close_frame(1011))
            assert await peer.rest() == b""

    run(main())
    (record,) = logged(caplog)
    assert record.name == "fastws.error"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (WebSocketException(1008, "not allowed"), 1008, "not allowed"),
        (WebSocketException(4999), 4999, ""),
        (WebSocketDisconnect(1001), 1000, ""),
    ],
)
def test_exceptions_that_are_ends_are_no_errors(
    error: Exception, code: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(ws: WebSocket) -> None:
        raise error

    async def main() -> None:
        async with talking(handler) as (peer, _):
            await peer.expect((CLOSE, code.to_bytes(2, "big") + reason.encode()))
            await peer.send(close_frame(code))
            assert await peer.rest() == b""

    run(main())
    assert logged(caplog) == []


@pytest.mark.parametrize(
    "error",
    [
        WebSocketException(1005),
        WebSocketException(1000, "x" * 124),
        HTTPException(404),
        SystemError(),
    ],
)
def test_exceptions_that_cannot_be_a_close_close_with_1011(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(ws: WebSocket) -> None:
        raise error

    async def main() -> None:
        async with talking(handler) as (peer, _):
            await peer.expect((CLOSE, b"\x03\xf3"))
            await peer.send(close_frame(1011))
            assert await peer.rest() == b""

    run(main())
    assert len(logged(caplog)) == 1


@pytest.mark.parametrize(
    ("method", "opcode"),
    [("text", BINARY), ("bytes", TEXT), ("json", BINARY), ("binary json", TEXT)],
)
def test_a_message_of_the_other_kind(
    method: str, opcode: int, caplog: pytest.LogCaptureFixture
) -> None:
    caught: list[WebSocketTypeError] = []

    async def handler(ws: WebSocket) -> None:
        async def receive() -> None:
            if method == "text":
                await ws.receive_text()
            elif method == "bytes":
                await ws.receive_bytes()
            else:
                await ws.receive_json("text" if method == "json" else "binary")

        try:
            await receive()
        except WebSocketTypeError as error:
            caught.append(error)
        await receive()

    async def main() -> None:
        async with talking(handler) as (peer, _):
            await peer.send(build(b"x", opcode) * 2)
            answer, payload = await peer.frame()
            assert (answer, payload[:2]) == (CLOSE, b"\x03\xeb")
            assert b"receive" in payload
            await peer.send(close_frame(1003))
            assert await peer.rest() == b""

    run(main())
    assert logged(caplog) == []
    assert isinstance(caught[0], TypeError)
    assert caught[0].data == ("x" if opcode == TEXT else b"x")


def test_a_cancelled_handler_closes_with_1011() -> None:
    async def handler(ws: WebSocket) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await ws.receive()

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.expect((CLOSE, b"\x03\xf3"))
            assert isinstance(await watched.outcome(), asyncio.CancelledError)
            await peer.send(close_frame(1011))
            assert await peer.rest() == b""

    run(main())


def test_own_close_drops_what_came_before_the_peers_close() -> None:
    async def handler(ws: WebSocket) -> None:
        assert await ws.receive_text() == "0"
        await ws.close(4000)
        with pytest.raises(WebSocketDisconnect) as caught:
            await ws.receive_text()
        assert caught.value.code == 4001
        with pytest.raises(WebSocketDisconnect):
            await ws.send_text("x")

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.send(build(b"0") + build(b"1") + build(b"2") + close_frame(4001))
            assert await peer.ended() == (4001, "")
            assert await watched.outcome() is None

    run(main())


@pytest.mark.parametrize("how", ["return", "raise", "close"])
def test_a_handler_that_ends_while_more_frames_wait_drops_them(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    code = 1011 if how == "raise" else 1000
    got = []

    async def handler(ws: WebSocket) -> None:
        got.append(await ws.receive_text())
        if how == "raise":
            raise LookupError
        if how == "close":
            await ws.close()
            with pytest.raises(WebSocketClosed):
                await ws.receive_text()

    async def main() -> None:
        frames = b"".join(build(b"%d" % number) for number in range(1, 100))
        async with talking(handler) as (peer, _):
            # Among them PING: an answer may come, a message of the application may not.
            await peer.send(build(b"0") + frames + build(b"", PING) + build(b"", 15))
            opcode, payload = await peer.frame()
            if opcode == PONG:
                opcode, payload = await peer.frame()
            assert (opcode, payload) == (CLOSE, code.to_bytes(2, "big"))
            await peer.until_end()
            assert got == ["0"]

    run(main())
    assert len(logged(caplog)) == (how == "raise")


# --------------------------------------------------------------------- before accept


def refusal(handler: Handler, **options: Any) -> tuple[int, bytes, bytes]:
    """What a handler that does not accept makes of a handshake: status, head and body."""

    async def main() -> tuple[int, bytes, bytes]:
        watched = Watched(handler, accept=False)
        async with serving(watched.app, **options) as server:
            answer = await exchange(server, handshake() + build(b"early"))
            head, _, body = answer.partition(b"\r\n\r\n")
            return status_of(answer), head, body

    return run(main())


def test_raising_before_accept_is_500(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(ws: WebSocket) -> None:
        raise LookupError("secret")

    status, head, body = refusal(handler)
    assert status == 500
    assert b"secret" not in head + body
    assert len(logged(caplog)) == 1


def test_an_http_exception_before_accept_is_that_response(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(ws: WebSocket) -> None:
        raise HTTPException(401, {"who": "are you?"}, {"WWW-Authenticate": "Bearer"})

    status, head, body = refusal(handler)
    assert status == 401
    assert json.loads(body) == {"detail": {"who": "are you?"}}
    assert b"\r\nWWW-Authenticate: Bearer" in head
    assert b"\r\nContent-Type: application/json" in head
    assert logged(caplog) == []


@pytest.mark.parametrize("with_reason", [True, False])
def test_close_before_accept_is_403(with_reason: bool) -> None:
    async def handler(ws: WebSocket) -> None:
        await (ws.close(1008, "no") if with_reason else ws.close())
        assert ws.client_state == ws.application_state == WebSocketState.DISCONNECTED
        with pytest.raises(RuntimeError):
            await ws.accept()
        with pytest.raises(WebSocketClosed):
            await ws.receive()
        with pytest.raises(WebSocketClosed):
            await ws.send_text("x")
        await ws.close()

    assert refusal(handler)[0] == 403


def test_a_websocket_exception_before_accept_is_403(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(ws: WebSocket) -> None:
        raise WebSocketException(1008)

    assert refusal(handler)[0] == 403
    assert logged(caplog) == []


def test_returning_without_accept_is_500(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(ws: WebSocket) -> None:
        return

    assert refusal(handler)[0] == 500
    (record,) = logged(caplog)
    assert "accept" in record.getMessage()


def test_not_accepting_in_time_is_503(caplog: pytest.LogCaptureFixture) -> None:
    cancelled = []

    async def handler(ws: WebSocket) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    assert refusal(handler, ws_accept_timeout=TIMEOUT / 25)[0] == 503
    assert cancelled == [True]
    (record,) = logged(caplog)
    assert "ws-accept-timeout" in record.getMessage()


def test_a_denial_response() -> None:
    async def handler(ws: WebSocket) -> None:
        with pytest.raises(ValueError, match="header"):
            await ws.send_denial_response(429, {"bad name": "x"})
        await ws.send_denial_response(429, {"Retry-After": "10"}, "slow down")
        with pytest.raises(RuntimeError):
            await ws.send_denial_response(429)
        with pytest.raises(RuntimeError):
            await ws.accept()

    status, head, body = refusal(handler)
    assert (status, body) == (429, b"slow down")
    assert b"\r\nRetry-After: 10" in head


def test_nothing_is_received_or_sent_before_accept() -> None:
    async def handler(ws: WebSocket) -> None:
        calls: list[Callable[[], Awaitable[Any]]] = [
            ws.receive,
            ws.receive_text,
            ws.receive_bytes,
            ws.receive_json,
            ws.ping,
            lambda: ws.send_text("x"),
            lambda: ws.send_bytes(b"x"),
            lambda: ws.send_json({}),
            ws.__aiter__().__anext__,
        ]
        for call in calls:
            with pytest.raises(RuntimeError, match="accept"):
                await call()
        assert ws.client_state == ws.application_state == WebSocketState.CONNECTING
        await ws.accept()
        assert await ws.receive_text() == "early"
        with pytest.raises(RuntimeError, match="accepted already"):
            await ws.accept()
        with pytest.raises(RuntimeError):
            await ws.send_denial_response(404)
        await ws.send_text("done")

    async def main() -> None:
        watched = Watched(handler, accept=False)
        async with serving(watched.app) as server, websocket(server, early=build(b"early")) as peer:
            await peer.expect((TEXT, b"done"), (CLOSE, b"\x03\xe8"))
            await peer.send(close_frame(1000))
            assert await watched.outcome() is None

    run(main())


@pytest.mark.parametrize("how", ["reset", "eof"])
def test_a_peer_that_leaves_before_accept(how: str, caplog: pytest.LogCaptureFixture) -> None:
    lost = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await lost.wait()
        await ws.accept()

    async def main() -> None:
        watched = Watched(handler, accept=False)
        async with serving(watched.app) as server:
            async with connect(server) as client:
                peer = Peer(client.reader, client.writer)
                await peer.send(handshake())
                await until(lambda: watched.sockets)
                if how == "reset":
                    peer.reset()
                else:
                    await peer.close()
            await steps(5)
            await until(lambda: watched.sockets[0].application_state.is_over)
            lost.set()
            await watched.ended_with(1006)

    run(main())
    assert logged(caplog) == []


# ------------------------------------------------------------------- how a peer ends


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


# -------------------------------------------------------- sends from other handlers


@contextlib.asynccontextmanager
async def a_dead_peer_and_another(
    listener: Handler, talker: Callable[[WebSocket, WebSocket], Awaitable[Any]], **options: Any
) -> AsyncIterator[Watched]:
    """Run ``listener`` on a connection that is then lost, and ``talker`` with both on another."""
    sockets: list[WebSocket] = []

    async def handler(ws: WebSocket) -> None:
        sockets.append(ws)
        if len(sockets) == 1:
            await listener(ws)
        else:
            await ws.receive_text()
            await talker(sockets[0], ws)

    watched = Watched(handler)
    watched.app.strict_send = options.pop("strict_send", False)
    async with serving(watched.app, **options) as server:
        async with websocket(server) as dead, websocket(server) as alive:
            await until(lambda: len(sockets) == 2)
            dead.reset()
            await until(lambda: sockets[0].application_state.is_over)
            await alive.send(build(b"talk"))
            yield watched


def test_a_broadcast_does_not_end_the_wrong_handler() -> None:
    told = asyncio.Event()

    async def listener(ws: WebSocket) -> None:
        await told.wait()
        with pytest.raises(WebSocketDisconnect) as caught:
            await ws.receive_text()
        assert caught.value.code == 1006
        told.clear()
        await told.wait()

    async def talker(dead: WebSocket, own: WebSocket) -> None:
        for _ in range(3):
            await dead.send_text("quiet")
            await dead.send_bytes(b"quiet")
            await dead.send_json("quiet")
        await asyncio.create_task(dead.send_text("from a task of this handler"))
        await own.send_text("alive")
        # Once its own handler knows, everybody does.
        told.set()
        await until(lambda: not told.is_set())
        with pytest.raises(WebSocketDisconnect) as caught:
            await dead.send_text("loud")
        assert caught.value.code == 1006
        told.set()

    async def main() -> None:
        async with a_dead_peer_and_another(listener, talker) as watched:
            assert [await watched.outcome(), await watched.outcome()] == [None, None]

    run(main())


def test_a_send_of_its_own_handler_or_of_a_task_of_it_raises() -> None:
    begin = asyncio.Event()

    async def listener(ws: WebSocket) -> None:
        async def send() -> None:
            await begin.wait()
            await ws.send_text("from a task")

        sending = asyncio.create_task(send())
        with pytest.raises(WebSocketDisconnect):
            await sending

    async def talker(dead: WebSocket, own: WebSocket) -> None:
        begin.set()

    async def main() -> None:
        async with a_dead_peer_and_another(listener, talker) as watched:
            assert [await watched.outcome(), await watched.outcome()] == [None, None]

    run(main())


def test_strict_send_raises_everywhere() -> None:
    done = asyncio.Event()

    async def listener(ws: WebSocket) -> None:
        await done.wait()

    async def talker(dead: WebSocket, own: WebSocket) -> None:
        with pytest.raises(WebSocketDisconnect):
            await dead.send_text("loud")
        done.set()

    async def main() -> None:
        async with a_dead_peer_and_another(listener, talker, strict_send=True) as watched:
            assert [await watched.outcome(), await watched.outcome()] == [None, None]

    run(main())


def test_a_send_to_a_connection_that_this_application_closed_raises_everywhere() -> None:
    done = asyncio.Event()

    async def listener(ws: WebSocket) -> None:
        _ = ws.close(4000)
        await done.wait()

    async def talker(dead: WebSocket, own: WebSocket) -> None:
        with pytest.raises(WebSocketClosed):
            await dead.send_text("loud")
        done.set()

    async def main() -> None:
        async with a_dead_peer_and_another(listener, talker) as watched:
            assert [await watched.outcome(), await watched.outcome()] == [None, None]

    run(main())


# ----------------------------------------------------------------------- own close


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


# --------------------------------------------------- cancelled and timed-out receives


async def number_sender(peer: Peer, count: int, chosen: random.Random) -> None:
    """Send the numbers up to ``count`` in bursts, with pauses of a few steps of the loop."""
    number = 0
    while number < count:
        burst = min(chosen.choice((1, 1, 1, 2, 5)), count - number)
        await peer.send(b"".join(build(b"%d" % (number + i)) for i in range(burst)))
        number += burst
        await steps(chosen.randrange(6))


def nothing_is_lost(receive: Callable[[WebSocket, random.Random], Awaitable[str | None]]) -> None:
    """Receive by a way that may give up (None): nothing may be lost, doubled or out of order."""
    count = 400
    chosen = random.Random(8)
    got: list[str] = []

    async def handler(ws: WebSocket) -> None:
        while len(got) < count:
            message = await receive(ws, chosen)
            if message is not None:
                got.append(message)
        await ws.send_text("all")
        with pytest.raises(WebSocketDisconnect):
            await ws.receive_text()

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            sending = asyncio.create_task(number_sender(peer, count, chosen))
            await peer.expect((TEXT, b"all"))
            await sending
            await peer.end()
            assert await watched.outcome() is None
            assert got == [str(number) for number in range(count)]

    run(main())


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_receive_cancelled_at_any_step_loses_nothing(wrapped: bool) -> None:
    given_up = []

    async def in_a_coroutine(ws: WebSocket) -> str:
        return await ws.receive_text()

    async def receive(ws: WebSocket, chosen: random.Random) -> str | None:
        task: asyncio.Task[str] = asyncio.create_task(
            in_a_coroutine(ws) if wrapped else ws.receive_text()
        )
        await steps(chosen.randrange(5))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            return await task
        assert task.cancelled()
        given_up.append(True)
        return None

    nothing_is_lost(receive)
    assert len(given_up) > 20


def test_a_receive_cancelled_around_its_wake_up_keeps_the_message() -> None:
    done = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await done.wait()

    async def main() -> None:
        ends = set()
        async with talking(handler) as (peer, watched):
            await until(lambda: watched.sockets)
            for number in range(100):
                receiving = asyncio.create_task(watched.sockets[0].receive_text())
                await steps(2)
                peer.writer.write(build(b"%d" % number))
                # One of these counts is the step between the wake-up and the task's turn.
                await steps(number % 10)
                receiving.cancel()
                await asyncio.wait({receiving})
                ends.add(receiving.cancelled())
                if receiving.cancelled():
                    assert await watched.sockets[0].receive_text() == str(number)
                else:
                    assert receiving.result() == str(number)
            done.set()
        assert ends == {True, False}

    run(main())


def test_wait_for_loses_nothing() -> None:
    async def receive(ws: WebSocket, chosen: random.Random) -> str | None:
        with contextlib.suppress(asyncio.TimeoutError):
            return await asyncio.wait_for(ws.receive_text(), chosen.random() / 1000)
        return None

    nothing_is_lost(receive)


def test_asyncio_timeout_loses_nothing() -> None:
    # New in CPython 3.11, and in its stubs.
    timeout: Callable[[float], AbstractAsyncContextManager[Any]]
    timeout = getattr(asyncio, "timeout", None) or pytest.skip("there is no asyncio.timeout")

    async def receive(ws: WebSocket, chosen: random.Random) -> str | None:
        with contextlib.suppress(TimeoutError):
            async with timeout(chosen.random() / 1000):
                return await ws.receive_text()
        return None

    nothing_is_lost(receive)


def test_a_receive_with_a_timeout_loses_nothing() -> None:
    async def receive(ws: WebSocket, chosen: random.Random) -> str | None:
        with contextlib.suppress(TimeoutError):
            return await ws.receive_text(timeout=chosen.random() / 1000)
        return None

    nothing_is_lost(receive)


def test_receives_with_a_timeout_raise_timeouterror() -> None:
    async def handler(ws: WebSocket) -> None:
        short = TIMEOUT / 500
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: ws.receive(timeout=short),
            lambda: ws.receive_text(timeout=short),
            lambda: ws.receive_bytes(timeout=short),
            lambda: ws.receive_json(timeout=short),
            lambda: ws.receive_text(timeout=0),
        ]
        for call in calls:
            with pytest.raises(TimeoutError, match="no message"):
                await call()
            with pytest.raises(asyncio.TimeoutError):
                await call()
        await ws.send_text("now")
        assert await ws.receive_text(timeout=TIMEOUT) == "1"
        # What is there already comes, however short the time.
        await ws.receive_text()
        assert await ws.receive_text(timeout=0) == "3"

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.expect((TEXT, b"now"))
            await peer.send(build(b"1") + build(b"2") + build(b"3"))
            assert await watched.outcome() is None

    run(main())


def test_a_shielded_receive_survives_the_cancellation_of_who_waits() -> None:
    async def handler(ws: WebSocket) -> None:
        receiving = asyncio.ensure_future(ws.receive_text())

        async def wait() -> str:
            return await asyncio.shield(receiving)

        waiting = asyncio.create_task(wait())
        await steps(2)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled()
        await ws.send_text("now")
        assert await receiving == "kept"

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.expect((TEXT, b"now"))
            await peer.send(build(b"kept"))
            assert await watched.outcome() is None

    run(main())


def test_two_receives_at_once_raise_and_the_first_goes_on() -> None:
    async def handler(ws: WebSocket) -> None:
        first = asyncio.create_task(ws.receive_text())
        await steps(2)
        for call in (ws.receive_text, ws.receive, ws.__aiter__().__anext__):
            with pytest.raises(RuntimeError, match="another task"):
                await call()
        await ws.send_text("now")
        assert await first == "for the first"

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.expect((TEXT, b"now"))
            await peer.send(build(b"for the first"))
            assert await watched.outcome() is None

    run(main())


# ------------------------------------------------------- what the verbs return


def test_what_the_verbs_return_is_taken_wherever_a_coroutine_is() -> None:
    async def handler(ws: WebSocket) -> None:
        for made in (ws.send_text("a"), ws.receive_text(), ws.send_bytes(b"b"), ws.receive()):
            assert inspect.isawaitable(made)
            assert asyncio.iscoroutine(made)
            made.close()
        assert await asyncio.create_task(ws.receive_text()) == "0"
        assert await asyncio.ensure_future(ws.receive_text()) == "1"
        assert await asyncio.wait_for(ws.receive_text(), TIMEOUT) == "2"
        assert await asyncio.shield(ws.receive_text()) == "3"
        received, sent = await asyncio.gather(ws.receive_text(), ws.send_text("c"))
        assert (received, sent) == ("4", None)
        done, _ = await asyncio.wait(
            {asyncio.create_task(ws.receive_text()), asyncio.create_task(ws.send_text("d"))},
            timeout=TIMEOUT,
        )
        assert {task.result() for task in done} == {"5", None}
        await asyncio.create_task(ws.send_text("e"))
        await asyncio.wait_for(ws.send_text("f"), TIMEOUT)
        if sys.version_info >= (3, 11):
            async with asyncio.TaskGroup() as group:
                receiving = group.create_task(ws.receive_text())
                group.create_task(ws.send_text("g"))
            assert receiving.result() == "6"
        await asyncio.create_task(ws.close(4000))

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.send(b"".join(build(b"%d" % number) for number in range(7)))
            await peer.expect((TEXT, b"a"), (BINARY, b"b"), (TEXT, b"c"), (TEXT, b"d"))
            await peer.expect((TEXT, b"e"), (TEXT, b"f"))
            if sys.version_info >= (3, 11):
                await peer.expect((TEXT, b"g"))
            await peer.expect((CLOSE, b"\x0f\xa0"))
            await peer.send(close_frame(4000))
            assert await watched.outcome() is None

    run(main())


def test_a_receive_that_nobody_awaits_takes_nothing_and_warns_of_nothing() -> None:
    async def handler(ws: WebSocket) -> None:
        for _ in range(3):
            _ = ws.receive_text(), ws.receive(), ws.receive_json()
        gc.collect()
        assert await ws.receive_text() == "first"

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.send(build(b"first"))
            assert await watched.outcome() is None

    run(main())


def test_a_receive_is_awaited_once() -> None:
    async def handler(ws: WebSocket) -> None:
        receiving = ws.receive_text()
        assert await receiving == "1"
        with pytest.raises(RuntimeError, match="awaited before"):
            await receiving
        assert await ws.receive_text() == "2"

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.send(build(b"1") + build(b"2"))
            assert await watched.outcome() is None

    run(main())


def test_a_receive_driven_by_hand() -> None:
    async def handler(ws: WebSocket) -> None:
        assert await ws.receive_text() == "0"
        receiving = ws.receive_text()
        with pytest.raises(StopIteration) as stopped:
            receiving.send(None)
        assert stopped.value.value == "1"
        receiving = ws.receive_text()
        future = receiving.send(None)
        assert future is not None
        with pytest.raises(LookupError):
            receiving.throw(LookupError("from outside"))
        # The connection has forgotten it.
        await ws.send_text("now")
        assert await ws.receive_text() == "2"

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.send(build(b"0") + build(b"1"))
            await peer.expect((TEXT, b"now"))
            await peer.send(build(b"2"))
            assert await watched.outcome() is None

    run(main())


def test_the_handlers_task_is_an_ordinary_task_with_its_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen = []

    async def handler(ws: WebSocket) -> None:
        task = asyncio.current_task()
        assert type(task) is asyncio.Task
        name = await ws.receive_text()
        variable.set(name)
        await ws.send_text("set")
        await ws.receive_text()
        seen.append((name, variable.get()))
        assert asyncio.current_task() is task

    async def main() -> None:
        watched = Watched(handler)
        async with serving(watched.app) as server:
            async with websocket(server) as one, websocket(server) as other:
                for peer, name in ((one, b"one"), (other, b"other")):
                    await peer.send(build(name))
                    await peer.expect((TEXT, b"set"))
                for peer in (one, other):
                    await peer.send(build(b""))
                assert await watched.outcome() is None
                assert await watched.outcome() is None
        assert sorted(seen) == [("one", "one"), ("other", "other")]

    run(main())


# -------------------------------------------------------------------------- sending


def test_sends_from_many_tasks_never_interleave() -> None:
    tasks, messages = 20, 20
    sizes = (0, 1, 125, 126, 3000, 65535, 65536, 200_000)

    async def handler(ws: WebSocket) -> None:
        async def send(number: int) -> None:
            chosen = random.Random(number)
            for index in range(messages):
                body = bytes([number]) * chosen.choice(sizes)
                await ws.send_bytes(bytes([number, index]) + body)

        await asyncio.gather(*(send(number) for number in range(tasks)))

    async def main() -> None:
        async with talking(handler, slow=True) as (peer, watched):
            following = [0] * tasks
            for _ in range(tasks * messages):
                opcode, payload = await peer.frame()
                assert opcode == BINARY
                number, index = payload[0], payload[1]
                assert index == following[number]
                following[number] += 1
                assert payload[2:] == bytes([number]) * (len(payload) - 2)
                assert len(payload) - 2 in sizes
            await peer.expect((CLOSE, b"\x03\xe8"))
            assert await watched.outcome() is None

    run(main())


def test_messages_are_queued_at_the_call_in_call_order() -> None:
    async def handler(ws: WebSocket) -> None:
        sends = [ws.send_text(str(number)) for number in range(10)]
        _ = ws.send_bytes(b"not awaited")
        for send in reversed(sends):
            await send

    async def main() -> None:
        async with talking(handler) as (peer, _):
            await peer.expect(*((TEXT, b"%d" % number) for number in range(10)))
            await peer.expect((BINARY, b"not awaited"), (CLOSE, b"\x03\xe8"))

    run(main())


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 3 * MIB])
def test_messages_of_any_size(size: int) -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.send_text("x" * size)
        await ws.send_bytes(bytes(size))
        await ws.send_text("€" * (size // 3))
        await ws.send_text(memoryview(b"x" * size))

    async def main() -> None:
        async with talking(handler) as (peer, _):
            await peer.expect((TEXT, b"x" * size), (BINARY, bytes(size)))
            await peer.expect((TEXT, "€".encode() * (size // 3)), (TEXT, b"x" * size))

    run(main())


def test_what_cannot_be_sent_raises_and_sends_nothing() -> None:
    async def handler(ws: WebSocket) -> None:
        number: Any = 5
        nothing: Any = None
        text: Any = "text"
        calls: list[tuple[Callable[[], Awaitable[None]], type[Exception]]] = [
            (lambda: ws.send_text(number), TypeError),
            (lambda: ws.send_text(nothing), TypeError),
            (lambda: ws.send_text("\ud800"), ValueError),
            (lambda: ws.send_text(b"\xff"), ValueError),
            (lambda: ws.send_bytes(text), TypeError),
            (lambda: ws.send_bytes(number), TypeError),
            (lambda: ws.send_json({"a": object()}), TypeError),
            (lambda: ws.send_json({}, mode="octal"), RuntimeError),
        ]
        for call, error in calls:
            with pytest.raises(error):
                await call()
        await ws.send_text("fine")

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.expect((TEXT, b"fine"), (CLOSE, b"\x03\xe8"))
            assert await watched.outcome() is None

    run(main())


def test_a_call_from_another_thread_raises_and_names_the_way() -> None:
    async def handler(ws: WebSocket) -> None:
        calls: list[Callable[[], Any]] = [
            ws.receive_text,
            ws.receive,
            lambda: ws.send_text("x"),
            lambda: ws.send_bytes(b"x"),
            lambda: ws.send_json({}),
            ws.close,
            ws.ping,
            ws.accept,
        ]
        for call in calls:
            with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
                await asyncio.to_thread(call)
        loop = asyncio.get_running_loop()

        async def send() -> None:
            await ws.send_text("second")

        def from_outside() -> None:
            loop.call_soon_threadsafe(ws.send_text, "first")
            asyncio.run_coroutine_threadsafe(send(), loop).result(TIMEOUT)

        await asyncio.to_thread(from_outside)

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.expect((TEXT, b"first"), (TEXT, b"second"), (CLOSE, b"\x03\xe8"))
            assert await watched.outcome() is None

    run(main())


# --------------------------------------------------------------------- flow control


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


# ----------------------------------------------------------------------- liveness


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


# ------------------------------------------------------------------ states, iteration


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


# ------------------------------------------------------------------------- shutdown


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


# --------------------------------------------------------------------------- leaks


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
