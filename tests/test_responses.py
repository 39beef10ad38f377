"""HTTP responses: their bytes, their headers, and what may not get into them."""

from __future__ import annotations

from typing import Any

import pytest

from fastws.datastructures import Message, Scope
from fastws.exceptions import HTTPException
from fastws.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    error_response,
    to_response,
)
from tests.asgi_peer import ASGIPeer, http_scope, websocket_scope
from tests.support import run


def test_a_response_has_its_type_and_length_in_its_headers() -> None:
    response = HTMLResponse("<p>ä", 201, {"X-One": "1"})
    assert (response.status_code, response.body) == (201, "<p>ä".encode())
    assert response.raw_headers == [
        (b"x-one", b"1"),
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", b"5"),
    ]
    assert repr(response) == "<HTMLResponse 201, 5 bytes>"


@pytest.mark.parametrize(
    ("response", "media_type"),
    [
        (PlainTextResponse("x"), b"text/plain; charset=utf-8"),
        (JSONResponse({}), b"application/json"),
        (Response("x", media_type="image/png"), b"image/png"),
        (Response("x", media_type="text/html; charset=utf-8"), b"text/html; charset=utf-8"),
        (Response("x", media_type="text/css;CHARSET=ascii"), b"text/css;CHARSET=ascii"),
        (HTMLResponse("x", headers={"Content-Type": "text/x"}), b"text/x"),
        (Response("x"), None),
    ],
)
def test_the_type_of_a_response(response: Response, media_type: bytes | None) -> None:
    assert dict(response.raw_headers).get(b"content-type") == media_type


@pytest.mark.parametrize("content", [b"x", bytearray(b"x"), memoryview(b"x"), "x"])
def test_content_may_be_text_or_bytes(content: Any) -> None:
    assert Response(content).body == b"x"


def test_no_content_is_an_empty_body() -> None:
    assert Response().body == b""
    assert dict(Response().raw_headers) == {b"content-length": b"0"}


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_content_has_no_length(status: int) -> None:
    assert Response(status_code=status).raw_headers == []


def test_content_without_a_form_as_bytes_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="is a dict: expected str or bytes, or use JSONResponse"):
        Response({"a": 1})


def test_json_is_compact_utf8_and_takes_keys_that_are_numbers() -> None:
    assert JSONResponse({"a": [1, "ä"], 2: None}).body == '{"a":[1,"ä"],"2":null}'.encode()
    with pytest.raises(TypeError):
        JSONResponse(object())


@pytest.mark.parametrize("status", [0, 101, 199, 600])
def test_a_status_that_ends_no_exchange_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="expected 200 to 599"):
        Response(status_code=status)


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: x", "a\n", "a\x00", "a\x7f"])
def test_a_header_cannot_begin_another_one(value: str) -> None:
    with pytest.raises(ValueError):
        Response("x", headers={"X-One": value})
    with pytest.raises(ValueError):
        Response("x", headers=[(b"X-One", value.encode())])
    with pytest.raises(ValueError):
        Response("x", media_type=f"text/plain{value}")
    with pytest.raises(ValueError):
        Response("x", headers={f"X{value}": "1"})


def test_what_handlers_return_becomes_a_response() -> None:
    response = Response("x")
    assert to_response(response) is response
    text, page = to_response("<p>"), to_response("<p>", HTMLResponse, 202)
    assert (type(text), type(page), page.status_code) == (PlainTextResponse, HTMLResponse, 202)
    raw, json = to_response(b"x"), to_response({"a": 1}, status_code=203)
    assert dict(raw.raw_headers)[b"content-type"] == b"application/octet-stream"
    assert (type(json), json.body, json.status_code) == (JSONResponse, b'{"a":1}', 203)
    assert to_response(None).body == b"null"


def test_an_http_exception_says_its_detail_in_json() -> None:
    response = error_response(HTTPException(418, ["no", "coffee"], {"X-Pot": "tea"}))
    assert (response.status_code, response.body) == (418, b'{"detail":["no","coffee"]}')
    assert (b"x-pot", b"tea") in response.raw_headers
    assert error_response(HTTPException(404)).body == b'{"detail":"Not Found"}'


# Headers that change, and sending


def test_the_headers_of_a_response_are_a_view_that_can_be_changed() -> None:
    response = PlainTextResponse("x", headers={"X-A": "1"})
    headers = response.headers
    headers["X-B"] = "2"
    headers["x-a"] = "3"
    headers.append("Set-Cookie", "a=1")
    headers.append("Set-Cookie", "b=2")
    headers.update({"X-C": "4"})
    assert headers.setdefault("X-C", "5") == "4"
    assert headers.setdefault("X-D", "6") == "6"
    del headers["content-length"]
    del headers["nothing"]
    assert response.headers["X-A"] == "3"
    assert response.headers.getlist("set-cookie") == ["a=1", "b=2"]
    assert response.raw_headers == [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"x-b", b"2"),
        (b"x-a", b"3"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"x-c", b"4"),
        (b"x-d", b"6"),
    ]


@pytest.mark.parametrize(("name", "value"), [("X-A", "1\r\nX-Evil: 1"), ("X A", "1")])
def test_a_header_that_could_pass_for_another_line_is_not_set(name: str, value: str) -> None:
    response = PlainTextResponse("x", headers={"X-A": "1"})
    before = list(response.raw_headers)
    for change in (response.headers.__setitem__, response.headers.append):
        with pytest.raises(ValueError):
            change(name, value)
    assert response.raw_headers == before


def send(response: Response, scope: Scope) -> list[Message]:
    peer = ASGIPeer()
    run(response(scope, peer.receive, peer.send))
    return peer.sent


@pytest.mark.parametrize(("method", "body"), [("GET", b"x"), ("HEAD", b"")])
def test_a_response_is_an_asgi_application_that_sends_it(method: str, body: bytes) -> None:
    response = PlainTextResponse("x", 201)
    assert send(response, http_scope("/", method)) == [
        {"type": "http.response.start", "status": 201, "headers": response.raw_headers},
        {"type": "http.response.body", "body": body},
    ]


def test_an_upgrade_header_is_named_in_connection_once() -> None:
    response = Response(b"", 426, {"Upgrade": "websocket"})
    (start, _) = send(response, http_scope("/"))
    assert start["headers"][-1] == (b"connection", b"Upgrade")
    response.headers["Connection"] = "Upgrade"
    (start, _) = send(response, http_scope("/"))
    assert [name for name, _ in start["headers"]].count(b"connection") == 1


def test_a_response_refuses_a_websocket() -> None:
    response = PlainTextResponse("no", 403)
    kinds = [message["type"] for message in send(response, websocket_scope("/"))]
    assert kinds == ["websocket.http.response.start", "websocket.http.response.body"]
    (close,) = send(response, websocket_scope("/", extensions={}))
    assert close["type"] == "websocket.close"
