"""ServerProtocol and ClientProtocol: the opening handshake, alone, together, and with others'."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import websockets.client
import websockets.server
import wsproto
import wsproto.events
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Frame as WebsocketsFrame
from websockets.http11 import Request as WebsocketsRequest
from websockets.http11 import Response as WebsocketsResponse
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri
from wsproto.extensions import PerMessageDeflate

from fastws.client_handshake import MAX_REFUSAL, client_request
from fastws.codes import WebSocketState
from fastws.events import Close, Ping
from fastws.handshake import Upgrade, accept_key
from fastws.limits import DeflateOptions, Limits
from fastws.protocol import (
    MAX_EARLY,
    Accepted,
    ClientProtocol,
    Protocol,
    Refused,
    ServerProtocol,
)
from tests.wire import CLOSE, TEXT, bytewise, close_payload, frame, read_frames

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
CONNECTING, CONNECTED, _, DISCONNECTED = WebSocketState
EOF = b""
URI = "ws://example.org/chat?room=1"


def request(*headers: str, uri: str = URI, **options: Sequence[str]) -> bytes:
    """A client's request, with more headers."""
    pairs = [(name, value) for name, _, value in (header.partition(": ") for header in headers)]
    return client_request(uri, key=KEY, headers=pairs, **options)  # type: ignore[arg-type]


def response(*headers: str, key: bytes = KEY) -> bytes:
    """A server's 101, with more headers."""
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_key(key).decode()}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def head_of(data: bytes) -> list[str]:
    """The lines of the one HTTP head in ``data``."""
    head, end, _ = data.partition(b"\r\n\r\n")
    assert end
    return head.decode().split("\r\n")


def asked(protocol: ServerProtocol, data: bytes) -> Upgrade:
    """Let a request come in; what it asks for."""
    protocol.receive_data(data)
    (upgrade,) = protocol.events_received()
    assert isinstance(upgrade, Upgrade)
    return upgrade


def twice(server: ServerProtocol) -> list[Callable[[], None]]:
    """What a server does once."""
    return [lambda: server.accept(), lambda: server.reject(403)]


# -------------------------------------------------------------------------------- servers


def test_a_server_accepts() -> None:
    server = ServerProtocol()
    assert server.state is CONNECTING
    upgrade = asked(server, request(subprotocols=["chat", "echo"]))
    assert server.upgrade is upgrade
    assert upgrade.request.path == "/chat"
    assert upgrade.subprotocols == ("chat", "echo")
    assert server.state is CONNECTING
    assert server.data_to_send() == []
    server.accept("echo", {"X-Server": "test"})
    assert server.state is CONNECTED
    assert server.subprotocol == "echo"
    (answer,) = server.data_to_send()
    assert head_of(answer) == [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "Sec-WebSocket-Protocol: echo",
        "X-Server: test",
    ]
    assert server.handshake_error is None
    server.send_text("hi")
    assert server.data_to_send() == [frame(TEXT, "hi", key=None)]


def test_a13_frames_in_the_segment_of_the_handshake() -> None:
    server = ServerProtocol()
    asked(server, request() + frame(TEXT, "early") + frame(TEXT, "cut")[:4])
    server.receive_data(frame(TEXT, "cut")[4:])
    assert server.events_received() == []
    server.accept()
    assert server.events_received() == ["early", "cut"]
    server.send_text("answer")
    sent = server.data_to_send()
    assert sent[0].startswith(b"HTTP/1.1 101 ")
    assert sent[1:] == [frame(TEXT, "answer", key=None)]


def test_a13_a_close_in_the_segment_of_the_handshake() -> None:
    server = ServerProtocol()
    asked(server, request() + frame(TEXT, "early") + frame(CLOSE, close_payload(1000)))
    server.accept()
    assert server.events_received() == ["early", Close(1000, "")]
    server.send_text("answer")
    answers = server.data_to_send()
    assert answers[1:] == [
        frame(TEXT, "answer", key=None),
        frame(CLOSE, close_payload(1000), key=None),
        EOF,
    ]


