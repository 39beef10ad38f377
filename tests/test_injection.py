"""Dependencies of a connection at work: called, refused, torn down; on both back ends."""

# ruff: noqa: B008  (a call in a default is how these are declared)

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Annotated, Any

import pytest

from fastws.app import FastWS
from fastws.dependencies import Depends
from fastws.exceptions import HTTPException, WebSocketDisconnect, WebSocketException
from fastws.injection import Handler
from fastws.parameters import Header, Query
from fastws.requests import HTTPConnection, Request
from fastws.responses import Response
from fastws.routing import APIRouter, APIWebSocketRoute
from fastws.websocket import WebSocket
from tests.asgi_peer import ASGIPeer, http_scope
from tests.backends import BACKENDS, Visit, visit
from tests.serving import connect, handshake, serving, status_of
from tests.support import TIMEOUT, run

Going = Callable[..., Visit]

flavour: ContextVar[str] = ContextVar("flavour", default="plain")


@pytest.fixture(params=BACKENDS)
def go(request: pytest.FixtureRequest) -> Going:
    """Visits an application, or a handler on the path ``/``."""

    def go(app: Any, target: str = "/", *headers: str, **options: Any) -> Visit:
        if not isinstance(app, FastWS):
            handler, app = app, FastWS()
            app.websocket("/")(handler)
        return run(visit(request.param, app, target, *headers, **options))

    return go


@pytest.fixture
def events() -> list[Any]:
    """What happened, in order."""
    return []


async def reply(ws: WebSocket, *values: object) -> None:
    await ws.accept()
    await ws.send_json(values)


async def resource(ws: WebSocket) -> AsyncIterator[list[Any]]:
    """Notes in ``ws.app.state.events`` when it is opened and closed, and what it ended with."""
    events = ws.app.state.events
    events.append("open")
    try:
        yield events
    except BaseException as error:
        events.append(type(error).__name__)
        raise
    finally:
        events.append("close")


def noting(events: list[Any]) -> FastWS:
    app = FastWS()
    app.state.events = events
    return app


# Calling


def test_every_kind_of_function_is_a_dependency(go: Going) -> None:
    main = threading.current_thread()

    def in_thread() -> bool:
        return threading.current_thread() is main

    async def in_loop() -> bool:
        return threading.current_thread() is main

    class Paging:
        def __init__(self, limit: int = 10) -> None:
            self.limit = limit

    class Checker:
        async def __call__(self, q: str) -> str:
            return q

        def method(self, q: str) -> str:
            return q * 2

    async def handler(
        ws: WebSocket,
        a: bool = Depends(in_thread),
        b: bool = Depends(in_loop),
        c: bool = Depends(in_thread, use_cache=False, inline=True),
        d: Any = Depends(Paging),
        e: str = Depends(Checker()),
        f: str = Depends(Checker().method),
        # It does not tell that it makes a coroutine.
        g: bool = Depends(lambda: in_loop()),
    ) -> None:
        await reply(ws, a, b, c, d.limit, e, f, g)

    said = go(handler, "/?q=x&limit=3").values
    assert said == [False, True, True, 3, "x", "xx", True]


def test_dependencies_nest_and_are_called_once(go: Going, events: list[Any]) -> None:
    def settings() -> int:
        events.append("settings")
        return 1

    async def database(settings: int = Depends(settings)) -> int:
        return settings + 1

    def user(
        connection: HTTPConnection,
        name: str,
        database: int = Depends(database),
        settings: int = Depends(settings),
    ) -> str:
        return f"{name} {database} {settings} {connection.url.path}"

    async def handler(
        ws: WebSocket, user: str = Depends(user), again: int = Depends(settings)
    ) -> None:
        await reply(ws, user, again)

    assert go(handler, "/?name=ada").values == ["ada 2 1 /", 1]
    assert events == ["settings"]


