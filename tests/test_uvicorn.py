"""uvicorn with this package's WebSockets: what ASGI and uvicorn's options promise."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import ssl
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from websockets.exceptions import InvalidStatus

from fastws import FastWS, WebSocket, WebSocketDisconnect
from fastws.integrations import uvicorn as drop_in
from tests.robustness.client import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Peer,
    build,
    close_frame,
)
from tests.serving import handshake, status_of
from tests.support import TIMEOUT, run
from tests.uvicorn_server import DROP_IN, Application, Uvicorn, accept, serving, until

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
HTTP = pytest.mark.parametrize("http", ["httptools", "h11"])
DISCONNECTED = ("websocket.disconnect", 1006)
PEM = Path(__file__).with_name("localhost.pem")


async def echo(scope: Any, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


class Recorder:
    """An application that accepts, keeps every event, and tells when it is over."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.scope: Any = None
        self.over = asyncio.Event()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        self.scope = scope
        await accept(receive, send)
        while not self.events or self.events[-1]["type"] == "websocket.receive":
            self.events.append(await receive())
        self.over.set()

    async def ended(self) -> dict[str, Any]:
        """The last event, which is that of the disconnect."""
        await asyncio.wait_for(self.over.wait(), TIMEOUT)
        return self.events[-1]


def logged(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    """What the server wrote about WebSockets, from this level on."""
    words = ("WebSocket", "ASGI")
    return [
        record.getMessage().strip()
        for record in caplog.records
        if record.levelno >= level and any(word in record.getMessage() for word in words)
    ]


# The opening handshake


@HTTP
def test_the_scope_is_the_one_that_uvicorn_makes(http: str) -> None:
    async def scope_under(ws: str) -> Any:
        app = Recorder()
        options: dict[str, Any] = {"root_path": "/api", "http": http, "ws": ws}
        async with serving(app, state={"db": "x"}, **options) as server:
            headers = ["Cookie: a=b", "X-Name: Zo\xeb", "Sec-WebSocket-Protocol: v2, v1"]
            async with server.peer("/caf%C3%A9/a%2Fb?q=1&q=%20", *headers) as peer:
                await peer.end()
            await app.ended()
        for address in ("client", "server"):
            assert app.scope[address][0] == "127.0.0.1"
            del app.scope[address]
        return app.scope

    found = run(scope_under(DROP_IN))
    assert found == run(scope_under("websockets-sansio"))
    assert found["path"] == "/api/café/a/b"
    assert found["subprotocols"] == ["v2", "v1"]
    assert found["state"] == {"db": "x"}


def test_each_connection_has_a_state_of_its_own() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        scope["state"]["seen"] = scope["state"].get("seen", 0) + 1
        await accept(receive, send)
        await send({"type": "websocket.send", "text": str(scope["state"])})

    async def main() -> None:
        async with serving(app, state={"n": 1}) as server:
            for _ in range(2):
                async with server.open() as ws:
                    assert await ws.recv() == "{'n': 1, 'seen': 1}"

    run(main())


@HTTP
def test_frames_that_came_with_the_handshake_are_received(http: str) -> None:
    async def main() -> None:
        async with serving(echo, http=http) as server:
            early = build(b"one") + build(b"two", BINARY) + build(b"rest")
            async with server.peer(early=early[:-3]) as peer:
                await peer.expect((TEXT, b"one"), (BINARY, b"two"))
                await peer.send(early[-3:])
                await peer.expect((TEXT, b"rest"))
                await peer.end()

    run(main())


@HTTP
def test_a_head_in_pieces_with_a_frame_behind_it(http: str) -> None:
    async def main() -> None:
        async with serving(echo, http=http) as server:
            peer = await open_raw(server)
            request = handshake("/")
            await peer.send_split(request + build(b"early"), 20, len(request) - 3)
            assert status_of(await peer.head()) == 101
            await peer.expect((TEXT, b"early"))
            await peer.end()
            await peer.close()

    run(main())


async def open_raw(server: Uvicorn) -> Peer:
    """A connection on which nothing has been sent yet."""
    return Peer(*await asyncio.open_connection(*server.address))


def test_the_answer_names_subprotocol_headers_and_those_of_the_server() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        headers = [(b"x-own", b"1"), (b"set-cookie", b"a=b")]
        await accept(receive, send, subprotocol=scope["subprotocols"][1], headers=headers)
        await receive()

    async def main() -> None:
        options: dict[str, Any] = {"headers": [("X-Server", "here")], "date_header": False}
        async with serving(app, **options) as server:
            async with server.open(subprotocols=["a", "b"]) as ws:
                assert ws.subprotocol == "b"
                assert ws.response is not None
                headers = ws.response.headers
                assert (headers["x-own"], headers["set-cookie"]) == ("1", "a=b")
                assert (headers["x-server"], headers["server"]) == ("here", "uvicorn")
                assert "date" not in headers

    run(main())


def test_a_subprotocol_among_the_headers() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        headers = [(b"x-own", b"1"), (b"Sec-WebSocket-Protocol", b"b")]
        await accept(receive, send, headers=headers)
        await receive()

    async def main() -> None:
        async with serving(app) as server:
            async with server.open(subprotocols=["a", "b"]) as ws:
                assert ws.subprotocol == "b"
                assert ws.response is not None
                assert ws.response.headers["x-own"] == "1"

    run(main())


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (handshake("/", "Sec-WebSocket-Version: 12"), 426),
        (handshake("/", without="Sec-WebSocket-Key"), 400),
        (handshake("/", "Content-Length: 3") + b"abc", 400),
        (handshake("/", version="1.0"), 505),
        (handshake("/", method="POST"), 405),
    ],
    ids=["version", "key", "body", "http", "method"],
)
@HTTP
def test_a_handshake_that_breaks_a_rule_never_reaches_the_application(
    http: str, request_: bytes, status: int
) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        called.append(scope["type"])

    called: list[str] = []

    async def main() -> None:
        async with serving(app, http=http) as server:
            assert status_of(await server.answer(request_ + build(b"ignored"))) == status

    run(main())
    assert called == []


