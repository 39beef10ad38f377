"""What a request is made of: URLs, headers, query parameters, addresses, and a bag for state.

The names, methods and meanings are Starlette's. Everything is built when it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Literal, NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

__all__ = ["Address", "Headers", "QueryParams", "State", "URL", "URLPath"]

Scope = MutableMapping[str, Any]
"""ASGI's description of a connection."""
Message = MutableMapping[str, Any]
"""An ASGI event."""
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

Pair = tuple[str, str]
RawHeaders = list[tuple[bytes, bytes]]

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

# RFC 3986 section 3.2.2, less what only an attack has in a Host header.
_HOST = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")

_PATH_DELIMITERS = str.maketrans({"?": "%3F", "#": "%23", "\\": "%5C"})


class Address(NamedTuple):
    """A peer: ``host`` as text and ``port``."""

    host: str
    port: int


class URL:
    """A URL and its parts. Compares equal to its text.

    Parameters:
        url: the text.
    """

    __slots__ = ("_parts", "_url")

    _parts: SplitResult

    def __init__(self, url: str = "") -> None:
        self._url = url

    @classmethod
    def from_scope(cls, scope: Scope) -> URL:
        """The URL that a request was made for.

        The host is that of the ``Host`` header; the server's own address if there is none, or one
        that could not be a host (a header is the client's word, and a URL is easily misread).
        """
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        netloc = host.decode("latin-1")
        scheme = scope.get("scheme", "http")
        if not _HOST.fullmatch(netloc):
            netloc = _netloc_of(scope.get("server"), scheme)
        # The path is decoded: what would end it must be encoded again.
        path = scope["path"].translate(_PATH_DELIMITERS)
        query = scope.get("query_string", b"").decode("latin-1")
        if not netloc:
            return cls(f"{path}?{query}" if query else path)
        return cls(SplitResult(scheme, netloc, path, query, "").geturl())

    @property
    def components(self) -> SplitResult:
        """The parts as :func:`urllib.parse.urlsplit` returns them."""
        try:
            return self._parts
        except AttributeError:
            self._parts = urlsplit(self._url)
            return self._parts

    @property
    def scheme(self) -> str:
        return self.components.scheme

    @property
    def netloc(self) -> str:
        return self.components.netloc

    @property
    def path(self) -> str:
        return self.components.path

    @property
    def query(self) -> str:
        return self.components.query

    @property
    def fragment(self) -> str:
        return self.components.fragment

    @property
    def username(self) -> str | None:
        return self.components.username

    @property
    def password(self) -> str | None:
        return self.components.password

    @property
    def hostname(self) -> str | None:
        return self.components.hostname

    @property
    def port(self) -> int | None:
        return self.components.port

    @property
    def is_secure(self) -> bool:
        return self.scheme in ("https", "wss")

    def replace(self, **parts: Any) -> URL:
        """Another URL with some parts changed.

        Parameters:
            parts: any of scheme, netloc, path, query and fragment; or, instead of netloc, any of
                username, password, hostname and port (``None`` removes it).
        """
        if parts.keys() & {"username", "password", "hostname", "port"}:
            username = parts.pop("username", self.username)
            password = parts.pop("password", self.password)
            hostname = parts.pop("hostname", self.hostname) or ""
            port = parts.pop("port", self.port)
            if ":" in hostname and not hostname.startswith("["):
                hostname = f"[{hostname}]"
            user = "" if username is None else username
            user += "" if password is None else f":{password}"
            parts["netloc"] = (f"{user}@" if user else "") + hostname
            parts["netloc"] += "" if port is None else f":{port}"
        return URL(self.components._replace(**parts).geturl())

    def include_query_params(self, **params: Any) -> URL:
        """Another URL with these query parameters added, or replaced where they exist."""
        kept = [pair for pair in self._query_pairs() if pair[0] not in params]
        return self.replace(query=urlencode(kept + list(params.items())))

    def replace_query_params(self, **params: Any) -> URL:
        """Another URL with these query parameters instead of all others."""
        return self.replace(query=urlencode(list(params.items())))

    def remove_query_params(self, keys: str | Iterable[str]) -> URL:
        """Another URL without the query parameters of these names."""
        names = {keys} if isinstance(keys, str) else set(keys)
        kept = [pair for pair in self._query_pairs() if pair[0] not in names]
        return self.replace(query=urlencode(kept))

    def _query_pairs(self) -> list[tuple[str, Any]]:
        return list(parse_qsl(self.query, keep_blank_values=True))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (str, URL)):
            return str(self) == str(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._url)

    def __str__(self) -> str:
        return self._url

    def __repr__(self) -> str:
        # What is printed ends up in logs.
        shown = self.replace(password="********") if self.password else self
        return f"URL({str(shown)!r})"


def _netloc_of(server: tuple[str, int | None] | None, scheme: str) -> str:
    if server is None or server[1] is None:  # a Unix socket has a path and no port
        return ""
    host, port = server
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return host if port == DEFAULT_PORTS.get(scheme) else f"{host}:{port}"


