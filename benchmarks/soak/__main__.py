"""Soak a server: `python -m benchmarks.soak --help`; benchmarks/README.md explains it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import uvloop

from benchmarks.soak.peer import WAYS_TO_END, Peer, Tally

SPARE_FILES = 2000
OPENING_AT_ONCE = 200
FLOCK = 200  # connections of the process that is killed
SILENT_SECONDS = 45.0  # of a client that stopped reading: longer than keepalive gives it
SETTLE_SECONDS = 60.0  # for timeouts of peers that just went silent
FAST_TIMEOUTS = {
    "--ws-ping-interval": "20s",
    "--ws-ping-timeout": "10s",
    "--ws-idle-timeout": "10m",
    "--ws-max-lifetime": "24h",
    "--ws-close-timeout": "5s",
}


@dataclass
class Options:
    connections: int
    seconds: float
    rate: int
    churn: int
    interval: float


@dataclass
class Record:
    """The server's figures over time."""

    times: list[float] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)

    def slope(self, name: str) -> float:
        """Growth an hour by least squares, over the second half: caches have filled by then."""
        half = len(self.times) // 2
        times, values = self.times[half:], [figure[name] for figure in self.figures[half:]]
        if len(times) < 2:
            return 0.0
        mean_time, mean_value = sum(times) / len(times), sum(values) / len(values)
        spread = sum((t - mean_time) ** 2 for t in times)
        rise: float = sum(
            (t - mean_time) * (v - mean_value) for t, v in zip(times, values, strict=True)
        )
        slope: float = 3600 * rise / spread
        return slope


