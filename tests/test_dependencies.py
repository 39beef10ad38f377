"""Plans: which parameter gets what, in which order dependencies are called, and what is refused."""

# ruff: noqa: B008  (a call in a default is how these are declared)

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from fastws.dependencies import Depends, Plan, compile_plan, inline
from fastws.parameters import Source
from fastws.requests import HTTPConnection, Request
from fastws.security import HTTPBearer
from fastws.signatures import name_of
from fastws.websocket import WebSocket
from tests.asgi_peer import ASGIPeer

if TYPE_CHECKING:
    from fastws.websocket import WebSocket as Socket


def websocket(**scope: Any) -> WebSocket:
    peer = ASGIPeer(connects=False, **scope)
    return WebSocket(peer.scope, peer.receive, peer.send)


def planned(function: Callable[..., Any], *path: str, **options: Any) -> Plan:
    return compile_plan(function, dict.fromkeys(path), WebSocket, **options)


def called(plan: Plan, ws: WebSocket | None = None, **values: Any) -> Any:
    """What the handler returns, without dependencies and complaints."""
    complaints: list[Any] = []
    source = Source(ws or websocket(), values)
    positional, keywords = plan.endpoint.gather(source, [], complaints)
    assert complaints == []
    return plan.endpoint.function(*positional, **keywords)


def order(plan: Plan) -> list[str]:
    return [name_of(step.call.function) for step in plan.steps]


# Which parameter gets the connection


class Special(WebSocket): ...


def annotated(other: WebSocket, x): ...  # type: ignore[no-untyped-def]
def optional(other: WebSocket | None = None): ...  # type: ignore[no-untyped-def]
def remarked(other: Annotated[WebSocket, "x"]): ...  # type: ignore[no-untyped-def]
def subclass(other: Special): ...  # type: ignore[no-untyped-def]
def bare(other): ...  # type: ignore[no-untyped-def]
def after_path(room, other): ...  # type: ignore[no-untyped-def]
def after_default(x=1, *, room, other: WebSocket): ...  # type: ignore[no-untyped-def]
def for_the_checker(other: Socket): ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    "function", [optional, remarked, subclass, bare, after_path, after_default]
)
def test_the_parameter_that_gets_the_connection(function: Callable[..., Any]) -> None:
    seen: dict[str, Any] = {}

    @functools.wraps(function)
    def record(*args: Any, **arguments: Any) -> None:
        seen.update(arguments, **dict(zip(function.__code__.co_varnames, args, strict=False)))

    plan = planned(record, "room")
    assert plan.takes_subject
    ws = websocket()
    called(plan, ws, room="r")
    assert seen["other"] is ws


def test_an_annotation_goes_before_the_position() -> None:
    plan = planned(annotated)
    complaints: list[Any] = []
    plan.endpoint.gather(Source(websocket(), {}), [], complaints)
    assert [complaint["loc"] for complaint in complaints] == [["query", "x"]]


def test_an_annotated_parameter_of_another_kind_does_not_get_the_connection() -> None:
    def handler(ws: int) -> None: ...

    assert not planned(handler).takes_subject


def test_an_annotation_imported_for_the_type_checker_is_known_by_its_name() -> None:
    def handler(ws: "Optional[fastws.WebSocket]") -> Any:  # type: ignore[name-defined]  # noqa: F821, UP037
        return ws

    ws = websocket()
    assert called(planned(handler), ws) is ws


def test_a_function_that_hands_everything_on_gets_everything() -> None:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    ws = websocket()
    assert called(planned(wrapper, "room"), ws, room="r") == ((ws,), {"room": "r"})


def test_a_handler_that_takes_nothing_but_the_connection_is_plain() -> None:
    assert planned(bare).endpoint.is_plain
    assert not planned(bare, dependencies=[Depends(lambda: 1)]).is_direct
    assert not planned(after_path, "room").endpoint.is_plain


def test_an_optional_connection_of_the_other_kind_stays_at_its_default() -> None:
    def both(request: Request | None = None, ws: WebSocket | None = None) -> Any:
        return request, ws

    ws = websocket()
    assert called(planned(both), ws) == (None, ws)


def test_a_parameter_may_be_the_request_whatever_it_asks_for() -> None:
    def handler(connection: HTTPConnection) -> Any:
        return connection

    ws = websocket()
    connection = called(planned(handler), ws)
    assert isinstance(connection, HTTPConnection)
    assert connection.scope is ws.scope