def test_a18_a_request_split_at_every_byte() -> None:
    data = request(subprotocols=["chat"]) + frame(TEXT, "early")
    whole = asked(ServerProtocol(), data)
    for at in range(len(data) + 1):
        server = ServerProtocol()
        for piece in (data[:at], data[at:]):
            server.receive_data(piece)
        assert server.events_received() == [whole]
        server.accept("chat")
        assert server.events_received() == ["early"]
    server = ServerProtocol()
    for piece in bytewise(data):
        server.receive_data(piece)
    assert server.events_received() == [whole]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (request().replace(b"GET", b"POST"), 405),
        (request().replace(b"Version: 13", b"Version: 8"), 426),
        (request().replace(b"Upgrade: websocket\r\n", b""), 426),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (request().replace(KEY, b"short"), 400),
        (b"GET /" + b"x" * 9000, 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 9000, 431),
    ],
)
def test_a8_a_bad_request_is_answered_by_itself(data: bytes, status: int) -> None:
    for pieces in ([data + frame(TEXT, "never")], [*bytewise(data), frame(TEXT, "never")]):
        server = ServerProtocol()
        for piece in pieces:
            server.receive_data(piece)
        assert server.events_received() == []
        assert server.handshake_error is not None
        assert server.handshake_error.status == status
        assert server.upgrade is None
        assert server.state is DISCONNECTED
        assert server.close_expected
        assert server.close_code == 1006
        answer, end = server.data_to_send()
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert server.handshake_error.message.encode() in answer
        assert end == EOF
        # A12: what follows is neither a request nor a frame.
        server.receive_data(request() + frame(TEXT, "never"))
        server.receive_eof()
        assert server.events_received() == []
        assert server.data_to_send() == []


def test_a15_origins() -> None:
    for origin, allowed in [("https://example.org", True), ("https://example.org.evil", False)]:
        server = ServerProtocol(origins=["https://example.org"])
        server.receive_data(request(uri=URI, origin=origin))
        assert (server.upgrade is not None) == allowed
        if not allowed:
            assert server.data_to_send()[0].startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("origins", ["nonsense", ["https://example.org/"], ["same", "*"]])
def test_an_origin_that_is_none_is_refused_at_once(origins: Sequence[str] | str) -> None:
    with pytest.raises(ValueError, match="is not scheme://host"):
        ServerProtocol(origins=origins)
    for right in (None, "any", "same", ["null", "same", "https://example.org:8443"]):
        ServerProtocol(origins=right)


def test_limits_of_the_head_are_those_given() -> None:
    server = ServerProtocol(limits=Limits(max_header_count=3))
    server.receive_data(request())
    assert server.handshake_error is not None
    assert server.handshake_error.status == 431
    server = ServerProtocol(limits=Limits(max_header_count=5))
    assert asked(server, request()) is server.upgrade


def test_limits_of_messages_are_those_given() -> None:
    server = ServerProtocol(limits=Limits(max_size=3))
    asked(server, request() + frame(TEXT, "long"))
    server.accept()
    assert server.close_code == 1009


@pytest.mark.parametrize(("size", "kept"), [(MAX_EARLY, True), (MAX_EARLY + 1, False)])
@pytest.mark.parametrize("with_request", [True, False])
def test_what_comes_before_the_answer_is_limited(size: int, kept: bool, with_request: bool) -> None:
    server = ServerProtocol(limits=Limits(max_size=None))
    early = frame(TEXT, "x" * (size - 14))[:size].ljust(size, b"\0")
    server.receive_data(request() + (early if with_request else b""))
    if not with_request:
        server.receive_data(early[:-1])
        server.receive_data(early[-1:])
    assert (server.state is CONNECTING) == kept
    if not kept:
        assert server.handshake_error is not None
        assert server.handshake_error.status == 400
        assert server.data_to_send()[-1] == EOF
        with pytest.raises(RuntimeError, match="no request to accept: the connection is DISC"):
            server.accept()


