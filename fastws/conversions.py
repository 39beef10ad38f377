"""Text from a path, query, header or cookie, turned into what an annotation names.

Types are converted by :mod:`msgspec`; what is said about a value that is refused, and the
constraints that FastAPI's parameters may have, are here.
"""

from __future__ import annotations

import functools
import operator
import re
import types
import typing
from collections import abc
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from inspect import Parameter
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

import msgspec

__all__ = ["Constraints", "Conversion", "Reason", "Unfit", "conversion_to", "strip_remarks"]


# What is refused


@dataclass(frozen=True)
class Reason:
    """Why a value is refused.

    Parameters:
        kind: a stable name for programs, pydantic's: ``int_parsing``.
        message: for people.
        value: what was given.
        at: its places within a list, outermost first.
        context: what the message is made of, for programs.
    """

    kind: str
    message: str
    value: Any
    at: tuple[int, ...] = ()
    context: dict[str, Any] | None = None

    def complaint(self, place: str, name: str) -> dict[str, Any]:
        """What the peer is told, in the form that FastAPI gives it."""
        told = {
            "type": self.kind,
            "loc": [place, name, *self.at],
            "msg": self.message,
            "input": self.value,
        }
        return told if self.context is None else {**told, "ctx": self.context}


class Unfit(ValueError):
    """A value does not convert, or breaks a constraint.

    Parameters:
        reasons: at least one.
    """

    def __init__(self, *reasons: Reason) -> None:
        super().__init__("; ".join(reason.message for reason in reasons))
        self.reasons = reasons


class Conversion(NamedTuple):
    """How text becomes the type that an annotation names."""

    convert: Callable[[Any], Any]
    """Takes the text, or the list of texts; raises :class:`Unfit`."""
    is_repeated: bool = False
    """Whether it takes all the values of a name rather than one."""


# Constraints


@dataclass(frozen=True)
class Constraints:
    """What a value must keep to besides its type; ``None`` constrains nothing.

    Parameters:
        gt, ge, lt, le: bounds of numbers and of times.
        multiple_of: what a number is to be divisible by.
        min_length, max_length: of text, or how many values a list has.
        pattern: a regular expression that is searched for in text.
        allow_inf_nan: whether a ``float`` may be infinite or not a number; it may unless it is
            ``False``.
    """

    gt: Any = None
    ge: Any = None
    lt: Any = None
    le: Any = None
    multiple_of: Any = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    allow_inf_nan: bool | None = None


_NAMES = tuple(Constraints.__dataclass_fields__)

# What can have which: the class of msgspec's description, by the name of the constraint.
_ORDERED = (
    msgspec.inspect.IntType,
    msgspec.inspect.FloatType,
    msgspec.inspect.DecimalType,
    msgspec.inspect.DateTimeType,
    msgspec.inspect.DateType,
    msgspec.inspect.TimeType,
    msgspec.inspect.TimeDeltaType,
)
_TEXT = (msgspec.inspect.StrType, msgspec.inspect.AnyType)
_APPLIES: dict[str, tuple[type[msgspec.inspect.Type], ...]] = {
    **dict.fromkeys(("gt", "ge", "lt", "le"), _ORDERED),
    "multiple_of": _ORDERED[:3],
    **dict.fromkeys(("min_length", "max_length", "pattern"), _TEXT),
    "allow_inf_nan": (msgspec.inspect.FloatType,),
}


@dataclass(frozen=True)
class _Check:
    """One constraint: whether a value keeps to it, and what is said if it does not."""

    holds: Callable[[Any], Any]
    kind: str
    message: str
    context: dict[str, Any] | None

    def broken_by(self, value: Any) -> bool:
        try:
            return not self.holds(value)
        except (TypeError, ArithmeticError):
            # Times with and without a zone have no order.
            return True


def _search(pattern: str) -> Callable[[str], Any]:
    # A final "$" also matches in front of a line feed, which no author of a pattern means.
    head = pattern[:-1]
    is_escaped = (len(head) - len(head.rstrip("\\"))) % 2 == 1
    if pattern.endswith("$") and not is_escaped:
        pattern = head + r"\Z"
    return re.compile(pattern).search


