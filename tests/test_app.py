"""The application without a server: its routes, plain HTTP, start and end."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import ModuleType
from typing import Annotated, Any

import orjson
import pytest

from fastws.app import FastWS
from fastws.exceptions import HTTPException
from fastws.parameters import Path as PathParameter
from fastws.requests import Request
from fastws.responses import HTMLResponse, JSONResponse, Response
from fastws.routing import APIRouter, Route
from fastws.websocket import WebSocket
from tests.asgi_peer import ASGIPeer, http_scope
from tests.support import run


def answer(app: FastWS, path: str = "/", method: str = "GET", **changes: Any) -> Response:
    return run(app.handle_http(Request(http_scope(path, method, **changes))))


def headers_of(response: Response) -> dict[bytes, bytes]:
    return dict(response.raw_headers)


# Routes


def test_the_route_of_a_websocket_is_found_and_opened() -> None:
    app = FastWS()

    @app.websocket("/ws/{client_id}")
    async def endpoint(ws: WebSocket, client_id: int) -> Any:
        return ws, client_id

    found = app.find_websocket("/ws/5")
    assert found is not None
    route, params = found
    peer = ASGIPeer(connects=False)
    ws = WebSocket(peer.scope, peer.receive, peer.send)
    assert run(app.open_websocket(ws, route, params)) == (ws, 5)
    assert app.find_websocket("/elsewhere") is None
    assert app.url_path_for("endpoint", client_id=5) == "/ws/5"
    assert app.routes == [route]
    with pytest.raises(HTTPException, match="422"):
        run(app.open_websocket(ws, route, {"client_id": "x"}))


def test_a_handler_that_cannot_be_called_is_refused_at_registration() -> None:
    async def endpoint(ws: WebSocket, org: Annotated[str, PathParameter()]) -> None: ...

    app, router = FastWS(), APIRouter()
    with pytest.raises(TypeError, match="'org'"):
        app.websocket("/")(endpoint)
    router.websocket("/")(endpoint)
    with pytest.raises(TypeError, match="'org'"):
        app.include_router(router)
    assert app.routes == []
    app.include_router(router, prefix="/{org}")
    assert app.find_websocket("/acme/") is not None


def test_a_router_that_is_included_may_go_on_getting_routes() -> None:
    app, outer, inner = FastWS(), APIRouter(prefix="/outer"), APIRouter(prefix="/inner")

    @inner.websocket("/early")
    async def early(ws: WebSocket) -> None: ...

    outer.include_router(inner)
    app.include_router(outer, prefix="/app")
    app.include_router(inner, prefix="/again")

    @inner.websocket("/late/{n}")
    async def late(ws: WebSocket, n: int) -> None: ...

    outer.get("/page")(lambda: "page")
    for path in ("/app/outer/inner/early", "/app/outer/inner/late/5", "/again/inner/late/5"):
        assert app.find_websocket(path) is not None, path
    assert answer(app, "/app/outer/page").body == b"page"
    assert app.url_path_for("late", n=5) == "/app/outer/inner/late/5"
    assert len(app.routes) == 5


def test_routers_that_would_include_each_other_are_refused() -> None:
    top, middle, bottom = APIRouter(), APIRouter(), APIRouter()
    top.include_router(middle)
    middle.include_router(bottom)
    for router in (top, middle, bottom):
        with pytest.raises(ValueError, match="cannot include itself, nor one that includes it"):
            bottom.include_router(router)


def test_of_the_routes_that_match_the_first_registered_answers() -> None:
    app = FastWS()

    @app.websocket("/chat/{room}")
    async def room(ws: WebSocket, room: str) -> None: ...

    @app.websocket("/chat/lobby")
    async def lobby(ws: WebSocket) -> None: ...

    app.get("/{word}")(lambda word: word)
    app.get("/fixed")(lambda: "never")
    found = app.find_websocket("/chat/lobby")
    assert found is not None
    assert found[0].endpoint is room
    assert answer(app, "/fixed").body == b"fixed"


def test_routes_may_be_given_at_the_start() -> None:
    app = FastWS(routes=[Route("/", lambda: "x")])
    assert answer(app).body == b"x"


# Plain HTTP


@pytest.mark.parametrize(
    ("result", "body", "media_type"),
    [
        ("text", b"text", b"text/plain; charset=utf-8"),
        (b"bytes", b"bytes", b"application/octet-stream"),
        ({"json": 1}, b'{"json":1}', b"application/json"),
        ([1], b"[1]", b"application/json"),
        (None, b"null", b"application/json"),
        (HTMLResponse("<p>"), b"<p>", b"text/html; charset=utf-8"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_a_page_may_return(
    result: object, body: bytes, media_type: bytes, method: str
) -> None:
    app = FastWS()

    @app.get("/sync")
    def sync_page() -> object:
        return result

    @app.get("/async")
    async def async_page() -> object:
        return result

    for path in ("/sync", "/async"):
        response = answer(app, path, method)
        assert (response.status_code, response.body) == (200, body)
        assert headers_of(response)[b"content-type"] == media_type
        assert headers_of(response)[b"content-length"] == b"%d" % len(body)


def test_the_class_and_the_status_of_a_response_may_be_given() -> None:
    app = FastWS()
    app.get("/page", response_class=HTMLResponse, status_code=203)(lambda: "<p>")
    app.get("/json", response_class=JSONResponse)(lambda: "text")
    page = answer(app, "/page")
    assert (page.status_code, type(page), page.body) == (203, HTMLResponse, b"<p>")
    assert answer(app, "/json").body == b'"text"'


def test_a_page_gets_its_parameters_and_the_request() -> None:
    app = FastWS()

    @app.get("/items/{number}")
    async def item(number: int, request: Request) -> Any:
        assert request.app is app
        assert request.path_params == {"number": "5"}
        return {"number": number, "q": request.query_params["q"]}

    assert answer(app, "/items/5", query_string=b"q=1").body == b'{"number":5,"q":"1"}'
    bad = answer(app, "/items/x")
    assert bad.status_code == 422
    assert orjson.loads(bad.body)["detail"][0]["loc"] == ["path", "number"]


def test_a_plain_function_runs_in_a_thread() -> None:
    app = FastWS()
    app.get("/")(lambda: threading.current_thread() is threading.main_thread())
    assert answer(app).body == b"false"


@pytest.mark.parametrize(
    ("path", "method", "status", "header"),
    [
        ("/nowhere", "GET", 404, None),
        ("/nowhere", "POST", 404, None),
        ("/page", "POST", 405, (b"allow", b"GET, HEAD")),
        ("/ws", "POST", 405, (b"allow", b"GET")),
        ("/ws", "GET", 426, (b"upgrade", b"websocket")),
    ],
)
def test_requests_that_no_page_answers(
    path: str, method: str, status: int, header: tuple[bytes, bytes] | None
) -> None:
    app = FastWS()
    app.get("/page")(lambda: "x")

    @app.websocket("/ws")
    async def endpoint(ws: WebSocket) -> None: ...

    response = answer(app, path, method)
    assert response.status_code == status
    assert "detail" in orjson.loads(response.body)
    assert header is None or header in response.raw_headers


def test_a_path_may_be_both_a_page_and_a_websocket() -> None:
    app = FastWS()
    app.get("/")(lambda: "page")

    @app.websocket("/")
    async def endpoint(ws: WebSocket) -> None: ...

    assert answer(app).body == b"page"
    assert app.find_websocket("/") is not None


def test_a_root_path_is_not_part_of_the_route() -> None:
    app = FastWS()
    app.get("/page")(lambda: "x")
    assert answer(app, "/api/page", root_path="/api").status_code == 200


@pytest.mark.parametrize("path", ["/page", "/api/page"])
def test_the_applications_own_root_path_holds_where_the_server_has_none(path: str) -> None:
    app = FastWS(root_path="/api/")

    @app.get("/page")
    def page(request: Request) -> Any:
        return [str(request.url), str(request.base_url), str(request.url_for("room", n=5))]

    @app.websocket("/rooms/{n}", name="room")
    async def endpoint(ws: WebSocket) -> None: ...

    assert orjson.loads(answer(app, path).body) == [
        "http://example.org/api/page",
        "http://example.org/api/",
        "ws://example.org/api/rooms/5",
    ]
    assert answer(app, "/v2/page", root_path="/v2").status_code == 200
    assert app.find_websocket("/rooms/5") is not None
    assert app.find_websocket("/api/rooms/5") is not None


def test_an_http_exception_is_its_response() -> None:
    app = FastWS()

    @app.get("/")
    def page() -> None:
        raise HTTPException(418, "short and stout", {"X-Pot": "tea"})

    response = answer(app)
    assert (response.status_code, response.body) == (418, b'{"detail":"short and stout"}')
    assert (b"x-pot", b"tea") in response.raw_headers


def test_an_http_exception_that_cannot_be_sent_is_logged_and_a_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = FastWS()

    @app.get("/")
    def page() -> None:
        raise HTTPException(403, object())

    assert answer(app).status_code == 500
    assert len(caplog.records) == 1


@pytest.mark.parametrize("is_async", [True, False])
def test_a_page_that_fails_is_logged_once_and_answered_with_500(
    caplog: pytest.LogCaptureFixture, is_async: bool
) -> None:
    app = FastWS()

    async def failing_async() -> None:
        raise ZeroDivisionError("secret")

    def failing() -> None:
        raise ZeroDivisionError("secret")

    app.get("/a\nb")(failing_async if is_async else failing)
    response = answer(app, "/a\nb")
    assert (response.status_code, response.body) == (500, b'{"detail":"Internal Server Error"}')
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("fastws.error", logging.ERROR)
    # The path is the client's: it must not begin a line of its own in the log.
    assert record.getMessage() == "the handler of GET '/a\\nb' failed"
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_a_result_without_a_form_is_logged_and_answered_with_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = FastWS(debug=True)
    app.get("/")(lambda: object())
    response = answer(app)
    assert response.status_code == 500
    assert b"Traceback" in response.body
    assert len(caplog.records) == 1


# Start and end


async def lived(app: FastWS) -> dict[str, Any]:
    async with app.lifespan_context() as state:
        return state


def test_what_the_lifespan_yields_is_the_applications_state_and_the_connections() -> None:
    seen: list[object] = []

    @asynccontextmanager
    async def lifespan(app: FastWS) -> AsyncIterator[dict[str, Any]]:
        seen.append(app)
        yield {"db": "pool"}
        seen.append("over")

    app = FastWS(lifespan=lifespan)
    assert run(lived(app)) == {"db": "pool"}
    assert app.state.db == "pool"
    assert seen == [app, "over"]


def test_a_lifespan_may_be_a_bare_generator_and_yield_nothing() -> None:
    async def lifespan(app: FastWS) -> AsyncIterator[None]:
        app.state.ready = True
        yield

    assert run(lived(FastWS(lifespan=lifespan))) == {"ready": True}


def test_start_up_and_shutdown_functions_run_in_order_within_the_lifespan() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastWS) -> AsyncIterator[None]:
        seen.append("enter")
        yield
        seen.append("exit")

    app = FastWS(lifespan=lifespan)

    @app.on_startup
    async def first() -> None:
        seen.append("first")
        app.state.cache = 1

    @app.on_startup
    def second() -> None:
        seen.append("second")

    @app.on_shutdown
    async def third() -> None:
        seen.append("third")

    @app.on_shutdown
    def fourth() -> None:
        seen.append("fourth")

    assert run(lived(app)) == {"cache": 1}
    assert seen == ["enter", "first", "second", "third", "fourth", "exit"]
    assert run(lived(app)) == {"cache": 1}


def test_fastapis_older_words_for_start_and_end() -> None:
    app = FastWS()
    seen: list[str] = []

    @app.on_event("startup")
    async def start() -> None:
        seen.append("start")

    @app.on_event("shutdown")
    def stop() -> None:
        seen.append("stop")

    run(lived(app))
    assert seen == ["start", "stop"]
    with pytest.raises(ValueError, match="expected 'startup' or 'shutdown'"):
        app.on_event("begin")  # type: ignore[arg-type]


def test_a_failed_start_leaves_the_lifespan_and_shuts_nothing_down() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastWS) -> AsyncIterator[None]:
        try:
            yield
        finally:
            seen.append("exit")

    app = FastWS(lifespan=lifespan)
    app.on_shutdown(lambda: seen.append("shutdown"))

    @app.on_startup
    def failing() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(lived(app))
    assert seen == ["exit"]


def test_one_failed_shutdown_function_does_not_keep_the_others_from_running() -> None:
    seen: list[str] = []
    app = FastWS()

    @app.on_shutdown
    def failing() -> None:
        raise ZeroDivisionError

    app.on_shutdown(lambda: seen.append("second"))
    with pytest.raises(ZeroDivisionError):
        run(lived(app))
    assert seen == ["second"]


@pytest.mark.parametrize("kind", ["coroutine", "value"])
def test_what_is_no_lifespan_is_refused_with_a_sentence(kind: str) -> None:
    @asynccontextmanager
    async def yields_a_number(app: FastWS) -> AsyncIterator[Any]:
        yield 5

    def returns_a_number(app: FastWS) -> Any:
        return 5

    wrong: Callable[[Any], AbstractAsyncContextManager[Any]]
    wrong = returns_a_number if kind == "coroutine" else yields_a_number
    with pytest.raises(TypeError, match="expected"):
        run(lived(FastWS(lifespan=wrong)))


# Serving


def test_serving_hands_the_application_and_its_options_to_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served: list[object] = []
    server = ModuleType("fastws.server")

    def serve(app: FastWS, **options: Any) -> None:
        served.append((app, options))

    async def serve_async(app: FastWS, **options: Any) -> None:
        served.append((app, options))

    monkeypatch.setattr(server, "serve", serve, raising=False)
    monkeypatch.setattr(server, "serve_async", serve_async, raising=False)
    monkeypatch.setitem(__import__("sys").modules, "fastws.server", server)
    app = FastWS()
    app.serve()
    app.serve("0.0.0.0", 81, ws_max_size="1MiB")
    run(app.serve_async(host="::1", port=82))
    assert served == [
        (app, {"host": "127.0.0.1", "port": 8000}),
        (app, {"host": "0.0.0.0", "port": 81, "ws_max_size": "1MiB"}),
        (app, {"host": "::1", "port": 82}),
    ]
