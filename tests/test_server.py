"""The server's life: loading, listening, stopping; and what each kind of connection sees of it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import struct
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fastws import FastWS, WebSocket, WebSocketDisconnect
from fastws.config import Config, ConfigError
from fastws.server import Server, banner, loop_factory, run_in_new_loop, serve, url_of
from fastws.sockets import BindError, bind_sockets, connection_limit
from tests.connections import until
from tests.serving import Client, connect, frame, handshake, serving, status_of
from tests.support import TIMEOUT, ServerProcess, run


class Recorder:
    """An application whose handlers wait for messages, and note how they ended."""

    def __init__(self) -> None:
        self.app = FastWS()
        self.ends: list[BaseException] = []
        self.finish = asyncio.Event()

        @self.app.websocket("/")
        async def waits(ws: WebSocket) -> None:
            await ws.accept()
            try:
                await ws.receive()
                await ws.receive_text()
            except WebSocketDisconnect as error:
                self.ends.append(error)
                raise

        @self.app.websocket("/stuck")
        async def stuck(ws: WebSocket) -> None:
            await ws.accept()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                self.ends.append(error)
                raise

        @self.app.websocket("/undecided")
        async def undecided(ws: WebSocket) -> None:
            await asyncio.Event().wait()

        @self.app.get("/slow")
        async def slow() -> str:
            await self.finish.wait()
            return "done"


async def open_websocket(client: Client, path: str = "/") -> None:
    await client.send(handshake(path))
    assert status_of(await client.head()) == 101


async def answer_close(client: Client) -> int:
    """Answer the server's CLOSE, see it end TCP, and return the close code."""
    opcode, payload = await client.frame()
    assert opcode == 8
    await client.send(frame(payload, opcode=8))
    assert await client.rest() == b""
    (code,) = struct.unpack(">H", payload[:2])
    return int(code)


# Stopping


def test_stopping_closes_every_websocket_with_1012() -> None:
    recorder = Recorder()

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(serving(recorder.app))
            clients = [await stack.enter_async_context(connect(server)) for _ in range(20)]
            for client in clients:
                await open_websocket(client)
            server.stop()
            codes = await asyncio.gather(*map(answer_close, clients))
            assert codes == [1012] * 20

    run(main())
    assert [type(end) for end in recorder.ends] == [WebSocketDisconnect] * 20
    assert {end.code for end in recorder.ends if isinstance(end, WebSocketDisconnect)} == {1012}


def test_the_close_code_is_an_option() -> None:
    async def main() -> None:
        async with serving(Recorder().app, shutdown_code=1001) as server, connect(server) as client:
            await open_websocket(client)
            server.stop()
            assert await answer_close(client) == 1001

    run(main())


def test_a_handler_that_does_not_end_is_cancelled_when_time_is_up() -> None:
    recorder = Recorder()

    async def main() -> None:
        options = {"timeout_graceful_shutdown": TIMEOUT / 25}
        async with serving(recorder.app, **options) as server, connect(server) as client:
            await open_websocket(client, "/stuck")
            server.stop()
            assert await answer_close(client) == 1012

    run(main())
    assert [type(end) for end in recorder.ends] == [asyncio.CancelledError]


def test_a_peer_that_does_not_answer_the_close_is_cut_when_time_is_up() -> None:
    async def main() -> None:
        options = {"timeout_graceful_shutdown": TIMEOUT / 25}
        async with serving(Recorder().app, **options) as server, connect(server) as client:
            await open_websocket(client)
            server.stop()
            assert (await client.frame())[0] == 8
            with contextlib.suppress(ConnectionError):
                assert await client.rest() == b""

    run(main())


def test_told_twice_it_cuts_at_once() -> None:
    recorder = Recorder()

    async def main() -> None:
        options = {"timeout_graceful_shutdown": None, "ws_close_timeout": 100 * TIMEOUT}
        async with serving(recorder.app, **options) as server, connect(server) as client:
            await open_websocket(client, "/stuck")
            server.stop()
            assert (await client.frame())[0] == 8
            server.stop()
            with contextlib.suppress(ConnectionError):
                assert await client.rest() == b""

    run(main())
    assert [type(end) for end in recorder.ends] == [asyncio.CancelledError]


