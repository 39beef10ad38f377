"""Routes: which handler answers a path, and how it is called."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import Any, TypeVar

from fastws.datastructures import Scope, URLPath
from fastws.injection import Handler
from fastws.messages import MessageTypes, message_types
from fastws.paths import compile_path
from fastws.requests import Request, route_path
from fastws.responses import Response
from fastws.signatures import is_async, name_of
from fastws.websocket import WebSocket

__all__ = [
    "APIRouter",
    "APIWebSocketRoute",
    "AnyRoute",
    "Match",
    "NoMatchFound",
    "Route",
]

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


# Routes


class Match(IntEnum):
    """How well a route fits a scope."""

    NONE = 0
    PARTIAL = 1
    """The path fits, the method does not."""
    FULL = 2


class NoMatchFound(Exception):
    """No route has this name and these parameters.

    Parameters:
        name: the name that was asked for.
        path_params: the parameters that were given.
    """

    def __init__(self, name: str, path_params: Mapping[str, Any]) -> None:
        given = ", ".join(path_params) or "no parameters"
        super().__init__(f"no route is named {name!r} and takes {given}")
        self.name = name
        self.path_params = dict(path_params)

    def __reduce__(self) -> tuple[type[NoMatchFound], tuple[str, dict[str, Any]]]:
        return type(self), (self.name, self.path_params)


def _check_path(path: object, endpoint: Callable[..., Any]) -> None:
    if not isinstance(path, str) or not path.startswith("/"):
        raise ValueError(f"path {path!r} of {name_of(endpoint)}() must start with '/'")


class _PathRoute:
    """What the two kinds of routes have in common."""

    path: str
    name: str
    endpoint: Callable[..., Any]

    def __init__(self, path: str, endpoint: Callable[..., Any], name: str | None) -> None:
        _check_path(path, endpoint)
        self.path = path
        self.endpoint = endpoint
        self.name = name_of(endpoint) if name is None else name
        self._compiled = compile_path(path)

    def match(self, path: str) -> dict[str, Any] | None:
        """The path parameters' values if this route's path fits ``path``, else ``None``."""
        return self._compiled.match(path)

    def _fill(self, protocol: Any, name: str, path_params: Mapping[str, Any]) -> URLPath:
        if name != self.name or path_params.keys() != self._compiled.convertors.keys():
            raise NoMatchFound(name, path_params)
        return URLPath(self._compiled.fill(path_params), protocol)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r} {name_of(self.endpoint)}>"


ALIASES = {"origins": "ws_origins", "subprotocols": "ws_subprotocols"}
"""Options of a route that may be written without the prefix."""


class APIWebSocketRoute(_PathRoute):
    """A path on which WebSockets are accepted.

    Parameters:
        path: begins with a slash; parameters in braces.
        endpoint: the handler, an ``async def``. The parameter annotated :class:`WebSocket` gets
            the connection; if none is, the first positional one that has neither an annotation nor
            a default and is not in the path.
        name: for :meth:`url_path_for`; the handler's own name if left out.
        dependencies: each a ``Depends(…)``; called before the handler, whose arguments they are
            not.
        receive: the type of the messages that arrive, for ``receive_json()``.
        send: the type of those that are sent, for ``send_json()``.
        cancel_on_disconnect: cancel the handler as soon as the peer has left, unless it waits for
            a message and so is told anyway. For handlers that only send, or work for long.
        options: limits and the like for this route, by their keyword: ``ws_max_size``, …

    Raises:
        ValueError: the path is not one.
        TypeError: the handler is not an ``async def``; it, or a dependency, has a parameter that
            cannot be given a value of its annotation; or JSON has no form for a type of message.
    """

    dependencies: tuple[Any, ...]
    messages: MessageTypes | None
    """How messages are read and written, ``None`` where no type was given."""
    options: Mapping[str, Any]

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        name: str | None = None,
        dependencies: Sequence[Any] | None = None,
        receive: Any = None,
        send: Any = None,
        cancel_on_disconnect: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(path, endpoint, name)
        if not is_async(endpoint):
            raise TypeError(
                f"websocket handler {name_of(endpoint)}() of {path!r} must be an async function: "
                "define it with `async def`"
            )
        self.dependencies = tuple(dependencies or ())
        self.messages = message_types(receive, send)
        self._message_types = {"receive": receive, "send": send}
        self.cancel_on_disconnect = cancel_on_disconnect
        self.task_name = f"WebSocket {path}"
        """What the task of each connection's handler is called."""
        self.options = MappingProxyType(
            {ALIASES.get(option, option): value for option, value in options.items()}
        )
        self._handler = Handler(endpoint, self._compiled.text_of(), WebSocket, self.dependencies)

    def check(self) -> None:
        """Make sure that the handler can be called; a router's prefix may still add parameters.

        Raises:
            TypeError: a parameter is declared as one of the path and is not, or neither the
                handler nor a dependency has one for the connection.
        """
        _check_handler(self, self._handler)
        if not self._handler.takes_subject:
            raise TypeError(
                f"websocket handler {name_of(self.endpoint)}() of {self.path!r} has no parameter "
                "for the connection: annotate one with WebSocket"
            )

    def start(self, ws: WebSocket, params: Mapping[str, Any]) -> Coroutine[Any, Any, None]:
        """The coroutine that serves a connection: its dependencies, then the handler.

        Parameters:
            ws: the connection, not accepted yet.
            params: what :meth:`match` returned.

        Raises:
            HTTPException: the connection is to be refused with it; 422, with the reasons, if the
                request does not fit the handler.
        """
        return self._handler.start(ws, params)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether this route answers a scope, and what a scope of it has besides."""
        params = self.match(route_path(scope)) if scope["type"] == "websocket" else None
        if params is None:
            return Match.NONE, {}
        params = {**scope.get("path_params", {}), **params}
        return Match.FULL, {"endpoint": self.endpoint, "path_params": params}

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """The path for these parameters.

        Raises:
            NoMatchFound: the name is another one, or the parameters are.
            ValueError: a value could not stand in that place.
        """
        return self._fill("websocket", name, path_params)

    def prefixed(self, prefix: str, dependencies: Sequence[Any] = ()) -> APIWebSocketRoute:
        """The same route behind a prefix, with further dependencies before its own."""
        return APIWebSocketRoute(
            prefix + self.path,
            self.endpoint,
            name=self.name,
            dependencies=(*dependencies, *self.dependencies),
            cancel_on_disconnect=self.cancel_on_disconnect,
            **self._message_types,
            **self.options,
        )


class Route(_PathRoute):
    """A path that answers GET and HEAD.

    Parameters:
        path: begins with a slash; parameters in braces.
        endpoint: the handler, ``async def`` or ``def`` (which runs in a thread). It may take path
            parameters, and the :class:`Request` like a websocket handler its connection.
        name: for :meth:`url_path_for`; the handler's own name if left out.
        dependencies: each a ``Depends(…)``; called before the handler.
        response_class: what to make of a result that is not a :class:`Response`.
        status_code: the status of such a result.

    Raises:
        ValueError: the path is not one.
        TypeError: the handler, or a dependency, has a parameter that cannot be given a value of
            its annotation.
    """

    dependencies: tuple[Any, ...]
    methods = frozenset({"GET", "HEAD"})

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        name: str | None = None,
        dependencies: Sequence[Any] | None = None,
        response_class: type[Response] | None = None,
        status_code: int = 200,
    ) -> None:
        super().__init__(path, endpoint, name)
        self.dependencies = tuple(dependencies or ())
        self.response_class = response_class
        self.status_code = status_code
        self._handler = Handler(endpoint, self._compiled.text_of(), Request, self.dependencies)

    @property
    def is_async(self) -> bool:
        """Whether :meth:`call` makes a coroutine."""
        return self._handler.is_async

    def check(self) -> None:
        """Make sure that the handler can be called; a router's prefix may still add parameters.

        Raises:
            TypeError: a parameter is declared as one of the path and is not.
        """
        _check_handler(self, self._handler)

    def call(self, request: Request, params: Mapping[str, Any]) -> Any:
        """Call the handler: a coroutine if :attr:`is_async`, else its result.

        Parameters:
            request: its scope has the application in it.
            params: what :meth:`match` returned.

        Raises:
            HTTPException: what to answer with; 422, with the reasons, if the request does not fit
                the handler.
        """
        return self._handler.call(request, params)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether this route answers a scope, and what a scope of it has besides."""
        params = self.match(route_path(scope)) if scope["type"] == "http" else None
        if params is None:
            return Match.NONE, {}
        params = {**scope.get("path_params", {}), **params}
        fit = Match.FULL if scope["method"] in self.methods else Match.PARTIAL
        return fit, {"endpoint": self.endpoint, "path_params": params}

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """The path for these parameters.

        Raises:
            NoMatchFound: the name is another one, or the parameters are.
            ValueError: a value could not stand in that place.
        """
        return self._fill("http", name, path_params)

    def prefixed(self, prefix: str, dependencies: Sequence[Any] = ()) -> Route:
        """The same route behind a prefix, with further dependencies before its own."""
        return Route(
            prefix + self.path,
            self.endpoint,
            name=self.name,
            dependencies=(*dependencies, *self.dependencies),
            response_class=self.response_class,
            status_code=self.status_code,
        )


