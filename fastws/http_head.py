"""HTTP/1.1 messages, sans-I/O (RFC 9112): heads in, checked requests and response bytes out.

:class:`HeadReader` collects a head, :func:`parse_request` or :func:`parse_response` reads it;
:func:`http_response` and :func:`error_response` make the answer.

Whatever the peer sends, these functions raise :class:`~fastws.exceptions.HandshakeError` and
nothing else, in time linear in its bytes. A ``ValueError`` or ``TypeError`` is the caller's own
mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote

import httptools

from fastws.exceptions import HandshakeError
from fastws.http_fields import HeaderPairs, normalize_headers, refuse_owned, shown
from fastws.limits import Limits

__all__ = [
    "AUTHORITY",
    "HOST",
    "HeadReader",
    "Request",
    "Response",
    "bad_request",
    "build_message",
    "error_response",
    "has_body",
    "http_response",
    "parse_request",
    "parse_response",
]

# Every expression below is a sequence of disjoint character classes, so none can backtrack far.
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/([0-9]\.[0-9])\r\n")
AUTHORITY = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()+,;=-]+)(?::([0-9]{0,5}))?"
"""RFC 3986 section 3.2.2: uri-host [":" port]; no userinfo. An asterisk would be legal, but no host
has one, and in a list of origins it would pass for a pattern."""
HOST = re.compile(AUTHORITY.encode())
_ABSOLUTE_FORM = re.compile(rf"(?:https?|wss?)://({AUTHORITY})(/[^?]*)?(?:\?(.*))?", re.I)

TLS_HANDSHAKE = b"\x16"
"""How a connection begins that speaks TLS: the type of its first record (RFC 8446 section 5.1)."""

_OWNED_BY_RESPONSE = {
    b"connection": "whether the connection closes is not the application's to say",
    b"transfer-encoding": "the body is sent whole, with its length",
}


def bad_request(message: str) -> HandshakeError:
    """The refusal of what is no valid HTTP or no valid handshake."""
    return HandshakeError(400, message)


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
                are too many, or if the head is too large; 400 for a line that LF alone ends, more
                than one empty line at the start, or TLS. Close the connection after answering.
            RuntimeError: the head was complete already.
        """
        if self.head:
            raise RuntimeError("this head is complete: read the next one with a new HeadReader")
        limits = self._limits
        buffer = self._buffer
        before = len(buffer)
        if data[:1] == TLS_HANDSHAKE and not before:
            # It waits for an answer, and none of its bytes need ever be the end of a line.
            raise bad_request("this is TLS, and HTTP without TLS is served here")
        if not before and self._read_at_once(data):
            return data[len(self.head) :]
        # One byte beyond the limit is enough to refuse, however much arrived.
        buffer += data[: limits.max_header_size + 1 - before]
        while (newline := buffer.find(b"\n", self._scanned)) >= 0:
            # A slice, for there is nothing before the very first byte.
            bare = buffer[newline - 1 : newline] != b"\r"
            length = newline - self._line - (not bare)
            if length > limits.max_header_line or newline >= limits.max_header_size:
                raise self._too_large(length)
            if bare:
                raise bad_request(
                    "a line ends with LF alone: HTTP wants CRLF (RFC 9112 section 2.2)"
                )
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
                raise bad_request("several empty lines before the request line")
            else:
                # One empty line before the request line is to be ignored (RFC 9112 section 2.2).
                self._begin = newline + 1
        self._scanned = len(buffer)
        # A CR at the end may be half a line end, which does not count as part of the line.
        length = len(buffer) - self._line - buffer.endswith(b"\r")
        if length > limits.max_header_line or len(buffer) > limits.max_header_size:
            raise self._too_large(length)
        return None

    def _read_at_once(self, data: bytes) -> bool:
        """Read a head that came in one piece and is within the limits, as most are.

        About any other :meth:`feed` finds out what is to be said.
        """
        limits = self._limits
        end = data.find(b"\r\n\r\n") + 4
        if not 4 < end <= limits.max_header_size:
            return False
        head = data[:end]
        # With the request line and the empty one.
        lines = head.count(b"\r\n")
        if (
            lines - 2 > limits.max_header_count
            or head.count(b"\n") != lines
            or head.startswith(b"\r\n")
            or (end > limits.max_header_line and _longest_line(head) > limits.max_header_line)
        ):
            return False
        self.head = head
        return True

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


def _longest_line(head: bytes) -> int:
    return max(map(len, head.split(b"\r\n")))


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
        raise bad_request("an HTTP head ends with its first empty line")
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise bad_request(f"not valid HTTP: {shown(str(error))}") from None
    if not collector.complete:
        raise bad_request("not valid HTTP: the head is not complete")


