"""A WebSocket client that follows no rule by itself: it puts any bytes on the wire.

Where a test uses the fixture ``wire``, which a module of rows does for all of its tests, each of
them runs once over TCP and once over TLS: :func:`serving`, :func:`connect`, :func:`exchange` and
:func:`websocket` do what :data:`wire` says.

Also an application that tells how much memory its process has allocated, for rows about memory:
serve it with :func:`measured`, in a process where nothing else allocates.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import struct
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from fastws import FastWS, WebSocket
from fastws.server import Server
from tests import serving as plain
from tests.serving import Client, handshake, status_of
from tests.support import ROOT, TIMEOUT, ServerProcess

__all__ = [
    "BINARY",
    "CERTIFICATE",
    "CLOSE",
    "CONTINUATION",
    "Frame",
    "Measured",
    "PING",
    "PONG",
    "Peer",
    "TEXT",
    "app",
    "build",
    "client_tls",
    "close_frame",
    "connect",
    "exchange",
    "measured",
    "only_plain",
    "open_peer",
    "server_tls",
    "serving",
    "websocket",
    "wire",
]

CERTIFICATE = ROOT / "tests" / "localhost.pem"
"""A self-signed certificate for localhost and its key; nothing else trusts it."""

# TCP or TLS


class Wire:
    """What connections go over while a test runs."""

    is_tls = False


wire = Wire()

Test = TypeVar("Test", bound=Callable[..., Any])


def only_plain(why: str) -> Callable[[Test], Test]:
    """Run a test over TCP only, for the reason ``why``."""

    def mark(test: Test) -> Test:
        test.__dict__["only_plain"] = why
        return test

    return mark


@lru_cache(maxsize=1)
def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


@lru_cache(maxsize=1)
def client_tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=CERTIFICATE)


def serving(app: Any, **options: Any) -> AbstractAsyncContextManager[Server]:
    """As :func:`tests.serving.serving`."""
    if wire.is_tls:
        options.setdefault("ssl_context", server_tls())
    return plain.serving(app, **options)


def connect(server: Server, **options: Any) -> AbstractAsyncContextManager[Client]:
    """As :func:`tests.serving.connect`."""
    return plain.connect(server, **_tls_options(), **options)


async def exchange(server: Server, data: bytes) -> bytes:
    """As :func:`tests.serving.exchange`."""
    async with connect(server) as client:
        await client.send(data)
        return await client.rest()


def _tls_options() -> dict[str, Any]:
    return {"ssl": client_tls(), "server_hostname": "localhost"} if wire.is_tls else {}


# Frames

CONTINUATION, TEXT, BINARY = 0x0, 0x1, 0x2
CLOSE, PING, PONG = 0x8, 0x9, 0xA


class Frame(NamedTuple):
    """A frame as it was on the wire."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0


