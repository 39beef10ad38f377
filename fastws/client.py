"""The client: :func:`connect`, which opens a WebSocket."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import platform
import ssl as tls
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, NoReturn
from urllib.parse import urljoin, urlsplit

from fastws._connection import Connection
from fastws.client_handshake import ClientHandshake, HandshakeRefused, parse_uri
from fastws.client_socket import ClientWebSocket, wheel_of
from fastws.config import OPTIONS, Config, ConfigError
from fastws.dialing import Deadline, Exchange, default_ssl_context, dial
from fastws.exceptions import HandshakeError
from fastws.http_fields import HeaderPairs, normalize_headers, shown
from fastws.options import Option
from fastws.reconnect import Backoff, is_transient, retry_after
from fastws.tunnel import Proxy, parse_proxy, proxy_from_environment

__all__ = ["CLIENT_OPTIONS", "ClientWebSocket", "HandshakeRefused", "connect"]

log = logging.getLogger("fastws.client")

REDIRECTS = {301, 302, 303, 307, 308}

_PRIVATE_HEADERS = {b"authorization", b"cookie"}
"""What a redirect to another origin does not get."""

_SAME_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}

_GROUPS = {"queue", "sending", "liveness", "compression"}
_ALSO = {"limit_message_rate", "max_header_line", "max_header_count", "max_header_size"}
# These go by the names of arguments of their own.
_NAMED = {"ws_open_timeout": "open_timeout", "ws_per_message_deflate": "compression"}

CLIENT_OPTIONS: Mapping[str, Option] = {
    option.keyword: option
    for option in OPTIONS
    if (option.group in _GROUPS or option.keyword in _ALSO)
    and option.keyword not in {"ws_accept_timeout", *_NAMED}
}
"""The server's options that a client has too, by keyword."""


def _user_agent() -> str:
    from fastws import __version__

    return f"fastws/{__version__} Python/{platform.python_version()}"


