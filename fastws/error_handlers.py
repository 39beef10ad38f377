"""What a program does about exceptions: ``@app.exception_handler``, and the rule without one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from fastws.codes import CloseCode, WebSocketState
from fastws.exceptions import (
    HTTPException,
    WebSocketDisconnect,
    WebSocketException,
    ending_of,
)
from fastws.requests import Request
from fastws.responses import Response, error_response
from fastws.signatures import is_async, name_of
from fastws.websocket import WebSocket

__all__ = ["ErrorHandler", "ErrorHandlers", "end", "is_outcome", "settle"]

log = logging.getLogger("fastws.error")

ErrorHandler = Callable[[Any, Any], Any]
"""Called with the WebSocket or the request, and the exception. ``def`` runs in a thread."""

SERVER_ERROR = 500


class ErrorHandlers:
    """Exception handlers by class of exception, and by status of an ``HTTPException``.

    Parameters:
        handlers: to begin with; the keys are those of :meth:`add`.
    """

    def __init__(self, handlers: Mapping[Any, ErrorHandler]) -> None:
        self._by_class: dict[type[Exception], ErrorHandler] = {}
        self._by_status: dict[int, ErrorHandler] = {}
        for key, handler in handlers.items():
            self.add(key, handler)

    def __bool__(self) -> bool:
        return bool(self._by_class or self._by_status)

    def add(self, key: int | type[Exception], handler: ErrorHandler) -> None:
        """Register a handler, in the place of an earlier one for the same.

        Raises:
            TypeError: ``key`` is neither a status nor a class of exceptions.
        """
        if isinstance(key, type) and issubclass(key, Exception):
            self._by_class[key] = handler
        elif isinstance(key, int):
            self._by_status[key] = handler
        else:
            raise TypeError(
                f"exception handler {name_of(handler)}() is for {key!r}: expected a class of "
                "exceptions, or the status of an HTTPException"
            )

    def find(self, error: Exception) -> ErrorHandler | None:
        """The handler for an exception: by its status, else by the most specific of its classes.

        The handler for :class:`Exception` itself, and for 500, is no match: see :meth:`last`.
        """
        if isinstance(error, HTTPException) and error.status_code in self._by_status:
            return self._by_status[error.status_code]
        for kind in type(error).__mro__:
            if kind is Exception:
                break
            if kind in self._by_class:
                return self._by_class[kind]
        return None

    def last(self, error: Exception) -> ErrorHandler | None:
        """The handler for a failure that no other handler took: that of ``Exception``, or 500."""
        if is_outcome(error):
            return None
        return self._by_class.get(Exception) or self._by_status.get(SERVER_ERROR)


def is_outcome(error: Exception) -> bool:
    """Whether an exception is a way for a handler to end, as opposed to a failure."""
    return isinstance(error, (WebSocketDisconnect, WebSocketException, HTTPException))


async def call(handler: ErrorHandler, connection: WebSocket | Request, error: Exception) -> Any:
    """Run an exception handler, and return what it does."""
    if is_async(handler):
        return await handler(connection, error)
    return await asyncio.to_thread(handler, connection, error)


async def call_for_websocket(handler: ErrorHandler, ws: WebSocket, error: Exception) -> None:
    """Run an exception handler; a response that it returns refuses a connection not accepted."""
    result = await call(handler, ws, error)
    if isinstance(result, Response) and ws.application_state is WebSocketState.CONNECTING:
        await ws.send_denial_response(result)


async def settle(ws: WebSocket, error: Exception) -> None:
    """End a connection in the way that an exception asks for.

    Raises:
        Exception: it again, if it is a failure: the log is to have it first.
    """
    is_accepted = ws.application_state is not WebSocketState.CONNECTING
    if not is_outcome(error) or (is_accepted and isinstance(error, HTTPException)):
        raise error
    await end(ws, error)


async def end(ws: WebSocket, error: Exception | None) -> None:
    """Close or refuse a connection as the outcome of its handler asks for; once is enough.

    Parameters:
        ws: the connection.
        error: what the handler raised, ``None`` if it returned.
    """
    if ws.client_state is WebSocketState.DISCONNECTED:
        return
    ending = ending_of(error)
    refused = ws.application_state is WebSocketState.CONNECTING
    try:
        if refused:
            refusal = error if isinstance(error, HTTPException) else HTTPException(ending.status)
            await ws.send_denial_response(error_response(refusal))
        else:
            await ws.close(ending.code, ending.reason)
    except (TypeError, ValueError):
        log.exception("the handler of %a ended with what cannot be sent", ws.scope["path"])
        if refused:
            await ws.send_denial_response(error_response(HTTPException(SERVER_ERROR)))
        else:
            await ws.close(CloseCode.INTERNAL_ERROR)
