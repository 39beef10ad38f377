from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastws import FastWS, WebSocket, WebSocketState


# -- lifespan --
@asynccontextmanager
async def lifespan(app: FastWS) -> AsyncIterator[dict[str, Any]]:
    words = {"tea": "Tee", "cake": "Kuchen"}  # a connection pool, a model, …
    print("the dictionary is open")
    yield {"words": words}
    print("the dictionary is shut")


app = FastWS(lifespan=lifespan)
app.state.lookups = 0


@app.on_startup
def greet() -> None:
    print("ready to translate")


@app.websocket("/translate")
async def translate(ws: WebSocket) -> None:
    await ws.accept()
    ws.state.unknown = 0  # of this connection alone
    async for word in ws.iter_text():
        ws.app.state.lookups += 1
        if word not in ws.state.words:
            ws.state.unknown += 1
        await ws.send_json(
            {
                "word": ws.state.words.get(word),
                "unknown": ws.state.unknown,
                "lookups": ws.app.state.lookups,
            }
        )


# -- number --
@app.websocket("/while")
async def loop(ws: WebSocket) -> None:
    await ws.accept()
    while ws.client_state == 1:
        text = await ws.receive_text()
        await ws.send_text(f"still here: {text}")


# -- names --
@app.websocket("/names")
async def names(ws: WebSocket) -> None:
    seen = [ws.client_state]
    await ws.accept()
    seen.append(ws.client_state)
    if ws.client_state == WebSocketState.CONNECTED:
        await ws.send_text("connected")
    await ws.close()
    seen.append(ws.client_state)
    print(*(f"{state.name}={state.value}" for state in seen))
