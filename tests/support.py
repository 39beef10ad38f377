"""What several test modules share: the unit of time, event loops, ports, a server in a process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Coroutine, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

__all__ = [
    "LOOP",
    "ROOT",
    "RUN_TIMEOUT",
    "TIMEOUT",
    "ServerProcess",
    "free_port",
    "loop_factory",
    "run",
    "within",
]

T = TypeVar("T")

#: Seconds that anything may take that should happen at once. Every wait in the tests is a multiple
#: of it; a slow machine, or a sanitizer, needs a larger one.
TIMEOUT = float(os.environ.get("FASTWS_TEST_TIMEOUT", "5"))

#: Seconds for the whole of a test's main coroutine.
RUN_TIMEOUT = 6 * TIMEOUT

#: Where free_port() looks.
PORTS = range(10_000, 32_768)

#: Processes of a test run that have ports of their own; more than there ever are.
SHARES = 32

#: Which event loop the tests run on: "uvloop" or "asyncio".
LOOP = os.environ.get("FASTWS_TEST_LOOP", "asyncio" if sys.platform == "win32" else "uvloop")

#: The tree under test; a variant's copy of it, if the tests were started there.
ROOT = Path(__file__).resolve().parent.parent


def loop_factory() -> asyncio.AbstractEventLoop:
    """Return a new event loop of the kind that FASTWS_TEST_LOOP names."""
    if LOOP == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    if LOOP == "asyncio":
        return asyncio.new_event_loop()
    raise RuntimeError(f"FASTWS_TEST_LOOP is {LOOP!r}: expected 'uvloop' or 'asyncio'")


def run(main: Coroutine[Any, Any, T], *, timeout: float = RUN_TIMEOUT) -> T:
    """Run `main` to its end on a new loop, and close the loop with nothing left in it.

    Raises whatever `main` raises, and TimeoutError after `timeout` seconds. Debug mode is off even
    where PYTHONASYNCIODEBUG asks for it: it wraps what the compiled awaitables rely on.
    """
    loop = loop_factory()
    loop.set_debug(False)
    try:
        return loop.run_until_complete(_within(main, timeout))
    finally:
        try:
            loop.run_until_complete(_cancel_the_rest())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()


async def _within(main: Coroutine[Any, Any, T], timeout: float) -> T:
    task = asyncio.ensure_future(main)
    done, _ = await asyncio.wait({task}, timeout=timeout)
    if done:
        return task.result()
    where = "".join(
        f"\n  {frame.f_code.co_filename}:{frame.f_lineno}" for frame in task.get_stack()
    )
    task.cancel()
    await asyncio.wait({task}, timeout=TIMEOUT)
    raise TimeoutError(
        f"the test's coroutine had not ended after {timeout:g} s; it waited at{where}"
    )


async def within(waiting: Awaitable[T], seconds: float = TIMEOUT) -> T:
    """What `waiting` gives, as of asyncio.wait_for(), for those who may be cancelled meanwhile.

    Before Python 3.12 that forgets a cancellation which comes in the same step as the result, and
    who was cancelled goes on (https://github.com/python/cpython/issues/81839).

    Raises asyncio.TimeoutError after `seconds`, when `waiting` has been cancelled.
    """
    task = asyncio.ensure_future(waiting)
    done: set[asyncio.Future[T]] = set()
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    finally:
        if not done:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    if not done:
        raise asyncio.TimeoutError(f"nothing came of it within {seconds:g} s")
    return task.result()


async def _cancel_the_rest() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    if rest:
        await asyncio.wait(rest, timeout=TIMEOUT)


def _own_ports() -> Iterator[int]:
    """The ports of this process, over and over.

    Below those that the kernel gives to connections and to servers that ask for any port, and no
    other process of the same test run has them: a port that is free is so until it is used.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = range(PORTS.start + worker % SHARES, PORTS.stop, SHARES)
    # Two runs at a time hardly begin at the same place.
    return itertools.islice(itertools.cycle(share), os.getpid() % len(share), None)


_ports = _own_ports()


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port that nothing listens on, and that no other test is given."""
    for port in itertools.islice(_ports, len(PORTS) // SHARES):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            with contextlib.suppress(OSError):
                probe.bind((host, port))
                return port
    raise RuntimeError(f"every port of {PORTS} that is this process's own is in use")


class ServerProcess:
    """`python -m fastws run APP ...` in a process of its own, for the length of a `with` block.

    Parameters:
        app: what to serve, as ``module:attribute``; importable from the tree, or from `cwd`.
        options: further words of the command line.
        cwd: the process's directory; the tree by default.
        env: environment variables to add.
        uds: the Unix socket that `options` make it listen on, instead of host and port.

    The block is entered once the server accepts connections, within 4 × TIMEOUT; if it ends before
    that, or is not ready in time, RuntimeError says so with its output. Leaving the block sends
    SIGTERM, and SIGKILL after 2 × TIMEOUT.
    """

    def __init__(
        self,
        app: str,
        *options: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        port: int | None = None,
        uds: Path | None = None,
    ) -> None:
        self.host = host
        self.port = free_port(host) if port is None else port
        self._uds = uds
        address = ["--host", host, "--port", str(self.port)] if uds is None else []
        self.command = [sys.executable, "-m", "fastws", "run", app, *address, *options]
        self._cwd = ROOT if cwd is None else cwd
        # The tree first, so that the process imports the build that the tests themselves run on.
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._env = {**os.environ, "PYTHONPATH": path, "FASTWS_LOOP": LOOP, **(env or {})}
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._lines: list[str] = []

    @property
    def url(self) -> str:
        """``ws://host:port``, without a path."""
        return f"ws://{self.host}:{self.port}"

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._process is not None, "the server has not been started"
        return self._process

    @property
    def output(self) -> str:
        """What the server has written to stdout and stderr so far; all of it after the block."""
        return "".join(self._lines)

    def __enter__(self) -> ServerProcess:
        self._process = subprocess.Popen(
            self.command,
            cwd=self._cwd,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._wait_until_ready(time.monotonic() + 4 * TIMEOUT)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """End the server, if it has not ended yet, and return its exit status."""
        process = self.process
        if process.poll() is None:
            process.send_signal(signal_number)
        try:
            process.wait(2 * TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(TIMEOUT)
        if self._reader is not None:
            self._reader.join(TIMEOUT)
        return process.returncode

    def _read(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        with stream:
            self._lines.extend(stream)

    def _connect(self) -> socket.socket:
        if self._uds is None:
            return socket.create_connection((self.host, self.port), timeout=TIMEOUT)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(self._uds))
        except OSError:
            connection.close()
            raise
        return connection

    def _wait_until_ready(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                assert self._reader is not None
                self._reader.join(TIMEOUT)
                raise RuntimeError(
                    f"the server ended with status {self.process.returncode}:\n{self.output}"
                )
            with contextlib.suppress(OSError):
                self._connect().close()
                return
            # A listening socket cannot be awaited from outside: ask again a little later.
            time.sleep(0.02)
        raise RuntimeError(f"the server was not ready within {4 * TIMEOUT:g} s:\n{self.output}")
