"""WebSockets on asyncio's streams: an echo server, and a client."""

import asyncio
import logging
import math
import signal
import ssl
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from docs.programs.sansio import AnyEvent, Clock, echo, leave
from fastws import ClientProtocol, DeflateOptions, Limits, ServerProtocol, WebSocketDisconnect
from fastws.limits import DEFAULT_LIMITS
from fastws.protocol import Refused


# -- connection --
class Connection:
    """A protocol on a pair of streams: iterate over what the peer sends, until TCP has ended.

    What is sent through ``protocol`` goes out when the next event is asked for, or, also from
    another task of the same loop, with write().
    """

    READ_SIZE = 16 * 1024  # all that is in it becomes events at once: inflated, a thousandfold

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        protocol: ServerProtocol | ClientProtocol,
        limits: Limits,
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.protocol = protocol
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.clock = Clock(protocol, limits, self.loop.time())
        self.events: deque[AnyEvent] = deque()
        self.eof = False

    def __aiter__(self) -> AsyncIterator[AnyEvent]:
        return self

    async def __anext__(self) -> AnyEvent:
        while True:
            if not self.events:
                # Not only after reading: accept() finds the frames behind the request.
                self.events.extend(self.protocol.events_received())
            if self.events:
                return self.events.popleft()
            if not await self.wait():
                raise StopAsyncIteration

    async def wait(self) -> bool:
        """Write what there is to be written, and read once; ``False`` if there is no more."""
        try:
            in_time = self.clock.act(self.loop.time())
            self.write()
            # It waits for the peer to take what it has been sent: who does not read is not read.
            await asyncio.wait_for(self.writer.drain(), self.limits.write_timeout)
            if self.eof:
                return False
            data = await self.read() if in_time else b""
        except (OSError, asyncio.TimeoutError):  # it is lost, or the peer took nothing in time
            if self.eof:
                return False
            data = b""
        if data:
            self.clock.heard(self.loop.time())
            self.protocol.receive_data(data)
        elif data is not None:
            self.eof = True
            self.protocol.receive_eof()
        return True

    async def read(self) -> bytes | None:
        """Bytes, none at the end of TCP, or ``None``: it is time to do something else."""
        now = self.loop.time()
        due = self.clock.due(now)
        try:
            # Cancelling a read loses nothing: what has come stays in the reader.
            return await asyncio.wait_for(
                self.reader.read(self.READ_SIZE), None if due == math.inf else due - now
            )
        except asyncio.TimeoutError:
            return None

    def write(self) -> None:
        """Hand what there is to be written to the transport."""
        pieces = self.protocol.data_to_send()
        if self.writer.is_closing():
            return
        if data := b"".join(pieces):
            self.writer.write(data)
        if pieces and not pieces[-1]:
            if self.writer.can_write_eof():
                self.writer.write_eof()
            else:
                self.eof = True  # of TLS no single direction can end

    async def end(self) -> None:
        """Close the socket, once what was written is on its way."""
        self.writer.close()
        try:
            await asyncio.wait_for(self.writer.wait_closed(), self.limits.close_timeout)
        except (OSError, asyncio.TimeoutError):
            pass
        finally:
            # close() waits for as long as the peer does not read.
            self.writer.transport.abort()


# -- server --
class Server:
    """Runs an application on a task for each connection; a block with ``async with`` serves.

    Parameters:
        application: called with every event, and the protocol to answer it by.
    """

    MAX_CONNECTIONS = 1000

    def __init__(
        self,
        host: str,
        port: int,
        application: Callable[[ServerProtocol, AnyEvent], None],
        *,
        limits: Limits = DEFAULT_LIMITS,
        deflate: DeflateOptions | None = None,
    ) -> None:
        self.address = host, port
        self.application = application
        self.limits = limits
        self.deflate = deflate
        self.connections: dict[asyncio.Task[None] | None, Connection] = {}
        self.stopping = False

    async def __aenter__(self) -> "Server":
        self.server = await asyncio.start_server(self.handle, *self.address, backlog=128)
        return self

    async def __aexit__(self, *details: object) -> None:
        """Accept no more, tell who is connected, and wait until they are gone."""
        self.stopping = True
        self.server.close()
        for connection in self.connections.values():
            leave(connection.protocol)
            connection.write()
        tasks = [task for task in self.connections if task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self.limits.close_timeout)
            for task in late:
                self.connections[task].writer.transport.abort()
            if late:
                await asyncio.wait(late)
        await self.server.wait_closed()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """In a task of its own."""
        if self.stopping or len(self.connections) == self.MAX_CONNECTIONS:
            writer.transport.abort()
            return
        protocol = ServerProtocol(limits=self.limits, deflate=self.deflate)
        connection = Connection(reader, writer, protocol, self.limits)
        self.connections[asyncio.current_task()] = connection
        try:
            async for event in connection:
                try:
                    self.application(protocol, event)
                except Exception:
                    logging.exception("the application failed at %r", event)
                    leave(protocol, 1011, 500)
            await connection.end()
        finally:
            writer.transport.abort()
            del self.connections[asyncio.current_task()]


# -- client --
@asynccontextmanager
async def connect(
    uri: str,
    *,
    limits: Limits = DEFAULT_LIMITS,
    deflate: DeflateOptions | None = None,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[Connection]:
    """Raises HandshakeError if the server refuses, and OSError if there is no connection to it."""
    protocol = ClientProtocol(uri, limits=limits, deflate=deflate)
    secure, host, port = protocol.uri.secure, protocol.uri.host, protocol.uri.port
    opening = asyncio.open_connection(host, port, ssl=(context or True) if secure else None)
    reader, writer = await asyncio.wait_for(opening, limits.open_timeout)
    try:
        connection = Connection(reader, writer, protocol, limits)
        protocol.connect()
        answer = await anext(connection, None)
        if answer is None:
            raise TimeoutError("the server did not answer the opening handshake in time")
        if isinstance(answer, Refused):
            raise answer.error
        yield connection
        protocol.close()
        async for _ in connection:
            pass  # until the server has answered the CLOSE and ended TCP
        await connection.end()
    finally:
        writer.transport.abort()


async def ask(connection: Connection, question: str | bytes) -> str | bytes:
    """Send a message, and return the next one that comes."""
    if isinstance(question, str):
        connection.protocol.send_text(question)
    else:
        connection.protocol.send_bytes(question)
    async for event in connection:
        if isinstance(event, (str, bytes)):
            return event
    protocol = connection.protocol
    raise WebSocketDisconnect(protocol.close_code or 1006, protocol.close_reason)


# -- main --
async def main() -> None:
    match sys.argv[1:]:
        case ["serve", host, port]:
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
            async with Server(host, int(port), echo):
                await stop.wait()
        case ["ask", uri, question]:
            async with connect(uri) as connection:
                print(await ask(connection, question))
        case _:
            sys.exit("expected: serve HOST PORT, or: ask URI QUESTION")


if __name__ == "__main__":
    asyncio.run(main())
