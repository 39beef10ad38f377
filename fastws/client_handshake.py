"""The opening handshake, sans-I/O: the client's request, and its judgement of the answer.

RFC 6455 section 4.1 over the messages of :mod:`fastws.http_head`. :class:`ClientHandshake` is the
whole of it, from the URI to the verdict; it is made of :func:`client_request` and
:func:`check_response`.

Whatever the peer sends, these functions raise :class:`~fastws.exceptions.HandshakeError` and
nothing else, in time linear in its bytes. A ``ValueError`` or ``TypeError`` is the caller's own
mistake.
"""

from __future__ import annotations

import binascii
import secrets
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import httptools

from fastws.deflate import (
    DeflateParameters,
    Deflater,
    Inflater,
    accept_offer,
    deflater_for,
    inflater_for,
    offer,
)
from fastws.exceptions import HandshakeError
from fastws.handshake import (
    DEFAULT_PORTS,
    KEY,
    SENT_BY_HANDSHAKE,
    VERSION,
    Extension,
    accept_key,
    parse_extensions,
)
from fastws.http_fields import (
    HeaderPairs,
    has_token,
    is_token,
    normalize_headers,
    refuse_owned,
    shown,
)
from fastws.http_head import HOST, HeadReader, Response, build_message, parse_response
from fastws.limits import DEFAULT_LIMITS, DeflateOptions, Limits

__all__ = [
    "URI",
    "ClientHandshake",
    "HandshakeRefused",
    "RefusalBody",
    "authority",
    "check_response",
    "client_request",
    "new_key",
    "parse_uri",
]

MAX_REFUSAL = 64 * 1024
"""Bytes of a refusing response's body that a client keeps."""

# What a URI keeps as it is; everything else is percent-encoded.
_VISIBLE = bytes(range(0x21, 0x7F))

_OWNED_BY_CLIENT = {
    b"host": "it comes from the URI",
    b"connection": SENT_BY_HANDSHAKE,
    b"upgrade": SENT_BY_HANDSHAKE,
    b"sec-websocket-key": SENT_BY_HANDSHAKE,
    b"sec-websocket-version": SENT_BY_HANDSHAKE,
    b"sec-websocket-extensions": "the compression option decides on it",
    b"sec-websocket-protocol": "pass the subprotocols by their own argument",
    b"origin": "pass the origin by its own argument",
    b"content-length": "a WebSocket handshake has no body",
    b"transfer-encoding": "a WebSocket handshake has no body",
}


class URI(NamedTuple):
    """Where a ``ws:`` or ``wss:`` URI leads (RFC 6455 section 3)."""

    secure: bool
    """Whether the connection uses TLS."""
    host: str
    """A name or an address to connect to, in ASCII; IPv6 without brackets."""
    port: int
    resource: str
    """Path and query, percent-encoded: the request target."""


def parse_uri(uri: str) -> URI:
    """Read a WebSocket URI.

    A name outside ASCII is encoded for the DNS; characters outside ASCII in path and query are
    percent-encoded as UTF-8.

    Raises:
        ValueError: it is no such URI, or has a fragment (RFC 6455 section 3) or credentials.
    """
    if not uri.isprintable() or " " in uri:
        raise ValueError(f"URI {shown(uri)} has spaces or control characters: percent-encode them")
    try:
        parts = urlsplit(uri)
        host = parts.hostname or ""
        host = host if host.isascii() else host.encode("idna").decode("ascii")
        port = parts.port
    except ValueError as error:
        raise ValueError(f"URI {shown(uri)} has a bad host or port: {error}") from None
    if parts.scheme not in ("ws", "wss"):
        raise ValueError(f"URI {shown(uri)} must begin with ws:// or wss://")
    if "#" in uri:
        raise ValueError(f"URI {shown(uri)} has a fragment: a WebSocket URI has none")
    if "@" in parts.netloc:
        raise ValueError("the URI has credentials in it: send an Authorization header instead")
    if not host:
        raise ValueError(f"URI {shown(uri)} has no host")
    if port == 0:
        raise ValueError(f"URI {shown(uri)} has port 0: expected 1 to 65535")
    secure = parts.scheme == "wss"
    port = port or DEFAULT_PORTS[parts.scheme]
    if not HOST.fullmatch(authority(host, port, secure)):
        raise ValueError(f"URI {shown(uri)} has a bad host")
    resource = parts.path or "/"
    # An empty query is not the same resource as none.
    if "?" in uri:
        resource = f"{resource}?{parts.query}"
    return URI(secure, host, port, quote(resource, safe=_VISIBLE))