def _checks(constraints: Constraints, *, of_list: bool = False) -> Iterator[_Check]:
    def check(name: str, kind: str, message: str, holds: Callable[[Any], Any]) -> _Check:
        limit = getattr(constraints, name)
        # JSON has no other kinds of numbers.
        shown = limit if isinstance(limit, (int, float, str)) else str(limit)
        return _Check(holds, kind, message.format(shown), {name: shown})

    gt, ge, lt, le = constraints.gt, constraints.ge, constraints.lt, constraints.le
    least, most, factor = constraints.min_length, constraints.max_length, constraints.multiple_of
    if gt is not None:
        yield check("gt", "greater_than", "must be above {}", lambda value: value > gt)
    if ge is not None:
        yield check("ge", "greater_than_equal", "must be {} or above", lambda value: value >= ge)
    if lt is not None:
        yield check("lt", "less_than", "must be below {}", lambda value: value < lt)
    if le is not None:
        yield check("le", "less_than_equal", "must be {} or below", lambda value: value <= le)
    if factor is not None:
        multiple = "must be a multiple of {}"
        yield check("multiple_of", "multiple_of", multiple, lambda value: value % factor == 0)
    if constraints.allow_inf_nan is False:
        # NaN is not equal to itself; a difference from itself also tells infinity.
        yield _Check(lambda value: value - value == 0, "finite_number", "must be finite", None)
    kind, what = ("too", "values") if of_list else ("string_too", "characters")
    if least is not None:
        shortest = "must have at least {} " + what
        yield check("min_length", f"{kind}_short", shortest, lambda value: len(value) >= least)
    if most is not None:
        longest = "must have at most {} " + what
        yield check("max_length", f"{kind}_long", longest, lambda value: len(value) <= most)
    if constraints.pattern is not None:
        search = _search(constraints.pattern)
        yield check("pattern", "string_pattern_mismatch", "must match the pattern {}", search)


def _constraints_in(remarks: Iterable[Any]) -> Iterator[Constraints]:
    """Those that stand in ``Annotated``: of msgspec, annotated_types or pydantic, which all give
    them the same names."""
    for remark in remarks:
        yield from _constraints_in(getattr(remark, "metadata", ()))
        found = {name: getattr(remark, name, None) for name in _NAMES}
        if any(value is not None for value in found.values()):
            yield Constraints(**found)


# Conversions


_BOOLS = dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True)
_BOOLS |= dict.fromkeys(("0", "false", "f", "no", "n", "off"), False)

_SCALARS: dict[type[msgspec.inspect.Type], tuple[str, str]] = {
    msgspec.inspect.AnyType: ("value_error", "any text"),
    msgspec.inspect.StrType: ("string_type", "text"),
    msgspec.inspect.IntType: ("int_parsing", "a whole number"),
    msgspec.inspect.FloatType: ("float_parsing", "a number"),
    msgspec.inspect.BoolType: ("bool_parsing", "a truth value such as true or false"),
    msgspec.inspect.DecimalType: ("decimal_parsing", "a decimal number"),
    msgspec.inspect.UUIDType: ("uuid_parsing", "a UUID"),
    msgspec.inspect.DateTimeType: (
        "datetime_from_date_parsing",
        "a date and time, such as in RFC 3339",
    ),
    msgspec.inspect.DateType: ("date_from_datetime_parsing", "a date such as 2030-01-31"),
    msgspec.inspect.TimeType: ("time_parsing", "a time such as 12:30:00"),
    msgspec.inspect.TimeDeltaType: ("time_delta_parsing", "a duration, such as in ISO 8601"),
}

_LISTS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    abc.Sequence: list,
    abc.MutableSequence: list,
    abc.Collection: list,
    abc.Iterable: list,
    set: set,
    abc.Set: set,
    abc.MutableSet: set,
    frozenset: frozenset,
}


