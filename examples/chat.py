"""A chat: rooms, names, presence and a short history, for any number of browsers.

Run it with ``fastws run examples.chat:app``, or as a program: ``python examples/chat.py``; then
open http://127.0.0.1:8000 in two windows.

A connection is one person in one room: ``/rooms/{room}?name=…``. Messages are JSON objects with a
``type``:

From the server:

``welcome``  ``room, name, members, history, max_text``: you are in; ``history`` has messages
``joined``   ``name``: somebody came
``left``     ``name``: somebody went
``message``  ``id, name, text, at``: somebody said this, ``at`` seconds since the epoch
``typing``   ``name``: somebody is writing
``rooms``    ``rooms``: every open room with its name and the number of its members
``error``    ``id, reason``: what you sent was not passed on, and why

From the client:

``message``  ``id, text``: say this; ``id`` is the client's choice, to know it again
``typing``   tell the others that you are writing

Everything is kept in the memory of one process, and every collection in it has a bound.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
import unicodedata
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastws import FastWS, Response, WebSocket, WebSocketDisconnect, WebSocketException

PAGE = Path(__file__).with_name("chat.html").read_text(encoding="utf-8")

LASTING_ROOMS = ("lobby", "ideas", "music")
"""Rooms that are always there; any other is opened by its first member and goes with its last."""

MAX_ROOMS = 50
MAX_MEMBERS = 200
"""People in a room."""
MAX_HISTORY = 50
"""Messages a newcomer is shown."""
MAX_OUTBOX = 100
"""Messages that may wait for one slow member."""
MAX_NAME = 24
MAX_TEXT = 2000
MAX_ID = 64

# Close codes from 4000 are the application's own (RFC 6455 section 7.4.2).
BAD_NAME = 4000
NAME_TAKEN = 4001
BAD_ROOM = 4002
NO_SPACE = 4003

INVALID_PAYLOAD = 1007
TRY_AGAIN_LATER = 1013

Message = dict[str, Any]

app = FastWS()


def encode(message: Message) -> str:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


class Member:
    """One person in one room.

    What a member is to be told goes through an outbox of its own, emptied by its own task, so that
    somebody on a slow connection holds up nobody else.
    """

    def __init__(self, name: str, ws: WebSocket) -> None:
        self.name = name
        self.key = member_key(name)
        self._ws = ws
        self._outbox: asyncio.Queue[str] = asyncio.Queue(MAX_OUTBOX)
        self._lags = False

    def post(self, text: str) -> None:
        """Put an encoded message into the outbox; never waits."""
        try:
            self._outbox.put_nowait(text)
        except asyncio.QueueFull:
            self._lags = True

    async def deliver(self) -> None:
        """Send what is posted, until the connection ends or has fallen too far behind.

        Who has missed a message is sent away rather than left with a gap: the page comes back by
        itself and finds what it missed in the history.
        """
        # The handler, waiting for a message, is told of the disconnect as well and cleans up.
        with suppress(WebSocketDisconnect):
            while not self._lags:
                await self._ws.send_text(await self._outbox.get())
            await self._ws.close(TRY_AGAIN_LATER, "your connection is too slow for this room")


class Room:
    """Who is here, and what was said last.

    No method waits, so that a check and the change that follows it are one step.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: dict[str, Member] = {}
        self.history: deque[Message] = deque(maxlen=MAX_HISTORY)

    def join(self, member: Member) -> None:
        """Let a member in and tell everybody; refuses a name that is taken, and a full room."""
        if member.key in self.members:
            raise WebSocketException(NAME_TAKEN, "This name is taken in this room.")
        if len(self.members) >= MAX_MEMBERS:
            raise WebSocketException(NO_SPACE, "This room is full.")
        self.tell({"type": "joined", "name": member.name})
        self.members[member.key] = member
        welcome = {
            "type": "welcome",
            "room": self.name,
            "name": member.name,
            "members": [other.name for other in self.members.values()],
            "history": list(self.history),
            "max_text": MAX_TEXT,
        }
        member.post(encode(welcome))

    def leave(self, member: Member) -> None:
        del self.members[member.key]
        self.tell({"type": "left", "name": member.name})

    def hear(self, member: Member, message: object) -> None:
        """Act on a message from a member. Whatever a client may send ends here, so be strict."""
        match message:
            case {"type": "message", "id": str(id_), "text": str(text)} if len(id_) <= MAX_ID:
                if not (text := text.strip()):
                    self._reject(member, id_, "An empty message is not passed on.")
                elif len(text) > MAX_TEXT:
                    self._reject(member, id_, f"A message has at most {MAX_TEXT} characters.")
                else:
                    self._say(member, id_, text)
            case {"type": "typing"}:
                self.tell({"type": "typing", "name": member.name}, besides=member)
            case _:
                self._reject(member, None, "This server does not understand that message.")

    def tell(self, message: Message, besides: Member | None = None) -> None:
        text = encode(message)
        for member in self.members.values():
            if member is not besides:
                member.post(text)

    def _say(self, member: Member, id_: str, text: str) -> None:
        # A client that lost its connection sends again what it saw no answer to.
        if any(said["id"] == id_ and said["name"] == member.name for said in self.history):
            return
        said = {"type": "message", "id": id_, "name": member.name, "text": text, "at": time.time()}
        self.history.append(said)
        self.tell(said)

    def _reject(self, member: Member, id_: str | None, reason: str) -> None:
        member.post(encode({"type": "error", "id": id_, "reason": reason}))


