"""Every limit once: the defaults that the documentation promises, and what compression accepts."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest

from fastws.limits import DEFAULT_LIMITS, KIB, MIB, DeflateOptions, Limits


def test_defaults() -> None:
    assert dataclasses.asdict(DEFAULT_LIMITS) == {
        "max_size": MIB,
        "max_fragments": 4096,
        "max_queue": 16,
        "max_queue_bytes": MIB,
        "write_limit": 64 * KIB,
        "max_backpressure": MIB,
        "write_timeout": 30,
        "ping_interval": 20.0,
        "ping_timeout": 20.0,
        "idle_timeout": None,
        "max_lifetime": None,
        "message_rate": None,
        "open_timeout": 10.0,
        "accept_timeout": 30.0,
        "close_timeout": 10.0,
        "max_header_line": 8 * KIB,
        "max_header_count": 128,
        "max_header_size": 32 * KIB,
    }
    assert Limits() == DEFAULT_LIMITS


def test_defaults_of_compression() -> None:
    assert dataclasses.asdict(DeflateOptions()) == {
        "mode": "dedicated",
        "threshold": KIB,
        "window_bits": 12,
        "mem_level": 5,
        "level": 1,
        "library": "zlib",
    }


@pytest.mark.parametrize("cls", [Limits, DeflateOptions])
def test_every_limit_is_documented(cls: type[Limits]) -> None:
    # Python 3.13 takes the common indentation out of docstrings; getdoc() does so everywhere.
    documented = set(re.findall(r"^    (\w+):", inspect.getdoc(cls) or "", re.MULTILINE))
    assert documented == {field.name for field in dataclasses.fields(cls)}


@pytest.mark.parametrize("value", [DEFAULT_LIMITS, DeflateOptions()])
def test_they_cannot_change_under_a_connection(value: Limits) -> None:
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, 1)
    assert hash(value) == hash(dataclasses.replace(value))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("mode", "on", "compression mode is 'on': expected 'shared' or 'dedicated'"),
        ("window_bits", 8, "deflate window_bits is 8: expected 9 to 15"),
        ("window_bits", 16, "deflate window_bits is 16: expected 9 to 15"),
        ("mem_level", 0, "deflate mem_level is 0: expected 1 to 9"),
        ("mem_level", 10, "deflate mem_level is 10: expected 1 to 9"),
        ("level", 0, "deflate level is 0: expected 1 to 9"),
        ("level", 10, "deflate level is 10: expected 1 to 9"),
        ("threshold", -1, "deflate threshold is -1: expected 0 or more bytes"),
        ("library", "zopfli", "deflate library is 'zopfli': expected 'zlib' or 'zlib-ng'"),
    ],
)
def test_compression_that_cannot_be(option: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeflateOptions(**{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "low", "high"), [("window_bits", 9, 15), ("mem_level", 1, 9), ("level", 1, 9)]
)
def test_the_bounds_of_compression_are_inclusive(option: str, low: int, high: int) -> None:
    for value in (low, high):
        chosen = DeflateOptions(**{option: value})  # type: ignore[arg-type]
        assert getattr(chosen, option) == value
