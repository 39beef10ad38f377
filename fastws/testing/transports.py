"""TCP in memory: two transports, each the other's peer, with the faults that TCP has.

What is modelled: flow control on both sides (a receive window, a write buffer with its marks),
half-close, RST, a peer that falls silent. Bytes arrive in a later step of the loop, and those of
several writes may arrive together. As with the kernel, closing with bytes unread sends a RST, and
so does a write to a peer that has closed.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from contextvars import Context
from typing import Any

__all__ = ["MemoryTransport", "transport_pair"]

WINDOW = 64 * 1024
"""Bytes that the far end takes in before somebody reads them."""

READ_SIZE = 256 * 1024
"""Most bytes that a protocol gets at once."""


class MemoryTransport(asyncio.Transport):
    """One end of a connection in memory; made by :func:`transport_pair`."""

    peer: MemoryTransport

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: Context,
        stir: Callable[[], object],
        extra: dict[str, Any],
    ) -> None:
        super().__init__(extra)
        self._loop = loop
        self._context = context
        self._stir = stir
        self._protocol: asyncio.BaseProtocol | None = None
        self._high, self._low = WINDOW, WINDOW // 4
        self._write_paused = False
        self._read_paused = False
        self._unsent = bytearray()  # the write buffer
        self._unread = bytearray()  # what has arrived
        self._swallowed = 0  # bytes sent to a peer that is no longer there
        self._stalled = False  # nothing is read, and no more is let in
        self._silent = False  # this end has vanished without a word
        self._eof_written = False
        self._eof_sent = False
        self._eof_arrived = False
        self._eof_told = False
        self._error: OSError | None = None  # what has arrived in the place of an EOF
        self._closing = False
        self._lost = False
        self._reading_soon = False
        self.received = bytearray()
        """Everything that the protocol was given."""

    # asyncio.BaseTransport

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if not self._unsent:
            self._lose_soon(None)

    # asyncio.ReadTransport

    def is_reading(self) -> bool:
        return not self._read_paused and not self._closing

    def pause_reading(self) -> None:
        self._read_paused = True

    def resume_reading(self) -> None:
        self._read_paused = False
        self._read_soon()

    # asyncio.WriteTransport

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = WINDOW if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high is {high} and low is {low}: expected high >= low >= 0")
        self._high, self._low = high, low
        self._check_buffer()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"write() takes bytes, not {type(data).__name__}")
        if self._eof_written:
            raise RuntimeError("cannot write() after write_eof()")
        if self._closing or not data:
            return
        self._unsent += data
        self._send()
        self._check_buffer()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._closing or self._eof_written:
            return
        self._eof_written = True
        self._send()

    def abort(self) -> None:
        self._closing = True
        self._unsent.clear()
        self._lose_soon(None)

    # Faults

    def stall(self) -> None:
        """Let nothing in any more, and read nothing of what is there."""
        self._stalled = True

    def unstall(self) -> None:
        """Go on reading."""
        self._stalled = False
        self._read_soon()
        self.peer._send()

    def reset(self) -> None:
        """End with a RST in the place of a FIN."""
        if self._lost:
            return
        self._eof_sent = True
        self.peer._fail_soon(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))
        self.abort()

    def vanish(self) -> None:
        """End without telling the peer: what it sends from now on goes nowhere."""
        if self._lost:
            return
        self._silent = True
        self.abort()

    def give_up(self) -> None:
        """What the kernel does in the end about a peer that has vanished."""
        self._fail_soon(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))

    @property
    def is_silent(self) -> bool:
        """Whether this end has vanished."""
        return self._silent

    @property
    def is_lost(self) -> bool:
        """Whether this end is closed."""
        return self._lost

    # Sending

    def _room(self) -> int:
        """How many bytes this end lets in."""
        return 0 if self._stalled else max(0, WINDOW - len(self._unread))

    def _send(self) -> None:
        """Move on what the peer lets in, then the EOF or the end."""
        peer = self.peer
        if self._lost:
            return
        if self._error is not None and self._unsent:
            # The kernel tells a writer at once.
            self._lose_soon(self._error)
            return
        if peer._silent:
            count = min(len(self._unsent), WINDOW - self._swallowed)
            self._swallowed += count
            del self._unsent[:count]
        elif peer._lost and self._unsent:
            self._unsent.clear()
            self._fail_soon(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))
        else:
            count = min(len(self._unsent), peer._room())
            if count:
                peer._unread += self._unsent[:count]
                del self._unsent[:count]
                peer._read_soon()
        if not self._unsent:
            if self._eof_written:
                self._send_eof()
            if self._closing:
                self._lose_soon(None)
        self._check_buffer()

    def _send_eof(self) -> None:
        if not self._eof_sent:
            self._eof_sent = True
            if not self._silent:
                self.peer._eof_arrived = True
                self.peer._read_soon()

    def _check_buffer(self) -> None:
        if self._protocol is None or self._lost:
            return
        if not self._write_paused and len(self._unsent) > self._high:
            self._write_paused = True
            self._protocol.pause_writing()
        elif self._write_paused and len(self._unsent) <= self._low:
            self._write_paused = False
            self._protocol.resume_writing()

    # Receiving

    def _fail_soon(self, error: OSError) -> None:
        if self._error is None:
            self._error = error
            self._read_soon()

    def _read_soon(self) -> None:
        if self._reading_soon or self._lost:
            return
        if self._unread or self._error is not None or (self._eof_arrived and not self._eof_told):
            self._reading_soon = True
            self._loop.call_soon(self._read, context=self._context)

    def _read(self) -> None:
        self._reading_soon = False
        if self._closing and self._error is not None:
            # What it waits to write will not be taken.
            self._lose(self._error)
        if self._lost or self._read_paused or self._stalled or self._closing:
            return
        self._stir()
        # Any: a compiled protocol need not derive from asyncio's.
        protocol: Any = self._protocol
        if self._unread:
            data = bytes(self._unread[:READ_SIZE])
            del self._unread[:READ_SIZE]
            self.received += data
            protocol.data_received(data)
            self.peer._send()
            self._read_soon()
        elif self._error is not None:
            self._closing = True
            self._lose(self._error)
        elif self._eof_arrived and not self._eof_told:
            self._eof_told = True
            if not protocol.eof_received():
                self.close()

    # The end

    def _lose_soon(self, error: OSError | None) -> None:
        self._closing = True
        self._loop.call_soon(self._lose, error, context=self._context)

    def _lose(self, error: OSError | None) -> None:
        if self._lost:
            return
        self._stir()
        self._lost = True
        if self._unread and not self._silent and self._error is None:
            self._eof_sent = True
            self.peer._fail_soon(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))
        self._send_eof()
        self._unread.clear()
        self._unsent.clear()
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(error)
        # It may have been waiting for room here.
        self.peer._send()


def transport_pair(
    loop: asyncio.AbstractEventLoop,
    context: Context,
    stir: Callable[[], object],
    client: tuple[str, int],
    server: tuple[str, int],
) -> tuple[MemoryTransport, MemoryTransport]:
    """Both ends of a new connection, the client's and the server's, without protocols yet.

    Parameters:
        loop: whose steps carry the bytes.
        context: what protocols are called in.
        stir: called when something is about to happen.
        client: the address of the client's end.
        server: that of the server's.
    """
    here = MemoryTransport(loop, context, stir, {"sockname": client, "peername": server})
    there = MemoryTransport(loop, context, stir, {"sockname": server, "peername": client})
    here.peer, there.peer = there, here
    return here, there
