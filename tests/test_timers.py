"""The timer wheel, on a clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from fastws._timers import TimerWheel
from tests.conftest import LoopErrors
from tests.support import run

#: Seconds, as in _timers.pyx: between two looks at the wheel, and around the whole of it.
TICK = 0.1
TURN = 512 * TICK


class Handle:
    """What call_at() returns."""

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback = callback


class Loop:
    """As much of an event loop as a wheel needs."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.handles: list[Handle] = []
        self.reported: list[dict[str, Any]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object]) -> Handle:
        handle = Handle(when, callback)
        self.handles.append(handle)
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.reported.append(context)

    def run_due(self) -> None:
        """Run what is due now, once."""
        due = [handle for handle in self.handles if handle.when <= self.now]
        self.handles = [handle for handle in self.handles if handle not in due]
        for handle in due:
            handle.callback()

    def advance(self, seconds: float) -> None:
        """Let time pass, each callback run when it is due."""
        end = self.now + seconds
        while self.handles and min(handle.when for handle in self.handles) <= end:
            self.now = max(self.now, min(handle.when for handle in self.handles))
            self.run_due()
        self.now = end

    def stall(self, seconds: float) -> None:
        """Let time pass in which nothing could run."""
        self.now += seconds
        self.run_due()


class Owner:
    """Writes down when it was called; ``then`` runs at each call."""

    def __init__(self, loop: Loop, then: Callable[[], object] | None = None) -> None:
        self.loop = loop
        self.then = then
        self.called: list[float] = []

    def on_timer(self) -> None:
        self.called.append(self.loop.now)
        if self.then is not None:
            self.then()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def wheel(loop: Loop) -> TimerWheel:
    return TimerWheel(loop)  # type: ignore[arg-type]


def check_called(owner: Owner, *deadlines: float) -> None:
    """Each deadline was met: once, never early, at most a tick late."""
    assert len(owner.called) == len(deadlines), owner.called
    for called, deadline in zip(owner.called, deadlines, strict=True):
        assert deadline <= called <= deadline + TICK + 1e-6


# ---------------------------------------------------------------------------------- deadlines


@pytest.mark.parametrize("start", [1000.0, 1000.05, 1000.0999999, 3.0, 123456.789])
@pytest.mark.parametrize(
    "seconds", [0, 0.001, 0.05, 0.1, 0.3, 1, 1.05, 20, TURN - TICK, TURN, TURN + 0.01]
)
def test_deadline_is_met_within_a_tick(start: float, seconds: float) -> None:
    loop = Loop(start)
    wheel = TimerWheel(loop)  # type: ignore[arg-type]
    owner = Owner(loop)
    wheel.schedule(owner, seconds)
    loop.advance(seconds + 2 * TURN)
    check_called(owner, start + seconds)


@pytest.mark.parametrize("turns", [1, 1.5, 2, 10])
def test_deadline_of_more_than_a_turn_waits_for_its_own(
    loop: Loop, wheel: TimerWheel, turns: float
) -> None:
    start, far, near = loop.now, Owner(loop), Owner(loop)
    wheel.schedule(far, turns * TURN)
    wheel.schedule(near, (turns * TURN) % TURN)  # the same slot, turns earlier
    loop.advance((turns + 1) * TURN)
    check_called(far, start + turns * TURN)
    check_called(near, start + (turns * TURN) % TURN)


@pytest.mark.parametrize("seconds", [-1, -1e9, float("-inf")])
def test_deadline_in_the_past_is_due_at_the_next_tick(
    loop: Loop, wheel: TimerWheel, seconds: float
) -> None:
    start, owner = loop.now, Owner(loop)
    wheel.schedule(owner, seconds)
    loop.advance(TURN)
    check_called(owner, start)


@pytest.mark.parametrize("seconds", [1e9, 1e300, float("inf")])
def test_deadline_without_end_is_kept_and_can_be_cancelled(
    loop: Loop, wheel: TimerWheel, seconds: float
) -> None:
    owner = Owner(loop)
    wheel.schedule(owner, seconds)
    loop.advance(2 * TURN)
    assert owner.called == []
    assert wheel.scheduled == 1
    wheel.cancel(owner)
    assert wheel.scheduled == 0


