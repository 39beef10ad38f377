"""One visit of a WebSocket client to an application: on the package's own server, and as ASGI."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from fastws.app import FastWS
from tests.asgi_peer import ASGIPeer
from tests.serving import Client, connect, frame, handshake, serving, status_of
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
    async with serving(app) as server, connect(server) as client:
        await client.send(handshake(target, *headers))
        head = await client.head()
        status = status_of(head)
        if status != 101:
            fields = _headers(head.decode("latin-1").split("\r\n")[1:])
            return Visit(status, fields, await client.exactly(int(fields["content-length"])))
        for text in sends:
            await client.send(frame(text.encode()))
        if leaves:
            await client.send(frame(struct.pack(">H", 1001), CLOSE))
        return await _stay(client, Visit(101), leaves)


async def _stay(client: Client, found: Visit, leaves: bool) -> Visit:
    while True:
        opcode, payload = await client.frame()
        if opcode == CLOSE:
            (found.code,) = struct.unpack(">H", payload[:2])
            if not leaves:
                await client.send(frame(payload, CLOSE))
            assert await client.rest() == b""
            return found
        found.messages.append(payload.decode())


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


def _headers(lines: Sequence[str]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in _pairs(lines)}


def _pairs(lines: Sequence[str]) -> list[tuple[bytes, bytes]]:
    split = [line.partition(":") for line in lines if line]
    return [(name.lower().encode(), value.strip().encode()) for name, _, value in split]
