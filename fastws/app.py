"""The application: its routes, its state, its start and end, and the ways to serve it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Literal, TypeVar

from fastws import error_handlers
from fastws.datastructures import Receive, Scope, Send, State
from fastws.error_handlers import ErrorHandler, ErrorHandlers
from fastws.exceptions import HTTPException
from fastws.middleware import ASGIApp, Layer, Middleware, MiddlewareFunction, stack
from fastws.paths import PathTable
from fastws.requests import Request, mount, route_path
from fastws.responses import PlainTextResponse, Response, error_response, to_response
from fastws.routing import AnyRoute, APIRouter, APIWebSocketRoute, Route
from fastws.signatures import name_of
from fastws.websocket import TypedWebSocket, WebSocket

__all__ = ["FastWS"]

log = logging.getLogger("fastws.error")

Lifespan = Callable[
    [Any], AbstractAsyncContextManager[Mapping[str, Any] | None] | AsyncIterator[Any]
]
Handler = TypeVar("Handler", bound=Callable[[], Any])
Handling = TypeVar("Handling", bound=ErrorHandler)
Function = TypeVar("Function", bound=Callable[[Any, Any], Coroutine[Any, Any, Any]])


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
        middleware: what runs around every handler, the outermost first: ``Middleware(cls, …)``,
            also Starlette's.
        exception_handlers: by class of exception or by HTTP status; see :meth:`exception_handler`.
        root_path: the prefix under which a proxy publishes the application, where the server has
            not been told one.

    Attributes:
        state: attributes of the application. As they are when it has started up, every
            connection's ``state`` begins with them.
        dependency_overrides: for tests: what to call in the place of a dependency, by the latter.
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
        middleware: Iterable[Iterable[Any]] = (),
        exception_handlers: Mapping[Any, ErrorHandler] | None = None,
        root_path: str = "",
    ) -> None:
        super().__init__(dependencies=dependencies)
        self.title = title
        self.debug = debug
        self.strict_send = strict_send
        self.root_path = root_path.rstrip("/")
        self.state = State()
        self.dependency_overrides: dict[Callable[..., Any], Callable[..., Any]] = {}
        self._lifespan = lifespan
        self._startup: list[Callable[[], Any]] = []
        self._drain: list[Callable[[], Any]] = []
        self._shutdown: list[Callable[[], Any]] = []
        self._draining = False
        self._websockets: PathTable[APIWebSocketRoute] = PathTable()
        self._pages: PathTable[Route] = PathTable()
        # The outermost first.
        self._middleware: list[Middleware | MiddlewareFunction] = [
            _to_middleware(item) for item in middleware
        ]
        self._layers: Layer | None = None  # with the middleware, once something was served
        self._error_handlers = ErrorHandlers(exception_handlers or {})
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

        There is always one if the application has middleware or exception handlers, for these see
        an unknown path as well: it then raises ``HTTPException(404)``.

        Parameters:
            path: percent-decoded, without the root path.
        """
        found = self._websockets.find(path)
        if found is None and self.root_path and path.startswith(self.root_path + "/"):
            # The proxy has left it in the path.
            found = self._websockets.find(path[len(self.root_path) :])
        if found is None and (self._middleware or self._error_handlers):
            return NOWHERE, {}
        return found

    # Middleware and exception handlers

    def add_middleware(
        self, middleware_class: Callable[..., ASGIApp], *args: Any, **kwargs: Any
    ) -> None:
        """Put an ASGI middleware around all that there is; it sees WebSockets and requests.

        Parameters:
            middleware_class: called with the ASGI application to wrap, ``args`` and ``kwargs``.

        Raises:
            RuntimeError: the application serves already.
        """
        self._add_middleware(Middleware(middleware_class, *args, **kwargs))

    def middleware(self, kind: Literal["websocket", "http"]) -> Callable[[Function], Function]:
        """Put the decorated ``async def`` around all that there is, for one kind of connection.

        It is called with the :class:`WebSocket` and ``call_next``, or the :class:`Request` and
        ``call_next``. ``await call_next(ws)`` runs the handler, and raises what it raises;
        ``await call_next(request)`` returns the response.

        Raises:
            ValueError: the kind is another one.
            TypeError: the function is no ``async def``.
            RuntimeError: the application serves already.
        """

        def register(function: Function) -> Function:
            self._add_middleware(MiddlewareFunction(function, kind))
            return function

        return register

    def _add_middleware(self, middleware: Middleware | MiddlewareFunction) -> None:
        if self._layers is not None:
            raise RuntimeError("middleware is added before the application serves, not after")
        self._middleware.insert(0, middleware)

    def exception_handler(self, key: int | type[Exception]) -> Callable[[Handling], Handling]:
        """Register the decorated function for exceptions that leave a handler.

        It is called with the WebSocket or the request, and the exception; a plain ``def`` runs in
        a thread. For a request it returns the response. For a WebSocket it may use the connection;
        a response that it returns refuses one that was not accepted. What it leaves open ends as
        the exception asks for: 1011 for most.

        The handler for the most specific class is called. That for ``Exception`` (or 500) is the
        last resort: around the middleware, for failures only, which are logged all the same.

        Parameters:
            key: a class of exceptions, or the status of an :class:`HTTPException`.

        Raises:
            TypeError: ``key`` is neither.
        """

        def register(handler: Handling) -> Handling:
            self.add_exception_handler(key, handler)
            return handler

        return register

    def add_exception_handler(self, key: int | type[Exception], handler: ErrorHandler) -> None:
        """Register a handler for exceptions: :meth:`exception_handler` as a call."""
        self._error_handlers.add(key, handler)

    def _stack(self) -> Layer:
        if self._layers is None:
            self._layers = stack(
                self._middleware,
                Layer(self._serve_route, self._serve_page),
                reroute=self._reroute,
                settle=error_handlers.settle,
            )
        return self._layers

    # WebSockets

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
        if not self._middleware and not self._error_handlers:
            return _start(ws, route, params)
        ws._route = (route, params)
        if not self._error_handlers:
            return self._stack().websocket(ws)
        return self._serve_with_last_resort(ws)

    async def _serve_with_last_resort(self, ws: WebSocket) -> None:
        try:
            await self._stack().websocket(ws)
        except Exception as error:
            handler = self._error_handlers.last(error)
            if handler is not None:
                await error_handlers.call_for_websocket(handler, ws, error)
            raise

    def _serve_route(self, ws: WebSocket) -> Coroutine[Any, Any, None]:
        """What is inside of all middleware."""
        route, params = ws._route
        if not self._error_handlers:
            return _start(ws, route, params)
        return self._serve_with_handlers(ws, route, params)

    async def _serve_with_handlers(
        self, ws: WebSocket, route: APIWebSocketRoute, params: Mapping[str, Any]
    ) -> None:
        try:
            await _start(ws, route, params)
        except Exception as error:
            handler = self._error_handlers.find(error)
            if handler is None:
                raise
            await error_handlers.call_for_websocket(handler, ws, error)
            await error_handlers.end(ws, error)

    def _reroute(self, ws: WebSocket) -> None:
        """Find the route again behind middleware, which may have changed the path."""
        from fastws.integrations.asgi import apply_options

        found = self.find_websocket(route_path(ws.scope))
        assert found is not None, "there is middleware"
        route, params = ws._route = found
        ws.scope["path_params"] = ws._path_params = params
        apply_options(route, ws.scope)

    # Plain HTTP

    async def handle_http(self, request: Request) -> Response:
        """Answer a plain HTTP request.

        The response to a HEAD request has the body and the length that GET would have: the server
        leaves the body away. A handler that fails is logged and answered with 500.
        """
        scope = request.scope
        scope["app"] = self
        mount(scope, self.root_path)
        try:
            try:
                return await self._stack().http(request)
            except HTTPException as error:  # of middleware
                return error_response(error)
        except Exception as error:
            log.exception("the handler of %s %a failed", request.method, scope["path"])
            handler = self._error_handlers.last(error)
            if handler is not None:
                try:
                    return to_response(await error_handlers.call(handler, request, error))
                except Exception:
                    log.exception("the exception handler %s() failed", name_of(handler))
            if self.debug:
                return PlainTextResponse(traceback.format_exc(), 500)
            return error_response(HTTPException(500))

    async def _serve_page(self, request: Request) -> Response:
        """What is inside of all middleware."""
        try:
            return await self._answer(request)
        except Exception as error:
            handler = self._error_handlers.find(error)
            if handler is not None:
                return to_response(await error_handlers.call(handler, request, error))
            if isinstance(error, HTTPException):
                return error_response(error)
            raise

    async def _answer(self, request: Request) -> Response:
        path = route_path(request.scope)
        found = self._pages.find(path)
        if found is None:
            raise self._not_a_page(path, request.method)
        route, params = found
        if request.method not in route.methods:
            raise HTTPException(405, headers={"allow": "GET, HEAD"})
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

    @property
    def draining(self) -> bool:
        """Whether the server is about to stop, and takes nothing new on.

        It is for handlers, too, as ``ws.draining``: a loop that would go on for ever ends then. In
        this package's own server it is true from the signal to the end. Under another ASGI server
        it is true from ``lifespan.shutdown`` on, which comes after that server has closed its
        connections: uvicorn and hypercorn both do; and an application that is mounted in another
        one is not told at all.
        """
        return self._draining

    def on_drain(self, handler: Handler) -> Handler:
        """Register the decorated function, ``async def`` or ``def``, to run when the server drains.

        It runs after the listening sockets are closed and before any connection is: the place to
        leave a cluster, or to tell clients where to go. The functions run one after the other. One
        that fails is logged, and the others run nevertheless. What has not ended when the
        connections have to be closed, within ``timeout-graceful-shutdown``, is cancelled.

        Under another ASGI server it runs at ``lifespan.shutdown``, when the connections are gone
        already: see :attr:`draining`.
        """
        self._drain.append(handler)
        return handler

    def begin_drain(self) -> None:
        """For servers: :attr:`draining` is true from now on."""
        self._draining = True

    async def run_drain_handlers(self) -> None:
        """For servers: run what :meth:`on_drain` has registered; failures are logged."""
        for handler in self._drain:
            try:
                await _run(handler)
            except Exception:
                log.exception("%s(), a function of on_drain, failed", name_of(handler))

    def on_event(self, event: Literal["startup", "shutdown"]) -> Callable[[Handler], Handler]:
        """:meth:`on_startup` or :meth:`on_shutdown`, in FastAPI's older words.

        Raises:
            ValueError: the event is another one.
        """
        if event not in ("startup", "shutdown"):
            raise ValueError(f"the event is {event!r}: expected 'startup' or 'shutdown'")
        return self.on_startup if event == "startup" else self.on_shutdown

    @asynccontextmanager
    async def lifespan_context(self, *, run: bool = True) -> AsyncIterator[dict[str, Any]]:
        """Start the application up, and shut it down at the end of the ``async with`` block.

        The value is what each connection's ``state`` begins with.

        Parameters:
            run: whether the lifespan and the functions of start-up and shutdown run; without them
                the value is :attr:`state` as it is.

        Raises:
            Exception: whatever the application's own functions raise, or its middleware.
        """
        self._stack()
        self._draining = False
        async with AsyncExitStack() as stack:
            if self._lifespan is not None and run:
                await self._enter_lifespan(stack, self._lifespan)
            for handler in self._startup if run else ():
                await _run(handler)
            # The stack calls them last in, first out.
            for handler in reversed(self._shutdown if run else ()):
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


def _start(
    ws: WebSocket, route: APIWebSocketRoute, params: Mapping[str, Any]
) -> Coroutine[Any, Any, None]:
    if route.messages is not None:
        ws = TypedWebSocket._of(ws, route.messages)
    return route.start(ws, params)


async def _nowhere(ws: WebSocket) -> None:
    raise HTTPException(404)


NOWHERE = APIWebSocketRoute("/{path:path}", _nowhere)
"""The route of a path that has none, for middleware and exception handlers to see it."""


def _to_middleware(item: Iterable[Any]) -> Middleware:
    """One item of ``middleware=``, which may be Starlette's own object."""
    if isinstance(item, Middleware):
        return item
    try:
        cls, args, kwargs = item
    except (TypeError, ValueError):
        raise TypeError(
            f"middleware has {item!r} in it: expected Middleware(cls, …); a function is added "
            "with @app.middleware"
        ) from None
    return Middleware(cls, *args, **kwargs)
