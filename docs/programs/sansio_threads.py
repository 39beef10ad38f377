"""WebSockets on blocking sockets: an echo server with a thread for each connection, a client."""

import logging
import signal
import socket
import socketserver
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from docs.programs.sansio import AnyEvent, Clock, echo, leave
from fastws import ClientProtocol, DeflateOptions, Limits, ServerProtocol, WebSocketDisconnect
from fastws.limits import DEFAULT_LIMITS
from fastws.protocol import Refused


# -- connection --
class Connection:
    """A protocol on a blocking socket: iterate over what the peer sends, until TCP has ended.

    What is sent through ``protocol`` goes out when the next event is asked for, or with flush().
    All of it belongs to one thread.
    """

    READ_SIZE = 16 * 1024  # all that is in it becomes events at once: inflated, a thousandfold
    TICK = 0.5  # seconds until a thread sees that the program stops

    def __init__(
        self,
        sock: socket.socket,
        protocol: ServerProtocol | ClientProtocol,
        limits: Limits,
        stopping: threading.Event | None = None,
    ) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.protocol = protocol
        self.limits = limits
        self.stopping = stopping
        self.clock = Clock(protocol, limits, time.monotonic())
        self.events: deque[AnyEvent] = deque()
        self.eof = False

    def __iter__(self) -> Iterator[AnyEvent]:
        return self

    def __next__(self) -> AnyEvent:
        while True:
            if not self.events:
                # Not only after reading: accept() finds the frames behind the request.
                self.events.extend(self.protocol.events_received())
            if self.events:
                return self.events.popleft()
            if not self.wait():
                raise StopIteration

    def wait(self) -> bool:
        """Write what there is to be written, and read once; ``False`` if there is no more."""
        try:
            if self.stopping is not None and self.stopping.is_set():
                leave(self.protocol)
            in_time = self.clock.act(time.monotonic())
            self.flush()
            if self.eof:
                return False
            data = self.read() if in_time else b""
        except OSError:  # it is lost, or the peer did not take our bytes in time
            if self.eof:
                return False
            data = b""
        if data:
            self.clock.heard(time.monotonic())
            self.protocol.receive_data(data)
        elif data is not None:
            self.eof = True
            self.protocol.receive_eof()
        return True

    def read(self) -> bytes | None:
        """Bytes, none at the end of TCP, or ``None``: it is time to do something else."""
        now = time.monotonic()
        # 0 would mean not to wait at all.
        self.sock.settimeout(max(0.001, min(self.clock.due(now) - now, self.TICK)))
        try:
            return self.sock.recv(self.READ_SIZE)
        except TimeoutError:
            return None

    def flush(self) -> None:
        """Write what there is to be written: all of it in ``write_timeout``, or TimeoutError."""
        pieces = self.protocol.data_to_send()
        self.sock.settimeout(self.limits.write_timeout)
        if data := b"".join(pieces):
            self.sock.sendall(data)
        if pieces and not pieces[-1]:
            if isinstance(self.sock, ssl.SSLSocket):
                self.eof = True  # of TLS no single direction can end
            else:
                self.sock.shutdown(socket.SHUT_WR)


# -- server --
class Server(socketserver.ThreadingTCPServer):
    """Runs an application on a thread for each connection.

    Parameters:
        application: called with every event, and the protocol to answer it by.
    """

    allow_reuse_address = True
    request_queue_size = 128
    max_connections = 200

    def __init__(
        self,
        address: tuple[str, int],
        application: Callable[[ServerProtocol, AnyEvent], None],
        *,
        limits: Limits = DEFAULT_LIMITS,
        deflate: DeflateOptions | None = None,
    ) -> None:
        super().__init__(address, Handler)
        self.application = application
        self.limits = limits
        self.deflate = deflate
        self.stopping = threading.Event()
        self.places = threading.BoundedSemaphore(self.max_connections)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self.places.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def server_close(self) -> None:
        """Tell who is connected, and wait until they are gone."""
        self.stopping.set()
        super().server_close()


class Handler(socketserver.BaseRequestHandler):
    server: Server

    def handle(self) -> None:
        """In a thread of its own, which closes the socket afterwards."""
        server = self.server
        protocol = ServerProtocol(limits=server.limits, deflate=server.deflate)
        for event in Connection(self.request, protocol, server.limits, server.stopping):
            try:
                server.application(protocol, event)
            except Exception:
                logging.exception("the application failed at %r", event)
                leave(protocol, 1011, 500)


# -- client --
@contextmanager
def connect(
    uri: str,
    *,
    limits: Limits = DEFAULT_LIMITS,
    deflate: DeflateOptions | None = None,
    context: ssl.SSLContext | None = None,
) -> Iterator[Connection]:
    """Raises HandshakeError if the server refuses, and OSError if there is no connection to it."""
    protocol = ClientProtocol(uri, limits=limits, deflate=deflate)
    host, port = protocol.uri.host, protocol.uri.port
    sock = socket.create_connection((host, port), timeout=limits.open_timeout)
    try:
        if protocol.uri.secure:
            context = context or ssl.create_default_context()
            sock = context.wrap_socket(sock, server_hostname=host)
        connection = Connection(sock, protocol, limits)
        protocol.connect()
        answer = next(connection, None)
        if answer is None:
            raise TimeoutError("the server did not answer the opening handshake in time")
        if isinstance(answer, Refused):
            raise answer.error
        yield connection
        protocol.close()
        for _ in connection:
            pass  # until the server has answered the CLOSE and ended TCP
    finally:
        sock.close()


def ask(connection: Connection, question: str | bytes) -> str | bytes:
    """Send a message, and return the next one that comes."""
    if isinstance(question, str):
        connection.protocol.send_text(question)
    else:
        connection.protocol.send_bytes(question)
    for event in connection:
        if isinstance(event, (str, bytes)):
            return event
    protocol = connection.protocol
    raise WebSocketDisconnect(protocol.close_code or 1006, protocol.close_reason)


# -- main --
def main() -> None:
    match sys.argv[1:]:
        case ["serve", host, port]:
            with Server((host, int(port)), echo) as server:
                # shutdown() waits until serve_forever() has ended, which runs in this thread.
                signal.signal(
                    signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start()
                )
                server.serve_forever()
        case ["ask", uri, question]:
            with connect(uri) as connection:
                print(ask(connection, question))
        case _:
            sys.exit("expected: serve HOST PORT, or: ask URI QUESTION")


if __name__ == "__main__":
    main()
