"""The opening handshake, sans-I/O: the client's request, and its judgement of the answer.

RFC 6455 section 4.1 over the messages of :mod:`fastws.http_head`. A client sends
:func:`client_request` and judges the answer with :func:`~fastws.http_head.parse_response` and
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
from fastws.http_head import HOST, Response, build_message

__all__ = ["URI", "check_response", "client_request", "new_key", "parse_uri"]

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
    if not HOST.fullmatch(_authority(host, port, secure)):
        raise ValueError(f"URI {shown(uri)} has a bad host")
    resource = parts.path or "/"
    # An empty query is not the same resource as none.
    if "?" in uri:
        resource = f"{resource}?{parts.query}"
    return URI(secure, host, port, quote(resource, safe=_VISIBLE))


def _authority(host: str, port: int, secure: bool) -> bytes:
    bracketed = f"[{host}]" if ":" in host else host
    is_default = port == (443 if secure else 80)
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
        (b"Host", _authority(host, port, secure)),
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
