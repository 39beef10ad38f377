"""A clock that tests move: what goes by it, and what does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fastws.app import FastWS
from fastws.exceptions import WebSocketDisconnect
from fastws.testing import AsyncTestClient, Clock, NotInTime, TestClient, TestWebSocket
from fastws.websocket import WebSocket
from tests.support import TIMEOUT, run

HOUR = 3600.0


def visit(
    handler: Callable[[WebSocket], Coroutine[Any, Any, Any]],
    test: Callable[[TestWebSocket, AsyncTestClient], Coroutine[Any, Any, None]],
    **options: Any,
) -> None:
    app = FastWS()
    app.websocket("/")(handler)

    async def main() -> None:
        async with TestClient(app, **{"timeout": TIMEOUT, **options}) as client:
            async with client.connect("/") as ws:
                await test(ws, client)

    run(main())


def clocked(test: Callable[[Clock], Coroutine[Any, Any, None]]) -> None:
    """Run ``test`` with the clock of its loop."""

    async def main() -> None:
        clock = Clock.of(asyncio.get_running_loop())
        try:
            await test(clock)
        finally:
            clock.release()

    run(main())


# What goes by it


async def sleeps(ws: WebSocket) -> None:
    await asyncio.sleep(HOUR)


async def waits(ws: WebSocket) -> None:
    try:
        await asyncio.wait_for(asyncio.Event().wait(), HOUR)
    except asyncio.TimeoutError:
        return


async def receives(ws: WebSocket) -> None:
    try:
        await ws.receive_text(timeout=HOUR)
    except asyncio.TimeoutError:
        return


async def calls(ws: WebSocket) -> None:
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    loop.call_at(loop.time() + HOUR, done.set)
    await done.wait()


@pytest.mark.parametrize("wait", [sleeps, waits, receives, calls])
def test_waits_of_the_handler_end_when_their_time_has_come(
    wait: Callable[[WebSocket], Coroutine[Any, Any, None]],
) -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        await wait(ws)
        await ws.send_text("an hour later")

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        await client.advance(HOUR - 60)
        assert not any(frame.payload == b"an hour later" for frame in ws.frames)
        await client.advance(60)
        assert await ws.receive_text() == "an hour later"

    visit(handler, test, ws_ping_interval=None)


def test_every_ping_of_the_keepalive_comes_in_its_turn() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        await ws.receive_text()

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        await client.advance(205)
        # The first after 20 s ± 10 %, each of the others up to a tick or two late.
        assert len(ws.frames) in (9, 10)

    visit(handler, test, ws_ping_interval=20)


def test_the_time_to_accept_is_the_servers() -> None:
    async def never(ws: WebSocket) -> None:
        await asyncio.Event().wait()

    app = FastWS()
    app.websocket("/")(never)

    async def main() -> int:
        async with TestClient(app, timeout=TIMEOUT) as client:
            opening = asyncio.ensure_future(client.connect("/"))
            await client.advance(31)
            with pytest.raises(WebSocketDisconnect) as refused:
                await opening
        status: int = refused.value.status  # type: ignore[attr-defined]
        return status

    assert run(main()) == 503


def test_a_peer_that_does_not_answer_close_is_cut_at_the_deadline() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        await ws.receive_text()
        await ws.close()

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        assert ws.handler is not None
        ws.stall_reads()
        await ws.send_text("close")
        await client.advance(9)
        assert not ws.handler.done()
        await client.advance(2)
        assert ws.handler.done()

    visit(handler, test)


def test_timers_go_off_one_after_the_other_at_their_own_times() -> None:
    async def test(clock: Clock) -> None:
        start = clock.time
        seen: list[tuple[float, float]] = []

        async def ticks(period: float) -> None:
            while True:
                await asyncio.sleep(period)
                seen.append((period, round(clock.time - start, 1)))

        tasks = [asyncio.create_task(ticks(period)) for period in (2.0, 3.0)]
        await clock.advance(6.5)
        for task in tasks:
            task.cancel()
        assert seen == [(2.0, 2.0), (3.0, 3.0), (2.0, 4.0), *seen[3:]]
        assert sorted(seen[3:]) == [(2.0, 6.0), (3.0, 6.0)]
        assert round(clock.time - start, 1) == 6.5

    clocked(test)


def test_what_is_still_to_come_comes_so_much_earlier() -> None:
    async def test(clock: Clock) -> None:
        sleep = asyncio.create_task(asyncio.sleep(HOUR))
        await clock.advance(HOUR - 0.01)
        await asyncio.wait_for(sleep, TIMEOUT)

    clocked(test)


def test_a_timer_can_be_cancelled() -> None:
    async def test(clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        seen: list[int] = []
        before = loop.call_later(1, seen.append, 1)
        after = loop.call_later(HOUR, seen.append, 2)
        assert before.when() < after.when()
        before.cancel()
        assert before.cancelled()
        await clock.advance(2)
        after.cancel()
        await clock.advance(HOUR)
        assert seen == []
        assert not loop.call_later(0, seen.append, 3).cancelled()
        await clock.settle()
        assert "when=" in repr(after)

    clocked(test)


def test_many_timers_that_were_cancelled_are_forgotten() -> None:
    async def test(clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(3000):
            loop.call_later(HOUR, print).cancel()
        assert len(clock._timers) < 2000

    clocked(test)


# What does not


def test_the_patience_of_the_client_is_real_time() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        await asyncio.sleep(HOUR)
        await ws.send_text("late")
        await ws.receive_text()

    async def test(ws: TestWebSocket, client: AsyncTestClient) -> None:
        receiving = asyncio.create_task(ws.receive_text())
        await client.advance(HOUR)
        assert await receiving == "late"
        start = time.monotonic()
        with pytest.raises(NotInTime):
            await ws.receive_text(timeout=0.05)
        assert time.monotonic() - start >= 0.04

    visit(handler, test, ws_ping_interval=None)


def test_timers_from_before_are_not_moved() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        fired = asyncio.Event()
        timer = loop.call_later(HOUR, fired.set)
        clock = Clock.of(loop)
        await clock.advance(2 * HOUR)
        assert not fired.is_set()
        timer.cancel()
        clock.release()

    run(main())


def test_time_goes_on_by_itself() -> None:
    async def test(clock: Clock) -> None:
        await clock.advance(HOUR)
        before = clock.time
        await asyncio.sleep(0.02)
        assert clock.time - before >= 0.015

    clocked(test)


# Whose it is


def test_the_loop_gets_its_own_clock_back() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        first, second = Clock.of(loop), Clock.of(loop)
        assert first is second
        first.release()
        assert "time" in vars(loop)
        second.release()
        assert not {"time", "call_at", "call_later"} & vars(loop).keys()

    run(main())


def test_time_never_goes_back() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        clock = Clock.of(loop)
        await clock.advance(HOUR)
        before = loop.time()
        clock.release()
        assert loop.time() >= before
        await asyncio.sleep(0.01)
        again = Clock.of(loop)
        assert again is clock
        again.release()

    run(main())


def test_time_goes_one_way() -> None:
    async def test(clock: Clock) -> None:
        with pytest.raises(ValueError, match="0 or more seconds"):
            await clock.advance(-1)

    clocked(test)


def test_a_loop_that_cannot_be_moved_is_told() -> None:
    class Fixed:
        __slots__ = ()

        def time(self) -> float:
            return 0.0

        call_at = call_later = time

    async def main() -> None:
        clock = Clock(Fixed())  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="the clock of Fixed cannot be moved"):
            await clock.advance(1)

    run(main())


def test_work_is_bounded_by_real_time() -> None:
    async def test(clock: Clock) -> None:
        cancelled = asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.sleep(HOUR)
            finally:
                cancelled.set()

        with pytest.raises(TimeoutError):
            await clock.within(0.01, work())
        assert cancelled.is_set()
        assert await clock.within(TIMEOUT, asyncio.sleep(0, "done")) == "done"
        assert await clock.within(float("inf"), asyncio.sleep(0, "done")) == "done"

    clocked(test)
