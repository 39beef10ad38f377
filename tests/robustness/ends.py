"""For rows about load and about ends: a watched handler with its server, and memory that grows."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from fastws.server import Server
from tests.connections import Handler, Watched, until
from tests.robustness.client import Peer, open_peer, serving
from tests.support import TIMEOUT

__all__ = [
    "KIB",
    "MIB",
    "Growth",
    "dial",
    "empty",
    "growth",
    "over_both",
    "resume_reading",
    "watching",
]

KIB = 1024
MIB = 1024 * KIB

over_both = pytest.mark.usefixtures("wire")
"""Runs a test over TCP and over TLS: see :mod:`tests.robustness.client`."""


@contextlib.asynccontextmanager
async def dial(
    address: tuple[str, int], *, receive_buffer: int | None = None
) -> AsyncIterator[Peer]:
    """A WebSocket to ``address``, which may be a proxy's, for the length of the block."""
    peer, _ = await open_peer(address, receive_buffer=receive_buffer)
    try:
        yield peer
    finally:
        await peer.close()


@contextlib.asynccontextmanager
async def watching(
    handler: Handler, *, receive_buffer: int | None = None, **options: Any
) -> AsyncIterator[tuple[Peer, Watched, Server]]:
    """A connection to a server that accepts it and then runs ``handler``.

    Parameters:
        receive_buffer: bytes that the kernel keeps for a client that does not read.
        options: of the server.
    """
    watched = Watched(handler)
    async with serving(watched.app, **options) as server:
        async with dial(server.addresses[0], receive_buffer=receive_buffer) as peer:
            yield peer, watched, server


async def empty(server: Server) -> None:
    """Every connection of ``server`` must end, and every handler, and leave no deadline behind."""
    hub = server.hub
    assert hub is not None
    await asyncio.wait_for(hub.wait_until_empty(), TIMEOUT)
    await until(lambda: hub.timers.scheduled == 0)


def resume_reading(peer: Peer) -> None:
    """The opposite of :meth:`tests.serving.Client.stop_reading`."""
    transport = peer.transport
    assert hasattr(transport, "resume_reading")
    transport.resume_reading()


class Growth:
    """Bytes that this process has allocated beyond those before."""

    def __init__(self) -> None:
        self._before = self._now()
        tracemalloc.reset_peak()

    @property
    def bytes(self) -> int:
        """Now, garbage not counted."""
        return self._now() - self._before

    @property
    def peak(self) -> int:
        """At most since the last call, or since the beginning."""
        peak = tracemalloc.get_traced_memory()[1] - self._before
        tracemalloc.reset_peak()
        return peak

    def _now(self) -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]


@contextlib.contextmanager
def growth() -> Iterator[Growth]:
    """Measure for the length of the block. The test must itself allocate nothing that stays, and
    its client keep nothing: :meth:`tests.serving.Client.stop_reading` leaves it to the kernel."""
    tracemalloc.start()
    try:
        yield Growth()
    finally:
        tracemalloc.stop()