def test_told_twice_it_cuts_requests_as_well() -> None:
    async def main() -> None:
        async with serving(Recorder().app) as server, connect(server) as client:
            await client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            async with connect(server) as other:
                await open_websocket(other)
                server.stop()
                assert await answer_close(other) == 1012
            server.stop()
            with contextlib.suppress(ConnectionError):
                assert await client.rest() == b""

    run(main())


def test_a_handler_that_ignores_its_cancellation_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fastws.shutdown.CANCELLED_HANDLERS_TIMEOUT", TIMEOUT / 100)
    app = FastWS()
    last = asyncio.Event()

    @app.websocket("/")
    async def stubborn(ws: WebSocket) -> None:
        await ws.accept()
        while not last.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await last.wait()

    async def main() -> None:
        options = {"timeout_graceful_shutdown": TIMEOUT / 100}
        async with serving(app, **options) as server, connect(server) as client:
            await open_websocket(client)
            server.stop()
            assert await answer_close(client) == 1012
        last.set()

    run(main())
    assert "did not end when they were cancelled" in caplog.text


def test_handshakes_under_way_get_503() -> None:
    async def main() -> None:
        async with (
            serving(Recorder().app) as server,
            connect(server) as half,
            connect(server) as undecided,
            connect(server) as silent,
        ):
            await half.send(handshake()[:20])
            await undecided.send(handshake("/undecided"))
            # What was sent before this is answered has been read.
            async with connect(server) as last:
                await open_websocket(last)
                server.stop()
                assert status_of(await half.rest()) == 503
                assert status_of(await undecided.rest()) == 503
                assert await silent.rest() == b""
                assert await answer_close(last) == 1012

    run(main())


def test_a_connection_that_was_accepted_at_the_last_moment_gets_503() -> None:
    async def main() -> None:
        async with serving(Recorder().app) as server:
            assert server.hub is not None
            server.hub.drain()
            # The listening socket is still open, which stop() would have closed by now.
            async with connect(server) as client:
                await client.send(handshake())
                assert status_of(await client.rest()) == 503

    run(main())


def test_a_request_being_answered_gets_its_answer() -> None:
    recorder = Recorder()

    async def main() -> None:
        async with serving(recorder.app) as server, connect(server) as client:
            get = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
            await client.send(get)
            async with connect(server) as other:
                await open_websocket(other)
                server.stop()
                assert await answer_close(other) == 1012
            recorder.finish.set()
            answer = await client.rest()
            assert status_of(answer) == 200
            assert answer.endswith(b"done")
            assert b"\r\nConnection: close\r\n" in answer

    run(main())


def test_nothing_is_accepted_any_more_once_it_stops() -> None:
    async def main() -> None:
        async with serving(Recorder().app) as server, connect(server) as client:
            await open_websocket(client)
            server.stop()
            assert (await client.frame())[0] == 8
            with pytest.raises(OSError):
                await asyncio.open_connection(*server.addresses[0])
            await client.send(frame(struct.pack(">H", 1012), opcode=8))

    run(main())


def test_a_cancelled_server_closes_what_is_open() -> None:
    recorder = Recorder()

    async def main() -> None:
        server = Server(Config.from_options(recorder.app, {"port": 0}))
        running = asyncio.create_task(server.serve())
        await asyncio.wait_for(server.started.wait(), TIMEOUT)
        async with connect(server) as client:
            await open_websocket(client)
            running.cancel()
            assert await answer_close(client) == 1012
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, TIMEOUT)

    run(main())
    assert len(recorder.ends) == 1