def test_owners_are_called_in_the_order_of_their_ticks(loop: Loop, wheel: TimerWheel) -> None:
    order: list[int] = []
    for number in [5, 3, 60, 1, 4, 700, 2]:
        wheel.schedule(Owner(loop, lambda number=number: order.append(number)), number)  # type: ignore[misc]
    loop.advance(800)
    assert order == [1, 2, 3, 4, 5, 60, 700]


def test_many_deadlines_are_each_met_once(loop: Loop, wheel: TimerWheel) -> None:
    start = loop.now
    owners = [(Owner(loop), 0.037 * number) for number in range(5000)]
    for owner, seconds in owners:
        wheel.schedule(owner, seconds)
    assert wheel.scheduled == len(owners)
    assert len(loop.handles) == 1, "one handle for all of them"
    loop.advance(0.037 * len(owners) + 1)
    for owner, seconds in owners:
        check_called(owner, start + seconds)
    assert wheel.scheduled == 0


# ------------------------------------------------------------------------- restart and cancel


def test_owner_has_one_deadline_which_the_next_replaces(loop: Loop, wheel: TimerWheel) -> None:
    start, owner = loop.now, Owner(loop)
    for seconds in (1, 100, 0.5, 3):
        wheel.schedule(owner, seconds)
        assert wheel.scheduled == 1
    loop.advance(200)
    check_called(owner, start + 3)


def test_deadline_put_off_again_and_again_does_not_come(loop: Loop, wheel: TimerWheel) -> None:
    owner = Owner(loop)
    for _ in range(2000):
        wheel.schedule(owner, 0.5)
        loop.advance(0.3)
    assert owner.called == []
    start = loop.now
    loop.advance(1)
    check_called(owner, start + 0.2)


def test_cancelled_owner_is_not_called(loop: Loop, wheel: TimerWheel) -> None:
    owners = [Owner(loop) for _ in range(5)]
    for owner in owners:
        wheel.schedule(owner, 1)  # all in the same slot
    for number in (2, 0, 4):  # in the middle, and at both ends of its list
        wheel.cancel(owners[number])
    loop.advance(TURN)
    assert [len(owner.called) for owner in owners] == [0, 1, 0, 1, 0]


def test_cancel_without_a_deadline_does_nothing(loop: Loop, wheel: TimerWheel) -> None:
    owner = Owner(loop)
    wheel.cancel(owner)
    wheel.schedule(owner, 1)
    wheel.cancel(owner)
    wheel.cancel(owner)
    assert wheel.scheduled == 0


def test_owner_called_may_schedule_itself_again(loop: Loop, wheel: TimerWheel) -> None:
    owner = Owner(loop)
    owner.then = lambda: wheel.schedule(owner, 1)
    wheel.schedule(owner, 1)
    loop.advance(100)
    assert 90 <= len(owner.called) <= 100
    assert all(later - earlier >= 1 for earlier, later in pairwise(owner.called))
    assert wheel.scheduled == 1
    assert len(loop.handles) == 1


def test_callback_may_cancel_one_that_is_due_in_the_same_tick(
    loop: Loop, wheel: TimerWheel
) -> None:
    first, second = Owner(loop), Owner(loop)
    first.then = lambda: wheel.cancel(second)
    second.then = lambda: wheel.cancel(first)
    wheel.schedule(first, 1)
    wheel.schedule(second, 1)
    loop.advance(TURN)
    assert len(first.called) + len(second.called) == 1
    assert wheel.scheduled == 0


def test_callback_may_put_off_one_that_is_due_in_the_same_tick(
    loop: Loop, wheel: TimerWheel
) -> None:
    start = loop.now
    owners = [Owner(loop), Owner(loop)]

    def put_off() -> None:
        for owner in owners:
            if not owner.called:
                wheel.schedule(owner, 5)

    for owner in owners:
        owner.then = put_off
        wheel.schedule(owner, 1)
    loop.advance(TURN)
    first, second = sorted(owners, key=lambda owner: owner.called)
    check_called(first, start + 1)
    check_called(second, first.called[0] + 5)


