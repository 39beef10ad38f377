"""The program of docs/guide/operating.md, and the configuration file on that page."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.docs.conftest import Serve
from tests.docs.programs import Program, ask, ending, hear, shown
from tests.support import ROOT, TIMEOUT, run

PAGE = (ROOT / "docs" / "guide" / "operating.md").read_text(encoding="utf-8")


def test_jobs_and_orders_are_answered(serve: Serve) -> None:
    program = serve("operated")

    async def work() -> None:
        async with program.open("/jobs") as ws:
            assert await ask(ws, "a") == {"event": "done", "job": "a"}
        async with program.open("/orders") as ws:
            assert await ask(ws, "tea") == "ordered"

    run(work())


def test_clients_hear_of_the_end_and_may_ask_meanwhile() -> None:
    restarting, not_taken = shown("operating.md")

    async def work(program: Program) -> None:
        async with program.open("/jobs") as ws:
            await ask(ws, "before")
            program.process.send_signal(signal.SIGTERM)
            assert await hear(ws) == restarting
            # The window is wide: the CLOSE is hardly ever first.
            heard = await ask(ws, "a")
            assert heard == not_taken
            program.process.send_signal(signal.SIGTERM)

    with Program(
        "docs.programs.operated",
        "fastws run",
        *("--drain-window", "10000s", "--timeout-graceful-shutdown", "10000s"),
    ) as program:
        run(work(program))
        assert program.process.wait(TIMEOUT) == 0


def test_a_stop_is_announced_and_told_with_1012() -> None:
    async def work(program: Program) -> None:
        async with program.open("/jobs") as ws:
            await ask(ws, "before")
            program.process.send_signal(signal.SIGTERM)
            assert (await ending(ws))[:2] == ([{"event": "restarting"}], 1012)

    with Program("docs.programs.operated") as program:
        run(work(program))
        assert program.process.wait(TIMEOUT) == 0
    program.assert_quiet()


def test_pages_of_the_server() -> None:
    pytest.importorskip("prometheus_client")
    options = ("--health", "/health", "--metrics", "/metrics")

    async def work(program: Program) -> None:
        async with program.open("/jobs") as ws:
            await ask(ws, "a")
            text = program.get("/metrics").body.decode()
            assert "\nfastws_connections 1.0\n" in text
            assert '\nfastws_messages_total{direction="received"} 1.0\n' in text
            shown_there = set(re.findall(r"^# TYPE (\w+?)(?:_gcount|_gsum)? ", text, re.M))
            on_the_page = set(re.findall(r"`(fastws_\w+)`", PAGE))
            assert shown_there == on_the_page

    with Program("docs.programs.operated", "fastws run", *options) as program:
        assert program.get("/health").json() == {"status": "serving"}
        run(work(program))
    program.assert_quiet()


def lines_of(program: Program) -> list[dict[str, Any]]:
    return [json.loads(line) for line in program.output.splitlines()]


def test_json_has_the_fields_on_the_page() -> None:
    async def work(program: Program) -> None:
        async with program.open("/orders") as ws:
            await ask(ws, "tea")

    with Program("docs.programs.operated", "fastws run", "--log-format", "json") as program:
        run(work(program))
        program.printed('"closed"')
    (closed,) = [line for line in lines_of(program) if line.get("event") == "closed"]
    listed = set(re.findall(r"`(\w+)`", PAGE[PAGE.index("### JSON") : PAGE.index("any other")]))
    assert closed.keys() <= listed


def test_the_configuration_on_the_page_names_connections(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.M | re.S)
    path = tmp_path / "log.toml"
    path.write_text(text)

    async def work(program: Program) -> None:
        async with program.open("/orders") as ws:
            await ask(ws, "tea")

    with Program("docs.programs.operated", "fastws run", "--log-config", str(path)) as program:
        run(work(program))
        program.printed("an order for tea")
        program.printed("closed 1000")
    assert re.search(r"^INFO shop \[[0-9a-f]+-1\] an order for tea$", program.output, re.M)
    assert re.search(r"^INFO fastws.access \[[0-9a-f]+-1\] .* closed 1000 ", program.output, re.M)
