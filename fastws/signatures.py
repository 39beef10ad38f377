"""What a function asks for: its signature and annotations, read once at registration."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Collection
from typing import Any, NamedTuple, Union, get_args, get_origin

from fastws.conversions import strip_remarks

__all__ = [
    "Argument",
    "Parameter",
    "arguments_of",
    "generator_kind",
    "is_annotated",
    "is_async",
    "name_of",
]

Parameter = inspect.Parameter


class Argument(NamedTuple):
    """A parameter of a function."""

    name: str
    kind: inspect._ParameterKind
    annotation: Any
    """Evaluated, or text if it cannot be; ``Parameter.empty`` if there is none."""
    default: Any
    """``Parameter.empty`` if there is none."""
    is_bound: bool
    """Whether a :func:`functools.partial` gives it its value already."""

    @property
    def type(self) -> Any:
        """What is annotated, without remarks."""
        return strip_remarks(self.annotation)[0]

    @property
    def remarks(self) -> tuple[Any, ...]:
        """What ``Annotated`` says about it."""
        return strip_remarks(self.annotation)[1]


def arguments_of(function: Callable[..., Any]) -> list[Argument]:
    """The parameters of a function, class or callable object, in order.

    Raises:
        TypeError: it has no signature, as some built-in functions have not, or a class whose
            annotations cannot be evaluated.
    """
    try:
        parameters = _signature(function).parameters.values()
    except (ValueError, NameError) as error:
        raise TypeError(f"{name_of(function)}() has no signature to be read: {error}") from None
    annotations = _annotations(function, parameters)
    bound = function.keywords if isinstance(function, functools.partial) else {}
    return [
        Argument(
            item.name,
            item.kind,
            annotations[item.name],
            item.default,
            item.name in bound,
        )
        for item in parameters
    ]


def _signature(function: Any) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        import annotationlib

        # An annotation may name what is imported for the type checker only.
        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(function)


def _annotations(function: Any, parameters: Collection[Parameter]) -> dict[str, Any]:
    """The annotations of the parameters; those that are text evaluated, if that is possible."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isclass(function):
        # A class without an __init__() of its own has its annotations among its attributes.
        function = function.__init__ if inspect.isfunction(function.__init__) else function
    elif not inspect.isroutine(function):
        function = function.__call__
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:
        # One of them cannot be evaluated, often an import for the type checker only. The others
        # still count; this one is looked at as text.
        scope = _scope_of(function)
        hints = {item.name: _evaluate(item.annotation, scope) for item in parameters}
    return {item.name: hints.get(item.name, item.annotation) for item in parameters}


def _scope_of(function: Any) -> dict[str, Any]:
    if inspect.isclass(function):
        return vars(sys.modules[function.__module__])
    scope: dict[str, Any] = getattr(inspect.unwrap(function), "__globals__", {})
    return scope


def _evaluate(annotation: Any, scope: dict[str, Any]) -> Any:
    text = getattr(annotation, "__forward_arg__", annotation)
    if not isinstance(text, str):
        return annotation
    try:
        # What typing.get_type_hints() does: these are the program's own annotations.
        return eval(text, dict(scope))
    except Exception:
        return text


# What kind of function it is


def is_async(function: Any) -> bool:
    """Whether calling it makes a coroutine: ``async def``, a partial of one, or an object whose
    ``__call__`` is one."""
    return _is_kind(inspect.iscoroutinefunction, function)


def generator_kind(function: Any) -> str | None:
    """``"sync"`` or ``"async"`` if calling it makes such a generator, else ``None``."""
    if _is_kind(inspect.isgeneratorfunction, function):
        return "sync"
    return "async" if _is_kind(inspect.isasyncgenfunction, function) else None


def _is_kind(is_kind: Callable[[Any], bool], function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    if is_kind(function):
        return True
    return not inspect.isclass(function) and is_kind(
        getattr(function, "__call__", None)  # noqa: B004  (it is asked for what it is, not whether)
    )


def name_of(function: Any) -> str:
    """What to call a function in messages, and a route that has no name of its own."""
    while isinstance(function, functools.partial):
        function = function.func
    name: str = getattr(function, "__name__", type(function).__name__)
    return name


def is_annotated(annotation: Any, kind: type) -> bool:
    """Whether an annotation means ``kind``, perhaps optional or with remarks."""
    if isinstance(annotation, str):
        pattern = rf"(Optional\[)?([\w.]*\.)?{kind.__name__}\]?( *\| *None)?"
        return re.fullmatch(pattern, annotation.strip()) is not None
    annotation, _ = strip_remarks(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        return any(is_annotated(part, kind) for part in get_args(annotation))
    annotation = get_origin(annotation) or annotation  # a generic class with its arguments
    return isinstance(annotation, type) and issubclass(annotation, kind)
