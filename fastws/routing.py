"""Routes: which handler answers a path, and how it is called.

A path without parameters goes before every path with some; among the latter, and between equal
ones, the first one registered wins.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from fastws.datastructures import Scope, URLPath
from fastws.parameters import compile_call, is_async, name_of
from fastws.paths import compile_path
from fastws.requests import Request, route_path
from fastws.responses import Response
from fastws.websocket import WebSocket

__all__ = [
    "APIRouter",
    "APIWebSocketRoute",
    "AnyRoute",
    "Match",
    "NoMatchFound",
    "Route",
    "RouteTable",
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
        self.is_static = not self._compiled.convertors

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
        dependencies: what is to be resolved before the handler runs.
        options: limits and the like for this route, by their keyword: ``ws_max_size``, …

    Raises:
        ValueError: the path is not one.
        TypeError: the handler is not an ``async def`` or takes no connection, or a path parameter
            has an annotation that text cannot be converted to.
    """

    dependencies: tuple[Any, ...]
    options: Mapping[str, Any]

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        name: str | None = None,
        dependencies: Sequence[Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(path, endpoint, name)
        if not is_async(endpoint):
            raise TypeError(
                f"websocket handler {name_of(endpoint)}() of {path!r} must be an async function: "
                "define it with `async def`"
            )
        if dependencies:
            raise NotImplementedError(
                f"dependencies= of {name_of(endpoint)}() would not be resolved: "
                "this version has no dependencies"
            )
        self.dependencies = ()
        self.options = MappingProxyType(
            {ALIASES.get(option, option): value for option, value in options.items()}
        )
        self._call = compile_call(endpoint, self._compiled.text_of(), WebSocket)

    def check(self) -> None:
        """Make sure that the handler can be called; a router's prefix may still add parameters.

        Raises:
            TypeError: the handler has a parameter that nothing gives a value to, or none for the
                connection.
        """
        handler = f"websocket handler {name_of(self.endpoint)}() of {self.path!r}"
        if not self._call.takes_subject:
            raise TypeError(
                f"{handler} has no parameter for the connection: annotate one with WebSocket"
            )
        _check_bound(handler, "WebSocket", self._call.unbound)

    def start(self, ws: WebSocket, params: Mapping[str, Any]) -> Coroutine[Any, Any, None]:
        """Call the handler with the values that :meth:`match` returned, and return its coroutine.

        Raises:
            HTTPException: 422, with the reasons, for values that do not convert.
        """
        coroutine: Coroutine[Any, Any, None] = self._call(ws, params)
        return coroutine

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

    def prefixed(self, prefix: str) -> APIWebSocketRoute:
        """The same route behind a prefix; its handler's signature is read again."""
        return APIWebSocketRoute(
            prefix + self.path,
            self.endpoint,
            name=self.name,
            dependencies=self.dependencies,
            **self.options,
        )


class Route(_PathRoute):
    """A path that answers GET and HEAD.

    Parameters:
        path: begins with a slash; parameters in braces.
        endpoint: the handler, ``async def`` or ``def`` (which runs in a thread). It may take path
            parameters, and the :class:`Request` like a websocket handler its connection.
        name: for :meth:`url_path_for`; the handler's own name if left out.
        response_class: what to make of a result that is not a :class:`Response`.
        status_code: the status of such a result.

    Raises:
        ValueError: the path is not one.
        TypeError: a path parameter has an annotation that text cannot be converted to.
    """

    methods = frozenset({"GET", "HEAD"})

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        name: str | None = None,
        response_class: type[Response] | None = None,
        status_code: int = 200,
    ) -> None:
        super().__init__(path, endpoint, name)
        self.is_async = is_async(endpoint)
        self.response_class = response_class
        self.status_code = status_code
        self._call = compile_call(endpoint, self._compiled.text_of(), Request)

    def check(self) -> None:
        """Make sure that the handler can be called; a router's prefix may still add parameters.

        Raises:
            TypeError: the handler has a parameter that nothing gives a value to.
        """
        handler = f"handler {name_of(self.endpoint)}() of {self.path!r}"
        _check_bound(handler, "Request", self._call.unbound)

    def call(self, request: Request, params: Mapping[str, Any]) -> Any:
        """Call the handler: its coroutine if it is an ``async def``, else its result.

        Raises:
            HTTPException: 422, with the reasons, for values that do not convert.
        """
        return self._call(request, params)

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

    def prefixed(self, prefix: str) -> Route:
        """The same route behind a prefix; its handler's signature is read again."""
        return Route(
            prefix + self.path,
            self.endpoint,
            name=self.name,
            response_class=self.response_class,
            status_code=self.status_code,
        )


def _check_bound(handler: str, kind: str, unbound: Sequence[str]) -> None:
    if unbound:
        raise TypeError(
            f"{handler} has the parameter {unbound[0]!r} that nothing gives a value to: it is "
            f"neither in the path nor the {kind}; add {{{unbound[0]}}} to the path, or a default"
        )


AnyRoute = APIWebSocketRoute | Route
AnyRouteT = TypeVar("AnyRouteT", APIWebSocketRoute, Route)


class RouteTable(Generic[AnyRouteT]):
    """The routes of one kind, to be found by path."""

    def __init__(self) -> None:
        self._static: dict[str, AnyRouteT] = {}
        self._patterns: list[AnyRouteT] = []

    def add(self, route: AnyRouteT) -> None:
        """Add a route behind those there are."""
        if route.is_static:
            self._static.setdefault(route.path, route)
        else:
            self._patterns.append(route)

    def find(self, path: str) -> tuple[AnyRouteT, dict[str, Any]] | None:
        """The route for a decoded path and the values of its parameters."""
        static = self._static.get(path)
        if static is not None:
            return static, {}
        for route in self._patterns:
            params = route.match(path)
            if params is not None:
                return route, params
        return None


# Routers


class APIRouter:
    """Routes that belong together, to be included in an application or in another router.

    Parameters:
        prefix: put before the path of each; begins with a slash and does not end with one.
        dependencies: of every route here.

    Raises:
        ValueError: the prefix is not of that form.
    """

    def __init__(self, *, prefix: str = "", dependencies: Sequence[Any] | None = None) -> None:
        _check_prefix(prefix)
        self.prefix = prefix
        self.dependencies = tuple(dependencies or ())
        self._routes: list[AnyRoute] = []

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
        """Add a route as it is."""
        self._routes.append(route)

    def include_router(self, router: APIRouter, *, prefix: str = "") -> None:
        """Add the routes that ``router`` has by now, behind its prefix and this one.

        Raises:
            ValueError: the prefix does not begin with a slash, or ends with one.
            TypeError: a handler has a parameter that nothing gives a value to.
        """
        _check_prefix(prefix)
        if router is self:
            raise ValueError("a router cannot include itself")
        for route in router.routes:
            self.add_route(route.prefixed(self.prefix + prefix))

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
