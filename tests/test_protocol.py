"""Protocol: the rules of a connection after its opening handshake, both roles, without sockets."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable

import pytest

from fastws._protocol import Protocol, Session
from fastws.codes import VIOLATIONS, WebSocketState
from fastws.deflate import Deflater, Inflater
from fastws.events import Close, Event, Ping, Pong
from fastws.limits import Limits
from tests.support import TIMEOUT
from tests.wire import (
    BINARY,
    CLOSE,
    CONT,
    KEY,
    PING,
    PONG,
    TEXT,
    Frame,
    bytewise,
    close_payload,
    frame,
    random_cuts,
    read_frames,
)

CONNECTED, CLOSING, DISCONNECTED = (
    WebSocketState.CONNECTED,
    WebSocketState.CLOSING,
    WebSocketState.DISCONNECTED,
)

EOF = b""

ENDS = pytest.mark.parametrize("client", [False, True], ids=["server", "client"])


class End:
    """A Protocol, and the peer's way of writing to it."""

    def __init__(self, client: bool, **options: object) -> None:
        self.protocol = Protocol(client=client, **options)  # type: ignore[arg-type]
        self.client = client

    def frame(self, opcode: int, payload: bytes | str = b"", *, fin: bool = True) -> bytes:
        return frame(opcode, payload, fin=fin, key=None if self.client else KEY)

    def gets(self, *frames: bytes) -> list[object]:
        """Let these come in together; returns what events they make."""
        self.protocol.receive_data(b"".join(frames))
        return [*self.protocol.events_received()]

    def sent(self) -> list[Frame | bytes]:
        """What is to be sent: frames without their masks, and ``b""`` for the end of TCP."""
        pieces = self.protocol.data_to_send()
        assert EOF not in pieces[:-1], "nothing follows the end of our side"
        frames: list[Frame | bytes] = []
        for piece in pieces:
            if piece:
                for read in read_frames(piece):
                    assert (read.key is not None) == self.client
                    frames.append(read._replace(key=None))
            else:
                frames.append(EOF)
        return frames


def close_frame(code: int, reason: str = "") -> Frame:
    return Frame(CLOSE, close_payload(code, reason))


# ------------------------------------------------------------------------------- messages


@ENDS
def test_messages_both_ways(client: bool) -> None:
    end = End(client)
    assert end.protocol.state is CONNECTED
    assert end.gets(end.frame(TEXT, "héllo"), end.frame(BINARY, b"\xff")) == ["héllo", b"\xff"]
    end.protocol.send_text("héllo")
    end.protocol.send_bytes(b"\xff")
    assert end.sent() == [Frame(TEXT, "héllo".encode()), Frame(BINARY, b"\xff")]
    assert end.sent() == []
    assert end.protocol.events_received() == []


@ENDS
@pytest.mark.parametrize("cut", ["bytewise", "random"])
def test_b20_the_cuts_do_not_matter(client: bool, cut: str) -> None:
    source = End(client)
    stream = b"".join(
        [
            source.frame(TEXT, "a", fin=False),
            source.frame(PING, b"1"),
            source.frame(CONT, "b"),
            source.frame(PONG, b"2"),
            source.frame(BINARY, bytes(300)),
            source.frame(CLOSE, close_payload(1001, "gone")),
            source.frame(TEXT, "late"),
        ]
    )
    expected = [Ping(b"1"), "ab", Pong(b"2"), bytes(300), Close(1001, "gone")]
    for seed in range(10):
        end = End(client)
        pieces = bytewise(stream) if cut == "bytewise" else random_cuts(stream, seed)
        events = [event for piece in pieces for event in end.gets(piece)]
        assert events == expected
        end_of_tcp = [] if client else [EOF]
        assert end.sent() == [Frame(PONG, b"1"), close_frame(1001), *end_of_tcp]


@pytest.mark.parametrize("data", [b"utf-8 \xc3\xa9", bytearray(b"abc"), memoryview(b"abc")])
def test_text_may_be_sent_as_utf_8(data: bytes) -> None:
    end = End(client=False)
    end.protocol.send_text(data)
    assert end.sent() == [Frame(TEXT, bytes(data))]


