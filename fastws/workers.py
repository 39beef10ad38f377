"""The supervisor: several processes that serve the same sockets, replaced where they end.

It holds the listening sockets from its start to its end, so that no connection is refused or reset
while a worker is missing: connections wait in the kernel's queue, or a neighbour takes them.

===================  ==========================================================================
signal               effect
===================  ==========================================================================
SIGTERM, SIGINT      every worker stops in order, all at once; again: what is open is cut; a
                     third time: they are killed
SIGHUP               every worker is replaced by one with the code that is on the disk now, one
                     after the other: the new one accepts connections before the old one closes
                     its own; where the terminal is gone it is as SIGTERM
===================  ==========================================================================
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fastws.config import Config, ConfigError
from fastws.distributor import Distributor
from fastws.logs import configure_logging, log
from fastws.metrics import shared_directory
from fastws.pipe import Failure
from fastws.server import run_in_new_loop, show, start_screen, urls_of
from fastws.sockets import bind_for_workers, listen
from fastws.worker_process import WorkerProcess

__all__ = ["SilenceWatch", "Supervisor", "check_can_supervise", "run"]

FIRST_DELAY = 1.0
LONGEST_DELAY = 30.0
"""Seconds before a worker is started again that has ended twice in a row; they double each time.
The first time it is started again at once."""

STEADY = 10.0
"""Seconds that a worker has to serve for its end to count as the first."""

LOOKS = 5
"""Looks for workers that say nothing, in the time within which each has to say that it lives."""


@dataclass
class _Slot:
    """The place of one worker, with its share of the sockets."""

    index: int
    current: WorkerProcess | None = None
    successor: WorkerProcess | None = None
    """Replaces ``current`` once it is ready."""
    neighbour: WorkerProcess | None = None
    """Accepts the connections of this place while it has no worker that can."""
    failures: int = 0
    """Workers of this place that ended, one soon after the other."""
    restart: asyncio.TimerHandle | None = None

    @property
    def is_served(self) -> bool:
        return self.current is not None and self.current.is_ready

    def cancel_restart(self) -> None:
        if self.restart is not None:
            self.restart.cancel()
            self.restart = None


class SilenceWatch:
    """Finds the workers that have not said for too long that they live.

    Parameters:
        timeout: seconds within which each has to.
        now: the time, by the clock of the workers' ``heard_at``.
    """

    def __init__(self, timeout: float, now: float) -> None:
        self._timeout = timeout
        self._looked = now

    def silent(self, workers: Iterable[WorkerProcess], now: float) -> list[WorkerProcess]:
        """Those that are silent now; to be asked several times within the timeout."""
        # This process may have been stopped or starved itself, and what they said lies unread.
        late = now - self._looked > self._timeout / 2
        self._looked = now
        silent = []
        for worker in workers:
            if late:
                worker.heard_at = now
            elif worker.is_ready and now - worker.heard_at > self._timeout:
                silent.append(worker)
        return silent


class Supervisor:
    """Runs ``config.workers`` processes that serve ``config``.

    Parameters:
        config: what to serve and how; its application is named, not given.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.workers: list[WorkerProcess] = []
        """Every process that has not ended yet."""
        self._slots = [_Slot(index) for index in range(self.config.workers)]
        self._groups = bind_for_workers(self.config)
        self._sockets = [each for group in self._groups for each in group]
        self._urls = urls_of(self.config, self._groups[0])
        self._distributor: Distributor | None = None
        if len(self._groups) < self.config.workers:
            # None has sockets of its own.
            self._distributor = Distributor(self._sockets, self.config.workers)
            self._groups = [[queue] for queue in self._distributor.queues]
        self._announced = False
        self._starting = True  # until the first worker is ready
        self._stopping = 0  # how often it was told to
        self._early: list[WorkerProcess] = []
        """Workers that ended before any was ready."""
        self._failure: Failure | None = None
        self._ended = asyncio.Event()
        self._roll: asyncio.Task[None] | None = None
        self._roll_again = False
        self._has_terminal = _has_terminal()

    async def run(self) -> None:
        """Serve until a signal.

        Raises:
            ApplicationError, BindError, ConfigError: no worker could start; or, while stopping,
                the application's shutdown failed in one.
        """
        loop = asyncio.get_running_loop()
        try:
            for number, handler in self._signal_handlers().items():
                loop.add_signal_handler(number, handler)
            listen(self._sockets, self.config)
            for slot in self._slots:
                slot.current = self._start(slot)
            looking = loop.create_task(self._look_for_silence())
            await self._ended.wait()
            looking.cancel()
        finally:
            self._close_sockets()
            # Only if something here failed: none is left behind that nobody watches.
            for worker in self.workers:
                worker.kill()
            for worker in self.workers:
                worker.wait()
        if self._failure is not None:
            sys.stderr.write(self._failure.traceback)
            raise self._failure.error()

    def _signal_handlers(self) -> dict[signal.Signals, Callable[[], None]]:
        return {
            signal.SIGTERM: self.stop,
            signal.SIGINT: self.stop,
            signal.SIGHUP: self._hang_up,
            signal.SIGCHLD: self._look_for_ends,
        }

    # Workers begin

    def _start(self, slot: _Slot) -> WorkerProcess:
        worker = WorkerProcess(
            self.config, slot.index, self._groups, self._on_ready, self._on_leave
        )
        self.workers.append(worker)
        log.debug("%s starts", worker)
        return worker

    def _restart(self, slot: _Slot) -> None:
        slot.restart = None
        try:
            slot.current = self._start(slot)
        except OSError as error:
            log.error("worker %d cannot be started: %s", slot.index + 1, error)
            self._restart_later(slot, LONGEST_DELAY)

    def _on_ready(self, worker: WorkerProcess) -> None:
        if worker.is_stopping:
            return
        slot = self._slots[worker.index]
        if worker is slot.successor:
            slot.cancel_restart()
            before, slot.current, slot.successor = slot.current, worker, None
            if before is not None:
                before.give_way()
        log.info("%s is ready", worker)
        if self._starting:
            self._starting = False
            for early in self._early:
                self._on_loss(self._slots[early.index], early)
            if self._roll_again:
                self._roll_again = False
                self.replace_workers()
        self._cover()
        if not self._announced and all(slot.is_served for slot in self._slots):
            self._announced = True
            pids = [slot.current.pid for slot in self._slots if slot.current is not None]
            show(start_screen(self._urls, worker.routes, pids), self.config)

    def _cover(self) -> None:
        """Have what comes for a place that has lost its worker served by a neighbour until then."""
        if self._distributor is not None and not self._stopping:
            served = [slot.index for slot in self._slots if slot.is_served]
            self._distributor.share_among(served)
        for slot in self._slots:
            neighbour = slot.neighbour
            if neighbour is not None and (slot.is_served or not _can_serve(neighbour)):
                slot.neighbour = None
                if _can_serve(neighbour):
                    neighbour.give_back(slot.index)
            if slot.failures and not slot.is_served and slot.neighbour is None:
                able = [each.current for each in self._slots if each.is_served]
                busy = [each.neighbour for each in self._slots]
                if able:
                    slot.neighbour = min(able, key=busy.count)
                    assert slot.neighbour is not None
                    slot.neighbour.adopt(slot.index)

    # Workers end

    def _look_for_ends(self) -> None:
        for worker in [worker for worker in self.workers if worker.has_ended()]:
            self.workers.remove(worker)
            self._on_end(worker)
        if self._stopping and not self.workers:
            self._ended.set()

    def _on_end(self, worker: WorkerProcess) -> None:
        slot = self._slots[worker.index]
        if worker.is_stopping:
            if self._stopping and worker.failure is not None:
                self._failure = worker.failure
            elif not self._stopping and worker.failure is not None:
                _log_failure(worker, f"{worker.status} while it made room for another")
            elif not self._stopping:
                log.info("%s %s: it has made room for another", worker, worker.status)
            return
        if worker is slot.successor:
            slot.successor = None  # The roll says it.
        elif worker is slot.current:
            slot.current = None
            if self._starting:
                # Others may do better; if none does, it is the application.
                self._early.append(worker)
                if not self.workers:
                    self._failure = _common_failure(self._early)
                    self._ended.set()
            else:
                self._on_loss(slot, worker)

    def _on_leave(self, worker: WorkerProcess) -> None:
        """Replace a worker that somebody else told to stop: it accepts no more, but may go on."""
        slot = self._slots[worker.index]
        if worker is slot.current:
            slot.current = None
            self._on_loss(slot, worker)

    def _on_loss(self, slot: _Slot, worker: WorkerProcess) -> None:
        """Replace a worker that serves no more although it was not told to stop from here."""
        slot.failures = 1 if worker.served > STEADY else slot.failures + 1
        if slot.failures == 1:
            delay, when = 0.0, "another starts now"
        else:
            delay = min(FIRST_DELAY * 2 ** (slot.failures - 2), LONGEST_DELAY)
            when = f"another starts in {delay:g} s, for {slot.failures} have ended in a row"
        _log_failure(worker, f"{worker.status}: {when}")
        self._restart_later(slot, delay)
        self._cover()

    def _restart_later(self, slot: _Slot, delay: float) -> None:
        if slot.successor is None and not self._stopping:
            if delay:
                loop = asyncio.get_running_loop()
                slot.restart = loop.call_later(delay, self._restart, slot)
            else:
                self._restart(slot)

    async def _look_for_silence(self) -> None:
        """Kill workers whose loop does not turn; their end is then seen as any other."""
        loop = asyncio.get_running_loop()
        timeout = self.config.timeout_worker_healthcheck
        watch = SilenceWatch(timeout, loop.time())
        while True:
            await asyncio.sleep(timeout / LOOKS)
            for worker in watch.silent(self.workers, loop.time()):
                log.error(
                    "%s has said nothing for %g s: it is killed "
                    "(timeout-worker-healthcheck; a handler may block its event loop)",
                    worker,
                    timeout,
                )
                worker.kill()

    # Signals

    def stop(self) -> None:
        """Stop every worker in order, all at once; again: cut connections; again: kill."""
        self._stopping += 1
        self._close_sockets()
        if self._roll is not None:
            self._roll.cancel()
        for slot in self._slots:
            slot.cancel_restart()
        for worker in self.workers:
            if self._stopping > 2:
                worker.kill()
            else:
                worker.stop()
        if not self.workers:
            self._ended.set()

    def _hang_up(self) -> None:
        if self._has_terminal and not _has_terminal():
            log.info("the terminal is gone: stopping")
            self.stop()
        elif not self._stopping:
            self.replace_workers()

    def replace_workers(self) -> None:
        """Replace every worker, one after the other; if this is under way, once more after it.

        Before the first is ready this waits for that: who fails to start then ends the supervisor.
        """
        if self._roll is None and not self._starting:
            self._roll = asyncio.get_running_loop().create_task(self._replace_each())
            self._roll.add_done_callback(self._on_replaced)
        else:
            self._roll_again = True

    def _on_replaced(self, roll: asyncio.Task[None]) -> None:
        self._roll = None
        again, self._roll_again = self._roll_again, False
        if not roll.cancelled():
            roll.result()
            if again:
                self.replace_workers()

    async def _replace_each(self) -> None:
        log.info("replacing %d workers, one after the other", len(self._slots))
        for slot in self._slots:
            try:
                slot.successor = successor = self._start(slot)
            except OSError as error:
                log.error("worker %d cannot be replaced: %s", slot.index + 1, error)
                return
            if not await successor.settled:
                _log_failure(
                    successor,
                    f"{successor.status} while it started: the workers that are left stay",
                )
                if slot.current is None and slot.restart is None:
                    self._restart_later(slot, LONGEST_DELAY)
                return
            slot.failures = 0
        log.info("all workers are replaced")

    def _close_sockets(self) -> None:
        if self._distributor is not None:
            self._distributor.close()
        for each in self._sockets:
            each.close()


