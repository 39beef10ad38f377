"""How a handler is called: its signature, read once at registration, and the values it asks for."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from fastws.exceptions import HTTPException

__all__ = ["Call", "Conversion", "compile_call", "conversion_to", "is_async", "name_of"]

Parameter = inspect.Parameter

UNPROCESSABLE = 422


@dataclass(frozen=True)
class Conversion:
    """How the text of a parameter becomes the type its annotation names.

    Parameters:
        convert: raises ``ValueError`` for text that has no such value.
        kind: a stable name for programs, as FastAPI has it: ``int_parsing``.
        expected: completes the sentence "expected …".
    """

    convert: Callable[[str], Any]
    kind: str
    expected: str

    def complaint(self, location: str, name: str, value: object) -> dict[str, Any]:
        """What the peer is told about a value that does not convert."""
        return {
            "loc": [location, name],
            "msg": f"expected {self.expected}",
            "type": self.kind,
            "input": value,
        }


# Conversions


_BOOLS = dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True)
_BOOLS |= dict.fromkeys(("0", "false", "f", "no", "n", "off"), False)


def _to_bool(text: str) -> bool:
    try:
        return _BOOLS[text.lower()]
    except KeyError:
        raise ValueError from None


def _one_of(values: Collection[Any]) -> str:
    return "one of " + ", ".join(repr(value) for value in values)


def conversion_to(annotation: Any) -> Conversion | None:
    """The conversion of text to ``annotation``; ``None`` if the text itself is what is wanted.

    Raises:
        TypeError: text cannot be converted to that type.
    """
    if annotation in (Parameter.empty, Any, str, object):
        return None
    if annotation is bool:
        return Conversion(_to_bool, "bool_parsing", "a truth value such as true or false")
    info = msgspec.inspect.type_info(annotation)
    kind, expected = _describe(info)
    # strict=False is what lets it read numbers from text; its ValidationError is a ValueError.
    return Conversion(
        functools.partial(msgspec.convert, type=annotation, strict=False), kind, expected
    )


_SCALARS: dict[type[msgspec.inspect.Type], tuple[str, str]] = {
    msgspec.inspect.AnyType: ("value_error", "any text"),
    msgspec.inspect.StrType: ("string_type", "text"),
    msgspec.inspect.NoneType: ("none_required", "null"),
    msgspec.inspect.IntType: ("int_parsing", "a whole number"),
    msgspec.inspect.FloatType: ("float_parsing", "a number"),
    msgspec.inspect.BoolType: ("bool_parsing", "true or false"),
    msgspec.inspect.DecimalType: ("decimal_parsing", "a decimal number"),
    msgspec.inspect.UUIDType: ("uuid_parsing", "a UUID"),
    msgspec.inspect.DateTimeType: ("datetime_parsing", "a date and time, such as in RFC 3339"),
    msgspec.inspect.DateType: ("date_parsing", "a date such as 2030-01-31"),
    msgspec.inspect.TimeType: ("time_parsing", "a time such as 12:30:00"),
    msgspec.inspect.TimeDeltaType: ("time_delta_parsing", "a duration, such as in ISO 8601"),
}


def _describe(info: msgspec.inspect.Type) -> tuple[str, str]:
    """The name of what can go wrong with a type, and what is expected of a value."""
    if isinstance(info, msgspec.inspect.Metadata):
        return _describe(info.type)
    if isinstance(info, msgspec.inspect.EnumType):
        return "enum", _one_of([member.value for member in info.cls])
    if isinstance(info, msgspec.inspect.LiteralType):
        return "literal_error", _one_of(info.values)
    if isinstance(info, msgspec.inspect.UnionType):
        parts = [_describe(part) for part in info.types]
        return parts[0][0], " or ".join(expected for _, expected in parts)
    try:
        return _SCALARS[type(info)]
    except KeyError:
        raise TypeError(f"text cannot be converted to {type(info).__name__}") from None


# Signatures


def is_async(function: Any) -> bool:
    """Whether calling it makes a coroutine: ``async def``, a partial of one, or an object whose
    ``__call__`` is one."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.iscoroutinefunction(function):
        return True
    return not inspect.isclass(function) and inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  (it is asked for what it is, not whether)
    )


def name_of(function: Any) -> str:
    """What to call a handler in messages, and a route that has no name of its own."""
    while isinstance(function, functools.partial):
        function = function.func
    name: str = getattr(function, "__name__", type(function).__name__)
    return name


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
    if not inspect.isroutine(function):
        function = function.__call__
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:
        # One of them cannot be evaluated, often an import for the type checker only. The others
        # still count; this one is looked at as text.
        scope = getattr(inspect.unwrap(function), "__globals__", {})
        hints = {item.name: _evaluate(item.annotation, scope) for item in parameters}
    return {item.name: hints.get(item.name, item.annotation) for item in parameters}


def _evaluate(annotation: Any, scope: dict[str, Any]) -> Any:
    text = getattr(annotation, "__forward_arg__", annotation)
    if not isinstance(text, str):
        return annotation
    try:
        # What typing.get_type_hints() does: these are the program's own annotations.
        return eval(text, dict(scope))
    except Exception:
        return text


def _is_annotated(annotation: Any, kind: type) -> bool:
    """Whether an annotation means ``kind``, perhaps optional or with remarks."""
    if isinstance(annotation, str):
        pattern = rf"(Optional\[)?([\w.]*\.)?{kind.__name__}\]?( *\| *None)?"
        return re.fullmatch(pattern, annotation.strip()) is not None
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_annotated(get_args(annotation)[0], kind)
    if origin in (Union, types.UnionType):
        return any(_is_annotated(part, kind) for part in get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, kind)


