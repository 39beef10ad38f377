"""connect(): from the URI to a WebSocket, and every way in which it does not get there."""

from __future__ import annotations

import asyncio
import gc
import itertools
import pickle
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Generator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import pytest

import fastws
from fastws import FastWS, HandshakeError, WebSocket, WebSocketDisconnect, WebSocketException
from fastws.client import CLIENT_OPTIONS, ClientWebSocket, HandshakeRefused, connect
from fastws.config import ConfigError
from fastws.dialing import ATTEMPT_DELAY, Deadline, Found, _in_turn, connect_first
from fastws.exceptions import WebSocketClosed, WebSocketTypeError
from tests.http_peers import (
    answering,
    client_tls,
    proxying,
    redirect,
    response,
    server_tls,
    switching,
)
from tests.serving import serving
from tests.support import LOOP, TIMEOUT, free_port, run

T = TypeVar("T")

app = FastWS()
endings: list[tuple[int | None, str | None]] = []


@app.websocket("/echo")
async def echo(ws: WebSocket) -> None:
    await ws.accept("b" if "b" in ws.subprotocols else None, {"X-Answer": "yes"})
    async for message in ws:
        if isinstance(message, str):
            await ws.send_text(message)
        else:
            await ws.send_bytes(message)
    endings.append((ws.close_code, ws.close_reason))


@app.websocket("/headers")
async def headers(ws: WebSocket) -> None:
    await ws.accept()
    await ws.send_json(ws.headers.multi_items())
    await ws.close(4001, "enough")


@app.websocket("/refused")
async def refused(ws: WebSocket) -> None:
    await ws.send_denial_response(403, {"X-Why": "because"}, "not you")


