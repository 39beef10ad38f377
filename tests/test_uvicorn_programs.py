"""Programs of other frameworks on uvicorn's command line, with this package's WebSockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.docs.programs import Answer, Program
from tests.support import TIMEOUT, run
from tests.uvicorn_server import DROP_IN


def program(name: str, *options: str) -> Program:
    words = ("--ws", DROP_IN, *options)
    return Program(f"tests.uvicorn_programs.{name}", "uvicorn", other=words)


@pytest.fixture(scope="module")
def fastapi() -> Iterator[Program]:
    with program("fastapi_guide", "--ws-max-size", "1000") as server:
        yield server


@pytest.fixture(scope="module")
def starlette() -> Iterator[Program]:
    with program("starlette_endpoints") as server:
        yield server


@pytest.fixture(scope="module")
def channels() -> Iterator[Program]:
    with program("channels_chat", "--lifespan", "off") as server:
        yield server
    server.assert_quiet()


@pytest.fixture(scope="module")
def litestar() -> Iterator[Program]:
    with program("litestar_listeners") as server:
        yield server
    server.assert_quiet()


async def said(ws: Any) -> Any:
    return json.loads(await asyncio.wait_for(ws.recv(), TIMEOUT))


async def heard(ws: Any) -> str:
    text: str = await asyncio.wait_for(ws.recv(), TIMEOUT)
    return text


async def end_of(ws: Any) -> tuple[int, str]:
    """How the server closes."""
    with pytest.raises(ConnectionClosed) as caught:
        await asyncio.wait_for(ws.recv(), TIMEOUT)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def page(server: Program, path: str) -> Answer:
    return await asyncio.to_thread(server.get, path)


# FastAPI


def test_fastapi_a_page_and_its_echo(fastapi: Program) -> None:
    async def main() -> None:
        assert b"new WebSocket" in (await page(fastapi, "/")).body
        async with fastapi.open("/ws") as ws:
            for text in ("hello", "ä" * 400, ""):
                await ws.send(text)
                assert await heard(ws) == f"You wrote {text}"

    run(main())


def test_fastapi_parameters_cookies_and_dependencies(fastapi: Program) -> None:
    async def main() -> None:
        cookie = {"Cookie": "session=ann"}
        async with fastapi.open("/shelf/7/ws?page=2", additional_headers=cookie) as ws:
            assert await said(ws) == {"number": 7, "who": "ann", "page": 2}
            await ws.send("hi")
            assert await heard(ws) == "hello ann: hi"
        async with fastapi.open("/shelf/7/ws?token=bob") as ws:
            assert await said(ws) == {"number": 7, "who": "bob", "page": None}
        for path in ("/shelf/7/ws", "/shelf/seven/ws?token=bob"):
            assert (await fastapi.refusal(path)).status == 403

    run(main())


def test_fastapi_a_chat_of_many(fastapi: Program) -> None:
    async def main() -> None:
        async with fastapi.open("/chat/ann") as ann:
            async with fastapi.open("/chat/bob") as bob:
                await bob.send("hi")
                assert [await heard(bob), await heard(bob)] == ["You: hi", "bob: hi"]
                assert await heard(ann) == "bob: hi"
                await bob.close(1001)
            assert await heard(ann) == "bob left with 1001"
            async with fastapi.open("/chat/eve") as eve:
                await eve.send("hi")
                assert await heard(ann) == "eve: hi"
                eve.transport.abort()
            assert await heard(ann) == "eve left with 1006"

    run(main())


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("denied", (401, b'{"error":"no"}')),
        ("refused", (418, b'{"detail":"a teapot"}')),
        ("closed early", (403, None)),
        ("closed", (4001, "enough")),
        ("raised", (4002, "too much")),
        ("failed", (1011, "")),
        ("returned", (1000, "")),
    ],
)
def test_fastapi_ends(fastapi: Program, how: str, expected: tuple[int, Any]) -> None:
    async def main() -> None:
        path = f"/ends/{how}".replace(" ", "%20")
        if expected[0] < 1000:
            answer = await fastapi.refusal(path)
            assert answer.status == expected[0]
            assert expected[1] in (None, answer.body)
        else:
            async with fastapi.open(path) as ws:
                assert await end_of(ws) == expected
        if how == "failed":
            await fastapi.prints("LookupError: a mistake of the application")

    run(main())


def test_an_option_of_the_command_line(fastapi: Program) -> None:
    async def main() -> None:
        async with fastapi.open("/ws") as ws:
            await ws.send("x" * 1001)
            assert (await end_of(ws))[0] == 1009

    run(main())


def test_sigterm_closes_with_1012_and_ends_the_lifespan() -> None:
    async def main() -> None:
        async with server.open("/chat/ann") as ann, server.open("/ws") as ws:
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            assert (await end_of(ann))[0] == 1012
            assert (await end_of(ws))[0] == 1012
        # As after any signal that uvicorn has been stopped by.
        assert await stopping in (0, -15)

    with program("fastapi_guide") as server:
        run(main())
    assert "down" in server.output
    assert '- "WebSocket /chat/ann" [accepted]' in server.output


# Starlette


def test_starlette_an_endpoint(starlette: Program) -> None:
    async def main() -> None:
        async with starlette.open("/echo", subprotocols=["v1", "v2"]) as ws:
            assert ws.subprotocol == "v1"
            assert ws.response is not None
            assert ws.response.headers["x-served-by"] == "echo"
            await ws.send("[1, null]")
            assert await said(ws) == {"got": [1, None], "seen": True}
            await ws.close(4007)
        await starlette.prints("left with 4007")
        async with starlette.open("/echo") as ws:
            await ws.send("no JSON")
            assert (await end_of(ws))[0] == 1003

    run(main())


def test_starlette_a_function_below_a_mount(starlette: Program) -> None:
    async def main() -> None:
        async with starlette.open("/count/bytes") as ws:
            await ws.send(b"\0" * 100_000)
            assert await heard(ws) == "100000 bytes"
        assert (await starlette.refusal("/count")).status == 403

    run(main())


# Django Channels


def test_channels_rooms(channels: Program) -> None:
    async def main() -> None:
        assert (await page(channels, "/")).body == b"a page"
        async with channels.open("/room/lobby/", subprotocols=["v1", "v2"]) as ann:
            assert ann.subprotocol == "v1"
            async with channels.open("/room/lobby/") as bob:
                await bob.send('{"text": "hi"}')
                assert await said(ann) == await said(bob) == {"text": "hi"}
                await bob.close(4005)
            assert await said(ann) == {"text": "left with 4005"}

    run(main())


def test_channels_a_consumer_in_threads(channels: Program) -> None:
    async def main() -> None:
        async with channels.open("/threaded/") as ws:
            for message in ("text", b"bytes", "é" * 50_000):
                await ws.send(message)
                assert await ws.recv() == message
            await ws.send("bye")
            assert await end_of(ws) == (4001, "so long")
        assert (await channels.refusal("/closed/")).status == 403

    run(main())


# Litestar


def test_litestar_a_handler(litestar: Program) -> None:
    async def main() -> None:
        async with litestar.open("/once", subprotocols=["v1", "v2"]) as ws:
            assert ws.subprotocol == "v1"
            await ws.send('{"a": 1}')
            assert await said(ws) == {"got": {"a": 1}}
            assert await end_of(ws) == (3001, "done")
        assert (await litestar.refusal("/refused")).status == 403

    run(main())


@pytest.mark.parametrize(
    ("path", "message"), [("/text", "hi"), ("/json", '{"a":"b"}'), ("/bytes", b"\0" * 70_000)]
)
def test_litestar_listeners(litestar: Program, path: str, message: str | bytes) -> None:
    async def main() -> None:
        async with litestar.open(path) as ws:
            for _ in range(3):
                await ws.send(message)
                assert await ws.recv() == message

    run(main())


def test_litestar_streams(litestar: Program) -> None:
    async def main() -> None:
        async with litestar.open("/count") as ws:
            assert [await heard(ws) for _ in range(3)] == ["0", "1", "2"]
            assert (await end_of(ws))[0] == 1000
        async with litestar.open("/forever") as ws:
            assert await heard(ws) == "tick"
        await litestar.prints("the stream has ended")

    run(main())


def test_litestar_channels(litestar: Program) -> None:
    async def main() -> None:
        async with litestar.open("/news") as ws:
            await page(litestar, "/publish")
            assert await heard(ws) == "to all"

    run(main())
