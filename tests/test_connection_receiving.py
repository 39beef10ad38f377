"""Receiving: messages that cancellations and timeouts must not lose, and what the verbs return."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import random
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from fastws import (
    WebSocket,
    WebSocketDisconnect,
)
from tests.connections import (
    Watched,
    steps,
    talking,
    until,
)
from tests.robustness.client import (
    BINARY,
    CLOSE,
    TEXT,
    Peer,
    build,
    close_frame,
    websocket,
)
from tests.serving import serving
from tests.support import TIMEOUT, run

# ----------------------------------------------------- cancelled and timed-out receives


async def number_sender(peer: Peer, count: int, chosen: random.Random) -> None:
    """Send the numbers up to ``count`` in bursts, with pauses of a few steps of the loop."""
    number = 0
    while number < count:
        burst = min(chosen.choice((1, 1, 1, 2, 5)), count - number)
        await peer.send(b"".join(build(b"%d" % (number + i)) for i in range(burst)))
        number += burst
        await steps(chosen.randrange(6))


def nothing_is_lost(receive: Callable[[WebSocket, random.Random], Awaitable[str | None]]) -> None:
    """Receive by a way that may give up (None): nothing may be lost, doubled or out of order."""
    count = 400
    chosen = random.Random(8)
    got: list[str] = []

    async def handler(ws: WebSocket) -> None:
        while len(got) < count:
            message = await receive(ws, chosen)
            if message is not None:
                got.append(message)
        await ws.send_text("all")
        with pytest.raises(WebSocketDisconnect):
            await ws.receive_text()

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            sending = asyncio.create_task(number_sender(peer, count, chosen))
            await peer.expect((TEXT, b"all"))
            await sending
            await peer.end()
            assert await watched.outcome() is None
            assert got == [str(number) for number in range(count)]

    run(main())


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_receive_cancelled_at_any_step_loses_nothing(wrapped: bool) -> None:
    given_up = []

    async def in_a_coroutine(ws: WebSocket) -> str:
        return await ws.receive_text()

    async def receive(ws: WebSocket, chosen: random.Random) -> str | None:
        task: asyncio.Task[str] = asyncio.create_task(
            in_a_coroutine(ws) if wrapped else ws.receive_text()
        )
        await steps(chosen.randrange(5))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            return await task
        assert task.cancelled()
        given_up.append(True)
        return None

    nothing_is_lost(receive)
    assert len(given_up) > 20


def test_a_receive_cancelled_around_its_wake_up_keeps_the_message() -> None:
    done = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await done.wait()

    async def main() -> None:
        ends = set()
        async with talking(handler) as (peer, watched):
            await until(lambda: watched.sockets)
            for number in range(100):
                receiving = asyncio.create_task(watched.sockets[0].receive_text())
                await steps(2)
                peer.writer.write(build(b"%d" % number))
                # One of these counts is the step between the wake-up and the task's turn.
                await steps(number % 10)
                receiving.cancel()
                await asyncio.wait({receiving})
                ends.add(receiving.cancelled())
                if receiving.cancelled():
                    assert await watched.sockets[0].receive_text() == str(number)
                else:
                    assert receiving.result() == str(number)
            done.set()
        assert ends == {True, False}

    run(main())


def test_wait_for_loses_nothing() -> None:
    async def receive(ws: WebSocket, chosen: random.Random) -> str | None:
        with contextlib.suppress(asyncio.TimeoutError):
            return await asyncio.wait_for(ws.receive_text(), chosen.random() / 1000)
        return None

    nothing_is_lost(receive)


def test_asyncio_timeout_loses_nothing() -> None:
    # New in CPython 3.11, and in its stubs.
    timeout: Callable[[float], AbstractAsyncContextManager[Any]]
    timeout = getattr(asyncio, "timeout", None) or pytest.skip("there is no asyncio.timeout")

    async def receive(ws: WebSocket, chosen: random.Random) -> str | None:
        with contextlib.suppress(TimeoutError):
            async with timeout(chosen.random() / 1000):
                return await ws.receive_text()
        return None

    nothing_is_lost(receive)


def test_a_receive_with_a_timeout_loses_nothing() -> None:
    async def receive(ws: WebSocket, chosen: random.Random) -> str | None:
        with contextlib.suppress(TimeoutError):
            return await ws.receive_text(timeout=chosen.random() / 1000)
        return None

    nothing_is_lost(receive)


def test_receives_with_a_timeout_raise_timeouterror() -> None:
    async def handler(ws: WebSocket) -> None:
        short = TIMEOUT / 500
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: ws.receive(timeout=short),
            lambda: ws.receive_text(timeout=short),
            lambda: ws.receive_bytes(timeout=short),
            lambda: ws.receive_json(timeout=short),
            lambda: ws.receive_text(timeout=0),
        ]
        for call in calls:
            with pytest.raises(TimeoutError, match="no message"):
                await call()
            with pytest.raises(asyncio.TimeoutError):
                await call()
        await ws.send_text("now")
        assert await ws.receive_text(timeout=TIMEOUT) == "1"
        # What is there already comes, however short the time.
        await ws.receive_text()
        assert await ws.receive_text(timeout=0) == "3"

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.expect((TEXT, b"now"))
            await peer.send(build(b"1") + build(b"2") + build(b"3"))
            assert await watched.outcome() is None

    run(main())


def test_a_shielded_receive_survives_the_cancellation_of_who_waits() -> None:
    async def handler(ws: WebSocket) -> None:
        receiving = asyncio.ensure_future(ws.receive_text())

        async def wait() -> str:
            return await asyncio.shield(receiving)

        waiting = asyncio.create_task(wait())
        await steps(2)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled()
        await ws.send_text("now")
        assert await receiving == "kept"

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.expect((TEXT, b"now"))
            await peer.send(build(b"kept"))
            assert await watched.outcome() is None

    run(main())


def test_two_receives_at_once_raise_and_the_first_goes_on() -> None:
    async def handler(ws: WebSocket) -> None:
        first = asyncio.create_task(ws.receive_text())
        await steps(2)
        for call in (ws.receive_text, ws.receive, ws.__aiter__().__anext__):
            with pytest.raises(RuntimeError, match="another task"):
                await call()
        await ws.send_text("now")
        assert await first == "for the first"

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.expect((TEXT, b"now"))
            await peer.send(build(b"for the first"))
            assert await watched.outcome() is None

    run(main())


# ---------------------------------------------------------------- what the verbs return


def test_what_the_verbs_return_is_taken_wherever_a_coroutine_is() -> None:
    async def handler(ws: WebSocket) -> None:
        for made in (ws.send_text("a"), ws.receive_text(), ws.send_bytes(b"b"), ws.receive()):
            assert inspect.isawaitable(made)
            assert asyncio.iscoroutine(made)
            made.close()
        assert await asyncio.create_task(ws.receive_text()) == "0"
        assert await asyncio.ensure_future(ws.receive_text()) == "1"
        assert await asyncio.wait_for(ws.receive_text(), TIMEOUT) == "2"
        assert await asyncio.shield(ws.receive_text()) == "3"
        received, sent = await asyncio.gather(ws.receive_text(), ws.send_text("c"))
        assert (received, sent) == ("4", None)
        done, _ = await asyncio.wait(
            {asyncio.create_task(ws.receive_text()), asyncio.create_task(ws.send_text("d"))},
            timeout=TIMEOUT,
        )
        assert {task.result() for task in done} == {"5", None}
        await asyncio.create_task(ws.send_text("e"))
        await asyncio.wait_for(ws.send_text("f"), TIMEOUT)
        if sys.version_info >= (3, 11):
            async with asyncio.TaskGroup() as group:
                receiving = group.create_task(ws.receive_text())
                group.create_task(ws.send_text("g"))
            assert receiving.result() == "6"
        await asyncio.create_task(ws.close(4000))

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.send(b"".join(build(b"%d" % number) for number in range(7)))
            await peer.expect((TEXT, b"a"), (BINARY, b"b"), (TEXT, b"c"), (TEXT, b"d"))
            await peer.expect((TEXT, b"e"), (TEXT, b"f"))
            if sys.version_info >= (3, 11):
                await peer.expect((TEXT, b"g"))
            await peer.expect((CLOSE, b"\x0f\xa0"))
            await peer.send(close_frame(4000))
            assert await watched.outcome() is None

    run(main())


def test_a_receive_that_nobody_awaits_takes_nothing_and_warns_of_nothing() -> None:
    async def handler(ws: WebSocket) -> None:
        for _ in range(3):
            _ = ws.receive_text(), ws.receive(), ws.receive_json()
        gc.collect()
        assert await ws.receive_text() == "first"

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.send(build(b"first"))
            assert await watched.outcome() is None

    run(main())


def test_a_receive_is_awaited_once() -> None:
    async def handler(ws: WebSocket) -> None:
        receiving = ws.receive_text()
        assert await receiving == "1"
        with pytest.raises(RuntimeError, match="awaited before"):
            await receiving
        assert await ws.receive_text() == "2"

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.send(build(b"1") + build(b"2"))
            assert await watched.outcome() is None

    run(main())


def test_a_receive_driven_by_hand() -> None:
    async def handler(ws: WebSocket) -> None:
        assert await ws.receive_text() == "0"
        receiving = ws.receive_text()
        with pytest.raises(StopIteration) as stopped:
            receiving.send(None)
        assert stopped.value.value == "1"
        receiving = ws.receive_text()
        future = receiving.send(None)
        assert future is not None
        with pytest.raises(LookupError):
            receiving.throw(LookupError("from outside"))
        # The connection has forgotten it.
        await ws.send_text("now")
        assert await ws.receive_text() == "2"

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.send(build(b"0") + build(b"1"))
            await peer.expect((TEXT, b"now"))
            await peer.send(build(b"2"))
            assert await watched.outcome() is None

    run(main())


def test_the_handlers_task_is_an_ordinary_task_with_its_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen = []

    async def handler(ws: WebSocket) -> None:
        task = asyncio.current_task()
        assert type(task) is asyncio.Task
        name = await ws.receive_text()
        variable.set(name)
        await ws.send_text("set")
        await ws.receive_text()
        seen.append((name, variable.get()))
        assert asyncio.current_task() is task

    async def main() -> None:
        watched = Watched(handler)
        async with serving(watched.app) as server:
            async with websocket(server) as one, websocket(server) as other:
                for peer, name in ((one, b"one"), (other, b"other")):
                    await peer.send(build(name))
                    await peer.expect((TEXT, b"set"))
                for peer in (one, other):
                    await peer.send(build(b""))
                assert await watched.outcome() is None
                assert await watched.outcome() is None
        assert sorted(seen) == [("one", "one"), ("other", "other")]

    run(main())


def test_one_receive_is_one_tasks() -> None:
    async def handler(ws: WebSocket) -> None:
        receive = ws.receive_text()

        async def awaiting() -> str:
            return await receive

        first, second = asyncio.create_task(awaiting()), asyncio.create_task(awaiting())
        with pytest.raises(RuntimeError, match="another task awaits this receive"):
            await second
        await ws.send_text(await first)

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await until(lambda: watched.sockets)
            await steps(5)
            await peer.send(build(b"for the first"))
            await peer.expect((TEXT, b"for the first"))
            assert await watched.outcome() is None

    run(main())
