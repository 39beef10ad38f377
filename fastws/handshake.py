"""The opening handshake, sans-I/O: the server's judgement of a request, and its answer.

RFC 6455 section 4 over the messages of :mod:`fastws.http_head`. A server judges a request with
:func:`check_upgrade` and accepts it with :func:`accept_response`; the client's side, which shares
the extensions and the key with this one, is :mod:`fastws.client_handshake`.

Whatever the peer sends, these functions raise :class:`~fastws.exceptions.HandshakeError` and
nothing else, in time linear in its bytes. A ``ValueError`` or ``TypeError`` is the caller's own
mistake.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from fastws.exceptions import HandshakeError
from fastws.http_fields import (
    HeaderPairs,
    has_token,
    is_token,
    list_elements,
    normalize_headers,
    refuse_owned,
    shown,
)
from fastws.http_head import AUTHORITY, HOST, Request, bad_request, build_message, has_body

__all__ = [
    "DEFAULT_PORTS",
    "KEY",
    "SENT_BY_HANDSHAKE",
    "VERSION",
    "Extension",
    "Origin",
    "Upgrade",
    "accept_key",
    "accept_response",
    "check_upgrade",
    "is_origin_allowed",
    "parse_extensions",
    "parse_origin",
    "wants_upgrade",
]

Extension: TypeAlias = tuple[str, list[tuple[str, str | None]]]
"""One element of Sec-WebSocket-Extensions: its name and its parameters in order, ``None`` standing
for a parameter without a value. A value that came as a quoted-string keeps its quotes."""

VERSION = b"13"
"""The protocol version of RFC 6455 (section 4.1, item 9)."""

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What the key is hashed with (RFC 6455 section 1.3)."""

# Every expression below is a sequence of disjoint character classes, so none can backtrack far.
KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
"""Sec-WebSocket-Key: 16 bytes in base64 (RFC 6455 section 4.1, item 7)."""
# RFC 6454 section 7.1.
_ORIGIN = re.compile(rf"([A-Za-z][A-Za-z0-9+.-]*)://{AUTHORITY}")
_QUOTED_PAIR = re.compile(rb"\\(.)")

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

# The status line, and the two headers that are always the same.
_SWITCHING_PROTOCOLS = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade"
)

_UPGRADE_HEADERS = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", VERSION.decode()))

SENT_BY_HANDSHAKE = "the handshake sends it itself"
"""Why an application cannot set a header, for :func:`~fastws.http_fields.refuse_owned`."""

_OWNED_BY_ACCEPT = {
    b"connection": SENT_BY_HANDSHAKE,
    b"upgrade": SENT_BY_HANDSHAKE,
    b"sec-websocket-accept": SENT_BY_HANDSHAKE,
    b"sec-websocket-extensions": "the compression option decides on it",
    b"sec-websocket-protocol": "pass subprotocol= to accept()",
    # RFC 9110 section 8.6 and RFC 9112 section 6.1: not in a 1xx response.
    b"content-length": "a 101 response has no body",
    b"transfer-encoding": "a 101 response has no body",
}


# ------------------------------------------------------------------------------- origins


class Origin(NamedTuple):
    """A web origin (RFC 6454), ready to be compared: lower case, default port filled in."""

    scheme: str
    host: str
    port: int | None


def parse_origin(origin: str) -> Origin:
    """Read ``scheme://host[:port]``.

    Raises:
        ValueError: it is something else: a path, a trailing slash, ``null``, a pattern.
    """
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        raise ValueError(
            f"origin {shown(origin)} is not scheme://host[:port], such as https://example.com"
        )
    scheme = match[1].lower()
    port = int(match[3]) if match[3] else DEFAULT_PORTS.get(scheme)
    return Origin(scheme, match[2].lower(), port)


# Only for the configuration's origins: a cache of the peers' would be theirs to fill.
_parse_configured_origin = lru_cache(maxsize=256)(parse_origin)


