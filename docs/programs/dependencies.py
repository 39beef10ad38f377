from collections.abc import AsyncIterator
from typing import Annotated

from fastws import Depends, FastWS, HTTPException, Query, WebSocket

app = FastWS()


# -- simple --
def language(lang: str = Query("en", min_length=2, max_length=2)) -> str:
    return lang.lower()


async def greeting(language: str = Depends(language)) -> str:
    return {"de": "Guten Tag", "is": "Góðan daginn"}.get(language, "Good day")


@app.websocket("/greet")
async def greet(
    ws: WebSocket,
    greeting: str = Depends(greeting),
    language: str = Depends(language),
) -> None:
    await ws.accept()
    await ws.send_json([language, greeting])


# -- cached --
calls: list[str] = []


def ticket(ws: WebSocket) -> int:
    calls.append(ws.url.path)
    return len(calls)


Ticket = Annotated[int, Depends(ticket)]


@app.websocket("/tickets")
async def tickets(
    ws: WebSocket, one: Ticket, same: Ticket, other: int = Depends(ticket, use_cache=False)
) -> None:
    await ws.accept()
    await ws.send_json([one == same, one == other])


# -- teardown --
class Database:
    def __init__(self) -> None:
        self.open = True

    async def find(self, user: str) -> str | None:
        return {"1": "Ada", "2": "Grace"}.get(user)

    def close(self) -> None:
        self.open = False
        print("the database is closed")


async def database() -> AsyncIterator[Database]:
    found = Database()
    try:
        yield found
    finally:
        found.close()


@app.websocket("/people")
async def people(ws: WebSocket, db: Database = Depends(database)) -> None:
    await ws.accept()
    async for user in ws.iter_text():
        await ws.send_json({"name": await db.find(user), "open": db.open})


# -- handshake --
async def visitor(user: str, db: Database = Depends(database, scope="handshake")) -> str:
    name = await db.find(user)
    if name is None:
        raise HTTPException(403, detail="we have not met")
    return name


@app.websocket("/visit")
async def visit(ws: WebSocket, name: str = Depends(visitor, scope="handshake")) -> None:
    await ws.accept()  # the database is closed from here on
    async for text in ws.iter_text():
        await ws.send_text(f"{name}: {text}")


# -- unseen --
def only_at_night(hour: int) -> None:
    if 6 <= hour < 22:
        raise HTTPException(403, detail="come back at night")


@app.websocket("/night", dependencies=[Depends(only_at_night)])
async def night(ws: WebSocket) -> None:
    await ws.accept()
    await ws.send_text("Hoo.")
