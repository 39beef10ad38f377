"""The programs of docs/guide/basic.md and messages.md."""

from __future__ import annotations

from tests.docs.conftest import Serve
from tests.docs.programs import ask, ending, hear, kill
from tests.support import run


def test_hello_answers_once_and_closes_with_1000_behind_its_last_message(serve: Serve) -> None:
    program = serve("hello")

    async def work() -> None:
        async with program.open("/hello") as ws:
            await ws.send("Ada")
            assert await ending(ws) == (["Hello, Ada!"], 1000, "")

    run(work())


def test_hello_survives_a_client_that_leaves_without_a_word(serve: Serve) -> None:
    program = serve("hello")

    async def work() -> None:
        async with program.open("/hello"):
            pass
        kill(await program.open("/hello"))
        async with program.open("/hello") as ws:
            assert await ask(ws, "Bob") == "Hello, Bob!"

    run(work())


def test_a_plain_loop_lets_the_disconnect_escape(serve: Serve) -> None:
    program = serve("loops")

    async def work() -> None:
        for _ in range(2):
            async with program.open("/plain") as ws:
                assert await ask(ws, "tea") == "TEA"
                assert await ask(ws, "cake") == "CAKE"
        async with program.open("/plain") as ws:
            assert await ask(ws, "tea") == "TEA"
            kill(ws)

    run(work())


def test_a_loop_in_try_is_told_the_code(serve: Serve) -> None:
    program = serve("loops")

    async def work() -> None:
        async with program.open("/caught") as ws:
            assert await ask(ws, "one") == "1: one"
            assert await ask(ws, "two") == "2: two"
            await ws.close(4321)
        await program.prints("gone with 4321 after 2 messages")
        async with program.open("/caught") as ws:
            assert await ask(ws, "one") == "1: one"
            kill(ws)
        # uvicorn calls it 1005.
        await program.prints(f"gone with {1006 if program.is_native else 1005} after 1 messages")

    run(work())


def test_async_for_ends_with_the_connection(serve: Serve) -> None:
    program = serve("loops")

    async def work() -> None:
        async with program.open("/iterated") as ws:
            assert await ask(ws, "tea") == "aet"
        await program.prints("the loop has ended, and so has the connection")

    run(work())


def test_journal_serves_its_page_numbers_entries_and_prints_them(serve: Serve) -> None:
    program = serve("journal")
    page = program.get("/")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert b"/journal" in page.body

    async def work() -> None:
        async with program.open("/journal") as ws:
            assert await ask(ws, "it rained") == {"number": 1, "entry": "it rained"}
            assert await ask(ws, "then it did not") == {"number": 2, "entry": "then it did not"}
        async with program.open("/journal") as ws:
            assert await ask(ws, "it rained") == {"number": 3, "entry": "it rained"}
            kill(ws)

    run(work())
    program.printed("entry 2: then it did not")
    program.printed("the writer left: 1000")
    program.printed("the writer left: 100", times=2)


def test_messages_of_each_kind(serve: Serve) -> None:
    program = serve("messages")

    async def work() -> None:
        async with program.open("/kinds") as ws:
            await ws.send("sunset")
            await ws.send(b"\x89PNG and more")
            assert await hear(ws) == "sunset has 13 bytes"
            assert await hear(ws) == b"\x89PNG"
            assert await hear(ws) == {"title": "sunset", "size": 13}
            assert await ending(ws) == ([], 1000, "")

    run(work())


def test_receive_gives_events_and_one_disconnect(serve: Serve) -> None:
    program = serve("messages")

    async def work() -> None:
        async with program.open("/events") as ws:
            assert await ask(ws, "four") == "text: 4"
            assert await ask(ws, b"") == "bytes: 0"
            assert await ask(ws, "") == "text: 0"
            await ws.close(1001, "moving on")
        await program.prints("disconnect, code 1001, reason 'moving on'")

    run(work())


def test_iterating_gives_messages_of_either_kind(serve: Serve) -> None:
    program = serve("messages")

    async def work() -> None:
        async with program.open("/either") as ws:
            for message in ("Góðan daginn 🌞", b"\x00\xff", b"", "x" * 100_000):
                assert await ask(ws, message) == message

    run(work())
