"""What a codec or a protocol reports; messages themselves are ``str`` or ``bytes``."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

__all__ = ["Close", "Event", "Ping", "Pong"]


class Ping(NamedTuple):
    """The peer asks for a sign of life (RFC 6455 section 5.5.2)."""

    data: bytes


class Pong(NamedTuple):
    """The answer to a PING, or an unsolicited one (RFC 6455 section 5.5.3)."""

    data: bytes


class Close(NamedTuple):
    """The peer's CLOSE (RFC 6455 section 5.5.1); nothing follows it.

    ``code`` is 1005 if the frame carried none.
    """

    code: int
    reason: str


Event: TypeAlias = str | bytes | Ping | Pong | Close
