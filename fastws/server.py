"""The server: load the application, listen, serve until told to stop, stop in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import Any

from fastws import _buffers
from fastws.accepting import Acceptor
from fastws.app import FastWS
from fastws.config import Config, ConfigError
from fastws.http11 import HTTPProtocol
from fastws.hub import Hub
from fastws.importer import load_application
from fastws.logs import configure_logging, log
from fastws.metrics import check_available
from fastws.settings import config_from_keywords
from fastws.shutdown import shut_down
from fastws.sockets import BindError, bind_sockets, connection_limit, listen, name_of, path_of
from fastws.tls import TLS, serves_tls

__all__ = ["BindError", "Server", "serve", "serve_async"]

LONGEST_KEPT = 4 * 1024 * 1024
"""Bytes of a message up to which its memory is kept for another one."""

KEPT_FREE = 16 * 1024 * 1024
"""Bytes of freed memory that are kept at most, as far as they lie at the heap's end."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Server:
    """One server: ``serve()`` loads, listens, and returns after ``stop()`` or a signal.

    Parameters:
        config: what to serve and how.
        on_ready: called with this server once it accepts connections.
        sockets: what to listen on, where another process has bound it; closed in the end. Without,
            it is what ``config`` says.
        stop_signals: the signals that stop it, in the main thread; others are let be.
    """

    def __init__(
        self,
        config: Config,
        *,
        on_ready: Callable[[Server], object] | None = None,
        sockets: Sequence[socket.socket] | None = None,
        stop_signals: Sequence[signal.Signals] = STOP_SIGNALS,
    ) -> None:
        self.config = config
        self.app: FastWS | None = None
        self._tls: TLS | None = None
        self.started = asyncio.Event()
        self.addresses: list[tuple[str, int]] = []
        """The hosts and real ports where it listens; filled in when ``started`` is set."""
        self.paths: list[str] = []
        """The Unix sockets where it listens; likewise."""
        self.captured: list[int] = []
        """The signals that stopped it, in order."""
        self.hub: Hub | None = None
        """Its connections, once the application has started."""
        self._on_ready = on_ready
        self._sockets = sockets
        self._stop_signals = stop_signals
        self._listeners: list[Acceptor] = []
        self._stop = asyncio.Event()
        self._cut = asyncio.Event()

    def load(self) -> FastWS:
        """Import the application, check the options of its routes, read the certificate.

        Raises:
            ApplicationError: it cannot be had.
            ConfigError: a route has a wrong option, or the options for TLS cannot be used.
        """
        if self.app is None:
            config = self.config
            app = load_application(config.app, app_dir=config.app_dir, factory=config.factory)
            for route in app.routes:
                try:
                    config.for_route(getattr(route, "options", {}))
                except ConfigError as error:
                    raise ConfigError(f"route {route.path}: {error}") from None
            self._tls = TLS.of(config)
            if config.metrics is not None:
                check_available()
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
        """Serve until ``stop()`` or, in the main thread, one of the signals that stop it.

        Raises:
            ApplicationError: the application cannot be had.
            BindError: the address cannot be listened on.
            Exception: whatever the application's startup or shutdown raised.
        """
        app = self.load()
        # Before the application starts, so that a busy port does not cost a start for nothing.
        sockets = bind_sockets(self.config) if self._sockets is None else self._sockets
        try:
            async with app.lifespan_context(run=self.config.lifespan != "off") as state:
                hub = Hub(
                    self.config, app, asyncio.get_running_loop(), connection_limit(self.config)
                )
                hub.lifespan_state = state
                hub.tls = self._tls
                self.hub = hub
                with self._signals_captured(hub.loop):
                    await self._start(sockets)
                    try:
                        hub.start()
                        await self._stop.wait()
                    finally:
                        # Also if this task is cancelled: nothing is left open behind it.
                        await shut_down(hub, self._listeners, self._cut)
        finally:
            for listening in sockets:
                listening.close()

    async def _start(self, sockets: Sequence[socket.socket]) -> None:
        await self.accept_from(sockets)
        self.addresses = [each.getsockname()[:2] for each in sockets if path_of(each) is None]
        self.paths = [path for path in map(path_of, sockets) if path is not None]
        self.started.set()
        if self._on_ready is not None:
            self._on_ready(self)

    async def accept_from(self, sockets: Sequence[socket.socket]) -> Acceptor:
        """Listen on ``sockets`` too, and close them in the end.

        Returns:
            What ``refuse_from`` takes to stop before that.

        Raises:
            BindError: another program listens there by now.
        """
        hub, config = self.hub, self.config
        assert hub is not None, "the application has not been started"
        # All of them before the first connection is accepted: uvloop does not report a failure.
        listen(sockets, config)
        acceptor = Acceptor(hub.loop, partial(HTTPProtocol, hub), sockets, config.backlog)
        for listening in sockets:
            hub.arrives_at(listening)
        await acceptor.start()
        self._listeners.append(acceptor)
        hub.on_accepted = self._check_files
        return acceptor

    def _check_files(self) -> None:
        for listener in self._listeners:
            listener.check()

    def refuse_from(self, acceptor: Acceptor) -> None:
        """Listen there no more; the connections that came from there go on."""
        if acceptor in self._listeners:  # It may have given way.
            self._listeners.remove(acceptor)
        acceptor.close()

    async def give_way(self, within: float) -> None:
        """Accept no more, because a successor does, and let the requests that came be answered.

        Parameters:
            within: seconds after which those that are left are left to ``stop()``.
        """
        assert self.hub is not None, "the application has not been started"
        while self._listeners:
            self._listeners.pop().close()
        deadline = self.hub.loop.time() + within
        while True:
            # First: the loop may have accepted connections that it has not told about yet. Asked
            # again and again, which is once in the life of a worker: not worth an event from every
            # request that ends.
            await asyncio.sleep(within / 50)
            if not self.hub.has_unanswered or self.hub.loop.time() > deadline:
                break

    @contextlib.contextmanager
    def _signals_captured(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Let the signals stop the server; a third one does what it did before."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in self._stop_signals}

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

        for number in self._stop_signals:
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
    scheme = "https" if serves_tls(config) else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def urls_of(config: Config, sockets: Sequence[socket.socket]) -> list[str]:
    """The URLs of what listens on ``sockets``; ``unix:`` and a path where there is no port."""
    return [
        url_of(config, each.getsockname()[:2]) if path_of(each) is None else name_of(each)
        for each in sockets
    ]


def routes_of(app: FastWS) -> list[tuple[str, str]]:
    """The kind, ``http`` or ``websocket``, and the path of each route."""
    return [
        ("websocket" if "WebSocket" in type(route).__name__ else "http", route.path)
        for route in app.routes
    ]


def start_screen(
    urls: Sequence[str], routes: Sequence[tuple[str, str]], workers: Sequence[int] = ()
) -> str:
    """The screen shown at start-up: where it listens, what it serves, how to stop it.

    Parameters:
        urls: where, as from :func:`urls_of`.
        routes: what, as from :func:`routes_of`.
        workers: the processes that serve, where this one does not.
    """
    lines = ["fastws is serving", *(f"  {url}" for url in urls)]
    if routes:
        lines += ["Routes", *(f"  {kind:9} {path}" for kind, path in routes)]
    if workers:
        lines += [f"Workers: {len(workers)}, processes {', '.join(map(str, workers))}"]
    lines.append("Press Ctrl-C to stop.")
    return "\n".join(lines)


def banner(server: Server) -> str:
    """The start-up screen of a server."""
    assert server.app is not None
    urls = [url_of(server.config, address) for address in server.addresses]
    urls += [f"unix:{path}" for path in server.paths]
    return start_screen(urls, routes_of(server.app))


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


def keep_memory_for_messages() -> None:
    """Let this process, which is the server's own, keep the memory of long messages for the next.

    By itself glibc gives the end of its heap back whenever a message of a mebibyte is freed, and
    for the next one the system clears the same pages again: that made an echo cost half as much
    again.
    Whoever has set its tunables knows better.
    """
    names = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
    if not any(name in os.environ for name in names):
        _buffers.keep_memory(LONGEST_KEPT, KEPT_FREE)


def run(config: Config) -> None:
    """Serve ``config`` in this process, in a new event loop, until a signal.

    Raises:
        ApplicationError, BindError, ConfigError: as :meth:`Server.serve`.
    """
    configure_logging(config.log_level, config.log_format, config.log_config)
    server = Server(config, on_ready=_show_banner)
    server.load()
    keep_memory_for_messages()
    run_in_new_loop(server.serve, loop_factory(config.loop))


def show(screen: str, config: Config) -> None:
    """Show a start-up screen, in the way and at the levels that the options for the log name."""
    if config.log_format == "json":
        log.info(screen)  # who reads JSON wants nothing else, not even a screen
    elif config.log_level in ("info", "debug"):
        print(screen, file=sys.stderr, flush=True)


def _show_banner(server: Server) -> None:
    show(banner(server), server.config)


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
    # It starts what this module is only a part of.
    from fastws.launch import launch

    launch(_config(app, host, port, options))


async def serve_async(app: Any, host: str = "127.0.0.1", port: int = 8000, **options: Any) -> None:
    """Serve ``app`` in the running event loop; the ``loop`` option has no effect.

    Cancel the task to stop it. In the main thread SIGINT and SIGTERM stop it too, and are then
    delivered once more, to whoever handled them before.

    Parameters and errors as those of :func:`serve`.
    """
    config = _config(app, host, port, options)
    if config.workers > 1 or config.reload:
        asked = f"workers is {config.workers}" if config.workers > 1 else "reload is on"
        raise ConfigError(f"{asked}: expected serve() outside of a loop; serve_async() serves here")
    configure_logging(config.log_level, config.log_format, config.log_config)
    server = Server(config, on_ready=_show_banner)
    await server.serve()
    for number in server.captured[:1]:
        signal.raise_signal(number)


def _config(app: Any, host: str, port: int, options: dict[str, Any]) -> Config:
    ssl_context = options.pop("ssl_context", None)
    return config_from_keywords(
        app, {"host": host, "port": port, **options}, ssl_context=ssl_context
    )
