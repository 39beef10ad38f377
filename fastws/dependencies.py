"""Dependencies: functions whose results a handler asks for, with :func:`Depends`.

At registration a handler and all that it depends on become a :class:`Plan`: the functions in the
order in which they are called, each once, and where every argument comes from. A connection then
follows the plan; how that is done, and what is torn down when, is in ``injection.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, TypeVar

from fastws.parameters import PLACES, Marker, Source, Value, ValueMarker, value_of
from fastws.requests import HTTPConnection, Request
from fastws.signatures import (
    Argument,
    Parameter,
    arguments_of,
    generator_kind,
    is_annotated,
    is_async,
    name_of,
)
from fastws.websocket import WebSocket

__all__ = ["Call", "Dependency", "Depends", "HEAD_ONLY", "Plan", "Step", "compile_plan", "inline"]

Function = TypeVar("Function", bound=Callable[..., Any])
DependencyScope = Literal["handshake", "connection", "function", "request"]
Complaints = list[dict[str, Any]]

SCOPES = ("handshake", "connection", "function", "request")


# What a handler writes


@dataclass(frozen=True)
class Dependency(Marker):
    """What :func:`Depends` makes."""

    function: Callable[..., Any] | None
    use_cache: bool
    scope: DependencyScope | None
    inline: bool

    @property
    def ends_with_handshake(self) -> bool:
        """Whether it is torn down when the opening handshake is over."""
        return self.scope == "handshake"


def Depends(
    dependency: Callable[..., Any] | None = None,
    *,
    use_cache: bool = True,
    scope: DependencyScope | None = None,
    inline: bool = False,
) -> Any:
    """Declare that a parameter is the result of another function.

    That function may take whatever a handler may: values of the request, other dependencies, and
    the connection in a parameter annotated ``WebSocket`` (``Request`` for a page), or
    ``HTTPConnection`` for either.

    An ``async def`` is awaited. A ``def`` runs in a thread of the loop's default executor, unless
    it is inline; context variables that it sets are seen neither by the handler nor by others. A
    function with ``yield`` is torn down when the handler has ended, the last one first; the
    exception that the handler ended with is raised at its ``yield``.

    If it raises ``HTTPException``, the connection is refused with that response; with
    ``WebSocketException``, it is refused with 403 and that is no error; anything else is logged
    and answered with 500.

    Parameters:
        dependency: a function, class or callable object; the class that the parameter is annotated
            with if left out.
        use_cache: whether a function that is asked for several times is called once a connection.
        scope: when a function with ``yield`` is torn down. ``"handshake"`` does it right after the
            connection has been accepted or refused, within that call: for what authentication
            needs and an open connection does not. ``"connection"``, the default, does it when the
            handler has ended, and so do FastAPI's ``"function"`` and ``"request"``.
        inline: call the function where it is needed, for one that neither blocks nor waits. An
            ``async def`` may be inline too.

    Raises:
        TypeError: ``dependency`` cannot be called.
        ValueError: ``scope`` is another one.
    """
    if dependency is not None and not callable(dependency):
        raise TypeError(
            f"Depends() got {dependency!r}, which cannot be called: "
            "pass the function itself, not its result"
        )
    if scope is not None and scope not in SCOPES:
        raise ValueError(f"the scope of a dependency is {scope!r}: expected one of {SCOPES}")
    return Dependency(dependency, use_cache, scope, inline)


def inline(function: Function) -> Function:
    """Mark a function as one that neither blocks nor waits: it is called where it is needed.

    The same as ``Depends(function, inline=True)`` wherever it is depended on.
    """
    function.__fastws_inline__ = True  # type: ignore[attr-defined]
    return function


HEAD_ONLY = "fastws: headers, query and cookies"
"""A remark in ``Annotated[HTTPConnection, HEAD_ONLY]``: nothing else of the request is needed."""


# Where arguments come from


class Input(Protocol):
    """Where an argument comes from."""

    def take(self, source: Source, results: Sequence[Any], complaints: Complaints) -> Any:
        """The argument."""


class _Subject:
    """The WebSocket, or the page's request."""

    def take(self, source: Source, results: Sequence[Any], complaints: Complaints) -> Any:
        return source.subject


