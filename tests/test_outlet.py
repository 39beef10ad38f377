"""From frames to the kernel: order, wholeness, and whose descriptor is written to."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import random
import socket
import ssl
import struct
import time
import tracemalloc
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from fastws import FastWS, WebSocket, WebSocketClosed, WebSocketDisconnect, connect
from fastws._channel import Channel
from fastws._codec import FrameParser
from fastws._connection import Connection
from fastws._timers import TimerWheel
from fastws.events import Event, Pong
from fastws.handshake import check_upgrade
from fastws.http_head import parse_request
from fastws.limits import Limits
from fastws.testing import TestClient
from tests.conftest import LoopErrors
from tests.connections import KIB, MIB, logged, steps, until
from tests.robustness.client import CERTIFICATE, PING, TEXT, build, websocket
from tests.serving import handshake, serving
from tests.support import LOOP, TIMEOUT, loop_factory, run

BUFFER = 16 * KIB
"""Bytes that a connection gathers at most."""

BOTH_ROLES = pytest.mark.parametrize("client", [False, True], ids=["server", "client"])


# ------------------------------------------------------------------------------ two ends


class Far:
    """The other end: it reads when it is told to, and understands frames."""

    def __init__(self, link: socket.socket, client: bool) -> None:
        self.link = link
        self.is_client = client
        self.parser = FrameParser(client=client, limits=Limits(max_size=None))

    async def receive(self, size: int = 256 * KIB) -> bytes:
        loop = asyncio.get_running_loop()
        return await asyncio.wait_for(loop.sock_recv(self.link, size), TIMEOUT)

    async def events(self, count: int, size: int = 256 * KIB) -> list[Event]:
        """The next ``count`` events, read in pieces of up to ``size`` bytes."""
        events: list[Event] = []
        while len(events) < count:
            data = await self.receive(size)
            assert data, "EOF"
            events += self.parser.feed(data)
            assert self.parser.error is None, self.parser.error
        return events

    async def send(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(loop.sock_sendall(self.link, data), TIMEOUT)

    async def rest(self) -> bytes:
        """All that is left up to EOF or a RST."""
        received = b""
        with contextlib.suppress(ConnectionError):
            while data := await self.receive():
                received += data
        return received

    def reset(self) -> None:
        """Cut TCP with a RST."""
        self.link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.link.close()


def tcp_pair(send_buffer: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Two ends of one TCP connection; the kernel keeps little on the way if told how much."""
    with socket.socket() as listening:
        if send_buffer is not None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, send_buffer)
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        near = socket.socket()
        if send_buffer is not None:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        near.connect(listening.getsockname())
        far, _ = listening.accept()
    for end in (near, far):
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


class Wrapper(asyncio.Transport):
    """A transport around another, as a library puts one there: it notes what is written."""

    def __init__(self, inner: asyncio.Transport) -> None:
        super().__init__()
        self.inner = inner
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))
        self.inner.write(data)

    def __getattribute__(self, name: str) -> Any:
        if name in ("inner", "written", "write", "__class__"):
            return super().__getattribute__(name)
        return getattr(self.inner, name)


@contextlib.asynccontextmanager
async def linked(
    *,
    client: bool = False,
    send_buffer: int | None = None,
    timers: TimerWheel | None = None,
    wrap: Callable[[Any], Any] = lambda transport: transport,
    **limits: Any,
) -> AsyncIterator[tuple[Any, Connection, Far]]:
    """A connection whose opening handshake is done, and the other end.

    Parameters:
        client: the role of the connection under test.
        send_buffer: bytes that the kernel keeps at each end.
        timers: shared by several connections.
        wrap: makes the transport that the connection gets.
    """
    loop = asyncio.get_running_loop()
    near, other = tcp_pair(send_buffer)
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
    given: dict[str, Any] = {"timers": timers or TimerWheel(loop), "limits": Limits(**limits)}
    far = Far(other, not client)
    if client:
        connection = Connection(wrap(transport), None, b"", **given)
        channel = Channel(connection)
        connection.start_client()
    else:
        head = handshake()
        upgrade = check_upgrade(parse_request(head))
        connection = Connection(wrap(transport), upgrade, head, strict_send=True, **given)
        channel = Channel(connection)

        async def handler() -> None:
            await channel.accept()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

        connection.start(channel, handler())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += await far.receive(1)
    try:
        yield channel, connection, far
    finally:
        connection.abort()
        other.close()
        await steps(4)


