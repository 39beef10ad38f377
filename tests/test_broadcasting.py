"""broadcast(): one message to many, whoever of them is slow, gone, or of another server."""

from __future__ import annotations

import array
import asyncio
import contextlib
import random
import sys
import weakref
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

import fastws
from fastws import FastWS, PreparedMessage, WebSocket, WebSocketDisconnect, broadcast
from fastws.deflate import Deflater
from tests.asgi_servers import ASGI_SERVERS, Client, running
from tests.connections import KIB, MIB, SMALL_BUFFER, until
from tests.docs.programs import kill, silence
from tests.http_peers import client_tls, server_tls
from tests.robustness.client import (
    BINARY,
    CLOSE,
    TEXT,
    Frame,
    Peer,
    build,
    close_frame,
    websocket,
)
from tests.serving import handshake, serving, status_of
from tests.support import TIMEOUT, run
from tests.test_metrics import scrape

Handler = Callable[[WebSocket], Awaitable[Any]]

DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"
TAIL = b"\x00\x00\xff\xff"
SIZES = [0, 125, 126, 65535, 65536, MIB]


class Hall:
    """An application's connections: the server's ends and the clients', in the same order."""

    def __init__(self, handler: Handler) -> None:
        self.app = FastWS()
        self.members: list[WebSocket] = []
        self.peers: list[Peer] = []
        self.ends: dict[WebSocket, BaseException] = {}

        @self.app.websocket("/")
        async def enter(ws: WebSocket) -> None:
            await ws.accept()
            self.members.append(ws)
            try:
                await handler(ws)
            except WebSocketDisconnect as error:
                self.ends[ws] = error
                raise

    async def hear(self, *frames: tuple[int, bytes]) -> None:
        """Every client must get these next."""
        for peer in self.peers:
            await peer.expect(*frames)


async def wait_for_the_end(ws: WebSocket) -> None:
    while True:
        await ws.receive_text()


@contextlib.asynccontextmanager
async def gathered(
    count: int, handler: Handler = wait_for_the_end, *, slow: int | None = None, **options: Any
) -> AsyncIterator[Hall]:
    """So many connections to a server.

    Parameters:
        count: how many.
        handler: what each runs once it is accepted.
        slow: the number of one whose kernel keeps little of what its client does not read.
        options: of the server; ``headers`` are a list for each client's handshake, in turn.
    """
    headers: list[list[str]] = options.pop("headers", [[]])
    hall = Hall(handler)
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(hall.app, **options))
        for number in range(count):
            peer = websocket(
                server,
                "/",
                *headers[number % len(headers)],
                receive_buffer=SMALL_BUFFER if number == slow else None,
            )
            hall.peers.append(await stack.enter_async_context(peer))
            await until(lambda: len(hall.members) == len(hall.peers))
        yield hall


