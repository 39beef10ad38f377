"""The slots of the compiled awaitables: every value, every way to run them, on every Python."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import gc
import inspect
import sys
import warnings
import weakref
from collections.abc import Callable, Generator, Iterator
from types import ModuleType, TracebackType
from typing import Any

import pytest

from fastws import _receiver, _writer
from tests.cythonized import compile_module
from tests.support import TIMEOUT, loop_factory, run

#: The size up to which a value may stay in a kept StopIteration: FASTWS_KEPT_VALUE of _await.h.
KEPT = 4096


class Box:
    """Something that can be seen to go away."""


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return compile_module("awaitable_values", tmp_path_factory.mktemp("cython"))


async def awaited(awaitable: Any) -> Any:
    """What ``await`` makes of it."""
    return await awaitable


def stepped(advance: Callable[[], Any]) -> Any:
    """The value with which an awaitable ends that has nothing to wait for."""
    with pytest.raises(StopIteration) as caught:
        advance()
    return caught.value.value


# ------------------------------------------------------------------------------------- values

VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "empty text": lambda: "",
    "text": lambda: "".join(["a small", " text"]),
    "wide text": lambda: "é€𝄞" * 3,
    "text kept": lambda: "k" * KEPT,
    "text not kept": lambda: "n" * (KEPT + 1),
    "large text": lambda: "x" * 1_000_000,
    "empty bytes": lambda: b"",
    "bytes": lambda: bytes(range(256)),
    "large bytes": lambda: bytes(1_000_000),
    "bytearray": lambda: bytearray(b"mutable"),
    "number": lambda: 12345678901234567890,
    "zero": lambda: 0,
    "false": lambda: False,
    "empty tuple": lambda: (),
    "tuple": lambda: (1, "two"),
    "tuple of one": lambda: ("one",),
    "nested tuple": lambda: ((ValueError, "x"), None),
    "dict": lambda: {"type": "websocket.receive", "text": "x"},
    "list": lambda: [1, [2]],
    "object": Box,
    "class": lambda: Box,
    "exception": lambda: ValueError("a value, not raised"),
    "exception class": lambda: KeyError,
    "StopIteration": lambda: StopIteration("inner"),
    "StopIteration of nothing": StopIteration,
    "StopIteration class": lambda: StopIteration,
    "StopAsyncIteration": lambda: StopAsyncIteration("inner"),
    "GeneratorExit": GeneratorExit,
    "CancelledError": lambda: asyncio.CancelledError("inner"),
    "KeyboardInterrupt": KeyboardInterrupt,
    "subclass of str": lambda: type("Text", (str,), {})("text"),
    "subclass of tuple": lambda: type("Pair", (tuple,), {})((1, 2)),
}


@pytest.fixture(params=VALUES.values(), ids=list(VALUES))
def value(request: pytest.FixtureRequest) -> Any:
    return request.param()


def test_await_gives_the_very_value(compiled: ModuleType, value: Any) -> None:
    assert run(awaited(compiled.Value(value))) is value


def test_await_gives_the_value_after_waiting(compiled: ModuleType, value: Any) -> None:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(3)]
        for delay, future in enumerate(futures):
            loop.call_later(delay / 1000, future.set_result, None)
        return await compiled.Value(value, *futures)

    assert run(main()) is value


def test_task_gives_the_value(compiled: ModuleType, value: Any) -> None:
    async def main() -> Any:
        return await asyncio.create_task(compiled.Value(value))

    assert run(main()) is value


def test_task_written_in_python_gives_the_value(compiled: ModuleType, value: Any) -> None:
    async def main() -> Any:
        task_type: Any = asyncio.tasks._PyTask  # type: ignore[attr-defined]
        return await task_type(compiled.Value(value), loop=asyncio.get_running_loop())

    assert run(main()) is value


@pytest.mark.parametrize(
    "advance", [next, lambda awaitable: awaitable.send(None)], ids=["next", "send"]
)
def test_one_step_ends_with_the_value(
    compiled: ModuleType, value: Any, advance: Callable[[Any], Any]
) -> None:
    assert stepped(lambda: advance(compiled.Value(value))) is value


def test_yield_from_gives_the_value(compiled: ModuleType, value: Any) -> None:
    def delegating() -> Generator[Any, None, Any]:
        # A generator takes it for an iterator, as a coroutine based on one does.
        result = yield from compiled.Value(value)
        return result

    assert stepped(lambda: next(delegating())) is value


def test_future_is_a_value_like_any_other(compiled: ModuleType) -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        assert await compiled.Value(future) is future
        future.cancel()

    run(main())


@pytest.mark.parametrize("error", [ValueError("raised"), RuntimeError("raised"), OSError(5, "io")])
def test_await_raises_what_the_step_raises(compiled: ModuleType, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        run(awaited(compiled.Value("unused", error=error)))
    assert caught.value is error


def test_step_may_end_an_async_for(compiled: ModuleType) -> None:
    class Messages:
        def __init__(self) -> None:
            self.steps = [compiled.Value(1), compiled.Value(error=StopAsyncIteration())]

        def __aiter__(self) -> Messages:
            return self

        def __anext__(self) -> Any:
            return self.steps.pop(0)

    async def main() -> list[Any]:
        return [message async for message in Messages()]

    assert run(main()) == [1]


# ------------------------------------------------------------------------------------ tracing


class Tracer:
    """A debugger, as the interpreter sees one: it looks at everything and keeps nothing."""

    def __init__(self) -> None:
        self.seen: collections.Counter[str] = collections.Counter()

    def __call__(self, frame: Any, event: str, argument: Any) -> Tracer:
        self.seen[event] += 1
        return self


@contextlib.contextmanager
def tracing(tracer: Any) -> Iterator[None]:
    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        yield
    finally:
        sys.settrace(before)


@contextlib.contextmanager
def profiling(tracer: Any) -> Iterator[None]:
    before = sys.getprofile()
    sys.setprofile(tracer)
    try:
        yield
    finally:
        sys.setprofile(before)


@contextlib.contextmanager
def monitoring(tracer: Any) -> Iterator[None]:
    """Every event there is, where there is sys.monitoring (3.12 and later)."""
    if sys.version_info < (3, 12):
        pytest.skip("sys.monitoring came with Python 3.12")
    api = sys.monitoring
    tool = api.PROFILER_ID
    api.use_tool_id(tool, "test")
    events = api.events
    wanted = [events.PY_START, events.PY_RETURN, events.RAISE, events.STOP_ITERATION]
    try:
        for event in wanted:
            api.register_callback(tool, event, lambda *seen: tracer(None, "event", seen))
        api.set_events(tool, sum(wanted))
        yield
    finally:
        api.set_events(tool, 0)
        api.free_tool_id(tool)


@pytest.mark.parametrize("watching", [tracing, profiling, monitoring])
def test_await_gives_the_value_while_watched(
    compiled: ModuleType,
    value: Any,
    watching: Callable[[Any], contextlib.AbstractContextManager[None]],
) -> None:
    tracer = Tracer()

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        return [
            await compiled.Value(value),
            await awaited(compiled.Value(value)),
            await compiled.Value(value, future),
            await asyncio.create_task(compiled.Value(value)),
        ]

    with watching(tracer):
        values = run(main())
    assert [given is value for given in values] == [True] * 4
    assert tracer.seen


def test_value_survives_a_tracer_that_keeps_every_exception(compiled: ModuleType) -> None:
    kept: list[Any] = []

    def tracer(frame: Any, event: str, argument: Any) -> Any:
        if event == "exception":
            kept.append(argument)
        return tracer

    async def main() -> list[Any]:
        return [await compiled.Value(f"value {number}") for number in range(5)]

    with tracing(tracer):
        values = run(main())
    assert values == [f"value {number}" for number in range(5)]
    seen = [error.value for kind, error, _ in kept if kind is StopIteration and error is not None]
    assert [one for one in seen if str(one).startswith("value")] == values


# --------------------------------------------------------------------------------- references


def references(thing: object) -> int:
    """Other references to it than the caller's."""
    return sys.getrefcount(thing) - 2


