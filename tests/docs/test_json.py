"""The programs of docs/guide/json.md and typed-messages.md."""

from __future__ import annotations

import json

import pytest

from tests.docs.conftest import Serve
from tests.docs.programs import ask, ending, kill, shown
from tests.support import run


def test_orders_are_read_and_answered_as_json(serve: Serve) -> None:
    program = serve("orders")

    async def work() -> None:
        async with program.open("/orders") as ws:
            order = {"item": "tea", "count": 2, "wish": "naïve ☕"}
            assert await ask(ws, order) == {"order": order, "total": 6}
            assert await ask(ws, {"item": "cake"}) == {"order": {"item": "cake"}, "total": 11}
        await program.prints("the guest left and owes 11")
        async with program.open("/orders") as ws:
            assert (await ask(ws, {"item": "tea"}))["total"] == 3
            kill(ws)
        await program.prints("the guest left and owes 3")

    run(work())


def test_json_is_sent_compact_and_in_utf_8(serve: Serve) -> None:
    program = serve("orders")

    async def work() -> None:
        async with program.open("/orders") as ws:
            await ws.send('{ "item": "tea", "wish": "\\u2615" }')
            assert await ws.recv() == '{"order":{"item":"tea","wish":"☕"},"total":3}'

    run(work())


def test_a_message_that_is_not_json_is_a_value_error_and_the_connection_goes_on(
    serve: Serve,
) -> None:
    program = serve("orders")

    async def work() -> None:
        async with program.open("/forgiving") as ws:
            assert (await ask(ws, "tea, please"))["error"].startswith("not JSON: ")
            no_order = {"error": "an order is an object with an item of the menu"}
            for message in ('"tea"', "[]", "{}", '{"item": "moon"}', "3", "null"):
                assert await ask(ws, message) == no_order
            assert await ask(ws, {"item": "tea"}) == {"price": 3}

    run(work())


def test_json_in_binary_messages(serve: Serve) -> None:
    program = serve("orders")

    async def work() -> None:
        async with program.open("/binary") as ws:
            assert json.loads(await ask(ws, b'{"item":"tea"}')) == {"order": {"item": "tea"}}
            assert await ending(ws) == ([], 1000, "")

    run(work())


def test_a_typed_receive_gives_a_dataclass_or_an_error_that_names_the_field(serve: Serve) -> None:
    program = serve("typed")

    async def work() -> None:
        async with program.open("/orders") as ws:
            assert await ask(ws, {"item": "tea"}) == {"item": "tea", "count": 1}
            sent, answer = shown("typed-messages.md")
            assert await ask(ws, sent) == answer
            assert "item" in (await ask(ws, {"count": 1}))["error"]
            assert "JSON" in (await ask(ws, "tea"))["error"]
            assert await ask(ws, {"item": "cake", "count": 2}) == {"item": "cake", "count": 2}

    run(work())


def test_tagged_structs_are_told_apart(serve: Serve) -> None:
    program = serve("typed")

    async def work() -> None:
        async with program.open("/game") as ws:
            answer = await ask(ws, {"type": "move", "x": 3, "y": -1})
            assert answer == {"type": "moved", "x": 3, "y": -1, "steps": 4}
            answer = await ask(ws, {"type": "say", "text": "hi"})
            assert answer == {"type": "say", "text": "you said hi"}

    run(work())


def test_an_invalid_typed_message_that_nobody_catches_closes_with_1007(serve: Serve) -> None:
    program = serve("typed")

    async def work() -> None:
        async with program.open("/game") as ws:
            await ws.send('{"type": "move", "x": 3, "y": "up"}')
            heard, code, reason = await ending(ws)
            assert (heard, code) == ([], 1007)
            assert "'y'" in reason

    run(work())


def test_pydantic_models_are_messages_too(serve: Serve) -> None:
    pytest.importorskip("pydantic")
    program = serve("models")

    async def work() -> None:
        async with program.open("/readings") as ws:
            first = await ask(ws, {"sensor": "roof", "celsius": -3.5})
            assert first == {"count": 1, "highest": -3.5}
            second = await ask(ws, {"sensor": "oven", "celsius": "180"})
            assert second == {"count": 2, "highest": 180.0}
            await ws.send('{"sensor": "sun", "celsius": -300}')
            _, code, reason = await ending(ws)
            assert code == 1007
            assert "celsius" in reason

    run(work())
