"""Peers for a client's opening handshake: a server that answers as told, and an HTTP proxy."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from fastws.handshake import accept_key
from tests.support import TIMEOUT

__all__ = [
    "Peer",
    "answering",
    "client_tls",
    "proxying",
    "redirect",
    "response",
    "server_tls",
    "switching",
]

CERTIFICATE = Path(__file__).parent / "localhost.pem"
"""For localhost and 127.0.0.1; its own authority."""

Answer = bytes | Callable[[bytes], bytes] | None
"""What to answer to a head; ``None`` is silence."""


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def client_tls() -> ssl.SSLContext:
    """Trusts the certificate of :func:`server_tls`, and verifies it."""
    return ssl.create_default_context(cafile=CERTIFICATE)


@dataclass
class Peer:
    """A server of one of the kinds below, while it runs."""

    port: int
    heads: list[bytes] = field(default_factory=list)
    """The heads of the requests that came, in order."""
    open: int = 0
    """Connections that are open."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def authority(self) -> str:
        return f"localhost:{self.port}"

    async def heard(self, count: int = 1) -> None:
        """Wait until so many requests have come."""
        await self._until(lambda: len(self.heads) >= count)

    async def empty(self) -> None:
        """Wait until no connection is open."""
        await self._until(lambda: self.open == 0)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), TIMEOUT)

    def header(self, name: str, index: int = -1) -> str | None:
        """A header of one of the requests."""
        for line in self.heads[index].decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None


def response(status: int, *headers: str, body: bytes = b"", reason: str = "Reason") -> bytes:
    """A whole response."""
    lines = [f"HTTP/1.1 {status} {reason}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def redirect(location: str, status: int = 302) -> bytes:
    return response(status, f"Location: {location}", reason="Found")


def switching(*headers: str, then: bytes = b"") -> Callable[[bytes], bytes]:
    """Accepts the handshake, and sends some bytes right behind."""

    def answer(head: bytes) -> bytes:
        key = next(
            line.partition(b":")[2].strip()
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key:")
        )
        accept = accept_key(key).decode()
        lines = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}"]
        lines = ["HTTP/1.1 101 Switching Protocols", *lines, *headers, "", ""]
        return "\r\n".join(lines).encode("latin-1") + then

    return answer


@contextlib.asynccontextmanager
async def _listening(
    talk: Callable[[Peer, asyncio.StreamReader, asyncio.StreamWriter], object],
    tls: ssl.SSLContext | None,
) -> AsyncIterator[Peer]:
    peer = Peer(0)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.open += 1
        peer.changed.set()
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            # Cancelled it is at the end of the block below, which has no use for the exception.
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                await talk(peer, reader, writer)  # type: ignore[misc]
        finally:
            tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            peer.open -= 1
            peer.changed.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=TIMEOUT)


@contextlib.asynccontextmanager
async def answering(*answers: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """A server that gives each connection the next answer, the last one to all that follow.

    It keeps the connection after its answer until the client ends it.
    """
    left = list(answers)

    async def talk(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        peer.heads.append(head)
        peer.changed.set()
        answer = left.pop(0) if len(left) > 1 else left[0]
        if answer is not None:
            writer.write(answer(head) if callable(answer) else answer)
            await writer.drain()
        await reader.read()

    async with _listening(talk, tls) as peer:
        yield peer


@contextlib.asynccontextmanager
async def proxying(
    answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n",
    *,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Peer]:
    """An HTTP proxy: with an answer of 2xx it opens the tunnel, to this machine whatever the name.

    ``open`` counts the clients that are connected to it.
    """

    async def talk(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        peer.heads.append(head)
        peer.changed.set()
        writer.write(answer)
        await writer.drain()
        if not answer.startswith(b"HTTP/1.1 2"):
            await reader.read()
            return
        port = int(head.split(b" ")[1].rpartition(b":")[2])
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(_pump(reader, behind_writer), _pump(behind_reader, writer))
        finally:
            behind_writer.close()
            with contextlib.suppress(OSError):
                await behind_writer.wait_closed()

    async with _listening(talk, tls) as peer:
        yield peer


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        if writer.can_write_eof():
            # uvloop's transports have no better word for one that is closed.
            with contextlib.suppress(OSError, RuntimeError):
                writer.write_eof()
        else:
            writer.close()
