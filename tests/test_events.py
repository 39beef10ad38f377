"""What the codec reports besides messages: plain tuples with names."""

from __future__ import annotations

import pickle

import pytest

from fastws.events import Close, Ping, Pong


@pytest.mark.parametrize("event", [Ping(b"p"), Pong(b""), Close(1000, "bye")])
def test_events_compare_by_value_within_their_kind_and_can_be_stored(event: Ping) -> None:
    assert event == type(event)(*event)
    assert hash(event) == hash(type(event)(*event))
    copy = pickle.loads(pickle.dumps(event))
    assert copy == event
    assert type(copy) is type(event)


def test_fields() -> None:
    assert Ping(b"data").data == Pong(b"data").data == b"data"
    code, reason = Close(1001, "gone")
    assert (code, reason) == (1001, "gone")


def test_they_are_told_from_messages_and_from_each_other_by_their_type() -> None:
    for event in (Ping(b""), Pong(b""), Close(1000, "")):
        assert not isinstance(event, (str, bytes))
    assert not isinstance(Ping(b""), Pong)


def test_a_match_statement_takes_them_apart() -> None:
    found = []
    for event in ("text", b"binary", Ping(b"1"), Pong(b"2"), Close(1000, "bye")):
        match event:
            case str() | bytes():
                found.append(event)
            case Ping(data) | Pong(data):
                found.append(data)
            case Close(code, reason):
                found.append(f"{code} {reason}")
    assert found == ["text", b"binary", b"1", b"2", "1000 bye"]
