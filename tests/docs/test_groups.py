"""The programs of docs/guide/broadcast.md and rooms.md: several clients, some of them killed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from websockets.asyncio.client import ClientConnection

from tests.docs.conftest import Serve
from tests.docs.programs import ask, hear, kill, silence
from tests.support import TIMEOUT, run


async def hear_words(ws: ClientConnection, words: str) -> None:
    """Read until a message, whatever its form, has these words in it."""
    while words not in str(await hear(ws)):
        pass


async def hear_until(ws: ClientConnection, wanted: object) -> list[object]:
    """What comes up to and with the message that is wanted."""
    heard: list[object] = []
    while wanted not in heard:
        heard.append(await hear(ws))
    return heard


def test_news_reach_all_readers_that_are_there(serve: Serve) -> None:
    program = serve("news", fresh=True)

    async def work() -> None:
        async with program.open("/news") as ada, program.open("/news") as bob:
            assert await ask(ada, "is it on?") == "is it on?"
            await bob.send("snow")
            await hear_until(bob, "snow")
            assert await hear(ada) == "snow"
            await bob.close()
            assert await ask(ada, "thaw") == "thaw"

    run(work())


def test_radio_tells_everybody_and_counts_them(serve: Serve) -> None:
    program = serve("broadcast", fresh=True)

    async def work() -> None:
        async with program.open("/radio") as ada, program.open("/radio") as bob:
            await ask(bob, "hello")
            await hear(ada)
            await ada.send("snow")
            for ws in (ada, bob):
                assert await hear(ws) == {"news": "snow", "listeners": 2}
            kill(bob)
            await program.prints("a listener is gone: 100")
            assert await ask(ada, "thaw") == {"news": "thaw", "listeners": 1}

    run(work())


def test_notes_on_the_wall_reach_all_readers(serve: Serve) -> None:
    program = serve("broadcast")

    async def work() -> None:
        async with program.open("/wall") as ada, program.open("/wall") as bob:
            assert await ask(ada, "first") == "first"
            await bob.send("second")
            await hear_until(bob, "second")
            assert await hear(ada) == "second"

    run(work())


def test_topics_are_told_apart_and_others_refused(serve: Serve) -> None:
    program = serve("broadcast")

    async def work() -> None:
        async with (
            program.open("/topics/sports") as ada,
            program.open("/topics/sports") as bob,
            program.open("/topics/weather") as eve,
        ):
            await bob.send("warm-up")  # bob follows when ada hears it
            assert await hear(ada) == "sports: warm-up"
            await ada.send("1:0")
            assert await hear(bob) == "sports: 1:0"
            async with program.open("/topics/weather") as reporter:
                await reporter.send("rain")
                assert await hear(eve) == "weather: rain"
        refusal = await program.refusal("/topics/gossip")
        assert (refusal.status, refusal.body) == (404, b"there is no topic gossip\n")

    run(work())


def test_a_table_tells_a_guest_and_everybody_in_the_order_of_the_calls(serve: Serve) -> None:
    program = serve("manager", fresh=True)

    async def work() -> None:
        async with program.open("/table/1") as one:
            assert await ask(one, "hello") == "you said hello"
            assert await hear(one) == "guest 1 said hello"
            async with program.open("/table/2") as two:
                assert await ask(two, "hi") == "you said hi"
                assert await hear(two) == "guest 2 said hi"
                assert await hear(one) == "guest 2 said hi"
            assert await hear(one) == "guest 2 went home"
        assert (await program.refusal("/table/two")).complaints == [("path", "number")]

    run(work())


def test_rooms_tell_who_comes_speaks_and_goes(serve: Serve) -> None:
    program = serve("rooms")

    async def work() -> None:
        async with program.open("/rooms/attic?name=Ada") as ada:
            assert await hear(ada) == {"type": "members", "names": ["Ada"]}
            async with program.open("/rooms/attic") as other:
                assert await hear(other) == {"type": "members", "names": ["Ada", "somebody"]}
                assert await hear(ada) == {"type": "joined", "name": "somebody"}
                await ada.send("who is there?")
                said = {"type": "said", "name": "Ada", "text": "who is there?"}
                assert await hear(ada) == said
                assert await hear(other) == said
            assert await hear(ada) == {"type": "left", "name": "somebody"}
            async with program.open("/rooms/cellar?name=Eve") as eve:
                assert await hear(eve) == {"type": "members", "names": ["Eve"]}
        await program.prints("Ada left attic: 1000")
        async with program.open("/rooms/attic?name=Bob") as bob:
            assert await hear(bob) == {"type": "members", "names": ["Bob"]}

    run(work())


@pytest.mark.parametrize(
    ("name", "path", "said"),
    [
        ("news", "/news", lambda who, text: text),
        ("broadcast", "/radio", lambda who, text: text),
        ("broadcast", "/wall", lambda who, text: text),
        ("manager", "/table/{}", lambda who, text: f"guest {who} said {text}"),
        ("rooms", "/rooms/kitchen?name={}", lambda who, text: text),
    ],
)
def test_a_client_that_is_killed_in_a_broadcast_ends_its_own_handler_and_no_other(
    serve: Serve, name: str, path: str, said: Callable[[int, str], str]
) -> None:
    program = serve(name, fresh=True)

    async def work() -> None:
        async with (
            program.open(path.format(1)) as ada,
            program.open(path.format(2)) as bob,
            program.open(path.format(3)) as eve,
        ):
            for ws in (bob, eve, ada):
                await ask(ws, "hello")
            # The server finds the reset and the messages at the same time: it broadcasts to a
            # client that is gone, and whose own handler has not been told.
            with program.frozen():
                kill(bob)
                for number in range(20):
                    await ada.send(f"message {number}")
                await eve.send("me too")
            await hear_words(ada, said(1, "message 19"))
            await hear_words(eve, said(1, "message 19"))
            await eve.send("still here")
            await hear_words(eve, said(3, "still here"))
            await hear_words(ada, said(3, "still here"))

    run(work())


def test_a_client_that_falls_silent_is_pinged_and_ends_alone(serve: Serve) -> None:
    pause, patience = TIMEOUT / 25, TIMEOUT / 5
    program = serve(
        "manager",
        *("--ws-ping-interval", f"{pause}s", "--ws-ping-timeout", f"{patience}s"),
        other=("--ws-ping-interval", f"{pause}", "--ws-ping-timeout", f"{patience}"),
    )

    async def work() -> None:
        async with program.open("/table/1") as ada, program.open("/table/2") as bob:
            await ask(bob, "hello")
            await ask(ada, "hello")
            silence(bob)
            await ada.send("is anybody there?")
            await hear_until(ada, "guest 2 went home")
            await ada.send("gone?")
            await hear_until(ada, "guest 1 said gone?")
            bob.transport.abort()

    run(work())
