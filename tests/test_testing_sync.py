"""The test client without async: Starlette's names, on a loop that turns when called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastws.app import FastWS
from fastws.exceptions import WebSocketDisconnect, WebSocketException
from fastws.testing import (
    NotInTime,
    TestClient,
    WebSocketDenialResponse,
    WebSocketTestSession,
)
from fastws.websocket import WebSocket
from tests.support import TIMEOUT, loop_factory

started: list[str] = []


async def lifespan(app: FastWS) -> AsyncIterator[None]:
    started.append("start")
    yield
    started.append("end")


app = FastWS(lifespan=lifespan)


@app.websocket("/echo")
async def echo(ws: WebSocket) -> None:
    await ws.accept(ws.subprotocols[0] if ws.subprotocols else None, headers={"X-Own": "1"})
    async for message in ws:
        if isinstance(message, str):
            await ws.send_text(message)
        else:
            await ws.send_bytes(message)


@app.websocket("/fails")
async def fails(ws: WebSocket) -> None:
    await ws.accept()
    await ws.receive_text()
    raise LookupError("as it must")


@app.websocket("/refuses")
async def refuses(ws: WebSocket) -> None:
    raise WebSocketException(1008, "not you")


@app.websocket("/ticks")
async def ticks(ws: WebSocket) -> None:
    await ws.accept()
    for number in range(10):
        await asyncio.sleep(60)
        await ws.send_json(number)
    await ws.close(4000, "done")


@app.get("/page")
def page() -> str:
    return "a page"


@pytest.fixture(autouse=True)
def nothing_started() -> None:
    started.clear()


def client(**options: Any) -> TestClient:
    return TestClient(app, timeout=TIMEOUT, loop_factory=loop_factory, **options)


def test_a_conversation() -> None:
    with client() as served:
        assert started == ["start"]
        assert served.is_open
        assert served.app is app
        with served.websocket_connect("/echo", ["chat", "other"]) as session:
            assert isinstance(session, WebSocketTestSession)
            assert session.accepted_subprotocol == "chat"
            assert session.extra_headers == [(b"x-own", b"1")]
            session.send_text("text")
            assert session.receive_text() == "text"
            session.send_bytes(b"bytes")
            assert session.receive_bytes() == b"bytes"
            session.send_json({"a": 1})
            assert session.receive_json() == {"a": 1}
            session.send_json([2], mode="binary")
            assert session.receive_json(mode="binary") == [2]
            assert session.ping() < TIMEOUT
            assert len(session.frames) == 5
            assert session.raw_received.startswith(b"HTTP/1.1 101")
            session.close(1001, "bye")
            # A server answers with the code alone.
            assert (session.close_code, session.close_reason) == (1001, "")
        assert served.get("/page").text == "a page"
        assert served.head("/page").status_code == 200
    assert started == ["start", "end"]
    assert not served.is_open
    assert served.leaks == []


def test_events_have_the_names_of_asgi() -> None:
    with client() as served, served.websocket_connect("/echo") as session:
        session.send({"type": "websocket.receive", "text": "text"})
        assert session.receive() == {"type": "websocket.send", "text": "text"}
        session.send({"type": "websocket.receive", "bytes": b"bytes"})
        assert session.receive() == {"type": "websocket.send", "bytes": b"bytes"}
        with pytest.raises(ValueError, match=r"expected 'websocket\.receive'"):
            session.send({"type": "websocket.send", "text": "text"})
        session.send({"type": "websocket.disconnect", "code": 4001, "reason": "gone"})
        with pytest.raises(WebSocketDisconnect):
            session.receive_text()
    with client() as served, served.websocket_connect("/ticks") as session:
        served.advance(600)
        assert [session.receive_json() for _ in range(10)] == list(range(10))
        assert session.receive() == {"type": "websocket.close", "code": 4000, "reason": "done"}


def test_without_a_block_it_serves_for_as_long_as_it_is_used() -> None:
    served = client()
    with served.websocket_connect("/echo") as one, served.websocket_connect("/echo") as two:
        one.send_text("1")
        two.send_text("2")
        assert (one.receive_text(), two.receive_text()) == ("1", "2")
        assert served.get("/page").text == "a page"
    assert not served.is_open
    assert served.get("/page").text == "a page"
    # As with Starlette's.
    assert started == []


def test_when_a_call_returns_nothing_more_can_happen() -> None:
    heard = []
    own = FastWS()

    @own.websocket("/")
    async def listens(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            await asyncio.sleep(0)
            heard.append(message)

    with TestClient(own, timeout=TIMEOUT) as served, served.websocket_connect("/") as session:
        for number in range(3):
            session.send_text(str(number))
            assert len(heard) == number + 1
        session.send_raw(b"\x81\x81\0\0\0\0x")
        assert heard[-1] == "x"


def test_failures_are_raised_with_their_traceback() -> None:
    with client() as served:
        with served.websocket_connect("/fails") as session:
            session.send_text("go")
            with pytest.raises(LookupError, match="as it must") as caught:
                session.receive_text()
        assert caught.traceback[-1].name == "fails"
        with pytest.raises(LookupError):
            with served.websocket_connect("/fails") as session:
                session.send_text("go")


def test_refusals() -> None:
    with client() as served:
        with pytest.raises(WebSocketDenialResponse) as denied:
            with served.websocket_connect("/refuses"):
                pass
        assert denied.value.status_code == 403
        # Whoever only knows Starlette's.
        with pytest.raises(WebSocketDisconnect):
            with served.websocket_connect("/nowhere"):
                pass
    with pytest.raises(WebSocketDenialResponse):
        with client().websocket_connect("/nowhere"):
            pass


def test_nothing_arrives() -> None:
    with client() as served, served.websocket_connect("/echo") as session:
        with pytest.raises(NotInTime, match="no text message arrived"):
            session.receive_text(timeout=0.01)
        session.send_text("x")
        assert session.receive_text() == "x"


def test_faults() -> None:
    ended: list[int] = []
    own = FastWS()

    @own.websocket("/")
    async def waits(ws: WebSocket) -> None:
        await ws.accept()
        try:
            while True:
                await ws.send_bytes(bytes(2**17))
                await ws.receive_text()
        except WebSocketDisconnect as end:
            ended.append(end.code)

    with TestClient(own, timeout=TIMEOUT, loop_factory=loop_factory) as served:
        for fault in ("drop", "reset", "send_eof"):
            with served.websocket_connect("/") as session:
                assert len(session.receive_bytes()) == 2**17
                session.stall_reads()
                session.send_text("more")
                assert len(session.frames) == 1
                session.resume_reads()
                assert len(session.frames) == 2
                getattr(session, fault)()
                served.advance(0 if fault != "drop" else 45)
    assert ended == [1011, 1006, 1006]


def test_time() -> None:
    with client() as served, served.websocket_connect("/ticks") as session:
        before = served.clock.time
        served.advance(60)
        assert served.clock.time - before >= 60
        assert session.receive_json() == 0


def test_it_must_be_open() -> None:
    served = client()
    with pytest.raises(RuntimeError, match="not open"):
        served.advance(1)
    with pytest.raises(RuntimeError, match="the session is not open"):
        served.websocket_connect("/echo").send_text("x")


def test_it_refuses_to_run_within_a_loop() -> None:
    served = client()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="async with TestClient"):
            served.get("/page")
        async with served as inner:
            assert (await inner.get("/page")).text == "a page"

    async def inside(opened: TestClient) -> None:
        with pytest.raises(RuntimeError, match="async with TestClient"):
            opened.get("/page")
        with pytest.raises(RuntimeError, match="in use by another block"):
            async with opened:
                pass

    asyncio.run(main())
    with served:
        asyncio.run(inside(served))


def test_a_failed_start_leaves_nothing_open() -> None:
    async def fails(app: FastWS) -> AsyncIterator[None]:
        raise LookupError
        yield

    served = TestClient(FastWS(lifespan=fails))
    with pytest.raises(LookupError):
        with served:
            pass
    assert not served.is_open
    assert served.get("/").status_code == 404
