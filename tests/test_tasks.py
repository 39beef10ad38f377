from __future__ import annotations

import asyncio
import logging

import pytest

from fastws import FastWS, WebSocket
from fastws.testing import TestClient
from tests.support import TIMEOUT, run


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
        async with TestClient(app, timeout=TIMEOUT) as client, client.connect("/ws") as ws:
            await client.settle()
            assert not ended.is_set()
            await ws.send_text("go")
            await client.settle()
            assert ended.is_set()

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
        async with TestClient(app, timeout=TIMEOUT) as client, client.connect("/ws") as ws:
            ws.reset()
            await client.settle()
            assert ended.is_set()
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
        async with TestClient(app, timeout=TIMEOUT) as client, client.connect("/ws") as ws:
            await ws.close()

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

    async def main() -> None:
        async with TestClient(app, timeout=TIMEOUT) as client:
            with pytest.raises(LookupError):
                async with client.connect("/ws") as ws:
                    assert await ws.receive_text() == "still here"

    with caplog.at_level(logging.ERROR, "fastws.error"):
        run(main())
    assert [record.exc_info is not None for record in caplog.records] == [True]
    assert "seeker" in caplog.text
    assert "no such thing" in caplog.text
