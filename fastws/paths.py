"""Paths of routes: text with parameters in braces, such as ``/chat/{room}``.

A parameter may name a convertor, which decides what it matches and what its value is: ``{x:int}``,
``{x:float}``, ``{x:uuid}``, ``{rest:path}`` (slashes included); without one it matches a segment.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

__all__ = ["CONVERTORS", "CompiledPath", "Convertor", "PathTable", "compile_path"]


class Convertor(NamedTuple):
    """What a path parameter matches, and its value."""

    regex: str
    convert: Callable[[str], Any]
    to_text: Callable[[Any], str]
    """The reverse of ``convert``; raises ``ValueError`` for what the parameter does not match."""


def _segment(value: Any) -> str:
    text = str(value)
    if not text or "/" in text:
        raise ValueError(f"{text!r} is not one segment of a path")
    return text


def _whole_number(value: Any) -> str:
    if int(value) < 0:
        raise ValueError(f"{value} is below zero, which an int in a path is not")
    return str(int(value))


def _decimal(value: Any) -> str:
    number = float(value)
    if not 0 <= number < float("inf"):
        raise ValueError(f"{value} is not a number from zero, which a float in a path is")
    return f"{number:.20f}".rstrip("0").rstrip(".")


CONVERTORS: dict[str, Convertor] = {
    "str": Convertor("[^/]+", str, _segment),
    "path": Convertor(".*", str, str),
    "int": Convertor("[0-9]+", int, _whole_number),
    "float": Convertor(r"[0-9]+(?:\.[0-9]+)?", float, _decimal),
    "uuid": Convertor(
        "[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}",
        uuid.UUID,
        lambda value: str(uuid.UUID(str(value))),
    ),
}

_BRACES = re.compile(r"\{([A-Za-z_]\w*)(?::(\w+))?\}")

_IS_TEXT = ("str", "path")


class CompiledPath:
    """A path of a route, ready to be matched and to be filled in: made by :func:`compile_path`.

    Parameters:
        pieces: what stands between the parameters, one more than there are of them.
        convertors: the parameters, in order.
    """

    __slots__ = ("_kinds", "_pieces", "_typed", "convertors", "regex")

    def __init__(self, pieces: Sequence[str], convertors: Mapping[str, str]) -> None:
        self._pieces = tuple(pieces)
        self._kinds = tuple(convertors.values())
        self.convertors = {name: CONVERTORS[kind] for name, kind in convertors.items()}
        self._typed = {
            name: self.convertors[name].convert
            for name, kind in convertors.items()
            if kind not in _IS_TEXT
        }
        pattern = re.escape(pieces[0])
        for (name, convertor), piece in zip(self.convertors.items(), pieces[1:], strict=True):
            pattern += f"(?P<{name}>{convertor.regex})" + re.escape(piece)
        # DOTALL: a line feed can stand in a decoded path like any other character.
        self.regex = re.compile(pattern, re.DOTALL)

    def match(self, path: str) -> dict[str, Any] | None:
        """The parameters' values in ``path``, ``None`` if it is not of this form."""
        matched = self.regex.fullmatch(path)
        if matched is None:
            return None
        values: dict[str, Any] = matched.groupdict()
        for name, convert in self._typed.items():
            try:
                values[name] = convert(values[name])
            except ValueError:  # an integer with thousands of digits
                return None
        return values

    def segments(self) -> tuple[list[str | None], bool]:
        """What stands between the slashes, as far as that can be said.

        Each is its text, or ``None`` for one that has a parameter in it. The second value tells
        whether they are all: a parameter of kind ``path`` has slashes of its own, so that nothing
        is said of its segment and of those behind it.
        """
        segments: list[str | None] = [""]
        for piece, kind in zip(self._pieces, (*self._kinds, None), strict=True):
            first, *others = piece.split("/")
            if segments[-1] is not None:
                segments[-1] += first
            segments += others
            if kind == "path":
                return segments[1:-1], False
            if kind is not None:
                segments[-1] = None
        return segments[1:], True

    def fill(self, values: Mapping[str, Any]) -> str:
        """The path with these values; raises ``ValueError`` for one that would not match."""
        path = self._pieces[0]
        for (name, convertor), piece in zip(self.convertors.items(), self._pieces[1:], strict=True):
            path += convertor.to_text(values[name]) + piece
        return path

    def text_of(self) -> dict[str, Callable[[Any], str] | None]:
        """The names of the parameters, with how to get the text of a converted value back."""
        return {
            name: convertor.to_text if name in self._typed else None
            for name, convertor in self.convertors.items()
        }


