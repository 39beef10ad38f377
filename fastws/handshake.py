"""The opening handshake, sans-I/O: HTTP heads in, checked requests and response bytes out.

RFC 6455 section 4 over the message syntax of RFC 9112, for both roles. A server collects the head
with :class:`HeadReader`, reads it with :func:`parse_request`, judges it with :func:`check_upgrade`
and answers with :func:`accept_response`, :func:`http_response` or :func:`error_response`; a client
sends :func:`client_request` and judges the answer with :func:`parse_response` and
:func:`check_response`.

Whatever the peer sends, these functions raise :class:`~fastws.exceptions.HandshakeError` and
nothing else, in time linear in its bytes. A ``ValueError`` or ``TypeError`` is the caller's own
mistake.
"""

from __future__ import annotations

import binascii
import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple, TypeAlias
from urllib.parse import quote, unquote, urlsplit

import httptools

from fastws.exceptions import HandshakeError
from fastws.limits import Limits

__all__ = [
    "Extension",
    "HeadReader",
    "HeaderPairs",
    "Request",
    "Response",
    "URI",
    "Upgrade",
    "accept_key",
    "accept_response",
    "check_response",
    "check_upgrade",
    "client_request",
    "error_response",
    "has_body",
    "http_response",
    "new_key",
    "normalize_headers",
    "parse_extensions",
    "parse_origin",
    "parse_request",
    "parse_response",
    "parse_uri",
    "wants_upgrade",
]

Extension: TypeAlias = tuple[str, list[tuple[str, str | None]]]
"""One element of Sec-WebSocket-Extensions: its name and its parameters in order, ``None`` standing
for a parameter without a value. A value that came as a quoted-string keeps its quotes."""

HeaderPairs: TypeAlias = (
    Iterable[tuple[bytes | str, bytes | str]]
    | Mapping[bytes, bytes | str]
    | Mapping[str, bytes | str]
)
"""Headers as an application gives them: pairs of ``bytes`` or ``str``, or a mapping of such."""

VERSION = b"13"
"""The protocol version of RFC 6455 (section 4.1, item 9)."""

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What the key is hashed with (RFC 6455 section 1.3)."""

# Sets of bytes to be deleted with bytes.translate: what is left over breaks the rule.
# RFC 9110 section 5.6.2: token.
_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# RFC 9110 section 5.5: visible ASCII, obs-text, space and tab.
_FIELD_VALUE = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
_VISIBLE = bytes(range(0x21, 0x7F))

# Every expression below is a sequence of disjoint character classes, so none can backtrack far.
_REQUEST_LINE = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])\r\n"
)
# RFC 3986 section 3.2.2: uri-host [":" port]; no userinfo. An asterisk would be legal, but no host
# has one, and in a list of origins it would pass for a pattern.
_AUTHORITY = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()+,;=-]+)(?::([0-9]{0,5}))?"
_HOST = re.compile(_AUTHORITY.encode())
_ABSOLUTE_FORM = re.compile(rf"(?:https?|wss?)://({_AUTHORITY})(/[^?]*)?(?:\?(.*))?", re.I)
# RFC 6454 section 7.1.
_ORIGIN = re.compile(rf"([A-Za-z][A-Za-z0-9+.-]*)://{_AUTHORITY}")
# RFC 6455 section 4.1, item 7: 16 bytes in base64.
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_QUOTED_PAIR = re.compile(rb"\\(.)")

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

_UPGRADE_HEADERS = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", VERSION.decode()))


def _bad(message: str) -> HandshakeError:
    return HandshakeError(400, message)


def _shown(value: bytes | str) -> str:
    """A peer's value for a message: short, with nothing in it that acts on a terminal or log."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return ascii(text[:60] + "…" if len(text) > 60 else text)


def _is_token(value: bytes) -> bool:
    return bool(value) and not value.translate(None, _TOKEN)


def _list(values: Iterable[bytes]) -> list[bytes]:
    """The elements of a comma-separated field, over all its lines (RFC 9110 section 5.6.1)."""
    elements = [element.strip(b" \t") for value in values for element in value.split(b",")]
    return [element for element in elements if element]


def _has_token(values: Iterable[bytes], token: bytes) -> bool:
    return any(element.lower() == token for element in _list(values))


# ------------------------------------------------------------------------ reading a head