@asynccontextmanager
async def echoing(**options: Any) -> AsyncIterator[str]:
    """The application above; the URL of it, without a path."""
    endings.clear()
    async with serving(app, **options) as server:
        host, port = server.addresses[0]
        scheme = "wss" if "ssl_context" in options else "ws"
        yield f"{scheme}://{'localhost' if scheme == 'wss' else host}:{port}"


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy from the environment that the tests happen to run in."""
    for scheme in ("ws", "wss", "http", "https", "all", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme}_proxy".upper(), raising=False)


# The socket


def test_the_block_opens_and_closes_with_1000() -> None:
    async def main() -> None:
        async with echoing() as url:
            async with fastws.connect(f"{url}/echo") as ws:
                assert isinstance(ws, ClientWebSocket)
                assert ws.client_state.name == "CONNECTED"
                await ws.send_text("hello")
                assert await ws.receive_text() == "hello"
                await ws.send_bytes(b"\x00\xff")
                assert await ws.receive_bytes() == b"\x00\xff"
                await ws.send_json({"a": [1]})
                assert await ws.receive_json() == {"a": [1]}
                assert 0 <= await ws.ping() < TIMEOUT
                assert ws.response_headers["x-answer"] == "yes"
                assert ws.url == f"{url}/echo"
                assert ws.server == (ws.url.hostname, ws.url.port)
                assert ws.id in repr(ws)
            assert ws.client_state.name == "DISCONNECTED"
            assert (ws.close_code, ws.close_reason) == (1000, "")
            assert endings == [(1000, "")]
            with pytest.raises(WebSocketClosed):
                await ws.receive_text()
            with pytest.raises(WebSocketClosed):
                await ws.send_text("late")

    run(main())


def test_awaited_it_is_closed_by_whoever_opened_it() -> None:
    async def main() -> None:
        async with echoing() as url:
            ws = await connect(f"{url}/echo")
            await ws.close(4000, "bye")
            assert endings == [(4000, "bye")]
            # Twice is once.
            await ws.close()

    run(main())


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (KeyError("x"), 1011, ""),
        (WebSocketException(4003, "no more"), 4003, "no more"),
        (WebSocketException(1006, "not to be sent"), 1011, ""),
        (WebSocketDisconnect(1001), 1000, ""),
        (WebSocketTypeError("text, please", b""), 1003, "text, please"),
        (asyncio.CancelledError(), 1001, ""),
    ],
)
def test_an_exception_that_leaves_the_block_says_how_it_closes(
    error: BaseException, code: int, reason: str
) -> None:
    async def main() -> None:
        async with echoing() as url:
            with pytest.raises(type(error)):
                async with connect(f"{url}/echo"):
                    raise error
            assert endings == [(code, reason)]

    run(main())


def test_the_server_s_close_ends_the_loop_and_is_told() -> None:
    async def main() -> None:
        async with echoing() as url:
            async with connect(f"{url}/headers") as ws:
                assert len([message async for message in ws]) == 1
                assert (ws.close_code, ws.close_reason) == (4001, "enough")
                with pytest.raises(WebSocketDisconnect) as caught:
                    await ws.receive_text()
            assert (caught.value.code, caught.value.reason) == (4001, "enough")
            assert not isinstance(caught.value, WebSocketClosed)

    run(main())


def test_iterating_by_kind() -> None:
    async def main() -> None:
        async with echoing() as url:
            async with connect(f"{url}/echo") as ws:
                await ws.send_text('["x"]')
                async for text in ws.iter_text():
                    assert text == '["x"]'
                    break
                await ws.send_bytes(b"x")
                async for data in ws.iter_bytes():
                    assert data == b"x"
                    break
                await ws.send_text('["x"]')
                async for value in ws.iter_json(type=list[str]):
                    assert value == ["x"]
                    break
            assert [message async for message in ws.iter_text()] == []
            assert [message async for message in ws.iter_bytes()] == []
            assert [message async for message in ws.iter_json()] == []

    run(main())


def test_its_tasks_end_with_it() -> None:
    async def main() -> None:
        async with echoing() as url:
            async with connect(f"{url}/echo") as ws:
                task = ws.tasks.create_task(asyncio.sleep(10 * TIMEOUT))
                assert ws.tasks is ws.tasks
            await asyncio.wait({task}, timeout=TIMEOUT)
            assert task.cancelled()

    run(main())


def test_a_client_neither_accepts_nor_refuses() -> None:
    async def main() -> None:
        async with echoing() as url, connect(f"{url}/echo") as ws:
            with pytest.raises(RuntimeError, match="nobody accepts"):
                await ws.accept()
            with pytest.raises(RuntimeError, match="only a server refuses"):
                await ws.send_denial_response(403)

    run(main())


def test_frames_behind_the_response_are_messages() -> None:
    async def main() -> None:
        async with answering(switching(then=b"\x81\x02hi\x88\x02\x03\xe8")) as peer:
            async with connect(f"ws://{peer.authority}/", ws_close_timeout=0.1) as ws:
                assert await ws.receive_text() == "hi"
            assert ws.close_code == 1000
            await peer.empty()

    run(main())


def test_a_server_that_never_closes_is_left_in_time() -> None:
    async def main() -> None:
        async with answering(switching()) as peer:
            async with connect(f"ws://{peer.authority}/", ws_close_timeout="200ms") as ws:
                await ws.send_text("x")
            assert ws.close_code == 1006
            await peer.empty()

    run(main())


# The request


def test_what_the_request_has() -> None:
    async def main() -> None:
        async with echoing() as url:
            async with connect(
                f"{url}/headers?q=1",
                headers={"Authorization": "Bearer x"},
                origin="https://example.org",
                subprotocols=["a", "b"],
                compression="dedicated",
            ) as ws:
                sent = dict(await ws.receive_json())
            assert sent["host"] == ws.url.netloc
            assert sent["authorization"] == "Bearer x"
            assert sent["origin"] == "https://example.org"
            assert sent["sec-websocket-protocol"] == "a, b"
            assert sent["sec-websocket-extensions"].startswith("permessage-deflate")
            assert sent["user-agent"].startswith(f"fastws/{fastws.__version__} ")

    run(main())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"user_agent": None}, None),
        ({"user_agent": "x/1"}, "x/1"),
        ({"headers": [("user-agent", "y/1")]}, "y/1"),
    ],
)
def test_the_user_agent_is_the_callers(options: dict[str, Any], expected: str | None) -> None:
    async def main() -> None:
        async with echoing() as url, connect(f"{url}/headers", **options) as ws:
            assert dict(await ws.receive_json()).get("user-agent") == expected

    run(main())


def test_the_subprotocol_is_the_servers_choice() -> None:
    async def main() -> None:
        async with echoing() as url:
            async with connect(f"{url}/echo", subprotocols=["a", "b"]) as ws:
                assert ws.subprotocol == "b"
            async with connect(f"{url}/echo", subprotocols=["a"]) as ws:
                assert ws.subprotocol is None

    run(main())


@pytest.mark.parametrize("compression", ["shared", "dedicated", True])
def test_compression(compression: Any) -> None:
    async def main() -> None:
        async with echoing(ws_per_message_deflate="dedicated") as url:
            async with connect(
                f"{url}/echo", compression=compression, ws_deflate_threshold=0
            ) as ws:
                assert "permessage-deflate" in ws.response_headers["sec-websocket-extensions"]
                for _ in range(3):
                    await ws.send_text("ab" * 5000)
                    assert await ws.receive_text() == "ab" * 5000

    run(main())


@pytest.mark.parametrize(
    ("server", "client"), [("zlib", "zlib-ng"), ("zlib-ng", "zlib"), ("zlib-ng", "zlib-ng")]
)
@pytest.mark.parametrize("compression", ["shared", "dedicated"])
def test_the_other_side_does_not_see_which_library_compresses(
    compression: str, server: str, client: str
) -> None:
    messages = ["ab" * 5000, "", *(f"message {number} " * 20 for number in range(50))]
    options = {"ws_per_message_deflate": compression, "ws_deflate_library": server}

    async def main() -> None:
        async with echoing(ws_deflate_threshold=0, **options) as url:
            async with connect(
                f"{url}/echo",
                compression=compression,
                ws_deflate_threshold=0,
                ws_deflate_library=client,
            ) as ws:
                for message in messages:
                    await ws.send_text(message)
                    assert await ws.receive_text() == message

    run(main())


def test_a_missing_zlib_ng_is_told_at_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zlib_ng.zlib_ng", None)
    with pytest.raises(ConfigError, match=r"^ws-deflate-library is zlib-ng, which needs"):
        connect("ws://host/", compression="shared", ws_deflate_library="zlib-ng")


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"uri": "http://host/"}, ValueError, "must begin with ws:// or wss://"),
        ({"uri": "ws://u:p@host/"}, ValueError, "Authorization header"),
        ({"headers": {"Upgrade": "x"}}, ValueError, "must not be set here"),
        ({"headers": {"X": "a\r\nb"}}, ValueError, "control character"),
        ({"subprotocols": ["a b"]}, ValueError, "not a token"),
        ({"subprotocols": "chat"}, TypeError, "expected a list"),
        ({"ws_max_size": "many"}, ConfigError, "ws-max-size is many"),
        ({"ws_maximum": 1}, ConfigError, "no option ws_maximum"),
        ({"ws_accept_timeout": 1}, ConfigError, "no option ws_accept_timeout"),
        ({"ws_open_timeout": 1}, ConfigError, "has open_timeout for"),
        ({"compression": "zstd"}, ConfigError, "compression is zstd: expected off, shared"),
        ({"open_timeout": "soon"}, ConfigError, "open_timeout is soon"),
        ({"reconnect_delay": -1}, ConfigError, "reconnect_delay is -1"),
        ({"max_redirects": -1}, ValueError, "max_redirects is -1"),
        ({"ssl": True}, ValueError, "write wss://"),
        ({"uri": "wss://host/", "ssl": False}, ValueError, "write ws://"),
        ({"proxy": "socks5://u:secret@host:1"}, ValueError, "kind socks5"),
        ({"proxy": "http://:80"}, ValueError, "bad host"),
        ({"proxy": "http://host:x"}, ValueError, "bad host or port"),
    ],
)
def test_a_mistake_is_told_at_the_call(
    arguments: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    arguments = {"uri": "ws://host/", **arguments}
    with pytest.raises(error, match=sentence) as caught:
        connect(**arguments)
    assert "secret" not in str(caught.value)


def test_the_client_has_the_servers_options_where_they_have_a_meaning() -> None:
    assert {"ws_max_size", "ws_ping_interval", "ws_deflate_level", "limit_message_rate"} <= set(
        CLIENT_OPTIONS
    )
    assert not {"ws_origins", "port", "ws_accept_timeout"} & set(CLIENT_OPTIONS)


def test_limits_are_options() -> None:
    async def main() -> None:
        async with answering(switching(then=b"\x82\x05abcde")) as peer:
            async with connect(
                f"ws://{peer.authority}/", ws_max_size="4", ws_close_timeout=0.1
            ) as ws:
                with pytest.raises(WebSocketDisconnect) as caught:
                    await ws.receive_bytes()
            assert caught.value.code == 1009

    run(main())


# Used wrongly


def test_forgetting_to_await_is_told() -> None:
    with pytest.warns(RuntimeWarning, match="was never awaited"):
        connect("ws://host/")
    unused = connect("ws://host/")
    with pytest.raises(AttributeError, match=r"has not been awaited.*send_text"):
        unused.send_text("x")
    with pytest.raises(AttributeError, match="no attribute 'sendtext'"):
        unused.sendtext("x")
    with pytest.raises(TypeError, match="async with"), unused:
        pass
    with pytest.warns(RuntimeWarning, match="was never awaited"):
        del unused


def test_one_block_at_a_time() -> None:
    async def main() -> None:
        async with echoing() as url:
            opening = connect(f"{url}/echo")
            async with opening:
                with pytest.raises(RuntimeError, match="in use by another block"):
                    async with opening:
                        pass
            async with opening as ws:
                await ws.send_text("again")

    run(main())


# Refusals and other answers


def test_a_refusal_has_the_response() -> None:
    async def main() -> None:
        async with echoing() as url:
            with pytest.raises(HandshakeError) as caught:
                await connect(f"{url}/refused")
        error = caught.value
        assert isinstance(error, HandshakeRefused)
        assert (error.status, error.body) == (403, b"not you")
        assert error.header("X-Why") == "because"
        assert ("x-why", "because") in error.headers
        assert error.header("x-other") is None
        assert not error.by_proxy
        again = pickle.loads(pickle.dumps(error))
        assert vars(again) == vars(error)

    run(main())


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"HTTP/1.1 500 X\r\nContent-Length: 10\r\n\r\nabc", b"abc"),  # and no more
        (b"HTTP/1.1 500 X\r\n\r\nabc", b"abc"),  # TCP would end it
        (b"HTTP/1.1 103 Hint\r\n\r\nHTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 500 X\r\nContent-Length: 99999\r\n\r\n" + bytes(70000), bytes(65536)),
    ],
    ids=["chunked", "short", "unbounded", "interim", "long"],
)
def test_a_refusals_body_is_waited_for_but_not_long(
    answer: bytes, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastws.dialing.REFUSAL_TIME", 0.1)

    async def main() -> None:
        async with answering(answer) as peer:
            with pytest.raises(HandshakeRefused) as caught:
                await connect(f"ws://{peer.authority}/")
            assert (caught.value.status, caught.value.body) == (500, body)
            await peer.empty()

    run(main())


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"SSH-2.0-server\r\n\r\n", "not valid HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "Upgrade: websocket"),
        (switching("Sec-WebSocket-Protocol: x"), "was not offered"),
        (switching("Sec-WebSocket-Extensions: permessage-deflate"), "none was offered"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 9000 + b"\r\n\r\n", "longer than"),
    ],
)
def test_an_answer_that_breaks_the_protocol(answer: Any, sentence: str) -> None:
    async def main() -> None:
        async with answering(answer) as peer:
            with pytest.raises(HandshakeError, match=sentence) as caught:
                await connect(f"ws://{peer.authority}/")
            assert not isinstance(caught.value, HandshakeRefused)
            await peer.empty()

    run(main())


def test_a_server_that_hangs_up_is_a_network_error() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionError, match="before it answered"):
            await connect(f"ws://127.0.0.1:{port}/")
        server.close()

    run(main())


def test_nobody_listens() -> None:
    async def main() -> None:
        with pytest.raises(ConnectionRefusedError):
            await connect(f"ws://127.0.0.1:{free_port()}/")
        with pytest.raises(socket.gaierror):
            await connect("ws://name.invalid/")

    run(main())


def test_open_timeout_is_for_all_of_it() -> None:
    async def main() -> None:
        async with answering(None) as peer:
            with pytest.raises(TimeoutError, match="open_timeout moves this limit"):
                await connect(f"ws://{peer.authority}/", open_timeout="100ms")
            await peer.empty()
        # TLS that never begins counts too.
        async with answering(None) as peer:
            with pytest.raises(TimeoutError):
                await connect(f"wss://{peer.authority}/", open_timeout=0.1)
            await peer.empty()

    run(main())


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(status: int) -> None:
    async def main() -> None:
        async with answering(redirect("/b?c#d", status), switching()) as peer:
            uri = f"ws://{peer.authority}/a"
            private = {"Authorization": "x", "Cookie": "y"}
            async with connect(uri, headers=private, ws_close_timeout=0.1) as ws:
                assert ws.url == f"ws://{peer.authority}/b?c"
            assert peer.heads[1].startswith(b"GET /b?c HTTP/1.1\r\n")
            assert (peer.header("Authorization"), peer.header("Cookie")) == ("x", "y")
            assert peer.header("Sec-WebSocket-Key", 0) != peer.header("Sec-WebSocket-Key", 1)

    run(main())


def test_another_origin_gets_no_secrets() -> None:
    async def main() -> None:
        async with answering(switching()) as other:
            target = f"http://{other.authority}/"
            async with answering(redirect(target)) as peer:
                headers = {"authorization": "x", "COOKIE": "y", "X-Kept": "z"}
                uri = f"ws://{peer.authority}/"
                async with connect(uri, headers=headers, ws_close_timeout=0.1) as ws:
                    assert ws.url == f"ws://{other.authority}/"
            assert other.header("authorization") is None
            assert other.header("cookie") is None
            assert other.header("x-kept") == "z"

    run(main())


def test_redirects_end() -> None:
    async def main() -> None:
        async with answering(redirect("/again")) as peer:
            uri = f"ws://{peer.authority}/"
            with pytest.raises(HandshakeError, match="more than 2 redirects") as caught:
                await connect(uri, max_redirects=2)
            assert caught.value.status == 302
            assert len(peer.heads) == 3
            with pytest.raises(HandshakeRefused, match="answered 302"):
                await connect(uri, max_redirects=0)
            assert len(peer.heads) == 4

    run(main())


def test_encryption_is_never_given_up() -> None:
    async def main() -> None:
        async with answering(switching()) as plain:
            for location in (f"ws://{plain.authority}/", f"http://{plain.authority}/"):
                async with answering(redirect(location), tls=server_tls()) as peer:
                    with pytest.raises(HandshakeError, match="not encrypted"):
                        await connect(f"wss://{peer.authority}/", ssl=client_tls())
            assert plain.heads == []

    run(main())


@pytest.mark.parametrize("location", ["ftp://host/", "ws://u:p@host/", "http://[", "ws://a^b/"])
def test_a_redirect_to_nowhere(location: str) -> None:
    async def main() -> None:
        async with answering(redirect(location)) as peer:
            with pytest.raises(HandshakeError, match="redirects to"):
                await connect(f"ws://{peer.authority}/")

    run(main())


def test_a_redirect_without_a_location_is_a_refusal() -> None:
    async def main() -> None:
        async with answering(response(302)) as peer:
            with pytest.raises(HandshakeRefused, match="302"):
                await connect(f"ws://{peer.authority}/")

    run(main())


# TLS


def test_tls_is_verified() -> None:
    async def main() -> None:
        async with echoing(ssl_context=server_tls()) as url:
            async with connect(f"{url}/echo", ssl=client_tls()) as ws:
                await ws.send_text("safe")
                assert await ws.receive_text() == "safe"
            assert endings == [(1000, "")]
            # Not an authority of the system's.
            for default in (None, True):
                with pytest.raises(ssl.SSLCertVerificationError):
                    await connect(f"{url}/echo", ssl=default)
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(f"{url}/echo", ssl=client_tls(), server_hostname="example.org")

    run(main())


def test_the_name_to_verify_may_be_another_than_the_host() -> None:
    async def main() -> None:
        async with echoing(ssl_context=server_tls()) as url:
            uri = url.replace("localhost", "127.0.0.1") + "/echo"
            async with connect(uri, ssl=client_tls(), server_hostname="localhost") as ws:
                await ws.send_text("x")

    run(main())


# Proxies


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@pytest.mark.parametrize("proxy_secure", [False, True], ids=["http", "https"])
def test_through_a_proxy(secure: bool, proxy_secure: bool) -> None:
    if secure and proxy_secure and LOOP == "asyncio":
        import sys

        if sys.version_info < (3, 11):
            return  # See the next test.

    async def main() -> None:
        options: dict[str, Any] = {"ssl_context": server_tls()} if secure else {}
        async with (
            echoing(**options) as url,
            proxying(tls=server_tls() if proxy_secure else None) as proxy,
        ):
            scheme = "https" if proxy_secure else "http"
            async with connect(
                f"{url}/echo",
                ssl=client_tls() if secure else None,
                proxy=f"{scheme}://user:pa%20ss@{proxy.authority}",
                proxy_ssl=client_tls(),
            ) as ws:
                for size in (5, 200_000):
                    await ws.send_text("x" * size)
                    assert await ws.receive_text() == "x" * size
            assert endings == [(1000, "")]
            await proxy.empty()
            target = ws.url.netloc
            assert proxy.heads[0].startswith(f"CONNECT {target} HTTP/1.1\r\n".encode())
            assert proxy.header("host") == target
            assert proxy.header("proxy-authorization") == "Basic dXNlcjpwYSBzcw=="
            assert proxy.header("user-agent")

    run(main())


def test_the_environment_names_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with echoing() as url, proxying() as proxy:
            monkeypatch.setenv("https_proxy", f"http://{proxy.authority}")
            async with connect(f"{url}/echo"):
                assert len(proxy.heads) == 1
            async with connect(f"{url}/echo", proxy=None):
                assert len(proxy.heads) == 1
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            async with connect(f"{url}/echo"):
                assert len(proxy.heads) == 1

    run(main())


@pytest.mark.parametrize(
    ("answer", "error", "sentence"),
    [
        (response(407, body=b"who?", reason="Auth"), HandshakeRefused, "answered 407 'Auth'"),
        (redirect("http://127.0.0.1/"), HandshakeRefused, "answered 302"),
        (b"HTTP/1.1 200 OK\r\n\r\nearly", HandshakeError, "before anything was sent"),
        (b"nonsense\r\n\r\n", HandshakeError, "not valid HTTP"),
    ],
)
def test_a_proxy_that_opens_no_tunnel(answer: bytes, error: Any, sentence: str) -> None:
    async def main() -> None:
        async with proxying(answer) as proxy:
            with pytest.raises(error, match=sentence) as caught:
                await connect("ws://example.org/", proxy=f"http://u:secret@{proxy.authority}")
            assert "secret" not in str(caught.value)
            if error is HandshakeRefused:
                assert caught.value.by_proxy
            if caught.value.status == 407:
                assert caught.value.body == b"who?"
            await proxy.empty()

    run(main())


# Cancellation


class CancelledAt:
    """Awaits something in a task that is cancelled while it waits for the n-th time.

    Parameters:
        waits: which time that is; ``cancelled`` tells whether it came to it.
        steps: of the loop to let go by first.
    """

    def __init__(self, awaitable: Awaitable[T], waits: int, steps: int) -> None:
        self._awaitable = awaitable
        self._waits = waits
        self._steps = steps
        self.cancelled = False

    def __await__(self) -> Generator[Any, Any, T]:
        task = asyncio.current_task()
        assert task is not None
        running = self._awaitable.__await__()
        step = partial(next, running)
        while True:
            try:
                future = step()
            except StopIteration as returned:
                result: T = returned.value
                return result
            self._waits -= 1
            if self._waits == 0:
                self._cancel(task, self._steps)
            try:
                yield future
                step = partial(next, running)
            except BaseException as error:
                step = partial(running.throw, error)

    def _cancel(self, task: asyncio.Task[Any], steps: int) -> None:
        if steps:
            asyncio.get_running_loop().call_soon(self._cancel, task, steps - 1)
        elif not task.done():
            self.cancelled = True
            task.cancel()


@pytest.mark.parametrize("kind", ["plain", "tls", "proxy", "proxy and tls"])
def test_a_cancelled_attempt_leaves_nothing_behind(kind: str) -> None:
    """Cancelled while it waits for the first time, for the second, … until it is too late."""

    async def main() -> None:
        options: dict[str, Any] = {"ssl_context": server_tls()} if "tls" in kind else {}
        async with echoing(**options) as url, proxying() as proxy:
            arguments: dict[str, Any] = {"ssl": client_tls()} if "tls" in kind else {}
            arguments["proxy"] = f"http://{proxy.authority}" if "proxy" in kind else None
            times = 0
            for steps in (0, 1, 3):
                for waits in itertools.count(1):
                    attempt = CancelledAt(connect(f"{url}/echo", **arguments), waits, steps)
                    opening: asyncio.Future[ClientWebSocket] = asyncio.ensure_future(attempt)
                    try:
                        ws = await opening
                    except asyncio.CancelledError:
                        assert attempt.cancelled
                        times += 1
                        continue
                    await ws.close()
                    break
            assert times > (8 if "proxy" in kind else 5)
            await proxy.empty()

    run(main())
    gc.collect()


def test_a_deadline_does_not_hide_who_else_cancels() -> None:
    async def main() -> None:
        async def wait() -> None:
            with Deadline(60, "too late"):
                await asyncio.sleep(60)

        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError, match="too late"), Deadline(0.01, "too late"):
            await asyncio.sleep(60)
        with Deadline(None, "never"):
            await asyncio.sleep(0)
        with pytest.raises(KeyError), Deadline(60, "too late"):
            raise KeyError

    run(main())


# Addresses


@asynccontextmanager
async def unanswering() -> AsyncIterator[tuple[str, int]]:
    """An address that neither accepts nor refuses: its backlog is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address: tuple[str, int] = listening.getsockname()
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        await asyncio.sleep(0.05)
        try:
            yield address
        finally:
            for filler in fillers:
                filler.close()


