"""What the connections of one server share, and which of them are open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from fastws._timers import TimerWheel
from fastws.app import FastWS
from fastws.config import Config
from fastws.logs import access_log, peer_name, printable

if TYPE_CHECKING:
    from fastws._connection import Connection
    from fastws.http11 import HTTPProtocol

__all__ = ["Hub"]


class Hub:
    """What the connections of one server share, and which they are.

    Parameters:
        config: the server's options.
        app: the application.
        loop: the loop that all of it belongs to.
        capacity: most connections, WebSockets included; ``None`` is no limit.
    """

    def __init__(
        self,
        config: Config,
        app: FastWS,
        loop: asyncio.AbstractEventLoop,
        capacity: int | None = None,
    ) -> None:
        self.config = config
        self.app = app
        self.loop = loop
        self.capacity = capacity
        self.timers = TimerWheel(loop)
        self.lifespan_state: Mapping[str, Any] | None = None
        self.draining = False
        self.requests: set[HTTPProtocol] = set()
        self.connections: set[Connection] = set()
        # Handlers that still run although their connection is gone.
        self.orphans: set[asyncio.Task[Any]] = set()
        # Objects that all connections would else have a copy of.
        self.on_lost = self.connection_lost
        self._addresses: dict[tuple[str, int], tuple[str, int]] = {}
        self._on_empty: asyncio.Future[None] | None = None
        self._headers: list[tuple[str, str]] = []
        self._headers_second = -1

    def __len__(self) -> int:
        """Open connections."""
        return len(self.requests) + len(self.connections)

    def response_headers(self) -> list[tuple[str, str]]:
        """The headers that every response carries; made anew each second for the date."""
        second = int(time.time())
        if second != self._headers_second:
            config = self.config
            headers = list(config.header)
            if config.server_header:
                headers.append(("Server", "fastws"))
            if config.date_header:
                headers.append(("Date", formatdate(second, usegmt=True)))
            self._headers, self._headers_second = headers, second
        return self._headers

    def shared_address(self, address: tuple[str, int] | None) -> tuple[str, int] | None:
        """One object for each address of this server, however many connections have it."""
        return None if address is None else self._addresses.setdefault(address, address)

    def upgraded(self, protocol: HTTPProtocol, connection: Connection) -> None:
        """Count ``connection`` in the place of ``protocol``."""
        if self.config.access_log:
            log_connection(connection, "begins")
        self.requests.discard(protocol)
        self.connections.add(connection)

    def closed(self, protocol: HTTPProtocol) -> None:
        """Forget a connection that was never upgraded."""
        self.requests.discard(protocol)
        self._check_empty()

    def connection_lost(self, connection: Connection) -> None:
        """Forget a WebSocket; its handler may still be at work."""
        self.connections.discard(connection)
        if self.config.access_log:
            log_connection(connection, f"ended {connection.close_code}")
        task = connection.task
        if task is not None and not task.done():
            self.orphans.add(task)
            task.add_done_callback(self._orphan_done)
        self._check_empty()

    def _orphan_done(self, task: asyncio.Task[Any]) -> None:
        self.orphans.discard(task)
        self._check_empty()

    def _check_empty(self) -> None:
        if self._on_empty is not None and not self._on_empty.done() and self._is_empty():
            self._on_empty.set_result(None)

    def _is_empty(self) -> bool:
        return not (self.requests or self.connections or self.orphans)

    async def wait_until_empty(self) -> None:
        """Return once every connection is closed and every handler has ended."""
        if not self._is_empty():
            self._on_empty = self.loop.create_future()
            await self._on_empty

    def drain(self, code: int, reason: str) -> None:
        """Start to close everything: WebSockets with ``code``, requests once they are answered."""
        self.draining = True
        for protocol in tuple(self.requests):
            protocol.drain()
        for connection in tuple(self.connections):
            connection.shutdown(code, reason)

    def abort(self) -> None:
        """Cut every connection and cancel every handler."""
        for protocol in tuple(self.requests):
            protocol.abort()
        for connection in tuple(self.connections):
            connection.abort()
        for task in tuple(self.orphans):
            task.cancel()


def log_connection(connection: Connection, event: str) -> None:
    """Write a line about a WebSocket; its head keeps the target, so that nothing else has to."""
    target = connection.head.split(b" ", 2)[1].decode("latin-1")
    access_log.info('%s "WebSocket %s" %s', peer_name(connection.client), printable(target), event)
