"""Clients in a process of their own, to be killed: `python -m benchmarks.soak.flock URI COUNT`.

Says "ready" once all are connected, then sends messages until it is killed.
"""

from __future__ import annotations

import asyncio
import sys

from benchmarks.soak.peer import Peer, Tally
from fastws.client_handshake import parse_uri


async def main(uri: str, count: int) -> None:
    loop, tally = asyncio.get_running_loop(), Tally()
    address = parse_uri(uri)
    peers = []
    for _ in range(count):
        _, peer = await loop.create_connection(
            lambda: Peer(tally, uri, echoes=True, compressed=False), address.host, address.port
        )
        await peer.opened
        peers.append(peer)
    print("ready", flush=True)
    while True:
        for peer in peers:
            peer.send("x" * 2000)
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