@pytest.mark.parametrize("after", [None, "websocket.receive"])
def test_a_close_instead_of_an_accept_is_403(
    after: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    seen: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        # Neither can be sent, nor is: FastAPI gives the errors that it found as the reason.
        await send({"type": "websocket.close", "code": 1, "reason": [{"loc": ["x"]}]})
        if after:
            seen.append(await receive())

    async def main() -> None:
        async with serving(app) as server:
            with pytest.raises(InvalidStatus) as caught:
                await server.open("/a b?c=d".replace(" ", "%20"))
            assert caught.value.response.status_code == 403

    run(main())
    if after:
        assert [(event["type"], event["code"]) for event in seen] == [DISCONNECTED]
    (line,) = logged(caplog)
    assert line.startswith("127.0.0.1:")
    assert line.endswith('- "WebSocket /a%20b?c=d" 403')


def test_a_denial_response_in_several_parts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        assert "websocket.http.response" in scope["extensions"]
        start = {"type": "websocket.http.response.start", "status": 402}
        await send({**start, "headers": [(b"x-why", b"money"), (b"connection", b"close")]})
        await send({"type": "websocket.http.response.body", "body": b"pay ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"first"})
        with pytest.raises(RuntimeError):
            await send({"type": "websocket.accept"})

    async def main() -> None:
        async with serving(app) as server:
            with pytest.raises(InvalidStatus) as caught:
                await server.open()
            response = caught.value.response
            assert (response.status_code, response.body) == (402, b"pay first")
            assert response.headers["x-why"] == "money"

    run(main())
    (line,) = logged(caplog)
    assert line.endswith('- "WebSocket /" 402')


def test_receiving_before_the_answer_waits_for_the_first_message() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        first = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        assert not first.done()
        await send({"type": "websocket.accept"})
        event = await first
        await send({"type": "websocket.send", "text": event["text"]})

    async def main() -> None:
        async with serving(app) as server:
            async with server.open() as ws:
                await ws.send("hello")
                assert await ws.recv() == "hello"

    run(main())


def test_a_client_that_leaves_before_the_answer_is_a_disconnect() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        seen.append(await receive())
        seen.append(await receive())
        with pytest.raises(OSError, match="1006"):
            await send({"type": "websocket.accept"})

    async def main() -> None:
        async with serving(app) as server:
            peer = await open_raw(server)
            await peer.send(handshake("/"))
            await until(lambda: len(seen) == 1)
            peer.reset()
            await until(lambda: len(seen) == 2)

    run(main())
    assert seen[1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


# Messages


@pytest.mark.parametrize(
    "message", ["", "ä" * 40, "x" * 70_000, b"\0\xff", b"y" * 2**20, "z" * 2**20]
)
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_every_message_comes_back(message: str | bytes, compression: str | None) -> None:
    async def main() -> None:
        async with serving(echo) as server:
            async with server.open(compression=compression, max_size=None) as ws:
                for _ in range(3):
                    await ws.send(message)
                    assert await ws.recv() == message

    run(main())


@pytest.mark.parametrize("offered", [True, False])
def test_compression_is_an_option(offered: bool) -> None:
    async def main() -> None:
        async with serving(echo, ws_per_message_deflate=offered) as server:
            async with server.open(compression="deflate") as ws:
                assert ws.response is not None
                assert ("Sec-WebSocket-Extensions" in ws.response.headers) == offered

    run(main())


def test_other_shapes_of_websocket_send() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await send({"type": "websocket.send", "text": "t", "bytes": None})
        await send({"type": "websocket.send", "text": None, "bytes": b"b"})
        await send({"type": "websocket.send", "bytes": memoryview(b"view")})
        with pytest.raises((KeyError, TypeError)):
            await send({"type": "websocket.send", "text": None})
        with pytest.raises(RuntimeError, match=r"websocket\.nonsense"):
            await send({"type": "websocket.nonsense"})

    async def main() -> None:
        async with serving(app) as server:
            async with server.open() as ws:
                assert [await ws.recv() for _ in range(3)] == ["t", b"b", b"view"]

    run(main())


def test_receive_and_send_are_taken_wherever_coroutine_functions_are() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert iscoroutinefunction(receive)
        assert iscoroutinefunction(send)
        await asyncio.create_task(receive())
        await asyncio.gather(send({"type": "websocket.accept"}))
        event = await asyncio.wait_for(receive(), TIMEOUT)
        async with anyio.create_task_group() as group:
            group.start_soon(send, {"type": "websocket.send", "text": event["text"]})
        # In a thread async_to_sync() calls them there, and awaits what they return here.
        event = await sync_to_async(async_to_sync(receive))()
        message = {"type": "websocket.send", "text": event["text"]}
        await sync_to_async(async_to_sync(send))(message)

    async def main() -> None:
        async with serving(app) as server:
            async with server.open() as ws:
                await ws.send("one")
                assert await ws.recv() == "one"
                await ws.send("two")
                assert await ws.recv() == "two"

    run(main())


def test_a_receive_that_is_cancelled_makes_room_at_once_and_loses_nothing() -> None:
    async def app(scope: Any, receive: Any, send: Send) -> None:
        await accept(receive, send)
        for _ in range(3):
            given_up = asyncio.create_task(receive())
            await asyncio.sleep(0)
            given_up.cancel()
            # Not awaited: it does not know yet that it is cancelled.
            await send({"type": "websocket.send", "text": "go"})
            event = await receive()
            await send({"type": "websocket.send", "text": event["text"]})
            assert given_up.cancelled()

    async def main() -> None:
        async with serving(app) as server:
            async with server.open() as ws:
                for number in range(3):
                    assert await ws.recv() == "go"
                    await ws.send(str(number))
                    assert await ws.recv() == str(number)

    run(main())


def test_two_tasks_may_not_wait_for_messages_at_once() -> None:
    async def app(scope: Any, receive: Any, send: Send) -> None:
        await accept(receive, send)
        first = asyncio.create_task(receive())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one at a time"):
            await receive()
        await send({"type": "websocket.send", "text": "go"})
        assert (await first)["text"] == "for the first"

    async def main() -> None:
        async with serving(app) as server:
            async with server.open() as ws:
                assert await ws.recv() == "go"
                await ws.send("for the first")

    run(main())


def test_an_application_that_does_not_receive_stops_the_client() -> None:
    release = asyncio.Event()
    sizes: list[int] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await release.wait()
        while (event := await receive())["type"] == "websocket.receive":
            sizes.append(len(event["bytes"]))

    async def main() -> None:
        frame = build(b"x" * 65536, BINARY)
        async with serving(app, ws_max_queue=2) as server, server.peer() as peer:
            sent = asyncio.create_task(write(peer, frame, 400))
            done, _ = await asyncio.wait({sent}, timeout=0.1 * TIMEOUT)
            assert not done, "26 MB went somewhere"
            release.set()
            await asyncio.wait_for(sent, TIMEOUT)
            await peer.end()

    async def write(peer: Any, frame: bytes, times: int) -> None:
        for _ in range(times):
            peer.writer.write(frame)
            await peer.writer.drain()

    run(main())
    assert sizes == 400 * [65536]


def test_sending_waits_for_a_client_that_does_not_read() -> None:
    sent = [0]

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        for _ in range(400):
            await send({"type": "websocket.send", "bytes": b"x" * 65536})
            sent[0] += 1

    async def main() -> None:
        async with serving(app) as server, server.peer(receive_buffer=65536) as peer:
            peer.stop_reading()
            before = -1
            while sent[0] != before:
                before = sent[0]
                await asyncio.sleep(0.02 * TIMEOUT)
            assert sent[0] < 400, "26 MB went somewhere"
            peer.transport.resume_reading()  # type: ignore[attr-defined]
            frames = await peer.until_close()
            assert [len(frame.payload) for frame in frames] == 400 * [65536]

    run(main(), timeout=8 * TIMEOUT)


def test_a_client_that_is_cut_while_the_application_waits_to_send() -> None:
    outcome: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        try:
            while True:
                await send({"type": "websocket.send", "bytes": b"x" * 65536})
        except OSError as error:
            outcome.append(error)
        with pytest.raises(OSError, match="1006"):
            await send({"type": "websocket.send", "text": "again"})
        # To close what is closed is no mistake.
        await send({"type": "websocket.close"})

    async def main() -> None:
        async with serving(app) as server, server.peer(receive_buffer=65536) as peer:
            peer.stop_reading()
            await peer.exactly(10)
            peer.reset()
            await until(lambda: bool(outcome))

    run(main())
    (error,) = outcome
    assert isinstance(error, ConnectionError)
    assert isinstance(error, WebSocketDisconnect)
    assert error.code == 1006


# Limits and rules


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (build(b"x" * 11), 1009),
        (build(b"x" * 6, fin=False) + build(b"x" * 5, 0), 1009),
        (build(b"\xff\xfe"), 1007),
        (build(b"x", masked=False), 1002),
        (build(b"x", rsv=4), 1002),
        (build(b"x", opcode=3), 1002),
        (build(b"x", 0), 1002),
        (build(b"", length=2**63), 1002),
        (close_frame(1006), 1002),
    ],
    ids=[
        *["size", "sum of fragments", "utf-8", "unmasked", "reserved bit", "reserved opcode"],
        *["no first fragment", "length", "close code"],
    ],
)
def test_a_violation_ends_the_connection_with_its_code(frames: bytes, code: int) -> None:
    app = Recorder()

    async def main() -> None:
        async with serving(app, ws_max_size=10) as server, server.peer() as peer:
            await peer.send(build(b"x" * 10) + frames)
            assert (await peer.ended())[0] == code
            assert (await app.ended())["code"] == code

    run(main())
    assert [event.get("text") for event in app.events] == ["x" * 10, None]


def test_a_ping_is_answered_without_the_application() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await asyncio.Event().wait()

    async def main() -> None:
        async with serving(app) as server, server.peer() as peer:
            await peer.send(build(b"payload", PING))
            await peer.expect((PONG, b"payload"))
            for task in server.server_state.tasks:
                task.cancel()
            assert (await peer.frame())[0] == CLOSE

    run(main())


def test_a_silent_client_is_pinged_and_then_given_up() -> None:
    app = Recorder()

    async def main() -> None:
        options: dict[str, Any] = {"ws_ping_interval": 0.2, "ws_ping_timeout": 0.2}
        async with serving(app, **options) as server, server.peer() as peer:
            opcode, payload = await peer.frame()
            assert opcode == PING
            await peer.send(build(payload, PONG))
            assert (await peer.frame())[0] == PING
            opcode, payload = await peer.frame()
            assert (opcode, payload[:2]) == (CLOSE, (1011).to_bytes(2, "big"))
            assert (await app.ended())["code"] == 1011

    run(main())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (20.0, 20.0, 32, 16 * 2**20)),
        ({"ws_ping_interval": 0, "ws_ping_timeout": 0}, (None, None, 32, 16 * 2**20)),
        (
            {"ws_ping_interval": None, "ws_ping_timeout": 3.5, "ws_max_queue": 7, "ws_max_size": 9},
            (None, 3.5, 7, 9),
        ),
        ({"ws_max_queue": 0}, (20.0, 20.0, drop_in.UNLIMITED, 16 * 2**20)),
    ],
)
def test_the_options_of_uvicorn(options: dict[str, Any], expected: tuple[Any, ...]) -> None:
    async def main() -> None:
        async with serving(echo, **options) as server:
            limits = drop_in.Shared(server.config, asyncio.get_running_loop()).limits
            found = (limits.ping_interval, limits.ping_timeout, limits.max_queue, limits.max_size)
            assert found == expected
            async with server.open() as ws:
                await ws.send("x")
                assert await ws.recv() == "x"

    run(main())