def authority(host: str, port: int, secure: bool | None = None) -> bytes:
    """Host and port as a request writes them (RFC 3986 section 3.2).

    Parameters:
        host: from a :class:`URI`.
        port: likewise.
        secure: leaves the port out where it is the default of ``wss`` or, if false, of ``ws``;
            ``None`` writes it always, as CONNECT wants it.
    """
    bracketed = f"[{host}]" if ":" in host else host
    is_default = secure is not None and port == DEFAULT_PORTS["wss" if secure else "ws"]
    return (bracketed if is_default else f"{bracketed}:{port}").encode("ascii")


def new_key() -> bytes:
    """A fresh Sec-WebSocket-Key: 16 random bytes in base64 (RFC 6455 section 4.1, item 7)."""
    return binascii.b2a_base64(secrets.token_bytes(16), newline=False)


def client_request(
    uri: str,
    *,
    key: bytes,
    headers: HeaderPairs = (),
    subprotocols: Sequence[str] = (),
    extensions: str | None = None,
    origin: str | None = None,
) -> bytes:
    """The client's opening handshake (RFC 6455 section 4.1).

    Parameters:
        uri: a ``ws:`` or ``wss:`` URI.
        key: from :func:`new_key`; keep it for :func:`check_response`.
        headers: the application's own, such as Authorization.
        subprotocols: what is offered, in order of preference.
        extensions: the value of Sec-WebSocket-Extensions from :func:`fastws.deflate.offer`.
        origin: the Origin header, which a client other than a browser need not send.

    Raises:
        ValueError: the URI, the key, a subprotocol or a header is malformed, a subprotocol comes
            twice, or a header belongs to the handshake.
        TypeError: a header is neither ``bytes`` nor ``str``.
    """
    secure, host, port, resource = parse_uri(uri)
    if not KEY.fullmatch(key):
        raise ValueError("key is not 16 bytes in base64: make it with new_key()")
    own = [
        (b"Host", authority(host, port, secure)),
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Key", key),
        (b"Sec-WebSocket-Version", VERSION),
    ]
    if subprotocols:
        for subprotocol in subprotocols:
            if not subprotocol.isascii() or not is_token(subprotocol.encode("ascii")):
                raise ValueError(f"subprotocol {shown(subprotocol)} is not a token")
        if len(set(subprotocols)) != len(subprotocols):
            raise ValueError("a subprotocol is offered twice")
        own.append((b"Sec-WebSocket-Protocol", ", ".join(subprotocols).encode("ascii")))
    if extensions is not None:
        own += normalize_headers([("Sec-WebSocket-Extensions", extensions)])
    if origin is not None:
        own += normalize_headers([("Origin", origin)])
    added = normalize_headers(headers)
    refuse_owned(added, _OWNED_BY_CLIENT)
    return build_message(f"GET {resource} HTTP/1.1", own + added)


