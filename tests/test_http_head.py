"""HTTP/1.1 messages: heads from any bytes, and responses.

Tests that begin with a letter and a number show one row of the list of attacks.
"""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Iterable
from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastws.exceptions import HandshakeError
from fastws.http_head import (
    HeadReader,
    Request,
    Response,
    error_response,
    has_body,
    http_response,
    parse_request,
    parse_response,
)
from fastws.limits import DEFAULT_LIMITS, Limits
from tests.heads import attempt, head, read, refusal, status_of

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


AT_ONCE = [
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Limits()),
    (b"GET / HTTP/1.1\r\n\r\nrest\r\n\r\n", Limits()),
    (b"GET /\r\r\nHost: a\r\n\r\n", Limits()),
    (b"GET /\nHost: a\r\n\r\n", Limits()),
    (b"GET / HTTP/1.1\r\nHost: a\n\r\n\r\n", Limits()),
    (b"GET / HTTP/1.1\r\nA: \nb\r\n\r\n", Limits()),
    (b"\r\n\r\n", Limits()),
    (b"\r\nGET /\r\n\r\n", Limits()),
    (b"\n\r\n\r\n", Limits()),
    *(
        (b"GET /\r\nHost: abc\r\nB: c\r\n\r\n", limits)
        for size in range(7, 31)
        for limits in (
            Limits(max_header_size=size),
            Limits(max_header_line=size),
            Limits(max_header_count=size - 6),
        )
    ),
]


@pytest.mark.parametrize(("data", "limits"), AT_ONCE)
def test_a_head_that_comes_in_one_piece_is_judged_like_one_that_does_not(
    data: bytes, limits: Limits
) -> None:
    for rest in (b"", b"frames", b"\r\n\r\n", b"\n"):
        whole = data + rest
        bytewise = (whole[at : at + 1] for at in range(len(whole)))
        assert outcome([whole], limits) == outcome(bytewise, limits)


def test_a4_tls_is_refused_at_its_first_byte() -> None:
    with pytest.raises(HandshakeError, match="TLS") as caught:
        HeadReader(DEFAULT_LIMITS).feed(b"\x16")
    assert caught.value.status == 400
    # Anywhere else it is a control character like any other.
    assert HeadReader(DEFAULT_LIMITS).feed(b"G\x16") is None


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


# ---------------------------------------------------------------------------- parse_request


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
    assert list(request.fields) == list(dict(request.headers))
    assert request.fields[b"cookie"] == [b"a=b", b"c=\xff"]
    assert request.fields[b"x-empty"] == [b""]


def test_request_is_immutable() -> None:
    with pytest.raises(AttributeError):
        parse_request(head()).method = "POST"  # type: ignore[misc]


def test_request_is_comparable() -> None:
    assert parse_request(head()) == parse_request(head())
    assert isinstance(parse_request(head()), Request)


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
    assert request.headers[0] == (b"host", host)
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


# --------------------------------------------------------------------------- parse_response


def test_a_response_is_read() -> None:
    assert parse_response(b"HTTP/1.1 403 Not\xa0today\r\nX-A:  b \r\n\r\n") == Response(
        403, "Not\xa0today", "1.1", [(b"x-a", b"b")]
    )
    assert parse_response(b"HTTP/1.1 200\r\n\r\n").reason == ""


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n folded\r\n\r\n",
    ],
)
def test_a_response_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(HandshakeError):
        parse_response(data)


# -------------------------------------------------------------------------------- responses


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
