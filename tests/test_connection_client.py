"""The client's end of a compiled connection, against a peer that follows no rule by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastws import WebSocketClosed, WebSocketDisconnect, WebSocketState
from fastws._channel import Channel
from fastws._connection import Connection
from fastws._timers import TimerWheel
from fastws.deflate import DeflateParameters, deflater_for, inflater_for
from fastws.handshake import check_upgrade
from fastws.http_head import parse_request
from fastws.limits import DeflateOptions, Limits
from fastws.protocol import Protocol
from tests.connections import until
from tests.robustness.client import BINARY, CLOSE, PING, PONG, TEXT, Peer, build
from tests.serving import handshake
from tests.support import TIMEOUT, run
from tests.wire import apply_mask

SHORT = TIMEOUT / 25

DEFLATE = DeflateOptions(threshold=1)


class ServerPeer(Peer):
    """The server's end; its frames are not masked, those that it reads are."""

    keys: list[bytes]

    async def masked_frame(self) -> tuple[int, bytes]:
        """The opcode and the payload of the next frame, which is whole and masked."""
        first, second = await self.exactly(2)
        assert first & 0xF0 == 0x80, "a fragment, or a reserved bit"
        assert second & 0x80, "a client masks every frame"
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await self.exactly(2 if size == 126 else 8), "big")
        key = await self.exactly(4)
        self.keys.append(key)
        return first & 0x0F, apply_mask(await self.exactly(size), key)

    async def expect_masked(self, *frames: tuple[int, bytes]) -> None:
        for frame in frames:
            assert await self.masked_frame() == frame


def plain(payload: bytes, opcode: int = TEXT) -> bytes:
    """A frame as a server sends it."""
    return build(payload, opcode, masked=False)


def closing(code: int) -> bytes:
    return plain(code.to_bytes(2, "big"), CLOSE)


@contextlib.asynccontextmanager
async def dialled(
    early: bytes = b"", deflated: bool = False, **limits: Any
) -> AsyncIterator[tuple[Channel, ServerPeer]]:
    """The two ends of a connection whose opening handshake is done, the client's first.

    Parameters:
        early: what the server sent behind its response.
        deflated: permessage-deflate was negotiated.
        limits: of the client.
    """
    loop = asyncio.get_running_loop()
    accepted: asyncio.Queue[ServerPeer] = asyncio.Queue()

    def on_accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = ServerPeer(reader, writer)
        peer.keys = []
        accepted.put_nowait(peer)

    server = await asyncio.start_server(on_accept, "127.0.0.1", 0)
    transport, _ = await loop.create_connection(
        asyncio.Protocol, *server.sockets[0].getsockname()[:2]
    )
    connection = Connection(transport, None, b"", timers=TimerWheel(loop), limits=Limits(**limits))
    if deflated:
        agreed = DeflateParameters(False, False)
        connection.start_client(
            early,
            inflater=inflater_for(agreed, client=True),
            deflater=deflater_for(agreed, DEFLATE, client=True),
            threshold=DEFLATE.threshold,
        )
    else:
        connection.start_client(early, subprotocol="chat")
    peer = await asyncio.wait_for(accepted.get(), TIMEOUT)
    try:
        yield Channel(connection), peer
    finally:
        connection.abort()
        await peer.close()
        server.close()
        await server.wait_closed()


def test_frames_are_masked_each_with_a_key_of_its_own() -> None:
    async def main() -> None:
        async with dialled() as (ws, peer):
            await ws.send_text("one")
            await ws.send_bytes(bytes(70_000))
            await peer.expect_masked((TEXT, b"one"), (BINARY, bytes(70_000)))
            # Answers to one read go out in one write.
            await peer.send(plain(b"q") * 40)
            for number in range(40):
                assert await ws.receive_text() == "q"
                await ws.send_text(f"answer {number}")
            for number in range(40):
                assert await peer.masked_frame() == (TEXT, b"answer %d" % number)
            assert len(set(peer.keys)) == 42

    run(main())


def test_early_frames_come_first() -> None:
    async def main() -> None:
        async with dialled(plain(b"early") + plain(b"tw")[:3]) as (ws, peer):
            assert ws.subprotocol == "chat"
            assert await ws.receive_text() == "early"
            await peer.send(plain(b"tw")[3:])
            assert await ws.receive_text() == "tw"

    run(main())


def test_a_masked_frame_of_the_server_is_1002() -> None:
    async def main() -> None:
        async with dialled() as (ws, peer):
            await peer.send(plain(b"good") + build(b"bad"))
            assert await ws.receive_text() == "good"
            with pytest.raises(WebSocketDisconnect) as caught:
                await ws.receive_text()
            assert caught.value.code == 1002
            opcode, payload = await peer.masked_frame()
            assert (opcode, payload[:2]) == (CLOSE, b"\x03\xea")
            # A client that has failed the connection may end TCP first (section 7.1.7).
            assert await peer.rest() == b""

    run(main())


def test_messages_go_compressed_both_ways() -> None:
    async def main() -> None:
        agreed = DeflateParameters(False, False)
        server = Protocol(
            inflater=inflater_for(agreed, client=False),
            deflater=deflater_for(agreed, DEFLATE, client=False),
            threshold=1,
        )
        async with dialled(deflated=True) as (ws, peer):
            for message in ("spam " * 100, "spam " * 101):
                await ws.send_text(message)
                received: list[Any] = []
                while not received:
                    received = server_reads(server, await peer.reader.read(1000))
                assert received == [message]
                server.send_text(message)
                await peer.send(b"".join(server.data_to_send()))
                assert await ws.receive_text() == message

    def server_reads(server: Protocol, data: bytes) -> list[Any]:
        server.receive_data(data)
        return server.events_received()

    run(main())


