"""A client of the soak: it checks all that it receives, and can fail in every way a client can."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from collections import Counter, deque

from fastws.limits import DeflateOptions
from fastws.protocol import Accepted, ClientProtocol, Close, Refused

__all__ = ["Peer", "Tally", "WAYS_TO_END"]

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes close() send a RST."""


class Tally:
    """What all clients saw together."""

    def __init__(self) -> None:
        self.opened = 0
        self.echoes = 0
        self.broadcasts = 0
        self.wrong: list[str] = []
        self.ends: Counter[str] = Counter()


class Peer(asyncio.Protocol):
    """One connection, to the echo or to the room.

    Parameters:
        tally: where to count.
        uri: what to connect to.
        echoes: whether that is the echo.
        compressed: whether to offer compression.
    """

    def __init__(self, tally: Tally, uri: str, *, echoes: bool, compressed: bool) -> None:
        deflate = DeflateOptions() if compressed else None
        self.protocol = ClientProtocol(uri, deflate=deflate)
        self.echoes = echoes
        self.transport: asyncio.Transport
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.leaves = ""  # the way this client chose to end, "" before
        self._tally = tally
        self._expected: deque[str | bytes] = deque()
        self._number = 0  # of the last broadcast

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.protocol.connect()
        self._flush()

    def data_received(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            if isinstance(event, (str, bytes)):
                self._message(event)
            elif isinstance(event, Accepted):
                self._tally.opened += 1
                self.opened.set_result(None)
            elif isinstance(event, Refused):
                self.opened.set_exception(ConnectionError(str(event.error)))
            elif isinstance(event, Close) and not self.leaves:
                self.leaves = f"the server closed with {event.code}"
        self._flush()

    def eof_received(self) -> None:
        self.protocol.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionError("closed before the handshake was answered"))
        self._tally.ends[self.leaves or "the server cut it"] += 1
        self.lost.set_result(None)

    def send(self, message: str | bytes) -> None:
        """Send a message to the echo, which is to come back unchanged and in its turn."""
        self._expected.append(message)
        if isinstance(message, str):
            self.protocol.send_text(message)
        else:
            self.protocol.send_bytes(message)
        self._flush()

    def _message(self, message: str | bytes) -> None:
        if self.echoes:
            expected = self._expected.popleft() if self._expected else None
            if message != expected:
                self._tally.wrong.append("an echo that is not what was sent next")
            self._tally.echoes += 1
            return
        number = int(message)
        if self._number and number != self._number + 1:
            self._tally.wrong.append(f"broadcast {number} after {self._number}")
        self._number = number
        self._tally.broadcasts += 1

    def _flush(self) -> None:
        for piece in self.protocol.data_to_send():
            if self.transport.is_closing():
                return
            if piece:
                self.transport.write(piece)
            else:
                self.transport.write_eof()

    # -- ways to end -----------------------------------------------------------------------------

    def close(self) -> None:
        """As it should be: a closing handshake."""
        self.leaves = "closed with a handshake"
        self.protocol.close(random.choice((1000, 1001, 3000)))
        self._flush()

    def reset(self) -> None:
        """As a process that is killed with unread data."""
        self.leaves = "reset"
        self.transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, RESET
        )
        self.transport.abort()

    def finish(self) -> None:
        """TCP closed without a CLOSE."""
        self.leaves = "FIN without CLOSE"
        self.transport.close()

    def cut_in_a_frame(self) -> None:
        """Half of a frame, then nothing more."""
        self.leaves = "cut within a frame"
        self.transport.write(b"\x82\xfe\x10\x00" + os.urandom(1000))
        self.transport.close()

    def violate(self) -> None:
        """An unmasked frame (RFC 6455 section 5.1)."""
        self.leaves = "broke the protocol"
        self.transport.write(b"\x81\x02hi")

    def flood(self) -> None:
        """Many messages at once, and a reset without reading the answers."""
        for number in range(200):
            self.protocol.send_text(f"{number}")
        self._flush()
        self.reset()
        self.leaves = "reset in a flood"


WAYS_TO_END = (
    Peer.close,
    Peer.close,
    Peer.reset,
    Peer.finish,
    Peer.cut_in_a_frame,
    Peer.violate,
    Peer.flood,
)