# ------------------------------------------------------------------------------ requests


class Request(NamedTuple):
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
        fields: the values of the headers, in order, by their names.
    """

    method: str
    target: str
    path: str
    raw_path: bytes
    query_string: bytes
    http_version: str
    headers: list[tuple[bytes, bytes]]
    fields: dict[bytes, list[bytes]]

    def get(self, name: bytes) -> bytes | None:
        """The value of the first header called ``name`` (lower case), ``None`` if there is none."""
        values = self.fields.get(name)
        return values[0] if values else None

    def get_all(self, name: bytes) -> list[bytes]:
        """The values of all headers called ``name`` (lower case), in order."""
        return list(self.fields.get(name, ()))


def _by_name(headers: list[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    fields = {name: [value] for name, value in headers}
    if len(fields) < len(headers):
        # Few have a name twice.
        fields = {}
        for name, value in headers:
            fields.setdefault(name, []).append(value)
    return fields


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
        raise bad_request("the request line is not 'METHOD target HTTP/version'")
    method = line[1].decode("ascii")
    target = line[2].decode("ascii")
    version = line[3].decode("ascii")
    if version not in ("1.1", "1.0"):
        raise HandshakeError(505, f"HTTP/{version} is not supported here: use HTTP/1.1")
    collector = _Collector()
    _parse_head(httptools.HttpRequestParser(collector), collector, head)
    headers = collector.headers

    fields = _by_name(headers)
    hosts = fields.get(b"host", ())
    if len(hosts) > 1:
        raise bad_request("more than one Host header")
    if hosts:
        if hosts[0] and not HOST.fullmatch(hosts[0]):
            raise bad_request(f"the Host header is {shown(hosts[0])}: expected a host and a port")
    elif version == "1.1":
        raise bad_request("no Host header: HTTP/1.1 wants exactly one (RFC 9112 section 3.2)")

    if target.startswith("/"):
        # A fragment never belongs in a request (RFC 9112 section 3.2.1).
        if "#" in target:
            raise bad_request("the request target has a fragment")
        path, _, query = target.partition("?")
    elif target == "*" and method == "OPTIONS":
        path, query = target, ""
    else:
        absolute = _ABSOLUTE_FORM.fullmatch(target)
        if absolute is None or "#" in target:
            raise bad_request(f"the request target is {shown(target)}: expected a path")
        host = absolute[1].encode("ascii")
        headers = [header for header in headers if header[0] != b"host"]
        headers.insert(0, (b"host", host))
        fields[b"host"] = [host]
        path, query = absolute[4] or "/", absolute[5] or ""
    return Request(
        method,
        target,
        unquote(path),
        path.encode("ascii"),
        query.encode("ascii"),
        version,
        headers,
        fields,
    )


def has_body(request: Request) -> bool:
    """Whether bytes of a body follow the head (RFC 9112 section 6.3)."""
    fields = request.fields
    if b"content-length" in fields and any(
        value.strip(b"0") for value in fields[b"content-length"]
    ):
        return True
    return b"transfer-encoding" in fields


# ------------------------------------------------------------------------------ responses


class Response(NamedTuple):
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
    refuse_owned(given, _OWNED_BY_RESPONSE)
    length = b"%d" % len(body)
    fields: list[tuple[bytes, bytes]] = []
    switches = False
    for name, value in given:
        lower = name.lower()
        if lower == b"content-length":
            if not value.isdigit():
                raise ValueError(f"Content-Length is {shown(value)}: expected a number of bytes")
            if head_only and not body:
                length = value
            elif int(value) != len(body):
                raise ValueError(
                    f"Content-Length is {shown(value)} but the body has {len(body)} bytes: "
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
    return build_message(start_line, fields, b"" if head_only else body)


def error_response(
    error: HandshakeError, server_headers: Sequence[tuple[bytes, bytes]] = ()
) -> bytes:
    """The response that tells the peer why its handshake failed; close the connection after it.

    Parameters:
        error: what was wrong.
        server_headers: those that the server adds to every response.
    """
    kind = ("Content-Type", "text/plain; charset=utf-8")
    headers: list[tuple[bytes | str, bytes | str]] = [*error.headers, *server_headers, kind]
    return http_response(error.status, headers, f"{error.message}\n".encode())


def _reason_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        # An unregistered code is legal; so is an empty phrase (RFC 9112 section 4).
        return ""


def build_message(
    start_line: str, headers: Iterable[tuple[bytes, bytes]], body: bytes = b""
) -> bytes:
    """A message as it goes on the wire; everything in it was checked before."""
    lines = [name + b": " + value for name, value in headers]
    return b"\r\n".join([start_line.encode("latin-1"), *lines, b"", body])
