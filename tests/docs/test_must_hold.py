"""What every document of this API takes for granted, on both back ends."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest
from websockets.asyncio.client import ClientConnection

from tests.docs.conftest import Serve
from tests.docs.programs import Program, ask, ending, hear, kill, silence
from tests.support import TIMEOUT, run

MODULE = "tests.docs.must_hold"

#: How a client leaves.
WAYS = ["close", "kill"]


async def leave(ws: ClientConnection, way: str) -> None:
    if way == "kill":
        kill(ws)
    else:
        await ws.close(4001, "bye")


# The socket argument


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/bare", "bare x"),
        ("/bare/attic", "bare attic x"),
        ("/short", "short x"),
        ("/long/7", "long 8 x"),
        ("/last/7", "last 8 x"),
    ],
)
def test_the_socket_may_be_bare_or_annotated_and_of_any_name(
    serve: Serve, path: str, answer: str
) -> None:
    program = serve(MODULE)

    async def work() -> None:
        async with program.open(path) as ws:
            await ws.send("x")
            assert await ending(ws) == ([answer], 1000, "")

    run(work())


# The state


@pytest.mark.parametrize("way", WAYS)
def test_client_state_is_1_and_connected_and_then_3_and_disconnected(
    serve: Serve, way: str
) -> None:
    program = serve(MODULE, fresh=True)

    async def work() -> None:
        async with program.open("/state") as ws:
            assert await ask(ws, "a") == "a"
            assert await ask(ws, "b") == "b"
            await leave(ws, way)
        await program.prints("state 3 DISCONNECTED after 2")

    run(work())


# Exceptions


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("connection-error", "caught ConnectionError"),
        ("exception", "caught Exception WebSocketDisconnect"),
        ("bare", "caught by a bare except"),
        ("inside", "caught outside"),
    ],
)
def test_each_clause_that_the_documents_use_catches_the_disconnect(
    serve: Serve, path: str, line: str, way: str
) -> None:
    program = serve(MODULE)
    before = program.output.count(line)

    async def work() -> None:
        async with program.open(f"/except/{path}") as ws:
            await ask(ws, '{"data": 1}')
            await leave(ws, way)
        await program.prints(line, times=before + 1)

    run(work())


def test_disconnect_has_the_code_and_the_reason_of_the_client(serve: Serve) -> None:
    program = serve(MODULE)

    async def work() -> None:
        async with program.open("/except/disconnect") as ws:
            await ask(ws, "hello")
            await ws.close(4002, "lunch")
        await program.prints("caught WebSocketDisconnect 4002 'lunch'")

    run(work())


def test_a_message_of_the_other_kind_is_a_type_error(serve: Serve) -> None:
    program = serve(MODULE)

    async def work() -> None:
        async with program.open("/except/wrong-kind") as ws:
            assert (await ask(ws, b"bytes")).startswith("TypeError from receive_text: ")
            assert (await ask(ws, "text")).startswith("TypeError from receive_bytes: ")
            assert (await ask(ws, b"{}")).startswith("TypeError from receive_json: ")
            assert await ending(ws) == ([], 1000, "")

    run(work())


def test_what_is_not_json_is_a_value_error(serve: Serve) -> None:
    program = serve(MODULE)

    async def work() -> None:
        async with program.open("/except/no-json") as ws:
            assert await ask(ws, "{") == "caught ValueError"
            assert await ask(ws, "nope") == "caught JSONDecodeError"

    run(work())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("path", "message"), [("/except/nothing", "x"), ("/except/nothing-and-send", None)]
)
def test_a_disconnect_that_nobody_catches_leaves_no_traceback(
    serve: Serve, path: str, message: str | None, way: str
) -> None:
    program = serve(MODULE, fresh=True)

    async def work() -> None:
        for _ in range(5):
            async with program.open(path) as ws:
                if message is not None:
                    await ws.send(message)
                await hear(ws)
                await leave(ws, way)
        # The next connection shows that the server lives; its log is looked at when it has ended.
        async with program.open("/short") as ws:
            assert await ask(ws, "x") == "short x"

    run(work())
    program.stop()
    program.assert_quiet()


# Broadcasts and the dead


async def hear_words(ws: ClientConnection, words: str) -> None:
    while words not in str(await hear(ws)):
        pass


class Party:
    """Clients of one broadcast, each with a number that no other test uses.

    Parameters:
        program: what serves them.
        path: the broadcast's.
        count: how many.
    """

    _numbers = itertools.count()

    def __init__(self, program: Program, path: str, count: int) -> None:
        self.program = program
        self.path = path
        self.ids = list(itertools.islice(self._numbers, count))
        self.guests: list[ClientConnection] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Party:
        for id_ in self.ids:
            ws = await self._stack.enter_async_context(self.program.open(f"{self.path}/{id_}"))
            self.guests.append(ws)
            await ws.send("hello")
            await hear_words(ws, f"{id_} says hello")
        return self

    async def __aexit__(self, *details: object) -> None:
        for guest in self.guests:
            # Nobody is waited for who does not answer.
            guest.transport.abort()
        await self._stack.aclose()

    async def all_hear(self, speaker: int, text: str, *, but: Sequence[int] = ()) -> None:
        """Wait until everybody has heard what somebody says, some of them excepted."""
        for number, guest in enumerate(self.guests):
            if number not in but:
                await hear_words(guest, f"{self.ids[speaker]} says {text}")

    def ended(self) -> list[int]:
        """Whose handlers have said that they ended."""
        said = re.findall(r"^\w+: (\d+) ended", self.program.output, re.MULTILINE)
        return sorted(self.ids.index(int(id_)) for id_ in said if int(id_) in self.ids)


SET_ITSELF = "/room/attic"
PATHS = pytest.mark.parametrize("path", ["/manager", "/list", SET_ITSELF])


@PATHS
@pytest.mark.parametrize("victims", [[0], [2], [0, 2], [1, 2, 3], [0, 3]])
@pytest.mark.parametrize("speaker_first", [True, False])
def test_a_client_that_is_reset_during_a_broadcast_ends_the_right_handler_and_no_other(
    serve: Serve, path: str, victims: list[int], speaker_first: bool
) -> None:
    program = serve(MODULE)

    async def work() -> None:
        async with Party(program, path, 5) as party:

            async def speak() -> None:
                for number in range(10):
                    await party.guests[4].send(f"message {number}")

            # Stopped, the server finds both at once when it goes on: in whatever order it looks
            # at them, it sends to a client that is gone and whose own handler does not know.
            with program.frozen():
                if speaker_first:
                    await speak()
                for victim in victims:
                    kill(party.guests[victim])
                if not speaker_first:
                    await speak()
            await party.all_hear(4, "message 9", but=victims)
            for victim in victims:
                await program.prints(f": {party.ids[victim]} ended")
            await party.guests[4].send("who is left?")
            await party.all_hear(4, "who is left?", but=victims)
            assert party.ended() == victims

    run(work())


@PATHS
def test_a_client_that_falls_silent_ends_the_right_handler_and_no_other(
    serve: Serve, path: str
) -> None:
    pause, patience = TIMEOUT / 25, TIMEOUT / 5
    program = serve(
        MODULE,
        *("--ws-ping-interval", f"{pause}s", "--ws-ping-timeout", f"{patience}s"),
        other=("--ws-ping-interval", f"{pause}", "--ws-ping-timeout", f"{patience}"),
    )

    async def work() -> None:
        async with Party(program, path, 4) as party:
            silence(party.guests[1])
            told = asyncio.create_task(program.prints(f": {party.ids[1]} ended"))
            number = 0
            while not told.done():
                number += 1
                await party.guests[0].send(f"message {number}")
                await hear_words(party.guests[0], f"says message {number}")
                if not program.is_native or path == SET_ITSELF:
                    # With the client's buffers full, uvicorn waits for them to empty before it
                    # tells the handler; here that would take for ever. And the handler that goes
                    # over the set itself must not be kept waiting.
                    await asyncio.wait({told}, timeout=TIMEOUT / 100)
            await told
            await party.guests[3].send("who is left?")
            await party.all_hear(3, "who is left?", but=[1])
            assert party.ended() == [1]

    run(work())


# Tasks and time


@pytest.mark.parametrize("way", WAYS)
def test_heartbeat_tasks_end(serve: Serve, way: str) -> None:
    program = serve(MODULE, fresh=True)

    async def work() -> None:
        for count in range(1, 4):
            async with program.open("/heartbeat") as ws:
                assert await hear(ws) == {"type": "ping"}
                assert await hear(ws) == {"type": "ping"}
                await leave(ws, way)
            await program.prints("handler ended", times=count)
            await program.prints("heartbeat ended", times=count)

    run(work())


def test_wait_for_a_handler_and_then_close_reaches_the_client(serve: Serve) -> None:
    program = serve(MODULE)

    async def work() -> None:
        async with program.open("/limited/0.1") as ws:
            assert await ask(ws, "hello") == "hello"
            assert await ending(ws) == ([], 1000, "")

    run(work())


@pytest.mark.parametrize("size", [1, 125, 70_000, 1_000_000])
def test_a_handler_that_returns_right_after_a_send_loses_nothing(serve: Serve, size: int) -> None:
    program = serve(MODULE)

    async def work() -> None:
        async with program.open(f"/final/{size}") as ws:
            heard, code, _ = await ending(ws)
        assert heard == [bytes([number]) * size for number in range(4)]
        assert code == 1000

    run(work())
