"""Routes and routers: registration, what is refused there, matching, and paths by name."""

# ruff: noqa: B008  (a call in a default is how these are declared)

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from fastws.datastructures import URLPath
from fastws.exceptions import HTTPException
from fastws.parameters import Path
from fastws.requests import Request
from fastws.responses import HTMLResponse
from fastws.routing import (
    APIRouter,
    APIWebSocketRoute,
    Match,
    NoMatchFound,
    Route,
)
from fastws.websocket import WebSocket
from tests.asgi_peer import ASGIPeer, http_scope, websocket_scope


async def endpoint(ws: WebSocket) -> None: ...


async def room_endpoint(ws: WebSocket, room: str) -> None: ...


def page() -> str:
    return "page"


def websocket() -> WebSocket:
    peer = ASGIPeer(connects=False)
    return WebSocket(peer.scope, peer.receive, peer.send)


def finish(coroutine: Any) -> Any:
    """The result of a coroutine that waits for nothing."""
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    return stopped.value.value


# Registration


def test_the_decorators_leave_the_function_as_it_is() -> None:
    router = APIRouter()
    assert router.websocket("/ws")(endpoint) is endpoint
    assert router.get("/")(page) is page
    assert [route.path for route in router.routes] == ["/ws", "/"]


@pytest.mark.parametrize("path", ["ws", "", "{room}", None])
def test_a_path_starts_with_a_slash(path: Any) -> None:
    for register in (APIRouter().websocket(path), APIRouter().get(path)):
        with pytest.raises(ValueError, match=r"of endpoint\(\) must start with '/'"):
            register(endpoint)
    with pytest.raises(ValueError, match=r"of endpoint\(\) must start with '/'"):
        APIWebSocketRoute(path, endpoint)


def test_a_websocket_handler_is_an_async_function() -> None:
    def plain(ws: WebSocket) -> None: ...

    async def generator(ws: WebSocket) -> Any:
        yield

    for function in (plain, generator, functools.partial(plain)):
        with pytest.raises(TypeError, match=f"{'plain' if function is not generator else 'gen'}"):
            APIRouter().websocket("/ws")(function)
    with pytest.raises(TypeError, match=r"plain\(\) of '/ws' must be an async function"):
        APIRouter().websocket("/ws")(plain)


def test_partials_and_callable_objects_are_handlers() -> None:
    class Handler:
        async def __call__(self, ws: WebSocket, room: str) -> None: ...

    for function in (Handler(), functools.partial(room_endpoint, room="x")):
        route = APIWebSocketRoute("/{room}", function)
        route.check()
        assert finish(route.start(websocket(), {"room": "r"})) is None


def test_a_handler_without_a_parameter_for_the_connection_is_refused() -> None:
    async def handler(x: int = 0) -> None: ...

    with pytest.raises(TypeError, match=r"handler\(\) of '/' has no parameter for the connection"):
        APIWebSocketRoute("/", handler).check()


def test_a_parameter_that_nothing_gives_a_value_to_is_refused_with_a_sentence() -> None:
    async def handler(ws: WebSocket, romo: str = Path()) -> None: ...

    with pytest.raises(TypeError, match=r"handler\(\) of '/{room}' cannot be called: .*'romo'"):
        APIWebSocketRoute("/{room}", handler).check()
    with pytest.raises(TypeError, match=r"<lambda>\(\) of '/' cannot be called: .*'x'"):
        Route("/", lambda x=Path(): "").check()


def test_a_router_may_be_given_what_is_no_dependency_and_says_so_at_the_first_route() -> None:
    with pytest.raises(TypeError, match=r"dependencies= takes Depends\(…\), not <object"):
        APIRouter(dependencies=[object()]).websocket("/")(endpoint)