def sizes(seed: int, count: int) -> list[int]:
    """Lengths of payloads on both sides of every limit there is."""
    chosen = random.Random(seed)
    near_limits = [0, 1, 125, 126, BUFFER - 15, BUFFER - 14, BUFFER - 4, BUFFER, 65535, 65536]
    return [
        chosen.choice(near_limits)
        if chosen.random() < 0.5
        else chosen.choice([chosen.randrange(200), chosen.randrange(40_000), 200_000])
        for _ in range(count)
    ]


def messages(seed: int, count: int) -> list[tuple[str | bytes | memoryview, str | bytes]]:
    """What to send, and what is to arrive: text, text that is not ASCII, bytes, other buffers."""
    made: list[tuple[str | bytes | memoryview, str | bytes]] = []
    for number, size in enumerate(sizes(seed, count)):
        kind = number % 4
        content = (b"%d-" % number * (size // 2 + 1))[:size]
        if kind == 0:
            made.append((content.decode(), content.decode()))
        elif kind == 1:
            text = "é" * (size // 2)
            made.append((text, text))
        elif kind == 2:
            made.append((content, content))
        else:
            made.append((memoryview(bytearray(content)), content))
    return made


def send(channel: Channel, message: str | bytes | memoryview) -> Any:
    if isinstance(message, str):
        return channel.send_text(message)
    return channel.send_bytes(message)


# -------------------------------------------------------------------- order and wholeness


@BOTH_ROLES
@pytest.mark.parametrize("send_buffer", [None, 4 * KIB], ids=["roomy", "tight"])
def test_messages_of_every_size_and_kind_arrive_whole_and_in_order(
    client: bool, send_buffer: int | None
) -> None:
    made = messages(1, 120)

    async def main() -> None:
        async with linked(client=client, send_buffer=send_buffer) as (channel, connection, far):

            async def sending() -> None:
                for message, _ in made:
                    await send(channel, message)

            task = asyncio.create_task(sending())
            events = await far.events(len(made), 50_000)
            assert events == [expected for _, expected in made]
            await asyncio.wait_for(task, TIMEOUT)
            await until(lambda: connection.unsent_bytes == 0)

    run(main())


@BOTH_ROLES
def test_small_frames_stay_behind_what_the_kernel_did_not_take(client: bool) -> None:
    async def main() -> None:
        async with linked(client=client, send_buffer=4 * KIB, max_backpressure=64 * MIB) as (
            channel,
            connection,
            far,
        ):
            big = bytes(300 * KIB)
            expected: list[Event] = []
            seen: list[Event] = []
            for number in range(20):
                # Not awaited: a send that waits has sent all the same.
                channel.send_bytes(big)
                channel.send_text(f"behind {number}")
                channel.send_bytes(memoryview(b"and %d" % number))
                expected += [big, f"behind {number}", b"and %d" % number]
                if number % 5 == 0:
                    seen += await far.events(1)
            assert connection.unsent_bytes > 0
            seen += await far.events(len(expected) - len(seen))
            assert seen == expected

    run(main())


@BOTH_ROLES
def test_a_peer_that_reads_slowly_makes_sends_wait_and_go_on(client: bool) -> None:
    async def main() -> None:
        async with linked(client=client, send_buffer=4 * KIB) as (channel, connection, far):
            sent = 0

            async def sending() -> None:
                nonlocal sent
                for number in range(200):
                    await channel.send_bytes(bytes(8 * KIB) + b"%d" % number)
                    sent += 1

            task = asyncio.create_task(sending())
            await until(lambda: connection.unsent_bytes > 60 * KIB)
            await steps(20)
            assert not task.done()
            stopped_at = sent
            # What is gathered and what the transport has: its mark, a message, a buffer.
            assert connection.unsent_bytes < 64 * KIB + 2 * BUFFER + 9 * KIB
            events = await far.events(200, 1000)
            assert events == [bytes(8 * KIB) + b"%d" % number for number in range(200)]
            await asyncio.wait_for(task, TIMEOUT)
            assert stopped_at < 50
            await until(lambda: connection.unsent_bytes == 0)
            # From here on it goes past the transport again, and nothing is left behind.
            await channel.send_text("again")
            assert await far.events(1) == ["again"]

    run(main())


def test_who_only_sends_to_a_peer_that_keeps_up_leaves_the_others_their_turn() -> None:
    class Swallowing(Wrapper):
        """As if the peer had read it at once."""

        def write(self, data: bytes | bytearray | memoryview) -> None:
            self.written.append(bytes(data))

    async def main() -> None:
        async with linked(client=True, wrap=Swallowing) as (channel, _, _):
            loop = asyncio.get_running_loop()
            for send in (channel.send_text, channel.send_json):
                done = asyncio.Event()
                loop.call_soon(done.set)
                begin = time.monotonic()
                while not done.is_set():
                    await send("again and again")
                    assert time.monotonic() - begin < TIMEOUT, "nobody else had a turn"
            # A few sends in a row cost nobody a step.
            await channel.send_text("first")
            due = asyncio.Event()
            loop.call_soon(due.set)
            for _ in range(30):
                await channel.send_text("and more")
            assert not due.is_set()

    run(main())


@BOTH_ROLES
def test_control_frames_keep_their_place_among_messages(client: bool) -> None:
    async def main() -> None:
        async with linked(client=client, send_buffer=4 * KIB) as (channel, _, far):
            channel.send_bytes(bytes(200 * KIB))
            channel.send_text("one")
            trip = channel.ping(b"between")
            channel.send_text("two")
            seen = await far.events(4)
            assert seen[0] == bytes(200 * KIB)
            assert seen[1] == "one"
            assert getattr(seen[2], "data", None) == b"between"
            assert seen[3] == "two"
            await far.send(build(b"between", 0xA, masked=not client))
            assert await asyncio.wait_for(asyncio.ensure_future(trip), TIMEOUT) >= 0

    run(main())


def test_a_ping_is_answered_between_frames_and_never_within_one() -> None:
    async def main() -> None:
        async with linked(send_buffer=4 * KIB) as (channel, _, far):
            for number in range(10):
                channel.send_bytes(bytes(100 * KIB))
                await far.send(build(b"%d" % number, PING))
                await steps(3)
            # A peer that does not read is owed the latest PONG only.
            seen: list[Event] = []
            while Pong(b"9") not in seen or seen.count(bytes(100 * KIB)) < 10:
                seen += await far.events(1)
            assert seen.count(bytes(100 * KIB)) == 10
            pongs = [event for event in seen if isinstance(event, Pong)]
            assert set(pongs) | {bytes(100 * KIB)} == set(seen)

    run(main())


# -------------------------------------------------------------------------- many in a step


@pytest.mark.parametrize("size", [5, 3000, 40_000])
def test_replies_of_many_connections_woken_in_one_step_arrive_whole(size: int) -> None:
    app = FastWS()
    count = 80

    @app.websocket("/")
    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            for part in range(3):
                await ws.send_text(f"{part}{message!s}")

    async def main() -> None:
        async with serving(app) as server, contextlib.AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(websocket(server)) for _ in range(count)]
            for round_number in range(4):
                texts = [f"{round_number}/{n} ".encode() * (size // 4) for n in range(count)]
                for peer, text in zip(peers, texts, strict=True):
                    # They are all there when the loop next looks.
                    peer.writer.write(build(text))
                for peer, text in zip(peers, texts, strict=True):
                    await peer.expect(*((TEXT, b"%d" % part + text) for part in range(3)))

    run(main())


def test_a_handler_that_blocks_the_loop_gets_its_frames_out_as_it_makes_them() -> None:
    async def main() -> None:
        app = FastWS()
        arrived: list[int] = []
        links: list[socket.socket] = []

        @app.websocket("/")
        async def stream(ws: WebSocket) -> None:
            await ws.accept()
            await ws.receive_text()
            if ws.query_params.get("blocks"):
                for number in range(40):
                    await ws.send_text(f"{number:03}")
                    # The clock that tells is a coarse one.
                    time.sleep(0.002)  # noqa: ASYNC251
                    with contextlib.suppress(BlockingIOError):
                        arrived.append(len(links[0].recv(100_000)) // 5)
            await ws.receive_text()

        async with serving(app) as server, contextlib.AsyncExitStack() as stack:
            with contextlib.closing(socket.socket()) as link:
                # A peer outside of the loop, which reads while the handler blocks.
                link.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(link, server.addresses[0])
                await loop.sock_sendall(link, handshake("/?blocks=1"))
                answer = b""
                while not answer.endswith(b"\r\n\r\n"):
                    answer += await asyncio.wait_for(loop.sock_recv(link, 1), TIMEOUT)
                links.append(link)
                others = [await stack.enter_async_context(websocket(server)) for _ in range(5)]
                for other in others:
                    other.writer.write(build(b"go"))
                link.send(build(b"go"))
                await until(lambda: sum(arrived) >= 25)
                # The first few may wait for one another; the last ones come one by one.
                assert arrived[-10:] == [1] * 10
                assert max(arrived) <= 20

    run(main())


def test_what_is_gathered_counts_as_unsent_and_is_bounded() -> None:
    async def main() -> None:
        async with linked(max_backpressure=64 * MIB) as (channel, connection, far):
            seen: list[int] = []
            # Behind a rest that the transport has, frames are gathered until the step's end.
            channel.send_bytes(bytes(8 * MIB))
            assert connection.unsent_bytes > 0
            before = connection.unsent_bytes
            for number in range(100):
                channel.send_text("x" * 1000)
                seen.append(connection.unsent_bytes - before)
                assert seen[-1] == (number + 1) * 1004, number
            events = await far.events(101)
            assert events[1:] == ["x" * 1000] * 100
            await until(lambda: connection.unsent_bytes == 0)

    run(main())


def test_idle_connections_hold_no_buffer() -> None:
    async def main() -> None:
        app = FastWS()

        @app.websocket("/")
        async def echo(ws: WebSocket) -> None:
            await ws.accept()
            async for message in ws:
                await ws.send_text(str(message))

        async with serving(app) as server, contextlib.AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(websocket(server)) for _ in range(150)]

            async def round_trip(text: bytes) -> None:
                for peer in peers:
                    peer.writer.write(build(text))
                for peer in peers:
                    await peer.expect((TEXT, text))

            await round_trip(b"warm")
            tracemalloc.start()
            try:
                before, _ = tracemalloc.get_traced_memory()
                for number in range(3):
                    await round_trip(b"%d" % number)
                now, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            # 150 buffers would be 2.4 MB; the loop keeps 32 of them, 0.5 MB.
            assert now - before < 40 * BUFFER

    run(main())


# ---------------------------------------------------------------------------- a lost peer


@BOTH_ROLES
@pytest.mark.parametrize("how", ["reset", "close"])
def test_sending_to_a_peer_that_is_gone_is_a_disconnect(
    client: bool, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with linked(client=client) as (channel, connection, far):
            await channel.send_text("there")
            assert await far.events(1) == ["there"]
            # In the same step the first send finds out.
            far.reset() if how == "reset" else far.link.close()
            with pytest.raises(WebSocketDisconnect) as caught:
                await endless(channel)
            assert caught.value.code == 1006
            await until(lambda: connection.close_code == 1006)
            with pytest.raises(WebSocketDisconnect):
                await channel.send_text("never")

    async def endless(channel: Channel) -> None:
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            await channel.send_text("gone")
            await channel.send_bytes(bytes(100_000))
            await asyncio.sleep(0)

    run(main())
    assert logged(caplog) == []


def test_nothing_follows_a_frame_that_an_abort_has_cut() -> None:
    async def main() -> None:
        async with linked(send_buffer=4 * KIB, max_backpressure=64 * MIB) as (
            channel,
            connection,
            far,
        ):
            channel.send_bytes(b"A" * MIB)
            assert connection.unsent_bytes > 0
            connection.abort()
            # Without a turn of the loop: the kernel has room again, and the transport is still told
            # of nothing.
            received = b""
            with contextlib.suppress(BlockingIOError):
                while True:
                    received += far.link.recv(64 * KIB)
            channel.send_text("of another message")
            assert b"another" not in received + await far.rest()

    run(main())


@BOTH_ROLES
def test_a_blocking_sender_to_a_dead_peer_neither_raises_elsewhere_nor_grows(
    client: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with linked(client=client) as (channel, connection, far):
            await channel.send_text("there")
            assert await far.events(1) == ["there"]
            far.reset()
            with contextlib.suppress(WebSocketDisconnect):
                for _ in range(500):
                    await channel.send_bytes(bytes(1000))
            assert connection.unsent_bytes < MIB
            await until(lambda: connection.close_code == 1006)
            assert connection.unsent_bytes == 0

    run(main())
    assert logged(caplog) == []


@contextlib.contextmanager
def taking(number: int) -> Any:
    """A new pair of sockets whose first end has the descriptor ``number``; gives the second."""
    opened: list[socket.socket] = []
    try:
        while True:
            one, two = socket.socketpair()
            for end in (one, two):
                end.setblocking(False)
            opened += [one, two]
            if one.fileno() == number:
                yield two
                return
            if two.fileno() == number:
                yield one
                return
            assert len(opened) < 200, "nobody has closed the descriptor"
    finally:
        for end in opened:
            end.close()


def is_silent(link: socket.socket) -> bool:
    try:
        link.recv(1000)
    except BlockingIOError:
        return True
    return False


@BOTH_ROLES
@pytest.mark.parametrize("how", ["abort", "reset", "close"])
def test_a_descriptor_that_is_another_connections_now_is_not_written_to(
    client: bool, how: str, loop_errors: LoopErrors
) -> None:
    async def main() -> None:
        async with linked(client=client) as (channel, connection, far):
            await channel.send_text("there")
            assert await far.events(1) == ["there"]
            number = descriptor_of(far)
            # Something is gathered when the connection ends.
            if how == "abort":
                channel.send_text("gathered")
                connection.abort()
            elif how == "reset":
                far.reset()
            else:
                far.link.close()
                await tolerated(channel)
            await until(lambda: connection.close_code == 1006)
            await until(lambda: not is_open(number))
            with taking(number) as link:
                for payload in ("x", "y" * 20_000, "é" * 20_000):
                    with contextlib.suppress(WebSocketDisconnect, WebSocketClosed):
                        await channel.send_text(payload)
                    with contextlib.suppress(WebSocketDisconnect, WebSocketClosed):
                        await channel.close()
                await steps(3)
                assert is_silent(link)

    async def tolerated(channel: Channel) -> None:
        with contextlib.suppress(WebSocketDisconnect):
            for _ in range(10):
                await channel.send_text("x")
                await steps(2)

    run(main())


def descriptor_of(far: Far) -> int:
    """The number of the near end's socket, which is the one connected to the far end."""
    wanted = far.link.getpeername()
    for number in range(3, 1000):
        with contextlib.suppress(OSError):
            with contextlib.closing(socket.socket(fileno=os.dup(number))) as link:
                if link.family == socket.AF_INET and link.getsockname() == wanted:
                    return number
    raise LookupError("there is no such socket")


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def test_a_connection_of_a_closed_loop_writes_to_nobody() -> None:
    """A client that is left open when its loop ends, and is used in the next loop."""
    left: list[tuple[Any, Any]] = []
    links: list[socket.socket] = []
    numbers: list[int] = []

    async def first() -> None:
        stack = contextlib.AsyncExitStack()
        channel, connection, far = await stack.enter_async_context(linked(client=True))
        await channel.send_text("there")
        assert await far.events(1) == ["there"]
        numbers.append(descriptor_of(far))
        links.append(far.link)
        left.append((channel, connection))
        kept.append(stack)

    async def second() -> None:
        channel, _ = left[0]
        number = numbers[0]
        with contextlib.ExitStack() as opened:
            link = None if is_open(number) else opened.enter_context(taking(number))
            for payload in ("x", "y" * 20_000):
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(as_task(channel, payload), TIMEOUT)
            await steps(3)
            if link is not None:
                assert is_silent(link)

    async def as_task(channel: Channel, payload: str) -> None:
        await channel.send_text(payload)

    kept: list[contextlib.AsyncExitStack] = []
    loop = loop_factory()
    try:
        loop.run_until_complete(first())
    finally:
        with warnings.catch_warnings():
            # uvloop warns of the transport while it closes it, and must not be kept from that.
            warnings.simplefilter("ignore", ResourceWarning)
            loop.close()
    try:
        if LOOP == "asyncio":
            # Its loop leaves the socket to the transport; who closes it is a finalizer.
            assert is_open(numbers[0])
        else:
            assert not is_open(numbers[0])
        run(second())
    finally:
        links[0].close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            left.clear()
            kept.clear()
            gc.collect()


# ---------------------------------------------------------------------- other transports


@BOTH_ROLES
def test_a_transport_around_another_is_written_to_through_its_write_only(client: bool) -> None:
    wrappers: list[Wrapper] = []

    def wrap(transport: Any) -> Wrapper:
        wrappers.append(Wrapper(transport))
        return wrappers[0]

    async def main() -> None:
        async with linked(client=client, wrap=wrap) as (channel, _, far):
            assert wrappers[0].get_extra_info("socket").fileno() > 0
            wrappers[0].written.clear()
            seen: list[Event] = []
            parser = FrameParser(client=not client, limits=Limits(max_size=None))
            for message, expected in messages(3, 20):
                await send(channel, message)
                seen.append(expected)
            assert await far.events(len(seen)) == seen
            through: list[Event] = []
            for data in wrappers[0].written:
                through += parser.feed(data)
            assert through == seen

    run(main())


def test_a_subclass_of_a_plain_transport_is_not_taken_for_one() -> None:
    selector_events = pytest.importorskip("asyncio.selector_events")
    plain: Any = selector_events._SelectorSocketTransport

    class Counting(plain):  # type: ignore[misc]
        written = b""

        def write(self, data: Any) -> None:
            self.written += bytes(data)
            super().write(data)

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        near, other = tcp_pair()
        made = loop.create_future()
        transport = Counting(loop, near, asyncio.Protocol(), made)
        await made
        connection = Connection(transport, None, b"", timers=TimerWheel(loop), limits=Limits())
        connection.start_client()
        channel = Channel(connection)
        far = Far(other, False)
        await channel.send_text("through write()")
        await channel.send_bytes(bytes(100_000))
        assert await far.events(2) == ["through write()", bytes(100_000)]
        assert len(transport.written) == 15 + 6 + 100_000 + 14
        connection.abort()
        other.close()
        await steps(4)

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(main(), TIMEOUT))
    finally:
        loop.close()


def test_tls_carries_messages_of_every_size_and_kind() -> None:
    app = FastWS()
    made = messages(5, 60)

    @app.websocket("/")
    async def stream(ws: WebSocket) -> None:
        await ws.accept()
        for message, _ in made:
            await send(ws, message)

    async def main() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        trust = ssl.create_default_context(cafile=str(CERTIFICATE))
        async with serving(app, ssl_context=context) as server:
            url = f"wss://localhost:{server.addresses[0][1]}/"
            async with connect(url, ssl=trust, compression="off") as ws:
                seen = [message async for message in ws]
            assert seen == [expected for _, expected in made]

    run(main())


def test_the_test_clients_transport_carries_messages_of_every_size_and_kind() -> None:
    app = FastWS()
    made = messages(6, 60)

    @app.websocket("/")
    async def stream(ws: WebSocket) -> None:
        await ws.accept()
        for message, _ in made:
            await send(ws, message)

    with TestClient(app) as client, client.websocket_connect("/") as ws:
        for _, expected in made:
            assert (ws.receive_text() if isinstance(expected, str) else ws.receive_bytes()) == (
                expected
            )


# ------------------------------------------------------------------------------- the end


@BOTH_ROLES
def test_close_goes_out_behind_everything_that_was_sent(client: bool) -> None:
    async def main() -> None:
        async with linked(client=client, send_buffer=4 * KIB) as (channel, _, far):
            channel.send_bytes(bytes(200 * KIB))
            for number in range(10):
                channel.send_text(f"{number}")
            closing = asyncio.ensure_future(channel.close(4000, "done"))
            events = await far.events(12)
            assert events[:-1] == [bytes(200 * KIB), *map(str, range(10))]
            assert getattr(events[-1], "code", None) == 4000
            far.reset()
            await asyncio.wait_for(closing, TIMEOUT)

    run(main())


def in_turns(groups: Sequence[Sequence[Any]]) -> list[Any]:
    return [item for turn in itertools.zip_longest(*groups) for item in turn if item is not None]


def test_tasks_that_send_at_once_never_mix_their_frames() -> None:
    async def main() -> None:
        async with linked(send_buffer=4 * KIB) as (channel, _, far):
            groups = [[f"{task}" * size for size in sizes(task, 15)] for task in range(4)]

            async def sending(group: Sequence[str]) -> None:
                for text in group:
                    await channel.send_text(text)
                    await asyncio.sleep(0)

            tasks = [asyncio.create_task(sending(group)) for group in groups]
            texts = await far.events(len(in_turns(groups)))
            await asyncio.wait_for(asyncio.gather(*tasks), TIMEOUT)
            for number, group in enumerate(groups):
                mine = [text for text in texts if isinstance(text, str) and f"{number}" in text]
                assert mine == [text for text in group if text]

    run(main())
