"""How a server stops: a plan in five steps, within ``timeout-graceful-shutdown``.

1. *Nothing new.* The listening sockets are closed; ``app.draining`` and ``ws.draining`` are true.
   Requests whose answer is under way are finished; other HTTP connections are closed, and opening
   handshakes get 503.
2. *The application's word.* Every ``@app.on_drain`` function runs; the WebSockets are still open.
3. *CLOSE* with ``shutdown-code`` to every WebSocket, at once, or each at a random time within
   ``drain-window``, so that the clients do not all come back in the same second.
4. *Closing handshakes*, and the handlers' ends: each is waited for.
5. *The rest is cut* when the time is up, or at a second signal: TCP is aborted, and handlers that
   still run are cancelled.

Readiness. From step 1 on a probe of the path ``health`` fails: a new connection is refused, which
Kubernetes, nginx and every other load balancer count as a failure; on a connection that was kept
alive since an earlier probe the answer is a 503, for as long as the drain lasts. The sockets are
closed first, not last, because what is accepted now would be closed in a moment; while what is
refused goes to another server at once, as nginx's ``proxy_next_upstream`` has it, or to this one's
successor where that shares the socket. A balancer that goes on sending until it is told otherwise,
as a Service of Kubernetes does, needs its warning *before* the signal: a ``preStop`` hook that
sleeps for a few seconds.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterable

from fastws.accepting import Acceptor
from fastws.hub import Hub
from fastws.logs import log

__all__ = ["shut_down"]

REASON = "the server is restarting"

CLOSING_TIME = 1.0
"""Seconds kept for the closing handshakes, or half of the time if that is less: functions of
``on_drain`` that never end must not cost the clients their CLOSE."""

CANCELLED_HANDLERS_TIMEOUT = 1.0
"""Seconds that handlers have to end once they were cancelled, before they are left behind."""


async def shut_down(hub: Hub, listeners: Iterable[Acceptor], cut: asyncio.Event) -> None:
    """Stop serving as this module says; return when every connection is closed.

    Parameters:
        hub: the connections.
        listeners: what accepts them.
        cut: once it is set, what is still open is cut.
    """
    for listener in listeners:
        listener.close()
    hub.drain()
    if len(hub):
        log.info("stopping: closing %d connections", len(hub))
    loop = hub.loop
    limit = hub.config.timeout_graceful_shutdown
    deadline = math.inf if limit is None else loop.time() + limit
    emptied = loop.create_task(hub.wait_until_empty())
    cutting = loop.create_task(cut.wait())
    closing = loop.create_task(_tell_and_close(hub, deadline, emptied))
    try:
        await asyncio.wait({closing, cutting}, return_when=asyncio.FIRST_COMPLETED)
        if closing.done():
            closing.result()
            await asyncio.wait(
                {emptied, cutting},
                timeout=_timeout(deadline - loop.time()),
                return_when=asyncio.FIRST_COMPLETED,
            )
    finally:
        # Out of time, told twice, or cancelled.
        closing.cancel()
        cutting.cancel()
        if not emptied.done():
            await _cut_off(hub, emptied)
        hub.finish()


async def _tell_and_close(hub: Hub, deadline: float, emptied: asyncio.Future[None]) -> None:
    """Steps 2 and 3: returns when every CLOSE is sent."""
    window = hub.config.drain_window or 0.0
    room = _room(hub, deadline)
    await _tell_application(hub, max(room - window, room / 2))
    window = min(window, _room(hub, deadline))
    if window <= 0:
        hub.close_websockets(hub.config.shutdown_code, REASON)
    else:
        await _close_spread(hub, window, emptied)


async def _tell_application(hub: Hub, budget: float) -> None:
    telling = hub.loop.create_task(hub.app.run_drain_handlers())
    try:
        _, late = await asyncio.wait({telling}, timeout=_timeout(budget))
        if late:
            log.warning(
                "stopping: the functions of on_drain took longer than %.3g s and are cancelled",
                budget,
            )
    finally:
        telling.cancel()


async def _close_spread(hub: Hub, window: float, emptied: asyncio.Future[None]) -> None:
    start = hub.loop.time()
    connections = tuple(hub.connections)
    delays = sorted(random.uniform(0, window) for _ in connections)
    for connection, delay in zip(connections, delays, strict=True):
        left = start + delay - hub.loop.time()
        if left > 0 and connection in hub.connections:
            await asyncio.wait({emptied}, timeout=left)
        connection.shutdown(hub.config.shutdown_code, REASON)


def _room(hub: Hub, deadline: float) -> float:
    """Seconds until the closing handshakes have to have begun."""
    left = max(0.0, deadline - hub.loop.time())
    return left - min(CLOSING_TIME, left / 2)


def _timeout(seconds: float) -> float | None:
    return None if seconds == math.inf else max(0.0, seconds)


async def _cut_off(hub: Hub, emptied: asyncio.Task[None]) -> None:
    if len(hub):
        log.warning("stopping: cutting %d connections that are still open", len(hub))
    if hub.orphans:
        log.warning(
            "stopping: cancelling %d handlers that have not ended with their connection",
            len(hub.orphans),
        )
    hub.abort()
    await asyncio.wait((emptied,), timeout=CANCELLED_HANDLERS_TIMEOUT)
    if not emptied.done():
        emptied.cancel()
        log.warning("stopping: some handlers did not end when they were cancelled")
