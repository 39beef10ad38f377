"""C1 to C9: what may go wrong in compressed messages, each row over real TCP and TLS."""

from __future__ import annotations

import asyncio
import contextlib
import random
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastws import FastWS, WebSocket, WebSocketDisconnect
from fastws.deflate_library import LIBRARIES, Library
from tests.robustness.client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    Measured,
    Peer,
    build,
    measured,
    only_plain,
    open_peer,
    serving,
    websocket,
)
from tests.support import TIMEOUT, run

pytestmark = pytest.mark.usefixtures("wire")

KIB = 1024
MIB = 1024 * KIB
RSV1 = 4
TAIL = b"\x00\x00\xff\xff"
OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
MODES = ("shared", "dedicated")

both = pytest.mark.parametrize("library", LIBRARIES)


class Deflate:
    """One direction's compressor, which takes its window over from message to message."""

    def __init__(self, window_bits: int = 15, level: int = 6) -> None:
        self._stream = zlib.compressobj(level, zlib.DEFLATED, -window_bits)

    def __call__(
        self, data: bytes, *, final: bool = False, flush: int = zlib.Z_SYNC_FLUSH
    ) -> bytes:
        """The payload of a compressed message; ``final`` ends it with a final block."""
        if final:
            # RFC 7692 section 7.2.3.4: an empty stored block's header behind the final one.
            return self._stream.compress(data) + self._stream.flush(zlib.Z_FINISH) + b"\x00"
        return (self._stream.compress(data) + self._stream.flush(flush)).removesuffix(TAIL)


def compressed(data: bytes) -> bytes:
    """The payload of a compressed message that refers to none before it."""
    return Deflate()(data)


def bomb(size: int) -> bytes:
    """``size`` zeros, a multiple of 1 MiB, as compressed payload of about a thousandth of that."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    # Each block forgets the ones before, so that one will do for all.
    block = stream.compress(bytes(MIB)) + stream.flush(zlib.Z_FULL_FLUSH)
    return (block * (size // MIB)).removesuffix(TAIL)


class Inflate:
    """The other end of a Deflate."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(-15)

    def __call__(self, frame: Frame) -> tuple[int, bytes]:
        """Opcode and content of a message, compressed or plain."""
        assert frame.fin
        assert frame.rsv in (0, RSV1)
        if not frame.rsv:
            return frame.opcode, frame.payload
        return frame.opcode, self._stream.decompress(frame.payload + TAIL)


def echo_application(messages: list[str | bytes]) -> FastWS:
    """An application that adds each message to ``messages`` and sends it back as it came."""
    app = FastWS()

    @app.websocket("/")
    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            messages.append(message)
            await (ws.send_text(message) if isinstance(message, str) else ws.send_bytes(message))

    return app


@contextlib.asynccontextmanager
async def echoing(
    mode: str = "dedicated", offer: str = OFFER, **options: Any
) -> AsyncIterator[tuple[Peer, list[str | bytes]]]:
    """A connection that compresses, to an echo; the server must still serve others afterwards."""
    messages: list[str | bytes] = []
    options = {"ws_per_message_deflate": mode, "ws_deflate_threshold": 0, **options}
    async with serving(echo_application(messages), **options) as server:
        peer, head = await open_peer(server.addresses[0], "/", offer)
        assert b"\r\nSec-WebSocket-Extensions: permessage-deflate" in head
        try:
            yield peer, messages
        finally:
            await peer.close()
        async with websocket(server, "/", offer) as other:
            await other.send(build(compressed(b"!"), rsv=RSV1))
            assert Inflate()(await other.read_frame()) == (TEXT, b"!")


def refused(data: bytes, code: int, *, before: int = 0, **options: Any) -> None:
    """``data`` must end the connection with ``code`` after ``before`` messages were echoed."""

    async def main() -> None:
        async with echoing(**options) as (peer, messages):
            await peer.send(data)
            for _ in range(before):
                assert (await peer.read_frame()).opcode in (TEXT, BINARY)
            got, reason = await peer.ended()
            assert got == code, f"{got}: {reason}"
            assert len(messages) == before

    run(main())


