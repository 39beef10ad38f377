"""Tornado, on asyncio's own loop as its documentation runs it."""

# mypy: disable-error-code="import-not-found", allow-subclassing-any
# A machine that only checks types need not have Tornado.

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from tornado.escape import json_decode, json_encode
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from benchmarks.servers.arguments import BACKLOG, DEFLATE, announce_ready, arguments


class Echo(WebSocketHandler):
    def get_compression_options(self) -> dict[str, Any] | None:
        deflate = DEFLATE.get(self.settings["compression"])
        if deflate is None:
            return None
        return {"compression_level": deflate.level, "mem_level": deflate.mem_level}

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message, binary=isinstance(message, bytes))


class JSON(Echo):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(json_encode(json_decode(message)))


class Receive(Echo):
    receivers: ClassVar[set[Receive]] = set()

    def open(self, *args: str, **kwargs: str) -> None:
        self.receivers.add(self)

    def on_close(self) -> None:
        self.receivers.discard(self)


class Publish(Echo):
    def on_message(self, message: str | bytes) -> None:
        for receiver in Receive.receivers:
            receiver.write_message(message)


async def main() -> None:
    given = arguments()
    application = Application(
        [
            ("/ws", Echo),
            ("/binary", Echo),
            ("/json", JSON),
            ("/receive", Receive),
            ("/publish", Publish),
        ],
        compression=given.compression,
    )
    application.listen(given.port, given.host, backlog=BACKLOG)
    announce_ready()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
