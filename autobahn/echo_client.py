"""The client under test: runs every case that a fuzzingserver has, and echoes what it receives.

It stands on the client role of the sans-I/O protocol (L2) alone, over a plain socket: this file
is also the shortest example of that role.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

from fastws.limits import DeflateOptions, Limits
from fastws.protocol import ClientProtocol, Refused

MIB = 1024 * 1024
AGENT = "fastws"

#: As the server under test: see ``echo_server.py`` for the cases that need them.
LIMITS = Limits(max_size=16 * MIB, max_fragments=4 * MIB // 64 + 1)
#: The cases 13.3 to 13.6 answer with windows of 9 and of 15 bits, which an offer of fewer forbids.
DEFLATE = DeflateOptions(mode="dedicated", threshold=0, window_bits=15)

#: Seconds without a byte: the suite itself ends every case within 480 s.
SILENCE_TIMEOUT = 500.0
READ_SIZE = 256 * 1024


class Failed(Exception):
    """The fuzzingserver did not do what it has to; a case's outcome never raises this."""


def messages(url: str, *, echo: bool) -> Iterator[str | bytes]:
    """Connect, and yield each message received until the connection has ended.

    Parameters:
        url: where to connect to, ``ws://host:port/path?query``.
        echo: whether each message is also sent back, as it came.

    Raises ``Failed`` where the opening handshake is refused, and ``OSError`` where the server
    does not listen.
    """
    protocol = ClientProtocol(url, deflate=DEFLATE, limits=LIMITS)
    protocol.connect()
    parts = urlsplit(url)
    address = (parts.hostname, parts.port or 80)
    with socket.create_connection(address, SILENCE_TIMEOUT) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        write(connection, protocol)
        while True:
            data = read(connection)
            if data:
                protocol.receive_data(data)
            else:
                protocol.receive_eof()
            for event in protocol.events_received():
                if isinstance(event, Refused):
                    raise Failed(f"{url}: the opening handshake was refused: {event}")
                if isinstance(event, str):
                    if echo:
                        protocol.send_text(event)
                    yield event
                elif isinstance(event, bytes):
                    if echo:
                        protocol.send_bytes(event)
                    yield event
            write(connection, protocol)
            if not data:
                return


def read(connection: socket.socket) -> bytes:
    """What arrived, or nothing once the server has closed TCP; cases also end by a reset."""
    try:
        return connection.recv(READ_SIZE)
    except ConnectionError:
        return b""


def write(connection: socket.socket, protocol: ClientProtocol) -> None:
    """Send what the protocol has to send; an empty piece asks for the end of our direction."""
    try:
        for piece in protocol.data_to_send():
            if piece:
                connection.sendall(piece)
            else:
                connection.shutdown(socket.SHUT_WR)
    except OSError:
        # The server is gone already, and with it the connection: the next read says so.
        return


def main() -> None:
    """Run all cases of the fuzzingserver whose URL is the last argument, then have it report."""
    url = sys.argv[-1]
    answers = list(messages(f"{url}/getCaseCount", echo=False))
    if len(answers) != 1:
        raise Failed(f"{url}/getCaseCount: expected one message, got {answers!r}")
    for case in range(1, json.loads(answers[0]) + 1):
        for _ in messages(f"{url}/runCase?case={case}&agent={AGENT}", echo=True):
            pass
    for _ in messages(f"{url}/updateReports?agent={AGENT}", echo=False):
        pass


if __name__ == "__main__":
    main()
