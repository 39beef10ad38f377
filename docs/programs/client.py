import asyncio
import sys

from fastws import HandshakeError, WebSocketDisconnect, connect


# -- block --
async def greet(url: str) -> None:
    async with connect(f"{url}/hello") as ws:
        await ws.send_text("Ada")
        print(await ws.receive_text())


# -- loop --
async def watch(url: str) -> None:
    async with connect(f"{url}/last") as ws:
        async for line in ws.iter_text():
            if line.endswith("00"):
                print(line)
    print(f"closed with {ws.close_code}")


# -- alone --
async def count(url: str) -> None:
    ws = await connect(f"{url}/counter")
    try:
        await ws.send_text("one")
        print(await ws.receive_text(timeout=5))
    finally:
        await ws.close()


# -- refused --
async def enter(url: str, room: str) -> None:
    try:
        async with connect(f"{url}/rooms/{room}", headers={"X-Name": "Ada"}) as ws:
            print(await ws.receive_text())
    except HandshakeError as error:
        print(f"refused with {error.status}: wait {dict(error.headers).get('retry-after')} s")
    except OSError as error:
        print(f"no connection: {error}")


# -- again --
async def follow(url: str) -> None:
    async for ws in connect(f"{url}/counter", reconnect_max_delay="30s"):
        try:
            await ws.send_text("manager!")
            await ws.receive_text()
        except WebSocketDisconnect as gone:
            print(f"gone with {gone.code} {gone.reason}: once more")
            if gone.code == 1000:
                break


# -- limits --
async def download(url: str) -> None:
    async with connect(
        f"{url}/last",
        compression="dedicated",
        open_timeout="2s",
        ws_max_size="16MiB",
        ws_ping_interval="5s",
        ws_ping_timeout="5s",
    ) as ws:
        print(sum([len(line) async for line in ws.iter_text()]))


# -- main --
if __name__ == "__main__":
    asyncio.run(greet(sys.argv[1]))
