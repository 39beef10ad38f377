"""The opening handshake of both roles, without sockets.

Tests that begin with a letter and a number show one row of the list of attacks.
"""

from __future__ import annotations

import base64
import random
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.exceptions import InvalidHeaderFormat
from websockets.headers import parse_extension
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection
from wsproto.events import Request as WsprotoRequest

from fastws.exceptions import HandshakeError
from fastws.handshake import (
    HeadReader,
    Request,
    Response,
    accept_key,
    accept_response,
    check_response,
    check_upgrade,
    client_request,
    error_response,
    has_body,
    http_response,
    new_key,
    normalize_headers,
    parse_extensions,
    parse_origin,
    parse_request,
    parse_response,
    parse_uri,
    wants_upgrade,
)
from fastws.limits import DEFAULT_LIMITS, Limits

T = TypeVar("T")

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # the answer in RFC 6455 section 1.3

HANDSHAKE = {
    "Host": "server.example.com",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY.decode(),
    "Sec-WebSocket-Version": "13",
}


def head(
    *lines: str | bytes,
    start: str = "GET /chat HTTP/1.1",
    without: str = "",
    **replaced: str,
) -> bytes:
    """A valid handshake, less one header, with others replaced, and with more header lines."""
    fields = {name: value for name, value in HANDSHAKE.items() if name != without}
    for name, value in replaced.items():
        fields[name.replace("_", "-")] = value
    out = [start.encode(), *(f"{name}: {value}".encode() for name, value in fields.items())]
    out += [line if isinstance(line, bytes) else line.encode("latin-1") for line in lines]
    return b"\r\n".join([*out, b"", b""])


def read(data: bytes, limits: Limits = DEFAULT_LIMITS) -> tuple[bytes, bytes | None]:
    reader = HeadReader(limits)
    rest = reader.feed(data)
    return reader.head, rest


def status_of(data: bytes, origins: Sequence[str] | str | None = None) -> int:
    """The status that refuses ``data``, 101 if nothing does: through all the steps of a server."""
    try:
        complete, rest = read(data)
        assert rest is not None, "the head is not complete"
        check_upgrade(parse_request(complete), origins=origins)
    except HandshakeError as error:
        error_response(error)
        return error.status
    return 101


def attempt(step: Callable[[], T]) -> T | HandshakeError:
    """What ``step`` returns, or the one exception that a peer may cause."""
    try:
        return step()
    except HandshakeError as error:
        return error


def refusal(data: bytes) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        check_upgrade(parse_request(data))
    return caught.value


# ------------------------------------------------------------------------------- HeadReader


def test_reader_returns_what_follows_the_head() -> None:
    assert read(head() + b"\x81\x00") == (head(), b"\x81\x00")
    assert read(head()) == (head(), b"")
    assert read(head()[:-1]) == (b"", None)


def test_reader_is_used_up_by_one_head() -> None:
    reader = HeadReader(DEFAULT_LIMITS)
    reader.feed(head())
    with pytest.raises(RuntimeError, match="new HeadReader"):
        reader.feed(b"")


def test_reader_ignores_one_empty_line_before_the_request_line() -> None:
    complete, rest = read(b"\r\n" + head() + b"x")
    assert (complete, rest) == (head(), b"x")
    assert status_of(b"\r\n" + head()) == 101
    assert status_of(b"\r\n\r\n" + head()) == 400


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
def test_a18_the_request_in_pieces_gives_the_same_result(step: int) -> None:
    data = head() + b"frames"
    reader = HeadReader(DEFAULT_LIMITS)
    rest = None
    position = 0
    while rest is None:
        rest = reader.feed(data[position : position + step])
        position += step
    assert reader.head == head()
    assert rest + data[position:] == b"frames"


def outcome(pieces: Iterable[bytes], limits: Limits) -> tuple[object, ...]:
    """What a reader makes of pieces, in a form that must not depend on the cuts."""
    reader = HeadReader(limits)
    rest: bytes | None = None
    try:
        for piece in pieces:
            if rest is None:
                rest = reader.feed(piece)
            else:
                rest += piece
    except HandshakeError as error:
        return error.status, error.message
    return reader.head, rest


SMALL = Limits(max_header_line=40, max_header_count=4, max_header_size=120)


