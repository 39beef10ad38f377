"""What runs in a process that a supervisor has started: a server that obeys and reports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys

from fastws.accepting import Acceptor, AcceptQueue
from fastws.config import ConfigError
from fastws.logs import configure_logging, log
from fastws.pipe import Failure, HandOver, Message, Pipe
from fastws.server import (
    Server,
    keep_memory_for_messages,
    loop_factory,
    routes_of,
    run_in_new_loop,
)

__all__ = ["FAILED", "MISCONFIGURED", "work"]

FAILED = 1
MISCONFIGURED = 2
"""Exit statuses, those of the command."""

BEATS = 4
"""Reports that a worker lives, in the time within which one is expected."""


def work(fd: int) -> None:
    """Serve what is handed over through the socket ``fd``, until told to stop; ends the process."""
    # Ctrl-C and a terminal's end reach every process of its group: what to do is the supervisor's
    # to say. It blocked them while it started this process, so that none came too early.
    signals = (signal.SIGINT, signal.SIGHUP)
    for number in signals:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    os.set_inheritable(fd, False)
    with contextlib.closing(Pipe(socket.socket(fileno=fd))) as pipe:
        handed = HandOver.receive(pipe)
        if handed is not None:
            sys.exit(_Worker(handed, pipe).run())


class _Worker:
    def __init__(self, handed: HandOver, pipe: Pipe) -> None:
        self._config = handed.config
        self._argv = handed.argv
        self._groups = handed.groups
        self._kind = AcceptQueue if handed.queues else socket.socket
        self._pipe = pipe
        self._fds = {fd for group in handed.groups for fd in group}
        for fd in self._fds:
            os.set_inheritable(fd, False)
        self._sockets = self._duplicates(handed.index)
        self._server = Server(
            self._config, on_ready=self._ready, sockets=self._sockets, stop_signals=()
        )
        self._serving: asyncio.Task[None] | None = None
        self._stopping = False
        self._ordered_to_stop = False
        self._leaving: asyncio.Task[None] | None = None
        self._adoptions: asyncio.Queue[tuple[str, int]] = asyncio.Queue()

    def run(self) -> int:
        """Serve; returns the exit status."""
        sys.argv[:] = self._argv
        try:
            config = self._config
            configure_logging(config.log_level, config.log_format, config.log_config, many=True)
            self._server.load()
            keep_memory_for_messages()
            run_in_new_loop(self._serve, loop_factory(self._config.loop))
        except Exception as error:
            Failure.of(error).report(self._pipe)
            return MISCONFIGURED if isinstance(error, ConfigError) else FAILED
        finally:
            for each in self._sockets:  # The server has closed them, if it came so far.
                each.close()
        return 0

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        self._serving = loop.create_task(self._server.serve())
        adopting = loop.create_task(self._adopt_and_give_back())
        loop.add_signal_handler(signal.SIGTERM, self._stop_by_signal)
        self._pipe.attach(loop, self._obey, self._supervisor_ended)
        try:
            await asyncio.wait((self._serving,))
        finally:
            self._pipe.detach(loop)
            adopting.cancel()
            if self._leaving is not None:
                self._leaving.cancel()
        if not self._serving.cancelled():
            self._serving.result()

    # Reports

    def _ready(self, server: Server) -> None:
        assert server.app is not None
        self._pipe.send("ready", routes_of(server.app))
        self._beat()

    def _beat(self) -> None:
        self._pipe.send("alive")
        interval = self._config.timeout_worker_healthcheck / BEATS
        asyncio.get_running_loop().call_later(interval, self._beat)

    # Orders

    def _obey(self, order: Message) -> None:
        match order:
            case {"stop": _}:
                if self._ordered_to_stop:
                    self._server.stop()
                self._ordered_to_stop = True
                self._stop()
            case {"give_way": float(within)} if self._leaving is None:
                self._leaving = asyncio.get_running_loop().create_task(self._leave(within))
            case {"adopt": int(index)}:
                self._adoptions.put_nowait(("adopt", index))
            case {"give_back": int(index)}:
                self._adoptions.put_nowait(("give_back", index))

    async def _leave(self, within: float) -> None:
        if self._server.started.is_set():
            await self._server.give_way(within)
        self._stop()

    def _stop_by_signal(self) -> None:
        if not self._stopping and self._leaving is None:
            self._pipe.send("leaving")
        self._stop()

    def _stop(self) -> None:
        """Stop in order, whoever says so first: the supervisor, SIGTERM to all the processes."""
        if self._stopping:
            return
        self._stopping = True
        # A socket listens for as long as anybody has it, and this process has all of them.
        for fd in self._fds:
            os.close(fd)
        if self._server.started.is_set():
            self._server.stop()
        elif self._serving is not None:
            self._serving.cancel()

    def _supervisor_ended(self) -> None:
        if not self._stopping:
            log.error("the supervisor has ended without a word: stopping")
        self._stop()

    async def _adopt_and_give_back(self) -> None:
        """One after the other: listening takes a moment, and giving back must not overtake it."""
        adopted: dict[int, Acceptor] = {}
        while True:
            order, index = await self._adoptions.get()
            if self._stopping or self._leaving is not None:
                continue  # It refuses all of them, or is about to.
            if order == "give_back":
                if index in adopted:
                    self._server.refuse_from(adopted.pop(index))
                continue
            try:
                adopted[index] = await self._server.accept_from(self._duplicates(index))
            except OSError as error:
                log.error("cannot stand in for worker %d: %s", index + 1, error)

    def _duplicates(self, index: int) -> list[socket.socket]:
        """What the worker with this index listens on; the descriptors stay for the next time."""
        return [self._kind(fileno=os.dup(fd)) for fd in self._groups[index]]
