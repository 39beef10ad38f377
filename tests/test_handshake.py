"""The opening handshake of a server, without sockets.

Tests that begin with a letter and a number show one row of the list of attacks.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidHeaderFormat
from websockets.headers import parse_extension
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection
from wsproto.events import Request as WsprotoRequest

from fastws.exceptions import HandshakeError
from fastws.handshake import (
    accept_key,
    accept_response,
    check_upgrade,
    is_origin_allowed,
    parse_extensions,
    parse_origin,
    wants_upgrade,
)
from fastws.http_head import error_response, parse_request, parse_response
from tests.heads import ACCEPT, HANDSHAKE, KEY, attempt, head, read, refusal, status_of

# ---------------------------------------------------------------------------- wants_upgrade


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (["Upgrade: websocket", "Connection: Upgrade"], True),
        (["Upgrade: WebSocket"], True),
        (["Upgrade: h2c, websocket"], True),
        (["Sec-WebSocket-Key: x"], True),
        (["Sec-WebSocket-Version: 13"], True),
        (["Upgrade: h2c", "Connection: Upgrade"], False),
        (["Connection: Upgrade"], False),
        ([], False),
    ],
)
def test_what_is_an_attempt_at_a_handshake(lines: list[str], wanted: bool) -> None:
    data = "\r\n".join(["GET / HTTP/1.1", "Host: a", *lines, "", ""]).encode()
    assert wants_upgrade(parse_request(data)) is wanted


# ---------------------------------------------------------------------------- check_upgrade


def test_a_valid_handshake_passes() -> None:
    request = parse_request(
        head(
            "Origin: https://a.example",
            "Sec-WebSocket-Protocol: chat, superchat",
            "Sec-WebSocket-Protocol: v2.json,,chat",
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x; y=1",
        )
    )
    upgrade = check_upgrade(request)
    assert upgrade.request is request
    assert upgrade.key == KEY
    assert upgrade.subprotocols == ("chat", "superchat", "v2.json")
    assert upgrade.extensions == [
        ("permessage-deflate", [("client_max_window_bits", None)]),
        ("x", [("y", "1")]),
    ]
    assert upgrade.origin == "https://a.example"


def test_what_is_left_out_is_empty() -> None:
    upgrade = check_upgrade(parse_request(head()))
    assert upgrade.subprotocols == ()
    assert upgrade.extensions == []
    assert upgrade.origin is None


@pytest.mark.parametrize(
    "value", ["\x80\xff", "chat, \x80", "a b", "a;b", '"a"', "a/b", "a\tb", "(a)"]
)
def test_a5_a_malformed_subprotocol_is_refused(value: str) -> None:
    assert status_of(head(f"Sec-WebSocket-Protocol: {value}")) == 400


@pytest.mark.parametrize("value", ["", ",", " , ,,"])
def test_a5_an_empty_list_of_subprotocols_offers_none(value: str) -> None:
    request = parse_request(head(f"Sec-WebSocket-Protocol: {value}"))
    assert check_upgrade(request).subprotocols == ()


def status_beyond_the_reader(data: bytes) -> int:
    result = attempt(lambda: check_upgrade(parse_request(data), origins="same"))
    return result.status if isinstance(result, HandshakeError) else 101


@pytest.mark.parametrize(
    "value",
    [
        " " * 32_000 + "x",
        "x" + " " * 32_000,
        "," * 32_000,
        "a;" * 16_000,
        '"' * 32_000,
        'a; b="' + "\\" * 32_000,
        'a; b="' + '\\"' * 16_000 + '"',
        "a=" * 16_000,
        "a ; b = " + " " * 32_000,
    ],
)
def test_a6_spaces_and_unterminated_quotes_are_judged_in_linear_time(value: str) -> None:
    # Beyond the reader's own limit, and more than 10^9 steps if it were quadratic: the test ends.
    for name in ("Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Connection", "Origin"):
        data = head(f"{name}: {value}")
        assert status_beyond_the_reader(data) in (101, 400, 403)
    with pytest.raises(HandshakeError) as caught:
        read(head(f"Sec-WebSocket-Extensions: {value}"))
    assert caught.value.status == 431


@pytest.mark.parametrize(
    "value", ["", " ", "AAAA", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZ*==", "A" * 24]
)
def test_a8_a_bad_key_is_refused(value: str) -> None:
    assert status_of(head(Sec_WebSocket_Key=value)) == 400


def test_a8_a_key_missing_or_twice_is_refused() -> None:
    assert status_of(head(without="Sec-WebSocket-Key")) == 400
    assert status_of(head(f"Sec-WebSocket-Key: {KEY.decode()}")) == 400


@pytest.mark.parametrize(
    "data",
    [
        head(without="Sec-WebSocket-Version"),
        head(Sec_WebSocket_Version="8"),
        head(Sec_WebSocket_Version="013"),
        head(Sec_WebSocket_Version="13, 8"),
        head("Sec-WebSocket-Version: 13"),
    ],
)
def test_a8_another_version_is_told_the_right_one(data: bytes) -> None:
    error = refusal(data)
    assert error.status == 426
    assert ("Sec-WebSocket-Version", "13") in error.headers
    assert ("Upgrade", "websocket") in error.headers
    response = parse_response(read(error_response(error))[0])
    assert response.get_all(b"sec-websocket-version") == [b"13"]
    assert response.get_all(b"connection") == [b"Upgrade, close"]


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "OPTIONS", "DELETE"])
def test_a8_another_method_is_405(method: str) -> None:
    error = refusal(head(start=f"{method} /chat HTTP/1.1"))
    assert error.status == 405
    assert b"\r\nAllow: GET\r\n" in error_response(error)


def test_a8_http_1_0_is_505() -> None:
    assert status_of(head(start="GET /chat HTTP/1.0")) == 505


@pytest.mark.parametrize(
    "data",
    [
        b"GET /chat HTTP/1.1\r\nHost: a\r\n\r\n",
        head(Upgrade="h2c"),
        head(Upgrade="websockets"),
        head(without="Upgrade"),
    ],
)
def test_a_request_that_asks_for_no_websocket_is_told_to(data: bytes) -> None:
    error = refusal(data)
    assert error.status == 426
    assert ("Upgrade", "websocket") in error.headers


@pytest.mark.parametrize(
    "lines",
    [
        ["Connection: keep-alive, Upgrade"],
        ["Connection: UPGRADE"],
        ["Connection: keep-alive", "Connection: upgrade"],
        ["Connection:keep-alive ,\tUpgrade,"],
    ],
)
def test_a14_connection_names_upgrade_as_a_token(lines: list[str]) -> None:
    assert status_of(head(*lines, without="Connection")) == 101


@pytest.mark.parametrize("value", ["notupgrade", "upgrade2", "up grade", "keep-alive", ""])
def test_a14_something_like_upgrade_is_not_it(value: str) -> None:
    assert wants_upgrade(parse_request(head(Connection=value)))
    assert status_of(head(Connection=value)) == 400


@pytest.mark.parametrize("value", ["WebSocket", "h2c, websocket", "websocket,"])
def test_a14_upgrade_names_websocket_as_a_token(value: str) -> None:
    assert status_of(head(Upgrade=value)) == 101


PIECES = st.sampled_from(
    [
        b"permessage-deflate", b"websocket", b"Upgrade", b"13", KEY, b"http://", b"a.example",
        b"null", b",", b";", b"=", b'"', b"\\", b" ", b"\t", b":", b"/", b"[", b"]",
        b"\x80\xff", b"%", b"0",
    ]
)  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                "Host Upgrade Connection Origin Sec-WebSocket-Key Sec-WebSocket-Version "
                "Sec-WebSocket-Protocol Sec-WebSocket-Extensions Content-Length".split()
            ),
            st.lists(PIECES, max_size=8).map(b"".join),
        ),
        max_size=4,
    ),
    st.sampled_from([None, "any", "same", ["https://a.example", "null"]]),
)
def test_any_headers_are_accepted_or_refused(
    fields: list[tuple[str, bytes]], origins: Sequence[str] | str | None
) -> None:
    replaced = {name for name, _ in fields}
    lines = [f"{name}: {value}".encode() for name, value in HANDSHAKE.items()]
    lines = [line for line in lines if line.split(b":")[0].decode() not in replaced]
    lines += [name.encode() + b": " + value for name, value in fields]
    data = b"\r\n".join([b"GET / HTTP/1.1", *lines, b"", b""])
    result = attempt(lambda: check_upgrade(parse_request(data), origins=origins))
    if isinstance(result, HandshakeError):
        assert result.status in (400, 403, 426)
        assert error_response(result).endswith(result.message.encode() + b"\n")
    else:
        assert accept_response(result).startswith(b"HTTP/1.1 101 ")


# ---------------------------------------------------------------------------------- origins


ORIGINS = ["https://host", "http://host:8080", "http://[::1]:3000"]


@pytest.mark.parametrize(
    "origin",
    [
        "https://host",
        "https://HOST",
        "HTTPS://host:443",
        "https://host:0443",
        "http://host:8080",
        "http://[::1]:3000",
    ],
)
def test_a15_a_listed_origin_is_allowed(origin: str) -> None:
    assert status_of(head(f"Origin: {origin}"), ORIGINS) == 101


FOREIGN = [
    "null",
    "",
    "host",
    "https://other",
    "https://host.evil",
    "https://evilhost",
    "https://evil.host",
    "https://host:444",
    "https://host:443:443",
    "http://host",
    "http://host:8081",
    "http://host:80801",
    "wss://host",
    "https://host/",
    "https://host/path",
    "https://host#f",
    "https://host@evil",
    "https://evil@host",
    "https://host evil",
    "https://host https://evil",
    "https://host, https://evil",
    "https://host\\evil",
    "https://host\xff",
    "https://hos\u212a".encode().decode("latin-1"),
    "https://",
    "://host",
    "http://::1:3000",
]


@pytest.mark.parametrize("origin", FOREIGN)
def test_a15_a_foreign_origin_is_refused(origin: str) -> None:
    assert status_of(head(f"Origin: {origin}"), ORIGINS) == 403
    assert status_of(head(f"Origin: {origin}")) == 101
    assert status_of(head(f"Origin: {origin}"), "any") == 101


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("host", "https://host", 101),
        ("host", "http://host", 101),
        ("HOST:8000", "http://host:8000", 101),
        ("host:443", "https://host", 101),
        ("host:80", "https://host", 403),
        ("host:8000", "http://host", 403),
        ("host", "http://host:8000", 403),
        ("host", "https://host.evil", 403),
        ("host", "https://evil.host", 403),
        ("host", "null", 403),
        ("", "null", 403),
        ("", "https://host", 403),
        ("[::1]:8000", "http://[::1]:8000", 101),
    ],
)
def test_a15_same_means_the_host_and_port_of_the_request(
    host: str, origin: str, status: int
) -> None:
    data = head(f"Host: {host}", f"Origin: {origin}", without="Host")
    assert status_of(data, "same") == status
    assert status_of(data, ["same", "https://unrelated"]) == status


@pytest.mark.parametrize(
    ("host", "origin", "secure", "allowed"),
    [
        (b"host", "https://host", True, True),
        (b"host:443", "https://host", True, True),
        (b"host", "http://host", True, False),
        (b"host:80", "http://host", True, False),
        (b"host", "http://host", False, True),
        (b"host", "https://host", False, False),
        (b"host:443", "https://host", False, False),
        (b"host", "app://host", True, False),
        (b"host", "http://host", None, True),
        (b"host", "https://host", None, True),
    ],
)
def test_a15_same_means_the_scheme_too_where_it_is_known(
    host: bytes, origin: str, secure: bool | None, allowed: bool
) -> None:
    assert is_origin_allowed(origin, host, "same", secure=secure) is allowed
    # A list says what it means.
    assert is_origin_allowed(origin, host, [origin], secure=secure)


def test_a15_null_is_allowed_where_it_is_listed() -> None:
    assert status_of(head("Origin: null"), ["https://host", "null"]) == 101
    assert status_of(head("Origin: https://other"), ["null"]) == 403


def test_a15_a_single_origin_needs_no_list() -> None:
    assert status_of(head("Origin: https://host"), "https://host") == 101
    assert status_of(head("Origin: https://other"), "https://host") == 403
    assert status_of(head("Origin: https://host"), []) == 403


def test_a15_a_request_without_origin_is_no_browsers() -> None:
    assert status_of(head(), ORIGINS) == 101


def test_a15_two_origins_are_refused() -> None:
    assert status_of(head("Origin: https://host", "Origin: https://host")) == 400


@pytest.mark.parametrize("entry", ["*", "https://host/", "host", "", "https://*.example"])
def test_a_configured_origin_that_is_none_is_the_callers_mistake(entry: str) -> None:
    request = parse_request(head("Origin: https://other"))
    with pytest.raises(ValueError, match="scheme://host"):
        check_upgrade(request, origins=[entry])


def test_parse_origin_fills_in_the_default_port() -> None:
    assert parse_origin("HTTPS://Host") == ("https", "host", 443)
    assert parse_origin("http://host:81") == ("http", "host", 81)
    assert parse_origin("chrome-extension://abc") == ("chrome-extension", "abc", None)


# ------------------------------------------------------------------------- parse_extensions


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        ("x", [("x", [])]),
        ("x;a", [("x", [("a", None)])]),
        ("x ; a = 1 ;b", [("x", [("a", "1"), ("b", None)])]),
        ('x; a="1"', [("x", [("a", '"1"')])]),
        ("x,,y;a=1;a=2", [("x", []), ("y", [("a", "1"), ("a", "2")])]),
        (r'x; a="\1\0"', [("x", [("a", r'"\1\0"')])]),
    ],
)
def test_extensions_are_read(value: str, expected: object) -> None:
    assert parse_extensions([value.encode()]) == expected


MALFORMED_EXTENSIONS = [
    ";", "x;", "x;;a", "=", "x y", "x; a=", "x; =1", "x; a=b=c", 'x; a="', 'x; a=""', 'x; a="1',
    'x; a=1"', 'x; a="b,c"', 'x; a="b;c"', 'x; a="b c"', "x; a b", "x\xff", "x; a=\xff", "x; (a)",
    '"x"', 'x; "a"', 'x; a="1\\"',
]  # fmt: skip


@pytest.mark.parametrize("value", MALFORMED_EXTENSIONS)
def test_a7_malformed_extensions_offer_nothing(value: str) -> None:
    with pytest.raises(ValueError):
        parse_extensions([value.encode("latin-1")])
    request = parse_request(head(f"Sec-WebSocket-Extensions: permessage-deflate, {value}"))
    assert check_upgrade(request).extensions == []


@given(
    st.lists(st.sampled_from(["x", "a-b", ";", ",", "=", '"', " ", "1", "\t", "("]), max_size=14)
)
def test_extensions_are_read_as_websockets_reads_them(parts: list[str]) -> None:
    value = "".join(parts)
    try:
        theirs = parse_extension(value)
    except InvalidHeaderFormat:
        return  # it refuses spaces around "=", which the grammar's implied white space allows
    ours = parse_extensions([value.encode()])
    unquoted = [(n, [(k, v and v.strip('"')) for k, v in params]) for n, params in ours]
    assert unquoted == [(name, list(params)) for name, params in theirs]


# -------------------------------------------------------------------------- accept_response


def test_accept_key_is_the_rfcs_example() -> None:
    assert accept_key(KEY) == ACCEPT


def test_the_101_is_complete() -> None:
    upgrade = check_upgrade(parse_request(head("Sec-WebSocket-Protocol: chat, v2")))
    assert accept_response(
        upgrade, subprotocol="v2", extensions="permessage-deflate", headers={"X-A": " b "}
    ) == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n"
        b"Sec-WebSocket-Protocol: v2\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
        b"X-A: b\r\n"
        b"\r\n"
    )


@pytest.mark.parametrize("picked", ["other", "", "CHAT", "chat, v2", "chat\r\nX: y"])
def test_a20_a_subprotocol_that_was_not_offered_is_the_applications_mistake(picked: str) -> None:
    upgrade = check_upgrade(parse_request(head("Sec-WebSocket-Protocol: chat, v2")))
    with pytest.raises(ValueError, match=r"was not offered .* it offered chat, v2"):
        accept_response(upgrade, subprotocol=picked)


def test_a20_no_subprotocol_picked_sends_no_header() -> None:
    upgrade = check_upgrade(parse_request(head("Sec-WebSocket-Protocol: chat")))
    assert b"Sec-WebSocket-Protocol" not in accept_response(upgrade)
    with pytest.raises(ValueError, match="it offered none"):
        accept_response(check_upgrade(parse_request(head())), subprotocol="chat")


@pytest.mark.parametrize(
    "name",
    [
        "Sec-WebSocket-Accept",
        "connection",
        "UPGRADE",
        "Sec-WebSocket-Extensions",
        "sec-websocket-protocol",
        "Content-Length",
        "Transfer-Encoding",
    ],
)
def test_a16_the_handshakes_own_headers_cannot_be_set(name: str) -> None:
    upgrade = check_upgrade(parse_request(head()))
    with pytest.raises(ValueError, match="must not be set"):
        accept_response(upgrade, headers=[(name, "x")])


def test_wsproto_accepts_our_answer_and_we_accept_its_request() -> None:
    client = WSConnection(ConnectionType.CLIENT)
    data = client.send(WsprotoRequest(host="host", target="/x", subprotocols=["a", "b"]))
    upgrade = check_upgrade(parse_request(read(data)[0]))
    assert upgrade.subprotocols == ("a", "b")
    client.receive_data(accept_response(upgrade, subprotocol="b"))
    (event,) = client.events()
    assert isinstance(event, AcceptConnection)
    assert event.subprotocol == "b"
