"""FastAPI's WebSocket API on a compiled frame codec.

::

    from fastws import FastWS, WebSocket

    app = FastWS()

    @app.websocket("/ws")
    async def echo(ws: WebSocket):
        await ws.accept()
        async for message in ws:
            await ws.send_text(message)

Run it with ``fastws run module:app``, with ``app.serve()``, or as an ASGI application.
"""

try:
    from fastws import _codec as _codec
except ImportError as error:
    raise ImportError(
        "fastws needs its compiled modules, and they cannot be imported "
        f"({error}): build them with `make build`, or install the package with pip"
    ) from error

from fastws.app import FastWS
from fastws.codes import CloseCode, Opcode, WebSocketState
from fastws.exceptions import (
    HandshakeError,
    HTTPException,
    WebSocketClosed,
    WebSocketDisconnect,
    WebSocketException,
    WebSocketTypeError,
)
from fastws.limits import DeflateOptions, Limits
from fastws.requests import Request
from fastws.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastws.routing import APIRouter, APIWebSocketRoute
from fastws.websocket import WebSocket

__version__ = "0.1.0"

__all__ = [
    "APIRouter",
    "APIWebSocketRoute",
    "CloseCode",
    "DeflateOptions",
    "FastWS",
    "HTMLResponse",
    "HTTPException",
    "HandshakeError",
    "JSONResponse",
    "Limits",
    "Opcode",
    "PlainTextResponse",
    "Request",
    "Response",
    "WebSocket",
    "WebSocketClosed",
    "WebSocketDisconnect",
    "WebSocketException",
    "WebSocketState",
    "WebSocketTypeError",
]
