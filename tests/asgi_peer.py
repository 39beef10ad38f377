"""The other side of an ASGI application, in memory: what a server would do, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from fastws.datastructures import Message, Scope

__all__ = ["ASGIPeer", "http_scope", "websocket_scope"]


def websocket_scope(path: str = "/", **changes: Any) -> Scope:
    """A websocket scope as servers make it; `changes` replace its entries."""
    scope: Scope = {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"example.org")],
        "client": ("192.0.2.7", 50000),
        "server": ("198.51.100.1", 80),
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }
    return {**scope, **changes}


def http_scope(path: str = "/", method: str = "GET", **changes: Any) -> Scope:
    """An HTTP scope as servers make it; `changes` replace its entries."""
    scope = websocket_scope(path, type="http", scheme="http", method=method, extensions={})
    del scope["subprotocols"]
    return {**scope, **changes}


class ASGIPeer:
    """A websocket client behind a server: `sent` is what the application sent to it.

    Parameters:
        events: what the application receives after ``websocket.connect``: ``str`` and ``bytes``
            stand for messages.
        connects: whether ``websocket.connect`` comes first.
        changes: to the scope.
    """

    def __init__(
        self, events: Iterable[Message | str | bytes] = (), *, connects: bool = True, **changes: Any
    ) -> None:
        self.scope = websocket_scope(**changes)
        self.sent: list[Message] = []
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.broken = False
        # What a server raises on a message to a connection that has ended.
        self.error: Exception = OSError("the client is gone")
        if connects:
            self.incoming.put_nowait({"type": "websocket.connect"})
        for event in events:
            self.put(event)

    def put(self, event: Message | str | bytes) -> None:
        """Let the application receive a message or another event."""
        if isinstance(event, str):
            event = {"type": "websocket.receive", "text": event, "bytes": None}
        elif isinstance(event, bytes):
            event = {"type": "websocket.receive", "bytes": event}
        self.incoming.put_nowait(event)

    def leave(self, code: int = 1001, reason: str | None = None) -> None:
        """Let the application receive the disconnect."""
        self.put({"type": "websocket.disconnect", "code": code, "reason": reason})

    async def receive(self) -> Message:
        return await self.incoming.get()

    async def send(self, message: Message) -> None:
        if self.broken:
            raise self.error
        self.sent.append(message)

    @property
    def kinds(self) -> list[str]:
        """The types of what the application sent."""
        return [message["type"] for message in self.sent]
