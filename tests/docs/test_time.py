"""The programs of docs/guide/heartbeat.md and timeouts.md."""

from __future__ import annotations

import pytest

from tests.docs.conftest import Serve
from tests.docs.programs import ask, ending, hear, kill
from tests.support import TIMEOUT, run


@pytest.mark.parametrize("killed", [False, True])
def test_a_heartbeat_in_a_task_of_the_handler_ends_with_the_connection(
    serve: Serve, killed: bool
) -> None:
    program = serve("heartbeat", fresh=True)

    async def work() -> None:
        async with program.open("/task") as ws:
            assert await hear(ws) == {"type": "beat"}
            assert await hear(ws) == {"type": "beat"}
            await ws.send("hello")
            while (await hear(ws)) != {"type": "echo", "text": "hello"}:
                pass
            if killed:
                kill(ws)
        await program.prints("the heart stopped: WebSocketDisconnect\nand its handler is done\n")

    run(work())


@pytest.mark.parametrize("killed", [False, True])
def test_a_task_of_the_connection_is_cancelled_when_it_ends(serve: Serve, killed: bool) -> None:
    program = serve("heartbeat", fresh=True)

    async def work() -> None:
        async with program.open("/group") as ws:
            assert await hear(ws) == {"type": "tick"}
            assert await hear(ws) == {"type": "tick"}
            if killed:
                kill(ws)
        await program.prints("the clock stopped")

    run(work())


@pytest.mark.parametrize("killed", [False, True])
def test_a_handler_that_only_sends_may_ask_to_be_cancelled(serve: Serve, killed: bool) -> None:
    program = serve("heartbeat", fresh=True)

    async def work() -> None:
        async with program.open("/prices") as ws:
            assert [await hear(ws) for _ in range(3)] == [
                {"price": 101},
                {"price": 102},
                {"price": 103},
            ]
            if killed:
                kill(ws)
        # Its next send would be an hour later.
        await program.prints("nobody asks for prices any more")

    run(work())


def test_ping_measures_the_distance_where_the_server_can(serve: Serve) -> None:
    program = serve("heartbeat", fails=True)

    async def work() -> None:
        async with program.open("/distance") as ws:
            heard, code, _ = await ending(ws)
            if program.is_native:
                assert code == 1000
                assert 0 <= heard[0]["milliseconds"] < 1000 * TIMEOUT
            else:
                assert (heard, code) == ([], 1011)

    run(work())


def test_a_limit_for_the_whole_connection_closes_it_and_says_why(serve: Serve) -> None:
    program = serve("timeouts")

    async def work() -> None:
        async with program.open("/session") as ws:
            assert await ask(ws, "once") == "go on: once"
            assert await ending(ws) == ([], 1000, "time is up")
        async with program.open("/session") as ws:
            assert await ask(ws, "once") == "go on: once"
            kill(ws)

    run(work())


def test_a_receive_with_a_timeout_loses_nothing_and_goes_on(serve: Serve) -> None:
    program = serve("timeouts")

    async def work() -> None:
        async with program.open("/quiz") as ws:
            assert await hear(ws) == "question 1"
            assert await ask(ws, "blue") == "you said blue"
            assert await hear(ws) == "question 2"
            assert await hear(ws) == "too slow"
            assert await hear(ws) == "question 3"
            assert await ask(ws, "red") == "you said red"
            assert await ending(ws) == ([], 1000, "")

    run(work())
