"""The exception tree, what its members carry, and how a handler's end ends its connection."""

from __future__ import annotations

import builtins
import copy
import pickle
from typing import Any

import pytest

from fastws import exceptions
from fastws.exceptions import (
    Ending,
    HandshakeError,
    HTTPException,
    WebSocketClosed,
    WebSocketDisconnect,
    WebSocketException,
    WebSocketTypeError,
    ending_of,
)


def test_the_tree_is_the_one_in_the_docstring() -> None:
    """Each line of the drawing names a class; how far it is indented says whose subclass."""
    assert exceptions.__doc__ is not None
    ancestors: list[type[BaseException]] = [Exception]
    drawn = set()
    for line in exceptions.__doc__.splitlines():
        if "──" not in line:
            continue
        name = line.split("── ")[1].split()[0]
        cls = getattr(exceptions, name, None) or getattr(builtins, name)
        depth = (line.index("──") - 5) // 4
        del ancestors[depth + 1 :]
        assert issubclass(cls, ancestors[depth])
        ancestors.append(cls)
        drawn.add(name)
    public = {name for name in exceptions.__all__ if name[0].isupper()} - {"Ending"}
    assert drawn - {"ConnectionError", "TypeError", "ValueError"} == public


def test_what_catches_a_disconnect() -> None:
    assert issubclass(WebSocketDisconnect, ConnectionError)
    assert issubclass(WebSocketDisconnect, OSError)
    assert issubclass(WebSocketClosed, WebSocketDisconnect)
    assert issubclass(WebSocketClosed, RuntimeError)
    assert issubclass(WebSocketTypeError, TypeError)


def test_a_disconnect_is_no_errno() -> None:
    """OSError takes two arguments for a number and a text: neither is given."""
    for error in (WebSocketDisconnect(1001, "gone"), WebSocketClosed(1001, "gone")):
        assert (error.code, error.reason) == (1001, "gone")
        assert error.errno is None
        assert error.args == ("1001 gone",)
        assert str(error) == "1001 gone"


def test_defaults_of_a_disconnect() -> None:
    for error in (WebSocketDisconnect(), WebSocketDisconnect(1000, None)):
        assert (error.code, error.reason, str(error)) == (1000, "", "1000")


def test_websocket_exception() -> None:
    error = WebSocketException(4001, "expired")
    assert (error.code, error.reason, str(error)) == (4001, "expired", "4001 expired")
    assert (WebSocketException(1008).reason, str(WebSocketException(1008))) == ("", "1008")


def test_http_exception() -> None:
    error = HTTPException(404)
    assert (error.status_code, error.detail, error.headers) == (404, "Not Found", None)
    assert str(error) == "404: Not Found"
    error = HTTPException(401, {"why": "no token"}, {"WWW-Authenticate": "Bearer"})
    assert error.detail == {"why": "no token"}
    assert error.headers == {"WWW-Authenticate": "Bearer"}
    assert HTTPException(599, "odd").detail == "odd"


def test_handshake_error() -> None:
    error = HandshakeError(426, "use 13", [("Sec-WebSocket-Version", "13")])
    assert (error.status, error.message) == (426, "use 13")
    assert error.headers == [("Sec-WebSocket-Version", "13")]
    assert str(error) == "426: use 13"
    assert HandshakeError(400, "bad").headers == ()


def test_type_error_keeps_the_message() -> None:
    error = WebSocketTypeError("text was expected", b"binary")
    assert error.data == b"binary"
    assert str(error) == "text was expected"


@pytest.mark.parametrize(
    "error",
    [
        WebSocketDisconnect(1001, "gone"),
        WebSocketDisconnect(1006),
        WebSocketClosed(1000, "bye"),
        WebSocketException(4000, "why"),
        WebSocketTypeError("wrong kind", b"data"),
        HTTPException(403, ["no"], {"X-A": "b"}),
        HandshakeError(400, "bad", [("A", "b")]),
    ],
    ids=repr,
)
def test_they_can_be_pickled_and_copied(error: Exception) -> None:
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert vars(twin) == vars(error)
        assert str(twin) == str(error)


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (None, Ending(1000, "", 500, False)),
        (WebSocketDisconnect(1001), Ending(1000, "", 403, False)),
        (WebSocketClosed(1000), Ending(1000, "", 403, False)),
        (WebSocketException(4001, "expired"), Ending(4001, "expired", 403, False)),
        (HTTPException(404), Ending(1011, "", 404, True)),
        (WebSocketTypeError("wrong kind", ""), Ending(1003, "wrong kind", 500, False)),
        (ValueError("a fault"), Ending(1011, "", 500, True)),
        (TypeError("a fault"), Ending(1011, "", 500, True)),
        (ConnectionResetError(), Ending(1011, "", 500, True)),
        (KeyboardInterrupt(), Ending(1011, "", 500, True)),
    ],
    ids=repr,
)
def test_how_the_outcome_of_a_handler_ends_its_connection(error: Any, ending: Ending) -> None:
    assert ending_of(error) == ending
