"""Waking tasks: many with one call of the loop, each as a Future would wake it."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import pytest

from fastws._waking import LoopStep, Waiter
from tests.conftest import LoopErrors
from tests.cythonized import compile_module
from tests.support import TIMEOUT, loop_factory, run

VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="outside")


@pytest.fixture(scope="session")
def waking(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return compile_module("wake_tasks", tmp_path_factory.mktemp("cython"))


@pytest.fixture
def make(waking: ModuleType) -> Callable[[], Any]:
    """Makes a source of wake-ups for one task at a time, on the running loop."""

    def source() -> Any:
        return waking.Source(LoopStep(asyncio.get_running_loop()))

    return source


async def waited(source: Any) -> str:
    await source.wait()
    return "woken"


async def asleep(*coroutines: Any) -> list[asyncio.Task[Any]]:
    """Tasks of the coroutines, each run until it waits."""
    tasks = [asyncio.create_task(one) for one in coroutines]
    await asyncio.sleep(0)
    return tasks


def within_time(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(main(), TIMEOUT)

    run(bounded())


# -------------------------------------------------------------------------------------- waking


def test_task_runs_after_it_is_woken_and_not_within_the_call(make: Callable[[], Any]) -> None:
    async def main() -> None:
        source = make()
        (task,) = await asleep(waited(source))
        source.wake()
        assert not task.done()
        await asyncio.sleep(0)
        assert task.done()
        assert await task == "woken"

    within_time(main)


def test_source_serves_one_wait_after_the_other(make: Callable[[], Any]) -> None:
    async def main() -> None:
        source = make()

        async def thrice() -> int:
            for _ in range(3):
                await source.wait()
            return 3

        (task,) = await asleep(thrice())
        for woken in range(3):
            assert not task.done(), woken
            source.wake()
            await asyncio.sleep(0)
        assert await task == 3

    within_time(main)


def test_wake_without_anybody_waiting_does_nothing(make: Callable[[], Any]) -> None:
    async def main() -> None:
        source = make()
        source.wake()
        assert source.waiter.done()
        (task,) = await asleep(waited(source))
        assert not source.waiter.done()
        for _ in range(3):
            source.wake()  # once is enough, more do no harm
        assert source.waiter.done()
        assert await task == "woken"

    within_time(main)


def test_all_tasks_of_a_step_are_woken_in_order_by_one_call(
    waking: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    handles: list[Any] = []
    loop = asyncio.new_event_loop()
    call_soon: Any = loop.call_soon

    def counted(*arguments: Any, **options: Any) -> Any:
        handles.append(arguments)
        return call_soon(*arguments, **options)

    async def main() -> None:
        step = LoopStep(loop)
        order: list[int] = []

        async def note(source: Any, number: int) -> None:
            await source.wait()
            order.append(number)

        sources = [waking.Source(step) for _ in range(100)]
        tasks = await asleep(*(note(source, number) for number, source in enumerate(sources)))
        handles.clear()
        for source in reversed(sources):
            source.wake()
        assert len(handles) == 1
        await asyncio.wait(tasks, timeout=TIMEOUT)
        assert order == list(reversed(range(100)))

    # uvloop's loops are compiled: nothing can be put in the place of a method.
    monkeypatch.setattr(loop, "call_soon", counted)
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_task_woken_by_another_runs_in_the_next_step(make: Callable[[], Any]) -> None:
    async def main() -> None:
        first, second = make(), make()

        async def pass_on() -> None:
            await first.wait()
            second.wake()
            assert not last.done()

        _, last = tasks = await asleep(pass_on(), waited(second))
        first.wake()
        await asyncio.gather(*tasks)

    within_time(main)


def test_each_task_runs_in_its_own_context(make: Callable[[], Any]) -> None:
    async def main() -> None:
        sources = [make() for _ in range(5)]

        async def look(source: Any, name: str) -> str:
            VARIABLE.set(name)
            await source.wait()
            return VARIABLE.get()

        tasks = await asleep(*(look(source, f"{n}") for n, source in enumerate(sources)))
        VARIABLE.set("who wakes")
        for source in sources:
            source.wake()
        assert list(await asyncio.gather(*tasks)) == ["0", "1", "2", "3", "4"]
        assert VARIABLE.get() == "who wakes"

    within_time(main)


def test_task_written_in_python_is_woken(make: Callable[[], Any]) -> None:
    async def main() -> None:
        source = make()
        task_type: Any = asyncio.tasks._PyTask  # type: ignore[attr-defined]
        task = task_type(waited(source), loop=asyncio.get_running_loop())
        await asyncio.sleep(0)
        source.wake()
        assert await task == "woken"

    within_time(main)


def test_debug_mode_changes_nothing(make: Callable[[], Any]) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_debug(True)
        source = make()
        (task,) = await asleep(waited(source))
        source.wake()
        assert await task == "woken"

    within_time(main)


# -------------------------------------------------------------------------------- cancellation


def test_cancelled_task_ends_at_once(make: Callable[[], Any]) -> None:
    async def main() -> None:
        source = make()
        (task,) = await asleep(waited(source))
        assert task.cancel("enough")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        if sys.version_info >= (3, 11):
            assert caught.value.args == ("enough",)
        assert task.cancelled()
        # The source is as good as new.
        (task,) = await asleep(waited(source))
        source.wake()
        assert await task == "woken"

    within_time(main)


@pytest.mark.parametrize("first", ["wake", "cancel"])
def test_task_both_woken_and_cancelled_is_cancelled(make: Callable[[], Any], first: str) -> None:
    async def main() -> None:
        source = make()
        (task,) = await asleep(waited(source))
        if first == "wake":
            source.wake()
            task.cancel()
        else:
            task.cancel()
            source.wake()
        with pytest.raises(asyncio.CancelledError):
            await task
        (task,) = await asleep(waited(source))
        assert not task.done(), "neither leaves anything behind for the next wait"
        source.wake()
        assert await task == "woken"

    within_time(main)


def test_task_that_takes_no_notice_waits_again(make: Callable[[], Any]) -> None:
    async def main() -> None:
        source = make()

        async def stubborn() -> str:
            try:
                await source.wait()
            except asyncio.CancelledError:
                await source.wait()
            return "woken"

        (task,) = await asleep(stubborn())
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()
        source.wake()
        assert await task == "woken"

    within_time(main)


def test_wait_that_was_given_up_wakes_nobody_later(make: Callable[[], Any]) -> None:
    async def main() -> None:
        source = make()
        (task,) = await asleep(waited(source))
        source.wake()
        task.cancel()
        (second,) = await asleep(waited(source))
        assert task.cancelled()
        assert not second.done()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second

    within_time(main)


def test_timeout_gives_up_in_time(make: Callable[[], Any]) -> None:
    async def main() -> None:
        source = make()
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(waited(source), 0.001)
        (task,) = await asleep(waited(source))
        source.wake()
        assert await task == "woken"

    within_time(main)


# ----------------------------------------------------------------------- interrupts, references


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupt_in_one_task_leaves_the_others_to_the_next_step(
    waking: ModuleType, kind: type[BaseException]
) -> None:
    async def interrupt(source: Any) -> None:
        await source.wait()
        raise kind

    async def main() -> None:
        step = LoopStep(asyncio.get_running_loop())
        sources = [waking.Source(step) for _ in range(3)]
        tasks.extend(await asleep(waited(sources[0]), interrupt(sources[1]), waited(sources[2])))
        for source in sources:
            source.wake()
        await asyncio.gather(tasks[0], tasks[2])

    tasks: list[asyncio.Task[Any]] = []
    loop = loop_factory()
    try:
        running = loop.create_task(main())
        with pytest.raises(kind):
            loop.run_until_complete(running)
        loop.run_until_complete(asyncio.wait_for(running, TIMEOUT))
        assert tasks[0].result() == tasks[2].result() == "woken"
        assert isinstance(tasks[1].exception(), kind)
    finally:
        loop.close()


def test_nothing_of_the_task_is_kept_after_it_ran(make: Callable[[], Any]) -> None:
    async def main() -> None:
        source = make()
        (task,) = await asleep(waited(source))
        seen = weakref.ref(task)
        source.wake()
        await task
        del task
        await asyncio.sleep(0)
        gc.collect()
        assert seen() is None

    within_time(main)


# ------------------------------------------------------------------------------ the step's end


class Ending:
    """Notes that the step has ended."""

    def __init__(self, notes: list[str], error: Exception | None = None) -> None:
        self.notes = notes
        self.error = error

    def on_step_end(self) -> None:
        self.notes.append("end")
        if self.error is not None:
            raise self.error


def test_the_end_of_a_step_comes_after_its_tasks(waking: ModuleType) -> None:
    async def main() -> None:
        step = LoopStep(asyncio.get_running_loop())
        notes: list[str] = []
        sources = [waking.Source(step) for _ in range(3)]

        async def note(source: Any) -> None:
            await source.wait()
            notes.append("task")
            waking.at_end(step, Ending(notes))

        tasks = await asleep(*(note(source) for source in sources))
        waking.at_end(step, Ending(notes))
        for source in sources:
            source.wake()
        await asyncio.gather(*tasks)
        await asyncio.sleep(0)
        assert notes == ["task"] * 3 + ["end"] * 4

    within_time(main)


def test_error_at_the_end_is_reported_and_touches_nobody_else(
    waking: ModuleType, loop_errors: LoopErrors
) -> None:
    notes: list[str] = []

    async def main() -> None:
        step = LoopStep(asyncio.get_running_loop())
        for error in (None, ZeroDivisionError("at the end"), None):
            waking.at_end(step, Ending(notes, error))
        await asyncio.sleep(0)
        waking.at_end(step, Ending(notes))
        await asyncio.sleep(0)

    within_time(main)
    assert notes == ["end"] * 4
    (message,) = loop_errors.messages
    loop_errors.messages.clear()
    assert "ZeroDivisionError: at the end" in message


def test_a_waiter_that_python_makes_harms_nobody() -> None:
    waiter = Waiter()
    assert waiter.get_loop() is None
    assert not waiter.cancel()
    with pytest.raises(RuntimeError, match="no LoopStep"):
        waiter.add_done_callback(print)


# ------------------------------------------------------------------------------------ batches

BATCH = 32
"""Tasks whose answers go out together."""


def test_what_follows_a_step_is_called_after_each_batch_of_tasks(waking: ModuleType) -> None:
    async def main() -> None:
        step = LoopStep(asyncio.get_running_loop())
        notes: list[str] = []
        count = 2 * BATCH + 5
        sources = [waking.Source(step) for _ in range(count)]

        async def note(source: Any) -> None:
            await source.wait()
            notes.append("task")
            waking.at_end(step, Ending(notes))

        tasks = await asleep(*(note(source) for source in sources))
        for source in sources:
            source.wake()
        await asyncio.gather(*tasks)
        batches = [BATCH, BATCH, 5]
        assert notes == [note for size in batches for note in ["task"] * size + ["end"] * size]

    within_time(main)


def test_interrupt_leaves_the_later_batches_to_the_next_step(waking: ModuleType) -> None:
    async def interrupt(source: Any) -> None:
        await source.wait()
        raise SystemExit

    notes: list[str] = []

    async def main() -> None:
        step = LoopStep(asyncio.get_running_loop())
        sources = [waking.Source(step) for _ in range(2 * BATCH)]
        kinds: list[Any] = [waited] * len(sources)
        kinds[BATCH + 3] = interrupt
        tasks.extend(await asleep(*(kind(each) for kind, each in zip(kinds, sources, strict=True))))
        waking.at_end(step, Ending(notes))
        for source in sources:
            source.wake()
        await asyncio.wait(tasks, timeout=TIMEOUT)

    tasks: list[asyncio.Task[Any]] = []
    loop = loop_factory()
    try:
        running = loop.create_task(main())
        with pytest.raises(SystemExit):
            loop.run_until_complete(running)
        loop.run_until_complete(asyncio.wait_for(running, TIMEOUT))
        assert isinstance(tasks.pop(BATCH + 3).exception(), SystemExit)
        assert {task.result() for task in tasks} == {"woken"}
        assert notes == ["end"]
    finally:
        loop.close()


def test_tasks_of_one_step_may_cancel_one_another(make: Callable[[], Any]) -> None:
    async def main() -> None:
        sources = [make() for _ in range(3)]

        async def cancel_the_next() -> None:
            await sources[0].wait()
            tasks[1].cancel()
            tasks[2].cancel("told why")

        tasks = await asleep(cancel_the_next(), waited(sources[1]), waited(sources[2]))
        sources[0].wake()
        sources[1].wake()
        await asyncio.wait(tasks, timeout=TIMEOUT)
        assert not tasks[0].cancelled()
        assert tasks[1].cancelled()
        assert tasks[2].cancelled()

    within_time(main)


def test_a_waiter_gives_none_but_tells_of_its_cancellation_once(make: Callable[[], Any]) -> None:
    async def main() -> None:
        source = make()
        waiter = source.waiter
        given: list[Any] = []
        waiter.add_done_callback(given.append)
        source.wake()
        await asyncio.sleep(0)
        assert [each.result() for each in given] == [None]
        assert all(each.done() for each in given)
        waiter.add_done_callback(given.append)
        assert waiter.cancel("enough")
        assert waiter.cancelled()
        assert not waiter.cancel(), "it is due already"
        await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError, match="enough"):
            given[1].result()
        assert given[1].result() is None
        assert not waiter.cancelled()

    within_time(main)


def test_a_wake_up_that_the_loop_refuses_is_made_up_for_by_the_next(waking: ModuleType) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        step = LoopStep(loop)
        sources = [waking.Source(step) for _ in range(2)]
        tasks = await asleep(*map(waited, sources))
        # Debug mode tells whoever is in a wrong thread.
        loop.set_debug(True)
        refused = await loop.run_in_executor(None, error_of, sources[0].wake)
        loop.set_debug(False)
        assert isinstance(refused, RuntimeError)
        sources[1].wake()
        assert [await task for task in tasks] == ["woken", "woken"]

    within_time(main)


def error_of(call: Callable[[], object]) -> Exception | None:
    try:
        call()
    except Exception as error:
        return error
    return None