def is_origin_allowed(
    origin: str,
    host: bytes | None,
    origins: Sequence[str] | str | None,
    *,
    secure: bool | None = None,
) -> bool:
    """Whether a page of ``origin`` may connect.

    Parameters:
        origin: the value of the Origin header.
        host: the value of the Host header, ``None`` if there is none.
        origins: as for :func:`check_upgrade`.
        secure: as for :func:`check_upgrade`.

    Raises:
        ValueError: an entry of ``origins`` is no origin.
    """
    allowed: Sequence[str] = (origins,) if isinstance(origins, str) else origins or ()
    if origins is None or "any" in allowed:
        return True
    if origin == "null":
        # Sandboxed documents and local files: whoever wants them must say so.
        return "null" in allowed
    try:
        parsed = parse_origin(origin)
    except ValueError:
        return False
    for entry in allowed:
        if entry == "same":
            # If it is not known whether a proxy speaks TLS, the scheme is the origin's own.
            scheme = parsed.scheme if secure is None else "https" if secure else "http"
            match = HOST.fullmatch(host or b"")
            if match is not None and parsed == parse_origin(
                f"{scheme}://{match[0].decode('ascii')}"
            ):
                return True
        elif entry != "null" and parsed == _parse_configured_origin(entry):
            return True
    return False


# -------------------------------------------------------------------------- the judgement


def wants_upgrade(request: Request) -> bool:
    """Whether this is an attempt at a WebSocket handshake, to be judged by :func:`check_upgrade`.

    It is if Upgrade names websocket, or if any Sec-WebSocket header is there.
    """
    fields = request.fields
    return has_token(fields.get(b"upgrade", ()), b"websocket") or any(
        name.startswith(b"sec-websocket-") for name in fields
    )


class Upgrade(NamedTuple):
    """A request that every rule of the opening handshake allows to accept.

    Parameters:
        request: the request.
        key: Sec-WebSocket-Key.
        subprotocols: what the client offers, in its order of preference.
        extensions: what the client offers, in its order of preference; none if the header is
            malformed.
        origin: the Origin header, ``None`` if there is none (the client is no browser).
    """

    request: Request
    key: bytes
    subprotocols: tuple[str, ...]
    extensions: list[Extension]
    origin: str | None


def check_upgrade(
    request: Request,
    *,
    origins: Sequence[str] | str | None = None,
    secure: bool | None = None,
) -> Upgrade:
    """Apply every rule for a client's opening handshake (RFC 6455 section 4.2.1).

    Parameters:
        request: what :func:`parse_request` read.
        origins: whose pages may connect. ``None`` or ``"any"``: everyone's; ``"same"``: those of
            the host in the Host header, on the same port; otherwise origins such as
            ``https://example.com:8443``, also ``"same"`` and ``"null"`` among them. A request
            without Origin is let through: browsers always send one, and everything else could send
            any.
        secure: whether the client speaks TLS, which is a part of what ``"same"`` means; ``None`` if
            that is not known.

    Raises:
        HandshakeError: 405 (with Allow) for another method than GET; 505 for another version than
            HTTP/1.1; 426 (with Upgrade and Sec-WebSocket-Version) if no upgrade to websocket is
            asked for or the protocol's version is not 13; 403 for a foreign origin; 400 otherwise.
            Close the connection after answering: the client may have sent frames already.
        ValueError: an entry of ``origins`` is no origin.
    """
    fields = request.fields
    if request.method != "GET":
        raise HandshakeError(405, "a WebSocket handshake is a GET request", (("Allow", "GET"),))
    if request.http_version != "1.1":
        raise HandshakeError(505, "a WebSocket handshake needs HTTP/1.1")
    if has_body(request):
        raise bad_request("a WebSocket handshake has no body")
    if not has_token(fields.get(b"upgrade", ()), b"websocket"):
        raise HandshakeError(
            426, "this is a WebSocket endpoint: send 'Upgrade: websocket'", _UPGRADE_HEADERS
        )
    if not has_token(fields.get(b"connection", ()), b"upgrade"):
        raise bad_request("the Connection header does not name 'Upgrade'")
    if fields.get(b"sec-websocket-version") != [VERSION]:
        raise HandshakeError(
            426, "Sec-WebSocket-Version must be 13, the only one spoken here", _UPGRADE_HEADERS
        )
    keys = fields.get(b"sec-websocket-key", ())
    if len(keys) != 1 or not KEY.fullmatch(keys[0]):
        raise bad_request("Sec-WebSocket-Key must come once and be 16 bytes in base64")

    origin_headers = fields.get(b"origin", ())
    if len(origin_headers) > 1:
        raise bad_request("more than one Origin header")
    origin = origin_headers[0].decode("latin-1") if origin_headers else None
    if origin is not None and not is_origin_allowed(
        origin, request.get(b"host"), origins, secure=secure
    ):
        raise HandshakeError(403, f"origin {shown(origin)} is not allowed here")

    subprotocols: tuple[str, ...] = ()
    if b"sec-websocket-protocol" in fields:
        subprotocols = _offered_subprotocols(fields[b"sec-websocket-protocol"])
    extensions: list[Extension] = []
    if b"sec-websocket-extensions" in fields:
        # An offer that cannot be read need not be accepted (section 9.1).
        with suppress(ValueError):
            extensions = parse_extensions(fields[b"sec-websocket-extensions"])
    return Upgrade(request, keys[0], subprotocols, extensions, origin)


