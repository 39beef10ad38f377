import asyncio

from fastws import FastWS, WebSocket

app = FastWS()
connections = 0


# -- health --
@app.get("/health")
async def health() -> dict[str, int]:
    return {"connections": connections}


# -- options --
@app.websocket(
    "/upload",
    origins="same",
    subprotocols=["sizes.v2", "sizes.v1"],
    ws_max_size="64KiB",
    ws_ping_interval="5s",
)
async def upload(ws: WebSocket) -> None:
    global connections
    await ws.accept(subprotocol=ws.subprotocols[0] if ws.subprotocols else None)
    connections += 1
    try:
        async for data in ws.iter_bytes():
            await ws.send_json({"size": len(data), "protocol": ws.subprotocol})
    finally:
        connections -= 1


# -- serve --
async def main() -> None:
    server = asyncio.create_task(app.serve_async(host="127.0.0.1", port=8000, log_level="warning"))
    # … whatever else the program does …
    await server


if __name__ == "__main__":
    asyncio.run(main())