@pytest.mark.parametrize(
    "data",
    [
        head() + b"\x81\x85rest",
        b"\r\n" + head(),
        b"GET /" + b"a" * 60 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"a" * 37 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"a" * 38 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"Abc: 0123456789012345678901234\r\n" * 4 + b"\r\n",
        b"GET / HTTP/1.1\r\nA: b\n\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\r\n\r\n",
        b"\n\r\nGET / HTTP/1.1\r\n\r\n\r",
        b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ],
)
@pytest.mark.parametrize("limits", [DEFAULT_LIMITS, SMALL], ids=["defaults", "small"])
def test_a18_every_split_point_gives_the_same_result(data: bytes, limits: Limits) -> None:
    whole = outcome([data], limits)
    assert outcome([data[i : i + 1] for i in range(len(data))], limits) == whole
    for cut in range(len(data) + 1):
        assert outcome([data[:cut], data[cut:]], limits) == whole


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"a" * 9, b": ", b"\x00"]), max_size=40),
    st.randoms(use_true_random=False),
    st.integers(0, 12),
    st.integers(0, 4),
    st.integers(0, 40),
)
def test_a18_any_bytes_and_limits_give_the_same_result_however_they_are_cut(
    parts: list[bytes], cuts: random.Random, line: int, count: int, size: int
) -> None:
    limits = Limits(max_header_line=line, max_header_count=count, max_header_size=size)
    data = b"".join(parts)
    pieces = []
    position = 0
    while position < len(data):
        step = cuts.randint(1, 6)
        pieces.append(data[position : position + step])
        position += step
    assert outcome(pieces, limits) == outcome([data], limits)


def test_a1_too_many_headers_are_refused_at_the_first_too_many() -> None:
    allowed = b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 128
    assert read(allowed + b"\r\n")[1] == b""
    reader = HeadReader(DEFAULT_LIMITS)
    assert reader.feed(allowed) is None
    with pytest.raises(HandshakeError) as caught:
        reader.feed(b"a: b\r\n")
    assert caught.value.status == 431
    assert "max-header-count" in caught.value.message
    assert outcome([allowed + b"a: b\r\n" * 5000], DEFAULT_LIMITS)[0] == 431


def test_a1_a_large_header_is_refused_before_it_is_complete_and_not_kept() -> None:
    huge = b"GET / HTTP/1.1\r\na: " + bytes(20_000_000)
    reader = HeadReader(DEFAULT_LIMITS)
    tracemalloc.start()
    try:
        with pytest.raises(HandshakeError) as caught:
            reader.feed(huge)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.status == 431
    assert peak < 256 * 1024


@pytest.mark.parametrize(
    ("start", "status"),
    [("GET /{} HTTP/1.1\r\n", 414), ("GET / HTTP/1.1\r\na: {}\r\n", 431)],
    ids=["request line", "header line"],
)
def test_a1_a_line_is_exact_to_the_byte(start: str, status: int) -> None:
    limit = 100
    limits = Limits(max_header_line=limit)
    line = start.split("\r\n")[-2]
    fill = limit - len(line) + 2
    exact = start.format("x" * fill).encode() + b"\r\n"
    assert read(exact, limits)[1] == b""
    longer = start.format("x" * (fill + 1)).encode()
    with pytest.raises(HandshakeError) as caught:
        read(longer[:-2], limits)
    assert caught.value.status == status
    assert "max-header-line" in caught.value.message


def test_a1_the_whole_head_is_exact_to_the_byte() -> None:
    data = head()
    assert read(data, Limits(max_header_size=len(data)))[0] == data
    with pytest.raises(HandshakeError) as caught:
        read(data, Limits(max_header_size=len(data) - 1))
    assert caught.value.status == 431
    assert "max-header-size" in caught.value.message


def test_a2_a_line_over_many_segments_is_searched_once() -> None:
    class Counting(bytearray):
        searched = 0

        def find(self, sub: object, start: int = 0, *rest: object) -> int:  # type: ignore[override]
            Counting.searched += len(self) - start
            return super().find(b"\n", start)

    reader = HeadReader(DEFAULT_LIMITS)
    reader._buffer = Counting()
    data = head()
    for i in range(len(data)):
        reader.feed(data[i : i + 1])
    assert Counting.searched == len(data)


# ----------------------------------------------------------------------------- parse_request