def _check_handler(route: _PathRoute, handler: Handler) -> None:
    if handler.problems:
        raise TypeError(
            f"handler {name_of(route.endpoint)}() of {route.path!r} cannot be called: "
            f"{handler.problems[0]}"
        )


AnyRoute = APIWebSocketRoute | Route


# Routers


class APIRouter:
    """Routes that belong together, to be included in an application or in another router.

    Parameters:
        prefix: put before the path of each; begins with a slash and does not end with one.
        dependencies: of every route here, and of those of the routers that it includes; they are
            called before the routes' own.
        tags: taken for programs written for FastAPI; without effect.

    Raises:
        ValueError: the prefix is not of that form.
    """

    def __init__(
        self,
        *,
        prefix: str = "",
        dependencies: Sequence[Any] | None = None,
        tags: Sequence[str] | None = None,
    ) -> None:
        _check_prefix(prefix)
        self.prefix = prefix
        self.dependencies = tuple(dependencies or ())
        self._routes: list[AnyRoute] = []
        self._included: list[APIRouter] = []
        # What to do with a route that is added after this router was included elsewhere.
        self._on_added: list[Callable[[AnyRoute], None]] = []

    @property
    def routes(self) -> list[AnyRoute]:
        """The routes in the order in which they were registered."""
        return list(self._routes)

    def websocket(
        self,
        path: str,
        *,
        name: str | None = None,
        dependencies: Sequence[Any] | None = None,
        **options: Any,
    ) -> Callable[[Endpoint], Endpoint]:
        """Register the decorated ``async def`` for WebSockets on ``path``; it stays as it is.

        Parameters and errors are those of :class:`APIWebSocketRoute`.
        """

        def register(endpoint: Endpoint) -> Endpoint:
            self.add_websocket_route(
                path, endpoint, name=name, dependencies=dependencies, **options
            )
            return endpoint

        return register

    def add_websocket_route(
        self,
        path: str,
        endpoint: Callable[..., Any],
        name: str | None = None,
        *,
        dependencies: Sequence[Any] | None = None,
        **options: Any,
    ) -> None:
        """Register a handler for WebSockets on ``path``: :meth:`websocket` as a call."""
        self.add_route(
            APIWebSocketRoute(
                self._join(path, endpoint),
                endpoint,
                name=name,
                dependencies=(*self.dependencies, *(dependencies or ())),
                **options,
            )
        )

    def get(
        self,
        path: str,
        *,
        name: str | None = None,
        dependencies: Sequence[Any] | None = None,
        response_class: type[Response] | None = None,
        status_code: int = 200,
    ) -> Callable[[Endpoint], Endpoint]:
        """Register the decorated function for GET and HEAD on ``path``; it stays as it is.

        It returns a :class:`Response`, or something that becomes one: ``str`` (``text/plain``: for
        a page say ``response_class=HTMLResponse``), ``bytes``, or an object with a JSON form. A
        plain ``def`` runs in a thread. Parameters and errors are those of :class:`Route`.
        """

        def register(endpoint: Endpoint) -> Endpoint:
            self.add_route(
                Route(
                    self._join(path, endpoint),
                    endpoint,
                    name=name,
                    dependencies=(*self.dependencies, *(dependencies or ())),
                    response_class=response_class,
                    status_code=status_code,
                )
            )
            return endpoint

        return register

    def _join(self, path: str, endpoint: Callable[..., Any]) -> str:
        # An empty path is the prefix itself.
        if path or not self.prefix:
            _check_path(path, endpoint)
        return self.prefix + path

    def add_route(self, route: AnyRoute) -> None:
        """Add a route as it is, here and wherever this router is included."""
        self._routes.append(route)
        for include in self._on_added:
            include(route)

    def include_router(
        self,
        router: APIRouter,
        *,
        prefix: str = "",
        dependencies: Sequence[Any] | None = None,
        tags: Sequence[str] | None = None,
    ) -> None:
        """Add the routes of ``router``, behind its prefix and this one.

        Those that it gets later are added when it gets them.

        Parameters:
            router: another one.
            prefix: put before the path of each route.
            dependencies: of these routes; called after this router's own and before theirs.
            tags: taken for programs written for FastAPI; without effect.

        Raises:
            ValueError: the prefix does not begin with a slash, or ends with one; or the router is
                this one, or includes it.
            TypeError: a handler has a parameter that nothing gives a value to.
        """
        _check_prefix(prefix)
        if router is self or router._includes(self):
            raise ValueError("a router cannot include itself, nor one that includes it")
        added = (*self.dependencies, *(dependencies or ()))

        def include(route: AnyRoute) -> None:
            self.add_route(route.prefixed(self.prefix + prefix, added))

        for route in router.routes:
            include(route)
        router._on_added.append(include)
        self._included.append(router)

    def _includes(self, router: APIRouter) -> bool:
        return any(part is router or part._includes(router) for part in self._included)

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """The path of the first route that has this name and these parameters.

        Raises:
            NoMatchFound: there is none.
            ValueError: a value could not stand in that place.
        """
        for route in self._routes:
            try:
                return route.url_path_for(name, **path_params)
            except NoMatchFound:
                continue
        raise NoMatchFound(name, path_params)


def _check_prefix(prefix: str) -> None:
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise ValueError(f"prefix {prefix!r} must start with '/' and must not end with one")
