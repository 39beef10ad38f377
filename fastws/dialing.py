"""From a name to a transport: addresses tried side by side, TLS, a proxy's tunnel.

Nothing stays open when one of these raises or is cancelled.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Protocol, cast

from fastws.client_handshake import URI
from fastws.exceptions import HandshakeError
from fastws.tunnel import Proxy, ProxyHandshake

__all__ = ["Deadline", "Exchange", "connect_first", "default_ssl_context", "dial", "open_tcp"]

ATTEMPT_DELAY = 0.25
"""Seconds that one address is tried before the next one is tried beside it (RFC 8305 section 5)."""

REFUSAL_TIME = 1.0
"""Seconds that the body of a refusal has to follow its head."""

Found = tuple[int, int, int, str, Any]
"""What ``getaddrinfo()`` says of one address."""


@functools.cache
def default_ssl_context() -> ssl.SSLContext:
    """The context of a ``wss:`` connection that was given none: it verifies certificate and name.

    Made once, since the system's authorities take milliseconds to load.
    """
    context = ssl.create_default_context()
    # A WebSocket opens with HTTP/1.1: a server that prefers HTTP/2 must not choose that.
    context.set_alpn_protocols(["http/1.1"])
    return context


class Deadline:
    """Bounds a block in time: ``TimeoutError`` leaves it after so many seconds.

    ``asyncio.timeout()`` for Python 3.10 too.

    Parameters:
        seconds: from the beginning of the block; ``None`` sets no bound.
        message: what the ``TimeoutError`` says.
    """

    def __init__(self, seconds: float | None, message: str) -> None:
        self._seconds = seconds
        self._message = message
        self._expired = False
        self._handle: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        # Any: Python 3.10's tasks do not count who cancels them.
        task: Any = asyncio.current_task()
        self._task = task
        self._cancelling = self._task.cancelling() if self._counts() else 0
        if self._seconds is not None:
            loop = asyncio.get_running_loop()
            self._handle = loop.call_later(self._seconds, self._expire)

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            self._handle.cancel()
        if not self._expired:
            return
        # Whoever else cancelled the task in the meantime is not to be denied.
        others = self._counts() and self._task.uncancel() > self._cancelling
        if kind is asyncio.CancelledError and not others:
            raise TimeoutError(self._message) from None

    def _counts(self) -> bool:
        return hasattr(self._task, "uncancel")


# TCP


async def open_tcp(host: str, port: int) -> socket.socket:
    """Connect to a host: see :func:`connect_first`.

    Raises:
        OSError: the name cannot be resolved, or no address answers.
    """
    # Not by the loop's create_connection(): uvloop's tries one address after the other.
    loop = asyncio.get_running_loop()
    return await connect_first(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))


async def connect_first(found: Iterable[Found]) -> socket.socket:
    """Connect to the first of some addresses that answers ("happy eyeballs", RFC 8305).

    They are tried in the resolver's order, IPv6 and IPv4 in turn, each a quarter of a second after
    the one before or as soon as that has failed.

    Raises:
        OSError: no address answers: the first one's error.
    """
    loop = asyncio.get_running_loop()
    waiting = deque(_in_turn(dict.fromkeys(found)))
    running: set[asyncio.Task[None]] = set()
    connected: list[socket.socket] = []
    errors: list[BaseException] = []
    winner: socket.socket | None = None
    try:
        while winner is None:
            if waiting:
                running.add(loop.create_task(_connect(waiting.popleft(), connected)))
            elif not running:
                raise errors[0]
            done, running = await asyncio.wait(
                running,
                timeout=ATTEMPT_DELAY if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            errors += [error for task in done if (error := task.exception()) is not None]
            winner = connected[0] if connected else None
    finally:
        # One that is cancelled closes its socket; one that was done before has left it here.
        for task in running:
            task.cancel()
        for late in connected:
            if late is not winner:
                late.close()
        if running:
            await asyncio.gather(*running, return_exceptions=True)
    return winner


def _in_turn(found: Iterable[Found]) -> Iterable[Found]:
    """The addresses with their families in turn, beginning with the first one's."""
    families: dict[int, deque[Found]] = {}
    for address in found:
        families.setdefault(address[0], deque()).append(address)
    while families:
        for family, addresses in tuple(families.items()):
            yield addresses.popleft()
            if not addresses:
                del families[family]


async def _connect(found: Found, connected: list[socket.socket]) -> None:
    family, kind, protocol, _, address = found
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    connected.append(sock)


# HTTP


class Handshake(Protocol):
    """Either of the two exchanges that begin a connection, sans-I/O."""

    request: bytes
    error: HandshakeError | None

    @property
    def refused(self) -> bool: ...
    def feed(self, data: bytes) -> bool: ...
    def give_up(self) -> bool: ...


