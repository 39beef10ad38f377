"""Development: a process that serves, started again whenever a source file changes.

The process that watches holds the listening sockets, so that a browser that comes in between waits
for an answer instead of getting none. Signals: SIGTERM, SIGINT and SIGHUP end both processes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from collections.abc import AsyncIterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from fastws.config import Config, ConfigError
from fastws.logs import configure_logging, log
from fastws.server import run_in_new_loop, show, start_screen, urls_of
from fastws.sockets import bind_sockets, listen
from fastws.worker_process import WorkerProcess
from fastws.workers import check_can_supervise

__all__ = ["Reloader", "SourceFilter", "run"]

DRAIN = 0.3
"""Seconds that connections have to close when a file has changed, and handlers to end."""

REQUESTS = 0.1
"""Seconds that requests have before that to be answered."""

STOP_MARGIN = 1.0
"""Seconds for the application's own shutdown after that; then the process is killed."""

SHOWN = 3
"""Files that a line about changes names at most."""


class SourceFilter:
    """Which changed files matter.

    Parameters:
        directories: those that are watched.
        include: patterns for the names of files.
        exclude: patterns for the names of files, and of directories below those watched.
    """

    def __init__(
        self, directories: Sequence[Path], include: Sequence[str], exclude: Sequence[str]
    ) -> None:
        self._directories = directories
        self._include = include
        self._exclude = exclude

    def __call__(self, change: object, path: str) -> bool:
        """Whether ``path`` matters, whatever happened to it; the form is that of watchfiles."""
        for directory in self._directories:
            try:
                parts = Path(path).relative_to(directory).parts
            except ValueError:
                continue
            if not parts:
                return False
            return any(fnmatch(parts[-1], pattern) for pattern in self._include) and not any(
                fnmatch(part, pattern) for part in parts for pattern in self._exclude
            )
        return False


class Reloader:
    """Runs one process that serves ``config``, and replaces it when files change.

    Parameters:
        config: what to serve and how; its application is named, not given.
    """

    def __init__(self, config: Config) -> None:
        graceful = config.timeout_graceful_shutdown
        self._config = dataclasses.replace(
            config,
            timeout_graceful_shutdown=DRAIN if graceful is None else min(DRAIN, graceful),
            drain_window=None,
        )
        directories = config.reload_dir or (config.app_dir,)
        self.directories = [Path(directory).resolve() for directory in directories]
        for directory in self.directories:
            if not directory.is_dir():
                raise ConfigError(f"reload-dir is {directory}: expected a directory that exists")
        self._filter = SourceFilter(self.directories, config.reload_include, config.reload_exclude)
        self._sockets = bind_sockets(config)
        self._urls = urls_of(config, self._sockets)
        self._announced = False
        self._worker: WorkerProcess | None = None
        self._gone = asyncio.Event()
        """Set while there is no process that serves."""
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve and watch until a signal.

        Raises:
            BindError: another program listens at the address by now.
            ConfigError: watchfiles is not installed.
        """
        loop = asyncio.get_running_loop()
        try:
            changes = _watch(self.directories, self._filter, self._stop)
            loop.add_signal_handler(signal.SIGCHLD, self._look_for_end)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self._on_signal)
            listen(self._sockets, self._config)
            self._start()
            watching = loop.create_task(self._restart_on(changes))
            stopping = loop.create_task(self._stop.wait())
            await asyncio.wait((watching, stopping), return_when=asyncio.FIRST_COMPLETED)
            self._stop.set()
            self.close()
            if self._worker is not None:
                self._worker.stop()
            await self._gone.wait()
            stopping.cancel()
            await watching
        finally:
            self.close()
            if self._worker is not None:
                self._worker.kill()
                self._worker.wait()

    def close(self) -> None:
        """Listen no more."""
        for each in self._sockets:
            each.close()

    async def _restart_on(self, changes: AsyncIterator[set[tuple[Any, str]]]) -> None:
        async for changed in changes:
            log.info("%s: starting again", self._named({path for _, path in changed}))
            if self._worker is not None:
                self._worker.give_way(REQUESTS, STOP_MARGIN)
            await self._gone.wait()
            if self._stop.is_set():
                break
            self._start()

    def _named(self, paths: set[str]) -> str:
        names = [os.path.relpath(path) for path in sorted(paths)]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return f"{', '.join(names[:SHOWN])}{more} changed"

    def _start(self) -> None:
        self._gone.clear()
        self._worker = WorkerProcess(self._config, 0, [self._sockets], self._on_ready)

    def _on_ready(self, worker: WorkerProcess) -> None:
        log.info("%s is ready", worker)
        if not self._announced:
            self._announced = True
            screen = start_screen(self._urls, worker.routes)
            watched = ", ".join(map(str, self.directories))
            show(f"{screen}\nWatching {watched}", self._config)

    def _look_for_end(self) -> None:
        worker = self._worker
        if worker is None or not worker.has_ended():
            return
        self._worker = None
        self._gone.set()
        if worker.failure is not None:
            log.error("%s", worker.failure)
        elif not worker.is_stopping:
            log.error("%s %s", worker, worker.status)
        if not (worker.is_stopping or self._stop.is_set()):
            log.info("waiting for a file to change")

    def _on_signal(self) -> None:
        if self._stop.is_set() and self._worker is not None:
            self._worker.kill()
        self._stop.set()


def _watch(
    directories: Sequence[Path], source_filter: SourceFilter, stop: asyncio.Event
) -> AsyncIterator[set[tuple[Any, str]]]:
    try:
        from watchfiles import awatch
    except ImportError:
        raise ConfigError(
            "reload is on, which needs the package watchfiles: install fastws[reload]"
        ) from None
    return awatch(*directories, watch_filter=source_filter, stop_event=stop)


def run(config: Config) -> None:
    """Serve ``config`` in a process that is started again when a source file changes.

    An error in the application is shown, and the next change waited for.

    Raises:
        BindError, ConfigError: as :meth:`Reloader.run`.
    """
    check_can_supervise("reload is on")
    configure_logging(config.log_level, config.log_format, config.log_config, many=True)

    async def watch() -> None:
        await Reloader(config).run()

    # uvloop keeps SIGCHLD to itself.
    run_in_new_loop(watch, asyncio.new_event_loop)
