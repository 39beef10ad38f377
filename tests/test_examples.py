"""The examples as programs: real processes, real sockets, another project's client."""

from __future__ import annotations

import contextlib
import json
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import quote

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from examples import chat
from fastws import WebSocket, WebSocketException
from tests.support import TIMEOUT, ServerProcess, free_port, run


@pytest.fixture(scope="module")
def echo_server() -> Iterator[ServerProcess]:
    with ServerProcess("examples.echo:app") as server:
        yield server


@pytest.fixture(scope="module")
def chat_server() -> Iterator[ServerProcess]:
    with ServerProcess("examples.chat:app") as server:
        yield server


class Guest:
    """A client of the chat that speaks its messages."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws

    async def hear(self, type_: str) -> dict[str, Any]:
        """The next message of that type; what comes before it is passed over."""
        while True:
            message: dict[str, Any] = json.loads(await self.ws.recv())
            if message["type"] == type_:
                return message

    async def send(self, **message: Any) -> None:
        await self.ws.send(json.dumps(message))

    async def say(self, text: str, id_: str = "1") -> None:
        await self.send(type="message", id=id_, text=text)

    async def close_code(self) -> tuple[int, str]:
        """How the server closes, once everything before has been read."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.ws.recv()
        assert self.ws.close_code is not None
        return self.ws.close_code, self.ws.close_reason or ""


class House:
    """Opens connections to the chat, and closes them all at the end."""

    def __init__(self, server: ServerProcess) -> None:
        self.url = server.url
        self._stack = contextlib.AsyncExitStack()

    async def connect(self, name: str, room: str, **options: Any) -> Guest:
        url = f"{self.url}/rooms/{quote(room, safe='')}?name={quote(name)}"
        # A guest reads whatever comes, unless the test says otherwise.
        ws = connect(url, **{"max_queue": None, **options})
        return Guest(await self._stack.enter_async_context(ws))

    async def join(self, name: str, room: str) -> Guest:
        guest = await self.connect(name, room)
        await guest.hear("welcome")
        return guest

    async def __aenter__(self) -> House:
        return self

    async def __aexit__(self, *details: object) -> None:
        await self._stack.aclose()


def test_echo_returns_text_as_text_and_binary_as_binary(echo_server: ServerProcess) -> None:
    async def work() -> None:
        async with connect(echo_server.url) as ws:
            for message in ("plain", "", "Góðan daginn 🌞", b"\x00\xff", b"", "x" * 100_000):
                await ws.send(message)
                assert await ws.recv() == message

    run(work())


@pytest.mark.parametrize(
    ("program", "path"), [("examples/echo.py", "/"), ("examples/chat.py", "/rooms/lobby?name=Ada")]
)
def test_an_example_runs_as_a_program(program: str, path: str) -> None:
    async def work(server: ServerProcess) -> None:
        async with connect(server.url + path) as ws:
            await ws.send('{"type": "typing"}')
            assert json.loads(await ws.recv())["type"] in ("typing", "welcome")

    port = free_port()
    server = ServerProcess("", env={"PORT": str(port)}, port=port)
    server.command = [sys.executable, program]
    with server:
        run(work(server))


def test_chat_serves_its_page_which_asks_for_nothing_else(chat_server: ServerProcess) -> None:
    with urllib.request.urlopen(chat_server.url.replace("ws:", "http:"), timeout=TIMEOUT) as answer:
        page = answer.read().decode("utf-8")
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page == chat.PAGE
    assert " src=" not in page
    assert "innerHTML" not in page
    assert "@import" not in page


def test_chat_welcomes_and_tells_the_others_who_comes_and_goes(chat_server: ServerProcess) -> None:
    async def work() -> None:
        async with House(chat_server) as house:
            ada = await house.connect("  Ada   Lovelace ", "come-and-go")
            welcome = await ada.hear("welcome")
            assert welcome == {
                "type": "welcome",
                "room": "come-and-go",
                "name": "Ada Lovelace",
                "members": ["Ada Lovelace"],
                "history": [],
                "max_text": chat.MAX_TEXT,
            }
            bob = await house.connect("Bob", "Come-And-Go")
            assert (await bob.hear("welcome"))["members"] == ["Ada Lovelace", "Bob"]
            assert await ada.hear("joined") == {"type": "joined", "name": "Bob"}
            await bob.ws.close()
            assert await ada.hear("left") == {"type": "left", "name": "Bob"}

    run(work())


