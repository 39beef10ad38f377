"""The application: its routes, its state, its start and end, and the ways to serve it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from fastws.datastructures import Receive, Scope, Send, State
from fastws.exceptions import HTTPException
from fastws.parameters import name_of
from fastws.requests import Request, route_path
from fastws.responses import PlainTextResponse, Response, error_response, to_response
from fastws.routing import AnyRoute, APIRouter, APIWebSocketRoute, Route, RouteTable
from fastws.websocket import WebSocket

__all__ = ["FastWS"]

log = logging.getLogger("fastws.error")

Lifespan = Callable[
    [Any], AbstractAsyncContextManager[Mapping[str, Any] | None] | AsyncIterator[Any]
]
Handler = TypeVar("Handler", bound=Callable[[], Any])


class FastWS(APIRouter):
    """An application: register handlers with its decorators, then serve it.

    It is also an ASGI 3 application, for any other server.

    Parameters:
        title: a name for people.
        debug: answer a failed HTTP handler with its traceback. Not for the public.
        lifespan: called with the application, an async context manager (or the async generator
            that would make one) around all serving. A mapping that it yields goes into
            :attr:`state`.
        strict_send: raise whenever something is sent to a peer that is gone, also from outside
            that connection's own handler.
        routes: routes to begin with.
        dependencies: of every route.

    Attributes:
        state: attributes of the application. As they are when it has started up, every
            connection's ``state`` begins with them.
    """

    def __init__(
        self,
        *,
        title: str = "fastws",
        debug: bool = False,
        lifespan: Lifespan | None = None,
        strict_send: bool = False,
        routes: Sequence[AnyRoute] = (),
        dependencies: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(dependencies=dependencies)
        self.title = title
        self.debug = debug
        self.strict_send = strict_send
        self.state = State()
        self._lifespan = lifespan
        self._startup: list[Callable[[], Any]] = []
        self._shutdown: list[Callable[[], Any]] = []
        self._websockets: RouteTable[APIWebSocketRoute] = RouteTable()
        self._pages: RouteTable[Route] = RouteTable()
        for route in routes:
            self.add_route(route)

    # Routes

    def add_route(self, route: AnyRoute) -> None:
        """Add a route.

        Raises:
            TypeError: its handler has a parameter that nothing gives a value to.
        """
        route.check()
        super().add_route(route)
        if isinstance(route, APIWebSocketRoute):
            self._websockets.add(route)
        else:
            self._pages.add(route)

    def find_websocket(self, path: str) -> tuple[APIWebSocketRoute, dict[str, Any]] | None:
        """The route for WebSockets on a path, and the path parameters' values.

        Parameters:
            path: percent-decoded, without the root path.
        """
        return self._websockets.find(path)

    def open_websocket(
        self, ws: WebSocket, route: APIWebSocketRoute, params: Mapping[str, Any]
    ) -> Coroutine[Any, Any, None]:
        """The coroutine that serves a connection, for the server to run as a task.

        Parameters:
            ws: the connection, not accepted yet.
            route: what :meth:`find_websocket` found for it,
            params: and the values that came with it.

        Raises:
            HTTPException: the connection is to be refused with it.
        """
        return route.start(ws, params)

    # Plain HTTP

    async def handle_http(self, request: Request) -> Response:
        """Answer a plain HTTP request.

        The response to a HEAD request has the body and the length that GET would have: the server
        leaves the body away. A handler that fails is logged and answered with 500.
        """
        try:
            try:
                return await self._answer(request)
            except HTTPException as error:
                return error_response(error)
        except Exception:
            log.exception("the handler of %s %a failed", request.method, request.scope["path"])
            if self.debug:
                return PlainTextResponse(traceback.format_exc(), 500)
            return error_response(HTTPException(500))

    async def _answer(self, request: Request) -> Response:
        path = route_path(request.scope)
        found = self._pages.find(path)
        if found is None:
            raise self._not_a_page(path, request.method)
        route, params = found
        if request.method not in route.methods:
            raise HTTPException(405, headers={"allow": "GET, HEAD"})
        request.scope["app"] = self
        request.scope["path_params"] = params
        if route.is_async:
            result = await route.call(request, params)
        else:
            result = await asyncio.to_thread(route.call, request, params)
        return to_response(result, route.response_class, route.status_code)

    def _not_a_page(self, path: str, method: str) -> HTTPException:
        if self._websockets.find(path) is None:
            return HTTPException(404)
        if method != "GET":
            return HTTPException(405, headers={"allow": "GET"})
        # RFC 9110 section 15.5.22: say which protocol it takes.
        return HTTPException(
            426,
            "this path speaks WebSocket: connect with a WebSocket client",
            {"upgrade": "websocket"},
        )

    # Start and end

    def on_startup(self, handler: Handler) -> Handler:
        """Register the decorated function, ``async def`` or ``def``, to run before serving."""
        self._startup.append(handler)
        return handler

    def on_shutdown(self, handler: Handler) -> Handler:
        """Register the decorated function, ``async def`` or ``def``, to run after serving.

        It runs if all of the start-up succeeded; if it fails, the others run nevertheless.
        """
        self._shutdown.append(handler)
        return handler

    @asynccontextmanager
    async def lifespan_context(self) -> AsyncIterator[dict[str, Any]]:
        """Start the application up, and shut it down at the end of the ``async with`` block.

        The value is what each connection's ``state`` begins with.

        Raises:
            Exception: whatever the application's own functions raise.
        """
        async with AsyncExitStack() as stack:
            if self._lifespan is not None:
                await self._enter_lifespan(stack, self._lifespan)
            for handler in self._startup:
                await _run(handler)
            # The stack calls them last in, first out.
            for handler in reversed(self._shutdown):
                stack.push_async_callback(_run, handler)
            yield {name: self.state[name] for name in self.state}

    async def _enter_lifespan(self, stack: AsyncExitStack, lifespan: Lifespan) -> None:
        if inspect.isasyncgenfunction(lifespan):
            lifespan = asynccontextmanager(lifespan)
        context = lifespan(self)
        if not isinstance(context, AbstractAsyncContextManager):
            raise TypeError(
                f"lifespan {name_of(lifespan)}() returned {type(context).__name__}: expected an "
                "async context manager, decorate it with @contextlib.asynccontextmanager"
            )
        values = await stack.enter_async_context(context)
        if values is None:
            return
        if not isinstance(values, Mapping):
            raise TypeError(
                f"lifespan {name_of(lifespan)}() yielded {type(values).__name__}: "
                "expected nothing, or a mapping for app.state"
            )
        for name, value in values.items():
            self.state[name] = value

    # Serving

    def serve(self, host: str = "127.0.0.1", port: int = 8000, **options: Any) -> None:
        """Serve until a signal ends it (``SIGINT``, ``SIGTERM``).

        Parameters:
            host: the address to listen on.
            port: the port to listen on; 0 lets the system choose.
            options: those of ``fastws run``, with underscores: ``ws_max_size="4MiB"``, …

        Raises:
            ValueError: an option is unknown or has a value that it does not take.
            OSError: the address cannot be listened on.
        """
        # The server is built on applications, not the reverse: it is fetched when called for.
        from fastws.server import serve

        serve(self, host=host, port=port, **options)

    async def serve_async(self, host: str = "127.0.0.1", port: int = 8000, **options: Any) -> None:
        """Serve in the running loop, until it is cancelled or a signal ends it.

        Parameters and errors are those of :meth:`serve`.
        """
        from fastws.server import serve_async

        await serve_async(self, host=host, port=port, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application as ASGI 3 has it."""
        from fastws.integrations.asgi import handle

        await handle(self, scope, receive, send)


async def _run(handler: Callable[[], Any]) -> None:
    result = handler()
    if inspect.isawaitable(result):
        await result
