from __future__ import annotations

import asyncio
import logging
import socket
import struct

import pytest

from fastws import FastWS, WebSocket
from tests.serving import Client, connect, frame, handshake, serving
from tests.support import TIMEOUT, run

CLOSE = 0x8


def reset(client: Client) -> None:
    """End TCP with a RST."""
    linger = struct.pack("ii", 1, 0)
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    client.transport.abort()


async def forever(ended: asyncio.Event) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.set()


def test_tasks_are_cancelled_when_the_handler_returns() -> None:
    app = FastWS()
    ended = asyncio.Event()

    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        ws.tasks.create_task(forever(ended))
        await ws.receive_text()

    async def main() -> None:
        async with serving(app) as server, connect(server) as client:
            await client.send(handshake("/ws") + frame(b"go"))
            await client.head()
            await asyncio.wait_for(ended.wait(), TIMEOUT)

    run(main())


def test_tasks_are_cancelled_when_tcp_is_lost_although_the_handler_goes_on() -> None:
    app = FastWS()
    ended = asyncio.Event()
    go_on = asyncio.Event()
    left: list[int] = []

    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        ws.tasks.create_task(forever(ended))
        await go_on.wait()
        left.append(len(ws.tasks))

    async def main() -> None:
        async with serving(app) as server, connect(server) as client:
            await client.send(handshake("/ws"))
            await client.head()
            reset(client)
            await asyncio.wait_for(ended.wait(), TIMEOUT)
            go_on.set()

    run(main())
    assert left == [0]


def test_a_task_of_a_connection_that_has_ended_is_refused_and_its_coroutine_closed() -> None:
    app = FastWS()
    refused: list[str] = []

    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        tasks = ws.tasks
        await ws.receive()
        await ws.close()
        tasks.cancel()
        with pytest.raises(RuntimeError) as error:
            tasks.create_task(asyncio.sleep(0))
        refused.append(str(error.value))

    async def main() -> None:
        async with serving(app) as server, connect(server) as client:
            await client.send(handshake("/ws") + frame(b"\x03\xe8", CLOSE))
            await client.rest()

    run(main())
    assert "has ended" in refused[0]


def test_a_task_that_fails_is_logged_and_the_connection_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = FastWS()

    async def fail() -> None:
        raise LookupError("no such thing")

    @app.websocket("/ws")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        task = ws.tasks.create_task(fail(), name="seeker")
        await asyncio.wait({task})
        await ws.send_text("still here")

    async def main() -> bytes:
        async with serving(app) as server, connect(server) as client:
            await client.send(handshake("/ws"))
            await client.head()
            return (await client.frame())[1]

    with caplog.at_level(logging.ERROR, "fastws.error"):
        assert run(main()) == b"still here"
    assert [record.exc_info is not None for record in caplog.records] == [True]
    assert "seeker" in caplog.text
    assert "no such thing" in caplog.text