def test_the_types_of_messages_are_the_routes_and_no_options() -> None:
    router, top = APIRouter(), APIRouter(prefix="/top")
    router.websocket("/", receive=int, send=list[int], ws_max_size=5)(endpoint)
    top.include_router(router)
    for route in (*router.routes, *top.routes):
        assert isinstance(route, APIWebSocketRoute)
        assert dict(route.options) == {"ws_max_size": 5}
        assert route.messages is not None
        assert route.messages.decode is not None
        assert route.messages.decode("5") == 5
    assert APIWebSocketRoute("/", endpoint).messages is None


def test_options_of_a_route_are_kept_under_their_full_names() -> None:
    route = APIWebSocketRoute("/", endpoint, ws_max_size=5, origins=["a"], subprotocols=["b"])
    assert route.options == {"ws_max_size": 5, "ws_origins": ["a"], "ws_subprotocols": ["b"]}
    assert dict(APIWebSocketRoute("/", endpoint).options) == {}
    with pytest.raises(TypeError):
        route.options["ws_max_size"] = 6  # type: ignore[index]


# Matching


def test_a_websocket_route_matches_a_websocket_scope() -> None:
    route = APIWebSocketRoute("/chat/{room}", room_endpoint)
    match, child = route.matches(websocket_scope("/chat/a", path_params={"outer": 1}))
    assert match is Match.FULL
    assert child == {"endpoint": room_endpoint, "path_params": {"outer": 1, "room": "a"}}
    assert route.matches(websocket_scope("/chat/a/b")) == (Match.NONE, {})
    assert route.matches(http_scope("/chat/a")) == (Match.NONE, {})
    assert route.matches(websocket_scope("/api/chat/a", root_path="/api"))[0] is Match.FULL


def test_a_page_matches_get_and_head() -> None:
    route = Route("/{x:int}", lambda x: x)
    assert route.matches(http_scope("/5"))[1]["path_params"] == {"x": 5}
    assert route.matches(http_scope("/5", "HEAD"))[0] is Match.FULL
    assert route.matches(http_scope("/5", "POST"))[0] is Match.PARTIAL
    assert route.matches(http_scope("/x"))[0] is Match.NONE
    assert route.matches(websocket_scope("/5"))[0] is Match.NONE


# Calling


def test_starting_a_handler_returns_its_own_coroutine() -> None:
    async def plain(ws: WebSocket) -> Any:
        return ws, None

    async def handler(ws: WebSocket, number: int, q: int = 1) -> Any:
        return ws, number

    for function, path, expected in ((handler, "/{number}", 5), (plain, "/", None)):
        route = APIWebSocketRoute(path, function)
        ws = websocket()
        coroutine: Any = route.start(ws, {"number": "5"})
        assert coroutine.cr_code is function.__code__
        assert finish(coroutine) == (ws, expected)


def test_a_value_that_does_not_convert_is_a_422_before_the_handler_runs() -> None:
    async def handler(ws: WebSocket, number: int) -> None:
        raise AssertionError("it ran")

    with pytest.raises(HTTPException) as caught:
        finish(APIWebSocketRoute("/{number}", handler).start(websocket(), {"number": "five"}))
    assert caught.value.status_code == 422
    assert caught.value.detail[0]["loc"] == ["path", "number"]


def test_a_page_may_take_the_request_and_path_parameters() -> None:
    def show(number: int, request: Request) -> Any:
        return number, request

    request = Request(http_scope("/5"))
    assert Route("/{number}", show).call(request, {"number": "5"}) == (5, request)
    assert Route("/", lambda something: something).call(request, {}) is request
    assert Route("/", page).call(request, {}) == "page"


# Paths by name


def test_the_path_of_a_route_by_its_name() -> None:
    route = APIWebSocketRoute("/chat/{room}/{n:int}", room_endpoint)
    path = route.url_path_for("room_endpoint", room="a", n=5)
    assert path == "/chat/a/5"
    assert isinstance(path, URLPath)
    assert path.protocol == "websocket"
    assert path.make_absolute_url("https://example.org") == "wss://example.org/chat/a/5"
    assert Route("/p", page, name="front").url_path_for("front").protocol == "http"