@pytest.mark.parametrize("size", [1, 100, KEPT, KEPT + 1, 100_000])
@pytest.mark.parametrize("make", ["{:>{}}".format, lambda n, size: str(n).encode().rjust(size)])
def test_no_value_is_held_beyond_the_next_await(
    compiled: ModuleType, make: Callable[[int, int], Any], size: int
) -> None:
    first, second = make(1_000_001, size), make(1_000_002, size)
    before = references(first)

    async def main() -> None:
        assert await compiled.Value(first) is first
        assert references(first) <= before + (1 if size <= KEPT else 0)
        assert await compiled.Value(second) is second
        assert references(first) == before

    run(main())


@pytest.mark.parametrize("kind", [Box, type("Text", (str,), {}), type("Error", (Exception,), {})])
def test_object_is_released_at_once(compiled: ModuleType, kind: Callable[[], Any]) -> None:
    async def main() -> None:
        thing = kind()
        seen = weakref.ref(thing)
        assert await compiled.Value(thing) is thing
        del thing
        assert seen() is None

    run(main())


def test_awaitable_is_released_when_it_is_done(compiled: ModuleType) -> None:
    async def main() -> None:
        awaitable = compiled.Value("x")
        seen = weakref.ref(awaitable)
        await awaitable
        del awaitable
        assert seen() is None

    run(main())