def raise_file_limit(wanted: int) -> None:
    """Let this process, and the server that it starts, open so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    except (OSError, ValueError):
        sys.exit(
            f"soak: {wanted} open files are needed and {hard} allowed: raise the limit "
            "(ulimit -Hn), or choose fewer --connections"
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fetch(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/figures", timeout=30) as response:
        figures: dict[str, Any] = json.load(response)
        return figures


class Soak:
    """The clients, and the plan of what happens to them."""

    def __init__(self, options: Options, port: int) -> None:
        self.options = options
        self.port = port
        self.tally = Tally()
        self.record = Record()
        self.peers: set[Peer] = set()
        self.refused = 0
        self.unexpected: list[str] = []
        self._opening = asyncio.Semaphore(OPENING_AT_ONCE)
        self._on_the_way = 0  # connections that open() is to add
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def open(self) -> None:
        """One more connection; it is forgotten when it is lost, whoever ended it."""
        self._on_the_way += 1
        try:
            await self._open()
        finally:
            self._on_the_way -= 1

    async def _open(self) -> None:
        echoes = random.random() < 0.8
        uri = f"ws://127.0.0.1:{self.port}/{'echo' if echoes else 'room'}"
        async with self._opening:
            peer = Peer(self.tally, uri, echoes=echoes, compressed=random.random() < 0.1)
            # Addresses of their own, so that the ports do not run out.
            source = f"127.0.0.{random.randrange(2, 250)}"
            try:
                await asyncio.get_running_loop().create_connection(
                    lambda: peer, "127.0.0.1", self.port, local_addr=(source, 0)
                )
                await peer.opened
            except OSError as error:
                self.refused += 1
                self.unexpected.append(f"a connection was refused: {error}")
                return
        self.peers.add(peer)
        peer.lost.add_done_callback(lambda _: self.peers.discard(peer))

    async def fill(self) -> None:
        missing = self.options.connections - len(self.peers)
        await asyncio.gather(*(self.open() for _ in range(missing)))

    async def until(self, deadline: float) -> None:
        """Traffic, churn and kills until ``deadline``."""
        jobs = [
            self.talk(),
            self.churn(),
            self.half_open(),
            self.abandon_handshakes(),
            self.kill_processes(),
            self.watch(),
        ]
        tasks = [asyncio.ensure_future(job) for job in jobs]
        try:
            done, _ = await asyncio.wait(
                tasks,
                timeout=deadline - time.monotonic(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def talk(self) -> None:
        """``rate`` messages a second over the echoing connections, of many sizes."""
        texts = ["x", "héllo wörld " * 5, "y" * 125, "z" * 126, '{"key": "value"} ' * 60]
        blobs = [b"", os.urandom(64), os.urandom(4000), os.urandom(70_000)]
        while True:
            began = time.monotonic()
            echoing = [p for p in self.peers if p.echoes and not p.leaves and p.opened.done()]
            for peer in random.choices(echoing, k=self.options.rate // 10) if echoing else ():
                pick = random.random()
                message = random.choice(texts) if pick < 0.95 else random.choice(blobs)
                peer.send(message)
            await asyncio.sleep(max(0.0, began + 0.1 - time.monotonic()))

    async def churn(self) -> None:
        """End ``churn`` connections a second, in every way, and open others."""
        while True:
            await asyncio.sleep(0.1)
            alive = [p for p in self.peers if not p.leaves]
            for peer in random.sample(alive, min(len(alive), self.options.churn // 10)):
                random.choice(WAYS_TO_END)(peer)
            for _ in range(self.options.connections - len(self.peers) - self._on_the_way):
                self.spawn(self.open())

    async def half_open(self) -> None:
        """A few that stop reading: the server ends them, which they do not see."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(2)
            for peer in random.sample(sorted(self.peers, key=id), min(5, len(self.peers))):
                if not peer.leaves:
                    peer.leaves = "stopped reading"
                    peer.transport.pause_reading()
                    loop.call_later(SILENT_SECONDS, peer.transport.abort)

    async def abandon_handshakes(self) -> None:
        """Clients that connect, send half of a request or rubbish, and wait or leave."""
        pieces = [
            b"",
            b"GET / HTTP/1.1\r\nHost: x\r\nUpg",
            b"\x16\x03\x01\x02\x00",
            b"POST / HTTP/1.1\r\n\r\n",
        ]
        while True:
            await asyncio.sleep(0.1)
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(random.choice(pieces))
            if random.random() < 0.5:
                writer.transport.abort()
            else:
                self.spawn(self._read_out(reader, writer))

    async def _read_out(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    async def kill_processes(self) -> None:
        """kill -9 of a whole process of clients, again and again."""
        while True:
            flock = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "benchmarks.soak.flock",
                f"ws://127.0.0.1:{self.port}/echo",
                str(FLOCK),
                stdout=asyncio.subprocess.PIPE,
            )
            try:
                assert flock.stdout is not None
                await flock.stdout.readline()
                await asyncio.sleep(10)
            finally:
                flock.kill()
                await flock.wait()
            self.tally.ends["killed with their process"] += FLOCK

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(self.options.interval)
            await self.look(len(self.peers))

    async def look(self, open_now: int) -> dict[str, Any]:
        figures = await asyncio.to_thread(fetch, self.port)
        self.record.times.append(time.monotonic())
        self.record.figures.append(figures)
        print(
            f"{len(self.record.times):4} open {open_now:6}  "
            f"resident {figures['resident'] / 2**20:7.1f} MiB  files {figures['files']:6}  "
            f"tasks {figures['tasks']:6}  timers {figures['timers']:6}  "
            f"errors {figures['errors']}  echoes {self.tally.echoes}",
            flush=True,
        )
        return figures

    async def end(self) -> None:
        """Close everything; who stopped reading is reset."""
        for task in tuple(self._tasks):
            task.cancel()
        for peer in tuple(self.peers):
            if peer.leaves:
                peer.reset()
            else:
                peer.close()
        waiting = [peer.lost for peer in self.peers]
        if waiting:
            await asyncio.wait(waiting, timeout=SETTLE_SECONDS)

    async def settle(self, before: dict[str, Any]) -> dict[str, Any]:
        """The figures once files, tasks and timers are where they were before, or at the latest."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            figures = await self.look(0)
            back = all(figures[name] <= before[name] for name in ("files", "tasks", "timers"))
            if back or time.monotonic() > deadline:
                return figures
            await asyncio.sleep(2)


@contextlib.asynccontextmanager
async def server(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    options = [part for option in FAST_TIMEOUTS.items() for part in option]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fastws", "run", "benchmarks.soak.application:app"),
        *("--port", str(port), "--no-access-log", "--log-level", "warning", *options),
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError):
                await asyncio.to_thread(fetch, port)
                break
            await asyncio.sleep(0.1)
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), 60)
        if process.returncode is None:
            process.kill()


async def run(options: Options) -> list[str]:
    """Soak, print the figures, and return what was wrong."""
    port = free_port()
    async with server(port) as process:
        soak = Soak(options, port)
        # Once up and down first: pools and caches fill that are not leaks.
        await asyncio.gather(*(soak.open() for _ in range(min(500, options.connections))))
        await soak.end()
        before = await soak.settle({"files": 0, "tasks": 0, "timers": 0} | await soak.look(0))
        soak.record = Record()
        print(f"before: {before}")
        began = time.monotonic()
        await soak.fill()
        full = await soak.look(len(soak.peers))
        each = (full["resident"] - before["resident"]) / max(1, len(soak.peers))
        print(f"{len(soak.peers)} connections open after {time.monotonic() - began:.1f} s")
        await soak.until(time.monotonic() + options.seconds)
        lasted = time.monotonic() - began
        slopes = {
            name: soak.record.slope(name) for name in ("resident", "files", "tasks", "timers")
        }
        last = soak.record.figures[-1]
        await soak.end()
        after = await soak.settle(before)
        process.send_signal(signal.SIGINT)
        status = await process.wait()
    return report(options, soak, before, last, after, slopes, each, lasted, status)


def report(
    options: Options,
    soak: Soak,
    before: dict[str, Any],
    last: dict[str, Any],
    after: dict[str, Any],
    slopes: dict[str, float],
    each: float,
    lasted: float,
    status: int,
) -> list[str]:
    tally = soak.tally
    ended = sum(tally.ends.values())
    busy = (last["cpu_seconds"] - before["cpu_seconds"]) / lasted
    print(f"\n{lasted:.0f} s with {options.connections} connections")
    print(f"  {tally.opened} opened, {ended} ended, {soak.refused} refused")
    for way, count in tally.ends.most_common():
        print(f"    {count:8} {way}")
    print(f"  {tally.echoes} echoes and {tally.broadcasts} broadcasts, each one checked")
    print(f"  {each / 1024:.2f} KiB resident for each connection when all were open")
    print(f"  {100 * busy:.0f} % of a core")
    print("  slope over the second half, an hour:")
    print(f"    resident {slopes['resident'] / 2**20:+.2f} MiB")
    for name in ("files", "tasks", "timers"):
        print(f"    {name} {slopes[name]:+.1f}")
    for name in ("resident", "files", "tasks", "timers", "errors"):
        print(f"  {name}: {before[name]} before, {after[name]} after all were closed")
    wrong = list(tally.wrong[:10]) + soak.unexpected[:10]
    for name in ("files", "tasks", "timers"):
        if after[name] > before[name]:
            wrong.append(f"{after[name]} {name} after the end, {before[name]} before")
    if after["errors"]:
        wrong.append(f"the server logged {after['errors']} errors")
    if status != 0:
        wrong.append(f"the server ended with status {status}")
    print("wrong: " + ("; ".join(wrong) if wrong else "nothing"))
    return wrong


def duration(text: str) -> float:
    from fastws.kinds import duration as kind

    seconds: float = kind().parse(text)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    add: Callable[..., Any] = parser.add_argument
    add("--connections", type=int, default=10_000, help="held all the time (%(default)s)")
    add("--time", type=duration, default="10m", metavar="TIME", help="how long (%(default)s)")
    add("--rate", type=int, default=3000, help="messages a second (%(default)s)")
    add("--churn", type=int, default=100, help="connections replaced a second (%(default)s)")
    add("--interval", type=duration, default="10s", metavar="TIME", help="between figures")
    given = parser.parse_args()
    options = Options(given.connections, given.time, given.rate, given.churn, given.interval)
    raise_file_limit(options.connections + SPARE_FILES)
    if uvloop.run(run(options)):
        sys.exit(1)


if __name__ == "__main__":
    main()