def _subject_of(
    parameters: Collection[Parameter],
    annotations: Mapping[str, Any],
    path: Collection[str],
    kind: type,
) -> str | None:
    """The parameter that gets the connection: the one annotated so, else the first positional one
    that is nothing else."""
    for item in parameters:
        if _is_annotated(annotations[item.name], kind):
            return item.name
    for item in parameters:
        if (
            item.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
            and item.annotation is Parameter.empty
            and item.default is Parameter.empty
            and item.name not in path
        ):
            return item.name
    return None


class Call:
    """A handler and where each of its arguments comes from: made once, by :func:`compile_call`.

    Parameters:
        function: the handler.
        subject: the parameter that gets the connection (or request), ``None`` if none does.
        subject_first: whether that parameter can be passed as the first positional one.
        path: the path parameters it takes, with their conversions.
        leading: positional-only parameters after the subject, in order, with their defaults.
        unbound: parameters that nothing gives a value to.
    """

    __slots__ = ("_leading", "_path", "_subject", "_subject_first", "function", "unbound")

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        subject: str | None,
        subject_first: bool,
        path: tuple[tuple[str, Conversion | None], ...],
        leading: tuple[tuple[str, Any], ...],
        unbound: tuple[str, ...],
    ) -> None:
        self.function = function
        self.unbound = unbound
        self._subject = subject
        self._subject_first = subject_first
        self._path = path
        self._leading = leading

    @property
    def takes_subject(self) -> bool:
        """Whether the handler gets the connection (or request) at all."""
        return self._subject_first or self._subject is not None

    def __call__(self, subject: Any, values: Mapping[str, Any]) -> Any:
        """Call the handler: ``values`` are those of the path, by name.

        Raises:
            HTTPException: 422 with every value that does not convert, and why.
        """
        if self._subject_first and not self._path:
            return self.function(subject)
        arguments = self._convert(values)
        if self._subject_first:
            positional = [subject]
        else:
            positional = []
            if self._subject is not None:
                arguments[self._subject] = subject
        for name, default in self._leading:
            positional.append(arguments.pop(name, default))
        return self.function(*positional, **arguments)

    def _convert(self, values: Mapping[str, Any]) -> dict[str, Any]:
        arguments = {}
        complaints = []
        for name, conversion in self._path:
            value = values[name]
            if conversion is not None:
                try:
                    value = conversion.convert(value)
                except ValueError:
                    complaints.append(conversion.complaint("path", name, value))
            arguments[name] = value
        if complaints:
            raise HTTPException(UNPROCESSABLE, complaints)
        return arguments


def compile_call(
    function: Callable[..., Any], path: Mapping[str, Callable[[Any], Any] | None], kind: type
) -> Call:
    """Decide where each argument of a handler comes from.

    Parameters:
        function: the handler.
        path: the names in its route's path, each with a function that gives the text of its value
            back; ``None`` where the value is text.
        kind: what it handles: the class of the connection or request.

    Raises:
        TypeError: a path parameter is annotated with a type that text cannot be converted to.
    """
    parameters = _signature(function).parameters.values()
    annotations = _annotations(function, parameters)
    subject = _subject_of(parameters, annotations, path, kind)
    bound: dict[str, Conversion | None] = {}
    leading: list[tuple[str, Any]] = []
    unbound = []
    first = next(iter(parameters), None)
    subject_first = (
        subject is not None
        and first is not None
        and first.name == subject
        and first.kind is not Parameter.KEYWORD_ONLY
    )
    for item in parameters:
        if item.kind is Parameter.VAR_POSITIONAL:
            # A wrapper that hands everything on: the connection comes first.
            subject_first = subject_first or item is first
        elif item.kind is Parameter.VAR_KEYWORD:
            bound.update((name, None) for name in path if name not in bound and name != subject)
        elif item.name != subject and item.name in path:
            bound[item.name] = _path_conversion(
                function, item.name, annotations[item.name], path[item.name]
            )
        elif item.name != subject and item.default is Parameter.empty:
            unbound.append(item.name)
        if item.kind is Parameter.POSITIONAL_ONLY and not (subject_first and item is first):
            leading.append((item.name, item.default))
    return Call(
        function,
        subject=subject,
        subject_first=subject_first,
        path=tuple(bound.items()),
        leading=tuple(leading),
        unbound=tuple(unbound),
    )


def _path_conversion(
    function: Any, name: str, annotation: Any, to_text: Callable[[Any], str] | None
) -> Conversion | None:
    if annotation is Parameter.empty:
        return None
    try:
        if isinstance(annotation, str):
            raise TypeError(f"the annotation {annotation!r} cannot be evaluated")
        conversion = conversion_to(annotation)
    except TypeError as error:
        raise TypeError(
            f"path parameter {name!r} of {name_of(function)}() is annotated with {annotation!r}, "
            f"which a path has no values for: {error}"
        ) from None
    if to_text is None:
        return conversion
    # The path's own convertor has read the text; the annotation may want another type.
    if conversion is None:
        return Conversion(to_text, "string_type", "text") if annotation is str else None
    convert = conversion.convert
    return Conversion(lambda value: convert(to_text(value)), conversion.kind, conversion.expected)
