"""Paths of routes: text with parameters in braces, such as ``/chat/{room}``.

A parameter may name a convertor, which decides what it matches and what its value is: ``{x:int}``,
``{x:float}``, ``{x:uuid}``, ``{rest:path}`` (slashes included); without one it matches a segment.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["CONVERTORS", "CompiledPath", "Convertor", "compile_path"]


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

    __slots__ = ("_pieces", "_typed", "convertors", "regex")

    def __init__(self, pieces: Sequence[str], convertors: Mapping[str, str]) -> None:
        self._pieces = tuple(pieces)
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
