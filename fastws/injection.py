"""Following a plan: the dependencies of one connection are called, the handler, and torn down."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from contextvars import Context, copy_context
from types import TracebackType
from typing import Any

from fastws.codes import WebSocketState
from fastws.dependencies import Call, Complaints, Plan, Step, compile_plan
from fastws.exceptions import HTTPException
from fastws.parameters import Source
from fastws.signatures import is_async, name_of
from fastws.websocket import WebSocket

__all__ = ["Handler"]

log = logging.getLogger("fastws.error")

UNPROCESSABLE = 422

FAILED: Any = object()
"""The result of a step that was not taken because the request does not fit it."""


class Handler:
    """A handler of a route, with all that it depends on.

    Parameters:
        function: the handler.
        path: the names in its route's path, each with a function that gives the text of its value
            back; ``None`` where the value is text.
        kind: what it handles: ``WebSocket`` or ``Request``.
        dependencies: what is called besides.

    Raises:
        TypeError: its signature, or that of a dependency, cannot be used.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        path: Mapping[str, Callable[[Any], str] | None],
        kind: type,
        dependencies: Sequence[Any] = (),
    ) -> None:
        self._compile = functools.partial(compile_plan, function, path, kind, dependencies)
        self._plan = self._compile()
        self._is_async = is_async(function)
        # The usual handler, which asks for nothing but its connection.
        alone = not self._plan.steps and self._plan.endpoint.is_plain
        self._plain = function if alone else None
        self._overridden: tuple[list[Any], Plan] = ([], self._plan)

    @property
    def takes_subject(self) -> bool:
        """Whether the handler, or something it depends on, gets the connection."""
        return self._plan.takes_subject

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences about parameters that nothing gives a value to."""
        return self._plan.problems

    @property
    def is_async(self) -> bool:
        """Whether :meth:`call` makes a coroutine."""
        return self._is_async or bool(self._plan.steps)

    def start(self, ws: WebSocket, params: Mapping[str, Any]) -> Coroutine[Any, Any, Any]:
        """The coroutine that serves a connection: the handler's own if nothing has to be awaited
        before, and nothing to be torn down after it.

        Parameters:
            ws: the connection, not accepted yet.
            params: the values of the path parameters.

        Raises:
            HTTPException: 422 with every reason, or what a dependency refuses the connection with.
        """
        if self._plain is not None:
            coroutine: Coroutine[Any, Any, Any] = self._plain(ws)
            return coroutine
        try:
            plan = self._plan_for(ws.app)
            if not plan.is_direct:
                return _serve(plan, ws, params)
            positional, keywords = _gather_directly(plan, Source(ws, params))
        except HTTPException:
            raise
        except Exception as error:
            # It ends the connection as it would from within the handler.
            return _fail(error)
        coroutine = plan.endpoint.function(*positional, **keywords)
        return coroutine

    def call(self, request: Any, params: Mapping[str, Any]) -> Any:
        """Call the handler of a page: a coroutine if :attr:`is_async`, else its result.

        Raises:
            HTTPException: 422 with every reason, or what a dependency answers with; from the
                coroutine, if there is one.
        """
        if self._plan.steps:
            plan = self._plan_for(request.app)
            return _serve(plan, request, params, in_thread=not self._is_async)
        positional, keywords = _gather_directly(self._plan, Source(request, params))
        return self._plan.endpoint.function(*positional, **keywords)

    def _plan_for(self, app: Any) -> Plan:
        """The plan, with the application's overrides if it has some at the moment."""
        overrides = getattr(app, "dependency_overrides", None)
        if not overrides or not self._plan.steps:
            return self._plan
        present = list(overrides.items())
        if present != self._overridden[0]:
            self._overridden = (present, self._compile(overrides))
        return self._overridden[1]


async def _fail(error: Exception) -> None:
    raise error


# Without waiting


def _gather_directly(plan: Plan, source: Source) -> tuple[list[Any], dict[str, Any]]:
    """The handler's arguments, by a plan whose steps are all direct."""
    results: list[Any] = []
    complaints: Complaints = []
    for step in plan.steps:
        arguments = _gather(step.call, source, results, complaints)
        if arguments is None:
            results.append(FAILED)
        else:
            results.append(_call_inline(step, *arguments))
    return _gather_last(plan, source, results, complaints)


def _gather(
    call: Call, source: Source, results: Sequence[Any], complaints: Complaints
) -> tuple[list[Any], dict[str, Any]] | None:
    """The arguments of a call, ``None`` if the request, or what it needs, does not fit."""
    before = len(complaints)
    arguments = call.gather(source, results, complaints)
    if len(complaints) > before:
        return None
    if call.needs and any(results[needed] is FAILED for needed in call.needs):
        return None
    return arguments


def _gather_last(
    plan: Plan, source: Source, results: Sequence[Any], complaints: Complaints
) -> tuple[list[Any], dict[str, Any]]:
    """The handler's arguments; raises 422 with all that was found on the way to them."""
    arguments = _gather(plan.endpoint, source, results, complaints)
    if complaints:
        raise HTTPException(UNPROCESSABLE, complaints)
    assert arguments is not None, "a step fails with a complaint only"
    return arguments


