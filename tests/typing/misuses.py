"""Mistakes, each of which both type checkers find: on its line, and for its reason.

A comment that ignores what is not there is an error by itself, in both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastws import (
    APIRouter,
    ClientProtocol,
    FastWS,
    FrameParser,
    Limits,
    PreparedMessage,
    ServerProtocol,
    TypedWebSocket,
    WebSocket,
    WebSocketException,
    build_frame,
    connect,
)
from fastws.testing import TestClient

if TYPE_CHECKING:
    from fastws.protocol import Event

app = FastWS()
router = APIRouter(prefix=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@app.websocket("/plain")
async def plain(ws: WebSocket) -> None:
    await ws.accept()


async def a_decorated_handler_keeps_its_parameters() -> None:
    await plain("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await plain()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def a_handler_needs_its_path() -> None:
    app.websocket()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def messages_have_their_types(ws: WebSocket) -> None:
    data: bytes = await ws.receive_text()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    text: str = await ws.receive_bytes()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    number: int = await ws.receive_json(type=str)  # pyright: ignore[reportAssignmentType]
    async for message in ws:
        message.encode()  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    await ws.send_text(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ws.send_bytes("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ws.send_bytes(data, text, number)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def what_is_not_awaited_is_seen(ws: WebSocket) -> None:
    ws.receive_text()  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    ws.close(1000)  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]


async def ends_have_numbers(ws: WebSocket) -> None:
    await ws.close("gone")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    raise WebSocketException("gone")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def properties_are_read_only(ws: WebSocket) -> None:
    ws.close_code = 1000  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    ws.closed()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


async def a_typed_route_has_its_types(ws: TypedWebSocket[int, str]) -> None:
    await ws.send_json(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    text: str = await ws.receive_json()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    await ws.send_json(text)


async def a_client_is_awaited_first() -> None:
    await connect("ws://example.org").send_text("hello")  # pyright: ignore[reportGeneralTypeIssues]


async def a_client_has_its_options() -> None:
    connect("ws://example.org", open_timeout=[])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    connect("ws://example.org", subprotocols=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    connect()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def a_test_client_has_sessions() -> None:
    with TestClient(app) as client:
        with client.websocket_connect("/plain") as session:
            data: bytes = session.receive_text()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
            session.send_bytes(data)


def the_protocol_takes_bytes_and_gives_events() -> list[Event]:
    protocol = ServerProtocol(limits=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    protocol.receive_data("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    protocol.send_bytes("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    protocol.send_continuation("text")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ClientProtocol()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    return protocol.events_received()  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


def frames_are_bytes() -> None:
    FrameParser(False)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    FrameParser().feed("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    build_frame("text", b"")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    PreparedMessage(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Limits().max_size = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