# Ends


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (close_frame(1000), (1000, "")),
        (close_frame(3001, "bye é".encode()), (3001, "bye é")),
        (close_frame(None), (1005, "")),
    ],
)
def test_the_code_of_the_client(payload: bytes, expected: tuple[int, str]) -> None:
    app = Recorder()

    async def main() -> None:
        async with serving(app) as server, server.peer() as peer:
            await peer.send(build(b"last") + payload)
            code, reason = expected
            assert (await peer.ended())[0] == code
            gone = {"type": "websocket.disconnect", "code": code, "reason": reason}
            assert await app.ended() == gone

    run(main())
    assert app.events[0] == {"type": "websocket.receive", "text": "last"}


def test_the_code_of_the_application_and_its_closing_handshake() -> None:
    seen: list[Any] = []
    done = asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await send({"type": "websocket.send", "text": "last"})
        await send({"type": "websocket.close", "code": 4001, "reason": "so long"})
        # It did not wait for the client.
        seen.append(await receive())
        with pytest.raises(RuntimeError):
            await send({"type": "websocket.send", "text": "too late"})
        done.set()

    async def main() -> None:
        async with serving(app) as server, server.peer() as peer:
            await peer.expect((TEXT, b"last"), (CLOSE, (4001).to_bytes(2, "big") + b"so long"))
            await asyncio.wait_for(done.wait(), TIMEOUT)
            assert server.server_state.connections, "TCP is kept for the client's answer"
            await peer.send(build(b"ignored") + close_frame(4001))
            assert await peer.rest() == b""

    run(main())
    assert [(event["type"], event["code"]) for event in seen] == [("websocket.disconnect", 4001)]


