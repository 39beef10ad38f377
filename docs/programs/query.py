from typing import Literal

from fastws import FastWS, Query, WebSocket

app = FastWS()


# -- required --
@app.websocket("/seat")
async def seat(
    ws: WebSocket,
    hall: str = Query(..., description="name of the hall"),
    row: int = Query(..., ge=1, le=40),
) -> None:
    await ws.accept()
    await ws.send_text(f"{hall}, row {row}: the curtain rises")
    async for text in ws.iter_text():
        await ws.send_text(f"row {row} whispers: {text}")
    print(f"row {row} of {hall} went home")


# -- optional --
@app.websocket("/search")
async def search(
    ws: WebSocket,
    text: str,
    limit: int = 10,
    order: Literal["new", "old"] = "new",
    tag: list[str] = Query([]),
    before: int | None = Query(None, alias="to"),
) -> None:
    await ws.accept()
    await ws.send_json([text, limit, order, tag, before])
