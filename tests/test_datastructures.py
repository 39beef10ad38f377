"""URLs, headers, query parameters, addresses and state: Starlette's meanings."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import starlette.datastructures

from fastws.datastructures import URL, Address, Headers, QueryParams, State, URLPath
from tests.asgi_peer import websocket_scope

ADDRESS = "wss://ann:secret@[2001:db8::1]:8443/a/b?x=1&x=2&y=#part"


def test_a_url_has_the_parts_of_its_text() -> None:
    url = URL(ADDRESS)
    assert (url.scheme, url.hostname, url.port) == ("wss", "2001:db8::1", 8443)
    assert (url.username, url.password) == ("ann", "secret")
    assert (url.netloc, url.path) == ("ann:secret@[2001:db8::1]:8443", "/a/b")
    assert (url.query, url.fragment, url.is_secure) == ("x=1&x=2&y=", "part", True)
    assert url.components.path == "/a/b"
    assert not URL("ws://a/").is_secure


def test_a_url_compares_with_its_text_and_hides_its_password_when_printed() -> None:
    assert URL("ws://a/b") == "ws://a/b"
    assert URL("ws://a/b") == URL("ws://a/b")
    assert URL("ws://a/b") != URL("ws://a/c")
    assert URL("ws://a/b") != 1
    assert len({URL("ws://a"), URL("ws://a")}) == 1
    assert repr(URL("ws://a/b")) == "URL('ws://a/b')"
    assert "secret" not in repr(URL(ADDRESS))
    assert "ann" in repr(URL(ADDRESS))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"scheme": "wss"}, "wss://u:p@h:1/a?q=1"),
        ({"path": "/z", "query": ""}, "ws://u:p@h:1/z"),
        ({"port": None}, "ws://u:p@h/a?q=1"),
        ({"hostname": "other"}, "ws://u:p@other:1/a?q=1"),
        ({"hostname": "2001:db8::2"}, "ws://u:p@[2001:db8::2]:1/a?q=1"),
        ({"username": None, "password": None}, "ws://h:1/a?q=1"),
        ({"password": "x"}, "ws://u:x@h:1/a?q=1"),
        ({"netloc": "n"}, "ws://n/a?q=1"),
    ],
)
def test_replacing_parts_of_a_url_makes_another_one(changes: dict[str, Any], expected: str) -> None:
    url = URL("ws://u:p@h:1/a?q=1")
    assert url.replace(**changes) == expected
    assert url == "ws://u:p@h:1/a?q=1"


def test_changing_the_query_of_a_url() -> None:
    url = URL("/p?a=1&b=2&a=3")
    assert url.include_query_params(c=4) == "/p?a=1&b=2&a=3&c=4"
    assert url.include_query_params(a=9) == "/p?b=2&a=9"
    assert url.replace_query_params(z="ä") == "/p?z=%C3%A4"
    assert url.remove_query_params("a") == "/p?b=2"
    assert url.remove_query_params(["a", "b"]) == "/p"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "ws://example.org/"),
        ({"scheme": "wss"}, "wss://example.org/"),
        ({"query_string": b"a=%20"}, "ws://example.org/?a=%20"),
        ({"headers": [(b"host", b"[2001:db8::1]:81")]}, "ws://[2001:db8::1]:81/"),
        # Without a host that could be one it is the server's address.
        ({"headers": []}, "ws://198.51.100.1/"),
        ({"headers": [], "server": ("2001:db8::1", 8000)}, "ws://[2001:db8::1]:8000/"),
        ({"headers": [(b"host", b"evil@example.org/x?")]}, "ws://198.51.100.1/"),
        ({"headers": [], "server": None, "query_string": b"q"}, "/?q"),
        ({"headers": [], "server": ("/run/socket", None)}, "/"),
    ],
)
def test_the_url_of_a_scope(changes: dict[str, Any], expected: str) -> None:
    assert URL.from_scope(websocket_scope(**changes)) == expected


def test_what_is_encoded_in_a_path_cannot_end_it() -> None:
    url = URL.from_scope(websocket_scope("/a?b#c\\d e"))
    assert url.path == "/a%3Fb%23c%5Cd e"
    assert (url.query, url.fragment) == ("", "")


def test_a_url_path_becomes_absolute_in_the_scheme_of_its_protocol() -> None:
    path = URLPath("/chat/1", "websocket")
    assert path == "/chat/1"
    assert path.make_absolute_url("https://example.org/base/") == "wss://example.org/base/chat/1"
    assert path.make_absolute_url(URL("http://example.org")) == "ws://example.org/chat/1"
    assert URLPath("/x", "http").make_absolute_url("ws://h") == "http://h/x"
    assert URLPath("/x").make_absolute_url("ftp://h") == "ftp://h/x"
    assert URLPath("//evil.example/x") == "/%2Fevil.example/x"


def test_headers_are_found_in_any_case_and_keep_what_came_twice() -> None:
    headers = Headers(raw=[(b"host", b"a"), (b"cookie", b"x=1"), (b"cookie", b"y=\xe9")])
    assert headers["HOST"] == "a"
    assert headers["Cookie"] == "x=1"
    assert headers.getlist("cookie") == ["x=1", "y=\xe9"]
    assert headers.get("nothing") is None
    assert headers.get("nothing", "default") == "default"
    assert "Host" in headers
    assert "nothing" not in headers
    assert "\u20ac" not in headers
    assert 1 not in headers  # type: ignore[comparison-overlap]
    assert headers.keys() == ["host", "cookie", "cookie"] == list(headers)
    assert headers.values() == ["a", "x=1", "y=\xe9"]
    assert headers.items()[0] == ("host", "a")
    assert headers.multi_items() == headers.items()
    assert len(headers) == 3
    with pytest.raises(KeyError):
        headers["nothing"]


def test_headers_compare_by_what_they_hold() -> None:
    one = Headers({"A": "1", "b": "2"})
    assert one == Headers(raw=[(b"b", b"2"), (b"a", b"1")])
    assert one != Headers({"a": "1"})
    assert one != {"a": "1"}
    assert one.raw == [(b"a", b"1"), (b"b", b"2")]
    assert repr(one) == "Headers([('a', '1'), ('b', '2')])"
    with pytest.raises(TypeError):
        hash(one)


def test_query_params_keep_what_came_twice_and_give_the_last() -> None:
    params = QueryParams("a=1&a=2&b=&c=%C3%A4+x")
    assert params["a"] == "2"
    assert params.getlist("a") == ["1", "2"]
    assert params.get("b") == ""
    assert params["c"] == "ä x"
    assert params.get("d", "default") == "default"
    assert params.multi_items()[:2] == [("a", "1"), ("a", "2")]
    assert (list(params), len(params), "b" in params) == (["a", "b", "c"], 3, True)
    assert str(params) == "a=1&a=2&b=&c=%C3%A4+x"
    assert repr(params) == f"QueryParams('{params}')"


def test_query_params_are_made_of_text_bytes_mappings_and_pairs() -> None:
    expected = QueryParams("a=1&b=2")
    assert QueryParams(b"a=1&b=2") == expected
    assert QueryParams({"a": 1, "b": 2}) == expected
    assert QueryParams([("b", "2"), ("a", "1")]) == expected
    assert QueryParams(expected) == expected
    assert QueryParams() == QueryParams("")
    assert expected != QueryParams("a=1")
    assert expected != {"a": "1", "b": "2"}


def test_what_a_query_cannot_mean_is_replaced_and_never_raises() -> None:
    assert QueryParams(b"a=%ff&%zz=\xff")["a"] == "\ufffd"


@pytest.mark.parametrize("query", ["", "a", "a=1&a=2", "a=%20+&b=%26", "=x", "&&a=1", "a=b=c"])
def test_queries_mean_what_they_mean_in_starlette(query: str) -> None:
    theirs = starlette.datastructures.QueryParams(query)
    assert QueryParams(query).multi_items() == theirs.multi_items()
    assert dict(QueryParams(query)) == dict(theirs)


def test_an_address_is_a_pair() -> None:
    address = Address("192.0.2.1", 80)
    assert address == ("192.0.2.1", 80)
    assert (address.host, address.port) == ("192.0.2.1", 80)


def test_state_has_attributes_that_are_items() -> None:
    values: dict[str, Any] = {"db": 1}
    state = State(values)
    state.user = "ann"
    state["items"] = 2
    assert (state.db, state.user, state["user"]) == (1, "ann", "ann")
    assert values == {"db": 1, "user": "ann", "items": 2}
    assert ("user" in state, "other" in state, len(state)) == (True, False, 3)
    assert list(state) == ["db", "user", "items"]
    del state.user
    del state["items"]
    assert not hasattr(state, "user")
    with pytest.raises(AttributeError, match="no attribute 'user'"):
        state.user  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'user'"):
        del state.user
    assert repr(state) == "State({'db': 1})"


def test_state_can_be_copied_and_pickled() -> None:
    state = State({"a": 1})
    assert copy.copy(state).a == 1
    assert pickle.loads(pickle.dumps(state)).a == 1