@pytest.mark.parametrize("body", [b"", b"not here\n"])
def test_a_server_rejects(body: bytes) -> None:
    server = ServerProtocol()
    asked(server, request() + frame(TEXT, "never"))
    server.reject(404, [("X-Why", "test")], body)
    assert server.state is DISCONNECTED
    answer, end = server.data_to_send()
    assert head_of(answer)[0] == "HTTP/1.1 404 Not Found"
    assert "X-Why: test" in head_of(answer)
    assert "Connection: close" in head_of(answer)
    assert answer.endswith(b"\r\n\r\n" + body)
    assert end == EOF
    assert server.events_received() == []
    for again in twice(server):
        with pytest.raises(RuntimeError, match="the connection is DISCONNECTED"):
            again()
    server.close()
    assert server.data_to_send() == []


def test_a_server_that_loses_patience() -> None:
    server = ServerProtocol()
    server.receive_data(request()[:-10])
    server.reject(408)
    assert server.data_to_send()[0].startswith(b"HTTP/1.1 408 ")


def test_a_server_that_fails_before_the_handshake() -> None:
    server = ServerProtocol()
    asked(server, request())
    with pytest.raises(RuntimeError, match="a server calls reject"):
        server.close()
    server.fail(1011)
    assert server.data_to_send() == [EOF]
    assert server.state is DISCONNECTED


def test_a16_a20_an_answer_that_must_not_be_sent() -> None:
    server = ServerProtocol()
    with pytest.raises(RuntimeError, match="no request to accept: the connection is CONNECTING"):
        server.accept()
    asked(server, request(subprotocols=["chat"]))
    with pytest.raises(ValueError, match="was not offered"):
        server.accept("echo")
    with pytest.raises(ValueError):
        server.accept(headers={"X-A": "a\r\nX-B: b"})
    with pytest.raises(ValueError):
        server.reject(101)
    with pytest.raises(ValueError):
        server.reject(403, {"X-A": "\0"})
    with pytest.raises(TypeError):
        server.accept(headers=[("X-A", 5)])  # type: ignore[list-item]
    assert server.data_to_send() == []
    assert server.state is CONNECTING
    server.accept()
    assert server.state is CONNECTED
    assert server.subprotocol is None
    assert b"Protocol:" not in server.data_to_send()[0].replace(b"Switching Protocols", b"")
    for again in twice(server):
        with pytest.raises(RuntimeError, match="the connection is CONNECTED"):
            again()


@pytest.mark.parametrize("complete", [True, False])
def test_the_client_leaves_before_the_answer(complete: bool) -> None:
    server = ServerProtocol()
    server.receive_data(request() if complete else request()[:-1])
    server.receive_eof()
    assert server.state is DISCONNECTED
    assert server.close_code == 1006
    assert len(server.events_received()) == complete
    assert server.data_to_send() == [EOF]
    with pytest.raises(RuntimeError):
        server.accept()


# -------------------------------------------------------------------------------- clients


def connecting(**options: object) -> tuple[ClientProtocol, bytes]:
    """A client that has sent its request, and the key in it."""
    client = ClientProtocol(URI, **options)  # type: ignore[arg-type]
    client.connect()
    (sent,) = client.data_to_send()
    (key,) = [
        line.partition(": ")[2] for line in head_of(sent) if line.startswith("Sec-WebSocket-Key")
    ]
    return client, key.encode()


def refused(client: ClientProtocol) -> Refused:
    (event,) = client.events_received()
    assert isinstance(event, Refused)
    assert client.handshake_error is event.error
    assert client.state is DISCONNECTED
    assert client.close_code == 1006
    assert client.data_to_send() == [EOF]
    return event


def test_a_client_connects() -> None:
    client = ClientProtocol(
        URI, subprotocols=["a", "b"], headers={"Authorization": "x"}, origin="https://example.org"
    )
    assert client.state is CONNECTING
    assert (client.uri.host, client.uri.port, client.uri.secure) == ("example.org", 80, False)
    assert client.data_to_send() == []
    client.connect()
    (sent,) = client.data_to_send()
    head = head_of(sent)
    assert head[0] == "GET /chat?room=1 HTTP/1.1"
    for line in (
        "Host: example.org",
        "Sec-WebSocket-Protocol: a, b",
        "Authorization: x",
        "Origin: https://example.org",
    ):
        assert line in head
    with pytest.raises(RuntimeError, match="once a connection"):
        client.connect()