@pytest.mark.parametrize("data", [bytearray(b"abc"), memoryview(b"abcd")[::2], b""])
def test_any_buffer_may_be_sent(data: bytes) -> None:
    end = End(client=False)
    end.protocol.send_bytes(data)
    assert end.sent() == [Frame(BINARY, bytes(data))]


@ENDS
def test_what_cannot_be_sent(client: bool) -> None:
    end = End(client)
    with pytest.raises(ValueError, match="not valid UTF-8"):
        end.protocol.send_text(b"\xff")
    with pytest.raises(ValueError, match="not valid UTF-8"):
        end.protocol.send_text("é".encode()[:1])
    with pytest.raises(UnicodeEncodeError):
        end.protocol.send_text("\ud800")
    with pytest.raises(TypeError, match="str or UTF-8 bytes, not int"):
        end.protocol.send_text(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="bytes, not str"):
        end.protocol.send_bytes("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not list"):
        end.protocol.send_bytes([1])  # type: ignore[arg-type]
    assert end.sent() == []


@ENDS
def test_fragments(client: bool) -> None:
    end = End(client)
    end.protocol.send_text("a", fin=False)
    end.protocol.send_ping(b"between")
    end.protocol.send_continuation("", fin=False)
    end.protocol.send_continuation(b"b", fin=True)
    end.protocol.send_bytes(b"c", fin=False)
    end.protocol.send_continuation(b"d", fin=True)
    end.protocol.send_text("e")
    assert end.sent() == [
        Frame(TEXT, b"a", fin=False),
        Frame(PING, b"between"),
        Frame(CONT, b"", fin=False),
        Frame(CONT, b"b"),
        Frame(BINARY, b"c", fin=False),
        Frame(CONT, b"d"),
        Frame(TEXT, b"e"),
    ]


def test_a_code_point_may_lie_in_two_fragments_but_must_be_whole() -> None:
    end = End(client=False)
    euro = "€".encode()
    end.protocol.send_text(euro[:1], fin=False)
    with pytest.raises(ValueError, match="fragments of the text message"):
        end.protocol.send_continuation(euro[1:2], fin=True)
    with pytest.raises(ValueError, match="fragments of the text message"):
        end.protocol.send_continuation(b"a", fin=False)
    # What was refused left no trace.
    end.protocol.send_continuation(euro[1:], fin=True)
    assert end.sent() == [Frame(TEXT, euro[:1], fin=False), Frame(CONT, euro[1:])]
    # Nor did the message leave one for the next.
    with pytest.raises(ValueError, match="fragments of the text message"):
        end.protocol.send_text(euro[1:], fin=False)
    end.protocol.send_bytes(euro[1:], fin=False)
    end.protocol.send_continuation(euro[:1], fin=True)
    assert end.sent() == [Frame(BINARY, euro[1:], fin=False), Frame(CONT, euro[:1])]


def test_fragments_out_of_order() -> None:
    end = End(client=False)
    with pytest.raises(RuntimeError, match="no message to continue"):
        end.protocol.send_continuation("a", fin=True)
    end.protocol.send_bytes(b"a", fin=False)
    for send in (end.protocol.send_text, end.protocol.send_bytes):
        with pytest.raises(RuntimeError, match="fragmented message is open"):
            send(b"b")
    with pytest.raises(TypeError, match="bytes, not str"):
        end.protocol.send_continuation("b", fin=True)
    assert end.sent() == [Frame(BINARY, b"a", fin=False)]


def test_masking_keys_are_fresh_and_frames_masked_with_them() -> None:
    protocol = Protocol(client=True)
    payloads = [b"m%d" % i for i in range(3000)]
    for payload in payloads:
        protocol.send_bytes(payload)
    protocol.send_ping(b"p")
    protocol.close()
    frames = [read for piece in protocol.data_to_send() for read in read_frames(piece)]
    assert [read.payload for read in frames[:3000]] == payloads
    keys = {read.key for read in frames}
    assert None not in keys
    # Two of 3,002 random keys are the same once in a thousand runs; three never are.
    assert len(keys) >= len(frames) - 1
    for column in range(4):
        assert len({key[column] for key in keys if key is not None}) > 200


