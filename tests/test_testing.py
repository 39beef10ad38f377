"""The test client on the test's own loop: what it shows, and the faults that it makes."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from fastws.app import FastWS
from fastws.codes import Opcode
from fastws.dependencies import Depends
from fastws.exceptions import (
    HandshakeError,
    HTTPException,
    WebSocketDisconnect,
    WebSocketException,
    WebSocketTypeError,
)
from fastws.importer import ApplicationError
from fastws.options import ConfigError
from fastws.testing import (
    AsyncTestClient,
    Frame,
    NotInTime,
    TestClient,
    TestWebSocket,
    WebSocketDenialResponse,
)
from fastws.websocket import WebSocket
from tests.support import TIMEOUT, run

SHORT = 0.02
"""Seconds for what is meant not to happen."""


def application(handler: Callable[..., Coroutine[Any, Any, Any]], **options: Any) -> FastWS:
    app = FastWS()
    app.websocket("/", **options)(handler)
    return app


async def echo(ws: WebSocket) -> None:
    await ws.accept()
    async for message in ws:
        if isinstance(message, str):
            await ws.send_text(message)
        else:
            await ws.send_bytes(message)


def visit(
    handler: Callable[..., Coroutine[Any, Any, Any]],
    test: Callable[[TestWebSocket, AsyncTestClient], Coroutine[Any, Any, None]],
    *,
    patience: float = TIMEOUT,
    **options: Any,
) -> TestClient:
    """Run ``test`` with a connection to ``handler``; returns the client, closed."""
    made = TestClient(application(handler), timeout=TIMEOUT, **options)

    async def main() -> None:
        async with made as client, client.connect("/", timeout=patience) as ws:
            await test(ws, client)

    run(main())
    return made


# Messages


@pytest.mark.parametrize("compression", ["off", "shared", "dedicated"])
def test_messages_of_every_kind_go_there_and_back(compression: str) -> None:
    async def main() -> None:
        client_options: dict[str, Any] = {
            "ws_per_message_deflate": "dedicated",
            "ws_max_size": "2MiB",
        }
        async with TestClient(application(echo), timeout=TIMEOUT, **client_options) as client:
            async with client.connect("/", compression=compression) as ws:
                await ws.send_text("grüße")
                assert await ws.receive_text() == "grüße"
                await ws.send_bytes(b"\x00\xff")
                assert await ws.receive_bytes() == b"\x00\xff"
                await ws.send_json({"a": [1]})
                assert await ws.receive_json() == {"a": [1]}
                await ws.send_text("x" * 2**20)
                assert await ws.receive() == {"type": "websocket.receive", "text": "x" * 2**20}
                assert any(frame.rsv1 for frame in ws.frames) == (compression != "off")
                assert await ws.ping() < TIMEOUT

    run(main())


def test_what_the_request_carries_reaches_the_handler() -> None:
    async def tell(ws: WebSocket, room: str, x: int) -> None:
        await ws.accept("b", headers=[("x-answer", "42")])
        names = ("host", "x-one", "x-two", "cookie", "origin")
        assert ws.client is not None
        await ws.send_json(
            {
                "room": room,
                "x": x,
                "client": list(ws.client),
                "url": str(ws.url),
                "offered": ws.subprotocols,
                **{name: ws.headers.get(name) for name in names},
            }
        )

    app = FastWS()
    app.websocket("/{room}")(tell)

    async def main() -> None:
        made = TestClient(
            app,
            base_url="http://example.org:81",
            headers={"x-one": "1", "x-two": "1"},
            timeout=TIMEOUT,
        )
        async with made as client:
            opening = client.connect(
                "/lobby?x=5",
                subprotocols=["a", "b"],
                headers={"X-Two": "2", "X-Forwarded-For": "203.0.113.9"},
                cookies={"a": "1", "b": "2"},
                origin="http://example.org",
            )
            async with opening as ws:
                assert await ws.receive_json() == {
                    "room": "lobby",
                    "x": 5,
                    # Believed, for the client's own address is that of a trusted proxy.
                    "client": ["203.0.113.9", 0],
                    "url": "ws://example.org:81/lobby?x=5",
                    "offered": ["a", "b"],
                    "host": "example.org:81",
                    "x-one": "1",
                    "x-two": "2",
                    "cookie": "a=1; b=2",
                    "origin": "http://example.org",
                }
                assert ws.subprotocol == "b"
                assert ws.response_headers["x-answer"] == "42"
                assert str(ws.url) == "ws://example.org:81/lobby?x=5"
                with pytest.raises(WebSocketDisconnect) as ended:
                    await ws.receive_text()
                assert ended.value.code == ws.close_code == 1000

    run(main())


def test_iterating_ends_with_the_connection() -> None:
    async def count(ws: WebSocket) -> None:
        await ws.accept()
        for number in range(3):
            await ws.send_text(str(number))
        await ws.send_bytes(b"end")

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        assert [message async for message in ws] == ["0", "1", "2", b"end"]

    visit(count, test)


def test_the_events_end_with_one_disconnect() -> None:
    async def leave(ws: WebSocket) -> None:
        await ws.accept()
        await ws.close(4001, "enough")

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        assert await ws.receive() == {
            "type": "websocket.disconnect",
            "code": 4001,
            "reason": "enough",
        }
        with pytest.raises(WebSocketDisconnect):
            await ws.receive()

    visit(leave, test)


def test_every_frame_can_be_looked_at() -> None:
    async def several(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_text("a" * 300)
        await ws.send_bytes(b"b")
        await ws.receive_text()
        await ws.close(4000, "bye")

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        await ws.send_text("go on")
        await client.settle()
        assert ws.frames == [
            Frame(Opcode.TEXT, b"a" * 300),
            Frame(Opcode.BINARY, b"b"),
            Frame(Opcode.CLOSE, b"\x0f\xa0bye"),
        ]
        assert (ws.frames[2].close_code, ws.frames[2].close_reason) == (4000, "bye")
        assert ws.frames[0].close_code is None
        assert ws.raw_received.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert ws.raw_received.endswith(b"\x88\x05\x0f\xa0bye")

    visit(several, test)


def test_overrides_of_dependencies_hold() -> None:
    app = FastWS()

    def user() -> str:
        return "nobody"

    @app.websocket("/")
    async def greet(ws: WebSocket, name: str = Depends(user)) -> None:
        await ws.accept()
        await ws.send_text(name)

    async def main() -> None:
        app.dependency_overrides[user] = lambda: "Ada"
        async with TestClient(app, timeout=TIMEOUT) as client, client.connect("/") as ws:
            assert await ws.receive_text() == "Ada"

    run(main())


# Time limits, and what they tell


def test_a_receive_that_gets_nothing_tells_what_came_and_what_the_handler_does() -> None:
    async def waits(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_bytes(b"x" * 100)
        await ws.send_text("taken")
        await ws.receive_text()  # here it waits

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        await ws.receive_bytes()
        await ws.receive_text()
        with pytest.raises(NotInTime) as missed:
            await ws.receive_text(timeout=SHORT)
        text = str(missed.value)
        assert text.startswith("no text message arrived within 0.02 s.\n")
        assert "HTTP/1.1 101 Switching Protocols" in text
        assert "… (100 in all), TEXT 'taken'" in text
        assert "Messages: 2, of which the test has received 2." in text
        assert "The connection is open" in text
        assert "test_testing.py:" in text
        assert "in waits: await ws.receive_text()  # here it waits" in text
        assert isinstance(missed.value, AssertionError)
        assert isinstance(missed.value, TimeoutError)
        # Nothing is lost by it.
        await ws.send_text("go on")

    visit(waits, test)


@pytest.mark.parametrize("method", ["receive_bytes", "receive_json", "receive", "__anext__"])
def test_every_receive_has_a_limit(method: str) -> None:
    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        with pytest.raises(NotInTime, match=r"within 0\.02 s"):
            await getattr(ws, method)()

    visit(echo, test, patience=SHORT)


def test_a_connection_may_have_its_own_limit_or_none() -> None:
    async def main() -> None:
        async with TestClient(application(echo), timeout=TIMEOUT) as client:
            async with client.connect("/", timeout=SHORT) as ws:
                with pytest.raises(NotInTime, match=r"0\.02"):
                    await ws.receive_text()
                waiting = asyncio.create_task(ws.receive_text(timeout=math.inf))
                await client.advance(3600)
                await ws.send_text("at last")
                assert await waiting == "at last"

    run(main())


def test_a_message_of_the_other_kind_is_shown() -> None:
    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        await ws.send_text("hello")
        with pytest.raises(WebSocketTypeError, match="it is 'hello'") as caught:
            await ws.receive_bytes()
        assert caught.value.data == "hello"

    visit(echo, test)


def test_a_ping_without_its_pong_is_told() -> None:
    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        ws.stall_reads()
        with pytest.raises(NotInTime, match=r"no PONG arrived(.|\n)*does not read: resume_reads"):
            await ws.ping()
        ws.resume_reads()

    visit(echo, test, patience=SHORT)


def test_a_handler_that_does_not_accept_is_told() -> None:
    async def never(ws: WebSocket) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with TestClient(application(never), timeout=SHORT) as client:
            with pytest.raises(NotInTime, match=r"handler of / waits at .*Event\(\).wait\(\)"):
                await client.connect("/")

    run(main())


def test_a_close_that_is_not_answered_is_told() -> None:
    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        ws.stall_reads()
        with pytest.raises(NotInTime, match=r"close\(\) was not answered within"):
            await ws.close()

    visit(echo, test, patience=SHORT)


# Failures of the application


class Failure(Exception):
    pass


def test_what_the_handler_raises_is_raised_by_the_receive() -> None:
    async def fails(ws: WebSocket) -> None:
        await ws.accept()
        try:
            raise KeyError("first")
        except KeyError as error:
            raise Failure("second") from error

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        with pytest.raises(Failure) as caught:
            await ws.receive_text()
        assert caught.traceback[-1].name == "fails"
        assert isinstance(caught.value.__cause__, KeyError)
        assert caught.value.__context__ is caught.value.__cause__
        # It is told once.
        with pytest.raises(WebSocketDisconnect, match="1011"):
            await ws.receive_text()

    visit(fails, test)


@pytest.mark.parametrize("how", ["receive", "__anext__"])
def test_it_is_raised_by_the_other_receives_too(how: str) -> None:
    async def fails(ws: WebSocket) -> None:
        await ws.accept()
        raise Failure

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        with pytest.raises(Failure):
            await getattr(ws, how)()

    visit(fails, test)


def test_it_is_raised_at_the_end_of_the_block() -> None:
    async def fails(ws: WebSocket) -> None:
        await ws.accept()
        try:
            await ws.receive_text()
        except WebSocketDisconnect as end:
            raise Failure("while cleaning up") from end

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        pass

    with pytest.raises(Failure):
        visit(fails, test)


def test_it_goes_before_what_is_only_its_consequence() -> None:
    async def fails(ws: WebSocket) -> None:
        await ws.accept()
        raise Failure

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        await client.settle()
        await ws.send_text("too late")

    with pytest.raises(Failure):
        visit(fails, test)


def test_it_does_not_hide_an_assertion_of_the_test() -> None:
    async def fails(ws: WebSocket) -> None:
        await ws.accept()
        raise Failure

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        await client.settle()
        raise AssertionError("the test's own")

    with pytest.raises(AssertionError, match="the test's own") as caught:
        visit(fails, test)
    if hasattr(caught.value, "__notes__"):
        assert caught.value.__notes__ == ["The handler failed as well: Failure()"]


def test_it_is_raised_in_the_place_of_a_500() -> None:
    async def fails(ws: WebSocket) -> None:
        raise Failure

    async def main(**options: Any) -> int:
        async with TestClient(application(fails), timeout=TIMEOUT, **options) as client:
            with pytest.raises((Failure, WebSocketDenialResponse)) as caught:
                await client.connect("/")
        return getattr(caught.value, "status", 0)

    assert run(main()) == 0
    assert run(main(raise_server_exceptions=False)) == 500


def test_a_client_may_see_what_any_client_would() -> None:
    async def fails(ws: WebSocket) -> None:
        await ws.accept()
        raise Failure

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        with pytest.raises(WebSocketDisconnect) as ended:
            await ws.receive_text()
        assert ended.value.code == 1011

    visit(fails, test, raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WebSocketException(4000, "no"), 4000),
        (WebSocketDisconnect(1006), 1000),
        (WebSocketTypeError("text, please", b""), 1003),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_only_ends_a_connection_is_no_failure(error: Exception, code: int) -> None:
    async def ends(ws: WebSocket) -> None:
        await ws.accept()
        raise error

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        with pytest.raises(WebSocketDisconnect) as ended:
            await ws.receive_text()
        assert ended.value.code == code

    visit(ends, test)


def test_a_task_of_the_connection_that_fails_is_a_failure() -> None:
    async def fails() -> None:
        raise Failure

    async def starts(ws: WebSocket) -> None:
        await ws.accept()
        ws.tasks.create_task(fails())
        await ws.receive_text()

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        await client.settle()

    with pytest.raises(Failure):
        visit(starts, test)


def test_an_http_exception_after_accept_is_a_failure() -> None:
    async def late(ws: WebSocket) -> None:
        await ws.accept()
        raise HTTPException(403)

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        await client.settle()

    with pytest.raises(HTTPException):
        visit(late, test)


# Refusals


def test_a_refusal_can_be_inspected() -> None:
    async def closed(ws: WebSocket) -> None:
        raise HTTPException(403, {"why": "full"}, headers={"X-Retry": "later"})

    async def main() -> None:
        async with TestClient(application(closed), timeout=TIMEOUT) as client:
            with pytest.raises(HandshakeError) as refused:
                async with client.connect("/"):
                    pass
            refusal = refused.value
            assert isinstance(refusal, WebSocketDenialResponse)
            assert isinstance(refusal, WebSocketDisconnect)
            assert (refusal.status, refusal.status_code, refusal.code) == (403, 403, 1006)
            assert refusal.header("X-Retry") == "later"
            assert refusal.body == refusal.content == b'{"detail":{"why":"full"}}'
            assert refusal.json() == {"detail": {"why": "full"}}
            assert refusal.text in str(refusal)
            with pytest.raises(WebSocketDenialResponse) as lost:
                await client.connect("/nowhere")
            assert lost.value.status == 404

    run(main())


# Faults


def test_dropped_connections_are_found_by_the_keepalive() -> None:
    ended: list[int] = []

    async def waits(ws: WebSocket) -> None:
        await ws.accept()
        try:
            await ws.receive_text()
        except WebSocketDisconnect as end:
            ended.append(end.code)

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        ws.drop()
        with pytest.raises(WebSocketDisconnect, match="1006"):
            await ws.receive_text()
        # 20 s (±10 %) of silence, then 20 s for the answer to a PING.
        await client.advance(37)
        assert ended == []
        await client.advance(6)
        assert ended == [1011]

    visit(waits, test)


def test_the_servers_tcp_gives_up_at_the_end_of_a_dropped_connection() -> None:
    ended: list[int] = []

    async def waits(ws: WebSocket) -> None:
        await ws.accept()
        try:
            await ws.receive_text()
        except WebSocketDisconnect as end:
            ended.append(end.code)

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        ws.drop()

    assert visit(waits, test).leaks == []
    assert ended == [1006]


def test_a_reset_reaches_the_servers_transport() -> None:
    lost: list[BaseException | None] = []

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        protocol = ws._transport.peer.get_protocol()
        there = ws._transport.peer

        class Spy(asyncio.Protocol):
            def connection_lost(self, error: Exception | None) -> None:
                lost.append(error)
                protocol.connection_lost(error)

        there.set_protocol(Spy())
        ws.reset()
        await client.settle()
        assert ws.handler is not None
        assert ws.handler.done()

    visit(echo, test)
    assert isinstance(lost[0], ConnectionResetError)
    assert lost[0].errno == errno.ECONNRESET


def test_a_peer_that_does_not_read_holds_the_handler_up() -> None:
    sent: list[int] = []

    async def sends(ws: WebSocket) -> None:
        await ws.accept()
        await ws.receive_text()
        for number in range(100):
            await ws.send_bytes(bytes(8 * 1024))
            sent.append(number)

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        ws.stall_reads()
        await ws.send_text("begin")
        await client.settle()
        # With their headers, eight messages are more than the 64 KiB of the write buffer.
        assert len(sent) == 7
        assert ws.frames == []
        ws.resume_reads()
        for _ in range(100):
            assert len(await ws.receive_bytes()) == 8 * 1024
        assert len(sent) == 100

    visit(sends, test)


def test_any_bytes_can_be_sent() -> None:
    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        await ws.send_raw(b"\x81\x02no")  # a client's frames are masked
        with pytest.raises(WebSocketDisconnect) as ended:
            await ws.receive_text()
        assert ended.value.code == 1002

    visit(echo, test)


def test_raw_bytes_go_behind_what_was_sent_before() -> None:
    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        await ws.send_text("one")
        await client.settle()
        # While a message waits to be received, frames are gathered for the end of the step.
        for word in ("two", "three"):
            await ws.send_text(word)
        await ws.send_raw(b"\x81\x84\0\0\0\0four")
        words = [await ws.receive_text() for _ in range(4)]
        assert words == ["one", "two", "three", "four"]

    visit(echo, test)


def test_a_half_closed_connection_still_gets_its_answers() -> None:
    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        await ws.send_text("last words")
        await ws.send_eof()
        assert await ws.receive_text() == "last words"
        with pytest.raises(WebSocketDisconnect):
            await ws.receive_text()

    visit(echo, test)


# Plain HTTP


def test_pages_are_served_beside() -> None:
    app = FastWS()

    @app.get("/page")
    async def page() -> dict[str, str]:
        return {"on": "the page"}

    @app.get("/broken")
    async def broken() -> None:
        raise Failure

    async def main() -> None:
        async with TestClient(app, timeout=TIMEOUT) as client:
            response = await client.get("/page?x=1", headers={"accept": "*/*"})
            assert (response.status_code, response.json()) == (200, {"on": "the page"})
            assert response.headers["Content-Type"].startswith("application/json")
            assert response.text == '{"on":"the page"}'
            head = await client.head("/page")
            assert (head.content, head.headers["content-length"]) == (b"", "17")
            assert (await client.request("DELETE", "/page")).status_code == 405
            with pytest.raises(Failure):
                await client.get("/broken")
        async with TestClient(app, timeout=TIMEOUT, raise_server_exceptions=False) as client:
            assert (await client.get("/broken")).status_code == 500

    run(main())


def test_a_page_that_does_not_answer_is_told() -> None:
    app = FastWS()

    @app.get("/")
    async def never() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with TestClient(app, timeout=SHORT) as client:
            with pytest.raises(NotInTime, match="GET / was not answered within"):
                await client.get("/")

    run(main())


# Start and end


def test_the_lifespan_runs_around_the_block_in_one_task() -> None:
    tasks: list[asyncio.Task[Any] | None] = []

    async def lifespan(app: FastWS) -> AsyncIterator[dict[str, int]]:
        tasks.append(asyncio.current_task())
        yield {"answer": 42}
        tasks.append(asyncio.current_task())

    app = FastWS(lifespan=lifespan)

    @app.websocket("/")
    async def tell(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_json(ws.state.answer)

    async def main() -> None:
        async with TestClient(app, timeout=TIMEOUT) as client, client.connect("/") as ws:
            assert len(tasks) == 1
            assert await ws.receive_json() == 42

    run(main())
    assert len(tasks) == 2
    assert tasks[0] is tasks[1]


@pytest.mark.parametrize("when", ["start", "end"])
def test_a_lifespan_that_fails_fails_the_test(when: str) -> None:
    async def lifespan(app: FastWS) -> AsyncIterator[None]:
        if when == "start":
            raise Failure
        yield
        raise Failure

    async def main() -> None:
        async with TestClient(FastWS(lifespan=lifespan)):
            assert when == "end"

    with pytest.raises(Failure):
        run(main())


def test_connections_that_are_left_open_are_closed_with_the_client() -> None:
    ended: list[int] = []

    async def waits(ws: WebSocket) -> None:
        await ws.accept()
        try:
            await ws.receive_text()
        except WebSocketDisconnect as end:
            ended.append(end.code)
            raise Failure from end

    async def main() -> None:
        async with TestClient(application(waits), timeout=TIMEOUT) as client:
            await client.connect("/")

    with pytest.raises(Failure):
        run(main())
    assert ended == [1000]


def test_what_is_left_running_is_told() -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def stays(ws: WebSocket) -> None:
        await ws.accept()
        tasks.append(asyncio.create_task(asyncio.Event().wait(), name="forgotten"))
        await asyncio.Event().wait()

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        pass

    leaks = visit(stays, test).leaks
    assert len(leaks) == 2
    assert "The handler of / waits at" in leaks[0]
    assert "cancel_on_disconnect" in leaks[0]
    assert leaks[1].startswith("the task forgotten waits at")


def test_a_handler_that_learns_of_the_end_when_it_sends_is_given_the_time() -> None:
    async def ticks(ws: WebSocket) -> None:
        await ws.accept()
        try:
            while True:
                await ws.send_text("tick")
                await asyncio.sleep(30)
        except WebSocketDisconnect as end:
            raise Failure from end

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        assert await ws.receive_text() == "tick"

    with pytest.raises(Failure):
        visit(ticks, test)


def test_a_client_is_used_by_one_block_at_a_time() -> None:
    async def main() -> None:
        client = TestClient(FastWS())
        async with client:
            with pytest.raises(RuntimeError, match="in use by another block"):
                async with client:
                    pass
            with pytest.raises(RuntimeError, match="async with TestClient"):
                client.get("/")
        async with client as again:
            assert (await again.get("/")).status_code == 404
        with pytest.raises(RuntimeError, match="not open"):
            await again.get("/")

    run(main())


def test_failures_are_seen_though_the_servers_log_was_disabled() -> None:
    app = FastWS()

    @app.get("/")
    async def broken() -> None:
        raise Failure

    async def main() -> None:
        async with TestClient(app, timeout=TIMEOUT) as client:
            with pytest.raises(Failure):
                await client.get("/")

    # As logging.config.dictConfig() does by default.
    logging.getLogger("fastws.error").disabled = True
    run(main())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"base_url": "wss://host"}, "base_url is 'wss://host'"),
        ({"base_url": "ws://host/path"}, "without a path"),
        ({"timeout": 0}, "timeout is 0"),
    ],
)
def test_wrong_arguments_are_refused_with_a_sentence(
    arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        TestClient(FastWS(), **arguments)


def test_what_cannot_be_served_is_refused_when_it_is_served() -> None:
    async def main(app: Any, **options: Any) -> None:
        async with TestClient(app, **options) as client:
            client.connect("no/slash")

    with pytest.raises(ApplicationError, match="not a FastWS application"):
        run(main(print))
    with pytest.raises(ConfigError, match="ws-max-size"):
        run(main(FastWS(), ws_max_size="much"))
    with pytest.raises(ValueError, match="begins with /"):
        run(main(FastWS()))
