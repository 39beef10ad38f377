"""The pages about proxies: what passes through nginx and Caddy, set up as they say."""

from __future__ import annotations

import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.deployment.proxies import Behind, behind_caddy, behind_nginx, tls
from tests.support import TIMEOUT

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
) -> AbstractContextManager[ClientConnection]:
    return connect(
        proxy.url + path,
        ssl=tls(),
        compression="deflate" if compressed else None,
        additional_headers=headers,
        origin=origin,  # type: ignore[arg-type]
        open_timeout=4 * TIMEOUT,
        close_timeout=TIMEOUT,
        max_size=None,
        proxy=None,
    )


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
def test_messages_of_every_size_come_back(proxy: Behind, compressed: bool) -> None:
    with opened(proxy, "/echo", compressed=compressed) as ws:
        for message in ("", "x", "héllo", b"\x00\xff" * 100, secrets.token_bytes(2**20)):
            ws.send(message)
            assert ws.recv(TIMEOUT) == message


def test_the_application_sees_the_scheme_the_host_and_the_client(proxy: Behind) -> None:
    with opened(proxy, "/whoami?q=1") as ws:
        seen = json.loads(ws.recv(TIMEOUT))
    assert seen == {"url": f"wss://{proxy.host}/whoami?q=1", "client": "127.0.0.1"}


def test_what_a_client_says_of_itself_is_not_believed(proxy: Behind) -> None:
    forged = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "http"}
    with opened(proxy, "/whoami", headers=forged) as ws:
        seen = json.loads(ws.recv(TIMEOUT))
    assert seen == {"url": f"wss://{proxy.host}/whoami", "client": "127.0.0.1"}


def test_a_page_of_the_same_origin_is_let_in_and_another_is_not(proxy: Behind) -> None:
    with opened(proxy, "/same", origin=f"https://{proxy.host}") as ws:
        assert ws.recv(TIMEOUT) == "let in"
    with pytest.raises(InvalidStatus) as refused:
        with opened(proxy, "/same", origin="https://evil.example"):
            pass
    assert refused.value.response.status_code == 403


def test_close_codes_and_reasons_pass(proxy: Behind) -> None:
    with opened(proxy, "/leaves") as ws:
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(TIMEOUT)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4321, "au revoir")


def test_pings_pass_both_ways(proxy: Behind) -> None:
    with opened(proxy, "/echo") as ws:
        assert ws.ping().wait(TIMEOUT)


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
    with behind(tmp_path) as proxy, opened(proxy, "/echo") as ws:
        ws.send("before")
        assert ws.recv(TIMEOUT) == "before"
        assert proxy.server.stop() == 0
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(TIMEOUT)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


@pytest.mark.parametrize("behind", [behind_nginx, behind_caddy], ids=["nginx", "caddy"])
def test_a_quiet_connection_is_kept_open_by_pings(behind, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The proxy's patience is cut to two seconds here: the pings come before that."""
    with behind(tmp_path, "--ws-ping-interval", "0.5s") as proxy:
        with opened(proxy, "/echo") as ws:
            with pytest.raises(TimeoutError):
                ws.recv(3)
            ws.send("still there")
            assert ws.recv(TIMEOUT) == "still there"
