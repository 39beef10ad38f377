"""Typed messages: JSON read into, and checked against, the type that a program names.

A type is whatever msgspec knows: a ``Struct``, a dataclass, a ``TypedDict``, a union of tagged
structs, ``list[int]``, … or whatever pydantic knows, where a pydantic model is part of it. Pydantic
is not needed, and not imported, before somebody hands a model of it over.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Union, get_args, get_origin

import msgspec

from fastws._json import encode_json, encode_model, is_pydantic
from fastws.exceptions import MessageError, field_path

__all__ = ["Decode", "Encode", "MessageTypes", "decoder_of", "encoder_of", "message_types"]

Decode = Callable[["str | bytes"], Any]
"""Reads one message; raises :class:`~fastws.exceptions.MessageError`."""
Encode = Callable[[Any], bytes]
"""Writes one message; raises ``TypeError`` for an object of another type."""


class MessageTypes(NamedTuple):
    """What the messages of a route are: ``None`` where nothing was said."""

    decode: Decode | None
    encode: Encode | None


def message_types(receive: Any, send: Any) -> MessageTypes | None:
    """The functions for a route's types; ``None`` if it has none.

    Parameters:
        receive: the type of the messages that arrive, or ``None``.
        send: the type of those that are sent, or ``None``.

    Raises:
        TypeError: JSON has no form for one of them.
    """
    if receive is None and send is None:
        return None
    return MessageTypes(
        None if receive is None else decoder_of(receive),
        None if send is None else encoder_of(send),
    )


def decoder_of(type: Any) -> Decode:
    """The function that reads messages of a type; made once for each.

    Raises:
        TypeError: JSON has no form for the type.
    """
    try:
        return _cached_decoder(type)
    except TypeError:
        # Not hashable, or not a type: the second attempt tells, and raises in the latter case.
        return _make_decoder(type)


def _make_decoder(type: Any) -> Decode:
    return _pydantic_decoder(type) if _has_pydantic(type) else _msgspec_decoder(type)


_cached_decoder = functools.lru_cache(maxsize=1024)(_make_decoder)


# msgspec


def _msgspec_decoder(type: Any) -> Decode:
    try:
        read = msgspec.json.Decoder(type, dec_hook=_read_other).decode
    except TypeError as error:
        raise TypeError(f"messages cannot be of type {_name(type)}: {error}") from None

    def decode(data: str | bytes) -> Any:
        try:
            return read(data)
        except msgspec.ValidationError as error:
            raise _message_error(_complaints(error), data) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            complaint = {"loc": [], "msg": str(error), "type": "json_invalid"}
            raise _message_error([complaint], data) from error

    return decode


def _read_other(type: Any, value: Any) -> Any:
    """What msgspec asks for a type that it does not know, somewhere inside of one it does."""
    if is_pydantic(type):
        return _adapter(type).validate_python(value)
    raise TypeError(f"there is no {_name(type)} in JSON")


_AT = re.compile(r"(?P<what>.*) - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_OF_A_FIELD = {
    "Object missing required field": ("missing", "the field is required"),
    "Object contains unknown field": ("extra_forbidden", "there is no such field"),
}
_FIELD = re.compile(rf"({'|'.join(_OF_A_FIELD)}) `(.*)`", re.DOTALL)


def _complaints(error: msgspec.ValidationError) -> list[dict[str, Any]]:
    complaint = _complaint(str(error))
    inner = error.__cause__
    if isinstance(inner, ValueError) and _is_pydantic_error(inner):
        # Of a model inside of a struct: msgspec says where it is, pydantic what is wrong.
        return [
            {**found, "loc": [*complaint["loc"], *found["loc"]]}
            for found in _pydantic_complaints(inner)
        ]
    return [complaint]


def _complaint(text: str) -> dict[str, Any]:
    """What msgspec says in a sentence, taken apart: it has no other form for it."""
    at = _AT.fullmatch(text)
    what, path = (text, "") if at is None else (at["what"], at["path"])
    loc: list[str | int] = []
    for name, index in _STEP.findall(path):
        loc.append(name or (int(index) if index.isdigit() else index))
    of_a_field = _FIELD.fullmatch(what)
    if of_a_field is not None:
        kind, message = _OF_A_FIELD[of_a_field[1]]
        return {"loc": [*loc, of_a_field[2]], "msg": message, "type": kind}
    kind = "type_error" if what.startswith("Expected `") else "value_error"
    message = (what[:1].lower() + what[1:]).replace("`", "")
    if at is not None and at["key"]:
        message = f"as a key: {message}"
    return {"loc": loc, "msg": message, "type": kind}


# pydantic


def _has_pydantic(type: Any) -> bool:
    """Whether pydantic has to read this type: a model of it, or a union, a list, … of some."""
    return is_pydantic(type) or any(_has_pydantic(part) for part in get_args(type))


@functools.lru_cache(maxsize=1024)
def _adapter(type: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(type)


def _pydantic_decoder(type: Any) -> Decode:
    from pydantic import ValidationError

    read = _adapter(type).validate_json

    def decode(data: str | bytes) -> Any:
        try:
            return read(data)
        except ValidationError as error:
            raise _message_error(_pydantic_complaints(error), data) from error

    return decode


def _is_pydantic_error(error: Exception) -> bool:
    return hasattr(error, "error_count") and hasattr(error, "errors")


def _pydantic_complaints(error: Any) -> list[dict[str, Any]]:
    return [
        {"loc": list(found["loc"]), "msg": found["msg"], "type": found["type"]}
        for found in error.errors(include_url=False, include_context=False, include_input=False)
    ]


# Errors


def _message_error(complaints: Sequence[dict[str, Any]], data: str | bytes) -> MessageError:
    return MessageError("; ".join(_sentences(complaints)), complaints, data)


def _sentences(complaints: Iterable[dict[str, Any]]) -> Iterable[str]:
    for complaint in complaints:
        field, message = field_path(complaint["loc"]), complaint["msg"]
        if complaint["type"] == "json_invalid":
            yield f"the message is not JSON: {message}"
        elif complaint["type"] == "missing":
            yield f"the field {field!r} of the message is missing"
        elif field:
            yield f"the field {field!r} of the message is not valid: {message}"
        else:
            yield f"the message is not valid: {message}"


# Sending


_UNIONS = (Union, types.UnionType)


def encoder_of(type: Any) -> Encode:
    """The function that writes messages of a type.

    It takes instances of the type's classes as they are. Anything else, such as a ``dict`` in the
    place of a struct, is read into the type first, unless that could be several types.

    Raises:
        TypeError: JSON has no form for the type.
    """
    classes = tuple(_classes(type))
    with_pydantic = _has_pydantic(type)
    name = _name(type)
    is_readable = _is_readable(type, classes)

    def encode(obj: Any) -> bytes:
        if not isinstance(obj, classes):
            try:
                if not is_readable:
                    raise _NotOfThatType([{"loc": [], "msg": "not one of them", "type": "union"}])
                obj = _converted(obj, type, with_pydantic)
            except _NotOfThatType as error:
                complaints = error.args[0]
                raise TypeError(
                    f"this route sends {name}, and send_json() got {_name(obj.__class__)}: "
                    + "; ".join(_sentences(complaints))
                ) from error.__cause__
        return encode_model(obj) or encode_json(obj)

    return encode


def _is_readable(type: Any, classes: Sequence[Any]) -> bool:
    try:
        decoder_of(type)
    except TypeError:
        # Structs without tags cannot be told apart in JSON; their instances can.
        if get_origin(type) in _UNIONS and len(classes) == len(get_args(type)):
            for part in classes:
                decoder_of(part)
            return False
        raise
    return True


class _NotOfThatType(Exception):
    """Carries the complaints."""


def _converted(obj: Any, type: Any, with_pydantic: bool) -> Any:
    if with_pydantic:
        from pydantic import ValidationError

        try:
            return _adapter(type).validate_python(obj)
        except ValidationError as error:
            raise _NotOfThatType(_pydantic_complaints(error)) from error
    try:
        return msgspec.convert(obj, type, dec_hook=_read_other)
    except msgspec.ValidationError as error:
        raise _NotOfThatType(_complaints(error)) from error


def _classes(type: Any) -> Iterable[Any]:
    """The classes whose instances are of the type by their making: structs, dataclasses, models.

    A ``TypedDict``, a list or a number is not among them: what is in it has to be looked at.
    """
    origin = get_origin(type)
    if origin is typing.Annotated:
        yield from _classes(get_args(type)[0])
    elif origin in _UNIONS:
        for part in get_args(type):
            yield from _classes(part)
    elif inspect.isclass(type) and (
        issubclass(type, msgspec.Struct)
        or hasattr(type, "__dataclass_fields__")
        or is_pydantic(type)
    ):
        yield type
    elif inspect.isclass(origin):
        # A generic struct: Page[User].
        yield from _classes(origin)


def _name(type: Any) -> str:
    return type.__name__ if inspect.isclass(type) else str(type)