class HeadReader:
    """Collects the head of one HTTP message from pieces cut anywhere, and keeps it within limits.

    It counts and finds the end, :func:`parse_request` judges the contents. A limit is decided on
    the byte that breaks it. The outcome does not depend on how the bytes were cut.

    Parameters:
        limits: ``max_header_line``, ``max_header_count`` and ``max_header_size`` are used; a
            line is counted without its CRLF, the size with everything.
    """

    __slots__ = ("_begin", "_buffer", "_limits", "_line", "_lines", "_scanned", "head")

    head: bytes
    """The whole head with its final empty line, once :meth:`feed` found it; ``b""`` before."""

    def __init__(self, limits: Limits) -> None:
        self.head = b""
        self._limits = limits
        self._buffer = bytearray()
        # Where the head begins, and the line being read; up to where no line end is left to find.
        self._begin = 0
        self._line = 0
        self._scanned = 0
        # Complete lines, empty ones not counted.
        self._lines = 0

    def feed(self, data: bytes) -> bytes | None:
        """Take the next bytes of the connection.

        Returns:
            ``None``: the head is not complete. Otherwise it is, in :attr:`head`, and the value is
            what followed it in ``data``.

        Raises:
            HandshakeError: 414 if the request line is too long; 431 if a header line is, if there
                are too many, or if the head is too large; 400 for a line that LF alone ends, or
                more than one empty line at the start. Close the connection after answering.
            RuntimeError: the head was complete already.
        """
        if self.head:
            raise RuntimeError("this head is complete: read the next one with a new HeadReader")
        limits = self._limits
        buffer = self._buffer
        before = len(buffer)
        # One byte beyond the limit is enough to refuse, however much arrived.
        buffer += data[: limits.max_header_size + 1 - before]
        while (newline := buffer.find(b"\n", self._scanned)) >= 0:
            # A slice, for there is nothing before the very first byte.
            bare = buffer[newline - 1 : newline] != b"\r"
            length = newline - self._line - (not bare)
            if length > limits.max_header_line or newline >= limits.max_header_size:
                raise self._too_large(length)
            if bare:
                raise _bad("a line ends with LF alone: HTTP wants CRLF (RFC 9112 section 2.2)")
            self._line = self._scanned = newline + 1
            if length:
                self._lines += 1
                if self._lines - 1 > limits.max_header_count:
                    raise HandshakeError(
                        431,
                        f"more than {limits.max_header_count} header lines: "
                        "max-header-count moves this limit",
                    )
            elif self._lines:
                self.head = bytes(buffer[self._begin : newline + 1])
                self._buffer = bytearray()
                return data[newline + 1 - before :]
            elif self._begin:
                raise _bad("several empty lines before the request line")
            else:
                # One empty line before the request line is to be ignored (RFC 9112 section 2.2).
                self._begin = newline + 1
        self._scanned = len(buffer)
        # A CR at the end may be half a line end, which does not count as part of the line.
        length = len(buffer) - self._line - buffer.endswith(b"\r")
        if length > limits.max_header_line or len(buffer) > limits.max_header_size:
            raise self._too_large(length)
        return None

    def _too_large(self, line_length: int) -> HandshakeError:
        limits = self._limits
        if line_length > limits.max_header_line:
            what = "a header line" if self._lines else "the request line"
            return HandshakeError(
                431 if self._lines else 414,
                f"{what} is longer than {limits.max_header_line} bytes: "
                "max-header-line moves this limit",
            )
        return HandshakeError(
            431,
            f"the head is larger than {limits.max_header_size} bytes: "
            "max-header-size moves this limit",
        )


class _Collector:
    """What httptools calls while it parses one head."""

    __slots__ = ("complete", "headers", "reason")

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.reason = b""

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def _parse_head(
    parser: httptools.HttpRequestParser | httptools.HttpResponseParser,
    collector: _Collector,
    head: bytes,
) -> None:
    """Let httptools judge the syntax of ``head``: it refuses line folding, control characters,
    names that are no tokens, and more than one statement of the body's length."""
    if head.find(b"\r\n\r\n") != len(head) - 4:
        raise _bad("an HTTP head ends with its first empty line")
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise _bad(f"not valid HTTP: {_shown(str(error))}") from None
    if not collector.complete:
        raise _bad("not valid HTTP: the head is not complete")