def test_inline_dependencies_leave_the_handler_its_own_coroutine() -> None:
    async def handler(ws: WebSocket, x: int = Depends(lambda: 5, inline=True)) -> int:
        return x

    async def waits(ws: WebSocket, x: int = Depends(lambda: 5)) -> int:
        return x

    peer = ASGIPeer(connects=False)
    ws = WebSocket(peer.scope, peer.receive, peer.send)
    for function, is_own in ((handler, True), (waits, False)):
        coroutine: Any = Handler(function, {}, WebSocket).start(ws, {})
        assert (coroutine.cr_code is function.__code__) is is_own
        assert run(coroutine) == 5


def test_an_inline_dependency_may_be_async_but_must_not_wait(
    go: Going, caplog: pytest.LogCaptureFixture
) -> None:
    async def quick() -> int:
        return 5

    async def slow() -> None:
        await asyncio.sleep(0)

    async def handler(ws: WebSocket, x: int = Depends(quick, inline=True)) -> None:
        await reply(ws, x)

    async def waiting(ws: WebSocket, x: None = Depends(slow, inline=True)) -> None: ...

    assert go(handler).values == [5]
    assert go(waiting).status == 500
    assert "slow() is marked inline, and it waits" in caplog.text


def test_context_variables_of_async_dependencies_reach_the_handler_alone(go: Going) -> None:
    async def sets() -> None:
        flavour.set("async")

    def in_thread() -> str:
        before = flavour.get()
        flavour.set("thread")
        return before

    def inline() -> str:
        before = flavour.get()
        flavour.set("inline")
        return before

    async def handler(
        ws: WebSocket,
        a: None = Depends(sets),
        b: str = Depends(in_thread),
        c: str = Depends(inline, inline=True),
    ) -> None:
        await reply(ws, b, c, flavour.get())

    async def only_inline(ws: WebSocket, c: str = Depends(inline, inline=True)) -> None:
        await reply(ws, c, flavour.get())

    assert go(handler).values == ["async", "async", "async"]
    for _ in range(2):
        assert go(only_inline).values == ["plain", "plain"]


def test_a_handler_may_leave_the_connection_to_a_dependency(go: Going) -> None:
    class Session:
        def __init__(self, ws: WebSocket) -> None:
            self.ws = ws

    async def session(ws: WebSocket) -> Session:
        await ws.accept()
        return Session(ws)

    async def handler(session: Any = Depends(session)) -> None:
        await session.ws.send_json(["hello"])

    assert go(handler).values == ["hello"]


# Refusing


def test_the_complaints_of_all_dependencies_come_at_once(go: Going, events: list[Any]) -> None:
    def one(a: int) -> int:
        events.append("one")
        return a

    async def two(one: int = Depends(one), b: int = Query(ge=5)) -> None:
        events.append("two")

    def three(c: str = Header()) -> None:
        events.append("three")

    def fine() -> None:
        events.append("fine")

    async def handler(
        ws: WebSocket,
        d: bool,
        x: None = Depends(two),
        y: None = Depends(three),
        z: None = Depends(fine),
    ) -> None:
        events.append("handler")

    assert go(handler, "/?a=x&b=1&d=maybe").complaints == [
        ("query", "a", "int_parsing"),
        ("query", "b", "greater_than_equal"),
        ("header", "c", "missing"),
        ("query", "d", "bool_parsing"),
    ]
    assert events == ["fine"]


def test_the_complaints_of_inline_dependencies_come_at_once_too(go: Going) -> None:
    def one(a: int) -> int:
        return a

    def two(b: int, one: int = Depends(one, inline=True)) -> None: ...

    async def handler(ws: WebSocket, c: int, x: None = Depends(two, inline=True)) -> None: ...

    places = [place for _, place, _ in go(handler, "/?a=x&b=y").complaints]
    assert places == ["a", "b", "c"]


