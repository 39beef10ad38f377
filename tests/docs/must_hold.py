"""Handlers of the shapes that the documents of this API have in common, and what they promise.

Bare parameters are shown as the documents have them: a strict type checker wants them annotated.
"""

import asyncio
import json

from fastws import FastWS, WebSocket, WebSocketDisconnect, WebSocketState

app = FastWS()


# The socket argument


@app.websocket("/bare")
async def bare(ws):  # type: ignore[no-untyped-def]
    await ws.accept()
    await ws.send_text(f"bare {await ws.receive_text()}")


@app.websocket("/bare/{room}")
async def bare_with_path(ws, room: str):  # type: ignore[no-untyped-def]
    await ws.accept()
    await ws.send_text(f"bare {room} {await ws.receive_text()}")


@app.websocket("/short")
async def short(ws: WebSocket) -> None:
    await ws.accept()
    await ws.send_text(f"short {await ws.receive_text()}")


@app.websocket("/long/{number}")
async def long(websocket: WebSocket, number: int) -> None:
    await websocket.accept()
    await websocket.send_text(f"long {number + 1} {await websocket.receive_text()}")


@app.websocket("/last/{number}")
async def last(number: int, socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(f"last {number + 1} {await socket.receive_text()}")


# The state


def is_state(ws: WebSocket, number: int, name: WebSocketState) -> bool:
    both = ws.client_state == number and ws.client_state == name
    return both and ws.application_state == number and ws.client_state is name


@app.websocket("/state")
async def state(ws: WebSocket) -> None:
    assert is_state(ws, 0, WebSocketState.CONNECTING)
    await ws.accept()
    assert is_state(ws, 1, WebSocketState.CONNECTED)
    rounds = 0
    try:
        while ws.client_state == 1:
            await ws.send_text(await ws.receive_text())
            rounds += 1
    finally:
        print(f"state {ws.client_state:d} {ws.client_state.name} after {rounds}")
        assert is_state(ws, 3, WebSocketState.DISCONNECTED)


# Exceptions


@app.websocket("/except/connection-error")
async def except_connection_error(ws: WebSocket) -> None:
    await ws.accept()
    while True:
        try:
            await ws.send_json({"echo": await ws.receive_text()})
        except ConnectionError:
            print("caught ConnectionError")
            break
        except ValueError as error:
            await ws.send_json({"error": str(error)})


@app.websocket("/except/disconnect")
async def except_disconnect(ws: WebSocket) -> None:
    await ws.accept()
    try:
        while True:
            await ws.send_text(await ws.receive_text())
    except WebSocketDisconnect as gone:
        print(f"caught WebSocketDisconnect {gone.code} {gone.reason!r}")


@app.websocket("/except/exception")
async def except_exception(ws: WebSocket) -> None:
    await ws.accept()
    try:
        while True:
            await ws.send_text(await ws.receive_text())
    except Exception as error:
        print(f"caught Exception {type(error).__name__}")


@app.websocket("/except/bare")
async def except_bare(ws: WebSocket) -> None:
    await ws.accept()
    try:
        while True:
            await ws.send_text(await ws.receive_text())
    except:  # noqa: E722  (as a document has it)
        print("caught by a bare except")


@app.websocket("/except/inside")
async def except_inside(ws: WebSocket) -> None:
    await ws.accept()
    try:
        while True:
            try:
                await ws.send_json({"data": json.loads(await ws.receive_text())["data"]})
            except json.JSONDecodeError:
                await ws.send_json({"error": "no JSON"})
            except Exception as error:
                # The disconnect comes here first: this send must raise it again.
                await ws.send_json({"error": str(error)})
    except WebSocketDisconnect:
        print("caught outside")


@app.websocket("/except/wrong-kind")
async def except_wrong_kind(ws: WebSocket) -> None:
    await ws.accept()
    for receive in (ws.receive_text, ws.receive_bytes, ws.receive_json):
        try:
            await receive()
        except TypeError as error:
            await ws.send_text(f"TypeError from {receive.__name__}: {error}")


@app.websocket("/except/no-json")
async def except_no_json(ws: WebSocket) -> None:
    await ws.accept()
    for kind in (ValueError, json.JSONDecodeError):
        try:
            await ws.receive_json()
        except kind:
            await ws.send_text(f"caught {kind.__name__}")


@app.websocket("/except/nothing")
async def except_nothing(ws: WebSocket) -> None:
    await ws.accept()
    while True:
        await ws.send_text(await ws.receive_text())


@app.websocket("/except/nothing-and-send")
async def except_nothing_and_send(ws: WebSocket) -> None:
    await ws.accept()
    while True:
        await ws.send_text("tick")
        await asyncio.sleep(0.001)


# The textbook connection manager


class ConnectionManager:
    def __init__(self) -> None:
        self.active_connections: list[WebSocket] = []

    async def connect(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.active_connections.append(websocket)

    def disconnect(self, websocket: WebSocket) -> None:
        self.active_connections.remove(websocket)

    async def broadcast(self, message: str) -> None:
        for connection in self.active_connections:
            await connection.send_text(message)


manager = ConnectionManager()


@app.websocket("/manager/{client_id}")
async def managed(websocket: WebSocket, client_id: int) -> None:
    await manager.connect(websocket)
    try:
        while True:
            data = await websocket.receive_text()
            await websocket.send_text(f"you wrote {data}")
            await manager.broadcast(f"{client_id} says {data}")
    except WebSocketDisconnect:
        manager.disconnect(websocket)
        print(f"manager: {client_id} ended")
        await manager.broadcast(f"{client_id} left")


subscribers: list[WebSocket] = []


@app.websocket("/list/{client_id}")
async def listed(ws: WebSocket, client_id: int) -> None:
    await ws.accept()
    subscribers.append(ws)
    try:
        while True:
            data = await ws.receive_text()
            for subscriber in list(subscribers):
                try:
                    await subscriber.send_text(f"{client_id} says {data}")
                except Exception:
                    subscribers.remove(subscriber)
    except WebSocketDisconnect:
        # A ValueError, and a traceback, if a broadcast has removed it.
        subscribers.remove(ws)
        print(f"list: {client_id} ended")


rooms: dict[str, set[WebSocket]] = {}


@app.websocket("/room/{room}/{client_id}")
async def room(ws, room: str, client_id: int):  # type: ignore[no-untyped-def]
    await ws.accept()
    rooms.setdefault(room, set()).add(ws)
    try:
        while True:
            data = await ws.receive_text()
            # Over the set itself: a broadcast that waits, or removes somebody, would break this.
            for connection in rooms[room]:
                try:
                    await connection.send_json(f"{client_id} says {data}")
                except:  # noqa: E722  (as a document has it)
                    rooms[room].discard(connection)
    except Exception as error:
        print(f"room: {client_id} ended with {type(error).__name__}")
    finally:
        rooms[room].discard(ws)


# Tasks and time


@app.websocket("/heartbeat")
async def heartbeat(ws: WebSocket) -> None:
    await ws.accept()

    async def beat() -> None:
        while True:
            await asyncio.sleep(0.02)
            try:
                await ws.send_json({"type": "ping"})
            except:  # noqa: E722  (as a document has it)
                break

    task = asyncio.create_task(beat())
    task.add_done_callback(lambda done: print("heartbeat ended"))
    try:
        while True:
            await ws.send_text(await ws.receive_text())
    except WebSocketDisconnect:
        print("handler ended")


async def handle(ws: WebSocket) -> None:
    while True:
        await ws.send_text(await ws.receive_text())


@app.websocket("/limited/{seconds}")
async def limited(ws: WebSocket, seconds: float) -> None:
    await ws.accept()
    try:
        await asyncio.wait_for(handle(ws), timeout=seconds)
    except asyncio.TimeoutError:
        await ws.close()


@app.websocket("/final/{size}")
async def final(ws: WebSocket, size: int) -> None:
    await ws.accept()
    for number in range(4):
        await ws.send_bytes(bytes([number]) * size)