def compile_path(path: str) -> CompiledPath:
    """Read a path with parameters in braces.

    Raises:
        ValueError: a brace is left over, a parameter occurs twice, or its convertor is unknown.
    """
    pieces, convertors, end = [], {}, 0
    for found in _BRACES.finditer(path):
        name, kind = found[1], found[2] or "str"
        if name in convertors:
            raise ValueError(f"path {path!r} has the parameter {name!r} twice: rename one of them")
        if kind not in CONVERTORS:
            raise ValueError(
                f"path {path!r} has the unknown convertor {kind!r}: "
                f"expected one of {', '.join(CONVERTORS)}"
            )
        convertors[name] = kind
        pieces.append(path[end : found.start()])
        end = found.end()
    pieces.append(path[end:])
    if any("{" in piece or "}" in piece for piece in pieces):
        raise ValueError(
            f"path {path!r} has a brace that belongs to no parameter: "
            "write {name} or {name:convertor}"
        )
    return CompiledPath(pieces, convertors)


class HasPath(Protocol):
    """What a :class:`PathTable` is a table of: routes."""

    @property
    def path(self) -> str: ...
    def match(self, path: str, /) -> dict[str, Any] | None: ...


RouteT = TypeVar("RouteT", bound=HasPath)


class _Segment(Generic[RouteT]):
    """A place in the tree of paths: what may follow, and the routes to be looked at here.

    A route is kept with its number, which says when it was added.
    """

    __slots__ = ("any", "ending", "named", "open")

    def __init__(self) -> None:
        self.named: dict[str, _Segment[RouteT]] = {}
        self.any: _Segment[RouteT] | None = None
        self.ending: list[tuple[int, RouteT]] = []
        # A ``path`` parameter follows: whatever comes, the route may match it.
        self.open: list[tuple[int, RouteT]] = []


class PathTable(Generic[RouteT]):
    """Routes, to be found by path: of those that match it, the one that was added first.

    That is what trying them one after the other would find, at a cost that does not grow with
    their number: a path without parameters is looked up in a dictionary; the others are in a tree
    of segments, whose branches are a segment's text, or any text where a parameter is. A route
    that the tree leads to has the last word, so that several which differ in nothing but the
    convertors of their parameters are tried in turn.
    """

    def __init__(self) -> None:
        self._static: dict[str, RouteT] = {}
        self._root: _Segment[RouteT] = _Segment()
        self._added = 0

    def add(self, route: RouteT) -> None:
        """Add a route behind those there are."""
        compiled = compile_path(route.path)
        if not compiled.convertors:
            # A route with parameters that matches this path too, and came before, answers it.
            if self.find(route.path) is None:
                self._static[route.path] = route
            return
        segments, are_all = compiled.segments()
        here = self._root
        for segment in segments:
            if segment is not None:
                here = here.named.setdefault(segment, _Segment())
            else:
                if here.any is None:
                    here.any = _Segment()
                here = here.any
        (here.ending if are_all else here.open).append((self._added, route))
        self._added += 1

    def find(self, path: str) -> tuple[RouteT, dict[str, Any]] | None:
        """The route for a decoded path and the values of its parameters."""
        static = self._static.get(path)
        if static is not None:
            return static, {}
        if not self._added:
            return None
        for _, route in sorted(self._candidates(path), key=_number_of):
            values = route.match(path)
            if values is not None:
                return route, values
        return None

    def _candidates(self, path: str) -> list[tuple[int, RouteT]]:
        """The routes whose segments agree with the path's, in no order."""
        found: list[tuple[int, RouteT]] = []
        places = [self._root]
        # What is before the first slash is nothing; a path without one matches nothing.
        for segment in path.split("/")[1:]:
            following = []
            for place in places:
                found += place.open
                named = place.named.get(segment)
                if named is not None:
                    following.append(named)
                if place.any is not None and segment:
                    following.append(place.any)
            if not following:
                return found
            places = following
        for place in places:
            found += place.ending
        return found


def _number_of(candidate: tuple[int, Any]) -> int:
    return candidate[0]