class connect:
    """Open a WebSocket as a client (RFC 6455 section 4.1).

    In a block, which closes it::

        async with connect("wss://example.org/chat", subprotocols=["chat"]) as ws:
            await ws.send_text("hello")
            print(await ws.receive_text())

    or by ``ws = await connect(...)``: then call ``await ws.close()`` at the end. Or in a loop that
    connects again and again::

        async for ws in connect("wss://example.org/prices"):
            async for price in ws:
                ...

    Leaving the block closes with 1000, with 1001 if the task is being cancelled, and with 1011
    after another exception, or the code that the exception stands for in a server's handler; it
    waits for the closing handshake, at most ``ws_close_timeout``.

    The loop's body runs once for each connection, which is closed at the end of it if it is open.
    Before each further attempt there is a wait, see :class:`fastws.reconnect.Backoff`; a refusal's
    Retry-After makes it longer. An error that ``retry`` does not hold for ends the loop. Leaving
    it by ``break``, ``return`` or an exception starts to close the connection, but does not wait.

    Parameters:
        uri: ``ws://host[:port]/path?query`` or ``wss://…``.
        subprotocols: what to offer, in order of preference; ``ws.subprotocol`` is the server's
            choice.
        headers: more headers for the request, as pairs or a mapping.
        origin: the Origin header, which a client other than a browser need not send.
        compression: offers permessage-deflate (RFC 7692): ``"dedicated"`` (or ``True``) keeps a
            compression window for the connection, ``"shared"`` starts each message afresh.
        ssl: the TLS of a ``wss:`` URI; ``None`` and ``True`` stand for the system's authorities,
            with certificate and name verified.
        server_hostname: the name that the certificate must have, if not the URI's.
        proxy: the URL of an HTTP proxy, ``http://[user:password@]host:port`` or ``https://…``;
            ``True`` takes it from the environment (``https_proxy``, ``no_proxy`` and so on, see
            :func:`fastws.tunnel.proxy_from_environment`); ``None`` connects directly.
        proxy_ssl: the TLS of an ``https:`` proxy, in the place of the default.
        max_redirects: responses with 301, 302, 303, 307 or 308 to follow one after the other.
            None leads from ``wss:`` to ``ws:``; another origin gets no Authorization and no Cookie
            header.
        open_timeout: for all of it, from the name's resolution to the server's 101: seconds, a
            text such as ``"500ms"``, or ``None`` for no limit.
        user_agent: the User-Agent header; ``None`` sends none.
        reconnect_delay: the bound of the first wait of the loop; each is drawn from zero to its
            bound, and the bound doubles with every failure.
        reconnect_max_delay: the largest bound.
        retry: whether the loop goes on after an exception of an attempt; see
            :func:`fastws.reconnect.is_transient`.
        options: limits, by the names of the server's options: ``ws_max_size="4MiB"``,
            ``ws_ping_interval=None``, ``ws_close_timeout=5``, … Those of ``CLIENT_OPTIONS``.

    Raises:
        ValueError: at the call: the URI, a header, a subprotocol, the proxy or an option
            (``ConfigError``) is not one.
        HandshakeRefused: from the ``await``, as all that follow: the server, or the proxy,
            answered with another response; it has ``status``, ``headers`` and ``body``.
        HandshakeError: the server's answer breaks the protocol, or redirects do not end.
        TimeoutError: the time was over.
        OSError: the server cannot be reached, or TLS fails (``ssl.SSLError``).
    """

    def __init__(
        self,
        uri: str,
        *,
        subprotocols: Sequence[str] = (),
        headers: HeaderPairs | None = None,
        origin: str | None = None,
        compression: Literal["off", "shared", "dedicated"] | bool | str = "off",
        ssl: tls.SSLContext | bool | None = None,
        server_hostname: str | None = None,
        proxy: str | Literal[True] | None = True,
        proxy_ssl: tls.SSLContext | None = None,
        max_redirects: int = 5,
        open_timeout: float | str | None = 10.0,
        user_agent: str | None = "",
        reconnect_delay: float | str = 1.0,
        reconnect_max_delay: float | str = 60.0,
        retry: Callable[[Exception], bool] = is_transient,
        **options: object,
    ) -> None:
        # Until all is well, so that a call that raises is not complained about twice.
        self._used = True
        self._ws: ClientWebSocket | None = None
        self._uri = uri
        self._config = _client_config(options, compression=compression, open_timeout=open_timeout)
        self._subprotocols = tuple(_texts("subprotocols", subprotocols))
        self._origin = origin
        self._user_agent = _user_agent() if user_agent == "" else user_agent
        self._headers = normalize_headers(headers)
        if self._user_agent is not None and b"user-agent" not in _names(self._headers):
            self._headers += normalize_headers([("User-Agent", self._user_agent)])
        self._ssl = _check_ssl(ssl, uri)
        self._server_hostname = server_hostname
        self._proxy = parse_proxy(proxy) if isinstance(proxy, str) else proxy
        self._proxy_ssl = proxy_ssl
        if max_redirects < 0:
            raise ValueError(f"max_redirects is {max_redirects}: expected 0 or more")
        self._max_redirects = max_redirects
        delay = _like("ws_close_timeout", "reconnect_delay", reconnect_delay)
        self._delays = delay, _like("ws_close_timeout", "reconnect_max_delay", reconnect_max_delay)
        self._retry = retry
        self._handshake(uri, self._headers)
        self._used = False

    # Three ways to use it

    def __await__(self) -> Generator[Any, Any, ClientWebSocket]:
        return self._open().__await__()

    async def __aenter__(self) -> ClientWebSocket:
        if self._ws is not None:
            raise RuntimeError("this connect() is in use by another block: call connect() again")
        self._ws = await self._open()
        return self._ws

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._ws is not None
        ws, self._ws = self._ws, None
        await ws._leave(error)

    async def __aiter__(self) -> AsyncIterator[ClientWebSocket]:
        loop = asyncio.get_running_loop()
        backoff = Backoff(*self._delays)
        while True:
            try:
                ws = await self._open()
            except Exception as error:
                if not self._retry(error):
                    raise
                delay = backoff.next_delay(retry_after(error))
                log.info("%s: %s; next attempt in %.1f s", self._uri, _said(error), delay)
            else:
                opened = loop.time()
                try:
                    yield ws
                finally:
                    await ws._leave(None)
                backoff.lasted(loop.time() - opened)
                delay = backoff.next_delay()
                log.info(
                    "%s: ended with %s; next attempt in %.1f s", self._uri, ws.close_code, delay
                )
            await asyncio.sleep(delay)

    # Ways not to

    def __enter__(self) -> NoReturn:
        raise TypeError("connect() is asynchronous: write `async with connect(...) as ws:`")

    def __exit__(self, *_: object) -> None: ...

    def __getattr__(self, name: str) -> NoReturn:
        if not name.startswith("_") and hasattr(ClientWebSocket, name):
            raise AttributeError(
                f"connect() has not been awaited, so there is no {name} yet: write "
                "`ws = await connect(...)` or `async with connect(...) as ws:`"
            )
        raise AttributeError(f"connect() has no attribute {name!r}")

    def __del__(self) -> None:
        if not self.__dict__.get("_used", True):
            import warnings

            warnings.warn(
                f"connect({self._uri!r}) was never awaited: write `ws = await connect(...)`, "
                "`async with connect(...) as ws:` or `async for ws in connect(...):`",
                RuntimeWarning,
                source=self,
                stacklevel=2,
            )

    # Connecting

    async def _open(self) -> ClientWebSocket:
        """One attempt, redirects included."""
        self._used = True
        uri, headers = self._uri, self._headers
        timeout = self._config.ws_open_timeout
        message = f"{uri} was not opened within {timeout} s: open_timeout moves this limit"
        with Deadline(timeout, message):
            for redirects in range(self._max_redirects + 1):
                try:
                    return await self._reach(uri, headers)
                except HandshakeRefused as refusal:
                    target = _redirect_target(uri, refusal)
                    if target is None or self._max_redirects == 0:
                        raise
                    if redirects == self._max_redirects:
                        raise HandshakeError(
                            refusal.status,
                            f"more than {redirects} redirects, the last of them to "
                            f"{shown(target)}: max_redirects moves this limit",
                        ) from refusal
                    log.debug("%s redirects to %s", uri, target)
                    if parse_uri(target)[:3] != parse_uri(uri)[:3]:
                        headers = [
                            header
                            for header in headers
                            if header[0].lower() not in _PRIVATE_HEADERS
                        ]
                    uri = target
        raise AssertionError("the loop ends by returning or raising")

    def _handshake(self, uri: str, headers: HeaderPairs) -> ClientHandshake:
        return ClientHandshake(
            uri,
            limits=self._config.limits,
            deflate=self._config.deflate,
            subprotocols=self._subprotocols,
            headers=headers,
            origin=self._origin,
        )

    async def _reach(self, uri: str, headers: HeaderPairs) -> ClientWebSocket:
        """One opening handshake with one server."""
        parsed = parse_uri(uri)
        handshake = self._handshake(uri, headers)
        opened: list[ClientWebSocket] = []
        exchange = Exchange(
            handshake,
            lambda transport: opened.append(self._begin(transport, handshake, uri)),
            "the server",
        )
        proxy: Proxy | None = proxy_from_environment(parsed) if self._proxy is True else self._proxy
        is_first = parsed[:3] == parse_uri(self._uri)[:3]
        try:
            await dial(
                parsed,
                exchange,
                ssl_context=(self._ssl or default_ssl_context()) if parsed.secure else None,
                server_hostname=self._server_hostname if is_first else None,
                proxy=proxy,
                proxy_ssl=self._proxy_ssl,
                user_agent=self._user_agent,
            )
            await exchange.finish()
        except BaseException:
            exchange.abort()
            raise
        return opened[0]

    def _begin(
        self, transport: asyncio.Transport, handshake: ClientHandshake, uri: str
    ) -> ClientWebSocket:
        """The server has agreed: the compiled connection takes over."""
        wheel = wheel_of(asyncio.get_running_loop())
        connection = Connection(
            transport,
            None,
            handshake.head,
            timers=wheel.timers,
            limits=self._config.limits,
            client=_address(transport.get_extra_info("sockname")),
            server=_address(transport.get_extra_info("peername")),
            secure=transport.get_extra_info("sslcontext") is not None,
        )
        ws = ClientWebSocket(connection, uri, wheel)
        inflater, deflater, threshold = handshake.codecs()
        connection.start_client(
            handshake.rest,
            subprotocol=handshake.subprotocol,
            inflater=inflater,
            deflater=deflater,
            threshold=threshold,
        )
        return ws