def pattern(size: int) -> bytes:
    """Bytes of which a piece that is missing, or in the wrong place, is seen; they are text too."""
    return (b"".join(b"%07d " % number for number in range(size // 8 + 1)))[:size]


# What is sent


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        ("text: é€😀", (TEXT, "text: é€😀".encode())),
        (b"\x00\xff", (BINARY, b"\x00\xff")),
        (bytearray(b"\x00\xff"), (BINARY, b"\x00\xff")),
        (memoryview(b"abcdef")[::2], (BINARY, b"ace")),
        (array.array("H", [1, 2]), (BINARY, array.array("H", [1, 2]).tobytes())),
        (PreparedMessage("prepared"), (TEXT, b"prepared")),
        (PreparedMessage(b"prepared"), (BINARY, b"prepared")),
    ],
    ids=["str", "bytes", "bytearray", "memoryview", "array", "prepared-text", "prepared-bytes"],
)
def test_text_is_text_and_every_buffer_is_binary(message: Any, frame: tuple[int, bytes]) -> None:
    async def main() -> None:
        async with gathered(3) as hall:
            await broadcast(hall.members, message)
            await hall.hear(frame)

    run(main())


def test_a_prepared_message_is_sent_as_often_as_it_is_given() -> None:
    async def main() -> None:
        message = PreparedMessage("again")
        async with gathered(3) as hall:
            for _ in range(5):
                await broadcast(hall.members, message)
            await hall.hear(*[(TEXT, b"again")] * 5)

    run(main())


def test_a_buffer_that_changes_afterwards_was_copied() -> None:
    async def main() -> None:
        data = bytearray(b"before")
        async with gathered(2) as hall:
            sending = broadcast(hall.members, data)
            data[:] = b"behind"
            await sending
            await hall.hear((BINARY, b"before"))

    run(main())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_messages_of_any_size(size: int, binary: bool) -> None:
    content = pattern(size)

    async def main() -> None:
        async with gathered(3) as hall:
            await broadcast(hall.members, content if binary else content.decode())
            await hall.hear((BINARY if binary else TEXT, content))
            await broadcast(hall.members, "next")
            await hall.hear((TEXT, b"next"))

    run(main())


@pytest.mark.parametrize("size", SIZES)
def test_messages_of_any_size_over_tls(size: int) -> None:
    content = pattern(size)
    hall = Hall(wait_for_the_end)

    async def main() -> None:
        async with serving(hall.app, ssl_context=server_tls()) as server:
            url = f"wss://localhost:{server.addresses[0][1]}/"
            async with (
                fastws.connect(url, ssl=client_tls(), proxy=None) as one,
                fastws.connect(url, ssl=client_tls(), proxy=None) as two,
            ):
                await until(lambda: len(hall.members) == 2)
                await broadcast(hall.members, content)
                await broadcast(hall.members, "next")
                for client in (one, two):
                    assert await client.receive_bytes(TIMEOUT) == content
                    assert await client.receive_text(TIMEOUT) == "next"

    run(main())


@pytest.mark.parametrize("message", [5, None, ["text"], object()])
def test_what_is_no_message_is_refused_even_if_nobody_is_there(message: Any) -> None:
    async def main() -> None:
        with pytest.raises(TypeError):
            _ = broadcast([], message)
        async with gathered(2) as hall:
            with pytest.raises(TypeError):
                _ = broadcast(hall.members, message)
            await broadcast(hall.members, "fine")
            await hall.hear((TEXT, b"fine"))

    run(main())


def test_a_lone_surrogate_is_refused_and_nobody_gets_any_of_it() -> None:
    async def main() -> None:
        async with gathered(3) as hall:
            with pytest.raises(ValueError, match="surrogate"):
                _ = broadcast(hall.members, "before \ud800 behind")
            await broadcast(hall.members, "fine")
            await hall.hear((TEXT, b"fine"))
            assert [ws._link.messages_sent for ws in hall.members] == [1, 1, 1]

    run(main())


# To whom


@pytest.mark.parametrize(
    "collect",
    [
        set,
        frozenset,
        list,
        tuple,
        dict.fromkeys,
        weakref.WeakSet,
        lambda members: (member for member in members),
        lambda members: {str(member.id): member for member in members}.values(),
    ],
    ids=["set", "frozenset", "list", "tuple", "dict", "WeakSet", "generator", "values"],
)
def test_everybody_in_any_collection_gets_it_once(
    collect: Callable[[list[WebSocket]], Iterable[WebSocket]],
) -> None:
    async def main() -> None:
        async with gathered(5) as hall:
            await broadcast(collect(hall.members), "once")
            await broadcast(hall.members, "and the next")
            await hall.hear((TEXT, b"once"), (TEXT, b"and the next"))

    run(main())


def test_to_nobody_it_does_nothing() -> None:
    async def main() -> None:
        await broadcast([], "silence")
        await broadcast(set(), b"silence")

    run(main())


def test_who_is_in_a_list_twice_gets_it_twice() -> None:
    async def main() -> None:
        async with gathered(1) as hall:
            await broadcast(hall.members * 2, "twice")
            await hall.hear((TEXT, b"twice"), (TEXT, b"twice"))

    run(main())


def test_a_set_may_change_once_the_call_has_returned() -> None:
    async def main() -> None:
        async with gathered(3) as hall:
            members = set(hall.members)
            sending = broadcast(members, "to three")
            members.clear()
            await sending
            await hall.hear((TEXT, b"to three"))

    run(main())


def test_a_set_that_handlers_leave_while_there_are_broadcasts() -> None:
    members: set[WebSocket] = set()

    async def handler(ws: WebSocket) -> None:
        members.add(ws)
        try:
            await wait_for_the_end(ws)
        finally:
            members.discard(ws)

    async def main() -> None:
        async with gathered(8, handler) as hall:
            staying, leaving = hall.peers[::2], hall.peers[1::2]
            count = 0
            for peer in leaving:
                peer.reset()
            while len(members) > len(staying):
                await broadcast(members, str(count))
                count += 1
                await asyncio.sleep(0)
            for peer in staying:
                await peer.expect(*((TEXT, b"%d" % number) for number in range(count)))

    run(main())


@pytest.mark.parametrize(
    "wrong", [5, "text", None, object()], ids=lambda wrong: type(wrong).__name__
)
def test_something_else_among_the_connections_is_named(wrong: Any) -> None:
    async def main() -> None:
        async with gathered(3) as hall:
            first, second, third = hall.members
            with pytest.raises(TypeError) as caught:
                _ = broadcast([first, second, wrong, third], "to two")
            assert str(caught.value) == (
                f"broadcast() sends to WebSockets, and there is a {type(wrong).__name__} among them"
            )
            await broadcast(hall.members, "to three")
            for peer in hall.peers[:2]:
                await peer.expect((TEXT, b"to two"), (TEXT, b"to three"))
            await hall.peers[2].expect((TEXT, b"to three"))

    run(main())


def test_a_connection_alone_is_no_collection() -> None:
    async def main() -> None:
        async with gathered(1) as hall:
            one: Any = hall.members[0]
            nothing: Any = None
            for wrong in (one, nothing):
                with pytest.raises(TypeError):
                    _ = broadcast(wrong, "x")
            await broadcast(hall.members, "fine")
            await hall.hear((TEXT, b"fine"))

    run(main())


def test_what_a_collection_raises_comes_out_and_nobody_gets_anything() -> None:
    async def main() -> None:
        async with gathered(2) as hall:

            def broken() -> Iterable[WebSocket]:
                yield from hall.members
                raise LookupError("broken")

            with pytest.raises(LookupError, match="broken"):
                _ = broadcast(broken(), "x")
            await broadcast(hall.members, "fine")
            await hall.hear((TEXT, b"fine"))

    run(main())


def test_a_call_from_another_thread_raises_and_sends_nothing() -> None:
    async def main() -> None:
        async with gathered(3) as hall:
            with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
                _ = await asyncio.to_thread(broadcast, hall.members, "from elsewhere")
            loop = asyncio.get_running_loop()
            await asyncio.to_thread(
                loop.call_soon_threadsafe, broadcast, hall.members, "as the error says"
            )
            await hall.hear((TEXT, b"as the error says"))

    run(main())


# Order


def test_broadcasts_and_sends_arrive_in_the_order_of_the_calls() -> None:
    async def main() -> None:
        async with gathered(4) as hall:
            for number in range(20):
                for ws in hall.members:
                    _ = ws.send_text(f"own {number}")
                _ = broadcast(hall.members, f"all {number}")
                for ws in hall.members[::-1]:
                    _ = ws.send_bytes(b"own too")
            for number in range(20):
                await hall.hear((TEXT, b"own %d" % number), (TEXT, b"all %d" % number))
                await hall.hear((BINARY, b"own too"))

    run(main())


def test_handlers_that_all_broadcast_are_heard_once_by_all_in_the_same_order() -> None:
    room: set[WebSocket] = set()
    count, each = 6, 30

    async def handler(ws: WebSocket) -> None:
        room.add(ws)
        async for text in ws.iter_text():
            await ws.send_text(f"you said {text}")
            await broadcast(room, text)

    async def main() -> None:
        async with gathered(count, handler) as hall:
            said = [[f"{number}/{index}" for index in range(each)] for number in range(count)]
            for peer, texts in zip(hall.peers, said, strict=True):
                await peer.send(b"".join(build(text.encode()) for text in texts))
            heard_by = []
            for own, peer in zip(said, hall.peers, strict=True):
                frames = [await peer.frame() for _ in range(each * (count + 1))]
                heard = [payload.decode() for _, payload in frames]
                for text in own:
                    # Its own answer goes out before everybody hears what it said.
                    assert heard.index(f"you said {text}") < heard.index(text)
                heard_by.append([text for text in heard if not text.startswith("you")])
            assert sorted(heard_by[0]) == sorted(text for texts in said for text in texts)
            assert heard_by == [heard_by[0]] * count
            for texts in said:
                assert [text for text in heard_by[0] if text in texts] == texts

    run(main())


def test_many_broadcasts_in_one_step_arrive_whole_and_in_order() -> None:
    # 0.6 MiB for each: what nobody could send meanwhile stays below --ws-max-backpressure.
    chosen = random.Random(5)
    sizes = [chosen.choice((0, 1, 125, 126, 3000, 8191, 8192, 20_000)) for _ in range(150)]
    contents = [b"%03d " % index + pattern(size) for index, size in enumerate(sizes)]

    async def main() -> None:
        async with gathered(30) as hall:
            for content in contents:
                _ = broadcast(hall.members, content)
            await hall.hear(*((BINARY, content) for content in contents))
            assert hall.ends == {}

    run(main())


# Awaiting it


def test_not_awaited_it_is_sent_nevertheless_and_awaiting_never_waits() -> None:
    async def main() -> None:
        async with gathered(2) as hall:
            _ = broadcast(hall.members, "not awaited")
            sending = broadcast(hall.members, "awaited")
            with pytest.raises(StopIteration) as caught:
                sending.send(None)
            assert caught.value.value is None
            await hall.hear((TEXT, b"not awaited"), (TEXT, b"awaited"))

    run(main())


def test_it_can_be_given_to_whatever_takes_a_coroutine() -> None:
    async def main() -> None:
        async with gathered(2) as hall:
            everybody = hall.members
            await asyncio.create_task(broadcast(everybody, "task"))
            await asyncio.gather(broadcast(everybody, "one"), broadcast(everybody, b"two"))
            await asyncio.wait_for(broadcast(everybody, "in time"), TIMEOUT)
            await asyncio.shield(broadcast(everybody, "shielded"))
            if sys.version_info >= (3, 11):
                async with asyncio.TaskGroup() as group:
                    group.create_task(broadcast(everybody, "group"))
            else:
                await broadcast(everybody, "group")
            words = [(TEXT, b"task"), (TEXT, b"one"), (BINARY, b"two"), (TEXT, b"in time")]
            await hall.hear(*words, (TEXT, b"shielded"), (TEXT, b"group"))

    run(main())


# Who is not there


async def lost(peer: Peer, ws: WebSocket) -> None:
    peer.reset()
    await until(lambda: ws.application_state.is_over)


async def left(peer: Peer, ws: WebSocket) -> None:
    await peer.send(close_frame(1001))
    await peer.ended()
    await until(lambda: ws.application_state.is_over)


async def answered(peer: Peer, ws: WebSocket) -> None:
    await peer.expect((CLOSE, b"\x0f\xa0"))
    await peer.send(close_frame(4000))
    await peer.rest()
    await until(lambda: ws.application_state.is_over)


@pytest.mark.parametrize("strict", [False, True], ids=["", "strict"])
@pytest.mark.parametrize("how", ["not accepted", "closing", "closed", "lost", "told", "left"])
def test_who_is_not_there_is_left_out_whoever_calls(how: str, strict: bool) -> None:
    missing: list[WebSocket] = []
    begun, speak, spoken, finish = (asyncio.Event() for _ in range(4))

    async def absent(ws: WebSocket) -> None:
        missing.append(ws)
        if how != "not accepted":
            await ws.accept()
        if how in ("closing", "closed"):
            _ = ws.close(4000)
        begun.set()
        await speak.wait()
        if how == "told":
            with pytest.raises(WebSocketDisconnect):
                await ws.receive_text()
        await broadcast([ws, *members], "own")
        await asyncio.create_task(broadcast([ws, *members], "own task"))
        spoken.set()
        await finish.wait()

    hall = Hall(wait_for_the_end)
    members = hall.members
    hall.app.strict_send = strict
    hall.app.websocket("/absent")(absent)

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(serving(hall.app, ws_close_timeout="200ms"))
            for _ in range(2):
                hall.peers.append(await stack.enter_async_context(websocket(server)))
            await until(lambda: len(members) == 2)
            peer = Peer(*await asyncio.open_connection(*server.addresses[0]))
            stack.push_async_callback(peer.close)
            await peer.send(handshake("/absent"))
            await asyncio.wait_for(begun.wait(), TIMEOUT)
            (ws,) = missing
            if how != "not accepted":
                assert status_of(await peer.head()) == 101
            ends = {"lost": lost, "told": lost, "left": left, "closed": answered}
            if how in ends:
                await ends[how](peer, ws)
            await broadcast([ws, *members], "first")
            await broadcast([*members, ws], "second")
            if how in ("lost", "left"):
                # Its handler has not been told; a strict application counts nothing as quiet.
                assert ws._link.dropped == (0 if strict else 2)
            if how == "not accepted":
                assert ws._link.dropped == 0
            speak.set()
            await asyncio.wait_for(spoken.wait(), TIMEOUT)
            finish.set()
            await until(lambda: ws.application_state.is_over)
            await broadcast([members[0], ws, members[1]], "last")
            words = [b"first", b"second", b"own", b"own task", b"last"]
            await hall.hear(*((TEXT, word) for word in words))
            assert ws._link.messages_sent == 0

    run(main())


def test_a_broadcast_does_not_tell_a_handler_of_its_own_end() -> None:
    # Its own send afterwards still is the one that raises.
    ready, speak = asyncio.Event(), asyncio.Event()
    told: list[WebSocketDisconnect] = []

    async def handler(ws: WebSocket) -> None:
        ready.set()
        await speak.wait()
        await broadcast([ws], "nobody hears this")
        try:
            await ws.send_text("nor this")
        except WebSocketDisconnect as error:
            told.append(error)

    async def main() -> None:
        async with gathered(1, handler) as hall:
            await asyncio.wait_for(ready.wait(), TIMEOUT)
            await lost(hall.peers[0], hall.members[0])
            speak.set()
            await until(lambda: told)
            assert told[0].code == 1006

    run(main())


# Who does not read


@pytest.mark.parametrize("mode", ["off", "shared", "dedicated"])
def test_who_does_not_read_is_cut_and_everybody_else_gets_everything(mode: str) -> None:
    chosen = random.Random(7)
    contents = [chosen.randbytes(16 * KIB) for _ in range(60)]
    slow = 2

    async def main() -> None:
        options: dict[str, Any] = {"ws_max_backpressure": 128 * KIB, "ws_per_message_deflate": mode}
        async with gathered(5, slow=slow, headers=[[DEFLATE]], **options) as hall:
            stuck = hall.members[slow]
            hall.peers[slow].stop_reading()
            # What the kernel takes for it is used up first.
            sent = 0
            while stuck._link.unsent_bytes == 0:
                _ = stuck.send_bytes(chosen.randbytes(16 * KIB))
                await asyncio.sleep(0)
                sent += 1
                assert sent < 1000
            others = [peer for peer in hall.peers if peer is not hall.peers[slow]]
            windows = [zlib.decompressobj(-15) for _ in others]
            everybody = set(hall.members)
            for content in contents:
                await broadcast(everybody, content)
                for peer, window in zip(others, windows, strict=True):
                    frame = await peer.read_frame()
                    assert frame.rsv == (0 if mode == "off" else 4)
                    if frame.rsv:
                        assert window.decompress(frame.payload + TAIL) == content
                    else:
                        assert frame.payload == content
            await until(lambda: stuck in hall.ends)
            error = hall.ends[stuck]
            assert isinstance(error, WebSocketDisconnect)
            assert error.code == 1013
            assert "ws-max-backpressure" in error.reason
            assert list(hall.ends) == [stuck]

    run(main())


def test_one_message_above_the_mark_is_no_reason_to_cut() -> None:
    content = pattern(4 * MIB)

    async def main() -> None:
        async with gathered(2, slow=0) as hall:
            _ = broadcast(hall.members, content)
            await hall.hear((BINARY, content))
            await broadcast(hall.members, "still here")
            await hall.hear((TEXT, b"still here"))

    run(main())


# Compression


@pytest.fixture
def compressions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the messages that have been compressed, in order."""
    sizes: list[int] = []
    compress = Deflater.compress

    def counting(self: Deflater, data: bytes) -> bytes:
        sizes.append(len(data))
        return compress(self, data)

    monkeypatch.setattr(Deflater, "compress", counting)
    return sizes


def inflated(frame: Frame) -> bytes:
    """The payload of a compressed frame that no other one is needed for."""
    assert (frame.opcode, frame.rsv, frame.fin) == (TEXT, 4, True)
    return zlib.decompress(frame.payload + TAIL + b"\x03\x00", -15)


def test_shared_compression_is_done_once_for_all(compressions: list[int]) -> None:
    content = pattern(20_000)

    async def main() -> None:
        async with gathered(8, ws_per_message_deflate="shared", headers=[[DEFLATE]]) as hall:
            message = PreparedMessage(content.decode())
            for _ in range(3):
                await broadcast(hall.members, message)
            assert compressions == [len(content)]
            frames = [await peer.read_frame() for peer in hall.peers for _ in range(3)]
            assert set(map(inflated, frames)) == {content}
            # The very bytes that the message keeps, by the server's default settings.
            made = message.frame(Deflater(12, False, 1, 5))
            assert made.endswith(frames[0].payload)
            assert made is message.frame(Deflater(12, False, 1, 5))
            assert compressions == [len(content)]
            await broadcast(hall.members, content.decode())
            assert compressions == [len(content)] * 2
            for peer in hall.peers:
                assert inflated(await peer.read_frame()) == content

    run(main())


def test_it_is_compressed_once_for_each_kind_of_receiver(compressions: list[int]) -> None:
    content = pattern(20_000)
    headers = [[DEFLATE], [], [f"{DEFLATE}; server_max_window_bits=9"]]

    async def main() -> None:
        options: dict[str, Any] = {"ws_per_message_deflate": "shared", "headers": headers}
        async with gathered(9, **options) as hall:
            await broadcast(hall.members, content.decode())
            assert compressions == [len(content)] * 2
            for number, peer in enumerate(hall.peers):
                if number % 3 == 1:
                    await peer.expect((TEXT, content))
                else:
                    assert inflated(await peer.read_frame()) == content

    run(main())


def test_dedicated_compression_stays_in_step_on_each_connection(compressions: list[int]) -> None:
    count = 4
    chosen = random.Random(11)
    words = [bytes(chosen.choices(b"abcdefgh", k=50)) for _ in range(60)]

    def text() -> bytes:
        return b" ".join(chosen.choices(words, k=60))

    async def main() -> None:
        # One that asked for no context is sent the shared frame among the others.
        headers = [[DEFLATE]] * (count - 1) + [[f"{DEFLATE}; server_no_context_takeover"]]
        options: dict[str, Any] = {"ws_per_message_deflate": "dedicated", "headers": headers}
        async with gathered(count, **options) as hall:
            sent: list[list[bytes]] = [[] for _ in range(count)]
            for _ in range(12):
                content = text()
                compressions.clear()
                await broadcast(hall.members, PreparedMessage(content.decode()))
                assert compressions == [len(content)] * count
                for own, ws in zip(sent, hall.members, strict=True):
                    own.append(content)
                    # A message of its own in between moves each window on differently.
                    own.append(text())
                    await ws.send_text(own[-1].decode())
                    await ws.send_text("below the threshold")
            for number, (own, peer) in enumerate(zip(sent, hall.peers, strict=True)):
                window = zlib.decompressobj(-15)
                for index, content in enumerate(own):
                    frame = await peer.read_frame()
                    assert (frame.opcode, frame.rsv) == (TEXT, 4)
                    if number == count - 1:
                        window = zlib.decompressobj(-15)
                    assert window.decompress(frame.payload + TAIL) == content
                    if index % 2:
                        await peer.expect((TEXT, b"below the threshold"))

    run(main())


@pytest.mark.parametrize("mode", ["shared", "dedicated"])
def test_below_the_threshold_nothing_is_compressed(mode: str, compressions: list[int]) -> None:
    async def main() -> None:
        options: dict[str, Any] = {"ws_per_message_deflate": mode, "ws_deflate_threshold": 500}
        async with gathered(3, headers=[[DEFLATE]], **options) as hall:
            await broadcast(hall.members, "x" * 499)
            await broadcast(hall.members, "")
            assert compressions == []
            await hall.hear((TEXT, b"x" * 499), (TEXT, b""))
            await broadcast(hall.members, "x" * 500)
            for peer in hall.peers:
                assert inflated(await peer.read_frame()) == b"x" * 500

    run(main())


def test_a_threshold_of_nothing_compresses_an_empty_message_too() -> None:
    async def main() -> None:
        options: dict[str, Any] = {"ws_per_message_deflate": "shared", "ws_deflate_threshold": 0}
        async with gathered(2, headers=[[DEFLATE]], **options) as hall:
            await broadcast(hall.members, "")
            for peer in hall.peers:
                assert inflated(await peer.read_frame()) == b""

    run(main())


# Clients as receivers


@pytest.mark.parametrize("compression", ["off", "shared", "dedicated"])
def test_clients_are_sent_masked_frames_that_their_server_accepts(compression: str) -> None:
    heard: dict[WebSocket, list[str | bytes]] = {}
    contents: list[str | bytes] = [pattern(size) for size in SIZES]
    contents += [pattern(size).decode() for size in SIZES]
    app = FastWS()

    @app.websocket("/")
    async def listener(ws: WebSocket) -> None:
        await ws.accept()
        heard[ws] = []
        async for message in ws:
            heard[ws].append(message)

    async def main() -> None:
        async with serving(app, ws_per_message_deflate=compression) as server:
            host, port = server.addresses[0]
            options: dict[str, Any] = {"proxy": None, "compression": compression}
            async with contextlib.AsyncExitStack() as stack:
                opening = [fastws.connect(f"ws://{host}:{port}/", **options) for _ in range(3)]
                clients = [await stack.enter_async_context(each) for each in opening]
                await until(lambda: len(heard) == 3)
                for content in contents:
                    await broadcast(clients, content)
                    # The server's end as well, and both at once.
                    await broadcast([*heard, *clients], "to both")
                for client in clients:
                    for _ in contents:
                        assert await client.receive_text(TIMEOUT) == "to both"
                await until(lambda: all(len(each) == 2 * len(contents) for each in heard.values()))
                for each in heard.values():
                    assert each[::2] == contents
                    assert each[1::2] == ["to both"] * len(contents)
            # Closed, they are left out.
            await broadcast(clients, "late")
            assert [client.close_code for client in clients] == [1000] * 3

    run(main())


# Figures


@pytest.mark.parametrize("mode", ["off", "shared", "dedicated"])
def test_each_receiver_counts_the_message_and_its_bytes_uncompressed(mode: str) -> None:
    hall = Hall(wait_for_the_end)

    async def main() -> None:
        options: dict[str, Any] = {"ws_per_message_deflate": mode, "metrics": "/metrics"}
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(serving(hall.app, **options))
            for _ in range(3):
                peer = websocket(server, "/", DEFLATE)
                hall.peers.append(await stack.enter_async_context(peer))
            await until(lambda: len(hall.members) == 3)
            await broadcast(hall.members, "é€")
            await broadcast(hall.members[:2], pattern(5000))
            counts = [(ws._link.messages_sent, ws._link.bytes_sent) for ws in hall.members]
            assert counts == [(2, 5005), (2, 5005), (1, 5)]
            figures = await scrape(server)
            assert figures["fastws_messages_total", "sent"] == 5
            assert figures["fastws_message_bytes_total", "sent"] == 2 * 5005 + 5

    run(main())


# Under other servers


@contextlib.asynccontextmanager
async def gathered_elsewhere(server: str, count: int, hall: Hall) -> AsyncIterator[Elsewhere]:
    """So many connections to ``hall`` under another server, with another project's client."""
    async with running(hall.app, server) as address, contextlib.AsyncExitStack() as stack:
        opener, before = Client(address, server), len(hall.members)
        clients: list[ClientConnection] = []
        for number in range(count):
            opening = opener.open("/", max_size=None, max_queue=None, compression=None)
            clients.append(await stack.enter_async_context(opening))
            await until(lambda: len(hall.members) == before + number + 1)  # noqa: B023
        yield opener, clients


Elsewhere = tuple[Client, list[ClientConnection]]

other_servers = pytest.mark.parametrize("server", ASGI_SERVERS)


async def heard_from(client: ClientConnection) -> str | bytes:
    return await asyncio.wait_for(client.recv(), TIMEOUT)


@other_servers
def test_other_servers_send_every_kind_and_size(server: str) -> None:
    contents: list[str | bytes] = [pattern(size) for size in SIZES]
    contents += ["é€😀", pattern(70_000).decode()]

    async def main() -> None:
        hall = Hall(wait_for_the_end)
        async with gathered_elsewhere(server, 3, hall) as (_, clients):
            for content in contents:
                await broadcast(set(hall.members), content)
            await broadcast((ws for ws in hall.members), memoryview(b"buffer"))
            message = PreparedMessage("prepared")
            await broadcast(hall.members, message)
            await broadcast(hall.members, message)
            for client in clients:
                for content in [*contents, b"buffer", "prepared", "prepared"]:
                    assert await heard_from(client) == content

    run(main())


@other_servers
def test_other_servers_and_this_one_in_one_set(server: str) -> None:
    async def main() -> None:
        hall = Hall(wait_for_the_end)
        async with (
            serving(hall.app) as own,
            websocket(own) as first,
            gathered_elsewhere(server, 2, hall) as (_, clients),
            websocket(own) as last,
        ):
            await until(lambda: len(hall.members) == 4)
            members = set(hall.members)
            sending = broadcast(members, "to all")
            members.clear()
            # This server's are sent it by the call, the others when it is awaited.
            for peer in (first, last):
                await peer.expect((TEXT, b"to all"))
            await sending
            await broadcast(hall.members, b"and again")
            for peer in (first, last):
                await peer.expect((BINARY, b"and again"))
            for client in clients:
                assert [await heard_from(client) for _ in range(2)] == ["to all", b"and again"]

    run(main())


@other_servers
def test_under_other_servers_who_is_not_there_is_left_out_whoever_calls(server: str) -> None:
    absent: list[WebSocket] = []
    begun, speak, spoken = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def main() -> None:
        hall = Hall(wait_for_the_end)

        @hall.app.websocket("/unaccepted")
        async def unaccepted(ws: WebSocket) -> None:
            absent.append(ws)
            begun.set()
            await speak.wait()
            await broadcast([ws, *hall.members], "from who is not accepted")
            await ws.accept()
            await ws.close(4000)
            await broadcast([ws, *hall.members], "from who has closed")
            spoken.set()

        async with gathered_elsewhere(server, 3, hall) as (opener, clients):
            dying = hall.members[1]

            async def open_and_read() -> None:
                async with opener.open("/unaccepted") as client:
                    await client.wait_closed()

            opening = asyncio.create_task(open_and_read())
            await asyncio.wait_for(begun.wait(), TIMEOUT)
            kill(clients[1])
            # Both before the server has found out, and after it has.
            await broadcast([*absent, *hall.members], "first")
            await until(lambda: dying in hall.ends)
            await broadcast([*absent, *hall.members], "second")
            speak.set()
            await asyncio.wait_for(spoken.wait(), TIMEOUT)
            await asyncio.wait_for(opening, TIMEOUT)
            await broadcast([*absent, *hall.members], "last")
            words = ["first", "second", "from who is not accepted", "from who has closed", "last"]
            for client in (clients[0], clients[2]):
                assert [await heard_from(client) for _ in words] == words
            assert list(hall.ends) == [dying]

    run(main())


def test_under_another_server_awaiting_waits_for_the_slowest_and_holds_up_nobody() -> None:
    content = pattern(24 * MIB)

    async def main() -> None:
        hall = Hall(wait_for_the_end)
        async with gathered_elsewhere("uvicorn-websockets", 3, hall) as (_, clients):
            silence(clients[0])

            async def speak() -> None:
                # This server waits before it writes, if what it wrote before is still unsent.
                await broadcast(hall.members, content)
                await broadcast(hall.members, "next")

            sending = asyncio.create_task(speak())
            for client in clients[1:]:
                assert await heard_from(client) == content
                assert await heard_from(client) == "next"
            assert not sending.done()
            assert hasattr(clients[0].transport, "resume_reading")
            clients[0].transport.resume_reading()
            assert await heard_from(clients[0]) == content
            assert await heard_from(clients[0]) == "next"
            await asyncio.wait_for(sending, TIMEOUT)

    run(main())


@other_servers
def test_under_other_servers_what_is_wrong_is_told_at_the_call(server: str) -> None:
    async def main() -> None:
        hall = Hall(wait_for_the_end)
        wrong: Any = 5
        async with gathered_elsewhere(server, 2, hall) as (_, clients):
            with pytest.raises(TypeError, match="there is a int among them"):
                _ = broadcast([*hall.members, wrong], "x")
            with pytest.raises(TypeError):
                _ = broadcast(hall.members, wrong)
            with pytest.raises(ValueError, match="surrogate"):
                _ = broadcast(hall.members, "\ud800")
            await broadcast(hall.members, "fine")
            for client in clients:
                assert await heard_from(client) == "fine"

    run(main())


def test_a_prepared_message_without_its_init_reaches_nobody() -> None:
    async def main() -> None:
        async with gathered(2) as hall:
            hollow = PreparedMessage.__new__(PreparedMessage)
            with pytest.raises(TypeError, match="without calling its __init__"):
                _ = broadcast(hall.members, hollow)
            assert [ws._link.messages_sent for ws in hall.members] == [0, 0]
            await broadcast(hall.members, "fine")
            await hall.hear((TEXT, b"fine"))

    run(main())


def test_a_buffer_that_changes_behind_the_call_is_sent_as_it_was() -> None:
    data = bytearray(b"before")
    prepared = PreparedMessage(data)
    data[:] = b"behind"
    assert prepared.data == b"before"

    async def main() -> None:
        async with gathered(1) as hall:
            again = bytearray(b"before")
            send = broadcast(hall.members, again)
            again[:] = b"behind"
            await send
            await broadcast(hall.members, prepared)
            await hall.hear((BINARY, b"before"), (BINARY, b"before"))

    run(main())
