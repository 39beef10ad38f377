"""A TCP proxy that does to the bytes on their way what bad networks do to them.

A test puts it between a client and a server, in its own event loop::

    async with faulty(server.addresses[0], to_client=Faults(latency=0.05)) as proxy:
        ... connect to proxy.address ...

What befalls each direction is told beforehand in :class:`Faults`; :class:`Link` has what a test
does to a connection in the middle of it. The proxy knows nothing of WebSocket or TLS: it carries
both.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

__all__ = ["Direction", "Faults", "Link", "Proxy", "faulty"]

READ = 64 * 1024
"""Bytes taken from a sender at a time."""

PACE = 0.005
"""Seconds of bandwidth that are sent together."""


@dataclass(frozen=True)
class Faults:
    """What befalls the bytes of one direction; all of it may be combined.

    Every byte is first late, then cut, then paced; ``reset_after`` and ``black_hole_after`` count
    the bytes that have come through all of that, from the connection's first, the opening
    handshake (and TLS's) included.

    Parameters:
        latency: seconds by which every byte is late. Those behind it do not wait for it.
        bandwidth: bytes a second; ``None`` is no limit.
        single_bytes: how many of the first bytes are sent each in a segment of its own
            (TCP_NODELAY, a ``send()`` for each, and a turn of the loop for who reads them).
        largest_segment: the bytes after those are cut at random into segments of up to as many;
            ``None`` leaves them as they came.
        reset_after: after as many bytes both ends get a RST. The last of them may not arrive: a RST
            overtakes what waits.
        black_hole_after: after as many bytes nothing comes through any more, neither bytes nor EOF
            nor RST, and nobody is told.
        swallows: whether a black hole goes on taking bytes; else the sender is stuck with them,
            like one that gets no acknowledgement.
        buffer: bytes that are on their way at most; above that the sender waits.
        seed: of what is random.
    """

    latency: float = 0.0
    bandwidth: float | None = None
    single_bytes: int = 0
    largest_segment: int | None = None
    reset_after: int | None = None
    black_hole_after: int | None = None
    swallows: bool = True
    buffer: int = 256 * 1024
    seed: int = 0


NO_FAULTS = Faults()


class Direction:
    """The bytes that go from one end of a :class:`Link` to the other."""

    def __init__(
        self, link: Link, faults: Faults, source: socket.socket, sink: socket.socket
    ) -> None:
        self.faults = faults
        self.forwarded = 0
        """Bytes that were sent on."""
        self.swallowed = 0
        """Bytes that a black hole took."""
        self.segments = 0
        """``send()`` calls that sent them on."""
        self.is_black_hole = False
        self._link = link
        self._source = source
        self._sink = sink
        self._random = random.Random(faults.seed)
        self._loop = asyncio.get_running_loop()
        # When each piece is due, and the piece; an empty one is the sender's EOF.
        self._on_the_way: deque[tuple[float, bytes]] = deque()
        self._bytes_on_the_way = 0
        self._changed = asyncio.Event()
        self._free_at = 0.0  # when the last byte sent has passed the narrowest place

    async def carry(self) -> None:
        """Carry bytes until the sender's EOF has been handed on, or swallowed."""
        self._check_black_hole()
        reading = self._loop.create_task(self._read())
        try:
            await self._write()
        finally:
            reading.cancel()
            await asyncio.wait({reading})
        if not reading.cancelled():
            reading.result()

    async def _read(self) -> None:
        data = b"-"
        while data:
            while self._bytes_on_the_way >= self.faults.buffer or self._is_stuck():
                self._changed.clear()
                await self._changed.wait()
            try:
                data = await self._loop.sock_recv(self._source, READ)
            except OSError:
                if not self.is_black_hole:
                    self._link.reset()
                return
            self._on_the_way.append((self._loop.time() + self.faults.latency, data))
            self._bytes_on_the_way += len(data)
            self._changed.set()

    async def _write(self) -> None:
        while True:
            while not self._on_the_way:
                self._changed.clear()
                await self._changed.wait()
            due, data = self._on_the_way.popleft()
            if due > self._loop.time():
                await asyncio.sleep(due - self._loop.time())
            try:
                if not data:
                    if not self.is_black_hole:
                        self._sink.shutdown(socket.SHUT_WR)
                    return
                for segment in self._segments_of(data):
                    await self._forward(segment)
            except OSError:
                self._link.reset()
                return
            self._bytes_on_the_way -= len(data)
            self._changed.set()

    def _segments_of(self, data: bytes) -> Iterator[bytes]:
        largest = self.faults.largest_segment
        bandwidth = self.faults.bandwidth
        start = 0
        while start < len(data):
            size = len(data) - start
            if self.forwarded + self.swallowed < self.faults.single_bytes:
                size = 1
            elif largest is not None:
                size = min(size, self._random.randint(1, largest))
            if bandwidth is not None:
                size = min(size, max(1, int(bandwidth * PACE)))
            yield data[start : start + size]
            start += size

    async def _forward(self, segment: bytes) -> None:
        if self.faults.bandwidth is not None:
            self._free_at = max(self._free_at, self._loop.time())
            self._free_at += len(segment) / self.faults.bandwidth
            # Below a millisecond loops do not sleep: what is too early now is later the next time.
            if self._free_at - self._loop.time() >= 0.001:
                await asyncio.sleep(self._free_at - self._loop.time())
        passing, reset_after = segment, self.faults.reset_after
        if self.faults.black_hole_after is not None:
            passing = passing[: max(0, self.faults.black_hole_after - self.forwarded)]
        if reset_after is not None:
            passing = passing[: max(0, reset_after - self.forwarded)]
        if self.is_black_hole:
            passing = b""
        if passing:
            await self._loop.sock_sendall(self._sink, passing)
            self.forwarded += len(passing)
            self.segments += 1
        self.swallowed += len(segment) - len(passing)
        self._check_black_hole()
        if reset_after is not None and self.forwarded >= reset_after:
            self._link.reset()
        # Who reads it shall do so before the next segment joins this one: in the loop's next step
        # it is found readable, at the latest behind this task, and in the one after it has read.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def _check_black_hole(self) -> None:
        after = self.faults.black_hole_after
        if after is not None and self.forwarded >= after:
            self.is_black_hole = True

    def _is_stuck(self) -> bool:
        return self.is_black_hole and not self.faults.swallows


class Link:
    """One connection through the proxy: the client's TCP connection and the one to the server."""

    def __init__(
        self,
        client: socket.socket,
        server: socket.socket,
        to_server: Faults,
        to_client: Faults,
    ) -> None:
        self._sockets = (client, server)
        self._reset = asyncio.Event()
        self.to_server = Direction(self, to_server, client, server)
        self.to_client = Direction(self, to_client, server, client)

    def reset(self) -> None:
        """Cut both TCP connections with a RST, in the loop's next turn."""
        self._reset.set()

    def black_hole(self) -> None:
        """Let nothing come through any more, in either direction; neither end is told."""
        self.to_server.is_black_hole = self.to_client.is_black_hole = True

    async def run(self, server: tuple[str, int]) -> None:
        """Connect to ``server`` and carry both directions until both ends are done, or a reset."""
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(self._sockets[1], server)
        except OSError:
            self.reset()
            self.close()
            return
        carrying = loop.create_task(self._carry())
        cut = loop.create_task(self._reset.wait())
        try:
            await asyncio.wait({carrying, cut}, return_when=asyncio.FIRST_COMPLETED)
            if carrying.done():
                carrying.result()
                if self.to_server.is_black_hole or self.to_client.is_black_hole:
                    # To close would tell the ends.
                    await cut
        finally:
            # Not before the sockets are out of use.
            carrying.cancel()
            cut.cancel()
            await asyncio.wait({carrying, cut})
            self.close()

    async def _carry(self) -> None:
        await asyncio.gather(self.to_server.carry(), self.to_client.carry())

    def close(self) -> None:
        """Close both sockets, for :func:`faulty`: whatever runs uses them."""
        for end in self._sockets:
            if self._reset.is_set() and end.fileno() != -1:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()


class Proxy:
    """Where to connect to, and the connections that were made."""

    def __init__(self, listening: socket.socket) -> None:
        self.address: tuple[str, int] = listening.getsockname()[:2]
        self.links: list[Link] = []
        """In the order in which they were accepted."""

    @property
    def link(self) -> Link:
        """The only one."""
        (link,) = self.links
        return link

    def black_hole(self) -> None:
        """Let nothing come through any more on any connection."""
        for link in self.links:
            link.black_hole()


@contextlib.asynccontextmanager
async def faulty(
    server: tuple[str, int],
    *,
    to_server: Faults = NO_FAULTS,
    to_client: Faults = NO_FAULTS,
) -> AsyncIterator[Proxy]:
    """Stand in front of ``server`` for the length of the block; then cut what is still open.

    Parameters:
        server: the address to connect to, once for each connection that is accepted.
        to_server: what befalls the bytes that clients send.
        to_client: what befalls the bytes that the server sends.

    Raises:
        Exception: at the end of the block, whatever went wrong in the proxy itself.
    """
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setblocking(False)
        # Else the kernel would take as much again, or much more, before the sender waits.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, to_server.buffer)
        listening.bind((server[0], 0))
        listening.listen(1024)
        proxy = Proxy(listening)
        running: set[asyncio.Task[None]] = set()

        async def accept() -> None:
            while True:
                client, _ = await loop.sock_accept(listening)
                onward = socket.socket(family)
                onward.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, to_client.buffer)
                for end in (client, onward):
                    end.setblocking(False)
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                link = Link(client, onward, to_server, to_client)
                proxy.links.append(link)
                running.add(loop.create_task(link.run(server)))

        accepting = loop.create_task(accept())
        try:
            yield proxy
        finally:
            for task in (accepting, *running):
                task.cancel()
            await asyncio.wait({accepting, *running})
            for link in proxy.links:
                link.close()
        for task in (accepting, *running):
            if not task.cancelled():
                task.result()
