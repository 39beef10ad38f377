"""The HTTP side of a connection: until its upgrade, or until it closes.

Reads one request at a time, answers plain requests, and hands an accepted upgrade over to the
compiled connection. The rules of requests and handshakes are in ``handshake.py``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from email.utils import formatdate
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

from fastws._connection import Connection
from fastws._timers import TimerWheel
from fastws.app import FastWS
from fastws.config import Config
from fastws.exceptions import HandshakeError
from fastws.handshake import (
    HeadReader,
    Request,
    check_upgrade,
    error_response,
    has_body,
    http_response,
    parse_request,
    wants_upgrade,
)
from fastws.logs import access_log, log, printable
from fastws.websocket import WebSocket

__all__ = ["HTTPProtocol", "Hub"]

LINGER = 2.0
"""Seconds that a connection goes on reading after its last response. Closing with unread bytes
sends a RST, which can destroy that response on its way (RFC 9112 section 9.6)."""

MAX_PIPELINED = 64 * 1024
"""Bytes kept that arrived behind a request still being answered; reading stops there."""

MAX_TURNED_AWAY = 32
"""Connections above the limit that are told so with a 503; more than that are cut."""


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

    def upgraded(self, protocol: HTTPProtocol, connection: Connection) -> None:
        """Count ``connection`` in the place of ``protocol``."""
        self.requests.discard(protocol)
        self.connections.add(connection)

    def closed(self, protocol: HTTPProtocol) -> None:
        """Forget a connection that was never upgraded."""
        self.requests.discard(protocol)
        self._check_empty()

    def connection_lost(self, connection: Connection) -> None:
        """Forget a WebSocket; its handler may still be at work."""
        self.connections.discard(connection)
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


class Phase(Enum):
    """What a connection that was not upgraded is doing."""

    READING = auto()
    """Waiting for a request, or for the rest of its head."""
    ANSWERING = auto()
    """The application works on a request, or the peer has yet to read the response."""
    LEAVING = auto()
    """The last response is written; what still arrives is thrown away."""


class HTTPProtocol(asyncio.Protocol):
    """One accepted connection, until it is upgraded or closed.

    Parameters:
        hub: what it shares with the server's other connections.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._reader = HeadReader(hub.config.limits)
        self._transport: asyncio.Transport
        self._phase = Phase.READING
        self._heard = False  # whether a part of the awaited request has arrived
        self._answered = 0  # responses sent
        self._task: asyncio.Task[None] | None = None
        self._pipelined = bytearray()
        self._last_response = False
        self._peer_done = False  # the peer has sent its EOF
        self._writable = True
        self._unsent = 0  # bytes that were in the write buffer when last looked at

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        hub = self._hub
        turned_away = 0 if hub.capacity is None else len(hub) + 1 - hub.capacity
        hub.requests.add(self)
        if turned_away > MAX_TURNED_AWAY:
            transport.abort()
        elif turned_away > 0:
            self._refuse(HandshakeError(503, "the server has all the connections it may have"))
        else:
            # The deadline of the opening handshake counts from here; bytes do not move it.
            self._set_deadline(hub.config.ws_open_timeout)

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.READING:
            self._read(data)
        elif self._phase is Phase.ANSWERING:
            self._pipelined += data
            if len(self._pipelined) >= MAX_PIPELINED:
                self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Keep the transport for a response that is still due to a peer that sent its EOF."""
        self._peer_done = True
        # A TLS transport cannot be half-open.
        return self._phase is Phase.ANSWERING and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._phase is Phase.ANSWERING and self._task is None:
            self._next_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._hub.timers.cancel(self)
        if self._task is not None:
            self._task.cancel()
        self._hub.closed(self)

    # Called by the timer wheel

    def on_timer(self) -> None:
        """The deadline of the present phase has passed."""
        if self._phase is Phase.READING:
            if self._heard:
                self._refuse(HandshakeError(408, "the request took too long to arrive"))
            else:
                self._transport.close()
            return
        # A response on its way: give up on a peer that takes nothing, not on a slow one.
        unsent = self._transport.get_write_buffer_size()
        if unsent and (unsent < self._unsent or not self._unsent):
            self._unsent = unsent
            self._set_deadline(self._hub.config.timeout_keep_alive)
        elif unsent:
            self._transport.abort()
        else:
            self._transport.close()

    # Called by the server

    def drain(self) -> None:
        """The server stops: answer what is being worked on, then close."""
        self._last_response = True
        if self._phase is Phase.READING:
            if self._heard:
                self._refuse(HandshakeError(503, "the server is stopping"))
            else:
                self._transport.close()

    def abort(self) -> None:
        """Cut the connection; the application's work on its request is cancelled."""
        self._transport.abort()

    # Reading

    def _set_deadline(self, seconds: float | None) -> None:
        if seconds is None:
            self._hub.timers.cancel(self)
        else:
            self._hub.timers.schedule(self, seconds)

    def _read(self, data: bytes) -> None:
        if not self._heard:
            self._heard = True
            if self._answered:
                self._set_deadline(self._hub.config.header_read_timeout)
        try:
            rest = self._reader.feed(data)
            if rest is None:
                return
            request = parse_request(self._reader.head)
            if wants_upgrade(request):
                self._upgrade(request, rest)
            else:
                self._answer(request, rest)
        except HandshakeError as error:
            self._refuse(error)
        except Exception:
            log.exception("unexpected error while reading a request")
            self._refuse(HandshakeError(500, "Internal Server Error"))

    def _upgrade(self, request: Request, early: bytes) -> None:
        """Hand the connection over if the opening handshake keeps to the rules.

        ``early`` is what arrived behind the request: frames of a peer that did not wait for the
        response. If the handshake is refused it is thrown away, for it is neither a request nor
        frames of a connection that exists.
        """
        hub = self._hub
        if self._last_response:
            raise HandshakeError(503, "the server is stopping")
        found = hub.app.find_websocket(request.path)
        if found is None:
            raise HandshakeError(404, "nothing is served at this path")
        route, path_params = found
        config = hub.config.for_route(route.options)
        upgrade = check_upgrade(request, origins=config.ws_origins)
        transport = self._transport
        connection = Connection(
            transport,
            upgrade,
            self._reader.head,
            loop=hub.loop,
            timers=hub.timers,
            limits=config.limits,
            deflate=config.deflate,
            client=_address(transport, "peername"),
            server=_address(transport, "sockname"),
            secure=hub.config.ssl_context is not None,
            root_path=hub.config.root_path,
            lifespan_state=hub.lifespan_state,
            extra_headers=hub.response_headers(),
            on_lost=hub.connection_lost,
        )
        ws = WebSocket._from_connection(connection, hub.app, path_params)
        hub.timers.cancel(self)
        hub.upgraded(self, connection)
        connection.start(ws, hub.app.open_websocket(ws, route, path_params), early)

    # Answering

    def _answer(self, request: Request, rest: bytes) -> None:
        self._phase = Phase.ANSWERING
        self._hub.timers.cancel(self)
        # A body has no meaning for GET, and what follows it cannot be found without reading it.
        if has_body(request) or not _keeps_alive(request):
            self._last_response = True
        else:
            self._pipelined += rest
        self._task = self._hub.loop.create_task(self._respond(request))

    async def _respond(self, request: Request) -> None:
        try:
            response = await self._hub.app.handle_http(request)
            status, headers = response.status_code, list(response.raw_headers)
            body = bytes(response.body)
        except Exception:
            log.exception('unexpected error at "%s"', printable(request.target))
            status, headers, body = 500, [], b"Internal Server Error"
        self._task = None
        self._log_request(request, status)
        self._send(
            http_response(
                status,
                [*headers, *self._hub.response_headers()],
                body,
                close=self._last_response,
                head_only=request.method == "HEAD",
            )
        )

    def _send(self, response: bytes) -> None:
        self._answered += 1
        self._transport.write(response)
        if self._last_response or (self._peer_done and not self._pipelined):
            self._leave()
        elif self._writable:
            self._next_request()
        else:
            # No further request is looked at before the peer has read its response.
            self._wait_for_reader()

    def _wait_for_reader(self) -> None:
        self._unsent = self._transport.get_write_buffer_size()
        self._set_deadline(self._hub.config.timeout_keep_alive)

    def _next_request(self) -> None:
        self._phase = Phase.READING
        self._heard = False
        self._reader = HeadReader(self._hub.config.limits)
        self._set_deadline(self._hub.config.timeout_keep_alive)
        pipelined = bytes(self._pipelined)
        self._pipelined.clear()
        if len(pipelined) >= MAX_PIPELINED:
            self._transport.resume_reading()
        if pipelined:
            self._read(pipelined)
        if self._peer_done and self._phase is Phase.READING:
            self._transport.close()

    def _refuse(self, error: HandshakeError) -> None:
        """Answer with ``error`` and close."""
        if self._hub.config.access_log:
            access_log.info(
                "%s refused with %d: %s", self._peer(), error.status, printable(error.message)
            )
        self._last_response = True
        self._transport.write(error_response(error))
        self._leave()

    def _leave(self) -> None:
        """Close once the peer has seen the last response."""
        self._phase = Phase.LEAVING
        self._pipelined.clear()
        transport = self._transport
        if self._peer_done or not transport.can_write_eof():
            transport.close()
        else:
            transport.write_eof()
            # It may have been stopped by pipelined bytes; what arrives now is thrown away.
            transport.resume_reading()
        self._unsent = 0
        self._hub.timers.schedule(self, LINGER)

    # Logging

    def _peer(self) -> str:
        address = _address(self._transport, "peername")
        return "-" if address is None else f"{address[0]}:{address[1]}"

    def _log_request(self, request: Request, status: int) -> None:
        if self._hub.config.access_log:
            phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
            line = f'"{printable(request.method)} {printable(request.target)}"'
            access_log.info("%s %s %d %s", self._peer(), line, status, phrase)


def _address(transport: asyncio.BaseTransport, which: str) -> tuple[str, int] | None:
    """One end of a connection; ``None`` on a Unix socket, which has no host and port."""
    address = transport.get_extra_info(which)
    return (address[0], address[1]) if isinstance(address, tuple) else None


def _keeps_alive(request: Request) -> bool:
    """Whether the connection persists after the response (RFC 9112 section 9.3)."""
    if request.http_version != "1.1":
        return False
    return not any(
        name == b"connection" and b"close" in value.lower().replace(b" ", b"").split(b",")
        for name, value in request.headers
    )
