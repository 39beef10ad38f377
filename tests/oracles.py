"""What two other implementations make of a stream of frames, in the terms of tests/wire.py.

They judge ours, in tests only. Where they are known to be wrong, robustness is on our side; the
tests that use them say where.
"""

from __future__ import annotations

from typing import NamedTuple

from websockets.exceptions import ConnectionClosedError
from websockets.extensions import Extension as WebsocketsExtension
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.protocol import CLIENT, SERVER, State
from websockets.protocol import Protocol as WebsocketsProtocol
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, TextMessage
from wsproto.events import Ping as WsprotoPing
from wsproto.events import Pong as WsprotoPong
from wsproto.extensions import Extension as WsprotoExtension
from wsproto.extensions import PerMessageDeflate as WsprotoDeflate
from wsproto.utilities import RemoteProtocolError

from fastws.events import Close, Event, Ping, Pong
from tests.wire import CLOSE, CONT, PING, PONG, TEXT


class Verdict(NamedTuple):
    """What an oracle made of a stream: its events, and the close code of the error it found."""

    events: list[Event]
    code: int | None = None


class Deflate(NamedTuple):
    """permessage-deflate as negotiated, for the direction that is read."""

    takeover: bool
    bits: int


def websockets_verdict(
    data: bytes,
    *,
    client: bool = False,
    max_size: int | None = None,
    deflate: Deflate | None = None,
) -> Verdict:
    """The verdict of ``websockets``, which hands out frames: they are put together here."""
    protocol = WebsocketsProtocol(CLIENT if client else SERVER, state=State.OPEN, max_size=max_size)
    if deflate is not None:
        extension: WebsocketsExtension = PerMessageDeflate(
            remote_no_context_takeover=not deflate.takeover,
            local_no_context_takeover=True,
            remote_max_window_bits=deflate.bits,
            local_max_window_bits=15,
        )
        protocol.extensions = [extension]
    protocol.receive_data(data)
    events: list[Event] = []
    kind, body = 0, b""
    for frame in protocol.events_received():
        assert isinstance(frame, Frame)
        payload = bytes(frame.data)
        opcode = int(frame.opcode)
        if opcode == PING:
            events.append(Ping(payload))
        elif opcode == PONG:
            events.append(Pong(payload))
        elif opcode == CLOSE:
            assert protocol.close_rcvd is not None
            events.append(Close(protocol.close_rcvd.code, protocol.close_rcvd.reason))
        else:
            if opcode != CONT:
                kind, body = opcode, b""
            body += payload
            if frame.fin:
                try:
                    events.append(body.decode() if kind == TEXT else body)
                except UnicodeDecodeError:
                    return Verdict(events, 1007)
    error = protocol.parser_exc
    if error is None:
        return Verdict(events)
    assert protocol.close_sent is not None or isinstance(error, ConnectionClosedError)
    return Verdict(events, protocol.close_sent.code if protocol.close_sent else None)


class _NegotiatedDeflate(WsprotoDeflate):
    """wsproto's, negotiated without a handshake."""

    def __init__(self, deflate: Deflate, client: bool) -> None:
        super().__init__()
        self._enabled = True
        if client:
            self.server_no_context_takeover = not deflate.takeover
            self.server_max_window_bits = deflate.bits
        else:
            self.client_no_context_takeover = not deflate.takeover
            self.client_max_window_bits = deflate.bits


def wsproto_verdict(
    data: bytes, *, client: bool = False, deflate: Deflate | None = None
) -> Verdict:
    """The verdict of ``wsproto``, which knows no limits."""
    extensions: list[WsprotoExtension] = []
    if deflate is not None:
        extensions.append(_NegotiatedDeflate(deflate, client))
    connection = Connection(ConnectionType.CLIENT if client else ConnectionType.SERVER, extensions)
    connection.receive_data(data)
    events: list[Event] = []
    text, binary = "", b""
    try:
        for event in connection.events():
            if isinstance(event, TextMessage):
                text += event.data
            elif isinstance(event, BytesMessage):
                binary += event.data
            elif isinstance(event, WsprotoPing):
                events.append(Ping(bytes(event.payload)))
            elif isinstance(event, WsprotoPong):
                events.append(Pong(bytes(event.payload)))
            elif isinstance(event, CloseConnection):
                # The peer's CLOSE, or what is to be answered to its violation.
                if connection.state is ConnectionState.OPEN:
                    return Verdict(events, int(event.code))
                events.append(Close(int(event.code), event.reason or ""))
                break
            if isinstance(event, Message) and event.message_finished:
                events.append(text if isinstance(event, TextMessage) else binary)
                text, binary = "", b""
    except RemoteProtocolError as error:
        hint = error.event_hint
        return Verdict(events, int(hint.code) if isinstance(hint, CloseConnection) else 1002)
    return Verdict(events)
