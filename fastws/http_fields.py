"""The fields of HTTP messages, that is their headers (RFC 9110 section 5): grammar and checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

__all__ = [
    "HeaderPairs",
    "has_token",
    "is_token",
    "list_elements",
    "normalize_headers",
    "refuse_owned",
    "shown",
]

HeaderPairs: TypeAlias = (
    Iterable[tuple[bytes | str, bytes | str]]
    | Mapping[bytes, bytes | str]
    | Mapping[str, bytes | str]
)
"""Headers as an application gives them: pairs of ``bytes`` or ``str``, or a mapping of such."""

# Sets of bytes to be deleted with bytes.translate: what is left over breaks the rule.
# RFC 9110 section 5.6.2: token.
_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# RFC 9110 section 5.5: visible ASCII, obs-text, space and tab.
_FIELD_VALUE = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])


def is_token(value: bytes) -> bool:
    """Whether this is a token, such as the name of a header (RFC 9110 section 5.6.2)."""
    return bool(value) and not value.translate(None, _TOKEN)


def list_elements(values: Sequence[bytes]) -> list[bytes]:
    """The elements of a comma-separated field, over all its lines (RFC 9110 section 5.6.1)."""
    if not values:
        return []
    elements = [element.strip(b" \t") for value in values for element in value.split(b",")]
    return [element for element in elements if element]


def has_token(values: Sequence[bytes], token: bytes) -> bool:
    """Whether a comma-separated field has ``token`` (lower case) among its elements."""
    for value in values:
        # Mostly it is the only one.
        if value.lower() == token:
            return True
    return any(element.lower() == token for element in list_elements(values))


def shown(value: bytes | str) -> str:
    """A peer's value for a message: short, with nothing in it that acts on a terminal or log."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return ascii(text[:60] + "…" if len(text) > 60 else text)


def normalize_headers(headers: HeaderPairs | None) -> list[tuple[bytes, bytes]]:
    """Check an application's headers, so that nothing in them can pass for another line.

    Parameters:
        headers: pairs of ``bytes`` or ``str``, or a mapping. ``str`` is encoded as Latin-1.

    Returns:
        Pairs of bytes; names in the case given, values without surrounding white space.

    Raises:
        ValueError: a name is no token; a value has CR, LF, NUL, another control character, or a
            character beyond Latin-1.
        TypeError: a name or a value is neither ``bytes`` nor ``str``.
    """
    if not headers:
        return []
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [_normalize_header(name, value) for name, value in pairs]


def _normalize_header(name: bytes | str, value: bytes | str) -> tuple[bytes, bytes]:
    for part in (name, value):
        if not isinstance(part, bytes | str):
            raise TypeError(
                f"header {name!r} has a {type(part).__name__} in it: expected bytes or str"
            )
    try:
        raw_name = name.encode("ascii") if isinstance(name, str) else name
        raw_value = value.encode("latin-1") if isinstance(value, str) else value
    except UnicodeEncodeError:
        raise ValueError(
            f"header {name!a} has characters that HTTP cannot carry: encode them to ASCII"
        ) from None
    if not is_token(raw_name):
        raise ValueError(f"{name!a} is not the name of a header: expected an HTTP token")
    if raw_value.translate(None, _FIELD_VALUE):
        raise ValueError(
            f"header {name!a} has a control character in its value (CR, LF, NUL or another): "
            "remove it"
        )
    return raw_name, raw_value.strip(b" \t")


def refuse_owned(headers: Iterable[tuple[bytes, bytes]], owned: Mapping[bytes, str]) -> None:
    """Refuse an application's headers that are not its own to set.

    Parameters:
        headers: from :func:`normalize_headers`.
        owned: names in lower case, and for each what to do instead, or who sets it.

    Raises:
        ValueError: one of the headers is among ``owned``.
    """
    for name, _ in headers:
        if (instead := owned.get(name.lower())) is not None:
            raise ValueError(f"header {name.decode('ascii')} must not be set here: {instead}")
