"""The lines of the access log, over real sockets: what is in them, and what cannot be forged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastws import FastWS, HTTPException, WebSocket
from fastws.logs import access_log
from fastws.server import Server
from tests.serving import Client, connect, exchange, frame, handshake, serving, status_of
from tests.support import TIMEOUT, ServerProcess, run

ID = r"[0-9a-f]+-[0-9a-f]+"
PAGE = b"GET /page?x=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
PEER = r"127\.0\.0\.1:\d+"


def make_app() -> FastWS:
    app = FastWS()

    @app.websocket("/echo")
    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            await ws.send_text(f"{message!r}")

    @app.websocket("/private")
    async def private(ws: WebSocket) -> None:
        raise HTTPException(401)

    @app.websocket("/teapot")
    async def teapot(ws: WebSocket) -> None:
        await ws.send_denial_response(418)

    @app.websocket("/closed")
    async def closed(ws: WebSocket) -> None:
        await ws.close()

    @app.websocket("/slow", cancel_on_disconnect=True)
    async def slow(ws: WebSocket) -> None:
        await asyncio.Event().wait()

    @app.get("/page")
    async def page() -> str:
        return "page"

    return app


@contextlib.asynccontextmanager
async def logged(**options: Any) -> AsyncIterator[Server]:
    """A server whose connections have all ended, and are in the log, at the end of the block."""
    async with serving(make_app(), **options) as server:
        yield server
        assert server.hub is not None
        await asyncio.wait_for(server.hub.wait_until_empty(), TIMEOUT)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[logging.LogRecord]:
    """What the access log gets from here on."""
    records: list[logging.LogRecord] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    monkeypatch.setattr(access_log, "handlers", [Keeper()])
    monkeypatch.setattr(access_log, "isEnabledFor", lambda level: True)
    return records


def the(records: list[logging.LogRecord], event: str) -> logging.LogRecord:
    (found,) = [record for record in records if getattr(record, "event", None) == event]
    return found


async def open_and_close(server: Server, *messages: bytes, path: str = "/echo") -> None:
    async with connect(server) as client:
        await client.send(handshake(path))
        assert status_of(await client.head()) == 101
        for message in messages:
            await client.send(frame(message))
            await client.frame()
        await client.send(frame(struct.pack(">H", 4001) + b"bye", opcode=8))
        assert (await client.frame())[0] == 8


def test_a_connection_has_a_line_at_its_start_and_one_at_its_end(
    lines: list[logging.LogRecord],
) -> None:
    async def main() -> None:
        async with logged() as server:
            await open_and_close(server, b"one", b"three")

    run(main())
    opened, closed = the(lines, "accepted"), the(lines, "closed")
    assert re.fullmatch(rf'{PEER} {ID} "WebSocket /echo" 101', opened.getMessage())
    pattern = (
        rf'{PEER} {ID} "WebSocket /echo" closed 4001 after \d+\.\d\d\d s, '
        r"in: 2 messages, 8 bytes, out: 2 messages, 12 bytes: bye"
    )
    assert re.fullmatch(pattern, closed.getMessage())
    fields = vars(closed)
    assert fields["connection"] == vars(opened)["connection"]
    assert {name: fields[name] for name in ("code", "reason", "path", "messages_received")} == {
        "code": 4001,
        "reason": "bye",
        "path": "/echo",
        "messages_received": 2,
    }
    assert 0 <= fields["duration"] < TIMEOUT


@pytest.mark.parametrize(
    ("path", "status"), [("/private", 401), ("/teapot", 418), ("/closed", 403)]
)
def test_a_refusal_by_the_application_has_one_line(
    path: str, status: int, lines: list[logging.LogRecord]
) -> None:
    async def main() -> None:
        async with logged() as server:
            assert status_of(await exchange(server, handshake(path))) == status

    run(main())
    (line,) = lines
    assert re.fullmatch(rf'{PEER} {ID} "WebSocket {path}" {status}', line.getMessage())
    assert (vars(line)["event"], vars(line)["status"]) == ("refused", status)


def test_a_refusal_by_the_server_says_why(lines: list[logging.LogRecord]) -> None:
    async def main() -> None:
        async with logged() as server:
            await exchange(server, handshake("/nowhere"))

    run(main())
    expected = rf'{PEER} "GET /nowhere" refused with 404: nothing is served at this path'
    assert re.fullmatch(expected, the(lines, "refused").getMessage())


def test_a_peer_that_does_not_wait_for_the_answer(lines: list[logging.LogRecord]) -> None:
    async def main() -> None:
        async with logged() as server:
            async with connect(server) as client:
                await client.send(handshake("/slow"))
                # What was sent before this is answered has been read.
                await exchange(server, PAGE)
                client.transport.abort()

    run(main())
    expected = rf'{PEER} {ID} "WebSocket /slow" left before it was answered'
    assert re.fullmatch(expected, the(lines, "left").getMessage())
    assert not [record for record in lines if getattr(record, "event", None) == "closed"]


def test_a_lost_connection_is_closed_with_1006(lines: list[logging.LogRecord]) -> None:
    """Also one whose receive queue is full, so that its loss is not read yet."""

    async def main() -> None:
        async with logged(ws_max_queue=1) as server:
            async with connect(server) as client:
                await client.send(handshake("/echo"))
                await client.head()
                await client.send(frame(b"a") * 50)
                client.transport.abort()

    run(main())
    assert vars(the(lines, "closed"))["code"] == 1006


def test_a_request_has_one_line(lines: list[logging.LogRecord]) -> None:
    async def main() -> None:
        async with logged() as server:
            await exchange(server, PAGE)

    run(main())
    line = the(lines, "request")
    assert re.fullmatch(rf'{PEER} "GET /page\?x=1" 200', line.getMessage())
    assert vars(line)["method"] == "GET"


@pytest.mark.parametrize(
    "request_",
    [
        b'GET /\x1b[31m"\n HTTP/1.1\r\n\r\n',
        b"GET /a\x0b1.2.3.4:5 - forged HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\xe2\x80\xa8\x9b2J\r\n\r\n",
        b"GET /\xe2\x80\xae HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_no_line_can_be_forged(request_: bytes, lines: list[logging.LogRecord]) -> None:
    async def main() -> None:
        async with logged() as server:
            await exchange(server, request_)

    run(main())
    (line,) = lines
    assert line.getMessage().isprintable()
    assert all(value.isprintable() for value in vars(line).values() if isinstance(value, str))


def test_a_close_reason_cannot_forge_a_line_either(lines: list[logging.LogRecord]) -> None:
    async def main() -> None:
        async with logged() as server, connect(server) as client:
            await client.send(handshake("/echo"))
            await client.head()
            await client.send(frame(struct.pack(">H", 1000) + b"\nforged\x1b[2J", opcode=8))
            assert (await client.frame())[0] == 8
            await client.close()

    run(main())
    closed = the(lines, "closed")
    assert vars(closed)["reason"] == r"\nforged\x1b[2J"
    assert closed.getMessage().isprintable()


def test_turned_off_it_says_nothing(lines: list[logging.LogRecord]) -> None:
    async def main() -> None:
        async with logged(access_log=False) as server:
            await open_and_close(server, b"x")
            await exchange(server, handshake("/nowhere"))
            await exchange(server, PAGE)

    run(main())
    assert lines == []


PROGRAM = """
import logging
from fastws import FastWS, WebSocket
app = FastWS()
@app.websocket("/")
async def handler(ws: WebSocket) -> None:
    await ws.accept()
    logging.getLogger("shop").warning("a word", extra={"article": 7})
    raise LookupError("no such article")
