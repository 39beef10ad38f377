"""Paths of routes: what they match, what they refuse to be, and how they are filled in."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from starlette.routing import compile_path as starlette_compile_path

from fastws.paths import CONVERTORS, compile_path

UUID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"


@pytest.mark.parametrize(
    ("path", "actual", "expected"),
    [
        ("/", "/", {}),
        ("/chat/{room}", "/chat/a b", {"room": "a b"}),
        ("/chat/{room}", "/chat/", None),
        ("/chat/{room}", "/chat/a/b", None),
        ("/chat/{room}", "/chat", None),
        ("/chat/{room}/x", "/chat/a/x", {"room": "a"}),
        ("/{a}/{b}", "/1/2", {"a": "1", "b": "2"}),
        ("/{a}.{b}", "/1.2.3", {"a": "1.2", "b": "3"}),
        ("/n/{x:int}", "/n/042", {"x": 42}),
        ("/n/{x:int}", "/n/-1", None),
        ("/n/{x:int}", "/n/٣", None),
        ("/n/{x:int}", "/n/" + "9" * 5000, None),
        ("/f/{x:float}", "/f/1.50", {"x": 1.5}),
        ("/f/{x:float}", "/f/1", {"x": 1.0}),
        ("/f/{x:float}", "/f/1e3", None),
        ("/u/{x:uuid}", f"/u/{UUID}", {"x": uuid.UUID(UUID)}),
        ("/u/{x:uuid}", "/u/3fa85f64", None),
        ("/s/{x:str}", "/s/é", {"x": "é"}),
        ("/d/{p:path}", "/d/a/b.txt", {"p": "a/b.txt"}),
        ("/d/{p:path}", "/d/", {"p": ""}),
        # Characters that mean something in a regular expression mean themselves.
        ("/a.b", "/axb", None),
        ("/a+(b)", "/a+(b)", {}),
        # A path is decoded: it may hold line feeds, which are no end of it.
        ("/chat/{room}", "/chat/a\n", {"room": "a\n"}),
        ("/d/{p:path}", "/d/a\nb", {"p": "a\nb"}),
        ("/a", "/a\n", None),
    ],
)
def test_what_a_path_matches(path: str, actual: str, expected: dict[str, Any] | None) -> None:
    assert compile_path(path).match(actual) == expected


@pytest.mark.parametrize(
    "path", ["/", "/a/{b}", "/{a:int}/x/{b:path}", "/{a:float}", "/{a:uuid}", "/a-{b}.json"]
)
@pytest.mark.parametrize("actual", ["/", "/a/b", "/1/x/y/z", "/1.5", f"/{UUID}", "/a-b.json"])
def test_paths_match_what_they_match_in_starlette(path: str, actual: str) -> None:
    theirs = starlette_compile_path(path)[0].match(actual)
    assert (compile_path(path).match(actual) is not None) == (theirs is not None)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/{a}/{a}", "the parameter 'a' twice"),
        ("/{a:hex}", "unknown convertor 'hex': expected one of str, path, int, float, uuid"),
        ("/{a", "a brace that belongs to no parameter"),
        ("/a}", "a brace that belongs to no parameter"),
        ("/{}", "a brace that belongs to no parameter"),
        ("/{1a}", "a brace that belongs to no parameter"),
        ("/{a b}", "a brace that belongs to no parameter"),
    ],
)
def test_what_is_no_path_is_refused_with_a_sentence(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compile_path(path)


@pytest.mark.parametrize(
    ("path", "values", "expected"),
    [
        ("/", {}, "/"),
        ("/c/{room}/x", {"room": "a b"}, "/c/a b/x"),
        ("/n/{x:int}", {"x": 5}, "/n/5"),
        ("/n/{x:int}", {"x": "5"}, "/n/5"),
        ("/f/{x:float}", {"x": 1.5}, "/f/1.5"),
        ("/f/{x:float}", {"x": 2}, "/f/2"),
        ("/u/{x:uuid}", {"x": uuid.UUID(UUID)}, f"/u/{UUID}"),
        ("/d/{p:path}", {"p": "a/b"}, "/d/a/b"),
    ],
)
def test_filling_in_a_path(path: str, values: dict[str, Any], expected: str) -> None:
    compiled = compile_path(path)
    assert compiled.fill(values) == expected
    assert compiled.match(expected) is not None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/{x}", "a/b"),
        ("/{x}", ""),
        ("/{x:int}", -1),
        ("/{x:int}", "one"),
        ("/{x:float}", -0.5),
        ("/{x:float}", float("nan")),
        ("/{x:float}", float("inf")),
        ("/{x:uuid}", "x"),
    ],
)
def test_a_value_that_would_not_match_is_not_filled_in(path: str, value: object) -> None:
    with pytest.raises(ValueError):
        compile_path(path).fill({"x": value})


@pytest.mark.parametrize("kind", CONVERTORS)
def test_the_text_of_a_converted_value_can_be_had_again(kind: str) -> None:
    example = {"int": "7", "float": "1.25", "uuid": UUID}.get(kind, "text")
    convertor = CONVERTORS[kind]
    assert convertor.to_text(convertor.convert(example)) == example
    to_text = compile_path(f"/{{x:{kind}}}").text_of()["x"]
    assert (to_text is None) == (kind in ("str", "path"))