# ------------------------------------------------------------------------------ requests


@dataclass(frozen=True, slots=True)
class Request:
    """The head of an HTTP request.

    Parameters:
        method: as sent; methods are case-sensitive.
        target: the request target as sent.
        path: the path, percent-decoded as UTF-8 (bytes that are none become U+FFFD). May hold any
            character: escape it before it goes to a log.
        raw_path: the path as sent, without the query.
        query_string: what follows the ``?``, as sent.
        http_version: ``"1.1"`` or ``"1.0"``.
        headers: in order; names in lower case, values without surrounding white space. Host names
            the authority of the target if that was an absolute URI (RFC 9112 section 3.2.2).
    """

    method: str
    target: str
    path: str
    raw_path: bytes
    query_string: bytes
    http_version: str
    headers: list[tuple[bytes, bytes]]

    def get(self, name: bytes) -> bytes | None:
        """The value of the first header called ``name`` (lower case), ``None`` if there is none."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def get_all(self, name: bytes) -> list[bytes]:
        """The values of all headers called ``name`` (lower case), in order."""
        return [value for key, value in self.headers if key == name]


def parse_request(head: bytes) -> Request:
    """Read the head of a request (RFC 9112 sections 2 to 6).

    Cheap enough to be called again: whoever keeps ``head`` need not keep the result.

    Parameters:
        head: one whole head, as :attr:`HeadReader.head` has it.

    Raises:
        HandshakeError: 505 if the version is neither HTTP/1.1 nor HTTP/1.0 (such as the preface of
            HTTP/2); 400 for everything else, after which no byte of the connection has a meaning.
    """
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise _bad("the request line is not 'METHOD target HTTP/version'")
    method = line[1].decode("ascii")
    target = line[2].decode("ascii")
    version = f"{line[3].decode()}.{line[4].decode()}"
    if version not in ("1.1", "1.0"):
        raise HandshakeError(505, f"HTTP/{version} is not supported here: use HTTP/1.1")
    collector = _Collector()
    _parse_head(httptools.HttpRequestParser(collector), collector, head)
    headers = collector.headers

    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1:
        raise _bad("more than one Host header")
    if hosts:
        if hosts[0] and not _HOST.fullmatch(hosts[0]):
            raise _bad(f"the Host header is {_shown(hosts[0])}: expected a host and a port")
    elif version == "1.1":
        raise _bad("no Host header: HTTP/1.1 wants exactly one (RFC 9112 section 3.2)")

    if target.startswith("/"):
        # A fragment never belongs in a request (RFC 9112 section 3.2.1).
        if "#" in target:
            raise _bad("the request target has a fragment")
        path, _, query = target.partition("?")
    elif target == "*" and method == "OPTIONS":
        path, query = target, ""
    else:
        absolute = _ABSOLUTE_FORM.fullmatch(target)
        if absolute is None or "#" in target:
            raise _bad(f"the request target is {_shown(target)}: expected a path")
        host = absolute[1].encode("ascii")
        headers = [header for header in headers if header[0] != b"host"]
        headers.insert(0, (b"host", host))
        path, query = absolute[4] or "/", absolute[5] or ""
    return Request(
        method,
        target,
        unquote(path),
        path.encode("ascii"),
        query.encode("ascii"),
        version,
        headers,
    )


def has_body(request: Request) -> bool:
    """Whether bytes of a body follow the head (RFC 9112 section 6.3)."""
    for name, value in request.headers:
        if name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")):
            return True
    return False


def wants_upgrade(request: Request) -> bool:
    """Whether this is an attempt at a WebSocket handshake, to be judged by :func:`check_upgrade`.

    It is if Upgrade names websocket, or if any Sec-WebSocket header is there.
    """
    for name, value in request.headers:
        if name.startswith(b"sec-websocket-"):
            return True
        if name == b"upgrade" and _has_token((value,), b"websocket"):
            return True
    return False


# --------------------------------------------------------------- the server's judgement


@dataclass(frozen=True, slots=True)
class Upgrade:
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
            f"origin {_shown(origin)} is not scheme://host[:port], such as https://example.com"
        )
    scheme = match[1].lower()
    port = int(match[3]) if match[3] else _DEFAULT_PORTS.get(scheme)
    return Origin(scheme, match[2].lower(), port)


# Only for the configuration's origins: a cache of the peers' would be theirs to fill.
_parse_configured_origin = lru_cache(maxsize=256)(parse_origin)


def _is_origin_allowed(
    origin: str, host: bytes | None, origins: Sequence[str] | str | None
) -> bool:
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
            # The scheme is the origin's own: whether TLS ends here or at a proxy is not known.
            match = _HOST.fullmatch(host or b"")
            if match is not None and parsed == parse_origin(
                f"{parsed.scheme}://{match[0].decode('ascii')}"
            ):
                return True
        elif entry != "null" and parsed == _parse_configured_origin(entry):
            return True
    return False


def check_upgrade(request: Request, *, origins: Sequence[str] | str | None = None) -> Upgrade:
    """Apply every rule for a client's opening handshake (RFC 6455 section 4.2.1).

    Parameters:
        request: what :func:`parse_request` read.
        origins: whose pages may connect. ``None`` or ``"any"``: everyone's; ``"same"``: those of
            the host in the Host header, on the same port; otherwise origins such as
            ``https://example.com:8443``, also ``"same"`` and ``"null"`` among them. A request
            without Origin is let through: browsers always send one, and everything else could send
            any.

    Raises:
        HandshakeError: 405 (with Allow) for another method than GET; 505 for another version than
            HTTP/1.1; 426 (with Upgrade and Sec-WebSocket-Version) if no upgrade to websocket is
            asked for or the protocol's version is not 13; 403 for a foreign origin; 400 otherwise.
            Close the connection after answering: the client may have sent frames already.
        ValueError: an entry of ``origins`` is no origin.
    """
    fields: dict[bytes, list[bytes]] = {}
    for name, value in request.headers:
        fields.setdefault(name, []).append(value)

    if request.method != "GET":
        raise HandshakeError(405, "a WebSocket handshake is a GET request", (("Allow", "GET"),))
    if request.http_version != "1.1":
        raise HandshakeError(505, "a WebSocket handshake needs HTTP/1.1")
    if has_body(request):
        raise _bad("a WebSocket handshake has no body")
    if not _has_token(fields.get(b"upgrade", ()), b"websocket"):
        raise HandshakeError(
            426, "this is a WebSocket endpoint: send 'Upgrade: websocket'", _UPGRADE_HEADERS
        )
    if not _has_token(fields.get(b"connection", ()), b"upgrade"):
        raise _bad("the Connection header does not name 'Upgrade'")
    if fields.get(b"sec-websocket-version") != [VERSION]:
        raise HandshakeError(
            426, "Sec-WebSocket-Version must be 13, the only one spoken here", _UPGRADE_HEADERS
        )
    keys = fields.get(b"sec-websocket-key", ())
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise _bad("Sec-WebSocket-Key must come once and be 16 bytes in base64")

    origin_headers = fields.get(b"origin", ())
    if len(origin_headers) > 1:
        raise _bad("more than one Origin header")
    origin = origin_headers[0].decode("latin-1") if origin_headers else None
    if origin is not None and not _is_origin_allowed(origin, request.get(b"host"), origins):
        raise HandshakeError(403, f"origin {_shown(origin)} is not allowed here")

    subprotocols = _list(fields.get(b"sec-websocket-protocol", ()))
    for subprotocol in subprotocols:
        if not _is_token(subprotocol):
            raise _bad(f"subprotocol {_shown(subprotocol)} is not a token")
    try:
        extensions = parse_extensions(fields.get(b"sec-websocket-extensions", ()))
    except ValueError:
        # An offer that cannot be read need not be accepted (section 9.1).
        extensions = []
    return Upgrade(
        request,
        keys[0],
        tuple(dict.fromkeys(subprotocol.decode("ascii") for subprotocol in subprotocols)),
        extensions,
        origin,
    )


def parse_extensions(values: Iterable[bytes]) -> list[Extension]:
    """Read the values of all Sec-WebSocket-Extensions headers (RFC 6455 section 9.1).

    Raises:
        ValueError: the grammar of that section is broken.
    """
    extensions: list[Extension] = []
    # A quoted-string must be a token once it is unquoted, so no comma or semicolon that splits the
    # list here can be inside a valid one.
    for element in _list(values):
        name, *parts = [part.strip(b" \t") for part in element.split(b";")]
        if not _is_token(name):
            raise ValueError(f"{_shown(name)} is not the name of an extension")
        parameters: list[tuple[str, str | None]] = []
        for part in parts:
            key, equals, value = part.partition(b"=")
            key, value = key.rstrip(b" \t"), value.lstrip(b" \t")
            unquoted = value
            if len(value) >= 2 and value[0] == value[-1] == 0x22:
                unquoted = _QUOTED_PAIR.sub(rb"\1", value[1:-1])
            if not _is_token(key) or (equals and not _is_token(unquoted)):
                raise ValueError(f"{_shown(part)} is not the parameter of an extension")
            parameters.append((key.decode("ascii"), value.decode("ascii") if equals else None))
        extensions.append((name.decode("ascii"), parameters))
    return extensions


# ------------------------------------------------------------------------------ responses


def normalize_headers(headers: HeaderPairs | None) -> list[tuple[bytes, bytes]]:
    """Check an application's headers, so that nothing in them can pass for another line.

    Parameters:
        headers: pairs of ``bytes`` or ``str``, or a mapping. ``str`` is encoded as Latin-1.

    Returns:
        Pairs of bytes; names in the case given, values without surrounding white space.

    Raises:
        ValueError: a name is no token; a value has CR, LF, NUL, another control character, or a
            character beyond Latin-1.
        TypeError: a name or a value is neither ``bytes`` nor ``str``.
    """
    if not headers:
        return []
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [_normalize_header(name, value) for name, value in pairs]


def _normalize_header(name: bytes | str, value: bytes | str) -> tuple[bytes, bytes]:
    for part in (name, value):
        if not isinstance(part, bytes | str):
            raise TypeError(
                f"header {name!r} has a {type(part).__name__} in it: expected bytes or str"
            )
    try:
        raw_name = name.encode("ascii") if isinstance(name, str) else name
        raw_value = value.encode("latin-1") if isinstance(value, str) else value
    except UnicodeEncodeError:
        raise ValueError(
            f"header {name!a} has characters that HTTP cannot carry: encode them to ASCII"
        ) from None
    if not _is_token(raw_name):
        raise ValueError(f"{name!a} is not the name of a header: expected an HTTP token")
    if raw_value.translate(None, _FIELD_VALUE):
        raise ValueError(
            f"header {name!a} has a control character in its value (CR, LF, NUL or another): "
            "remove it"
        )
    return raw_name, raw_value.strip(b" \t")


def _refuse_owned(headers: Iterable[tuple[bytes, bytes]], owned: Mapping[bytes, str]) -> None:
    for name, _ in headers:
        if (instead := owned.get(name.lower())) is not None:
            raise ValueError(f"header {name.decode('ascii')} must not be set here: {instead}")


def _message(start_line: str, headers: Iterable[tuple[bytes, bytes]], body: bytes = b"") -> bytes:
    lines = [start_line.encode("latin-1")]
    lines += [b"%b: %b" % header for header in headers]
    return b"\r\n".join([*lines, b"", body])


_HANDSHAKE_ITSELF = "the handshake sends it itself"
_OWNED_BY_ACCEPT = {
    b"connection": _HANDSHAKE_ITSELF,
    b"upgrade": _HANDSHAKE_ITSELF,
    b"sec-websocket-accept": _HANDSHAKE_ITSELF,
    b"sec-websocket-extensions": "the compression option decides on it",
    b"sec-websocket-protocol": "pass subprotocol= to accept()",
    # RFC 9110 section 8.6 and RFC 9112 section 6.1: not in a 1xx response.
    b"content-length": "a 101 response has no body",
    b"transfer-encoding": "a 101 response has no body",
}
_OWNED_BY_RESPONSE = {
    b"connection": "whether the connection closes is not the application's to say",
    b"transfer-encoding": "the body is sent whole, with its length",
}
_OWNED_BY_CLIENT = {
    b"host": "it comes from the URI",
    b"connection": _HANDSHAKE_ITSELF,
    b"upgrade": _HANDSHAKE_ITSELF,
    b"sec-websocket-key": _HANDSHAKE_ITSELF,
    b"sec-websocket-version": _HANDSHAKE_ITSELF,
    b"sec-websocket-extensions": "the compression option decides on it",
    b"sec-websocket-protocol": "pass the subprotocols by their own argument",
    b"origin": "pass the origin by its own argument",
    b"content-length": "a WebSocket handshake has no body",
    b"transfer-encoding": "a WebSocket handshake has no body",
}


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
) -> bytes:
    """The 101 response, after which the connection carries frames (RFC 6455 section 4.2.2).

    Parameters:
        upgrade: what :func:`check_upgrade` returned.
        subprotocol: one of ``upgrade.subprotocols``, or ``None`` for none: no header then.
        extensions: the value of Sec-WebSocket-Extensions from :func:`fastws.deflate.negotiate`.
        headers: the application's own.

    Raises:
        ValueError: the subprotocol was not offered; a header is malformed (see
            :func:`normalize_headers`) or belongs to the handshake.
        TypeError: a header is neither ``bytes`` nor ``str``.
    """
    own = [
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Accept", accept_key(upgrade.key)),
    ]
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
    _refuse_owned(added, _OWNED_BY_ACCEPT)
    return _message("HTTP/1.1 101 Switching Protocols", own + added)


def _reason_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        # An unregistered code is legal; so is an empty phrase (RFC 9112 section 4).
        return ""


def http_response(
    status: int,
    headers: HeaderPairs = (),
    body: bytes = b"",
    *,
    close: bool = True,
    head_only: bool = False,
) -> bytes:
    """A whole HTTP/1.1 response: a refused handshake, or a page of the small HTTP side.

    Content-Length and Connection are added; Date and Content-Type are the caller's.

    Parameters:
        status: 200 to 599.
        headers: the caller's; a Content-Length among them must be the body's.
        body: the content; none with 204 and 304.
        close: whether the connection closes after it.
        head_only: for HEAD: the same head, and no body. A Content-Length among ``headers`` then
            stands for a body that was not passed.

    Raises:
        ValueError: the status is out of range or allows no body; a header is malformed (see
            :func:`normalize_headers`), or is Connection or Transfer-Encoding; Content-Length is
            wrong.
        TypeError: a header is neither ``bytes`` nor ``str``.
    """
    if not 200 <= status <= 599:
        raise ValueError(f"HTTP status {status} cannot answer a request: expected 200 to 599")
    bodiless = status in (204, 304)
    if bodiless and body:
        raise ValueError(f"an HTTP response with status {status} has no body")
    given = normalize_headers(headers)
    _refuse_owned(given, _OWNED_BY_RESPONSE)
    length = b"%d" % len(body)
    fields: list[tuple[bytes, bytes]] = []
    switches = False
    for name, value in given:
        lower = name.lower()
        if lower == b"content-length":
            if not value.isdigit():
                raise ValueError(f"Content-Length is {_shown(value)}: expected a number of bytes")
            if head_only and not body:
                length = value
            elif int(value) != len(body):
                raise ValueError(
                    f"Content-Length is {_shown(value)} but the body has {len(body)} bytes: "
                    "leave the header out"
                )
            continue
        switches = switches or lower == b"upgrade"
        fields.append((name, value))
    if not bodiless:
        fields.append((b"Content-Length", length))
    # Upgrade is a hop's own header, which Connection must name (RFC 9110 section 7.8).
    connection = b"close" if close else b"keep-alive"
    fields.append((b"Connection", b"Upgrade, " + connection if switches else connection))
    start_line = f"HTTP/1.1 {status} {_reason_phrase(status)}"
    return _message(start_line, fields, b"" if head_only else body)


def error_response(error: HandshakeError) -> bytes:
    """The response that tells the peer why its handshake failed; close the connection after it."""
    headers = [*error.headers, ("Content-Type", "text/plain; charset=utf-8")]
    return http_response(error.status, headers, f"{error.message}\n".encode())


# ------------------------------------------------------------------------- the client role


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
        raise ValueError(f"URI {_shown(uri)} has spaces or control characters: percent-encode them")
    try:
        parts = urlsplit(uri)
        host = parts.hostname or ""
        host = host if host.isascii() else host.encode("idna").decode("ascii")
        port = parts.port
    except ValueError as error:
        raise ValueError(f"URI {_shown(uri)} has a bad host or port: {error}") from None
    if parts.scheme not in ("ws", "wss"):
        raise ValueError(f"URI {_shown(uri)} must begin with ws:// or wss://")
    if "#" in uri:
        raise ValueError(f"URI {_shown(uri)} has a fragment: a WebSocket URI has none")
    if "@" in parts.netloc:
        raise ValueError("the URI has credentials in it: send an Authorization header instead")
    if not host:
        raise ValueError(f"URI {_shown(uri)} has no host")
    if port == 0:
        raise ValueError(f"URI {_shown(uri)} has port 0: expected 1 to 65535")
    secure = parts.scheme == "wss"
    port = port or _DEFAULT_PORTS[parts.scheme]
    if not _HOST.fullmatch(_authority(host, port, secure)):
        raise ValueError(f"URI {_shown(uri)} has a bad host")
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
    if not _KEY.fullmatch(key):
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
            if not subprotocol.isascii() or not _is_token(subprotocol.encode("ascii")):
                raise ValueError(f"subprotocol {_shown(subprotocol)} is not a token")
        if len(set(subprotocols)) != len(subprotocols):
            raise ValueError("a subprotocol is offered twice")
        own.append((b"Sec-WebSocket-Protocol", ", ".join(subprotocols).encode("ascii")))
    if extensions is not None:
        own += normalize_headers([("Sec-WebSocket-Extensions", extensions)])
    if origin is not None:
        own += normalize_headers([("Origin", origin)])
    added = normalize_headers(headers)
    _refuse_owned(added, _OWNED_BY_CLIENT)
    return _message(f"GET {resource} HTTP/1.1", own + added)


@dataclass(frozen=True, slots=True)
class Response:
    """The head of an HTTP response.

    Parameters:
        status: the status code.
        reason: the reason phrase, ``""`` if there is none.
        http_version: such as ``"1.1"``.
        headers: in order; names in lower case, values without surrounding white space.
    """

    status: int
    reason: str
    http_version: str
    headers: list[tuple[bytes, bytes]]

    def get_all(self, name: bytes) -> list[bytes]:
        """The values of all headers called ``name`` (lower case), in order."""
        return [value for key, value in self.headers if key == name]


def parse_response(head: bytes) -> Response:
    """Read the head of a response (RFC 9112 sections 2 to 6).

    Parameters:
        head: one whole head, as :attr:`HeadReader.head` has it.

    Raises:
        HandshakeError: 400 if it is not valid HTTP.
    """
    collector = _Collector()
    parser = httptools.HttpResponseParser(collector)
    try:
        _parse_head(parser, collector, head)
    except HandshakeError:
        # httptools does not know how to go on after a 101 that lacks an upgrade header. Its head is
        # well-formed all the same, and check_response says what is missing.
        if not collector.complete or parser.get_status_code() != 101:
            raise
    return Response(
        parser.get_status_code(),
        collector.reason.decode("latin-1"),
        parser.get_http_version(),
        collector.headers,
    )


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
        phrase = f" {_shown(response.reason)}" if response.reason else ""
        raise HandshakeError(
            response.status,
            f"the server answered {response.status}{phrase} instead of 101 Switching Protocols",
        )
    if response.http_version != "1.1":
        raise HandshakeError(502, "the server's 101 is not HTTP/1.1")
    if [value.lower() for value in response.get_all(b"upgrade")] != [b"websocket"]:
        raise HandshakeError(502, "the server's 101 has no 'Upgrade: websocket'")
    if not _has_token(response.get_all(b"connection"), b"upgrade"):
        raise HandshakeError(502, "the server's 101 has no 'Connection: Upgrade'")
    if response.get_all(b"sec-websocket-accept") != [accept_key(key)]:
        raise HandshakeError(502, "the server's Sec-WebSocket-Accept does not answer the key")

    chosen = response.get_all(b"sec-websocket-protocol")
    subprotocol = chosen[0].decode("latin-1") if chosen else None
    if len(chosen) > 1 or (subprotocol is not None and subprotocol not in subprotocols):
        raise HandshakeError(
            502, f"the server chose subprotocol {_shown(b', '.join(chosen))}, which was not offered"
        )
    try:
        extensions = parse_extensions(response.get_all(b"sec-websocket-extensions"))
    except ValueError as error:
        raise HandshakeError(502, f"the server's Sec-WebSocket-Extensions: {error}") from None
    if extensions and not extensions_offered:
        raise HandshakeError(502, "the server accepted an extension, but none was offered")
    return subprotocol, extensions
