"""The WebSocket of the handlers: what it says of the request, its verbs, iteration, identity."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from fastws.app import FastWS
from fastws.codes import WebSocketState
from fastws.datastructures import URL, Message
from fastws.exceptions import WebSocketClosed, WebSocketDisconnect, WebSocketTypeError
from fastws.responses import JSONResponse
from fastws.routing import NoMatchFound
from fastws.websocket import WebSocket
from tests.asgi_peer import ASGIPeer, http_scope
from tests.support import TIMEOUT, run

HEAD = (
    b"GET /ws/a%20b?x=1&x=2 HTTP/1.1\r\n"
    b"Host: example.org:8000\r\n"
    b"Cookie: session=abc; theme=dark\r\n"
    b"X-Thing: 1\r\n"
    b"\r\n"
)

APP = object()


def native(**changes: Any) -> WebSocket:
    """A WebSocket on what it asks of a compiled connection."""
    connection: Any = SimpleNamespace(
        head=HEAD,
        client=("192.0.2.7", 50000),
        server=("198.51.100.1", 8000),
        secure=False,
        subprotocols=("chat",),
        root_path="",
        lifespan_state={"db": "pool"},
        id="c1",
        client_state=WebSocketState.CONNECTING,
        **changes,
    )
    return WebSocket._from_connection(connection, APP, {"room": "a b"})


def over_asgi(peer: ASGIPeer | None = None, **changes: Any) -> WebSocket:
    peer = peer or ASGIPeer(connects=False, **changes)
    return WebSocket(peer.scope, peer.receive, peer.send)


def serve(
    handler: Callable[[WebSocket], Coroutine[Any, Any, None]], *events: Message | str | bytes
) -> ASGIPeer:
    """Run a handler on an accepted connection to a peer that sends `events`."""
    peer = ASGIPeer(events)

    async def main() -> None:
        ws = over_asgi(peer)
        await ws.accept()
        peer.sent.clear()
        await handler(ws)

    run(main())
    return peer


# The request


def asgi_twin() -> WebSocket:
    """The same request as that of `native`, through ASGI."""
    return over_asgi(
        path="/ws/a b",
        query_string=b"x=1&x=2",
        headers=[
            (b"host", b"example.org:8000"),
            (b"cookie", b"session=abc; theme=dark"),
            (b"x-thing", b"1"),
        ],
        server=("198.51.100.1", 8000),
        subprotocols=["chat"],
        app=APP,
        path_params={"room": "a b"},
        state={"db": "pool"},
    )


@pytest.mark.parametrize("make", [native, asgi_twin])
def test_what_the_request_said(make: Callable[[], WebSocket]) -> None:
    ws = make()
    assert ws.url == "ws://example.org:8000/ws/a b?x=1&x=2"
    assert isinstance(ws.url, URL)
    assert ws.url.path == "/ws/a b"
    assert ws.headers["X-THING"] == "1"
    assert ws.query_params.getlist("x") == ["1", "2"]
    assert ws.path_params == {"room": "a b"}
    assert ws.cookies == {"session": "abc", "theme": "dark"}
    assert ws.client == ("192.0.2.7", 50000)
    assert ws.client is not None
    assert (ws.client.host, ws.client.port) == ("192.0.2.7", 50000)
    assert ws.subprotocols == ("chat",)
    assert ws.app is APP
    assert ws.state.db == "pool"
    assert ws.id


@pytest.mark.parametrize("make", [native, asgi_twin])
def test_urls_of_the_application_and_of_its_routes(make: Callable[[], WebSocket]) -> None:
    ws = make()
    assert ws.base_url == "ws://example.org:8000/"
    app = FastWS()
    app.get("/items/{n}", name="item")(lambda n: n)
    ws.scope["app"] = app
    assert ws.url_for("item", n=5) == "http://example.org:8000/items/5"
    with pytest.raises(NoMatchFound):
        ws.url_for("item")


def test_the_applications_root_path_is_part_of_the_url() -> None:
    ws = native()
    ws._app = FastWS(root_path="/api")
    assert ws.url.path == "/api/ws/a b"
    assert ws.base_url == "ws://example.org:8000/api/"
    assert ws.scope["raw_path"] == b"/api/ws/a%20b"


def test_the_scope_of_a_compiled_connection_is_that_of_asgi_3() -> None:
    ws = native()
    assert ws.scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/ws/a b",
        "raw_path": b"/ws/a%20b",
        "query_string": b"x=1&x=2",
        "root_path": "",
        "headers": [
            (b"host", b"example.org:8000"),
            (b"cookie", b"session=abc; theme=dark"),
            (b"x-thing", b"1"),
        ],
        "client": ("192.0.2.7", 50000),
        "server": ("198.51.100.1", 8000),
        "subprotocols": ["chat"],
        "state": {"db": "pool"},
        "extensions": {"websocket.http.response": {}},
        "app": APP,
        "path_params": {"room": "a b"},
    }


def test_a_secure_connection_behind_a_prefix() -> None:
    connection: Any = SimpleNamespace(
        head=HEAD,
        client=None,
        server=None,
        secure=True,
        subprotocols=(),
        root_path="/api",
        lifespan_state=None,
        id="c1",
    )
    ws = WebSocket._from_connection(connection, APP, {})
    assert ws.url == "wss://example.org:8000/api/ws/a b?x=1&x=2"
    assert ws.client is None
    assert ws.path_params == {}
    assert len(ws.state) == 0


@pytest.mark.parametrize("make", [native, asgi_twin])
def test_everything_is_built_once_and_shared_with_the_scope(make: Callable[[], WebSocket]) -> None:
    ws = make()
    ws.state.user = "ann"
    ws.path_params["more"] = 1
    for name in ("scope", "headers", "url", "query_params", "cookies", "state", "path_params"):
        assert getattr(ws, name) is getattr(ws, name), name
    assert ws.scope["state"] == {"db": "pool", "user": "ann"}
    assert ws.scope["path_params"] == {"room": "a b", "more": 1}
    ws.state.later = 2
    assert ws.scope["state"]["later"] == 2


def test_one_connections_state_is_not_anothers() -> None:
    shared = {"db": "pool"}
    connection: Any = SimpleNamespace(lifespan_state=shared)
    first = WebSocket._from_connection(connection, APP, {})
    second = WebSocket._from_connection(connection, APP, {})
    first.state.user = "ann"
    assert not hasattr(second.state, "user")
    assert shared == {"db": "pool"}


def test_nothing_is_read_of_a_request_that_nobody_asks_about() -> None:
    connection: Any = SimpleNamespace(client_state=WebSocketState.CONNECTED)
    ws = WebSocket._from_connection(connection, APP, {})
    assert ws.client_state is WebSocketState.CONNECTED
    assert ws.app is APP
    assert sys.getsizeof(ws) <= 128


def test_a_scope_of_another_type_is_refused() -> None:
    peer = ASGIPeer()
    with pytest.raises(ValueError, match="needs 'websocket'"):
        WebSocket(http_scope(), peer.receive, peer.send)


# Identity


def test_a_websocket_is_equal_only_to_itself() -> None:
    one, other = over_asgi(), over_asgi()
    connections = [one, other]
    connections.remove(other)
    assert connections == [one]
    assert {one, other, one} == {other, one}
    assert one != other
    assert repr(one).startswith(f"<WebSocket {one.id} CONNECTING")


@pytest.mark.parametrize("make", [native, over_asgi])
def test_a_websocket_takes_attributes_and_weak_references(make: Callable[[], Any]) -> None:
    ws = make()
    ws.user = "ann"
    assert ws.user == "ann"
    assert weakref.ref(ws)() is ws


# The verbs


def test_a_conversation_and_its_states() -> None:
    async def handler(ws: WebSocket) -> None:
        assert int(ws.client_state) == 1
        assert ws.client_state == ws.application_state == WebSocketState.CONNECTED
        await ws.send_text(f"Echo: {await ws.receive_text()}")
        await ws.send_bytes(await ws.receive_bytes(timeout=TIMEOUT))
        await ws.send_json(await ws.receive_json("text"), mode="binary")
        await ws.send({"type": "websocket.send", "text": "event"})
        assert (await ws.receive())["text"] == "end"
        await ws.close(code=4000, reason="done")
        assert int(ws.client_state) == 3
        assert (ws.close_code, ws.close_reason) == (4000, "done")
        with pytest.raises(WebSocketClosed):
            await ws.send_text("x")

    sent = serve(handler, "hi", b"\x00", '{"a": 1}', "end").sent
    assert [message.get("text", message.get("bytes")) for message in sent[:-1]] == [
        "Echo: hi",
        b"\x00",
        b'{"a":1}',
        "event",
    ]
    assert sent[-1] == {"type": "websocket.close", "code": 4000, "reason": "done"}


def test_accepting_says_which_subprotocol() -> None:
    async def main() -> None:
        ws = over_asgi(ASGIPeer(subprotocols=["chat"]))
        assert ws.subprotocol is None
        await ws.accept(subprotocol="chat", headers=[("x-one", "1")])
        assert ws.subprotocol == "chat"

    run(main())


def test_pings_belong_to_the_asgi_server() -> None:
    async def handler(ws: WebSocket) -> None:
        with pytest.raises(RuntimeError, match="an ASGI server sends its pings itself"):
            await ws.ping()

    serve(handler)


@pytest.mark.parametrize(
    "deny",
    [
        lambda ws: ws.send_denial_response(409, {"x-one": "1"}, '{"a":1}'),
        lambda ws: ws.send_denial_response(JSONResponse({"a": 1}, 409, {"x-one": "1"})),
    ],
)
def test_refusing_with_a_response_in_parts_or_whole(
    deny: Callable[[WebSocket], Awaitable[None]],
) -> None:
    peer = ASGIPeer()

    async def main() -> None:
        await deny(over_asgi(peer))

    run(main())
    assert peer.sent[0]["status"] == 409
    assert (b"x-one", b"1") in peer.sent[0]["headers"]
    assert (b"content-length", b"7") in peer.sent[0]["headers"]
    assert peer.sent[1]["body"] == b'{"a":1}'


# Iterating


@pytest.mark.parametrize("code", [1000, 1001, 1006])
def test_iterating_gives_messages_as_they_come_and_ends_with_the_connection(code: int) -> None:
    seen: list[object] = []

    async def handler(ws: WebSocket) -> None:
        seen.extend([message async for message in ws])
        assert ws.close_code == code
        # Nor does it raise on a connection that is over.
        assert [message async for message in ws] == []

    serve(handler, "a", b"b", "", b"", {"type": "websocket.disconnect", "code": code})
    assert seen == ["a", b"b", "", b""]


def test_iterating_over_messages_of_one_kind() -> None:
    async def handler(ws: WebSocket) -> None:
        async for text in ws.iter_text():
            assert text == "a"
            break
        async for data in ws.iter_bytes():
            assert data == b"b"
            break
        async for obj in ws.iter_json():
            assert obj == [1]
            break
        async for obj in ws.iter_json("binary"):
            assert obj == [2]
            break
        for rest in (ws.iter_text(), ws.iter_bytes(), ws.iter_json(), ws):
            assert [message async for message in rest] == []

    serve(handler, "a", b"b", "[1]", b"[2]", {"type": "websocket.disconnect", "code": 1000})


def test_iterating_ends_after_its_own_close() -> None:
    async def handler(ws: WebSocket) -> None:
        async for _ in ws:
            await ws.close()

    assert serve(handler, "a", "b").kinds == ["websocket.close"]


async def raise_in_loop(ws: WebSocket, error: Exception) -> None:
    async for _ in ws:
        raise error


def test_iterating_lets_every_other_error_through() -> None:
    async def handler(ws: WebSocket) -> None:
        with pytest.raises(WebSocketTypeError):
            async for _ in ws.iter_text():
                pass
        # Also a disconnect, if it is not this connection's.
        with pytest.raises(WebSocketDisconnect, match="4000"):
            await raise_in_loop(ws, WebSocketDisconnect(4000))

    serve(handler, b"a", "b")


def test_iterating_before_accept_says_to_accept_first() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="accept"):
            async for _ in over_asgi():
                pass

    run(main())
