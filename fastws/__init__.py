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

import importlib as _importlib
import sys as _sys
from pathlib import Path as _Path

try:
    # It imports every other compiled module.
    _importlib.import_module("fastws._channel")
except ImportError as _error:
    _sentence = (
        f"fastws needs its compiled modules, and they cannot be imported ({_error}): "
        "build them with `make build`, or install the package with pip"
    )
    # The command `fastws`, or `python -m fastws`, says it in one line and ends; a program that
    # imports the package gets an exception.
    _as_module = ("-m", "fastws") in zip(_sys.orig_argv, _sys.orig_argv[1:], strict=False)
    if _as_module or _Path(_sys.argv[0]).stem == "fastws":
        _sys.exit(_sentence)
    raise ImportError(_sentence) from _error

from fastws._codec import FrameParser, PreparedMessage, build_frame
from fastws.app import FastWS
from fastws.broadcasting import broadcast
from fastws.client import connect
from fastws.codes import CloseCode, Opcode, WebSocketState
from fastws.dependencies import Depends
from fastws.exceptions import (
    HandshakeError,
    HTTPException,
    MessageError,
    WebSocketClosed,
    WebSocketDisconnect,
    WebSocketException,
    WebSocketTypeError,
)
from fastws.limits import DeflateOptions, Limits
from fastws.middleware import Middleware
from fastws.parameters import Cookie, Header, Path, Query
from fastws.protocol import ClientProtocol, Protocol, ServerProtocol
from fastws.requests import Request
from fastws.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastws.routing import APIRouter, APIWebSocketRoute
from fastws.websocket import TypedWebSocket, WebSocket

__version__ = "0.1.0"

__all__ = [
    "APIRouter",
    "APIWebSocketRoute",
    "ClientProtocol",
    "CloseCode",
    "Cookie",
    "DeflateOptions",
    "Depends",
    "FastWS",
    "FrameParser",
    "HTMLResponse",
    "HTTPException",
    "HandshakeError",
    "Header",
    "JSONResponse",
    "Limits",
    "MessageError",
    "Middleware",
    "Opcode",
    "Path",
    "PlainTextResponse",
    "PreparedMessage",
    "Protocol",
    "Query",
    "Request",
    "Response",
    "ServerProtocol",
    "TypedWebSocket",
    "WebSocket",
    "WebSocketClosed",
    "WebSocketDisconnect",
    "WebSocketException",
    "WebSocketState",
    "WebSocketTypeError",
    "broadcast",
    "build_frame",
    "connect",
    "get_include",
]


def get_include() -> str:
    """The folder of the C headers that :mod:`fastws`'s ``.pxd`` files include.

    For ``include_dirs`` of an ``Extension`` that has ``from fastws._codec cimport …``.
    """
    return __path__[0]