@pytest.mark.parametrize("make", [lambda n: f"message {n}", lambda n: (n, Box()), lambda n: None])
def test_a_hundred_thousand_awaits_leave_nothing_behind(
    compiled: ModuleType, make: Callable[[int], Any]
) -> None:
    async def main(count: int) -> None:
        for number in range(count):
            await compiled.Value(make(number))

    run(main(1000))
    gc.collect()
    before = sys.getallocatedblocks()
    run(main(100_000))
    gc.collect()
    assert sys.getallocatedblocks() - before < 1000


def test_stop_iteration_that_somebody_holds_keeps_its_value(compiled: ModuleType) -> None:
    with pytest.raises(StopIteration) as caught:
        next(compiled.Value("held"))
    held = caught.value

    async def main() -> None:
        for number in range(3):
            assert await compiled.Value(f"{number}") == f"{number}"
            assert stepped(lambda: next(compiled.Value("another"))) == "another"

    run(main())
    assert held.value == "held"


def test_stop_iteration_used_again_remembers_neither_traceback_nor_context(
    compiled: ModuleType,
) -> None:
    def leave_traces() -> weakref.ref[Box]:
        local = Box()
        try:
            try:
                raise ValueError("the context")
            except ValueError:
                next(compiled.Value("traced"))
        except StopIteration:
            pass
        return weakref.ref(local)

    seen = leave_traces()
    run(awaited(compiled.Value("the next one")))
    gc.collect()
    assert seen() is None
    with pytest.raises(StopIteration) as caught:
        next(compiled.Value("x"))
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_waiting_awaitable_makes_no_cycle_that_outlives_it(compiled: ModuleType) -> None:
    async def main() -> weakref.ref[Any]:
        future = asyncio.get_running_loop().create_future()
        awaitable = compiled.Value("x", future)
        task = asyncio.create_task(awaitable)
        await asyncio.sleep(0)
        future.set_result(None)
        await task
        return weakref.ref(awaitable)

    gc.disable()
    try:
        assert run(main())() is None
    finally:
        gc.enable()


# ----------------------------------------------------------------- throw(), close(), await again


def traceback_here() -> TracebackType:
    with pytest.raises(ValueError) as caught:
        raise ValueError
    return caught.tb


INSTANCE = ValueError("an instance")

THROWN: dict[str, tuple[Any, ...]] = {
    "instance": (INSTANCE,),
    "instance, None": (INSTANCE, None),
    "instance, None, None": (INSTANCE, None, None),
    "class": (ValueError,),
    "class, None": (KeyError, None),
    "class, argument": (ValueError, "argument"),
    "class, instance": (ValueError, INSTANCE),
    "class, instance of a subclass": (Exception, INSTANCE),
    "class, None, traceback": (ValueError, None, traceback_here()),
    "class, instance, traceback": (ValueError, INSTANCE, traceback_here()),
    "instance, None, traceback": (INSTANCE, None, traceback_here()),
    "cancellation": (asyncio.CancelledError("by hand"),),
    "cancellation class": (asyncio.CancelledError,),
    "exit": (GeneratorExit,),
    "interrupt": (KeyboardInterrupt(),),
}


def thrown(awaitable: Any, arguments: tuple[Any, ...]) -> BaseException:
    with warnings.catch_warnings():
        # The native coroutine, which is the measure, warns of the forms with three arguments.
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(BaseException) as caught:
            awaitable.throw(*arguments)
    return caught.value


async def nothing() -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize("arguments", THROWN.values(), ids=list(THROWN))
def test_throw_raises_what_a_coroutine_would(
    compiled: ModuleType, arguments: tuple[Any, ...]
) -> None:
    async def main() -> None:
        native = nothing()
        native.send(None)
        wanted = thrown(native, arguments)
        future = asyncio.get_running_loop().create_future()
        awaitable = compiled.Value("x", future)
        assert awaitable.send(None) is future
        got = thrown(awaitable, arguments)
        assert type(got) is type(wanted)
        assert got.args == wanted.args
        if INSTANCE in arguments:
            assert got is INSTANCE
        if len(arguments) == 3 and arguments[2] is not None:
            traceback, frames = got.__traceback__, []
            while traceback is not None:
                frames.append(traceback.tb_frame)
                traceback = traceback.tb_next
            assert arguments[2].tb_frame in frames
        assert awaitable.abandoned == 1

    run(main())
    INSTANCE.__traceback__ = None


