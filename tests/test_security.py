"""Credentials of a handshake: read, missing, wrong; on websockets of both back ends, and pages."""

# ruff: noqa: B008  (a call in a default is how these are declared)

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from typing import Annotated, Any

import pytest

from fastws.app import FastWS
from fastws.dependencies import Depends
from fastws.exceptions import HTTPException
from fastws.requests import HTTPConnection, Request
from fastws.routing import APIWebSocketRoute
from fastws.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPAuthorizationCredentials,
    HTTPBasic,
    HTTPBasicCredentials,
    HTTPBearer,
    OAuth2PasswordBearer,
)
from fastws.websocket import WebSocket
from tests.asgi_peer import http_scope
from tests.backends import BACKENDS, Visit, visit
from tests.support import run

Going = Callable[..., Visit]


@pytest.fixture(params=BACKENDS)
def go(request: pytest.FixtureRequest) -> Going:
    """Visits a handler that tells what a scheme found: ``go(HTTPBearer(), "/", "Header: …")``."""

    def go(scheme: Any, target: str = "/", *headers: str) -> Visit:
        app = FastWS()

        @app.websocket("/")
        async def handler(ws: WebSocket, found: Any = Depends(scheme)) -> None:
            await ws.accept()
            await ws.send_json([found])

        return run(visit(request.param, app, target, *headers))

    return go


def basic(credentials: str) -> str:
    return "Authorization: Basic " + base64.b64encode(credentials.encode()).decode()


@pytest.mark.parametrize(
    ("scheme", "target", "header", "found"),
    [
        (
            HTTPBearer(),
            "/",
            "Authorization: Bearer a.b",
            {"scheme": "Bearer", "credentials": "a.b"},
        ),
        (HTTPBearer(), "/", "Authorization: bearer  t ", {"scheme": "bearer", "credentials": "t"}),
        (OAuth2PasswordBearer("token"), "/", "Authorization: Bearer a.b", "a.b"),
        (HTTPBasic(), "/", basic("ada:pass:word"), {"username": "ada", "password": "pass:word"}),
        (HTTPBasic(), "/", basic("ä:"), {"username": "ä", "password": ""}),
        (APIKeyHeader(name="X-Key"), "/", "x-key: secret", "secret"),
        (APIKeyQuery(name="key"), "/?key=secret", "X: y", "secret"),
        (APIKeyCookie(name="key"), "/", "Cookie: other=1; key=secret", "secret"),
    ],
)
def test_what_was_sent_is_the_dependencys_value(
    go: Going, scheme: Any, target: str, header: str, found: object
) -> None:
    assert go(scheme, target, header).values == [found]


@pytest.mark.parametrize(
    ("make", "challenge", "headers"),
    [
        (HTTPBearer, "Bearer", ["", "Basic YTpi", "Bearer", "Bearer ", "Bearertoken"]),
        (OAuth2PasswordBearer, "Bearer", ["", "Basic YTpi", "Bearer", "Bearer "]),
        (HTTPBasic, "Basic", ["", "Bearer x", "Basic", "Basic "]),
        (APIKeyHeader, "APIKey", ["", "Bearer x"]),
        (APIKeyQuery, "APIKey", ["", "Bearer x"]),
        (APIKeyCookie, "APIKey", ["", "Bearer x"]),
    ],
)
def test_without_credentials_the_connection_is_refused_or_the_value_is_none(
    go: Going, make: Any, challenge: str, headers: list[str]
) -> None:
    options: dict[str, Any] = {"name": "key"} if challenge == "APIKey" else {}
    options |= {"tokenUrl": "token"} if make is OAuth2PasswordBearer else {}
    for header in headers:
        sent = [f"Authorization: {header}"] if header else []
        refused = go(make(**options), "/?key=", *sent)
        assert (refused.status, refused.detail) == (401, "Not authenticated")
        assert refused.headers["www-authenticate"] == challenge
        assert go(make(**options, auto_error=False), "/?key=", *sent).values == [None]


@pytest.mark.parametrize(
    "credentials", ["!!!", "YQ", base64.b64encode(b"no colon").decode(), "/w=="]
)
@pytest.mark.parametrize("auto_error", [True, False])
def test_a_password_that_cannot_be_read_is_refused(
    go: Going, credentials: str, auto_error: bool
) -> None:
    scheme = HTTPBasic(realm="the house", auto_error=auto_error)
    refused = go(scheme, "/", f"Authorization: Basic {credentials}")
    assert refused.status == 401
    assert refused.headers["www-authenticate"] == 'Basic realm="the house"'