def test_every_client_has_its_own_key() -> None:
    assert len({connecting()[1] for _ in range(10)}) == 10


def test_a_client_is_accepted() -> None:
    client, key = connecting(subprotocols=["a", "b"])
    client.receive_data(response("Sec-WebSocket-Protocol: b", "X-A: 1", key=key))
    (accepted,) = client.events_received()
    assert isinstance(accepted, Accepted)
    assert accepted.subprotocol == client.subprotocol == "b"
    assert accepted.response.get_all(b"x-a") == [b"1"]
    assert client.state is CONNECTED
    assert client.handshake_error is None
    client.send_text("hi")
    (read,) = read_frames(b"".join(client.data_to_send()))
    assert read.payload == b"hi"
    assert read.key is not None


def test_a18_a_response_split_at_every_byte() -> None:
    for with_interim in (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"):
        client, key = connecting()
        data = with_interim + response(key=key) + frame(TEXT, "welcome", key=None)
        client.receive_data(data)
        (accepted, welcome) = client.events_received()
        assert isinstance(accepted, Accepted)
        assert welcome == "welcome"
        for at in range(len(data) + 1):
            client, key = connecting()
            data = with_interim + response(key=key) + frame(TEXT, "welcome", key=None)
            client.receive_data(data[:at])
            client.receive_data(data[at:])
            (accepted, welcome) = client.events_received()
            assert isinstance(accepted, Accepted)
            assert welcome == "welcome"
    client, key = connecting()
    for piece in bytewise(response(key=key) + frame(TEXT, "welcome", key=None)):
        client.receive_data(piece)
    assert client.events_received()[1:] == ["welcome"]


REFUSAL_HEAD = b"HTTP/1.1 403 Forbidden\r\nX-A: 1\r\n"


@pytest.mark.parametrize(
    ("rest", "body", "needs_eof"),
    [
        (b"Content-Length: 6\r\n\r\nno way", b"no way", False),
        (b"Content-Length: 6\r\nUpgrade: websocket\r\n\r\nno way", b"no way", False),
        (b"Content-Length: 0\r\n\r\n", b"", False),
        (b"Transfer-Encoding: chunked\r\n\r\n2\r\nno\r\n4\r\n way\r\n0\r\n\r\n", b"no way", False),
        (b"\r\nno way", b"no way", True),
        (b"Content-Length: 100\r\n\r\nno way", b"no way", True),
        (b"Transfer-Encoding: chunked\r\n\r\n6\r\nno way\r\nXYZ", b"no way", False),
    ],
    ids=["length", "upgrade", "empty", "chunked", "until EOF", "cut short", "broken"],
)
def test_a_client_is_refused(rest: bytes, body: bytes, needs_eof: bool) -> None:
    data = REFUSAL_HEAD + rest
    for at in range(len(data) + 1):
        client, _ = connecting()
        client.receive_data(data[:at])
        client.receive_data(data[at:])
        if needs_eof:
            assert client.events_received() == []
            assert client.state is CONNECTING
            client.receive_eof()
        event = refused(client)
        assert event.error.status == 403
        assert "403" in event.error.message
        assert event.response is not None
        assert event.response.status == 403
        assert event.response.get_all(b"x-a") == [b"1"]
        assert event.body == body
        if not needs_eof:
            client.receive_data(b"more")
            client.receive_eof()
        assert client.events_received() == []
        assert client.data_to_send() == []


def test_the_body_of_a_refusal_is_limited() -> None:
    client, _ = connecting()
    client.receive_data(b"HTTP/1.1 500 Oops\r\n\r\n")
    for _ in range(MAX_REFUSAL // 1024 - 1):
        client.receive_data(b"x" * 1024)
        assert client.state is CONNECTING
    client.receive_data(b"x" * 100_000)
    assert refused(client).body == b"x" * MAX_REFUSAL


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (response(key=b"x" * 22 + b"=="), 502),
        (response("Sec-WebSocket-Extensions: permessage-deflate"), 502),
        (response("Sec-WebSocket-Protocol: other"), 502),
        (response().replace(b"Upgrade: websocket\r\n", b""), 502),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", 400),
        (b"HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\n\n", 400),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000, 431),
    ],
)
def test_an_answer_that_breaks_a_rule(data: bytes, status: int) -> None:
    client, key = connecting()
    client.receive_data(data.replace(accept_key(KEY), accept_key(key)) + b"\x81\x02hi")
    event = refused(client)
    assert event.error.status == status
    assert event.body == b""
    assert (event.response is not None) == data.startswith(b"HTTP/1.1 101 Switching Protocols\r")