@pytest.mark.parametrize("wrong", ["text", 5, int, object()])
def test_throw_refuses_what_is_no_exception(compiled: ModuleType, wrong: object) -> None:
    with pytest.raises(TypeError):
        compiled.Value("x").throw(wrong)


def test_throw_before_the_first_step(compiled: ModuleType) -> None:
    awaitable = compiled.Value("x")
    with pytest.raises(ZeroDivisionError):
        awaitable.throw(ZeroDivisionError)
    assert (awaitable.steps, awaitable.abandoned) == (0, 1)


def test_exception_thrown_into_the_outer_coroutine_passes_through(compiled: ModuleType) -> None:
    async def main() -> None:
        awaitable = compiled.Value("x", asyncio.get_running_loop().create_future())
        outer = awaited(awaitable)
        outer.send(None)
        with pytest.raises(ZeroDivisionError):
            outer.throw(ZeroDivisionError())
        assert awaitable.abandoned == 1

    run(main())


def test_outer_coroutine_may_go_on_after_a_throw(compiled: ModuleType) -> None:
    async def stubborn(awaitable: Any) -> Any:
        try:
            await awaitable
        except ZeroDivisionError:
            return await compiled.Value("went on")

    async def main() -> Any:
        outer = stubborn(compiled.Value("x", asyncio.get_running_loop().create_future()))
        outer.send(None)
        return stepped(lambda: outer.throw(ZeroDivisionError()))

    assert run(main()) == "went on"


def test_close_abandons_and_returns_nothing(compiled: ModuleType) -> None:
    awaitable = compiled.Value("x")
    assert awaitable.close() is None
    assert (awaitable.steps, awaitable.abandoned) == (0, 1)


def test_closing_the_outer_coroutine_closes_what_it_waits_for(compiled: ModuleType) -> None:
    async def main() -> None:
        awaitable = compiled.Value("x", asyncio.get_running_loop().create_future())
        outer = awaited(awaitable)
        outer.send(None)
        outer.close()
        assert awaitable.abandoned == 1

    run(main())


def test_value_sent_in_has_no_meaning(compiled: ModuleType) -> None:
    assert stepped(lambda: compiled.Value("x").send("ignored")) == "x"


def test_it_is_its_own_iterator(compiled: ModuleType) -> None:
    awaitable = compiled.Value("x")
    assert awaitable.__await__() is awaitable
    assert iter(awaitable) is awaitable


def test_ready_may_be_awaited_by_many_and_again(compiled: ModuleType) -> None:
    async def main() -> None:
        ready = compiled.ready()
        assert ready is compiled.ready()
        for _ in range(3):
            assert await ready is None
        assert await asyncio.gather(*(awaited(ready) for _ in range(10))) == [None] * 10
        task = asyncio.create_task(ready)
        await task
        ready.close()
        with pytest.raises(ZeroDivisionError):
            ready.throw(ZeroDivisionError)
        assert await ready is None

    run(main())


def test_waiting_gives_the_futures_outcome_each_time(compiled: ModuleType) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        good, bad, cancelled = (loop.create_future() for _ in range(3))
        good.set_result((1, 2))
        bad.set_exception(KeyError("k"))
        cancelled.cancel()
        waiting = compiled.waiting(good)
        assert [await waiting, await waiting] == [(1, 2)] * 2
        with pytest.raises(KeyError):
            await compiled.waiting(bad)
        with pytest.raises(asyncio.CancelledError):
            await compiled.waiting(cancelled)

    run(main())


# ------------------------------------------------------------------------------------- asyncio


def test_it_counts_as_a_coroutine(compiled: ModuleType) -> None:
    awaitable = compiled.Value("x")
    assert isinstance(awaitable, collections.abc.Coroutine)
    assert isinstance(awaitable, collections.abc.Awaitable)
    assert asyncio.iscoroutine(awaitable)
    assert inspect.isawaitable(awaitable)


def test_no_warning_when_it_is_never_awaited(compiled: ModuleType) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled.Value("x")
        compiled.ready()
        gc.collect()