# Arguments


def test_values_of_the_path_are_passed_by_name_in_any_order() -> None:
    def handler(b: int, ws: WebSocket, a: str, c: float = 0.5) -> Any:
        return b, ws, a, c

    ws = websocket()
    assert called(planned(handler, "a", "b"), ws, a="x", b="2") == (2, ws, "x", 0.5)


def test_positional_only_parameters() -> None:
    manager = object()

    def first(ws: WebSocket, room: str, x: int = 7, m=manager, /, *, b: str) -> Any:  # type: ignore[no-untyped-def]
        return ws, room, x, m, b

    def later(room: int, ws: WebSocket, /) -> Any:
        return room, ws

    ws = websocket()
    said = called(planned(first, "room", "b"), ws, room="r", b="b")
    assert said == (ws, "r", 7, manager, "b")
    assert called(planned(later, "room"), ws, room="1") == (1, ws)


def test_what_a_partial_has_given_is_not_the_querys_to_change() -> None:
    def handler(ws: WebSocket, admin: bool, room: str) -> Any:
        return admin, room

    ws = websocket(query_string=b"admin=true&room=x")
    plan = planned(functools.partial(handler, admin=False, room="fixed"))
    assert called(plan, ws) == (False, "fixed")
    # The route names this one itself.
    plan = planned(functools.partial(handler, admin=False, room="fixed"), "room")
    assert called(plan, ws, room="r") == (False, "r")


# Dependencies


def settings() -> int:
    return 1


def database(settings: int = Depends(settings)) -> Iterator[int]:
    yield settings


async def user(
    ws: WebSocket, db: Annotated[int, Depends(database)], other: int = Depends(settings)
) -> int:
    return db


def test_what_is_needed_first_is_called_first_and_once() -> None:
    async def handler(ws: WebSocket, one: int = Depends(user), two: int = Depends(database)): ...  # type: ignore[no-untyped-def]

    assert order(planned(handler)) == ["settings", "database", "user"]


def test_a_dependency_without_cache_is_called_for_itself() -> None:
    async def handler(  # type: ignore[no-untyped-def]
        one: int = Depends(settings, use_cache=False),
        two: int = Depends(settings),
        three: int = Depends(settings, use_cache=False),
    ): ...

    plan = planned(handler)
    assert order(plan) == ["settings", "settings"]
    assert [given.step for _, given in plan.endpoint.keywords] == [0, 0, 1]  # type: ignore[attr-defined]


def test_a_function_that_is_torn_down_at_two_times_is_called_twice() -> None:
    async def handler(  # type: ignore[no-untyped-def]
        early: int = Depends(database, scope="handshake"),
        late: int = Depends(database, scope="connection"),
        same: int = Depends(database),
        # Without a yield it has no end.
        one: int = Depends(settings, scope="handshake"),
    ): ...

    plan = planned(handler)
    assert order(plan) == ["settings", "database", "database"]
    assert [step.ends_with_handshake for step in plan.steps] == [False, True, False]


def test_dependencies_of_a_route_come_before_the_handlers_own() -> None:
    async def handler(db: int = Depends(database)) -> None: ...

    def check() -> None: ...

    plan = planned(handler, dependencies=[Depends(check), Depends(user)])
    assert order(plan) == ["check", "settings", "database", "user"]


@dataclass
class Paging:
    limit: int = 10


def test_a_class_may_be_named_by_the_annotation_alone() -> None:
    def handler(a: Annotated[Paging, Depends()], b: Paging = Depends()) -> None: ...

    (step,) = planned(handler).steps
    assert step.call.function is Paging


@dataclass
class Unhashable:
    """A callable object that no dictionary takes."""

    role: str

    def __call__(self, ws: WebSocket) -> str:
        return self.role


def test_callable_objects_and_methods_are_dependencies() -> None:
    admin = Unhashable("admin")
    bearer = HTTPBearer()

    def handler(
        a: str = Depends(admin), b: str = Depends(admin), c: Any = Depends(bearer)
    ) -> None: ...

    plan = planned(handler)
    assert [step.call.function for step in plan.steps] == [admin, bearer]
    assert [step.is_direct for step in plan.steps] == [False, True]


