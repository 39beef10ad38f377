"""What a handler takes from the request: places, names, defaults, and every complaint at once."""

# ruff: noqa: B008  (a call in a default is how these are declared)

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest

from fastws.app import FastWS
from fastws.parameters import Cookie, Header, Path, Query
from fastws.requests import HTTPConnection, Request
from fastws.websocket import WebSocket
from tests.asgi_peer import http_scope
from tests.backends import BACKENDS, Visit, visit
from tests.support import run

if TYPE_CHECKING:
    from somewhere import Elsewhere  # type: ignore[import-not-found]

Asking = Callable[..., Visit]


class Unknown: ...


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture
def ask(backend: str) -> Asking:
    """Visits a handler once: ``ask(handler, "/?q=1", "X-Header: 1", path="/")``."""

    def ask(handler: Any, target: str = "/", *headers: str, path: str = "/") -> Visit:
        app = FastWS()
        app.websocket(path)(handler)
        return run(visit(backend, app, target, *headers))

    return ask


async def reply(ws: WebSocket, *values: object) -> None:
    await ws.accept()
    await ws.send_json(values)


# Places


def test_a_parameter_that_says_nothing_is_in_the_path_or_else_in_the_query(ask: Asking) -> None:
    async def handler(ws: WebSocket, room: str, limit: int, q: str = "none") -> None:
        await reply(ws, room, limit, q)

    assert ask(handler, "/lobby?limit=5", path="/{room}").values == ["lobby", 5, "none"]
    assert ask(handler, "/lobby?limit=5&q=x", path="/{room}").values == ["lobby", 5, "x"]
    missing = ask(handler, "/lobby", path="/{room}")
    assert missing.complaints == [("query", "limit", "missing")]


def test_each_place_has_its_declaration(ask: Asking) -> None:
    async def handler(
        ws: WebSocket,
        room: str = Path(),
        limit: int = Query(...),
        user_agent: str = Header(),
        session: str = Cookie(),
    ) -> None:
        await reply(ws, room, limit, user_agent, session)

    headers = ["User-Agent: fast/1", "Cookie: other=1; session=abc"]
    said = ask(handler, "/r?limit=1", *headers, path="/{room}")
    assert said.values == ["r", 1, "fast/1", "abc"]
    assert ask(handler, "/r", path="/{room}").complaints == [
        ("query", "limit", "missing"),
        ("header", "user-agent", "missing"),
        ("cookie", "session", "missing"),
    ]


def test_the_declaration_may_stand_in_annotated(ask: Asking) -> None:
    async def handler(
        ws: WebSocket,
        limit: Annotated[int, Query(ge=1)],
        x_token: Annotated[str | None, Header(description="a token")] = None,
        session: Annotated[str, Cookie()] = "new",
    ) -> None:
        await reply(ws, limit, x_token, session)

    assert ask(handler, "/?limit=1").values == [1, None, "new"]
    given = ask(handler, "/?limit=1", "X-Token: t", "Cookie: session=old")
    assert given.values == [1, "t", "old"]
    assert ask(handler, "/?limit=0").complaints == [("query", "limit", "greater_than_equal")]


def test_the_name_in_the_request_may_be_another_one(ask: Asking) -> None:
    async def handler(
        ws: WebSocket,
        a: str = Query(alias="item-query"),
        b: str = Header(alias="X_Raw"),
        plain_name: str = Header("-", convert_underscores=False),
        c: int = Path(alias="number"),
        d: str = Cookie("-", validation_alias="s-id", alias="unused"),
    ) -> None:
        await reply(ws, a, b, plain_name, c, d)

    headers = ["X_Raw: r", "plain_name: p", "Cookie: s-id=7"]
    said = ask(handler, "/3?item-query=q", *headers, path="/{number}")
    assert said.values == ["q", "r", "p", 3, "7"]
    assert ask(handler, "/x", path="/{number}").complaints == [
        ("query", "item-query", "missing"),
        ("header", "X_Raw", "missing"),
        ("path", "number", "int_parsing"),
    ]


def test_a_list_takes_every_value_of_a_name(ask: Asking) -> None:
    async def handler(
        ws: WebSocket,
        ids: list[int] = Query(min_length=1),
        tags: set[str] = Query(set()),
        x_trace: list[str] | None = Header(None),
        pair: tuple[int, int] = Query((0, 0)),
        one: list[str] = Cookie([]),
    ) -> None:
        await reply(ws, ids, sorted(tags), x_trace, pair, one)

    assert ask(handler, "/?ids=1").values == [[1], [], None, [0, 0], []]
    target = "/?ids=1&ids=2&tags=b&tags=a&tags=a&pair=1&pair=2"
    said = ask(handler, target, "X-Trace: a", "X-Trace: b", "Cookie: one=1")
    assert said.values == [[1, 2], ["a", "b"], ["a", "b"], [1, 2], ["1"]]
    assert ask(handler, "/?ids=1&ids=x&pair=1").complaints == [
        ("query", "ids", 1, "int_parsing"),
        ("query", "pair", 1, "missing"),
    ]