def test_close_waits_for_the_server_to_end_tcp() -> None:
    async def main() -> None:
        async with dialled() as (ws, peer):
            waiting = asyncio.ensure_future(ws.close(1000, "done"))
            await peer.expect_masked((CLOSE, b"\x03\xe8done"))
            await peer.send(closing(1000))
            await until(lambda: ws.client_state is WebSocketState.DISCONNECTED)
            assert not waiting.done()
            assert not peer.reader.at_eof()
            await peer.close()
            await asyncio.wait_for(waiting, TIMEOUT)
            assert ws.close_code == 1000
            with pytest.raises(WebSocketClosed):
                await ws.send_text("late")

    run(main())


@pytest.mark.parametrize("answers", [True, False])
def test_close_waits_no_longer_than_close_timeout(answers: bool) -> None:
    async def main() -> None:
        async with dialled(close_timeout=SHORT) as (ws, peer):
            waiting = asyncio.ensure_future(ws.close())
            await peer.expect_masked((CLOSE, b"\x03\xe8"))
            if answers:
                await peer.send(closing(1000))
            await asyncio.wait_for(waiting, TIMEOUT)
            assert ws.close_code == (1000 if answers else 1006)

    run(main())


def test_the_servers_close_is_answered_and_the_server_ends_tcp() -> None:
    async def main() -> None:
        async with dialled() as (ws, peer):
            await peer.send(plain(b"last") + closing(4001))
            assert await ws.receive_text() == "last"
            with pytest.raises(WebSocketDisconnect) as caught:
                await ws.receive_text()
            assert caught.value.code == 4001
            await peer.expect_masked((CLOSE, b"\x0f\xa1"))
            # No task is there to be told: a send raises, whoever sends.
            with pytest.raises(WebSocketDisconnect):
                await ws.send_text("late")
            await peer.send(plain(b"ignored"))
            assert not peer.reader.at_eof()
            peer.half_close()
            assert await peer.rest() == b""

    run(main())


@pytest.mark.parametrize("how", ["eof", "reset"])
def test_lost_tcp_is_1006_after_the_messages_that_had_arrived(how: str) -> None:
    async def main() -> None:
        async with dialled() as (ws, peer):
            await peer.send(plain(b"one") + plain(b"two"))
            assert await ws.receive_text() == "one"
            await (peer.close() if how == "eof" else asyncio.sleep(0))
            if how == "reset":
                peer.reset()
            assert await ws.receive_text() == "two"
            for _ in range(2):
                with pytest.raises(WebSocketDisconnect) as caught:
                    await ws.receive_text()
                assert caught.value.code == 1006

    run(main())


def test_a_silent_server_is_pinged_and_ended() -> None:
    async def main() -> None:
        async with dialled(ping_interval=SHORT, ping_timeout=SHORT) as (ws, peer):
            opcode, payload = await peer.masked_frame()
            assert opcode == PING
            await peer.send(plain(payload, PONG))
            assert (await peer.masked_frame())[0] == PING
            with pytest.raises(WebSocketDisconnect) as caught:
                await ws.receive_text()
            assert caught.value.code == 1011

    run(main())


def test_ping_and_the_answer_to_a_ping() -> None:
    async def main() -> None:
        async with dialled() as (ws, peer):
            waiting = asyncio.ensure_future(ws.ping(b"mine"))
            await peer.expect_masked((PING, b"mine"))
            await peer.send(plain(b"theirs", PING) + plain(b"mine", PONG))
            assert 0 <= await asyncio.wait_for(waiting, TIMEOUT) < TIMEOUT
            await peer.expect_masked((PONG, b"theirs"))

    run(main())


def test_a_server_that_does_not_read_holds_a_send_up() -> None:
    async def main() -> None:
        async with dialled(write_limit=64 * 1024) as (ws, peer):
            peer.stop_reading()
            sending = asyncio.ensure_future(send_much(ws))
            await until(lambda: ws._link.unsent_bytes > 64 * 1024)
            assert not sending.done()
            assert hasattr(peer.transport, "resume_reading")
            peer.transport.resume_reading()
            for _ in range(64):
                assert await peer.masked_frame() == (BINARY, bytes(256 * 1024))
            await asyncio.wait_for(sending, TIMEOUT)

    async def send_much(ws: Channel) -> None:
        for _ in range(64):
            await ws.send_bytes(bytes(256 * 1024))

    run(main())


def test_what_only_a_server_can_do_raises() -> None:
    async def main() -> None:
        async with dialled() as (ws, peer):
            with pytest.raises(RuntimeError, match="accepted already"):
                _ = ws.accept()
            with pytest.raises(RuntimeError, match="accepted or refused"):
                _ = ws.send_denial_response(403)
            with pytest.raises(RuntimeError, match="once"):
                ws._link.start_client()
            ws._link.shutdown(1001, "bye")
            await peer.expect_masked((CLOSE, b"\x03\xe9bye"))

    run(main())


def test_start_client_is_not_for_a_servers_end() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        head = handshake()
        upgrade = check_upgrade(parse_request(head))
        connection = Connection(
            asyncio.Transport(), upgrade, head, timers=TimerWheel(loop), limits=Limits()
        )
        with pytest.raises(RuntimeError, match=r"start\(\)"):
            connection.start_client()

    run(main())


def test_the_server_closes_while_the_client_does() -> None:
    async def main() -> None:
        async with dialled() as (ws, peer):
            waiting = asyncio.ensure_future(ws.close(4000))
            await peer.send(closing(4001))
            await peer.expect_masked((CLOSE, b"\x0f\xa0"))
            peer.half_close()
            await asyncio.wait_for(waiting, TIMEOUT)
            assert await peer.rest() == b""
            assert ws.close_code == 4001

    run(main())
