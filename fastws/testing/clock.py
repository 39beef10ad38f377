"""A clock that a test can move, for whatever loop the test runs on.

asyncio, fastws and anyio all ask the loop object for its ``time()``, ``call_at()`` and
``call_later()``. A :class:`Clock` puts its own in their place, as attributes of that one loop; each
timer made through them is a real timer of the loop, made anew when the clock has been moved.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import sys
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

from fastws._timers import TimerWheel

__all__ = ["Clock"]

__tracebackhide__ = True
"""pytest shows the line of the test, none below it."""

T = TypeVar("T")

QUIET_STEPS = 20
"""Steps of the loop without a byte on any wire after which nothing is under way. Tasks that hand
something from one to the other take a step each."""

MOST_STEPS = 500
"""Steps after which to go on all the same, for an application that is never quiet."""

_ATTRIBUTE = "_fastws_clock"


class Clock:
    """The clock of a loop: :meth:`advance` moves it.

    It moves whatever asks the loop for the time: the server's keepalive and all its timeouts,
    ``receive(timeout=…)``, ``asyncio.sleep()``, ``asyncio.timeout()``, ``asyncio.wait_for()`` and
    anyio's deadlines, in the application and in the test, if they began while a test client was
    open on this loop. By itself it goes on as always.

    It does not move: ``time.time()``, ``time.monotonic()`` and ``time.perf_counter()`` (so a
    ``ping()``'s round trip is real time), what threads sleep for, timers from before the client was
    opened, and the patience of the test client itself (``timeout=``).

    Both asyncio's own loops and uvloop can be moved; another loop perhaps not.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._offset = 0.0
        self._users = 0
        self._timers: list[tuple[float, int, _Timer]] = []
        self._count = itertools.count()
        self._activity = 0
        # The loop's own. Its call_at() asks for the time, and its call_later() calls call_at(), or
        # the reverse: which of them stands on its own depends on the loop.
        self._loop_time = loop.time
        self._loop_call_at = loop.call_at
        self._loop_call_later = loop.call_later
        self._is_asyncio = isinstance(loop, asyncio.BaseEventLoop)
        self.is_movable = True
        """Whether this loop lets itself be moved."""
        try:
            for name in ("time", "call_at", "call_later"):
                setattr(loop, name, getattr(self, f"_{name}"))
            setattr(loop, _ATTRIBUTE, self)
        except AttributeError:
            self.is_movable = False

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Clock:
        """The clock of a loop, for one more user, who calls :meth:`release` in the end."""
        clock = getattr(loop, _ATTRIBUTE, None)
        if clock is None:
            clock = cls(loop)
        assert isinstance(clock, Clock)
        clock._users += 1
        return clock

    def release(self) -> None:
        """Give the loop its own clock back when the last user is done.

        One that was moved stays: time does not go backwards for what is left on the loop.
        """
        self._users -= 1
        if self._users == 0 and self._offset == 0.0 and self.is_movable:
            for name in ("time", "call_at", "call_later", _ATTRIBUTE):
                delattr(self._loop, name)

    # For tests

    @property
    def time(self) -> float:
        """What the loop takes for the time, in seconds."""
        return self._now()

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` go by, in no time.

        Every timer on the way goes off in its turn, at its own time, and what follows from it
        happens before the next: a peer that is pinged answers. What runs in threads is not waited
        for.

        Raises:
            ValueError: ``seconds`` is negative.
            RuntimeError: this loop's clock cannot be moved.
        """
        if seconds < 0:
            raise ValueError(f"advance({seconds}): expected 0 or more seconds, time goes one way")
        if not self.is_movable:
            raise RuntimeError(
                f"the clock of {type(self._loop).__name__} cannot be moved: "
                "run the test on asyncio's own loop or on uvloop"
            )
        await self.settle()
        # What all of this takes in real time is a part of it.
        end = self._now() + seconds
        try:
            while (timer := self._next()) and timer.when() <= end:
                self._offset = max(self._offset, timer.when() - self._loop_time())
                before = self._activity
                timer.go_off()
                await asyncio.sleep(0)
                # Ten times a second the server's wheel turns, mostly for nothing.
                if not timer.is_wheel or self._activity != before:
                    await self.settle()
            self._offset = max(self._offset, end - self._loop_time())
        finally:
            # What is still to come is due so much earlier by the loop's own clock.
            for _, _, timer in self._timers:
                timer.set()
        await self.settle()

    async def settle(self) -> None:
        """Let happen what can happen without waiting: for time, for a thread, or for the test."""
        quiet = 0
        for _ in range(MOST_STEPS):
            before = self._activity
            await asyncio.sleep(0)
            quiet = quiet + 1 if self._activity == before else 0
            if quiet == QUIET_STEPS:
                return

    # For the test client

    def stir(self) -> None:
        """Something happens on a wire."""
        self._activity += 1

    def call_in_real_time(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """The loop's ``call_later()``, by a clock that nobody moves."""
        if self._is_asyncio:
            return self._loop_call_at(self._loop_time() + delay, callback, *args, context=context)
        return self._loop_call_later(delay, callback, *args, context=context)

    async def within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """Await ``work``, at most ``seconds`` of real time.

        Raises:
            TimeoutError: it takes longer; it is cancelled, and has ended.
        """
        task = self._loop.create_task(work)
        done = self._loop.create_future()

        def wake(_: object = None) -> None:
            if not done.done():
                done.set_result(None)

        task.add_done_callback(wake)
        timer = None if seconds == float("inf") else self.call_in_real_time(seconds, wake)
        try:
            await done
        finally:
            if timer is not None:
                timer.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        if task.cancelled():
            raise TimeoutError(f"not done within {seconds:g} s")
        return task.result()

    # In the place of the loop's own

    def _now(self) -> float:
        return self._loop_time() + self._offset

    def _time(self) -> float:
        # asyncio's loop looks itself when its own timers are due, which are real ones.
        if self._is_asyncio and sys._getframe(1).f_globals["__name__"] == "asyncio.base_events":
            return self._loop_time()
        return self._now()

    def _call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> _Timer:
        timer = _Timer(self, when, callback, args, context)
        if len(self._timers) > 1000:
            self._timers = [entry for entry in self._timers if entry[2].is_waiting]
            heapq.heapify(self._timers)
        heapq.heappush(self._timers, (when, next(self._count), timer))
        return timer

    def _call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> _Timer:
        return self._call_at(self._now() + delay, callback, *args, context=context)

    def _next(self) -> _Timer | None:
        while self._timers and not self._timers[0][2].is_waiting:
            heapq.heappop(self._timers)
        return self._timers[0][2] if self._timers else None


class _Timer:
    """What ``call_at()`` and ``call_later()`` return: as ``asyncio.TimerHandle`` in its public
    methods."""

    __slots__ = ("_args", "_callback", "_clock", "_context", "_handle", "_when", "is_waiting")

    def __init__(
        self,
        clock: Clock,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> None:
        self._clock = clock
        self._when = when
        self._callback = callback
        self._args = args
        self._context = context
        self._handle: asyncio.Handle | None = None
        self.is_waiting = True
        self.set()

    @property
    def is_wheel(self) -> bool:
        """Whether this is the next turn of a server's timer wheel."""
        return isinstance(getattr(self._callback, "__self__", None), TimerWheel)

    def set(self) -> None:
        """Have the loop call when it is time."""
        if not self.is_waiting:
            return
        if self._handle is not None:
            self._handle.cancel()
        delay = max(0.0, self._when - self._clock._now())
        self._handle = self._clock.call_in_real_time(delay, self._run, context=self._context)

    def go_off(self) -> None:
        """Have the loop call in its next step."""
        self.is_waiting = False
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._clock._loop.call_soon(self._run, context=self._context)

    def _run(self) -> None:
        self.is_waiting = False
        self._callback(*self._args)

    # As asyncio.TimerHandle

    def when(self) -> float:
        return self._when

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self.is_waiting = False

    def cancelled(self) -> bool:
        return self._handle is not None and self._handle.cancelled()

    def __repr__(self) -> str:
        return f"<Timer when={self._when} {self._callback!r}>"
