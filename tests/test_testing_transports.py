"""TCP in memory behaves as TCP does."""

from __future__ import annotations

import asyncio
import contextvars
import errno
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fastws.testing.transports import WINDOW, MemoryTransport, transport_pair
from tests.support import run


class End(asyncio.Protocol):
    """What happens at one end."""

    def __init__(self, *, stays: bool = False) -> None:
        self.events: list[Any] = []
        self.data = b""
        self._stays = stays

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.events.append("eof")
        return self._stays

    def connection_lost(self, error: Exception | None) -> None:
        self.events.append(type(error) if error else "lost")

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


Test = Callable[[MemoryTransport, MemoryTransport, End, End], Coroutine[Any, Any, None]]


def connected(test: Test, *, stays: bool = False) -> None:
    async def main() -> None:
        here, there = transport_pair(
            asyncio.get_running_loop(),
            contextvars.copy_context(),
            lambda: None,
            ("192.0.2.1", 1),
            ("192.0.2.2", 2),
        )
        a, b = End(stays=stays), End(stays=stays)
        here.set_protocol(a)
        there.set_protocol(b)
        await test(here, there, a, b)

    run(main())


def test_addresses_are_those_of_the_two_ends() -> None:
    async def test(here: MemoryTransport, there: MemoryTransport, a: End, b: End) -> None:
        assert here.get_extra_info("peername") == there.get_extra_info("sockname")
        assert here.get_extra_info("sockname") == there.get_extra_info("peername")
        assert here.get_extra_info("socket") is None
        assert here.get_protocol() is a

    connected(test)


def test_bytes_arrive_in_order_and_in_a_later_step() -> None:
    async def test(here: MemoryTransport, there: MemoryTransport, a: End, b: End) -> None:
        here.write(b"one ")
        here.write(bytearray(b"two "))
        here.writelines([b"three ", memoryview(b"four")])
        there.write(b"back")
        assert b.data == b""
        await settle()
        assert (a.data, b.data) == (b"back", b"one two three four")
        big = bytes(range(256)) * 4096
        here.write(big)
        await settle()
        assert b.data[18:] == big
        assert there.received == b.data

    connected(test)


def test_a_reader_that_pauses_fills_the_writers_buffer() -> None:
    async def test(here: MemoryTransport, there: MemoryTransport, a: End, b: End) -> None:
        there.pause_reading()
        assert not there.is_reading()
        here.set_write_buffer_limits(high=1000)
        assert here.get_write_buffer_limits() == (250, 1000)
        here.write(bytes(WINDOW))
        assert here.get_write_buffer_size() == 0
        here.write(bytes(1000))
        assert a.events == []
        here.write(b"x")
        assert (here.get_write_buffer_size(), a.events) == (1001, ["pause"])
        await settle()
        assert b.data == b""
        there.resume_reading()
        await settle()
        assert len(b.data) == WINDOW + 1001
        assert a.events == ["pause", "resume"]

    connected(test)


def test_a_reader_that_stalls_lets_nothing_in() -> None:
    async def test(here: MemoryTransport, there: MemoryTransport, a: End, b: End) -> None:
        there.stall()
        here.write(b"x")
        await settle()
        assert (here.get_write_buffer_size(), b.data) == (1, b"")
        there.unstall()
        await settle()
        assert (here.get_write_buffer_size(), b.data) == (0, b"x")

    connected(test)


def test_write_buffer_limits_that_make_no_sense_are_refused() -> None:
    async def test(here: MemoryTransport, there: MemoryTransport, a: End, b: End) -> None:
        with pytest.raises(ValueError, match="high >= low"):
            here.set_write_buffer_limits(1, 2)
        here.set_write_buffer_limits(low=10)
        assert here.get_write_buffer_limits() == (10, 40)
        with pytest.raises(TypeError, match="str"):
            here.write("text")  # type: ignore[arg-type]

    connected(test)


def test_half_closed_connections_go_on_in_the_other_direction() -> None:
    async def test(here: MemoryTransport, there: MemoryTransport, a: End, b: End) -> None:
        here.write(b"question")
        here.write_eof()
        here.write_eof()
        with pytest.raises(RuntimeError):
            here.write(b"more")
        await settle()
        assert (b.data, b.events) == (b"question", ["eof"])
        there.write(b"answer")
        there.close()
        await settle()
        assert (a.data, a.events, b.events) == (b"answer", ["eof"], ["eof", "lost"])

    connected(test, stays=True)


def test_closing_sends_what_is_unsent_and_then_an_eof() -> None:
    async def test(here: MemoryTransport, there: MemoryTransport, a: End, b: End) -> None:
        there.stall()
        here.write(b"last")
        here.close()
        here.close()
        here.write(b"ignored")
        await settle()
        assert (a.events, here.is_closing()) == ([], True)
        there.unstall()
        await settle()
        assert b.data == b"last"
        assert (a.events, b.events) == (["lost"], ["eof", "lost"])

    connected(test)


def test_aborting_forgets_what_is_unsent() -> None:
    async def test(here: MemoryTransport, there: MemoryTransport, a: End, b: End) -> None:
        there.stall()
        here.write(b"unsent")
        here.abort()
        here.abort()
        there.unstall()
        await settle()
        assert (b.data, a.events, b.events) == (b"", ["lost"], ["eof", "lost"])

    connected(test)


def test_closing_with_bytes_unread_resets() -> None:
    async def test(here: MemoryTransport, there: MemoryTransport, a: End, b: End) -> None:
        there.pause_reading()
        here.write(b"unread")
        there.close()
        await settle()
        assert (a.events, b.events) == ([ConnectionResetError], ["lost"])

    connected(test)


def test_writing_to_a_peer_that_has_closed_resets() -> None:
    async def test(here: MemoryTransport, there: MemoryTransport, a: End, b: End) -> None:
        there.close()
        await settle()
        assert a.events == ["eof"]
        here.write(b"into the void")
        await settle()
        assert a.events == ["eof", ConnectionResetError]

    connected(test, stays=True)


@pytest.mark.parametrize("writes", [False, True])
def test_a_reset_ends_the_peer_once_it_reads_or_writes(writes: bool) -> None:
    async def test(here: MemoryTransport, there: MemoryTransport, a: End, b: End) -> None:
        there.pause_reading()
        here.reset()
        here.reset()
        await settle()
        assert (a.events, b.events, here.is_lost) == (["lost"], [], True)
        if writes:
            there.write(b"x")
        else:
            there.resume_reading()
        await settle()
        assert b.events == [ConnectionResetError]

    connected(test)


def test_a_reset_ends_a_peer_that_is_closing() -> None:
    async def test(here: MemoryTransport, there: MemoryTransport, a: End, b: End) -> None:
        here.stall()
        there.write(b"unsent")
        there.close()
        here.reset()
        await settle()
        assert b.events == [ConnectionResetError]

    connected(test)


def test_what_is_sent_to_a_peer_that_has_vanished_goes_nowhere() -> None:
    async def test(here: MemoryTransport, there: MemoryTransport, a: End, b: End) -> None:
        here.vanish()
        here.vanish()
        await settle()
        assert (a.events, b.events, here.is_silent) == (["lost"], [], True)
        there.write(bytes(WINDOW + 1))
        await settle()
        # As much as the kernel takes; no more.
        assert (there.get_write_buffer_size(), b.events) == (1, [])
        there.give_up()
        await settle()
        assert b.events == [TimeoutError]
        assert there._error is not None
        assert there._error.errno == errno.ETIMEDOUT

    connected(test)