def test_masking_keys_are_the_systems_random_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []
    system = os.urandom

    def draw(size: int) -> bytes:
        drawn.append(system(size))
        return drawn[-1]

    monkeypatch.setattr(os, "urandom", draw)
    protocol = Protocol(client=True)
    for _ in range(5000):
        protocol.send_text("")
    keys = [read.key for piece in protocol.data_to_send() for read in read_frames(piece)]
    # The first few are of bytes that were drawn before.
    given = b"".join(drawn)
    first = keys.index(given[:4])
    assert first < 2000
    assert b"".join(key or b"" for key in keys[first:]) == given[: 4 * len(keys[first:])]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_forked_process_does_not_use_the_masking_keys_of_its_parent() -> None:
    def keys() -> set[bytes | None]:
        protocol = Protocol(client=True)
        for _ in range(50):
            protocol.send_ping()
        return {read.key for piece in protocol.data_to_send() for read in read_frames(piece)}

    keys()  # There are random bytes left over to inherit.
    reader, writer = multiprocessing.Pipe(duplex=False)
    child = os.fork()
    if not child:
        try:
            writer.send(keys())
        finally:
            os._exit(0)
    try:
        own = keys()
        assert reader.poll(TIMEOUT)
        assert len(own & reader.recv()) <= 1
    finally:
        os.waitpid(child, 0)
        reader.close()
        writer.close()


# --------------------------------------------------------------------------- PING and PONG


@ENDS
def test_a_ping_is_answered_at_once_and_reported(client: bool) -> None:
    end = End(client)
    assert end.gets(end.frame(PING, b"x" * 125)) == [Ping(b"x" * 125)]
    assert end.sent() == [Frame(PONG, b"x" * 125)]
    assert end.gets(end.frame(PONG, b"stray")) == [Pong(b"stray")]
    assert end.sent() == []


@ENDS
def test_b13_a_ping_between_fragments_is_answered_before_the_message(client: bool) -> None:
    end = End(client)
    assert end.gets(end.frame(TEXT, "a", fin=False), end.frame(PING)) == [Ping(b"")]
    assert end.sent() == [Frame(PONG, b"")]
    assert end.gets(end.frame(CONT, "b")) == ["ab"]


@ENDS
def test_a_ping_is_answered_after_our_close_until_the_peers(client: bool) -> None:
    end = End(client)
    end.protocol.close(1000)
    assert end.gets(end.frame(PING, b"1"), end.frame(TEXT, "dropped"), end.frame(PING, b"2")) == [
        Ping(b"1"),
        Ping(b"2"),
    ]
    assert end.sent() == [close_frame(1000), Frame(PONG, b"1"), Frame(PONG, b"2")]
    assert end.gets(end.frame(CLOSE, close_payload(1000)), end.frame(PING, b"3")) == [
        Close(1000, "")
    ]
    assert end.sent() == ([] if client else [EOF])
    assert end.gets(end.frame(PING, b"4")) == []
    assert end.sent() == []


@ENDS
def test_pings_and_pongs_of_our_own(client: bool) -> None:
    end = End(client)
    end.protocol.send_ping()
    end.protocol.send_ping(bytearray(b"data"))
    end.protocol.send_pong(b"unasked")
    end.protocol.send_pong()
    assert end.sent() == [
        Frame(PING, b""),
        Frame(PING, b"data"),
        Frame(PONG, b"unasked"),
        Frame(PONG, b""),
    ]
    for send in (end.protocol.send_ping, end.protocol.send_pong):
        with pytest.raises(ValueError, match="at most 125 bytes, not 126"):
            send(bytes(126))
        with pytest.raises(TypeError, match="not str"):
            send("text")  # type: ignore[arg-type]


# ------------------------------------------------------------------- the closing handshake


