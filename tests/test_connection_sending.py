"""Sending: order, wholeness, other threads, and peers that are gone."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from fastws import (
    WebSocket,
    WebSocketClosed,
    WebSocketDisconnect,
)
from tests.connections import (
    MIB,
    Handler,
    Watched,
    talking,
    until,
)
from tests.robustness.client import (
    BINARY,
    CLOSE,
    TEXT,
    build,
    websocket,
)
from tests.serving import serving
from tests.support import TIMEOUT, run

# ------------------------------------------------------------------------------ sending


def test_sends_from_many_tasks_never_interleave() -> None:
    tasks, messages = 20, 20
    sizes = (0, 1, 125, 126, 3000, 65535, 65536, 200_000)

    async def handler(ws: WebSocket) -> None:
        async def send(number: int) -> None:
            chosen = random.Random(number)
            for index in range(messages):
                body = bytes([number]) * chosen.choice(sizes)
                await ws.send_bytes(bytes([number, index]) + body)

        await asyncio.gather(*(send(number) for number in range(tasks)))

    async def main() -> None:
        async with talking(handler, slow=True) as (peer, watched):
            following = [0] * tasks
            for _ in range(tasks * messages):
                opcode, payload = await peer.frame()
                assert opcode == BINARY
                number, index = payload[0], payload[1]
                assert index == following[number]
                following[number] += 1
                assert payload[2:] == bytes([number]) * (len(payload) - 2)
                assert len(payload) - 2 in sizes
            await peer.expect((CLOSE, b"\x03\xe8"))
            assert await watched.outcome() is None

    run(main())


def test_messages_are_queued_at_the_call_in_call_order() -> None:
    async def handler(ws: WebSocket) -> None:
        sends = [ws.send_text(str(number)) for number in range(10)]
        _ = ws.send_bytes(b"not awaited")
        for send in reversed(sends):
            await send

    async def main() -> None:
        async with talking(handler) as (peer, _):
            await peer.expect(*((TEXT, b"%d" % number) for number in range(10)))
            await peer.expect((BINARY, b"not awaited"), (CLOSE, b"\x03\xe8"))

    run(main())


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 3 * MIB])
def test_messages_of_any_size(size: int) -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.send_text("x" * size)
        await ws.send_bytes(bytes(size))
        await ws.send_text("€" * (size // 3))
        await ws.send_text(memoryview(b"x" * size))

    async def main() -> None:
        async with talking(handler) as (peer, _):
            await peer.expect((TEXT, b"x" * size), (BINARY, bytes(size)))
            await peer.expect((TEXT, "€".encode() * (size // 3)), (TEXT, b"x" * size))

    run(main())


def test_what_cannot_be_sent_raises_and_sends_nothing() -> None:
    async def handler(ws: WebSocket) -> None:
        number: Any = 5
        nothing: Any = None
        text: Any = "text"
        calls: list[tuple[Callable[[], Awaitable[None]], type[Exception]]] = [
            (lambda: ws.send_text(number), TypeError),
            (lambda: ws.send_text(nothing), TypeError),
            (lambda: ws.send_text("\ud800"), ValueError),
            (lambda: ws.send_text(b"\xff"), ValueError),
            (lambda: ws.send_bytes(text), TypeError),
            (lambda: ws.send_bytes(number), TypeError),
            (lambda: ws.send_json({"a": object()}), TypeError),
            (lambda: ws.send_json({}, mode="octal"), RuntimeError),
        ]
        for call, error in calls:
            with pytest.raises(error):
                await call()
        await ws.send_text("fine")

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.expect((TEXT, b"fine"), (CLOSE, b"\x03\xe8"))
            assert await watched.outcome() is None

    run(main())


def test_a_call_from_another_thread_raises_and_names_the_way() -> None:
    async def handler(ws: WebSocket) -> None:
        calls: list[Callable[[], Any]] = [
            ws.receive_text,
            ws.receive,
            lambda: ws.send_text("x"),
            lambda: ws.send_bytes(b"x"),
            lambda: ws.send_json({}),
            ws.close,
            ws.ping,
            ws.accept,
        ]
        for call in calls:
            with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
                await asyncio.to_thread(call)
        loop = asyncio.get_running_loop()

        async def send() -> None:
            await ws.send_text("second")

        def from_outside() -> None:
            loop.call_soon_threadsafe(ws.send_text, "first")
            asyncio.run_coroutine_threadsafe(send(), loop).result(TIMEOUT)

        await asyncio.to_thread(from_outside)

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.expect((TEXT, b"first"), (TEXT, b"second"), (CLOSE, b"\x03\xe8"))
            assert await watched.outcome() is None

    run(main())


# ------------------------------------------------------------ sends from other handlers


@contextlib.asynccontextmanager
async def a_dead_peer_and_another(
    listener: Handler, talker: Callable[[WebSocket, WebSocket], Awaitable[Any]], **options: Any
) -> AsyncIterator[Watched]:
    """Run ``listener`` on a connection that is then lost, and ``talker`` with both on another."""
    sockets: list[WebSocket] = []

    async def handler(ws: WebSocket) -> None:
        sockets.append(ws)
        if len(sockets) == 1:
            await listener(ws)
        else:
            await ws.receive_text()
            await talker(sockets[0], ws)

    watched = Watched(handler)
    watched.app.strict_send = options.pop("strict_send", False)
    async with serving(watched.app, **options) as server:
        async with websocket(server) as dead, websocket(server) as alive:
            await until(lambda: len(sockets) == 2)
            dead.reset()
            await until(lambda: sockets[0].application_state.is_over)
            await alive.send(build(b"talk"))
            yield watched


def test_a_broadcast_does_not_end_the_wrong_handler() -> None:
    told = asyncio.Event()

    async def listener(ws: WebSocket) -> None:
        await told.wait()
        with pytest.raises(WebSocketDisconnect) as caught:
            await ws.receive_text()
        assert caught.value.code == 1006
        told.clear()
        await told.wait()

    async def talker(dead: WebSocket, own: WebSocket) -> None:
        for _ in range(3):
            await dead.send_text("quiet")
            await dead.send_bytes(b"quiet")
            await dead.send_json("quiet")
        await asyncio.create_task(dead.send_text("from a task of this handler"))
        await own.send_text("alive")
        # Once its own handler knows, everybody does.
        told.set()
        await until(lambda: not told.is_set())
        with pytest.raises(WebSocketDisconnect) as caught:
            await dead.send_text("loud")
        assert caught.value.code == 1006
        told.set()

    async def main() -> None:
        async with a_dead_peer_and_another(listener, talker) as watched:
            assert [await watched.outcome(), await watched.outcome()] == [None, None]

    run(main())


def test_a_send_of_its_own_handler_or_of_a_task_of_it_raises() -> None:
    begin = asyncio.Event()

    async def listener(ws: WebSocket) -> None:
        async def send() -> None:
            await begin.wait()
            await ws.send_text("from a task")

        sending = asyncio.create_task(send())
        with pytest.raises(WebSocketDisconnect):
            await sending

    async def talker(dead: WebSocket, own: WebSocket) -> None:
        begin.set()

    async def main() -> None:
        async with a_dead_peer_and_another(listener, talker) as watched:
            assert [await watched.outcome(), await watched.outcome()] == [None, None]

    run(main())


def test_strict_send_raises_everywhere() -> None:
    done = asyncio.Event()

    async def listener(ws: WebSocket) -> None:
        await done.wait()

    async def talker(dead: WebSocket, own: WebSocket) -> None:
        with pytest.raises(WebSocketDisconnect):
            await dead.send_text("loud")
        done.set()

    async def main() -> None:
        async with a_dead_peer_and_another(listener, talker, strict_send=True) as watched:
            assert [await watched.outcome(), await watched.outcome()] == [None, None]

    run(main())


def test_a_send_to_a_connection_that_this_application_closed_raises_everywhere() -> None:
    done = asyncio.Event()

    async def listener(ws: WebSocket) -> None:
        _ = ws.close(4000)
        await done.wait()

    async def talker(dead: WebSocket, own: WebSocket) -> None:
        with pytest.raises(WebSocketClosed):
            await dead.send_text("loud")
        done.set()

    async def main() -> None:
        async with a_dead_peer_and_another(listener, talker) as watched:
            assert [await watched.outcome(), await watched.outcome()] == [None, None]

    run(main())
