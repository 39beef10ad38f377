"""The plan by which a server stops: drain, CLOSE, closing handshakes, cut."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import struct
from collections.abc import Iterator
from typing import Any

import pytest
import websockets

from fastws import FastWS, WebSocket, WebSocketDisconnect
from fastws.server import Server
from tests.asgi_servers import ASGI_SERVERS, running
from tests.serving import Client, connect, frame, handshake, serving, status_of
from tests.support import TIMEOUT, ServerProcess, run

HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"


def echo_app() -> FastWS:
    app = FastWS()

    @app.websocket("/")
    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws.iter_text():
            await ws.send_text(f"{message} {ws.draining}")

    return app


async def open_websocket(client: Client, path: str = "/") -> None:
    await client.send(handshake(path))
    assert status_of(await client.head()) == 101


async def ask(client: Client, text: bytes) -> bytes:
    await client.send(frame(text))
    opcode, payload = await client.frame()
    assert opcode == 1
    return payload


async def close_of(client: Client) -> int:
    """Answer the server's CLOSE, see it end TCP, and return the close code."""
    opcode, payload = await client.frame()
    assert opcode == 8
    await client.send(frame(payload, opcode=8))
    assert await client.rest() == b""
    return int.from_bytes(payload[:2], "big")


async def is_cut(client: Client) -> None:
    with contextlib.suppress(ConnectionError):
        await client.rest()


# Draining, and the application's word


def test_on_drain_runs_while_the_connections_are_open() -> None:
    app = echo_app()
    seen: list[Any] = []
    go_on = asyncio.Event()

    @app.on_drain
    def first() -> None:
        seen.append(("first", app.draining))

    @app.on_drain
    async def second() -> None:
        await go_on.wait()
        seen.append("second")

    async def main() -> None:
        async with serving(app) as server, connect(server) as client:
            await open_websocket(client)
            assert not app.draining
            assert await ask(client, b"before") == b"before False"
            server.stop()
            assert await ask(client, b"while") == b"while True"
            assert seen == [("first", True)]
            go_on.set()
            assert await close_of(client) == 1012
            assert seen == [("first", True), "second"]

    run(main())
    assert app.draining


def test_on_drain_may_say_farewell() -> None:
    app = FastWS()
    clients: set[WebSocket] = set()

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        clients.add(ws)
        await ws.receive_text()

    @app.on_drain
    async def farewell() -> None:
        for ws in clients:
            await ws.send_text("come back in a minute")

    async def main() -> None:
        async with serving(app) as server, connect(server) as client:
            await open_websocket(client)
            server.stop()
            assert await client.frame() == (1, b"come back in a minute")
            assert await close_of(client) == 1012

    run(main())


def test_on_drain_that_fails_is_logged_and_keeps_nothing_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = echo_app()
    seen: list[str] = []

    @app.on_drain
    async def unreachable() -> None:
        raise LookupError("no such cluster")

    @app.on_drain
    def after() -> None:
        seen.append("after")

    async def main() -> None:
        async with serving(app) as server, connect(server) as client:
            await open_websocket(client)
            server.stop()
            assert await close_of(client) == 1012

    run(main())
    assert seen == ["after"]
    assert "unreachable(), a function of on_drain, failed" in caplog.text
    assert "LookupError: no such cluster" in caplog.text