def test_the_peer_closes_a_server() -> None:
    """The server answers and ends TCP first (RFC 6455 section 7.1.1)."""
    end = End(client=False)
    assert end.gets(end.frame(CLOSE, close_payload(4001, "bye"))) == [Close(4001, "bye")]
    assert (end.protocol.close_code, end.protocol.close_reason) == (4001, "bye")
    assert end.sent() == [close_frame(4001), EOF]
    assert end.protocol.state is DISCONNECTED
    assert end.protocol.close_expected
    end.protocol.receive_eof()
    assert end.sent() == []


def test_the_peer_closes_a_client() -> None:
    """The client answers, and leaves ending TCP to the server."""
    end = End(client=True)
    end.gets(end.frame(CLOSE, close_payload(4001)))
    assert end.sent() == [close_frame(4001)]
    assert end.protocol.state is CLOSING
    assert end.protocol.close_expected
    end.protocol.receive_eof()
    assert end.sent() == [EOF]
    assert end.protocol.state is DISCONNECTED
    assert end.protocol.close_code == 4001


@ENDS
def test_we_close(client: bool) -> None:
    end = End(client)
    end.protocol.close(1001, "going away")
    assert end.protocol.state is CLOSING
    assert end.protocol.close_code is None
    assert end.protocol.close_reason is None
    assert not end.protocol.close_expected
    assert end.sent() == [close_frame(1001, "going away")]
    assert end.gets(end.frame(BINARY, b"dropped")) == []
    assert end.gets(end.frame(CLOSE, close_payload(1001))) == [Close(1001, "")]
    assert end.sent() == ([] if client else [EOF])
    assert end.protocol.close_expected
    assert end.protocol.close_code == 1001


@ENDS
def test_both_close_at_once(client: bool) -> None:
    end = End(client)
    end.protocol.close(1000, "ours")
    assert end.gets(end.frame(CLOSE, close_payload(3000, "theirs"))) == [Close(3000, "theirs")]
    assert end.sent() == [close_frame(1000, "ours"), *([] if client else [EOF])]
    assert (end.protocol.close_code, end.protocol.close_reason) == (3000, "theirs")


@ENDS
def test_a_close_without_a_code_is_answered_without_one(client: bool) -> None:
    end = End(client)
    assert end.gets(end.frame(CLOSE)) == [Close(1005, "")]
    assert end.sent()[0] == Frame(CLOSE, b"")
    assert end.protocol.close_code == 1005


@ENDS
def test_a_close_of_ours_without_a_code(client: bool) -> None:
    end = End(client)
    end.protocol.close(None)
    assert end.sent() == [Frame(CLOSE, b"")]


@ENDS
def test_e3_there_is_one_close_whatever_is_called(client: bool) -> None:
    end = End(client)
    end.protocol.close(1000)
    end.protocol.close(1001, "again")
    end.protocol.fail(1011)
    end.gets(end.frame(CLOSE))
    end.protocol.close()
    assert [sent for sent in end.sent() if isinstance(sent, Frame)] == [close_frame(1000)]


@ENDS
@pytest.mark.parametrize(
    ("code", "reason"), [(1005, ""), (999, ""), (5000, ""), (1000, "r" * 124), (None, "why")]
)
def test_e8_a_close_that_must_not_be_sent(client: bool, code: int, reason: str) -> None:
    end = End(client)
    with pytest.raises(ValueError):
        end.protocol.close(code, reason)
    if code is not None:
        with pytest.raises(ValueError):
            end.protocol.fail(code, reason)
    assert end.protocol.state is CONNECTED
    assert end.sent() == []


@ENDS
def test_the_answer_to_a_close_goes_behind_the_answers_to_messages(client: bool) -> None:
    end = End(client)
    events = end.gets(end.frame(TEXT, "question"), end.frame(CLOSE, close_payload(1000)))
    assert events == ["question", Close(1000, "")]
    end.protocol.send_text("answer")
    assert end.sent()[:2] == [Frame(TEXT, b"answer"), close_frame(1000)]
    with pytest.raises(RuntimeError, match="only a CONNECTED one can send"):
        end.protocol.send_text("too late")


@ENDS
def test_it_waits_until_the_events_were_taken(client: bool) -> None:
    end = End(client)
    end.protocol.receive_data(end.frame(PING, b"1") + end.frame(CLOSE))
    assert end.sent() == [Frame(PONG, b"1")]
    assert end.protocol.state is CONNECTED
    assert end.protocol.events_received() == [Ping(b"1"), Close(1005, "")]
    assert end.sent()[0] == Frame(CLOSE, b"")


