"""Clients of four other implementations behind one face; each call blocks, for a bounded time."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, cast

import aiohttp
import pytest
import websocket
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as websockets_connect

from tests.interop.node import node_with_ws
from tests.support import TIMEOUT

__all__ = ["CLIENTS", "Client", "WebsocketClient"]

HERE = Path(__file__).resolve().parent


class Client(Protocol):
    """One open connection."""

    subprotocol: str | None
    compressed: bool
    """Whether the server has agreed to compression."""

    def send(self, message: str | bytes) -> None: ...

    def receive(self) -> str | bytes: ...

    def ended(self) -> tuple[int, str]:
        """Wait for the end and say how it came."""

    def ping(self, data: bytes) -> None:
        """Send a PING and wait for its PONG."""

    def close(self, code: int, reason: str) -> int:
        """Close, and return the code that the server answered with."""

    def drop(self) -> None:
        """Leave nothing open, however the connection stands."""


class Websockets:
    """``websockets``."""

    def __init__(self, url: str, compressed: bool, subprotocols: Sequence[str]) -> None:
        self._open = ExitStack()
        connecting = websockets_connect(
            url,
            compression="deflate" if compressed else None,
            subprotocols=cast(Any, list(subprotocols) or None),
            open_timeout=TIMEOUT,
            close_timeout=TIMEOUT,
            max_size=None,
            proxy=None,
        )
        self._ws = self._open.enter_context(connecting)
        self.subprotocol = self._ws.subprotocol
        self.compressed = bool(self._ws.protocol.extensions)

    def send(self, message: str | bytes) -> None:
        self._ws.send(message)

    def send_fragments(self, fragments: Sequence[str]) -> None:
        self._ws.send(fragments)

    def receive(self) -> str | bytes:
        return self._ws.recv(TIMEOUT)

    def ended(self) -> tuple[int, str]:
        with pytest.raises(ConnectionClosed) as closed:
            self._ws.recv(TIMEOUT)
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code, closed.value.rcvd.reason

    def ping(self, data: bytes) -> None:
        assert self._ws.ping(data).wait(TIMEOUT)

    def close(self, code: int, reason: str) -> int:
        self._ws.close(code, reason)
        received = self._ws.protocol.close_rcvd
        assert received is not None
        return received.code

    def drop(self) -> None:
        self._open.close()


class WebsocketClient:
    """``websocket-client``; it has no compression."""

    def __init__(self, url: str, compressed: bool, subprotocols: Sequence[str]) -> None:
        self._ws = websocket.create_connection(
            url, timeout=TIMEOUT, subprotocols=list(subprotocols), http_no_proxy=["*"]
        )
        self.subprotocol = self._ws.getsubprotocol()
        self.compressed = False

    def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._ws.send(message)
        else:
            self._ws.send_binary(message)

    def send_fragments(self, fragments: Sequence[str]) -> None:
        for number, fragment in enumerate(fragments):
            opcode = websocket.ABNF.OPCODE_CONT if number else websocket.ABNF.OPCODE_TEXT
            final = int(number == len(fragments) - 1)
            self._ws.send_frame(websocket.ABNF.create_frame(fragment.encode(), opcode, final))

    def receive(self) -> str | bytes:
        message: str | bytes = self._ws.recv()
        return message

    def ended(self) -> tuple[int, str]:
        opcode, data = self._ws.recv_data()
        assert opcode == websocket.ABNF.OPCODE_CLOSE
        return int.from_bytes(data[:2], "big"), data[2:].decode()

    def ping(self, data: bytes) -> None:
        self._ws.ping(data)
        opcode, frame = self._ws.recv_data_frame(control_frame=True)
        assert (opcode, frame.data) == (websocket.ABNF.OPCODE_PONG, data)

    def close(self, code: int, reason: str) -> int:
        self._ws.send_close(code, reason.encode())
        return self.ended()[0]

    def drop(self) -> None:
        cast(Any, self._ws).shutdown()


class Aiohttp:
    """aiohttp, on a loop of its own; every frame that it sends has the FIN bit."""

    def __init__(self, url: str, compressed: bool, subprotocols: Sequence[str]) -> None:
        self._loop = asyncio.new_event_loop()
        self._url = url
        self._session: aiohttp.ClientSession | None = None
        try:
            self._ws = self._do(self._connect(url, compressed, subprotocols))
        except BaseException:
            self.drop()
            raise
        self.subprotocol = self._ws.protocol
        self.compressed = bool(self._ws.compress)

    async def _connect(self, url: str, compressed: bool, subprotocols: Sequence[str]) -> Any:
        self._session = aiohttp.ClientSession()
        return await self._session.ws_connect(
            url,
            protocols=subprotocols,
            compress=15 if compressed else 0,
            max_msg_size=0,
            autoclose=False,
        )

    def _do(self, work: Any) -> Any:
        return self._loop.run_until_complete(asyncio.wait_for(work, TIMEOUT))

    def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._do(self._ws.send_str(message))
        else:
            self._do(self._ws.send_bytes(message))

    def receive(self) -> str | bytes:
        message = self._do(self._ws.receive())
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        data: str | bytes = message.data
        return data

    def ended(self) -> tuple[int, str]:
        message = self._do(self._ws.receive())
        assert message.type is aiohttp.WSMsgType.CLOSE, message
        return message.data, message.extra

    def ping(self, data: bytes) -> None:
        self._do(self._ping(data))

    async def _ping(self, data: bytes) -> None:
        # PONGs are not shown to who lets PINGs be answered by themselves, as this connection does.
        assert self._session is not None
        async with self._session.ws_connect(self._url, autoping=False) as ws:
            await ws.ping(data)
            answer = await ws.receive()
            assert (answer.type, answer.data) == (aiohttp.WSMsgType.PONG, data)

    def close(self, code: int, reason: str) -> int:
        self._do(self._ws.close(code=code, message=reason.encode()))
        answered: int = self._ws.close_code
        return answered

    def drop(self) -> None:
        if self._session is not None:
            self._do(self._session.close())
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


class NodeWs:
    """node's ``ws``, told what to do line by line."""

    def __init__(self, url: str, compressed: bool, subprotocols: Sequence[str]) -> None:
        node, environment = node_with_ws()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by drop()
        self._process = subprocess.Popen(
            [node, str(HERE / "client.js")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment,
        )
        opened = self._ask("connect", url=url, compressed=compressed, subprotocols=[*subprotocols])
        self.subprotocol = opened["subprotocol"] or None
        self.compressed = "permessage-deflate" in opened["extensions"]

    def _ask(self, verb: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
        self._process.stdin.flush()
        # It gives up by itself, so that this read ends.
        line = self._process.stdout.readline()
        if not line:
            self._stderr.seek(0)
            raise AssertionError(f"node ended: {self._stderr.read().decode()}")
        answer = json.loads(line)
        assert "error" not in answer, answer
        return answer

    def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._ask("send", text=message)
        else:
            self._ask("send", binary=base64.b64encode(message).decode())

    def send_fragments(self, fragments: Sequence[str]) -> None:
        self._ask("fragments", texts=list(fragments))

    def receive(self) -> str | bytes:
        answer = self._ask("receive")
        if "text" in answer:
            text: str = answer["text"]
            return text
        return base64.b64decode(answer["binary"])

    def ended(self) -> tuple[int, str]:
        answer = self._ask("ended")
        return answer["code"], answer["reason"]

    def ping(self, data: bytes) -> None:
        assert base64.b64decode(self._ask("ping", data=data.decode())["pong"]) == data

    def close(self, code: int, reason: str) -> int:
        answered: int = self._ask("close", code=code, reason=reason)["code"]
        return answered

    def drop(self) -> None:
        self._process.kill()
        self._process.wait(TIMEOUT)
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            assert stream is not None
            stream.close()


CLIENTS: dict[str, Any] = {
    "websockets": Websockets,
    "websocket-client": WebsocketClient,
    "aiohttp": Aiohttp,
    "node-ws": NodeWs,
}
