"""The fault-injecting proxy does what it says, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import cast

import pytest

from tests.faults import NO_FAULTS, Faults, Link, faulty
from tests.support import TIMEOUT, free_port, run

KIB = 1024
MIB = 1024 * KIB
SHORT = TIMEOUT / 50  # seconds; only for how long something is watched that must not happen
DATA = random.Random(1).randbytes(2 * MIB)


class End(asyncio.Protocol):
    """One end of a connection, which notes each piece that arrives."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.is_reset = False
        self.eof = asyncio.Event()
        self.lost = asyncio.Event()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)

    def eof_received(self) -> bool:
        self.eof.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_reset = isinstance(exc, ConnectionResetError)
        self.lost.set()

    @property
    def received(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def unsent(self) -> int:
        return self.transport.get_write_buffer_size()

    async def gets(self, data: bytes) -> None:
        """``data`` must be what has arrived, sooner or later."""
        await until(lambda: sum(map(len, self.pieces)) >= len(data))
        assert self.received == data

    async def gets_reset(self) -> None:
        await asyncio.wait_for(self.lost.wait(), TIMEOUT)
        assert self.is_reset

    def reset(self) -> None:
        """Cut TCP with a RST."""
        end: socket.socket = self.transport.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


@dataclass
class Pair:
    """Both ends of a connection, and the proxy's link between them."""

    client: End
    server: End
    link: Link


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until ``condition`` holds, which no event tells."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TIMEOUT
    while not condition():
        assert loop.time() < deadline, "the condition was not met in time"
        await asyncio.sleep(0.001)


async def hears_nothing(end: End) -> None:
    """``end`` must not be told anything for a while."""
    before = len(end.pieces)
    await asyncio.sleep(SHORT)
    assert len(end.pieces) == before
    assert not end.eof.is_set()
    assert not end.lost.is_set()


@contextlib.asynccontextmanager
async def connected(
    to_server: Faults = NO_FAULTS, to_client: Faults = NO_FAULTS
) -> AsyncIterator[Pair]:
    """A client and a server with the proxy between them."""
    loop = asyncio.get_running_loop()
    accepted: list[End] = []

    def accept() -> End:
        accepted.append(End())
        return accepted[-1]

    listening = await loop.create_server(accept, "127.0.0.1", 0)
    address = listening.sockets[0].getsockname()
    try:
        async with faulty(address, to_server=to_server, to_client=to_client) as proxy:
            _, client = await loop.create_connection(End, *proxy.address)
            await until(lambda: accepted)
            server = accepted[0]
            await until(lambda: hasattr(server, "transport"))
            try:
                yield Pair(client, server, proxy.link)
            finally:
                for end in (client, server):
                    end.transport.abort()
                await asyncio.wait_for(client.lost.wait(), TIMEOUT)
                await asyncio.wait_for(server.lost.wait(), TIMEOUT)
    finally:
        listening.close()
        await listening.wait_closed()


def test_without_faults_bytes_pass_unchanged_both_ways_and_so_does_each_eof() -> None:
    async def main() -> None:
        async with connected() as pair:
            pair.client.transport.write(DATA)
            pair.client.transport.write_eof()
            await pair.server.gets(DATA)
            await asyncio.wait_for(pair.server.eof.wait(), TIMEOUT)
            # The other direction is still open.
            pair.server.transport.write(DATA)
            await pair.client.gets(DATA)
            assert not pair.client.eof.is_set()
            pair.server.transport.write_eof()
            await asyncio.wait_for(pair.client.eof.wait(), TIMEOUT)
            assert pair.link.to_server.forwarded == pair.link.to_client.forwarded == len(DATA)

    run(main())


def test_a_reset_of_one_end_is_the_others() -> None:
    async def main() -> None:
        async with connected() as pair:
            pair.client.reset()
            await pair.server.gets_reset()
        async with connected() as pair:
            pair.server.reset()
            await pair.client.gets_reset()

    run(main())


def test_a_server_that_cannot_be_reached_is_a_reset() -> None:
    async def main() -> None:
        async with faulty(("127.0.0.1", free_port())) as proxy:
            _, client = await asyncio.get_running_loop().create_connection(End, *proxy.address)
            await client.gets_reset()

    run(main())


def test_every_byte_is_late_but_does_not_wait_for_those_before_it() -> None:
    latency, count = TIMEOUT / 20, 40

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with connected(to_server=Faults(latency=latency)) as pair:
            begun = loop.time()
            for number in range(count):
                pair.client.transport.write(bytes([number]))
                await asyncio.sleep(0.001)
            await pair.server.gets(bytes(range(count)))
            took = loop.time() - begun
            # Loops count in milliseconds.
            assert took > latency - 0.002
            assert took < count * latency / 2
            # Only that direction.
            pair.server.transport.write(b"back")
            begun = loop.time()
            await pair.client.gets(b"back")
            assert loop.time() - begun < latency

    run(main())


def test_single_bytes_arrive_one_by_one() -> None:
    async def main() -> None:
        async with connected(to_client=Faults(single_bytes=500)) as pair:
            pair.server.transport.write(DATA[:700])
            await pair.client.gets(DATA[:700])
            assert pair.link.to_client.segments == 501
            # The kernel may join two; that it joins many would mean that nobody could read them.
            assert len(pair.client.pieces) > 250
            assert sum(len(piece) == 1 for piece in pair.client.pieces) > 250

    run(main())


def test_segments_are_cut_at_random() -> None:
    async def main() -> None:
        async with connected(to_server=Faults(largest_segment=1000)) as pair:
            pair.client.transport.write(DATA[:50_000])
            await pair.server.gets(DATA[:50_000])
            assert 60 < pair.link.to_server.segments < 200
            assert len({len(piece) for piece in pair.server.pieces}) > 10

    run(main())


def test_bandwidth_is_what_it_takes() -> None:
    size, bandwidth = 100_000, 20 * 100_000 / TIMEOUT

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with connected(to_server=Faults(bandwidth=bandwidth)) as pair:
            begun = loop.time()
            pair.client.transport.write(DATA[:size])
            await pair.server.gets(DATA[:size])
            assert loop.time() - begun > 0.95 * size / bandwidth
            begun = loop.time()
            pair.server.transport.write(DATA[:size])
            await pair.client.gets(DATA[:size])
            assert loop.time() - begun < size / bandwidth

    run(main())


def test_a_sender_waits_for_a_narrow_place_and_the_proxy_holds_little() -> None:
    async def main() -> None:
        faults = Faults(bandwidth=KIB, buffer=16 * KIB)
        async with connected(to_server=faults) as pair:
            end: socket.socket = pair.client.transport.get_extra_info("socket")
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * KIB)
            pair.client.transport.write(bytes(64 * MIB))
            await asyncio.sleep(SHORT)
            assert pair.client.unsent > 32 * MIB
            assert pair.link.to_server.forwarded < 2 * KIB + KIB * TIMEOUT

    run(main())


