"""What the connections of one server share, and which of them are open."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from fastws._timers import TimerWheel
from fastws.access_log import log_answer, log_end, log_refusal, log_response
from fastws.addresses import AddressCounts
from fastws.app import FastWS
from fastws.config import Config
from fastws.http_fields import normalize_headers
from fastws.logs import access_log
from fastws.metrics import Metrics
from fastws.proxies import TrustedProxies
from fastws.responses import JSONResponse, Response
from fastws.tls import TLS

if TYPE_CHECKING:
    from fastws._connection import Connection
    from fastws.exceptions import HandshakeError
    from fastws.http11 import HTTPProtocol
    from fastws.http_head import Request

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
        self.tls: TLS | None = None
        """What makes connections secure; ``None`` if they are not."""
        self.proxies = TrustedProxies(config.forwarded_allow_ips if config.proxy_headers else ())
        self.addresses = AddressCounts(config.limit_connections_per_ip)
        """Connections by the address that they come from, or that a proxy says they do."""
        self.on_accepted: Callable[[], object] | None = None
        """Called for each new connection."""
        self.lifespan_state: Mapping[str, Any] | None = None
        self.draining = False
        self.requests: set[HTTPProtocol] = set()
        # In order, and in less memory than a set takes, whose table grows fourfold at a time.
        self.connections: dict[Connection, None] = {}
        # Those of them whose opening handshake is not answered yet.
        self._opening: set[Connection] = set()
        # While draining, connections that go on asking for the server's own pages.
        self._probes: set[HTTPProtocol] = set()
        # Handlers that still run although their connection is gone.
        self.orphans: set[asyncio.Task[Any]] = set()
        # Objects that all connections would else have a copy of.
        self.on_answered = self.connection_answered
        self.on_lost = self.connection_lost
        self._logs_access = config.access_log and access_log.isEnabledFor(logging.INFO)
        self._metrics: Metrics | None = None
        if config.metrics is not None:
            self._metrics = Metrics(loop, self.connections, self.requests)
        self._pages: dict[str, Callable[[Request], Response]] = {}
        if config.metrics is not None:
            self._pages[config.metrics] = self._show_metrics
        if config.health is not None:
            self._pages[config.health] = self._show_health
        # Where connections arrive: of each listening socket, None if it has no single address.
        self._arrivals: set[tuple[str, int] | None] = set()
        self._addresses: dict[tuple[str, int], tuple[str, int]] = {}
        self._on_empty: asyncio.Future[None] | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._headers_second = -1

    def __len__(self) -> int:
        """Open connections."""
        return len(self.requests) + len(self.connections)

    def response_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that every response carries; made anew each second for the date."""
        second = int(time.time())
        if second != self._headers_second:
            config = self.config
            headers = list(config.header)
            if config.server_header:
                headers.append(("Server", "fastws"))
            if config.date_header:
                headers.append(("Date", formatdate(second, usegmt=True)))
            self._headers, self._headers_second = normalize_headers(headers), second
        return self._headers

    def arrives_at(self, listening: socket.socket) -> None:
        """Connections come from this socket too."""
        address = None
        if listening.family in (socket.AF_INET, socket.AF_INET6):
            host, port = listening.getsockname()[:2]
            if not ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
                address = (host, port)
        self._arrivals.add(address)

    def address_of(self, transport: asyncio.BaseTransport) -> tuple[str, int] | None:
        """This server's end of a connection; ``None`` on a Unix socket, which has no host and port.

        One object for each address, however many connections have it.
        """
        if len(self._arrivals) == 1:
            # uvloop would ask the kernel, and keep what it says for as long as the connection.
            (only,) = self._arrivals
            if only is not None:
                return only
        name = transport.get_extra_info("sockname")
        if not isinstance(name, tuple):
            return None
        address = (name[0], name[1])
        return self._addresses.setdefault(address, address)

    # The server's own pages

    def own_page(self, request: Request) -> Response | None:
        """The answer to a request for the metrics or the health; ``None`` to any other.

        The application and its middleware do not see these requests.
        """
        page = self._pages.get(request.path)
        if page is None:
            return None
        if request.method not in ("GET", "HEAD"):
            return JSONResponse({"detail": "Method Not Allowed"}, 405, {"allow": "GET, HEAD"})
        response = page(request)
        response.headers["cache-control"] = "no-store"
        return response

    def _show_health(self, request: Request) -> Response:
        if self.draining:
            return JSONResponse({"status": "draining"}, 503)
        return JSONResponse({"status": "serving"})

    def _show_metrics(self, request: Request) -> Response:
        assert self._metrics is not None
        accept = [value for name, value in request.headers if name == b"accept"]
        return self._metrics.page(b",".join(accept).decode("latin-1"))

    # What happens to connections

    def responded(self, client: tuple[str, int] | None, request: Request, status: int) -> None:
        """A plain HTTP request was answered."""
        if self._logs_access:
            log_response(client, request.method, request.target, status)
        if self._metrics is not None:
            self._metrics.responded(status)

    def refused(self, client: tuple[str, int] | None, head: bytes, error: HandshakeError) -> None:
        """A request was refused before the application saw it.

        Parameters:
            client: who sent it.
            head: the request's head, ``b""`` if there was no whole one.
            error: what it is answered with.
        """
        if self._logs_access:
            log_refusal(client, head, error.status, error.message)
        if self._metrics is not None:
            self._metrics.answered(error.status)

    def upgraded(self, protocol: HTTPProtocol, connection: Connection) -> None:
        """Count ``connection`` in the place of ``protocol``."""
        self.requests.discard(protocol)
        self.connections[connection] = None
        self._opening.add(connection)

    def connection_answered(self, connection: Connection, status: int | None) -> None:
        """A WebSocket was accepted (101) or refused, or the peer did not wait for it (``None``)."""
        self._opening.discard(connection)
        if self._logs_access:
            log_answer(connection, status)
        if self._metrics is not None:
            self._metrics.answered(status)

    def closed(self, protocol: HTTPProtocol) -> None:
        """Forget a connection that was never upgraded."""
        self.requests.discard(protocol)
        self._probes.discard(protocol)
        self._check_empty()

    def connection_lost(self, connection: Connection) -> None:
        """Forget a WebSocket; its handler may still be at work."""
        self.connections.pop(connection, None)
        if self.addresses.limit is not None:
            self.addresses.remove(connection.client)
        if connection in self._opening:
            self.connection_answered(connection, None)
        elif connection.opened_at:
            if self._logs_access:
                log_end(connection, self.loop.time())
            if self._metrics is not None:
                self._metrics.ended(connection)
        task = connection.task
        if task is not None and not task.done():
            self.orphans.add(task)
            task.add_done_callback(self._orphan_done)
        self._check_empty()

    def _orphan_done(self, task: asyncio.Task[Any]) -> None:
        self.orphans.discard(task)
        self._check_empty()

    # Start and end: see shutdown.py

    def start(self) -> None:
        """The server accepts connections from now on."""
        if self._metrics is not None:
            self._metrics.start()

    def _check_empty(self) -> None:
        if self._on_empty is not None and not self._on_empty.done() and self._is_empty():
            self._on_empty.set_result(None)

    def _is_empty(self) -> bool:
        return not (self.requests or self.connections or self.orphans)

    async def wait_until_empty(self) -> None:
        """Return once every connection is closed and every handler has ended.

        Connections that were left open by :meth:`keep_probe` do not count.
        """
        if not self._is_empty():
            self._on_empty = self.loop.create_future()
            await self._on_empty

    @property
    def has_unanswered(self) -> bool:
        """Whether there are HTTP connections, or WebSockets that are not accepted yet."""
        return bool(self.requests or self._opening)

    def drain(self) -> None:
        """Take on nothing new: requests end once they are answered, handshakes get 503."""
        self.draining = True
        self.app.begin_drain()
        for protocol in tuple(self.requests):
            protocol.drain()
        for connection in tuple(self._opening):
            # Not accepted: the code goes nowhere.
            connection.shutdown(self.config.shutdown_code)
        self._check_empty()

    def keep_probe(self, protocol: HTTPProtocol) -> None:
        """Leave a connection open while draining that asks for nothing but the own pages."""
        self.requests.discard(protocol)
        self._probes.add(protocol)

    def close_websockets(self, code: int, reason: str) -> None:
        """Start the closing handshake of every WebSocket."""
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

    def finish(self) -> None:
        """Nothing is served any more: let go of what does not count as open."""
        for protocol in tuple(self._probes):
            protocol.abort()
        if self._metrics is not None:
            self._metrics.stop()
