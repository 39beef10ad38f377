"""Two Protocols that talk to each other in any way their API allows: what always holds."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastws._protocol import Protocol
from fastws.codes import WebSocketState
from fastws.deflate import Deflater, Inflater
from fastws.events import Close
from tests.wire import CLOSE, CONT, PING, PONG, read_frame

CONNECTED, DISCONNECTED = WebSocketState.CONNECTED, WebSocketState.DISCONNECTED


class End:
    """One Protocol, what it has sent and received, and what is on its way to it."""

    def __init__(self, client: bool, deflate: bool) -> None:
        self.protocol = Protocol(
            client=client,
            inflater=Inflater(15, True) if deflate else None,
            deflater=Deflater(15, True, 1, 5) if deflate else None,
            threshold=4,
        )
        self.wire = b""  # written by this end, not yet read by the other
        self.ended = False  # this end has ended its side of TCP
        self.eof_given = False  # ... and the other knows
        self.written = b""  # all of it
        self.sent: list[str | bytes] = []
        self.got: list[str | bytes] = []
        self.close: Close | None = None  # the CLOSE it received

    def write(self) -> None:
        for piece in self.protocol.data_to_send():
            assert not self.ended, "nothing follows the end of our side"
            self.wire += piece
            self.written += piece
            self.ended = piece == b""

    def read(self) -> None:
        for event in self.protocol.events_received():
            assert self.close is None, "nothing is delivered after CLOSE"
            if isinstance(event, (str, bytes)):
                self.got.append(event)
            elif isinstance(event, Close):
                self.close = event


ENDS = st.sampled_from(["server", "client"])


class Conversation(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ends: dict[str, End] = {}

    @rule(deflate=st.booleans())
    @precondition(lambda self: not self.ends)
    def connect(self, deflate: bool) -> None:
        self.ends = {"server": End(False, deflate), "client": End(True, deflate)}

    def act(self, name: str, action: Callable[[End], None]) -> None:
        if not self.ends:
            return
        end = self.ends[name]
        if end.protocol.state is CONNECTED:
            action(end)

    @rule(name=ENDS, message=st.text(max_size=8) | st.binary(max_size=8))
    def send(self, name: str, message: str | bytes) -> None:
        def action(end: End) -> None:
            if isinstance(message, str):
                end.protocol.send_text(message)
            else:
                end.protocol.send_bytes(message)
            end.sent.append(message)

        self.act(name, action)

    @rule(name=ENDS, parts=st.lists(st.binary(max_size=3), min_size=1, max_size=3))
    def send_fragments(self, name: str, parts: list[bytes]) -> None:
        def action(end: End) -> None:
            end.protocol.send_bytes(parts[0], fin=False)
            for part in parts[1:]:
                end.protocol.send_continuation(part, fin=False)
            end.protocol.send_ping(b"between")
            end.protocol.send_continuation(b"", fin=True)
            end.sent.append(b"".join(parts))

        self.act(name, action)

    @rule(name=ENDS, ping=st.booleans())
    def send_control(self, name: str, ping: bool) -> None:
        def action(end: End) -> None:
            (end.protocol.send_ping if ping else end.protocol.send_pong)(b"control")

        self.act(name, action)

    @rule(name=ENDS, code=st.sampled_from([None, 1000, 1001, 3000]))
    def close(self, name: str, code: int | None) -> None:
        if self.ends:
            self.ends[name].protocol.close(code)

    @rule(name=ENDS)
    def fail(self, name: str) -> None:
        if self.ends:
            self.ends[name].protocol.fail(1011, "failed")

    @rule(name=ENDS, before_writing=st.booleans())
    def look(self, name: str, before_writing: bool) -> None:
        """Events may be taken before what is to be sent, or after."""
        if self.ends:
            if before_writing:
                self.ends[name].read()
            self.ends[name].write()
            self.ends[name].read()

    @rule(name=ENDS, size=st.integers(1, 40))
    def carry(self, name: str, size: int) -> None:
        if self.ends:
            source = self.ends[name]
            target = self.ends["client" if name == "server" else "server"]
            if source.wire:
                target.protocol.receive_data(source.wire[:size])
                source.wire = source.wire[size:]
            elif source.ended and not source.eof_given:
                source.eof_given = True
                target.protocol.receive_eof()

    @invariant()
    def messages_arrive_in_order_and_unchanged(self) -> None:
        for end, other in self.pairs():
            assert end.got == other.sent[: len(end.got)]
            assert end.protocol.error is None

    @invariant()
    def an_end_sends_one_close_and_nothing_but_pongs_after_it(self) -> None:
        for end, _ in self.pairs():
            data, closed = end.written, False
            while data:
                found = read_frame(data)
                assert found is not None
                read, data = found
                assert not closed or read.opcode == PONG
                assert read.opcode in (CONT, 1, 2, PING, PONG, CLOSE)
                closed = closed or read.opcode == CLOSE

    def pairs(self) -> list[tuple[End, End]]:
        if not self.ends:
            return []
        server, client = self.ends["server"], self.ends["client"]
        return [(server, client), (client, server)]

    def teardown(self) -> None:
        """Once one end closes and all is carried, both are at their end and know why."""
        if not self.ends:
            return
        self.close("server", 1000)
        for _ in range(8):
            for name, end in self.ends.items():
                end.read()
                end.write()
                while end.wire:
                    self.carry(name, 1000)
                self.carry(name, 1)
        for end, other in self.pairs():
            assert end.protocol.state is DISCONNECTED
            assert end.protocol.close_expected
            assert end.ended
            assert end.protocol.close_code is not None
            # A message is lost only if its receiver had closed, or failed, before it came.
            if end.got != other.sent:
                data, closes = end.written, 0
                while data:
                    found = read_frame(data)
                    assert found is not None
                    closes += found[0].opcode == CLOSE
                    data = found[1]
                assert closes == 1
        self.messages_arrive_in_order_and_unchanged()
        self.an_end_sends_one_close_and_nothing_but_pongs_after_it()


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=100, stateful_step_count=40)
