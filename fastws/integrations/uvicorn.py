"""uvicorn's WebSockets on this package's connection, for any ASGI application.

::

    uvicorn app:app --ws fastws.integrations.uvicorn:WebSocketProtocol

uvicorn serves HTTP, runs the lifespan and its middleware, and hands a connection over when the
request asks for an upgrade to WebSocket. What it asks of a protocol class is nowhere written but in
its ``config.py``, its ``server.py`` and its own classes in ``protocols/websockets``.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import weakref
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.utils import (
    get_client_addr,
    get_local_addr,
    get_path_with_query_string,
    get_remote_addr,
    is_ssl,
)
from uvicorn.server import ServerState

from fastws._asgi_channel import ASGIChannel
from fastws._channel import Channel
from fastws._connection import Connection
from fastws._timers import TimerWheel
from fastws.codes import CloseCode
from fastws.exceptions import HandshakeError, WebSocketDisconnect
from fastws.handshake import Upgrade, check_upgrade
from fastws.http11 import LINGER
from fastws.http_fields import normalize_headers
from fastws.http_head import error_response, parse_request
from fastws.limits import DeflateOptions, Limits
from fastws.logs import peer_name, printable
from fastws.requests import build_scope

__all__ = ["WebSocketProtocol"]

F = TypeVar("F", bound=Callable[..., Any])

log = logging.getLogger("uvicorn.error")

UNLIMITED = 2**31
"""A number of messages that no queue reaches."""

GRACE = 3
"""Steps of the loop in which a cancelled task lets go of its receive."""

# Not the application's to set: they say where a response ends, and that the connection does.
_FRAMING = (b"connection", b"transfer-encoding")


class Shared:
    """What all WebSockets of one uvicorn server have in common.

    Parameters:
        config: uvicorn's options.
        loop: the loop that the server runs on.
    """

    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        self.timers = TimerWheel(loop)
        self.deflate = DeflateOptions() if config.ws_per_message_deflate else None
        self.limits = Limits(
            max_size=config.ws_max_size,
            max_queue=config.ws_max_queue or UNLIMITED,
            # 0 is how the command line says none.
            ping_interval=config.ws_ping_interval or None,
            ping_timeout=config.ws_ping_timeout or None,
            # uvicorn has no such limit, so neither have its applications.
            accept_timeout=None,
        )


_receive = ASGIChannel.receive
_send = ASGIChannel.send

_shared: weakref.WeakKeyDictionary[ServerState, Shared] = weakref.WeakKeyDictionary()


class WebSocketProtocol(asyncio.Protocol):
    """What uvicorn makes of a connection whose request asks for an upgrade to WebSocket.

    It judges the request, starts the application, and leaves the transport to the compiled
    connection. From then on it is what uvicorn knows the connection by, to shut it down.

    Parameters:
        config: uvicorn's options; of those about WebSockets it keeps ``ws_max_size``,
            ``ws_max_queue``, ``ws_ping_interval``, ``ws_ping_timeout`` and
            ``ws_per_message_deflate``.
        server_state: the server's connections, tasks, and headers of every response.
        app_state: what the lifespan left for the scope's ``state``; it is copied.
        _loop: the loop of the transport; the running one by default.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._config = config
        self._server_state = server_state
        # uvicorn's annotation has only its own classes in it.
        self._connections: set[Any] = server_state.connections
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._application: Application | None = None
        self._refused = False

    # Called by uvicorn

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """First the head of the request, from uvicorn; then what still comes here before the
        compiled connection has the transport."""
        if self._application is not None:
            self._application.connection.data_received(data)
        elif not self._refused:
            self._read_head(data)

    def shutdown(self) -> None:
        """The server stops: CLOSE with 1012, or 503 where the handshake is not answered yet.

        uvicorn waits for the connections, and for the applications, to end.
        """
        if self._application is None:
            self._transport.close()
        else:
            self._application.stop()

    # Called by the transport, as long as it has this protocol

    def eof_received(self) -> bool | None:
        return None if self._application is None else self._application.connection.eof_received()

    def pause_writing(self) -> None:
        if self._application is not None:
            self._application.connection.pause_writing()

    def resume_writing(self) -> None:
        if self._application is not None:
            self._application.connection.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._application is not None:
            self._application.connection.connection_lost(exc)
        else:
            self._connections.discard(self)
            self._shared().timers.cancel(self)

    # The opening handshake

    def _shared(self) -> Shared:
        shared = _shared.get(self._server_state)
        if shared is None:
            shared = _shared[self._server_state] = Shared(self._config, self._loop)
        return shared

    def _read_head(self, head: bytes) -> None:
        http_version, early = handed_over(self._transport)
        if http_version != "1.1":
            # Every head that uvicorn hands over says 1.1.
            head = head.replace(b" HTTP/1.1\r\n", f" HTTP/{http_version}\r\n".encode(), 1)
        try:
            upgrade = check_upgrade(parse_request(head))
        except HandshakeError as error:
            self._refuse(error)
        else:
            self._start(upgrade, head, early)

    def _refuse(self, error: HandshakeError) -> None:
        """Answer with ``error``, and close once the peer has had the time to read it."""
        peer = peer_name(get_remote_addr(self._transport))
        log.info("%s - WebSocket handshake refused: %s", peer, printable(str(error)))
        self._refused = True
        self._transport.write(error_response(error, self._server_state.default_headers))
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._shared().timers.schedule(self, LINGER)
        else:
            self._transport.close()

    def on_timer(self) -> None:
        """The peer of a refused handshake has had its time."""
        self._transport.close()

    def _start(self, upgrade: Upgrade, head: bytes, early: bytes) -> None:
        config, transport, shared = self._config, self._transport, self._shared()
        client, secure = get_remote_addr(transport), is_ssl(transport)
        connection = Connection(
            transport,
            upgrade,
            head,
            timers=shared.timers,
            limits=shared.limits,
            deflate=shared.deflate,
            client=client,
            secure=secure,
            extra_headers=normalize_headers(self._server_state.default_headers),
            # ASGI 2.4 wants an OSError of every send to a peer that is gone.
            strict_send=True,
            on_answered=self._on_answered,
            on_lost=self._on_lost,
        )
        scope = build_scope(
            "websocket",
            upgrade.request,
            client=client,
            server=get_local_addr(transport),
            secure=secure,
            root_path=config.root_path,
            state=self._app_state,
        )
        scope["asgi"]["version"] = config.asgi_version
        scope["subprotocols"] = list(upgrade.subprotocols)
        scope["extensions"] = {"websocket.http.response": {}}
        self._application = application = Application(connection, scope)
        connection.start(application, application.run(config.loaded_app), early)
        task = connection.task
        assert task is not None
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)
        # uvicorn is about to make this object the transport's protocol.
        self._loop.call_soon(transport.set_protocol, cast(asyncio.BaseProtocol, connection))

    def _on_answered(self, connection: Connection, status: int) -> None:
        assert self._application is not None
        self._application.set_answered()
        # Words that log parsers know: uvicorn's own.
        scope: Any = self._application.scope
        client, path = get_client_addr(scope), get_path_with_query_string(scope)
        outcome = "[accepted]" if status == 101 else str(status)
        log.info('%s - "WebSocket %s" %s', client, path, outcome)

    def _on_lost(self, connection: Connection) -> None:
        self._connections.discard(self)
        assert self._application is not None
        self._application.set_answered()