def found(*addresses: tuple[str, int]) -> list[Found]:
    """What the resolver says."""
    return [
        (
            socket.AF_INET6 if ":" in address[0] else socket.AF_INET,
            socket.SOCK_STREAM,
            socket.IPPROTO_TCP,
            "",
            address,
        )
        for address in addresses
    ]


def test_an_address_that_is_silent_does_not_hold_up_the_next() -> None:
    async def main() -> None:
        async with answering(None) as peer, unanswering() as silent:
            started = asyncio.get_running_loop().time()
            with await connect_first(found(silent, ("127.0.0.1", peer.port))) as sock:
                assert sock.getpeername() == ("127.0.0.1", peer.port)
            assert asyncio.get_running_loop().time() - started >= 0.9 * ATTEMPT_DELAY

    run(main())


def test_an_address_that_refuses_is_passed_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastws.dialing.ATTEMPT_DELAY", 10 * TIMEOUT)

    async def main() -> None:
        async with answering(None) as peer:
            first = ("127.0.0.1", free_port())
            with await connect_first(found(first, ("127.0.0.1", peer.port))) as sock:
                assert sock.getpeername() == ("127.0.0.1", peer.port)
            with pytest.raises(ConnectionRefusedError):
                await connect_first(found(first, ("127.0.0.1", free_port())))

    run(main())


def test_a_race_that_is_cancelled_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastws.dialing.ATTEMPT_DELAY", 0.01)

    async def main() -> None:
        async with unanswering() as silent:
            before = asyncio.all_tasks()
            addresses = found(silent, ("127.0.0.1", free_port()), ("127.0.0.2", silent[1]))
            racing = asyncio.ensure_future(connect_first(addresses))
            await asyncio.wait({racing}, timeout=0.05)
            racing.cancel()
            with pytest.raises((asyncio.CancelledError, ConnectionRefusedError)):
                await racing
            assert asyncio.all_tasks() <= before

    run(main())
    gc.collect()


def test_families_take_turns() -> None:
    six = found(("::1", 1), ("::2", 2), ("::3", 3))
    four = found(("127.0.0.1", 4), ("127.0.0.2", 5))
    order = [address[4][1] for address in _in_turn([*six, *four])]
    assert order == [1, 4, 2, 5, 3]
