"""B1 to B20: what may go wrong in the frames of a connection, each row over real TCP and TLS."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from fastws import FastWS, WebSocket, WebSocketDisconnect
from tests.connections import steps
from tests.robustness.client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Peer,
    build,
    close_frame,
    measured,
    only_plain,
    serving,
    websocket,
)
from tests.support import TIMEOUT, run

pytestmark = pytest.mark.usefixtures("wire")

KIB = 1024
MIB = 1024 * KIB
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"


class Echo:
    """An application that sends messages back as they came, and remembers them."""

    def __init__(self) -> None:
        self.app = FastWS()
        self.messages: list[str | bytes] = []
        self.ends: list[tuple[int, str]] = []

        @self.app.websocket("/")
        async def echo(ws: WebSocket) -> None:
            await ws.accept()
            try:
                while True:
                    event = await ws.receive()
                    if event["type"] == "websocket.disconnect":
                        self.ends.append((event["code"], event["reason"]))
                        return
                    message = event["text"] if "text" in event else event["bytes"]
                    self.messages.append(message)
                    await (ws.send_text if isinstance(message, str) else ws.send_bytes)(message)
            except WebSocketDisconnect as end:
                self.ends.append((end.code, end.reason))


@contextlib.asynccontextmanager
async def echoing(*headers: str, **options: Any) -> AsyncIterator[tuple[Peer, Echo]]:
    """A connection to an Echo; the server must still serve others afterwards."""
    echo = Echo()
    async with serving(echo.app, **options) as server:
        async with websocket(server, "/", *headers) as peer:
            yield peer, echo
        async with websocket(server) as other:
            await other.send(build(b"!"))
            await other.expect((TEXT, b"!"))
            await other.end()


def refused(
    data: bytes,
    code: int,
    *headers: str,
    echoed: tuple[tuple[int, bytes], ...] = (),
    **options: Any,
) -> str:
    """``data`` must end the connection with ``code``; the reason.

    Parameters:
        echoed: the frames that come back before.
    """

    async def main() -> str:
        async with echoing(*headers, **options) as (peer, echo):
            await peer.send(data)
            await peer.expect(*echoed)
            got, reason = await peer.ended()
            assert got == code, f"{got}: {reason}"
            delivered = [as_sent(message) for message in echo.messages]
            assert delivered == [frame for frame in echoed if frame[0] != PONG]
            assert echo.ends == [(code, reason)]
            return reason

    return run(main())


def accepted(data: bytes, *expected: tuple[int, bytes], **options: Any) -> None:
    """``data`` must be answered with the frames ``expected``, and the connection go on."""

    async def main() -> None:
        async with echoing(**options) as (peer, echo):
            await peer.send(data)
            await peer.expect(*expected)
            delivered = [as_sent(message) for message in echo.messages]
            assert delivered == [frame for frame in expected if frame[0] != PONG]
            await peer.end()
            assert echo.ends == [(1000, "")]

    run(main())


def as_sent(message: str | bytes) -> tuple[int, bytes]:
    return (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)


def fragmented(*pieces: bytes, opcode: int = TEXT) -> bytes:
    """A message in fragments."""
    last = len(pieces) - 1
    return b"".join(
        build(piece, opcode if number == 0 else CONTINUATION, fin=number == last)
        for number, piece in enumerate(pieces)
    )


# B1: lengths with the top bit


@pytest.mark.parametrize("length", [1 << 63, (1 << 63) + 5, (1 << 64) - 1])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_b01_a_length_with_the_top_bit(length: int, opcode: int) -> None:
    refused(build(b"x", opcode, length=length), 1002)


@pytest.mark.parametrize("length", [1 << 63, (1 << 64) - 8])
@pytest.mark.parametrize("max_size", [8, None])
def test_b01_a_length_with_the_top_bit_that_a_sum_would_hide(
    length: int, max_size: int | None
) -> None:
    data = build(b"12345678", fin=False) + build(b"", CONTINUATION, length=length)
    refused(data, 1002, ws_max_size=max_size)


# B2 to B4: sizes


@pytest.mark.parametrize("length", [MIB + 1, 1 << 32, (1 << 63) - 1])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_b02_a_length_that_is_never_completed(length: int, opcode: int) -> None:
    reason = refused(build(b"the beginning", opcode, length=length), 1009)
    assert "ws-max-size" in reason


@only_plain("it is about the memory or the time of what is above TCP")
def test_b02_a_length_that_is_never_completed_allocates_nothing() -> None:
    async def main() -> None:
        with measured() as server:
            usual, _ = await server.peak_of(build(b"x", length=MIB + 1))
            for length in (1 << 31, (1 << 63) - 1):
                peak, frames = await server.peak_of(build(b"x" * 100, BINARY, length=length))
                assert [frame.opcode for frame in frames] == [CLOSE]
                assert peak - usual <= 64 * KIB

    run(main())


@only_plain("it is about the memory or the time of what is above TCP")
def test_b02_a_length_within_the_limit_allocates_only_what_arrives() -> None:
    async def main() -> None:
        with measured("--ws-max-size", "none") as server:
            for length in (MIB, 1 << 40, (1 << 63) - 1):
                async with websocket(server) as peer:
                    before, _ = await server.traced()
                    _, usual_peak = await server.traced()
                    # The answer to the PING tells that the rest was read.
                    await peer.send(build(b"", PING) + build(b"x" * 1000, BINARY, length=length))
                    await peer.expect((PONG, b""))
                    now, peak = await server.traced()
                    assert now - before <= 64 * KIB
                    assert peak - usual_peak <= 64 * KIB

    run(main())


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("limit", [1, 125, 126, 65535, 65536, MIB])
def test_b03_exactly_the_limit(opcode: int, limit: int) -> None:
    payload = b"x" * limit
    accepted(build(payload, opcode), (opcode, payload), ws_max_size=limit)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("limit", [1, 125, 126, 65535, 65536, MIB])
def test_b03_one_byte_more_than_the_limit(opcode: int, limit: int) -> None:
    # Decided on the header: there is no payload.
    refused(build(b"", opcode, length=limit + 1), 1009, ws_max_size=limit)


def test_b04_legal_fragments_whose_sum_is_the_limit() -> None:
    data = fragmented(b"a" * 400, b"b" * 600, b"", b"c" * 24)
    accepted(data, (TEXT, b"a" * 400 + b"b" * 600 + b"c" * 24), ws_max_size=1024)


@pytest.mark.parametrize("last", [1, 25, 1 << 40])
def test_b04_legal_fragments_whose_sum_exceeds_the_limit(last: int) -> None:
    data = fragmented(b"a" * 400, b"b" * 600, b"c" * 24, b"")[: -len(build())]
    data += build(b"", CONTINUATION, length=last)
    refused(data, 1009, ws_max_size=1024)


# B5 to B8: many small pieces


def test_b05_131000_fragments_of_one_byte() -> None:
    async def main() -> None:
        async with echoing() as (peer, echo):
            first, rest = build(b"x", fin=False), build(b"x", CONTINUATION, fin=False)
            sending = asyncio.create_task(peer.send(first + rest * 130_999))
            code, reason = await peer.ended()
            await asyncio.gather(sending, return_exceptions=True)
            assert code == 1008
            assert "ws-max-fragments" in reason
            assert echo.messages == []

    run(main())


def test_b06_endless_empty_fragments() -> None:
    async def main() -> None:
        async with echoing() as (peer, echo):
            ended = asyncio.Event()

            async def send() -> None:
                await peer.send(build(b"", fin=False))
                while not ended.is_set():
                    await peer.send(build(b"", CONTINUATION, fin=False) * 1000)

            sending = asyncio.create_task(send())
            code, _ = await peer.ended()
            ended.set()
            await asyncio.gather(sending, return_exceptions=True)
            assert code == 1008
            assert echo.messages == []

    run(main())


@pytest.mark.parametrize("piece", [b"x", b""])
def test_b06_as_many_fragments_as_allowed(piece: bytes) -> None:
    accepted(fragmented(*[piece] * 4096), (TEXT, piece * 4096))


@pytest.mark.parametrize("piece", [b"x", b""])
def test_b06_one_fragment_more_than_allowed(piece: bytes) -> None:
    refused(fragmented(*[piece] * 4097), 1008)


async def cpu_of_fragments(count: int) -> float:
    """Processor time of a server for a message of ``count`` fragments of one byte."""
    with measured("--ws-max-fragments", "none", "--ws-max-size", "16MiB", tracing=False) as server:
        async with websocket(server) as peer:
            before = server.cpu()
            await peer.send(build(b"x", BINARY, fin=False))
            some = build(b"x", CONTINUATION, fin=False) * 1024
            for _ in range(count // 1024):
                await peer.send(some)
            await peer.send(build(b"", CONTINUATION))
            # The answer takes its time: it comes in one piece.
            assert await peer.frame() == (BINARY, b"x" * (1 + count))
            return server.cpu() - before


@only_plain("it is about the memory or the time of what is above TCP")
@pytest.mark.slow
@pytest.mark.measures
def test_b07_1_mib_in_fragments_of_one_byte_takes_linear_time() -> None:
    async def main() -> None:
        small, large = await cpu_of_fragments(MIB), await cpu_of_fragments(4 * MIB)
        # Four times as many: a quadratic algorithm would take sixteen times as long.
        assert large < 8 * max(small, 0.05), f"{small} s, then {large} s"

    run(main(), timeout=24 * TIMEOUT)


@only_plain("it is about the memory or the time of what is above TCP")
@pytest.mark.measures
def test_b07_1_mib_in_fragments_of_one_byte_takes_twice_the_memory() -> None:
    async def main() -> None:
        with measured("--ws-max-fragments", "none") as server:
            async with websocket(server) as peer:
                before, _ = await server.traced()
                await peer.send(build(b"x", BINARY, fin=False))
                some = build(b"x", CONTINUATION, fin=False) * 1024
                for _ in range(1023):
                    await peer.send(some)
                await peer.send(build(b"", PING))
                await peer.expect((PONG, b""))
                now, _ = await server.traced()
                assert now - before <= 2 * MIB + 64 * KIB

    run(main())


@only_plain("it is about the memory or the time of what is above TCP")
@pytest.mark.parametrize(("size", "step"), [(64 * KIB, 1), (512 * KIB, 509)])
def test_b08_a_dribbled_frame_takes_twice_its_size(size: int, step: int) -> None:
    payload = random.Random(size).randbytes(size)
    frame = build(payload, BINARY)

    async def main() -> None:
        with measured() as server:
            async with websocket(server) as peer:
                before, _ = await server.traced()
                _, usual_peak = await server.traced()
                for start in range(0, len(frame) - 1, step):
                    await peer.send(frame[start : min(start + step, len(frame) - 1)])
                    await asyncio.sleep(0)
                now, peak = await server.traced()
                while now - before < size:  # a part is still on its way
                    now, later_peak = await server.traced()
                    peak = max(peak, later_peak)
                assert now - before <= 2 * size
                assert peak - usual_peak <= 2 * size
                await peer.send(frame[-1:])
                await peer.expect((BINARY, payload))

    run(main())


# B9 to B12: headers


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
def test_b09_an_unmasked_frame(opcode: int) -> None:
    refused(build(b"\x03\xe8", opcode, masked=False), 1002)


def test_b09_an_unmasked_frame_is_refused_before_its_payload() -> None:
    refused(build(b"", TEXT, masked=False, length=100), 1002)


def test_b09_an_unmasked_continuation() -> None:
    refused(build(b"a", fin=False) + build(b"b", CONTINUATION, masked=False), 1002)


@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG, CLOSE])
def test_b10_a_reserved_bit(rsv: int, opcode: int) -> None:
    # The first two bytes tell; the rest never comes.
    refused(build(b"", opcode, rsv=rsv)[:2], 1002)


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("fin", [True, False])
def test_b10_a_reserved_opcode(opcode: int, fin: bool) -> None:
    refused(build(b"", opcode, fin=fin)[:2], 1002)


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_b10_a_fragmented_control_frame(opcode: int) -> None:
    refused(build(b"", opcode, fin=False)[:2], 1002)


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("length", [126, 65536])
def test_b10_a_control_frame_of_more_than_125_bytes(opcode: int, length: int) -> None:
    refused(build(b"", opcode, length=length)[:2], 1002)


def test_b10_a_control_frame_of_125_bytes() -> None:
    accepted(build(b"x" * 125, PING), (PONG, b"x" * 125))


@pytest.mark.parametrize("rsv", [1, 2, 3, 5, 6, 7])
def test_b11_another_reserved_bit_with_deflate_on(rsv: int) -> None:
    refused(build(b"", TEXT, rsv=rsv)[:2], 1002, DEFLATE, ws_per_message_deflate="dedicated")


@pytest.mark.parametrize("opcode", [CONTINUATION, PING, PONG, CLOSE])
def test_b11_rsv1_on_continuation_or_control_with_deflate_on(opcode: int) -> None:
    data = build(b"", TEXT, rsv=4, fin=False) + build(b"", opcode, rsv=4)[:2]
    refused(data, 1002, DEFLATE, ws_per_message_deflate="dedicated")


def test_b11_rsv1_if_deflate_was_not_negotiated() -> None:
    refused(build(b"", TEXT, rsv=4)[:2], 1002, ws_per_message_deflate="dedicated")


@pytest.mark.parametrize("fin", [True, False])
def test_b12_a_continuation_with_nothing_open(fin: bool) -> None:
    refused(build(b"x", CONTINUATION, fin=fin), 1002)


def test_b12_a_continuation_behind_a_whole_message() -> None:
    data = fragmented(b"a", b"b") + build(b"c", CONTINUATION)
    refused(data, 1002, echoed=((TEXT, b"ab"),))


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("first", [b"", b"a"])
@pytest.mark.parametrize("between", [b"", build(b"", CONTINUATION, fin=False)])
def test_b12_a_new_message_inside_a_message(opcode: int, first: bytes, between: bytes) -> None:
    refused(build(first, fin=False) + between + build(b"b", opcode), 1002)


# B13, B14: control frames inside a message


def test_b13_a_ping_between_fragments_is_answered_at_once() -> None:
    async def main() -> None:
        async with echoing() as (peer, echo):
            await peer.send(build(b"one ", fin=False) + build(b"here?", PING))
            await peer.expect((PONG, b"here?"))
            assert echo.messages == []
            await peer.send(build(b"two ", CONTINUATION, fin=False) + build(b"", PING))
            await peer.expect((PONG, b""))
            await peer.send(build(b"three", CONTINUATION))
            await peer.expect((TEXT, b"one two three"))
            await peer.end()

    run(main())


def test_b13_control_frames_between_fragments_in_one_segment() -> None:
    data = build("ä".encode()[:1], fin=False) + build(b"p", PING) + build(b"q", PONG)
    data += build("ä".encode()[1:], CONTINUATION)
    accepted(data, (PONG, b"p"), (TEXT, "ä".encode()))


def test_b14_a_close_between_fragments() -> None:
    data = build(b"a", fin=False) + close_frame(3000, b"enough") + build(b"b", CONTINUATION)

    async def main() -> None:
        async with echoing() as (peer, echo):
            await peer.send(data)
            assert await peer.ended() == (3000, "")
            assert echo.messages == []
            assert echo.ends == [(3000, "enough")]

    run(main())


# B15, B16: CLOSE and what follows it


def closed(data: bytes, code: int) -> None:
    """``data``, which begins with a CLOSE, must be answered with a CLOSE that has ``code``."""

    async def main() -> None:
        async with echoing() as (peer, echo):
            await peer.send(data)
            got, reason = await peer.ended()
            assert got == code, f"{got}: {reason}"
            assert echo.messages == []

    run(main())


def test_b15_a_close_of_one_byte() -> None:
    closed(build(b"\x03", CLOSE), 1002)


@pytest.mark.parametrize(
    "code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 9999, 65535]
)
def test_b15_a_close_with_a_code_that_must_not_be(code: int) -> None:
    closed(close_frame(code), 1002)
    closed(close_frame(code, b"with a reason"), 1002)


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]
)
def test_b15_a_close_with_a_valid_code(code: int) -> None:
    closed(close_frame(code), code)
    closed(close_frame(code, "ä reason".encode()), code)


def test_b15_a_close_without_a_code() -> None:
    closed(close_frame(None), 1005)


@pytest.mark.parametrize(
    "reason", [b"\xff", b"x\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"]
)
def test_b15_a_close_with_a_reason_that_is_not_utf8(reason: bytes) -> None:
    closed(close_frame(1000, reason), 1007)


def test_b15_the_longest_reason() -> None:
    closed(close_frame(1000, b"x" * 123), 1000)


FOLLOWERS = [
    build(b"a message"),
    build(b"", PING),
    close_frame(3001),
    build(b"", 15, rsv=7),
    b"\xff" * 20,
    build(b"", length=1 << 62),
    build(b"\xff"),
]


@pytest.mark.parametrize("follower", FOLLOWERS)
def test_b16_anything_after_a_close_is_ignored(follower: bytes) -> None:
    closed(close_frame(1000) + follower, 1000)


def test_b16_anything_after_a_close_in_a_later_read_is_ignored() -> None:
    async def main() -> None:
        async with echoing() as (peer, echo):
            await peer.send(close_frame(1001))
            # One to write, one to poll, one to read; over TLS the server has ended it by then.
            await steps(4)
            await peer.send_if_possible(b"".join(FOLLOWERS))
            assert await peer.ended() == (1001, "")
            assert echo.messages == []
            assert echo.ends == [(1001, "")]

    run(main())


@pytest.mark.parametrize("follower", FOLLOWERS)
def test_b16_anything_after_an_error_is_ignored(follower: bytes) -> None:
    refused(build(b"x", 15) + follower, 1002)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [(build(b"", 15), 1002), (build(b"\xff"), 1007), (build(b"", length=1 << 40), 1009)],
)
def test_b16_messages_before_an_error_in_the_same_read_are_answered_before_the_close(
    wrong: bytes, code: int
) -> None:
    messages = [(TEXT, b"one"), (BINARY, b"two"), (TEXT, b"three")]
    data = b"".join(build(payload, opcode) for opcode, payload in messages) + wrong
    refused(data, code, echoed=tuple(messages))


def test_b16_more_messages_than_the_queue_holds_before_an_error_are_answered() -> None:
    messages = [(TEXT, str(number).encode()) for number in range(100)]
    data = b"".join(build(payload) for _, payload in messages) + build(b"", 15)
    refused(data, 1002, echoed=tuple(messages))


def test_b16_a_handler_that_takes_no_message_delays_the_close_for_a_bounded_time() -> None:
    app = FastWS()

    @app.websocket("/")
    async def busy(ws: WebSocket) -> None:
        await ws.accept()
        await asyncio.Event().wait()

    async def main() -> None:
        async with serving(
            app, ws_close_timeout=TIMEOUT / 10, timeout_graceful_shutdown=TIMEOUT / 50
        ) as server:
            async with websocket(server) as peer:
                await peer.send(build(b"never received") + build(b"", 15))
                assert (await peer.ended())[0] == 1002

    run(main())


# B17, B18: UTF-8

INVALID = {
    "a byte that never occurs": b"\xff",
    "a continuation byte alone": b"\x80",
    "overlong, two bytes": b"\xc0\xaf",
    "overlong, three bytes": b"\xe0\x9f\xbf",
    "overlong, four bytes": b"\xf0\x8f\xbf\xbf",
    "a surrogate": b"\xed\xa0\x80",
    "the last surrogate": b"\xed\xbf\xbf",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
}
TRUNCATED = {"two bytes": b"\xc3", "three bytes": b"\xe2\x82", "four bytes": b"\xf0\x9f\x98"}
VALID = "ASCII \x00\x7f, \x80 ÿ ߿ \u0800 ꯍ \ud7ff \ue000 \uffff 𐀀 😀 \U0010ffff".encode()


@pytest.mark.parametrize("before", [b"", b"ascii", "größer 😀".encode() * 20])
@pytest.mark.parametrize("wrong", INVALID.values(), ids=INVALID)
def test_b17_bad_utf8_at_the_end_of_a_frame(before: bytes, wrong: bytes) -> None:
    refused(build(before + wrong), 1007)


@pytest.mark.parametrize("wrong", INVALID.values(), ids=INVALID)
def test_b17_bad_utf8_in_a_fragment_ends_the_connection_before_the_last(wrong: bytes) -> None:
    refused(build(b"fine", fin=False) + build(b"so far" + wrong, CONTINUATION, fin=False), 1007)


@pytest.mark.parametrize("wrong", INVALID.values(), ids=INVALID)
def test_b17_bad_utf8_inside_a_frame_still_arriving(wrong: bytes) -> None:
    refused(build(b"x" * 10 + wrong, length=1000), 1007)


@pytest.mark.parametrize("fin", [True, False])
def test_b17_the_first_wrong_byte_decides(fin: bool) -> None:
    # E0 is a beginning, and 80 after it is wrong already: no need for the third byte.
    refused(build(b"\xe0\x80", length=3, fin=fin), 1007)


@pytest.mark.parametrize("unfinished", TRUNCATED.values(), ids=TRUNCATED)
def test_b18_a_code_point_that_the_message_does_not_finish(unfinished: bytes) -> None:
    refused(build(unfinished), 1007)
    refused(build(b"x" * 300 + unfinished), 1007)
    refused(fragmented(b"x", unfinished), 1007)
    refused(fragmented(unfinished, b""), 1007)
    refused(fragmented(unfinished, b"x"), 1007)


def test_b18_valid_text_is_accepted() -> None:
    accepted(build(VALID), (TEXT, VALID))


def test_b18_code_points_split_anywhere() -> None:
    data = b"".join(fragmented(VALID[:cut], VALID[cut:]) for cut in range(len(VALID) + 1))
    accepted(data, *[(TEXT, VALID)] * (len(VALID) + 1))
    accepted(fragmented(*[bytes([byte]) for byte in VALID]), (TEXT, VALID))


def test_b18_a_binary_message_need_not_be_utf8() -> None:
    wrong = b"".join(INVALID.values())
    accepted(fragmented(wrong, wrong, opcode=BINARY), (BINARY, wrong * 2))


# B19: the shortest form


@pytest.mark.parametrize(
    ("length", "length_bytes"), [(0, 2), (1, 2), (125, 2), (0, 8), (125, 8), (126, 8), (65535, 8)]
)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_b19_a_length_that_is_not_in_its_shortest_form(
    length: int, length_bytes: int, opcode: int
) -> None:
    refused(build(b"x" * length, opcode, length_bytes=length_bytes), 1002)


def test_b19_a_continuation_length_that_is_not_in_its_shortest_form() -> None:
    refused(build(b"", fin=False) + build(b"x", CONTINUATION, length_bytes=2), 1002)


# B20: any way to cut a stream

STREAMS: dict[str, tuple[bytes, list[tuple[int, bytes]], int]] = {
    "messages": (
        build(b"text") + build(b"", BINARY) + build("ä€😀".encode()) + close_frame(1000),
        [(TEXT, b"text"), (BINARY, b""), (TEXT, "ä€😀".encode())],
        1000,
    ),
    "fragments and control frames": (
        build("ä".encode()[:1], fin=False)
        + build(b"ping", PING)
        + build("ä€".encode()[1:3], CONTINUATION, fin=False)
        + build(b"", PONG)
        + build("ä€".encode()[3:], CONTINUATION)
        + close_frame(4000, b"bye"),
        [(PONG, b"ping"), (TEXT, "ä€".encode())],
        4000,
    ),
    "a long header": (
        build(b"x" * 126, BINARY) + close_frame(None),
        [(BINARY, b"x" * 126)],
        1005,
    ),
    "bad UTF-8": (build(b"good") + build(b"\xe2\x82x"), [(TEXT, b"good")], 1007),
    "a reserved opcode": (build(b"", PING) + build(b"x", 4), [(PONG, b"")], 1002),
    "too long": (build(b"ok") + build(b"x", length=1 << 40), [(TEXT, b"ok")], 1009),
}


async def same_events(
    name: str, cut: Callable[[Peer, bytes], Any], *, count: int = 1, **options: Any
) -> None:
    """Send a stream ``count`` times, as ``cut`` does it; each time the same must come back."""
    data, expected, code = STREAMS[name]
    echo = Echo()
    async with serving(echo.app, access_log=False, **options) as server:
        for _ in range(count):
            async with websocket(server) as peer:
                sending = asyncio.create_task(cut(peer, data))
                await peer.expect(*expected)
                assert (await peer.ended())[0] == code
                await asyncio.gather(sending, return_exceptions=True)
        delivered = [as_sent(message) for message in echo.messages]
        assert delivered == [frame for frame in expected if frame[0] != PONG] * count


@pytest.mark.parametrize("name", STREAMS)
def test_b20_every_split_point(name: str) -> None:
    cuts = iter(range(1, len(STREAMS[name][0])))

    async def cut(peer: Peer, data: bytes) -> None:
        await peer.send_split(data, next(cuts))

    run(same_events(name, cut, count=len(STREAMS[name][0]) - 1))


@pytest.mark.parametrize("name", STREAMS)
def test_b20_byte_by_byte(name: str) -> None:
    run(same_events(name, Peer.send_bytewise))


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("queue", [1, 2])
def test_b20_byte_by_byte_into_a_short_queue(name: str, queue: int) -> None:
    run(same_events(name, Peer.send_bytewise, ws_max_queue=queue))


@pytest.mark.parametrize("name", STREAMS)
def test_b20_random_cuts(name: str) -> None:
    chosen = random.Random(name)

    async def cut(peer: Peer, data: bytes) -> None:
        count = chosen.randrange(1, min(8, len(data)))
        await peer.send_split(data, *sorted(chosen.sample(range(1, len(data)), count)))

    run(same_events(name, cut, count=30))


@pytest.mark.parametrize("name", STREAMS)
def test_b20_frames_behind_the_handshake(name: str) -> None:
    data, expected, code = STREAMS[name]

    async def main() -> None:
        async with serving(Echo().app) as server:
            for cut in range(len(data) + 1):
                async with websocket(server, early=data[:cut]) as peer:
                    await peer.send_if_possible(data[cut:])
                    await peer.expect(*expected)
                    assert (await peer.ended())[0] == code

    run(main())