@pytest.mark.parametrize(
    ("name", "params"),
    [("other", {"room": "a"}), ("room_endpoint", {}), ("room_endpoint", {"r": 1})],
)
def test_no_route_of_that_name_and_those_parameters(name: str, params: dict[str, Any]) -> None:
    route = APIWebSocketRoute("/chat/{room}", room_endpoint)
    router = APIRouter()
    router.add_route(route)
    finders: list[Callable[..., URLPath]] = [route.url_path_for, router.url_path_for]
    for find in finders:
        with pytest.raises(NoMatchFound, match=f"no route is named '{name}'") as caught:
            find(name, **params)
        assert caught.value.name == name
        assert caught.value.path_params == params
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_parameter_of_a_path_may_be_called_name() -> None:
    assert APIWebSocketRoute("/{name}", endpoint).url_path_for("endpoint", name="x") == "/x"


def test_a_router_finds_the_route_that_takes_the_parameters() -> None:
    router = APIRouter()
    router.websocket("/a", name="same")(endpoint)
    router.websocket("/a/{room}", name="same")(room_endpoint)
    assert router.url_path_for("same") == "/a"
    assert router.url_path_for("same", room="x") == "/a/x"


def test_a_value_that_would_not_match_is_refused() -> None:
    with pytest.raises(ValueError, match="not one segment"):
        APIWebSocketRoute("/{room}", room_endpoint).url_path_for("room_endpoint", room="a/b")


# Routers


def test_routers_nest_and_prefixes_add_up() -> None:
    inner = APIRouter(prefix="/inner")
    inner.websocket("/ws", name="echo", ws_max_size=5)(endpoint)
    inner.get("/page", response_class=HTMLResponse, status_code=203)(page)
    inner.websocket("")(endpoint)
    outer = APIRouter(prefix="/outer")
    outer.include_router(inner, prefix="/v1")
    top = APIRouter()
    top.include_router(outer, prefix="/api")
    paths = ["/api/outer/v1/inner/ws", "/api/outer/v1/inner/page", "/api/outer/v1/inner"]
    echo, shown, _ = top.routes
    assert [route.path for route in top.routes] == paths
    assert isinstance(echo, APIWebSocketRoute)
    assert (echo.name, echo.options) == ("echo", {"ws_max_size": 5})
    assert isinstance(shown, Route)
    assert (shown.response_class, shown.status_code) == (HTMLResponse, 203)
    assert top.url_path_for("echo") == "/api/outer/v1/inner/ws"


def test_a_parameter_of_a_prefix_reaches_the_handler() -> None:
    async def handler(org: int, ws: WebSocket, room: str) -> Any:
        return org, room

    router = APIRouter()
    router.websocket("/{room}")(handler)
    top = APIRouter()
    top.include_router(router, prefix="/{org}")
    route = top.routes[0]
    assert isinstance(route, APIWebSocketRoute)
    route.check()
    values = route.match("/7/lobby")
    assert values is not None
    assert finish(route.start(websocket(), values)) == (7, "lobby")


@pytest.mark.parametrize("prefix", ["api", "/api/", "/"])
def test_what_is_no_prefix(prefix: str) -> None:
    with pytest.raises(ValueError, match="must start with '/' and must not end with one"):
        APIRouter(prefix=prefix)
    with pytest.raises(ValueError, match="must start with '/' and must not end with one"):
        APIRouter().include_router(APIRouter(), prefix=prefix)


def test_a_path_behind_a_prefix_starts_with_a_slash_too() -> None:
    with pytest.raises(ValueError, match="path 'ws' of endpoint"):
        APIRouter(prefix="/api").websocket("ws")(endpoint)


def test_a_router_does_not_include_itself() -> None:
    router = APIRouter()
    with pytest.raises(ValueError, match="cannot include itself"):
        router.include_router(router)


def test_the_list_of_routes_is_a_copy() -> None:
    router = APIRouter()
    router.routes.append(Route("/", page))
    assert router.routes == []
    assert repr(Route("/", page)) == "<Route '/' page>"
