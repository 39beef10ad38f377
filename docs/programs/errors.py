import json

from fastws import (
    FastWS,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
    WebSocketTypeError,
)

app = FastWS()


# -- ladder --
@app.websocket("/ladder")
async def ladder(ws: WebSocket) -> None:
    try:
        await ws.accept()
        while True:
            try:
                number = await ws.receive_json()
                if number == 0:
                    raise WebSocketException(code=4000, reason="zero is no divisor")
                await ws.send_json({"inverse": 1 / number})
            except ConnectionError:
                print("the peer is gone")
                break
            except ValueError as error:
                await ws.send_json({"not json": str(error)})
            except TypeError as error:
                await ws.send_json({"wrong type": str(error)})
    except WebSocketException as refused:
        print(f"refused with {refused.code}: {refused.reason}")
        await ws.close(refused.code, refused.reason)
    finally:
        print("done")


# -- checked --
@app.websocket("/checked")
async def checked(ws: WebSocket) -> None:
    await ws.accept()
    try:
        while True:
            try:
                command = json.loads(await ws.receive_text())
                if "do" not in command:
                    await ws.send_json({"error": "say what to do"})
                    continue
                await ws.send_json({"done": command["do"], "with": command.get("with")})
            except json.JSONDecodeError:
                await ws.send_json({"error": "not JSON"})
            except Exception as error:
                await ws.send_json({"error": f"{type(error).__name__}: {error}"})
    except WebSocketDisconnect:
        print("the peer of /checked is gone")


# -- kind --
@app.websocket("/kind")
async def kind(ws: WebSocket) -> None:
    await ws.accept()
    while True:
        try:
            await ws.send_text(await ws.receive_text())
        except WebSocketTypeError as error:
            await ws.send_text(f"{len(error.data)} bytes, and text was expected")


# -- ends --
@app.websocket("/ends/{how}")
async def ends(ws: WebSocket, how: str) -> None:
    await ws.accept()
    match how:
        case "return":
            return
        case "code":
            raise WebSocketException(1008, "against the rules of the house")
        case "type":
            await ws.receive_text()
        case "bug":
            raise ZeroDivisionError("one of those days")
    await ws.close()
    await ws.send_text("too late")
