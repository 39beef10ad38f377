"""Sharing one listening socket evenly: the supervisor accepts, and hands over to workers in turn.

For sockets of which each worker cannot have its own: Unix sockets, descriptors from outside, every
socket where SO_REUSEPORT spreads nothing. Processes that accept from one such socket themselves get
what they come first for, which may be four connections of five.

Each worker's place has a queue, a socket pair that takes descriptors. It outlives the process: what
a worker has not taken out when it ends waits there for the next one, or for a neighbour, as in the
kernel's queue of a listening socket. To a worker it is one: see
:class:`fastws.accepting.AcceptQueue`.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence

from fastws.accepting import ACCEPTED_AT_ONCE, SHORTAGES, AcceptQueue
from fastws.logs import log

__all__ = ["Distributor"]

RETRY = 0.02
"""Seconds until it is tried again, where every queue is full or no descriptor is left."""


class Distributor:
    """Accepts connections on some sockets, for workers. Made in a running loop.

    Connections are accepted only for workers that can take them. Otherwise, as long as none can or
    the queues of all are full, they stay in the kernel's queue, as many as the backlog allows.

    Parameters:
        listening: what to accept on; stays the caller's.
        places: how many workers there may be.
    """

    def __init__(self, listening: Sequence[socket.socket], places: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self.queues: list[AcceptQueue] = []
        """By place, what its worker is to take connections from."""
        self._ends: list[socket.socket] = []
        for _ in range(places):
            put, take = socket.socketpair()
            for each in (put, take):
                each.setblocking(False)
            self._ends.append(put)
            self.queues.append(AcceptQueue(fileno=take.detach()))
        self._able: Sequence[int] = ()
        self._turn = 0
        self._held: socket.socket | None = None
        """Accepted, but nobody could take it."""
        self._later: asyncio.TimerHandle | None = None
        self._is_short = False  # of descriptors, which has been said

    def share_among(self, places: Sequence[int]) -> None:
        """Hand what comes over to the workers of these places from now on."""
        self._able = places
        if not places:
            self._pause()
        elif self._later is None:
            self._go_on()

    def close(self) -> None:
        """Accept no more, and close the queues with what is in them."""
        self._pause()
        for each in (*self._ends, *self.queues):
            each.close()
        if self._held is not None:
            self._held.close()
        self._able, self._listening = (), ()

    def _go_on(self) -> None:
        self._later = None
        if self._held is not None:
            if not self._hand_over(self._held):
                self._wait()
                return
            self._held = None
        for listening in self._listening:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _pause(self) -> None:
        for listening in self._listening:
            self._loop.remove_reader(listening.fileno())
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def _wait(self) -> None:
        self._pause()
        self._later = self._loop.call_later(RETRY, self._go_on)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                link, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in SHORTAGES:
                    raise
                if not self._is_short:
                    log.warning("new connections wait: the supervisor cannot accept: %s", error)
                self._is_short = True
                self._wait()
                return
            self._is_short = False
            if not self._hand_over(link):
                self._held = link
                self._wait()
                return

    def _hand_over(self, link: socket.socket) -> bool:
        """Put a connection into the next queue with room; false if there is none."""
        for _ in self._able:
            self._turn = (self._turn + 1) % len(self._able)
            try:
                socket.send_fds(self._ends[self._able[self._turn]], [b"\0"], [link.fileno()])
            except BlockingIOError:
                continue
            except OSError as error:
                # More descriptors are under way than this user may have open: unix(7).
                if error.errno not in (errno.ETOOMANYREFS, *SHORTAGES):
                    raise
                continue
            link.close()
            return True
        return False
