"""How Python objects become JSON, for messages and for HTTP responses alike."""

from __future__ import annotations

import dataclasses
import functools
from decimal import Decimal
from pathlib import PurePath
from typing import Any

import msgspec
import orjson

__all__ = ["encode_json", "encode_model", "is_pydantic"]


def encode_json(obj: Any) -> bytes:
    """``obj`` as compact JSON in UTF-8.

    Besides what has a form of its own in JSON, ``obj`` may be or hold dataclasses, msgspec's
    structs, pydantic's models, dates and times, UUIDs, enums, decimals, paths and sets. Keys that
    are numbers, dates or the like become strings, as :mod:`json` does it.

    Raises:
        TypeError: something in ``obj`` has no JSON form.
    """
    try:
        return orjson.dumps(obj, _encode_other, orjson.OPT_PASSTHROUGH_DATACLASS)
    except TypeError:
        # The second option slows down objects that do not need it, which are nearly all.
        return orjson.dumps(
            obj, _encode_other, orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_NON_STR_KEYS
        )


def encode_model(obj: Any) -> bytes | None:
    """``obj`` as JSON if it is a struct or a pydantic model, else ``None``.

    Raises:
        TypeError: something in ``obj`` has no JSON form.
    """
    if isinstance(obj, msgspec.Struct):
        return msgspec.json.encode(obj, enc_hook=_encode_in_struct)
    if is_pydantic(type(obj)):
        # A model, or one of pydantic's dataclasses, which have no method for it.
        text: bytes = obj.__pydantic_serializer__.to_json(obj)
        return text
    return None


def is_pydantic(type: Any) -> bool:
    """Whether a class is a pydantic model, or a dataclass made by pydantic."""
    return isinstance(type, _CLASS) and hasattr(type, "__pydantic_serializer__")


_CLASS = type


def _encode_other(obj: Any) -> Any:
    """What orjson asks for an object that it does not know."""
    data = encode_model(obj)
    if data is not None:
        return orjson.Fragment(data)
    if dataclasses.is_dataclass(obj):
        return {name: getattr(obj, name) for name in _field_names(obj.__class__)}
    if isinstance(obj, (set, frozenset)):
        return list(obj)
    if isinstance(obj, (Decimal, PurePath)):
        return str(obj)
    raise TypeError(f"{type(obj).__name__} has no JSON form")


@functools.lru_cache(maxsize=1024)
def _field_names(dataclass: Any) -> tuple[str, ...]:
    """The fields of a dataclass; one that begins with an underscore is its own business.

    orjson would ask the instance for its attributes. msgspec makes instances that do not have
    those with a default: the class has them.
    """
    names = (field.name for field in dataclasses.fields(dataclass))
    return tuple(name for name in names if not name.startswith("_"))


def _encode_in_struct(obj: Any) -> Any:
    """What msgspec asks for an object that it does not know."""
    return msgspec.Raw(encode_json(obj))