class Exchange(asyncio.Protocol):
    """A request and its answer on a fresh transport.

    Parameters:
        handshake: what to send, and what judges the answer.
        on_success: called, within the callback that read the last byte of it, with the transport
            when the answer is the one hoped for: it takes the transport over.
        peer: who answers, for messages: ``"the server"``.
    """

    def __init__(
        self,
        handshake: Handshake,
        on_success: Callable[[asyncio.Transport], object],
        peer: str,
    ) -> None:
        self._handshake = handshake
        self._on_success = on_success
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._patience: asyncio.TimerHandle | None = None
        self._done: asyncio.Future[None] = self._loop.create_future()
        self.transport: asyncio.Transport | None = None

    async def finish(self) -> None:
        """Wait for the answer.

        Raises:
            HandshakeError: it is another one.
            OSError: TCP was lost before it came.
        """
        try:
            await self._done
        finally:
            if self._patience is not None:
                self._patience.cancel()

    def abort(self) -> None:
        """Cut TCP; whoever waits for the answer is cancelled."""
        if not self._done.cancel() and not self._done.cancelled():
            # Nobody may have asked for it.
            self._done.exception()
        if self.transport is not None:
            self.transport.abort()

    def _feed(self, data: bytes) -> None:
        handshake = self._handshake
        if self._done.done() or self.transport is None:
            return
        try:
            if handshake.feed(data):
                self._conclude()
            elif handshake.refused and self._patience is None:
                self._patience = self._loop.call_later(REFUSAL_TIME, self._stop_waiting)
        except Exception as error:
            self._done.set_exception(error)

    def _stop_waiting(self) -> None:
        if not self._done.done():
            self._handshake.give_up()
            self._conclude()

    def _conclude(self) -> None:
        assert self.transport is not None
        if self._handshake.error is not None:
            self._done.set_exception(self._handshake.error)
        else:
            self._on_success(self.transport)
            self._done.set_result(None)

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No check: uvloop's transports are not asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._handshake.request)

    def data_received(self, data: bytes) -> None:
        self._feed(data)

    def eof_received(self) -> None:
        if self._handshake.refused:
            self._feed(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._handshake.refused:
            self._stop_waiting()
        if not self._done.done():
            self._done.set_exception(
                exc or ConnectionResetError(f"{self._peer} closed TCP before it answered")
            )


# All of it


async def dial(
    uri: URI,
    exchange: Exchange,
    *,
    ssl_context: ssl.SSLContext | None,
    server_hostname: str | None,
    proxy: Proxy | None,
    proxy_ssl: ssl.SSLContext | None,
    user_agent: str | None,
) -> None:
    """Reach the host of a URI, and begin the exchange with it.

    Parameters:
        uri: where to.
        exchange: gets the transport; the caller waits for it, and aborts it should anything fail.
        ssl_context: for TLS with the host; ``None`` for none.
        server_hostname: the name that its certificate must have; ``None`` is the host's.
        proxy: opens a tunnel to the host; ``None`` connects to it directly.
        proxy_ssl: for TLS with the proxy; ``None`` is the default context.
        user_agent: for the proxy.

    Raises:
        OSError: the host or the proxy cannot be reached, or TLS fails.
        HandshakeError: the proxy opens no tunnel.
    """
    loop = asyncio.get_running_loop()
    name = (server_hostname or uri.host) if ssl_context is not None else None
    if proxy is None:
        sock = await open_tcp(uri.host, uri.port)
        await _over(sock, exchange, ssl_context, name)
        return
    sock = await open_tcp(proxy.host, proxy.port)
    tunnel = Exchange(ProxyHandshake(proxy, uri, user_agent), _pause, "the proxy")
    try:
        context = (proxy_ssl or default_ssl_context()) if proxy.secure else None
        await _over(sock, tunnel, context, proxy.host if proxy.secure else None)
        await tunnel.finish()
        transport = tunnel.transport
        assert transport is not None
        if ssl_context is not None:
            try:
                upgraded = await loop.start_tls(
                    transport, exchange, ssl_context, server_hostname=name
                )
            except TypeError as error:
                # asyncio's own loop before Python 3.11.
                raise OSError(
                    f"this event loop cannot speak TLS inside of TLS, as {uri.host} behind the"
                    f" proxy {proxy.url} needs: use uvloop, or an http:// proxy"
                ) from error
            assert upgraded is not None
            transport = upgraded
        else:
            transport.set_protocol(exchange)
            transport.resume_reading()
        exchange.connection_made(transport)
    except BaseException:
        tunnel.abort()
        raise


def _pause(transport: asyncio.Transport) -> None:
    """Leave to the next protocol what comes through the tunnel."""
    transport.pause_reading()


async def _over(
    sock: socket.socket, exchange: Exchange, context: ssl.SSLContext | None, name: str | None
) -> None:
    try:
        await asyncio.get_running_loop().create_connection(
            lambda: exchange, sock=sock, ssl=context, server_hostname=name
        )
    except BaseException:
        exchange.abort()
        raise
