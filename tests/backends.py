"""One visit of a WebSocket client to an application: on the package's own server, and as ASGI."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from fastws.app import FastWS
from fastws.codes import Opcode
from fastws.testing import TestClient, WebSocketDenialResponse
from tests.asgi_peer import ASGIPeer
from tests.serving import frame
from tests.support import TIMEOUT

__all__ = ["BACKENDS", "Visit", "visit"]

BACKENDS = ["native", "asgi"]

CLOSE = 0x8


@dataclass
class Visit:
    """What became of it.

    ``status`` is 101 if the connection was accepted; then there are ``messages`` and the close
    ``code``. Otherwise there are ``headers`` (names in lower case) and the ``body`` of a response.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    messages: list[str] = field(default_factory=list)
    code: int | None = None

    @property
    def detail(self) -> Any:
        """Why the connection was refused."""
        return orjson.loads(self.body)["detail"]

    @property
    def complaints(self) -> list[tuple[str | int, ...]]:
        """The places that a 422 lists, with the kind of each complaint."""
        assert self.status == 422, self
        return [(*complaint["loc"], complaint["type"]) for complaint in self.detail]

    @property
    def values(self) -> Any:
        """The first message, which is JSON."""
        assert self.status == 101, self
        return orjson.loads(self.messages[0])


async def visit(
    backend: str,
    app: FastWS,
    target: str = "/",
    *headers: str,
    sends: Sequence[str] = (),
    leaves: bool = False,
) -> Visit:
    """Connect, send some messages, and stay until the application closes.

    Parameters:
        backend: ``"native"`` or ``"asgi"``.
        app: what to visit.
        target: the path and the query.
        headers: further header lines.
        sends: messages to send.
        leaves: whether to close after them instead of waiting for the application to do it.
    """
    if backend == "native":
        return await _visit_server(app, target, headers, sends, leaves)
    return await _visit_asgi(app, target, headers, sends, leaves)


async def _visit_server(
    app: FastWS, target: str, headers: Sequence[str], sends: Sequence[str], leaves: bool
) -> Visit:
    # What the handler raises is the server's to deal with, and a header may come twice.
    made = TestClient(app, timeout=TIMEOUT, raise_server_exceptions=False)
    try:
        async with made as client, client.connect(target, headers=_pairs(headers)) as ws:
            for text in sends:
                await ws.send_text(text)
            if leaves:
                await ws.send_raw(frame(struct.pack(">H", 1001), CLOSE))
            messages = [message async for message in ws]
            texts = [item if isinstance(item, str) else item.decode() for item in messages]
            last = ws.frames[-1]
            assert last.opcode is Opcode.CLOSE, ws.frames
            return Visit(101, messages=texts, code=last.close_code)
    except WebSocketDenialResponse as refusal:
        return Visit(refusal.status, dict(refusal.headers), refusal.body)


async def _visit_asgi(
    app: FastWS, target: str, headers: Sequence[str], sends: Sequence[str], leaves: bool
) -> Visit:
    path, _, query = target.partition("?")
    fields = [(b"host", b"example.org"), *_pairs(headers)]
    peer = ASGIPeer(sends, path=path, query_string=query.encode(), headers=fields)
    if leaves:
        peer.leave()
    await asyncio.wait_for(app(peer.scope, peer.receive, peer.send), 2 * TIMEOUT)
    found = Visit(101)
    for message in peer.sent:
        kind = message["type"]
        if kind == "websocket.http.response.start":
            pairs = [(name.decode(), value.decode()) for name, value in message["headers"]]
            found = Visit(message["status"], dict(pairs))
        elif kind == "websocket.http.response.body":
            found.body += message["body"]
        elif kind == "websocket.send":
            found.messages.append(message["text"])
        elif kind == "websocket.close":
            found.code = message["code"]
    return found


def _pairs(lines: Sequence[str]) -> list[tuple[bytes, bytes]]:
    split = [line.partition(":") for line in lines if line]
    return [(name.lower().encode(), value.strip().encode()) for name, _, value in split]
