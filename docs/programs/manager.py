from fastws import FastWS, WebSocket, WebSocketDisconnect


class Table:
    """Everybody at one table, in the order in which they sat down."""

    def __init__(self) -> None:
        self.guests: list[WebSocket] = []

    async def seat(self, ws: WebSocket) -> None:
        await ws.accept()
        self.guests.append(ws)

    def leave(self, ws: WebSocket) -> None:
        self.guests.remove(ws)

    async def tell(self, ws: WebSocket, text: str) -> None:
        await ws.send_text(text)

    async def announce(self, text: str) -> None:
        for guest in self.guests:
            await guest.send_text(text)


app = FastWS()
table = Table()


@app.websocket("/table/{number}")
async def dine(ws: WebSocket, number: int) -> None:
    await table.seat(ws)
    try:
        while True:
            text = await ws.receive_text()
            await table.tell(ws, f"you said {text}")
            await table.announce(f"guest {number} said {text}")
    except WebSocketDisconnect:
        table.leave(ws)
        await table.announce(f"guest {number} went home")
