"""Long payloads, which are read into the memory of their message."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastws import FastWS, WebSocket, WebSocketDisconnect
from fastws._connection import Connection
from fastws.intake import Intake
from tests import uvicorn_server
from tests.connections import KIB, MIB, Watched, talking, until
from tests.robustness.client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Peer,
    build,
    close_frame,
    measured,
    server_tls,
    websocket,
)
from tests.serving import serving
from tests.support import TIMEOUT, run

SIZES = [64 * KIB, 64 * KIB + 1, 200_001, MIB, 3 * MIB]


def payload(kind: str, size: int) -> bytes:
    """Bytes in which no part is like another; the size of text is rounded down."""
    if kind == "binary":
        return random.Random(size).randbytes(size)
    unit = "".join(chr(0x61 + n % 26) for n in range(997)) if kind == "ascii" else "aé€😀x" * 199
    data = (unit * (size // len(unit) + 1)).encode()[:size]
    return data.decode(errors="ignore").encode()


def opcode_of(kind: str) -> int:
    return BINARY if kind == "binary" else TEXT


async def speak_first(ws: WebSocket) -> None:
    """A connection reads in place once it knows its socket, which its first frame finds out."""
    await ws.send_text("ready")


class Inbox:
    """A handler that keeps what it receives."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[str | bytes] = asyncio.Queue()

    async def __call__(self, ws: WebSocket) -> None:
        await speak_first(ws)
        async for message in ws:
            self.messages.put_nowait(message)

    async def expect(self, *expected: bytes | str) -> None:
        for message in expected:
            got = await asyncio.wait_for(self.messages.get(), TIMEOUT)
            assert type(got) is type(message)
            # Not compared by assert: it would show megabytes.
            if got != message:
                raise AssertionError(f"{len(got)} for {len(message)}, or other contents")


class Intakes:
    """What was read in place."""

    def __init__(self) -> None:
        self.made = 0
        self.bytes = 0


@pytest.fixture
def intakes(monkeypatch: pytest.MonkeyPatch) -> Intakes:
    seen = Intakes()
    make, update = Intake.__init__, Intake.buffer_updated

    def made(self: Intake, connection: Connection) -> None:
        seen.made += 1
        make(self, connection)

    def updated(self: Intake, nbytes: int) -> None:
        seen.bytes += nbytes
        update(self, nbytes)

    monkeypatch.setattr(Intake, "__init__", made)
    monkeypatch.setattr(Intake, "buffer_updated", updated)
    return seen


@contextlib.asynccontextmanager
async def receiving(**options: Any) -> AsyncIterator[tuple[Peer, Inbox, Watched]]:
    inbox = Inbox()
    async with talking(inbox, ws_max_size="16MiB", **options) as (peer, watched):
        await peer.expect((TEXT, b"ready"))
        yield peer, inbox, watched


async def send_in_slices(peer: Peer, data: bytes, seed: int) -> None:
    chosen = random.Random(seed)
    at = 0
    while at < len(data):
        size = chosen.choice([1, 7, chosen.randrange(1, 5000), chosen.randrange(1, 300_000)])
        await peer.send(data[at : at + size])
        at += size
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def told(data: bytes, kind: str) -> bytes | str:
    return data if kind == "binary" else data.decode()


@pytest.mark.parametrize("kind", ["binary", "ascii", "mixed"])
@pytest.mark.parametrize("size", SIZES)
def test_a_long_message_arrives_as_it_was_sent(kind: str, size: int, intakes: Intakes) -> None:
    data = payload(kind, size)

    async def main() -> None:
        async with receiving() as (peer, inbox, _):
            # The first of the short ones arrives in the same read as the end of the long one.
            await send_in_slices(
                peer, build(data, opcode_of(kind)) + build(b"one") + build(b"two"), size
            )
            await inbox.expect(told(data, kind), "one", "two")
            await peer.send(build(b"three") + build(data, opcode_of(kind)))
            await inbox.expect("three", told(data, kind))
            await peer.end()

    run(main())
    if size >= 3 * MIB:
        assert intakes.bytes > size // 2


@pytest.mark.parametrize("kind", ["binary", "ascii", "mixed"])
@pytest.mark.parametrize("seed", range(3))
def test_a_long_message_in_fragments_with_pings_between_them(kind: str, seed: int) -> None:
    data = payload(kind, 2 * MIB)
    chosen = random.Random(seed)
    cuts = sorted(chosen.sample(range(len(data)), 4))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    last = len(pieces) - 1
    stream = b"".join(
        build(piece, CONTINUATION if n else opcode_of(kind), fin=n == last)
        + (build(b"%d" % n, PING) if n < last else b"")
        for n, piece in enumerate(pieces)
    )

    async def main() -> None:
        async with receiving() as (peer, inbox, _):
            await send_in_slices(peer, stream + build(b"small"), seed)
            await inbox.expect(told(data, kind), "small")
            await peer.expect(*((PONG, b"%d" % n) for n in range(last)))
            await peer.end()

    run(main())