def test_callback_may_schedule_for_now_without_holding_up_the_loop(
    loop: Loop, wheel: TimerWheel
) -> None:
    owner = Owner(loop)
    owner.then = lambda: wheel.schedule(owner, 0)
    wheel.schedule(owner, 0)
    loop.advance(1)
    assert 9 <= len(owner.called) <= 11, "once a tick"


# --------------------------------------------------------------------------------------- stalls


@pytest.mark.parametrize("stall", [0.05, 1, TURN - 1, TURN, TURN + 1, 10 * TURN])
def test_stalled_loop_meets_every_deadline_when_it_runs_again(
    loop: Loop, wheel: TimerWheel, stall: float
) -> None:
    start = loop.now
    owners = [(Owner(loop), 0.7 * number) for number in range(2000)]
    for owner, seconds in owners:
        wheel.schedule(owner, seconds)
    loop.advance(3)
    before = loop.now
    loop.stall(stall)
    for owner, seconds in owners:
        if start + seconds + TICK <= before:
            check_called(owner, start + seconds)
        elif start + seconds + 2 * TICK <= loop.now:
            assert owner.called == [loop.now]
        elif start + seconds > loop.now:
            assert owner.called == []
    loop.advance(2000)
    assert [len(owner.called) for owner, _ in owners] == [1] * len(owners)


def test_slow_callback_that_schedules_delays_nobody_else(loop: Loop, wheel: TimerWheel) -> None:
    # The clock goes on within a tick: what falls due meanwhile is not passed over.
    start = loop.now
    slow, other, later = Owner(loop), Owner(loop), Owner(loop)

    def take_a_second() -> None:
        loop.now += 1
        wheel.schedule(later, 2)

    slow.then = take_a_second
    wheel.schedule(slow, 1)
    wheel.schedule(other, 1.5)
    loop.advance(TURN)
    check_called(slow, start + 1)
    assert start + 1.5 <= other.called[0] <= slow.called[0] + 1 + 2 * TICK
    check_called(later, slow.called[0] + 1 + 2)


def test_tick_that_comes_early_meets_no_deadline_early(loop: Loop, wheel: TimerWheel) -> None:
    start, owner = loop.now, Owner(loop)
    wheel.schedule(owner, 1)
    for _ in range(200):
        # A loop may run a handle a little before its time, by the resolution of its clock.
        (handle,) = loop.handles
        loop.handles.clear()
        loop.now = max(loop.now, handle.when - 1e-4)
        handle.callback()
        if owner.called:
            break
        loop.now += 0.01
    (called,) = owner.called
    assert start + 1 <= called <= start + 1 + TICK + 0.01


# ----------------------------------------------------------------------------------- exceptions


def test_exception_goes_to_the_loops_handler_and_touches_nobody_else(
    loop: Loop, wheel: TimerWheel
) -> None:
    error = ZeroDivisionError("in a callback")

    def fail() -> None:
        raise error

    owners = [Owner(loop), Owner(loop, fail), Owner(loop)]
    for owner in owners:
        wheel.schedule(owner, 1)
    loop.advance(TURN)
    assert [len(owner.called) for owner in owners] == [1, 1, 1]
    (context,) = loop.reported
    assert context["exception"] is error
    assert repr(owners[1]) in context["message"]
    wheel.schedule(owners[0], 1)
    loop.advance(TURN)
    assert len(owners[0].called) == 2


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupt_leaves_the_rest_for_the_next_tick(
    loop: Loop, wheel: TimerWheel, kind: type[BaseException]
) -> None:
    def interrupt() -> None:
        if sum(len(owner.called) for owner in owners) == 2:
            raise kind

    owners = [Owner(loop, interrupt) for _ in range(5)]
    for owner in owners:
        wheel.schedule(owner, 1)
    with pytest.raises(kind):
        loop.advance(2)
    assert sum(len(owner.called) for owner in owners) == 2
    assert len(loop.handles) == 1
    loop.advance(2 * TICK)
    assert [len(owner.called) for owner in owners] == [1] * 5
    assert loop.reported == []


# ---------------------------------------------------------------------- handles and references


