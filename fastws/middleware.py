"""Middleware: what runs around every handler, for WebSockets and for plain HTTP.

There are two forms, in one order. A *function* gets the connection and ``call_next``::

    @app.middleware("websocket")
    async def timed(ws: WebSocket, call_next: CallNext) -> None:
        started = time.monotonic()
        await call_next(ws)
        print(time.monotonic() - started)

An ASGI *class* is made with the application that it wraps, and called with scope, receive and send:
what exists for Starlette and others works here, on this package's own server too.

The first of ``FastWS(middleware=[…])`` is the outermost; what is added later goes around all that
is there.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, Literal, NamedTuple

from fastws.datastructures import Message, Receive, Scope, Send
from fastws.requests import Request
from fastws.responses import Response, to_response
from fastws.signatures import is_async, name_of
from fastws.websocket import WebSocket

__all__ = [
    "ASGIApp",
    "CallNext",
    "Layer",
    "Middleware",
    "MiddlewareFunction",
    "stack",
]

ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

CallNext = Callable[[Any], Awaitable[Any]]
"""What a middleware function calls to go on: with the WebSocket or the request that it got. The
value is ``None`` for a WebSocket, whose handler has then ended, and a response for a request."""


class Middleware:
    """A middleware class and the arguments that it is made with.

    Parameters:
        cls: called with the ASGI application to wrap, as the first argument or as ``app``, and
            with the others.
        args: positional arguments for it.
        kwargs: keyword arguments for it.
    """

    __slots__ = ("args", "cls", "kwargs")

    def __init__(self, cls: Callable[..., ASGIApp], *args: Any, **kwargs: Any) -> None:
        self.cls = cls
        self.args = args
        self.kwargs = kwargs

    def __iter__(self) -> Iterator[Any]:
        """The class and its arguments: how Starlette's object of this name is read, too."""
        return iter((self.cls, self.args, self.kwargs))

    def __repr__(self) -> str:
        options = [repr(value) for value in self.args]
        options += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"Middleware({', '.join([name_of(self.cls), *options])})"


class MiddlewareFunction:
    """A middleware function, and the kind of connection that it is for.

    Parameters:
        function: an ``async def`` with the connection and ``call_next``.
        kind: ``"websocket"`` or ``"http"``.

    Raises:
        ValueError: the kind is another one.
        TypeError: the function is no ``async def``.
    """

    __slots__ = ("function", "kind")

    def __init__(
        self,
        function: Callable[[Any, CallNext], Coroutine[Any, Any, Any]],
        kind: Literal["websocket", "http"],
    ) -> None:
        if kind not in ("websocket", "http"):
            raise ValueError(
                f"middleware for {kind!r}: expected @app.middleware('websocket') or "
                "@app.middleware('http')"
            )
        if not is_async(function):
            raise TypeError(
                f"middleware {name_of(function)}() must be an async function: "
                "define it with `async def`"
            )
        self.function = function
        self.kind = kind


class Layer(NamedTuple):
    """A middleware with all that is inside of it; the innermost is the application's routes."""

    websocket: Callable[[WebSocket], Coroutine[Any, Any, None]]
    """Serves a connection; what it raises decides how the connection ends."""
    http: Callable[[Request], Awaitable[Response]]
    """Answers a request, or raises what the handler raised."""
    app: ASGIApp | None = None
    """The same as an ASGI application, where it is one anyway."""


Reroute = Callable[[WebSocket], None]
Settle = Callable[[WebSocket, Exception], Awaitable[None]]


def stack(
    middleware: Iterable[Middleware | MiddlewareFunction],
    inside: Layer,
    *,
    reroute: Reroute,
    settle: Settle,
) -> Layer:
    """Put middleware around ``inside``.

    Parameters:
        middleware: the outermost first.
        inside: what serves in the end.
        reroute: called with each WebSocket that comes out of a class, which may have given it
            another path.
        settle: called with a WebSocket and what its handler raised, before that goes through a
            class: ends the connection if it was no failure, and else raises it again.

    Raises:
        TypeError: a class cannot be made with its arguments.
    """
    layer = inside
    for item in reversed(tuple(middleware)):
        if isinstance(item, Middleware):
            layer = _class_layer(item, layer, reroute, settle)
        else:
            layer = _function_layer(item, layer)
    return layer