def accepted(data: bytes, *expected: tuple[int, bytes], **options: Any) -> None:
    """``data`` must be answered with the messages ``expected``, and the connection go on."""

    async def main() -> None:
        async with echoing(**options) as (peer, _):
            await peer.send(data)
            inflate = Inflate()
            for message in expected:
                assert inflate(await peer.read_frame()) == message
            await peer.end()

    run(main())


def fragments(payload: bytes, size: int, opcode: int = TEXT) -> bytes:
    """A compressed message in fragments of ``size`` bytes."""
    frames = []
    for start in range(0, len(payload), size):
        fin = start + size >= len(payload)
        piece = payload[start : start + size]
        frames.append(
            build(piece, CONTINUATION, fin=fin)
            if start
            else build(piece, opcode, fin=fin, rsv=RSV1)
        )
    return b"".join(frames)


# C1, C2, C4: more than was said


@both
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_c01_a_bomb_in_one_frame(library: Library, mode: str, opcode: int) -> None:
    refused(build(bomb(64 * MIB), opcode, rsv=RSV1), 1009, mode=mode, ws_deflate_library=library)


@both
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("limit", [1, 1000, 65536, MIB])
def test_c01_exactly_the_limit(library: Library, opcode: int, limit: int) -> None:
    payload = b"x" * limit
    frame = build(compressed(payload), opcode, rsv=RSV1)
    accepted(frame, (opcode, payload), ws_max_size=limit, ws_deflate_library=library)


@both
@pytest.mark.parametrize("limit", [1, 1000, 65536, MIB])
def test_c01_one_byte_more_than_the_limit(library: Library, limit: int) -> None:
    refused(
        build(compressed(b"x" * (limit + 1)), rsv=RSV1),
        1009,
        ws_max_size=limit,
        ws_deflate_library=library,
    )


def test_c01_data_that_does_not_compress_may_be_longer_on_the_wire() -> None:
    payload = random.Random(1).randbytes(MIB)
    packed = compressed(payload)
    assert len(packed) > MIB
    accepted(build(packed, BINARY, rsv=RSV1), (BINARY, payload))


DEFLATING = ("--ws-per-message-deflate", "dedicated")


def deflating(library: Library) -> tuple[str, ...]:
    return (*DEFLATING, "--ws-deflate-library", library)


async def peak_beyond_usual(server: Measured, data: bytes) -> int:
    """Bytes allocated for ``data``, which ends a connection with 1009, beyond what is needed to
    read so much and to inflate at all."""
    small = build(compressed(b"small"), BINARY, rsv=RSV1)
    wrong = build(b"", 15)
    # Once, so that nothing is left to be made at first use.
    await server.peak_of(small + wrong + data, OFFER)
    usual, _ = await server.peak_of(small + wrong + data, OFFER)
    peak, frames = await server.peak_of(small + data, OFFER)
    assert [frame.opcode for frame in frames] == [BINARY, CLOSE]
    assert frames[-1].payload[:2] == (1009).to_bytes(2, "big")
    return peak - usual


@both
@only_plain("it is about the memory or the time of what is above TCP")
@pytest.mark.parametrize("size", [2 * MIB, 64 * MIB, 512 * MIB])
def test_c01_a_bomb_in_one_frame_takes_the_limit_and_64_kib(library: Library, size: int) -> None:
    async def main() -> None:
        with measured(*deflating(library)) as server:
            data = build(bomb(size), BINARY, rsv=RSV1)
            assert await peak_beyond_usual(server, data) <= MIB + 64 * KIB

    run(main())


@pytest.mark.parametrize("size", [1, 100, 4096])
def test_c02_a_bomb_over_fragments(size: int) -> None:
    refused(fragments(bomb(4 * MIB), size), 1009, ws_max_fragments=None)


