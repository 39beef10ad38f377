"""The shapes of FastAPI's guide to WebSockets: a page, dependencies, many clients; and ends."""

from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import (
    Cookie,
    Depends,
    FastAPI,
    HTTPException,
    Query,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
    status,
)
from fastapi.responses import HTMLResponse, JSONResponse


@asynccontextmanager
async def lifespan(app: FastAPI) -> Any:
    print("up", flush=True)
    yield {"greeting": "hello"}
    print("down", flush=True)


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def page() -> HTMLResponse:
    return HTMLResponse("<script>new WebSocket('/ws')</script>")


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        text = await websocket.receive_text()
        await websocket.send_text(f"You wrote {text}")


# Dependencies


async def visitor(
    websocket: WebSocket,
    session: Annotated[str | None, Cookie()] = None,
    token: Annotated[str | None, Query()] = None,
) -> str:
    if session is None and token is None:
        raise WebSocketException(code=status.WS_1008_POLICY_VIOLATION)
    return session or token or ""


@app.websocket("/shelf/{number}/ws")
async def shelf(
    websocket: WebSocket,
    number: int,
    who: Annotated[str, Depends(visitor)],
    page: int | None = None,
) -> None:
    await websocket.accept()
    await websocket.send_json({"number": number, "who": who, "page": page})
    async for text in websocket.iter_text():
        await websocket.send_text(f"{websocket.state.greeting} {who}: {text}")


# Many clients


class Connections:
    def __init__(self) -> None:
        self.open: list[WebSocket] = []

    async def add(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.open.append(websocket)

    async def tell_all(self, text: str) -> None:
        for websocket in self.open:
            await websocket.send_text(text)


connections = Connections()


@app.websocket("/chat/{name}")
async def chat(websocket: WebSocket, name: str) -> None:
    await connections.add(websocket)
    try:
        while True:
            text = await websocket.receive_text()
            await websocket.send_text(f"You: {text}")
            await connections.tell_all(f"{name}: {text}")
    except WebSocketDisconnect as left:
        connections.open.remove(websocket)
        await connections.tell_all(f"{name} left with {left.code}")


# Ends


@app.websocket("/ends/{how}")
async def ends(websocket: WebSocket, how: str) -> None:
    if how == "denied":
        answer = JSONResponse({"error": "no"}, status_code=401, headers={"WWW-Authenticate": "x"})
        return await websocket.send_denial_response(answer)
    if how == "refused":
        raise HTTPException(418, "a teapot")
    if how == "closed early":
        return await websocket.close(4000)
    await websocket.accept()
    if how == "closed":
        await websocket.close(4001, "enough")
    elif how == "raised":
        raise WebSocketException(4002, "too much")
    elif how == "failed":
        raise LookupError("a mistake of the application")
    return None
