"""Heads of HTTP messages for tests: a valid opening handshake and its variations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

from fastws.exceptions import HandshakeError
from fastws.handshake import check_upgrade
from fastws.http_head import HeadReader, error_response, parse_request
from fastws.limits import DEFAULT_LIMITS, Limits

T = TypeVar("T")

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # the answer in RFC 6455 section 1.3

HANDSHAKE = {
    "Host": "server.example.com",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY.decode(),
    "Sec-WebSocket-Version": "13",
}


def head(
    *lines: str | bytes,
    start: str = "GET /chat HTTP/1.1",
    without: str = "",
    **replaced: str,
) -> bytes:
    """A valid handshake, less one header, with others replaced, and with more header lines."""
    fields = {name: value for name, value in HANDSHAKE.items() if name != without}
    for name, value in replaced.items():
        fields[name.replace("_", "-")] = value
    out = [start.encode(), *(f"{name}: {value}".encode() for name, value in fields.items())]
    out += [line if isinstance(line, bytes) else line.encode("latin-1") for line in lines]
    return b"\r\n".join([*out, b"", b""])


def read(data: bytes, limits: Limits = DEFAULT_LIMITS) -> tuple[bytes, bytes | None]:
    """The first head in ``data``, and what follows it; ``None`` if the head is not complete."""
    reader = HeadReader(limits)
    rest = reader.feed(data)
    return reader.head, rest


def status_of(data: bytes, origins: Sequence[str] | str | None = None) -> int:
    """The status that refuses ``data``, 101 if nothing does: through all the steps of a server."""
    try:
        complete, rest = read(data)
        assert rest is not None, "the head is not complete"
        check_upgrade(parse_request(complete), origins=origins)
    except HandshakeError as error:
        error_response(error)
        return error.status
    return 101


def attempt(step: Callable[[], T]) -> T | HandshakeError:
    """What ``step`` returns, or the one exception that a peer may cause."""
    try:
        return step()
    except HandshakeError as error:
        return error


def refusal(data: bytes) -> HandshakeError:
    """The exception with which a server refuses the head ``data``."""
    with pytest.raises(HandshakeError) as caught:
        check_upgrade(parse_request(data))
    return caught.value