"""


def test_json_lines_of_a_whole_run(tmp_path: Any) -> None:
    (tmp_path / "shop.py").write_text(PROGRAM)

    async def main() -> None:
        client = Client(*await asyncio.open_connection(server.host, server.port))
        await client.send(handshake("/?x=1"))
        assert status_of(await client.head()) == 101
        assert (await client.frame())[1][:2] == struct.pack(">H", 1011)
        await client.send(frame(struct.pack(">H", 1011), opcode=8))
        await client.rest()
        await client.close()

    with ServerProcess("shop", "--log-format=json", cwd=tmp_path) as server:
        run(main())
    # Nothing else is written, not even the screen at the start.
    records = [json.loads(line) for line in server.output.splitlines()]
    assert records[0]["message"].startswith("fastws is serving\n")
    by_logger = {record["logger"]: record for record in records}
    opened, closed = [record for record in records if "/?x=1" in record.get("path", "")]
    assert (opened["event"], opened["status"]) == ("accepted", 101)
    assert (closed["event"], closed["code"]) == ("closed", 1011)
    word = by_logger["shop"]
    assert (word["message"], word["level"], word["article"]) == ("a word", "warning", 7)
    failure = by_logger["fastws.error"]
    assert failure["traceback"].endswith("LookupError: no such article")
    assert opened["connection"] == closed["connection"] == word["connection"]
    assert opened["connection"] in failure["message"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", opened["time"])