def test_on_drain_that_never_ends_does_not_cost_the_clients_their_close(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = echo_app()
    ends: list[str] = []

    @app.on_drain
    async def stuck() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cancelled")

    async def main() -> None:
        async with serving(app, timeout_graceful_shutdown=TIMEOUT / 10) as server:
            async with connect(server) as client:
                await open_websocket(client)
                server.stop()
                assert await close_of(client) == 1012

    run(main())
    assert ends == ["cancelled"]
    assert "the functions of on_drain took longer than" in caplog.text


def test_told_twice_it_does_not_wait_for_on_drain() -> None:
    app = echo_app()
    started = asyncio.Event()

    @app.on_drain
    async def stuck() -> None:
        started.set()
        await asyncio.Event().wait()

    async def main() -> None:
        async with serving(app, timeout_graceful_shutdown=None) as server:
            async with connect(server) as client:
                await open_websocket(client)
                server.stop()
                await asyncio.wait_for(started.wait(), TIMEOUT)
                server.stop()
                await is_cut(client)

    run(main())


def test_a_handler_without_a_connection_is_cancelled_and_called_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = FastWS()
    left = asyncio.Event()
    ends: list[str] = []

    @app.websocket("/")
    async def stays(ws: WebSocket) -> None:
        await ws.accept()
        with contextlib.suppress(WebSocketDisconnect):
            await ws.receive_text()
        left.set()
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cancelled")

    async def main() -> None:
        async with serving(app, timeout_graceful_shutdown=TIMEOUT / 10) as server:
            async with connect(server) as client:
                await open_websocket(client)
                await client.send(frame(b"", opcode=8))
                await client.rest()
                await asyncio.wait_for(left.wait(), TIMEOUT)

    run(main())
    assert ends == ["cancelled"]
    assert "cancelling 1 handlers that have not ended with their connection" in caplog.text
    assert "cutting" not in caplog.text


def test_an_application_that_is_served_again_does_not_drain_any_more() -> None:
    app = echo_app()

    async def main() -> None:
        for _ in range(2):
            async with serving(app) as server, connect(server) as client:
                await open_websocket(client)
                assert await ask(client, b"x") == b"x False"
                server.stop()
                assert await close_of(client) == 1012

    run(main())


# The window


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The random moments at which the next connections are closed, as parts of the window."""
    parts: list[float] = []
    monkeypatch.setattr("random.uniform", lambda least, most: parts.pop(0) * most)
    return parts


def test_closes_are_spread_over_the_window(moments: list[float]) -> None:
    """Within the window a connection is as it was until its own moment comes."""

    async def main() -> None:
        async with (
            serving(echo_app(), drain_window=2 * TIMEOUT) as server,
            connect(server) as one,
            connect(server) as other,
        ):
            await open_websocket(one)
            await open_websocket(other)
            moments[:] = [0, 1]
            server.stop()
            # Which of the two is first is not defined.
            closes = {asyncio.create_task(client.frame()): client for client in (one, other)}
            done, waiting = await asyncio.wait(
                closes, timeout=TIMEOUT, return_when=asyncio.FIRST_COMPLETED
            )
            ((opcode, payload),) = [task.result() for task in done]
            assert (opcode, payload[:2]) == (8, struct.pack(">H", 1012))
            (task,) = waiting
            await closes[task].send(frame(b"still here"))
            assert await task == (1, b"still here True")
            server.stop()
            await is_cut(closes[task])

    run(main())


def test_every_connection_has_a_moment_of_its_own_within_the_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[float, float]] = []
    window = TIMEOUT / 10

    def uniform(least: float, most: float) -> float:
        asked.append((least, most))
        return least

    monkeypatch.setattr("random.uniform", uniform)

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(serving(echo_app(), drain_window=window))
            clients = [await stack.enter_async_context(connect(server)) for _ in range(5)]
            for client in clients:
                await open_websocket(client)
            asked.clear()  # keepalive is spread at random, too
            server.stop()
            assert await asyncio.gather(*map(close_of, clients)) == [1012] * 5

    run(main())
    assert asked == [(0, window)] * 5


def test_the_window_is_over_when_nobody_is_left(moments: list[float]) -> None:
    app = echo_app()
    over = asyncio.Event()
    app.on_shutdown(over.set)

    async def main() -> None:
        options = {"drain_window": 100 * TIMEOUT, "timeout_graceful_shutdown": None}
        async with serving(app, **options) as server, connect(server) as client:
            await open_websocket(client)
            moments[:] = [1]
            server.stop()
            assert await ask(client, b"x") == b"x True"
            await client.send(frame(struct.pack(">H", 1000), opcode=8))
            assert (await client.frame())[0] == 8
            await client.close()
            # The end of the block would say it a second time, and cut.
            await asyncio.wait_for(over.wait(), TIMEOUT)

    run(main())


def test_a_window_as_long_as_the_time_leaves_room_for_closing_handshakes(
    moments: list[float],
) -> None:
    async def main() -> None:
        time = TIMEOUT / 10
        options = {"drain_window": time, "timeout_graceful_shutdown": time}
        async with serving(echo_app(), **options) as server, connect(server) as client:
            await open_websocket(client)
            moments[:] = [1]
            server.stop()
            assert await close_of(client) == 1012

    run(main())


# Health


def test_the_health_page_fails_while_the_server_drains() -> None:
    async def main() -> None:
        async with (
            serving(echo_app(), health="/health") as server,
            connect(server) as probe,
            connect(server) as client,
        ):
            await open_websocket(client)
            await probe.send(HEALTH)
            assert await health_of(probe) == (200, b'{"status":"serving"}')
            with held(server) as release:
                server.stop()
                assert await ask(client, b"x") == b"x True"
                # On the connection that was kept it says so, as often as it is asked ...
                for _ in range(2):
                    await probe.send(HEALTH)
                    assert await health_of(probe) == (503, b'{"status":"draining"}')
                # ... and nobody else gets through.
                with pytest.raises(OSError):
                    await asyncio.open_connection(*server.addresses[0])
                release.set()
                # It does not keep the server up.
                assert await close_of(client) == 1012
                await client.close()
                assert await probe.rest() == b""

    run(main())


def test_a_kept_connection_gets_nothing_but_the_health_while_draining() -> None:
    async def main() -> None:
        async with (
            serving(echo_app(), health="/health") as server,
            connect(server) as probe,
            connect(server) as client,
        ):
            await open_websocket(client)
            await probe.send(HEALTH)
            assert (await health_of(probe))[0] == 200
            with held(server) as release:
                server.stop()
                assert await ask(client, b"x") == b"x True"
                await probe.send(handshake())
                assert status_of(await probe.rest()) == 503
                release.set()
                assert await close_of(client) == 1012

    run(main())


async def health_of(client: Client) -> tuple[int, bytes]:
    head = await client.head()
    lines = head.lower().split(b"\r\n")
    assert b"cache-control: no-store" in lines
    (length,) = [int(line[16:]) for line in lines if line.startswith(b"content-length: ")]
    return status_of(head), await client.exactly(length)


@contextlib.contextmanager
def held(server: Server) -> Iterator[asyncio.Event]:
    """Let the server go on draining until the event is set."""
    release = asyncio.Event()
    assert server.app is not None

    @server.app.on_drain
    async def hold() -> None:
        await release.wait()

    yield release


# The application's start and end


def test_the_lifespan_may_be_left_out() -> None:
    app = echo_app()
    seen: list[str] = []
    app.on_startup(lambda: seen.append("startup"))
    app.on_shutdown(lambda: seen.append("shutdown"))
    app.state.motto = "set before"

    @app.websocket("/motto")
    async def motto(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_text(ws.state.motto)

    async def main(lifespan: str) -> None:
        async with serving(app, lifespan=lifespan) as server, connect(server) as client:
            await open_websocket(client, "/motto")
            assert await client.frame() == (1, b"set before")
            assert await close_of(client) == 1000

    run(main("off"))
    assert seen == []
    for lifespan in ("on", "auto"):
        run(main(lifespan))
    assert seen == ["startup", "shutdown"] * 2


@pytest.mark.parametrize("name", ASGI_SERVERS)
def test_under_another_server_draining_begins_with_the_end_of_the_lifespan(name: str) -> None:
    app = echo_app()
    seen: list[tuple[str, bool]] = []

    @app.on_drain
    async def drain() -> None:
        seen.append(("drain", app.draining))

    @app.on_shutdown
    def shutdown() -> None:
        seen.append(("shutdown", app.draining))

    async def main() -> None:
        async with running(app, name) as address:
            async with websockets.connect(f"ws://{address}/", proxy=None) as ws:
                await ws.send("x")
                assert await ws.recv() == "x False"
            assert seen == []

    run(main())
    assert seen == [("drain", True), ("shutdown", True)]


# Many


def test_ctrl_c_with_a_thousand_sockets_closes_each_with_1012() -> None:
    """How long it takes is for the benchmarks to say; that it is within TIMEOUT, for this."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        payload = (await reader.readexactly(4 + REASON_LENGTH))[2:]
        writer.write(frame(payload, opcode=8))
        await reader.read()
        writer.close()
        return int.from_bytes(payload[:2], "big")

    async def main() -> None:
        streams = []
        for _ in range(1000):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(handshake())
            streams.append((reader, writer))
        for reader, _ in streams:
            assert status_of(await reader.readuntil(b"\r\n\r\n")) == 101
        server.process.send_signal(signal.SIGINT)
        codes = await asyncio.wait_for(
            asyncio.gather(*(answer(*stream) for stream in streams)), TIMEOUT
        )
        assert codes == [1012] * 1000

    with ServerProcess("examples.echo:app", "--no-access-log") as server:
        run(main())
        assert server.process.wait(TIMEOUT) == 0
    assert "Traceback" not in server.output
    assert "cutting" not in server.output


REASON_LENGTH = len("the server is restarting")