def test_a_dependency_refuses_before_other_complaints(go: Going) -> None:
    def check() -> None:
        raise HTTPException(401, "who are you?", {"WWW-Authenticate": "Secret"})

    async def handler(ws: WebSocket, number: int, x: None = Depends(check)) -> None: ...

    refused = go(handler)
    assert (refused.status, refused.detail) == (401, "who are you?")
    assert refused.headers["www-authenticate"] == "Secret"


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize(
    ("error", "status", "logged"),
    [
        (HTTPException(418, {"pot": "tea"}), 418, False),
        (WebSocketException(4001, "no"), 403, False),
        (WebSocketDisconnect(1006), 403, False),
        (ZeroDivisionError("secret"), 500, True),
        (StopIteration(), 500, True),
    ],
)
def test_how_a_dependency_that_fails_ends_the_handshake(
    go: Going,
    caplog: pytest.LogCaptureFixture,
    inline: bool,
    error: Exception,
    status: int,
    logged: bool,
) -> None:
    caplog.set_level(logging.WARNING)

    def check() -> None:
        raise error

    async def handler(ws: WebSocket, x: None = Depends(check, inline=inline)) -> None: ...

    refused = go(handler)
    assert refused.status == status
    assert b"secret" not in refused.body
    if isinstance(error, HTTPException):
        assert refused.detail == {"pot": "tea"}
    assert len(caplog.records) == logged
    assert not logged or "Traceback" in caplog.text


# Tearing down


def sync_resource(ws: WebSocket) -> Iterator[list[Any]]:
    events: list[Any] = ws.app.state.events
    token = flavour.set("sync")
    events.append(f"open in main: {threading.current_thread() is threading.main_thread()}")
    try:
        yield events
    except BaseException as error:
        events.append(type(error).__name__)
        raise
    finally:
        events.append("close")
        flavour.reset(token)


def test_what_was_opened_is_closed_after_the_handler_the_last_first(
    go: Going, events: list[Any]
) -> None:
    async def outer() -> AsyncIterator[str]:
        events.append("open outer")
        yield "outer"
        events.append("close outer")

    def inner(outer: str = Depends(outer)) -> Iterator[str]:
        events.append("open inner")
        yield "inner"
        events.append("close inner")

    async def handler(ws: WebSocket, inner: str = Depends(inner)) -> None:
        await reply(ws, inner)
        events.append("handler")

    said = go(handler)
    assert (said.values, said.code) == (["inner"], 1000)
    assert events == ["open outer", "open inner", "handler", "close inner", "close outer"]


@pytest.mark.parametrize("inline", [True, False])
def test_a_plain_generator_runs_in_threads_in_one_context(
    go: Going, events: list[Any], inline: bool
) -> None:
    app = noting(events)

    @app.websocket("/")
    async def handler(ws: WebSocket, x: list[Any] = Depends(sync_resource, inline=inline)) -> None:
        await reply(ws)

    assert go(app).code == 1000
    assert events == [f"open in main: {inline}", "close"]


@pytest.mark.parametrize("kind", [resource, sync_resource])
@pytest.mark.parametrize(
    ("error", "code"),
    [(ZeroDivisionError(), 1011), (WebSocketException(4001), 4001), (StopIteration(), 1011)],
)
def test_the_handlers_exception_is_raised_at_the_yield(
    go: Going, events: list[Any], kind: Any, error: Exception, code: int
) -> None:
    app = noting(events)

    @app.websocket("/")
    async def handler(ws: WebSocket, x: Any = Depends(kind)) -> None:
        await reply(ws)
        raise error

    assert go(app).code == code
    name = "RuntimeError" if isinstance(error, StopIteration) else type(error).__name__
    assert events[1:] == [name, "close"]