# Functions


def _function_layer(middleware: MiddlewareFunction, inside: Layer) -> Layer:
    """What the function is not for passes by, at no cost."""
    function = middleware.function
    if middleware.kind == "websocket":
        return Layer(lambda ws: function(ws, inside.websocket), inside.http)

    async def http(request: Request) -> Response:
        return to_response(await function(request, inside.http))

    return Layer(inside.websocket, http)


# Classes


def _class_layer(middleware: Middleware, inside: Layer, reroute: Reroute, settle: Settle) -> Layer:
    """Between a class and what is not one stand adapters."""
    name = name_of(middleware.cls)

    async def go_on(scope: Scope, receive: Receive, send: Send) -> None:
        """The application that the class wraps."""
        if scope["type"] == "websocket":
            await _go_on_with_websocket(scope, receive, send, inside, reroute, settle)
        elif scope["type"] == "http":
            response = await inside.http(Request(scope))
            await response(scope, receive, send)
        else:
            raise ValueError(
                f"middleware {name} handed a scope of type {scope['type']!r} on: "
                "expected websocket or http"
            )

    # Two classes in a row need no adapter between them.
    app: ASGIApp = middleware.cls(inside.app or go_on, *middleware.args, **middleware.kwargs)

    async def websocket(ws: WebSocket) -> None:
        events = _Events(ws)
        await app(ws.scope, events.receive, events.send)

    async def http(request: Request) -> Response:
        exchange = _Exchange()
        try:
            await app(request.scope, exchange.receive, exchange.send)
        finally:
            exchange.over.set()
        response = exchange.response()
        if response is None:
            raise RuntimeError(f"middleware {name} sent no response, or half of one")
        return response

    return Layer(websocket, http, app)


async def _go_on_with_websocket(
    scope: Scope, receive: Receive, send: Send, inside: Layer, reroute: Reroute, settle: Settle
) -> None:
    events = getattr(receive, "__self__", None)
    if isinstance(events, _Events) and receive == events.receive and send == events.send:
        # As most classes do, it handed them on as it got them. The WebSocket behind them serves
        # as well, and no message goes through an adapter.
        ws, is_new = events.ws, False
        ws._take_scope(scope)
    else:
        ws, is_new = WebSocket(scope, receive, send), True
    try:
        reroute(ws)
        await inside.websocket(ws)
    except Exception as error:
        # ASGI middleware takes what is raised for a failure. A refusal is none.
        await settle(ws, error)
    finally:
        if is_new:
            ws._link.finish()


class _Events:
    """A WebSocket as the ``receive`` and ``send`` of ASGI, for what is inside of a middleware.

    Parameters:
        ws: the connection.
    """

    def __init__(self, ws: WebSocket) -> None:
        self.ws = ws
        self._began = False
        # What only the connection itself can do, such as a ping, goes past the middleware. A weak
        # reference: the connection has the scope.
        ws.scope["fastws.websocket"] = weakref.ref(ws)

    async def receive(self) -> Message:
        if not self._began:
            self._began = True
            return {"type": "websocket.connect"}
        return await self.ws.receive()

    async def send(self, message: Message) -> None:
        await self.ws.send(message)


class _Exchange:
    """One HTTP request without a body, and its response, in the events of ASGI."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self._requested = False
        self._start: Message | None = None
        self._body = bytearray()
        self._complete = False

    async def receive(self) -> Message:
        if not self._requested:
            self._requested = True
            return {"type": "http.request", "body": b"", "more_body": False}
        # The client is there until it has its response.
        await self.over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                self._complete = True
                self.over.set()
        else:
            raise RuntimeError(
                f"{message['type']!r} cannot be sent here: expected http.response.start, then "
                "http.response.body"
            )

    def response(self) -> Response | None:
        """What was sent, ``None`` if that is not a whole response."""
        if self._start is None or not self._complete:
            return None
        response = Response(bytes(self._body), self._start["status"])
        given = [(name.lower(), value) for name, value in self._start.get("headers") or ()]
        # The length stays as it is, for HEAD is told that of a body it does not get. A response in
        # parts has none, but that is over now.
        if not self._body or any(name == b"content-length" for name, _ in given):
            response.raw_headers.clear()
        response.raw_headers += [pair for pair in given if pair[0] != b"transfer-encoding"]
        return response