def build(
    payload: bytes = b"",
    opcode: int = TEXT,
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    length: int | None = None,
    length_bytes: int | None = None,
) -> bytes:
    """A frame, right or wrong.

    Parameters:
        rsv: the three reserved bits; 4 is RSV1, which marks a compressed message.
        length: the length to announce, whatever the payload has.
        length_bytes: 0, 2 or 8 extended bytes for it; the fewest possible by default.
    """
    length = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 65536 else 8
    short = {0: length, 2: 126, 8: 127}[length_bytes]
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    head = bytes([first, (0x80 if masked else 0) | short])
    head += length.to_bytes(length_bytes, "big") if length_bytes else b""
    if not masked:
        return head + payload
    key = os.urandom(4)
    count = len(payload)
    stream = (key * (count // 4 + 1))[:count]
    hidden = int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")
    return head + key + hidden.to_bytes(count, "big")


def close_frame(code: int | None = 1000, reason: bytes = b"") -> bytes:
    """A CLOSE, with any code at all."""
    return build(b"" if code is None else struct.pack(">H", code) + reason, CLOSE)


class Peer(Client):
    """The client's end of a WebSocket. Every method gives up after TIMEOUT seconds."""

    async def read_frame(self) -> Frame:
        """The next frame, whatever it is; a server masks none."""
        first, second = await self.exactly(2)
        assert second < 0x80, "a server must not mask"
        size = second
        if second == 126:
            (size,) = struct.unpack(">H", await self.exactly(2))
            assert size >= 126, "not the shortest form of the length"
        elif second == 127:
            (size,) = struct.unpack(">Q", await self.exactly(8))
            assert size >= 65536, "not the shortest form of the length"
        payload = await self.exactly(size)
        return Frame(first & 0x0F, payload, bool(first & 0x80), first >> 4 & 7)

    async def expect(self, *frames: tuple[int, bytes]) -> None:
        """Read as many frames and compare them; each is whole and has no reserved bit."""
        for frame in frames:
            assert await self.frame() == frame

    async def answered(self) -> None:
        """Have PINGs answered: by then the server has done what came before them, and in the steps
        after it what that led to, such as the end of a transport."""
        for _ in range(3):
            await self.send(build(opcode=PING))
            await self.expect((PONG, b""))

    async def ended(self) -> tuple[int, str]:
        """Read the server's CLOSE and then its EOF, with nothing in between; code and reason."""
        opcode, payload = await self.frame()
        assert opcode == CLOSE, f"a frame with opcode {opcode} and {payload[:100]!r}"
        assert await self.rest() == b""
        return code_and_reason(payload)

    async def end(self, code: int | None = 1000) -> None:
        """Do the closing handshake from this side; the server has nothing else to send."""
        await self.send(close_frame(code))
        assert (await self.ended())[0] == (1005 if code is None else code)

    async def frames(self) -> AsyncIterator[Frame]:
        """Every frame up to the server's EOF; a RST is an end as well."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                yield await self.read_frame()

    async def until_end(self) -> list[Frame]:
        """All that is left."""
        return [frame async for frame in self.frames()]

    async def until_close(self) -> list[Frame]:
        """Every frame up to the server's CLOSE, which is not among them."""
        frames = [await self.read_frame()]
        while frames[-1].opcode != CLOSE:
            frames.append(await self.read_frame())
        return frames[:-1]

    async def send_if_possible(self, data: bytes) -> None:
        """Send ``data`` to a server that may have ended TCP already."""
        with contextlib.suppress(ConnectionError):
            await self.send(data)

    def half_close(self) -> None:
        """Send EOF and go on reading; over TLS, which has no such thing, the EOF is TCP's."""
        if self.writer.can_write_eof():
            self.writer.write_eof()
        else:
            with socket.socket(fileno=os.dup(self.socket.fileno())) as link:
                link.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Cut TCP with a RST."""
        linger = struct.pack("ii", 1, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()

    @property
    def socket(self) -> socket.socket:
        found: socket.socket = self.writer.get_extra_info("socket")
        return found

    async def send_split(self, data: bytes, *cuts: int) -> None:
        """Send ``data`` in segments cut there, letting a server in this loop read each."""
        for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
            await self.send(data[start:end])
            # One round to write, one to poll, one to read: no more than a courtesy, since a
            # segment that joins the next one is a case of its own.
            for _ in range(4):
                await asyncio.sleep(0)

    async def send_bytewise(self, data: bytes) -> None:
        """Send ``data`` in segments of one byte."""
        await self.send_split(data, *range(1, len(data)))


def code_and_reason(payload: bytes) -> tuple[int, str]:
    """What a CLOSE says; 1005 if it says nothing."""
    if not payload:
        return 1005, ""
    assert len(payload) >= 2
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


async def open_peer(
    address: tuple[str, int],
    path: str = "/",
    *headers: str,
    early: bytes = b"",
    receive_buffer: int | None = None,
) -> tuple[Peer, bytes]:
    """Connect and have the opening handshake accepted; the client's end and the response's head.

    Parameters:
        early: sent in the same segment as the handshake.
        receive_buffer: bytes that the kernel keeps for a client that does not read.
    """
    link = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    link.setblocking(False)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if receive_buffer is not None:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    loop = asyncio.get_running_loop()
    await asyncio.wait_for(loop.sock_connect(link, address), TIMEOUT)
    opening = asyncio.open_connection(sock=link, **_tls_options())
    peer = Peer(*await asyncio.wait_for(opening, TIMEOUT))
    try:
        await peer.send(handshake(path, *headers) + early)
        head = await peer.head()
        assert status_of(head) == 101, head
    except BaseException:
        await peer.close()
        raise
    return peer, head


@contextlib.asynccontextmanager
async def websocket(
    server: Server | ServerProcess, path: str = "/", *headers: str, **options: Any
) -> AsyncIterator[Peer]:
    """A WebSocket to ``server``, for the length of the block; parameters as of open_peer()."""
    if isinstance(server, ServerProcess):
        address = (server.host, server.port)
    else:
        address = server.addresses[0]
    peer, _ = await open_peer(address, path, *headers, **options)
    try:
        yield peer
    finally:
        await peer.close()


# A server whose memory can be asked for

app = FastWS()


@app.websocket("/")
async def echo(ws: WebSocket) -> None:
    await ws.accept()
    async for message in ws:
        await (ws.send_text(message) if isinstance(message, str) else ws.send_bytes(message))


@app.get("/traced")
async def traced() -> list[int]:
    """Bytes allocated now, and at most since the last request."""
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    return [now, peak]


class Measured(ServerProcess):
    """The application above in a process of its own."""

    async def traced(self) -> tuple[int, int]:
        """Bytes that the process has allocated: now, and at most since the last call."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(b"GET /traced HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), TIMEOUT)
        finally:
            writer.close()
            await writer.wait_closed()
        now, peak = json.loads(answer.partition(b"\r\n\r\n")[2])
        return now, peak

    async def peak_of(
        self, data: bytes | Iterable[bytes], *headers: str
    ) -> tuple[int, list[Frame]]:
        """Send ``data`` on a connection of its own until the server ends it.

        Returns:
            The bytes allocated at most, beyond those before; and the frames that came back.
        """
        async with websocket(self, "/", *headers) as peer:
            # The first answer may count who asked last, and what this connection leaves to do.
            await self.traced()
            await peer.answered()
            before, _ = await self.traced()
            await peer.answered()
            try:
                for piece in [data] if isinstance(data, bytes) else data:
                    await peer.send(piece)
            except ConnectionError:
                pass  # the server had enough
            frames = await peer.until_end()
            _, peak = await self.traced()
            return peak - before, frames

    def cpu(self) -> float:
        """Seconds of processor time used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def measured(
    *options: str, tracing: bool = True, app: str = "tests.robustness.client:app"
) -> Iterator[Measured]:
    """Serve :data:`app`, or another, with these words of the command line in its own process."""
    env = {"PYTHONTRACEMALLOC": "1"} if tracing else {}
    server = Measured(app, *options, env=env)
    with server:
        yield server
