"""The asynchronous face of the test client."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal
from urllib.parse import urlsplit

from fastws._connection import Connection
from fastws._timers import TimerWheel
from fastws.client_handshake import ClientHandshake, HandshakeRefused, parse_uri
from fastws.config import Config
from fastws.dialing import Exchange
from fastws.http_fields import HeaderPairs, normalize_headers
from fastws.limits import Limits
from fastws.testing.clock import Clock
from fastws.testing.errors import NotInTime, WebSocketDenialResponse
from fastws.testing.http import Reply, TestResponse, with_cookies
from fastws.testing.site import Site
from fastws.testing.websocket import TestWebSocket
from fastws.testing.wire import shown_bytes

__all__ = ["AsyncTestClient", "Connecting", "Settings"]

__tracebackhide__ = True
"""pytest shows the line of the test, none below it."""

# A test that does not receive is no peer that does not read: for that there is stall_reads().
_LIMITS = Limits(
    max_size=None,
    max_fragments=None,
    max_queue=2**20,
    max_queue_bytes=2**30,
    max_backpressure=2**40,
    write_timeout=None,
    ping_interval=None,
    # By the clock that tests move; close() has its own patience.
    close_timeout=1e9,
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a test client was made with: see :class:`fastws.testing.TestClient`."""

    app: Any
    base_url: str
    timeout: float
    raise_server_exceptions: bool
    headers: HeaderPairs | None
    client: tuple[str, int]
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("ws", "http") or not parts.hostname or parts.path.strip("/"):
            raise ValueError(
                f"base_url is {self.base_url!r}: expected ws://host or http://host, without a "
                "path; there is no TLS in memory, send X-Forwarded-Proto for a secure connection"
            )
        if not self.timeout > 0:
            raise ValueError(f"timeout is {self.timeout}: expected seconds, math.inf for no limit")

    @property
    def host(self) -> str:
        """The Host header."""
        return urlsplit(self.base_url).netloc

    def target(self, path: str) -> str:
        """The URL of a path."""
        if path.startswith("/"):
            return f"ws://{self.host}{path}"
        if path.startswith(("ws://", "http://")):
            return f"ws://{path.partition('://')[2]}"
        raise ValueError(f"the path is {path!r}: expected one that begins with /")


