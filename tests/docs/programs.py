"""A program of the documentation in a process of its own, and a client that talks to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import struct
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support import LOOP, ROOT, TIMEOUT, ServerProcess

__all__ = [
    "SERVERS",
    "Answer",
    "Program",
    "ask",
    "ending",
    "hear",
    "kill",
    "shown",
    "silence",
]

SERVERS = ("fastws run", "uvicorn")
"""What serves each program: this package's own server, and another one by way of ASGI."""


class Answer(NamedTuple):
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    """With names in lower case."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def complaints(self) -> list[tuple[str, ...]]:
        """Where the values are that a 422 complains about."""
        assert self.status == 422, self
        return [tuple(found["loc"]) for found in self.json()["detail"]]


class Program(ServerProcess):
    """A program of the documentation, served in a process of its own.

    Parameters:
        module: where its ``app`` is, such as ``docs.programs.hello``.
        server: one of SERVERS, or ``"hypercorn"``.
        options: further words of the command line of ``fastws run``; no other server gets them.
        other: those of uvicorn.
    """

    def __init__(
        self, module: str, server: str = SERVERS[0], *options: str, other: tuple[str, ...] = ()
    ) -> None:
        # What a program prints is to be seen at once.
        super().__init__(f"{module}:app", *options, env={"PYTHONUNBUFFERED": "1"})
        self.server = server
        target, address = f"{module}:app", ["--host", self.host, "--port", str(self.port)]
        if server == "uvicorn":
            words = ["uvicorn", target, *address, "--loop", LOOP, "--lifespan", "on", *other]
            self.command = [sys.executable, "-m", *words]
        elif server == "hypercorn":
            words = ["hypercorn", target, "--bind", f"{self.host}:{self.port}"]
            self.command = [sys.executable, "-m", *words]
        self._more = threading.Condition()

    def __enter__(self) -> Program:
        super().__enter__()
        return self

    @property
    def is_native(self) -> bool:
        """Whether this package's own server runs it."""
        return self.server == SERVERS[0]

    def _read(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        with stream:
            for line in stream:
                with self._more:
                    self._lines.append(line)
                    self._more.notify_all()

    def printed(self, text: str, times: int = 1) -> None:
        """Wait until the process has written ``text`` that often; AssertionError if it does not."""
        deadline = time.monotonic() + TIMEOUT
        with self._more:
            while self.output.count(text) < times:
                if not self._more.wait(deadline - time.monotonic()):
                    pytest.fail(f"{text!r} is not {times} times in the output:\n{self.output}")

    async def prints(self, text: str, times: int = 1) -> None:
        """As :meth:`printed`, for coroutines."""
        await asyncio.to_thread(self.printed, text, times)

    def assert_quiet(self) -> None:
        """The log has no traceback, and nothing of what Python says about lost coroutines."""
        for word in ("Traceback", "never awaited", "never retrieved", "Warning: "):
            assert word not in self.output, f"{' '.join(self.command)} wrote:\n{self.output}"

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the process for the length of the block: what clients do in it, it sees at once."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    def open(self, path: str, **options: Any) -> connect:
        """A connection, to be awaited or entered; ``options`` are those of ``connect``.

        Its client reads whatever comes, whether or not somebody asks for it: otherwise it would
        not get to a CLOSE behind it.
        """
        usual = {"proxy": None, "open_timeout": TIMEOUT, "max_queue": None}
        return connect(self.url + path, **{**usual, **options})

    async def refusal(self, path: str, **headers: str) -> Answer:
        """The answer to a handshake that is refused."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        with pytest.raises(InvalidStatus) as caught:
            await self.open(path, additional_headers=names)
        response = caught.value.response
        found = {name.lower(): value for name, value in response.headers.raw_items()}
        return Answer(response.status_code, found, bytes(response.body or b""))

    def get(self, path: str) -> Answer:
        """The answer to a plain GET."""
        url = f"http://{self.host}:{self.port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
                status, headers, body = response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                status, headers, body = error.code, error.headers, error.read()
        return Answer(status, {name.lower(): value for name, value in headers.items()}, body)


async def hear(ws: ClientConnection) -> Any:
    """The next message; text that is JSON is read."""
    message = await asyncio.wait_for(ws.recv(), TIMEOUT)
    with contextlib.suppress(ValueError):
        if isinstance(message, str):
            return json.loads(message)
    return message


async def ask(ws: ClientConnection, message: Any) -> Any:
    """Send a message, an object as JSON, and return the next one that comes."""
    await ws.send(message if isinstance(message, (str, bytes)) else json.dumps(message))
    return await hear(ws)


async def ending(ws: ClientConnection) -> tuple[list[Any], int | None, str]:
    """All that still comes, and the code and the reason with which the server closes."""
    heard = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            heard.append(await hear(ws))
    return heard, ws.close_code, ws.close_reason or ""


def shown(page: str) -> list[Any]:
    """The JSON that a page of the guide shows as sent or answered."""
    text = (ROOT / "docs" / "guide" / page).read_text(encoding="utf-8")
    return [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", text, re.M | re.S)]


def kill(ws: ClientConnection) -> None:
    """End a client as a killed process does: TCP is reset, without a CLOSE."""
    sock: socket.socket = ws.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ws.transport.abort()


def silence(ws: ClientConnection) -> None:
    """Let a client fall silent, as one does whose cable is cut: it reads and answers nothing."""
    assert hasattr(ws.transport, "pause_reading")
    ws.transport.pause_reading()
