"""A :class:`~fastws.app.FastWS` application under another ASGI server."""

from __future__ import annotations

import logging
import traceback

from fastws.app import FastWS
from fastws.asgi_connection import ASGIConnection
from fastws.codes import WebSocketState
from fastws.datastructures import Receive, Scope, Send
from fastws.exceptions import HTTPException, WebSocketDisconnect, ending_of
from fastws.requests import Request, route_path
from fastws.responses import Response, error_response
from fastws.websocket import WebSocket

__all__ = ["handle"]

log = logging.getLogger("fastws.error")


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
    if refused:
        response = _refusal(error, ending.status)
        await connection.send_denial_response(
            response.status_code, response.raw_headers, response.body
        )
    else:
        await connection.close(ending.code, ending.reason)


def _refusal(error: Exception | None, status: int) -> Response:
    return error_response(error if isinstance(error, HTTPException) else HTTPException(status))


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