def test_the_hub_forgets_every_connection() -> None:
    async def main() -> None:
        async with serving(Recorder().app) as server:
            assert server.hub is not None
            for _ in range(50):
                async with connect(server) as client:
                    await open_websocket(client)
                async with connect(server) as client:
                    await client.send(b"GET / HTTP/1.1\r\n\r\n")
                    await client.rest()
            await asyncio.wait_for(server.hub.wait_until_empty(), TIMEOUT)
            assert len(server.hub) == 0
            assert not server.hub.orphans

    run(main())


# The application's start and end


def test_lifespan_surrounds_serving_and_its_state_reaches_connections() -> None:
    events: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: FastWS) -> AsyncIterator[dict[str, Any]]:
        events.append("start")
        yield {"greeting": "hello"}
        events.append("end")

    app = FastWS(lifespan=lifespan)

    @app.websocket("/")
    async def greet(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_text(ws.state.greeting)
        events.append("served")

    async def main() -> None:
        async with serving(app) as server, connect(server) as client:
            assert events == ["start"]
            await open_websocket(client)
            assert await client.frame() == (1, b"hello")
            await answer_close(client)

    run(main())
    assert events == ["start", "served", "end"]


def test_an_application_that_does_not_start_is_not_served() -> None:
    app = FastWS()

    @app.on_startup
    async def fail() -> None:
        raise LookupError("no database")

    async def main() -> None:
        server = Server(Config.from_options(app, {"port": 0}))
        with pytest.raises(LookupError, match="no database"):
            await server.serve()
        assert not server.started.is_set()

    run(main())


def test_a_wrong_option_of_a_route_is_found_before_anything_is_served() -> None:
    app = FastWS()

    @app.websocket("/here", ws_max_size="big")
    async def handler(ws: WebSocket) -> None: ...

    with pytest.raises(ConfigError, match=r"^route /here: ws-max-size is big: expected a size"):
        Server(Config(app)).load()


def test_a_missing_zlib_ng_is_told_before_anything_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "zlib_ng.zlib_ng", None)
    app = FastWS()

    @app.websocket("/here", ws_per_message_deflate=True, ws_deflate_library="zlib-ng")
    async def handler(ws: WebSocket) -> None: ...

    sentence = "ws-deflate-library is zlib-ng, which needs the package zlib-ng"
    with pytest.raises(ConfigError, match=f"^route /here: {sentence}"):
        serve(app)
    with pytest.raises(ConfigError, match=f"^{sentence}"):
        serve(FastWS(), ws_deflate_library="zlib-ng")


# Addresses


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1", "::", ""])
def test_every_address_of_a_host_is_served_on_one_port(host: str) -> None:
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")

    async def main() -> None:
        async with serving(Recorder().app, host=host) as server:
            assert server.addresses
            assert len({port for _, port in server.addresses}) == 1
            for address, port in server.addresses:
                target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
                client = Client(*await asyncio.open_connection(target, port))
                await open_websocket(client)
                await client.close()

    run(main())


def test_accepted_connections_do_not_delay_and_are_probed() -> None:
    (listening,) = bind_sockets(Config("x", port=0, tcp_keepalive=33, tcp_user_timeout=7))
    with listening, socket.socket() as client:
        listening.setblocking(True)
        listening.listen()
        client.connect(listening.getsockname())
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            if sys.platform == "linux":
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 33
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000


def test_probing_can_be_turned_off() -> None:
    config = Config("x", port=0, tcp_keepalive=None, tcp_user_timeout=None)
    (listening,) = bind_sockets(config)
    with listening:
        assert not listening.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if sys.platform == "linux":
            assert not listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


def test_a_busy_port_gets_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        sentence = f"^port {port} is in use on 127.0.0.1: choose another with --port$"
        with pytest.raises(BindError, match=sentence):
            bind_sockets(Config("x", port=port))


