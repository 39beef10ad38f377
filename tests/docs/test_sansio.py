"""The programs of docs/guide/sansio.md: servers and clients, with each other and with others."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync import client as others_client
from websockets.sync import server as others_server

from docs.programs import sansio, sansio_streams, sansio_threads
from docs.programs.sansio import AnyEvent
from fastws import DeflateOptions, HandshakeError, Limits, ServerProtocol, WebSocketDisconnect
from fastws.protocol import Close, Upgrade
from tests.http_peers import client_tls, server_tls
from tests.serving import handshake
from tests.support import ROOT, TIMEOUT, ServerProcess, free_port, loop_factory
from tests.wire import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Frame,
    close_payload,
    frame,
    read_frame,
)

Answers = list[str | bytes]

# -- servers ----------------------------------------------------------------------------------


@contextmanager
def by_threads(application: Any, **options: Any) -> Iterator[int]:
    server = sansio_threads.Server(("127.0.0.1", 0), application, **options)
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(TIMEOUT)
    assert server.places._value == server.max_connections


@contextmanager
def by_streams(application: Any, **options: Any) -> Iterator[int]:
    loop = loop_factory()
    port, stop, started = free_port(), asyncio.Event(), threading.Event()

    async def serve() -> None:
        async with sansio_streams.Server("127.0.0.1", port, application, **options) as server:
            started.set()
            await stop.wait()
        assert not server.connections

    def work() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            started.set()
            loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(TIMEOUT)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(2 * TIMEOUT)
        assert not thread.is_alive()


Serve = Callable[..., AbstractContextManager[int]]


@pytest.fixture(params=[by_threads, by_streams], ids=["threads", "streams"])
def serve(request: pytest.FixtureRequest) -> Serve:
    found: Serve = request.param
    return found


@pytest.fixture(scope="module", params=[by_threads, by_streams], ids=["threads", "streams"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """Of an echo with the default limits, and compression for who asks for it."""
    with request.param(sansio.echo, deflate=DeflateOptions(threshold=16)) as port:
        yield port


# -- clients ----------------------------------------------------------------------------------


def ask_by_threads(url: str, questions: Answers, **options: Any) -> Answers:
    with sansio_threads.connect(url, **options) as connection:
        return [sansio_threads.ask(connection, question) for question in questions]


def ask_by_streams(url: str, questions: Answers, **options: Any) -> Answers:
    async def work() -> Answers:
        async with sansio_streams.connect(url, **options) as connection:
            return [await sansio_streams.ask(connection, question) for question in questions]

    # Not tests.support.run(): it lists all tasks, also those of the server's thread.
    loop = loop_factory()
    try:
        return loop.run_until_complete(asyncio.wait_for(work(), 2 * TIMEOUT))
    finally:
        loop.close()


Ask = Callable[..., Answers]


@pytest.fixture(params=[ask_by_threads, ask_by_streams], ids=["threads", "streams"])
def ask(request: pytest.FixtureRequest) -> Ask:
    found: Ask = request.param
    return found


class Peer:
    """A client that puts any bytes on the wire, on a socket of its own."""

    def __init__(self, port: int, request: bytes | None = None, *, receive: int = 0) -> None:
        self.sock = socket.socket()
        if receive:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(("127.0.0.1", port))
        self.unread = b""
        if request is not None:
            self.send(request)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *details: object) -> None:
        self.sock.close()

    def send(self, *pieces: bytes) -> None:
        self.sock.sendall(b"".join(pieces))

    def more(self) -> bytes:
        """What is there, ``b""`` at the end of TCP, which must not be a reset."""
        data = self.sock.recv(65536)
        self.unread += data
        return data

    def head(self) -> str:
        """The response to the handshake, up to its empty line."""
        while b"\r\n\r\n" not in self.unread:
            assert self.more(), self.unread
        head, _, self.unread = self.unread.partition(b"\r\n\r\n")
        return head.decode()

    def frame(self) -> Frame | None:
        """The next frame, ``None`` at the end of TCP."""
        while (found := read_frame(self.unread)) is None:
            if not self.more():
                assert self.unread == b""
                return None
        self.unread = found[1]
        return found[0]

    def frames(self) -> list[Frame]:
        """All of them, up to the end of TCP."""
        found = []
        while (read := self.frame()) is not None:
            found.append(read)
        return found


def opened(port: int, **options: Any) -> Peer:
    peer = Peer(port, handshake(), **options)
    assert peer.head().startswith("HTTP/1.1 101 ")
    return peer


def closing(code: int, reason: str = "") -> Frame:
    return Frame(CLOSE, close_payload(code, reason))


# -- both roles -------------------------------------------------------------------------------

MESSAGES: Answers = [
    "",
    "plain",
    "Góðan daginn 🌞",
    b"",
    b"\x00\xff",
    "x" * 300_000,
    bytes(300_000),
]

EVERY_DEFLATE = pytest.mark.parametrize(
    "deflate", [None, DeflateOptions(threshold=0)], ids=["plain", "deflate"]
)


@EVERY_DEFLATE
def test_our_clients_and_our_servers(port: int, ask: Ask, deflate: DeflateOptions | None) -> None:
    assert ask(f"ws://127.0.0.1:{port}/", MESSAGES, deflate=deflate) == MESSAGES


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_our_servers_and_another_client(port: int, compression: str | None) -> None:
    with others_client.connect(f"ws://127.0.0.1:{port}/", compression=compression) as ws:
        assert bool(ws.protocol.extensions) == bool(compression)
        for message in MESSAGES:
            ws.send(message)
            assert ws.recv(TIMEOUT) == message
        ws.send(["in ", "three ", "parts"])
        assert ws.recv(TIMEOUT) == "in three parts"
        assert ws.ping(b"still there?").wait(TIMEOUT)
        ws.close(4001, "enough")
    assert ws.protocol.close_rcvd is not None
    assert (ws.protocol.close_rcvd.code, ws.close_code) == (4001, 4001)


@contextmanager
def others_echo(**options: Any) -> Iterator[str]:
    """The server of ``websockets``, which also sends a ping and a message in fragments."""

    def echo(ws: others_server.ServerConnection) -> None:
        for message in ws:
            if message == "bye":
                ws.close(4000, "bye")
            elif message == "alive?":
                ws.ping(b"?").wait(TIMEOUT)
                ws.send(["al", "ive", "!"])
            elif message == "lose me":
                ws.socket.shutdown(socket.SHUT_RDWR)
            else:
                ws.send(message)

    with others_server.serve(echo, "127.0.0.1", 0, **options) as server:
        scheme = "wss" if "ssl" in options else "ws"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"{scheme}://127.0.0.1:{server.socket.getsockname()[1]}/"
        server.shutdown()
        thread.join(TIMEOUT)


@EVERY_DEFLATE
def test_our_clients_and_another_server(ask: Ask, deflate: DeflateOptions | None) -> None:
    with others_echo() as url:
        assert ask(url, [*MESSAGES, "alive?"], deflate=deflate) == [*MESSAGES, "alive!"]


def test_our_clients_speak_tls(ask: Ask) -> None:
    with others_echo(ssl=server_tls()) as url:
        assert ask(url, ["safe"], context=client_tls()) == ["safe"]
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(url, ["safe"])


@pytest.mark.parametrize(
    ("question", "code", "reason"), [("bye", 4000, "bye"), ("lose me", 1006, "")]
)
def test_a_client_is_told_how_the_connection_ended(
    ask: Ask, question: str, code: int, reason: str
) -> None:
    with others_echo() as url:
        with pytest.raises(WebSocketDisconnect) as ended:
            ask(url, ["hello", question])
    assert (ended.value.code, ended.value.reason) == (code, reason)


# -- the server -------------------------------------------------------------------------------


def test_fragments_with_a_ping_between_them(port: int) -> None:
    with opened(port) as peer:
        peer.send(frame(TEXT, "f\u00fcn".encode()[:2], fin=False), frame(PING, b"1"))
        assert peer.frame() == Frame(PONG, b"1")
        peer.send(frame(CONT, "f\u00fcn".encode()[2:]), frame(CLOSE))
        assert peer.frames() == [Frame(TEXT, "fün".encode()), Frame(CLOSE, b"")]


def test_a_handshake_byte_by_byte_and_frames_behind_it(port: int) -> None:
    with Peer(port) as peer:
        stream = handshake() + frame(TEXT, "early") + frame(CLOSE, close_payload(1000))
        for byte in stream[:60]:
            peer.send(bytes([byte]))
        peer.send(stream[60:])
        assert peer.head().startswith("HTTP/1.1 101 ")
        assert peer.frames() == [Frame(TEXT, b"early"), closing(1000)]


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_close_codes_are_echoed(port: int, code: int) -> None:
    with opened(port) as peer:
        peer.send(frame(CLOSE, close_payload(code, "why")))
        assert peer.frames() == [closing(code)]


def test_the_application_closes_and_what_comes_after_is_dropped(port: int) -> None:
    with opened(port) as peer:
        peer.send(frame(TEXT, "last"), frame(TEXT, "bye"), frame(TEXT, "not heard"))
        assert [peer.frame(), peer.frame()] == [Frame(TEXT, b"last"), closing(4000, "bye")]
        peer.send(frame(TEXT, "nor this"), frame(CLOSE, close_payload(4000)))
        assert peer.frame() is None


def test_a_half_closed_connection_gets_all_of_its_answers(port: int) -> None:
    big = os.urandom(200_000)
    with opened(port) as peer:
        peer.send(frame(BINARY, big), *[frame(TEXT, str(number)) for number in range(500)])
        peer.sock.shutdown(socket.SHUT_WR)
        expected = [Frame(BINARY, big), *[Frame(TEXT, b"%d" % number) for number in range(500)]]
        assert peer.frames() == expected


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (frame(TEXT, "not masked", key=None), 1002),
        (frame(3), 1002),
        (frame(CONT, "of what?"), 1002),
        (frame(CLOSE, close_payload(1005)), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xc0", rsv=4), 1002),
        (frame(BINARY, length=b"\x7f" + (2**20 + 1).to_bytes(8, "big")), 1009),
    ],
)
def test_violations_are_answered_behind_the_messages_before_them(
    port: int, wrong: bytes, code: int
) -> None:
    with opened(port) as peer:
        peer.send(frame(TEXT, "good"), wrong, frame(TEXT, "never heard"))
        first, second = peer.frames()
        assert first == Frame(TEXT, b"good")
        assert second.opcode == CLOSE
        assert int.from_bytes(second.payload[:2], "big") == code


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (handshake(path="/elsewhere"), 404),
        (b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", 426),
        (handshake().replace(b"Version: 13", b"Version: 8"), 426),
        (handshake().replace(b"GET", b"PUT"), 405),
        (handshake().replace(b"Host", b"Toast"), 400),
        (b"\x16\x03\x01\x00\xa5\x01", 400),
        (b"nonsense\r\n\r\n", 400),
    ],
)
def test_refused_handshakes(port: int, request_: bytes, status: int) -> None:
    with Peer(port, request_ + frame(TEXT, "early")) as peer:
        assert peer.head().startswith(f"HTTP/1.1 {status} ")
        while peer.more():
            pass


def test_subprotocols(port: int) -> None:
    with others_client.connect(
        f"ws://127.0.0.1:{port}/",
        subprotocols=["chat", "echo"],  # type: ignore[list-item]
    ) as ws:
        assert ws.subprotocol == "echo"


def failing(protocol: ServerProtocol, event: AnyEvent) -> None:
    if isinstance(event, Upgrade) and event.request.path == "/":
        protocol.accept()
    elif not isinstance(event, Close):
        raise LookupError("on purpose")


def test_an_application_that_fails(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with serve(failing) as port:
        with opened(port) as peer:
            peer.send(frame(TEXT, "hello"))
            assert peer.frame() == closing(1011)
            peer.send(frame(CLOSE, close_payload(1011)))
            assert peer.frame() is None
        with Peer(port, handshake(path="/else")) as peer:
            assert peer.head().startswith("HTTP/1.1 500 ")
    errors = [record.exc_info for record in caplog.records]
    assert [type(error[1]) for error in errors if error] == [LookupError, LookupError]


# -- time -------------------------------------------------------------------------------------

SHORT = 0.15
"""Seconds that a peer gets for something that it will not do."""


def test_a_client_that_never_finishes_its_handshake(serve: Serve) -> None:
    with serve(sansio.echo, limits=Limits(open_timeout=SHORT)) as port:
        with Peer(port, handshake()[:-2]) as peer:
            assert peer.head().startswith("HTTP/1.1 408 ")
            while peer.more():
                pass


def test_a_silent_peer_is_pinged_and_then_cut(serve: Serve) -> None:
    limits = Limits(ping_interval=SHORT, ping_timeout=SHORT, close_timeout=SHORT)
    with serve(sansio.echo, limits=limits) as port, opened(port) as peer:
        assert peer.frame() == Frame(PING, b"")
        peer.send(frame(PONG))
        assert peer.frame() == Frame(PING, b"")  # that was life
        (close,) = peer.frames()
        assert close.payload[:2] == (1011).to_bytes(2, "big")


def test_a_peer_that_does_not_answer_a_close(serve: Serve) -> None:
    with serve(sansio.echo, limits=Limits(close_timeout=SHORT)) as port, opened(port) as peer:
        peer.send(frame(TEXT, "bye"))
        assert peer.frames() == [closing(4000, "bye")]  # and the end of TCP


def test_a_peer_that_answers_a_close_but_does_not_end_tcp(serve: Serve) -> None:
    with serve(sansio.echo, limits=Limits(close_timeout=SHORT)) as port, opened(port) as peer:
        peer.send(frame(CLOSE, close_payload(1000)))
        assert peer.frames() == [closing(1000)]
        with pytest.raises(OSError):  # noqa: PT012 - the first bytes still go out
            while True:
                peer.send(frame(PONG, bytes(125)))


def test_a_peer_that_does_not_read_is_cut_and_others_are_served(serve: Serve) -> None:
    limits = Limits(write_timeout=2 * SHORT, close_timeout=SHORT)
    with serve(sansio.echo, limits=limits) as port, opened(port, receive=4096) as stuck:
        with pytest.raises(OSError):  # noqa: PT012 - until nobody takes it any more
            while True:
                stuck.send(frame(BINARY, bytes(2**18)))
        with opened(port) as other:
            other.send(frame(TEXT, "and me?"), frame(CLOSE))
            assert other.frames() == [Frame(TEXT, b"and me?"), Frame(CLOSE, b"")]


def test_a_peer_that_reads_late_gets_every_byte(serve: Serve) -> None:
    """Its answers fill the buffers of both kernels, and it has half-closed before it reads."""
    messages = [os.urandom(2**18) for _ in range(24)]
    with serve(sansio.echo) as port, opened(port, receive=4096) as peer:

        def send() -> None:
            peer.send(*[frame(BINARY, message) for message in messages])
            peer.sock.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        sender.join(SHORT)  # it cannot end before somebody reads
        assert [found.payload for found in peer.frames()] == messages
        sender.join(TIMEOUT)


def test_a_server_that_never_answers_a_client(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(TimeoutError, match="did not answer"):
            ask(url, ["hello"], limits=Limits(open_timeout=SHORT))


def test_clients_that_are_refused(port: int, ask: Ask) -> None:
    with pytest.raises(HandshakeError) as refused:
        ask(f"ws://127.0.0.1:{port}/elsewhere", ["hello"])
    assert refused.value.status == 404
    with pytest.raises(ConnectionRefusedError):
        ask(f"ws://127.0.0.1:{free_port()}", ["hello"])


# -- the end ----------------------------------------------------------------------------------


def test_a_server_that_stops_tells_everybody(serve: Serve) -> None:
    with ExitStack() as peers:
        # The one that has not sent its request yet does not end TCP either.
        with serve(sansio.echo, limits=Limits(close_timeout=SHORT)) as port:
            ws = peers.enter_context(others_client.connect(f"ws://127.0.0.1:{port}/"))
            before = peers.enter_context(Peer(port, b"GET / HTTP/1.1\r\n"))
            # The server has seen both once it answers a third.
            ask_by_threads(f"ws://127.0.0.1:{port}/", ["hello"])
        with pytest.raises(ConnectionClosed):
            ws.recv(TIMEOUT)
        assert ws.close_code == 1012
        assert before.head().startswith("HTTP/1.1 503 ")


def test_a_server_that_stops_does_not_wait_for_the_silent(serve: Serve) -> None:
    with ExitStack() as peers:
        with serve(sansio.echo, limits=Limits(close_timeout=SHORT)) as port:
            peer = peers.enter_context(opened(port))
        assert peer.frames() == [closing(1012)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts files by /proc/self/fd")
def test_no_socket_is_left(serve: Serve) -> None:
    gc.collect()  # what other tests have left
    open_files = len(os.listdir("/proc/self/fd"))
    with serve(sansio.echo) as port:
        for number in range(8):
            Peer(port, b"GET").__exit__()
            opened(port).__exit__()  # without a word
            with opened(port) as peer:
                # A reset: it closes with bytes unread.
                peer.send(frame(TEXT, "hello"))
                peer.sock.recv(1)
            ask_by_threads(f"ws://127.0.0.1:{port}/", [str(number)])
            ask_by_streams(f"ws://127.0.0.1:{port}/", [str(number)])
    assert len(os.listdir("/proc/self/fd")) == open_files


@pytest.mark.parametrize("program", ["sansio_threads", "sansio_streams"])
def test_as_programs(program: str) -> None:
    command = [sys.executable, "-m", f"docs.programs.{program}"]
    port = free_port()
    server = ServerProcess("", port=port)
    server.command = [*command, "serve", "127.0.0.1", str(port)]
    with server:
        done = subprocess.run(
            [*command, "ask", f"ws://127.0.0.1:{port}/", "as a program?"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=4 * TIMEOUT,
        )
        assert (done.returncode, done.stdout) == (0, "as a program?\n"), done.stderr
        with opened(port) as peer:
            server.process.send_signal(signal.SIGTERM)
            assert peer.frame() == closing(1012)
            peer.send(frame(CLOSE, close_payload(1012)))
            assert peer.frame() is None
        assert server.process.wait(2 * TIMEOUT) == 0
    assert server.output == ""