@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
def test_everything_in_asyncio_that_takes_a_coroutine(compiled: ModuleType, debug: bool) -> None:
    def soon(value: object) -> Any:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, None)
        return compiled.Value(value, future)

    async def main() -> None:
        asyncio.get_running_loop().set_debug(debug)
        assert await asyncio.create_task(soon(1)) == 1
        assert await asyncio.ensure_future(soon(2)) == 2
        assert list(await asyncio.gather(soon(3), compiled.Value(4), soon(5))) == [3, 4, 5]
        assert await asyncio.wait_for(soon(6), TIMEOUT) == 6
        assert await asyncio.shield(soon(7)) == 7
        assert sorted([await one for one in asyncio.as_completed([soon(8), soon(9)])]) == [8, 9]
        done, pending = await asyncio.wait({asyncio.ensure_future(soon(10))})
        assert [task.result() for task in done] == [10]
        assert not pending
        loop = asyncio.get_running_loop()

        def in_thread() -> Any:
            return asyncio.run_coroutine_threadsafe(compiled.Value(11), loop).result(TIMEOUT)

        assert await loop.run_in_executor(None, in_thread) == 11

    run(main())


def test_run_until_complete_takes_it(compiled: ModuleType) -> None:
    loop = loop_factory()
    try:
        assert loop.run_until_complete(compiled.Value("x")) == "x"
    finally:
        loop.close()


def test_task_group_and_timeout_take_it(compiled: ModuleType) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("TaskGroup and timeout() came with Python 3.11")

    async def main() -> None:
        never = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(compiled.Value(number)) for number in range(5)]
        assert [task.result() for task in tasks] == list(range(5))
        awaitable = compiled.Value("late", never)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await awaitable
        assert awaitable.abandoned == 1

        async def one_of_two_fails() -> None:
            async with asyncio.TaskGroup() as group:
                waiting.append(group.create_task(compiled.Value("late", loop.create_future())))
                group.create_task(compiled.Value(error=ZeroDivisionError("one fails")))

        loop = asyncio.get_running_loop()
        waiting: list[asyncio.Task[Any]] = []
        with pytest.raises(Exception, match="errors in a TaskGroup") as caught:
            await one_of_two_fails()
        failure: Any = caught.value
        assert [type(one) for one in failure.exceptions] == [ZeroDivisionError]
        assert waiting[0].cancelled()

    run(main())


def test_eager_task_takes_it(compiled: ModuleType) -> None:
    if sys.version_info < (3, 12):
        pytest.skip("eager tasks came with Python 3.12")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Task(compiled.Value("at once"), loop=loop, eager_start=True)
        assert done.done()
        assert await done == "at once"
        future = loop.create_future()
        later = asyncio.Task(compiled.Value("later", future), loop=loop, eager_start=True)
        future.set_result(None)
        assert await later == "later"

    run(main())


def test_wait_for_gives_up_in_time(compiled: ModuleType) -> None:
    async def main() -> None:
        awaitable = compiled.Value("late", asyncio.get_running_loop().create_future())
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(awaitable, 0.01)
        assert awaitable.abandoned == 1

    run(main())


def test_shield_keeps_it_running(compiled: ModuleType) -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        awaitable = compiled.Value("in the end", future)
        inner = asyncio.ensure_future(awaitable)
        outer = asyncio.ensure_future(awaited(asyncio.shield(inner)))
        await asyncio.sleep(0)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        future.set_result(None)
        assert await inner == "in the end"
        assert awaitable.abandoned == 0

    run(main())


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_cancelled_task_abandons_it(compiled: ModuleType, steps: int) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        first, second = loop.create_future(), loop.create_future()
        awaitable = compiled.Value("x", first, second)
        task = asyncio.create_task(awaitable)
        for step in range(steps):
            if step:
                first.set_result(None)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert task.cancelled()
        # 3.11 and later hand the message on; 3.10 does so to the task itself only.
        if sys.version_info >= (3, 11):
            assert caught.value.args == ("enough",)
        assert awaitable.abandoned == 1

    run(main())


def test_cancellation_between_wake_up_and_step_is_not_lost(compiled: ModuleType) -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(compiled.Value("x", future))
        await asyncio.sleep(0)
        future.set_result(None)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_anyio_takes_it(compiled: ModuleType) -> None:
    anyio = pytest.importorskip("anyio")

    async def main() -> None:
        never = asyncio.get_running_loop().create_future()
        awaitable = compiled.Value("late", never)
        with anyio.move_on_after(0.01) as scope:
            await awaitable
        assert scope.cancelled_caught
        assert awaitable.abandoned >= 1
        async with anyio.create_task_group() as group:
            group.start_soon(awaited, compiled.Value("x"))

    run(main())


@pytest.mark.parametrize(
    "advance",
    [lambda made: made.send(None), lambda made: made.throw(ValueError("thrown")), next],
    ids=["send", "throw", "next"],
)
@pytest.mark.parametrize("kind", [_writer.Pause, _receiver.Receive])
def test_one_that_python_makes_raises(kind: type[Any], advance: Callable[[Any], Any]) -> None:
    with pytest.raises((AttributeError, RuntimeError, ValueError)):
        advance(kind())
