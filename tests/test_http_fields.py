"""The headers that an application gives, in whatever is made of them.

Tests that begin with a letter and a number show one row of the list of attacks.
"""

from __future__ import annotations

import pytest

from fastws.client_handshake import client_request
from fastws.handshake import accept_response, check_upgrade
from fastws.http_fields import normalize_headers
from fastws.http_head import http_response, parse_request
from tests.heads import KEY, head


def test_headers_are_taken_in_every_form() -> None:
    expected = [(b"A", b"b"), (b"C", b"\xe9")]
    assert normalize_headers([("A", "b"), ("C", "é")]) == expected
    assert normalize_headers([(b"A", b" b\t"), (b"C", b"\xe9")]) == expected
    assert normalize_headers({"A": "b", "C": "é"}) == expected
    assert normalize_headers({b"A": "b", b"C": "é"}) == expected
    assert normalize_headers(pair for pair in expected) == expected
    assert normalize_headers(None) == []


INJECTIONS = ["a\r\nX: y", "a\nb", "a\rb", "a\x00b", "a\x1bb", "a\x7fb", "\r\n", "€"]


@pytest.mark.parametrize("value", INJECTIONS)
def test_a16_a_control_character_in_a_value_is_the_applications_mistake(value: str) -> None:
    upgrade = check_upgrade(parse_request(head()))
    forms: list[object] = [value]
    if value.isascii():
        forms.append(value.encode())
    for form in forms:
        for headers in ({"X-A": form}, [("X-A", form)], [(b"X-A", form)]):
            with pytest.raises(ValueError, match="X-A"):
                accept_response(upgrade, headers=headers)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="X-A"):
                http_response(403, headers)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="X-A"):
                client_request("ws://h/", key=KEY, headers=headers)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        accept_response(upgrade, extensions=value)


@pytest.mark.parametrize("name", [*INJECTIONS, "", "a b", "a:", "a:b", " a", "a(", "é"])
def test_a16_a_name_that_is_no_token_is_the_applications_mistake(name: str) -> None:
    for form in (name, name.encode()):
        with pytest.raises(ValueError, match="header"):
            normalize_headers([(form, "b")])


@pytest.mark.parametrize("pair", [("a", 1), (1, "a"), ("a", None), ("a", ["b"])])
def test_a16_a_header_is_bytes_or_str(pair: tuple[object, object]) -> None:
    with pytest.raises(TypeError, match="expected bytes or str"):
        normalize_headers([pair])  # type: ignore[list-item]
