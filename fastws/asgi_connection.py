"""The back end of a :class:`~fastws.websocket.WebSocket` that another ASGI server carries."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import orjson

from fastws._awaitables import ReceiveTimeout
from fastws._json import encode_json
from fastws.codes import CloseCode, WebSocketState, encode_close
from fastws.datastructures import Message, Receive, Scope, Send
from fastws.exceptions import WebSocketClosed, WebSocketDisconnect, WebSocketTypeError
from fastws.http_fields import HeaderPairs, normalize_headers
from fastws.read_ahead import ReadAhead

if TYPE_CHECKING:
    from fastws.websocket import WebSocket

__all__ = ["ASGIConnection"]

CONNECTING = WebSocketState.CONNECTING
CONNECTED = WebSocketState.CONNECTED
CLOSING = WebSocketState.CLOSING
DISCONNECTED = WebSocketState.DISCONNECTED

QUIET = 5.0
"""Seconds that the handler of a dead peer has to find out, before sends from elsewhere raise."""

current_connection: ContextVar[object] = ContextVar("fastws.asgi_connection")
"""The connection whose handler, or a task started by it, is running."""


class ASGIConnection:
    """A connection over ``(receive, send)``, with the methods of the compiled ``Connection``.

    Parameters:
        scope: an ASGI scope of type ``websocket``.
        receive: the server's receive callable.
        send: the server's send callable.

    Raises:
        ValueError: the scope is of another type.
    """

    __slots__ = (
        "_ahead",
        "_answering",
        "_closed_here",
        "_denial",
        "_ended_at",
        "_handler",
        "_handler_told",
        "_has_handler",
        "_id",
        "_on_end",
        "_pending",
        "_reading",
        "_receive",
        "_scope",
        "_send",
        "_told",
        "application_state",
        "cancelled_here",
        "client_state",
        "close_code",
        "close_reason",
        "dropped",
        "subprotocol",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            raise ValueError(
                f"the scope is of type {scope['type']!r}: a WebSocket needs 'websocket'"
            )
        self._scope = scope
        self._receive = receive
        self._send = send
        self._id: str | None = None
        self.client_state = CONNECTING
        self.application_state = CONNECTING
        self.subprotocol: str | None = None
        self.close_code: int | None = None
        self.close_reason: str | None = None
        # accept() is under way.
        self._answering = False
        # close(), or a refusal, was this application's doing.
        self._closed_here = False
        # The server's websocket.disconnect has been received: there are no more messages.
        self._told = False
        self._reading = False
        # A call of the server's receive that outlived the timeout of ours. It is kept, because to
        # cancel it could lose the message that it is about to return.
        self._pending: asyncio.Future[Message] | None = None
        # The start of a denial response that came through send().
        self._denial: tuple[int, HeaderPairs, bytearray] | None = None
        # Whether begin() was called: else there is no telling who sends.
        self._has_handler = False
        # The handler has been told of the end, or has ended itself.
        self._handler_told = False
        # The loop's clock when the peer was found gone, 0 before.
        self._ended_at = 0.0
        self.dropped = 0
        self._on_end: Callable[[], object] | None = None
        # The handler's task, if the peer's leaving is to cancel it.
        self._handler: asyncio.Task[Any] | None = None
        self.cancelled_here = False
        self._ahead: ReadAhead | None = None

    # The handler

    def begin(self, *, cancel_on_disconnect: bool = False) -> None:
        """Make the running task the handler's, with all tasks that it starts.

        Parameters:
            cancel_on_disconnect: cancel it as soon as the peer has left, unless it waits for a
                message and so is told anyway; ``cancelled_here`` says so then.
        """
        current_connection.set(self)
        self._has_handler = True
        if cancel_on_disconnect:
            self._handler = asyncio.current_task()

    def call_at_end(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once, when the handler has ended or the peer has left."""
        self._on_end = callback
        if self.client_state is DISCONNECTED:
            self._end()

    def finish(self) -> None:
        """The handler has ended: give up what was going on for it."""
        self._handler_told = True
        self._handler = None
        self._drop_pending()
        if self._ahead is not None:
            self._ahead.stop()
        self._end()

    def _end(self) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    def _on_disconnect(self) -> None:
        if self._handler is not None and not self._reading:
            self.cancelled_here = True
            self._handler.cancel()
        self._end()

    @property
    def behind(self) -> WebSocket | None:
        """The WebSocket whose events middleware hands on to this one, if that is so."""
        reference = self._scope.get("fastws.websocket")
        behind: WebSocket | None = reference() if reference is not None else None
        return None if behind is None or behind._link is self else behind

    # The opening handshake

    @property
    def id(self) -> str:
        """A name for this connection, unique among all."""
        if self._id is None:
            behind = self.behind
            self._id = uuid.uuid4().hex if behind is None else behind.id
        return self._id

    @property
    def client(self) -> tuple[str, int] | None:
        """The peer's host and port."""
        return self._scope.get("client")

    @property
    def subprotocols(self) -> tuple[str, ...]:
        """The subprotocols that the peer offers."""
        return tuple(self._scope.get("subprotocols") or ())

    async def accept(
        self, subprotocol: str | None = None, headers: HeaderPairs | None = None
    ) -> None:
        """Accept the connection.

        Raises:
            ValueError: the subprotocol was not offered, or a header is not one; nothing is sent.
            RuntimeError: it has been accepted before.
            WebSocketDisconnect: the peer left before.
        """
        if self.application_state is CONNECTED or self._answering:
            raise RuntimeError("the connection has been accepted already: accept() is called once")
        if self.application_state is not CONNECTING:
            raise self._not_open("accept")
        if subprotocol is not None and subprotocol not in self.subprotocols:
            offered = ", ".join(self.subprotocols) or "none"
            raise ValueError(
                f"the subprotocol {subprotocol!r} was not offered by the client, "
                f"which offers: {offered}"
            )
        # ASGI wants the names in lower case.
        pairs = [(name.lower(), value) for name, value in normalize_headers(headers or ())]
        self._answering = True
        try:
            await self._await_connect()
            if self._closed_here:  # by another task, in the meantime
                raise self._not_open("accept")
            # Set first: from here on the server may have sent its answer, whatever happens.
            self.application_state = CONNECTED
            self.client_state = CONNECTED
            self.subprotocol = subprotocol
            await self._transmit(
                {"type": "websocket.accept", "subprotocol": subprotocol, "headers": pairs}
            )
            if self._handler is not None:
                self._ahead = ReadAhead(self._receive, self._on_disconnect)
                self._receive = self._ahead.receive
        finally:
            self._answering = False

    async def _await_connect(self) -> None:
        if self.client_state is not CONNECTING:
            raise self._not_open("accept")
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            self._told = True
            self._lose(event.get("code", CloseCode.ABNORMAL_CLOSURE), event.get("reason"))
            raise self._not_open("accept")
        if event["type"] != "websocket.connect":
            raise RuntimeError(
                f"the ASGI server sent {event['type']!r} where 'websocket.connect' is due"
            )

    async def send_denial_response(
        self, status: int, headers: HeaderPairs | None = None, body: bytes | str = b""
    ) -> None:
        """Refuse the connection with an HTTP response.

        A server without the extension ``websocket.http.response`` answers 403 instead.

        Raises:
            ValueError: the status is not one of a refusal, or a header is not one.
            RuntimeError: the connection has been accepted, or refused, before.
        """
        if self.application_state is CONNECTED or self._answering:
            raise RuntimeError("the connection has been accepted: close() ends it, nothing else")
        if self.application_state is not CONNECTING:
            raise self._not_open("refuse")
        if not 200 <= status <= 599:
            raise ValueError(f"the status of a refusal is {status}: expected 200 to 599")
        pairs = [(name.lower(), value) for name, value in normalize_headers(headers or ())]
        content = body.encode() if isinstance(body, str) else bytes(body)
        if "websocket.http.response" not in (self._scope.get("extensions") or {}):
            await self.close()
            return
        # Without a length the client would wait for the end of the connection (RFC 9112 6.3).
        if all(name not in (b"content-length", b"transfer-encoding") for name, _ in pairs):
            pairs.append((b"content-length", b"%d" % len(content)))
        self._begin_closing(None, None)
        await self._transmit_last(
            {"type": "websocket.http.response.start", "status": int(status), "headers": pairs},
            {"type": "websocket.http.response.body", "body": content},
        )

    # Receiving

    async def receive(self, timeout: float | None = None) -> Message:
        """The next event: a message, or the one ``websocket.disconnect``.

        Raises:
            TimeoutError: after ``timeout`` seconds without one; nothing is lost.
            WebSocketDisconnect: the disconnect has been received before.
            RuntimeError: it is too early (accept first), or another task is receiving.
        """
        event = await self._next_event(timeout)
        if event["type"] == "websocket.disconnect":
            self._handler_told = True
            return {
                "type": "websocket.disconnect",
                "code": self.close_code,
                "reason": self.close_reason,
            }
        data = _data_of(event)
        return {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}

    async def receive_text(self, timeout: float | None = None) -> str:
        """The next message, which is text; raises as :meth:`receive`, and WebSocketTypeError."""
        data = await self._next_message(timeout)
        if isinstance(data, str):
            return data
        raise WebSocketTypeError(
            "a binary message arrived where text is expected: use receive_bytes() or receive()",
            data,
        )

    async def receive_bytes(self, timeout: float | None = None) -> bytes:
        """The next message, which is binary; raises as :meth:`receive`, and WebSocketTypeError."""
        data = await self._next_message(timeout)
        if isinstance(data, bytes):
            return data
        raise WebSocketTypeError(
            "a text message arrived where binary is expected: use receive_text() or receive()", data
        )

    async def receive_json(
        self,
        mode: str = "text",
        timeout: float | None = None,
        decode: Callable[[str | bytes], Any] | None = None,
    ) -> Any:
        """The next message, read as JSON, or by ``decode``.

        Raises:
            json.JSONDecodeError: the message is not JSON; ``decode`` may raise something else.
            RuntimeError: the mode is neither ``"text"`` nor ``"binary"``.
        """
        is_text = _is_text(mode)
        data = await self._next_message(timeout)
        if isinstance(data, str) is not is_text:
            kind = "binary" if is_text else "text"
            raise WebSocketTypeError(
                f'receive_json() got a {kind} message: pass mode="{kind}" or use receive()', data
            )
        return orjson.loads(data) if decode is None else decode(data)

    async def next_item(self, decode: Callable[[str | bytes], Any] | None = None) -> Any:
        """The next message of either kind; for ``async for``, which ends when the connection does.

        Raises:
            StopAsyncIteration: the connection is over.
            RuntimeError: it is too early (accept first), or another task is receiving.
        """
        try:
            data = await self._next_message(None)
        except WebSocketDisconnect:
            raise StopAsyncIteration from None
        return data if decode is None else decode(data)

    async def _next_message(self, timeout: float | None) -> str | bytes:
        event = await self._next_event(timeout)
        if event["type"] == "websocket.disconnect":
            raise self._not_open("receive")
        return _data_of(event)

    async def _next_event(self, timeout: float | None) -> Message:
        # A failed send alone does not end receiving: messages may have arrived before the end.
        if self.application_state is CONNECTING or self._closed_here or self._told:
            raise self._not_open("receive")
        if self._reading:
            raise RuntimeError(
                "another task is receiving from this connection: let one task receive and hand on"
            )
        self._reading = True
        try:
            if timeout is None and self._pending is None:
                event = await self._receive()
            else:
                event = await self._receive_within(timeout)
        finally:
            self._reading = False
        if event["type"] == "websocket.disconnect":
            self._told = True
            self._lose(event.get("code", CloseCode.NO_STATUS_RECEIVED), event.get("reason"))
        elif event["type"] != "websocket.receive":
            raise RuntimeError(
                f"the ASGI server sent {event['type']!r} where 'websocket.receive' is due"
            )
        if self._closed_here:
            raise self._not_open("receive")
        return event

    async def _receive_within(self, timeout: float | None) -> Message:
        if self._pending is None:
            self._pending = asyncio.ensure_future(self._receive())
        pending = self._pending
        # Unlike wait_for(), wait() cancels nothing, neither after the timeout nor when cancelled.
        await asyncio.wait({pending}, timeout=timeout)
        if not pending.done():
            raise ReceiveTimeout(f"no message within {timeout:g} s")
        self._pending = None
        return pending.result()

    # Sending

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send an ASGI event: ``websocket.accept``, ``.send``, ``.close`` or a denial response.

        Raises:
            RuntimeError: the event is of another type.
        """
        kind = message["type"]
        if kind == "websocket.send":
            text = message.get("text")
            await (self.send_bytes(message["bytes"]) if text is None else self.send_text(text))
        elif kind == "websocket.accept":
            await self.accept(message.get("subprotocol"), message.get("headers"))
        elif kind == "websocket.close":
            await self.close(message.get("code", 1000), message.get("reason"))
        elif kind == "websocket.http.response.start":
            self._denial = (message["status"], message.get("headers", ()), bytearray())
        elif kind == "websocket.http.response.body":
            await self._send_denial_body(message)
        else:
            raise RuntimeError(
                f"a WebSocket cannot send {kind!r}: expected websocket.accept, websocket.send, "
                "websocket.close or websocket.http.response.start and .body"
            )

    async def _send_denial_body(self, message: Mapping[str, Any]) -> None:
        if self._denial is None:
            raise RuntimeError("websocket.http.response.start comes before its body")
        status, headers, body = self._denial
        body += message.get("body", b"")
        if not message.get("more_body", False):
            self._denial = None
            await self.send_denial_response(status, headers, bytes(body))

    async def send_text(self, data: str | bytes | bytearray | memoryview) -> None:
        """Send a text message.

        Raises:
            TypeError: the data is neither ``str`` nor bytes.
            ValueError: bytes that are not UTF-8, or a ``str`` with a lone surrogate.
            RuntimeError: the connection is not accepted yet.
            WebSocketDisconnect: it is over.
        """
        if isinstance(data, str):
            # A server would find out in the middle of writing the frame.
            if not data.isascii():
                data.encode()
        elif isinstance(data, (bytes, bytearray, memoryview)):
            data = bytes(data).decode()
        else:
            raise TypeError(
                f"send_text() takes str or UTF-8 bytes, not {type(data).__name__}: "
                "send_json() sends other objects"
            )
        await self._send_message({"type": "websocket.send", "text": data})

    async def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Send a binary message.

        Raises:
            TypeError: the data is not bytes-like.
            RuntimeError: the connection is not accepted yet.
            WebSocketDisconnect: it is over.
        """
        try:
            data = bytes(memoryview(data))
        except TypeError:
            raise TypeError(
                f"send_bytes() takes a bytes-like object, not {type(data).__name__}: "
                "send_text() sends str"
            ) from None
        await self._send_message({"type": "websocket.send", "bytes": data})

    async def send_json(self, obj: Any, mode: str = "text") -> None:
        """Send an object as compact JSON, in a text or a binary message.

        Raises:
            TypeError: something in the object has no JSON form.
            RuntimeError: the mode is neither ``"text"`` nor ``"binary"``.
        """
        send = self.send_text if _is_text(mode) else self.send_bytes
        await send(encode_json(obj))

    async def _send_message(self, message: Message) -> None:
        if self.application_state is CONNECTED and self.client_state is CONNECTED:
            try:
                await self._send(message)
                return
            except (OSError, RuntimeError) as error:
                if not _says_it_is_over(error):
                    raise
                # How it has ended, only a receive can tell.
                self._lose(CloseCode.ABNORMAL_CLOSURE, None)
                cause = error
        else:
            cause = None
        if self._is_quiet():
            self.dropped += 1
        else:
            raise self._not_open("send") from cause

    def _is_quiet(self) -> bool:
        """Whether a send to a dead peer comes from elsewhere and too early to raise there.

        A broadcast from another connection's handler would end that handler, the wrong one, as
        long as this connection's own has not been told. It has a while to find out.
        """
        return (
            self._has_handler
            and not self._handler_told
            and not self._closed_here
            and self.client_state is DISCONNECTED
            and current_connection.get(None) is not self
            and not getattr(self._scope.get("app"), "strict_send", False)
            and asyncio.get_running_loop().time() - self._ended_at < QUIET
        )

    async def _transmit(self, message: Message) -> None:
        try:
            await self._send(message)
        except (OSError, RuntimeError) as error:
            if not _says_it_is_over(error):
                raise
            self._lose(CloseCode.ABNORMAL_CLOSURE, None)
            raise self._not_open("accept") from error

    # The end

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close the connection, or refuse it if it has not been accepted.

        Does nothing once the connection is over.

        Raises:
            ValueError: the code must not be sent or the reason is too long; nothing is sent.
        """
        if self._closed_here or self.client_state is DISCONNECTED:
            return
        encode_close(code, reason)
        self._begin_closing(code, reason)
        await self._transmit_last(
            {"type": "websocket.close", "code": int(code), "reason": reason or ""}
        )

    def _begin_closing(self, code: int | None, reason: str | None) -> None:
        self._closed_here = True
        self.application_state = CLOSING
        if self.client_state is CONNECTED:
            self.client_state = CLOSING
            self.close_code = code
            self.close_reason = reason or ""
        if not self._reading:
            self._drop_pending()

    async def _transmit_last(self, *messages: Message) -> None:
        try:
            for message in messages:
                await self._send(message)
        except (OSError, RuntimeError) as error:
            # If the peer has left first: gone is what it was meant to be.
            if not _says_it_is_over(error):
                raise
        finally:
            self.application_state = self.client_state = DISCONNECTED

    async def ping(self, data: bytes = b"") -> float:
        """Not to be had: ASGI has no event for it.

        Behind middleware on this package's own server there is a connection that has.

        Raises:
            RuntimeError: always, otherwise.
        """
        behind = self.behind
        if behind is not None:
            return await behind.ping(data)
        raise RuntimeError(
            "an ASGI server sends its pings itself: ping() works under `fastws run` and app.serve()"
        )

    def _drop_pending(self) -> None:
        """Give up the call of the server's receive that a timeout may have left behind."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        if pending.done() and not pending.cancelled():
            # What it raised would have been raised by the next receive; now there is none.
            pending.exception()
        pending.cancel()

    def _lose(self, code: int | None, reason: str | None) -> None:
        """The peer is gone."""
        if not self._closed_here:
            self.close_code = CloseCode.NO_STATUS_RECEIVED if code is None else code
            self.close_reason = reason or ""
        self.client_state = DISCONNECTED
        if self.application_state is not CONNECTING:
            self.application_state = DISCONNECTED
        if self._ended_at == 0:
            self._ended_at = asyncio.get_running_loop().time()
        self._end()

    def _not_open(self, action: str) -> Exception:
        """Why ``action`` is not possible now."""
        code = CloseCode.ABNORMAL_CLOSURE if self.close_code is None else self.close_code
        if self._closed_here:
            return WebSocketClosed(code, self.close_reason)
        if self.client_state is DISCONNECTED:
            # What another handler's broadcast runs into tells this connection's own nothing.
            if current_connection.get(None) is self:
                self._handler_told = True
            return WebSocketDisconnect(code, self.close_reason)
        return RuntimeError(
            f"cannot {action}: the connection is not accepted yet, call `await ws.accept()` first"
        )


def _says_it_is_over(error: Exception) -> bool:
    """Whether a server's ``send`` raised this because the connection has ended.

    ASGI 2.4 has OSError for it. uvicorn, once it has closed by itself, as for a PONG that did not
    come, takes the next message for one that follows the application's own close.
    """
    return isinstance(error, OSError) or "after sending 'websocket.close'" in str(error)


def _is_text(mode: str) -> bool:
    if mode not in ("text", "binary"):
        raise RuntimeError(f"mode is {mode!r}: expected 'text' or 'binary'")
    return mode == "text"


def _data_of(event: Message) -> str | bytes:
    # ASGI: one of the two is there, the other is missing or None.
    text: str | None = event.get("text")
    if text is not None:
        return text
    data: bytes = event["bytes"]
    return data