def test_c02_fragments_that_inflate_to_exactly_the_limit() -> None:
    packed = compressed(b"x" * MIB)
    accepted(fragments(packed, 7), (TEXT, b"x" * MIB))
    refused(fragments(compressed(b"x" * (MIB + 1)), 7), 1009)


@both
@only_plain("it is about the memory or the time of what is above TCP")
def test_c02_a_bomb_over_fragments_takes_the_limit_and_64_kib(library: Library) -> None:
    async def main() -> None:
        with measured(*deflating(library), "--ws-max-fragments", "none") as server:
            for size in (100, 4096):
                data = fragments(bomb(64 * MIB), size, BINARY)
                assert await peak_beyond_usual(server, data) <= MIB + 64 * KIB

    run(main())


@both
def test_c02_a_bomb_that_refers_to_the_message_before(library: Library) -> None:
    deflate = Deflate(12)
    block = random.Random(2).randbytes(3 * KIB)
    first = build(deflate(block), BINARY, rsv=RSV1)
    second = deflate(block * 342)
    assert len(second) < MIB // 100
    refused(first + build(second, BINARY, rsv=RSV1), 1009, before=1, ws_deflate_library=library)


def test_c02_a_message_that_refers_to_the_one_before() -> None:
    deflate = Deflate(12)
    block = random.Random(3).randbytes(3 * KIB)
    first = build(deflate(block), BINARY, rsv=RSV1)
    second = deflate(block * 341)
    assert len(second) < MIB // 100
    accepted(first + build(second, BINARY, rsv=RSV1), (BINARY, block), (BINARY, block * 341))


FINAL_BLOCK = b"\x03\x00"
"""A final block with nothing in it."""


@both
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [1025, 5000, 500_000])
def test_c04_thousands_of_final_blocks(library: Library, mode: str, count: int) -> None:
    refused(build(FINAL_BLOCK * count, rsv=RSV1), 1009, mode=mode, ws_deflate_library=library)


@both
def test_c04_thousands_of_final_blocks_over_fragments(library: Library) -> None:
    refused(fragments(FINAL_BLOCK * 2000, 3), 1009, ws_deflate_library=library)


@both
def test_c04_some_final_blocks(library: Library) -> None:
    piece = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = piece.compress(b"abc") + piece.flush(zlib.Z_FINISH)
    accepted(
        build(block * 1000 + b"\x00", rsv=RSV1), (TEXT, b"abc" * 1000), ws_deflate_library=library
    )


async def cpu_for(server: Measured, data: bytes, code: int | None) -> float:
    """Processor time of ``server`` for 20 connections that each send ``data``; the last frame that
    answers it is a CLOSE with ``code``, or a message."""
    before = server.cpu()
    for _ in range(20):
        async with websocket(server, "/", OFFER) as peer:
            await peer.send(data)
            frame = await peer.read_frame()
            if code is None:
                assert frame.opcode == BINARY
                await peer.end()
            else:
                assert (frame.opcode, frame.payload[:2]) == (CLOSE, code.to_bytes(2, "big"))
    return server.cpu() - before


