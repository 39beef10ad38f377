"""The opening handshake of a client, without sockets."""

from __future__ import annotations

import base64

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection
from wsproto.events import Request as WsprotoRequest

from fastws.client_handshake import check_response, client_request, new_key, parse_uri
from fastws.exceptions import HandshakeError
from fastws.handshake import accept_response, check_upgrade
from fastws.http_head import parse_request, parse_response
from tests.heads import ACCEPT, KEY, read

# -------------------------------------------------------------------------------- parse_uri


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("ws://host", (False, "host", 80, "/")),
        ("WSS://HOST:8443/a/b?c=d", (True, "host", 8443, "/a/b?c=d")),
        ("wss://host?x", (True, "host", 443, "/?x")),
        ("ws://host/?", (False, "host", 80, "/?")),
        ("ws://[::1]:8000/", (False, "::1", 8000, "/")),
        ("ws://bücher.example/é?ü=%20", (False, "xn--bcher-kva.example", 80, "/%C3%A9?%C3%BC=%20")),
    ],
)
def test_a_uri_is_read(uri: str, expected: object) -> None:
    assert parse_uri(uri) == expected


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("http://host/", "ws://"),
        ("host/", "ws://"),
        ("ws:/host", "no host"),
        ("ws://", "no host"),
        ("ws://:80/", "no host"),
        ("ws://host/#f", "fragment"),
        ("ws://host/#", "fragment"),
        ("ws://u:p@host/", "credentials"),
        ("ws://host:0/", "port"),
        ("ws://host:65536/", "port"),
        ("ws://host:x/", "port"),
        ("ws://host/a b", "spaces"),
        ("ws://host/\r\nX: y", "control"),
        ("ws://ho\tst/", "control"),
        ("ws://a^b/", "bad host"),
        ("ws://é" + "a" * 70 + "/", "bad host"),
        ("ws://[::1/", "bad host"),
    ],
)
def test_a_uri_that_is_none_is_the_callers_mistake(uri: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_uri(uri)


# --------------------------------------------------------------------------- client_request


def test_a_key_is_16_random_bytes() -> None:
    key = new_key()
    assert len(base64.b64decode(key, validate=True)) == 16
    assert key != new_key()


def test_the_clients_request_is_complete() -> None:
    assert client_request(
        "ws://host:8000/chat?x=y",
        key=KEY,
        headers={"Authorization": "Bearer t"},
        subprotocols=["a", "b"],
        extensions="permessage-deflate",
        origin="https://o",
    ) == (
        b"GET /chat?x=y HTTP/1.1\r\n"
        b"Host: host:8000\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Key: " + KEY + b"\r\n"
        b"Sec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: a, b\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
        b"Origin: https://o\r\n"
        b"Authorization: Bearer t\r\n"
        b"\r\n"
    )
    assert b"\r\nHost: [::1]\r\n" in client_request("wss://[::1]:443/", key=KEY)


def test_what_the_client_sends_is_what_the_server_accepts() -> None:
    request = client_request(
        "wss://host/é", key=(key := new_key()), subprotocols=["a"], origin="https://host"
    )
    upgrade = check_upgrade(parse_request(read(request)[0]), origins="same")
    answer = accept_response(upgrade, subprotocol="a", extensions="x; y=1")
    response = parse_response(read(answer)[0])
    assert upgrade.request.path == "/é"
    assert check_response(response, key=key, subprotocols=["a"], extensions_offered=True) == (
        "a",
        [("x", [("y", "1")])],
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"key": b"short"},
        {"subprotocols": ["a", "a"]},
        {"subprotocols": ["a b"]},
        {"subprotocols": [""]},
        {"subprotocols": ["é"]},
        {"origin": "a\r\nb"},
        {"extensions": "a\r\nb"},
        {"headers": {"Host": "x"}},
        {"headers": {"sec-websocket-key": "x"}},
        {"headers": {"Content-Length": "1"}},
    ],
)
def test_a_request_that_would_break_the_handshake_is_the_callers_mistake(
    arguments: dict[str, object],
) -> None:
    with pytest.raises(ValueError):
        client_request("ws://h/", **{"key": KEY, **arguments})  # type: ignore[arg-type]


# --------------------------------------------------------------------------- check_response


def answer(
    *lines: str, without: str = "", start: str = "HTTP/1.1 101 Switching Protocols"
) -> bytes:
    fields = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": ACCEPT.decode(),
    }
    kept = [f"{name}: {value}" for name, value in fields.items() if name != without]
    return "\r\n".join([start, *kept, *lines, "", ""]).encode("latin-1")


def judged(data: bytes, *, extensions_offered: bool = True) -> object:
    return check_response(
        parse_response(data),
        key=KEY,
        subprotocols=["chat"],
        extensions_offered=extensions_offered,
    )


def test_a_good_answer_is_taken() -> None:
    assert judged(answer()) == (None, [])
    assert judged(answer("Sec-WebSocket-Protocol: chat")) == ("chat", [])
    assert judged(answer("Upgrade: WebSocket", without="Upgrade")) == (None, [])
    assert judged(answer("Connection: x, upgrade", without="Connection")) == (None, [])


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (answer(start="HTTP/1.0 101 x"), "HTTP/1.1"),
        (answer(without="Upgrade"), "Upgrade: websocket"),
        (answer("Upgrade: h2c", without="Upgrade"), "Upgrade: websocket"),
        (answer(without="Connection"), "Connection: Upgrade"),
        (answer("Connection: notupgrade", without="Connection"), "Connection: Upgrade"),
        (answer(without="Sec-WebSocket-Accept"), "answer the key"),
        (answer("Sec-WebSocket-Accept: x", without="Sec-WebSocket-Accept"), "answer the key"),
        (answer(f"Sec-WebSocket-Accept: {ACCEPT.decode()}"), "answer the key"),
        (answer("Sec-WebSocket-Protocol: other"), "not offered"),
        (answer("Sec-WebSocket-Protocol: "), "not offered"),
        (answer("Sec-WebSocket-Protocol: \xff"), "not offered"),
        (answer("Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: chat"), "not offered"),
        (answer("Sec-WebSocket-Extensions: ;"), "extension"),
    ],
)
def test_a_bad_answer_fails_the_connection(data: bytes, complaint: str) -> None:
    with pytest.raises(HandshakeError, match=complaint) as caught:
        judged(data)
    assert caught.value.status == 502


def test_an_extension_that_was_not_offered_fails_the_connection() -> None:
    with pytest.raises(HandshakeError, match="none was offered"):
        judged(answer("Sec-WebSocket-Extensions: x"), extensions_offered=False)


@pytest.mark.parametrize("start", ["HTTP/1.1 403 Forbidden", "HTTP/1.1 302", "HTTP/1.1 500 x"])
def test_a_refusal_keeps_its_status(start: str) -> None:
    with pytest.raises(HandshakeError) as caught:
        judged(answer(start=start))
    assert caught.value.status == int(start.split()[1])


def test_wsproto_accepts_our_request_and_we_accept_its_answer() -> None:
    server = WSConnection(ConnectionType.SERVER)
    key = new_key()
    server.receive_data(client_request("ws://host/x", key=key, subprotocols=["a"]))
    (event,) = server.events()
    assert isinstance(event, WsprotoRequest)
    data = server.send(AcceptConnection(subprotocol="a"))
    response = parse_response(read(data)[0])
    assert check_response(response, key=key, subprotocols=["a"], extensions_offered=False) == (
        "a",
        [],
    )
