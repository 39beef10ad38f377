"""The values that a handler takes from the request: path, query, headers and cookies.

A parameter says where its value comes from with :data:`Query`, :data:`Header`, :data:`Cookie` or
:data:`Path`, as its default or within ``Annotated``. One that says nothing is looked for in the
path and then in the query.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastws.conversions import Constraints, Conversion, Reason, Unfit, conversion_to
from fastws.http_head import parse_request
from fastws.requests import HTTPConnection
from fastws.signatures import Argument, Parameter, name_of
from fastws.websocket import WebSocket

__all__ = [
    "Cookie",
    "Header",
    "Marker",
    "PLACES",
    "Path",
    "Query",
    "Source",
    "Value",
    "ValueMarker",
    "value_of",
]

Place = Literal["path", "query", "header", "cookie"]
PLACES = {"path": "Path", "query": "Query", "header": "Header", "cookie": "Cookie"}


# What a handler writes


class Marker:
    """What may stand in the place of a default, or in ``Annotated``, to say what a parameter is."""


@dataclass(frozen=True)
class ValueMarker(Marker):
    """Where a parameter's value comes from: what :data:`Query` and its like make."""

    place: Place
    default: Any
    default_factory: Callable[[], Any] | None
    alias: str | None
    convert_underscores: bool
    constraints: Constraints
    title: str | None
    description: str | None
    deprecated: Any


class _Declaration:
    """One of :data:`Query`, :data:`Header`, :data:`Cookie` and :data:`Path`; see its call."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __call__(
        self,
        default: Any = ...,
        *,
        default_factory: Callable[[], Any] | None = None,
        alias: str | None = None,
        validation_alias: str | None = None,
        convert_underscores: bool = True,
        gt: Any = None,
        ge: Any = None,
        lt: Any = None,
        le: Any = None,
        multiple_of: Any = None,
        min_length: int | None = None,
        max_length: int | None = None,
        pattern: str | None = None,
        allow_inf_nan: bool | None = None,
        title: str | None = None,
        description: str | None = None,
        deprecated: bool | str | None = None,
        examples: Any = None,
        openapi_examples: Any = None,
        include_in_schema: bool = True,
        json_schema_extra: Any = None,
    ) -> Any:
        """Declare where a parameter's value comes from, and what it must keep to.

        The value is converted to the parameter's annotation. A list, set or tuple takes all the
        values that the name has. What is missing, does not convert, or breaks a constraint is
        answered with 422 and every reason before the connection is accepted.

        Parameters:
            default: what the parameter is if the request has no such value; ``...`` requires one.
            default_factory: called for the default instead.
            alias: the name in the request, if it is another one than the parameter's.
            validation_alias: the same; goes before ``alias``.
            convert_underscores: for a header without alias, whether its name has dashes where the
                parameter's has underscores.
            gt, ge, lt, le: bounds of numbers and times: above, from, below, up to.
            multiple_of: what a number is to be divisible by.
            min_length: of text in characters; of a list, how many values.
            max_length: the same, at most.
            pattern: a regular expression of :mod:`re` that is searched for in the text.
            allow_inf_nan: ``False`` refuses a ``float`` that is infinite or not a number.
            title, description, deprecated: for people; kept.
            examples, openapi_examples, include_in_schema, json_schema_extra: taken for programs
                written for FastAPI; without effect.

        Raises:
            ValueError: a path parameter is given a default, or both kinds of default are given.
        """
        if default is not ... and default_factory is not None:
            raise ValueError("a parameter has either a default or a default_factory")
        if self._place == "path" and (default is not ... or default_factory is not None):
            raise ValueError("a path parameter has no default: there is no path without it")
        return ValueMarker(
            self._place,
            default,
            default_factory,
            validation_alias or alias,
            convert_underscores,
            Constraints(
                gt, ge, lt, le, multiple_of, min_length, max_length, pattern, allow_inf_nan
            ),
            title,
            description,
            deprecated,
        )

    def __repr__(self) -> str:
        return f"fastws.{PLACES[self._place]}"


Query = _Declaration("query")
"""A parameter of the URL's query: ``room: str = Query()``."""
Header = _Declaration("header")
"""A header: ``user_agent: str = Header()`` is the header ``user-agent``."""
Cookie = _Declaration("cookie")
"""A cookie: ``session: str | None = Cookie(None)``."""
Path = _Declaration("path")
"""A parameter of the route's path: ``client_id: int = Path(ge=1)``."""


# What the request says


class Source:
    """The request that arguments are taken from.

    Parameters:
        subject: the connection, or plain request.
        path: the values of the path parameters.
    """

    __slots__ = ("_request", "path", "subject")

    def __init__(self, subject: Any, path: Mapping[str, Any]) -> None:
        self.subject = subject
        self.path = path
        self._request: HTTPConnection | None = None

    @property
    def connection(self) -> HTTPConnection:
        """The request with all that belongs to it, as the handler sees it too."""
        return self.subject._describe() if isinstance(self.subject, WebSocket) else self.subject

    @property
    def head(self) -> HTTPConnection:
        """The request's headers, query and cookies only.

        Of a compiled connection they are read once more than the handler may do it, but an idle
        connection whose handler does not ask keeps nothing of them in memory.
        """
        if self._request is None:
            subject = self.subject
            if isinstance(subject, WebSocket):
                self._request = subject._request or _head_of(subject)
            else:
                self._request = subject
        return self._request

    def get(self, place: Place, key: str) -> str | None:
        """A value of the head, ``None`` if there is none."""
        if place == "query":
            return self.head.query_params.get(key)
        return (self.head.headers if place == "header" else self.head.cookies).get(key)

    def get_all(self, place: Place, key: str) -> list[str]:
        """Every value that the head has for a name."""
        if place == "query":
            return self.head.query_params.getlist(key)
        if place == "header":
            return self.head.headers.getlist(key)
        value = self.head.cookies.get(key)
        return [] if value is None else [value]


