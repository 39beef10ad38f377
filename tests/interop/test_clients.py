"""Our server with other implementations' clients."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.interop.clients import CLIENTS, WebsocketClient
from tests.support import ServerProcess

pytestmark = pytest.mark.foreign

MIB = 2**20
MESSAGES = ["", "x", "y" * 125, "z" * 126, "héllo wörld €𝄞 " * 40, "w" * 65536, "é" * (MIB // 2)]
MESSAGES_BINARY = [b"", b"\x00\xff", secrets.token_bytes(MIB), bytes(MIB)]
Connect = Callable[..., Any]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("tests.interop.application:app") as process:
        yield process
    assert "Traceback" not in process.output


@pytest.fixture(params=CLIENTS)
def connect(request: pytest.FixtureRequest, server: ServerProcess) -> Iterator[Connect]:
    with ExitStack() as stack:

        def open(path: str, *, compressed: bool = False, subprotocols: tuple[str, ...] = ()) -> Any:
            client = CLIENTS[request.param](server.url + path, compressed, subprotocols)
            stack.callback(client.drop)
            return client

        yield open


@pytest.mark.parametrize("mode", ["off", "dedicated", "shared"])
def test_messages_come_back(connect: Connect, mode: str) -> None:
    client = connect(f"/{mode}", compressed=mode != "off")
    is_able = not isinstance(client, WebsocketClient)
    assert client.compressed is (is_able and mode != "off")
    for message in (*MESSAGES, *MESSAGES_BINARY, *MESSAGES):
        client.send(message)
        assert client.receive() == message


def test_a_client_that_offers_compression_is_served_by_a_server_that_has_none(
    connect: Connect,
) -> None:
    client = connect("/off", compressed=True)
    assert not client.compressed
    client.send("plain " * 1000)
    assert client.receive() == "plain " * 1000


# aiohttp has no way to send any.
@pytest.mark.parametrize("mode", ["off", "dedicated"])
@pytest.mark.parametrize("connect", ["websockets", "websocket-client", "node-ws"], indirect=True)
def test_fragments_are_put_together(connect: Connect, mode: str) -> None:
    client = connect(f"/{mode}", compressed=mode != "off")
    for fragments in (["héllo ", "", "wörld"], ["a" * 70_000, "b" * 10], [""] * 3 + ["x"]):
        client.send_fragments(fragments)
        assert client.receive() == "".join(fragments)


def test_a_ping_is_answered(connect: Connect) -> None:
    client = connect("/off")
    client.ping(b"1234")
    client.ping(b"x" * 125)


def test_our_ping_is_answered(connect: Connect) -> None:
    assert connect("/pings").receive() == "alive"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [((), None), (("chat.v1",), "chat.v1"), (("mqtt", "chat.v1", "chat.v2"), "chat.v1")],
)
def test_subprotocols(connect: Connect, offered: tuple[str, ...], chosen: str | None) -> None:
    client = connect("/speaks", subprotocols=offered)
    assert client.subprotocol == chosen
    assert client.receive() == (chosen or "none")


def test_a_client_sees_our_close_code_and_reason(connect: Connect) -> None:
    assert connect("/closes").ended() == (4321, "au revoir, ça suffit")


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_we_see_a_clients_close_code_and_reason(connect: Connect, code: int) -> None:
    name = secrets.token_hex(4)
    client = connect(f"/listens/{name}")
    assert client.close(code, "ciao, à bientôt") == code
    assert json.loads(connect(f"/told/{name}").receive()) == [code, "ciao, à bientôt"]