def test_chat_passes_messages_on_to_everybody_in_the_room_and_to_nobody_else(
    chat_server: ServerProcess,
) -> None:
    async def work() -> None:
        async with House(chat_server) as house:
            ada, bob = await house.join("Ada", "pass-on"), await house.join("Bob", "pass-on")
            eve = await house.join("Eve", "elsewhere")
            await ada.say("  <b>早上好</b> 🌞\n")
            for guest in (ada, bob):
                message = await guest.hear("message")
                assert message.pop("at") > 0
                assert message == {
                    "type": "message",
                    "id": "1",
                    "name": "Ada",
                    "text": "<b>早上好</b> 🌞",
                }
            await eve.say("alone")
            assert (await eve.hear("message"))["text"] == "alone"

    run(work())


def test_chat_tells_the_others_but_not_the_writer_that_somebody_is_typing(
    chat_server: ServerProcess,
) -> None:
    async def work() -> None:
        async with House(chat_server) as house:
            ada, bob = await house.join("Ada", "typing"), await house.join("Bob", "typing")
            await ada.hear("joined")
            await ada.send(type="typing")
            await ada.say("done")
            assert await bob.hear("typing") == {"type": "typing", "name": "Ada"}
            types = []
            while "message" not in types:
                types.append(json.loads(await ada.ws.recv())["type"])
            assert "typing" not in types

    run(work())


def test_chat_shows_a_newcomer_the_last_messages_only(chat_server: ServerProcess) -> None:
    async def work() -> None:
        async with House(chat_server) as house:
            ada = await house.join("Ada", "history")
            for number in range(chat.MAX_HISTORY + 3):
                await ada.say(f"message {number}", id_=str(number))
                await ada.hear("message")
            bob = await house.connect("Bob", "history")
            history = (await bob.hear("welcome"))["history"]
            assert [message["text"] for message in history] == [
                f"message {number}" for number in range(3, chat.MAX_HISTORY + 3)
            ]

    run(work())


def test_chat_does_not_repeat_a_message_that_is_sent_again_after_a_lost_connection(
    chat_server: ServerProcess,
) -> None:
    async def work() -> None:
        async with House(chat_server) as house:
            bob = await house.join("Bob", "again")
            ada = await house.join("Ada", "again")
            await ada.say("once", id_="a")
            await bob.hear("message")
            ada.ws.transport.abort()
            await bob.hear("left")
            ada = await house.join("Ada", "again")
            await ada.say("once", id_="a")
            await ada.say("twice", id_="b")
            assert (await bob.hear("message"))["text"] == "twice"
            # The same id from somebody else is another message.
            await bob.say("once", id_="a")
            assert (await bob.hear("message"))["name"] == "Bob"

    run(work())


def test_chat_lets_a_killed_client_leave(chat_server: ServerProcess) -> None:
    async def work() -> None:
        async with House(chat_server) as house:
            ada, bob = await house.join("Ada", "killed"), await house.join("Bob", "killed")
            bob.ws.transport.abort()  # no CLOSE frame: TCP is reset
            assert await ada.hear("left") == {"type": "left", "name": "Bob"}
            bob = await house.connect("Bob", "killed")
            assert (await bob.hear("welcome"))["members"] == ["Ada", "Bob"]

    run(work())


def test_chat_keeps_talking_while_one_member_does_not_read_and_sends_that_one_away(
    chat_server: ServerProcess,
) -> None:
    async def work() -> None:
        async with House(chat_server) as house:
            ada, bob = await house.join("Ada", "slow"), await house.join("Bob", "slow")
            # Nobody takes what arrives here: the client stops reading from its socket.
            slow = await house.connect("Slow", "slow", max_queue=1, compression=None)
            await ada.hear("joined")
            text = "🌞" * chat.MAX_TEXT
            # Four bytes a character: more than the sockets' buffers, the write buffer and the
            # outbox hold together.
            for number in range(1500):
                await ada.say(text, id_=str(number))
                for guest in (ada, bob):
                    assert (await guest.hear("message"))["id"] == str(number)
            assert await slow.close_code() == (
                chat.TRY_AGAIN_LATER,
                "your connection is too slow for this room",
            )
            assert await ada.hear("left") == {"type": "left", "name": "Slow"}

    run(work())


@pytest.mark.parametrize("name", ["Ada", "ADA", " ada ", "\uff21da"])
def test_chat_refuses_a_name_that_reads_like_one_in_the_room(
    chat_server: ServerProcess, name: str
) -> None:
    async def work() -> None:
        async with House(chat_server) as house:
            await house.join("Ada", "taken")
            second = await house.connect(name, "taken")
            assert await second.close_code() == (
                chat.NAME_TAKEN,
                "This name is taken in this room.",
            )
            other = await house.connect(name, "taken-elsewhere")
            assert (await other.hear("welcome"))["members"] == [" ".join(name.split())]

    run(work())