def test_a_close_between_long_fragments_ends_the_connection() -> None:
    async def main() -> None:
        async with receiving() as (peer, _, watched):
            await peer.send(build(bytes(300 * KIB), BINARY, fin=False) + close_frame(4001, b"no"))
            assert (await peer.ended())[0] == 4001
            await watched.outcome()

    run(main())


def test_invalid_utf8_ends_the_connection_while_the_frame_still_arrives(
    intakes: Intakes,
) -> None:
    frame = build(b"a" * (700 * KIB) + b"\xff" + b"a" * (2 * MIB))

    async def main() -> None:
        async with receiving() as (peer, _, watched):
            await peer.send(frame[: 300 * KIB])
            await until(lambda: intakes.made)
            await peer.send(frame[300 * KIB : 710 * KIB])
            opcode, reason = await peer.frame()
            assert (opcode, reason[:2]) == (CLOSE, (1007).to_bytes(2, "big"))
            await watched.outcome()

    run(main())


def test_a_frame_above_the_limit_is_refused_at_its_header() -> None:
    async def main() -> None:
        async with receiving() as (peer, _, _):
            await peer.send(build(b"", BINARY, length=16 * MIB + 1))
            assert (await peer.ended())[0] == 1009
        async with receiving() as (peer, _, _):
            await peer.send(build(bytes(10 * MIB), BINARY, fin=False))
            await peer.send(build(b"", CONTINUATION, length=6 * MIB + 1))
            assert (await peer.ended())[0] == 1009

    run(main())


@pytest.mark.parametrize("how", ["eof", "reset"])
def test_the_peers_end_within_a_long_payload_is_a_disconnect(how: str, intakes: Intakes) -> None:
    async def main() -> None:
        async with receiving() as (peer, inbox, watched):
            await peer.send(build(bytes(200 * KIB), BINARY, length=MIB))
            await until(lambda: intakes.made)
            peer.half_close() if how == "eof" else peer.reset()
            await watched.outcome()
            assert watched.sockets[0].close_code == 1006
            assert inbox.messages.empty()

    run(main())


def test_our_own_close_within_a_long_payload_goes_through(intakes: Intakes) -> None:
    async def main() -> None:
        frame = build(bytes(2 * MIB), BINARY)
        async with receiving() as (peer, inbox, watched):
            await peer.send(frame[: 200 * KIB])
            await until(lambda: intakes.made)
            closing = asyncio.ensure_future(watched.sockets[0].close(4000, "enough"))
            await peer.expect((CLOSE, b"\x0f\xa0enough"))
            await peer.send(frame[200 * KIB :] + close_frame(4000))
            assert await peer.rest() == b""
            await asyncio.wait_for(closing, TIMEOUT)
            assert inbox.messages.empty()

    run(main())


def test_reading_pauses_for_a_full_queue_and_goes_on() -> None:
    data = payload("binary", 700 * KIB)
    begin = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await speak_first(ws)
        await begin.wait()
        for number in range(12):
            assert await ws.receive_bytes() == data
            assert await ws.receive_text() == f"{number}"
        await ws.send_text("all")

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.expect((TEXT, b"ready"))

            async def send() -> None:
                for number in range(12):
                    await peer.send(build(data, BINARY) + build(b"%d" % number))

            sending = asyncio.create_task(send())
            link: Any = watched.sockets[0]._link
            await until(lambda: link.queued_bytes >= MIB)
            begin.set()
            await asyncio.wait_for(sending, TIMEOUT)
            await peer.expect((TEXT, b"all"))
            assert await watched.outcome() is None

    run(main())


def test_keepalive_takes_a_payload_that_arrives_slowly_for_a_sign_of_life() -> None:
    interval = TIMEOUT / 50

    async def main() -> None:
        options = {"ws_ping_interval": interval, "ws_ping_timeout": 2 * interval}
        async with receiving(**options) as (peer, inbox, _):
            frame = build(bytes(MIB), BINARY)
            await peer.send(frame[: 100 * KIB])
            # Its PINGs are not answered: the frame is not done.
            for at in range(100, 120):
                await asyncio.sleep(interval / 2)
                await peer.send(frame[at * KIB : (at + 1) * KIB])
            await peer.send(frame[120 * KIB :])
            await inbox.expect(bytes(MIB))

    run(main())


