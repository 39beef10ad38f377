"""What is known about an option: its names, where it can be set, and what is wrong with a value."""

from __future__ import annotations

import pytest

from fastws.kinds import TEXT, size, text
from fastws.options import ConfigError, Option, did_you_mean

OPTION = Option(
    "limit-things",
    size(optional=True),
    65536,
    "limits",
    "Help",
    aliases=("limit-stuff",),
    variables=("THINGS",),
)


def test_an_option_is_a_keyword_with_underscores() -> None:
    assert OPTION.keyword == "limit_things"


def test_the_default_as_a_user_would_write_it() -> None:
    assert OPTION.default_text == "64KiB"


def test_the_variables_that_set_it_in_the_order_of_their_weight() -> None:
    assert OPTION.environment == ("FASTWS_LIMIT_THINGS", "FASTWS_LIMIT_STUFF", "THINGS")


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        (OPTION, "x", "limit-things is x: expected a size such as 4096, 64KiB or 1MiB, or none"),
        (OPTION, [], "limit-things is []: expected a size such as 4096, 64KiB or 1MiB, or none"),
        (Option("name", TEXT, "", "limits", "Help"), ("a", "b"), "name is a, b: expected a text"),
        (Option("name", TEXT, "", "limits", "Help"), b"x", "name is b'x': expected a text"),
        (
            Option("file", text("PATH", "a path"), None, "limits", "Help"),
            "",
            "file is empty: expected a path, or none",
        ),
    ],
)
def test_a_wrong_value_gets_a_sentence(option: Option, value: object, sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        option.parse(value)
    assert str(raised.value) == sentence


def test_a_like_name_is_suggested() -> None:
    assert did_you_mean("limit-thing", ["limit-things", "port"]) == ": did you mean limit-things?"
    assert did_you_mean("zzz", ["limit-things", "port"]) == ""
    assert did_you_mean("A_PROT", ["A_PORT", "A_B"], prefix="A_") == ": did you mean A_PORT?"
    assert did_you_mean("A_ZZZ", ["A_PORT", "A_B"], prefix="A_") == ""


def test_an_error_knows_which_options_it_is_about() -> None:
    assert ConfigError("a sentence", ["uds", "fd"]).options == ("uds", "fd")
    assert ConfigError("a sentence").options == ()
