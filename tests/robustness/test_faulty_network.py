"""The echo and the broadcast through bad networks: nothing lost, doubled, reordered or changed.

Every message carries its number and a checksum. Up to a cut what arrives is the beginning of what
was sent, without a gap; after it both ends are told, in bounded time. The echo is spoken to by
``websockets``, which shares no code with this project; the broadcast by the tests' own client.

Cutting 1 MiB into single bytes would take half a minute a message: there the first bytes go alone,
the handshakes and the first frame's header among them, and then segments of random size.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import zlib
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from fastws import FastWS, WebSocket, WebSocketDisconnect
from tests.connections import until
from tests.faults import NO_FAULTS, Faults, Proxy, faulty
from tests.robustness.client import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Peer,
    build,
    client_tls,
    open_peer,
    serving,
    wire,
)
from tests.robustness.ends import KIB, MIB, empty, over_both
from tests.support import TIMEOUT, run

OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
INTERVAL = (
    TIMEOUT / 25
)  # seconds of the keepalive at both ends, where a black hole is to be noticed

# Letters, as half of the bits are then worth compressing.
_TEXT = bytes(random.Random(1).choices(b"etaoin shrdlu\n", k=3 * MIB // 2)).decode()


def message(number: int, size: int) -> str | bytes:
    """The message with this number: text or binary in turn, its checksum at the end."""
    start = number * 7919 % (MIB // 2)
    body = f"{number:08}" + _TEXT[start : start + size - 16]
    whole = f"{body}{zlib.crc32(body.encode()):08x}"
    return whole if number % 2 else whole.encode()


def check(received: list[str | bytes], size: int) -> None:
    """``received`` must be the beginning of all messages, in their order, each of them whole."""
    for number, got in enumerate(received):
        content = got.encode() if isinstance(got, str) else got
        assert zlib.crc32(content[:-8]) == int(content[-8:], 16), f"message {number} was changed"
        assert int(content[:8]) == number, f"{content[:8]!r} came as number {number}"
        assert got == message(number, size)


def faults_of(kind: str, size: int, count: int, compression: str) -> Faults:
    """What befalls each direction while ``count`` messages go through it."""
    large = size > KIB
    sliced: dict[str, Any] = {"single_bytes": 1 << 30}
    if large:
        sliced = {"single_bytes": 400, "largest_segment": 48 * KIB}
    late = {"latency": TIMEOUT / 250}
    narrow = {"bandwidth": count * size * 40 / TIMEOUT, "buffer": 512 * KIB if large else 512}
    after = 4 * KIB + count * size // (2 if compression == "off" else 4)
    kinds: dict[str, dict[str, Any]] = {
        "latency": late,
        "slices": sliced,
        "bandwidth": narrow,
        "all at once": {**late, **sliced, **narrow},
        "reset": {"reset_after": after, "largest_segment": 20 * KIB},
        "black hole": {"black_hole_after": after, "largest_segment": 20 * KIB},
    }
    return Faults(**kinds[kind])


every_network = pytest.mark.parametrize(
    "fault",
    [
        *("latency", "slices", "bandwidth", "all at once", "reset"),
        # Who notices it first, and when, is no question for a slow build.
        pytest.param("black hole", marks=pytest.mark.measures),
    ],
)
every_size = pytest.mark.parametrize("size", [64, MIB], ids=["64B", "1MiB"])
every_compression = pytest.mark.parametrize("compression", ["off", "shared", "dedicated"])

CUTS = ("reset", "black hole")


def options_of(compression: str, fault: str) -> dict[str, Any]:
    """The server's. Keepalive is for where it is needed: a slow machine might raise an alarm."""
    options: dict[str, Any] = {"ws_per_message_deflate": compression, "ws_deflate_threshold": 0}
    options["access_log"] = False
    if fault == "black hole":
        options |= {"ws_ping_interval": INTERVAL, "ws_ping_timeout": INTERVAL}
    return options


