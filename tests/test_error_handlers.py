"""Exception handlers, for WebSockets and pages: which is called, and how a connection then ends."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from fastws.app import FastWS
from fastws.error_handlers import ErrorHandlers
from fastws.exceptions import (
    HTTPException,
    WebSocketDisconnect,
    WebSocketException,
    WebSocketTypeError,
)
from fastws.middleware import CallNext
from fastws.requests import Request
from fastws.responses import JSONResponse, PlainTextResponse, Response
from fastws.websocket import WebSocket
from tests.asgi_peer import http_scope
from tests.backends import BACKENDS, Visit, visit
from tests.support import run


class Base(Exception):
    pass


class Derived(Base):
    pass


def meet(backend: str, app: FastWS, path: str = "/", **options: Any) -> Visit:
    return run(visit(backend, app, path, **options))


def answer(app: FastWS, path: str = "/") -> Response:
    return run(app.handle_http(Request(http_scope(path))))


def logged(caplog: pytest.LogCaptureFixture) -> list[type[BaseException] | None]:
    """The exceptions whose tracebacks are in the log."""
    return [
        record.exc_info[0] if record.exc_info else None
        for record in caplog.records
        if record.levelno >= logging.WARNING
    ]


def raising(app: FastWS, error: Exception, *, accepts: bool = True) -> None:
    """A WebSocket handler that fails so, after a message if it accepts."""

    @app.websocket("/")
    async def endpoint(ws: WebSocket) -> None:
        if accepts:
            await ws.accept()
            await ws.send_text("accepted")
        raise error


# Which handler


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (Derived(), "Derived"),
        (Base(), "Base"),
        (HTTPException(404), "404"),
        (HTTPException(403), "HTTPException"),
        (HTTPException(500), "500"),
        (ZeroDivisionError(), "ArithmeticError"),
        (WebSocketDisconnect(), "OSError"),
        (ValueError(), None),
    ],
)
def test_the_handler_of_the_status_or_of_the_most_specific_class(
    error: Exception, found: str | None
) -> None:
    keys: list[Any] = [Base, Derived, 404, 500, HTTPException, ArithmeticError, OSError, Exception]
    names = {str(key) if isinstance(key, int) else key.__name__: key for key in keys}
    handlers = {key: lambda connection, error, name=name: name for name, key in names.items()}
    handler = ErrorHandlers(handlers).find(error)
    assert (None if handler is None else handler(None, error)) == found


@pytest.mark.parametrize(
    "error", [WebSocketDisconnect(), WebSocketException(4000), HTTPException(403)]
)
def test_the_last_resort_is_for_failures(error: Exception) -> None:
    handlers = ErrorHandlers({Exception: lambda connection, error: None})
    assert handlers.last(error) is None
    assert handlers.last(ValueError()) is not None
    assert handlers.find(ValueError()) is None
    assert ErrorHandlers({500: lambda connection, error: None}).last(ValueError()) is not None
    assert ErrorHandlers({}).last(ValueError()) is None


@pytest.mark.parametrize("key", ["404", None, BaseException, ValueError()])
def test_what_is_no_key_is_refused_with_a_sentence(key: Any) -> None:
    with pytest.raises(TypeError, match=r"exception handler helper\(\) is for .*: expected"):

        @FastWS().exception_handler(key)
        def helper(ws: WebSocket, error: Exception) -> None: ...


# WebSockets


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("is_async", [True, False])
def test_a_handler_is_called_and_then_the_exceptions_own_rule_applies(
    backend: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastWS()
    error = Derived("x")
    seen: list[Any] = []
    raising(app, error)

    async def handle(ws: WebSocket, error: Base) -> None:
        seen.append(error)
        await ws.send_json({"error": str(error)})

    def handle_in_thread(ws: WebSocket, error: Base) -> None:
        assert threading.current_thread() is not threading.main_thread()
        seen.append(error)

    app.exception_handler(Base)(handle if is_async else handle_in_thread)
    found = meet(backend, app)
    assert seen == [error]
    assert found.messages == ["accepted", *(['{"error":"x"}'] if is_async else [])]
    assert found.code == 1011
    # The program has dealt with it.
    assert logged(caplog) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_handler_may_close_the_connection_in_its_own_way(backend: str) -> None:
    app = FastWS()
    raising(app, Base())

    @app.exception_handler(Base)
    async def close(ws: WebSocket, error: Base) -> None:
        await ws.close(4001, "handled")

    assert meet(backend, app).code == 4001


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_handler_may_turn_one_exception_into_another(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastWS()
    raising(app, Base())

    @app.exception_handler(Base)
    async def translate(ws: WebSocket, error: Base) -> None:
        raise WebSocketException(4002) from error

    assert meet(backend, app).code == 4002
    assert logged(caplog) == []


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("error", "code"), [(WebSocketException(4000), 4000), (WebSocketTypeError("x", b""), 1003)]
)
def test_the_rule_of_an_exception_holds_behind_its_handler(
    backend: str, error: Exception, code: int
) -> None:
    app = FastWS()
    raising(app, error)
    seen: list[Exception] = []
    app.add_exception_handler(type(error), lambda ws, error: seen.append(error))
    assert meet(backend, app).code == code
    assert seen == [error]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("returns", [True, False])
def test_before_accept_a_handler_may_refuse_with_a_response(backend: str, returns: bool) -> None:
    app = FastWS()
    raising(app, HTTPException(403, "no"), accepts=False)

    @app.exception_handler(HTTPException)
    async def explain(ws: WebSocket, error: HTTPException) -> Response | None:
        response = JSONResponse({"why": error.detail}, 499, {"X-Why": "rules"})
        if returns:
            return response
        await ws.send_denial_response(response)
        return None

    found = meet(backend, app)
    assert (found.status, found.body) == (499, b'{"why":"no"}')
    assert found.headers["x-why"] == "rules"


@pytest.mark.parametrize("backend", BACKENDS)
def test_before_accept_a_handler_that_answers_nothing_leaves_it_to_the_rule(backend: str) -> None:
    app = FastWS(exception_handlers={Base: lambda ws, error: None, 403: lambda ws, error: None})
    raising(app, HTTPException(403, "no", {"X-Y": "z"}), accepts=False)

    @app.websocket("/fails")
    async def fails(ws: WebSocket) -> None:
        raise Base

    found = meet(backend, app)
    assert (found.status, found.detail, found.headers["x-y"]) == (403, "no", "z")
    assert meet(backend, app, "/fails").status == 500


@pytest.mark.parametrize("backend", BACKENDS)
def test_handlers_see_conversions_that_fail_and_paths_that_do_not_exist(backend: str) -> None:
    app = FastWS()

    @app.websocket("/items/{n}")
    async def endpoint(ws: WebSocket, n: int) -> None: ...

    @app.exception_handler(422)
    def unprocessable(ws: WebSocket, error: HTTPException) -> Response:
        return PlainTextResponse(f"{len(error.detail)} mistake", 400)

    @app.exception_handler(404)
    def unknown(ws: WebSocket, error: HTTPException) -> Response:
        return PlainTextResponse("what?", 410)

    found = meet(backend, app, "/items/x")
    assert (found.status, found.body) == (400, b"1 mistake")
    found = meet(backend, app, "/nowhere")
    assert (found.status, found.body) == (410, b"what?")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("accepts", [True, False])
def test_the_last_resort_sees_a_failure_which_is_logged_all_the_same(
    backend: str, accepts: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastWS()
    raising(app, Base("x"), accepts=accepts)

    @app.exception_handler(Exception)
    async def handle(ws: WebSocket, error: Exception) -> Response:
        if accepts:
            await ws.send_text(f"sorry: {error}")
        return PlainTextResponse("sorry", 503)

    found = meet(backend, app)
    if accepts:
        assert (found.messages, found.code) == (["accepted", "sorry: x"], 1011)
    else:
        assert (found.status, found.body) == (503, b"sorry")
    assert logged(caplog) == [Base]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_disconnect_is_no_failure(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    app = FastWS()
    seen: list[Any] = []
    app.add_exception_handler(Exception, lambda ws, error: seen.append(error))

    @app.websocket("/")
    async def endpoint(ws: WebSocket) -> None:
        await ws.accept()
        await ws.receive_text()

    meet(backend, app, leaves=True)
    assert seen == []
    app.add_exception_handler(WebSocketDisconnect, lambda ws, error: seen.append(error.code))
    meet(backend, app, leaves=True)
    assert seen == [1001]
    assert logged(caplog) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_specific_handlers_are_inside_of_middleware_and_the_last_resort_around_it(
    backend: str,
) -> None:
    app = FastWS()
    seen: list[str] = []
    app.add_exception_handler(Base, lambda ws, error: seen.append("specific"))
    app.add_exception_handler(Exception, lambda ws, error: seen.append("last"))

    @app.middleware("websocket")
    async def watch(ws: WebSocket, call_next: CallNext) -> None:
        try:
            await call_next(ws)
            seen.append("returned")
        except Exception as error:
            seen.append(type(error).__name__)
            raise

    @app.websocket("/{kind}")
    async def endpoint(ws: WebSocket, kind: str) -> None:
        await ws.accept()
        raise Derived if kind == "derived" else ZeroDivisionError

    assert meet(backend, app, "/derived").code == 1011
    assert seen == ["specific", "returned"]
    seen.clear()
    assert meet(backend, app, "/zero").code == 1011
    assert seen == ["ZeroDivisionError", "last"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_handler_that_fails_is_logged_with_what_it_was_called_for(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastWS()
    raising(app, Base())

    @app.exception_handler(Base)
    async def broken(ws: WebSocket, error: Base) -> None:
        raise KeyError("broken")

    assert meet(backend, app).code == 1011
    assert logged(caplog) == [KeyError]
    assert "During handling of the above exception" in caplog.text


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_code_that_cannot_be_sent_becomes_1011(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastWS(exception_handlers={WebSocketException: lambda ws, error: None})
    raising(app, WebSocketException(1005))
    assert meet(backend, app).code == 1011
    assert logged(caplog) == [ValueError]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_detail_that_cannot_be_sent_becomes_a_500(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastWS(exception_handlers={HTTPException: lambda ws, error: None})
    raising(app, HTTPException(403, object()), accepts=False)
    assert meet(backend, app).status == 500
    assert logged(caplog) == [TypeError]


# Pages


def test_a_page_is_answered_by_its_exceptions_handler() -> None:
    app = FastWS()

    @app.get("/{kind}")
    def page(kind: str) -> None:
        raise {"base": Base("x"), "http": HTTPException(403, "no")}[kind]

    @app.exception_handler(Base)
    async def base(request: Request, error: Base) -> Response:
        return PlainTextResponse(f"{request.url.path} {error}", 418)

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Any:
        return {"refused": error.detail}

    response = answer(app, "/base")
    assert (response.status_code, response.body) == (418, b"/base x")
    assert answer(app, "/http").body == b'{"refused":"no"}'


def test_the_status_may_be_the_key() -> None:
    app = FastWS()

    @app.websocket("/ws")
    async def endpoint(ws: WebSocket) -> None: ...

    app.exception_handler(404)(lambda request, error: PlainTextResponse("nowhere", 404))
    app.exception_handler(426)(lambda request, error: PlainTextResponse("a socket", 426))
    assert answer(app, "/x").body == b"nowhere"
    assert answer(app, "/ws").body == b"a socket"


@pytest.mark.parametrize("key", [500, Exception])
def test_the_last_resort_answers_a_page_that_failed(
    key: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastWS(exception_handlers={key: lambda request, error: PlainTextResponse("sorry", 500)})
    app.get("/")(lambda: 1 / 0)
    assert answer(app).body == b"sorry"
    assert logged(caplog) == [ZeroDivisionError]


def test_a_last_resort_that_fails_leaves_the_plain_500(caplog: pytest.LogCaptureFixture) -> None:
    app = FastWS()
    app.get("/")(lambda: 1 / 0)

    @app.exception_handler(Exception)
    def broken(request: Request, error: Exception) -> Response:
        raise KeyError

    assert answer(app).body == b'{"detail":"Internal Server Error"}'
    assert logged(caplog) == [ZeroDivisionError, KeyError]
