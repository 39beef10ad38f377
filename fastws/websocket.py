"""The WebSocket that a handler gets: one class for this package's own server and for ASGI."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, overload

from fastws._channel import Channel, give_verbs
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
from fastws.http_fields import HeaderPairs
from fastws.http_head import parse_request
from fastws.iterating import Iterating
from fastws.messages import MessageTypes, decoder_of
from fastws.requests import HTTPConnection, build_scope, mount
from fastws.responses import Response
from fastws.tasks import ConnectionTasks

if TYPE_CHECKING:
    import builtins
    from collections.abc import Coroutine

__all__ = ["TypedWebSocket", "WebSocket", "WebSocketState"]

T = TypeVar("T")
ReceivedT = TypeVar("ReceivedT")
SentT = TypeVar("SentT")


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
    def call_at_end(self, callback: Callable[[], object]) -> None: ...


class _OfMiddleware:
    """An attribute that the request has; no property, so that a program may set its own instead."""

    __slots__ = ("_name",)

    def __set_name__(self, owner: Any, name: str) -> None:
        self._name = name

    def __get__(self, ws: WebSocket | None, owner: Any) -> Any:
        return self if ws is None else getattr(ws._describe(), self._name)


@give_verbs
class WebSocket(Channel, Iterating):
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
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_app",
        "_path_params",
        "_request",
        "_route",
        "_state",
        "_tasks",
    )

    _decoder_of = staticmethod(decoder_of)

    _app: Any
    _path_params: dict[str, Any] | None
    _request: HTTPConnection | None
    _route: Any
    """The application's own: the route that was found, while middleware is still to run."""
    _state: State | None
    _tasks: ConnectionTasks

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

    def _take_scope(self, scope: Scope) -> None:
        """Be described by another scope from now on: middleware may have changed a copy of it."""
        if scope is not self.scope:
            self._request = HTTPConnection(scope)
            self._state = None

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
            mount(scope, getattr(self._app, "root_path", ""))
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
    def base_url(self) -> URL:
        """The URL at which the application begins: the request's host, and the root path."""
        return self._describe().base_url

    def url_for(self, name: str, /, **path_params: Any) -> URL:
        """The URL of a route on the host that the request was made to.

        Parameters:
            name: the route's name.
            path_params: the values of its path's parameters.

        Raises:
            NoMatchFound: no route has this name and these parameters.
            ValueError: a value could not stand in that place.
        """
        return self._describe().url_for(name, **path_params)

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

    session: Any = _OfMiddleware()
    """What Starlette's ``SessionMiddleware``, or one like it, has put into the scope."""
    auth: Any = _OfMiddleware()
    """What Starlette's ``AuthenticationMiddleware``, or one like it, has put into the scope."""
    user: Any = _OfMiddleware()
    """The same."""

    @property
    def draining(self) -> bool:
        """Whether the server is about to stop: see :attr:`fastws.app.FastWS.draining`."""
        return getattr(self._app, "draining", False)

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

    # Tasks

    @property
    def tasks(self) -> ConnectionTasks:
        """The connection's own tasks: they are cancelled when it ends."""
        try:
            return self._tasks
        except AttributeError:
            pass
        # Behind middleware that has receive and send of its own, it is that connection's end.
        behind: WebSocket | None = getattr(self._link, "behind", None)
        if behind is not None:
            return behind.tasks
        self._tasks = tasks = ConnectionTasks(self.id)
        self._link.call_at_end(tasks.cancel)
        return tasks

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

    def __repr__(self) -> str:
        return f"<WebSocket {self.id} {self.client_state.name}>"


class TypedWebSocket(WebSocket, Generic[ReceivedT, SentT]):
    """The WebSocket of a route that says what its messages are.

    The handler gets one if its route has ``receive=`` or ``send=``. To tell a type checker, too,
    annotate it so, with the type of the messages that arrive and of those that are sent::

        @app.websocket("/chat", receive=Join | Say, send=Event)
        async def chat(ws: TypedWebSocket[Join | Say, Event]) -> None: ...
    """

    # A class of its own, so that all others do not ask each time whether they are one.
    __slots__ = ()

    _types: MessageTypes

    @classmethod
    def _of(cls, ws: WebSocket, types: MessageTypes) -> TypedWebSocket[Any, Any]:
        """Make ``ws`` one of these: the same object, since others may hold it already."""
        ws.__class__ = cls
        assert isinstance(ws, cls)
        ws._types = types
        return ws

    @overload
    def receive_json(
        self, mode: str = "text", timeout: float | None = None, *, type: None = None
    ) -> Coroutine[Any, Any, ReceivedT]: ...
    @overload
    def receive_json(
        self, mode: str = "text", timeout: float | None = None, *, type: builtins.type[T]
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def receive_json(
        self, mode: str = "text", timeout: float | None = None, *, type: Any
    ) -> Coroutine[Any, Any, Any]: ...
    def receive_json(
        self, mode: str = "text", timeout: float | None = None, *, type: Any = None
    ) -> Coroutine[Any, Any, Any]:
        """The next message, read into the route's type, or into ``type``.

        Parameters and errors are those of :meth:`WebSocket.receive_json`.
        """
        decode = self._types.decode if type is None else decoder_of(type)
        if decode is None:
            return Channel.receive_json(self, mode, timeout)
        return self._receive_json_as(decode, mode, timeout)

    def __anext__(self) -> Coroutine[Any, Any, ReceivedT]:  # type: ignore[override]
        """The next message of either kind, read into the route's type."""
        decode = self._types.decode
        if decode is None:
            return Channel.__anext__(self)  # type: ignore[return-value]
        return self._next_as(decode)

    def send_json(self, obj: SentT, mode: str = "text") -> Coroutine[Any, Any, None]:
        """Send an object of the route's type; one that can be read into it is, first.

        Raises:
            TypeError: ``obj`` is neither. Nothing is sent.
            RuntimeError: ``mode`` is another one than ``"text"`` and ``"binary"``; else as
                :meth:`send_text`.
        """
        encode = self._types.encode
        if encode is None:
            return Channel.send_json(self, obj, mode)
        if mode == "text":
            return self.send_text(encode(obj))
        if mode == "binary":
            return self.send_bytes(encode(obj))
        raise RuntimeError(f"mode is {mode!r}: expected 'text' or 'binary'")
