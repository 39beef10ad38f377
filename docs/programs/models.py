from pydantic import BaseModel, Field

from fastws import FastWS, WebSocket

app = FastWS()


class Reading(BaseModel):
    sensor: str = Field(min_length=1)
    celsius: float = Field(ge=-273.15)


class Summary(BaseModel):
    count: int
    highest: float


@app.websocket("/readings", receive=Reading, send=Summary)
async def readings(ws: WebSocket) -> None:
    await ws.accept()
    count, highest = 0, float("-inf")
    while True:
        reading: Reading = await ws.receive_json()
        count += 1
        highest = max(highest, reading.celsius)
        await ws.send_json(Summary(count=count, highest=highest))
