"""The application, served in the running loop to whoever connects in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any

from fastws.config import Config
from fastws.exceptions import HTTPException, ending_of
from fastws.http11 import HTTPProtocol
from fastws.hub import Hub
from fastws.server import Server
from fastws.shutdown import shut_down
from fastws.testing.clock import Clock
from fastws.testing.transports import MemoryTransport, transport_pair
from fastws.testing.wire import waits_at

if TYPE_CHECKING:
    from fastws._connection import Connection

__all__ = ["Site", "Visit"]

__tracebackhide__ = True
"""pytest shows the line of the test, none below it."""

AT_ONCE = 0.1
"""Seconds of real time, for threads, that a handler has to end with its connection."""

LAST_CHANCE = 60.0
"""Seconds by the clock for handlers that have not, when the client is closed."""

_visit: ContextVar[Visit] = ContextVar("fastws.testing.visit")


class Visit:
    """One connection to the application, and what went wrong in it.

    Parameters:
        path: what it asks for.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.task: asyncio.Task[Any] | None = None
        """The handler's, once the opening handshake has come."""
        self.failures: list[BaseException] = []
        """Failures of the application that nobody was told about yet."""
        self._seen: list[BaseException] = []

    def fail(self, error: BaseException) -> None:
        """Note a failure, once."""
        if not any(error is seen for seen in self._seen):
            self._seen.append(error)
            self.failures.append(error)

    def raise_failure(self) -> None:
        """Raise the first failure that nobody was told about, if there is one."""
        if not self.failures:
            return
        error = self.failures.pop(0)
        context = error.__context__
        try:
            raise error
        finally:
            # What the application was handling, not what the test is.
            error.__context__ = context

    def watch(self, connection: Connection) -> None:
        """Note how the handler of ``connection`` ends."""
        self.task = connection.task
        if self.task is not None:
            self.task.add_done_callback(self._handler_done)

    def _handler_done(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        # What only ends a connection, as WebSocketDisconnect does, is no failure; the client sees
        # an HTTPException from before accept() as the response that it is; one from after accept()
        # is logged, and so known.
        if isinstance(error, HTTPException):
            return
        if error is not None and ending_of(error).is_error:
            self.fail(error)

    @property
    def runs(self) -> bool:
        """Whether the handler is at work."""
        return self.task is not None and not self.task.done()

    @property
    def handler_state(self) -> str:
        """A sentence about the handler."""
        task = self.task
        if task is None:
            return "No handler was called."
        if not task.done():
            return f"The handler of {self._path} waits at {waits_at(task)}"
        if task.cancelled():
            return f"The handler of {self._path} was cancelled."
        error = task.exception()
        ended = "returned" if error is None else f"raised {error!r}"
        return f"The handler of {self._path} has {ended}."


class _Failures(logging.Handler):
    """What the server logs as a failure belongs to the connection that it happened on."""

    def __init__(self, elsewhere: Visit) -> None:
        super().__init__(logging.ERROR)
        self._elsewhere = elsewhere

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            _visit.get(self._elsewhere).fail(error)


class _Hub(Hub):
    """A hub that tells which visit a connection belongs to."""

    def upgraded(self, protocol: HTTPProtocol, connection: Connection) -> None:
        super().upgraded(protocol, connection)
        # Its task is made right behind this, and runs in the step after this one's callbacks.
        self.loop.call_soon(_visit.get().watch, connection)


class Site:
    """One application, from its start-up to its shutdown.

    Parameters:
        app: the application, or ``"module:attribute"``.
        options: those of the server.
        lifespan: whether start-up and shutdown run.
        patience: seconds of real time for each thing that should happen at once.
    """

    def __init__(
        self, app: Any, options: Mapping[str, Any], *, lifespan: bool, patience: float
    ) -> None:
        config = Config.from_options(app, options)
        if not lifespan:
            config = Config.from_options(app, {**options, "lifespan": "off"})
        self._server = Server(config)
        self._server.load()
        self._config = config
        self._patience = patience
        self.elsewhere = Visit("")
        """What went wrong on no connection in particular."""
        self.unended: list[Visit] = []
        """Whose handlers have not ended with their connections."""
        self._log = logging.getLogger("fastws.error")
        self._failures = _Failures(self.elsewhere)
        self._stop = asyncio.Event()
        self._hub: Hub | None = None
        self.clock: Clock
        self.leaks: list[str] = []
        """What the application has left running, a sentence each."""

    async def start(self) -> None:
        """Start the application up.

        Raises:
            Exception: whatever the start-up raises.
        """
        loop = asyncio.get_running_loop()
        self._before = asyncio.all_tasks()
        self.clock = Clock.of(loop)
        self._log.addHandler(self._failures)
        # A configuration of logging, made when the application was imported, may have done so.
        self._log.disabled = False
        started = loop.create_future()
        # A task of its own: what the lifespan enters it leaves in the same task.
        self._running = loop.create_task(self._serve(started))
        try:
            await asyncio.wait({self._running, started}, return_when=asyncio.FIRST_COMPLETED)
            if self._running.done():
                self._running.result()
        except BaseException:
            self._running.cancel()
            self._release()
            raise

    async def _serve(self, started: asyncio.Future[None]) -> None:
        app = self._server.load()
        async with app.lifespan_context(run=self._config.lifespan != "off") as state:
            hub = _Hub(self._config, app, asyncio.get_running_loop())
            hub.lifespan_state = state
            hub.start()
            self._hub = hub
            started.set_result(None)
            await self._stop.wait()
            await shut_down(hub, (), asyncio.Event())

    async def stop(self) -> None:
        """Close what is open, and shut the application down.

        Raises:
            Exception: what the shutdown raises.
        """
        try:
            self._stop.set()
            await asyncio.wait({self._running})
            await self.clock.settle()
            for task in asyncio.all_tasks() - self._before - {asyncio.current_task()}:
                if not task.done():
                    self.leaks.append(f"the task {task.get_name()} waits at {waits_at(task)}")
        finally:
            self._release()
        self._running.result()

    def _release(self) -> None:
        self._log.removeHandler(self._failures)
        self.clock.release()

    def connect(
        self,
        path: str,
        protocol: asyncio.BaseProtocol,
        client: tuple[str, int],
        server: tuple[str, int],
    ) -> tuple[Visit, MemoryTransport]:
        """A new connection.

        Parameters:
            path: what it will ask for.
            protocol: gets the client's end, at once.
            client: the client's address.
            server: the address that it connects to.
        """
        assert self._hub is not None
        visit, context = Visit(path), copy_context()
        context.run(_visit.set, visit)
        here, there = transport_pair(
            asyncio.get_running_loop(), context, self.clock.stir, client, server
        )
        accepted = HTTPProtocol(self._hub)
        there.set_protocol(accepted)
        here.set_protocol(protocol)
        context.run(accepted.connection_made, there)
        context.run(protocol.connection_made, here)
        return visit, here

    async def finish(self, visit: Visit) -> None:
        """Let the handler end, now that its connection is over.

        One that waits for something else, such as its next turn to send, does not know yet:
        :meth:`end_handlers` takes care of it.
        """
        await self.clock.settle()
        task = visit.task
        if task is None or task.done():
            return
        try:
            await self.clock.within(min(self._patience, AT_ONCE), _ended(task))
        except TimeoutError:
            self.unended.append(visit)

    async def end_handlers(self) -> None:
        """Let time go by for handlers that have not ended with their connections, then cancel
        them."""
        if any(visit.runs for visit in self.unended) and self.clock.is_movable:
            await self.clock.advance(LAST_CHANCE)
        for visit in self.unended:
            if visit.task is not None and visit.runs:
                self.leaks.append(
                    f"{LAST_CHANCE:g} s after its connection was over: {visit.handler_state} "
                    "(receive, or register it with cancel_on_disconnect=True, to be told)"
                )
                visit.task.cancel()
                await asyncio.wait({visit.task}, timeout=AT_ONCE)


async def _ended(task: asyncio.Task[Any]) -> None:
    await asyncio.wait({task})
