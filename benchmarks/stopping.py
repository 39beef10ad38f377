"""How long Ctrl-C takes with 1,000 open sockets: `python -m benchmarks.stopping --help`.

Each socket must see a CLOSE with 1012, and the server end with status 0, or there is no figure.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from functools import partial

import uvloop

from benchmarks.soak.__main__ import fetch, free_port, raise_file_limit
from benchmarks.soak.peer import Peer, Tally

SERVICE_RESTART = "the server closed with 1012"


async def stop(connections: int, workers: int) -> tuple[float, float]:
    """Seconds until the last socket had its CLOSE and TCP's end, and until the server was gone."""
    loop, tally, port = asyncio.get_running_loop(), Tally(), free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fastws", "run", "benchmarks.soak.application:app"),
        *("--port", str(port), "--no-access-log", "--log-level", "warning"),
        *("--workers", str(workers)),
    )
    try:
        while True:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(fetch, port)
                break
            await asyncio.sleep(0.05)
        peers = []
        for _ in range(connections):
            peer = Peer(tally, f"ws://127.0.0.1:{port}/echo", echoes=True, compressed=False)
            await loop.create_connection(partial(_itself, peer), "127.0.0.1", port)
            await peer.opened
            peers.append(peer)
        began = time.perf_counter()
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(asyncio.gather(*(peer.lost for peer in peers)), 60)
        closed = time.perf_counter() - began
        status = await asyncio.wait_for(process.wait(), 60)
        gone = time.perf_counter() - began
    finally:
        if process.returncode is None:
            process.kill()
    if status != 0 or tally.ends != {SERVICE_RESTART: connections}:
        sys.exit(f"wrong: the server ended with status {status}, its clients so: {tally.ends}")
    return closed, gone


def _itself(peer: Peer) -> Peer:
    return peer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stopping", description=__doc__)
    parser.add_argument("--connections", type=int, default=1000, help="open sockets (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median (%(default)s)")
    given = parser.parse_args()
    raise_file_limit(given.connections + 1000)
    for workers in (1, 4):
        rounds = sorted(uvloop.run(stop(given.connections, workers)) for _ in range(given.rounds))
        closed, gone = rounds[len(rounds) // 2]
        print(
            f"{given.connections} sockets, {workers} worker(s): all closed with 1012 after "
            f"{closed:.2f} s, the server gone after {gone:.2f} s"
        )


if __name__ == "__main__":
    main()