def test_request_has_what_was_sent() -> None:
    request = parse_request(
        head(
            "Cookie: a=b ",
            "X-Empty:",
            "cookie:\tc=\xff",
            start="GET /caf%C3%A9%20x/%2F?q=%41&r HTTP/1.1",
        )
    )
    assert request.method == "GET"
    assert request.target == "/caf%C3%A9%20x/%2F?q=%41&r"
    assert request.path == "/café x//"
    assert request.raw_path == b"/caf%C3%A9%20x/%2F"
    assert request.query_string == b"q=%41&r"
    assert request.http_version == "1.1"
    assert request.headers[0] == (b"host", b"server.example.com")
    assert request.get(b"cookie") == b"a=b"
    assert request.get_all(b"cookie") == [b"a=b", b"c=\xff"]
    assert request.get(b"x-empty") == b""
    assert request.get(b"absent") is None
    assert request.get_all(b"absent") == []


def test_request_is_immutable() -> None:
    with pytest.raises(AttributeError):
        parse_request(head()).method = "POST"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("target", "host", "path", "query"),
    [
        ("http://other.example/p?q", b"other.example", "/p", b"q"),
        ("http://other.example:81", b"other.example:81", "/", b""),
        ("wss://other.example?a?b", b"other.example", "/", b"a?b"),
        ("HTTPS://[::1]:8443/", b"[::1]:8443", "/", b""),
    ],
)
def test_an_absolute_target_replaces_host(
    target: str, host: bytes, path: str, query: bytes
) -> None:
    request = parse_request(head(start=f"GET {target} HTTP/1.1"))
    assert request.get_all(b"host") == [host]
    assert (request.path, request.query_string) == (path, query)


@pytest.mark.parametrize(
    "target",
    ["*", "chat", "server:80", "ftp://a/", "http:///p", "http://u:p@h/", "/p#f", "http://h/#f"],
)
def test_another_form_of_target_is_refused(target: str) -> None:
    assert status_of(head(start=f"GET {target} HTTP/1.1")) == 400


def test_options_of_the_whole_server_has_the_path_of_an_asterisk() -> None:
    assert parse_request(head(start="OPTIONS * HTTP/1.1")).path == "*"


def test_connect_is_refused() -> None:
    assert status_of(head(start="CONNECT server:80 HTTP/1.1")) == 400


@pytest.mark.parametrize(
    "start",
    [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET /",
        "GET / HTTP/11",
        "GET / http/1.1",
        "G(T / HTTP/1.1",
        "get / HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET /\xff HTTP/1.1",
        "GET /\t HTTP/1.1",
        "GET / RTSP/1.0",
        "SOURCE / ICE/1.0",
        "HTTP/1.1 200 OK",
    ],
)
def test_a_malformed_request_line_is_refused(start: str) -> None:
    assert status_of(head().replace(b"GET /chat HTTP/1.1", start.encode("latin-1"))) == 400


@pytest.mark.parametrize(
    "data",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        head(start="GET / HTTP/2.0"),
        head(start="GET / HTTP/1.2"),
        head(start="GET / HTTP/0.9"),
    ],
)
def test_another_version_is_505(data: bytes) -> None:
    assert status_of(data) == 505


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", head()[:-2], head() + b"x", head() + head()])
def test_parse_request_takes_exactly_one_head(data: bytes) -> None:
    with pytest.raises(HandshakeError) as caught:
        parse_request(data)
    assert caught.value.status == 400


def test_a9_host_must_come_exactly_once() -> None:
    assert status_of(head(without="Host")) == 400
    assert status_of(head("Host: server.example.com")) == 400
    assert status_of(head("Host: b", without="Host")) == 101
    assert parse_request(b"GET / HTTP/1.0\r\n\r\n").get(b"host") is None


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("a.example:8000", 101),
        ("[2001:db8::1]:80", 101),
        ("", 101),  # RFC 9112 section 3.2 lets a client send it
        ("a b", 400),
        ("a/b", 400),
        ("user@a", 400),
        ("a:b", 400),
        ("a:123456", 400),
        ("a\xff", 400),
        ("[::1", 400),
    ],
)
def test_a9_host_must_be_a_host(host: str, status: int) -> None:
    assert status_of(head(f"Host: {host}", without="Host")) == status