def _offered_subprotocols(values: Sequence[bytes]) -> tuple[str, ...]:
    elements = list_elements(values)
    for element in elements:
        if not is_token(element):
            raise bad_request(f"subprotocol {shown(element)} is not a token")
    return tuple(dict.fromkeys(element.decode("ascii") for element in elements))


def parse_extensions(values: Sequence[bytes]) -> list[Extension]:
    """Read the values of all Sec-WebSocket-Extensions headers (RFC 6455 section 9.1).

    Raises:
        ValueError: the grammar of that section is broken.
    """
    extensions: list[Extension] = []
    # A quoted-string must be a token once it is unquoted, so no comma or semicolon that splits the
    # list here can be inside a valid one.
    for element in list_elements(values):
        name, *parts = [part.strip(b" \t") for part in element.split(b";")]
        if not is_token(name):
            raise ValueError(f"{shown(name)} is not the name of an extension")
        parameters: list[tuple[str, str | None]] = []
        for part in parts:
            key, equals, value = part.partition(b"=")
            key, value = key.rstrip(b" \t"), value.lstrip(b" \t")
            unquoted = value
            if len(value) >= 2 and value[0] == value[-1] == 0x22:
                unquoted = _QUOTED_PAIR.sub(rb"\1", value[1:-1])
            if not is_token(key) or (equals and not is_token(unquoted)):
                raise ValueError(f"{shown(part)} is not the parameter of an extension")
            parameters.append((key.decode("ascii"), value.decode("ascii") if equals else None))
        extensions.append((name.decode("ascii"), parameters))
    return extensions


# ----------------------------------------------------------------------------- the answer


def accept_key(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that answers ``key`` (RFC 6455 section 4.2.2, step 5.4)."""
    digest = hashlib.sha1(key + GUID, usedforsecurity=False).digest()
    return binascii.b2a_base64(digest, newline=False)


def accept_response(
    upgrade: Upgrade,
    *,
    subprotocol: str | None = None,
    extensions: str | None = None,
    headers: HeaderPairs | None = None,
    server_headers: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """The 101 response, after which the connection carries frames (RFC 6455 section 4.2.2).

    Parameters:
        upgrade: what :func:`check_upgrade` returned.
        subprotocol: one of ``upgrade.subprotocols``, or ``None`` for none: no header then.
        extensions: the value of Sec-WebSocket-Extensions from :func:`fastws.deflate.negotiate`.
        headers: the application's own.
        server_headers: the server's, from :func:`normalize_headers`; none that belongs to the
            handshake.

    Raises:
        ValueError: the subprotocol was not offered; a header is malformed (see
            :func:`normalize_headers`) or belongs to the handshake.
        TypeError: a header is neither ``bytes`` nor ``str``.
    """
    own: list[tuple[bytes, bytes]] = [(b"Sec-WebSocket-Accept", accept_key(upgrade.key))]
    if subprotocol is not None:
        if subprotocol not in upgrade.subprotocols:
            offered = ", ".join(upgrade.subprotocols) or "none"
            raise ValueError(
                f"subprotocol {subprotocol!r} was not offered by the client: it offered {offered}"
            )
        own.append((b"Sec-WebSocket-Protocol", subprotocol.encode("ascii")))
    if extensions is not None:
        own += normalize_headers([("Sec-WebSocket-Extensions", extensions)])
    added = normalize_headers(headers)
    refuse_owned(added, _OWNED_BY_ACCEPT)
    return build_message(_SWITCHING_PROTOCOLS, [*own, *server_headers, *added])
