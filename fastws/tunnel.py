"""HTTP proxies: which one a connection goes through, and the tunnel that it opens (RFC 9110
section 9.3.6, RFC 6455 section 4.1)."""

from __future__ import annotations

import binascii
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from fastws.client_handshake import URI, HandshakeRefused, RefusalBody, authority
from fastws.exceptions import HandshakeError
from fastws.http_fields import shown
from fastws.http_head import HeadReader, Response, build_message, parse_response
from fastws.limits import DEFAULT_LIMITS

__all__ = ["Proxy", "ProxyHandshake", "parse_proxy", "proxy_from_environment"]

_PORTS = {"http": 80, "https": 443}


class Proxy(NamedTuple):
    """An HTTP proxy."""

    secure: bool
    """Whether it is spoken to by TLS, which hides from others where the tunnel leads."""
    host: str
    port: int
    authorization: str | None
    """The value of Proxy-Authorization."""

    def __repr__(self) -> str:
        return f"<Proxy {self.url}>"

    @property
    def url(self) -> str:
        """Its URL without credentials, for messages."""
        scheme = "https" if self.secure else "http"
        return f"{scheme}://{authority(self.host, self.port).decode()}"


def parse_proxy(url: str) -> Proxy:
    """Read a proxy's URL, ``http://[user:password@]host[:port]`` or ``https://…``.

    Raises:
        ValueError: it is no such URL. The message does not show the credentials.
    """
    # Environments often have no more than host:port.
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"the proxy {_shown(parts)} has a bad host or port: {error}") from None
    if parts.scheme not in _PORTS:
        raise ValueError(
            f"the proxy {_shown(parts)} is of the kind {parts.scheme}: expected http:// or https://"
        )
    if not host or not host.isascii() or not host.isprintable() or " " in host:
        raise ValueError(f"the proxy {_shown(parts)} has a bad host: expected http://host:port")
    authorization = None
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        # RFC 7617 section 2.
        authorization = f"Basic {binascii.b2a_base64(credentials, newline=False).decode()}"
    return Proxy(parts.scheme == "https", host, port or _PORTS[parts.scheme], authorization)


def _shown(parts: SplitResult) -> str:
    return shown(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())


def proxy_from_environment(uri: URI) -> Proxy | None:
    """The proxy that the environment names for a URI, ``None`` for a direct connection.

    Asked are, in this order, ``wss_proxy``, ``https_proxy`` and ``all_proxy``; for a ``ws:`` URI
    ``ws_proxy``, ``https_proxy`` (RFC 6455 section 4.1 prefers it: it is the one that opens
    tunnels), ``http_proxy`` and ``all_proxy``. ``no_proxy`` lists hosts to connect to directly. On
    macOS and Windows the system's settings count where the environment has none.

    Raises:
        ValueError: the proxy's URL is not one of an HTTP proxy.
    """
    # It takes long to import, and a server has no use for it.
    import urllib.request

    if urllib.request.proxy_bypass(authority(uri.host, uri.port).decode()):
        return None
    proxies = urllib.request.getproxies()
    schemes = ("wss", "https", "all") if uri.secure else ("ws", "https", "http", "all")
    for scheme in schemes:
        if url := proxies.get(scheme):
            try:
                return parse_proxy(url)
            except ValueError as error:
                raise ValueError(f"{error} (set by {scheme}_proxy)") from None
    return None


class ProxyHandshake:
    """The opening of a tunnel: send :attr:`request`, then feed what arrives.

    Parameters:
        proxy: whom the request is for.
        uri: where the tunnel is to lead.
        user_agent: the User-Agent header, ``None`` for none.
    """

    request: bytes
    """The client's message."""
    response: Response | None
    """The proxy's answer."""
    error: HandshakeError | None
    """Why there is no tunnel."""

    def __init__(self, proxy: Proxy, uri: URI, user_agent: str | None = None) -> None:
        target = authority(uri.host, uri.port)
        headers = [(b"Host", target)]
        if user_agent is not None:
            headers.append((b"User-Agent", user_agent.encode("latin-1")))
        if proxy.authorization is not None:
            headers.append((b"Proxy-Authorization", proxy.authorization.encode("ascii")))
        self.request = build_message(f"CONNECT {target.decode()} HTTP/1.1", headers)
        self.response = None
        self.error = None
        self._proxy = proxy
        self._reader = HeadReader(DEFAULT_LIMITS)
        self._refusal: RefusalBody | None = None

    @property
    def refused(self) -> bool:
        """Whether the proxy has refused; the rest of what it says may still be on its way."""
        return self._refusal is not None

    def feed(self, data: bytes) -> bool:
        """Take what the proxy sent; no bytes are the end of TCP.

        Returns:
            Whether the tunnel is open, or never will be: :attr:`error` says. Do not feed it again.
        """
        if self._refusal is not None:
            self._refusal.feed(data)
            return self._refusal.complete and self.give_up()
        try:
            if not data:
                raise HandshakeError(502, "the proxy closed TCP before it answered")
            return self._read(data)
        except HandshakeError as error:
            self.error = HandshakeError(502, f"the proxy {self._proxy.url}: {error.message}")
            return True

    def give_up(self) -> bool:
        """Make do with what has come of a refusal's body; :attr:`error` then has it."""
        assert self._refusal is not None
        assert self.response is not None
        phrase = f" {shown(self.response.reason)}" if self.response.reason else ""
        self.error = HandshakeRefused.by(
            self.response,
            f"the proxy {self._proxy.url} answered {self.response.status}{phrase}: no tunnel",
            self._refusal.body,
            by_proxy=True,
        )
        return True

    def _read(self, data: bytes) -> bool:
        rest: bytes | None = data
        while rest:
            rest = self._reader.feed(rest)
            if rest is None:
                return False
            response = parse_response(self._reader.head)
            if response.status >= 200:
                self.response = response
                return self._judge(response, rest)
            self._reader = HeadReader(DEFAULT_LIMITS)
        return False

    def _judge(self, response: Response, rest: bytes) -> bool:
        # The head of a 2xx ends the message, whatever its headers say (RFC 9110 section 9.3.6).
        if response.status < 300:
            if rest:
                raise HandshakeError(502, "bytes came before anything was sent through the tunnel")
            return True
        self._refusal = RefusalBody(self._reader.head)
        if rest:
            self._refusal.feed(rest)
        return self._refusal.complete and self.give_up()
