from typing import Any

from fastws import FastWS, WebSocket

app = FastWS()
rooms: dict[str, dict[WebSocket, str]] = {}


async def tell(room: str, message: dict[str, Any], besides: WebSocket | None = None) -> None:
    for member in list(rooms.get(room, ())):
        if member is not besides:
            await member.send_json(message)


@app.websocket("/rooms/{room}")
async def enter(ws: WebSocket, room: str, name: str = "somebody") -> None:
    await ws.accept()
    members = rooms.setdefault(room, {})
    members[ws] = name
    await ws.send_json({"type": "members", "names": list(members.values())})
    await tell(room, {"type": "joined", "name": name}, besides=ws)
    try:
        while True:
            text = await ws.receive_text()
            await tell(room, {"type": "said", "name": name, "text": text})
    except Exception as error:
        print(f"{name} left {room}: {error}")
    finally:
        del members[ws]
        if members:
            await tell(room, {"type": "left", "name": name})
        else:
            del rooms[room]