def test_a_single_parameter_has_the_last_of_a_querys_values_and_the_first_header(
    ask: Asking,
) -> None:
    async def handler(ws: WebSocket, q: str, x: Annotated[str, Header()]) -> None:
        await reply(ws, q, x)

    assert ask(handler, "/?q=1&q=2", "X: 1", "X: 2").values == ["2", "1"]


# Conversion


def test_values_are_converted_by_their_annotations(ask: Asking) -> None:
    async def handler(
        ws: WebSocket,
        room: uuid.UUID,
        deep: bool = False,
        order: Literal["new", "old"] = "new",
        at: float | None = None,
    ) -> None:
        await reply(ws, room, deep, order, at)

    room = str(uuid.UUID(int=7))
    assert ask(handler, f"/{room}", path="/{room}").values == [room, False, "new", None]
    said = ask(handler, f"/{room}?deep=yes&order=old&at=1.5", path="/{room}")
    assert said.values == [room, True, "old", 1.5]


def test_every_complaint_comes_at_once_in_one_422(ask: Asking) -> None:
    async def handler(
        ws: WebSocket,
        a: int,
        b: int,
        c: str,
        d: int = Query(3, le=5),
        token: str = Header(min_length=3),
    ) -> None:
        raise AssertionError("the handler ran")

    refused = ask(handler, "/x?b=y&d=9", "token: no", path="/{a}")
    assert refused.status == 422
    assert refused.headers["content-type"] == "application/json"
    assert refused.detail == [
        {
            "type": "int_parsing",
            "loc": ["path", "a"],
            "msg": "expected a whole number",
            "input": "x",
        },
        {
            "type": "int_parsing",
            "loc": ["query", "b"],
            "msg": "expected a whole number",
            "input": "y",
        },
        {"type": "missing", "loc": ["query", "c"], "msg": "is required", "input": None},
        {
            "type": "less_than_equal",
            "loc": ["query", "d"],
            "msg": "must be 5 or below",
            "input": "9",
            "ctx": {"le": 5},
        },
        {
            "type": "string_too_short",
            "loc": ["header", "token"],
            "msg": "must have at least 3 characters",
            "input": "no",
            "ctx": {"min_length": 3},
        },
    ]


def test_a_value_that_the_path_converted_becomes_what_the_annotation_names(ask: Asking) -> None:
    async def handler(  # type: ignore[no-untyped-def]
        ws: WebSocket, same: int, text: str, number: float, bare, anything: Any
    ) -> None:
        await reply(ws, same, text, number, bare, anything)

    path = "/{same:int}/{text:int}/{number:int}/{bare:int}/{anything:int}"
    assert ask(handler, "/5/5/5/5/5", path=path).values == [5, "5", 5.0, 5, 5]


def test_a_value_that_the_path_converted_keeps_to_its_constraints(ask: Asking) -> None:
    async def handler(ws: WebSocket, n: Annotated[int, Path(ge=1)]) -> None: ...

    refused = ask(handler, "/0", path="/{n:int}")
    assert refused.complaints == [("path", "n", "greater_than_equal")]
    assert refused.detail[0]["input"] == "0"


# Defaults


def test_defaults_are_not_shared_between_connections() -> None:
    made: list[int] = []

    def make() -> list[str]:
        made.append(1)
        return ["made"]

    async def handler(
        ws: WebSocket,
        shared: list[str] = ["kept"],  # noqa: B006
        declared: list[str] = Query(["kept"]),
        factory: list[str] = Query(default_factory=make),
    ) -> None:
        for values in (shared, declared, factory):
            values.append("changed")
        await reply(ws, shared, declared, factory)

    app = FastWS()
    app.websocket("/")(handler)
    for count in (1, 2):
        said = run(visit("asgi", app)).values
        assert said == [["kept", "changed"], ["kept", "changed"], ["made", "changed"]]
        assert len(made) == count


def test_a_default_without_annotation_tells_the_type(ask: Asking) -> None:
    unknown = Unknown()

    async def handler(ws, limit=10, ratio=0.5, deep=False, q=None, bound=unknown):  # type: ignore[no-untyped-def]
        await reply(ws, limit, ratio, deep, q, bound is unknown)

    assert ask(handler).values == [10, 0.5, False, None, True]
    said = ask(handler, "/?limit=5&ratio=1&deep=on&q=1&bound=x")
    assert said.values == [5, 1.0, True, "1", True]
    assert ask(handler, "/?limit=x").complaints == [("query", "limit", "int_parsing")]


