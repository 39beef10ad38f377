"""A :class:`~fastws.app.FastWS` application under another ASGI server.

Of a route's options those about the opening handshake hold here too: origins and subprotocols.
Sizes, queues, deadlines, pings and compression are that server's business, and its options.
"""

from __future__ import annotations

import asyncio
import logging
import traceback

from fastws.app import FastWS
from fastws.asgi_connection import ASGIConnection
from fastws.codes import WebSocketState
from fastws.config import Config
from fastws.datastructures import Receive, Scope, Send
from fastws.error_handlers import end
from fastws.exceptions import HTTPException, WebSocketDisconnect, ending_of
from fastws.handshake import is_origin_allowed
from fastws.requests import Request, mount, route_path
from fastws.routing import APIWebSocketRoute
from fastws.websocket import WebSocket

__all__ = ["handle"]

log = logging.getLogger("fastws.error")

DEFAULTS = Config(app=None)
"""What the options of a route override."""


async def handle(app: FastWS, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one ASGI scope: a WebSocket, an HTTP request, or the lifespan of the server.

    Raises:
        ValueError: the scope is of another type.
    """
    match scope["type"]:
        case "websocket":
            await _websocket(app, scope, receive, send)
        case "http":
            await _http(app, scope, receive, send)
        case "lifespan":
            await _lifespan(app, scope, receive, send)
        case other:
            raise ValueError(
                f"a scope of type {other!r}: fastws handles websocket, http and lifespan"
            )


async def _websocket(app: FastWS, scope: Scope, receive: Receive, send: Send) -> None:
    mount(scope, app.root_path)
    found = app.find_websocket(route_path(scope))
    scope["app"] = app
    scope["path_params"] = found[1] if found else {}
    ws = WebSocket(scope, receive, send)
    connection: ASGIConnection = ws._link
    error: Exception | None = None
    try:
        if found is None:
            raise HTTPException(404)
        apply_options(found[0], scope)
        connection.begin(cancel_on_disconnect=found[0].cancel_on_disconnect)
        await app.open_websocket(ws, *found)
    except Exception as caught:
        error = caught
    except asyncio.CancelledError:
        if not connection.cancelled_here:
            raise
        log.debug(
            "the handler of %a was cancelled: the client left",
            route_path(scope),
            extra={"connection": ws.id},
        )
    finally:
        connection.finish()
    try:
        _report(ws, route_path(scope), error)
        await end(ws, error)
    finally:
        # An exception and the frames in its traceback hold on to each other.
        del error


def apply_options(route: APIWebSocketRoute, scope: Scope) -> None:
    """Refuse foreign origins, and leave the subprotocols that the route does not speak out."""
    if not route.options:
        return
    config = DEFAULTS.for_route(route.options)
    origins = [value for name, value in scope["headers"] if name == b"origin"]
    host = next((value for name, value in scope["headers"] if name == b"host"), None)
    # More than one is no browser's doing: then each has to be allowed.
    if not all(
        is_origin_allowed(origin.decode("latin-1"), host, config.ws_origins) for origin in origins
    ):
        raise HTTPException(403, "this origin is not allowed here")
    if config.ws_subprotocols:
        offered = scope.get("subprotocols") or ()
        scope["subprotocols"] = [name for name in offered if name in config.ws_subprotocols]


def _report(ws: WebSocket, path: str, error: Exception | None) -> None:
    """Log the outcome of a handler, once."""
    refused = ws.application_state is WebSocketState.CONNECTING
    extra = {"connection": ws.id}
    if isinstance(error, WebSocketDisconnect):
        log.debug("the handler of %a ended with its connection: %s", path, error, extra=extra)
    elif ending_of(error).is_error and not (refused and isinstance(error, HTTPException)):
        log.error("the handler of %a failed", path, exc_info=error, extra=extra)
    elif refused and error is None:
        log.error("the handler of %a returned without accepting or refusing", path, extra=extra)


async def _http(app: FastWS, scope: Scope, receive: Receive, send: Send) -> None:
    response = await app.handle_http(Request(scope))
    try:
        await response(scope, receive, send)
    except OSError:
        log.debug("the client of %a left before its response", scope["path"])


async def _lifespan(app: FastWS, scope: Scope, receive: Receive, send: Send) -> None:
    await receive()  # lifespan.startup
    started = False
    try:
        for route in app.routes:
            if isinstance(route, APIWebSocketRoute):
                DEFAULTS.for_route(route.options)  # a wrong one is told at the start
        async with app.lifespan_context() as state:
            # A server without this key keeps no state for its requests.
            scope.get("state", {}).update(state)
            await send({"type": "lifespan.startup.complete"})
            started = True
            await receive()  # lifespan.shutdown
            # Not before: ASGI has no word for it. By now the server has closed the connections.
            app.begin_drain()
            await app.run_drain_handlers()
    except Exception:
        # The server logs the message.
        failed = "lifespan.shutdown.failed" if started else "lifespan.startup.failed"
        await send({"type": failed, "message": traceback.format_exc()})
    else:
        await send({"type": "lifespan.shutdown.complete"})
