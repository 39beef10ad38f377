"""Signatures: which parameter gets what, and how text becomes what an annotation names."""

from __future__ import annotations

import datetime
import enum
import functools
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType, Optional

import msgspec
import pytest

from fastws.exceptions import HTTPException
from fastws.parameters import Call, compile_call, conversion_to, is_async, name_of

if TYPE_CHECKING:
    from somewhere import Elsewhere  # type: ignore[import-not-found]

    from fastws.websocket import WebSocket


class Subject:
    """Stands for the connection."""


class Special(Subject):
    pass


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


UserId = NewType("UserId", int)
ONE = uuid.UUID(int=1)
SUBJECT = Subject()


def compiled(function: Callable[..., Any], *path: str) -> Call:
    return compile_call(function, dict.fromkeys(path), Subject)


# Conversions


@pytest.mark.parametrize(
    ("annotation", "text", "expected"),
    [
        (int, "-5", -5),
        (int, "9" * 30, int("9" * 30)),
        (float, "1.5", 1.5),
        (bool, "true", True),
        (bool, "ON", True),
        (bool, "0", False),
        (uuid.UUID, str(ONE), ONE),
        (datetime.date, "2030-01-31", datetime.date(2030, 1, 31)),
        (Colour, "red", Colour.RED),
        (Level, "2", Level.HIGH),
        (Literal["a", "b"], "b", "b"),
        (Literal[1, 2], "2", 2),
        (Optional[int], "3", 3),  # noqa: UP045
        (int | None, "3", 3),
        (Annotated[int, "a remark"], "4", 4),
        (Annotated[int, msgspec.Meta(ge=1)], "4", 4),
        (UserId, "5", 5),
        (Annotated[str, "a remark"], "x", "x"),
    ],
)
def test_text_becomes_what_the_annotation_names(
    annotation: Any, text: str, expected: object
) -> None:
    conversion = conversion_to(annotation)
    assert conversion is not None
    value = conversion.convert(text)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "text", "kind", "message"),
    [
        (int, "x", "int_parsing", "expected a whole number"),
        (int, " 5", "int_parsing", "expected a whole number"),
        (int, "1_0", "int_parsing", "expected a whole number"),
        (int, "٣", "int_parsing", "expected a whole number"),
        (int, "9" * 5000, "int_parsing", "expected a whole number"),
        (float, "x", "float_parsing", "expected a number"),
        (bool, "maybe", "bool_parsing", "expected a truth value such as true or false"),
        (uuid.UUID, "x", "uuid_parsing", "expected a UUID"),
        (Colour, "green", "enum", "expected one of 'red', 'blue'"),
        (Literal["a", 1], "c", "literal_error", "expected one of 1, 'a'"),
        (Optional[int], "x", "int_parsing", "expected a whole number or null"),  # noqa: UP045
    ],
)
def test_text_that_does_not_convert_is_complained_about(
    annotation: Any, text: str, kind: str, message: str
) -> None:
    conversion = conversion_to(annotation)
    assert conversion is not None
    with pytest.raises(ValueError):
        conversion.convert(text)
    assert conversion.complaint("path", "name", text) == {
        "loc": ["path", "name"],
        "msg": message,
        "type": kind,
        "input": text,
    }


@pytest.mark.parametrize("annotation", [str, Any, object])
def test_text_that_is_wanted_as_it_is_is_not_converted(annotation: Any) -> None:
    assert conversion_to(annotation) is None


@pytest.mark.parametrize("annotation", [Subject, complex, dict[str, int], int | Subject])
def test_a_type_that_text_cannot_become_is_refused(annotation: Any) -> None:
    with pytest.raises(TypeError):
        conversion_to(annotation)


# Which parameter gets the connection


def annotated(x, other: Subject): ...  # type: ignore[no-untyped-def]
def optional(other: Subject | None): ...  # type: ignore[no-untyped-def]
def old_optional(other: Optional[Subject]): ...  # type: ignore[no-untyped-def]  # noqa: UP045
def remarked(other: Annotated[Subject, "x"]): ...  # type: ignore[no-untyped-def]
def subclass(other: Special): ...  # type: ignore[no-untyped-def]
def bare(other): ...  # type: ignore[no-untyped-def]
def after_path(room, other): ...  # type: ignore[no-untyped-def]
def after_default(x=1, *, room, other: Subject): ...  # type: ignore[no-untyped-def]
def with_unknown(room: Elsewhere, other: Subject): ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    "function", [optional, old_optional, remarked, subclass, bare, after_path, after_default]
)
def test_the_parameter_that_gets_the_connection(function: Callable[..., Any]) -> None:
    seen: dict[str, Any] = {}

    @functools.wraps(function)
    def record(*args: Any, **arguments: Any) -> None:
        seen.update(arguments, **dict(zip(function.__code__.co_varnames, args, strict=False)))

    call = compiled(record, "room")
    assert call.takes_subject
    assert not call.unbound
    call(SUBJECT, {"room": "r"})
    assert seen["other"] is SUBJECT


def test_an_annotation_goes_before_the_position() -> None:
    assert compiled(annotated).unbound == ("x",)


def test_an_annotated_parameter_of_another_kind_does_not_get_the_connection() -> None:
    def handler(ws: int) -> None: ...

    call = compiled(handler)
    assert not call.takes_subject
    assert call.unbound == ("ws",)


