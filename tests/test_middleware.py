"""Middleware of both forms: under this package's own server, and under others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware as StarletteMiddleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from websockets.exceptions import ConnectionClosed

from fastws.app import FastWS
from fastws.datastructures import Message, Receive, Scope, Send
from fastws.exceptions import HTTPException, WebSocketDisconnect, WebSocketException
from fastws.middleware import ASGIApp, CallNext, Middleware
from fastws.requests import Request
from fastws.responses import PlainTextResponse, Response
from fastws.websocket import WebSocket
from tests.asgi_servers import SERVERS, Client, close_of, running
from tests.backends import BACKENDS, visit
from tests.support import TIMEOUT, run

Scenario = Callable[[Client], Coroutine[Any, Any, None]]
Play = Callable[[FastWS, Scenario], None]


@pytest.fixture(params=SERVERS)
def play(request: pytest.FixtureRequest) -> Play:
    """Serves an application with each of the servers, and runs a scenario."""

    def play(app: FastWS, scenario: Scenario) -> None:
        async def main() -> None:
            async with running(app, request.param) as address:
                await scenario(Client(address, request.param))

        run(main())

    return play


class Passing:
    """Hands everything on as it came, and writes down what."""

    def __init__(self, app: ASGIApp, seen: list[Any], name: str = "passing") -> None:
        self.app = app
        self.seen = seen
        self.name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append((self.name, scope["type"], scope["path"]))
        try:
            await self.app(scope, receive, send)
        finally:
            self.seen.append((self.name, "over"))


class Marking:
    """Appends its mark to what is sent, and to the headers of responses."""

    def __init__(self, app: ASGIApp, mark: str) -> None:
        self.app = app
        self.mark = mark

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            if message.get("text"):
                message = {**message, "text": message["text"] + self.mark}
            if message["type"].endswith("http.response.start"):
                headers = [*message["headers"], (b"x-mark", self.mark.encode())]
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, marked)


def echoing(app: FastWS) -> None:
    """An echo at /ws/{n}, which tells how it gets its messages when asked for "link"."""

    @app.websocket("/ws/{n}")
    async def echo(ws: WebSocket, n: int) -> None:
        await ws.accept()
        async for message in ws:
            answer = type(ws._link).__name__ if message == "link" else f"{n}: {message!s}"
            await ws.send_text(answer)


async def echo_of(client: Client, *texts: str, path: str = "/ws/7") -> list[str]:
    async with client.open(path) as ws:
        answers = []
        for text in texts:
            await ws.send(text)
            answers.append(str(await asyncio.wait_for(ws.recv(), TIMEOUT)))
        return answers


# Classes


def test_a_class_sees_websockets_and_requests(play: Play) -> None:
    seen: list[Any] = []
    app = FastWS(middleware=[Middleware(Passing, seen)])
    echoing(app)
    app.get("/page")(lambda: "page")

    async def scenario(client: Client) -> None:
        assert await echo_of(client, "hello") == ["7: hello"]
        assert (await client.request("GET /page"))[1] == b"page"

    play(app, scenario)
    assert seen == [
        ("passing", "websocket", "/ws/7"),
        ("passing", "over"),
        ("passing", "http", "/page"),
        ("passing", "over"),
    ]


def test_a_class_may_change_what_is_sent_and_the_first_is_the_outermost(play: Play) -> None:
    app = FastWS(middleware=[Middleware(Marking, "a"), Middleware(Marking, mark="b")])
    app.add_middleware(Marking, mark="c")
    echoing(app)
    app.get("/page")(lambda: "page")

    async def scenario(client: Client) -> None:
        assert await echo_of(client, "hello") == ["7: hellobac"]
        head, _ = await client.request("GET /page")
        assert [line for line in head.split("\r\n") if "x-mark" in line] == [
            "x-mark: b",
            "x-mark: a",
            "x-mark: c",
        ]

    play(app, scenario)


def test_a_class_that_hands_everything_on_costs_no_message_anything() -> None:
    app = FastWS(middleware=[Middleware(Passing, [])])
    app.add_middleware(Passing, [], name="outer")
    echoing(app)

    async def main() -> None:
        async with running(app, "fastws") as address:
            assert await echo_of(Client(address, "fastws"), "link") == ["Connection"]

    run(main())


def test_behind_a_class_with_its_own_send_the_whole_api_works() -> None:
    app = FastWS(middleware=[Middleware(Marking, "!")])
    seen: dict[str, Any] = {}

    @app.websocket("/")
    async def endpoint(ws: WebSocket) -> None:
        behind = ws._link.behind
        assert behind is not None
        assert behind is not ws
        await ws.accept()
        seen["ping"] = await ws.ping()
        seen["same id"] = ws.id == behind.id
        seen["task"] = ws.tasks.create_task(asyncio.Event().wait())
        with pytest.raises(TimeoutError):
            await ws.receive_text(timeout=0)
        await ws.send_text("go")
        seen["state"] = ws.state is not behind.state and ws.state._values is behind.state._values
        seen["text"] = await ws.receive_text()
        with pytest.raises(WebSocketDisconnect):
            await ws.receive_text()
        seen["code"] = ws.close_code

    async def main() -> None:
        async with running(app, "fastws") as address:
            async with Client(address, "fastws").open("/") as ws:
                assert await ws.recv() == "go!"
                await ws.send("hello")
                await ws.close(3000)
        await asyncio.wait({seen["task"]}, timeout=TIMEOUT)

    run(main())
    assert seen.pop("ping") < TIMEOUT
    assert seen.pop("task").cancelled()
    assert seen == {"same id": True, "state": True, "text": "hello", "code": 3000}


def test_starlettes_middleware_works(play: Play) -> None:
    class Stamped(BaseHTTPMiddleware):
        async def dispatch(self, request: Any, call_next: Any) -> Any:
            response = await call_next(request)
            response.headers["X-Stamp"] = request.url.path
            return response

    app = FastWS(
        middleware=[
            StarletteMiddleware(CORSMiddleware, allow_origins=["https://example.org"]),
            StarletteMiddleware(GZipMiddleware, minimum_size=10),
            StarletteMiddleware(Stamped),
        ]
    )
    echoing(app)
    app.get("/page")(lambda: "page " * 100)

    async def scenario(client: Client) -> None:
        assert await echo_of(client, "a", "b") == ["7: a", "7: b"]
        head, body = await client.request(
            "GET /page", "Origin: https://example.org", "Accept-Encoding: gzip"
        )
        assert "access-control-allow-origin: https://example.org" in head
        assert "content-encoding: gzip" in head
        assert "x-stamp: /page" in head
        assert body.startswith(b"\x1f\x8b")
        head, body = await client.request("HEAD /page")
        assert "content-length: 500" in head
        assert body == b""
        head, _ = await client.request(
            "OPTIONS /page", "Origin: https://example.org", "Access-Control-Request-Method: GET"
        )
        assert head.startswith("http/1.1 200")
        assert "access-control-allow-methods" in head

    play(app, scenario)


def test_what_authentication_puts_into_the_scope_is_there(play: Play) -> None:
    class Bearer(AuthenticationBackend):
        async def authenticate(self, connection: Any) -> tuple[AuthCredentials, SimpleUser]:
            return AuthCredentials(["chat"]), SimpleUser(connection.headers["x-user"])

    app = FastWS(middleware=[Middleware(AuthenticationMiddleware, backend=Bearer())])

    def describe(connection: WebSocket | Request) -> list[Any]:
        with pytest.raises(RuntimeError, match="no 'session': add SessionMiddleware"):
            _ = connection.session
        return [connection.user.username, connection.auth.scopes]

    @app.websocket("/")
    async def endpoint(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_json(describe(ws))

    @app.get("/")
    async def page(request: Request) -> Any:
        return describe(request)

    async def scenario(client: Client) -> None:
        async with client.open("/", additional_headers={"X-User": "ann"}) as ws:
            assert await ws.recv() == '["ann",["chat"]]'
        assert (await client.request("GET /", "X-User: bob"))[1] == b'["bob",["chat"]]'

    play(app, scenario)


def test_a_class_may_refuse_a_websocket_with_a_response(play: Play) -> None:
    app = FastWS()
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["elsewhere.example"])
    echoing(app)

    async def scenario(client: Client) -> None:
        assert await client.refused("/ws/1") == (400, b"Invalid host header")

    play(app, scenario)


def test_this_packages_responses_are_asgi_applications(play: Play) -> None:
    class Refusing:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await PlainTextResponse("not today", 503, {"Retry-After": "9"})(scope, receive, send)

    app = FastWS(middleware=[Middleware(Refusing)])
    echoing(app)

    async def scenario(client: Client) -> None:
        assert await client.refused("/ws/1") == (503, b"not today")
        head, body = await client.request("GET /page")
        assert "retry-after: 9" in head
        assert body == b"not today"

    play(app, scenario)


@pytest.mark.parametrize("copies", [True, False])
def test_a_class_may_give_a_connection_another_path(play: Play, copies: bool) -> None:
    class Unversioned:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if copies:
                scope = dict(scope)
            scope["path"] = scope["path"].removeprefix("/v1")
            scope["user"] = "ann"
            await self.app(scope, receive, send)

    app = FastWS(middleware=[Middleware(Unversioned)])
    app.get("/page")(lambda: "page")

    @app.websocket("/ws/{n}")
    async def endpoint(ws: WebSocket, n: int) -> None:
        await ws.accept()
        await ws.send_json([n, ws.path_params, ws.url.path, ws.scope["user"]])

    @app.websocket("/guarded", origins=["https://example.org"])
    async def guarded(ws: WebSocket) -> None:
        await ws.accept()

    async def scenario(client: Client) -> None:
        async with client.open("/v1/ws/7") as ws:
            assert json.loads(await ws.recv()) == [7, {"n": "7"}, "/ws/7", "ann"]
        assert (await client.request("GET /v1/page"))[1] == b"page"
        assert (await client.refused("/v1/elsewhere"))[0] == 404
        # What a route demands is demanded however the connection came to it.
        evil = {"Origin": "https://evil.example"}
        assert (await client.refused("/v1/guarded", additional_headers=evil))[0] == 403

    play(app, scenario)


def test_a_class_sees_failures_as_they_are_and_no_refusals(play: Play) -> None:
    seen: list[Any] = []

    class Catching:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await self.app(scope, receive, send)
            except Exception as error:
                seen.append(type(error))
                raise

    app = FastWS(middleware=[Middleware(Catching)])
    errors = {
        "refusal": HTTPException(403, "no"),
        "close": WebSocketException(4000, "bye"),
        "failure": ZeroDivisionError(),
    }

    @app.websocket("/{when}/{kind}")
    async def endpoint(ws: WebSocket, when: str, kind: str) -> None:
        if when == "late":
            await ws.accept()
        raise errors[kind]

    async def scenario(client: Client) -> None:
        assert await client.refused("/early/refusal") == (403, b'{"detail":"no"}')
        assert (await client.refused("/early/close"))[0] == 403
        async with client.open("/late/close") as ws:
            assert await close_of(ws) == (4000, "bye")
        assert seen == []
        for path in ("/late/failure", "/late/refusal"):
            async with client.open(path) as ws:
                assert (await close_of(ws))[0] == 1011
        assert (await client.refused("/early/failure"))[0] == 500
        assert seen == [ZeroDivisionError, HTTPException, ZeroDivisionError]

    play(app, scenario)


def test_a_class_that_answers_nothing_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    class Silent:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})

    app = FastWS(middleware=[Middleware(Silent)])

    async def main() -> None:
        async with running(app, "fastws") as address:
            head, _ = await Client(address, "fastws").request("GET /")
            assert head.startswith("http/1.1 500")

    run(main())
    assert "middleware Silent sent no response, or half of one" in caplog.text


@pytest.mark.parametrize("event", [{"type": "http.response.trailers"}, {"type": "websocket.send"}])
def test_events_that_a_page_does_not_have_are_refused(
    caplog: pytest.LogCaptureFixture, event: Message
) -> None:
    class Wrong:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await send(event)

    app = FastWS(middleware=[Middleware(Wrong)])

    async def main() -> None:
        async with running(app, "fastws") as address:
            await Client(address, "fastws").request("GET /")

    run(main())
    assert f"{event['type']!r} cannot be sent here" in caplog.text


def test_the_client_of_a_page_is_there_until_it_has_its_response() -> None:
    seen: list[Message] = []

    class Watching:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(await receive())
            watch = asyncio.ensure_future(receive())
            await self.app(scope, receive, send)
            seen.append(await asyncio.wait_for(watch, TIMEOUT))

    app = FastWS(middleware=[Middleware(Watching)])
    app.get("/")(lambda: "page")

    async def main() -> None:
        async with running(app, "fastws") as address:
            assert (await Client(address, "fastws").request("GET /"))[1] == b"page"

    run(main())
    assert [message["type"] for message in seen] == ["http.request", "http.disconnect"]


# Functions


def test_a_function_runs_around_the_handler_of_its_kind(play: Play) -> None:
    app = FastWS()
    echoing(app)
    app.get("/page")(lambda: "page")
    seen: list[str] = []

    @app.middleware("websocket")
    async def around(ws: WebSocket, call_next: CallNext) -> None:
        seen.append(f"begins {ws.path_params['n']} {ws.client_state.name}")
        await call_next(ws)
        seen.append("ends")

    @app.middleware("http")
    async def stamped(request: Request, call_next: CallNext) -> Response:
        response: Response = await call_next(request)
        response.headers["X-Path"] = request.url.path
        return response

    async def scenario(client: Client) -> None:
        assert await echo_of(client, "hello") == ["7: hello"]
        head, body = await client.request("GET /page")
        assert "x-path: /page" in head
        assert body == b"page"

    play(app, scenario)
    assert seen == ["begins 7 CONNECTING", "ends"]


def test_functions_and_classes_are_in_one_order(play: Play) -> None:
    seen: list[Any] = []
    app = FastWS(middleware=[Middleware(Passing, seen, "class 1")])
    echoing(app)

    @app.middleware("websocket")
    async def function(ws: WebSocket, call_next: CallNext) -> None:
        seen.append("function")
        await call_next(ws)

    app.add_middleware(Passing, seen, "class 2")

    async def scenario(client: Client) -> None:
        assert await echo_of(client, "x") == ["7: x"]

    play(app, scenario)
    begun = [
        entry[0] if isinstance(entry, tuple) else entry for entry in seen if "over" not in entry
    ]
    assert begun == ["class 2", "function", "class 1"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_function_may_refuse_accept_or_answer_itself(backend: str) -> None:
    app = FastWS()

    @app.websocket("/{what}")
    async def endpoint(ws: WebSocket, what: str) -> None:
        if ws.application_state != 1:
            await ws.accept()
        await ws.send_text("handler")

    @app.middleware("websocket")
    async def guard(ws: WebSocket, call_next: CallNext) -> None:
        match ws.path_params["what"]:
            case "raise":
                raise HTTPException(401, "who are you?", {"WWW-Authenticate": "Bearer"})
            case "deny":
                await ws.send_denial_response(PlainTextResponse("no", 418))
            case "answer":
                await ws.accept()
                await ws.send_text("middleware")
            case "before":
                await ws.accept()
                await ws.send_text("middleware")
                await call_next(ws)
            case "after":
                await call_next(ws)
                await ws.send_text("middleware")

    async def main() -> None:
        refused = await visit(backend, app, "/raise")
        assert (refused.status, refused.detail) == (401, "who are you?")
        assert refused.headers["www-authenticate"] == "Bearer"
        refused = await visit(backend, app, "/deny")
        assert (refused.status, refused.body) == (418, b"no")
        assert (await visit(backend, app, "/answer")).messages == ["middleware"]
        assert (await visit(backend, app, "/before")).messages == ["middleware", "handler"]
        assert (await visit(backend, app, "/after")).messages == ["handler", "middleware"]

    run(main())


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_function_sees_how_the_handler_ended(backend: str) -> None:
    app = FastWS()
    seen: list[str] = []

    @app.websocket("/disconnect")
    async def disconnect(ws: WebSocket) -> None:
        await ws.accept()
        await ws.receive_text()

    @app.websocket("/close")
    async def close(ws: WebSocket) -> None:
        await ws.accept()
        raise WebSocketException(4000)

    @app.websocket("/typed/{n}")
    async def typed(ws: WebSocket, n: int) -> None: ...

    @app.middleware("websocket")
    async def watch(ws: WebSocket, call_next: CallNext) -> None:
        try:
            await call_next(ws)
        except Exception as error:
            seen.append(type(error).__name__)
            raise

    async def main() -> None:
        await visit(backend, app, "/disconnect", leaves=True)
        assert (await visit(backend, app, "/close")).code == 4000
        assert (await visit(backend, app, "/typed/x")).status == 422
        assert (await visit(backend, app, "/unknown")).status == 404

    run(main())
    assert seen == ["WebSocketDisconnect", "WebSocketException", "HTTPException", "HTTPException"]


def test_functions_for_pages_may_return_what_pages_may_and_raise(play: Play) -> None:
    app = FastWS()
    app.get("/page")(lambda: "page")

    @app.middleware("http")
    async def guard(request: Request, call_next: CallNext) -> Any:
        if "secret" in request.query_params:
            raise HTTPException(403, "no")
        if "short" in request.query_params:
            return {"short": True}
        return await call_next(request)

    async def scenario(client: Client) -> None:
        assert (await client.request("GET /page"))[1] == b"page"
        assert (await client.request("GET /page?short"))[1] == b'{"short":true}'
        head, body = await client.request("GET /page?secret")
        assert head.startswith("http/1.1 403")
        assert body == b'{"detail":"no"}'
        assert (await client.request("GET /nowhere"))[0].startswith("http/1.1 404")

    play(app, scenario)


def test_an_abrupt_end_behind_middleware_is_told_to_the_handler(play: Play) -> None:
    seen: list[Any] = []
    app = FastWS(middleware=[Middleware(Marking, "!")])
    over = asyncio.Event()

    @app.websocket("/")
    async def endpoint(ws: WebSocket) -> None:
        await ws.accept()
        try:
            await ws.receive_text()
        except WebSocketDisconnect as error:
            seen.append(error.code)
        over.set()

    async def scenario(client: Client) -> None:
        ws = await client.open("/")
        ws.transport.abort()
        with pytest.raises(ConnectionClosed):
            await ws.recv()
        await asyncio.wait_for(over.wait(), TIMEOUT)

    play(app, scenario)
    # It is 1006, and uvicorn says 1005.
    assert seen in ([1006], [1005])


# Registration


def test_middleware_is_not_added_once_the_application_serves() -> None:
    app = FastWS()

    async def main() -> None:
        async with app.lifespan_context():
            with pytest.raises(RuntimeError, match="before the application serves"):
                app.add_middleware(Passing, [])

    run(main())


def test_what_is_no_middleware_is_refused_with_a_sentence() -> None:
    app = FastWS()
    with pytest.raises(ValueError, match="middleware for 'lifespan': expected"):
        app.middleware("lifespan")(echo_of)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"middleware <lambda>\(\) must be an async function"):
        app.middleware("http")(lambda request, call_next: call_next(request))
    with pytest.raises(TypeError, match=r"expected Middleware\(cls, …\)"):
        FastWS(middleware=[Passing])  # type: ignore[list-item]
    assert repr(Middleware(Passing, 1, name="x")) == "Middleware(Passing, 1, name='x')"


def test_a_class_that_cannot_be_made_is_told_at_the_start() -> None:
    app = FastWS(middleware=[Middleware(Passing)])

    async def main() -> None:
        with pytest.raises(TypeError, match="seen"):
            async with app.lifespan_context():
                pass

    run(main())


def test_a_scope_of_another_type_is_not_handed_on() -> None:
    class Other:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await self.app({**scope, "type": "lifespan"}, receive, send)

    app = FastWS(middleware=[Middleware(Other)], debug=True)

    async def main() -> None:
        async with running(app, "fastws") as address:
            _, body = await Client(address, "fastws").request("GET /")
            assert b"handed a scope of type 'lifespan' on" in body

    run(main())