@ENDS
def test_a_close_called_in_answer_to_the_peers_echoes_it(client: bool) -> None:
    end = End(client)
    end.gets(end.frame(CLOSE, close_payload(3000, "theirs")))
    end.protocol.close(1000, "ours")
    assert end.protocol.state is CLOSING
    assert end.sent()[0] == close_frame(3000)


@ENDS
def test_b14_a_close_inside_a_message_is_echoed_and_ends_it(client: bool) -> None:
    end = End(client)
    stream = [end.frame(TEXT, "a", fin=False), end.frame(CLOSE, close_payload(1000))]
    assert end.gets(*stream, end.frame(CONT, "b")) == [Close(1000, "")]
    assert end.sent()[0] == close_frame(1000)


@ENDS
def test_our_close_inside_a_message_that_we_send(client: bool) -> None:
    end = End(client)
    end.protocol.send_text("a", fin=False)
    end.protocol.close()
    with pytest.raises(RuntimeError, match="the connection is CLOSING"):
        end.protocol.send_continuation("b", fin=True)
    assert end.sent() == [Frame(TEXT, b"a", fin=False), close_frame(1000)]


@ENDS
def test_nothing_is_sent_after_close(client: bool) -> None:
    end = End(client)
    end.protocol.close()
    protocol = end.protocol
    sends: list[Callable[[], None]] = [
        lambda: protocol.send_text("x"),
        lambda: protocol.send_text("x", fin=False),
        lambda: protocol.send_bytes(b"x"),
        lambda: protocol.send_continuation(b"x", fin=True),
        lambda: protocol.send_ping(),
        lambda: protocol.send_pong(),
    ]
    for send in sends:
        with pytest.raises(RuntimeError, match="the connection is CLOSING: only a CONNECTED one"):
            send()
    assert end.sent() == [close_frame(1000)]


# ------------------------------------------------------------------------------ violations


@ENDS
def test_b16_messages_before_a_violation_are_delivered_and_answered_first(client: bool) -> None:
    end = End(client)
    stream = [end.frame(TEXT, "good"), end.frame(TEXT, b"\xff"), end.frame(TEXT, "late")]
    assert end.gets(*stream) == ["good"]
    violation = VIOLATIONS["INVALID_UTF8"]
    assert end.protocol.error is violation
    assert end.protocol.state is CONNECTED
    end.protocol.send_text("answer")
    assert end.sent() == [Frame(TEXT, b"answer"), close_frame(1007, violation.reason), EOF]
    assert end.protocol.state is DISCONNECTED
    assert end.protocol.close_expected
    assert (end.protocol.close_code, end.protocol.close_reason) == (1007, violation.reason)


@ENDS
def test_after_a_violation_nothing_is_read_nor_answered(client: bool) -> None:
    end = End(client)
    end.gets(end.frame(CONT))
    end.sent()
    assert end.gets(end.frame(PING), end.frame(CLOSE), b"\xff" * 100) == []
    assert end.sent() == []
    end.protocol.receive_eof()
    assert end.sent() == []


@ENDS
def test_a_violation_after_our_close_ends_tcp_without_another_close(client: bool) -> None:
    end = End(client)
    end.protocol.close(1000)
    assert end.gets(end.frame(3)) == []
    assert end.sent() == [close_frame(1000), EOF]
    assert end.protocol.close_code == 1002
    assert end.protocol.error is VIOLATIONS["RESERVED_OPCODE"]


def test_b9_each_end_refuses_what_is_masked_wrongly() -> None:
    server = End(client=False)
    assert server.gets(frame(TEXT, "secret", key=None)) == []
    assert server.protocol.error is VIOLATIONS["UNMASKED_FRAME"]
    client = End(client=True)
    assert client.gets(frame(TEXT, "secret", key=KEY)) == []
    assert client.protocol.error is VIOLATIONS["MASKED_FRAME"]