@pytest.mark.parametrize("name", ["", "   ", "x" * (chat.MAX_NAME + 1), "a\x00b", "a\u202eb"])
def test_chat_refuses_a_bad_name(chat_server: ServerProcess, name: str) -> None:
    async def work() -> None:
        async with House(chat_server) as house:
            guest = await house.connect(name, "names")
            assert (await guest.close_code())[0] == chat.BAD_NAME

    run(work())


@pytest.mark.parametrize("room", ["a b", "x" * (chat.MAX_NAME + 1), "<b>", "."])
def test_chat_refuses_a_bad_room(chat_server: ServerProcess, room: str) -> None:
    async def work() -> None:
        async with House(chat_server) as house:
            guest = await house.connect("Ada", room)
            assert (await guest.close_code())[0] == chat.BAD_ROOM

    run(work())


def test_chat_lists_an_open_room_until_it_is_deserted_and_the_lasting_ones_always(
    chat_server: ServerProcess,
) -> None:
    async def work() -> None:
        async with House(chat_server) as house:
            ada = await house.join("Ada", "lobby")
            bob = await house.join("Bob", "Café_7")

            async def counts() -> dict[str, int]:
                rooms = (await ada.hear("rooms"))["rooms"]
                return {room["name"]: room["members"] for room in rooms}

            while "café_7" not in (seen := await counts()):
                pass
            assert seen["café_7"] == 1
            assert seen["lobby"] == 1
            await bob.ws.close()
            while "café_7" in (seen := await counts()):
                pass
            assert set(chat.LASTING_ROOMS) <= set(seen)

    run(work())


@pytest.mark.parametrize(
    ("message", "id_"),
    [
        ({"type": "message", "id": "7", "text": "x" * (chat.MAX_TEXT + 1)}, "7"),
        ({"type": "message", "id": "7", "text": " \n "}, "7"),
        ({"type": "message", "id": "7", "text": 1}, None),
        ({"type": "message", "text": "no id"}, None),
        ({"type": "message", "id": "7" * (chat.MAX_ID + 1), "text": "long id"}, None),
        ({"type": "welcome"}, None),
        ({}, None),
        ([], None),
        ("text", None),
        (None, None),
    ],
)
def test_chat_answers_a_message_that_it_does_not_pass_on(
    chat_server: ServerProcess, message: object, id_: str | None
) -> None:
    async def work() -> None:
        async with House(chat_server) as house:
            ada = await house.join("Ada", "errors")
            await ada.ws.send(json.dumps(message))
            error = await ada.hear("error")
            assert error["id"] == id_
            assert error["reason"].endswith(".")
            await ada.say("still here")
            assert (await ada.hear("message"))["text"] == "still here"

    run(work())


def test_chat_closes_a_connection_that_does_not_speak_json_and_the_others_see_it_leave(
    chat_server: ServerProcess,
) -> None:
    async def work() -> None:
        async with House(chat_server) as house:
            bob = await house.join("Bob", "json")
            ada = await house.join("Ada", "json")
            await ada.ws.send("not JSON")
            assert await ada.close_code() == (chat.INVALID_PAYLOAD, "A message must be JSON.")
            assert await bob.hear("left") == {"type": "left", "name": "Ada"}

    run(work())


def test_chat_closes_a_connection_that_sends_binary(chat_server: ServerProcess) -> None:
    async def work() -> None:
        async with House(chat_server) as house:
            ada = await house.join("Ada", "binary")
            await ada.ws.send(b"{}")
            assert (await ada.close_code())[0] == 1003

    run(work())


def test_chat_bounds_the_number_of_rooms(chat_server: ServerProcess) -> None:
    async def work() -> None:
        async with House(chat_server) as house:
            for number in range(chat.MAX_ROOMS - len(chat.LASTING_ROOMS)):
                await house.join("Ada", f"room-{number}")
            late = await house.connect("Ada", "one-too-many")
            assert (await late.close_code())[0] == chat.NO_SPACE
            await house.join("Bob", "room-0")

    run(work())


def test_chat_bounds_the_number_of_people_in_a_room() -> None:
    room = chat.Room("full")
    for number in range(chat.MAX_MEMBERS):
        room.join(chat.Member(f"Ada {number}", silent()))
    with pytest.raises(WebSocketException) as refusal:
        room.join(chat.Member("Bob", silent()))
    assert refusal.value.code == chat.NO_SPACE
    assert len(room.members) == chat.MAX_MEMBERS


def silent() -> WebSocket:
    """A socket of which nothing is asked."""
    return cast(WebSocket, None)
