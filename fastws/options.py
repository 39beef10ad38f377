"""What an option is, and how its value is written: human sizes and times, switches, lists.

The options themselves are declared in ``config.py``. A :class:`Kind` reads a value from the command
line, the environment or a file (always text) as well as from a keyword (any object), so that all
of them accept the same and refuse with the same sentence.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastws.handshake import parse_origin
from fastws.http_fields import normalize_headers

__all__ = [
    "ConfigError",
    "FLAG",
    "HEADERS",
    "Kind",
    "NAMES",
    "ORIGINS",
    "Option",
    "PEERS",
    "PERMISSIONS",
    "SECRET",
    "SWITCH",
    "TEXT",
    "TEXTS",
    "choice",
    "duration",
    "format_duration",
    "format_size",
    "number",
    "size",
    "text",
]


class ConfigError(ValueError):
    """An option has a value that it does not take. The message is one sentence for the user."""


@dataclass(frozen=True)
class Kind:
    """The values an option takes.

    Parameters:
        metavar: what ``--help`` shows in the value's place; ``""`` for a flag without a value.
        accepts: completes the sentence "expected …".
        parse: the value in its internal form; raises ``ValueError`` for one that is not accepted.
        show: the internal form as a user would write it.
        repeated: whether the option may be given several times on a command line.
    """

    metavar: str
    accepts: str
    parse: Callable[[object], Any]
    show: Callable[[Any], str] = str
    repeated: bool = False


@dataclass(frozen=True)
class Option:
    """One option of the server: everything that is known about it.

    Parameters:
        name: as on the command line, such as ``ws-max-size``.
        kind: the values it takes.
        default: in internal form.
        group: the heading it stands under in ``--help`` and in the documentation.
        help: one sentence, without its default.
        per_route: whether ``@app.websocket`` takes it too.
        aliases: other names for it.
        variables: environment variables of other programs that set it too, where ``FASTWS_…`` does
            not.
    """

    name: str
    kind: Kind
    default: Any
    group: str
    help: str
    per_route: bool = False
    aliases: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()

    @property
    def keyword(self) -> str:
        """The name as a Python keyword, such as ``ws_max_size``."""
        return self.name.replace("-", "_")

    @property
    def default_text(self) -> str:
        """The default as a user would write it."""
        return self.kind.show(self.default)

    def parse(self, value: object) -> Any:
        """Return ``value`` in internal form.

        Raises:
            ConfigError: with a sentence that names the option, the value and what is accepted.
        """
        try:
            return self.kind.parse(value)
        except (ValueError, TypeError, AttributeError):
            shown = value if isinstance(value, str) else repr(value)
            raise ConfigError(f"{self.name} is {shown}: expected {self.kind.accepts}") from None


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
    return "none" if value is None else f"{value:g}s"


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


def choice(*words: str, synonyms: Mapping[object, str] | None = None) -> Kind:
    """One of ``words``; ``synonyms`` maps further values to them."""
    others = dict(synonyms or {})

    def parse(value: object) -> str:
        word = value.strip().lower() if isinstance(value, str) else value
        word = others.get(word, word)
        if not isinstance(word, str) or word not in words:
            raise ValueError
        return word

    accepts = ", ".join(words[:-1]) + f" or {words[-1]}"
    return Kind("|".join(words), accepts, parse)


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
"""Something that is off unless its name is given, without a value, on the command line."""


def _parse_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


TEXT = Kind("TEXT", "a text", _parse_text, lambda value: value or '""')
"""Any text."""


def text(metavar: str, accepts: str) -> Kind:
    """A text that is not empty, or ``none``: a path, say, named by its ``metavar``."""

    def parse(value: object) -> str | None:
        if _is_none(value):
            return None
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if not isinstance(value, str) or not value:
            raise ValueError
        return value

    return Kind(metavar, accepts + ", or none", parse, lambda value: value or "none")


def _parse_secret(value: object) -> str | None:
    return None if value is None else _parse_text(value)


SECRET = Kind(
    "TEXT", "a text", _parse_secret, lambda value: "none" if value is None else "(not shown)"
)
"""A text that is never printed."""


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


TEXTS = Kind(
    "TEXT",
    "texts with commas between them, or none",
    lambda value: () if _is_none(value) else _words(value),
    lambda value: ",".join(value) or "none",
    repeated=True,
)
"""Any texts."""


def _parse_peers(value: object) -> tuple[str, ...]:
    if _is_none(value):
        return ()
    peers = _words(value)
    for peer in peers:
        if peer not in ("*", "unix"):
            ipaddress.ip_network(peer)
    return peers


PEERS = Kind(
    "LIST",
    "addresses or networks such as 10.0.0.0/8 with commas between them, unix, * or none",
    _parse_peers,
    lambda value: ",".join(value) or "none",
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


NAMES = Kind(
    "LIST",
    "names with commas between them, or none",
    _parse_names,
    lambda value: ",".join(value) or "none",
)
"""Distinct tokens."""


def _parse_origins(value: object) -> tuple[str, ...]:
    origins = ("any",) if value is None else _words(value)
    for origin in origins:
        if origin not in ("same", "null") and origins != ("any",):
            parse_origin(origin)
    return origins


ORIGINS = Kind(
    "any|same|LIST",
    "any, same, or origins such as https://example.org with commas between them",
    _parse_origins,
    ",".join,
)
"""Which pages may connect."""

_HANDSHAKE_PREFIX = "sec-websocket-"
_OWN_HEADERS = {"connection", "content-length", "transfer-encoding", "upgrade", "date", "server"}
"""What the server decides on itself, by other options or not at all."""


def _parse_headers(value: object) -> tuple[tuple[str, str], ...]:
    items: Iterable[object]
    if value is None:
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
    "a header such as X-Served-By:fastws, and none that the server sends itself",
    _parse_headers,
    lambda value: ", ".join(f"{name}:{text}" for name, text in value) or "none",
    repeated=True,
)
"""Headers to add to a response."""