def check_response(
    response: Response, *, key: bytes, subprotocols: Sequence[str], extensions_offered: bool
) -> tuple[str | None, list[Extension]]:
    """Apply every rule for a server's opening handshake (RFC 6455 section 4.1, "the client MUST
    validate the server's response").

    Parameters:
        response: what :func:`parse_response` read.
        key: the one sent.
        subprotocols: those offered.
        extensions_offered: whether any was.

    Returns:
        The subprotocol chosen and the extensions accepted, for
        :func:`fastws.deflate.accept_offer`.

    Raises:
        HandshakeError: the status the server refused with, or 502 if its 101 breaks a rule.
    """
    if response.status != 101:
        phrase = f" {shown(response.reason)}" if response.reason else ""
        raise HandshakeError(
            response.status,
            f"the server answered {response.status}{phrase} instead of 101 Switching Protocols",
        )
    if response.http_version != "1.1":
        raise HandshakeError(502, "the server's 101 is not HTTP/1.1")
    if [value.lower() for value in response.get_all(b"upgrade")] != [b"websocket"]:
        raise HandshakeError(502, "the server's 101 has no 'Upgrade: websocket'")
    if not has_token(response.get_all(b"connection"), b"upgrade"):
        raise HandshakeError(502, "the server's 101 has no 'Connection: Upgrade'")
    if response.get_all(b"sec-websocket-accept") != [accept_key(key)]:
        raise HandshakeError(502, "the server's Sec-WebSocket-Accept does not answer the key")

    chosen = response.get_all(b"sec-websocket-protocol")
    subprotocol = chosen[0].decode("latin-1") if chosen else None
    if len(chosen) > 1 or (subprotocol is not None and subprotocol not in subprotocols):
        raise HandshakeError(
            502, f"the server chose subprotocol {shown(b', '.join(chosen))}, which was not offered"
        )
    try:
        extensions = parse_extensions(response.get_all(b"sec-websocket-extensions"))
    except ValueError as error:
        raise HandshakeError(502, f"the server's Sec-WebSocket-Extensions: {error}") from None
    if extensions and not extensions_offered:
        raise HandshakeError(502, "the server accepted an extension, but none was offered")
    return subprotocol, extensions


class HandshakeRefused(HandshakeError):
    """The server, or a proxy on the way to it, answered with an HTTP response other than the one
    that opens the connection.

    Parameters:
        status: the response's status.
        message: the sentence to show.
        headers: the response's headers; names in lower case.
        body: the response's body, at most 64 KiB of it.
        by_proxy: whether it is the proxy that refused.
    """

    body: bytes
    by_proxy: bool

    def __init__(
        self,
        status: int,
        message: str,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        by_proxy: bool = False,
    ) -> None:
        super().__init__(status, message, headers)
        self.body = body
        self.by_proxy = by_proxy

    @classmethod
    def by(
        cls, response: Response, message: str, body: bytes, *, by_proxy: bool = False
    ) -> HandshakeRefused:
        """The error for a response that was read."""
        headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers
        ]
        return cls(response.status, message, headers, body, by_proxy)

    def header(self, name: str) -> str | None:
        """The value of the first header of that name (in any case), ``None`` if there is none."""
        for key, value in self.headers:
            if key == name.lower():
                return value
        return None

    def __reduce__(
        self,
    ) -> tuple[type[HandshakeRefused], tuple[int, str, Sequence[tuple[str, str]]]]:
        parts = (self.status, self.message, self.headers, self.body, self.by_proxy)
        return type(self), parts  # type: ignore[return-value]


