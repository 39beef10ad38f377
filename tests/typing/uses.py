"""Typical uses, and the types that they have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from typing_extensions import assert_type

from fastws import (
    APIRouter,
    ClientProtocol,
    CloseCode,
    Cookie,
    DeflateOptions,
    Depends,
    FastWS,
    FrameParser,
    HandshakeError,
    Header,
    HTMLResponse,
    HTTPException,
    Limits,
    MessageError,
    Middleware,
    Opcode,
    Path,
    PlainTextResponse,
    PreparedMessage,
    Protocol,
    Query,
    Request,
    Response,
    ServerProtocol,
    TypedWebSocket,
    WebSocket,
    WebSocketClosed,
    WebSocketDisconnect,
    WebSocketException,
    WebSocketState,
    WebSocketTypeError,
    build_frame,
    connect,
    get_include,
)
from fastws.client import ClientWebSocket, HandshakeRefused
from fastws.datastructures import URL, Headers, QueryParams, URLPath
from fastws.protocol import Accepted, Close, Event, Ping, Pong, Refused, Upgrade
from fastws.security import HTTPAuthorizationCredentials, HTTPBearer
from fastws.testing import TestClient

# -- applications -----------------------------------------------------------------------------

app = FastWS()
router = APIRouter(prefix="/v1", dependencies=[])


async def user(token: str = Header(), session: str | None = Cookie(default=None)) -> str:
    return f"{token} {session}"


async def database() -> AsyncIterator[list[str]]:
    yield []


@app.websocket("/plain")
async def plain(ws: WebSocket) -> None:
    await ws.accept()


@router.websocket("/rooms/{room}/{number}", name="room", dependencies=[Depends(user)])
async def room(
    ws: WebSocket,
    room: str,
    rows: Annotated[list[str], Depends(database)],
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())],
    number: int = Path(ge=0),
    who: str = Depends(user),
    page: int = Query(default=1),
) -> int:
    await ws.accept(subprotocol="chat", headers={"x-room": room})
    return number + page + len(rows) + len(who) + len(credentials.credentials)


@app.get("/")
async def page(request: Request) -> HTMLResponse:
    return HTMLResponse(f"<title>{request.url}</title>")


@app.get("/health")
def health() -> str:
    return "fine"


@app.on_startup
async def start() -> None: ...


@app.exception_handler(KeyError)
async def missing(connection: WebSocket | Request, error: KeyError) -> Response:
    return PlainTextResponse(str(error), status_code=404)


async def decorators_keep_the_type_of_what_they_decorate(ws: WebSocket) -> None:
    assert_type(await plain(ws), None)
    credentials = HTTPAuthorizationCredentials(scheme="Bearer", credentials="x")
    assert_type(await room(ws, "attic", [], credentials, 1, "Ada"), int)
    assert_type(await page(Request({"type": "http"})), HTMLResponse)
    assert_type(health(), str)


async def an_application_is_asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    app.include_router(router, prefix="/api")
    assert_type(app.url_path_for("room", room="attic", number=1), URLPath)
    await app(scope, receive, send)


def serve() -> None:
    app.serve("127.0.0.1", 8000, ws_max_size="4MiB")


# -- the connection ---------------------------------------------------------------------------


async def receiving(ws: WebSocket) -> None:
    assert_type(await ws.receive_text(), str)
    assert_type(await ws.receive_text(timeout=1.5), str)
    assert_type(await ws.receive_bytes(), bytes)
    assert_type(await ws.receive_json(), Any)
    assert_type(await ws.receive_json("binary"), Any)
    assert_type(await ws.receive(), dict[str, Any])
    async for message in ws:
        assert_type(message, str | bytes)
    async for text in ws.iter_text():
        assert_type(text, str)
    async for data in ws.iter_bytes():
        assert_type(data, bytes)
    # What a verb returns goes wherever a coroutine does.
    task = asyncio.create_task(ws.receive_text())
    assert_type(await asyncio.wait_for(task, 1), str)
    await asyncio.gather(ws.receive_text(), ws.ping())


async def sending(ws: WebSocket) -> None:
    assert_type(await ws.send_text("text"), None)
    await ws.send_text(b"UTF-8 already")
    await ws.send_bytes(b"bytes")
    await ws.send_bytes(memoryview(b"a buffer"))
    await ws.send_json({"any": ["thing"]})
    await ws.send_json([], mode="binary")
    assert_type(await ws.ping(b"payload"), float)
    await ws.close()
    await ws.close(CloseCode.GOING_AWAY, "reason")
    await ws.close(code=4000, reason=None)
    await ws.send_denial_response(403, {"x-why": "so"}, "no")


def attributes(ws: WebSocket) -> None:
    assert_type(ws.client_state, WebSocketState)
    assert_type(ws.close_code, int | None)
    assert_type(ws.close_reason, str | None)
    assert_type(ws.subprotocol, str | None)
    assert_type(ws.url, URL)
    assert_type(ws.headers, Headers)
    assert_type(ws.query_params, QueryParams)
    assert_type(ws.path_params, dict[str, Any])
    assert_type(ws.cookies, dict[str, str])
    assert_type(ws.id, str)
    if ws.client is not None:
        assert_type(ws.client.host, str)
        assert_type(ws.client.port, int)
    ws.state.anything = 1
    members: set[WebSocket] = {ws}
    members.discard(ws)


@dataclass
class Order:
    item: str


@dataclass
class Receipt:
    total: int


async def typed(ws: TypedWebSocket[Order, Receipt]) -> None:
    assert_type(await ws.receive_json(), Order)
    assert_type(await ws.receive_json(type=Receipt), Receipt)
    async for order in ws:
        assert_type(order, Order)
    await ws.send_json(Receipt(1))


async def typed_at_the_call(ws: WebSocket) -> None:
    assert_type(await ws.receive_json(type=Order), Order)
    async for order in ws.iter_json(type=Order):
        assert_type(order, Order)


async def errors(ws: WebSocket) -> None:
    try:
        await ws.receive_json(type=Order)
    except MessageError as error:
        assert_type(error.field, str)
        assert_type(error.data, str | bytes)
    except WebSocketTypeError as error:
        assert_type(error.data, str | bytes)
    except WebSocketClosed:
        raise
    except WebSocketDisconnect as gone:
        assert_type(gone.code, int)
        assert_type(gone.reason, str)
    except ConnectionError:
        raise WebSocketException(1011, "an older habit") from None
    raise HTTPException(404, {"any": "thing"}, {"x-header": "value"})


# -- the client -------------------------------------------------------------------------------


async def client() -> None:
    async with connect("wss://example.org", subprotocols=["chat"], ws_max_size="1MiB") as ws:
        assert_type(ws, ClientWebSocket)
        await ws.send_text("hello")
        assert_type(await ws.receive_text(), str)
    async for again in connect("wss://example.org"):
        assert_type(again, ClientWebSocket)
        async for message in again:
            assert_type(message, str | bytes)
    try:
        alone = await connect("wss://example.org", headers=[("authorization", "Bearer x")])
        assert_type(alone, ClientWebSocket)
        await alone.close()
    except HandshakeRefused as refused:
        assert_type(refused.status, int)
        assert_type(refused.body, bytes)
    except HandshakeError as error:
        assert_type(error.message, str)


# -- tests ------------------------------------------------------------------------------------


def in_a_test() -> None:
    with TestClient(app) as client:
        with client.websocket_connect("/plain") as session:
            session.send_text("hello")
            assert_type(session.receive_text(), str)
            assert_type(session.receive_bytes(timeout=1), bytes)
            assert_type(session.close_code, int | None)


async def in_an_asynchronous_test() -> None:
    async with TestClient(app) as client:
        async with client.connect("/plain") as ws:
            await ws.send_text("hello")
            assert_type(await ws.receive_text(), str)


# -- without sockets --------------------------------------------------------------------------


def server_protocol(data: bytes) -> bytes:
    protocol = ServerProtocol(
        limits=Limits(max_size=None), deflate=DeflateOptions("shared"), origins=["https://a.org"]
    )
    protocol.receive_data(data)
    for event in protocol.events_received():
        if isinstance(event, Upgrade):
            assert_type(event.request.path, str)
            assert_type(event.subprotocols, tuple[str, ...])
            protocol.accept(subprotocol=None, headers={"x-header": "value"})
        elif isinstance(event, str):
            assert_type(event, str)
            protocol.send_text(event)
        elif isinstance(event, bytes):
            protocol.send_bytes(event)
        elif isinstance(event, Close):
            assert_type(event.code, int)
        elif isinstance(event, (Ping, Pong)):
            assert_type(event.data, bytes)
    assert_type(protocol.state, WebSocketState)
    assert_type(protocol.close_code, int | None)
    return b"".join(protocol.data_to_send())


def client_protocol() -> None:
    protocol = ClientProtocol("wss://example.org/", subprotocols=["a"], deflate=DeflateOptions())
    assert_type(protocol.uri.port, int)
    protocol.connect()
    for event in protocol.events_received():
        if isinstance(event, Accepted):
            assert_type(event.subprotocol, str | None)
        elif isinstance(event, Refused):
            raise event.error
    protocol.send_text("first", fin=False)
    protocol.send_continuation("last", fin=True)
    protocol.close(None)


def both_are_protocols(client: ClientProtocol, server: ServerProtocol) -> list[Protocol]:
    return [client, server, Protocol(client=True)]


def frames() -> None:
    parser = FrameParser(client=True, limits=Limits(max_fragments=1))
    assert_type(parser.feed(build_frame(Opcode.TEXT, "hello", mask=b"1234")), list[Event])
    if parser.error is not None:
        assert_type(parser.error.code, CloseCode)
    prepared = PreparedMessage("for many")
    assert_type(prepared.frame(), bytes)
    assert_type(get_include(), str)


def middleware() -> list[Middleware]:
    class Outer:
        def __init__(self, app: Any, header: str) -> None:
            self.app = app
            self.header = header

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(scope, receive, send)

    return [Middleware(Outer, header="x-outer")]