class _Connection:
    """The request, whatever it asks for."""

    def take(self, source: Source, results: Sequence[Any], complaints: Complaints) -> Any:
        return source.connection


class _Head:
    """The request, of which only the head is looked at."""

    def take(self, source: Source, results: Sequence[Any], complaints: Complaints) -> Any:
        return source.head


@dataclass(frozen=True)
class _Result:
    """The result of a step."""

    step: int

    def take(self, source: Source, results: Sequence[Any], complaints: Complaints) -> Any:
        return results[self.step]


@dataclass(frozen=True)
class _Constant:
    """A default, passed because the arguments behind it are told by their position."""

    value: Any

    def take(self, source: Source, results: Sequence[Any], complaints: Complaints) -> Any:
        return self.value


SUBJECT, CONNECTION, HEAD = _Subject(), _Connection(), _Head()


@dataclass(frozen=True)
class Call:
    """A function and where its arguments come from.

    Parameters:
        function: the function.
        positional: its positional arguments, in order.
        keywords: the others, by name.
        needs: the steps whose results are among them.
    """

    function: Callable[..., Any]
    positional: tuple[Input, ...]
    keywords: tuple[tuple[str, Input], ...]
    needs: frozenset[int]

    @property
    def inputs(self) -> tuple[Input, ...]:
        return (*self.positional, *(given for _, given in self.keywords))

    @property
    def is_plain(self) -> bool:
        """Whether it gets the connection, as its one positional argument, and nothing else."""
        return self.positional == (SUBJECT,) and not self.keywords

    @property
    def takes_subject(self) -> bool:
        """Whether it gets the connection itself."""
        return SUBJECT in self.inputs

    def gather(
        self, source: Source, results: Sequence[Any], complaints: Complaints
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments; what is wrong with the request is added to ``complaints``."""
        return (
            [given.take(source, results, complaints) for given in self.positional],
            {name: given.take(source, results, complaints) for name, given in self.keywords},
        )


@dataclass(frozen=True)
class Step:
    """One call of a dependency.

    Parameters:
        call: the function and its arguments.
        generator: ``"sync"`` or ``"async"`` for a function with ``yield``.
        is_async: whether calling it makes a coroutine.
        is_inline: whether it is called where it is needed instead of in a thread.
        ends_with_handshake: whether it is torn down then, if it has a ``yield``.
    """

    call: Call
    generator: str | None
    is_async: bool
    is_inline: bool
    ends_with_handshake: bool

    @cached_property
    def manager(self) -> Callable[..., Any]:
        """Makes the context manager that a function with ``yield`` stands for."""
        function = self.call.function
        return (
            asynccontextmanager(function) if self.generator == "async" else contextmanager(function)
        )

    @property
    def is_direct(self) -> bool:
        """Whether its result is there without waiting, and without anything to tear down."""
        return self.is_inline and self.generator is None


# Plans


@dataclass(frozen=True)
class Plan:
    """A handler and all that it depends on.

    Parameters:
        steps: the dependencies, in the order in which they are called.
        endpoint: the handler.
        problems: sentences about parameters that nothing gives a value to.
    """

    steps: tuple[Step, ...]
    endpoint: Call
    problems: tuple[str, ...]

    @property
    def takes_subject(self) -> bool:
        """Whether the handler, or something it depends on, gets the connection."""
        return self.endpoint.takes_subject or any(step.call.takes_subject for step in self.steps)

    @cached_property
    def is_direct(self) -> bool:
        """Whether the handler can be called at once, and nothing is to be torn down after it."""
        return all(step.is_direct for step in self.steps)

    @cached_property
    def has_teardown(self) -> bool:
        """Whether something is to be torn down."""
        return any(step.generator for step in self.steps)

    @cached_property
    def has_handshake_teardown(self) -> bool:
        """Whether something is to be torn down when the handshake is over."""
        return any(step.ends_with_handshake for step in self.steps)


def compile_plan(
    function: Callable[..., Any],
    path: Mapping[str, Callable[[Any], str] | None],
    kind: type,
    dependencies: Sequence[Any] = (),
    overrides: Mapping[Callable[..., Any], Callable[..., Any]] | None = None,
) -> Plan:
    """Decide what is called for a handler, in which order, and with which arguments.

    Parameters:
        function: the handler.
        path: the names in its route's path, each with a function that gives the text of its value
            back; ``None`` where the value is text.
        kind: what it handles: ``WebSocket`` or ``Request``.
        dependencies: what is called besides, before what the handler itself asks for.
        overrides: functions to call in the place of others.

    Raises:
        TypeError: a parameter is of a type that text cannot be converted to, a dependency depends
            on itself, or is declared in a way that cannot work.
    """
    compiler = _Compiler(path, kind, overrides or {})
    for dependency in dependencies:
        if not isinstance(dependency, Dependency):
            raise TypeError(f"dependencies= takes Depends(…), not {dependency!r}")
        if dependency.function is None:
            raise TypeError("Depends() in dependencies= needs the function to call")
        compiler.add(dependency, dependency.function)
    endpoint = compiler.bind(function, is_handler=True)
    return Plan(tuple(compiler.steps), endpoint, tuple(compiler.problems))


class _Compiler:
    """Collects the steps of a plan; see :func:`compile_plan` for the parameters."""

    def __init__(
        self,
        path: Mapping[str, Callable[[Any], str] | None],
        kind: type,
        overrides: Mapping[Callable[..., Any], Callable[..., Any]],
    ) -> None:
        self.steps: list[Step] = []
        self.problems: list[str] = []
        self._path = path
        self._kind = kind
        self._others = tuple(other for other in (WebSocket, Request) if other is not kind)
        self._overrides = overrides
        self._cache: dict[Hashable, int] = {}
        self._trail: list[Callable[..., Any]] = []

    def add(self, dependency: Dependency, function: Callable[..., Any]) -> int:
        """The step that calls ``function``, and before it those that it needs."""
        if isinstance(function, Hashable):
            function = self._overrides.get(function, function)
        if any(other == function for other in self._trail):
            circle = [f"{name_of(other)}()" for other in (*self._trail, function)]
            raise TypeError(f"a dependency depends on itself: {' → '.join(circle)}")
        generator = generator_kind(function)
        ends_early = dependency.ends_with_handshake and generator is not None
        key = (function if isinstance(function, Hashable) else id(function), ends_early)
        if dependency.use_cache and key in self._cache:
            return self._cache[key]
        self._trail.append(function)
        call = self.bind(function)
        self._trail.pop()
        if generator is not None and not ends_early:
            self._check_lifetimes(call)
        is_inline = dependency.inline or _is_marked(function)
        step = Step(call, generator, is_async(function), is_inline, ends_early)
        self.steps.append(step)
        index = len(self.steps) - 1
        self._cache.setdefault(key, index)
        return index

    def _check_lifetimes(self, call: Call) -> None:
        for needed in call.needs:
            if self.steps[needed].ends_with_handshake:
                outer, inner = name_of(call.function), name_of(self.steps[needed].call.function)
                raise TypeError(
                    f"dependency {outer}() lives as long as the connection and uses {inner}(), "
                    'which ends with the handshake: give both scope="handshake", or neither'
                )

    def bind(self, function: Callable[..., Any], *, is_handler: bool = False) -> Call:
        """Decide where the arguments of a function come from."""
        arguments = arguments_of(function)
        subject = self._subject_of(arguments) if is_handler else None
        positional: list[Input] = []
        keywords: dict[str, Input] = {}
        for argument in arguments:
            is_first = argument is arguments[0]
            if argument.kind is Parameter.VAR_POSITIONAL:
                # A wrapper that hands everything on: the connection comes first.
                if is_handler and is_first:
                    positional.append(SUBJECT)
                continue
            if argument.kind is Parameter.VAR_KEYWORD:
                if is_handler:
                    for name in self._path:
                        keywords.setdefault(name, Value("path", name, None, None))
                continue
            given = SUBJECT if argument.name == subject else self._input(function, argument)
            if argument.kind is Parameter.POSITIONAL_ONLY:
                positional.append(_Constant(argument.default) if given is None else given)
            elif given is SUBJECT and is_first and argument.kind is not Parameter.KEYWORD_ONLY:
                # What calls a handler in the plainest way.
                positional.append(given)
            elif given is not None:
                keywords[argument.name] = given
        inputs = (*positional, *keywords.values())
        needs = frozenset(given.step for given in inputs if isinstance(given, _Result))
        return Call(function, tuple(positional), tuple(keywords.items()), needs)

    def _subject_of(self, arguments: list[Argument]) -> str | None:
        """Of a handler that annotates no parameter so, the one that gets the connection."""
        if any(is_annotated(argument.annotation, self._kind) for argument in arguments):
            return None
        for argument in arguments:
            if (
                argument.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
                and argument.annotation is Parameter.empty
                and argument.default is Parameter.empty
                and argument.name not in self._path
            ):
                return argument.name
        return None

    def _input(self, function: Callable[..., Any], argument: Argument) -> Input | None:
        """Where an argument comes from, ``None`` if it stays at its default."""
        annotation = argument.annotation
        marker = _marker_of(argument)
        if isinstance(marker, Dependency):
            wanted = marker.function
            if wanted is None:
                wanted = argument.type
                if not callable(wanted) or wanted is Parameter.empty:
                    raise TypeError(
                        f"parameter {argument.name!r} of {name_of(function)}() is Depends(): "
                        "name the function, or annotate the parameter with a class"
                    )
            return _Result(self.add(marker, wanted))
        if marker is None:
            if is_annotated(annotation, self._kind):
                return SUBJECT
            for other in self._others:
                if is_annotated(annotation, other):
                    return self._other(function, argument, other)
            if is_annotated(annotation, HTTPConnection):
                return HEAD if HEAD_ONLY in argument.remarks else CONNECTION
            if argument.name not in self._path and _stays_at_default(argument):
                return None
        assert marker is None or isinstance(marker, ValueMarker)
        value = value_of(function, argument, marker, self._path)
        if value.place == "path" and value.key not in self._path and value.default is None:
            self.problems.append(
                f"parameter {argument.name!r} of {name_of(function)}() is declared as "
                f"{PLACES['path']}(), and the path has no {{{value.key}}}"
            )
        return value

    def _other(self, function: Callable[..., Any], argument: Argument, other: type) -> Input | None:
        if argument.default is not Parameter.empty:
            return None
        raise TypeError(
            f"parameter {argument.name!r} of {name_of(function)}() is annotated with "
            f"{other.__name__}, and here is a {self._kind.__name__}: annotate it with "
            "HTTPConnection, which fits both"
        )


def _marker_of(argument: Argument) -> Marker | None:
    if isinstance(argument.default, Marker):
        return argument.default
    markers = [remark for remark in argument.remarks if isinstance(remark, Marker)]
    return markers[-1] if markers else None


def _stays_at_default(argument: Argument) -> bool:
    """Whether a parameter that says nothing about itself has a default that no text could be."""
    default = argument.default
    if argument.is_bound:
        return True
    if argument.annotation is not Parameter.empty or default is Parameter.empty:
        return False
    return not (default is None or isinstance(default, (str, bool, int, float)))


def _is_marked(function: Callable[..., Any]) -> bool:
    call = getattr(type(function), "__call__", None)  # noqa: B004  (a marker on it is asked for)
    return hasattr(function, "__fastws_inline__") or hasattr(call, "__fastws_inline__")