def test_a_client_that_leaves_ends_the_handler_and_what_it_used(
    go: Going, events: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    app = noting(events)

    @app.websocket("/")
    async def handler(ws: WebSocket, events: list[Any] = Depends(resource)) -> None:
        await ws.accept()
        while True:
            events.append(await ws.receive_text())

    go(app, sends=["hello"], leaves=True)
    assert events == ["open", "hello", "WebSocketDisconnect", "close"]
    assert caplog.records == []


def test_a_dependency_may_replace_or_swallow_the_handlers_exception(
    go: Going, caplog: pytest.LogCaptureFixture
) -> None:
    async def translates() -> AsyncIterator[None]:
        try:
            yield
        except LookupError as error:
            raise WebSocketException(4004, "not found") from error

    async def swallows() -> AsyncIterator[None]:
        with contextlib.suppress(ZeroDivisionError):
            yield

    async def looks_up(ws: WebSocket, x: None = Depends(translates)) -> None:
        await ws.accept()
        raise KeyError("user")

    async def divides(ws: WebSocket, x: None = Depends(swallows)) -> None:
        await ws.accept()
        raise ZeroDivisionError

    assert go(looks_up).code == 4004
    assert go(divides).code == 1000
    assert caplog.records == []


def test_what_was_opened_is_closed_when_a_later_dependency_refuses(
    go: Going, events: list[Any]
) -> None:
    app = noting(events)

    def check(number: int) -> None:
        if number < 5:
            raise HTTPException(403)

    @app.websocket("/")
    async def handler(
        ws: WebSocket, x: Any = Depends(resource), y: None = Depends(check)
    ) -> None: ...

    assert go(app, "/?number=1").status == 403
    assert events == ["open", "HTTPException", "close"]
    events.clear()
    assert go(app, "/?number=x").status == 422
    assert events == ["open", "HTTPException", "close"]


def test_a_teardown_that_fails_is_logged_and_the_others_run(
    go: Going, events: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    app = noting(events)

    def failing() -> Iterator[None]:
        yield
        raise ZeroDivisionError

    @app.websocket("/")
    async def handler(
        ws: WebSocket, x: Any = Depends(resource), y: None = Depends(failing)
    ) -> None:
        await reply(ws)

    assert go(app).code == 1011
    assert events == ["open", "ZeroDivisionError", "close"]
    assert len(caplog.records) == 1


# The scope of the handshake


def handshake_app(events: list[Any]) -> FastWS:
    app = noting(events)

    async def user(
        name: str, events: Annotated[list[Any], Depends(resource, scope="handshake")]
    ) -> str:
        events.append("user")
        return name

    @app.websocket("/accepts")
    async def accepts(ws: WebSocket, name=Depends(user)) -> None:  # type: ignore[no-untyped-def]
        events.append("handler")
        await reply(ws, name)
        events.append("accepted")
        with pytest.raises(RuntimeError):
            await ws.accept()

    @app.websocket("/sends")
    async def sends(ws: WebSocket, name=Depends(user)) -> None:  # type: ignore[no-untyped-def]
        await ws.send({"type": "websocket.accept"})
        events.append("accepted")

    @app.websocket("/closes")
    async def closes(ws: WebSocket, name=Depends(user)) -> None:  # type: ignore[no-untyped-def]
        await ws.close()
        events.append("closed")

    @app.websocket("/denies")
    async def denies(ws: WebSocket, name=Depends(user)) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(ValueError, match="599"):
            await ws.send_denial_response(1000)
        events.append("wrong")
        await ws.send_denial_response(Response(b'{"detail": "no"}', 404))
        events.append("denied")

    @app.websocket("/sends_denial")
    async def sends_denial(ws: WebSocket, name=Depends(user)) -> None:  # type: ignore[no-untyped-def]
        await ws.send({"type": "websocket.http.response.start", "status": 410, "headers": []})
        events.append("started")
        await ws.send({"type": "websocket.http.response.body", "body": b"gone"})
        events.append("denied")

    @app.websocket("/raises")
    async def raises(ws: WebSocket, name=Depends(user)) -> None:  # type: ignore[no-untyped-def]
        raise HTTPException(409)

    @app.websocket("/fails")
    async def fails(ws: WebSocket, name=Depends(user)) -> None:  # type: ignore[no-untyped-def]
        await ws.accept()
        raise WebSocketException(4009)

    return app


@pytest.mark.parametrize(
    ("path", "status", "code", "expected"),
    [
        ("/accepts", 101, 1000, ["handler", "close", "accepted"]),
        ("/sends", 101, 1000, ["close", "accepted"]),
        ("/closes", 403, None, ["close", "closed"]),
        ("/denies", 404, None, ["wrong", "close", "denied"]),
        ("/sends_denial", 410, None, ["started", "close", "denied"]),
        ("/raises", 409, None, ["HTTPException", "close"]),
        ("/fails", 101, 4009, ["close"]),
    ],
)
def test_a_dependency_of_the_handshake_ends_when_it_is_answered(
    go: Going, events: list[Any], path: str, status: int, code: int | None, expected: list[Any]
) -> None:
    said = go(handshake_app(events), f"{path}?name=ada")
    assert events == ["open", "user", *expected]
    if path == "/closes" and said.status == 101:
        # Before the handshake is answered, ASGI's websocket.close is the refusal.
        said.status, said.code = 403, None
    assert (said.status, said.code) == (status, code)


def test_a_connection_is_as_any_other_once_its_handshake_is_answered(go: Going) -> None:
    async def early() -> AsyncIterator[None]:
        yield

    async def handler(ws: WebSocket, x: None = Depends(early, scope="handshake")) -> None:
        before = sorted(ws.__dict__)
        await ws.accept()
        await ws.send_json([before, sorted(ws.__dict__)])

    covered, after = go(handler).values
    assert (covered, after) == (["accept", "close", "send", "send_denial_response"], [])


def test_a_teardown_that_fails_at_accept_is_raised_there(go: Going) -> None:
    async def failing() -> AsyncIterator[None]:
        yield
        raise ZeroDivisionError

    async def handler(ws: WebSocket, x: None = Depends(failing, scope="handshake")) -> None:
        with pytest.raises(ZeroDivisionError):
            await ws.accept()
        await ws.send_json(["still open"])

    assert go(handler).values == ["still open"]


# Cancellation


def test_a_thread_that_opens_something_is_waited_for_and_it_is_closed_again() -> None:
    events: list[str] = []
    entered, go_on = threading.Event(), threading.Event()

    def slow() -> Iterator[None]:
        entered.set()
        assert go_on.wait(TIMEOUT)
        events.append("open")
        try:
            yield
        except BaseException as error:
            events.append(type(error).__name__)
            raise
        finally:
            events.append("close")

    async def handler(ws: WebSocket, x: None = Depends(slow)) -> None: ...

    async def cancel_twice() -> None:
        peer = ASGIPeer()
        ws = WebSocket(peer.scope, peer.receive, peer.send)
        task = asyncio.ensure_future(Handler(handler, {}, WebSocket).start(ws, {}))
        await asyncio.to_thread(entered.wait, TIMEOUT)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancel_twice())
    assert events == ["open", "CancelledError", "close"]


def test_a_thread_that_fails_while_its_connection_is_cancelled_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def failing() -> None:
        entered.set()
        assert go_on.wait(TIMEOUT)
        raise ZeroDivisionError

    async def handler(ws: WebSocket, x: None = Depends(failing)) -> None: ...

    async def cancel() -> None:
        peer = ASGIPeer()
        ws = WebSocket(peer.scope, peer.receive, peer.send)
        task = asyncio.ensure_future(Handler(handler, {}, WebSocket).start(ws, {}))
        await asyncio.to_thread(entered.wait, TIMEOUT)
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancel())
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_a_server_that_stops_tears_down_what_a_waiting_handshake_has_opened() -> None:
    events: list[Any] = []
    app = noting(events)
    waiting = asyncio.Event()

    async def forever(x: Any = Depends(resource)) -> None:
        waiting.set()
        await asyncio.Event().wait()

    @app.websocket("/")
    async def handler(ws: WebSocket, x: None = Depends(forever)) -> None: ...

    async def stop() -> None:
        async with serving(app) as server, connect(server) as client:
            await client.send(handshake())
            await asyncio.wait_for(waiting.wait(), TIMEOUT)
            server.stop()
            assert status_of(await client.head()) == 503

    run(stop())
    assert events == ["open", "CancelledError", "close"]


