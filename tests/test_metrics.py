"""The figures for Prometheus, as the page shows them."""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import time

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from fastws import FastWS, WebSocket, metrics
from fastws.config import Config, ConfigError
from fastws.metrics import Metrics, shared_directory
from fastws.server import Server
from tests.serving import connect, exchange, frame, handshake, serving, status_of
from tests.support import TIMEOUT, run

Samples = dict[tuple[str, str], float]
"""Values by the sample's name and its label's value."""


def make_app() -> FastWS:
    app = FastWS()

    @app.websocket("/echo")
    async def echo(ws: WebSocket) -> None:
        await ws.accept()
        async for message in ws:
            if message == "ping":
                await ws.ping()
            await ws.send_text(f"{message!r}")

    @app.websocket("/teapot")
    async def teapot(ws: WebSocket) -> None:
        await ws.send_denial_response(418)

    @app.websocket("/busy")
    async def busy(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_bytes(bytes(1000))
        await asyncio.Event().wait()

    return app


def get(path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: a", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode()


async def scrape(server: Server, path: str = "/metrics") -> Samples:
    head, _, body = (await exchange(server, get(path))).partition(b"\r\n\r\n")
    assert status_of(head + b"\r\n\r\n") == 200
    return samples_in(body)


def samples_in(body: bytes) -> Samples:
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in parse(body.decode())
        for sample in family.samples
    }


def test_connections_messages_and_ends_are_counted() -> None:
    async def main() -> None:
        async with serving(make_app(), metrics="/metrics") as server:
            await exchange(server, handshake("/teapot"))
            await exchange(server, handshake("/nowhere"))
            await exchange(server, get("/nowhere"))
            async with connect(server) as client, connect(server) as other:
                for each in (client, other):
                    await each.send(handshake("/echo"))
                    assert status_of(await each.head()) == 101
                await client.send(frame(b"one") + frame(b"three"))
                for _ in range(2):
                    await client.frame()
                await other.send(frame(struct.pack(">H", 4000), opcode=8))
                assert (await other.frame())[0] == 8
                await other.rest()
                await other.close()
                while True:  # the server hears of it a moment later
                    figures = await scrape(server)
                    if figures["fastws_connections", ""] == 1:
                        break
            assert figures["fastws_connections_opened_total", ""] == 2
            assert figures["fastws_handshakes_total", "101"] == 2
            assert figures["fastws_handshakes_total", "418"] == 1
            assert figures["fastws_handshakes_total", "404"] == 1
            assert figures["fastws_http_responses_total", "404"] == 1
            assert figures["fastws_connections_closed_total", "4000"] == 1
            assert figures["fastws_messages_total", "received"] == 2
            assert figures["fastws_message_bytes_total", "received"] == 8
            assert figures["fastws_messages_total", "sent"] == 2
            assert figures["fastws_message_bytes_total", "sent"] == 12
            assert figures["fastws_http_connections", ""] == 1  # the one that asks
            assert figures["fastws_open_files", ""] > 3
            # What an open connection has counted is not lost, nor counted twice, when it ends.
            assert server.hub is not None
            while server.hub.connections:
                await scrape(server)
            figures = await scrape(server)
            assert figures["fastws_connections", ""] == 0
            assert figures["fastws_messages_total", "received"] == 2
            assert figures["fastws_message_bytes_total", "sent"] == 12

    run(main())


def test_what_waits_is_looked_at_when_asked() -> None:
    async def main() -> None:
        async with serving(make_app(), metrics="/metrics") as server, connect(server) as client:
            await client.send(handshake("/busy"))
            await client.head()
            await client.frame()
            await client.send(frame(b"x" * 500) + frame(b"y" * 250, opcode=2))
            while True:  # until both have arrived
                figures = await scrape(server)
                if figures["fastws_messages_total", "received"] == 2:
                    break
            assert figures["fastws_receive_queue_bytes", ""] == 750
            assert figures["fastws_unsent_bytes", ""] == 0
            server.stop()
            server.stop()

    run(main())


def test_round_trips_of_pings_and_the_lag_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SAMPLE_INTERVAL", TIMEOUT / 1000)

    async def main() -> None:
        async with serving(make_app(), metrics="/metrics") as server, connect(server) as client:
            await client.send(handshake("/echo"))
            await client.head()
            figures = await scrape(server)
            assert figures["fastws_ping_round_trip_seconds_gcount", ""] == 0
            await client.send(frame(b"ping"))
            opcode, payload = await client.frame()
            assert opcode == 9
            await client.send(frame(payload, opcode=10))
            assert await client.frame() == (1, b"'ping'")
            figures = await scrape(server)
            assert figures["fastws_ping_round_trip_seconds_gcount", ""] == 1
            assert figures["fastws_ping_round_trip_seconds_bucket", "10.0"] == 1
            assert 0 < figures["fastws_ping_round_trip_seconds_gsum", ""] < TIMEOUT
            before = figures["fastws_loop_lag_seconds_bucket", "0.01"]
            late = figures["fastws_loop_lag_seconds_count", ""] - before
            # A handler that blocks the loop is seen.
            time.sleep(0.05)  # noqa: ASYNC251
            while True:
                figures = await scrape(server)
                count = figures["fastws_loop_lag_seconds_count", ""]
                if count - figures["fastws_loop_lag_seconds_bucket", "0.01"] > late:
                    break
            assert figures["fastws_loop_lag_seconds_sum", ""] > 0.03

    run(main())


def test_openmetrics_is_given_to_who_asks_for_it() -> None:
    async def main() -> bytes:
        async with serving(make_app(), metrics="/metrics") as server:
            await exchange(server, handshake("/nowhere"))
            accept = "Accept: application/openmetrics-text; version=1.0.0"
            return await exchange(server, get("/metrics", accept))

    head, _, body = run(main()).partition(b"\r\n\r\n")
    assert b"content-type: application/openmetrics-text" in head.lower()
    found = openmetrics.text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call]
    families = {family.name: family.type for family in found}
    assert families["fastws_handshakes"] == "counter"
    assert families["fastws_ping_round_trip_seconds"] == "gaugehistogram"