@both
@only_plain("it is about the memory or the time of what is above TCP")
def test_c04_final_blocks_take_no_more_time_than_a_message_of_that_size(library: Library) -> None:
    honest = build(compressed(random.Random(4).randbytes(MIB)), BINARY, rsv=RSV1)
    attack = build(FINAL_BLOCK * (MIB // 2), BINARY, rsv=RSV1)

    async def main() -> None:
        with measured(*deflating(library), tracing=False) as server:
            usual = await cpu_for(server, honest, None)
            assert await cpu_for(server, attack, 1009) < 2 * max(usual, 0.05)

    run(main())


# C3: final blocks are legal


@both
@pytest.mark.parametrize("mode", MODES)
def test_c03_a_final_block_then_another_message(library: Library, mode: str) -> None:
    data = build(Deflate()(b"first", final=True), rsv=RSV1)
    data += build(compressed(b"second"), BINARY, rsv=RSV1)
    data += build(b"third")
    data += build(Deflate()(b"fourth", final=True), rsv=RSV1)
    data += build(compressed(b"fifth"), rsv=RSV1)
    accepted(
        data,
        (TEXT, b"first"),
        (BINARY, b"second"),
        (TEXT, b"third"),
        (TEXT, b"fourth"),
        (TEXT, b"fifth"),
        mode=mode,
        ws_deflate_library=library,
    )


def test_c03_a_final_block_in_every_message() -> None:
    count = 2000
    data = b"".join(
        build(Deflate()(b"message %d" % number, final=True), rsv=RSV1) for number in range(count)
    )
    accepted(data, *((TEXT, b"message %d" % number) for number in range(count)))


def test_c03_a_final_block_cut_into_fragments() -> None:
    packed = Deflate()(b"in pieces", final=True)
    data = fragments(packed, 1) + build(compressed(b"whole"), rsv=RSV1)
    accepted(data, (TEXT, b"in pieces"), (TEXT, b"whole"))


# C5, C6: wrong data

CORRUPT = {
    "a reserved block type": b"\x07",
    "stored, its length not repeated": b"\x00\x05\x00\x00\x00hello",
    "a distance before the beginning": b"\x83\x01\x00",
    "noise": b"\xff" * 50,
    "half a block": compressed(random.Random(5).randbytes(500))[:200],
    "half a message of text": compressed(b"hello, hello, hello, world" * 40)[:12],
}


@both
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("packed", CORRUPT.values(), ids=CORRUPT)
def test_c05_corrupt_data(library: Library, packed: bytes, mode: str) -> None:
    refused(build(packed, BINARY, rsv=RSV1), 1007, mode=mode, ws_deflate_library=library)


@both
@pytest.mark.parametrize("name", CORRUPT)
def test_c05_corrupt_data_behind_a_good_message(library: Library, name: str) -> None:
    if name == "a distance before the beginning":
        good = build(b"good")  # behind a compressed message there is something that far back
    else:
        good = build(compressed(b"good"), rsv=RSV1)
    refused(
        good + build(CORRUPT[name], BINARY, rsv=RSV1), 1007, before=1, ws_deflate_library=library
    )


def test_c05_corrupt_data_in_the_first_of_many_fragments() -> None:
    refused(build(b"\x07" * 10, rsv=RSV1, fin=False), 1007)


def test_c05_compressed_text_that_is_not_utf8() -> None:
    refused(build(compressed(b"a\xff"), rsv=RSV1), 1007)
    refused(build(Deflate()(b"a\xff"), rsv=RSV1, fin=False), 1007)
    refused(build(compressed(b"a\xc3"), rsv=RSV1), 1007)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_c05_compressed_text_cut_anywhere(size: int) -> None:
    text = "größer 😀, größer 😀".encode()
    accepted(fragments(compressed(text), size), (TEXT, text))


def far_apart(distance: int, deflate: Deflate) -> tuple[bytes, bytes]:
    """Two messages that are together a little longer than ``distance``, the second a copy of the
    beginning of the first."""
    chosen = random.Random(distance)
    beginning = chosen.randbytes(200)
    first = beginning + chosen.randbytes(distance - 200)
    return build(deflate(first), BINARY, rsv=RSV1), build(deflate(beginning), BINARY, rsv=RSV1)


@both
def test_c06_a_distance_beyond_the_window(library: Library) -> None:
    # The server asked for a window of 2^12 bytes; the client refers 2^14 bytes back.
    first, second = far_apart(1 << 14, Deflate(15))
    assert len(second) < 50, "it does refer that far"
    refused(first + second, 1007, before=1, ws_deflate_library=library)


@both
def test_c06_a_distance_within_the_window(library: Library) -> None:
    first, second = far_apart(1 << 11, Deflate(12))
    assert len(second) < 50
    accepted(
        first + second,
        *[(BINARY, content) for content in both_of(1 << 11)],
        ws_deflate_library=library,
    )


def test_c06_a_client_that_offers_no_window_may_use_all_of_it() -> None:
    first, second = far_apart(1 << 14, Deflate(15))
    offer = "Sec-WebSocket-Extensions: permessage-deflate"
    accepted(first + second, *[(BINARY, content) for content in both_of(1 << 14)], offer=offer)


def both_of(distance: int) -> tuple[bytes, bytes]:
    """What far_apart() compresses."""
    chosen = random.Random(distance)
    beginning = chosen.randbytes(200)
    return beginning + chosen.randbytes(distance - 200), beginning


@both
def test_c06_a_reference_to_the_message_before_without_takeover(library: Library) -> None:
    first, second = far_apart(1 << 11, Deflate(12))
    refused(first + second, 1007, before=1, mode="shared", ws_deflate_library=library)


@both
@pytest.mark.parametrize("mode", MODES)
def test_c06_a_compressed_message_without_payload(library: Library, mode: str) -> None:
    data = build(b"", rsv=RSV1) + build(b"", BINARY, rsv=RSV1)
    data += build(b"", rsv=RSV1, fin=False) + build(b"", CONTINUATION)
    data += build(b"\x00", rsv=RSV1) + build(compressed(b"on"), rsv=RSV1)
    accepted(
        data,
        (TEXT, b""),
        (BINARY, b""),
        (TEXT, b""),
        (TEXT, b""),
        (TEXT, b"on"),
        mode=mode,
        ws_deflate_library=library,
    )


# C7 to C9: in step, at the end, at rest


@both
@pytest.mark.parametrize("mode", MODES)
def test_c07_compressed_and_plain_mixed_for_10000_messages(library: Library, mode: str) -> None:
    chosen = random.Random(7)
    words = [chosen.randbytes(chosen.randrange(1, 40)).hex().encode() for _ in range(200)]
    count = 10_000

    async def main() -> None:
        async with echoing(mode, ws_deflate_threshold=60, ws_deflate_library=library) as (peer, _):
            deflate, inflate = Deflate(12), Inflate()
            sent: list[tuple[int, bytes]] = []
            seen = {0: 0, RSV1: 0}

            async def send() -> None:
                for _ in range(count // 100):
                    batch = []
                    for _ in range(100):
                        content = b" ".join(chosen.choices(words, k=chosen.randrange(4)))
                        opcode = chosen.choice((TEXT, BINARY))
                        sent.append((opcode, content))
                        if chosen.random() < 0.5:
                            flush = zlib.Z_SYNC_FLUSH if mode == "dedicated" else zlib.Z_FULL_FLUSH
                            batch.append(build(deflate(content, flush=flush), opcode, rsv=RSV1))
                        else:
                            batch.append(build(content, opcode))
                    await peer.send(b"".join(batch))

            sending = asyncio.create_task(send())
            for number in range(count):
                frame = await peer.read_frame()
                message = inflate(frame)
                assert message == sent[number]
                assert frame.rsv == (RSV1 if len(message[1]) >= 60 else 0)
                seen[frame.rsv] += 1
            await sending
            assert min(seen.values()) > count // 10
            await peer.end()

    run(main())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ending", ["close", "reset", "error", "eof"])
def test_c08_ended_in_the_middle_of_a_compressed_message(mode: str, ending: str) -> None:
    packed = compressed(random.Random(8).randbytes(100_000))

    async def main() -> None:
        async with echoing(mode) as (peer, messages):
            await peer.send(build(packed[:50_000], BINARY, rsv=RSV1, fin=False) + build(b"", PING))
            assert await peer.frame() == (PONG, b"")
            if ending == "close":
                await peer.end()
            elif ending == "reset":
                peer.reset()
            elif ending == "eof":
                peer.half_close()
                await peer.until_end()
            else:
                await peer.send(build(b"\x07" * 100, CONTINUATION))
                assert (await peer.ended())[0] == 1007
            assert messages == []

    run(main())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ending", ["cancel", "close", "raise", "return"])
def test_c08_the_handler_ends_while_messages_are_compressed_and_wait(
    mode: str, ending: str
) -> None:
    app = FastWS()
    content = random.Random(9).randbytes(200_000)
    tasks: list[asyncio.Task[None]] = []
    failure = LookupError("meant to be")

    @app.websocket("/")
    async def talkative(ws: WebSocket) -> None:
        await ws.accept()
        await ws.receive_bytes()

        async def send() -> None:
            while True:
                await ws.send_bytes(content)

        sending = asyncio.create_task(send())
        tasks.append(sending)
        await ws.receive_bytes()
        if ending == "cancel":
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending
            await ws.send_text("still here")
            await ws.receive_bytes()
        elif ending == "close":
            await ws.close()
        elif ending == "raise":
            raise failure

    async def main() -> None:
        options = {"ws_per_message_deflate": mode, "ws_deflate_threshold": 0}
        async with serving(app, **options) as server:
            async with websocket(server, "/", OFFER) as peer:
                await peer.send(build(compressed(b"begin"), BINARY, rsv=RSV1))
                inflate = Inflate()
                assert inflate(await peer.read_frame()) == (BINARY, content)
                # The next ones wait in the write buffer, and the sender with them.
                await peer.send(build(b"go on", BINARY) + build(b"again", BINARY))
                frame = await peer.read_frame()
                while frame.opcode == BINARY:
                    assert inflate(frame) == (BINARY, content)
                    frame = await peer.read_frame()
                if ending == "cancel":
                    assert inflate(frame) == (TEXT, b"still here")
                    frame = await peer.read_frame()
                code = 1011 if ending == "raise" else 1000
                assert (frame.opcode, frame.payload[:2]) == (CLOSE, code.to_bytes(2, "big"))
                await peer.send(build(frame.payload, CLOSE))
                assert await peer.rest() == b""
            done, _ = await asyncio.wait(tasks, timeout=TIMEOUT)
            for task in done:
                assert task.cancelled() or isinstance(task.exception(), WebSocketDisconnect)
            assert len(done) == 1

    run(main())


IDLE = 2_000


async def memory_of_idle_connections(*options: str, messages: bytes = b"") -> float:
    """Bytes allocated for each of IDLE connections that offered to compress and are idle."""
    with measured(*options, "--access-log", "off") as server:
        peers: list[Peer] = []
        address = (server.host, server.port)
        before, _ = await server.traced()
        try:
            for _ in range(IDLE // 50):
                opened = await asyncio.gather(*(open_peer(address, "/", OFFER) for _ in range(50)))
                for peer, head in opened:
                    assert (b"permessage-deflate" in head) == (options != ())
                    peers.append(peer)
            if messages:
                for peer in peers:
                    await peer.send(messages)
                for peer in peers:
                    await peer.read_frame()
            now, _ = await server.traced()
            return (now - before) / IDLE
        finally:
            await asyncio.gather(*(peer.close() for peer in peers))


@only_plain("it is about the memory or the time of what is above TCP")
@pytest.mark.slow
def test_c09_idle_connections_that_negotiated_it_have_no_zlib_state() -> None:
    message = build(compressed(b"wake up"), rsv=RSV1)

    async def main() -> None:
        plain = await memory_of_idle_connections()
        for mode in MODES:
            idle = await memory_of_idle_connections("--ws-per-message-deflate", mode)
            assert idle <= plain + 1 * KIB, f"{mode}: {idle:.0f} instead of {plain:.0f} bytes"
        # So that the figures above are known to show it: an inflater takes at least 2^12 bytes.
        awake = await memory_of_idle_connections(*DEFLATING, messages=message)
        assert awake >= plain + 8 * KIB
        # Without takeover nothing is kept from one message to the next.
        rested = await memory_of_idle_connections(
            "--ws-per-message-deflate", "shared", messages=message
        )
        assert rested <= plain + 2 * KIB

    run(main(), timeout=24 * TIMEOUT)