def _call_inline(step: Step, positional: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """Call a function that does not wait, in a context of its own.

    It may run in a callback of the transport, whose context other connections share.
    """
    function = step.call.function
    result = copy_context().run(function, *positional, **keywords)
    if not asyncio.iscoroutine(result):
        return result
    try:
        copy_context().run(result.send, None)
    except StopIteration as stop:
        return stop.value
    result.close()
    raise RuntimeError(f"dependency {name_of(function)}() is marked inline, and it waits")


# With waiting


async def _serve(
    plan: Plan, subject: Any, params: Mapping[str, Any], *, in_thread: bool = False
) -> Any:
    """Call what a handler depends on, the handler, and tear the former down."""
    # No name is given to the arguments: the handler alone is to hold on to them.
    if not plan.has_teardown:
        return await _call_endpoint(plan, await _gather_waiting(plan, subject, params), in_thread)
    async with AsyncExitStack() as connection:
        handshake = connection
        if plan.has_handshake_teardown and isinstance(subject, WebSocket):
            handshake = await connection.enter_async_context(_HandshakeStack(subject))
        return await _call_endpoint(
            plan, await _gather_waiting(plan, subject, params, connection, handshake), in_thread
        )


def _call_endpoint(
    plan: Plan, arguments: tuple[Sequence[Any], Mapping[str, Any]], in_thread: bool
) -> Awaitable[Any]:
    function = functools.partial(plan.endpoint.function, *arguments[0], **arguments[1])
    if in_thread:
        return _in_thread(copy_context(), function)
    result: Awaitable[Any] = function()
    return result


async def _gather_waiting(
    plan: Plan,
    subject: Any,
    params: Mapping[str, Any],
    connection: AsyncExitStack | None = None,
    handshake: AsyncExitStack | None = None,
) -> tuple[list[Any], dict[str, Any]]:
    """The handler's arguments; what is to be torn down is left in the stacks."""
    source = Source(subject, params)
    results: list[Any] = []
    complaints: Complaints = []
    for step in plan.steps:
        arguments = _gather(step.call, source, results, complaints)
        if arguments is None:
            results.append(FAILED)
        elif step.generator is not None:
            stack = handshake if step.ends_with_handshake else connection
            assert stack is not None, "a plan with a generator has stacks"
            results.append(await _enter(step, stack, *arguments))
        elif step.is_inline:
            results.append(_call_inline(step, *arguments))
        else:
            results.append(await _call(step, *arguments))
    return _gather_last(plan, source, results, complaints)


async def _call(step: Step, positional: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    function = functools.partial(step.call.function, *positional, **keywords)
    result = function() if step.is_async else await _in_thread(copy_context(), function)
    # A lambda, or a decorated function, does not tell that it makes a coroutine.
    return await result if asyncio.iscoroutine(result) else result


async def _enter(
    step: Step, stack: AsyncExitStack, positional: Sequence[Any], keywords: Mapping[str, Any]
) -> Any:
    manager = step.manager(*positional, **keywords)
    if step.generator == "async":
        return await stack.enter_async_context(manager)
    if step.is_inline:
        return stack.enter_context(manager)
    return await stack.enter_async_context(_ThreadedManager(manager))


# Threads


class _ThreadedManager:
    """A context manager that blocks: it is entered and left in threads, but in one context.

    So that what it sets in a context variable can be reset.
    """

    def __init__(self, manager: AbstractContextManager[Any]) -> None:
        self._manager = manager
        self._context = copy_context()
        self._entered = False

    async def __aenter__(self) -> Any:
        try:
            return await _in_thread(self._context, self._enter)
        except asyncio.CancelledError as error:
            if self._entered:
                await self.__aexit__(type(error), error, error.__traceback__)
            raise

    def _enter(self) -> Any:
        value = self._manager.__enter__()
        self._entered = True
        return value

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        leave = functools.partial(self._manager.__exit__, kind, error, traceback)
        return bool(await _in_thread(self._context, leave))


async def _in_thread(context: Context, function: Callable[[], Any]) -> Any:
    """Call a function in a thread of the loop's default executor.

    A thread cannot be stopped: if the task is cancelled, this waits until the function has
    returned, so that nothing that it uses is torn down under it.
    """
    loop = asyncio.get_running_loop()
    running = loop.run_in_executor(None, context.run, _without_stop_iteration, function)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        failure = running.exception()
        if failure is not None:
            log.error("a dependency failed while its connection was cancelled", exc_info=failure)
        raise cancelled
    return running.result()


def _without_stop_iteration(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except StopIteration as error:
        # A Future takes every exception but this one.
        raise RuntimeError("a dependency raised StopIteration") from error


# The end of the handshake


class _HandshakeStack(AsyncExitStack):
    """What is torn down when the opening handshake of ``ws`` has been answered.

    Until then the methods that can answer it are covered, on this one object, by ones that tear
    down after them; a plain connection pays nothing for that.
    """

    VERBS = ("accept", "close", "send", "send_denial_response")

    def __init__(self, ws: WebSocket) -> None:
        super().__init__()
        self._ws = ws
        for name in self.VERBS:
            ws.__dict__[name] = functools.partial(self._answer, getattr(ws, name))

    def _answer(
        self, verb: Callable[..., Awaitable[None]], *arguments: Any, **keywords: Any
    ) -> Coroutine[Any, Any, None]:
        # Called at once: what it does at the call is to be done at the call.
        return self._finish(verb(*arguments, **keywords))

    async def _finish(self, answering: Awaitable[None]) -> None:
        await answering
        if self._ws.application_state is not WebSocketState.CONNECTING:
            await self.aclose()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        for name in self.VERBS:
            self._ws.__dict__.pop(name, None)
        return await super().__aexit__(kind, error, traceback)
