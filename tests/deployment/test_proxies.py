"""The pages about proxies: what passes through nginx and Caddy, set up as they say.

The client is one without threads: with one that reads over TLS while another writes, a request was
lost now and then (https://github.com/python/cpython/issues/151508).
"""

from __future__ import annotations

import asyncio
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.deployment.proxies import Behind, behind_caddy, behind_nginx, tls
from tests.support import TIMEOUT, run, within

pytestmark = pytest.mark.foreign


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    behind = {"nginx": behind_nginx, "caddy": behind_caddy}[request.param]
    with behind(
        tmp_path_factory.mktemp(request.param), "--ws-per-message-deflate", "dedicated"
    ) as it:
        yield it


def opened(
    proxy: Behind,
    path: str,
    *,
    headers: dict[str, str] | None = None,
    origin: str | None = None,
    compressed: bool = False,
) -> connect:
    return connect(
        proxy.url + path,
        ssl=tls(),
        compression="deflate" if compressed else None,
        additional_headers=headers,
        origin=origin,  # type: ignore[arg-type]
        ping_interval=None,
        open_timeout=4 * TIMEOUT,
        close_timeout=TIMEOUT,
        max_size=None,
        proxy=None,
    )


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
def test_messages_of_every_size_come_back(proxy: Behind, compressed: bool) -> None:
    async def main() -> None:
        async with opened(proxy, "/echo", compressed=compressed) as ws:
            for message in ("", "x", "héllo", b"\x00\xff" * 100, secrets.token_bytes(2**20)):
                await ws.send(message)
                assert await within(ws.recv()) == message

    run(main())


async def seen_by(proxy: Behind, path: str, **options: Any) -> dict[str, Any]:
    """What the application there says of the request."""
    async with opened(proxy, path, **options) as ws:
        seen: dict[str, Any] = json.loads(await within(ws.recv()))
        return seen


def test_the_application_sees_the_scheme_the_host_and_the_client(proxy: Behind) -> None:
    seen = run(seen_by(proxy, "/whoami?q=1"))
    assert seen == {"url": f"wss://{proxy.host}/whoami?q=1", "client": "127.0.0.1"}


def test_what_a_client_says_of_itself_is_not_believed(proxy: Behind) -> None:
    forged = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "http"}
    seen = run(seen_by(proxy, "/whoami", headers=forged))
    assert seen == {"url": f"wss://{proxy.host}/whoami", "client": "127.0.0.1"}


def test_a_page_of_the_same_origin_is_let_in_and_another_is_not(proxy: Behind) -> None:
    async def main() -> None:
        async with opened(proxy, "/same", origin=f"https://{proxy.host}") as ws:
            assert await within(ws.recv()) == "let in"
        with pytest.raises(InvalidStatus) as refused:
            await opened(proxy, "/same", origin="https://evil.example")
        assert refused.value.response.status_code == 403

    run(main())


def test_close_codes_and_reasons_pass(proxy: Behind) -> None:
    async def main() -> None:
        async with opened(proxy, "/leaves") as ws:
            with pytest.raises(ConnectionClosed) as closed:
                await within(ws.recv())
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4321, "au revoir")

    run(main())


def test_pings_pass_both_ways(proxy: Behind) -> None:
    async def main() -> None:
        async with opened(proxy, "/echo") as ws:
            await within(await ws.ping())

    run(main())


def test_health_is_seen_and_the_figures_are_not(proxy: Behind) -> None:
    with urllib.request.urlopen(
        f"https://{proxy.host}/health", timeout=TIMEOUT, context=tls()
    ) as response:
        assert json.load(response) == {"status": "serving"}
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"https://{proxy.host}/metrics", timeout=TIMEOUT, context=tls())
    assert refused.value.code == 404
    refused.value.close()


@pytest.mark.parametrize("behind", [behind_nginx, behind_caddy], ids=["nginx", "caddy"])
def test_a_server_that_stops_says_so_through_the_proxy(behind, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    async def main(proxy: Behind) -> None:
        async with opened(proxy, "/echo") as ws:
            await ws.send("before")
            assert await within(ws.recv()) == "before"
            assert await asyncio.to_thread(proxy.server.stop) == 0
            with pytest.raises(ConnectionClosed) as closed:
                await within(ws.recv())
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012

    with behind(tmp_path) as proxy:
        run(main(proxy))


@pytest.mark.parametrize("behind", [behind_nginx, behind_caddy], ids=["nginx", "caddy"])
def test_a_quiet_connection_is_kept_open_by_pings(behind, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The proxy's patience is cut to two seconds here: the pings come before that."""

    async def main(proxy: Behind) -> None:
        async with opened(proxy, "/echo") as ws:
            with pytest.raises(asyncio.TimeoutError):
                await within(ws.recv(), 3)
            await ws.send("still there")
            assert await within(ws.recv()) == "still there"

    with behind(tmp_path, "--ws-ping-interval", "0.5s") as proxy:
        run(main(proxy))
