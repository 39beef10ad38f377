from typing import Any

from fastws import FastWS, WebSocket, WebSocketDisconnect

app = FastWS()
PRICES = {"tea": 3, "cake": 5}


# -- orders --
@app.websocket("/orders")
async def orders(ws: WebSocket) -> None:
    await ws.accept()
    total = 0
    try:
        while True:
            order: dict[str, Any] = await ws.receive_json()
            total += PRICES[order["item"]] * order.get("count", 1)
            await ws.send_json({"order": order, "total": total})
    except WebSocketDisconnect:
        print(f"the guest left and owes {total}")


# -- forgiving --
@app.websocket("/forgiving")
async def forgiving(ws: WebSocket) -> None:
    await ws.accept()
    while True:
        try:
            order = await ws.receive_json()
            await ws.send_json({"price": PRICES[order["item"]]})
        except ValueError as error:
            await ws.send_json({"error": f"not JSON: {error}"})
        except (KeyError, TypeError):
            await ws.send_json({"error": "an order is an object with an item of the menu"})


# -- binary --
@app.websocket("/binary")
async def binary(ws: WebSocket) -> None:
    await ws.accept()
    order = await ws.receive_json(mode="binary")
    await ws.send_json({"order": order}, mode="binary")
