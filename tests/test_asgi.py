"""A fastws application under other servers, over real sockets, with another project's client."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from fastws.app import FastWS
from fastws.datastructures import Message, Scope
from fastws.exceptions import (
    HTTPException,
    WebSocketDisconnect,
    WebSocketException,
)
from fastws.integrations import asgi
from fastws.requests import Request
from fastws.routing import APIRouter
from fastws.websocket import WebSocket
from tests.asgi_peer import ASGIPeer, http_scope
from tests.asgi_servers import ASGI_SERVERS, Client, close_of, running
from tests.support import TIMEOUT, run

Scenario = Callable[[Client], Coroutine[Any, Any, None]]


@pytest.fixture(params=ASGI_SERVERS)
def play(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Serves an application with each of the servers, and runs a scenario."""

    def play(app: Any, scenario: Scenario, **options: Any) -> None:
        async def main() -> None:
            async with running(app, request.param, **options) as address:
                await scenario(Client(address, request.param))

        run(main())

    return play


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What fastws complained about; other servers have complaints about denial responses."""
    return [
        record
        for record in caplog.records
        if record.levelno >= logging.WARNING
        and not record.name.startswith(("asyncio", "hypercorn", "uvicorn"))
    ]


Play = Callable[..., None]


# Programs


def test_an_echo_that_lets_the_disconnect_escape(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "fastws.error")
    app = FastWS()
    over = asyncio.Event()

    @app.websocket("/ws/{client_id}")
    async def endpoint(websocket: WebSocket, client_id: int):  # type: ignore[no-untyped-def]
        await websocket.accept()
        try:
            while True:
                data = await websocket.receive_text()
                await websocket.send_text(f"{client_id + 1}: {data}")
        finally:
            over.set()

    async def scenario(client: Client) -> None:
        async with client.open("/ws/41") as ws:
            for text in ("hello", "ä" * 1000, ""):
                await ws.send(text)
                assert await ws.recv() == f"42: {text}"
        await over.wait()

        # Hypercorn tells the application of no other code.
        codes.append(1006 if client.server == "hypercorn" else 1000)

    codes: list[int] = []
    play(app, scenario)
    assert errors(caplog) == []
    debug = [record.getMessage() for record in caplog.records if record.name == "fastws.error"]
    assert debug == [f"the handler of '/ws/41' ended with its connection: {codes[0]}"]


def test_rooms_with_a_bare_parameter_for_the_connection(play: Play) -> None:
    app = FastWS()
    rooms: dict[str, set[Any]] = {}

    async def tell(room: str, message: dict[str, Any]) -> None:
        for member in list(rooms[room]):
            try:
                await member.send_json(message)
            except Exception:
                rooms[room].discard(member)

    @app.websocket("/chat/{room}")
    async def chat(ws, room: str):  # type: ignore[no-untyped-def]
        await ws.accept()
        await ws.send_json({"type": "welcome"})
        members = rooms.setdefault(room, set())
        await tell(room, {"type": "joined"})
        members.add(ws)
        try:
            while ws.client_state == 1:
                text = await ws.receive_text()
                await tell(room, {"type": "message", "text": text, "clients": len(members)})
        except ConnectionError:
            pass
        finally:
            members.discard(ws)
            await tell(room, {"type": "left"})

    async def hear(ws: ClientConnection) -> Any:
        return json.loads(await ws.recv())

    async def scenario(client: Client) -> None:
        path = "/chat/" + quote("the lobby")
        async with client.open(path) as ann, client.open("/chat/other") as stranger:
            assert await hear(ann) == await hear(stranger) == {"type": "welcome"}
            async with client.open(path) as bob:
                assert await hear(bob) == {"type": "welcome"}
                assert await hear(ann) == {"type": "joined"}
                await bob.send("hi")
                said = {"type": "message", "text": "hi", "clients": 2}
                assert await hear(ann) == await hear(bob) == said
            assert await hear(ann) == {"type": "left"}
            await stranger.send("alone")
            assert (await hear(stranger))["clients"] == 1
        assert set(rooms) == {"the lobby", "other"}

    play(app, scenario)


def test_a_manager_of_connections(play: Play) -> None:
    class Manager:
        def __init__(self) -> None:
            self.active: list[WebSocket] = []

        async def connect(self, websocket: WebSocket) -> None:
            await websocket.accept()
            self.active.append(websocket)

        async def broadcast(self, message: str) -> None:
            for connection in self.active:
                await connection.send_text(message)

    app = FastWS()
    manager = Manager()

    @app.websocket("/ws/{client_id}")
    async def endpoint(websocket: WebSocket, client_id: int) -> None:
        await manager.connect(websocket)
        try:
            while True:
                data = await websocket.receive_text()
                await websocket.send_text(f"You wrote: {data}")
                await manager.broadcast(f"{client_id} says: {data}")
        except WebSocketDisconnect:
            manager.active.remove(websocket)
            await manager.broadcast(f"{client_id} left")

    async def scenario(client: Client) -> None:
        async with client.open("/ws/1") as one:
            async with client.open("/ws/2") as two:
                await two.send("x")
                assert await two.recv() == "You wrote: x"
                assert await two.recv() == await one.recv() == "2 says: x"
            assert await one.recv() == "2 left"

    play(app, scenario)


def test_errors_are_caught_by_the_built_in_types(play: Play) -> None:
    app = FastWS()
    ends: asyncio.Queue[str] = asyncio.Queue()

    @app.websocket("/ws")
    async def endpoint(ws: WebSocket) -> None:
        await ws.accept()
        while True:
            try:
                await ws.send_json({"echo": await ws.receive_json()})
            except ConnectionError:
                ends.put_nowait("gone")
                break
            except ValueError as error:
                await ws.send_json({"error": type(error).__name__})
            except TypeError as error:
                await ws.send_json({"error": type(error).__name__})

    async def scenario(client: Client) -> None:
        async with client.open("/ws") as ws:
            for sent, expected in (
                ('{"a": [1]}', {"echo": {"a": [1]}}),
                ("{", {"error": "JSONDecodeError"}),
                (b"{}", {"error": "WebSocketTypeError"}),
            ):
                await ws.send(sent)
                assert json.loads(await ws.recv()) == expected
        assert await ends.get() == "gone"

    play(app, scenario)


def test_iterating_echoes_each_message_in_its_kind(play: Play) -> None:
    app = FastWS()
    ended = asyncio.Event()

    @app.websocket("/")
    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            await (ws.send_text(message) if isinstance(message, str) else ws.send_bytes(message))
        ended.set()

    async def scenario(client: Client) -> None:
        async with client.open("/") as ws:
            for message in ("a", b"b", "", b""):
                await ws.send(message)
                assert await ws.recv() == message
        await ended.wait()

    play(app, scenario)


def test_a_time_limit_closes_the_connection(play: Play) -> None:
    app = FastWS()

    @app.websocket("/wait_for")
    async def waiting(ws: WebSocket) -> None:
        await ws.accept()
        try:
            await asyncio.wait_for(ws.receive_text(), timeout=0.01)
        except asyncio.TimeoutError:
            await ws.close(code=4008)

    @app.websocket("/timeout")
    async def timing(ws: WebSocket) -> None:
        await ws.accept()
        try:
            await ws.receive_text(timeout=0.01)
        except TimeoutError:
            await ws.send_text("too slow")
        assert await ws.receive_text(timeout=TIMEOUT) == "late"
        await ws.close(4009)

    async def scenario(client: Client) -> None:
        async with client.open("/wait_for") as ws:
            assert (await close_of(ws))[0] == 4008
        async with client.open("/timeout") as ws:
            assert await ws.recv() == "too slow"
            await ws.send("late")
            assert (await close_of(ws))[0] == 4009

    play(app, scenario)


def test_what_the_request_said(play: Play) -> None:
    app = FastWS()

    @app.websocket("/ws/{room}")
    async def endpoint(ws: WebSocket, room: str) -> None:
        await ws.accept(subprotocol="chat", headers=[(b"X-Served-By", b"fastws")])
        assert ws.client is not None
        await ws.send_json(
            {
                "room": room,
                "params": ws.path_params,
                "url": str(ws.url),
                "query": ws.query_params.multi_items(),
                "agent": ws.headers["User-Agent"],
                "cookies": ws.cookies,
                "client": ws.client.host,
                "offered": ws.subprotocols,
                "chosen": ws.subprotocol,
            }
        )

    async def scenario(client: Client) -> None:
        async with client.open(
            "/ws/a%20b?x=1&x=2",
            subprotocols=["other", "chat"],
            user_agent_header="test",
            additional_headers={"Cookie": "a=1; b=2"},
        ) as ws:
            assert ws.subprotocol == "chat"
            assert ws.response is not None
            assert ws.response.headers["X-Served-By"] == "fastws"
            assert json.loads(await ws.recv()) == {
                "room": "a b",
                "params": {"room": "a b"},
                "url": f"ws://{client.address}/ws/a b?x=1&x=2",
                "query": [["x", "1"], ["x", "2"]],
                "agent": "test",
                "cookies": {"a": "1", "b": "2"},
                "client": "127.0.0.1",
                "offered": ["other", "chat"],
                "chosen": "chat",
            }
            assert await close_of(ws) == (1000, "")

    play(app, scenario)


# Ends


async def returns(ws: WebSocket) -> None:
    await ws.accept()
    await ws.send_text("last words")


async def raises(ws: WebSocket) -> None:
    await ws.accept()
    raise ZeroDivisionError("secret")


async def raises_http(ws: WebSocket) -> None:
    await ws.accept()
    raise HTTPException(403)


async def raises_close(ws: WebSocket) -> None:
    await ws.accept()
    raise WebSocketException(1008, "not today")


async def raises_wrong_close(ws: WebSocket) -> None:
    await ws.accept()
    raise WebSocketException(99)


async def expects_text(ws: WebSocket) -> None:
    await ws.accept()
    await ws.receive_text()


async def closes(ws: WebSocket) -> None:
    await ws.accept()
    await ws.close(4000, "done")
    with pytest.raises(RuntimeError):
        await ws.send_text("x")
    await ws.send_text("x")  # what escapes after a close of its own is a clean end


@pytest.mark.parametrize(
    ("handler", "expected", "logged"),
    [
        (returns, (1000, ""), None),
        (raises, (1011, ""), ZeroDivisionError),
        (raises_http, (1011, ""), HTTPException),
        (raises_close, (1008, "not today"), None),
        (raises_wrong_close, (1011, ""), ValueError),
        (closes, (4000, "done"), None),
    ],
)
def test_how_a_handler_ends_its_connection(
    play: Play,
    caplog: pytest.LogCaptureFixture,
    handler: Any,
    expected: tuple[int, str],
    logged: type[Exception] | None,
) -> None:
    app = FastWS()
    app.websocket("/")(handler)

    async def scenario(client: Client) -> None:
        async with client.open("/") as ws:
            if handler is returns:
                assert await ws.recv() == "last words"
            assert await close_of(ws) == expected

    play(app, scenario)
    records = errors(caplog)
    assert [record.exc_info and record.exc_info[0] for record in records] == (
        [logged] if logged else []
    )
    assert all(record.name == "fastws.error" for record in records)


def test_the_wrong_kind_of_message_closes_with_1003(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastWS()
    app.websocket("/")(expects_text)

    async def scenario(client: Client) -> None:
        async with client.open("/") as ws:
            await ws.send(b"binary")
            code, reason = await close_of(ws)
            assert code == 1003
            assert "binary" in (reason or "")

    play(app, scenario)
    assert errors(caplog) == []


# Refusals


async def forgets(ws: WebSocket) -> None:
    pass


async def fails_early(ws: WebSocket) -> None:
    raise ZeroDivisionError("secret")


async def forbids(ws: WebSocket) -> None:
    raise HTTPException(401, "who are you?", {"WWW-Authenticate": "Basic"})


async def excludes(ws: WebSocket) -> None:
    raise WebSocketException(1008)


async def forbids_wrongly(ws: WebSocket) -> None:
    raise HTTPException(403, "secret", {"x": "a\nb"})


async def refuses(ws: WebSocket) -> None:
    await ws.close()


async def denies(ws: WebSocket) -> None:
    await ws.send_denial_response(418, {"x-pot": "tea"}, "short and stout")


async def typed(ws: WebSocket, n: int = 0) -> None:
    raise AssertionError("it ran")


@pytest.mark.parametrize(
    ("path", "handler", "status", "said", "logs"),
    [
        ("/", forgets, 500, b"Internal Server Error", True),
        ("/", fails_early, 500, b"Internal Server Error", True),
        ("/", forbids, 401, b'{"detail":"who are you?"}', False),
        ("/", forbids_wrongly, 500, b"Internal Server Error", True),
        ("/", excludes, 403, b'{"detail":"Forbidden"}', False),
        ("/", refuses, 403, b"", False),
        ("/", denies, 418, b"short and stout", False),
        ("/elsewhere", forgets, 404, b'{"detail":"Not Found"}', False),
        ("/{n}", typed, 422, b'"loc":["path","n"]', False),
    ],
)
def test_a_handshake_that_is_refused(
    play: Play,
    caplog: pytest.LogCaptureFixture,
    path: str,
    handler: Any,
    status: int,
    said: bytes,
    logs: bool,
) -> None:
    app = FastWS()
    app.websocket(path if path != "/elsewhere" else "/")(handler)

    async def scenario(client: Client) -> None:
        answered, body = await client.refused(path.replace("{n}", "x"))
        assert answered == status
        assert said in body
        assert b"secret" not in body

    play(app, scenario)
    assert [record.name for record in errors(caplog)] == (["fastws.error"] if logs else [])


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://example.org", None),
        (None, None),
        ("https://example.org.evil.example", 403),
        ("null", 403),
    ],
)
def test_the_origins_of_a_route_hold_here_too(play: Play, origin: Any, status: int | None) -> None:
    app = FastWS()
    app.websocket("/", origins=["https://example.org"])(returns)

    async def scenario(client: Client) -> None:
        if status is None:
            async with client.open("/", origin=origin) as ws:
                assert await ws.recv() == "last words"
        else:
            with pytest.raises(InvalidStatus) as caught:
                await client.open("/", origin=origin)
            assert caught.value.response.status_code == status

    play(app, scenario)


def test_the_subprotocols_of_a_route_hold_here_too(play: Play) -> None:
    app = FastWS()

    @app.websocket("/", subprotocols=["chat"])
    async def handler(ws: WebSocket) -> None:
        assert ws.subprotocols == ("chat",)
        await ws.accept(ws.subprotocols[0])

    async def scenario(client: Client) -> None:
        async with client.open("/", subprotocols=["other", "chat"]) as ws:
            assert ws.subprotocol == "chat"

    play(app, scenario)


def test_a_wrong_option_of_a_route_is_told_at_the_start() -> None:
    app = FastWS()
    app.websocket("/", ws_max_sise=5)(returns)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    run(app({"type": "lifespan"}, receive, send))
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert "sise" in sent[0]["message"]


def test_a_server_without_denial_responses_refuses_with_its_403() -> None:
    app = FastWS()
    app.websocket("/")(forbids)
    peer = ASGIPeer(extensions={})
    run(app(peer.scope, peer.receive, peer.send))
    assert peer.kinds == ["websocket.close"]


def test_a_client_that_leaves_before_accept_is_not_answered() -> None:
    app = FastWS()
    app.websocket("/")(returns)
    peer = ASGIPeer(connects=False)
    peer.leave(1006)
    run(app(peer.scope, peer.receive, peer.send))
    assert peer.sent == []


def test_a_cancelled_handler_leaves_its_end_to_the_server() -> None:
    app = FastWS()

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        with pytest.raises(TimeoutError):
            await ws.receive(0.01)
        raise asyncio.CancelledError

    async def main() -> None:
        peer = ASGIPeer()
        with pytest.raises(asyncio.CancelledError):
            await app(peer.scope, peer.receive, peer.send)
        assert peer.kinds == ["websocket.accept"]

    run(main())


# Plain HTTP


def test_pages(play: Play) -> None:
    app = FastWS()
    app.websocket("/ws")(returns)

    @app.get("/items/{number}")
    def item(number: int, request: Request) -> Any:
        return {"number": number, "q": request.query_params.get("q")}

    async def scenario(client: Client) -> None:
        head, body = await client.request("GET /items/5?q=x")
        assert head.startswith("http/1.1 200")
        assert "content-type: application/json" in head
        assert json.loads(body) == {"number": 5, "q": "x"}
        head, body = await client.request("HEAD /items/5?q=x")
        assert "content-length: 20" in head
        assert body == b""
        head, _ = await client.request("POST /items/5")
        assert head.startswith("http/1.1 405")
        assert "allow: get, head" in head
        head, _ = await client.request("GET /ws")
        assert head.startswith("http/1.1 426")
        assert "upgrade: websocket" in head
        assert "connection: upgrade" in head
        head, _ = await client.request("GET /nowhere")
        assert head.startswith("http/1.1 404")

    play(app, scenario)


def test_a_client_that_leaves_before_its_page_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    app = FastWS()
    app.get("/")(lambda: "x")
    peer = ASGIPeer()
    peer.broken = True
    run(app(http_scope(), peer.receive, peer.send))
    assert errors(caplog) == []


def test_under_a_root_path_and_inside_another_application(play: Play) -> None:
    app, router = FastWS(), APIRouter(prefix="/v1")

    @router.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_text(ws.url.path)

    app.include_router(router)
    app.get("/page")(lambda: "page")

    async def outer(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            assert scope["path"].startswith("/sub")
            scope = {**scope, "root_path": "/sub"}
        await app(scope, receive, send)

    async def scenario(client: Client) -> None:
        async with client.open("/sub/v1/ws") as ws:
            assert await ws.recv() == "/sub/v1/ws"
        assert (await client.request("GET /sub/page"))[1] == b"page"

    play(outer, scenario)


# Lifespan


def test_the_lifespan_reaches_the_connections(play: Play) -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastWS) -> AsyncIterator[dict[str, Any]]:
        seen.append("up")
        yield {"db": "pool"}
        seen.append("down")

    app = FastWS(lifespan=lifespan)

    @app.on_startup
    def start() -> None:
        app.state.cache = "warm"

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_json([ws.state.db, ws.state.cache, ws.app.state.db, ws.app is app])
        ws.state.db = "mine"

    async def scenario(client: Client) -> None:
        for _ in range(2):
            async with client.open("/") as ws:
                assert json.loads(await ws.recv()) == ["pool", "warm", "pool", True]
        assert seen == ["up"]

    play(app, scenario)
    assert seen == ["up", "down"]


@pytest.mark.parametrize("when", ["startup", "shutdown"])
@pytest.mark.parametrize("keeps_state", [True, False])
def test_a_failing_lifespan_is_told_to_the_server(when: str, keeps_state: bool) -> None:
    app = FastWS()

    def failing() -> None:
        raise ZeroDivisionError("no database")

    (app.on_startup if when == "startup" else app.on_shutdown)(failing)
    sent: list[Message] = []

    async def main() -> None:
        async def receive() -> Message:
            return {"type": "lifespan.shutdown" if sent else "lifespan.startup"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope: Scope = {"type": "lifespan"}
        if keeps_state:
            scope["state"] = {}
        await asgi.handle(app, scope, receive, send)

    run(main())
    assert sent[-1]["type"] == f"lifespan.{when}.failed"
    assert "no database" in sent[-1]["message"]
    assert len(sent) == (1 if when == "startup" else 2)


def test_a_scope_of_another_type_is_refused() -> None:
    peer = ASGIPeer()
    with pytest.raises(ValueError, match="'smtp': fastws handles websocket, http and lifespan"):
        run(FastWS()({"type": "smtp"}, peer.receive, peer.send))


# Ends


def test_a_client_killed_amid_broadcasts_ends_its_own_handler_and_no_other(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastWS()
    active: list[WebSocket] = []
    ended: list[int] = []
    killed = asyncio.Event()

    async def broadcast(text: str) -> None:
        for member in active:
            await member.send_text(text)

    @app.websocket("/ws/{client_id}")
    async def endpoint(websocket: WebSocket, client_id: int) -> None:
        await websocket.accept()
        active.append(websocket)
        try:
            while True:
                await broadcast(f"#{client_id} {await websocket.receive_text()}")
        except WebSocketDisconnect:
            active.remove(websocket)
            ended.append(client_id)
            killed.set()
            await broadcast(f"#{client_id} left")

    async def scenario(client: Client) -> None:
        async with client.open("/ws/1") as one, client.open("/ws/3") as three:
            two = await client.open("/ws/2")
            for ws in (one, two, three):
                await ws.send("hello")
                assert await one.recv() is not None
            two.transport.abort()
            for number in range(20):
                await one.send(str(number))
            await asyncio.wait_for(killed.wait(), TIMEOUT)
            await three.send("still here")
            for ws in (one, three):
                while await asyncio.wait_for(ws.recv(), TIMEOUT) != "#3 still here":
                    pass
            assert ended == [2]

    play(app, scenario)
    assert errors(caplog) == []


def test_a_handler_that_asks_for_it_is_cancelled_when_its_client_leaves(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastWS()
    over = asyncio.Event()

    @app.websocket("/", cancel_on_disconnect=True)
    async def endpoint(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_text(await ws.receive_text())
        try:
            await asyncio.Event().wait()
        finally:
            over.set()

    async def scenario(client: Client) -> None:
        async with client.open("/") as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello"
        await asyncio.wait_for(over.wait(), TIMEOUT)

    play(app, scenario)
    assert errors(caplog) == []


def test_the_tasks_of_a_connection_end_with_it(play: Play) -> None:
    app = FastWS()
    heartbeats: list[asyncio.Task[None]] = []

    async def heartbeat(ws: WebSocket) -> None:
        await ws.send_text("alive")
        await asyncio.Event().wait()

    @app.websocket("/")
    async def endpoint(ws: WebSocket) -> None:
        await ws.accept()
        heartbeats.append(ws.tasks.create_task(heartbeat(ws)))
        await ws.receive_text()

    async def scenario(client: Client) -> None:
        async with client.open("/") as ws:
            assert await ws.recv() == "alive"
        await asyncio.wait(heartbeats, timeout=TIMEOUT)
        assert heartbeats[0].cancelled()

    play(app, scenario)