def test_what_may_be_called_at_once() -> None:
    @inline
    def marked() -> None: ...

    async def asynchronous() -> None: ...

    def handler(
        a: Any = Depends(marked),
        b: Any = Depends(settings, inline=True),
        c: Any = Depends(asynchronous, inline=True),
    ) -> None: ...

    assert planned(handler).is_direct
    assert not planned(database).is_direct
    assert not planned(lambda x=Depends(asynchronous): x).is_direct
    assert not planned(lambda x=Depends(database, inline=True): x).is_direct


def test_the_marker_of_a_method_is_not_that_of_the_one_that_replaces_it() -> None:
    class Checked(HTTPBearer):
        async def __call__(self, request: HTTPConnection) -> Any:
            return await super().__call__(request)

    assert not planned(lambda x=Depends(Checked()): x).is_direct


def test_a_dependency_takes_the_connection_only_where_it_is_annotated() -> None:
    def named(ws): ...  # type: ignore[no-untyped-def]

    def handler(x: Any = Depends(named)) -> None: ...

    plan = planned(handler)
    assert not plan.takes_subject
    assert planned(lambda x=Depends(user): x).takes_subject


# Overrides


def test_overrides_take_the_place_of_dependencies_wherever_they_are() -> None:
    def test_settings(limit: int = 5) -> int:
        return limit

    async def handler(one: int = Depends(user)) -> None: ...

    plan = planned(handler, dependencies=[Depends(settings)], overrides={settings: test_settings})
    assert order(plan) == ["test_settings", "database", "user"]


# What is refused


def circle_a(b: Annotated[int, Depends(lambda b=Depends(settings): b)]) -> int:
    return b


class Chicken:
    def __init__(self, egg: Annotated[Egg, Depends()]) -> None: ...


class Egg:
    def __init__(self, chicken: Annotated[Chicken, Depends()]) -> None: ...


def test_a_circle_of_dependencies_is_told() -> None:
    with pytest.raises(TypeError, match=r"depends on itself: Chicken\(\) → Egg\(\) → Chicken\(\)"):
        planned(lambda x=Depends(Chicken): x)
    with pytest.raises(TypeError, match=r"depends on itself: user\(\) → database\(\) → user\(\)"):
        planned(lambda x=Depends(user): x, overrides={settings: user})
    assert len(planned(lambda x=Depends(circle_a): x).steps) == 3


def test_what_lives_longer_cannot_use_what_ends_with_the_handshake() -> None:
    def long(db: int = Depends(database, scope="handshake")) -> Iterator[int]:
        yield db

    async def short(db: int = Depends(database, scope="handshake")) -> AsyncIterator[int]:
        yield db

    def value(db: int = Depends(database, scope="handshake")) -> int:
        return db

    with pytest.raises(TypeError, match=r"long\(\) lives as long .* uses database\(\)"):
        planned(lambda x=Depends(long): x)
    assert not planned(lambda x=Depends(short, scope="handshake"): x).is_direct
    assert not planned(lambda x=Depends(value): x).is_direct


def test_what_is_no_dependency_is_refused_with_a_sentence() -> None:
    with pytest.raises(TypeError, match="pass the function itself, not its result"):
        Depends(settings())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scope of a dependency is 'session'"):
        Depends(settings, scope="session")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"dependencies= takes Depends\(…\), not <function"):
        planned(bare, dependencies=[settings])
    with pytest.raises(TypeError, match="needs the function to call"):
        planned(bare, dependencies=[Depends()])
    with pytest.raises(TypeError, match=r"'x' of <lambda>\(\) is Depends\(\): name the function"):
        planned(lambda x=Depends(): x)


def test_a_request_where_there_is_a_websocket_is_refused_with_a_sentence() -> None:
    def needs_request(request: Request) -> None: ...

    with pytest.raises(TypeError, match=r"'request' of needs_request\(\) .*here is a WebSocket"):
        planned(lambda x=Depends(needs_request): x)
    with pytest.raises(TypeError, match=r"annotated with WebSocket, and here is a Request"):
        compile_plan(lambda x=Depends(user): x, {}, Request)


def test_a_parameter_of_a_dependency_that_no_text_becomes_is_refused() -> None:
    def dependency(limits: dict[str, int]) -> None: ...

    with pytest.raises(TypeError, match=r"'limits' of dependency\(\) is annotated with dict"):
        planned(lambda x=Depends(dependency): x)