# Routes, routers, applications


def test_dependencies_of_application_routers_and_route_run_from_the_outside(
    go: Going, events: list[Any]
) -> None:
    def note(what: str) -> Any:
        return Depends(lambda: events.append(what))

    app = FastWS(dependencies=[note("app")])
    outer = APIRouter(prefix="/outer", dependencies=[note("outer")])
    inner = APIRouter(prefix="/inner", dependencies=[note("inner")], tags=["x"])

    @inner.websocket("/ws", dependencies=[note("route")])
    async def handler(ws: WebSocket, own: None = note("own")) -> None:
        await reply(ws)

    outer.include_router(inner, dependencies=[note("included inner")])
    app.include_router(outer, dependencies=[note("included outer")], tags=["x"])
    assert go(app, "/outer/inner/ws").code == 1000
    assert events == "app,included outer,outer,included inner,inner,route,own".split(",")
    route = app.routes[0]
    assert isinstance(route, APIWebSocketRoute)
    assert len(route.dependencies) == 6


def test_a_path_parameter_of_a_prefix_is_a_dependencys_too(go: Going) -> None:
    def organisation(org: int) -> int:
        return org

    router = APIRouter()

    @router.websocket("/ws")
    async def handler(ws: WebSocket, org: int = Depends(organisation)) -> None:
        await reply(ws, org)

    app = FastWS()
    app.include_router(router, prefix="/query")
    app.include_router(router, prefix="/{org}")
    assert go(app, "/7/ws").values == [7]
    assert go(app, "/query/ws?org=8").values == [8]