def strip_remarks(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """What is annotated, and the remarks of ``Annotated`` about it; aliases are looked through.

    In ``Optional[Annotated[…]]`` the remarks count as well: Python 3.10 makes this of an
    ``Annotated`` parameter whose default is ``None``.
    """
    remarks: tuple[Any, ...] = ()
    while True:
        members = _members(annotation)
        if len(members) == 1 and get_origin(members[0]) is Annotated:
            annotation = members[0]
        if get_origin(annotation) is Annotated:
            annotation, *added = get_args(annotation)
            remarks = (*added, *remarks)
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        else:
            return annotation, remarks


def conversion_to(annotation: Any, *constraints: Constraints) -> Conversion | None:
    """The conversion of text to ``annotation``; ``None`` if the text itself is what is wanted.

    ``None`` in a union means that the value may be missing: no text stands for it.

    Parameters:
        annotation: a type; with remarks, perhaps.
        constraints: what its values must keep to, besides those among the remarks.

    Raises:
        TypeError: text cannot be converted to that type, or a constraint does not fit it.
    """
    wanted, remarks = strip_remarks(annotation)
    constraints = (*constraints, *_constraints_in(remarks))
    members = _members(wanted)
    if len(members) == 1:
        return conversion_to(members[0], *constraints)
    if members:
        wanted = functools.reduce(operator.or_, members)
    container = get_origin(wanted) or wanted
    if container is tuple:
        return Conversion(_to_tuple(get_args(wanted), constraints), is_repeated=True)
    if _is_listed(container):
        (item,) = get_args(wanted) or (str,)
        return Conversion(_to_list(_LISTS[container], item, constraints), is_repeated=True)
    convert = _to_scalar(wanted, constraints)
    return None if convert is None else Conversion(convert)


def _members(annotation: Any) -> list[Any]:
    """Of a union, without ``None``; nothing for all else."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return []
    return [part for part in get_args(annotation) if part is not types.NoneType]


def _is_listed(container: Any) -> bool:
    return isinstance(container, abc.Hashable) and container in _LISTS


def _to_scalar(wanted: Any, constraints: Sequence[Constraints]) -> Callable[[str], Any] | None:
    convert: Callable[[str], Any] | None
    if wanted in (Parameter.empty, Any, str, object):
        info: msgspec.inspect.Type = msgspec.inspect.StrType()
        convert = None
    elif wanted is bool:
        info = msgspec.inspect.BoolType()
        convert = _to_bool
    else:
        info = msgspec.inspect.type_info(wanted)
        read = _to_decimal if wanted is Decimal else _reader(wanted)
        convert = _explaining(read, *_describe(info))
    _check_fit(info, constraints)
    checks = [check for given in constraints for check in _checks(given)]
    return _checking(convert, checks) if checks else convert


def _to_bool(text: str) -> bool:
    try:
        return _BOOLS[text.lower()]
    except KeyError:
        kind, expected = _SCALARS[msgspec.inspect.BoolType]
        raise Unfit(Reason(kind, f"expected {expected}", text)) from None


def _to_decimal(text: str) -> Decimal:
    # Decimal() also takes digits of other scripts, blanks around and "_" between them.
    if not text.isascii() or "_" in text or text != text.strip():
        raise ValueError
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError from None
    if not number.is_finite():
        raise Unfit(Reason("finite_number", "must be finite", text))
    return number


def _reader(wanted: Any) -> Callable[[str], Any]:
    # strict=False is what lets it read numbers from text; its ValidationError is a ValueError.
    read = functools.partial(msgspec.convert, type=wanted, strict=False)
    try:
        # Some types that it describes it cannot convert to; it raises TypeError for them.
        read("")
    except ValueError:
        pass
    return read


def _explaining(
    read: Callable[[str], Any], kind: str, expected: str, context: dict[str, Any] | None
) -> Callable[[str], Any]:
    """``read``, whose ValueError becomes a reason."""

    def convert(text: str) -> Any:
        try:
            return read(text)
        except Unfit:
            raise
        except ValueError:
            reason = Reason(kind, f"expected {expected}", text, context=context)
            raise Unfit(reason) from None

    return convert


def _checking(convert: Callable[[str], Any] | None, checks: list[_Check]) -> Callable[[str], Any]:
    def convert_and_check(text: str) -> Any:
        value = text if convert is None else convert(text)
        _apply(checks, value, text)
        return value

    return convert_and_check


def _apply(checks: Iterable[_Check], value: Any, given: Any) -> None:
    for check in checks:
        if check.broken_by(value):
            raise Unfit(Reason(check.kind, check.message, given, context=check.context))


def _describe(info: msgspec.inspect.Type) -> tuple[str, str, dict[str, Any] | None]:
    """The name of what can go wrong with a type, what is expected of a value, and the context."""
    if isinstance(info, msgspec.inspect.Metadata):
        return _describe(info.type)
    if isinstance(info, msgspec.inspect.EnumType):
        return _choice("enum", [member.value for member in info.cls])
    if isinstance(info, msgspec.inspect.LiteralType):
        return _choice("literal_error", info.values)
    if isinstance(info, msgspec.inspect.UnionType):
        parts = [_describe(part) for part in info.types]
        return parts[0][0], " or ".join(expected for _, expected, _ in parts), None
    try:
        return *_SCALARS[type(info)], None
    except KeyError:
        named = type(info).__name__.removesuffix("Type").lower()
        raise TypeError(f"text cannot be converted to that (msgspec: {named})") from None


def _choice(kind: str, values: Collection[Any]) -> tuple[str, str, dict[str, Any]]:
    listed = ", ".join(repr(value) for value in values)
    return kind, f"one of {listed}", {"expected": listed}


def _check_fit(info: msgspec.inspect.Type, constraints: Iterable[Constraints]) -> None:
    """Refuse a constraint that no value of the type could be held against."""
    for given in constraints:
        for name in _NAMES:
            if getattr(given, name) is not None and not isinstance(info, _APPLIES[name]):
                raise TypeError(f"the constraint {name} does not fit that type")


# Lists


def _to_list(
    build: Callable[[list[Any]], Any], item: Any, constraints: Sequence[Constraints]
) -> Callable[[list[str]], Any]:
    convert = _item_conversion(item)
    checks = _length_checks(constraints)

    def convert_list(texts: list[str]) -> Any:
        value = build(_convert_each(texts, [convert] * len(texts)))
        _apply(checks, value, texts)
        return value

    return convert_list


def _to_tuple(
    items: tuple[Any, ...], constraints: Sequence[Constraints]
) -> Callable[[list[str]], Any]:
    if not items or items[-1] is Ellipsis:
        return _to_list(tuple, items[0] if items else str, constraints)
    converts = [_item_conversion(item) for item in items]
    checks = _length_checks(constraints)
    count = len(items)

    def convert_tuple(texts: list[str]) -> Any:
        if len(texts) > count:
            message = f"must have at most {count} values"
            raise Unfit(Reason("too_long", message, texts, context={"max_length": count}))
        missing = range(len(texts), count)
        value = _convert_each(
            texts, converts, [Reason("missing", "is required", texts, (at,)) for at in missing]
        )
        _apply(checks, value, texts)
        return tuple(value)

    return convert_tuple


def _length_checks(constraints: Sequence[Constraints]) -> list[_Check]:
    for given in constraints:
        for name in _NAMES:
            if getattr(given, name) is not None and name not in ("min_length", "max_length"):
                raise TypeError(
                    f"the constraint {name} does not fit a list: put it on the type of its values"
                )
    return [check for given in constraints for check in _checks(given, of_list=True)]


def _item_conversion(item: Any) -> Callable[[str], Any] | None:
    conversion = conversion_to(item)
    if conversion is None:
        return None
    if conversion.is_repeated:
        raise TypeError("text cannot be converted to a list of lists")
    return conversion.convert


def _convert_each(
    texts: Iterable[str],
    converts: Iterable[Callable[[str], Any] | None],
    others: Iterable[Reason] = (),
) -> list[Any]:
    """Convert what can be converted; raise for the rest, and for ``others``."""
    values: list[Any] = []
    reasons: list[Reason] = []
    for index, (text, convert) in enumerate(zip(texts, converts, strict=False)):
        try:
            values.append(text if convert is None else convert(text))
        except Unfit as error:
            reasons += (
                Reason(reason.kind, reason.message, reason.value, (index,), reason.context)
                for reason in error.reasons
            )
    reasons += others
    if reasons:
        raise Unfit(*reasons)
    return values