@pytest.mark.parametrize("line", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_a10_an_upgrade_with_a_body_is_refused(line: str) -> None:
    assert has_body(parse_request(head(line)))
    assert status_of(head(line)) == 400


def test_a10_no_body_is_no_body() -> None:
    for line in ("Content-Length: 0", "Content-Length: 000"):
        assert not has_body(parse_request(head(line)))
        assert status_of(head(line)) == 101


@pytest.mark.parametrize("start", ["GET / HTTP/1.1", "POST / HTTP/1.1"])
@pytest.mark.parametrize("upgrade", [True, False], ids=["upgrade", "plain"])
@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 5"),
        ("Content-Length: 5", "Content-Length: 5"),
        ("Content-Length: 0", "Content-Length: 5"),
        ("Content-Length: 5, 5",),
        ("Content-Length: +5",),
        ("Content-Length: -5",),
        ("Content-Length:",),
        ("Content-Length: 99999999999999999999999",),
    ],
)
def test_a11_a_body_has_one_length(start: str, upgrade: bool, lines: tuple[str, ...]) -> None:
    data = head(*lines, start=start)
    if not upgrade:
        data = b"\r\n".join([start.encode(), b"Host: a", *map(str.encode, lines), b"", b""])
    with pytest.raises(HandshakeError) as caught:
        parse_request(data)
    assert caught.value.status == 400


@pytest.mark.parametrize("fold", ["A: b\r\n c", "A: b\r\n\tc", "A:\r\n b", "A: b\r\n \r\nC: d"])
def test_a11_obs_fold_is_refused(fold: str) -> None:
    assert status_of(head(fold)) == 400


def test_a11_white_space_before_the_first_header_is_refused() -> None:
    assert status_of(head().replace(b"\r\nHost", b"\r\n Host")) == 400


@pytest.mark.parametrize(
    "data",
    [
        head().replace(b"\r\n", b"\n"),
        head().replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
        head("A: b\nC: d"),
        head()[:-2] + b"\n",
        head("A: b\rC: d"),
        head("A: b\r"),
    ],
)
def test_a11_a_bare_lf_or_cr_is_refused(data: bytes) -> None:
    assert status_of(data + b"\r\n\r\n") == 400


@pytest.mark.parametrize("byte", range(256))
def test_a11_a_value_holds_only_what_a_value_may(byte: int) -> None:
    is_allowed = byte == 0x09 or (byte >= 0x20 and byte != 0x7F)
    expected = 101 if is_allowed else 400
    assert status_of(head(b"A: b" + bytes([byte]) + b"c")) == expected


@pytest.mark.parametrize("byte", [byte for byte in range(256) if byte not in b"\r\n"])
def test_a11_a_name_is_a_token(byte: int) -> None:
    token = b"!#$%&'*+-.^_`|~"
    # A colon ends the name.
    is_allowed = bytes([byte]).isalnum() or byte in token or byte == ord(":")
    expected = 101 if is_allowed else 400
    assert status_of(head(b"A" + bytes([byte]) + b"b: c")) == expected


def test_a11_white_space_before_the_colon_and_an_empty_name_are_refused() -> None:
    assert status_of(head("A : b")) == 400
    assert status_of(head(": b")) == 400
    assert status_of(head("A")) == 400


def test_a17_control_characters_in_the_path_are_refused_raw_and_decoded_when_escaped() -> None:
    for character in ("\x00", "\x1b", "\x7f"):
        assert status_of(head(start=f"GET /a{character} HTTP/1.1")) == 400
    assert parse_request(head(start="GET /%00%0d%0a HTTP/1.1")).path == "/\x00\r\n"


@pytest.mark.parametrize(
    "data",
    [
        head("Sec-WebSocket-Protocol: \x9b31m"),
        head(Connection="\x9b31m"),
        head(Sec_WebSocket_Key="\x9b" * 200),
        head(start="GET \x7e" + "x" * 300 + " HTTP/1.1"),
    ],
)
def test_a17_a_refusal_repeats_nothing_that_acts_on_a_terminal_and_stays_short(
    data: bytes,
) -> None:
    error = refusal(data)
    assert error.message.isascii()
    assert error.message.isprintable()
    assert len(error.message) < 300