async def returns(scope: Any, receive: Receive, send: Send) -> None:
    await accept(receive, send)
    await send({"type": "websocket.send", "text": "last"})


async def returns_something(scope: Any, receive: Receive, send: Send) -> str:
    await returns(scope, receive, send)
    return "something"


async def raises(scope: Any, receive: Receive, send: Send) -> None:
    await returns(scope, receive, send)
    raise LookupError("the reason")


async def exits(scope: Any, receive: Receive, send: Send) -> None:
    await returns(scope, receive, send)
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("app", "code", "words"),
    [
        (returns, 1000, []),
        (returns_something, 1000, ["should return None, but returned 'something'"]),
        (raises, 1011, ["Exception in ASGI application"]),
        (exits, 1011, ["Exception in ASGI application"]),
    ],
)
def test_how_the_outcome_of_the_application_ends_the_connection(
    app: Application, code: int, words: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving(app) as server, server.peer() as peer:
            await peer.expect((TEXT, b"last"))
            opcode, payload = await peer.frame()
            assert (opcode, payload) == (CLOSE, code.to_bytes(2, "big"))
            await peer.send(close_frame(code))
            assert await peer.rest() == b""

    run(main())
    lines = logged(caplog, logging.ERROR)
    assert len(lines) == len(words)
    for line, word in zip(lines, words, strict=True):
        assert word in line
    if app is raises:
        (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert record.name == "uvicorn.error"
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], LookupError)


