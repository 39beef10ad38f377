"""Clients behind proxies: whose word counts, what it says, and what follows from it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws import FastWS, WebSocket
from fastws.proxies import MAX_HOPS, Client, TrustedProxies
from fastws.requests import Request
from fastws.server import Server
from tests import serving as wire
from tests.connections import until
from tests.serving import connect, exchange, handshake, serving, status_of
from tests.support import ROOT, TIMEOUT, run

PROXY = ("10.0.0.1", 4000)


def fields(*pairs: tuple[str, str]) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in pairs:
        found.setdefault(name.lower().encode(), []).append(value.encode("latin-1"))
    return found


def client_of(
    chain: str | None, scheme: str | None = None, *, peers: str = "10.0.0.0/8", **options: Any
) -> Client:
    found = []
    if chain is not None:
        found.append(("X-Forwarded-For", chain))
    if scheme is not None:
        found.append(("X-Forwarded-Proto", scheme))
    options = {"peer": PROXY, "secure": False, **options}
    return TrustedProxies(peers.split(",")).client_of(
        options["peer"], fields(*found), secure=options["secure"]
    )


# Whose word counts


@pytest.mark.parametrize(
    ("peers", "peer", "trusted"),
    [
        (("127.0.0.1",), ("127.0.0.1", 1), True),
        (("127.0.0.1",), ("127.0.0.2", 1), False),
        (("127.0.0.1",), ("::1", 1), False),
        (("127.0.0.1",), ("::ffff:127.0.0.1", 1), True),
        (("10.0.0.0/8", "::1"), ("10.255.0.1", 1), True),
        (("10.0.0.0/8", "::1"), ("11.0.0.1", 1), False),
        (("10.0.0.0/8", "::1"), ("::1", 1), True),
        (("2001:db8::/32",), ("2001:db8:1::1", 1), True),
        (("2001:db8::/32",), ("10.0.0.1", 1), False),
        (("fe80::/10",), ("fe80::1%eth0", 1), True),
        (("*",), ("203.0.113.1", 1), True),
        (("*",), "", True),
        (("unix",), "", True),
        (("unix",), b"", True),
        (("unix",), ("127.0.0.1", 1), False),
        (("127.0.0.1",), "", False),
        # Gone before anybody could ask who it was.
        (("*",), None, False),
        (("unix",), None, False),
        ((), ("127.0.0.1", 1), False),
    ],
)
def test_trusted_peers(peers: tuple[str, ...], peer: Any, trusted: bool) -> None:
    assert TrustedProxies(peers).trusts(peer) is trusted


def test_the_headers_of_anybody_else_are_ignored() -> None:
    peer = ("203.0.113.1", 1)
    assert client_of("192.0.2.1", "https", peer=peer) == Client(peer, None)
    assert client_of("192.0.2.1", "http", peer=peer, secure=True) == Client(peer, True)


# The chain


@pytest.mark.parametrize(
    ("chain", "address"),
    [
        (None, PROXY),
        ("", PROXY),
        (" , ,", PROXY),
        ("192.0.2.1", ("192.0.2.1", 0)),
        ("192.0.2.1:5000", ("192.0.2.1", 5000)),
        ("[2001:db8::1]:5000", ("2001:db8::1", 5000)),
        ("2001:DB8::0001", ("2001:db8::1", 0)),
        # What stands left of the client, the client may have written.
        ("203.0.113.9, 192.0.2.1", ("192.0.2.1", 0)),
        ("203.0.113.9, 192.0.2.1, 10.0.0.2 ,10.0.0.3", ("192.0.2.1", 0)),
        ("10.9.9.9, 192.0.2.1, 10.0.0.2", ("192.0.2.1", 0)),
        # All of it is trusted: the first of them.
        ("10.0.0.3, 10.0.0.2", ("10.0.0.3", 0)),
        # What cannot be read ends the way there.
        ("192.0.2.1, unknown", PROXY),
        ("192.0.2.1, unknown, 10.0.0.2", ("10.0.0.2", 0)),
        ("unknown, 192.0.2.1", ("192.0.2.1", 0)),
        ("\x1b[2J\x85", PROXY),
        ("fe80::1%\x9b", PROXY),
        (", 192.0.2.1 ,,", ("192.0.2.1", 0)),
    ],
)
def test_the_client_is_the_rightmost_that_is_not_trusted(
    chain: str | None, address: tuple[str, int]
) -> None:
    assert client_of(chain).address == address


def test_several_headers_are_one_chain() -> None:
    proxies = TrustedProxies(["10.0.0.0/8"])
    found = fields(("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "192.0.2.1, 10.0.0.2"))
    assert proxies.client_of(PROXY, found, secure=False).address == ("192.0.2.1", 0)


def test_everybody_is_trusted() -> None:
    assert client_of("192.0.2.1, 203.0.113.9", peers="*").address == ("192.0.2.1", 0)


def test_a_chain_without_end_is_looked_at_for_a_while() -> None:
    hops = [f"10.1.{number >> 8}.{number & 255}" for number in range(3000)]
    assert client_of(", ".join(hops)).address == (hops[-MAX_HOPS], 0)
    assert client_of("192.0.2.1" + ", 10.0.0.2" * (MAX_HOPS - 1)).address == ("192.0.2.1", 0)
    assert client_of("," * 30_000).address == PROXY
    assert client_of("192.0.2.1" + "," * 30_000).address == PROXY


def test_a_peer_on_a_unix_socket() -> None:
    assert client_of("192.0.2.1", "https", peers="unix", peer="") == Client(("192.0.2.1", 0), True)
    assert client_of(None, peers="unix", peer="") == Client(None, None)
    assert client_of("192.0.2.1", peers="127.0.0.1", peer="") == Client(None, None)


# The scheme


@pytest.mark.parametrize(
    ("scheme", "secure"),
    [
        *((None, None), ("", None), ("ftp", None), ("httpsx", None), ("\x00", None)),
        *(("https", True), ("wss", True), (" HTTPS ", True), ("http", False), ("ws", False)),
        # Only the last word is a trusted proxy's, as long as nothing says where the others belong.
        *(("https, http", False), ("http, https", True), ("https, nonsense", None)),
    ],
)
def test_the_scheme_that_the_client_speaks(scheme: str | None, secure: bool | None) -> None:
    assert client_of("192.0.2.1", scheme).secure is secure


@pytest.mark.parametrize(
    ("chain", "schemes", "secure"),
    [
        ("192.0.2.1, 10.0.0.2", "https, http", True),
        ("192.0.2.1, 10.0.0.2", "http, https", False),
        ("203.0.113.9, 192.0.2.1, 10.0.0.2", "http, https, http", True),
        ("203.0.113.9, 192.0.2.1", "https, http", False),
        ("192.0.2.1, 10.0.0.2", "https", True),
        ("192.0.2.1, 10.0.0.2", "https, https, http", False),
    ],
)
def test_one_scheme_for_each_hop(chain: str, schemes: str, secure: bool) -> None:
    assert client_of(chain, schemes).secure is secure


def test_tls_to_the_proxy_itself() -> None:
    assert client_of(None, secure=True).secure is True
    # What the client spoke is what counts.
    assert client_of("192.0.2.1", "http", secure=True).secure is False
    assert client_of("192.0.2.1", "nonsense", secure=True).secure is True


@given(
    st.dictionaries(
        st.sampled_from([b"x-forwarded-for", b"x-forwarded-proto", b"forwarded"]),
        st.lists(st.binary(max_size=100), min_size=1, max_size=3),
    )
)
def test_nothing_raises(found: dict[bytes, list[bytes]]) -> None:
    for peers in (["*"], ["10.0.0.0/8"], ["unix"]):
        client = TrustedProxies(peers).client_of(PROXY, found, secure=False)
        assert client.address is not None
        assert client.address[0].isprintable()


# In the server


class Told:
    """An application whose connections tell what they know about their clients."""

    def __init__(self) -> None:
        self.app = FastWS()
        self.connections: list[tuple[Any, str, str]] = []

        @self.app.websocket("/")
        async def describe(ws: WebSocket) -> None:
            await ws.accept()
            self.connections.append((ws.client, str(ws.url), ws.headers.get("x-forwarded-for", "")))
            async for _ in ws:
                pass

        @self.app.get("/page")
        async def page(request: Request) -> list[Any]:
            client = request.client
            return [client and tuple(client), str(request.url)]


@contextlib.asynccontextmanager
async def open_websocket(server: Server, *lines: str, **options: Any) -> AsyncIterator[wire.Client]:
    async with connect(server, **options) as client:
        await client.send(handshake("/", *lines))
        assert status_of(await client.head()) == 101
        yield client


FORWARDED = ("X-Forwarded-For: 203.0.113.9, 192.0.2.1", "X-Forwarded-Proto: https")


def test_a_websocket_behind_a_trusted_proxy(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        told = Told()
        async with serving(told.app) as server, open_websocket(server, *FORWARDED):
            await until(lambda: told.connections)
            client, url, header = told.connections[0]
            assert client == ("192.0.2.1", 0)
            assert url == "wss://example.org/"
            assert header == "203.0.113.9, 192.0.2.1"
            page = b"GET /page HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            page += "".join(f"{line}\r\n" for line in FORWARDED).encode() + b"\r\n"
            answer = await exchange(server, page)
            assert answer.endswith(b'[["192.0.2.1",0],"https://a/page"]')
            refused = handshake("/", *FORWARDED, without="Sec-WebSocket-Key")
            assert status_of(await exchange(server, refused)) == 400

    with caplog.at_level(logging.INFO, "fastws"):
        run(main())
    lines = [record.getMessage() for record in caplog.records if record.name == "fastws.access"]
    assert len(lines) >= 4
    assert all("192.0.2.1:0" in line for line in lines), lines
    assert not any("127.0.0.1" in line or "203.0.113.9" in line for line in lines)


@pytest.mark.parametrize(
    "options", [{"forwarded_allow_ips": "10.0.0.0/8"}, {"proxy_headers": False}]
)
def test_a_websocket_behind_a_proxy_that_is_not_trusted(options: dict[str, Any]) -> None:
    async def main() -> None:
        told = Told()
        async with serving(told.app, **options) as server:
            async with open_websocket(server, *FORWARDED) as peer:
                own = peer.writer.get_extra_info("sockname")
                await until(lambda: told.connections)
                # The header stays as it is for whoever wants to look at it.
                assert told.connections == [(own, "ws://example.org/", "203.0.113.9, 192.0.2.1")]

    run(main())


def test_lines_that_a_header_would_forge(caplog: pytest.LogCaptureFixture) -> None:
    chains = ["\x1b[2J", '"', "1.2.3.4\x85 forged", "fe80::1%\x9b2J", "[::1]\x80:9", "%0aforged"]

    async def main() -> None:
        async with serving(Told().app) as server:
            for chain in chains:
                data = handshake("/nowhere", f"X-Forwarded-For: {chain}")
                assert status_of(await exchange(server, data)) in (400, 404)

    with caplog.at_level(logging.INFO, "fastws"):
        run(main())
    lines = [record.getMessage() for record in caplog.records if record.name == "fastws.access"]
    assert len(lines) == len(chains)
    assert all(line.startswith("127.0.0.1:") and line.isprintable() for line in lines), lines


def test_the_same_origin_behind_a_proxy() -> None:
    async def status(server: Server, origin: str, *lines: str) -> int:
        async with connect(server) as client:
            await client.send(handshake("/", f"Origin: {origin}", *lines))
            return status_of(await client.head())

    async def main() -> None:
        async with serving(Told().app, ws_origins="same") as server:
            for proto, own, other in (("https", "https", "http"), ("ws", "http", "https")):
                line = f"X-Forwarded-Proto: {proto}"
                assert await status(server, f"{own}://example.org", line) == 101
                assert await status(server, f"{other}://example.org", line) == 403
                assert await status(server, f"{own}://example.org:8443", line) == 403
            # Nobody says what a proxy speaks, if there is one: both may be right.
            for scheme in ("http", "https"):
                assert await status(server, f"{scheme}://example.org") == 101
            host = "X-Forwarded-Host: other.example"
            assert await status(server, "https://other.example", host) == 403

    run(main())


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets")
def test_a_proxy_on_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        told = Told()
        async with serving(told.app, uds=path, forwarded_allow_ips="unix"):
            client = wire.Client(*await asyncio.open_unix_connection(path))
            await client.send(handshake("/", *FORWARDED))
            assert status_of(await client.head()) == 101
            await until(lambda: told.connections)
            assert told.connections[0][:2] == (("192.0.2.1", 0), "wss://example.org/")
            await client.close()

    run(main())


# Connections of one address

LIMIT: dict[str, Any] = {"limit_connections_per_ip": 2}
DIRECT: dict[str, Any] = {**LIMIT, "forwarded_allow_ips": "none"}


def addresses(server: Server) -> int:
    """How many addresses the server counts connections of."""
    assert server.hub is not None
    return len(server.hub.addresses)


@pytest.mark.parametrize("secure", [False, True])
def test_connections_of_one_address(secure: bool) -> None:
    async def main() -> None:
        options, tls = dict(DIRECT), {}
        if secure:
            options["ssl_certfile"] = str(ROOT / "tests" / "localhost.pem")
            trusted = ssl.create_default_context(cafile=options["ssl_certfile"])
            tls = {"ssl": trusted, "server_hostname": "localhost"}
        async with serving(Told().app, **options) as server:
            # One that is idle counts as well as one that is a WebSocket.
            async with open_websocket(server, **tls), connect(server) as idle:
                await until(lambda: len(server.hub or ()) == 2)
                async with connect(server, **tls) as third:
                    answer = await third.rest()
                    assert status_of(answer) == 503
                    assert b"this address has all the connections" in answer
                # Another address has its own. Linux listens to all of 127.0.0.0/8.
                if sys.platform == "linux":
                    async with open_websocket(server, local_addr=("127.0.0.2", 0), **tls):
                        assert addresses(server) == 2
                await idle.close()
                await until(lambda: len(server.hub or ()) == 1)
                async with open_websocket(server, **tls):
                    pass
            await until(lambda: len(server.hub or ()) == 0)
            assert addresses(server) == 0

    run(main())


def test_far_more_connections_of_one_address_are_cut() -> None:
    async def main() -> None:
        async with serving(Told().app, **DIRECT) as server, contextlib.AsyncExitStack() as stack:
            answers = []
            clients = [await stack.enter_async_context(connect(server)) for _ in range(12)]
            for client in clients[2:]:
                with contextlib.suppress(ConnectionError):
                    answers.append(await client.rest())
            refusals = [answer for answer in answers if answer]
            assert 4 <= len(refusals) < 10
            assert {status_of(answer) for answer in refusals} == {503}
            for client in clients:
                await client.close()
            await until(lambda: len(server.hub or ()) == 0)
            assert addresses(server) == 0

    run(main())


def test_clients_behind_a_proxy_are_counted_one_by_one() -> None:
    async def main() -> None:
        told = Told()
        async with serving(told.app, **LIMIT) as server, contextlib.AsyncExitStack() as stack:
            for _ in range(2):
                for host in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
                    line = f"X-Forwarded-For: {host}"
                    await stack.enter_async_context(open_websocket(server, line))
            assert addresses(server) == 3
            for host in ("192.0.2.1", "2001:db8::ffff"):
                answer = await exchange(server, handshake("/", f"X-Forwarded-For: {host}"))
                assert status_of(answer) == 503
            # The proxy's own connections wait for requests of anybody.
            idle = [await stack.enter_async_context(connect(server)) for _ in range(5)]
            await idle[-1].send(handshake("/", "X-Forwarded-For: 2001:db8:1::1"))
            assert status_of(await idle[-1].head()) == 101
            await stack.aclose()
            await until(lambda: len(server.hub or ()) == 0)
            assert addresses(server) == 0

    run(main())


@pytest.mark.parametrize("forwarded", [False, True])
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (handshake("/nowhere"), 404),
        (handshake("/number/x"), 422),
        (handshake(without="Sec-WebSocket-Key"), 400),
        (handshake("/refuses"), 403),
        (handshake("/fails"), 500),
        (b"GET /page HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200),
        (b"nonsense\r\n\r\n", 400),
    ],
)
def test_refused_connections_are_no_longer_counted(
    data: bytes, status: int, forwarded: bool, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()

    @told.app.websocket("/number/{number}")
    async def number(ws: WebSocket, number: int) -> None:
        await ws.accept()

    @told.app.websocket("/refuses")
    async def refuses(ws: WebSocket) -> None:
        await ws.close()

    @told.app.websocket("/fails")
    async def fails(ws: WebSocket) -> None:
        raise LookupError("on purpose")

    async def main() -> None:
        request = data
        options = LIMIT if forwarded else DIRECT
        if forwarded and data.startswith(b"GET"):
            request = data.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
        async with serving(told.app, **options) as server:
            for _ in range(5):
                answer = await exchange(server, request)
                assert status_of(answer) == status, answer
                assert server.hub is not None
                await asyncio.wait_for(server.hub.wait_until_empty(), TIMEOUT)
                assert addresses(server) == 0

    run(main())


def test_a_connection_that_is_reset_is_no_longer_counted() -> None:
    async def main() -> None:
        async with serving(Told().app, **DIRECT) as server:
            for request in (b"", b"GET /", handshake()):
                async with connect(server) as client:
                    await client.send(request)
                    if request == handshake():
                        await client.head()
                    await until(lambda: len(server.hub or ()) == 1)
                    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                    link = client.writer.get_extra_info("socket")
                    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    client.transport.abort()
                await until(lambda: len(server.hub or ()) == 0)
                assert addresses(server) == 0

    run(main())
