"""A worker, as its supervisor sees it: a process to start, to give orders, and to wait for."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence

from fastws.accepting import AcceptQueue
from fastws.config import Config
from fastws.pipe import Failure, HandOver, Message, Pipe
from fastws.shutdown import CANCELLED_HANDLERS_TIMEOUT

__all__ = ["STOP_MARGIN", "WorkerProcess"]

GIVE_WAY_WITHIN = 2.0
"""Seconds that a worker goes on with opening handshakes and requests before it stops, when another
has taken its place."""

STOP_MARGIN = 5.0
"""Seconds that a worker has to end beyond those of its graceful shutdown: for the application's own
shutdown. Then it is killed."""

BOOT = (
    "import sys; sys.path[:] = sys.argv[2:]; from fastws.worker import work; work(int(sys.argv[1]))"
)
"""What a worker's interpreter runs. The import path is that of the supervisor before anything else
is imported: a module of the application must not take the place of one of the library."""

# Python 3.10 to 3.14 have it, and multiprocessing starts its processes with it.
_interpreter_flags: Callable[[], list[str]] = getattr(
    subprocess, "_args_from_interpreter_flags", list
)

_WITHHELD = (signal.SIGINT, signal.SIGHUP)


class WorkerProcess:
    """A process that serves. Made in a running loop, in which it calls back.

    A fresh interpreter, neither forked from the supervisor nor by a helper that was: nothing of a
    loop, a thread or a lock is carried over, and a restart runs the code that is on the disk now.

    Parameters:
        config: what it serves and how.
        index: which of the workers it is, from 0.
        groups: the sockets that each worker listens on; they stay the caller's.
        on_ready: called with it once it accepts connections.
        on_leave: called with it if it was ready, and was told to stop by somebody else; it is
            stopping then, as if it had been told to give way.

    Raises:
        OSError: the process cannot be started.
        TypeError: the configuration has an object that cannot leave this process.
    """

    def __init__(
        self,
        config: Config,
        index: int,
        groups: Sequence[Sequence[socket.socket]],
        on_ready: Callable[[WorkerProcess], object],
        on_leave: Callable[[WorkerProcess], object] = lambda _: None,
    ) -> None:
        self.index = index
        self.is_ready = False
        """Whether it accepts connections."""
        self.is_stopping = False
        """Whether it was told to stop."""
        self.routes: list[tuple[str, str]] = []
        """What it serves; known once it is ready."""
        self.failure: Failure | None = None
        """Why it ended, if it could say so."""
        self._config = config
        self._on_ready = on_ready
        self._on_leave = on_leave
        self._loop = asyncio.get_running_loop()
        self.heard_at = self._loop.time()
        """When it last reported, on the loop's clock."""
        self._ready_at: float | None = None
        self.settled: asyncio.Future[bool] = self._loop.create_future()
        """Done once it is ready (true), or has ended before that (false)."""
        self._deadline: asyncio.TimerHandle | None = None
        self._told_to_stop = False
        self._finished = False
        ours, theirs = socket.socketpair()
        self._pipe = Pipe(ours)
        with theirs:
            fds = [[each.fileno() for each in group] for group in groups]
            try:
                self._process = _start(theirs, {fd for group in fds for fd in group})
            except BaseException:
                self._pipe.close()
                raise
        queues = any(isinstance(each, AcceptQueue) for group in groups for each in group)
        try:
            HandOver(config, sys.argv, index, fds, queues).send(self._pipe)
        except BaseException:
            self._process.kill()
            self._process.wait()
            self._pipe.close()
            raise
        self._pipe.attach(self._loop, self._report, lambda: None)

    def __str__(self) -> str:
        return f"worker {self.index + 1} (process {self.pid})"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> str:
        """How it ended, as the predicate of a sentence."""
        code = self._process.returncode
        if code is None:
            return "was told to stop by a signal"
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with status {code}"

    def has_ended(self) -> bool:
        """Whether the process is gone; the first time that it is, its last words are read."""
        if self._process.poll() is None:
            return False
        if not self._finished:
            self._finish()
        return True

    def stop(self) -> None:
        """Have it close its connections in order and end; told again, it cuts them.

        It is killed if it does not end within the time of the graceful shutdown and some more.
        """
        graceful = 0.0 if self._told_to_stop else self._config.timeout_graceful_shutdown
        self._told_to_stop = True
        self._end("stop", None, graceful)

    def give_way(self, within: float = GIVE_WAY_WITHIN, margin: float = STOP_MARGIN) -> None:
        """Have it end like that because a successor listens, or will, on the same sockets.

        Parameters:
            within: seconds that it goes on with the requests that came, so that none is refused.
            margin: in the place of STOP_MARGIN.
        """
        graceful = self._config.timeout_graceful_shutdown
        if not self.is_stopping:
            self._end("give_way", within, None if graceful is None else within + graceful, margin)

    def _end(
        self, order: str, value: object, allowed: float | None, margin: float = STOP_MARGIN
    ) -> None:
        if self._finished:
            return
        self.is_stopping = True
        self._pipe.send(order, value)
        if not self.is_ready:
            # It may be importing the application, and cannot read; it has no connections to close.
            self._process.terminate()
        if allowed is not None:
            if self._deadline is not None:
                self._deadline.cancel()
            allowed += CANCELLED_HANDLERS_TIMEOUT + margin
            self._deadline = self._loop.call_later(allowed, self.kill)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def wait(self) -> None:
        """Block until it has ended."""
        self._process.wait()
        self.has_ended()

    @property
    def served(self) -> float:
        """Seconds for which it has accepted connections."""
        return self._loop.time() - self._ready_at if self._ready_at is not None else 0.0

    def adopt(self, index: int) -> None:
        """Have it accept the connections of another worker, which cannot."""
        self._pipe.send("adopt", index)

    def give_back(self, index: int) -> None:
        """Have it leave them to that worker again."""
        self._pipe.send("give_back", index)

    def _report(self, report: Message) -> None:
        self.heard_at = self._loop.time()
        match report:
            case {"ready": list(routes)} if not self._finished:
                self.is_ready = True
                self._ready_at = self.heard_at
                self.routes = [(kind, path) for kind, path in routes]
                self._settle(True)
                self._on_ready(self)
            case {"leaving": _} if self.is_ready and not self.is_stopping:
                self.give_way()
                self._on_leave(self)
            case {"failed": dict(failure)}:
                self.failure = Failure(**failure)

    def _settle(self, is_ready: bool) -> None:
        if not self.settled.done():
            self.settled.set_result(is_ready)

    def _finish(self) -> None:
        self._finished = True
        self._pipe.detach(self._loop)
        self._pipe.read_rest(self._report)
        self._pipe.close()
        self.is_ready = False
        self._settle(False)  # unless it was ready
        if self._deadline is not None:
            self._deadline.cancel()


def _start(theirs: socket.socket, fds: set[int]) -> subprocess.Popen[bytes]:
    """Start the interpreter, with these signals held back until it has said what it does of them.

    A mask outlives exec(); a handler set from here would need code between fork() and exec().
    """
    command = [sys.executable, *_interpreter_flags(), "-c", BOOT, str(theirs.fileno()), *sys.path]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WITHHELD)
    try:
        return subprocess.Popen(command, pass_fds=(theirs.fileno(), *fds))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
