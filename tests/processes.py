"""Servers in processes of their own whose lines can be waited for, and an application for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastws import FastWS, WebSocket
from tests.serving import Client, handshake, status_of
from tests.support import ROOT, TIMEOUT, ServerProcess

__all__ = ["LISTENING", "Process", "Socket", "app", "open_socket", "pid_of_request", "websockets"]

APP = "tests.processes:app"

CERTIFICATE = ROOT / "tests" / "localhost.pem"

LISTENING = ["tcp", "unix", "tls"]
"""What :meth:`Process.over` knows."""

OWN_GROUP = "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"

# The application

app = FastWS()


@app.websocket("/")
async def tells_its_process(ws: WebSocket) -> None:
    await ws.accept()
    await ws.send_text(json.dumps([os.getpid(), ws.client]))
    async for message in ws:
        await ws.send_text(message)


@app.websocket("/stuck")
async def stuck(ws: WebSocket) -> None:
    await ws.accept()
    await ws.send_text(json.dumps([os.getpid(), ws.client]))
    await asyncio.Event().wait()


@app.websocket("/undecided")
async def undecided(ws: WebSocket) -> None:
    print("undecided", flush=True)
    await asyncio.Event().wait()


@app.websocket("/blocks")
async def blocks(ws: WebSocket) -> None:
    await ws.accept()
    threading.Event().wait()


@app.get("/pid")
async def pid() -> int:
    return os.getpid()


# Processes


class Process(ServerProcess):
    """A server whose output can be waited for; otherwise as its base.

    Parameters:
        first: the line, as a pattern, that says that it has started.
        own_group: make it the leader of a group of processes, as a shell does with a command.
        path: the Unix socket that it listens on, in the place of a port.
        tls: serve TLS.
    """

    def __init__(
        self,
        app: str = APP,
        *options: str,
        first: str = "Press Ctrl-C to stop",
        own_group: bool = False,
        path: Path | None = None,
        tls: bool = False,
        **rest: Any,
    ) -> None:
        self.path = path
        self.tls = ssl.create_default_context(cafile=CERTIFICATE) if tls else None
        if tls:
            options += ("--ssl-certfile", str(CERTIFICATE))
        if path is not None:
            options += ("--uds", str(path))
        super().__init__(app, *options, **rest)
        if own_group:
            self.command = [sys.executable, "-c", OWN_GROUP, *self.command]
        self._first = first
        self._said = threading.Condition()
        self._silent = False  # the end of the output was seen

    @classmethod
    def over(cls, listening: str, directory: Path, *options: str, **rest: Any) -> Process:
        """A server of the application above that listens on one of LISTENING."""
        if listening == "unix":
            rest["path"] = directory / "fastws.sock"
        return cls(APP, *options, tls=listening == "tls", **rest)

    def __enter__(self) -> Process:
        super().__enter__()
        return self

    def wait_for(self, pattern: str, *, count: int = 1, within: float = 4 * TIMEOUT) -> str:
        """Block until ``count`` lines match ``pattern``, and return the last of them."""
        deadline = time.monotonic() + within
        with self._said:
            while True:
                found = [line for line in self._lines if re.search(pattern, line)]
                if len(found) >= count:
                    return found[count - 1]
                left = deadline - time.monotonic()
                if self._silent or left <= 0 or not self._said.wait(left):
                    raise RuntimeError(f"no line like {pattern!r} ({count}) in:\n{self.output}")

    async def line(self, pattern: str, *, count: int = 1) -> str:
        """As :meth:`wait_for`, in a loop."""
        return await asyncio.to_thread(self.wait_for, pattern, count=count)

    async def ended(self) -> int:
        """Wait for the end of the server, and return its exit status."""
        return await asyncio.to_thread(self.process.wait, 4 * TIMEOUT)

    def wait_for_silence(self) -> None:
        """Block until no process is left that has this one's output."""
        assert self._reader is not None
        self._reader.join(4 * TIMEOUT)
        assert self._silent

    async def open(self) -> Client:
        """A connection."""
        options: dict[str, Any] = {}
        if self.tls is not None:
            options = {"ssl": self.tls, "server_hostname": "localhost"}
        if self.path is None:
            opening = asyncio.open_connection(self.host, self.port, **options)
        else:
            opening = asyncio.open_unix_connection(str(self.path), **options)
        return Client(*await asyncio.wait_for(opening, TIMEOUT))

    def _read(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        with stream:
            for line in stream:
                with self._said:
                    self._lines.append(line)
                    self._said.notify_all()
        with self._said:
            self._silent = True
            self._said.notify_all()

    def _wait_until_ready(self, deadline: float) -> None:
        self.wait_for(self._first, within=deadline - time.monotonic())


class Socket(Client):
    """An open WebSocket to :data:`app`."""

    pid: int
    """The process that serves it."""
    client: list[Any] | None
    """Its ``ws.client``."""

    async def begin(self, path: str) -> None:
        await self.send(handshake(path))
        head = await self.head()
        assert status_of(head) == 101, head
        opcode, payload = await self.frame()
        assert opcode == 1
        self.pid, self.client = json.loads(payload)


async def open_socket(server: Process, path: str = "/") -> Socket:
    client = await server.open()
    socket = Socket(client.reader, client.writer)
    try:
        await socket.begin(path)
    except BaseException:
        await socket.close()
        raise
    return socket


@contextlib.asynccontextmanager
async def websockets(
    server: Process, count: int, path: str = "/", *, at_once: int = 50
) -> AsyncIterator[list[Socket]]:
    """So many open WebSockets, for the length of the block."""
    sockets: list[Socket] = []
    try:
        while len(sockets) < count:
            batch = min(at_once, count - len(sockets))
            sockets += await asyncio.gather(*(open_socket(server, path) for _ in range(batch)))
        yield sockets
    finally:
        await asyncio.gather(*(socket.close() for socket in sockets))


async def pid_of_request(server: Process) -> int:
    """Ask on a connection of its own which process answers."""
    client = await server.open()
    try:
        await client.send(b"GET /pid HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        head = await client.head()
        assert status_of(head) == 200, head
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(await client.exactly(length))
    finally:
        await client.close()
