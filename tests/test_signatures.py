"""What a function asks for: its parameters, their annotations, and what kind of function it is."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, NamedTuple, Optional, TypeVar

import msgspec
import pytest

from fastws.signatures import (
    Parameter,
    arguments_of,
    generator_kind,
    is_annotated,
    is_async,
    name_of,
)

if TYPE_CHECKING:
    from somewhere import Elsewhere  # type: ignore[import-not-found]

T = TypeVar("T")


class Subject: ...


class Special(Subject): ...


async def coroutine_function(ws: Subject, room: str = "") -> str:
    return room


def sync_generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class AsyncCallable:
    async def __call__(self, ws: Subject, room: int) -> int:
        return room

    async def method(self, ws: Subject, room: int) -> int:
        return room


class PlainCallable:
    def __call__(self) -> None: ...


class YieldingCallable:
    def __call__(self) -> Iterator[int]:
        yield 1


class Plain:
    def __init__(self, limit: int, q: str = "x") -> None: ...


class Inheriting(Plain): ...


class Without: ...


@dataclass
class Data(Generic[T]):
    limit: int
    q: str = "x"


class Struct(msgspec.Struct):
    limit: int
    q: str = "x"


def annotations_of(function: Any) -> dict[str, Any]:
    return {argument.name: argument.annotation for argument in arguments_of(function)}


# Parameters


def test_annotations_are_evaluated_and_remarks_are_apart() -> None:
    def function(  # type: ignore[no-untyped-def]
        a: int, /, b: Annotated[str, "x", "y"] = "z", *rest: int, c, **more: str
    ) -> None: ...

    a, b, _, c, _ = arguments_of(function)
    assert (a.annotation, a.type, a.remarks, a.default) == (int, int, (), Parameter.empty)
    assert (b.type, b.remarks, b.default) == (str, ("x", "y"), "z")
    assert c.annotation is Parameter.empty
    assert [argument.kind for argument in (a, b, c)] == [
        Parameter.POSITIONAL_ONLY,
        Parameter.POSITIONAL_OR_KEYWORD,
        Parameter.KEYWORD_ONLY,
    ]


def test_remarks_within_an_optional_count_too() -> None:
    def function(a: Optional[Annotated[int, "x"]]) -> None: ...  # noqa: UP045

    (argument,) = arguments_of(function)
    assert (argument.type, argument.remarks) == (int, ("x",))


@pytest.mark.parametrize("function", [Plain, Inheriting, Data, Struct])
def test_a_class_asks_for_what_makes_it(function: Any) -> None:
    assert annotations_of(function) == {"limit": int, "q": str}


def test_a_class_may_ask_for_nothing() -> None:
    assert arguments_of(Without) == []


@pytest.mark.parametrize(
    "function", [AsyncCallable(), AsyncCallable().method, functools.partial(AsyncCallable())]
)
def test_callable_objects_methods_and_partials_ask_for_what_they_pass_on(function: Any) -> None:
    assert annotations_of(function) == {"ws": Subject, "room": int}


def test_what_a_partial_has_given_is_known() -> None:
    ws, room = arguments_of(functools.partial(coroutine_function, room="fixed"))
    assert (ws.is_bound, room.is_bound, room.default) == (False, True, "fixed")
    (room,) = arguments_of(functools.partial(coroutine_function, Subject()))
    assert (room.name, room.is_bound) == ("room", False)


def test_a_wrapper_has_the_signature_of_what_it_wraps() -> None:
    @functools.wraps(coroutine_function)
    def wrapper(*args: Any, **kwargs: Any) -> Any: ...

    assert annotations_of(wrapper) == {"ws": Subject, "room": str}


def test_one_annotation_that_cannot_be_evaluated_leaves_the_others() -> None:
    def function(room: Elsewhere, other: Subject): ...  # type: ignore[no-untyped-def]

    assert annotations_of(function) == {"room": "Elsewhere", "other": Subject}


def test_annotations_that_are_no_text_beside_one_that_cannot_be_evaluated() -> None:
    def function(ws, room): ...  # type: ignore[no-untyped-def]

    function.__annotations__ = {"room": int, "return": "Elsewhere"}
    assert annotations_of(function)["room"] is int


def test_a_class_with_an_annotation_that_cannot_be_evaluated() -> None:
    class Partly:
        def __init__(self, room: Elsewhere, other: Subject) -> None: ...

    assert annotations_of(Partly) == {"room": "Elsewhere", "other": Subject}

    class Fields(NamedTuple):
        room: Elsewhere
        other: Subject

    assert annotations_of(Fields) == {"room": "Elsewhere", "other": Subject}


def test_a_class_that_does_not_tell_its_signature_is_refused_with_a_sentence() -> None:
    class Fields(msgspec.Struct):
        room: Elsewhere

    with pytest.raises(TypeError, match=r"Fields\(\) has no signature .* 'Elsewhere'"):
        arguments_of(Fields)


def test_a_built_in_function_without_signature_is_refused_with_a_sentence() -> None:
    with pytest.raises(TypeError, match=r"type\(\) has no signature to be read"):
        arguments_of(type)


# What kind of function it is


def test_what_is_async() -> None:
    assert is_async(coroutine_function)
    assert is_async(functools.partial(functools.partial(coroutine_function), room="x"))
    assert is_async(AsyncCallable())
    assert is_async(AsyncCallable().method)
    assert is_async(functools.partial(AsyncCallable()))
    assert not is_async(AsyncCallable)
    assert not is_async(PlainCallable())
    assert not is_async(lambda: None)
    assert not is_async(5)


def test_what_yields() -> None:
    assert generator_kind(sync_generator) == "sync"
    assert generator_kind(functools.partial(async_generator)) == "async"
    assert generator_kind(YieldingCallable()) == "sync"
    assert generator_kind(YieldingCallable) is None
    assert generator_kind(coroutine_function) is None


def test_what_a_function_is_called() -> None:
    assert name_of(coroutine_function) == "coroutine_function"
    assert name_of(functools.partial(coroutine_function)) == "coroutine_function"
    assert name_of(AsyncCallable()) == "AsyncCallable"


@pytest.mark.parametrize(
    "annotation",
    [
        Subject,
        Special,
        Subject | None,
        Optional[Subject],  # noqa: UP045
        Annotated[Subject, "x"],
        "Subject",
        "fastws.Subject",
        "Optional[fastws.Subject]",
        "Subject | None",
    ],
)
def test_an_annotation_that_means_a_class(annotation: Any) -> None:
    assert is_annotated(annotation, Subject)


@pytest.mark.parametrize(
    "annotation", [int, Parameter.empty, "SubjectOther", "list[Subject]", list[Subject], Any]
)
def test_an_annotation_that_means_something_else(annotation: Any) -> None:
    assert not is_annotated(annotation, Subject)