async def returns_early(scope: Any, receive: Receive, send: Send) -> None:
    await receive()


async def raises_early(scope: Any, receive: Receive, send: Send) -> None:
    raise LookupError("the reason")


async def sends_early(scope: Any, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.send", "text": "too early"})


async def picks_what_was_not_offered(scope: Any, receive: Receive, send: Send) -> None:
    await accept(receive, send, subprotocol="mine")


@pytest.mark.parametrize(
    ("app", "word"),
    [
        (returns_early, "returned without completing handshake"),
        (raises_early, "Exception in ASGI application"),
        (sends_early, "Exception in ASGI application"),
        (picks_what_was_not_offered, "Exception in ASGI application"),
    ],
)
def test_an_application_that_ends_without_an_answer_is_500(
    app: Application, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with serving(app) as server:
            with pytest.raises(InvalidStatus) as caught:
                await server.open()
            response = caught.value.response
            assert (response.status_code, response.body) == (500, b"Internal Server Error")

    run(main())
    (line,) = logged(caplog, logging.ERROR)
    assert word in line


def test_an_error_of_send_may_escape(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        await receive()
        await send({"type": "websocket.send", "text": "too late"})

    async def main() -> None:
        async with serving(app) as server, server.peer() as peer:
            await peer.end()

    run(main())
    assert logged(caplog, logging.WARNING) == []


# The server


def test_the_shutdown_of_the_server_is_1012() -> None:
    app = Recorder()

    async def main() -> None:
        async with serving(app) as server, server.peer() as peer:
            state = server.server_state
            assert (len(state.connections), len(state.tasks)) == (1, 1)
            stopping = asyncio.create_task(server.stop())
            opcode, payload = await peer.frame()
            assert (opcode, payload) == (CLOSE, (1012).to_bytes(2, "big"))
            await peer.send(close_frame(1012))
            assert await peer.rest() == b""
            assert (await app.ended())["code"] == 1012
            await peer.close()
            await stopping

    run(main())


def test_the_shutdown_of_the_server_during_a_handshake(caplog: pytest.LogCaptureFixture) -> None:
    called = asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        called.set()
        await asyncio.Event().wait()

    async def main() -> None:
        async with serving(app) as server:
            peer = await open_raw(server)
            await peer.send(handshake("/"))
            await asyncio.wait_for(called.wait(), TIMEOUT)
            stopping = asyncio.create_task(server.stop())
            assert status_of(await peer.rest()) == 503
            await peer.close()
            await stopping

    run(main())
    assert logged(caplog, logging.WARNING) == []


def test_an_application_that_outlasts_the_graceful_shutdown_is_cancelled() -> None:
    outcome: list[str] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await accept(receive, send)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            outcome.append("cancelled")
            raise

    async def main() -> None:
        # The time in whole seconds that uvicorn has for it; 0 is none at all.
        async with serving(app, timeout_graceful_shutdown=0) as server, server.peer() as peer:
            stopping = asyncio.create_task(server.stop())
            opcode, payload = await peer.frame()
            assert (opcode, payload) == (CLOSE, (1012).to_bytes(2, "big"))
            await peer.send(close_frame(1012))
            assert await peer.rest() == b""
            await stopping
            await until(lambda: outcome == ["cancelled"])

    run(main())


def test_the_lines_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> None:
        async with serving(echo) as server, server.peer("/a%0Ab?x=y") as peer:
            await peer.end()

    run(main())
    (line,) = logged(caplog)
    assert line.startswith("127.0.0.1:")
    assert line.endswith('- "WebSocket /a%0Ab?x=y" [accepted]')


def test_tls() -> None:
    app = Recorder()

    async def main() -> None:
        trusted = ssl.create_default_context(cafile=str(PEM))
        async with serving(app, ssl_certfile=str(PEM)) as server:
            host, port = server.address
            from websockets.asyncio.client import connect

            url = f"wss://localhost:{port}/"
            async with connect(url, proxy=None, ssl=trusted, host=host) as ws:
                await ws.send("x" * 100_000)
            assert (await app.ended())["code"] == 1000

    run(main())
    assert app.scope["scheme"] == "wss"
    assert app.events[0]["text"] == "x" * 100_000


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets here")
def test_a_unix_socket(tmp_path: Path) -> None:
    app = Recorder()
    path = str(tmp_path / "s")

    async def main() -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        sock.listen()
        async with serving(app, sock=sock):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(handshake("/") + build(b"hello") + close_frame(1000))
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT)
            assert status_of(head) == 101
            await asyncio.wait_for(reader.read(), TIMEOUT)
            writer.close()
            await app.ended()

    run(main())
    assert app.events[0]["text"] == "hello"
    assert app.scope["client"] is None
    assert app.scope["server"] == (path, None)


def test_nothing_is_left_of_a_server_and_its_connections() -> None:
    async def main() -> list[weakref.ref[Any]]:
        app = Recorder()
        async with serving(app) as server:
            async with server.peer() as peer:
                (protocol,) = server.server_state.connections
                left: list[weakref.ref[Any]] = [weakref.ref(protocol)]
                await peer.end()
            await app.ended()
            state = server.server_state
            left += [weakref.ref(state), weakref.ref(drop_in._shared[state])]
            del state
        return left

    left = run(main())
    gc.collect()
    assert [reference() for reference in left] == [None, None, None]


def test_an_application_of_this_package() -> None:
    app = FastWS()
    ended: list[Any] = []

    @app.websocket("/{name}")
    async def greet(ws: WebSocket, name: str) -> None:
        await ws.accept()
        try:
            async for text in ws:
                await ws.send_json({name: text})
        finally:
            ended.append(ws.close_code)

    async def main() -> None:
        async with serving(app, lifespan="on") as server:
            async with server.open("/ann") as ws:
                await ws.send("hi")
                assert await ws.recv() == '{"ann":"hi"}'
            with pytest.raises(InvalidStatus) as caught:
                await server.open("/no/such/path")
            assert caught.value.response.status_code == 404

    run(main())
    assert ended == [1000]