def handed_over(transport: asyncio.Transport) -> tuple[str, bytes]:
    """What uvicorn's HTTP protocol knows of the request but does not hand over.

    That is the HTTP version; and the bytes that came behind the request in the same read, which
    are frames of a peer that did not wait for the response. h11 keeps them. httptools keeps
    nothing, but raises where the request ends: that exception is being handled now, and says how
    many bytes of ``data`` in uvicorn's frame were the request's.

    Parameters:
        transport: the connection, whose protocol still is uvicorn's.
    """
    http = transport.get_protocol()
    scope: Mapping[str, Any] = getattr(http, "scope", None) or {}
    version: str = scope.get("http_version", "1.1")
    error = sys.exc_info()[1]
    if isinstance(error, httptools.HttpParserUpgrade) and error.__traceback__ is not None:
        data = error.__traceback__.tb_frame.f_locals.get("data")
        if isinstance(data, bytes):
            return version, data[error.args[0] :]
    trailing = getattr(getattr(http, "conn", None), "trailing_data", None)
    if isinstance(trailing, tuple):
        return version, bytes(trailing[0])
    return version, b""


def coroutine_function(function: F) -> F:
    """Mark a function that returns an awaitable, for ``iscoroutinefunction()``.

    asgiref, and so Django Channels, looks at an application's ``receive`` and ``send`` with it.
    """
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return function