def test_a_realm_that_its_header_cannot_have_is_refused() -> None:
    for realm in ('a"b', "a\\b", "a\r\nb", "ä"):
        with pytest.raises(ValueError, match="must be ASCII without quotes"):
            HTTPBasic(realm=realm)


def test_secrets_are_not_shown() -> None:
    shown = repr(HTTPBasicCredentials(username="ada", password="secret"))
    shown += repr(HTTPAuthorizationCredentials(scheme="Bearer", credentials="secret"))
    assert "ada" in shown
    assert "secret" not in shown


def test_what_is_for_people_is_kept() -> None:
    scheme = HTTPBearer(scheme_name="staff", description="of the staff", bearerFormat="JWT")
    assert (scheme.scheme_name, scheme.description) == ("staff", "of the staff")
    assert scheme.bearerFormat == "JWT"
    login = OAuth2PasswordBearer(
        tokenUrl="token", scopes={"read": "look"}, description="log in", refreshUrl="again"
    )
    assert login.scheme_name == "OAuth2PasswordBearer"
    assert (login.tokenUrl, login.scopes, login.refreshUrl) == ("token", {"read": "look"}, "again")
    assert APIKeyHeader(name="x").scheme_name == "APIKeyHeader"


# In programs


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_token_that_another_dependency_checks(backend: str) -> None:
    app = FastWS()
    bearer = HTTPBearer()

    def user(token: HTTPAuthorizationCredentials = Depends(bearer)) -> str:
        if not secrets.compare_digest(token.credentials.encode(), b"valid"):
            raise HTTPException(status_code=401, detail="Invalid token")
        return token.credentials

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, name: str = Depends(user)) -> None:
        await websocket.accept()
        await websocket.send_json([name])

    def go(*headers: str) -> Visit:
        return run(visit(backend, app, "/ws", *headers))

    assert go("Authorization: Bearer valid").values == ["valid"]
    wrong = go("Authorization: Bearer other")
    assert (wrong.status, wrong.detail) == (401, "Invalid token")
    assert (go().status, go().detail) == (401, "Not authenticated")


def test_a_class_of_ones_own_may_build_on_a_scheme(go: Going) -> None:
    class Staff(HTTPBearer):
        async def __call__(self, request: HTTPConnection) -> Any:
            found = await super().__call__(request)
            if found is None or found.credentials != "staff":
                raise HTTPException(403, f"not for {request.url.path}")
            return found.credentials

    assert go(Staff(), "/", "Authorization: Bearer staff").values == ["staff"]
    assert go(Staff(), "/", "Authorization: Bearer guest").detail == "not for /"
    assert go(Staff()).status == 401


def test_one_of_several_schemes_may_do(go: Going) -> None:
    in_query, in_header = (
        APIKeyQuery(name="k", auto_error=False),
        APIKeyHeader(name="k", auto_error=False),
    )

    def key(
        one: Annotated[str | None, Depends(in_query)],
        two: Annotated[str | None, Depends(in_header)],
    ) -> str:
        found = one or two
        if found is None:
            raise HTTPException(403)
        return found

    app_key: Any = key
    # Local names are not to be found in annotations that are text.
    app_key.__annotations__ = {
        "one": Annotated[str | None, Depends(in_query)],
        "two": Annotated[str | None, Depends(in_header)],
    }
    assert go(app_key, "/?k=q").values == ["q"]
    assert go(app_key, "/", "k: h").values == ["h"]
    assert go(app_key).status == 403


def test_a_handler_that_needs_nothing_else_starts_without_a_detour() -> None:
    async def handler(ws: WebSocket, key: str = Depends(APIKeyQuery(name="k"))) -> None:
        kept = ws._request
        await ws.accept()
        await ws.send_json([kept is None, key])

    route = APIWebSocketRoute("/", handler)
    assert route._handler._plan.is_direct
    # Nor is the request kept for it.
    app = FastWS(routes=[route])
    assert run(visit("native", app, "/?k=secret")).values == [True, "secret"]


def test_pages_have_credentials_too() -> None:
    app = FastWS()

    @app.get("/")
    def page(user: HTTPBasicCredentials = Depends(HTTPBasic())) -> str:
        return user.username

    def get(*headers: tuple[bytes, bytes]) -> Any:
        response = run(app.handle_http(Request(http_scope(headers=list(headers)))))
        return response.status_code, response.body

    value = basic("ada:x").partition(": ")[2].encode()
    assert get((b"authorization", value)) == (200, b"ada")
    assert get() == (401, b'{"detail":"Not authenticated"}')
