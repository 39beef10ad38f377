"""The ASGI back end against a server in memory: every verb, every state, every end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from fastws.asgi_connection import ASGIConnection
from fastws.codes import WebSocketState
from fastws.datastructures import Message
from fastws.exceptions import WebSocketClosed, WebSocketDisconnect, WebSocketTypeError
from tests.asgi_peer import ASGIPeer, http_scope
from tests.support import TIMEOUT, run

CONNECTING = WebSocketState.CONNECTING
CONNECTED = WebSocketState.CONNECTED
CLOSING = WebSocketState.CLOSING
DISCONNECTED = WebSocketState.DISCONNECTED

Scenario = Callable[[ASGIConnection, ASGIPeer], Coroutine[Any, Any, None]]

ACCEPTED: Message = {"type": "websocket.accept", "subprotocol": None, "headers": []}


def connection_to(peer: ASGIPeer) -> ASGIConnection:
    return ASGIConnection(peer.scope, peer.receive, peer.send)


def play(scenario: Scenario, *events: Message | str | bytes, **options: Any) -> ASGIPeer:
    """Run a scenario on an accepted connection to a peer that sends `events`."""
    peer = ASGIPeer(events, **options)

    async def main() -> None:
        connection = connection_to(peer)
        await connection.accept()
        assert peer.sent.pop() == ACCEPTED
        await scenario(connection, peer)
        connection.finish()

    run(main())
    return peer


def play_unaccepted(scenario: Scenario, **options: Any) -> ASGIPeer:
    """Run a scenario on a connection that has not been accepted."""
    peer = ASGIPeer(**options)

    async def main() -> None:
        await scenario(connection_to(peer), peer)

    run(main())
    return peer


def states(connection: ASGIConnection) -> tuple[WebSocketState, WebSocketState]:
    return connection.client_state, connection.application_state


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


# Accepting


def test_a_scope_of_another_type_is_refused() -> None:
    peer = ASGIPeer()
    with pytest.raises(ValueError, match="needs 'websocket'"):
        ASGIConnection(http_scope(), peer.receive, peer.send)


def test_accepting_waits_for_the_client_and_connects() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        assert states(connection) == (CONNECTING, CONNECTING)
        task = asyncio.create_task(connection.accept())
        await settle()
        assert peer.sent == []
        peer.put({"type": "websocket.connect"})
        await task
        assert peer.sent == [ACCEPTED]
        assert states(connection) == (CONNECTED, CONNECTED)

    play_unaccepted(scenario, connects=False)


def test_accepting_with_a_subprotocol_and_headers() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        assert connection.subprotocols == ("chat", "other")
        await connection.accept("other", {"X-One": "1"})
        assert connection.subprotocol == "other"
        # ASGI wants the names in lower case.
        headers = [(b"x-one", b"1")]
        assert peer.sent == [
            {"type": "websocket.accept", "subprotocol": "other", "headers": headers}
        ]

    play_unaccepted(scenario, subprotocols=["chat", "other"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subprotocol": "none"}, "'none' was not offered by the client, which offers: chat"),
        ({"headers": [(b"x", b"a\r\nb: c")]}, "CR, LF"),
        ({"headers": {"x y": "1"}}, "not the name of a header"),
    ],
)
def test_what_may_not_be_sent_is_refused_and_accepting_may_be_tried_again(
    options: dict[str, Any], message: str
) -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        with pytest.raises(ValueError, match=message):
            await connection.accept(**options)
        assert peer.sent == []
        assert states(connection) == (CONNECTING, CONNECTING)
        await connection.accept()
        assert peer.sent == [ACCEPTED]

    play_unaccepted(scenario, subprotocols=["chat"])


def test_accepting_twice_is_refused() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        with pytest.raises(RuntimeError, match="has been accepted already"):
            await connection.accept()
        assert peer.sent == []

    play(scenario)


def test_accepting_twice_at_once_is_refused() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        first = asyncio.create_task(connection.accept())
        await settle()
        with pytest.raises(RuntimeError, match="has been accepted already"):
            await connection.accept()
        peer.put({"type": "websocket.connect"})
        await first
        assert peer.kinds == ["websocket.accept"]

    play_unaccepted(scenario, connects=False)


def test_a_cancelled_accept_can_be_made_again() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        task = asyncio.create_task(connection.accept())
        await settle()
        task.cancel()
        await asyncio.wait({task})
        peer.put({"type": "websocket.connect"})
        await connection.accept()
        assert peer.sent == [ACCEPTED]

    play_unaccepted(scenario, connects=False)


VERBS: list[tuple[str, Callable[[ASGIConnection], Awaitable[object]]]] = [
    ("receive", lambda connection: connection.receive()),
    ("receive", lambda connection: connection.receive_text()),
    ("receive", lambda connection: connection.receive_bytes(1)),
    ("receive", lambda connection: connection.receive_json()),
    ("send", lambda connection: connection.send_text("x")),
    ("send", lambda connection: connection.send_bytes(b"x")),
    ("send", lambda connection: connection.send_json({})),
    ("send", lambda connection: connection.send({"type": "websocket.send", "text": "x"})),
]


@pytest.mark.parametrize(("verb", "call"), VERBS)
def test_before_accept_nothing_is_sent_or_received(
    verb: str, call: Callable[[ASGIConnection], Awaitable[object]]
) -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        with pytest.raises(
            RuntimeError, match=rf"cannot {verb}: .*await ws\.accept\(\)`"
        ) as caught:
            await call(connection)
        assert not isinstance(caught.value, WebSocketDisconnect)
        assert peer.sent == []

    play_unaccepted(scenario)


def test_a_client_that_left_before_accept() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        peer.leave(1006)
        with pytest.raises(WebSocketDisconnect) as caught:
            await connection.accept()
        assert caught.value.code == 1006
        assert connection.client_state is DISCONNECTED
        with pytest.raises(WebSocketDisconnect):
            await connection.accept()
        with pytest.raises(WebSocketDisconnect):
            await connection.receive()
        await connection.close()
        assert peer.sent == []

    play_unaccepted(scenario, connects=False)


def test_a_client_that_leaves_during_accept() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        peer.broken = True
        with pytest.raises(WebSocketDisconnect) as caught:
            await connection.accept()
        assert caught.value.code == 1006
        assert states(connection) == (DISCONNECTED, DISCONNECTED)

    play_unaccepted(scenario)


def test_an_event_that_servers_do_not_send_there() -> None:
    async def before(connection: ASGIConnection, peer: ASGIPeer) -> None:
        peer.put("early")
        with pytest.raises(RuntimeError, match=r"where 'websocket\.connect' is due"):
            await connection.accept()

    async def after(connection: ASGIConnection, peer: ASGIPeer) -> None:
        with pytest.raises(RuntimeError, match=r"where 'websocket\.receive' is due"):
            await connection.receive()

    play_unaccepted(before, connects=False)
    play(after, {"type": "websocket.connect"})


# Refusing


def test_closing_before_accept_refuses() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        await connection.close(1008, "no")
        assert peer.sent == [{"type": "websocket.close", "code": 1008, "reason": "no"}]
        assert states(connection) == (DISCONNECTED, DISCONNECTED)
        await connection.close()
        assert len(peer.sent) == 1
        for call in (
            connection.accept(),
            connection.receive(),
            connection.send_denial_response(403),
        ):
            with pytest.raises(WebSocketClosed):
                await call

    play_unaccepted(scenario)


def test_closing_while_accept_waits_for_the_client() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        accepting = asyncio.create_task(connection.accept())
        await settle()
        await connection.close()
        peer.put({"type": "websocket.connect"})
        with pytest.raises(WebSocketClosed):
            await accepting
        assert peer.kinds == ["websocket.close"]

    play_unaccepted(scenario, connects=False)


@pytest.mark.parametrize("body", ["nö", "nö".encode()])
def test_a_denial_response_has_its_length(body: str | bytes) -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        await connection.send_denial_response(401, {"WWW-Authenticate": "Basic"}, body)
        headers = [(b"www-authenticate", b"Basic"), (b"content-length", b"3")]
        assert peer.sent == [
            {"type": "websocket.http.response.start", "status": 401, "headers": headers},
            {"type": "websocket.http.response.body", "body": "nö".encode()},
        ]
        assert states(connection) == (DISCONNECTED, DISCONNECTED)

    play_unaccepted(scenario)


def test_a_length_that_is_given_is_kept() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        await connection.send_denial_response(403, [(b"Content-Length", b"0")])
        assert peer.sent[0]["headers"] == [(b"content-length", b"0")]

    play_unaccepted(scenario)


@pytest.mark.parametrize("extensions", [{}, None])
def test_a_server_without_the_extension_refuses_its_own_way(extensions: Any) -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        await connection.send_denial_response(404, (), b"x")
        assert peer.kinds == ["websocket.close"]

    play_unaccepted(scenario, extensions=extensions)


def test_a_denial_response_is_not_sent_after_accept_nor_malformed() -> None:
    async def after(connection: ASGIConnection, peer: ASGIPeer) -> None:
        with pytest.raises(RuntimeError, match="has been accepted: close"):
            await connection.send_denial_response(403)
        assert peer.sent == []

    async def malformed(connection: ASGIConnection, peer: ASGIPeer) -> None:
        for status, headers in ((101, {}), (99, {}), (600, {}), (403, {"x": "a\nb"})):
            with pytest.raises(ValueError):
                await connection.send_denial_response(status, headers)
        assert peer.sent == []
        await connection.accept()

    play(after)
    play_unaccepted(malformed)


def test_a_denial_response_in_asgi_events() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        body = {"type": "websocket.http.response.body"}
        with pytest.raises(RuntimeError, match="start comes before its body"):
            await connection.send(body)
        await connection.send({"type": "websocket.http.response.start", "status": 418})
        await connection.send({**body, "body": b"a", "more_body": True})
        assert peer.sent == []
        await connection.send({**body, "body": b"b"})
        assert [message.get("status") for message in peer.sent] == [418, None]
        assert peer.sent[1]["body"] == b"ab"

    play_unaccepted(scenario)


# Receiving


def test_messages_come_in_order_and_in_their_kind() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        assert await connection.receive_text() == "ä"
        assert await connection.receive_bytes() == b"\x00"
        assert await connection.receive_json() == {"a": 1}
        assert await connection.receive_json("binary") == [2]
        assert await connection.receive() == {"type": "websocket.receive", "text": ""}
        assert await connection.receive() == {"type": "websocket.receive", "bytes": b""}

    play(scenario, "ä", b"\x00", '{"a":1}', b"[2]", "", b"")


def test_a_message_of_the_other_kind_is_in_the_error() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        with pytest.raises(WebSocketTypeError, match="use receive_bytes") as caught:
            await connection.receive_text()
        assert caught.value.data == b"1"
        with pytest.raises(WebSocketTypeError, match="use receive_text") as caught:
            await connection.receive_bytes()
        assert caught.value.data == "2"
        with pytest.raises(TypeError):
            await connection.receive_json()
        with pytest.raises(TypeError):
            await connection.receive_json("binary")
        # Escaping the handler it becomes the reason of a CLOSE, which has room for 123 bytes.
        assert len(str(caught.value).encode()) <= 123
        assert await connection.receive_text() == "5"

    play(scenario, b"1", "2", b"3", "4", "5")


def test_what_is_no_json() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        with pytest.raises(json.JSONDecodeError):
            await connection.receive_json()
        with pytest.raises(ValueError):
            await connection.receive_json(mode="binary")
        with pytest.raises(RuntimeError, match="expected 'text' or 'binary'"):
            await connection.receive_json("bytes")
        assert await connection.receive_text() == "untouched"

    play(scenario, "{", b"\xff", "untouched")


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [(1000, "bye", (1000, "bye")), (1005, None, (1005, "")), (None, None, (1005, ""))],
)
def test_the_disconnect_comes_once_as_an_event_and_then_as_an_error(
    code: int | None, reason: str | None, expected: tuple[int, str]
) -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        peer.put({"type": "websocket.disconnect", "code": code, "reason": reason})
        event = await connection.receive()
        assert event == {
            "type": "websocket.disconnect",
            "code": expected[0],
            "reason": expected[1],
        }
        assert (connection.close_code, connection.close_reason) == expected
        assert states(connection) == (DISCONNECTED, DISCONNECTED)
        for _ in range(2):
            with pytest.raises(WebSocketDisconnect) as caught:
                await connection.receive()
            assert (caught.value.code, caught.value.reason) == expected
            assert not isinstance(caught.value, WebSocketClosed)
        with pytest.raises(ConnectionError):
            await connection.send_text("x")
        await connection.close()
        assert peer.sent == []

    play(scenario)


def test_the_disconnect_of_a_typed_receive_is_an_error() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        assert connection.close_code is None
        peer.leave(4001, "later")
        with pytest.raises(WebSocketDisconnect, match="4001 later"):
            await connection.receive_text()

    play(scenario)


def test_a_timeout_loses_no_message() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        for _ in range(2):
            with pytest.raises(TimeoutError, match=r"no message within 0\.01 s"):
                await connection.receive_text(timeout=0.01)
        # For the two exceptions of Python 3.10 either `except` clause will do.
        with pytest.raises(asyncio.TimeoutError):
            await connection.receive_text(timeout=0)
        peer.put("one")
        peer.put("two")
        assert await connection.receive_text() == "one"
        assert await connection.receive_text(timeout=TIMEOUT) == "two"

    play(scenario)


def test_a_message_that_is_there_beats_a_timeout_of_nothing() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        assert await connection.receive_text(timeout=0) == "one"

    play(scenario, "one")


def test_a_cancelled_receive_loses_no_message() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        for timeout in (None, TIMEOUT):
            task = asyncio.create_task(connection.receive_text(timeout))
            await settle()
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
            peer.put("one")
            await settle()
            assert await connection.receive_text() == "one"

    play(scenario)


def test_two_receives_at_once_are_refused() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        first = asyncio.create_task(connection.receive_text())
        await settle()
        with pytest.raises(RuntimeError, match="another task is receiving"):
            await connection.receive_text()
        peer.put("one")
        assert await first == "one"

    play(scenario)


def test_a_failing_receive_of_the_server_comes_through() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        async def receive() -> Message:
            raise ZeroDivisionError

        connection._receive = receive
        for timeout in (None, TIMEOUT):
            with pytest.raises(ZeroDivisionError):
                await connection.receive_text(timeout)

    play(scenario)


def test_finishing_gives_up_the_receive_that_a_timeout_left_behind() -> None:
    cancelled: list[bool] = []

    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        async def receive() -> Message:
            try:
                await asyncio.sleep(10 * TIMEOUT)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise
            raise AssertionError("it was not cancelled")

        connection._receive = receive
        with pytest.raises(TimeoutError):
            await connection.receive_text(0.01)
        connection.finish()
        await settle()
        assert cancelled == [True]

    play(scenario)


def test_a_failure_that_nobody_will_receive_is_not_reported_as_lost() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        fail = asyncio.Event()

        async def receive() -> Message:
            await fail.wait()
            raise ZeroDivisionError

        connection._receive = receive
        with pytest.raises(TimeoutError):
            await connection.receive_text(0.01)
        fail.set()
        await settle()
        await connection.close()

    play(scenario)


# Sending


def test_messages_are_sent_in_their_kind() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        await connection.send_text("ä")
        await connection.send_text("ö".encode())
        await connection.send_text(bytearray(b"x"))
        await connection.send_bytes(b"1")
        await connection.send_bytes(memoryview(bytearray(b"23")))
        await connection.send_json({"a": [1, "ü"], 2: None})
        await connection.send_json([], mode="binary")
        await connection.send({"type": "websocket.send", "text": "t"})
        await connection.send({"type": "websocket.send", "text": None, "bytes": b"b"})

    sent = play(scenario).sent
    assert {message["type"] for message in sent} == {"websocket.send"}
    assert [message.get("text", message.get("bytes")) for message in sent] == [
        "ä",
        "ö",
        "x",
        b"1",
        b"23",
        '{"a":[1,"ü"],"2":null}',
        b"[]",
        "t",
        b"b",
    ]
    assert all(type(message["bytes"]) is bytes for message in sent if "bytes" in message)


def test_what_cannot_be_sent_is_refused_before_anything_is() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        anything: Any = connection
        for call, error in (
            (anything.send_text({"a": 1}), TypeError),
            (anything.send_text(5), TypeError),
            (anything.send_text(b"\xff"), ValueError),
            (anything.send_text("\ud800"), ValueError),
            (anything.send_bytes("text"), TypeError),
            (anything.send_bytes(5), TypeError),
            (anything.send_json(object()), TypeError),
            (anything.send_json({}, "xml"), RuntimeError),
            (anything.send({"type": "websocket.ping"}), RuntimeError),
        ):
            with pytest.raises(error):
                await call
        assert peer.sent == []
        await connection.send_text("still open")

    play(scenario)


GONE = pytest.mark.parametrize(
    "error",
    [
        OSError("the client is gone"),
        # uvicorn's, once it has closed by itself.
        RuntimeError("Unexpected ASGI message 'websocket.send', after sending 'websocket.close'."),
    ],
    ids=["asgi", "uvicorn"],
)


@GONE
def test_a_peer_that_left_makes_the_send_raise_and_its_messages_can_still_be_received(
    error: Exception,
) -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        peer.broken, peer.error = True, error
        with pytest.raises(WebSocketDisconnect) as caught:
            await connection.send_text("x")
        assert caught.value.code == 1006
        assert caught.value.__cause__ is error
        assert states(connection) == (DISCONNECTED, DISCONNECTED)
        assert await connection.receive_text() == "last words"
        peer.leave(1001)
        with pytest.raises(WebSocketDisconnect) as caught:
            await connection.receive_text()
        assert caught.value.code == connection.close_code == 1001

    play(scenario, "last words")


# Closing


def test_closing_is_done_once() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        await connection.close(4000, "ünd tschüs")
        await connection.close(1000)
        await connection.close(9999)
        assert peer.sent == [{"type": "websocket.close", "code": 4000, "reason": "ünd tschüs"}]
        assert states(connection) == (DISCONNECTED, DISCONNECTED)
        assert (connection.close_code, connection.close_reason) == (4000, "ünd tschüs")

    play(scenario)


@pytest.mark.parametrize(("verb", "call"), VERBS)
def test_after_its_own_close_every_verb_says_so(
    verb: str, call: Callable[[ASGIConnection], Awaitable[object]]
) -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        await connection.close(1001)
        peer.put("too late")
        with pytest.raises(WebSocketClosed) as caught:
            await call(connection)
        assert caught.value.code == 1001
        assert isinstance(caught.value, RuntimeError)
        assert len(peer.sent) == 1

    play(scenario)


@pytest.mark.parametrize(
    ("code", "reason"),
    [(999, ""), (1005, ""), (1006, ""), (1015, ""), (2000, ""), (5000, ""), (1000, "ä" * 62)],
)
def test_what_cannot_stand_in_a_close_is_refused_before_anything_is_sent(
    code: int, reason: str
) -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        with pytest.raises(ValueError):
            await connection.close(code, reason)
        assert peer.sent == []
        assert states(connection) == (CONNECTED, CONNECTED)
        await connection.close()
        assert peer.sent[0]["code"] == 1000

    play(scenario)


@GONE
def test_closing_when_the_peer_left_unnoticed_is_quiet(error: Exception) -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        peer.broken, peer.error = True, error
        await connection.close()
        assert states(connection) == (DISCONNECTED, DISCONNECTED)

    play(scenario)


def test_any_other_error_of_the_server_is_told() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        peer.broken, peer.error = True, RuntimeError("a middleware is at fault")
        with pytest.raises(RuntimeError, match="a middleware"):
            await connection.send_text("x")
        assert states(connection) == (CONNECTED, CONNECTED)
        with pytest.raises(RuntimeError, match="a middleware"):
            await connection.close()

    play(scenario)


def test_a_closing_connection_is_in_the_state_closing() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        go_on = asyncio.Event()

        async def send(message: Message) -> None:
            await go_on.wait()

        connection._send = send
        task = asyncio.create_task(connection.close())
        await settle()
        assert states(connection) == (CLOSING, CLOSING)
        with pytest.raises(WebSocketClosed):
            await connection.send_text("x")
        go_on.set()
        await task
        assert states(connection) == (DISCONNECTED, DISCONNECTED)

    play(scenario)


@pytest.mark.parametrize("timeout", [None, TIMEOUT])
def test_a_receive_that_waits_when_another_task_closes(timeout: float | None) -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        receiving = asyncio.create_task(connection.receive(timeout))
        await settle()
        await connection.close(4000)
        peer.leave(1006)
        with pytest.raises(WebSocketClosed) as caught:
            await receiving
        assert caught.value.code == 4000
        assert connection.close_code == 4000

    play(scenario)


def test_closing_in_asgi_events() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        await connection.send({"type": "websocket.close", "code": 4000})
        assert peer.sent == [{"type": "websocket.close", "code": 4000, "reason": ""}]

    async def accepting(connection: ASGIConnection, peer: ASGIPeer) -> None:
        await connection.send({"type": "websocket.accept"})
        assert peer.sent == [ACCEPTED]
        await connection.send({"type": "websocket.close"})
        assert peer.sent[1]["code"] == 1000

    play(scenario)
    play_unaccepted(accepting)


# The rest


def test_pings_belong_to_the_asgi_server() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        with pytest.raises(RuntimeError, match="an ASGI server sends its pings itself"):
            await connection.ping()

    play(scenario)


def test_every_connection_has_a_name_of_its_own() -> None:
    first, second = connection_to(ASGIPeer()), connection_to(ASGIPeer())
    assert first.id == first.id != second.id
    assert first.client == ("192.0.2.7", 50000)


# Sends from elsewhere to a peer that is gone


def broadcast(
    sends: Callable[[ASGIConnection], Awaitable[None]],
    *,
    strict: bool = False,
    told: Callable[[ASGIConnection], Coroutine[Any, Any, object]] | None = None,
) -> ASGIConnection:
    """Let another task send to a connection whose peer is gone, its handler perhaps told of it."""
    peer = ASGIPeer(app=SimpleNamespace(strict_send=strict))
    connection = connection_to(peer)

    async def handler(accepted: asyncio.Event, lost: asyncio.Event, over: asyncio.Event) -> None:
        connection.begin()
        await connection.accept()
        accepted.set()
        await lost.wait()
        if told is not None:
            with pytest.raises(WebSocketDisconnect):
                await told(connection)
        over.set()

    async def main() -> None:
        accepted, lost, over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(handler(accepted, lost, over))
        await accepted.wait()
        peer.broken = True
        lost.set()
        await over.wait()
        await sends(connection)
        await task

    run(main())
    return connection


async def send_twice(connection: ASGIConnection) -> None:
    await connection.send_text("one")
    await connection.send_bytes(b"two")


async def send_and_fail(connection: ASGIConnection) -> None:
    with pytest.raises(WebSocketDisconnect):
        await connection.send_text("one")


def test_a_send_from_elsewhere_to_a_peer_that_is_gone_is_dropped_and_counted() -> None:
    assert broadcast(send_twice).dropped == 2


def test_a_send_from_elsewhere_raises_once_the_handler_was_told() -> None:
    assert broadcast(send_and_fail, told=lambda own: own.send_text("x")).dropped == 0


def test_a_send_from_elsewhere_raises_if_sends_are_strict() -> None:
    assert broadcast(send_and_fail, strict=True).dropped == 0


def test_a_send_from_elsewhere_raises_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastws.asgi_connection.QUIET", 0.0)
    assert broadcast(send_and_fail).dropped == 0


def test_a_send_from_elsewhere_raises_once_the_handler_has_ended() -> None:
    async def main() -> None:
        peer = ASGIPeer()
        connection = connection_to(peer)
        accepting = asyncio.create_task(accept_as_handler(connection))
        await accepting
        connection.finish()
        peer.broken = True
        with pytest.raises(WebSocketDisconnect):
            await connection.send_text("x")

    run(main())


async def accept_as_handler(connection: ASGIConnection) -> None:
    connection.begin()
    await connection.accept()


def test_a_task_of_the_handler_is_the_handler() -> None:
    async def main() -> None:
        peer = ASGIPeer()
        connection = connection_to(peer)
        await accept_as_handler(connection)
        peer.broken = True
        with pytest.raises(WebSocketDisconnect):
            await asyncio.create_task(connection.send_text("x"))

    run(main())


def test_without_an_application_around_it_every_send_raises() -> None:
    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        peer.broken = True
        with pytest.raises(WebSocketDisconnect):
            await connection.send_text("x")

    play(scenario)


# The end of the handler and of the connection


def test_what_is_to_be_called_at_the_end_is_called_once() -> None:
    seen: list[str] = []

    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        connection.call_at_end(lambda: seen.append("end"))
        await connection.receive()
        assert seen == ["end"]
        connection.finish()
        assert seen == ["end"]
        connection.call_at_end(lambda: seen.append("at once"))
        assert seen == ["end", "at once"]

    play(scenario, {"type": "websocket.disconnect", "code": 1001})


def test_finishing_is_the_end_too() -> None:
    seen: list[str] = []

    async def scenario(connection: ASGIConnection, peer: ASGIPeer) -> None:
        connection.call_at_end(lambda: seen.append("end"))
        connection.finish()
        assert seen == ["end"]

    play(scenario)


async def run_handler(
    connection: ASGIConnection, handler: Callable[[], Awaitable[None]]
) -> asyncio.Task[None]:
    """Start a handler that is to be cancelled at a disconnect, and wait until it has accepted."""
    accepted = asyncio.Event()

    async def main() -> None:
        connection.begin(cancel_on_disconnect=True)
        await connection.accept()
        accepted.set()
        await handler()

    task = asyncio.create_task(main())
    await accepted.wait()
    return task


def test_a_handler_that_asks_for_it_is_cancelled_when_the_peer_leaves() -> None:
    async def main() -> None:
        peer = ASGIPeer()
        connection = connection_to(peer)
        task = await run_handler(connection, asyncio.Event().wait)  # type: ignore[arg-type]
        peer.put("not asked for")
        peer.leave()
        await asyncio.wait({task}, timeout=TIMEOUT)
        assert task.cancelled()
        assert connection.cancelled_here
        connection.finish()

    run(main())


def test_a_handler_that_waits_for_a_message_is_told_instead() -> None:
    async def main() -> None:
        peer = ASGIPeer()
        connection = connection_to(peer)
        seen: list[object] = []

        async def handler() -> None:
            seen.append(await connection.receive_text())
            try:
                await connection.receive_text()
            except WebSocketDisconnect as error:
                seen.append(error.code)

        task = await run_handler(connection, handler)
        peer.put("hello")
        peer.leave(3000)
        await asyncio.wait_for(task, TIMEOUT)
        assert seen == ["hello", 3000]
        assert not connection.cancelled_here
        connection.finish()

    run(main())


def test_reading_ahead_loses_nothing_and_ends_with_the_handler() -> None:
    async def main() -> None:
        peer = ASGIPeer([str(number) for number in range(50)])
        connection = connection_to(peer)

        async def handler() -> None:
            for number in range(50):
                with contextlib.suppress(TimeoutError):
                    # A message that comes too late for one receive is there for the next.
                    assert await connection.receive_text(timeout=0) == str(number)
                    continue
                assert await connection.receive_text() == str(number)

        task = await run_handler(connection, handler)
        await asyncio.wait_for(task, TIMEOUT)
        connection.finish()
        assert not peer.sent[1:]

    run(main())


def test_what_the_server_raises_while_reading_ahead_reaches_the_handler() -> None:
    async def main() -> None:
        peer = ASGIPeer()

        async def receive() -> Message:
            if peer.incoming.empty():
                raise LookupError("broken")
            return await peer.receive()

        connection = ASGIConnection(peer.scope, receive, peer.send)

        async def handler() -> None:
            with pytest.raises(LookupError):
                await connection.receive_text()

        await asyncio.wait_for(await run_handler(connection, handler), TIMEOUT)
        connection.finish()

    run(main())