def test_an_annotation_imported_for_the_type_checker_is_known_by_its_name() -> None:
    def handler(ws: WebSocket) -> WebSocket:
        return ws

    def quoted(ws: "Optional[fastws.WebSocket]") -> Any:  # type: ignore[name-defined]  # noqa: F821, UP037, UP045
        return ws

    from fastws import websocket

    for function in (handler, quoted):
        call = compile_call(function, {}, websocket.WebSocket)
        assert call.takes_subject
        assert call(SUBJECT, {}) is SUBJECT


def test_one_annotation_that_cannot_be_evaluated_leaves_the_others() -> None:
    with pytest.raises(TypeError, match=r"'room' of with_unknown\(\).*'Elsewhere' cannot be eval"):
        compiled(with_unknown, "room")
    # Not in the path it is nobody's business.
    assert compiled(with_unknown).unbound == ("room",)


def test_a_function_that_hands_everything_on_gets_everything() -> None:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    call = compiled(wrapper, "room")
    assert call(SUBJECT, {"room": "r"}) == ((SUBJECT,), {"room": "r"})


def test_annotations_that_are_no_text_beside_one_that_cannot_be_evaluated() -> None:
    def handler(ws, room):  # type: ignore[no-untyped-def]
        return ws, room

    handler.__annotations__ = {"room": int, "return": "Elsewhere"}
    assert compiled(handler, "room")(SUBJECT, {"room": "5"}) == (SUBJECT, 5)


# Calling


def test_values_of_the_path_are_passed_by_name_in_any_order() -> None:
    def handler(b: int, ws: Subject, a: str, c: float = 0.5) -> Any:
        return b, ws, a, c

    call = compiled(handler, "a", "b")
    assert call(SUBJECT, {"a": "x", "b": "2"}) == (2, SUBJECT, "x", 0.5)


def test_a_parameter_may_leave_a_value_of_the_path_alone() -> None:
    assert compiled(lambda ws: ws, "room")(SUBJECT, {"room": "r"}) is SUBJECT


def test_a_path_parameter_with_a_default_gets_its_value() -> None:
    def handler(ws: Subject, room: str = "lobby") -> str:
        return room

    assert compiled(handler, "room")(SUBJECT, {"room": "r"}) == "r"
    assert compiled(handler)(SUBJECT, {}) == "lobby"


def test_positional_only_parameters() -> None:
    def first(ws: Subject, room: str, x: int = 7, /, *, b: str) -> Any:
        return ws, room, x, b

    def later(room: int, ws: Subject, /) -> Any:
        return room, ws

    assert compiled(first, "room", "b")(SUBJECT, {"room": "r", "b": "b"}) == (SUBJECT, "r", 7, "b")
    assert compiled(later, "room")(SUBJECT, {"room": "1"}) == (1, SUBJECT)


def test_every_value_that_does_not_convert_is_reported() -> None:
    def handler(ws: Subject, a: int, b: Colour, c: str) -> None: ...

    with pytest.raises(HTTPException) as caught:
        compiled(handler, "a", "b", "c")(SUBJECT, {"a": "x", "b": "y", "c": "z"})
    assert caught.value.status_code == 422
    assert [complaint["loc"] for complaint in caught.value.detail] == [["path", "a"], ["path", "b"]]
    assert [complaint["input"] for complaint in caught.value.detail] == ["x", "y"]


def test_a_type_that_no_path_has_values_for_is_named() -> None:
    def handler(ws: Subject, room: dict[str, int]) -> None: ...

    with pytest.raises(TypeError, match=r"path parameter 'room' of handler\(\) is annotated with"):
        compiled(handler, "room")


def test_a_value_that_the_path_converted_becomes_what_the_annotation_names() -> None:
    def handler(ws: Subject, same: int, text: str, number: float, bare, anything: Any) -> Any:  # type: ignore[no-untyped-def]
        return same, text, number, bare, anything

    names = ("same", "text", "number", "bare", "anything")
    call = compile_call(handler, dict.fromkeys(names, str), Subject)
    assert call(SUBJECT, dict.fromkeys(names, 5)) == (5, "5", 5.0, 5, 5)


# What a handler is


async def coroutine_function(ws: Subject, room: str = "") -> str:
    return room


class Callable_:
    async def __call__(self, ws: Subject, room: int) -> int:
        return room

    async def method(self, ws: Subject, room: int) -> int:
        return room


class PlainCallable:
    def __call__(self) -> None: ...


def test_what_is_async() -> None:
    assert is_async(coroutine_function)
    assert is_async(functools.partial(functools.partial(coroutine_function), room="x"))
    assert is_async(Callable_())
    assert is_async(Callable_().method)
    assert is_async(functools.partial(Callable_()))
    assert not is_async(Callable_)
    assert not is_async(PlainCallable())
    assert not is_async(lambda: None)
    assert not is_async(5)


def test_what_a_handler_is_called() -> None:
    assert name_of(coroutine_function) == "coroutine_function"
    assert name_of(functools.partial(coroutine_function)) == "coroutine_function"
    assert name_of(Callable_()) == "Callable_"


def test_partials_and_callable_objects_have_the_signature_of_what_they_call() -> None:
    partial = functools.partial(coroutine_function, room="fixed")
    for function, expected in ((partial, "r"), (Callable_(), 5), (Callable_().method, 5)):
        coroutine = compiled(function, "room")(SUBJECT, {"room": "r" if expected == "r" else "5"})
        with pytest.raises(StopIteration) as stopped:
            coroutine.send(None)
        assert stopped.value.value == expected