def test_the_page_belongs_to_the_server() -> None:
    app = make_app()

    @app.get("/metrics")
    async def own() -> str:
        raise AssertionError("this one is not asked")

    async def main() -> None:
        async with serving(app, metrics="/metrics") as server:
            assert ("fastws_connections", "") in await scrape(server)
            answer = await exchange(server, get("/metrics").replace(b"GET", b"POST"))
            assert status_of(answer) == 405
            head = await exchange(server, get("/metrics").replace(b"GET", b"HEAD"))
            assert status_of(head) == 200
            assert head.endswith(b"\r\n\r\n")
        async with serving(make_app()) as server:
            assert status_of(await exchange(server, get("/metrics"))) == 404

    run(main())


def test_without_the_package_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"^metrics needs the package prometheus-client, .* inst"):
        Server(Config(make_app(), metrics="/metrics")).load()
    Server(Config(make_app())).load()


# Several workers


def test_workers_add_their_figures_up() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, other = Metrics(loop, (), ()), Metrics(loop, (), (object(), object()))
        for each in (one, other):
            each.start()
            each.answered(101)
        other.answered(403)
        other._sample()
        figures = samples_in(one.page().body)
        assert figures["fastws_handshakes_total", "101"] == 2
        assert figures["fastws_handshakes_total", "403"] == 1
        assert figures["fastws_http_connections", ""] == 2
        # The counts of one that has gone stay, what it had open does not.
        other.stop()
        figures = samples_in(one.page().body)
        assert figures["fastws_handshakes_total", "101"] == 2
        assert figures["fastws_http_connections", ""] == 0
        one.stop()

    with shared_directory(True):
        assert metrics.DIRECTORY_VARIABLE in os.environ
        run(main())
    assert metrics.DIRECTORY_VARIABLE not in os.environ


def test_a_worker_that_was_killed_has_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, killed = Metrics(loop, (), ()), Metrics(loop, (), (object(),))
        killed.answered(101)
        killed._write(gauges=True)
        assert one.all_figures()["fastws_http_connections"][""] == 1
        (written,) = os.scandir(os.environ[metrics.DIRECTORY_VARIABLE])
        os.utime(written, (0, 0))
        figures = one.all_figures()
        assert figures["fastws_http_connections"][""] == 0
        assert figures["fastws_handshakes"]["101"] == 1

    with shared_directory(True):
        run(main())


def test_figures_survive_the_supervisors_end() -> None:
    async def main() -> None:
        with shared_directory(True):
            lonely = Metrics(asyncio.get_running_loop(), (), ())
        lonely.start()
        lonely.answered(101)
        lonely.stop()
        assert lonely.all_figures()["fastws_handshakes"]["101"] == 1

    run(main())


def test_one_worker_shares_nothing() -> None:
    with shared_directory(False):
        assert metrics.DIRECTORY_VARIABLE not in os.environ