@ENDS
def test_limits_are_those_given(client: bool) -> None:
    end = End(client, limits=Limits(max_size=3, max_fragments=1))
    assert end.gets(end.frame(TEXT, "abc"), end.frame(TEXT, "abcd")) == ["abc"]
    assert end.protocol.error is VIOLATIONS["MESSAGE_TOO_BIG"]
    assert end.sent()[0] == close_frame(1009, "the message is larger than ws-max-size allows")
    end = End(client, limits=Limits(max_size=3, max_fragments=1))
    end.gets(end.frame(TEXT, fin=False), end.frame(CONT))
    assert end.sent()[0] == close_frame(1008, "more fragments than ws-max-fragments allows")


# ------------------------------------------------------------------------------------- fail


@ENDS
def test_fail_sends_close_ends_tcp_and_reads_no_more(client: bool) -> None:
    end = End(client)
    end.protocol.send_text("before")
    end.protocol.fail(1011, "out of order")
    assert end.gets(end.frame(TEXT, "late"), end.frame(PING)) == []
    assert end.sent() == [Frame(TEXT, b"before"), close_frame(1011, "out of order"), EOF]
    assert (end.protocol.close_code, end.protocol.close_reason) == (1011, "out of order")
    assert end.protocol.state is DISCONNECTED
    assert end.protocol.error is None


@ENDS
def test_fail_after_the_peers_close(client: bool) -> None:
    end = End(client)
    end.gets(end.frame(CLOSE, close_payload(1000)))
    end.protocol.fail(1011)
    assert end.sent()[0] == close_frame(1011)
    assert end.protocol.close_code == 1000
    end.protocol.fail(1011)
    assert not any(isinstance(sent, Frame) for sent in end.sent())


# -------------------------------------------------------------------------- the end of TCP


@ENDS
def test_e9_the_end_of_tcp_without_close_is_1006(client: bool) -> None:
    end = End(client)
    end.protocol.receive_data(end.frame(TEXT, "last"))
    end.protocol.receive_eof()
    assert end.protocol.events_received() == ["last"]
    # After a half-close the peer still reads.
    end.protocol.send_text("answer")
    assert end.sent() == [Frame(TEXT, b"answer"), EOF]
    assert (end.protocol.close_code, end.protocol.close_reason) == (1006, "")
    assert end.protocol.state is DISCONNECTED


@ENDS
def test_the_end_of_tcp_in_the_middle_of_a_frame(client: bool) -> None:
    end = End(client)
    assert end.gets(end.frame(TEXT, "whole"), end.frame(TEXT, "cut")[:-1]) == ["whole"]
    end.protocol.receive_eof()
    end.protocol.receive_eof()
    assert end.sent() == [EOF]
    assert end.sent() == []
    assert end.protocol.close_code == 1006
    with pytest.raises(RuntimeError, match="after receive_eof"):
        end.protocol.receive_data(b"")


@ENDS
def test_the_end_of_tcp_after_our_close(client: bool) -> None:
    end = End(client)
    end.protocol.close(1000)
    end.protocol.receive_eof()
    assert end.sent() == [close_frame(1000), EOF]
    assert end.protocol.close_code == 1006


@ENDS
def test_the_end_of_tcp_after_the_peers_close(client: bool) -> None:
    end = End(client)
    end.protocol.receive_data(end.frame(CLOSE, close_payload(1000)))
    end.protocol.receive_eof()
    assert end.protocol.events_received() == [Close(1000, "")]
    assert end.sent() == [close_frame(1000), EOF]
    assert end.protocol.close_code == 1000


@ENDS
def test_sending_after_the_end(client: bool) -> None:
    end = End(client)
    end.protocol.receive_eof()
    end.sent()
    with pytest.raises(RuntimeError, match="the connection is DISCONNECTED"):
        end.protocol.send_text("x")
    end.protocol.close()
    end.protocol.fail(1011)
    assert end.sent() == []


# -------------------------------------------------------------------------- compression


