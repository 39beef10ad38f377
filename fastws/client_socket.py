"""The WebSocket at the client's end of a connection."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any

from fastws._channel import Channel
from fastws._connection import Connection
from fastws._timers import TimerWheel
from fastws.codes import CloseCode
from fastws.datastructures import URL, Address, Headers
from fastws.exceptions import ending_of
from fastws.http_fields import HeaderPairs
from fastws.http_head import parse_response
from fastws.iterating import Iterating
from fastws.messages import decoder_of
from fastws.tasks import ConnectionTasks

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["ClientWebSocket", "Wheel", "wheel_of"]


class Wheel:
    """The timer wheel that the clients of one loop share, for as long as there is one."""

    __slots__ = ("__weakref__", "loop", "timers")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.timers = TimerWheel(loop)


# By identity: a loop cannot have the address of another that a wheel still holds.
_wheels: weakref.WeakValueDictionary[int, Wheel] = weakref.WeakValueDictionary()


def wheel_of(loop: asyncio.AbstractEventLoop) -> Wheel:
    """The wheel of a loop; whoever has a connection keeps it."""
    wheel = _wheels.get(id(loop))
    if wheel is None:
        wheel = _wheels[id(loop)] = Wheel(loop)
    return wheel


class ClientWebSocket(Channel, Iterating):
    """The client's end of a connection, as :func:`fastws.connect` opens it.

    Its methods that receive, send and close are those of the server's
    :class:`~fastws.websocket.WebSocket`, and so are their exceptions. Two are equal only if they
    are the same one. Attributes of your own may be set on it.
    """

    __slots__ = ("__dict__", "__weakref__", "_tasks", "_url", "_wheel")

    _decoder_of = staticmethod(decoder_of)

    _link: Connection
    _tasks: ConnectionTasks
    _url: str
    _wheel: Wheel

    def __init__(self, connection: Connection, url: str, wheel: Wheel) -> None:
        super().__init__(connection)
        self._url = url
        self._wheel = wheel

    @property
    def url(self) -> URL:
        """Where the connection leads: after a redirect, not what ``connect()`` was given."""
        return URL(self._url)

    @property
    def response_headers(self) -> Headers:
        """The headers of the server's 101 response; names in any case."""
        return Headers(raw=parse_response(self._link.head).headers)

    @property
    def server(self) -> Address | None:
        """The address that TCP leads to: the server's, or that of a proxy on the way."""
        server = self._link.server
        return None if server is None else Address(*server)

    @property
    def id(self) -> str:
        """A name for this connection, unique in this process: for logs."""
        return self._link.id

    @property
    def tasks(self) -> ConnectionTasks:
        """The connection's own tasks: they are cancelled when it ends."""
        try:
            return self._tasks
        except AttributeError:
            self._tasks = tasks = ConnectionTasks(self.id)
            self._link.call_at_end(tasks.cancel)
            return tasks

    def accept(
        self, subprotocol: str | None = None, headers: HeaderPairs | None = None
    ) -> Coroutine[Any, Any, None]:
        """Nothing for a client.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("this is a client's WebSocket: connect() has opened it, nobody accepts")

    def send_denial_response(
        self, status: int, headers: HeaderPairs | None = None, body: bytes | str = b""
    ) -> Coroutine[Any, Any, None]:
        """Nothing for a client.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("this is a client's WebSocket: only a server refuses, use close()")

    async def _leave(self, error: BaseException | None) -> None:
        """Close for the end of the block that used it, and wait until TCP is closed."""
        if isinstance(error, asyncio.CancelledError):
            code, reason = int(CloseCode.GOING_AWAY), ""
        else:
            code, reason, *_ = ending_of(error)
        try:
            try:
                closing = self.close(code, reason)
            except ValueError:
                # Of a WebSocketException that was raised with what must not be sent.
                closing = self.close(CloseCode.INTERNAL_ERROR)
            await closing
        except BaseException:
            self._link.abort()
            raise

    def __repr__(self) -> str:
        return f"<ClientWebSocket {self.id} {self._url} {self.client_state.name}>"
