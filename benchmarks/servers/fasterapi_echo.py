"""FasterAPI on uvicorn.

Its accept() leaves ASGI's connect event in the queue, so that the first receive_text() of the echo
in its documentation returns "", and receive_json() fails. Each handler here calls it once more.
"""

# mypy: disable-error-code="import-not-found", allow-untyped-decorators
# A machine that only checks types need not have FasterAPI.

from __future__ import annotations

from FasterAPI import Faster, WebSocket, WebSocketDisconnect

from benchmarks.servers.on_uvicorn import serve

app = Faster()
receivers: list[WebSocket] = []


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive_text()
    while True:
        await websocket.send_text(await websocket.receive_text())


@app.websocket("/binary")
async def echo_binary(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive_text()
    while True:
        await websocket.send_bytes(await websocket.receive_bytes())


@app.websocket("/json")
async def echo_json(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive_text()
    while True:
        await websocket.send_json(await websocket.receive_json())


@app.websocket("/receive")
async def receive(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive_text()
    receivers.append(websocket)
    try:
        await websocket.receive_text()
    except WebSocketDisconnect:
        receivers.remove(websocket)


@app.websocket("/publish")
async def publish(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive_text()
    while True:
        message = await websocket.receive_text()
        for receiver in receivers:
            await receiver.send_text(message)


if __name__ == "__main__":
    serve(app)
