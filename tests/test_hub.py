"""What the connections of a server share."""

from __future__ import annotations

import asyncio

import pytest

from fastws import FastWS, Request, WebSocket
from fastws.config import Config
from fastws.hub import Hub
from tests.serving import connect, exchange, handshake, serving, status_of
from tests.support import TIMEOUT, run

HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"


def test_the_health_page_answers_without_the_application() -> None:
    app = FastWS()

    @app.middleware("http")
    async def closed_shop(request: object, call_next: object) -> object:
        raise AssertionError("this is not asked")

    async def main() -> None:
        async with serving(app, health="/health") as server, connect(server) as client:
            for _ in range(2):
                await client.send(HEALTH)
                assert status_of(await client.head()) == 200
                assert await client.exactly(20) == b'{"status":"serving"}'
            await client.send(HEALTH.replace(b"GET", b"HEAD"))
            assert status_of(await client.head()) == 200
            await client.send(HEALTH.replace(b"GET", b"POST"))
            assert status_of(await client.head()) == 405
            assert status_of(await exchange(server, HEALTH.replace(b"Host: a\r\n", b""))) == 400

    run(main())


@pytest.mark.parametrize(("path", "status"), [("/health?probe=1", 200), ("/healthy", 404)])
def test_the_health_page_has_one_path(path: str, status: int) -> None:
    async def main() -> None:
        request = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
        async with serving(FastWS(), health="/health") as server:
            assert status_of(await exchange(server, request)) == status

    run(main())


def test_headers_of_every_response_are_made_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        hub = Hub(Config("x", server_header=True), FastWS(), asyncio.get_running_loop())
        monkeypatch.setattr("time.time", lambda: 1000.2)
        headers = hub.response_headers()
        assert (b"Server", b"fastws") in headers
        assert (b"Date", b"Thu, 01 Jan 1970 00:16:40 GMT") in headers
        assert hub.response_headers() is headers
        monkeypatch.setattr("time.time", lambda: 1001.0)
        assert hub.response_headers() is not headers

    run(main())


def test_a_hub_without_connections_is_empty() -> None:
    async def main() -> None:
        hub = Hub(Config("x"), FastWS(), asyncio.get_running_loop())
        await hub.wait_until_empty()
        assert len(hub) == 0
        hub.drain()
        assert hub.app.draining
        hub.finish()

    run(main())


@pytest.mark.parametrize(
    ("host", "connect_to", "told"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.2", "127.0.0.2"),
        ("localhost", "127.0.0.1", "127.0.0.1"),
        ("::1", "::1", "::1"),
        ("::", "::1", "::1"),
    ],
)
def test_connections_know_which_address_of_the_server_they_have(
    host: str, connect_to: str, told: str
) -> None:
    app = FastWS()
    found: list[object] = []

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        found.append(ws.scope["server"])
        await ws.accept()

    @app.get("/page")
    async def page(request: Request) -> str:
        found.append(request.scope["server"])
        return "x"

    async def main() -> None:
        async with serving(app, host=host) as server:
            port = server.addresses[0][1]
            for request in (handshake("/"), b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n"):
                reader, writer = await asyncio.open_connection(connect_to, port)
                writer.write(request)
                await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT)
                writer.close()
                await writer.wait_closed()
            assert found == [(told, port)] * 2

    run(main())
