"""The WebSocket that a handler gets: one class for this package's own server and for ASGI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from fastws._channel import Channel
from fastws.asgi_connection import ASGIConnection
from fastws.codes import WebSocketState
from fastws.datastructures import (
    URL,
    Address,
    Headers,
    QueryParams,
    Receive,
    Scope,
    Send,
    State,
)
from fastws.exceptions import WebSocketDisconnect
from fastws.http_fields import HeaderPairs
from fastws.http_head import parse_request
from fastws.requests import HTTPConnection, build_scope
from fastws.responses import Response

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["WebSocket", "WebSocketState"]


class NativeConnection(Protocol):
    """What a :class:`WebSocket` asks of the compiled connection besides a channel's methods."""

    @property
    def head(self) -> bytes:
        """The request's head as it was received."""

    @property
    def client(self) -> tuple[str, int] | None: ...
    @property
    def server(self) -> tuple[str, int | None] | None: ...
    @property
    def secure(self) -> bool: ...
    @property
    def subprotocols(self) -> tuple[str, ...]: ...
    @property
    def root_path(self) -> str: ...
    @property
    def lifespan_state(self) -> Mapping[str, Any] | None: ...
    @property
    def id(self) -> str: ...


class WebSocket(Channel):
    """One connection, from its opening handshake to its end.

    The methods that receive, send and close are those of
    :class:`~fastws._channel.Channel`, which hands them to the back end: the compiled connection
    in this package's own server, an :class:`~fastws.asgi_connection.ASGIConnection` elsewhere.

    Two are equal only if they are the same one. Attributes of your own may be set on it.

    Parameters:
        scope: an ASGI scope of type ``websocket``.
        receive: the ASGI server's receive callable.
        send: the ASGI server's send callable.

    Raises:
        ValueError: the scope is of another type.
    """

    # Thousands of these are idle at a time: whatever can wait until it is asked for does.
    __slots__ = ("__dict__", "__weakref__", "_app", "_path_params", "_request", "_state")

    _app: Any
    _path_params: dict[str, Any] | None
    _request: HTTPConnection | None
    _state: State | None

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(ASGIConnection(scope, receive, send))
        self._app = scope.get("app")
        self._path_params = scope.get("path_params")
        self._request = HTTPConnection(scope)
        self._state = None

    @classmethod
    def _from_connection(
        cls, connection: NativeConnection, app: Any, path_params: dict[str, Any] | None
    ) -> WebSocket:
        """The WebSocket over a compiled connection; runs once a handshake."""
        self = cls.__new__(cls)
        Channel.__init__(self, connection)
        self._app = app
        # Most often it is empty: an empty one is made again if somebody asks.
        self._path_params = path_params or None
        self._request = None
        self._state = None
        return self

    # The request

    def _describe(self) -> HTTPConnection:
        """The request, read from its head the first time that somebody asks."""
        if self._request is None:
            link: NativeConnection = self._link
            scope = build_scope(
                "websocket",
                parse_request(link.head),
                client=link.client,
                server=link.server,
                secure=link.secure,
                root_path=link.root_path,
            )
            scope["subprotocols"] = list(link.subprotocols)
            scope["extensions"] = {"websocket.http.response": {}}
            scope["app"] = self._app
            scope["path_params"] = self.path_params
            scope["state"] = self.state._values
            self._request = HTTPConnection(scope)
        return self._request

    @property
    def scope(self) -> Scope:
        """The ASGI 3 scope."""
        return self._describe().scope

    @property
    def headers(self) -> Headers:
        """The request's headers; names in any case."""
        return self._describe().headers

    @property
    def url(self) -> URL:
        """The URL of the request, its host taken from the ``Host`` header."""
        return self._describe().url

    @property
    def query_params(self) -> QueryParams:
        """The parameters of the URL's query."""
        return self._describe().query_params

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that came with the request."""
        return self._describe().cookies

    @property
    def app(self) -> Any:
        """The application that serves this connection."""
        return self._app

    @property
    def path_params(self) -> dict[str, Any]:
        """The values of the route's path parameters, as the path's convertors read them."""
        if self._path_params is None:
            self._path_params = {}
        return self._path_params

    @property
    def state(self) -> State:
        """Attributes of this connection, beginning with those that the lifespan left in it.

        Where the connection stands is :attr:`client_state`.
        """
        if self._state is None:
            if self._request is None:
                self._state = State(dict(self._link.lifespan_state or {}))
            else:
                self._state = self._request.state
        return self._state

    @property
    def client(self) -> Address | None:
        """The peer's host and port, ``None`` on a Unix socket."""
        client = self._link.client
        return None if client is None else Address(*client)

    @property
    def subprotocols(self) -> tuple[str, ...]:
        """The subprotocols that the peer offers, in its order of preference."""
        subprotocols: tuple[str, ...] = self._link.subprotocols
        return subprotocols

    @property
    def id(self) -> str:
        """A name for this connection, unique among all: for logs."""
        name: str = self._link.id
        return name

    # Refusing

    def send_denial_response(
        self,
        status: int | Response,
        headers: HeaderPairs | None = None,
        body: bytes | str = b"",
    ) -> Coroutine[Any, Any, None]:
        """Refuse the connection with an HTTP response instead of accepting it.

        Parameters:
            status: its status; or a whole :class:`~fastws.responses.Response`.
            headers: its headers, as pairs or a mapping.
            body: its body; text is encoded as UTF-8.

        Raises:
            ValueError: the status is not one of a refusal, or a header is not one.
            RuntimeError: the connection has been accepted, or refused, before.
        """
        if isinstance(status, Response):
            response = status
            return super().send_denial_response(
                response.status_code, response.raw_headers, response.body
            )
        return super().send_denial_response(status, headers, body)

    # Iterating

    async def iter_text(self) -> AsyncIterator[str]:
        """Every message, which are all text; ends when the connection does."""
        try:
            while True:
                yield await self.receive_text()
        except WebSocketDisconnect:
            return

    async def iter_bytes(self) -> AsyncIterator[bytes]:
        """Every message, which are all binary; ends when the connection does."""
        try:
            while True:
                yield await self.receive_bytes()
        except WebSocketDisconnect:
            return

    async def iter_json(self, mode: str = "text") -> AsyncIterator[Any]:
        """Every message, read as JSON; ends when the connection does."""
        try:
            while True:
                yield await self.receive_json(mode)
        except WebSocketDisconnect:
            return

    def __repr__(self) -> str:
        return f"<WebSocket {self.id} {self.client_state.name}>"