class URLPath(str):
    """The path of a route, as ``url_path_for`` returns it.

    Parameters:
        path: the text.
        protocol: what the route speaks, ``"http"`` or ``"websocket"``; ``""`` if that is open.
    """

    __slots__ = ("protocol",)

    protocol: Literal["http", "websocket", ""]

    def __new__(cls, path: str, protocol: Literal["http", "websocket", ""] = "") -> URLPath:
        # A path that begins with two slashes would be read as a host.
        self = super().__new__(cls, "/%2F" + path[2:] if path.startswith("//") else path)
        self.protocol = protocol
        return self

    def make_absolute_url(self, base_url: str | URL) -> URL:
        """This path on the server of ``base_url``: ``ws`` or ``wss`` for a websocket route."""
        base = URL(str(base_url))
        scheme = {"http": "http", "websocket": "ws", "": base.scheme}[self.protocol]
        if self.protocol and base.is_secure:
            scheme += "s"
        return URL(f"{scheme}://{base.netloc}{base.path.rstrip('/')}{self}")


class Headers(Mapping[str, str]):
    """Headers of a request: names in any case, a name may occur more than once.

    Indexing gives the first value of a name, :meth:`getlist` all of them.

    Parameters:
        headers: names and values; or
        raw: pairs of bytes with the names in lower case, kept as they are.
    """

    __slots__ = ("_list",)

    def __init__(
        self, headers: Mapping[str, str] | None = None, *, raw: RawHeaders | None = None
    ) -> None:
        given = (headers or {}).items()
        self._list: RawHeaders = (
            [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in given]
            if raw is None
            else raw
        )

    @property
    def raw(self) -> RawHeaders:
        """The pairs of bytes, in the order in which they came."""
        return list(self._list)

    def getlist(self, key: str) -> list[str]:
        """Every value of a header, in the order in which they came."""
        wanted = _header_name(key)
        return [value.decode("latin-1") for name, value in self._list if name == wanted]

    def multi_items(self) -> list[Pair]:
        """Every name, in lower case, with its value; a name as often as it came."""
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._list]

    # A mapping has each key once. Here, as in Starlette, a name comes as often as it was sent.
    def keys(self) -> list[str]:  # type: ignore[override]
        return [name for name, _ in self.multi_items()]

    def values(self) -> list[str]:  # type: ignore[override]
        return [value for _, value in self.multi_items()]

    def items(self) -> list[Pair]:  # type: ignore[override]
        return self.multi_items()

    def __getitem__(self, key: str) -> str:
        wanted = _header_name(key)
        for name, value in self._list:
            if name == wanted:
                return value.decode("latin-1")
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        wanted = _header_name(key) if isinstance(key, str) else None
        return any(name == wanted for name, _ in self._list)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._list)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Headers):
            return sorted(self._list) == sorted(other._list)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({self.multi_items()!r})"


def _header_name(key: str) -> bytes:
    # No header has a name outside latin-1: "replace" makes one that is not found.
    return key.lower().encode("latin-1", "replace")


class QueryParams(Mapping[str, str]):
    """The query of a URL: a name may occur more than once.

    Indexing gives the last value of a name, :meth:`getlist` all of them.

    Parameters:
        params: an encoded query, a mapping, or pairs.
    """

    __slots__ = ("_dict", "_list")

    def __init__(
        self, params: str | bytes | Mapping[str, Any] | Iterable[tuple[str, Any]] = ()
    ) -> None:
        pairs: Iterable[tuple[str, Any]]
        if isinstance(params, QueryParams):
            pairs = params._list
        elif isinstance(params, bytes):
            pairs = parse_qsl(params.decode("latin-1"), keep_blank_values=True)
        elif isinstance(params, str):
            pairs = parse_qsl(params, keep_blank_values=True)
        elif isinstance(params, Mapping):
            pairs = params.items()
        else:
            pairs = params
        self._list: list[Pair] = [(str(name), str(value)) for name, value in pairs]
        self._dict = dict(self._list)

    def getlist(self, key: str) -> list[str]:
        """Every value of a name, in the order in which they came."""
        return [value for name, value in self._list if name == key]

    def multi_items(self) -> list[Pair]:
        """Every name with its value, a name as often as it came."""
        return list(self._list)

    def __getitem__(self, key: str) -> str:
        return self._dict[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._dict)

    def __len__(self) -> int:
        return len(self._dict)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, QueryParams):
            return sorted(self._list) == sorted(other._list)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return urlencode(self._list)

    def __repr__(self) -> str:
        return f"QueryParams({str(self)!r})"


class State:
    """A bag of attributes, which are also items.

    Parameters:
        values: kept, not copied: setting an attribute changes it.
    """

    __slots__ = ("_values",)

    _values: dict[str, Any]

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        object.__setattr__(self, "_values", {} if values is None else values)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"the state has no attribute {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self._values[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self._values[name]
        except KeyError:
            raise AttributeError(f"the state has no attribute {name!r}") from None

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._values[name] = value

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __reduce__(self) -> tuple[type[State], tuple[dict[str, Any]]]:
        return type(self), (dict(self._values),)

    def __repr__(self) -> str:
        return f"State({self._values!r})"