def test_a_deflate_answer_that_breaks_a_rule() -> None:
    client, key = connecting(deflate=DeflateOptions())
    client.receive_data(response("Sec-WebSocket-Extensions: permessage-deflate; x=y", key=key))
    event = refused(client)
    assert event.error.status == 502
    assert event.response is not None


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 101 Swit"])
def test_the_server_leaves_before_the_answer(data: bytes) -> None:
    client, _ = connecting()
    client.receive_data(data)
    client.receive_eof()
    event = refused(client)
    assert event.error.status == 502
    assert event.response is None


def test_a_client_that_loses_patience() -> None:
    client, _ = connecting()
    with pytest.raises(RuntimeError, match=r"a client fail\(\)"):
        client.close()
    client.fail(1000)
    assert client.state is DISCONNECTED
    assert client.data_to_send() == [EOF]
    assert client.events_received() == []


@pytest.mark.parametrize(
    "options",
    [
        {"uri": "http://example.org/"},
        {"uri": "ws://example.org/#fragment"},
        {"headers": {"Host": "other"}},
        {"headers": {"X-A": "a\r\nb"}},
        {"subprotocols": ["a", "a"]},
        {"subprotocols": ["not a token"]},
        {"origin": "a\r\nb"},
    ],
)
def test_a_request_that_must_not_be_sent(options: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        ClientProtocol(**{"uri": URI, **options})  # type: ignore[arg-type]


# ------------------------------------------------------------------------------- together


def carry(source: Protocol, target: Protocol) -> bool:
    """Move what one end has to send to the other; whether there was anything."""
    pieces = source.data_to_send()
    for piece in pieces:
        if piece:
            target.receive_data(piece)
        else:
            target.receive_eof()
    return bool(pieces)


DEFLATE = [
    None,
    DeflateOptions(threshold=0),
    DeflateOptions(mode="shared", threshold=0, window_bits=9),
    DeflateOptions(threshold=0, window_bits=15, mem_level=9, level=9),
]


@pytest.mark.parametrize("server_deflate", DEFLATE)
@pytest.mark.parametrize("client_deflate", DEFLATE)
def test_a_whole_connection(
    server_deflate: DeflateOptions | None, client_deflate: DeflateOptions | None
) -> None:
    server = ServerProtocol(deflate=server_deflate)
    client = ClientProtocol(URI, deflate=client_deflate, subprotocols=["chat"])
    client.connect()
    carry(client, server)
    (upgrade,) = server.events_received()
    assert isinstance(upgrade, Upgrade)
    server.accept("chat")
    carry(server, client)
    (accepted,) = client.events_received()
    assert isinstance(accepted, Accepted)
    both = server_deflate is not None and client_deflate is not None
    assert bool(accepted.response.get_all(b"sec-websocket-extensions")) == both

    messages: list[str | bytes] = [
        "",
        "a",
        "héllo " * 100,
        b"",
        b"\xff" * 1000,
        "again " * 1000,
        "again " * 1000,
    ]
    for here, there in ((client, server), (server, client)):
        for message in messages:
            if isinstance(message, str):
                here.send_text(message)
            else:
                here.send_bytes(message)
        here.send_ping(b"?")
        carry(here, there)
        assert there.events_received() == [*messages, Ping(b"?")]
        carry(there, here)
        assert len(here.events_received()) == 1

    server.close(1001, "bye")
    carry(server, client)
    assert client.events_received() == [Close(1001, "bye")]
    carry(client, server)
    assert server.events_received() == [Close(1001, "")]
    carry(server, client)
    carry(client, server)
    assert server.state is client.state is DISCONNECTED
    assert server.close_code == client.close_code == 1001
    assert not carry(server, client)
    assert not carry(client, server)


def test_compression_is_really_used() -> None:
    server = ServerProtocol(deflate=DeflateOptions(threshold=10))
    client = ClientProtocol(URI, deflate=DeflateOptions(threshold=20))
    client.connect()
    carry(client, server)
    server.events_received()
    server.accept()
    carry(server, client)
    client.events_received()
    for protocol, threshold in ((server, 10), (client, 20)):
        for size in (threshold - 1, threshold):
            protocol.send_text("x" * size)
        data = b"".join(protocol.data_to_send())
        assert [read.rsv for read in read_frames(data)] == [0, 4]


# --------------------------------------------------------------------------- websockets


MESSAGES = ["", "héllo", "long " * 1000, "long " * 1000, "x" * 70_000]


@pytest.mark.parametrize("deflate", [None, DeflateOptions(threshold=0)])
def test_our_server_and_the_client_of_websockets(deflate: DeflateOptions | None) -> None:
    ours = ServerProtocol(deflate=deflate)
    theirs = websockets.client.ClientProtocol(
        parse_uri(URI),
        subprotocols=[Subprotocol("chat")],
        extensions=[ClientPerMessageDeflateFactory()],
        max_size=None,
    )
    theirs.send_request(theirs.connect())
    asked(ours, b"".join(theirs.data_to_send()))
    ours.accept("chat")
    for piece in ours.data_to_send():
        theirs.receive_data(piece)
    (answer,) = theirs.events_received()
    assert isinstance(answer, WebsocketsResponse)
    assert theirs.handshake_exc is None
    assert theirs.state is State.OPEN
    assert theirs.subprotocol == "chat"
    assert bool(theirs.extensions) == (deflate is not None)

    for text in MESSAGES:
        theirs.send_text(text.encode())
    for piece in theirs.data_to_send():
        ours.receive_data(piece)
    assert ours.events_received() == MESSAGES
    for text in MESSAGES:
        ours.send_text(text)
    for piece in ours.data_to_send():
        theirs.receive_data(piece)
    frames = theirs.events_received()
    assert [bytes(f.data).decode() for f in frames if isinstance(f, WebsocketsFrame)] == MESSAGES

    theirs.send_close(1000, "done")
    for piece in theirs.data_to_send():
        ours.receive_data(piece)
    assert ours.events_received() == [Close(1000, "done")]
    for piece in ours.data_to_send():
        if piece:
            theirs.receive_data(piece)
        else:
            theirs.receive_eof()
    assert theirs.state.name == "CLOSED"
    assert theirs.close_code == 1000


@pytest.mark.parametrize("deflate", [None, DeflateOptions(threshold=0)])
def test_our_client_and_the_server_of_websockets(deflate: DeflateOptions | None) -> None:
    ours = ClientProtocol(URI, deflate=deflate, subprotocols=["chat"])
    theirs = websockets.server.ServerProtocol(
        subprotocols=[Subprotocol("chat")],
        extensions=[ServerPerMessageDeflateFactory()],
        max_size=None,
    )
    ours.connect()
    for piece in ours.data_to_send():
        theirs.receive_data(piece)
    (asking,) = theirs.events_received()
    assert isinstance(asking, WebsocketsRequest)
    theirs.send_response(theirs.accept(asking))
    assert theirs.handshake_exc is None
    for piece in theirs.data_to_send():
        ours.receive_data(piece)
    (accepted,) = ours.events_received()
    assert isinstance(accepted, Accepted)
    assert accepted.subprotocol == "chat"
    assert bool(theirs.extensions) == (deflate is not None)

    for text in MESSAGES:
        theirs.send_text(text.encode())
        ours.send_text(text)
    for piece in theirs.data_to_send():
        ours.receive_data(piece)
    assert ours.events_received() == MESSAGES
    for piece in ours.data_to_send():
        theirs.receive_data(piece)
    frames = theirs.events_received()
    assert [bytes(f.data).decode() for f in frames if isinstance(f, WebsocketsFrame)] == MESSAGES

    ours.close(4000, "done")
    for piece in ours.data_to_send():
        theirs.receive_data(piece)
    for piece in theirs.data_to_send():
        if piece:
            ours.receive_data(piece)
        else:
            ours.receive_eof()
    assert ours.events_received() == [Close(4000, "done")]
    assert ours.data_to_send() == [EOF]
    theirs.receive_eof()
    assert theirs.close_code == 4000


# -------------------------------------------------------------------------------- wsproto


def wsproto_texts(connection: wsproto.WSConnection) -> list[str]:
    texts, text = [], ""
    for event in connection.events():
        assert isinstance(event, wsproto.events.TextMessage)
        text += event.data
        if event.message_finished:
            texts.append(text)
            text = ""
    return texts


@pytest.mark.parametrize("deflate", [None, DeflateOptions(threshold=0)])
def test_our_server_and_the_client_of_wsproto(deflate: DeflateOptions | None) -> None:
    ours = ServerProtocol(deflate=deflate)
    theirs = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    asked(
        ours,
        theirs.send(
            wsproto.events.Request(
                host="example.org",
                target="/chat",
                subprotocols=["chat"],
                extensions=[PerMessageDeflate()],
            )
        ),
    )
    ours.accept("chat")
    theirs.receive_data(b"".join(ours.data_to_send()))
    (accepted,) = theirs.events()
    assert isinstance(accepted, wsproto.events.AcceptConnection)
    assert accepted.subprotocol == "chat"
    assert bool(accepted.extensions) == (deflate is not None)

    for text in MESSAGES:
        ours.receive_data(theirs.send(wsproto.events.TextMessage(text)))
    assert ours.events_received() == MESSAGES
    for text in MESSAGES:
        ours.send_text(text)
    theirs.receive_data(b"".join(ours.data_to_send()))
    assert wsproto_texts(theirs) == MESSAGES

    ours.receive_data(theirs.send(wsproto.events.CloseConnection(1000, "done")))
    assert ours.events_received() == [Close(1000, "done")]
    answer, end = ours.data_to_send()
    assert end == EOF
    theirs.receive_data(answer)
    (closed,) = theirs.events()
    assert isinstance(closed, wsproto.events.CloseConnection)
    assert closed.code == 1000


@pytest.mark.parametrize("deflate", [None, DeflateOptions(threshold=0)])
def test_our_client_and_the_server_of_wsproto(deflate: DeflateOptions | None) -> None:
    ours = ClientProtocol(URI, deflate=deflate, subprotocols=["chat"])
    theirs = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    ours.connect()
    theirs.receive_data(b"".join(ours.data_to_send()))
    (asking,) = theirs.events()
    assert isinstance(asking, wsproto.events.Request)
    ours.receive_data(
        theirs.send(
            wsproto.events.AcceptConnection(subprotocol="chat", extensions=[PerMessageDeflate()])
        )
    )
    (accepted,) = ours.events_received()
    assert isinstance(accepted, Accepted)
    assert accepted.subprotocol == "chat"

    for text in MESSAGES:
        ours.send_text(text)
    theirs.receive_data(b"".join(ours.data_to_send()))
    assert wsproto_texts(theirs) == MESSAGES
    for text in MESSAGES:
        ours.receive_data(theirs.send(wsproto.events.TextMessage(text)))
    assert ours.events_received() == MESSAGES

    ours.close(4000, "done")
    theirs.receive_data(b"".join(ours.data_to_send()))
    (closed,) = theirs.events()
    assert isinstance(closed, wsproto.events.CloseConnection)
    ours.receive_data(theirs.send(closed.response()))
    ours.receive_eof()
    assert ours.events_received() == [Close(4000, "done")]
    assert ours.data_to_send() == [EOF]
