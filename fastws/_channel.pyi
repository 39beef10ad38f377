"""The verbs of a WebSocket.

Every verb that has to be awaited returns a coroutine, though not one of an ``async def``: see
:mod:`fastws._awaitables`.
"""

import builtins
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Literal, TypeVar, overload

from typing_extensions import Buffer, Self, disjoint_base

from fastws._codec import PreparedMessage
from fastws.codes import WebSocketState
from fastws.http_fields import HeaderPairs

_T = TypeVar("_T")
_Verbs = TypeVar("_Verbs", bound=type[Channel])

def give_verbs(cls: _Verbs) -> _Verbs:
    """Decorate a subclass of :class:`Channel`: give it the verbs as methods of its own.

    CPython's specialised call instructions know a C function only as a method of the object's own
    type; one that is inherited costs a third more to call.
    """

def send_to_all(connections: Iterable[Channel], message: PreparedMessage) -> list[Channel]:
    """Send ``message`` to those that are compiled connections, and return the others.

    Raises:
        TypeError: one is no :class:`Channel`.
        RuntimeError: the call is from another thread than one's own.
    """

@disjoint_base
class Channel:
    """What a :class:`~fastws.websocket.WebSocket` receives, sends and closes with.

    A connection belongs to its event loop's thread. From another thread every verb raises
    ``RuntimeError``: call ``loop.call_soon_threadsafe(ws.send_text, data)``; or, to wait for what
    a verb returns, await it in an ``async def`` of your own, which
    ``asyncio.run_coroutine_threadsafe()`` runs.

    Parameters:
        link: the back end; a compiled ``Connection``, or an object with the same methods.
    """

    def __init__(self, link: Any) -> None: ...
    @property
    def _link(self) -> Any:
        """The back end."""

    # How it stands

    @property
    def client_state(self) -> WebSocketState:
        """What may still be received.

        ``CONNECTING`` until :meth:`accept`, ``CONNECTED`` while a message may come or waits to be
        received, ``CLOSING`` from this application's :meth:`close` until the peer has answered,
        then ``DISCONNECTED``.
        """

    @property
    def application_state(self) -> WebSocketState:
        """What may still be sent.

        ``CONNECTING`` until :meth:`accept`, ``CONNECTED`` while data may be sent, ``CLOSING`` once
        a CLOSE is sent, ``DISCONNECTED`` when the connection is over.
        """

    @property
    def close_code(self) -> int | None:
        """The code the connection ended with, ``None`` before its end (RFC 6455 section 7.1.5).

        The peer's; 1005 if its CLOSE had none, 1006 if TCP was lost without a CLOSE, or the code
        with which this endpoint failed the connection (section 7.1.7).
        """

    @property
    def close_reason(self) -> str | None:
        """The reason that came with the code, ``""`` if none did; ``None`` before the end."""

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that :meth:`accept` chose, ``None`` without one."""

    # Opening handshake

    def accept(
        self, subprotocol: str | None = None, headers: HeaderPairs | None = None
    ) -> Coroutine[Any, Any, None]:
        """Accept the connection: the 101 response goes out (RFC 6455 section 4.2.2).

        Call it once, before any receive or send, and within ``ws-accept-timeout`` (30 s): the
        server refuses with 503 after that.

        Parameters:
            subprotocol: one of ``subprotocols``, which the peer offers; ``None`` chooses none.
            headers: further headers of the response, as pairs of ``bytes`` or ``str``, or as a
                mapping.

        Raises:
            ValueError: the subprotocol was not offered, or a header has a character that may not
                stand in one, or is the handshake's own. Nothing is sent.
            RuntimeError: the connection has been accepted or refused before.
            WebSocketDisconnect: the peer left before; the code is 1006.
        """

    def send_denial_response(
        self, status: int, headers: HeaderPairs | None = None, body: bytes | str = b""
    ) -> Coroutine[Any, Any, None]:
        """Refuse the connection with an HTTP response in the place of :meth:`accept`.

        Parameters:
            status: the response's status.
            headers: its headers, as pairs or a mapping; Content-Length is added.
            body: its body; ``str`` is encoded as UTF-8.

        Raises:
            ValueError: a header has a character that may not stand in one, or is one that only
                the server sets. Nothing is sent.
            RuntimeError: the connection has been accepted or refused before.
        """

    # Receiving

    def receive_text(self, timeout: float | None = None) -> Coroutine[Any, Any, str]:
        """The next message, which must be text.

        One task at a time may wait for a message. Messages come in the order of the wire, each to
        one call; those that arrived before the end of the connection are received before it is
        told. A receive that is cancelled, or times out, loses none.

        Parameters:
            timeout: seconds to wait, from the ``await`` on; ``None`` waits for as long as the
                connection lasts.

        Raises:
            WebSocketTypeError: the message is binary; it is in ``data``. If this leaves the
                handler, the connection closes with 1003.
            WebSocketDisconnect: the connection is over: ``code`` and ``reason`` say how.
            WebSocketClosed: it is over because this application closed it.
            TimeoutError: no message came in time; on Python 3.10 also an
                ``asyncio.TimeoutError``.
            RuntimeError: :meth:`accept` was not called yet, another task waits for a message, or
                what one call returned is awaited twice.
        """

    def receive_bytes(self, timeout: float | None = None) -> Coroutine[Any, Any, bytes]:
        """The next message, which must be binary; else as :meth:`receive_text`.

        Parameters:
            timeout: seconds to wait, from the ``await`` on; ``None`` waits for as long as the
                connection lasts.

        Raises:
            WebSocketTypeError: the message is text; it is in ``data``.
            WebSocketDisconnect: the connection is over.
            WebSocketClosed: it is over because this application closed it.
            TimeoutError: no message came in time.
            RuntimeError: as :meth:`receive_text`.
        """

    @overload
    def receive_json(
        self,
        mode: Literal["text", "binary"] | str = "text",
        timeout: float | None = None,
        *,
        type: None = None,
    ) -> Coroutine[Any, Any, Any]: ...
    @overload
    def receive_json(
        self,
        mode: Literal["text", "binary"] | str = "text",
        timeout: float | None = None,
        *,
        type: builtins.type[_T],
    ) -> Coroutine[Any, Any, _T]: ...
    @overload
    def receive_json(
        self,
        mode: Literal["text", "binary"] | str = "text",
        timeout: float | None = None,
        *,
        type: Any,
    ) -> Coroutine[Any, Any, Any]:
        """The next message, read as JSON; else as :meth:`receive_text`.

        Parameters:
            mode: ``"text"`` or ``"binary"``, the kind that the message must have.
            timeout: seconds to wait, from the ``await`` on; ``None`` waits for as long as the
                connection lasts.
            type: what the message must be, and becomes: a msgspec ``Struct``, a dataclass, a
                ``TypedDict``, a union of tagged structs, a pydantic model, …

        Raises:
            MessageError: with ``type``: the message is not of it, or is not JSON. It is taken off
                the queue; the connection goes on.
            json.JSONDecodeError: without ``type``: the message is not JSON (a ``ValueError``); it
                is taken off the queue.
            WebSocketTypeError: the message is of the other kind; it is in ``data``.
            WebSocketDisconnect: the connection is over.
            WebSocketClosed: it is over because this application closed it.
            TimeoutError: no message came in time.
            TypeError: JSON has no form for ``type``.
            RuntimeError: ``mode`` is another one; else as :meth:`receive_text`.
        """

    def _receive_json_as(
        self, decode: Callable[[str | bytes], _T], mode: str = "text", timeout: float | None = None
    ) -> Coroutine[Any, Any, _T]:
        """:meth:`receive_json` with the function that reads the message."""

    def receive(self, timeout: float | None = None) -> Coroutine[Any, Any, dict[str, Any]]:
        """The next message of either kind, or the end of the connection, as an ASGI event.

        That is ``{"type": "websocket.receive", "text": …}``, or ``"bytes"`` in the place of
        ``"text"``; and once, when there are no more, ``{"type": "websocket.disconnect",
        "code": …, "reason": …}``.

        Parameters:
            timeout: seconds to wait, from the ``await`` on; ``None`` waits for as long as the
                connection lasts.

        Raises:
            WebSocketDisconnect: ``websocket.disconnect`` has been received before.
            WebSocketClosed: the same, after this application's own :meth:`close`.
            TimeoutError: no event came in time.
            RuntimeError: as :meth:`receive_text`.
        """

    def __aiter__(self) -> Self:
        """``async for message in ws``: every message, text as ``str``, binary as ``bytes``, until
        the connection ends."""

    def __anext__(self) -> Coroutine[Any, Any, str | bytes]:
        """The next message of either kind.

        Raises:
            StopAsyncIteration: the connection is over.
            RuntimeError: it is too early (accept first), or another task is receiving.
        """

    def _next_as(self, decode: Callable[[str | bytes], _T]) -> Coroutine[Any, Any, _T]:
        """:meth:`__anext__` with a function that reads the message."""

    # Sending

    def send_text(self, data: str | Buffer) -> Coroutine[Any, Any, None]:
        """Send a text message.

        The call queues it: messages go out in the order of the calls, from however many tasks,
        and none is torn. To await the result waits only while the write buffer holds more than
        64 KiB, until it is down to a quarter; a handler that sends much should, for a peer that
        does not read is cut with 1013 once 1 MiB has been queued without it. Where none of 64 sends
        in a row had to wait, and they took 5 ms, the next lets the loop's other work have a turn.

        From outside the connection's own handler, as in a broadcast, a send to a peer that is gone
        does nothing as long as the handler has not been told, at most 5 s long. Otherwise the
        death of one peer would end another one's handler. ``FastWS(strict_send=True)`` raises at
        once.

        Parameters:
            data: the text; or UTF-8 that is encoded already, which is checked and sent as it is.

        Raises:
            TypeError: ``data`` is neither.
            ValueError: the bytes are not UTF-8, or the text holds a lone surrogate, which has no
                UTF-8 (``UnicodeEncodeError``). Nothing is sent.
            WebSocketDisconnect: the connection is over; also from the ``await``, if it ends while
                the send waits.
            WebSocketClosed: it is over because this application closed it.
            RuntimeError: :meth:`accept` was not called yet.
        """

    def send_bytes(self, data: Buffer) -> Coroutine[Any, Any, None]:
        """Send a binary message; else as :meth:`send_text`.

        Parameters:
            data: ``bytes``, or anything with a buffer, which is copied.

        Raises:
            TypeError: ``data`` is ``str``, or has no buffer.
            WebSocketDisconnect: the connection is over.
            WebSocketClosed: it is over because this application closed it.
            RuntimeError: :meth:`accept` was not called yet.
        """

    def send_json(
        self, obj: Any, mode: Literal["text", "binary"] | str = "text"
    ) -> Coroutine[Any, Any, None]:
        """Send an object as JSON, compact and in UTF-8; else as :meth:`send_text`.

        Parameters:
            obj: what orjson encodes: besides the usual, dataclasses, datetimes, UUIDs and enums;
                keys that are no ``str`` become one.
            mode: the kind of message to send, ``"text"`` or ``"binary"``.

        Raises:
            TypeError: something in ``obj`` has no JSON form. Nothing is sent.
            WebSocketDisconnect: the connection is over.
            WebSocketClosed: it is over because this application closed it.
            RuntimeError: ``mode`` is another one, or :meth:`accept` was not called yet.
        """

    def send(self, message: Mapping[str, Any]) -> Coroutine[Any, Any, None]:
        """Send an ASGI event: :meth:`accept`, a message, :meth:`close`, or a refusal.

        Parameters:
            message: its ``type`` is ``websocket.accept`` (with ``subprotocol`` and ``headers``),
                ``websocket.send`` (with ``text`` or ``bytes``), ``websocket.close`` (with
                ``code`` and ``reason``), or ``websocket.http.response.start`` (with ``status``
                and ``headers``) and then ``websocket.http.response.body`` (with ``body``, and
                ``more_body`` where another follows), which is :meth:`send_denial_response`.

        Raises:
            RuntimeError: it is of another type, or a response's body without its start.
            KeyError: ``type`` is missing, or a ``websocket.send`` has neither text nor bytes.
            Exception: what the method that it stands for raises.
        """

    def ping(self, data: Buffer = b"") -> Coroutine[Any, Any, float]:
        """Send a PING and wait for its PONG (RFC 6455 sections 5.5.2 and 5.5.3).

        Its value is the round trip in seconds. Keepalive needs no call of this: see
        ``ws-ping-interval``. There is no timeout but that of the connection; use
        ``asyncio.timeout()`` or ``asyncio.wait_for()``.

        Parameters:
            data: at most 125 bytes for the peer to send back; four random ones if empty.

        Raises:
            ValueError: ``data`` is longer, or a ping with the same data waits for its pong.
            WebSocketDisconnect: the connection is over, or ends before the answer.
            WebSocketClosed: it is over because this application closed it.
            RuntimeError: :meth:`accept` was not called yet.
        """

    # The end

    def close(self, code: int = 1000, reason: str | None = None) -> Coroutine[Any, Any, None]:
        """Close the connection, after all that was sent before (RFC 6455 section 7.1.2).

        The call queues the CLOSE, and messages that were not received by then are dropped. To
        await the result waits until the peer has answered, and at most ``ws-close-timeout``
        (10 s), after which TCP is cut. Before :meth:`accept` it refuses the connection with 403.

        Calling it again, or when the connection is over, does nothing.

        Parameters:
            code: 1000 to 1003, 1007 to 1014 or 3000 to 4999 (section 7.4).
            reason: at most 123 bytes of UTF-8, for the peer's logs rather than for people.

        Raises:
            ValueError: the code is one that must not be sent, or the reason is too long. Nothing
                is sent.
        """