class Application:
    """An echo that notes what it received; and its sockets, for a broadcast."""

    def __init__(self) -> None:
        self.app = FastWS()
        self.sockets: list[WebSocket] = []
        self.received: list[str | bytes] = []
        self.codes: list[int] = []

        # Who is near is never cut: not even by a keepalive that a slow machine may fail.
        @self.app.websocket("/near", ws_ping_interval="none")
        @self.app.websocket("/")
        async def echo(ws: WebSocket) -> None:
            await ws.accept()
            self.sockets.append(ws)
            try:
                while True:
                    content = await ws.receive()
                    if content["type"] == "websocket.disconnect":
                        break
                    got: str | bytes = content["text" if "text" in content else "bytes"]
                    self.received.append(got)
                    await send(ws, got)
            except WebSocketDisconnect as error:
                self.codes.append(error.code)
            else:
                self.codes.append(content["code"])
            finally:
                self.sockets.remove(ws)


@over_both
@every_network
@every_size
@every_compression
def test_the_echo(compression: str, size: int, fault: str) -> None:
    count = 60 if size < KIB else 3
    faults = faults_of(fault, size, count, compression)

    async def main() -> None:
        application = Application()
        async with serving(application.app, **options_of(compression, fault)) as server:
            # A reset comes while the client listens to its echo.
            onward = NO_FAULTS if fault == "reset" else faults
            async with faulty(server.addresses[0], to_server=onward, to_client=faults) as proxy:
                client = await connect_websockets(proxy, compression, fault)
                try:
                    if fault in CUTS:
                        echoed = await talk_until_cut(client, size, fault)
                    else:
                        echoed = await talk(client, size, count)
                        assert client.close_code == 1000
                finally:
                    client.transport.abort()
                await empty(server)
        check(application.received, size)
        check(echoed, size)
        assert len(application.received) >= len(echoed)
        if fault in CUTS:
            # As much as passes is known only of what is not compressed.
            assert echoed or compression != "off"
            assert application.codes in ([1006], [1011]) if fault == "black hole" else [1006]
        else:
            assert len(application.received) == len(echoed) == count
            assert application.codes == [1000]

    run(main())


async def connect_websockets(proxy: Proxy, compression: str, fault: str) -> ClientConnection:
    host, port = proxy.address
    tls: dict[str, Any] = {"ssl": client_tls(), "server_hostname": "localhost"}
    interval = INTERVAL if fault == "black hole" else None
    return await websockets.connect(
        f"{'wss' if wire.is_tls else 'ws'}://{host}:{port}/",
        compression=None if compression == "off" else "deflate",
        max_size=None,
        ping_interval=interval,
        ping_timeout=interval,
        close_timeout=INTERVAL if fault in CUTS else TIMEOUT,
        proxy=None,
        **(tls if wire.is_tls else {}),
    )


async def talk(client: ClientConnection, size: int, count: int) -> list[str | bytes]:
    """Send as many messages, several of them on their way at a time; what came back, to the end."""

    async def send_all() -> None:
        for number in range(count):
            await client.send(message(number, size))

    sending = asyncio.ensure_future(send_all())
    echoed = [await asyncio.wait_for(client.recv(), 2 * TIMEOUT) for _ in range(count)]
    await sending
    await client.close()
    return echoed


async def talk_until_cut(client: ClientConnection, size: int, fault: str) -> list[str | bytes]:
    """Send messages until the connection is lost; what came back."""
    echoed: list[str | bytes] = []

    async def send_all() -> None:
        for number in range(1_000_000):
            await client.send(message(number, size))
            # Without a pause, small ones would go into the kernel by the ten thousand.
            await asyncio.sleep(0)

    sending = asyncio.ensure_future(send_all())

    async def receive() -> None:
        while True:
            echoed.append(await asyncio.wait_for(client.recv(), 2 * TIMEOUT))

    with pytest.raises(websockets.ConnectionClosedError) as caught:
        await receive()
    with pytest.raises(websockets.ConnectionClosedError):
        await asyncio.wait_for(sending, TIMEOUT)
    if fault == "black hole":
        assert caught.value.sent is not None
        assert caught.value.sent.code == 1011
        # On a busy machine the server may have given up first.
        assert caught.value.rcvd is None or caught.value.rcvd.code == 1011
    else:
        assert caught.value.rcvd is None
    return echoed