def test_what_a_default_and_a_declaration_cannot_be() -> None:
    with pytest.raises(ValueError, match="either a default or a default_factory"):
        Query(1, default_factory=int)
    with pytest.raises(ValueError, match="a path parameter has no default"):
        Path(1)
    with pytest.raises(TypeError):
        Query(mix_length=3)  # type: ignore[call-arg]


def test_what_fastapi_documents_with_is_taken() -> None:
    assert Query(
        title="t",
        description="d",
        deprecated=True,
        examples=["x"],
        openapi_examples={},
        include_in_schema=False,
        json_schema_extra={},
    )
    assert repr(Header) == "fastws.Header"


# Registration


def register(handler: Any, path: str = "/") -> None:
    FastWS().websocket(path)(handler)


def test_a_type_that_no_text_becomes_is_refused_at_registration() -> None:
    async def in_path(ws: WebSocket, room: dict[str, int]) -> None: ...
    async def in_query(ws: WebSocket, other: Unknown) -> None: ...
    async def listed(ws: WebSocket, room: list[int]) -> None: ...
    async def bounded(ws: WebSocket, name: str = Query(ge=1)) -> None: ...

    with pytest.raises(TypeError, match=r"parameter 'room' of in_path\(\) is annotated with dict"):
        register(in_path, "/{room}")
    with pytest.raises(
        TypeError, match=r"'other' of in_query\(\) .* Unknown, which a query has no"
    ):
        register(in_query)
    with pytest.raises(TypeError, match=r"'room' of listed\(\) .*it has one value each"):
        register(listed, "/{room}")
    with pytest.raises(TypeError, match=r"'name' of bounded\(\) .*constraint ge does not fit"):
        register(bounded)


def test_an_annotation_that_cannot_be_evaluated_is_refused_at_registration() -> None:
    async def handler(ws: WebSocket, room: Elsewhere) -> None: ...

    with pytest.raises(TypeError, match=r"'room' of handler\(\) .*Elsewhere.*cannot be evaluated"):
        register(handler)


def test_a_declaration_of_another_place_than_the_paths_is_refused() -> None:
    async def not_there(ws: WebSocket, romo: str = Path()) -> None: ...
    async def elsewhere(ws: WebSocket, room: str = Query()) -> None: ...

    with pytest.raises(TypeError, match=r"'romo' of not_there\(\) .*the path has no \{romo\}"):
        register(not_there, "/{room}")
    with pytest.raises(TypeError, match=r"'room' of elsewhere\(\) is in the path .* as Query\(\)"):
        register(elsewhere, "/{room}")


def test_a_path_parameter_that_is_declared_and_has_a_default_need_not_be_there(
    ask: Asking,
) -> None:
    async def handler(ws: WebSocket, room: Annotated[str, Path()] = "lobby") -> None:
        await reply(ws, room)

    assert ask(handler).values == ["lobby"]
    assert ask(handler, "/x", path="/{room}").values == ["x"]


# Memory, and pages


def test_reading_parameters_leaves_nothing_in_a_connection_that_does_not_ask() -> None:
    async def handler(ws: WebSocket, q: str, x: Annotated[str, Header()]) -> None:
        kept = ws._request
        await reply(ws, kept is None, ws.query_params["q"], ws.headers["x"])

    app = FastWS()
    app.websocket("/")(handler)
    assert run(visit("native", app, "/?q=1", "X: 2")).values == [True, "1", "2"]


def test_pages_take_parameters_too() -> None:
    app = FastWS()

    @app.get("/items/{number}")
    def page(
        number: int,
        request: Request,
        any_of_both: HTTPConnection,
        q: str | None = None,
        ids: list[int] = Query([]),
        user_agent: Annotated[str | None, Header()] = None,
    ) -> Any:
        assert any_of_both is request
        return [number, q, ids, user_agent]

    def get(path: str, query: bytes = b"") -> Any:
        scope = http_scope(path, query_string=query, headers=[(b"user-agent", b"x")])
        response = run(app.handle_http(Request(scope)))
        return response.status_code, response.body

    assert get("/items/5", b"q=a&ids=1&ids=2") == (200, b'[5,"a",[1,2],"x"]')
    status, body = get("/items/x", b"ids=y")
    assert status == 422
    assert b'["path","number"]' in body
    assert b'["query","ids",0]' in body
