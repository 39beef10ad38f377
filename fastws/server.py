"""The server: load the application, listen, serve until told to stop, stop in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from types import FrameType
from typing import Any

from fastws.app import FastWS
from fastws.config import Config, ConfigError
from fastws.http11 import HTTPProtocol
from fastws.hub import Hub
from fastws.importer import load_application
from fastws.logs import configure_logging, log
from fastws.sockets import BindError, bind_error, bind_sockets, connection_limit

__all__ = ["BindError", "Server", "serve", "serve_async"]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

CANCELLED_HANDLERS_TIMEOUT = 1.0
"""Seconds that handlers have to end once they were cancelled, before they are left behind."""


class Server:
    """One server: ``serve()`` loads, listens, and returns after ``stop()`` or a signal.

    Parameters:
        config: what to serve and how.
        on_ready: called with this server once it accepts connections.
    """

    def __init__(
        self, config: Config, *, on_ready: Callable[[Server], object] | None = None
    ) -> None:
        self.config = config
        self.app: FastWS | None = None
        self.started = asyncio.Event()
        self.addresses: list[tuple[str, int]] = []
        """Where it listens, with real ports; filled in when ``started`` is set."""
        self.captured: list[int] = []
        """The signals that stopped it, in order."""
        self.hub: Hub | None = None
        """Its connections, once the application has started."""
        self._on_ready = on_ready
        self._stop = asyncio.Event()
        self._cut = asyncio.Event()

    def load(self) -> FastWS:
        """Import the application, and check the options of its routes.

        Raises:
            ApplicationError: it cannot be had.
            ConfigError: a route has a wrong option.
        """
        if self.app is None:
            config = self.config
            app = load_application(config.app, app_dir=config.app_dir, factory=config.factory)
            for route in app.routes:
                try:
                    config.for_route(getattr(route, "options", {}))
                except ConfigError as error:
                    raise ConfigError(f"route {route.path}: {error}") from None
            self.app = app
        return self.app

    def stop(self) -> None:
        """Stop accepting and close every connection in order; ``serve()`` then returns.

        A second call cuts what is still open. To be called in the loop's thread.
        """
        if self._stop.is_set():
            self._cut.set()
        self._stop.set()

    async def serve(self) -> None:
        """Serve until ``stop()`` or, in the main thread, SIGINT or SIGTERM.

        Raises:
            ApplicationError: the application cannot be had.
            BindError: the address cannot be listened on.
            Exception: whatever the application's startup or shutdown raised.
        """
        app = self.load()
        # Before the application starts, so that a busy port does not cost a start for nothing.
        sockets = bind_sockets(self.config)
        try:
            async with app.lifespan_context() as state:
                hub = Hub(
                    self.config, app, asyncio.get_running_loop(), connection_limit(self.config)
                )
                hub.lifespan_state = state
                self.hub = hub
                with self._signals_captured(hub.loop):
                    listeners = await self._start(hub, sockets)
                    try:
                        await self._stop.wait()
                    finally:
                        # Also if this task is cancelled: nothing is left open behind it.
                        await self._shut_down(hub, listeners)
        finally:
            for listening in sockets:
                listening.close()

    async def _start(self, hub: Hub, sockets: list[socket.socket]) -> list[asyncio.Server]:
        config = self.config
        tls: dict[str, Any] = {}
        if config.ssl_context is not None:
            tls = {"ssl": config.ssl_context, "ssl_handshake_timeout": config.ws_open_timeout}
        # All of them before the first connection is accepted: uvloop does not report a failure.
        for listening in sockets:
            try:
                listening.listen(config.backlog)
            except OSError as error:
                raise bind_error(config.host, config.port, error) from None
        protocol = partial(HTTPProtocol, hub)
        listeners = [
            await hub.loop.create_server(protocol, sock=listening, backlog=config.backlog, **tls)
            for listening in sockets
        ]
        self.addresses = [listening.getsockname()[:2] for listening in sockets]
        self.started.set()
        if self._on_ready is not None:
            self._on_ready(self)
        return listeners

    async def _shut_down(self, hub: Hub, listeners: list[asyncio.Server]) -> None:
        for listener in listeners:
            listener.close()
        config = self.config
        if len(hub):
            log.info("stopping: closing %d connections", len(hub))
        hub.drain(config.shutdown_code, "the server is restarting")
        emptied = hub.loop.create_task(hub.wait_until_empty())
        cut = hub.loop.create_task(self._cut.wait())
        try:
            await asyncio.wait(
                (emptied, cut),
                timeout=config.timeout_graceful_shutdown,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            cut.cancel()
            # Out of time, told twice, or cancelled.
            if not emptied.done():
                await self._cut_off(hub, emptied)

    async def _cut_off(self, hub: Hub, emptied: asyncio.Task[None]) -> None:
        log.warning("stopping: cutting %d connections that are still open", len(hub))
        hub.abort()
        await asyncio.wait((emptied,), timeout=CANCELLED_HANDLERS_TIMEOUT)
        if not emptied.done():
            emptied.cancel()
            log.warning("stopping: some handlers did not end when they were cancelled")

    @contextlib.contextmanager
    def _signals_captured(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Let SIGINT and SIGTERM stop the server; a third one does what it did before."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in STOP_SIGNALS}

        def restore() -> None:
            for number, handler in before.items():
                with contextlib.suppress(NotImplementedError):
                    loop.remove_signal_handler(number)
                signal.signal(number, handler)

        def on_signal(number: int) -> None:
            self.captured.append(number)
            if self._stop.is_set():
                restore()
            self.stop()

        def on_signal_elsewhere(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(on_signal, number)

        for number in STOP_SIGNALS:
            try:
                loop.add_signal_handler(number, on_signal, number)
            except NotImplementedError:  # Windows
                signal.signal(number, on_signal_elsewhere)
        try:
            yield
        finally:
            restore()


def url_of(config: Config, address: tuple[str, int]) -> str:
    """The URL of a page at ``address``; a wildcard address is shown as one that can be opened."""
    host, port = address
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    scheme = "http" if config.ssl_context is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def banner(server: Server) -> str:
    """The screen shown at start-up: where it listens, what it serves, how to stop it."""
    assert server.app is not None
    lines = ["fastws is serving"]
    lines += [f"  {url_of(server.config, address)}" for address in server.addresses]
    routes = [(type(route).__name__, route.path) for route in server.app.routes]
    if routes:
        lines.append("Routes")
        for kind, path in routes:
            lines.append(f"  {'websocket' if 'WebSocket' in kind else 'http':9} {path}")
    lines.append("Press Ctrl-C to stop.")
    return "\n".join(lines)


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loop that the ``loop`` option names.

    Raises:
        ConfigError: uvloop is asked for and not installed.
    """
    if name != "asyncio":
        try:
            import uvloop
        except ImportError:
            if name == "uvloop":
                raise ConfigError(
                    "loop is uvloop, which cannot be imported: "
                    "install the package uvloop, or choose asyncio or auto"
                ) from None
        else:
            return uvloop.new_event_loop
    return asyncio.new_event_loop


