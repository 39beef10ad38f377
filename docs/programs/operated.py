import logging

from fastws import FastWS, WebSocket

app = FastWS()


# -- drain --
clients: set[WebSocket] = set()


@app.on_drain
async def announce() -> None:
    for ws in tuple(clients):
        await ws.send_json({"event": "restarting"})


@app.websocket("/jobs")
async def jobs(ws: WebSocket) -> None:
    await ws.accept()
    clients.add(ws)
    try:
        async for job in ws.iter_text():
            if ws.draining:
                await ws.send_json({"event": "not taken", "job": job})
                continue
            await ws.send_json({"event": "done", "job": job})
    finally:
        clients.discard(ws)


# -- log --
log = logging.getLogger("shop")


@app.websocket("/orders")
async def orders(ws: WebSocket) -> None:
    await ws.accept()
    async for order in ws.iter_text():
        log.info("an order for %s", order, extra={"order": order})
        await ws.send_text("ordered")
