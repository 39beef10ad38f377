"""Credentials from the opening handshake: dependencies that read them, or refuse without them.

::

    bearer = HTTPBearer()

    @app.websocket("/ws")
    async def endpoint(ws: WebSocket, token: HTTPAuthorizationCredentials = Depends(bearer)):
        if not secrets.compare_digest(token.credentials.encode(), TOKEN):
            raise HTTPException(401)

They say that credentials were sent, not that they are right. Compare secrets with
:func:`secrets.compare_digest`, both sides as bytes: ``==`` returns the earlier the sooner two
differ, and the time it takes tells an attacker how much of a guess was right.

A browser's ``WebSocket`` cannot send an ``Authorization`` header: for pages use a cookie (and an
``origins`` option, for other sites' pages send it too), or a short-lived key in the query, which
ends up in logs.

All of them work for ``@app.get`` as well. They neither block nor wait, so that a handler that
depends on nothing else starts without a detour.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from fastws.dependencies import HEAD_ONLY, inline
from fastws.exceptions import HTTPException
from fastws.requests import HTTPConnection

__all__ = [
    "APIKeyCookie",
    "APIKeyHeader",
    "APIKeyQuery",
    "HTTPAuthorizationCredentials",
    "HTTPBasic",
    "HTTPBasicCredentials",
    "HTTPBearer",
    "OAuth2PasswordBearer",
]

UNAUTHORIZED = 401

Head = Annotated[HTTPConnection, HEAD_ONLY]
Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class HTTPAuthorizationCredentials:
    """An ``Authorization`` header (RFC 9110 section 11.6.2).

    Parameters:
        scheme: as the client wrote it, such as ``Bearer``.
        credentials: what follows; not shown where the object is printed.
    """

    scheme: str
    credentials: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class HTTPBasicCredentials:
    """A user's name and password (RFC 7617).

    Parameters:
        username: without colon.
        password: not shown where the object is printed.
    """

    username: str
    password: str = field(repr=False)


class _Scheme:
    """What all of them have.

    Parameters:
        challenge: the ``WWW-Authenticate`` header of a refusal (RFC 9110 section 11.6.1).
        scheme_name: a name for people; the class's own if left out.
        description: for people; kept.
        auto_error: whether to refuse with 401 what has no credentials; else the result is
            ``None``.
    """

    def __init__(
        self, challenge: str, scheme_name: str | None, description: str | None, auto_error: bool
    ) -> None:
        self.scheme_name = scheme_name or type(self).__name__
        self.description = description
        self.auto_error = auto_error
        self._challenge = challenge

    def _refusal(self) -> HTTPException:
        return HTTPException(
            UNAUTHORIZED, "Not authenticated", {"WWW-Authenticate": self._challenge}
        )

    def _checked(self, found: Found | None) -> Found | None:
        """What was found; refuses if that is nothing."""
        if not found and self.auto_error:
            raise self._refusal()
        return found or None


# The Authorization header


def _authorization(request: HTTPConnection) -> tuple[str, str]:
    """The scheme and the credentials of the request; two empty texts without them."""
    scheme, _, credentials = request.headers.get("authorization", "").strip().partition(" ")
    return scheme, credentials.strip()


def _bearer_credentials(request: HTTPConnection) -> HTTPAuthorizationCredentials | None:
    scheme, credentials = _authorization(request)
    # RFC 9110 section 11.1: the case of a scheme does not matter.
    if scheme.lower() != "bearer" or not credentials:
        return None
    return HTTPAuthorizationCredentials(scheme=scheme, credentials=credentials)


class HTTPBearer(_Scheme):
    """A token in ``Authorization: Bearer …`` (RFC 6750 section 2.1).

    The dependency's value is an :class:`HTTPAuthorizationCredentials`.

    Parameters:
        bearerFormat: what the token is, for people; kept.
        scheme_name: a name for people.
        description: for people; kept.
        auto_error: whether to refuse with 401 what has no token; else the value is ``None``.
    """

    def __init__(
        self,
        *,
        bearerFormat: str | None = None,
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        super().__init__("Bearer", scheme_name, description, auto_error)
        self.bearerFormat = bearerFormat

    @inline
    async def __call__(self, request: Head) -> HTTPAuthorizationCredentials | None:
        """The credentials; ``None`` only without ``auto_error``."""
        return self._checked(_bearer_credentials(request))


class OAuth2PasswordBearer(_Scheme):
    """The token of an OAuth 2 login, in ``Authorization: Bearer …`` (RFC 6750 section 2.1).

    The dependency's value is the token itself.

    Parameters:
        tokenUrl: where a client gets one, for people; kept.
        scheme_name: a name for people.
        scopes: what may be asked for, with descriptions, for people; kept.
        description: for people; kept.
        auto_error: whether to refuse with 401 what has no token; else the value is ``None``.
        refreshUrl: where a token is renewed, for people; kept.
    """

    def __init__(
        self,
        tokenUrl: str,
        scheme_name: str | None = None,
        scopes: dict[str, str] | None = None,
        description: str | None = None,
        auto_error: bool = True,
        refreshUrl: str | None = None,
    ) -> None:
        super().__init__("Bearer", scheme_name, description, auto_error)
        self.tokenUrl = tokenUrl
        self.scopes = scopes or {}
        self.refreshUrl = refreshUrl

    @inline
    async def __call__(self, request: Head) -> str | None:
        """The token; ``None`` only without ``auto_error``."""
        found = _bearer_credentials(request)
        return self._checked(None if found is None else found.credentials)


class HTTPBasic(_Scheme):
    """A user's name and password in ``Authorization: Basic …`` (RFC 7617).

    The dependency's value is an :class:`HTTPBasicCredentials`. What is sent but cannot be read is
    refused with 401 in any case.

    Parameters:
        scheme_name: a name for people.
        realm: what a browser shows when it asks for the password.
        description: for people; kept.
        auto_error: whether to refuse with 401 what has no credentials; else the value is
            ``None``.

    Raises:
        ValueError: the realm has a character that its header cannot have.
    """

    def __init__(
        self,
        *,
        scheme_name: str | None = None,
        realm: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        challenge = "Basic"
        if realm is not None:
            if not realm.isascii() or not realm.isprintable() or '"' in realm or "\\" in realm:
                raise ValueError(f"realm {realm!r} must be ASCII without quotes and backslashes")
            challenge += f' realm="{realm}"'
        super().__init__(challenge, scheme_name, description, auto_error)
        self.realm = realm

    @inline
    async def __call__(self, request: Head) -> HTTPBasicCredentials | None:
        """The credentials; ``None`` only without ``auto_error``."""
        scheme, credentials = _authorization(request)
        if scheme.lower() != "basic" or not credentials:
            return self._checked(None)
        try:
            text = base64.b64decode(credentials, validate=True).decode()
        except (binascii.Error, ValueError):
            raise self._refusal() from None
        username, colon, password = text.partition(":")
        if not colon:
            raise self._refusal()
        return HTTPBasicCredentials(username=username, password=password)


# Keys


class _APIKey(_Scheme):
    """A key under a name of the application's choice; the dependency's value is the key.

    Parameters:
        name: where the key is.
        scheme_name: a name for people.
        description: for people; kept.
        auto_error: whether to refuse with 401 what has no key, or an empty one; else the value is
            ``None``.
    """

    def __init__(
        self,
        *,
        name: str,
        scheme_name: str | None = None,
        description: str | None = None,
        auto_error: bool = True,
    ) -> None:
        super().__init__("APIKey", scheme_name, description, auto_error)
        self.name = name


class APIKeyHeader(_APIKey):
    """A key in the header ``name``."""

    @inline
    async def __call__(self, request: Head) -> str | None:
        """The key; ``None`` only without ``auto_error``."""
        return self._checked(request.headers.get(self.name))


class APIKeyQuery(_APIKey):
    """A key in the query parameter ``name``. Queries are logged: let it be a short-lived one."""

    @inline
    async def __call__(self, request: Head) -> str | None:
        """The key; ``None`` only without ``auto_error``."""
        return self._checked(request.query_params.get(self.name))


class APIKeyCookie(_APIKey):
    """A key in the cookie ``name``.

    Browsers send it with connections that other sites' pages open: name the route's ``origins``.
    """

    @inline
    async def __call__(self, request: Head) -> str | None:
        """The key; ``None`` only without ``auto_error``."""
        return self._checked(request.cookies.get(self.name))