def run_in_new_loop(
    main: Callable[[], Coroutine[Any, Any, None]],
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Run ``main()`` in a loop made by ``factory``, then end what is left in it and close it."""
    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())
        return
    loop = factory()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(main())
    finally:
        try:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def run(config: Config) -> None:
    """Serve ``config`` in a new event loop until a signal; the whole of ``fastws run``.

    Raises:
        ApplicationError, BindError, ConfigError: as :meth:`Server.serve`.
    """
    configure_logging(config.log_level)
    server = Server(config, on_ready=_print_banner)
    server.load()
    run_in_new_loop(server.serve, loop_factory(config.loop))


def _print_banner(server: Server) -> None:
    if server.config.log_level in ("info", "debug"):
        print(banner(server), file=sys.stderr, flush=True)


def serve(app: Any, host: str = "127.0.0.1", port: int = 8000, **options: Any) -> None:
    """Serve ``app`` until SIGINT or SIGTERM.

    Parameters:
        app: the application, or ``"module:attribute"``.
        host: address or name to listen on.
        port: port to listen on; 0 picks a free one.
        options: every option of ``fastws run`` as a keyword, such as ``ws_max_size="64KiB"``, and
            ``ssl_context``.

    Raises:
        ConfigError: an option does not exist, or its value is not accepted.
        ApplicationError: the application cannot be had.
        BindError: the address cannot be listened on.
        RuntimeError: an event loop is running in this thread: await ``serve_async`` there.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError("serve() blocks: inside a running event loop, await serve_async(...)")
    run(_config(app, host, port, options))


async def serve_async(app: Any, host: str = "127.0.0.1", port: int = 8000, **options: Any) -> None:
    """Serve ``app`` in the running event loop; the ``loop`` option has no effect.

    Cancel the task to stop it. In the main thread SIGINT and SIGTERM stop it too, and are then
    delivered once more, to whoever handled them before.

    Parameters and errors as those of :func:`serve`.
    """
    config = _config(app, host, port, options)
    configure_logging(config.log_level)
    server = Server(config, on_ready=_print_banner)
    await server.serve()
    for number in server.captured[:1]:
        signal.raise_signal(number)


def _config(app: Any, host: str, port: int, options: dict[str, Any]) -> Config:
    ssl_context = options.pop("ssl_context", None)
    return Config.from_options(
        app, {"host": host, "port": port, **options}, ssl_context=ssl_context
    )
