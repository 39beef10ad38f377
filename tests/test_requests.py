"""What is read from a scope: by WebSockets and plain requests alike."""

from __future__ import annotations

from typing import Any

import pytest

from fastws.http_head import parse_request
from fastws.requests import HTTPConnection, Request, build_scope, route_path
from tests.asgi_peer import http_scope, websocket_scope

HEAD = b"GET /a%20b?x=1 HTTP/1.1\r\nHost: example.org\r\nX-Thing: 1\r\nx-thing: 2\r\n\r\n"


def test_the_properties_say_what_is_in_the_scope() -> None:
    app = object()
    connection = HTTPConnection(
        websocket_scope("/a", query_string=b"q=1", app=app, path_params={"p": 2}, state={"s": 3})
    )
    assert connection.url == "ws://example.org/a?q=1"
    assert connection.headers["host"] == "example.org"
    assert connection.query_params["q"] == "1"
    assert connection.path_params == {"p": 2}
    assert connection.state.s == 3
    assert connection.app is app
    assert connection.client is not None
    assert connection.client.host == "192.0.2.7"
    assert connection.cookies == {}


def test_each_property_is_built_once() -> None:
    connection = HTTPConnection(websocket_scope())
    for name in ("url", "headers", "query_params", "cookies", "state", "path_params"):
        assert getattr(connection, name) is getattr(connection, name), name


def test_state_and_path_params_stay_in_the_scope() -> None:
    scope = websocket_scope()
    connection = HTTPConnection(scope)
    connection.state.user = "ann"
    connection.path_params["x"] = 1
    assert scope["state"] == {"user": "ann"}
    assert scope["path_params"] == {"x": 1}


def test_there_is_no_client_on_a_unix_socket() -> None:
    assert HTTPConnection(websocket_scope(client=None)).client is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"a=1; b=2", {"a": "1", "b": "2"}),
        (b"a=1;b=2;", {"a": "1", "b": "2"}),
        (b"a=x=y", {"a": "x=y"}),
        (b'a="quoted \\"text\\""', {"a": 'quoted "text"'}),
        (b"alone", {"": "alone"}),
        (b"; ;", {}),
        (b"a=\xe9", {"a": "\xe9"}),
    ],
)
def test_cookies_are_read_as_browsers_write_them(line: bytes, expected: dict[str, str]) -> None:
    assert HTTPConnection(websocket_scope(headers=[(b"cookie", line)])).cookies == expected


def test_cookies_of_several_headers_come_together() -> None:
    headers = [(b"cookie", b"a=1"), (b"cookie", b"b=2")]
    assert HTTPConnection(websocket_scope(headers=headers)).cookies == {"a": "1", "b": "2"}


def test_a_request_is_of_type_http() -> None:
    request = Request(http_scope("/x", "HEAD"))
    assert request.method == "HEAD"
    assert repr(request) == "<Request HEAD '/x'>"
    with pytest.raises(ValueError, match="needs 'http'"):
        Request(websocket_scope())


def test_building_a_websocket_scope() -> None:
    state = {"db": 1}
    scope = build_scope(
        "websocket",
        parse_request(HEAD),
        client=("192.0.2.7", 50000),
        server=("198.51.100.1", 443),
        secure=True,
        root_path="/api",
        state=state,
    )
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "wss",
        "path": "/api/a b",
        "raw_path": b"/api/a%20b",
        "query_string": b"x=1",
        "root_path": "/api",
        "headers": [(b"host", b"example.org"), (b"x-thing", b"1"), (b"x-thing", b"2")],
        "client": ("192.0.2.7", 50000),
        "server": ("198.51.100.1", 443),
        "state": {"db": 1},
    }
    assert scope["state"] is not state


def test_building_an_http_scope() -> None:
    scope = build_scope("http", parse_request(HEAD), client=None, server=None, secure=False)
    assert (scope["scheme"], scope["method"], scope["state"]) == ("http", "GET", {})


@pytest.mark.parametrize(
    ("path", "root_path", "expected"),
    [
        ("/a/b", "", "/a/b"),
        ("/a/b", "/a", "/b"),
        ("/a/b", "/a/", "/b"),
        ("/a", "/a", "/"),
        # Some servers leave the root path out of the path.
        ("/b", "/a", "/b"),
        ("/ab", "/a", "/ab"),
    ],
)
def test_routes_see_the_path_without_the_root_path(
    path: str, root_path: str, expected: str
) -> None:
    changes: dict[str, Any] = {"root_path": root_path}
    assert route_path(websocket_scope(path, **changes)) == expected
