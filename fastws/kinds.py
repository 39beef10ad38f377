"""How the values of options are written: sizes and times for people, switches, words, lists.

A :class:`Kind` reads a value from the command line, the environment or a file (mostly text) as well
as from a keyword (any object), so that all of them accept the same and refuse with the same
sentence.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fastws.codes import is_valid_close_code
from fastws.handshake import parse_origin
from fastws.http_fields import normalize_headers
from fastws.options import Kind

__all__ = [
    "AUTO_SWITCH",
    "CLOSE_CODE",
    "DIRECTORY",
    "FACTORY",
    "FLAG",
    "HEADERS",
    "NAMES",
    "ORIGINS",
    "PATH",
    "PATHS",
    "PEERS",
    "PERMISSIONS",
    "SECRET",
    "SWITCH",
    "TEXT",
    "TEXTS",
    "URL_PATH",
    "choice",
    "duration",
    "format_duration",
    "format_size",
    "number",
    "size",
    "text",
]


# Sizes and times


_QUANTITY = re.compile(r"(\d{1,18}(?:\.\d{1,9})?) ?([A-Za-z]*)", re.ASCII)
_DIGITS = re.compile(r"\d{1,18}", re.ASCII)
_SIZES = {"gib": 1024**3, "mib": 1024**2, "kib": 1024, "gb": 10**9, "mb": 10**6, "kb": 10**3}
_SIZES |= {"b": 1, "": 1}
_TIMES = {"h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0, "ms": 0.001, "": 1.0}


def _quantity(value: object, units: Mapping[str, float]) -> float:
    """Read a number with a unit; a bare number counts in the unit named ``""``."""
    if isinstance(value, str):
        matched = _QUANTITY.fullmatch(value.strip())
        if matched is None or matched[2].lower() not in units:
            raise ValueError
        return float(matched[1]) * units[matched[2].lower()]
    # bool is an int, but True is not a number of bytes or seconds.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError
    return value


def _is_none(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() == "none")


def format_size(value: int | None) -> str:
    """A number of bytes as a user would write it: ``64KiB``, ``1000``, ``none``."""
    if value is None:
        return "none"
    for unit, name in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if value and value % unit == 0:
            return f"{value // unit}{name}"
    return str(value)


def format_duration(value: float | None) -> str:
    """A number of seconds as a user would write it: ``20s``, ``0.5s``, ``none``."""
    if value is None:
        return "none"
    # Without an exponent, which is not read.
    return f"{value:.9f}".rstrip("0").rstrip(".") + "s"


def size(*, least: int = 0, optional: bool = False) -> Kind:
    """A number of bytes, at least ``least``; also ``none`` (no limit) if ``optional``."""

    def parse(value: object) -> int | None:
        if optional and _is_none(value):
            return None
        count = _quantity(value, _SIZES)
        if count != int(count) or count < least:
            raise ValueError
        return int(count)

    accepts = "a size such as 4096, 64KiB or 1MiB"
    accepts += f", at least {least}" if least else ""
    return Kind("SIZE", accepts + (", or none" if optional else ""), parse, format_size)


def duration(*, optional: bool = False) -> Kind:
    """A number of seconds above zero; also ``none`` (turned off) if ``optional``."""

    def parse(value: object) -> float | None:
        if optional and _is_none(value):
            return None
        seconds = _quantity(value, _TIMES)
        if seconds <= 0:
            raise ValueError
        return float(seconds)

    accepts = "a time above zero such as 20s, 500ms or 2m" + (", or none" if optional else "")
    return Kind("TIME", accepts, parse, format_duration)


def number(least: int, most: int | None = None, *, nothing: str | None = None) -> Kind:
    """A whole number from ``least`` to ``most``; also the word ``nothing``, read as ``None``."""

    def parse(value: object) -> int | None:
        if nothing is not None and (value is None or value == nothing):
            return None
        if isinstance(value, str) and _DIGITS.fullmatch(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError
        if value < least or (most is not None and value > most):
            raise ValueError
        return value

    span = f"of at least {least}" if most is None else f"from {least} to {most}"
    accepts = f"a whole number {span}"
    if nothing is not None:
        accepts += f", or {nothing}"
    return Kind("N", accepts, parse, lambda value: str(nothing if value is None else value))


# Words


def choice(*words: str, synonyms: Mapping[str, str] | None = None) -> Kind:
    """One of ``words``; ``synonyms`` maps further words to them.

    A number or a truth value counts as the word that it is in a file: ``2``, ``1.2``, ``true``.
    """
    others = dict(synonyms or {})

    def parse(value: object) -> str:
        if isinstance(value, (bool, float)):
            value = str(value)
        elif isinstance(value, int):
            value = str(int(value))  # A member of an enumeration has a text of its own.
        if not isinstance(value, str):
            raise ValueError
        word = value.strip().lower()
        word = others.get(word, word)
        if word not in words:
            raise ValueError
        return word

    accepts = ", ".join(words[:-1]) + f" or {words[-1]}"
    return Kind("|".join(words), accepts, parse)


AUTO_SWITCH = choice("auto", "on", "off", synonyms={"true": "on", "false": "off"})
"""Something to turn on or off, or to leave to the server."""

_TRUE = {"on", "true", "yes", "1"}
_FALSE = {"off", "false", "no", "0"}


def _parse_switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    if word not in _TRUE | _FALSE:
        raise ValueError
    return word in _TRUE


def _show_switch(value: bool) -> str:
    return "on" if value else "off"


SWITCH = Kind("on|off", "on or off", _parse_switch, _show_switch)
"""Something to turn on or off."""

FLAG = Kind("", "on or off", _parse_switch, _show_switch)
"""Something that is off unless its name alone is given on the command line."""


def _parse_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


TEXT = Kind("TEXT", "a text", _parse_text, lambda value: value or '""')
"""Any text."""


def text(metavar: str, accepts: str, *, is_path: bool = False) -> Kind:
    """A text that is not empty, or ``none``: a path, say, named by its ``metavar``."""

    def parse(value: object) -> str | None:
        return None if _is_none(value) else _parse_path(value)

    show = _show_or_none
    return Kind(metavar, accepts + ", or none", parse, show, is_path=is_path)


def _parse_path(value: object) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def _show_or_none(value: str | None) -> str:
    return value or "none"


PATH = text("PATH", "a path", is_path=True)
"""A file, or none."""

DIRECTORY = Kind("DIR", "a directory", _parse_path, is_path=True)
"""A directory."""


def _parse_secret(value: object) -> str | None:
    return None if value is None else _parse_text(value)


SECRET = Kind(
    "TEXT",
    "a text",
    _parse_secret,
    lambda value: "none" if value is None else "(not shown)",
    is_secret=True,
)
"""A text that is never printed."""


def _parse_url_path(value: object) -> str | None:
    if _is_none(value):
        return None
    path = _parse_text(value)
    if not re.fullmatch(r"/[!-~]*", path) or set(path) & set("?#{"):
        raise ValueError
    return path


URL_PATH = Kind("PATH", "a path such as /status, or none", _parse_url_path, _show_or_none)
"""The path of a URL, or none."""


def _parse_factory(value: object) -> object:
    if _is_none(value):
        return None
    if isinstance(value, str) and not re.fullmatch(r"[^:\s]+:[^:\s]+", value):
        raise ValueError
    if not isinstance(value, str) and not callable(value):
        raise ValueError
    return value


FACTORY = Kind(
    "MODULE:ATTRIBUTE",
    "module:attribute, a function, or none",
    _parse_factory,
    lambda value: "none" if value is None else str(getattr(value, "__qualname__", value)),
)
"""A function, or where it is."""


def _parse_close_code(value: object) -> int:
    code: int = number(1000, 4999).parse(value)
    if not is_valid_close_code(code):
        raise ValueError
    return code


CLOSE_CODE = Kind("CODE", "a close code: 1000-1003, 1007-1014 or 3000-4999", _parse_close_code)
"""What a CLOSE may say (RFC 6455 section 7.4)."""


def _parse_permissions(value: object) -> int:
    mode = int(value, 8) if isinstance(value, str) else value
    if isinstance(mode, bool) or not isinstance(mode, int) or not 0 <= mode <= 0o777:
        raise ValueError
    return mode


PERMISSIONS = Kind(
    "MODE",
    "permissions in octal such as 660, up to 777",
    _parse_permissions,
    lambda value: f"{value:03o}",
)
"""Who may use a file."""


# Lists


def _words(value: object) -> tuple[str, ...]:
    """A list, or a text with commas between the items."""
    if isinstance(value, str):
        items: Iterable[object] = value.split(",")
    elif isinstance(value, Iterable):
        items = value
    else:
        raise ValueError
    words = []
    for item in items:
        if not isinstance(item, str) or not item.strip():
            raise ValueError
        words.append(item.strip())
    return tuple(words)


def _show_words(value: Sequence[str]) -> str:
    return ",".join(value) or "none"


def _list(metavar: str, accepts: str, parse: Callable[[object], Any], **more: bool) -> Kind:
    return Kind(metavar, accepts, parse, _show_words, repeated=True, separator=",", **more)


def _parse_texts(value: object) -> tuple[str, ...]:
    return () if _is_none(value) else _words(value)


TEXTS = _list("LIST", "texts with commas between them, or none", _parse_texts)
"""Any texts."""


def _parse_paths(value: object) -> tuple[str, ...]:
    if isinstance(value, os.PathLike):
        value = (value,)
    if not isinstance(value, str) and isinstance(value, Iterable):
        value = [os.fspath(item) if isinstance(item, os.PathLike) else item for item in value]
    return _parse_texts(value)


PATHS = _list("LIST", "paths with commas between them, or none", _parse_paths, is_path=True)
"""Any files or directories."""


def _parse_peers(value: object) -> tuple[str, ...]:
    if _is_none(value):
        return ()
    peers = _words(value)
    for peer in peers:
        if peer not in ("*", "unix"):
            ipaddress.ip_network(peer)
    return peers


PEERS = _list(
    "LIST",
    "addresses or networks such as 10.0.0.0/8 with commas between them, unix, * or none",
    _parse_peers,
)
"""Peers by their address; ``unix`` is whoever connects through a Unix socket, ``*`` anybody."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 9110 section 5.6.2."""