@pytest.mark.parametrize("after", [0, 1, 1000, 100_000])
def test_a_reset_after_so_many_bytes(after: int) -> None:
    async def main() -> None:
        async with connected(to_server=Faults(reset_after=after)) as pair:
            pair.client.transport.write(DATA[:200_000])
            await pair.client.gets_reset()
            await pair.server.gets_reset()
            assert pair.link.to_server.forwarded == after
            assert pair.server.received == DATA[: len(pair.server.received)]
            assert len(pair.server.received) <= after

    run(main())


def test_a_reset_at_any_time() -> None:
    async def main() -> None:
        async with connected() as pair:
            pair.client.transport.write(b"before")
            await pair.server.gets(b"before")
            pair.link.reset()
            await pair.client.gets_reset()
            await pair.server.gets_reset()

    run(main())


@pytest.mark.parametrize("after", [0, 1, 100_000])
@pytest.mark.parametrize("end", ["nothing", "eof", "reset"])
def test_a_black_hole_after_so_many_bytes(after: int, end: str) -> None:
    async def main() -> None:
        async with connected(to_server=Faults(black_hole_after=after)) as pair:
            pair.client.transport.write(DATA)
            await pair.server.gets(DATA[:after])
            # It takes the rest, and nobody learns of it.
            way = pair.link.to_server
            await until(lambda: way.forwarded + way.swallowed == len(DATA))
            if end == "nothing":
                pair.server.transport.write(b"the other direction")
                await pair.client.gets(b"the other direction")
                await hears_nothing(pair.client)
            elif end == "eof":
                pair.client.transport.write_eof()
            else:
                pair.client.reset()
            await hears_nothing(pair.server)
            assert way.forwarded == after

    run(main())