class RefusalBody:
    """The body of a response that opens nothing: it says why.

    Parameters:
        head: the response's head.
    """

    complete: bool
    """Whether the whole of it is there, or as much as is kept."""
    body: bytes

    def __init__(self, head: bytes) -> None:
        self.complete = False
        self.body = b""
        self._parser = httptools.HttpResponseParser(self)
        self.feed(head)

    def feed(self, data: bytes) -> None:
        """Read more of the body; no bytes are the end of TCP."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            # What there is of it has to do.
            self.complete = True
        self.complete = self.complete or not data

    # Called by httptools.

    def on_body(self, body: bytes) -> None:
        self.body += body[: MAX_REFUSAL - len(self.body)]
        self.complete = self.complete or len(self.body) == MAX_REFUSAL

    def on_message_complete(self) -> None:
        self.complete = True


class ClientHandshake:
    """One opening handshake of a client: send :attr:`request`, then feed what arrives.

    Parameters:
        uri: a ``ws:`` or ``wss:`` URI.
        limits: ``max_header_…`` apply to the response.
        deflate: the compression to offer, ``None`` for none.
        subprotocols: what to offer, in order of preference.
        headers: more headers for the request, such as Authorization.
        origin: the Origin header, which a client other than a browser need not send.

    Raises:
        ValueError: the URI, a subprotocol or a header is malformed, or a header is the handshake's
            own.
        TypeError: a header is neither ``bytes`` nor ``str``.
    """

    request: bytes
    """The client's message."""
    head: bytes
    """The head of the response that ended the handshake, ``b""`` before."""
    response: Response | None
    """The same, read; ``None`` before, and if what came is not an HTTP response."""
    error: HandshakeError | None
    """Why the handshake failed; a :class:`HandshakeRefused` if the server answered otherwise."""
    subprotocol: str | None
    """What the server chose of those offered."""
    agreed: DeflateParameters | None
    """The compression agreed on."""
    rest: bytes
    """What followed the response: frames."""

    def __init__(
        self,
        uri: str,
        *,
        limits: Limits = DEFAULT_LIMITS,
        deflate: DeflateOptions | None = None,
        subprotocols: Sequence[str] = (),
        headers: HeaderPairs = (),
        origin: str | None = None,
    ) -> None:
        self._limits = limits
        self._deflate = deflate
        self._subprotocols = tuple(subprotocols)
        self._key = new_key()
        self.request = client_request(
            uri,
            key=self._key,
            headers=headers,
            subprotocols=self._subprotocols,
            extensions=None if deflate is None else offer(deflate),
            origin=origin,
        )
        self.head = b""
        self.response = None
        self.error = None
        self.subprotocol = None
        self.agreed = None
        self.rest = b""
        self._reader = HeadReader(limits)
        self._refusal: RefusalBody | None = None

    def codecs(self) -> tuple[Inflater | None, Deflater | None, int]:
        """What inflates and deflates the connection's messages, and the bytes from which on they
        are deflated; without any where no compression was agreed on."""
        if self.agreed is None or self._deflate is None:
            return None, None, 0
        return (
            inflater_for(self.agreed, client=True),
            deflater_for(self.agreed, self._deflate, client=True),
            self._deflate.threshold,
        )

    @property
    def refused(self) -> bool:
        """Whether the server has refused; the rest of what it says may still be on its way."""
        return self._refusal is not None

    def feed(self, data: bytes) -> bool:
        """Take what the server sent; no bytes are the end of TCP.

        Returns:
            Whether the handshake is over: :attr:`error` says how. Do not feed it again.
        """
        if self._refusal is not None:
            self._refusal.feed(data)
            return self._refusal.complete and self.give_up()
        if not data:
            self.error = HandshakeError(
                502, "the server closed TCP before it answered the handshake"
            )
            return True
        try:
            return self._read(data)
        except HandshakeError as error:
            self.error = error
            return True

    def give_up(self) -> bool:
        """Make do with what has come of a refusal's body; :attr:`error` then has it."""
        assert self._refusal is not None
        assert self.response is not None
        assert self.error is not None
        self.error = HandshakeRefused.by(self.response, self.error.message, self._refusal.body)
        return True

    def _read(self, data: bytes) -> bool:
        rest: bytes | None = data
        while rest:
            rest = self._reader.feed(rest)
            if rest is None:
                return False
            response = parse_response(self._reader.head)
            if response.status == 101 or response.status >= 200:
                self.head, self.response = self._reader.head, response
                return self._judge(response, rest)
            # An interim response, such as 103 Early Hints (RFC 9110 section 15.2).
            self._reader = HeadReader(self._limits)
        return False

    def _judge(self, response: Response, rest: bytes) -> bool:
        try:
            self.subprotocol, extensions = check_response(
                response,
                key=self._key,
                subprotocols=self._subprotocols,
                extensions_offered=self._deflate is not None,
            )
            if self._deflate is not None:
                self.agreed = accept_offer(extensions, self._deflate)
        except HandshakeError as error:
            self.error = error
            if response.status == 101:
                return True
            self._refusal = RefusalBody(self.head)
            if rest:
                self._refusal.feed(rest)
            return self._refusal.complete and self.give_up()
        self.rest = rest
        return True
