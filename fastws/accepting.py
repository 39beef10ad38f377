"""Accepting connections, and pausing while the process is out of file descriptors.

Neither loop pauses well by itself. uvloop accepts and closes each new connection, which tells the
peer nothing and the log nothing. asyncio tries again each second and logs a traceback each time, on
some versions one for each connection that the backlog could hold.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from fastws.logs import log

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

__all__ = ["ACCEPTED_AT_ONCE", "SHORTAGES", "AcceptQueue", "Acceptor"]

RESERVED_FILES = 16
"""Open files that are left to the application when accepting pauses."""

CHECK_EVERY = 4
"""Connections after which it is checked how many descriptors are left."""

LOOK_INTERVAL = 0.5
"""Seconds between two looks at how many descriptors are left: so long may one that the application
takes go unseen, and so long is a pause at least."""

RECOVERED = 10.0
"""Seconds without a pause after which the trouble counts as over, and is logged again if it comes
back."""

ACCEPTED_AT_ONCE = 8
"""Connections that are accepted in one step of the loop. With those of CHECK_EVERY it is not more
than the reserve, for the check comes after them.

A server of uvloop accepts one, and a step of the loop for each nearly doubled the cost of a
handshake. So there are as many servers, each with a duplicate of the socket. When a single
connection comes, all but one of them try in vain, which costs a system call each."""

SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""What accept(2) fails with while descriptors, or memory for them, are missing."""

_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class AcceptQueue(socket.socket):
    """The end of a queue that connections are taken from, as from a socket that listens."""

    def listen(self, backlog: int = 0, /) -> None:
        """Nothing: connections come when the supervisor hands them over."""

    def accept(self) -> tuple[socket.socket, Any]:
        """Take a connection; its address is left to be asked for.

        Raises:
            BlockingIOError: there is none; or, about to be stopped, there will be none.
            OSError: there is no descriptor for it; it stays in the queue.
        """
        # recvmsg(2) drops what it has no descriptor for; accept(2) leaves it.
        os.close(os.dup(self.fileno()))
        _, fds, _, _ = socket.recv_fds(self, 1, 1, _CLOSE_ON_EXEC)
        if not fds:
            raise BlockingIOError
        link = socket.socket(fileno=fds[0])
        link.set_inheritable(False)
        return link, None