@over_both
@every_network
@every_size
@every_compression
def test_the_broadcast(compression: str, size: int, fault: str) -> None:
    count = 60 if size < KIB else 3
    far = 2
    faults = faults_of(fault, size, count, compression)

    async def main() -> None:
        application = Application()
        sockets = application.sockets
        async with contextlib.AsyncExitStack() as stack:
            options = options_of(compression, fault)
            server = await stack.enter_async_context(serving(application.app, **options))
            address = server.addresses[0]
            proxy = await stack.enter_async_context(
                faulty(address, to_server=faults, to_client=faults)
            )
            listeners = []
            # One that is near, to which nothing happens, and some that are far.
            for where in ((address, "/near"), *[(proxy.address, "/")] * far):
                listeners.append(await Listener.connect(*where, compression))
                stack.push_async_callback(listeners[-1].leave)
                await until(lambda: len(sockets) == len(listeners))
            near = listeners[0]

            number = 0
            while sockets and (len(sockets) > 1 if fault in CUTS else number < count):
                content = message(number, size)
                for ws in tuple(sockets):
                    # One whose own handler has been told raises, and says nothing about others.
                    with contextlib.suppress(WebSocketDisconnect):
                        await send(ws, content)
                number += 1
                # Those that a PING has reached have the time to answer it.
                await asyncio.sleep(
                    0 if fault not in CUTS else INTERVAL / (200 if size < KIB else 20)
                )
            await near.has(number)
            if fault not in CUTS:
                for listener in listeners[1:]:
                    await listener.has(number)
            elif fault == "reset":
                for listener in listeners[1:]:
                    await asyncio.wait_for(listener.reading, TIMEOUT)
            expected = {"reset": [1006] * far, "black hole": [1011] * far}.get(fault, [])
            assert application.codes == expected
        for listener in listeners:
            check(listener.received, size)

    run(main())


async def send(ws: WebSocket, content: str | bytes) -> None:
    await (ws.send_text(content) if isinstance(content, str) else ws.send_bytes(content))


class Listener:
    """A client that only listens, and answers PINGs."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.received: list[str | bytes] = []
        self._inflate = zlib.decompressobj(-15)
        self.reading = asyncio.ensure_future(self._read())

    @classmethod
    async def connect(cls, address: tuple[str, int], path: str, compression: str) -> Listener:
        peer, head = await open_peer(address, path, *([OFFER] if compression != "off" else []))
        assert (b"permessage-deflate" in head) == (compression != "off")
        return cls(peer)

    async def _read(self) -> None:
        async for frame in self.peer.frames():
            if frame.opcode == PING:
                await self.peer.send_if_possible(build(frame.payload, PONG))
            elif frame.opcode in (TEXT, BINARY):
                content = frame.payload
                if frame.rsv:
                    content = self._inflate.decompress(content + b"\x00\x00\xff\xff")
                self.received.append(content.decode() if frame.opcode == TEXT else content)
            else:
                assert frame.opcode == CLOSE

    async def has(self, count: int) -> None:
        """As many messages must have come, and no more."""
        await until(lambda: len(self.received) >= count or self.reading.done())
        assert len(self.received) == count

    async def leave(self) -> None:
        self.reading.cancel()
        await asyncio.wait({self.reading})
        self.peer.transport.abort()
        await self.peer.close()
        if not self.reading.cancelled():
            self.reading.result()