def test_messages_from_the_threshold_on_are_compressed() -> None:
    server = Protocol(inflater=Inflater(15, True), deflater=Deflater(15, True, 6, 8), threshold=20)
    client = Protocol(
        client=True, inflater=Inflater(15, True), deflater=Deflater(15, True, 6, 8), threshold=20
    )
    messages: list[str | bytes] = ["a" * 19, "a" * 20, "é" * 10, b"a" * 19, b"a" * 20, "a" * 20]
    for here, there in ((server, client), (client, server)):
        for message in messages:
            if isinstance(message, str):
                here.send_text(message)
            else:
                here.send_bytes(message)
        here.send_text("a" * 20, fin=False)
        here.send_continuation("a" * 20, fin=True)
        data = b"".join(here.data_to_send())
        assert [read.rsv for read in read_frames(data)] == [0, 4, 4, 0, 4, 4, 0, 0]
        there.receive_data(data)
        assert there.events_received() == [*messages, "a" * 40]


def test_corrupt_compressed_data_is_1007() -> None:
    protocol = Protocol(inflater=Inflater(15, True))
    protocol.receive_data(frame(TEXT, b"\xff\xff\xff", rsv=4))
    assert protocol.close_code == 1007
    assert protocol.error is VIOLATIONS["INVALID_DEFLATE"]


# --------------------------------------------------------------------------------- the API


def test_a_protocol_that_was_never_connected() -> None:
    protocol = Protocol(connecting=True)
    assert protocol.state is WebSocketState.CONNECTING
    assert protocol.error is None
    assert not protocol.close_expected
    with pytest.raises(NotImplementedError):
        protocol.receive_data(b"GET")
    with pytest.raises(RuntimeError, match="the connection is CONNECTING"):
        protocol.send_text("x")
    with pytest.raises(RuntimeError, match="the opening handshake is not done"):
        protocol.close()
    assert protocol.data_to_send() == []
    protocol.fail(1011)
    assert protocol.state is DISCONNECTED
    assert protocol.close_code == 1006
    assert protocol.data_to_send() == [EOF]
    protocol.receive_data(b"ignored")
    protocol.fail(1011)
    assert protocol.data_to_send() == []
    assert protocol.events_received() == []


def test_a_protocol_made_without_its_constructor_is_harmless() -> None:
    protocol = Protocol.__new__(Protocol)
    assert protocol.state is WebSocketState.CONNECTING
    assert protocol.events_received() == []
    with pytest.raises(RuntimeError):
        protocol.send_text("x")


def test_it_is_a_session() -> None:
    assert issubclass(Protocol, Session)


@ENDS
def test_buffers_are_taken_and_copied(client: bool) -> None:
    end = End(client)
    data = bytearray(end.frame(TEXT, "abc"))
    half = memoryview(data)[:5]
    end.protocol.receive_data(half)
    rest = bytes(data[5:])
    half.release()
    data[:] = bytes(len(data))
    assert end.gets(rest) == ["abc"]
    with pytest.raises(TypeError):
        end.protocol.receive_data("text")  # type: ignore[arg-type]


def test_messages_are_not_kept() -> None:
    protocol = Protocol()
    protocol.receive_data(frame(BINARY, bytes(1000)))
    (message,) = protocol.events_received()
    assert sys.getrefcount(message) <= 2
    protocol.send_bytes(bytes(1000))
    (piece,) = protocol.data_to_send()
    assert sys.getrefcount(piece) <= 2


def echoed(server: Protocol, client: Protocol, messages: list[Event]) -> list[Event]:
    """What comes back to the client of ``messages`` through an echo on the server."""
    for message in messages:
        if isinstance(message, str):
            client.send_text(message)
        elif isinstance(message, bytes):
            client.send_bytes(message)
    for piece in client.data_to_send():
        server.receive_data(piece)
    for event in server.events_received():
        if isinstance(event, str):
            server.send_text(event)
        elif isinstance(event, bytes):
            server.send_bytes(event)
    for piece in server.data_to_send():
        client.receive_data(piece)
    return [event for event in client.events_received() if isinstance(event, (str, bytes))]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 300_000])
def test_an_echo(size: int) -> None:
    messages: list[Event] = ["x" * size, b"\xff" * size, "é" * (size // 2)]
    assert echoed(Protocol(), Protocol(client=True), messages) == messages
