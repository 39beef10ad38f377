"""The programs of docs/guide/errors.md, refusing.md, closing.md and middleware.md."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.docs.conftest import Serve
from tests.docs.programs import ask, ending, hear, kill
from tests.support import run


def test_each_clause_of_the_ladder_catches_what_it_names(serve: Serve) -> None:
    program = serve("errors")

    async def work() -> None:
        async with program.open("/ladder") as ws:
            assert await ask(ws, "4") == {"inverse": 0.25}
            assert list(await ask(ws, "four")) == ["not json"]
            assert list(await ask(ws, '"4"')) == ["wrong type"]
            assert list(await ask(ws, b"4")) == ["wrong type"]
            await ws.send("0")
            assert await ending(ws) == ([], 4000, "zero is no divisor")
        await program.prints("refused with 4000: zero is no divisor")
        await program.prints("done")

    run(work())


@pytest.mark.parametrize("killed", [False, True])
def test_connection_error_is_how_a_handler_hears_that_the_peer_is_gone(
    serve: Serve, killed: bool
) -> None:
    program = serve("errors", fresh=True)

    async def work() -> None:
        async with program.open("/ladder") as ws:
            assert await ask(ws, "2") == {"inverse": 0.5}
            if killed:
                kill(ws)
        await program.prints("the peer is gone\ndone\n")

    run(work())


def test_except_exception_in_the_loop_still_ends_at_the_outer_disconnect(serve: Serve) -> None:
    program = serve("errors")

    async def work() -> None:
        async with program.open("/checked") as ws:
            command: dict[str, Any] = {"do": "boil", "with": ["water"]}
            assert await ask(ws, command) == {"done": "boil", "with": ["water"]}
            assert await ask(ws, {"with": 1}) == {"error": "say what to do"}
            assert await ask(ws, "boil") == {"error": "not JSON"}
            assert (await ask(ws, "7"))["error"].startswith("TypeError: ")
            assert await ask(ws, {"do": "pour"}) == {"done": "pour", "with": None}
        await program.prints("the peer of /checked is gone")

    run(work())


def test_a_message_of_the_other_kind_is_kept_in_the_error(serve: Serve) -> None:
    program = serve("errors")

    async def work() -> None:
        async with program.open("/kind") as ws:
            assert await ask(ws, b"12345") == "5 bytes, and text was expected"
            assert await ask(ws, "12345") == 12345

    run(work())


@pytest.mark.parametrize(
    ("how", "message", "code", "reason"),
    [
        ("return", None, 1000, ""),
        ("code", None, 1008, "against the rules of the house"),
        ("type", b"x", 1003, None),
        ("bug", None, 1011, ""),
        ("use-after-close", None, 1000, ""),
    ],
)
def test_how_a_handler_ends_decides_how_the_connection_closes(
    serve: Serve, how: str, message: bytes | None, code: int, reason: str | None
) -> None:
    program = serve("errors", fails=True)

    async def work() -> None:
        async with program.open(f"/ends/{how}") as ws:
            if message is not None:
                await ws.send(message)
            heard, got, said = await ending(ws)
            assert (heard, got) == ([], code)
            assert said == reason or reason is None

    run(work())
    if how == "bug":
        program.printed("ZeroDivisionError: one of those days")


def test_http_exception_refuses_with_its_status_detail_and_headers(serve: Serve) -> None:
    program = serve("refusing")

    async def work() -> None:
        async with program.open("/rooms/attic") as ws:
            assert await hear(ws) == "welcome to attic"
        refusal = await program.refusal("/rooms/cellar")
        assert (refusal.status, refusal.json()) == (503, {"detail": "cellar is full"})
        assert refusal.headers["retry-after"] == "60"
        assert refusal.headers["content-type"] == "application/json"

    run(work())


def test_a_denial_response_is_any_http_response(serve: Serve) -> None:
    program = serve("refusing")

    async def work() -> None:
        refusal = await program.refusal("/teapot")
        assert (refusal.status, refusal.body) == (418, b"short and stout\n")
        assert refusal.headers["content-type"] == "text/plain; charset=utf-8"
        # Of another path of this server, which a client may follow.
        async with program.open("/moved") as ws:
            assert await hear(ws) == "welcome to attic"

    run(work())


def test_close_before_accept_refuses_with_403(serve: Serve) -> None:
    program = serve("refusing")

    async def work() -> None:
        with pytest.raises(InvalidStatus) as caught:
            await program.open("/closed")
        assert caught.value.response.status_code == 403

    run(work())


def test_a_handler_closes_with_a_code_and_a_reason(serve: Serve) -> None:
    program = serve("closing")

    async def work() -> None:
        async with program.open("/counter") as ws:
            assert await ask(ws, "one coffee") == "noted: one coffee"
            await ws.send("bye")
            assert await ending(ws) == ([], 1000, "have a good day")
        async with program.open("/counter") as ws:
            await ws.send("manager!")
            assert await ending(ws) == ([], 1011, "the manager is out")

    run(work())


def test_a_handler_is_told_code_and_reason_of_the_client(serve: Serve) -> None:
    program = serve("closing")

    async def work() -> None:
        async with program.open("/counter") as ws:
            assert await ask(ws, "one coffee") == "noted: one coffee"
            await ws.close(4007, "found a better place")
        await program.prints("gone with code 4007 and reason 'found a better place'")
        async with program.open("/counter") as ws:
            assert await ask(ws, "one coffee") == "noted: one coffee"
            kill(ws)
        await program.prints("gone with code 100", times=1)

    run(work())


def test_policy_violation_is_a_code(serve: Serve) -> None:
    program = serve("closing")

    async def work() -> None:
        async with program.open("/members") as ws:
            await ws.send("please")
            assert await ending(ws) == ([], 1008, "")
        async with program.open("/members") as ws:
            await ws.send("mellon")
            assert await ending(ws) == (["come in"], 1000, "")

    run(work())


def test_a_handler_that_returns_after_its_sends_loses_none(serve: Serve) -> None:
    program = serve("closing")

    async def work() -> None:
        async with program.open("/last") as ws:
            heard, code, _ = await ending(ws)
        assert heard == [f"line {number}" for number in range(1000)]
        assert code == 1000

    run(work())


def test_closing_twice_is_nothing_and_sending_afterwards_an_error_of_its_own(serve: Serve) -> None:
    program = serve("closing")

    async def work() -> None:
        async with program.open("/after") as ws:
            assert await ending(ws) == ([], 4001, "done here")
        await program.prints("too late: closed with 4001, 'done here'")

    run(work())


def test_middleware_and_exception_handlers_see_websockets(serve: Serve) -> None:
    program = serve("wrapped")

    async def work() -> None:
        async with program.open("/shop") as ws:
            assert await hear(ws) == "welcome to the corner shop"
            assert await ask(ws, "tea") == "one tea"
            await ws.send("tea")
            assert await ending(ws) == ([], 4004, "no more tea")
        async with program.open("/shop") as ws:
            await ws.send("moon")
            assert (await ending(ws))[1:] == (4005, "not for sale")
        async with program.open("/shop") as ws:
            assert await hear(ws) == "welcome to the corner shop"
            kill(ws)
        await program.prints("/shop was open for 0.", times=3)

    run(work())


def test_the_handler_of_all_exceptions_comes_last_and_the_log_has_the_traceback(
    serve: Serve,
) -> None:
    program = serve("wrapped", fails=True)

    async def work() -> None:
        async with program.open("/shop") as ws:
            await ws.send("cake")
            assert (await ending(ws))[1:] == (1011, "our fault")
        await program.prints("caught KeyError: 'cake'")
        await program.prints("Traceback")

    run(work())
