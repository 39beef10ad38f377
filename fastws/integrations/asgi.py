"""A :class:`~fastws.app.FastWS` application under another ASGI server.

Of a route's options those about the opening handshake hold here too: origins and subprotocols.
Sizes, queues, deadlines, pings and compression are that server's business, and its options.
"""

from __future__ import annotations

import logging
import traceback

from fastws.app import FastWS
from fastws.asgi_connection import ASGIConnection
from fastws.codes import CloseCode, WebSocketState
from fastws.config import Config
from fastws.datastructures import Receive, Scope, Send
from fastws.exceptions import HTTPException, WebSocketDisconnect, ending_of
from fastws.handshake import is_origin_allowed
from fastws.requests import Request, route_path
from fastws.responses import error_response
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
            await _http(app, scope, send)
        case "lifespan":
            await _lifespan(app, scope, receive, send)
        case other:
            raise ValueError(
                f"a scope of type {other!r}: fastws handles websocket, http and lifespan"
            )


async def _websocket(app: FastWS, scope: Scope, receive: Receive, send: Send) -> None:
    found = app.find_websocket(route_path(scope))
    scope["app"] = app
    scope["path_params"] = found[1] if found else {}
    ws = WebSocket(scope, receive, send)
    connection: ASGIConnection = ws._link
    error: Exception | None = None
    try:
        if found is None:
            raise HTTPException(404)
        _apply_options(found[0], scope)
        await app.open_websocket(ws, *found)
    except Exception as caught:
        error = caught
    finally:
        connection.finish()
    try:
        await _end(connection, route_path(scope), error)
    finally:
        # An exception and the frames in its traceback hold on to each other.
        del error


def _apply_options(route: APIWebSocketRoute, scope: Scope) -> None:
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


async def _end(connection: ASGIConnection, path: str, error: Exception | None) -> None:
    """Close or refuse as the handler's outcome asks for, and log it once."""
    ending = ending_of(error)
    refused = connection.application_state is WebSocketState.CONNECTING
    if isinstance(error, WebSocketDisconnect):
        log.debug("the handler of %a ended with its connection: %s", path, error)
    elif ending.is_error and not (refused and isinstance(error, HTTPException)):
        log.error("the handler of %a failed", path, exc_info=error)
    elif refused and error is None:
        log.error("the handler of %a returned without accepting or refusing", path)
    if connection.client_state is WebSocketState.DISCONNECTED:
        return
    try:
        if refused:
            status = ending.status
            await _refuse(
                connection, error if isinstance(error, HTTPException) else HTTPException(status)
            )
        else:
            await connection.close(ending.code, ending.reason)
    except (TypeError, ValueError):
        log.exception("the handler of %a ended with what cannot be sent", path)
        if refused:
            await _refuse(connection, HTTPException(500))
        else:
            await connection.close(CloseCode.INTERNAL_ERROR)


async def _refuse(connection: ASGIConnection, error: HTTPException) -> None:
    response = error_response(error)
    await connection.send_denial_response(response.status_code, response.raw_headers, response.body)


async def _http(app: FastWS, scope: Scope, send: Send) -> None:
    response = await app.handle_http(Request(scope))
    body = b"" if scope["method"] == "HEAD" else response.body
    headers = list(response.raw_headers)
    if any(name == b"upgrade" for name, _ in headers):
        # A hop's own header, which Connection must name (RFC 9110 section 7.8).
        headers.append((b"connection", b"Upgrade"))
    try:
        await send(
            {
                "type": "http.response.start",
                "status": response.status_code,
                "headers": headers,
            }
        )
        await send({"type": "http.response.body", "body": body})
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
    except Exception:
        # The server logs the message.
        failed = "lifespan.shutdown.failed" if started else "lifespan.startup.failed"
        await send({"type": failed, "message": traceback.format_exc()})
    else:
        await send({"type": "lifespan.shutdown.complete"})