def _head_of(ws: WebSocket) -> HTTPConnection:
    request = parse_request(ws._link.head)
    return HTTPConnection({"headers": request.headers, "query_string": request.query_string})


# What a parameter becomes


@dataclass(frozen=True)
class Value:
    """A parameter whose value comes from the request.

    Parameters:
        place: the part of the request.
        key: the name there.
        conversion: what to make of it; ``None`` leaves text as it is.
        default: called without a value; ``None`` where one is required.
    """

    place: Place
    key: str
    conversion: Conversion | None
    default: Callable[[], Any] | None

    def take(self, source: Source, results: Sequence[Any], complaints: list[dict[str, Any]]) -> Any:
        """The argument; or nothing, and what the peer is to be told is added to ``complaints``."""
        conversion = self.conversion
        given: Any
        if self.place == "path":
            given = source.path.get(self.key)
        elif conversion is not None and conversion.is_repeated:
            given = source.get_all(self.place, self.key) or None
        else:
            given = source.get(self.place, self.key)
        if given is None:
            if self.default is not None:
                return self.default()
            complaints.append(Reason("missing", "is required", None).complaint(*self._name))
            return None
        if conversion is None:
            return given
        try:
            return conversion.convert(given)
        except Unfit as error:
            complaints.extend(reason.complaint(*self._name) for reason in error.reasons)
            return None

    @property
    def _name(self) -> tuple[str, str]:
        return self.place, self.key


def value_of(
    function: Callable[..., Any],
    argument: Argument,
    marker: ValueMarker | None,
    path: Mapping[str, Callable[[Any], str] | None],
) -> Value:
    """Decide which value of the request an argument is.

    Parameters:
        function: what takes it, for messages.
        argument: the parameter.
        marker: what it says about where its value comes from.
        path: the names in the route's path, each with a function that gives the text of its value
            back; ``None`` where the value is text.

    Raises:
        TypeError: text cannot be converted to its annotation, or the marker is one of another
            place than the path's.
    """
    place: Place = _place_of(function, argument, marker, path)
    key = argument.name
    if marker is not None and marker.alias is not None:
        key = marker.alias
    elif place == "header" and (marker is None or marker.convert_underscores):
        key = key.replace("_", "-")
    annotation = argument.annotation
    try:
        if isinstance(annotation, str):
            raise TypeError(
                "it cannot be evaluated, as what is imported for the type checker only cannot"
            )
        if annotation is Parameter.empty and marker is None and place == "query":
            annotation = type_of_default(argument.default)
        constraints = () if marker is None else (marker.constraints,)
        conversion = conversion_to(annotation, *constraints)
        if place == "path":
            conversion = _path_conversion(conversion, argument, path.get(key))
    except TypeError as error:
        shown = getattr(annotation, "__name__", annotation)
        raise TypeError(
            f"parameter {argument.name!r} of {name_of(function)}() is annotated with {shown}, "
            f"which a {place} has no values for: {error}; for anything else use Depends()"
        ) from None
    return Value(place, key, conversion, _default_of(argument, marker))


def _place_of(
    function: Callable[..., Any],
    argument: Argument,
    marker: ValueMarker | None,
    path: Collection[str],
) -> Place:
    if marker is None:
        return "path" if argument.name in path else "query"
    if marker.place != "path" and argument.name in path and marker.alias is None:
        raise TypeError(
            f"parameter {argument.name!r} of {name_of(function)}() is in the path and declared as "
            f"{PLACES[marker.place]}(): rename it, or give it an alias"
        )
    return marker.place


TEXT_LIKE = (bool, int, float)


def type_of_default(default: Any) -> Any:
    """What a parameter without annotation is converted to."""
    return next((kind for kind in TEXT_LIKE if type(default) is kind), str)


def _default_of(argument: Argument, marker: ValueMarker | None) -> Callable[[], Any] | None:
    if marker is not None and marker.default_factory is not None:
        return marker.default_factory
    default = argument.default
    if default is Parameter.empty or isinstance(default, Marker):
        default = ... if marker is None else marker.default
    if default is ...:
        return None
    if isinstance(default, (list, set, dict)):
        # What one handler does to it is not to be seen by the next.
        return lambda: copy.deepcopy(default)
    return lambda: default


def _path_conversion(
    conversion: Conversion | None, argument: Argument, to_text: Callable[[Any], str] | None
) -> Conversion | None:
    if conversion is not None and conversion.is_repeated:
        raise TypeError("it has one value each")
    if to_text is None:
        return conversion
    # The path's own convertor has read the text; the annotation may want another type.
    if conversion is None:
        return Conversion(to_text) if argument.type is str else None
    convert = conversion.convert
    return Conversion(lambda value: convert(to_text(value)))
