"""Plain HTTP on a connection: keep-alive, pipelining, ends, deadlines and what the log says."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from typing import Any

import pytest

from fastws import FastWS, WebSocket
from fastws.requests import Request
from fastws.responses import Response
from tests.serving import Client, connect, exchange, frame, handshake, serving, status_of
from tests.support import TIMEOUT, run


def make_app() -> FastWS:
    app = FastWS()

    @app.get("/")
    async def page() -> str:
        return "a page"

    @app.get("/big")
    async def big() -> bytes:
        return bytes(8 * 1024 * 1024)

    @app.get("/fails")
    async def fails() -> str:
        raise LookupError("on purpose")

    @app.get("/last")
    async def last() -> Response:
        return Response("bye", headers={"Connection": "close"})

    @app.websocket("/ws")
    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            await ws.send_text(message)

    @app.websocket("/number/{number}")
    async def number(ws: WebSocket, number: int) -> None:
        await ws.accept()

    return app


def get(path: str = "/", *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: example.org", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


async def response(client: Client, *, has_body: bool = True) -> tuple[int, dict[str, str], bytes]:
    """The next response: status, headers and body."""
    head = await client.head()
    fields = [line.split(": ", 1) for line in head.decode().split("\r\n")[1:-2]]
    headers = {name.lower(): value for name, value in fields}
    length = int(headers["content-length"]) if has_body else 0
    return status_of(head), headers, await client.exactly(length)


def test_a_page_and_the_headers_that_every_response_has() -> None:
    async def main() -> None:
        options = {"server_header": True, "header": ["X-One: 1", "X-Two: 2"]}
        async with serving(make_app(), **options) as server, connect(server) as client:
            await client.send(get())
            status, headers, body = await response(client)
            assert (status, body) == (200, b"a page")
            assert headers["server"] == "fastws"
            assert headers["date"].endswith(" GMT")
            assert (headers["x-one"], headers["x-two"]) == ("1", "2")
            # A refusal has them as well.
            await client.send(get("/ws", "Content-Length: x"))
            status, headers, body = await response(client)
            assert status == 400
            assert (headers["server"], headers["x-one"]) == ("fastws", "1")

    run(main())


def test_headers_that_are_turned_off() -> None:
    async def main() -> None:
        async with serving(make_app(), date_header=False) as server, connect(server) as client:
            await client.send(get())
            _, headers, _ = await response(client)
            assert headers.keys() & {"date", "server"} == set()

    run(main())


def test_a_connection_is_kept_for_further_requests() -> None:
    async def main() -> None:
        async with serving(make_app()) as server, connect(server) as client:
            for path, expected in (("/", 200), ("/none", 404), ("/fails", 500), ("/", 200)):
                await client.send(get(path))
                status, headers, _ = await response(client)
                assert status == expected
                assert headers["connection"] == "keep-alive"
            await client.send(handshake("/ws"))
            assert status_of(await client.head()) == 101

    run(main())


def test_head_has_the_head_of_get_and_no_body() -> None:
    async def main() -> None:
        async with serving(make_app()) as server, connect(server) as client:
            await client.send(get(method="HEAD") + get())
            status, headers, _ = await response(client, has_body=False)
            assert (status, headers["content-length"]) == (200, "6")
            assert (await response(client))[2] == b"a page"

    run(main())


def test_pipelined_requests_are_answered_in_order() -> None:
    async def main() -> None:
        async with serving(make_app()) as server, connect(server) as client:
            await client.send((get("/") + get("/none")) * 50 + get("/", "Connection: close"))
            for _ in range(50):
                assert (await response(client))[0] == 200
                assert (await response(client))[0] == 404
            assert (await response(client))[0] == 200
            assert await client.rest() == b""

    run(main())


def test_any_number_of_pipelined_requests_for_the_servers_own_pages_is_answered() -> None:
    async def main() -> None:
        count = 2000
        async with serving(make_app(), health="/health") as server, connect(server) as client:
            await client.send(get("/health") * count + get("/", "Connection: close"))
            for _ in range(count):
                assert (await response(client))[0] == 200
            assert (await response(client))[2] == b"a page"
            assert await client.rest() == b""

    run(main())


def test_more_pipelined_bytes_than_are_kept_still_arrive() -> None:
    async def main() -> None:
        count = 3000
        async with serving(make_app()) as server, connect(server) as client:
            sending = asyncio.create_task(client.send(get(f"/{'x' * 100}") * count))
            for _ in range(count):
                assert (await response(client))[0] == 404
            await sending

    run(main())


def test_a_handshake_behind_a_pipelined_request() -> None:
    async def main() -> None:
        async with serving(make_app()) as server, connect(server) as client:
            await client.send(get() + handshake("/ws") + frame(b"early"))
            assert (await response(client))[2] == b"a page"
            assert status_of(await client.head()) == 101
            assert await client.frame() == (1, b"early")

    run(main())


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get("/", "Connection: close"), 200),
        (get("/", "Connection: keep-alive, Close"), 200),
        (get("/", version="1.0"), 200),
        (get("/", "Content-Length: 5") + b"abcde", 200),
        (get("/", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 200),
        (get("/last"), 200),
        (get("/", "Content-Length: 5", method="POST") + b"abcde", 405),
        (get("/ws", "Content-Length: 5", method="POST") + b"abcde", 405),
    ],
)
def test_the_last_response_says_so_and_ends_the_connection(
    request_bytes: bytes, status: int
) -> None:
    async def main() -> None:
        async with serving(make_app()) as server, connect(server) as client:
            # What follows is not looked at, whether it belongs to a body or not.
            await client.send(request_bytes + get())
            answered, headers, _ = await response(client)
            assert answered == status
            assert headers["connection"] == "close"
            assert await client.rest() == b""

    run(main())


def test_a_peer_that_sends_eof_with_its_request_gets_the_response() -> None:
    async def main() -> None:
        async with serving(make_app()) as server, connect(server) as client:
            await client.send(get() + get("/none"))
            client.writer.write_eof()
            assert (await response(client))[0] == 200
            assert (await response(client))[0] == 404
            assert await client.rest() == b""

    run(main())


def test_a_plain_get_of_a_websocket_path_says_what_is_spoken_there() -> None:
    async def main() -> None:
        async with serving(make_app()) as server, connect(server) as client:
            await client.send(get("/ws"))
            status, headers, _ = await response(client)
            assert status == 426
            assert headers["upgrade"] == "websocket"
            assert "upgrade" in headers["connection"].lower()

    run(main())


def test_unknown_paths_are_not_found() -> None:
    async def main() -> None:
        async with serving(make_app()) as server:
            assert status_of(await exchange(server, handshake("/none"))) == 404
            assert status_of(await exchange(server, handshake("/"))) == 404

    run(main())


def test_a_path_parameter_that_does_not_convert_is_refused_before_the_handler_runs() -> None:
    async def main() -> None:
        async with serving(make_app()) as server:
            answer = await exchange(server, handshake("/number/x"))
            assert status_of(answer) == 422
            assert b"number" in answer.partition(b"\r\n\r\n")[2]

    run(main())


def test_subprotocols_that_are_not_spoken_are_not_shown_to_the_handler() -> None:
    app = FastWS()

    @app.websocket("/", subprotocols=["b", "c"])
    async def choose(ws: WebSocket) -> None:
        offered = ws.subprotocols
        await ws.accept(subprotocol=offered[0])
        await ws.send_text(",".join(offered))

    async def main() -> None:
        async with serving(app) as server, connect(server) as client:
            await client.send(handshake("/", "Sec-WebSocket-Protocol: a, c, b"))
            assert b"Sec-WebSocket-Protocol: c\r\n" in await client.head()
            assert await client.frame() == (1, b"c,b")

    run(main())


# Deadlines


def test_an_idle_connection_is_closed_without_a_word() -> None:
    async def main() -> None:
        options = {"ws_open_timeout": TIMEOUT / 25, "timeout_keep_alive": TIMEOUT / 25}
        async with serving(make_app(), **options) as server:
            async with connect(server) as client:
                assert await client.rest() == b""
            async with connect(server) as client:
                await client.send(get())
                assert (await response(client))[0] == 200
                assert await client.rest() == b""

    run(main())


def test_a_later_request_has_a_deadline_too() -> None:
    async def main() -> None:
        options = {"header_read_timeout": TIMEOUT / 25, "timeout_keep_alive": 10 * TIMEOUT}
        async with serving(make_app(), **options) as server, connect(server) as client:
            await client.send(get() + get()[:10])
            assert (await response(client))[0] == 200
            assert (await response(client))[0] == 408
            assert await client.rest() == b""

    run(main())


async def send_for_ever(client: Client) -> None:
    """Send single bytes until that fails, because the server has cut the connection."""
    while True:
        await client.send(b"x")
        await asyncio.sleep(0)


def test_a_peer_that_does_not_read_its_response_is_cut() -> None:
    async def main() -> None:
        options = {"timeout_keep_alive": TIMEOUT / 25}
        async with serving(make_app(), **options) as server, connect(server) as client:
            client.stop_reading()
            await client.send(get("/big"))
            with pytest.raises(ConnectionError):
                await send_for_ever(client)
            client.transport.abort()

    run(main())


def test_a_big_response_arrives_whole() -> None:
    async def main() -> None:
        async with serving(make_app()) as server, connect(server) as client:
            await client.send(get("/big") + get())
            assert len((await response(client))[2]) == 8 * 1024 * 1024
            assert (await response(client))[2] == b"a page"

    run(main())


async def read_slowly(client: Client) -> bytes:
    """Everything up to EOF, with a pause for every 8 MiB."""
    received = bytearray()
    pauses = 0
    while chunk := await asyncio.wait_for(client.reader.read(1024 * 1024), TIMEOUT):
        received += chunk
        if len(received) // (8 * 1024 * 1024) > pauses:
            pauses += 1
            await asyncio.sleep(TIMEOUT / 50)
    return bytes(received)


def test_a_peer_that_reads_slowly_gets_all_of_it() -> None:
    app = FastWS()

    @app.get("/")
    async def huge() -> bytes:
        return bytes(64 * 1024 * 1024)

    async def main() -> None:
        async with serving(app, timeout_keep_alive=TIMEOUT / 25) as server:
            async with connect(server, limit=1024 * 1024) as client:
                await client.send(get("/", "Connection: close"))
                answer = await read_slowly(client)
                assert len(answer.partition(b"\r\n\r\n")[2]) == 64 * 1024 * 1024

    run(main())


def test_a_peer_that_goes_away_cancels_the_work_on_its_request() -> None:
    app = FastWS()
    started, cancelled = asyncio.Event(), asyncio.Event()

    @app.get("/")
    async def works() -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return ""

    async def main() -> None:
        async with serving(app) as server, connect(server) as client:
            await client.send(get())
            await asyncio.wait_for(started.wait(), TIMEOUT)
            # A RST. After a mere FIN the peer may still read the response.
            linger = struct.pack("ii", 1, 0)
            client.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger
            )
            client.transport.abort()
            await asyncio.wait_for(cancelled.wait(), TIMEOUT)

    run(main())


# What goes wrong here


def test_an_application_that_fails_is_answered_with_500(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FastWS):
        async def handle_http(self, request: Request) -> Response:
            raise LookupError("on purpose")

        def find_websocket(self, path: str) -> Any:
            raise LookupError("on purpose")

    async def main() -> None:
        async with serving(Broken()) as server:
            async with connect(server) as client:
                await client.send(get() * 2)
                assert (await response(client))[0] == 500
                assert (await response(client))[0] == 500
            assert status_of(await exchange(server, handshake())) == 500

    run(main())
    assert "on purpose" in caplog.text


# Limits


def test_far_more_connections_than_allowed_are_cut() -> None:
    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(serving(make_app(), limit_connections=1))
            clients = [await stack.enter_async_context(connect(server)) for _ in range(40)]
            answers = await asyncio.gather(
                *(client.rest() for client in clients[1:]), return_exceptions=True
            )
            turned_away = [answer for answer in answers if isinstance(answer, bytes) and answer]
            assert len(turned_away) == 32
            assert {status_of(answer) for answer in turned_away} == {503}

    run(main())


def test_connections_above_the_limit_are_turned_away() -> None:
    async def main() -> None:
        async with serving(make_app(), limit_connections=2) as server:
            async with connect(server) as first, connect(server) as second:
                await first.send(handshake("/ws"))
                assert status_of(await first.head()) == 101
                await second.send(get())
                assert (await response(second))[0] == 200
                answer = await exchange(server, handshake("/ws"))
                assert status_of(answer) == 503
                # Those that are open go on.
                await first.send(frame(b"still here"))
                assert await first.frame() == (1, b"still here")

    run(main())


# The log


def test_requests_and_refusals_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving(make_app()) as server:
            await exchange(server, get("/none?x=1", "Connection: close"))
            await exchange(server, handshake("/ws", "Sec-WebSocket-Key: short"))
            async with connect(server) as client:
                await client.send(handshake("/ws?x=2") + frame(b"\x03\xe9", opcode=8))
                assert await client.rest()

    with caplog.at_level(logging.INFO, "fastws.access"):
        run(main())
    lines = [record.getMessage() for record in caplog.records if record.name == "fastws.access"]
    assert any('"GET /none?x=1" 404' in line for line in lines)
    assert any('"GET /ws" refused with 400: Sec-WebSocket-Key' in line for line in lines)
    assert any('"WebSocket /ws?x=2" 101' in line for line in lines)
    assert any('"WebSocket /ws?x=2" closed 1001 after ' in line for line in lines)


def test_the_access_log_can_be_turned_off(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving(make_app(), access_log=False) as server:
            await exchange(server, get("/none", "Connection: close"))
            await exchange(server, handshake("/ws", "Sec-WebSocket-Key: short"))

    with caplog.at_level(logging.INFO, "fastws.access"):
        run(main())
    assert not [record for record in caplog.records if record.name == "fastws.access"]
