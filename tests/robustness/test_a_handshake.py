"""A1 to A20: what may go wrong in the opening handshake, each row over real TCP and TLS."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from fastws import FastWS, WebSocket
from tests.connections import until
from tests.robustness.client import (
    client_tls,
    connect,
    exchange,
    only_plain,
    server_tls,
    serving,
    wire,
)
from tests.serving import Client, frame, handshake, status_of
from tests.support import TIMEOUT, run

pytestmark = pytest.mark.usefixtures("wire")

ACCEPTED = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
"""The answer to the key of RFC 6455 section 1.3."""


class Echo:
    """An application that sends every message back, and remembers what its handler got."""

    def __init__(self, **route_options: Any) -> None:
        self.app = FastWS()
        self.connections = 0
        self.messages: list[str | bytes] = []

        @self.app.websocket("/{rest:path}", **route_options)
        async def echo(ws: WebSocket, rest: str) -> None:
            self.connections += 1
            await ws.accept()
            async for message in ws:
                self.messages.append(message)
                await ws.send_text(str(message))


async def ended(client: Client) -> bytes:
    """What the server sends before it ends the connection; a RST is an end as well."""
    try:
        return await client.rest()
    except ConnectionError:
        return b""


async def send_if_possible(client: Client, data: bytes) -> None:
    """Send ``data``, over TLS only if the server has not ended it: then there is no way back."""
    try:
        await client.send(data)
    except ConnectionError:
        if not wire.is_tls:
            raise


async def is_served(server: Any) -> bool:
    """Whether a fresh connection gets its handshake accepted and its message echoed."""
    async with connect(server) as client:
        await client.send(handshake() + frame(b"served"))
        return status_of(await client.head()) == 101 and await client.frame() == (1, b"served")


def refused(data: bytes, status: int, **options: Any) -> bytes:
    """Send ``data`` to an Echo, which must refuse it and then still serve; the response."""

    async def main() -> bytes:
        echo = Echo()
        async with serving(echo.app, **options) as server:
            answer = await exchange(server, data)
            assert status_of(answer) == status, answer
            assert b"\r\nConnection: close\r\n" in answer.replace(b"Upgrade, close", b"close")
            assert echo.connections == 0
            assert echo.messages == []
            assert await is_served(server)
            return answer

    return run(main())


def accepted(data: bytes, **options: Any) -> bytes:
    """Send ``data`` to an Echo, which must accept it; the head of the response."""

    async def main() -> bytes:
        async with serving(Echo().app, **options) as server, connect(server) as client:
            await client.send(data)
            head = await client.head()
            assert status_of(head) == 101, head
            assert ACCEPTED in head
            await client.send(frame(b"hello"))
            assert await client.frame() == (1, b"hello")
            return head

    return run(main())


def test_a00_the_handshake_that_all_cases_vary_is_accepted() -> None:
    head = accepted(handshake())
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" in head


# A1, A2: size


def test_a01_five_thousand_small_headers() -> None:
    lines = [f"X-{number}: {number}" for number in range(5000)]
    answer = refused(handshake("/", *lines), 431)
    assert b"max-header-count" in answer


def test_a01_small_headers_that_are_too_large_together() -> None:
    lines = [f"X-{number}: {'x' * 500}" for number in range(100)]
    answer = refused(handshake("/", *lines), 431)
    assert b"max-header-size" in answer


def test_a01_one_header_of_20_mb() -> None:
    data = handshake("/", f"X: {'x' * 20_000_000}")

    async def main() -> None:
        async with serving(Echo().app) as server, connect(server) as client:
            # The server answers long before the end and throws the rest away for a while; it
            # neither keeps the rest nor has to see all of it.
            sending = asyncio.create_task(client.send(data))
            answer = await client.rest()
            assert status_of(answer) == 431
            assert b"max-header-line" in answer
            await asyncio.gather(sending, return_exceptions=True)
            assert await is_served(server)

    run(main())


def test_a01_a_long_request_line() -> None:
    refused(handshake("/" + "x" * 8200), 414)


def test_a01_everything_at_its_limit() -> None:
    limits = {"max_header_line": 200, "max_header_count": 20, "max_header_size": 2000}
    spare = 20 - handshake().count(b"\r\n") + 2
    request = handshake("/", *["X: 1"] * spare)
    accepted(request, **limits)
    refused(handshake("/", *["X: 1"] * (spare + 1)), 431, **limits)
    line = f"X: {'x' * 197}"
    accepted(handshake("/", line), **limits)
    refused(handshake("/", line + "x"), 431, **limits)
    path = "/" + "x" * (200 - len("GET / HTTP/1.1"))
    accepted(handshake(path), **limits)
    refused(handshake(path + "x"), 414, **limits)
    exact = {"max_header_line": 100, "max_header_size": len(handshake())}
    accepted(handshake(), **exact)
    refused(handshake("/x"), 431, **exact)


async def send_in_pieces(client: Client, data: bytes, size: int) -> None:
    """Send ``data`` in segments of ``size`` bytes, letting the server run after each."""
    for start in range(0, len(data), size):
        await client.send(data[start : start + size])
        await asyncio.sleep(0)


def test_a02_a_line_over_many_segments() -> None:
    async def main() -> None:
        async with serving(Echo().app) as server:
            for length, status in ((8000, 101), (8200, 431)):
                async with connect(server) as client:
                    data = handshake("/", f"X: {'x' * length}")
                    sending = asyncio.create_task(send_in_pieces(client, data, 3))
                    assert status_of(await client.head()) == status
                    await asyncio.gather(sending, return_exceptions=True)

    run(main())


# A3, A4: time


def test_a03_one_byte_at_a_time_is_ended_by_the_absolute_deadline() -> None:
    async def main() -> None:
        async with (
            serving(Echo().app, ws_open_timeout=TIMEOUT / 10) as server,
            connect(server) as client,
        ):

            async def dribble() -> None:
                for byte in handshake("/", f"X: {'x' * 8000}"):
                    await client.send(bytes([byte]))
                    await asyncio.sleep(TIMEOUT / 100)

            sending = asyncio.create_task(dribble())
            assert status_of(await client.rest()) == 408
            assert not sending.done(), "bytes were still arriving"
            sending.cancel()

    run(main())


def test_a03_silence() -> None:
    async def main() -> None:
        async with (
            serving(Echo().app, ws_open_timeout=TIMEOUT / 10) as server,
            connect(server) as client,
        ):
            assert await client.rest() == b""

    run(main())


def test_a03_an_application_that_does_not_accept() -> None:
    app = FastWS()

    @app.websocket("/")
    async def undecided(ws: WebSocket) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with serving(app, ws_accept_timeout=TIMEOUT / 25) as server:
            assert status_of(await exchange(server, handshake())) == 503

    run(main())


@pytest.mark.parametrize("first_bytes", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"])
@only_plain("it speaks TLS itself")
def test_a04_tls_that_never_finishes(first_bytes: bytes) -> None:
    async def main() -> None:
        options = {"ssl_context": server_tls(), "ssl_handshake_timeout": TIMEOUT / 10}
        async with serving(Echo().app, **options) as server, connect(server) as client:
            await client.send(first_bytes)
            assert await ended(client) == b""
            assert server.hub is not None
            assert len(server.hub) == 0

    run(main())


@only_plain("it speaks TLS itself")
def test_a04_bytes_do_not_move_the_deadline_of_tls() -> None:
    async def main() -> None:
        options = {"ssl_context": server_tls(), "ssl_handshake_timeout": TIMEOUT / 10}
        async with serving(Echo().app, **options) as server, connect(server) as client:

            async def dribble() -> None:
                for byte in b"\x16\x03\x01\x02\x00" + bytes(512):
                    await client.send(bytes([byte]))
                    await asyncio.sleep(TIMEOUT / 100)

            sending = asyncio.create_task(dribble())
            assert await ended(client) == b""
            assert not sending.done(), "bytes were still arriving"
            sending.cancel()

    run(main())


@only_plain("it speaks TLS itself")
def test_a04_tls_that_never_finishes_counts_as_a_connection() -> None:
    async def main() -> None:
        options = {"ssl_context": server_tls(), "limit_connections": 1}
        tls = {"ssl": client_tls(), "server_hostname": "localhost"}
        async with serving(Echo().app, **options) as server:
            async with connect(server):
                async with connect(server, **tls) as client:
                    assert status_of(await client.rest()) == 503
            async with connect(server, **tls) as client:
                await client.send(handshake())
                assert status_of(await client.head()) == 101

    run(main())


@only_plain("it speaks TLS itself")
def test_a04_tls_that_never_finishes_does_not_hold_up_the_end() -> None:
    async def main() -> None:
        async with serving(Echo().app, ssl_context=server_tls()) as server:
            async with connect(server) as client:
                await until(lambda: len(server.hub or ()) == 1)
                server.stop()
                assert await ended(client) == b""

    run(main())


@only_plain("it speaks TLS itself")
@pytest.mark.parametrize("gone", ["eof", "reset"])
def test_a04_a_peer_that_leaves_in_its_tls_handshake_is_forgotten(gone: str) -> None:
    async def main() -> None:
        async with serving(Echo().app, ssl_context=server_tls()) as server:
            async with connect(server) as client:
                await until(lambda: len(server.hub or ()) == 1)
                assert server.hub is not None
                if gone == "eof":
                    client.writer.write_eof()
                else:
                    await client.send(b"\x16\x03\x01")
                    client.transport.abort()
                await server.hub.wait_until_empty()

    run(main())


@only_plain("it speaks TLS itself")
@pytest.mark.parametrize(
    "data", [handshake(), b"GET / HTTP/1.1\r\n", b"\x00" * 100, b"\x16\x03\x01\x00\x05hello"]
)
def test_a04_what_is_no_tls_on_a_tls_port(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        echo = Echo()
        async with serving(echo.app, ssl_context=server_tls()) as server:
            async with connect(server) as client:
                await client.send(data)
                # At most an alert of TLS.
                assert len(await ended(client)) < 10
            assert server.hub is not None
            await server.hub.wait_until_empty()
            assert echo.connections == 0

    with caplog.at_level(logging.INFO):
        run(main())
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


@only_plain("it speaks TLS itself")
def test_a04_tls_on_a_port_without_it() -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)
    answer = refused(hello, 400)
    assert b"TLS" in answer
    # Decided on the first byte: nothing else need come, and nothing need look like a line.
    assert refused(hello[:1], 400)[-40:] == answer[-40:]


# A5 to A7: what is offered


def test_a05_a_subprotocol_that_is_no_token() -> None:
    refused(handshake("/", "Sec-WebSocket-Protocol: \x80\xff"), 400)
    refused(handshake("/", "Sec-WebSocket-Protocol: a b"), 400)


def test_a06_thousands_of_spaces() -> None:
    for name in ("Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Connection"):
        refused(handshake("/", f"{name}: {' ' * 32768}"), 431)
    spaces = " " * 8000
    accepted(handshake("/", f"Sec-WebSocket-Extensions: a{spaces}b"))
    accepted(handshake("/", f"Sec-WebSocket-Protocol: a,{spaces}b"))
    accepted(handshake("/", f"Connection:{spaces}upgrade"))


@pytest.mark.parametrize(
    "offer",
    ['x; y="', 'x; y="a', 'x; y="\\', 'x; y="' + "\\" * 8000, '"' * 8000, 'x; y="a" "b"'],
    ids=range(6),
)
def test_a06_unterminated_quotes(offer: str) -> None:
    head = accepted(
        handshake("/", f"Sec-WebSocket-Extensions: {offer}"), ws_per_message_deflate="dedicated"
    )
    assert b"Sec-WebSocket-Extensions" not in head


@pytest.mark.parametrize(
    "parameters",
    [
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=8",
        "server_max_window_bits=99999999999999999999999",
        "server_max_window_bits=",
        "server_max_window_bits",
        "server_max_window_bits=010",
        'server_max_window_bits="',
        "server_max_window_bits=+9",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=",
        "client_max_window_bits=x",
        "server_no_context_takeover=1",
        "client_no_context_takeover=true",
        "server_no_context_takeover; server_no_context_takeover",
        "client_max_window_bits; client_max_window_bits=10",
        "unknown_parameter",
        "=",
        ";",
    ],
)
def test_a07_bad_deflate_offers_are_declined(parameters: str) -> None:
    offer = f"Sec-WebSocket-Extensions: permessage-deflate; {parameters}"
    head = accepted(handshake("/", offer), ws_per_message_deflate="dedicated")
    assert b"Sec-WebSocket-Extensions" not in head


def test_a07_a_good_offer_behind_a_bad_one_is_accepted() -> None:
    offer = (
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=7, permessage-deflate"
    )
    head = accepted(handshake("/", offer), ws_per_message_deflate="dedicated")
    assert b"\r\nSec-WebSocket-Extensions: permessage-deflate" in head


# A8 to A11: broken requests


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (handshake(without="Sec-WebSocket-Key"), 400),
        (handshake("/", "Sec-WebSocket-Key:"), 400),
        (handshake("/", "Sec-WebSocket-Key: c2hvcnQ="), 400),
        (handshake("/", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSBpcyBsb25n"), 400),
        (handshake("/", "Sec-WebSocket-Key: !!!!IHNhbXBsZSBub25jZQ=="), 400),
        (handshake("/", *["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="] * 2), 400),
        (handshake("/", "Sec-WebSocket-Version: 12"), 426),
        (handshake("/", "Sec-WebSocket-Version: 013"), 426),
        (handshake("/", "Sec-WebSocket-Version: 8, 13"), 426),
        (handshake("/", "Sec-WebSocket-Version: x"), 426),
        (handshake(without="Sec-WebSocket-Version"), 426),
        (handshake(without="Upgrade"), 426),
        (handshake(method="POST"), 405),
        (handshake(method="get"), 400),
        (handshake(version="1.0"), 505),
        (handshake(version="2.0"), 505),
        (handshake(version="1.2"), 505),
        (handshake(version="1"), 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
    ],
)
def test_a08_key_version_and_method(request_bytes: bytes, status: int) -> None:
    answer = refused(request_bytes, status)
    if status == 426:
        assert b"\r\nSec-WebSocket-Version: 13\r\n" in answer
        assert b"\r\nUpgrade: websocket\r\n" in answer
    if status == 405:
        assert b"\r\nAllow: GET\r\n" in answer


def test_a09_no_host_and_two_hosts() -> None:
    refused(handshake(without="Host"), 400)
    refused(handshake("/", "Host: a.example", "Host: a.example"), 400)
    refused(handshake("/", "Host: a.example, b.example"), 400)
    refused(handshake("/", "Host: user@a.example"), 400)


@pytest.mark.parametrize(
    "request_bytes",
    [
        handshake("/", "Content-Length: 11") + frame(b"hello"),
        handshake("/", "Transfer-Encoding: chunked")
        + b"b\r\n"
        + frame(b"hello")
        + b"\r\n0\r\n\r\n",
        handshake("/", "Transfer-Encoding: identity") + frame(b"hello"),
    ],
)
def test_a10_an_upgrade_with_a_body(request_bytes: bytes) -> None:
    # refused() makes sure that no message reached a handler.
    refused(request_bytes, 400)


@pytest.mark.parametrize(
    "line",
    [
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: -1",
        "Content-Length: 1e3",
        "X: folded\r\n onto another line",
        "X: bare\nlf",
        "X: bare\rcr",
        "X: nul\x00",
        "X: control\x01",
        "X: delete\x7f",
        "X\x00: name",
        "X : space before the colon",
        ": no name",
        "no colon",
    ],
)
def test_a11_what_smuggles(line: str) -> None:
    refused(handshake("/", line), 400)


def test_a11_lines_that_end_with_a_bare_lf() -> None:
    refused(handshake().replace(b"\r\n", b"\n"), 400)


# A12, A13: what comes behind the request


@pytest.mark.parametrize(
    "behind",
    [handshake(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", frame(b"hello"), b"x" * 1_000_000],
    ids=["handshake", "request", "frame", "megabyte"],
)
def test_a12_bytes_behind_a_refused_upgrade(behind: bytes) -> None:
    answer = refused(handshake(without="Sec-WebSocket-Key") + behind, 400)
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a12_bytes_behind_an_upgrade_that_the_handler_refuses() -> None:
    app = FastWS()

    @app.websocket("/")
    async def refuse(ws: WebSocket) -> None:
        await ws.close()

    async def main() -> None:
        async with serving(app) as server:
            answer = await exchange(server, handshake() + frame(b"hello") + handshake() * 1000)
            assert status_of(answer) == 403
            assert answer.count(b"HTTP/1.1 ") == 1

    run(main())


def test_a12_the_response_is_not_lost_to_a_reset() -> None:
    async def main() -> None:
        async with serving(Echo().app) as server, connect(server) as client:
            await client.send(handshake(method="POST"))
            # Sent after the server has answered and closed its side: no RST overtakes the answer.
            await client.exactly(len("HTTP/1.1 405"))
            for _ in range(100):
                await send_if_possible(client, b"x" * 1000)
            assert (await client.rest()).endswith(b"GET request\n")

    run(main())


def test_a13_frames_in_the_segment_of_the_handshake() -> None:
    async def main() -> None:
        async with serving(Echo().app) as server, connect(server) as client:
            await client.send(handshake() + frame(b"one") + frame(b"two") + frame(b"three")[:3])
            assert status_of(await client.head()) == 101
            assert await client.frame() == (1, b"one")
            assert await client.frame() == (1, b"two")

    run(main())


def test_a13_frames_that_arrive_while_the_application_decides() -> None:
    app = FastWS()
    decided = asyncio.Event()

    @app.websocket("/")
    async def slow(ws: WebSocket) -> None:
        await decided.wait()
        await ws.accept()
        async for message in ws:
            await ws.send_text(message)

    async def main() -> None:
        async with serving(app) as server, connect(server) as client:
            await client.send(handshake())
            for number in range(100):
                await client.send(frame(b"%d" % number))
                await asyncio.sleep(0)
            decided.set()
            assert status_of(await client.head()) == 101
            for number in range(100):
                assert await client.frame() == (1, b"%d" % number)

    run(main())


# A14, A15: tokens and origins


@pytest.mark.parametrize(
    "lines",
    [
        ["Connection: keep-alive, Upgrade"],
        ["Connection: UPGRADE", "Upgrade: WebSocket"],
        ["Connection: keep-alive", "Connection: upgrade"],
        ["Connection:upgrade ,, keep-alive"],
        ["Upgrade: h2c, websocket"],
        ["Upgrade: h2c", "Upgrade: websocket"],
    ],
)
def test_a14_tokens_that_match(lines: list[str]) -> None:
    accepted(handshake("/", *lines))


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Connection: notupgrade"], 400),
        (["Connection: upgrade-not"], 400),
        (["Connection: keep-alive"], 400),
        (["Connection: 'upgrade'"], 400),
        (["Upgrade: notwebsocket"], 426),
        (["Upgrade: websocket2"], 426),
    ],
)
def test_a14_tokens_that_do_not_match(lines: list[str], status: int) -> None:
    refused(handshake("/", *lines), status)


ORIGINS = {"ws_origins": "https://example.org, http://localhost:3000"}


@pytest.mark.parametrize(
    "origin",
    [
        "https://other.example",
        "null",
        "https://example.org.evil.example",
        "https://evilexample.org",
        "https://example.org@evil.example",
        "https://example.org:8443",
        "http://example.org",
        "http://localhost",
        "https://example.org/",
        "https://example.org, https://other.example",
        "",
        "*",
    ],
)
def test_a15_origins_that_are_refused(origin: str) -> None:
    refused_with = handshake("/", f"Origin: {origin}")

    async def main() -> None:
        echo = Echo()
        async with serving(echo.app, **ORIGINS) as server:
            assert status_of(await exchange(server, refused_with)) == 403
            assert echo.connections == 0

    run(main())


@pytest.mark.parametrize(
    "origin", ["https://example.org", "HTTPS://EXAMPLE.ORG:443", "http://localhost:3000"]
)
def test_a15_origins_that_may_connect(origin: str) -> None:
    accepted(handshake("/", f"Origin: {origin}"), **ORIGINS)
    # A client that is no browser has none.
    accepted(handshake(), **ORIGINS)


def test_a15_the_same_origin() -> None:
    same = {"ws_origins": "same"}
    own, other = ("https", "http") if wire.is_tls else ("http", "https")
    accepted(handshake("/", "Host: a.example:8000", f"Origin: {own}://a.example:8000"), **same)
    accepted(handshake("/", "Host: a.example", f"Origin: {own}://A.example"), **same)
    refused_ones = [f"{own}://a.example:8001", f"{own}://b.example:8000", "null"]
    if wire.is_tls:
        # Over TCP a proxy may speak TLS that this server does not know of.
        refused_ones.append(f"{other}://a.example:8000")

    async def main() -> None:
        async with serving(Echo().app, **same) as server:
            for origin in refused_ones:
                data = handshake("/", "Host: a.example:8000", f"Origin: {origin}")
                assert status_of(await exchange(server, data)) == 403

    run(main())


def test_a15_origins_of_a_route() -> None:
    async def main() -> None:
        echo = Echo(origins=["https://example.org"])
        async with serving(echo.app) as server:
            data = handshake("/", "Origin: https://other.example")
            assert status_of(await exchange(server, data)) == 403
            assert echo.connections == 0

    run(main())


# A16, A17: injection


Misuse = Callable[[WebSocket], Any]


def outcome_of(misuse: Misuse, request: bytes) -> tuple[BaseException | None, bytes]:
    """Let a handler do ``misuse`` before it accepts: what that raised, and the response."""
    app = FastWS()
    raised: list[BaseException | None] = []

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        try:
            await misuse(ws)
        except Exception as error:
            raised.append(error)
            await ws.accept()
            await ws.close()
        else:
            raised.append(None)

    async def main() -> bytes:
        async with serving(app) as server, connect(server) as client:
            await client.send(request)
            return await client.head()

    head = run(main())
    return raised[0], head


@pytest.mark.parametrize(
    "misuse",
    [
        lambda ws: ws.accept(headers=[("X-Bad", "a\r\nX-Injected: b")]),
        lambda ws: ws.accept(headers=[(b"x-bad", b"a\nX-Injected: b")]),
        lambda ws: ws.accept(headers={"X-Bad": "a\x00X-Injected"}),
        lambda ws: ws.accept(headers=[("X-Bad\r\nX-Injected", "a")]),
        lambda ws: ws.accept(headers=[("X-Bad: a\r\nX-Injected", "b")]),
        lambda ws: ws.accept(subprotocol="chat\r\nX-Injected: b"),
        lambda ws: ws.send_denial_response(403, [("X-Bad", "a\r\nX-Injected: b")]),
        lambda ws: ws.send_denial_response(403, {"X-Bad\n": "X-Injected"}),
    ],
)
def test_a16_line_breaks_from_the_application(misuse: Misuse) -> None:
    error, head = outcome_of(misuse, handshake("/", "Sec-WebSocket-Protocol: chat"))
    assert isinstance(error, ValueError)
    # Nothing had been sent, so that the handler could still accept.
    assert status_of(head) == 101
    assert b"X-Bad" not in head
    assert b"X-Injected" not in head


def test_a16_line_breaks_in_a_page() -> None:
    app = FastWS()

    @app.get("/")
    async def page() -> Any:
        from fastws.responses import Response

        return Response("", headers={"X-Bad": "a\r\nX-Injected: b"})

    async def main() -> None:
        async with serving(app) as server:
            data = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            answer = await exchange(server, data)
            assert status_of(answer) == 500
            assert b"X-Injected" not in answer

    run(main())


def test_a17_control_characters_in_path_and_headers(caplog: pytest.LogCaptureFixture) -> None:
    requests = [
        handshake("/\x1b[2J"),
        handshake("/\x00"),
        handshake("/a\nforged line"),
        handshake("/%0d%0aforged%20line%1b[2J"),
        handshake("/", "Origin: http://a\x1b[2J"),
        handshake("/", 'Host: a"\x85forged'),
        handshake("/", "Sec-WebSocket-Protocol: \x9b2J\x85forged"),
        b"GET /%1b[2J%0aforged HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"G\x1b[2JET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ]

    async def main() -> None:
        async with serving(Echo().app) as server:
            for data in requests:
                async with connect(server) as client:
                    await client.send(data)
                    await client.head()

    with caplog.at_level(logging.DEBUG, "fastws"):
        run(main())
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("fastws")]
    assert len(lines) >= len(requests)
    for line in lines:
        assert line.isprintable(), ascii(line)


# A18: cut anywhere


def test_a18_the_request_split_at_every_byte() -> None:
    data = handshake("/path?query=1", "Sec-WebSocket-Protocol: a, b") + frame(b"behind")

    async def main() -> None:
        async with serving(Echo().app, date_header=False) as server:
            heads = set()
            for cut in range(1, len(data)):
                async with connect(server) as client:
                    await client.send(data[:cut])
                    await asyncio.sleep(0)
                    await client.send(data[cut:])
                    heads.add(await client.head())
                    assert await client.frame() == (1, b"behind")
            assert len(heads) == 1
            assert ACCEPTED in heads.pop()

    run(main())


@pytest.mark.parametrize(
    ("data", "status"),
    [(handshake("/", "Sec-WebSocket-Key: x"), 400), (handshake("/", "X: bare\nlf"), 400)],
)
def test_a18_a_bad_request_split_at_every_byte(data: bytes, status: int) -> None:
    async def main() -> None:
        async with serving(Echo().app, date_header=False) as server:
            answers = set()
            for cut in range(1, len(data)):
                async with connect(server) as client:
                    await client.send(data[:cut])
                    await asyncio.sleep(0)
                    await send_if_possible(client, data[cut:])
                    answers.add(await client.rest())
            assert len(answers) == 1
            assert status_of(answers.pop()) == status

    run(main())


def test_a18_the_request_byte_by_byte() -> None:
    async def main() -> None:
        async with serving(Echo().app) as server, connect(server) as client:
            await send_in_pieces(client, handshake() + frame(b"behind"), 1)
            assert status_of(await client.head()) == 101
            assert await client.frame() == (1, b"behind")

    run(main())


# A20: subprotocols


def test_a20_a_subprotocol_that_was_not_offered() -> None:
    for offer in ([], ["Sec-WebSocket-Protocol: chat, v2"]):
        error, head = outcome_of(lambda ws: ws.accept(subprotocol="other"), handshake("/", *offer))
        assert isinstance(error, ValueError)
        assert "other" in str(error)
        assert status_of(head) == 101
        assert b"Sec-WebSocket-Protocol" not in head


def test_a20_no_subprotocol_picked() -> None:
    error, head = outcome_of(
        lambda ws: ws.accept(), handshake("/", "Sec-WebSocket-Protocol: chat, v2")
    )
    assert error is None
    assert b"Sec-WebSocket-Protocol" not in head


def test_a20_one_that_was_offered() -> None:
    error, head = outcome_of(
        lambda ws: ws.accept(subprotocol="v2"),
        handshake("/", "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: v2"),
    )
    assert error is None
    assert b"\r\nSec-WebSocket-Protocol: v2\r\n" in head