class AsyncTestClient:
    """A client of an application that is served in the running loop.

    Made by ``async with TestClient(app) as client``; the parameters are described there.
    """

    __test__ = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._site: Site | None = None
        self._websockets: list[TestWebSocket] = []
        self.leaks: list[str] = []
        """What was left running when the block ended, a sentence each: handlers that did not
        notice the end of their connection, and tasks."""

    @property
    def clock(self) -> Clock:
        """The loop's clock, as long as this client is open."""
        return self._open_site.clock

    @property
    def _open_site(self) -> Site:
        if self._site is None:
            raise RuntimeError(
                "the test client is not open: `async with TestClient(app) as client`"
            )
        return self._site

    async def _start(self, *, lifespan: bool = True) -> None:
        settings = self._settings
        # Nobody waits half a minute for a test's handlers; unless the test says so.
        graceful = None if settings.timeout == math.inf else settings.timeout
        options = {"timeout_graceful_shutdown": graceful, **settings.options}
        site = Site(settings.app, options, lifespan=lifespan, patience=settings.timeout)
        await site.start()
        self._site = site

    async def _stop(self, error: BaseException | None = None) -> None:
        site = self._open_site
        failure: BaseException | None = None
        for ws in tuple(self._websockets):
            try:
                await ws._leave(error)
            except Exception as found:
                failure = failure or found
        try:
            await site.end_handlers()
            await site.stop()
        finally:
            self._site = None
            self.leaks += site.leaks
        if error is None:
            if failure is not None:
                raise failure
            if self._settings.raise_server_exceptions:
                for visit in (*site.unended, site.elsewhere):
                    visit.raise_failure()

    # WebSockets

    def connect(
        self,
        path: str,
        *,
        subprotocols: Sequence[str] = (),
        headers: HeaderPairs | None = None,
        cookies: Mapping[str, str] | None = None,
        origin: str | None = None,
        compression: Literal["off", "shared", "dedicated"] | bool | str = "off",
        timeout: float | None = None,
    ) -> Connecting:
        """Open a WebSocket: ``async with client.connect("/ws") as ws``, or ``await`` it.

        The end of the block closes it with 1000, waits until the handler has ended, and raises
        what the handler has raised.

        Parameters:
            path: path and query.
            subprotocols: what to offer, in order of preference.
            headers: more headers, beside those of the client.
            cookies: for a Cookie header.
            origin: the Origin header.
            compression: whether to offer permessage-deflate, and with which context takeover.
            timeout: seconds for each receive of this WebSocket; ``None`` is the client's.

        Raises:
            WebSocketDenialResponse: from the ``await``: the application refused.
            NotInTime: likewise: it neither accepted nor refused in time.
            Exception: likewise: what the handler raised, if it failed.
            ValueError: at the call: an argument must not be sent.
        """
        settings = self._settings
        config = Config.from_options(None, {"ws_per_message_deflate": compression})
        own, more = normalize_headers(settings.headers), with_cookies(headers, cookies)
        names = {name.lower() for name, _ in more}
        handshake = ClientHandshake(
            settings.target(path),
            deflate=config.deflate,
            subprotocols=subprotocols,
            headers=[header for header in own if header[0].lower() not in names] + more,
            origin=origin,
        )
        patience = settings.timeout if timeout is None else timeout
        return Connecting(self, handshake, config, settings.target(path), patience)

    async def _connect(
        self, handshake: ClientHandshake, config: Config, url: str, patience: float
    ) -> TestWebSocket:
        site = self._open_site
        opened: list[TestWebSocket] = []

        def begin(transport: asyncio.Transport) -> None:
            opened.append(self._begin(transport, handshake, config, url, patience))

        exchange = Exchange(handshake, begin, "the application")
        address = parse_uri(url)
        visit, transport = site.connect(
            urlsplit(url).path, exchange, self._settings.client, (address.host, address.port)
        )
        try:
            await site.clock.within(self._settings.timeout, exchange.finish())
        except HandshakeRefused as refusal:
            if self._settings.raise_server_exceptions:
                visit.raise_failure()
            raise WebSocketDenialResponse(
                refusal.status,
                f"the application refused {urlsplit(url).path}: {shown_bytes(refusal.body)}",
                refusal.headers,
                refusal.body,
            ) from None
        except TimeoutError:
            exchange.abort()
            if self._settings.raise_server_exceptions:
                visit.raise_failure()
            raise NotInTime(
                f"{urlsplit(url).path} was neither accepted nor refused within "
                f"{self._settings.timeout:g} s.\n"
                f"{visit.handler_state}"
            ) from None
        except BaseException:
            exchange.abort()
            if self._settings.raise_server_exceptions:
                visit.raise_failure()
            raise
        ws = opened[0]
        ws._visit, ws._transport = visit, transport
        self._websockets.append(ws)
        return ws

    def _begin(
        self,
        transport: asyncio.Transport,
        handshake: ClientHandshake,
        config: Config,
        url: str,
        patience: float,
    ) -> TestWebSocket:
        loop = asyncio.get_running_loop()
        connection = Connection(
            transport,
            None,
            handshake.head,
            # Its receives wait in real time.
            timers=TimerWheel(loop, _RealTime(self.clock)),
            limits=_LIMITS,
            client=transport.get_extra_info("sockname"),
            server=transport.get_extra_info("peername"),
        )
        ws = TestWebSocket(connection, self, url, patience)
        inflater, deflater, threshold = handshake.codecs()
        connection.start_client(
            handshake.rest,
            subprotocol=handshake.subprotocol,
            inflater=inflater,
            deflater=deflater,
            threshold=threshold,
        )
        return ws

    # Plain HTTP

    async def get(self, path: str, *, headers: HeaderPairs | None = None) -> TestResponse:
        """The response to a GET; else as :meth:`request`."""
        return await self.request("GET", path, headers=headers)

    async def head(self, path: str, *, headers: HeaderPairs | None = None) -> TestResponse:
        """The response to a HEAD; else as :meth:`request`."""
        return await self.request("HEAD", path, headers=headers)

    async def request(
        self, method: str, path: str, *, headers: HeaderPairs | None = None
    ) -> TestResponse:
        """The response to a plain request, on a connection of its own.

        Parameters:
            method: such as ``"GET"``.
            path: path and query.
            headers: more headers, beside those of the client.

        Raises:
            NotInTime: there is none in time.
            Exception: what the handler raised.
        """
        settings, site = self._settings, self._open_site
        address = parse_uri(settings.target(path))
        own = normalize_headers(settings.headers) + normalize_headers(headers)
        reply = Reply(method, address.resource, settings.host, own)
        exchange = Exchange(reply, lambda transport: transport.close(), "the application")
        visit, _ = site.connect(path, exchange, settings.client, (address.host, address.port))
        try:
            await site.clock.within(settings.timeout, exchange.finish())
        except TimeoutError:
            raise NotInTime(
                f"{method} {path} was not answered within {settings.timeout:g} s"
            ) from None
        finally:
            exchange.abort()
        if settings.raise_server_exceptions:
            visit.raise_failure()
        return reply.response

    # Time

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` go by, in no time: see :class:`fastws.testing.Clock`."""
        await self.clock.advance(seconds)

    async def settle(self) -> None:
        """Let happen what can happen without waiting."""
        await self.clock.settle()


class Connecting:
    """What :meth:`AsyncTestClient.connect` returns."""

    def __init__(
        self,
        client: AsyncTestClient,
        handshake: ClientHandshake,
        config: Config,
        url: str,
        patience: float,
    ) -> None:
        self._client = client
        self._arguments = handshake, config, url, patience
        self._ws: TestWebSocket | None = None

    def __await__(self) -> Generator[Any, Any, TestWebSocket]:
        return self._client._connect(*self._arguments).__await__()

    async def __aenter__(self) -> TestWebSocket:
        self._ws = await self
        return self._ws

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._ws is not None
        await self._ws._leave(error)


class _RealTime:
    """A ``call_later()`` that goes by real time."""

    def __init__(self, clock: Clock) -> None:
        self.call_later = clock.call_in_real_time
