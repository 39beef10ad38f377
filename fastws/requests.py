"""What a request says, for WebSockets and plain HTTP alike: read from its scope when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from http.cookies import _unquote as unquote_cookie
from typing import TYPE_CHECKING, Any, Literal

from fastws.datastructures import URL, Address, Headers, QueryParams, Scope, State, URLPath

if TYPE_CHECKING:
    from fastws import http_head

__all__ = ["HTTPConnection", "Request", "build_scope", "mount", "route_path"]

# What the two kinds of scope have in common, and how a WebSocket's scheme is called.
_SCHEMES = {"http": ("http", "https"), "websocket": ("ws", "wss")}


def build_scope(
    kind: Literal["http", "websocket"],
    request: http_head.Request,
    *,
    client: tuple[str, int] | None,
    server: tuple[str, int | None] | None,
    secure: bool,
    root_path: str = "",
    state: Mapping[str, Any] | None = None,
) -> Scope:
    """The ASGI 3 scope of a request that this package's own server received.

    Parameters:
        kind: ``"http"`` or ``"websocket"``.
        request: its parsed head.
        client: the peer's host and port, ``None`` on a Unix socket.
        server: this side's host and port; a path and ``None`` on a Unix socket.
        secure: whether it came over TLS.
        root_path: the prefix under which a proxy publishes the application.
        state: what the lifespan left for requests; a shallow copy of it is made.
    """
    scope: Scope = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": request.http_version,
        "scheme": _SCHEMES[kind][secure],
        # ASGI: the path includes the root path.
        "path": root_path + request.path,
        "raw_path": root_path.encode() + request.raw_path,
        "query_string": request.query_string,
        "root_path": root_path,
        "headers": request.headers,
        "client": client,
        "server": server,
        "state": dict(state or {}),
    }
    if kind == "http":
        scope["method"] = request.method
    return scope


def mount(scope: Scope, root_path: str) -> None:
    """Enter an application's own root path into a scope whose server knows of none.

    ASGI has the root path at the beginning of the path, also where a proxy has taken it away.

    Parameters:
        scope: the scope to change.
        root_path: without a slash at its end; ``""`` for none.
    """
    if not root_path or scope.get("root_path"):
        return
    scope["root_path"] = root_path
    path = scope["path"]
    if path != root_path and not path.startswith(root_path + "/"):
        scope["path"] = root_path + path
        if scope.get("raw_path") is not None:
            scope["raw_path"] = root_path.encode() + scope["raw_path"]


def route_path(scope: Scope) -> str:
    """The path that routes are compared with: the scope's less its root path."""
    path: str = scope["path"]
    root_path: str = scope.get("root_path", "").rstrip("/")
    if root_path and (path == root_path or path.startswith(root_path + "/")):
        return path[len(root_path) :] or "/"
    return path


class HTTPConnection:
    """What a scope says, in the properties that Starlette gives it; each is built when asked for.

    Parameters:
        scope: an ASGI scope, kept and not copied.
    """

    # An empty slot raises AttributeError: what nobody asks for costs nothing.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_base_url",
        "_cookies",
        "_headers",
        "_query_params",
        "_state",
        "_url",
        "scope",
    )

    _base_url: URL
    _cookies: dict[str, str]
    _headers: Headers
    _query_params: QueryParams
    _state: State
    _url: URL

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    @property
    def app(self) -> Any:
        """The application that serves this connection."""
        return self.scope["app"]

    @property
    def headers(self) -> Headers:
        """The request's headers; names in any case."""
        try:
            return self._headers
        except AttributeError:
            self._headers = headers = Headers(raw=list(self.scope["headers"]))
            return headers

    @property
    def url(self) -> URL:
        """The URL of the request, its host taken from the ``Host`` header."""
        try:
            return self._url
        except AttributeError:
            self._url = url = URL.from_scope(self.scope)
            return url

    @property
    def base_url(self) -> URL:
        """The URL at which the application begins: the request's host, and the root path."""
        try:
            return self._base_url
        except AttributeError:
            root = self.scope.get("root_path", "").rstrip("/") + "/"
            scope = {**self.scope, "path": root, "query_string": b""}
            self._base_url = url = URL.from_scope(scope)
            return url

    def url_for(self, name: str, /, **path_params: Any) -> URL:
        """The URL of a route on the host that the request was made to.

        Parameters:
            name: the route's name.
            path_params: the values of its path's parameters.

        Raises:
            NoMatchFound: no route has this name and these parameters.
            ValueError: a value could not stand in that place.
        """
        path: URLPath = self.app.url_path_for(name, **path_params)
        return path.make_absolute_url(self.base_url)

    @property
    def query_params(self) -> QueryParams:
        """The parameters of the URL's query."""
        try:
            return self._query_params
        except AttributeError:
            self._query_params = params = QueryParams(self.scope.get("query_string", b""))
            return params

    @property
    def path_params(self) -> dict[str, Any]:
        """The values of the route's path parameters."""
        params: dict[str, Any] = self.scope.setdefault("path_params", {})
        return params

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that came with the request."""
        try:
            return self._cookies
        except AttributeError:
            self._cookies = cookies = {}
            for line in self.headers.getlist("cookie"):
                cookies.update(_parse_cookies(line))
            return cookies

    @property
    def client(self) -> Address | None:
        """The peer's host and port, ``None`` on a Unix socket."""
        client = self.scope.get("client")
        return None if client is None else Address(*client)

    @property
    def state(self) -> State:
        """Attributes of this connection, beginning with those that the lifespan left in it."""
        try:
            return self._state
        except AttributeError:
            self._state = state = State(self.scope.setdefault("state", {}))
            return state

    @property
    def session(self) -> Any:
        """What Starlette's ``SessionMiddleware``, or one like it, has put into the scope."""
        return self._of_middleware("session", "SessionMiddleware")

    @property
    def auth(self) -> Any:
        """What Starlette's ``AuthenticationMiddleware``, or one like it, has put into the scope."""
        return self._of_middleware("auth", "AuthenticationMiddleware")

    @property
    def user(self) -> Any:
        """What Starlette's ``AuthenticationMiddleware``, or one like it, has put into the scope."""
        return self._of_middleware("user", "AuthenticationMiddleware")

    def _of_middleware(self, name: str, middleware: str) -> Any:
        try:
            return self.scope[name]
        except KeyError:
            raise RuntimeError(
                f"the scope has no {name!r}: add {middleware}, or another that sets it"
            ) from None


def _parse_cookies(line: str) -> dict[str, str]:
    """Read a ``Cookie`` header as leniently as browsers write it (RFC 6265 section 5.4)."""
    cookies = {}
    for part in line.split(";"):
        name, equals, value = part.partition("=")
        # Without "=" browsers mean a value that has no name.
        name, value = (name, value) if equals else ("", name)
        name, value = name.strip(), value.strip()
        if name or value:
            cookies[name] = unquote_cookie(value)
    return cookies


class Request(HTTPConnection):
    """A plain HTTP request: what a handler of ``@app.get`` may ask for.

    Parameters:
        scope: its ASGI scope, kept and not copied.
    """

    __slots__ = ()

    def __init__(self, scope: Scope) -> None:
        if scope["type"] != "http":
            raise ValueError(f"the scope is of type {scope['type']!r}: a Request needs 'http'")
        super().__init__(scope)

    @property
    def method(self) -> str:
        """``GET`` or ``HEAD``, or what is about to be answered with 405."""
        method: str = self.scope["method"]
        return method

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.scope['path']!r}>"
