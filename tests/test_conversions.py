"""Text that becomes what an annotation names, and what is said about text that does not."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict, Union

import msgspec
import orjson
import pytest

from fastws.conversions import Constraints, Unfit, conversion_to


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Pair(enum.Enum):
    ONE = (1, 1)


class Unknown: ...


class Keys(TypedDict):
    x: int


class Above:
    """A remark as annotated_types has them."""

    gt = 2


class FieldInfo:
    """A remark as pydantic has them."""

    metadata = (Above(),)


class TypeAliasType:
    """What ``type Number = Annotated[int, "a number"]`` makes on Python 3.12 and later."""

    __value__ = Annotated[int, "a number"]


UserId = NewType("UserId", int)
ONE = uuid.UUID(int=1)


def converted(annotation: Any, given: Any, *constraints: Constraints) -> Any:
    conversion = conversion_to(annotation, *constraints)
    assert conversion is not None
    assert conversion.is_repeated is isinstance(given, list)
    return conversion.convert(given)


def complaints(annotation: Any, given: Any, *constraints: Constraints) -> list[dict[str, Any]]:
    with pytest.raises(Unfit) as caught:
        converted(annotation, given, *constraints)
    told = [reason.complaint("query", "name") for reason in caught.value.reasons]
    assert all(complaint["msg"] in str(caught.value) for complaint in told)
    orjson.dumps(told)
    return told


@pytest.mark.parametrize(
    ("annotation", "text", "expected"),
    [
        (int, "-5", -5),
        (int, "9" * 30, int("9" * 30)),
        (float, "1.5", 1.5),
        (float, "inf", float("inf")),
        (bool, "true", True),
        (bool, "ON", True),
        (bool, "0", False),
        (Optional[bool], "yes", True),  # noqa: UP045
        (uuid.UUID, str(ONE), ONE),
        (datetime.date, "2030-01-31", datetime.date(2030, 1, 31)),
        (datetime.datetime, "2030-01-31T12:30:00", datetime.datetime(2030, 1, 31, 12, 30)),
        (datetime.time, "12:30:00", datetime.time(12, 30)),
        (datetime.timedelta, "PT90S", datetime.timedelta(seconds=90)),
        (Decimal, "1.10", Decimal("1.10")),
        (Colour, "red", Colour.RED),
        (Level, "2", Level.HIGH),
        (Literal["a", "b"], "b", "b"),
        (Literal[1, 2], "2", 2),
        (Optional[int], "3", 3),  # noqa: UP045
        (int | None, "3", 3),
        (int | float, "1.5", 1.5),
        (Union[int, str, None], "x", "x"),  # noqa: UP007
        (Literal["all"] | int | None, "all", "all"),
        (Literal["all"] | int | None, "5", 5),
        (Annotated[int, "a remark"], "4", 4),
        (Annotated[int | None, "a remark"], "4", 4),
        (Annotated[int, msgspec.Meta(ge=1)], "4", 4),
        (Annotated[int, msgspec.Meta(ge=1)] | uuid.UUID, "4", 4),
        (UserId, "5", 5),
        (TypeAliasType(), "5", 5),
        (list[int], ["1", "2"], [1, 2]),
        (list, ["1"], ["1"]),
        (set[int], ["1", "1"], {1}),
        (frozenset[str], ["a"], frozenset("a")),
        (Sequence[float], ["1"], [1.0]),
        (Iterable[str], ["a"], ["a"]),
        (tuple[int, ...], ["1", "2"], (1, 2)),
        (tuple, ["1"], ("1",)),
        (tuple[int, str], ["1", "2"], (1, "2")),
        (list[bool] | None, ["on"], [True]),
        (list[Colour], ["red", "blue"], [Colour.RED, Colour.BLUE]),
    ],
)
def test_text_becomes_what_the_annotation_names(
    annotation: Any, text: Any, expected: object
) -> None:
    value = converted(annotation, text)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize("annotation", [str, Any, object, Annotated[str, "a remark"], str | None])
def test_text_that_is_wanted_as_it_is_is_not_converted(annotation: Any) -> None:
    assert conversion_to(annotation) is None


@pytest.mark.parametrize(
    ("annotation", "text", "kind", "message"),
    [
        (int, "x", "int_parsing", "expected a whole number"),
        (int, "", "int_parsing", "expected a whole number"),
        (int, " 5", "int_parsing", "expected a whole number"),
        (int, "1_0", "int_parsing", "expected a whole number"),
        (int, "٣", "int_parsing", "expected a whole number"),
        (int, "9" * 5000, "int_parsing", "expected a whole number"),
        (int | None, "null", "int_parsing", "expected a whole number"),
        (float, "x", "float_parsing", "expected a number"),
        (bool, "maybe", "bool_parsing", "expected a truth value such as true or false"),
        (uuid.UUID, "x", "uuid_parsing", "expected a UUID"),
        (Decimal, "x", "decimal_parsing", "expected a decimal number"),
        (Decimal, "1_0", "decimal_parsing", "expected a decimal number"),
        (Decimal, " 1", "decimal_parsing", "expected a decimal number"),
        (Decimal, "٣", "decimal_parsing", "expected a decimal number"),
        (Decimal, "NaN", "finite_number", "must be finite"),
        (datetime.date, "x", "date_from_datetime_parsing", "expected a date such as 2030-01-31"),
        (Colour, "green", "enum", "expected one of 'red', 'blue'"),
        (Literal["a", 1], "c", "literal_error", "expected one of 1, 'a'"),
        (int | uuid.UUID, "x", "int_parsing", "expected a whole number or a UUID"),
    ],
)
def test_text_that_does_not_convert_is_complained_about(
    annotation: Any, text: str, kind: str, message: str
) -> None:
    (complaint,) = complaints(annotation, text)
    complaint.pop("ctx", None)
    assert complaint == {"loc": ["query", "name"], "msg": message, "type": kind, "input": text}


def test_a_choice_tells_programs_what_it_is_between() -> None:
    assert complaints(Colour, "green")[0]["ctx"] == {"expected": "'red', 'blue'"}


@pytest.mark.parametrize(
    "annotation",
    [
        Unknown,
        complex,
        bytes,
        dict[str, int],
        Keys,
        int | Unknown,
        Pair,
        datetime.date | datetime.datetime,
        list[list[int]],
        list[int] | int,
        list[Unknown],
        "unevaluated",
    ],
)
def test_a_type_that_text_cannot_become_is_refused(annotation: Any) -> None:
    with pytest.raises(TypeError):
        conversion_to(annotation)


# Lists


def test_each_value_of_a_list_that_does_not_convert_is_told_with_its_place() -> None:
    first, second = complaints(list[int], ["x", "1", "y"])
    assert (first["loc"], first["input"]) == (["query", "name", 0], "x")
    assert (second["loc"], second["input"]) == (["query", "name", 2], "y")


def test_a_tuple_has_as_many_values_as_it_has_types() -> None:
    (short,) = complaints(tuple[int, int], ["1"])
    assert (short["type"], short["loc"]) == ("missing", ["query", "name", 1])
    (long,) = complaints(tuple[int, int], ["1", "2", "3"])
    assert (long["type"], long["ctx"]) == ("too_long", {"max_length": 2})
    wrong, short = complaints(tuple[int, int], ["x"])
    assert (wrong["type"], wrong["loc"]) == ("int_parsing", ["query", "name", 0])
    assert (short["type"], short["loc"]) == ("missing", ["query", "name", 1])


@pytest.mark.parametrize("annotation", [list[int], tuple[int, ...], set[int]])
def test_the_length_of_a_list_may_be_limited(annotation: Any) -> None:
    bounds = Constraints(min_length=2, max_length=3)
    assert len(converted(annotation, ["1", "2"], bounds)) == 2
    (short,) = complaints(annotation, ["1"], bounds)
    assert (short["type"], short["ctx"], short["input"]) == ("too_short", {"min_length": 2}, ["1"])
    (long,) = complaints(annotation, list("1234"), bounds)
    assert (long["type"], long["msg"]) == ("too_long", "must have at most 3 values")


# Constraints


@pytest.mark.parametrize(
    ("annotation", "constraints", "good", "bad", "kind"),
    [
        (int, {"ge": 3}, "3", "2", "greater_than_equal"),
        (int | None, {"gt": 3}, "4", "3", "greater_than"),
        (float, {"le": 0.5}, "0.5", "0.6", "less_than_equal"),
        (float, {"ge": 0}, "0", "nan", "greater_than_equal"),
        (float, {"allow_inf_nan": False}, "1e300", "inf", "finite_number"),
        (float, {"allow_inf_nan": False}, "0", "nan", "finite_number"),
        (Decimal, {"lt": Decimal("0.5")}, "0.4", "0.5", "less_than"),
        (int, {"multiple_of": 5}, "-10", "11", "multiple_of"),
        (datetime.date, {"ge": datetime.date(2030, 1, 1)}, "2030-01-01", "2029-12-31", None),
        (
            datetime.datetime,
            {"ge": datetime.datetime(2030, 1, 1)},
            "2030-01-01T00:00:00",
            # With a zone it has no order to one without.
            "2031-01-01T00:00:00Z",
            "greater_than_equal",
        ),
        (str, {"min_length": 2}, "äö", "ä", "string_too_short"),
        (str | None, {"max_length": 2}, "äö", "äöü", "string_too_long"),
        (str, {"min_length": 1}, "a", "", "string_too_short"),
        (str, {"pattern": "^[a-z]+$"}, "abc", "abc1", "string_pattern_mismatch"),
        (str, {"pattern": "b"}, "abc", "ac", "string_pattern_mismatch"),
        (Any, {"max_length": 2}, "ab", "abc", "string_too_long"),
        (UserId, {"ge": 1}, "1", "0", "greater_than_equal"),
        (Annotated[int, "a remark"], {"ge": 1}, "1", "0", "greater_than_equal"),
        (Annotated[int, msgspec.Meta(ge=1)], {}, "1", "0", "greater_than_equal"),
        (Annotated[int, Above()], {"lt": 9}, "3", "2", "greater_than"),
        (Annotated[int | None, FieldInfo()], {}, "3", "2", "greater_than"),
    ],
)
def test_a_value_keeps_to_its_constraints(
    annotation: Any, constraints: dict[str, Any], good: str, bad: str, kind: str | None
) -> None:
    bounds = Constraints(**constraints)
    converted(annotation, good, bounds)
    (complaint,) = complaints(annotation, bad, bounds)
    assert kind is None or complaint["type"] == kind
    assert complaint["input"] == bad


def test_a_broken_constraint_is_told_with_its_bound() -> None:
    (complaint,) = complaints(int, "2", Constraints(ge=3))
    assert (complaint["msg"], complaint["ctx"]) == ("must be 3 or above", {"ge": 3})
    (complaint,) = complaints(Decimal, "2", Constraints(ge=Decimal("2.5")))
    assert complaint["ctx"] == {"ge": "2.5"}


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [("a$", "a\n", False), (r"a\$", "a$", True), (r"a\\$", "a\\\n", False), ("", "x", True)],
)
def test_the_end_of_a_pattern_is_the_end_of_the_text(pattern: str, text: str, fits: bool) -> None:
    bounds = Constraints(pattern=pattern)
    if fits:
        assert converted(str, text, bounds) == text
    else:
        assert complaints(str, text, bounds)[0]["type"] == "string_pattern_mismatch"


@pytest.mark.parametrize(
    ("annotation", "constraints"),
    [
        (str, {"ge": 1}),
        (int, {"min_length": 1}),
        (bool, {"ge": 1}),
        (Colour, {"pattern": "x"}),
        (int, {"allow_inf_nan": False}),
        (int | str, {"ge": 1}),
        (list[int], {"ge": 1}),
    ],
)
def test_a_constraint_that_does_not_fit_the_type_is_refused(
    annotation: Any, constraints: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match=f"constraint {next(iter(constraints))} does not fit"):
        conversion_to(annotation, Constraints(**constraints))


def test_the_values_of_a_list_have_constraints_of_their_own() -> None:
    wanted = list[Annotated[int, msgspec.Meta(ge=1)]]
    (complaint,) = complaints(wanted, ["1", "0"])
    assert (complaint["type"], complaint["loc"]) == ("greater_than_equal", ["query", "name", 1])
