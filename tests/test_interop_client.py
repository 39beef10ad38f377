"""Our client with other implementations' servers: `websockets`, aiohttp, and node's `ws`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from fastws import WebSocketDisconnect
from fastws.client import connect
from tests.interop.node import node_with_ws
from tests.support import TIMEOUT, run

# Each server does what the last part of the path says: /echo, /fragments, /pings, /closes, and
# /told, which tells how the connection before ended. The first part, /on or /off, is compression.

SUBPROTOCOL = "chat.v2"


class Ends:
    """How the last connection ended."""

    def __init__(self) -> None:
        self._last: list[Any] = []
        self._known = asyncio.Event()

    def note(self, code: int | None, reason: str | None) -> None:
        self._last = [code, reason]
        self._known.set()

    async def last(self) -> list[Any]:
        """Once there is one: its server may still be about to note it."""
        await asyncio.wait_for(self._known.wait(), TIMEOUT)
        return self._last


@contextlib.asynccontextmanager
async def websockets_server() -> AsyncIterator[str]:
    ends = Ends()

    async def talk(ws: ServerConnection) -> None:
        assert ws.request is not None
        path = ws.request.path.rpartition("/")[2]
        if path == "told":
            await ws.send(json.dumps(await ends.last()))
            return
        if path == "fragments":
            await ws.send(["frag", "ments"])
        elif path == "pings":
            await (await ws.ping(b"are you there?"))
            await ws.send("pong are you there?")
        elif path == "closes":
            await ws.close(4321, "au revoir, ça suffit")
        else:
            with contextlib.suppress(ConnectionClosed):
                async for message in ws:
                    await ws.send(message)
        await ws.wait_closed()
        ends.note(ws.close_code, ws.close_reason)

    def choose(_: ServerConnection, offered: Any) -> Any:
        return SUBPROTOCOL if SUBPROTOCOL in offered else None

    async with serve(talk, "127.0.0.1", 0, select_subprotocol=choose) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextlib.asynccontextmanager
async def aiohttp_server() -> AsyncIterator[str]:
    ends = Ends()

    async def talk(request: web.Request) -> web.StreamResponse:
        compressed, path = request.path.split("/")[1:]
        ws = web.WebSocketResponse(
            protocols=[SUBPROTOCOL], compress=compressed == "on", autoping=False
        )
        await ws.prepare(request)
        if path == "told":
            await ws.send_json(await ends.last())
            await ws.close()
            return ws
        if path == "pings":
            await ws.ping(b"are you there?")
        elif path == "closes":
            await ws.close(code=4321, message="au revoir, ça suffit".encode())
        async for message in ws:
            if message.type is aiohttp.WSMsgType.TEXT:
                await ws.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await ws.send_bytes(message.data)
            elif message.type is aiohttp.WSMsgType.PING:
                await ws.pong(message.data)
            elif message.type is aiohttp.WSMsgType.PONG:
                await ws.send_str(f"pong {message.data.decode()}")
        ends.note(ws.close_code, "")
        return ws

    application = web.Application()
    application.router.add_get("/{compression}/{path}", talk)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture(scope="module")
def node_url() -> Iterator[str]:
    """A server made with node's `ws`, in one process for all cases."""
    node, environment = node_with_ws()
    script = Path(__file__).parent / "interop" / "server.js"
    with subprocess.Popen(
        [node, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield f"ws://127.0.0.1:{port}"
        process.stdin.close()
        assert process.wait(2 * TIMEOUT) == 0


SERVERS = ["websockets", "aiohttp", "ws"]


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "ws":
        request.getfixturevalue("node_url")
    return name


@pytest.fixture
def serving(kind: str, request: pytest.FixtureRequest) -> Any:
    """Returns a context manager: the URL of the server."""
    if kind == "ws":
        return lambda: contextlib.nullcontext(request.getfixturevalue("node_url"))
    return websockets_server if kind == "websockets" else aiohttp_server


def opening(url: str, path: str, compression: str = "off", **options: Any) -> connect:
    part = "off" if compression == "off" else "on"
    return connect(
        f"{url}/{part}/{path}",
        compression=compression,
        proxy=None,
        ws_deflate_threshold=0,
        ws_max_size="2MiB",
        **options,
    )


async def told(url: str) -> Any:
    """How the last connection ended for the server."""
    async with opening(url, "told") as ws:
        return await ws.receive_json(timeout=TIMEOUT)


@pytest.mark.parametrize("compression", ["off", "shared", "dedicated"])
def test_messages(compression: str, serving: Any) -> None:
    messages: list[str | bytes] = ["", "text", "ünï∀ 😀", b"", bytes(range(256)), "again " * 300]
    # Less what the frames need: servers have 1 MiB for a default limit.
    messages += ["x" * 2**20, b"\x00\xff" * 2**19]

    async def main() -> None:
        async with serving() as url, opening(url, "echo", compression) as ws:
            agreed = ws.response_headers.get("sec-websocket-extensions", "")
            assert ("permessage-deflate" in agreed) is (compression != "off")
            for message in messages * 2:
                if isinstance(message, str):
                    await ws.send_text(message)
                    assert await ws.receive_text(timeout=TIMEOUT) == message
                else:
                    await ws.send_bytes(message)
                    assert await ws.receive_bytes(timeout=TIMEOUT) == message

    run(main())


@pytest.mark.parametrize("compression", ["off", "dedicated"])
def test_many_messages_in_flight(compression: str, serving: Any) -> None:
    async def main() -> None:
        async with serving() as url, opening(url, "echo", compression) as ws:

            async def send() -> None:
                for number in range(500):
                    await ws.send_text(f"{number} " * (number % 50 + 1))

            sending = asyncio.ensure_future(send())
            for number in range(500):
                expected = f"{number} " * (number % 50 + 1)
                assert await ws.receive_text(timeout=TIMEOUT) == expected
            await sending

    run(main())


# aiohttp has no way to send any.
@pytest.mark.parametrize("kind", ["websockets", "ws"], indirect=True)
@pytest.mark.parametrize("compression", ["off", "dedicated"])
def test_fragments(compression: str, serving: Any) -> None:
    async def main() -> None:
        async with serving() as url, opening(url, "fragments", compression) as ws:
            assert await ws.receive_text(timeout=TIMEOUT) == "fragments"

    run(main())


def test_pings_in_both_directions(serving: Any) -> None:
    async def main() -> None:
        async with serving() as url:
            async with opening(url, "pings") as ws:
                assert await ws.receive_text(timeout=TIMEOUT) == "pong are you there?"
            async with opening(url, "echo") as ws:
                assert await asyncio.wait_for(ws.ping(b"and you?"), TIMEOUT) >= 0
                assert await asyncio.wait_for(ws.ping(), TIMEOUT) >= 0

    run(main())


def test_the_server_closes(serving: Any) -> None:
    async def main() -> None:
        async with serving() as url, opening(url, "closes") as ws:
            with pytest.raises(WebSocketDisconnect) as caught:
                await ws.receive_text(timeout=TIMEOUT)
            assert (caught.value.code, caught.value.reason) == (4321, "au revoir, ça suffit")

    run(main())


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "gone"), (4999, "ça suffit")])
def test_the_client_closes(code: int, reason: str, kind: str, serving: Any) -> None:
    async def main() -> None:
        async with serving() as url:
            async with opening(url, "echo") as ws:
                await ws.close(code, reason)
                # aiohttp answers any code with 1000, and keeps no reason.
                assert ws.close_code == (1000 if kind == "aiohttp" else code)
            assert await told(url) == [code, "" if kind == "aiohttp" else reason]

    run(main())


def test_subprotocols(serving: Any) -> None:
    async def main() -> None:
        async with serving() as url:
            async with opening(url, "echo", subprotocols=["chat.v1", SUBPROTOCOL]) as ws:
                assert ws.subprotocol == SUBPROTOCOL
            async with opening(url, "echo") as ws:
                assert ws.subprotocol is None

    run(main())
