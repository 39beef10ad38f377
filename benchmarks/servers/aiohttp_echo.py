"""aiohttp: its WebSocketResponse on uvloop, with its own JSON methods."""

from __future__ import annotations

import asyncio

import uvloop
from aiohttp import WSMsgType, web

from benchmarks.servers.arguments import BACKLOG, announce_ready, arguments

COMPRESS = web.AppKey("compress", bool)
RECEIVERS = web.AppKey("receivers", set[web.WebSocketResponse])


async def opened(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(compress=request.app[COMPRESS])
    await ws.prepare(request)
    return ws


async def echo(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await ws.send_bytes(message.data)
    return ws


async def echo_json(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_json(message.json())
    return ws


async def receive(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    receivers = request.app[RECEIVERS]
    receivers.add(ws)
    try:
        await ws.receive()
    finally:
        receivers.discard(ws)
    return ws


async def publish(request: web.Request) -> web.WebSocketResponse:
    ws = await opened(request)
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            for receiver in request.app[RECEIVERS].copy():
                await receiver.send_str(message.data)
    return ws


async def main() -> None:
    given = arguments()
    app = web.Application()
    app[COMPRESS] = given.compression != "off"
    app[RECEIVERS] = set()
    app.add_routes(
        [
            web.get("/ws", echo),
            web.get("/binary", echo),
            web.get("/json", echo_json),
            web.get("/receive", receive),
            web.get("/publish", publish),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, given.host, given.port, backlog=BACKLOG).start()
    announce_ready()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