def test_no_handle_is_left_while_nothing_is_scheduled(loop: Loop, wheel: TimerWheel) -> None:
    assert loop.handles == []
    owner = Owner(loop)
    wheel.schedule(owner, 1)
    loop.advance(2)
    assert loop.handles == []
    wheel.schedule(owner, 100)
    assert len(loop.handles) == 1
    wheel.cancel(owner)
    loop.advance(TICK)
    assert loop.handles == []


def test_wheel_that_stood_still_starts_at_the_present_time(loop: Loop, wheel: TimerWheel) -> None:
    owner = Owner(loop)
    for pause in (0.0, 5.0, 3 * TURN, 1e6):
        loop.advance(pause)
        start = loop.now
        owner.called.clear()
        wheel.schedule(owner, 1)
        loop.advance(2)
        check_called(owner, start + 1)


def test_wheel_keeps_an_owner_only_until_its_deadline(loop: Loop, wheel: TimerWheel) -> None:
    def schedule(seconds: float) -> weakref.ref[Owner]:
        owner = Owner(loop)
        wheel.schedule(owner, seconds)
        return weakref.ref(owner)

    gc.disable()
    try:
        called, cancelled = schedule(1), schedule(1)
        assert called() is not None
        wheel.cancel(cancelled() or Owner(loop))
        assert cancelled() is None
        loop.advance(2)
        assert called() is None
    finally:
        gc.enable()


def test_replaced_deadlines_leave_nothing_behind(loop: Loop, wheel: TimerWheel) -> None:
    owners = [Owner(loop) for _ in range(10)]

    def churn() -> None:
        for number in range(1000):
            wheel.schedule(owners[number % 10], number % 7)
            if number % 3 == 0:
                wheel.cancel(owners[number % 7])
            loop.advance(0.01)
        for owner in owners:
            owner.called.clear()

    churn()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(10):
        churn()
    gc.collect()
    assert sys.getallocatedblocks() - before < 100
    loop.advance(10)
    assert wheel.scheduled == 0


def test_wheel_and_what_waits_in_it_go_with_the_loop() -> None:
    def make() -> weakref.ref[Owner]:
        loop = Loop()
        owner = Owner(loop)
        wheel = TimerWheel(loop)  # type: ignore[arg-type]
        for _ in range(1000):
            wheel.schedule(Owner(loop), 5)
        owner.then = lambda: wheel.cancel(owner)
        wheel.schedule(owner, 5)
        return weakref.ref(owner)

    seen = make()
    gc.collect()
    assert seen() is None


def test_now_is_the_clock_when_the_wheel_last_looked(loop: Loop, wheel: TimerWheel) -> None:
    assert wheel.now == loop.now
    wheel.schedule(Owner(loop), 50)
    loop.advance(10)
    assert loop.now - TICK <= wheel.now <= loop.now
    loop.now += 0.05
    wheel.schedule(Owner(loop), 1)
    assert wheel.now == loop.now


# ------------------------------------------------------------------------------- a loop for real


def test_on_an_event_loop(loop_errors: LoopErrors) -> None:
    class Real:
        def __init__(self, seconds: float, error: Exception | None = None) -> None:
            self.deadline = asyncio.get_running_loop().time() + seconds
            self.error = error
            self.called: asyncio.Future[float] = asyncio.get_running_loop().create_future()

        def on_timer(self) -> None:
            self.called.set_result(asyncio.get_running_loop().time())
            if self.error is not None:
                raise self.error

    async def main() -> None:
        wheel = TimerWheel(asyncio.get_running_loop())
        owners = [Real(seconds) for seconds in (0.25, 0, 0.05, 0.3)]
        owners.append(Real(0.1, error=ZeroDivisionError("in a callback")))
        cancelled = Real(0.1)
        for owner in [*owners, cancelled]:
            wheel.schedule(owner, owner.deadline - asyncio.get_running_loop().time())
        wheel.cancel(cancelled)
        for owner in owners:
            # uvloop's clock counts whole milliseconds.
            assert await owner.called >= owner.deadline - 0.001
        assert not cancelled.called.done()
        assert wheel.scheduled == 0

    run(main())
    (message,) = loop_errors.messages
    loop_errors.messages.clear()
    assert "unhandled exception in a timer" in message
    assert "ZeroDivisionError: in a callback" in message
