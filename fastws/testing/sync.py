"""The synchronous face of the test client, in the words of Starlette's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, TypeVar

from fastws.http_fields import HeaderPairs
from fastws.testing.client import AsyncTestClient, Settings
from fastws.testing.clock import Clock
from fastws.testing.http import TestResponse
from fastws.testing.session import WebSocketTestSession

__all__ = ["TestClient"]

__tracebackhide__ = True
"""pytest shows the line of the test, none below it."""

T = TypeVar("T")


class TestClient:
    """A client for tests of an application, which runs in the same process and thread.

    Asynchronous, on the loop of the test::

        async with TestClient(app) as client:
            async with client.connect("/ws") as ws:
                await ws.send_text("hi")

    or synchronous, on a loop of its own, with Starlette's names::

        with TestClient(app) as client:
            with client.websocket_connect("/ws") as session:
                session.send_text("hi")

    The block runs the application's start-up and shutdown. Without it, as in
    ``TestClient(app).websocket_connect("/ws")``, neither runs, as with Starlette.

    The loop of the synchronous face turns only while one of its methods is being called. Each of
    them returns when nothing more can happen without waiting for time, for a thread or for the
    test: handlers and background tasks have then done what they could, and stand still until the
    next call.

    Parameters:
        app: the application, or ``"module:attribute"``.
        base_url: where it is thought to be; its host is the Host header.
        timeout: seconds of real time that a receive waits, and everything else that should happen
            at once; ``math.inf`` is no limit.
        raise_server_exceptions: raise in the test what a handler raises, where the connection has
            ended for it: instead of a disconnect, or at the end of the block.
        headers: for every request.
        client: the address that the application sees; that of a trusted proxy by default, so that
            ``X-Forwarded-For`` and ``X-Forwarded-Proto`` count.
        loop_factory: makes the loop of the synchronous face.
        options: those of ``fastws run``, with underscores: ``ws_ping_interval=5``, …

    Raises:
        ApplicationError: the application cannot be had; when it is first used.
        ConfigError: an option is wrong; likewise.
        ValueError: another argument is.
    """

    __test__ = False

    def __init__(
        self,
        app: Any,
        *,
        base_url: str = "ws://testserver",
        timeout: float = 1.0,
        raise_server_exceptions: bool = True,
        headers: HeaderPairs | None = None,
        client: tuple[str, int] = ("127.0.0.1", 50000),
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
        **options: Any,
    ) -> None:
        self._settings = Settings(
            app, base_url, timeout, raise_server_exceptions, headers, client, options
        )
        self._loop_factory = loop_factory
        self._loop: asyncio.AbstractEventLoop | None = None
        self._async: AsyncTestClient | None = None
        self._users = 0
        self.leaks: list[str] = []
        """What was left running when the client was closed, a sentence each."""

    @property
    def app(self) -> Any:
        """The application."""
        return self._settings.app

    @property
    def is_open(self) -> bool:
        """Whether the application is being served."""
        return self._async is not None

    # Asynchronous

    async def __aenter__(self) -> AsyncTestClient:
        if self._async is not None:
            raise RuntimeError("this TestClient is in use by another block: make another one")
        client = AsyncTestClient(self._settings)
        await client._start()
        self._async = client
        return client

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        client, self._async = self._async, None
        assert client is not None
        try:
            await client._stop(error)
        finally:
            self.leaks += client.leaks

    # Synchronous

    def __enter__(self) -> TestClient:
        self._enter(lifespan=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(error)

    def _enter(self, *, lifespan: bool) -> None:
        """Serve for one more user."""
        if self._loop is None:
            _refuse_running_loop()
            if self._async is not None:
                raise RuntimeError("this TestClient is in use by an `async with` block")
            self._loop = self._loop_factory()
            client = AsyncTestClient(self._settings)
            try:
                self._loop.run_until_complete(client._start(lifespan=lifespan))
            except BaseException:
                self._close_loop()
                raise
            self._async = client
        self._users += 1

    def _leave(self, error: BaseException | None = None) -> None:
        self._users -= 1
        if self._users:
            return
        client, self._async = self._async, None
        assert client is not None
        assert self._loop is not None
        try:
            self._loop.run_until_complete(client._stop(error))
        finally:
            self.leaks += client.leaks
            self._close_loop()

    def _close_loop(self) -> None:
        loop, self._loop = self._loop, None
        assert loop is not None
        try:
            loop.run_until_complete(_cancel_the_rest())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Let the loop turn until ``work`` is done and nothing else can be done."""
        if self._loop is None or self._async is None:
            work.close()
            raise RuntimeError("the test client is not open: `with TestClient(app) as client`")
        try:
            _refuse_running_loop()
        except RuntimeError:
            work.close()
            raise
        outcome = self._loop.run_until_complete(_outcome(self._async.clock, work))
        if isinstance(outcome, Exception):
            # Here, so that its traceback does not lead through the loop's own code.
            raise outcome
        return outcome[0]

    @property
    def _client(self) -> AsyncTestClient:
        if self._loop is None or self._async is None:
            raise RuntimeError("the test client is not open: `with TestClient(app) as client`")
        return self._async

    @property
    def clock(self) -> Clock:
        """The clock of the loop, as long as this client is open; :meth:`advance` moves it."""
        return self._client.clock

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` go by, in no time: see :class:`fastws.testing.Clock`."""
        self._run(self._client.advance(seconds))

    def websocket_connect(
        self,
        url: str,
        subprotocols: Sequence[str] | None = None,
        *,
        headers: HeaderPairs | None = None,
        cookies: Mapping[str, str] | None = None,
        origin: str | None = None,
        compression: Literal["off", "shared", "dedicated"] | bool | str = "off",
        timeout: float | None = None,
    ) -> WebSocketTestSession:
        """A WebSocket, opened by ``with client.websocket_connect("/ws") as session``.

        Parameters and errors are those of :meth:`AsyncTestClient.connect`.
        """
        unopened = AsyncTestClient(self._settings).connect(
            url,
            subprotocols=subprotocols or (),
            headers=headers,
            cookies=cookies,
            origin=origin,
            compression=compression,
            timeout=timeout,
        )
        return WebSocketTestSession(self, unopened)

    def get(self, url: str, *, headers: HeaderPairs | None = None) -> TestResponse:
        """The response to a GET; else as :meth:`request`."""
        return self.request("GET", url, headers=headers)

    def head(self, url: str, *, headers: HeaderPairs | None = None) -> TestResponse:
        """The response to a HEAD; else as :meth:`request`."""
        return self.request("HEAD", url, headers=headers)

    def request(self, method: str, url: str, *, headers: HeaderPairs | None = None) -> TestResponse:
        """The response to a plain request: see :meth:`AsyncTestClient.request`."""
        self._enter(lifespan=False)
        try:
            return self._run(self._client.request(method, url, headers=headers))
        finally:
            self._leave()


async def _outcome(clock: Clock, work: Coroutine[Any, Any, T]) -> tuple[T] | Exception:
    try:
        return (await work,)
    except Exception as error:
        return error
    finally:
        await clock.settle()


async def _cancel_the_rest() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    if rest:
        await asyncio.wait(rest, timeout=1.0)


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "an event loop is running in this thread: write `async with TestClient(app) as client`"
    )