def run(config: Config) -> None:
    """Serve ``config`` with several workers until a signal.

    Raises:
        ApplicationError, BindError, ConfigError: as :meth:`Supervisor.run`.
    """
    check_can_supervise(f"workers is {config.workers}")
    configure_logging(config.log_level, config.log_format, config.log_config, many=True)

    async def supervise() -> None:
        await Supervisor(config).run()

    with shared_directory(config.metrics is not None):
        # uvloop keeps SIGCHLD to itself.
        run_in_new_loop(supervise, asyncio.new_event_loop)


def check_can_supervise(why: str) -> None:
    """Refuse to start processes where they could not be looked after.

    Parameters:
        why: the start of a sentence, which names the option that asks for it.

    Raises:
        ConfigError: this is not the main thread, or this system has no POSIX signals.
    """
    if not hasattr(signal, "SIGHUP"):
        raise ConfigError(f"{why}: expected a POSIX system; this one can serve in one process only")
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError(
            f"{why}: expected to be called in the main thread, which gets the signals"
        )


def _log_failure(worker: WorkerProcess, what: str) -> None:
    """Log what became of a worker, and what it said itself of the reason."""
    failure = worker.failure
    if failure is None:
        log.error("%s %s", worker, what)
    else:
        log.error("%s %s: %s", worker, what, failure)


def _common_failure(workers: Sequence[WorkerProcess]) -> Failure:
    """Why none of the workers could start."""
    for worker in workers:
        if worker.failure is not None:
            return worker.failure
    return Failure("application", f"no worker could start: {workers[-1]} {workers[-1].status}")


def _can_serve(worker: WorkerProcess) -> bool:
    return worker.is_ready and not worker.is_stopping


def _has_terminal() -> bool:
    """Whether a terminal controls this process; it loses it when that is closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
