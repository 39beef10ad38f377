"""What a handler's outcome does to its connection, before and after accept()."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fastws import (
    HTTPException,
    WebSocket,
    WebSocketClosed,
    WebSocketDisconnect,
    WebSocketException,
    WebSocketState,
    WebSocketTypeError,
)
from tests.connections import (
    MIB,
    Handler,
    Watched,
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
    Peer,
    build,
    close_frame,
    websocket,
)
from tests.serving import connect, exchange, handshake, serving, status_of
from tests.support import TIMEOUT, run

# ------------------------------------------------------------------- how a handler ends


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


# ------------------------------------------------------------------------ before accept


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
