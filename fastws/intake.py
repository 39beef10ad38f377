"""A connection as its transport sees it while a long payload arrives."""

from __future__ import annotations

from asyncio import BufferedProtocol
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastws._connection import Connection

__all__ = ["Intake"]


class Intake(BufferedProtocol):
    """Has the transport read into the message's own memory: nothing is copied on the way.

    Only for transports that use what ``get_buffer()`` returns before they return to the loop, as
    those of plain sockets do. For short messages :meth:`asyncio.Protocol.data_received` is faster,
    so the connection takes the transport back once the payload is complete.

    Parameters:
        connection: whose methods these are.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get_buffer(self, sizehint: int) -> memoryview | bytearray:
        return self._connection.buffer_for_reading(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        self._connection.buffer_read(nbytes)

    def eof_received(self) -> bool | None:
        return self._connection.eof_received()

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)
