"""The HTTP side of a connection: until its upgrade, or until it closes.

Reads one request at a time, answers plain requests, and hands an accepted upgrade over to the
compiled connection. The rules of requests and handshakes are in ``http_head.py`` and
``handshake.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from enum import Enum, auto
from typing import cast

from fastws._connection import Connection
from fastws.exceptions import HandshakeError, HTTPException
from fastws.handshake import check_upgrade, wants_upgrade
from fastws.http_head import HeadReader, error_response, has_body, http_response, parse_request
from fastws.http_head import Request as RequestHead
from fastws.hub import Hub
from fastws.logs import log, printable
from fastws.proxies import Client, PeerName
from fastws.requests import Request, build_scope
from fastws.responses import Response
from fastws.responses import error_response as http_error_response
from fastws.tls_handshake import handshake
from fastws.websocket import WebSocket

__all__ = ["HTTPProtocol"]

LINGER = 2.0
"""Seconds that a connection goes on reading after its last response. Closing with unread bytes
sends a RST, which can destroy that response on its way (RFC 9112 section 9.6)."""

MAX_PIPELINED = 64 * 1024
"""Bytes kept that arrived behind a request still being answered; reading stops there."""

MAX_TURNED_AWAY = 32
"""Connections above the limit that are told so with a 503; more than that are cut."""

MAX_TURNED_AWAY_PER_ADDRESS = 4
"""The same for one address, so that nobody fills the server with refusals."""

STOPPING_HANDSHAKE_TIMEOUT = 1.0
"""Seconds that a TLS handshake may still take once the server stops."""


class Phase(Enum):
    """What a connection that was not upgraded is doing."""

    SECURING = auto()
    """The TLS handshake is under way."""
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
        self._link: asyncio.Transport  # the TCP connection, where the transport is TLS
        self._phase = Phase.READING
        self._peername: PeerName = None
        self._client: Client  # who the peer is, or whom its latest request comes from
        self._counted: tuple[str, int] | None = None  # the address that this counts for
        self._refusal: str | None = None  # why there is no place for this connection
        self._heard = False  # whether a part of the awaited request has arrived
        self._answered = 0  # responses sent
        self._task: asyncio.Task[None] | None = None
        self._pipelined = bytearray()
        self._last_response = False
        self._is_probe = False  # the latest request was for one of the server's own pages
        self._peer_done = False  # the peer has sent its EOF
        self._writable = True
        self._goes_on = False  # _next_request() is at work
        self._is_next_due = False  # and has another request to begin
        self._unsent = 0  # bytes that were in the write buffer when last looked at

    # Called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's.
        self._transport = self._link = cast(asyncio.Transport, transport)
        hub = self._hub
        hub.requests.add(self)
        if hub.on_accepted is not None:
            hub.on_accepted()
        self._peername = transport.get_extra_info("peername")
        self._client = hub.proxies.client_of(self._peername, {}, secure=hub.tls is not None)
        if self._is_far_too_many():
            self._transport.abort()
        elif hub.tls is not None:
            self._phase = Phase.SECURING
            self._task = handshake(
                hub.loop,
                self._transport,
                self,
                hub.tls.context,
                hub.config.ssl_handshake_timeout,
                on_done=self._secured,
            )
        else:
            self._begin()

    def _is_far_too_many(self) -> bool:
        """Count this connection, whatever becomes of it; whether not even a refusal is due."""
        hub = self._hub
        if hub.capacity is not None and len(hub) > hub.capacity:
            self._refusal = "the server has all the connections it may have"
            if len(hub) - hub.capacity > MAX_TURNED_AWAY:
                return True
        # A trusted proxy's connection counts for its client, who is not known before the request.
        if hub.proxies.trusts(self._peername):
            return False
        self._counted = self._client.address
        above = hub.addresses.add(self._counted)
        if above:
            self._refusal = "this address has all the connections it may have"
        return above > MAX_TURNED_AWAY_PER_ADDRESS

    def _secured(self, transport: asyncio.Transport | None) -> None:
        """The TLS handshake is done, with this transport, or has failed."""
        self._task = None
        if transport is None:
            # The transport tells nobody about a connection that never was one.
            self.connection_lost(None)
            return
        self._transport = transport
        self._phase = Phase.READING
        self._begin()
        early = bytes(self._pipelined)
        self._pipelined.clear()
        if early:
            self.data_received(early)

    def _begin(self) -> None:
        """Wait for the first request, or turn the peer away."""
        hub = self._hub
        if hub.draining:
            # Accepted just before the listening sockets were closed.
            self._refuse(HandshakeError(503, "the server is stopping"))
        elif self._refusal is not None:
            self._refuse(HandshakeError(503, self._refusal))
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
        elif self._phase is Phase.SECURING:
            # The end of the handshake and the beginning of the request came together.
            self._pipelined += data

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
        hub = self._hub
        hub.timers.cancel(self)
        if self._task is not None:
            self._task.cancel()
        hub.addresses.remove(self._counted)
        self._counted = None
        hub.closed(self)

    # Called by the timer wheel

    def on_timer(self) -> None:
        """The deadline of the present phase has passed."""
        if self._phase is Phase.SECURING:
            self._transport.abort()
            return
        if self._phase is Phase.READING:
            if self._heard:
                self._refuse(HandshakeError(408, "the request took too long to arrive"))
            else:
                self._transport.close()
            return
        # A response on its way: give up on a peer that takes nothing, not on a slow one.
        unsent = self._count_unsent()
        if unsent and (unsent < self._unsent or not self._unsent):
            self._unsent = unsent
            self._set_deadline(self._hub.config.timeout_keep_alive)
        elif unsent or self._transport.is_closing():
            # TLS, once closed, waits for the peer to say so too.
            self._transport.abort()
        else:
            self._transport.close()

    # Called by the server

    def drain(self) -> None:
        """The server stops: answer what is being worked on, then close."""
        if self._is_probe and self._phase is Phase.READING and not self._heard:
            # It is to hear from the health page that the server stops.
            self._hub.keep_probe(self)
            return
        self._last_response = True
        if self._phase is Phase.SECURING:
            self._set_deadline(STOPPING_HANDSHAKE_TIMEOUT)
        elif self._phase is Phase.READING:
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
            self._client = self._hub.proxies.client_of(
                self._peername, request.fields, secure=self._hub.tls is not None
            )
            page = self._hub.own_page(request)
            if page is None and self._hub.draining:
                raise HandshakeError(503, "the server is stopping")
            if page is None and wants_upgrade(request):
                self._upgrade(request, rest)
            else:
                self._answer(request, rest, page)
        except HandshakeError as error:
            self._refuse(error)
        except Exception:
            log.exception("unexpected error while reading a request")
            self._refuse(HandshakeError(500, "Internal Server Error"))

    def _upgrade(self, head: RequestHead, early: bytes) -> None:
        """Hand the connection over if the opening handshake keeps to the rules.

        ``early`` is what arrived behind the request: frames of a peer that did not wait for the
        response. If the handshake is refused it is thrown away, for it is neither a request nor
        frames of a connection that exists.
        """
        hub = self._hub
        found = hub.app.find_websocket(head.path)
        if found is None:
            raise HandshakeError(404, "nothing is served at this path")
        route, path_params = found
        config = hub.config.for_route(route.options)
        client = self._client
        upgrade = check_upgrade(head, origins=config.ws_origins, secure=client.secure)
        if config.ws_subprotocols:
            spoken = tuple(name for name in upgrade.subprotocols if name in config.ws_subprotocols)
            upgrade = upgrade._replace(subprotocols=spoken)
        if self._counted is None:
            self._counted = client.address
            if hub.addresses.add(client.address):
                raise HandshakeError(503, "this address has all the connections it may have")
        transport = self._transport
        connection = Connection(
            transport,
            upgrade,
            self._reader.head,
            timers=hub.timers,
            limits=config.limits,
            deflate=config.deflate,
            # A TCP transport knows its peer, and makes no object of it before somebody asks.
            client=None if hub.tls is None and client.address == self._peername else client.address,
            server=hub.address_of(transport),
            secure=bool(client.secure),
            root_path=config.root_path,
            lifespan_state=hub.lifespan_state,
            extra_headers=hub.response_headers(),
            strict_send=hub.app.strict_send,
            on_answered=hub.on_answered,
            on_lost=hub.on_lost,
        )
        ws = WebSocket._from_connection(connection, hub.app, path_params)
        try:
            handler = hub.app.open_websocket(ws, route, path_params)
        except HTTPException as error:
            self._last_response = True
            self._respond(head, http_error_response(error))
            return
        hub.timers.cancel(self)
        # From here on it is the connection that counts for its client.
        self._counted = None
        hub.upgraded(self, connection)
        connection.start(
            ws,
            handler,
            early,
            cancel_on_disconnect=route.cancel_on_disconnect,
            name=route.task_name,
        )

    # Answering

    def _answer(self, head: RequestHead, rest: bytes, page: Response | None) -> None:
        """Answer with ``page``, one of the server's own, or let the application answer."""
        self._phase = Phase.ANSWERING
        self._hub.timers.cancel(self)
        # A body has no meaning for GET, and what follows it cannot be found without reading it.
        if has_body(head) or head.http_version != "1.1" or _names_close(head.headers):
            self._last_response = True
        else:
            self._pipelined += rest
        self._is_probe = page is not None
        if page is not None:
            self._respond(head, page)
        else:
            self._task = self._hub.loop.create_task(self._work(head))

    async def _work(self, head: RequestHead) -> None:
        """Let the application answer; runs as a task of its own."""
        hub, transport = self._hub, self._transport
        scope = build_scope(
            "http",
            head,
            client=self._client.address,
            server=hub.address_of(transport),
            secure=bool(self._client.secure),
            root_path=hub.config.root_path,
            state=hub.lifespan_state,
        )
        try:
            response = await hub.app.handle_http(Request(scope))
        except Exception:
            log.exception('the application failed at "%s"', printable(head.target))
            response = http_error_response(HTTPException(500))
        self._task = None
        self._respond(head, response)

    def _respond(self, head: RequestHead, response: Response) -> None:
        """Send ``response``, then go on with the next request or close."""
        if _names_close(response.raw_headers):
            self._last_response = True
        try:
            data = self._build(head, response)
        except ValueError:
            log.exception('the response to "%s" cannot be sent', printable(head.target))
            response = http_error_response(HTTPException(500))
            data = self._build(head, response)
        self._hub.responded(self._client.address, head, response.status_code)
        self._send(data)

    def _build(self, head: RequestHead, response: Response) -> bytes:
        # Whether the connection goes on is this module's to say, and http_response writes it.
        headers = [header for header in response.raw_headers if header[0] != b"connection"]
        headers += self._hub.response_headers()
        return http_response(
            response.status_code,
            headers,
            response.body,
            close=self._last_response,
            head_only=head.method == "HEAD",
        )

    def _send(self, response: bytes) -> None:
        self._answered += 1
        self._write(response)
        if self._last_response or (self._peer_done and not self._pipelined):
            self._leave()
        elif self._writable:
            self._next_request()
        else:
            # No further request is looked at before the peer has read its response.
            self._wait_for_reader()

    def _count_unsent(self) -> int:
        unsent = self._transport.get_write_buffer_size()
        if self._link is not self._transport:
            # What TLS has encrypted is no longer its own.
            unsent += self._link.get_write_buffer_size()
        return unsent

    def _wait_for_reader(self) -> None:
        self._unsent = self._count_unsent()
        self._set_deadline(self._hub.config.timeout_keep_alive)

    def _next_request(self) -> None:
        """Begin the next request with what is there of it."""
        self._is_next_due = True
        if self._goes_on:
            # One that came behind others was answered at once: the next turn below is for the one
            # behind it. A call for each would nest as deep as a peer likes.
            return
        self._goes_on = True
        try:
            while self._is_next_due and not self._transport.is_closing():
                self._is_next_due = False
                self._begin_request()
        finally:
            self._goes_on = False

    def _begin_request(self) -> None:
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
        self._hub.refused(self._client.address, self._reader.head, error)
        self._last_response = True
        self._write(error_response(error, self._hub.response_headers()))
        self._leave()

    def _write(self, response: bytes) -> None:
        # uvloop raises on a transport that has failed and whose loss is not reported yet.
        if not self._transport.is_closing():
            self._transport.write(response)

    def _leave(self) -> None:
        """Close once the peer has seen the last response."""
        self._phase = Phase.LEAVING
        self._pipelined.clear()
        transport = self._transport
        if transport.is_closing():
            return
        if self._peer_done or not transport.can_write_eof():
            transport.close()
        else:
            try:
                transport.write_eof()
            except OSError:
                # The peer is gone already.
                transport.abort()
                return
            # It may have been stopped by pipelined bytes; what arrives now is thrown away.
            transport.resume_reading()
        self._unsent = 0
        self._hub.timers.schedule(self, LINGER)


def _names_close(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether these headers, names in lower case, end the connection (RFC 9112 section 9.6)."""
    return any(
        name == b"connection"
        and b"close" in (option.strip(b" \t") for option in value.lower().split(b","))
        for name, value in headers
    )
