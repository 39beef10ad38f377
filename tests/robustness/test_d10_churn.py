"""D10: connections that come and go leave nothing behind, in a server of its own process.

Every run has 10,000 of them; FASTWS_TEST_CYCLES says how many instead, such as the row's 10^5,
which take less than a minute.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import struct
import sys
import time
from pathlib import Path

import pytest

from fastws import FastWS, WebSocket
from fastws._connection import Connection
from fastws._timers import TimerWheel
from tests.robustness.client import CLOSE, Measured, build, close_frame, measured
from tests.serving import handshake, status_of
from tests.support import TIMEOUT

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.measures,
]

KIB = 1024
MIB = 1024 * KIB
BATCH = 500  # connections that are open together
CYCLES = int(os.environ.get("FASTWS_TEST_CYCLES", "10000"))

app = FastWS()


@app.websocket("/")
async def echo(ws: WebSocket) -> None:
    await ws.accept()
    async for message in ws:
        await ws.send_text(str(message))
        if message == "return":
            return


@app.get("/census")
async def census() -> dict[str, int]:
    """What there is of everything that a connection may leave behind."""
    gc.collect()
    objects = gc.get_objects()
    return {
        "tasks": len(asyncio.all_tasks()),
        "timers": sum(wheel.scheduled for wheel in objects if type(wheel) is TimerWheel),
        "connections": sum(type(thing) is Connection for thing in objects),
        "sockets": sum(type(thing) is WebSocket for thing in objects),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "objects": len(objects),
        "resident": resident(),
    }


def resident() -> int:
    """Bytes of memory that this process occupies."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def ask(server: Measured) -> dict[str, int]:
    with socket.create_connection((server.host, server.port), timeout=2 * TIMEOUT) as link:
        link.sendall(b"GET /census HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        with link.makefile("rb") as answer:
            found: dict[str, int] = json.loads(answer.read().partition(b"\r\n\r\n")[2])
            return found


def settled(server: Measured, before: dict[str, int]) -> dict[str, int]:
    """The census once all but memory is what it was ``before``, which it must soon be."""
    deadline = time.monotonic() + 2 * TIMEOUT
    counted = ("tasks", "timers", "connections", "sockets", "descriptors")
    while True:
        now = ask(server)
        differing = {
            name: (before[name], now[name]) for name in counted if now[name] != before[name]
        }
        if not differing:
            return now
        assert time.monotonic() < deadline, f"left behind (before, now): {differing}"
        time.sleep(0.02)


def opened(server: Measured, count: int) -> list[socket.socket]:
    """As many WebSockets, all of them accepted."""
    links = [socket.create_connection((server.host, server.port), TIMEOUT) for _ in range(count)]
    for link in links:
        link.sendall(handshake())
    for link in links:
        assert status_of(link.recv(KIB)) == 101
    return links


def closed(links: list[socket.socket]) -> None:
    """End ``links``, each in one of the ways that there are."""
    ways = ("close", "eof", "reset", "return", "half a frame", "violation")
    for number, link in enumerate(links):
        way = ways[number % len(ways)]
        link.sendall(build(way.encode()))
        answer = link.recv(KIB)
        assert answer[2 : 2 + len(way)] == way.encode()
        if way == "close":
            link.sendall(close_frame())
        elif way == "half a frame":
            link.sendall(build(b"half", length=100))
        elif way == "violation":
            link.sendall(build(b"", 15))
        if way in ("close", "violation"):
            assert link.recv(KIB)[0] == 0x80 | CLOSE
        elif way == "reset":
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        link.close()


def churn(server: Measured, cycles: int) -> None:
    for _ in range(cycles // BATCH):
        closed(opened(server, BATCH))


def test_d10_connections_that_come_and_go_leave_nothing_behind() -> None:
    with measured(
        "--access-log", "off", "--log-level", "error", tracing=False, app=f"{__name__}:app"
    ) as server:
        ask(server)
        before = ask(server)
        # What is allocated once for as many connections at a time stays.
        churn(server, 4 * BATCH)
        first = settled(server, before)
        churn(server, CYCLES)
        last = settled(server, before)
        assert abs(last["objects"] - first["objects"]) < 200
        # The allocator's own noise; 200 bytes a connection would be as much.
        assert last["resident"] - first["resident"] < 2 * MIB