class Application(ASGIChannel):
    """An application's end of one WebSocket: its scope, and the events that it gets and sends.

    Parameters:
        connection: the WebSocket.
        scope: what the application is told about it.
    """

    __slots__ = ("_answered", "_is_stopping", "_is_told", "connection", "scope")

    def __init__(self, connection: Connection, scope: Any) -> None:
        super().__init__(connection)
        self.connection = connection
        self.scope = scope
        self._is_told = False  # websocket.connect was received
        self._answered: asyncio.Event | None = None  # for a task that receives too early
        self._is_stopping = False

    # Called by the protocol

    def set_answered(self) -> None:
        """The handshake is answered, or there is nobody any more to answer."""
        self.is_answered = True
        if self._answered is not None:
            self._answered.set()

    def stop(self) -> None:
        """The server stops."""
        self._is_stopping = True
        self.connection.shutdown(CloseCode.SERVICE_RESTART)

    async def run(self, app: Any) -> None:
        """Call the application. Its outcome ends the connection, and is logged as uvicorn does."""
        try:
            result = await app(self.scope, self.receive, self.send)
        except WebSocketDisconnect:
            pass  # raised by send(): the application did not catch what ended it
        except asyncio.CancelledError:
            if not self._is_stopping:
                log.exception("The task of the ASGI application was cancelled\n")
            raise
        except BaseException:
            # Also SystemExit: what ends one application must not end the server.
            log.exception("Exception in ASGI application\n")
            self._fail()
        else:
            # The connection closes with 1000 then.
            if not self.is_answered:
                log.error("ASGI callable returned without completing handshake.")
                self._fail()
            elif result is not None:
                log.error("ASGI callable should return None, but returned '%s'.", result)

    def _fail(self) -> None:
        if self.is_answered:
            self._close(CloseCode.INTERNAL_ERROR, None)
        else:
            headers = [("Content-Type", "text/plain; charset=utf-8")]
            self.connection.refuse(500, headers, "Internal Server Error")

    # What the application calls

    @coroutine_function
    def receive(self) -> Coroutine[Any, Any, dict[str, Any]]:  # type: ignore[override]
        return _receive(self)

    @coroutine_function
    def send(self, message: Mapping[str, Any]) -> Coroutine[Any, Any, None]:
        return _send(self, message)

    async def receive_later(self) -> dict[str, Any]:
        if not self._is_told:
            self._is_told = True
            return {"type": "websocket.connect"}
        if not self.is_answered:
            if self._answered is None:
                self._answered = asyncio.Event()
            await self._answered.wait()
        for _ in range(GRACE):
            if not self.is_receiving:
                break
            await asyncio.sleep(0)
        return await Channel.receive(self)

    async def send_event(self, message: Mapping[str, Any]) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            await self.accept(*_acceptance(message))
        elif kind == "websocket.close":
            if self.is_answered:
                self._close(message.get("code", CloseCode.NORMAL_CLOSURE), message.get("reason"))
            else:
                # A 403 carries neither. FastAPI's reason is no text then, but a list of errors.
                self._close(CloseCode.NORMAL_CLOSURE, None)
        elif kind == "websocket.http.response.start":
            headers = message.get("headers") or ()
            kept = [(name, value) for name, value in headers if name.lower() not in _FRAMING]
            await Channel.send(self, {**message, "headers": kept})
        else:
            await Channel.send(self, message)

    def _close(self, code: int, reason: str | None) -> None:
        # Not to be awaited: the closing handshake needs no application any more.
        _ = self.close(code, reason)


def _acceptance(message: Mapping[str, Any]) -> tuple[str | None, list[tuple[bytes, bytes]]]:
    """The subprotocol and the headers of ``websocket.accept``.

    An application may have put the subprotocol among the headers, and uvicorn's own classes send
    it from there.
    """
    subprotocol = message.get("subprotocol") or None
    headers = list(message.get("headers") or ())
    if subprotocol is None:
        for pair in headers:
            if pair[0].lower() == b"sec-websocket-protocol":
                headers.remove(pair)
                return pair[1].decode("latin-1"), headers
    return subprotocol, headers
