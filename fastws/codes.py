"""The numbers of RFC 6455 and the names this package gives to what can go wrong on the wire.

Every opcode, close code, connection state and protocol violation is written here and nowhere else.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

__all__ = [
    "CloseCode",
    "Opcode",
    "VIOLATIONS",
    "Violation",
    "WebSocketState",
    "encode_close",
    "fitting_reason",
    "is_valid_close_code",
]

MAX_CONTROL_PAYLOAD = 125
"""Bytes a control frame may carry (RFC 6455 section 5.5)."""

MAX_CLOSE_REASON = MAX_CONTROL_PAYLOAD - 2
"""UTF-8 bytes of a close reason: a CLOSE payload less its two bytes of code (section 5.5.1)."""


class Opcode(IntEnum):
    """Frame types (RFC 6455 section 5.2); all other values are reserved."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class CloseCode(IntEnum):
    """Status codes of a CLOSE (RFC 6455 section 7.4.1 and the IANA registry it opened).

    1005, 1006 and 1015 never travel in a frame: they report that no code was sent, that TCP was
    lost without a CLOSE, and that TLS failed.
    """

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS_RECEIVED = 1005
    ABNORMAL_CLOSURE = 1006
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015


class WebSocketState(IntEnum):
    """Where a connection stands. An ``IntEnum``, so that ``ws.client_state == 1`` holds as well."""

    CONNECTING = 0
    CONNECTED = 1
    CLOSING = 2
    DISCONNECTED = 3

    @property
    def can_send(self) -> bool:
        """Whether data may be sent: after the opening handshake and before a CLOSE of ours."""
        return self is WebSocketState.CONNECTED

    @property
    def is_active(self) -> bool:
        """Whether the opening handshake is done and the closing one has not begun."""
        return self is WebSocketState.CONNECTED

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be received or sent."""
        return self is WebSocketState.DISCONNECTED


def is_valid_close_code(code: int) -> bool:
    """Whether ``code`` may stand in a CLOSE frame (RFC 6455 section 7.4 and the IANA registry).

    These are 1000 to 1003, 1007 to 1014 and 3000 to 4999.
    """
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def encode_close(code: int | None, reason: str | None = None) -> bytes:
    """The payload of a CLOSE frame (RFC 6455 section 5.5.1).

    Parameters:
        code: the status code, or ``None`` for a CLOSE without one.
        reason: at most 123 bytes once encoded as UTF-8; needs a code.

    Raises:
        ValueError: the code must not be sent, the reason is too long or has no code to follow, or
            is not encodable (a lone surrogate).
    """
    if code is None:
        if reason:
            raise ValueError("a close reason needs a close code in front of it: pass code= as well")
        return b""
    if not is_valid_close_code(code):
        raise ValueError(
            f"close code {code} must not be sent: use 1000-1003, 1007-1014 or 3000-4999"
        )
    encoded = (reason or "").encode("utf-8")
    if len(encoded) > MAX_CLOSE_REASON:
        raise ValueError(
            f"the close reason is {len(encoded)} bytes of UTF-8; "
            f"a CLOSE frame has room for {MAX_CLOSE_REASON}"
        )
    return int(code).to_bytes(2, "big") + encoded


def fitting_reason(text: str) -> str:
    """As much of ``text`` as a CLOSE frame has room for."""
    return text.encode("utf-8", "replace")[:MAX_CLOSE_REASON].decode("utf-8", "ignore")


class Violation(NamedTuple):
    """Something the peer did that ends the connection: errors are data, not exceptions."""

    name: str
    """A stable name for programs and logs, such as ``INVALID_UTF8``."""
    code: CloseCode
    """The close code that answers it."""
    reason: str
    """A sentence for people; it travels in the CLOSE, so it has at most 123 bytes."""


def _table(*rows: Violation) -> dict[str, Violation]:
    return {row.name: row for row in rows}


_PROTOCOL = CloseCode.PROTOCOL_ERROR
_PAYLOAD = CloseCode.INVALID_PAYLOAD
_POLICY = CloseCode.POLICY_VIOLATION
_TOO_BIG = CloseCode.MESSAGE_TOO_BIG

VIOLATIONS: dict[str, Violation] = _table(
    # RFC 6455 section 5.2: the frame header.
    Violation("RESERVED_BITS", _PROTOCOL, "a reserved bit is set that no extension uses"),
    Violation("RESERVED_OPCODE", _PROTOCOL, "reserved opcode"),
    Violation("LENGTH_TOP_BIT", _PROTOCOL, "the top bit of a 64-bit length is set"),
    Violation("LENGTH_NOT_MINIMAL", _PROTOCOL, "the payload length is not in its shortest form"),
    # Section 5.1: who masks.
    Violation("UNMASKED_FRAME", _PROTOCOL, "a client must mask its frames"),
    Violation("MASKED_FRAME", _PROTOCOL, "a server must not mask its frames"),
    # Sections 5.4 and 5.5: fragments and control frames.
    Violation("UNEXPECTED_CONTINUATION", _PROTOCOL, "a continuation without a message to continue"),
    Violation("EXPECTED_CONTINUATION", _PROTOCOL, "a new message inside an unfinished one"),
    Violation("FRAGMENTED_CONTROL", _PROTOCOL, "a control frame must not be fragmented"),
    Violation("CONTROL_TOO_LONG", _PROTOCOL, "a control frame carries at most 125 bytes"),
    # Section 5.5.1 and 7.4: CLOSE.
    Violation("CLOSE_PAYLOAD_OF_ONE_BYTE", _PROTOCOL, "a close payload of one byte"),
    Violation("INVALID_CLOSE_CODE", _PROTOCOL, "a close code that must not be sent"),
    Violation("INVALID_CLOSE_REASON", _PAYLOAD, "the close reason is not valid UTF-8"),
    # Section 8.1.
    Violation("INVALID_UTF8", _PAYLOAD, "a text message is not valid UTF-8"),
    # RFC 7692 section 7.2.2.
    Violation("INVALID_DEFLATE", _PAYLOAD, "a compressed message cannot be decompressed"),
    # Limits of this endpoint; each reason names the option that moves it.
    Violation("MESSAGE_TOO_BIG", _TOO_BIG, "the message is larger than ws-max-size allows"),
    Violation("TOO_MANY_FRAGMENTS", _POLICY, "more fragments than ws-max-fragments allows"),
    Violation("TOO_MANY_MESSAGES", _POLICY, "more messages a second than limit-message-rate"),
    Violation("TOO_MANY_FINAL_BLOCKS", _TOO_BIG, "too many final deflate blocks in a message"),
)