class Acceptor:
    """Accepts connections on some sockets until it is closed.

    The sockets belong to it: :meth:`close` closes them. They must be bound and may be listening.
    While too few file descriptors are left, connections wait in the kernel's queue, as many as the
    backlog allows; those that are open go on.

    Parameters:
        loop: the running loop.
        protocol_factory: makes the protocol of a connection.
        sockets: what to accept on: TCP, Unix, or what a supervisor hands connections over by.
        backlog: connections that the kernel queues for each.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sockets: Sequence[socket.socket],
        backlog: int,
    ) -> None:
        self._loop = loop
        self._protocol_factory = protocol_factory
        self._sockets = sockets
        self._backlog = backlog
        # What accepts now: uvloop's servers, or the sockets that the loop polls.
        self._servers: list[asyncio.AbstractServer] = []
        self._polled: list[socket.socket] = []
        # Connections from those that the loop is about to report.
        self._made: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._resuming: asyncio.Task[None] | None = None
        self._closed = False
        self._paused_at: float | None = None
        self._unchecked = 0

    @property
    def is_accepting(self) -> bool:
        """Whether it is neither paused nor closed."""
        return bool(self._servers or self._polled)

    async def start(self) -> None:
        """Begin to accept.

        Raises:
            OSError: a socket cannot be listened on.
        """
        await self._listen()
        self._timer = self._loop.call_later(LOOK_INTERVAL, self._look)

    def check(self) -> None:
        """Pause if file descriptors are running out; to be called for each new connection."""
        self._unchecked += 1
        if self._unchecked >= CHECK_EVERY:
            self._check_now()

    def _check_now(self) -> None:
        self._unchecked = 0
        if self.is_accepting and self._is_short():
            self._pause()

    def close(self) -> None:
        """Stop accepting, and close the sockets."""
        self._closed = True
        self._stop()
        if self._timer is not None:
            self._timer.cancel()
        if self._resuming is not None:
            self._resuming.cancel()
        for listening in self._sockets:
            listening.close()

    # Starting and stopping

    async def _listen(self) -> None:
        try:
            for listening in self._sockets:
                # A server of uvloop for a Unix socket would remove the file as it closes, which a
                # pause, or another process with the socket, does not mean.
                on_port = listening.family in (socket.AF_INET, socket.AF_INET6)
                if on_port and not isinstance(self._loop, asyncio.SelectorEventLoop):
                    for _ in range(ACCEPTED_AT_ONCE):
                        self._servers.append(await self._serve(listening))
                else:
                    self._poll(listening)
        except BaseException:
            self._stop()
            raise

    async def _serve(self, listening: socket.socket) -> asyncio.AbstractServer:
        # The server closes what it is given, which a pause must not: so it gets a duplicate.
        duplicate = socket.socket(fileno=os.dup(listening.fileno()))
        duplicate.setblocking(False)
        return await self._loop.create_server(
            self._protocol_factory, sock=duplicate, backlog=self._backlog
        )

    def _poll(self, listening: socket.socket) -> None:
        listening.listen(self._backlog)
        self._loop.add_reader(listening.fileno(), self._accept, listening)
        self._polled.append(listening)

    def _accept(self, listening: socket.socket) -> None:
        """Take some connections, as the servers of asyncio's own loop do."""
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                link, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                if error.errno not in SHORTAGES:
                    raise
                self._pause()
                return
            link.setblocking(False)
            made = self._loop.create_task(
                self._loop.connect_accepted_socket(self._protocol_factory, link)
            )
            self._made.add(made)
            made.add_done_callback(self._made.discard)
        # Now: the next ones are accepted before the loop has told about these.
        self._check_now()

    def _stop(self) -> None:
        for server in self._servers:
            server.close()
        for listening in self._polled:
            self._loop.remove_reader(listening.fileno())
        self._servers = []
        self._polled = []

    # File descriptors

    def _is_short(self) -> bool:
        """Whether fewer files can be opened than are reserved, seen with one call."""
        if resource is None:
            return False
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if most == resource.RLIM_INFINITY:
            return False
        try:
            # A new descriptor is the lowest that is free (POSIX.1-2024, section 2.6).
            lowest = os.dup(self._sockets[0].fileno())
        except OSError:
            return True
        os.close(lowest)
        return lowest >= most - RESERVED_FILES

    def _can_resume(self) -> bool:
        """Whether the reserve is there again, besides what accepting itself takes."""
        opened: list[int] = []
        needed = RESERVED_FILES + (ACCEPTED_AT_ONCE + 1) * len(self._sockets)
        try:
            while len(opened) < needed:
                opened.append(os.dup(self._sockets[0].fileno()))
        except OSError:
            return False
        finally:
            for descriptor in opened:
                os.close(descriptor)
        return not self._is_short()

    def _pause(self) -> None:
        self._stop()
        if self._paused_at is None:
            log.warning(
                "too few file descriptors are left: new connections wait until others are closed; "
                "raise the limit of open files (ulimit -n), or lower limit-connections"
            )
        self._paused_at = self._loop.time()

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK_INTERVAL, self._look)
        if self.is_accepting:
            self._check_now()
        elif self._resuming is None and self._can_resume():
            self._resuming = self._loop.create_task(self._resume())
        if (
            self.is_accepting
            and self._paused_at is not None
            and self._loop.time() - self._paused_at > RECOVERED
        ):
            self._paused_at = None
            log.info("there are enough file descriptors again: new connections no longer wait")

    async def _resume(self) -> None:
        try:
            await self._listen()
        except OSError as error:
            # Somebody else was faster to take the descriptors: look again later.
            log.debug("accepting cannot go on yet: %s", error)
        finally:
            self._resuming = None
