"""The numbers of RFC 6455, CLOSE payloads, and the table of violations."""

from __future__ import annotations

import pytest

from fastws.codes import (
    MAX_CLOSE_REASON,
    MAX_CONTROL_PAYLOAD,
    VIOLATIONS,
    CloseCode,
    Opcode,
    WebSocketState,
    encode_close,
    is_valid_close_code,
)
from fastws.config import OPTIONS


def test_opcodes_are_those_of_the_rfc() -> None:
    assert {opcode.name: opcode.value for opcode in Opcode} == {
        "CONTINUATION": 0,
        "TEXT": 1,
        "BINARY": 2,
        "CLOSE": 8,
        "PING": 9,
        "PONG": 10,
    }


def test_states_are_those_of_the_api() -> None:
    assert [(state.name, int(state)) for state in WebSocketState] == [
        ("CONNECTING", 0),
        ("CONNECTED", 1),
        ("CLOSING", 2),
        ("DISCONNECTED", 3),
    ]


def test_predicates_of_states() -> None:
    connected = WebSocketState.CONNECTED
    assert [state for state in WebSocketState if state.can_send] == [connected]
    assert [state for state in WebSocketState if state.is_active] == [connected]
    assert [state for state in WebSocketState if state.is_over] == [WebSocketState.DISCONNECTED]


def test_close_codes_that_may_be_sent() -> None:
    sendable = {code for code in range(-1, 70_000) if is_valid_close_code(code)}
    assert sendable == {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


def test_named_close_codes() -> None:
    never_sent = {1005, 1006, 1015}
    assert {int(code) for code in CloseCode} == {*range(1000, 1004), *range(1005, 1016)}
    for code in CloseCode:
        assert is_valid_close_code(code) == (code not in never_sent)


@pytest.mark.parametrize(
    ("code", "reason", "payload"),
    [
        (None, None, b""),
        (None, "", b""),
        (1000, None, b"\x03\xe8"),
        (1000, "", b"\x03\xe8"),
        (CloseCode.GOING_AWAY, "bye", b"\x03\xe9bye"),
        (4999, "über", b"\x13\x87\xc3\xbcber"),
        (1000, "r" * 123, b"\x03\xe8" + b"r" * 123),
        (1000, "é" * 61, b"\x03\xe8" + "é".encode() * 61),
    ],
)
def test_close_payloads(code: int | None, reason: str | None, payload: bytes) -> None:
    assert encode_close(code, reason) == payload


@pytest.mark.parametrize(
    ("code", "reason", "message"),
    [
        (1005, None, "close code 1005 must not be sent: use 1000-1003, 1007-1014 or 3000-4999"),
        (1006, "", "close code 1006 must not be sent"),
        (999, "", "close code 999 must not be sent"),
        (5000, "", "close code 5000 must not be sent"),
        (-1, "", "close code -1 must not be sent"),
        (1000, "r" * 124, "the close reason is 124 bytes of UTF-8; a CLOSE frame has room for 123"),
        (1000, "é" * 62, "the close reason is 124 bytes of UTF-8"),
        (None, "why", "a close reason needs a close code"),
        (1000, "\ud800", "surrogates not allowed"),
    ],
)
def test_close_payloads_that_must_not_be(code: int | None, reason: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_close(code, reason)


def test_every_violation_can_be_answered() -> None:
    """Its reason travels in the CLOSE that answers it."""
    for name, violation in VIOLATIONS.items():
        assert violation.name == name
        assert len(encode_close(violation.code, violation.reason)) <= MAX_CONTROL_PAYLOAD
        assert violation.reason
        assert len(violation.reason.encode()) <= MAX_CLOSE_REASON
        assert violation.code in (1002, 1007, 1008, 1009)


def test_the_names_of_violations_are_stable() -> None:
    """Programs and logs rely on them: this list grows, and nothing in it changes."""
    assert set(VIOLATIONS) == {
        "RESERVED_BITS",
        "RESERVED_OPCODE",
        "LENGTH_TOP_BIT",
        "LENGTH_NOT_MINIMAL",
        "UNMASKED_FRAME",
        "MASKED_FRAME",
        "UNEXPECTED_CONTINUATION",
        "EXPECTED_CONTINUATION",
        "FRAGMENTED_CONTROL",
        "CONTROL_TOO_LONG",
        "CLOSE_PAYLOAD_OF_ONE_BYTE",
        "INVALID_CLOSE_CODE",
        "INVALID_CLOSE_REASON",
        "INVALID_UTF8",
        "INVALID_DEFLATE",
        "MESSAGE_TOO_BIG",
        "TOO_MANY_FRAGMENTS",
        "TOO_MANY_MESSAGES",
        "TOO_MANY_FINAL_BLOCKS",
    }


@pytest.mark.parametrize("name", ["MESSAGE_TOO_BIG", "TOO_MANY_FRAGMENTS", "TOO_MANY_MESSAGES"])
def test_the_reason_of_a_limit_names_its_option(name: str) -> None:
    words = VIOLATIONS[name].reason.split()
    assert {option.name for option in OPTIONS} & set(words)