# Arguments


def _client_config(options: Mapping[str, object], **named: object) -> Config:
    for name in options:
        keyword = name.replace("-", "_")
        if keyword in _NAMED:
            raise ConfigError(f"connect() has {_NAMED[keyword]} for the option {name}")
        if keyword not in CLIENT_OPTIONS:
            known = ", ".join(CLIENT_OPTIONS)
            raise ConfigError(f"connect() has no option {name}: expected one of {known}")
    values = dict(options)
    for keyword, name in _NAMED.items():
        values[keyword] = _like(keyword, name, named[name])
    return Config.from_options(None, values)


def _like(keyword: str, name: str, value: object) -> Any:
    """``value`` as the option named by ``keyword`` takes it; errors call it ``name``."""
    option = next(option for option in OPTIONS if option.keyword == keyword)
    return dataclasses.replace(option, name=name).parse(value)


def _texts(name: str, values: Sequence[str]) -> Sequence[str]:
    if isinstance(values, str):
        raise TypeError(f"{name} is the text {values!r}: expected a list of texts")
    return values


def _names(headers: Sequence[tuple[bytes, bytes]]) -> set[bytes]:
    return {name.lower() for name, _ in headers}


def _check_ssl(ssl: tls.SSLContext | bool | None, uri: str) -> tls.SSLContext | None:
    if not parse_uri(uri).secure:
        if ssl:
            raise ValueError(f"ssl is given, but {shown(uri)} is not encrypted: write wss://")
        return None
    if ssl is False:
        raise ValueError(f"ssl is False, but {shown(uri)} is encrypted: write ws://")
    return None if ssl is None or ssl is True else ssl


# Redirects


def _redirect_target(uri: str, refusal: HandshakeRefused) -> str | None:
    """Where a response sends the client, ``None`` if it does not.

    Raises:
        HandshakeError: it must not be followed.
    """
    location = refusal.header("location")
    # A proxy has no say in where its clients go.
    if refusal.status not in REDIRECTS or refusal.by_proxy or location is None:
        return None
    try:
        parts = urlsplit(urljoin(uri, location))
        scheme = _SAME_SCHEMES.get(parts.scheme, parts.scheme)
        target = parts._replace(scheme=scheme, fragment="").geturl()
        secure = parse_uri(target).secure
    except ValueError as error:
        raise HandshakeError(
            refusal.status, f"the server redirects to {shown(location)}: {error}"
        ) from refusal
    if parse_uri(uri).secure and not secure:
        raise HandshakeError(
            refusal.status,
            f"the server redirects from wss to {shown(target)}, which is not encrypted",
        ) from refusal
    return target


def _address(name: object) -> tuple[str, int] | None:
    return (name[0], name[1]) if isinstance(name, tuple) else None


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