def test_a_port_that_becomes_busy_during_the_start_gets_the_same_sentence() -> None:
    app = FastWS()
    others: list[socket.socket] = []

    async def main() -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]

        @app.on_startup
        async def take_the_port() -> None:
            others.append(socket.create_server(("127.0.0.1", port)))

        with pytest.raises(BindError, match=f"^port {port} is in use on 127.0.0.1"):
            await Server(Config(app, port=port)).serve()

    try:
        run(main())
    finally:
        for other in others:
            other.close()


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("192.0.2.1", "192.0.2.1 is not an address of this machine: choose another --host"),
        ("host.invalid", "host 'host.invalid' cannot be resolved: "),
    ],
)
def test_a_wrong_host_gets_a_sentence(host: str, sentence: str) -> None:
    with pytest.raises(BindError) as raised:
        bind_sockets(Config("x", host=host, port=0))
    assert str(raised.value).startswith(sentence)


def test_the_connection_limit() -> None:
    assert connection_limit(Config("x", limit_connections=7)) == 7
    if sys.platform != "win32":
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert connection_limit(Config("x")) == soft - 64


# The start-up screen


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (("127.0.0.1", 8000), "http://127.0.0.1:8000"),
        (("0.0.0.0", 80), "http://127.0.0.1:80"),
        (("::", 8000), "http://[::1]:8000"),
    ],
)
def test_the_address_to_open(address: tuple[str, int], url: str) -> None:
    assert url_of(Config("x"), address) == url


def test_the_screen_has_the_real_port_the_routes_and_how_to_stop() -> None:
    async def main() -> None:
        async with serving(Recorder().app) as server:
            screen = banner(server)
            assert f"http://127.0.0.1:{server.addresses[0][1]}\n" in screen
            assert "websocket /stuck" in screen
            assert "http      /slow" in screen
            assert "Ctrl-C" in screen

    run(main())


# Loops


def test_loops() -> None:
    made = loop_factory("asyncio")()
    assert type(made).__module__.startswith("asyncio")
    made.close()
    uvloop = pytest.importorskip("uvloop")
    assert loop_factory("uvloop") is loop_factory("auto") is uvloop.new_event_loop


def test_uvloop_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory("auto") is asyncio.new_event_loop
    with pytest.raises(ConfigError, match=r"^loop is uvloop, which cannot be imported"):
        loop_factory("uvloop")


@pytest.mark.parametrize("version", [sys.version_info, (3, 10, 0)])
def test_a_new_loop_is_cleaned_up(version: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    ended: list[str] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def left_behind() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("left behind")

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        task = asyncio.create_task(left_behind())
        await asyncio.sleep(0)
        assert not task.done()

    run_in_new_loop(main, asyncio.new_event_loop)
    assert ended == ["left behind"]
    assert loops[0].is_closed()


def test_serve_in_a_running_loop_says_what_to_do() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"await serve_async\(\.\.\.\)$"):
            serve(FastWS())

    run(main())


def test_a_wrong_keyword_of_serve() -> None:
    with pytest.raises(ConfigError, match=r"^there is no option ws_max_sise: did you mean"):
        serve(FastWS(), ws_max_sise=1)


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_command_in_order(number: signal.Signals) -> None:
    with ServerProcess("examples.echo:app") as server:

        async def main() -> None:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            client = Client(reader, writer)
            await open_websocket(client)
            server.process.send_signal(number)
            assert await answer_close(client) == 1012
            await client.close()

        run(main())
        assert server.process.wait(TIMEOUT) == 0
    assert f"http://127.0.0.1:{server.port}" in server.output
    assert "Traceback" not in server.output


STUCK = """
import asyncio
from fastws import FastWS
app = FastWS()
@app.websocket("/")
async def stuck(ws):
    await ws.accept()
    await asyncio.Event().wait()
"""