def test_overrides_are_looked_up_for_each_connection(go: Going) -> None:
    def database() -> str:
        return "real"

    def fake(name: str = "fake") -> Iterator[str]:
        yield name

    app = FastWS()

    @app.websocket("/")
    async def handler(ws: WebSocket, db: str = Depends(database)) -> None:
        await reply(ws, db)

    assert go(app).values == ["real"]
    app.dependency_overrides[database] = fake
    assert go(app).values == ["fake"]
    assert go(app, "/?name=other").values == ["other"]
    app.dependency_overrides[database] = lambda: "simple"
    assert go(app).values == ["simple"]
    app.dependency_overrides.clear()
    assert go(app).values == ["real"]


def test_an_override_that_cannot_be_used_is_logged_and_a_500(
    go: Going, caplog: pytest.LogCaptureFixture
) -> None:
    def database() -> str:
        return "real"

    def circular(db: str = Depends(database)) -> str:
        return db

    app = FastWS()

    @app.websocket("/")
    async def handler(ws: WebSocket, db: str = Depends(database)) -> None: ...

    app.dependency_overrides[database] = circular
    assert go(app).status == 500
    assert "depends on itself: circular() → circular()" in caplog.text


# Pages


def get(app: FastWS, target: str = "/") -> tuple[int, bytes]:
    path, _, query = target.partition("?")
    request = Request(http_scope(path, query_string=query.encode()))
    response = run(app.handle_http(request))
    return response.status_code, response.body


@pytest.mark.parametrize("is_async", [True, False])
def test_pages_have_dependencies_too(events: list[Any], is_async: bool) -> None:
    app = FastWS(dependencies=[Depends(lambda: events.append("app"))])

    async def database(request: Request, limit: int = 1) -> AsyncIterator[str]:
        events.append("open")
        try:
            yield f"{request.url.path} {limit}"
        finally:
            events.append("close")

    def page(db: str = Depends(database, scope="handshake")) -> str:
        events.append(threading.current_thread() is threading.main_thread())
        return db

    async def async_page(db: str = Depends(database)) -> str:
        return page(db)

    app.get("/page", dependencies=[Depends(lambda: events.append("route"))])(
        async_page if is_async else page
    )
    assert get(app, "/page") == (200, b"/page 1")
    assert events == ["app", "route", "open", is_async, "close"]
    assert get(app, "/page?limit=x")[0] == 422
    app.dependency_overrides[database] = lambda: "fake"
    assert get(app, "/page") == (200, b"fake")


def test_a_dependency_answers_a_page_with_its_refusal() -> None:
    app = FastWS()

    def check() -> None:
        raise HTTPException(401, "no", {"WWW-Authenticate": "Secret"})

    router = APIRouter(prefix="/admin", dependencies=[Depends(check)])
    router.get("/page")(lambda: "secret")
    app.include_router(router)
    assert get(app, "/admin/page") == (401, b'{"detail":"no"}')
