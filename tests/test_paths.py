"""Paths of routes: what they match, what they refuse to be, and how they are filled in."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.routing import compile_path as starlette_compile_path

from fastws.paths import CONVERTORS, PathTable, compile_path

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


# Tables


class Named:
    """A route, as far as a table is concerned. Two of one path are two routes."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.tried = 0
        self._compiled = compile_path(path)

    def match(self, path: str) -> dict[str, Any] | None:
        self.tried += 1
        return self._compiled.match(path)

    def __repr__(self) -> str:
        return self.path


def table_of(routes: Sequence[Named]) -> PathTable[Named]:
    table: PathTable[Named] = PathTable()
    for route in routes:
        table.add(route)
    return table


def linear(routes: Sequence[Named], path: str) -> tuple[Named, dict[str, Any]] | None:
    """What a table must find: the first route that matches, tried one after the other."""
    for route in routes:
        values = route.match(path)
        if values is not None:
            return route, values
    return None


TEXTS = ["", "a", "b", "1", "v1", "a.b", "1.5", UUID]
PATTERNS = [
    *TEXTS,
    *("{%s}", "{%s:str}", "{%s:int}", "{%s:float}", "{%s:uuid}", "{%s:path}"),
    *("v{%s}", "v{%s:int}", "{%s}.{%s}", "{%s}.b", "x{%s:path}", "{%s:path}.b", "{%s:int}{%s}"),
]


@st.composite
def paths_of_routes(draw: st.DrawFn) -> str:
    path = "".join("/" + part for part in draw(st.lists(st.sampled_from(PATTERNS), max_size=4)))
    # Names of parameters are different ones, and the same in another route.
    names = iter("pqrstuvw")
    while "%s" in path:
        path = path.replace("%s", next(names), 1)
    return path or "/"


PATHS = st.lists(st.sampled_from(TEXTS), max_size=5).map(lambda parts: "/" + "/".join(parts))


@given(st.lists(paths_of_routes(), max_size=12), st.lists(PATHS, min_size=1, max_size=6))
@example(["/{p}", "/a", "/a"], ["/a", "/b", "/"])
@example(["/a/{p}", "/{p}/b", "/{p:path}"], ["/a/b", "/a/", "/", "/a//b"])
@example(["/{p:path}/b", "/a/{p}"], ["/a/b", "/a/a/b", "//b"])
def test_a_table_finds_what_trying_every_route_in_turn_would_find(
    routes: list[str], paths: list[str]
) -> None:
    named = [Named(path) for path in routes]
    table = table_of(named)
    for path in paths:
        assert table.find(path) == linear(named, path), path


@pytest.mark.parametrize(
    ("routes", "path", "winner"),
    [
        (["/chat/{room}", "/chat/lobby"], "/chat/lobby", 0),
        (["/chat/lobby", "/chat/{room}"], "/chat/lobby", 0),
        (["/{n:int}", "/{word}"], "/7", 0),
        (["/{n:int}", "/{word}"], "/seven", 1),
        (["/{rest:path}", "/a/b"], "/a/b", 0),
        (["/a", "/a"], "/a", 0),
    ],
)
def test_the_first_registered_of_those_that_match_wins(
    routes: list[str], path: str, winner: int
) -> None:
    named = [Named(route) for route in routes]
    found = table_of(named).find(path)
    assert found is not None
    assert found[0] is named[winner]


def test_a_table_does_not_try_routes_that_cannot_match() -> None:
    named = [Named(f"/{kind}/{number}/{{x}}") for kind in "ab" for number in range(500)]
    named += [Named(f"/{{x}}/{number}/end") for number in range(500)]
    table = table_of(named)
    for route in named:
        route.tried = 0
    found = table.find("/a/499/end")
    assert found is not None
    assert found[0] is named[499]
    assert sum(route.tried for route in named) == 1
    assert table.find("/c/499/nothing") is None
    assert sum(route.tried for route in named) == 1


def test_a_path_of_nothing_but_slashes_is_cheap_to_refuse() -> None:
    table = table_of([Named("/a/{x}"), Named("/{x}/{y}")])
    assert table.find("/" * 100_000) is None