def _parse_names(value: object) -> tuple[str, ...]:
    if _is_none(value):
        return ()
    names = _words(value)
    if not all(_TOKEN.fullmatch(name) for name in names) or len(set(names)) != len(names):
        raise ValueError
    return names


NAMES = _list("LIST", "distinct names with commas between them, or none", _parse_names)
"""Distinct tokens."""


def _parse_origins(value: object) -> tuple[str, ...]:
    origins = ("any",) if value is None else _words(value)
    if not origins:
        raise ValueError
    for origin in origins:
        if origin not in ("same", "null") and origins != ("any",):
            parse_origin(origin)
    return origins


ORIGINS = _list(
    "any|same|LIST",
    "any, same, or origins such as https://example.org with commas between them",
    _parse_origins,
)
"""Which pages may connect."""

_HANDSHAKE_PREFIX = "sec-websocket-"
_OWN_HEADERS = {"connection", "content-length", "transfer-encoding", "upgrade", "date", "server"}
"""What the server decides on itself, by other options or not at all."""


def _parse_headers(value: object) -> tuple[tuple[str, str], ...]:
    items: Iterable[object]
    if _is_none(value):
        return ()
    if isinstance(value, str):
        items = [value]
    elif isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, Iterable):
        items = value
    else:
        raise ValueError
    headers = []
    for item in items:
        if isinstance(item, str):
            name, colon, text = item.partition(":")
            if not colon:
                raise ValueError
        elif isinstance(item, Sequence) and len(item) == 2:
            name, text = item
        else:
            raise ValueError
        name = name.strip(" \t")
        if name.lower() in _OWN_HEADERS or name.lower().startswith(_HANDSHAKE_PREFIX):
            raise ValueError
        headers.append((name, text.strip(" \t")))
    normalize_headers(headers)
    return tuple(headers)


HEADERS = Kind(
    "NAME:VALUE",
    "a header such as X-Served-By:fastws that the server does not send itself, or none",
    _parse_headers,
    lambda value: ", ".join(f"{name}:{text}" for name, text in value) or "none",
    repeated=True,
)
"""Headers to add to a response."""
