"""The verbs of a WebSocket: each on the compiled connection, and handed on to other back ends."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from fastws import (
    FastWS,
    WebSocket,
    WebSocketClosed,
    WebSocketDisconnect,
    WebSocketState,
    WebSocketTypeError,
)
from fastws._channel import Channel
from tests.asgi_peer import ASGIPeer
from tests.robustness.client import BINARY, CLOSE, PING, PONG, TEXT, Peer, build, close_frame
from tests.serving import connect, exchange, handshake, serving, status_of
from tests.support import run

Handler = Callable[[WebSocket], Awaitable[None]]


# ---------------------------------------------------------------- handing on


class Recorder:
    """A back end that remembers how its methods were called."""

    client_state = WebSocketState.CONNECTED
    application_state = WebSocketState.CLOSING
    close_code = 4000
    close_reason = "why"
    subprotocol = "chat"

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., object]:
        def method(*arguments: Any) -> object:
            self.calls.append((name, *arguments))
            return self.calls

        return method


VERBS: list[tuple[Callable[[Channel], object], tuple[Any, ...]]] = [
    (lambda ws: ws.accept(), ("accept", None, None)),
    (lambda ws: ws.accept("chat", [("a", "b")]), ("accept", "chat", [("a", "b")])),
    (lambda ws: ws.accept(headers={"a": "b"}), ("accept", None, {"a": "b"})),
    (lambda ws: ws.receive(), ("receive", None)),
    (lambda ws: ws.receive(timeout=2), ("receive", 2)),
    (lambda ws: ws.receive_text(), ("receive_text", None)),
    (lambda ws: ws.receive_text(timeout=2), ("receive_text", 2)),
    (lambda ws: ws.receive_bytes(), ("receive_bytes", None)),
    (lambda ws: ws.receive_bytes(timeout=2), ("receive_bytes", 2)),
    (lambda ws: ws.receive_json(), ("receive_json", "text", None)),
    (lambda ws: ws.receive_json("binary", timeout=2), ("receive_json", "binary", 2)),
    (lambda ws: ws.__anext__(), ("next_item",)),
    (lambda ws: ws.send_text("x"), ("send_text", "x")),
    (lambda ws: ws.send_bytes(b"x"), ("send_bytes", b"x")),
    (lambda ws: ws.send_json([1]), ("send_json", [1], "text")),
    (lambda ws: ws.send_json([1], mode="binary"), ("send_json", [1], "binary")),
    (lambda ws: ws.send({"type": "x"}), ("send", {"type": "x"})),
    (lambda ws: ws.close(), ("close", 1000, None)),
    (lambda ws: ws.close(4000, reason="why"), ("close", 4000, "why")),
    (lambda ws: ws.ping(), ("ping", b"")),
    (lambda ws: ws.ping(b"x"), ("ping", b"x")),
    (lambda ws: ws.send_denial_response(404), ("send_denial_response", 404, None, b"")),
    (
        lambda ws: ws.send_denial_response(404, {"a": "b"}, b"c"),
        ("send_denial_response", 404, {"a": "b"}, b"c"),
    ),
]


@pytest.mark.parametrize(("verb", "call"), VERBS, ids=[call[0] for _, call in VERBS])
def test_a_verb_is_handed_on_as_it_is(
    verb: Callable[[Channel], object], call: tuple[Any, ...]
) -> None:
    recorder = Recorder()
    assert verb(Channel(recorder)) is recorder.calls
    assert recorder.calls == [call]


def test_every_public_verb_is_among_them() -> None:
    public = {name for name in vars(Channel) if not name.startswith("_")}
    methods = {name for name in public if callable(getattr(Channel, name))}
    assert methods | {"next_item"} == {call[0] for _, call in VERBS}
    assert public - methods == {name for name in vars(Recorder) if not name.startswith("_")}


def test_what_is_known_of_the_connection_is_the_back_ends() -> None:
    channel = Channel(Recorder())
    assert channel.client_state is WebSocketState.CONNECTED
    assert channel.application_state is WebSocketState.CLOSING
    assert (channel.close_code, channel.close_reason) == (4000, "why")
    assert channel.subprotocol == "chat"
    assert channel.__aiter__() is channel


# ------------------------------------------------- the same program on both back ends


class Outcome(NamedTuple):
    """What a client saw: messages, and how it ended."""

    sent: list[str | bytes]
    code: int | None
    reason: str
    subprotocol: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


def on_the_connection(
    handler: Handler, messages: list[str | bytes], code: int | None, offered: str
) -> Outcome:
    """Run a handler behind this package's own server; ``code`` is that of the client's CLOSE."""
    app = FastWS()
    failures: list[BaseException] = []

    @app.websocket("/")
    async def watched(ws: WebSocket) -> None:
        try:
            await handler(ws)
        except BaseException as error:
            failures.append(error)
            raise

    frames = [
        build(message.encode()) if isinstance(message, str) else build(message, BINARY)
        for message in messages
    ]
    if code is not None:
        frames.append(close_frame(code, b"leaving"))

    async def main() -> Outcome:
        async with serving(app, date_header=False) as server, connect(server) as client:
            peer = Peer(client.reader, client.writer)
            await peer.send(handshake("/", f"Sec-WebSocket-Protocol: {offered}"))
            head = (await peer.head()).decode().split("\r\n")[1:-2]
            fields = dict(line.split(": ", 1) for line in head)
            await peer.send(b"".join(frames))
            sent: list[str | bytes] = []
            async for frame in peer.frames():
                if frame.opcode == CLOSE:
                    if code is None:
                        await peer.send(build(frame.payload, CLOSE))
                    assert await peer.rest() == b""
                    ending = frame.payload
                    break
                if frame.opcode == PING:
                    await peer.send(build(frame.payload, PONG))
                else:
                    text = frame.opcode == TEXT
                    sent.append(frame.payload.decode() if text else frame.payload)
            assert failures == []
            own = {"Upgrade", "Connection", "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol"}
            return Outcome(
                sent,
                int.from_bytes(ending[:2], "big") or None,
                ending[2:].decode(),
                fields.get("Sec-WebSocket-Protocol"),
                tuple((name.lower(), fields[name]) for name in fields if name not in own),
            )

    return run(main())


def over_asgi(
    handler: Handler, messages: list[str | bytes], code: int | None, offered: str
) -> Outcome:
    """Run a handler behind an ASGI server."""
    peer = ASGIPeer(messages, subprotocols=offered.split(", "))
    if code is not None:
        peer.leave(code, "leaving")
    app = FastWS()
    app.websocket("/")(handler)

    async def main() -> None:
        await app(peer.scope, peer.receive, peer.send)

    run(main())
    accept, *rest = peer.sent
    assert accept["type"] == "websocket.accept"
    closing = rest.pop() if rest and rest[-1]["type"] == "websocket.close" else None
    assert {event["type"] for event in rest} <= {"websocket.send"}
    sent = [event["bytes"] if event.get("text") is None else event["text"] for event in rest]
    if closing is None:
        ending = (code, "")
    else:
        ending = (closing.get("code", 1000), closing.get("reason") or "")
    headers = tuple((name.decode(), value.decode()) for name, value in accept["headers"])
    return Outcome(sent, *ending, accept["subprotocol"], headers)


BACK_ENDS = [on_the_connection, over_asgi]


@pytest.fixture(params=BACK_ENDS)
def outcome_of(request: pytest.FixtureRequest) -> Callable[..., Outcome]:
    """Runs a handler on one of the back ends."""

    def outcome(
        handler: Handler,
        *messages: str | bytes,
        code: int | None = None,
        offered: str = "chat, superchat",
    ) -> Outcome:
        result: Outcome = request.param(handler, list(messages), code, offered)
        return result

    return outcome


def test_accept(outcome_of: Callable[..., Outcome]) -> None:
    async def handler(ws: WebSocket) -> None:
        with pytest.raises(ValueError, match="not offered"):
            await ws.accept("other")
        with pytest.raises(ValueError, match="header"):
            await ws.accept(headers={"x": "a\r\nb"})
        assert ws.client_state is WebSocketState.CONNECTING
        await ws.accept("superchat", headers=[("X-One", "1"), (b"X-Two", b"2")])
        assert ws.subprotocol == "superchat"
        with pytest.raises(RuntimeError, match="accepted already"):
            await ws.accept()

    expected = (("x-one", "1"), ("x-two", "2"))
    assert outcome_of(handler) == Outcome([], 1000, "", "superchat", expected)


def test_nothing_before_accept(outcome_of: Callable[..., Outcome]) -> None:
    async def handler(ws: WebSocket) -> None:
        calls: list[Callable[[], Awaitable[object]]] = [
            ws.receive,
            ws.receive_text,
            ws.receive_bytes,
            ws.receive_json,
            ws.__anext__,
            lambda: ws.send_text("x"),
            lambda: ws.send_bytes(b"x"),
            lambda: ws.send_json(1),
            lambda: ws.send({"type": "websocket.send", "text": "x"}),
        ]
        for call in calls:
            with pytest.raises(RuntimeError, match="accept"):
                await call()
        await ws.accept()
        assert await ws.receive_text() == "after"

    assert outcome_of(handler, "after") == Outcome([], 1000, "")


def test_receiving(outcome_of: Callable[..., Outcome]) -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        assert await ws.receive_text() == "ä"
        assert await ws.receive_bytes() == b"\xff"
        assert await ws.receive_json() == {"a": None}
        assert await ws.receive_json("binary") == [1]
        assert await ws.receive() == {"type": "websocket.receive", "text": ""}
        assert await ws.receive() == {"type": "websocket.receive", "bytes": b""}
        assert await ws.__anext__() == "item"
        disconnect = {"type": "websocket.disconnect", "code": 3001, "reason": "leaving"}
        assert await ws.receive() == disconnect
        assert (ws.close_code, ws.close_reason) == (3001, "leaving")
        for call in (ws.receive, ws.receive_text, ws.receive_bytes, ws.receive_json):
            with pytest.raises(WebSocketDisconnect) as caught:
                await call()
            assert (caught.value.code, caught.value.reason) == (3001, "leaving")
            assert not isinstance(caught.value, WebSocketClosed)
        with pytest.raises(StopAsyncIteration):
            await ws.__anext__()
        assert ws.client_state is WebSocketState.DISCONNECTED

    messages = ("ä", b"\xff", '{"a": null}', b"[1]", "", b"", "item")
    assert outcome_of(handler, *messages, code=3001).sent == []


def test_receiving_what_is_not_there(outcome_of: Callable[..., Outcome]) -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        with pytest.raises(WebSocketTypeError) as caught:
            await ws.receive_text()
        assert caught.value.data == b"1"
        with pytest.raises(WebSocketTypeError) as caught:
            await ws.receive_bytes()
        assert caught.value.data == "2"
        with pytest.raises(WebSocketTypeError) as caught:
            await ws.receive_json()
        assert caught.value.data == b"3"
        with pytest.raises(WebSocketTypeError) as caught:
            await ws.receive_json(mode="binary")
        assert caught.value.data == "4"
        with pytest.raises(json.JSONDecodeError):
            await ws.receive_json()
        with pytest.raises(RuntimeError, match="mode"):
            await ws.receive_json(mode="other")
        for call in (ws.receive, ws.receive_text, ws.receive_bytes, ws.receive_json):
            with pytest.raises(TimeoutError):
                await call(timeout=0.001)

    assert outcome_of(handler, b"1", "2", b"3", "4", "{") == Outcome([], 1000, "")


def test_sending(outcome_of: Callable[..., Outcome]) -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_text("ä")
        await ws.send_text("bytes: ä".encode())
        await ws.send_bytes(bytearray(b"\xff"))
        await ws.send_json({"a": "ä", "b": None})
        await ws.send_json([1], mode="binary")
        await ws.send({"type": "websocket.send", "text": "event"})
        await ws.send({"type": "websocket.send", "text": None, "bytes": b"event"})
        await ws.send({"type": "websocket.send", "bytes": b""})
        wrong: Any = 1
        calls: list[tuple[Callable[[], Awaitable[object]], type[Exception]]] = [
            (lambda: ws.send_text(wrong), TypeError),
            (lambda: ws.send_text("\udfff"), ValueError),
            (lambda: ws.send_text(b"\xff"), ValueError),
            (lambda: ws.send_bytes(wrong), TypeError),
            (lambda: ws.send_json(object()), TypeError),
            (lambda: ws.send_json(1, mode="other"), RuntimeError),
            (lambda: ws.send({"type": "websocket.other"}), RuntimeError),
        ]
        for call, error in calls:
            with pytest.raises(error):
                await call()

    expected: list[str | bytes] = ["ä", "bytes: ä", b"\xff", '{"a":"ä","b":null}', b"[1]"]
    assert outcome_of(handler) == Outcome([*expected, "event", b"event", b""], 1000, "")


def test_closing(outcome_of: Callable[..., Outcome]) -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        for wrong in (999, 1005, 5000):
            with pytest.raises(ValueError, match=str(wrong)):
                await ws.close(wrong)
        with pytest.raises(ValueError, match="124"):
            await ws.close(4000, "x" * 124)
        assert ws.application_state is WebSocketState.CONNECTED
        await ws.close(4000, "enough")
        await ws.close(4001)
        calls: list[Callable[[], Awaitable[object]]] = [
            ws.receive_text,
            ws.receive_bytes,
            ws.receive_json,
            lambda: ws.send_text("x"),
            lambda: ws.send_bytes(b"x"),
            lambda: ws.send_json(1),
        ]
        for call in calls:
            with pytest.raises(WebSocketClosed) as caught:
                await call()
            assert caught.value.code == 4000
        assert [message async for message in ws] == []

    assert outcome_of(handler, "never received") == Outcome([], 4000, "enough")


@pytest.mark.parametrize("end", ["break", "disconnect"])
def test_iterating(outcome_of: Callable[..., Outcome], end: str) -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            if message == "stop":
                break
            await ws.send_json(message if isinstance(message, str) else message.hex())

    last = {"code": 1000} if end == "disconnect" else {}
    messages = ("a", b"b") if end == "disconnect" else ("a", b"b", "stop", "never received")
    assert outcome_of(handler, *messages, **last) == Outcome(['"a"', '"62"'], 1000, "")


def test_events_of_asgi(outcome_of: Callable[..., Outcome]) -> None:
    async def handler(ws: WebSocket) -> None:
        accept = {"type": "websocket.accept", "subprotocol": "chat", "headers": [(b"x", b"y")]}
        await ws.send(accept)
        await ws.send({"type": "websocket.close", "code": 3000, "reason": "why"})

    assert outcome_of(handler) == Outcome([], 3000, "why", "chat", (("x", "y"),))


# -------------------------------------------------------- only on the connection


def refusal(handler: Handler) -> bytes:
    app = FastWS()
    app.websocket("/")(handler)

    async def main() -> bytes:
        async with serving(app) as server:
            return await exchange(server, handshake())

    return run(main())


@pytest.mark.parametrize("parts", [1, 3])
def test_a_denial_response_in_events(parts: int) -> None:
    async def handler(ws: WebSocket) -> None:
        with pytest.raises(RuntimeError, match=r"websocket\.http\.response"):
            await ws.send({"type": "websocket.http.response.body", "body": b"too early"})
        headers = [(b"content-type", b"text/plain")]
        start = {"type": "websocket.http.response.start", "status": 402, "headers": headers}
        await ws.send(start)
        body = {"type": "websocket.http.response.body", "body": b"pay "}
        for _ in range(parts - 1):
            await ws.send({**body, "more_body": True})
        await ws.send(body)
        with pytest.raises(RuntimeError):
            await ws.accept()

    answer = refusal(handler)
    assert status_of(answer) == 402
    assert answer.endswith(b"\r\n\r\n" + b"pay " * parts)


def test_a_denial_response() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.send_denial_response(451, {"x-why": "law"}, "not here")

    answer = refusal(handler)
    assert status_of(answer) == 451
    assert b"\r\nx-why: law\r\n" in answer
    assert answer.endswith(b"\r\n\r\nnot here")


def test_ping() -> None:
    times = []

    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        times.append(await ws.ping(b"data"))

    assert on_the_connection(handler, [], None, "chat").code == 1000
    assert times[0] >= 0


def test_what_the_verbs_return_counts_as_a_coroutine() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        made = [
            ws.receive(),
            ws.receive_text(),
            ws.receive_bytes(),
            ws.receive_json(),
            ws.__anext__(),
            ws.send_text("x"),
            ws.send_bytes(b"x"),
            ws.send_json(1),
            ws.send({"type": "websocket.send", "text": "x"}),
        ]
        for one in made:
            assert inspect.isawaitable(one)
            for name in ("send", "throw", "close"):
                assert callable(getattr(one, name))

    assert on_the_connection(handler, [], None, "chat").sent == ["x", b"x", "1", "x"]


# ---------------------------------------------------------------- the verbs as a class's own


def test_a_websocket_has_the_verbs_as_its_own() -> None:
    verbs = {
        name
        for name, method in vars(Channel).items()
        if inspect.ismethoddescriptor(method) and not name.startswith("_")
    }
    assert {"accept", "receive_text", "send_text", "close", "ping"} <= verbs
    assert verbs <= set(vars(WebSocket))


def test_a_verb_refuses_what_is_no_websocket() -> None:
    verb: Any = WebSocket.send_text
    for other in (object(), Channel(Recorder()), "text"):
        with pytest.raises(TypeError, match="WebSocket"):
            verb(other, "x")


def test_a_subclass_may_have_a_verb_of_its_own_and_call_the_usual_one() -> None:
    class Shouting(WebSocket):
        def send_text(self, data: Any) -> Any:
            return super().send_text(data.upper())

    ws: Any = Shouting.__new__(Shouting)
    recorder = Recorder()
    Channel.__init__(ws, recorder)
    assert ws.send_text("x") is recorder.calls
    ws.send_bytes(b"y")
    assert recorder.calls == [("send_text", "X"), ("send_bytes", b"y")]