def test_a_black_hole_that_does_not_even_take_bytes() -> None:
    async def main() -> None:
        faults = Faults(black_hole_after=1000, swallows=False)
        async with connected(to_server=faults) as pair:
            pair.client.transport.write(DATA[:1000])
            await pair.server.gets(DATA[:1000])
            pair.client.transport.write(bytes(64 * MIB))
            await asyncio.sleep(SHORT)
            assert pair.client.unsent > 32 * MIB
            assert pair.link.to_server.swallowed < MIB
            await hears_nothing(pair.server)

    run(main())


def test_a_black_hole_at_any_time() -> None:
    async def main() -> None:
        async with connected() as pair:
            pair.client.transport.write(b"before")
            await pair.server.gets(b"before")
            pair.link.black_hole()
            for end in (pair.client, pair.server):
                end.transport.write(b"after")
                end.transport.write_eof()
            await hears_nothing(pair.client)
            await hears_nothing(pair.server)
            assert pair.link.to_server.swallowed == pair.link.to_client.swallowed == len(b"after")

    run(main())


def test_everything_at_once_changes_nothing_before_the_cut() -> None:
    cut = 1_500_000
    faults = Faults(
        latency=TIMEOUT / 500,
        bandwidth=8 * MIB / TIMEOUT * 5,
        single_bytes=200,
        largest_segment=50_000,
    )

    async def main() -> None:
        async with connected(faults, Faults(**{**vars(faults), "black_hole_after": cut})) as pair:
            pair.client.transport.write(DATA)
            pair.server.transport.write(DATA)
            await pair.server.gets(DATA)
            await pair.client.gets(DATA[:cut])
            await hears_nothing(pair.client)

    run(main())


def test_connections_do_not_share_their_faults() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        echoes: list[End] = []

        class Echo(End):
            def data_received(self, data: bytes) -> None:
                self.transport.write(data)

        def accept() -> End:
            echoes.append(Echo())
            return echoes[-1]

        listening = await loop.create_server(accept, "127.0.0.1", 0)
        async with faulty(listening.sockets[0].getsockname()) as proxy:
            clients: list[End] = []
            for _ in range(3):
                clients.append((await loop.create_connection(End, *proxy.address))[1])
                # One after the other, so that both lists, and the proxy's, are in the same order.
                await until(lambda: len(echoes) == len(clients))
                await until(lambda: hasattr(echoes[-1], "transport"))
            proxy.links[0].reset()
            proxy.links[1].black_hole()
            await clients[0].gets_reset()
            for client in clients[1:]:
                client.transport.write(b"echo")
            await clients[2].gets(b"echo")
            await hears_nothing(clients[1])
        # What is still open is closed at the end of the block.
        await asyncio.wait_for(clients[2].eof.wait(), TIMEOUT)
        for end in (*clients[1:], *echoes[1:]):
            end.transport.abort()
        for end in (*clients, *echoes):
            await asyncio.wait_for(end.lost.wait(), TIMEOUT)
        listening.close()
        await listening.wait_closed()

    run(main())