def test_the_connection_has_its_transport_back_after_a_long_payload(intakes: Intakes) -> None:
    async def main() -> None:
        async with receiving() as (peer, inbox, _):
            for _ in range(3):
                frame = build(bytes(MIB), BINARY)
                await peer.send(frame[: 100 * KIB])
                await until(lambda: intakes.made)
                await peer.send(frame[100 * KIB :])
                await inbox.expect(bytes(MIB))
                seen = intakes.bytes
                assert seen > 500 * KIB
                for _ in range(20):
                    await peer.send(build(b"short"))
                    await inbox.expect("short")
                assert intakes.bytes == seen, "short messages do not come through an Intake"
                intakes.made = intakes.bytes = 0

    run(main())


def test_compressed_long_messages_are_not_read_in_place(intakes: Intakes) -> None:
    import zlib

    data = payload("binary", MIB)

    async def main() -> None:
        inbox = Inbox()
        options = {"ws_max_size": "16MiB", "ws_per_message_deflate": "shared"}
        async with serving(Watched(inbox).app, **options) as server:
            extension = "Sec-WebSocket-Extensions: permessage-deflate"
            async with websocket(server, "/", extension) as peer:
                await peer.read_frame()
                squeeze = zlib.compressobj(wbits=-15)
                packed = squeeze.compress(data) + squeeze.flush(zlib.Z_SYNC_FLUSH)
                await send_in_slices(peer, build(packed[:-4], BINARY, rsv=4), 1)
                await inbox.expect(data)

    run(main())
    assert intakes.made == 0


def test_over_tls_nothing_is_read_in_place(intakes: Intakes) -> None:
    from fastws import connect
    from tests.robustness.client import client_tls

    data = payload("binary", 2 * MIB)

    async def main() -> None:
        inbox = Inbox()
        async with serving(
            Watched(inbox).app, ws_max_size="16MiB", ssl_context=server_tls()
        ) as server:
            url = f"wss://localhost:{server.addresses[0][1]}/"
            async with connect(url, ssl=client_tls(), compression="off") as ws:
                assert await ws.receive_text() == "ready"
                await ws.send_bytes(data)
                await ws.send_text("after")
                await inbox.expect(data, "after")

    run(main())
    assert intakes.made == 0


def test_the_drop_in_for_uvicorn_gets_long_messages(intakes: Intakes) -> None:
    data = payload("mixed", 2 * MIB)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await uvicorn_server.accept(receive, send)
        await send({"type": "websocket.send", "text": "ready"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"]})

    async def main() -> None:
        async with uvicorn_server.serving(app) as server, server.peer() as peer:
            await peer.expect((TEXT, b"ready"))
            for _ in range(2):
                await peer.send(build(data) + build(b"short"))
                assert await peer.frame() == (TEXT, data)
                await peer.expect((TEXT, b"short"))
            await peer.end()

    run(main())


@pytest.mark.measures
def test_a_frame_that_is_announced_reserves_little() -> None:
    async def main() -> None:
        with measured() as server:
            async with websocket(server) as peer:
                await peer.send(build(b"first"))
                await peer.expect((TEXT, b"first"))
                before, _ = await server.traced()
                frame = build(bytes(MIB), BINARY)
                await peer.send(frame[: 100 * KIB])
                # A PING would not be answered: what the process has tells that it has arrived.
                deadline = asyncio.get_running_loop().time() + TIMEOUT
                now = before
                while now - before < 99 * KIB:
                    assert asyncio.get_running_loop().time() < deadline
                    now, _ = await server.traced()
                assert now - before < 2 * 100 * KIB + 64 * KIB + 20 * KIB
                await peer.send(frame[100 * KIB :])
                assert await peer.frame() == (BINARY, bytes(MIB))

    run(main())


def test_a_connection_that_has_ended_gives_a_buffer_that_is_thrown_away() -> None:
    async def handler(ws: WebSocket) -> None:
        await speak_first(ws)
        with pytest.raises(WebSocketDisconnect):
            await ws.receive_text()

    async def main() -> None:
        async with talking(handler) as (peer, watched):
            await peer.expect((TEXT, b"ready"))
            connection: Any = watched.sockets[0]._link
            assert isinstance(connection, Connection)
            peer.reset()
            await watched.outcome()
            space = Intake(connection).get_buffer(-1)
            assert len(space) > 0
            space[:3] = b"abc"
            Intake(connection).buffer_updated(3)

    run(main())


def test_an_application_that_only_receives_reads_in_place_as_well(intakes: Intakes) -> None:
    app = FastWS()
    done: asyncio.Queue[bytes] = asyncio.Queue()

    @app.websocket("/")
    async def upload(ws: WebSocket) -> None:
        await ws.accept()
        done.put_nowait(await ws.receive_bytes())

    async def main() -> None:
        async with serving(app) as server, websocket(server) as peer:
            frame = build(bytes(MIB), BINARY)
            await peer.send(frame[: 100 * KIB])
            await until(lambda: intakes.made)
            await peer.send(frame[100 * KIB :])
            assert await asyncio.wait_for(done.get(), TIMEOUT) == bytes(MIB)

    run(main())