rooms = {name: Room(name) for name in LASTING_ROOMS}


def member_key(name: str) -> str:
    """What two names have in common that a reader would take for the same."""
    return unicodedata.normalize("NFKC", name).casefold()


def clean_name(raw: str) -> str:
    name = " ".join(unicodedata.normalize("NFC", raw).split())
    # Not printable are, among others, the characters that turn the direction of writing.
    if not (0 < len(name) <= MAX_NAME and name.isprintable()):
        raise WebSocketException(BAD_NAME, f"A name has 1 to {MAX_NAME} printable characters.")
    return name


def open_room(raw: str) -> Room:
    """The room of that name, opened if nobody is in it yet."""
    name = unicodedata.normalize("NFKC", raw).lower()
    if room := rooms.get(name):
        return room
    if not re.fullmatch(rf"[\w-]{{1,{MAX_NAME}}}", name):
        raise WebSocketException(
            BAD_ROOM, f"A room's name has 1 to {MAX_NAME} letters, digits, “-” or “_”."
        )
    if len(rooms) >= MAX_ROOMS:
        raise WebSocketException(NO_SPACE, "Too many rooms are open: join one of them.")
    return rooms.setdefault(name, Room(name))


def close_if_deserted(room: Room) -> None:
    if not room.members and room.name not in LASTING_ROOMS:
        del rooms[room.name]


def announce_rooms() -> None:
    """Tell everybody, in whatever room, how many people are where."""
    counts = [{"name": room.name, "members": len(room.members)} for room in rooms.values()]
    for room in rooms.values():
        room.tell({"type": "rooms", "rooms": counts})


@app.get("/")
async def page() -> Response:
    return Response(content=PAGE, media_type="text/html; charset=utf-8")


@app.websocket("/rooms/{room_name}")
async def chat(ws: WebSocket, room_name: str) -> None:
    # A browser does not tell its page why a handshake was refused, but it does tell the code and
    # reason of a close: accept first, refuse then.
    await ws.accept()
    member = Member(clean_name(ws.query_params.get("name", "")), ws)
    room = open_room(room_name)
    room.join(member)
    announce_rooms()
    delivery = asyncio.create_task(member.deliver())
    try:
        async for message in ws.iter_json():
            room.hear(member, message)
    except json.JSONDecodeError as error:
        raise WebSocketException(INVALID_PAYLOAD, "A message must be JSON.") from error
    finally:
        # The loop ends however the connection did: closed, broken, or killed without a CLOSE.
        delivery.cancel()
        room.leave(member)
        close_if_deserted(room)
        announce_rooms()


if __name__ == "__main__":
    app.serve(host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
