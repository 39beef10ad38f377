"""Connecting again and again: how long between, after what, and what ends it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from typing import Any

import pytest

from fastws import FastWS, HandshakeError, WebSocket
from fastws.client import ClientWebSocket, connect
from fastws.client_handshake import HandshakeRefused
from fastws.reconnect import MAX_RETRY_AFTER, Backoff, is_transient, retry_after
from tests.http_peers import answering, redirect, response, server_tls, switching
from tests.serving import serving
from tests.support import TIMEOUT, free_port, run

# Waiting times


def test_the_bound_doubles_up_to_the_most() -> None:
    backoff = Backoff(1.0, 5.0, draw=lambda: 1.0)
    assert [backoff.next_delay() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_jitter_is_full() -> None:
    assert Backoff(1.0, 5.0, draw=lambda: 0.0).next_delay() == 0.0
    assert Backoff(1.0, 5.0, draw=lambda: 0.5).next_delay() == 0.5
    delays = {Backoff(1.0, 5.0).next_delay() for _ in range(20)}
    assert len(delays) > 10
    assert all(0 <= delay <= 1 for delay in delays)


def test_a_first_bound_above_the_most_is_the_most() -> None:
    assert Backoff(9.0, 5.0, draw=lambda: 1.0).next_delay() == 5.0


def test_what_the_server_asks_for_is_the_least() -> None:
    backoff = Backoff(1.0, 5.0, draw=lambda: 0.25)
    assert backoff.next_delay(30.0) == 30.25
    assert backoff.next_delay() == 0.5


def test_a_connection_that_lasted_makes_up_for_failures() -> None:
    backoff = Backoff(1.0, 60.0, draw=lambda: 1.0)
    for _ in range(3):
        backoff.next_delay()
    backoff.lasted(7.9)
    assert backoff.bound == 8.0
    backoff.lasted(8.1)
    assert backoff.bound == 1.0


# Which errors

REFUSED = [(status, status >= 500 or status in (408, 425, 429)) for status in range(400, 600)]


@pytest.mark.parametrize(("status", "expected"), REFUSED)
def test_refusals_worth_another_attempt(status: int, expected: bool) -> None:
    assert is_transient(HandshakeRefused(status, "no")) is expected
    assert is_transient(HandshakeRefused(status, "no", by_proxy=True)) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (OSError(101, "Network is unreachable"), True),
        (socket.gaierror(-2, "Name or service not known"), True),
        (ssl.SSLEOFError(), True),
        (ssl.SSLZeroReturnError(), True),
        (ssl.SSLCertVerificationError(), False),
        (ssl.SSLError(1, "wrong version number"), False),
        (HandshakeRefused(302, "elsewhere"), False),
        (HandshakeError(502, "nonsense"), False),
        (ValueError("bad URI"), False),
        (RuntimeError(), False),
    ],
)
def test_errors_worth_another_attempt(error: Exception, expected: bool) -> None:
    assert is_transient(error) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("9" * 5000, MAX_RETRY_AFTER),
        ("Fri, 02 Jan 2026 00:02:00 GMT", 120.0),
        ("Fri, 02 Jan 2026 00:02:00 -0000", 120.0),
        ("Thu, 01 Jan 2026 00:00:00 GMT", 0.0),
        ("Sat, 02 Jan 2027 00:02:00 GMT", MAX_RETRY_AFTER),
        ("soon", None),
        ("-1", None),
        ("²", None),
        ("", None),
    ],
)
def test_retry_after(value: str, expected: float | None) -> None:
    now = datetime(2026, 1, 2, tzinfo=timezone.utc)
    error = HandshakeRefused(429, "no", [("retry-after", value)])
    assert retry_after(error, now) == expected


def test_only_a_refusal_asks_to_wait() -> None:
    assert retry_after(HandshakeRefused(429, "no")) is None
    assert retry_after(OSError()) is None


# The loop

app = FastWS()
seen: list[tuple[int | None, str | None]] = []


@app.websocket("/once")
async def once(ws: WebSocket) -> None:
    await ws.accept()
    await ws.send_text("hello")
    async for _ in ws:
        pass
    seen.append((ws.close_code, ws.close_reason))


@asynccontextmanager
async def greeting() -> AsyncIterator[str]:
    seen.clear()
    async with serving(app) as server:
        yield f"ws://127.0.0.1:{server.addresses[0][1]}/once"


def reconnecting(uri: str, **options: Any) -> connect:
    return connect(uri, proxy=None, reconnect_delay=0.001, **options)


async def never(opening: connect) -> None:
    """Run the loop of a client that cannot connect."""
    async for _ in opening:
        pytest.fail("connected")


def test_each_turn_of_the_loop_is_a_connection_of_its_own() -> None:
    async def main() -> None:
        async with greeting() as uri:
            opened: list[ClientWebSocket] = []
            async for ws in reconnecting(uri):
                assert await ws.receive_text() == "hello"
                assert all(before.client_state.name == "DISCONNECTED" for before in opened)
                opened.append(ws)
                if len(opened) == 3:
                    await ws.close(4000, "done")
                    break
            assert seen == [(1000, ""), (1000, ""), (4000, "done")]

    run(main())


def test_leaving_the_loop_closes_what_is_open() -> None:
    async def main() -> None:
        async with greeting() as uri:
            opened: list[ClientWebSocket] = []

            async def fail() -> None:
                async for ws in reconnecting(uri):
                    assert await ws.receive_text() == "hello"
                    opened.append(ws)
                    raise KeyError

            with pytest.raises(KeyError):
                await fail()
            assert [message async for message in opened[0]] == []
            await opened[0].close(4000, "too late")
            assert seen == [(1000, "")]

    run(main())


def test_it_goes_on_after_failures_and_lost_connections() -> None:
    async def main() -> None:
        answers: list[Any] = [
            response(503),
            switching(then=b"\x81\x02hi\x88\x02\x03\xf4"),
            response(429, "Retry-After: 0"),
            switching(then=b"\x81\x02ho"),
        ]
        async with answering(*answers) as peer:
            heard = []
            async for ws in reconnecting(f"ws://{peer.authority}/", ws_close_timeout=0.05):
                heard.append(await ws.receive_text())
                if len(heard) == 2:
                    break
                assert [message async for message in ws] == []
                assert ws.close_code == 1012
            assert heard == ["hi", "ho"]
            assert len(peer.heads) == 4
            await ws.close()

    run(main())


def test_a_server_that_comes_up_late_is_found() -> None:
    async def main() -> None:
        port = free_port()
        connected = asyncio.Event()

        async def keep_trying() -> None:
            uri = f"ws://127.0.0.1:{port}/once"
            async for ws in reconnecting(uri, reconnect_max_delay="20ms"):
                assert await ws.receive_text() == "hello"
                connected.set()
                await ws.close()
                return

        trying = asyncio.ensure_future(keep_trying())
        await asyncio.wait({trying}, timeout=0.1)
        assert not trying.done()
        async with serving(app, port=port):
            await asyncio.wait_for(trying, TIMEOUT)

    run(main())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (response(403), HandshakeRefused),
        (response(404), HandshakeRefused),
        (b"nonsense\r\n\r\n", HandshakeError),
        (redirect("/again"), HandshakeError),
    ],
)
def test_what_will_not_get_better_ends_the_loop(answer: bytes, error: type[Exception]) -> None:
    async def main() -> None:
        async with answering(answer) as peer:
            with pytest.raises(error):
                await never(reconnecting(f"ws://{peer.authority}/"))

    run(main())


def test_a_certificate_that_does_not_verify_ends_the_loop() -> None:
    async def main() -> None:
        async with answering(switching(), tls=server_tls()) as peer:
            with pytest.raises(ssl.SSLCertVerificationError):
                await never(reconnecting(f"wss://{peer.authority}/"))

    run(main())


def test_the_caller_may_decide_what_is_worth_another_attempt() -> None:
    async def main() -> None:
        errors: list[int] = []

        def retry(error: Exception) -> bool:
            assert isinstance(error, HandshakeRefused)
            errors.append(error.status)
            return error.status == 403

        async with answering(response(403), response(403), response(503)) as peer:
            with pytest.raises(HandshakeRefused, match="503"):
                await never(reconnecting(f"ws://{peer.authority}/", retry=retry))
            assert errors == [403, 403, 503]

    run(main())


def test_cancelled_between_attempts_it_ends() -> None:
    async def main() -> None:
        uri = f"ws://127.0.0.1:{free_port()}/"
        opening = connect(uri, proxy=None, reconnect_delay=10 * TIMEOUT)
        trying = asyncio.ensure_future(never(opening))
        await asyncio.wait({trying}, timeout=0.1)
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying

    run(main())