def test_a_second_ctrl_c_does_not_wait_for_handlers(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(STUCK)
    with ServerProcess("stuck", "--timeout-graceful-shutdown=none", cwd=tmp_path) as server:

        async def main() -> None:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            client = Client(reader, writer)
            await open_websocket(client)
            server.process.send_signal(signal.SIGINT)
            assert (await client.frame())[0] == 8
            server.process.send_signal(signal.SIGINT)
            with contextlib.suppress(ConnectionError):
                await client.rest()
            await client.close()

        run(main())
        assert server.process.wait(TIMEOUT) == 0
    assert "Traceback" not in server.output


def test_a_third_signal_does_what_it_did_before() -> None:
    """After two the server is on its way out; whatever keeps it, a third one must work."""
    app = FastWS()
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    may_end = asyncio.Event()

    @app.websocket("/")
    async def slow_to_end(ws: WebSocket) -> None:
        await ws.accept()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await may_end.wait()

    async def main() -> None:
        async with serving(app) as server, connect(server) as client:
            await open_websocket(client)
            signal.raise_signal(signal.SIGINT)
            assert (await client.frame())[0] == 8
            signal.raise_signal(signal.SIGINT)
            with contextlib.suppress(ConnectionError):
                assert await client.rest() == b""
            assert heard == []
            signal.raise_signal(signal.SIGINT)
            assert heard == [signal.SIGINT]
            may_end.set()
        assert server.captured == [signal.SIGINT, signal.SIGINT]

    try:
        run(main())
    finally:
        signal.signal(signal.SIGINT, before)


def test_serve_runs_the_loop_itself(capsys: pytest.CaptureFixture[str]) -> None:
    app = FastWS()

    @app.on_startup
    async def interrupt_soon() -> None:
        asyncio.get_running_loop().call_later(0.01, signal.raise_signal, signal.SIGTERM)

    app.serve(port=0, log_level="info")
    assert "fastws is serving\n  http://127.0.0.1:" in capsys.readouterr().err


def test_a_server_in_a_thread_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[Any] = []

    async def main() -> None:
        async with serving(FastWS()):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=lambda: run(main()))
    thread.start()
    thread.join(2 * TIMEOUT)
    assert seen == [before]


def test_serve_async_hands_the_signal_on() -> None:
    """A program that awaits serve_async() beside other work must hear of Ctrl-C itself."""
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    app = FastWS()

    @app.on_startup
    async def interrupt_soon() -> None:
        asyncio.get_running_loop().call_later(0.01, signal.raise_signal, signal.SIGINT)

    async def main() -> None:
        # Not before the server listens to signals itself.
        await app.serve_async(port=0, log_level="warning")

    try:
        run(main())
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]


# What a connection is called, and whose it is


def test_the_task_of_a_websocket_has_its_path_for_a_name() -> None:
    app = FastWS()
    names: asyncio.Queue[str] = asyncio.Queue()

    @app.websocket("/rooms/{room}")
    async def handler(ws: WebSocket) -> None:
        task = asyncio.current_task()
        assert task is not None
        names.put_nowait(task.get_name())
        await ws.accept()

    async def main() -> None:
        async with serving(app) as server, connect(server) as client:
            await open_websocket(client, "/rooms/42?who=me")
            name = await asyncio.wait_for(names.get(), TIMEOUT)
            assert name == "WebSocket /rooms/{room}"
            await answer_close(client)

    run(main())


@pytest.mark.parametrize("resets", [False, True], ids=["close", "reset"])
def test_the_peers_address_is_known_after_the_end_as_before(resets: bool) -> None:
    app = FastWS()
    sockets: asyncio.Queue[WebSocket] = asyncio.Queue()

    @app.websocket("/")
    async def handler(ws: WebSocket) -> None:
        await ws.accept()
        sockets.put_nowait(ws)
        try:
            await ws.receive_text()
        finally:
            sockets.put_nowait(ws)

    async def main() -> None:
        async with serving(app, access_log=False) as server, connect(server) as client:
            await open_websocket(client)
            address = client.writer.get_extra_info("sockname")[:2]
            ws = await asyncio.wait_for(sockets.get(), TIMEOUT)
            if resets:
                link = client.writer.get_extra_info("socket")
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.writer.transport.abort()
            else:
                await client.send(frame(b"", opcode=8))
                await client.rest()
                await client.close()
            # Nobody has asked for it while the peer was there.
            assert await asyncio.wait_for(sockets.get(), TIMEOUT) is ws
            await until(lambda: ws.close_code is not None)
            assert ws.client is not None
            assert (ws.client.host, ws.client.port) == address

    run(main())