@given(st.binary(max_size=300))
@example(b"GET / HTTP/1.1\r\n\r\n")
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for candidate in (data, data + b"\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n" + data):
        steps: tuple[Callable[[bytes], object], ...] = (parse_request, parse_response)
        for parse in steps:
            result = attempt(partial(parse, candidate))
            if isinstance(result, HandshakeError):
                assert result.status in (400, 505)


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


# ------------------------------------------------------------------------------ wants_upgrade


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


# ------------------------------------------------------------------------------ check_upgrade


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


# --------------------------------------------------------------------------- parse_extensions


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


# ------------------------------------------------------------------------------ responses


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


def test_headers_are_taken_in_every_form() -> None:
    expected = [(b"A", b"b"), (b"C", b"\xe9")]
    assert normalize_headers([("A", "b"), ("C", "é")]) == expected
    assert normalize_headers([(b"A", b" b\t"), (b"C", b"\xe9")]) == expected
    assert normalize_headers({"A": "b", "C": "é"}) == expected
    assert normalize_headers({b"A": "b", b"C": "é"}) == expected
    assert normalize_headers(pair for pair in expected) == expected
    assert normalize_headers(None) == []


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


def test_http_response_is_complete() -> None:
    assert http_response(403, [("X-A", "b")], b"no") == (
        b"HTTP/1.1 403 Forbidden\r\nX-A: b\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
    )
    assert http_response(200, close=False) == (
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"
    )
    assert http_response(200, body=b"abc", head_only=True).endswith(
        b"Content-Length: 3\r\nConnection: close\r\n\r\n"
    )
    assert http_response(299).startswith(b"HTTP/1.1 299 \r\n")


def test_http_response_without_a_body_has_no_length() -> None:
    assert b"Content-Length" not in http_response(204)
    with pytest.raises(ValueError, match="no body"):
        http_response(304, body=b"x")


@pytest.mark.parametrize("status", [0, 100, 101, 199, 600, 1000])
def test_http_response_answers_finally(status: int) -> None:
    with pytest.raises(ValueError, match="200 to 599"):
        http_response(status)


def test_http_response_takes_a_length_that_is_right() -> None:
    right = http_response(200, {"content-length": "2"}, b"ab")
    assert right.lower().count(b"content-length") == 1
    for wrong in ("1", "3", "-1", "x", "2, 2"):
        with pytest.raises(ValueError, match="Content-Length"):
            http_response(200, {"content-length": wrong}, b"ab")
    assert b"Content-Length: 9\r\n" in http_response(200, {"Content-Length": "9"}, head_only=True)


@pytest.mark.parametrize("name", ["Connection", "transfer-encoding"])
def test_http_response_owns_its_framing(name: str) -> None:
    with pytest.raises(ValueError, match="must not be set"):
        http_response(200, [(name, "x")])


def test_error_response_says_what_was_wrong() -> None:
    response = error_response(HandshakeError(400, "no “key”"))
    head_part, body = response.split(b"\r\n\r\n")
    assert body == "no “key”\n".encode()
    assert b"\r\nContent-Type: text/plain; charset=utf-8\r\n" in head_part + b"\r\n"
    assert head_part.endswith(b"Connection: close")


# ----------------------------------------------------------------------------- the client role


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


def test_a_response_is_read() -> None:
    assert parse_response(b"HTTP/1.1 403 Not\xa0today\r\nX-A:  b \r\n\r\n") == Response(
        403, "Not\xa0today", "1.1", [(b"x-a", b"b")]
    )
    assert parse_response(b"HTTP/1.1 200\r\n\r\n").reason == ""


@pytest.mark.parametrize(
    "data", [b"\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", answer(" folded")]
)
def test_a_response_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(HandshakeError):
        parse_response(data)


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


# ------------------------------------------------------------------------------ other peers


def test_wsproto_accepts_our_answer_and_we_accept_its_request() -> None:
    client = WSConnection(ConnectionType.CLIENT)
    data = client.send(WsprotoRequest(host="host", target="/x", subprotocols=["a", "b"]))
    upgrade = check_upgrade(parse_request(read(data)[0]))
    assert upgrade.subprotocols == ("a", "b")
    client.receive_data(accept_response(upgrade, subprotocol="b"))
    (event,) = client.events()
    assert isinstance(event, AcceptConnection)
    assert event.subprotocol == "b"


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


def test_request_is_comparable() -> None:
    assert parse_request(head()) == parse_request(head())
    assert isinstance(parse_request(head()), Request)
