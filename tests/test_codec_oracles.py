"""FrameParser against three judges on random streams, right ones and broken ones: the slow oracle
of tests/wire.py, which must agree in every detail, ``websockets`` and ``wsproto``, which must agree
but for what they are known to get wrong. Each such difference is named here, and no other allowed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple

from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st

from fastws._codec import FrameParser
from fastws.codes import VIOLATIONS
from fastws.deflate import Deflater, Inflater
from fastws.events import Close, Event, Ping, Pong
from fastws.limits import Limits
from tests.oracles import Deflate, Verdict, websockets_verdict, wsproto_verdict
from tests.wire import (
    BINARY,
    CLOSE,
    CONT,
    KEY,
    PING,
    PONG,
    TEXT,
    UNLIMITED,
    Outcome,
    close_payload,
    cut,
    frame,
    outcome_of,
    slow_outcome,
)


class Spec(NamedTuple):
    """A frame to be written."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0
    masked: bool = True
    length: bytes | None = None


def written(specs: list[Spec]) -> bytes:
    return b"".join(
        frame(
            spec.opcode,
            spec.payload,
            fin=spec.fin,
            rsv=spec.rsv,
            key=KEY if spec.masked else None,
            length=spec.length,
        )
        for spec in specs
    )


def split(draw: st.DrawFn, opcode: int, payload: bytes, masked: bool, rsv: int = 0) -> list[Spec]:
    """A message in one frame or several, with control frames between them."""
    marks = draw(st.lists(st.integers(0, len(payload)), max_size=3))
    pieces = cut(payload, marks)
    specs = []
    for i, piece in enumerate(pieces):
        last = i == len(pieces) - 1
        specs.append(Spec(CONT if i else opcode, piece, last, 0 if i else rsv, masked))
        if draw(st.integers(0, 5)) == 0:
            data = draw(st.binary(max_size=5))
            specs.append(Spec(draw(st.sampled_from([PING, PONG])), data, masked=masked))
    return specs


TEXTS = st.text("ab é€🙂\x7f\x80\ud7ff\uffff", max_size=12).map(str.encode)
CODES = st.sampled_from([1000, 1003, 1004, 1005, 1006, 1007, 1011, 1015, 2999, 3000, 4999, 5000])


@st.composite
def valid_streams(draw: st.DrawFn, masked: bool = True) -> list[Spec]:
    """What a well-behaved peer may send."""
    specs: list[Spec] = []
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            specs += split(draw, TEXT, draw(TEXTS), masked)
        else:
            length = draw(st.sampled_from([0, 1, 5, 125, 126, 127, 300, 65535, 65536]))
            specs += split(draw, BINARY, draw(st.binary(min_size=1, max_size=3)) * length, masked)
    if draw(st.booleans()):
        codes = CODES.filter(lambda code: code in (1000, 1003, 1007, 1011, 3000, 4999))
        payload = draw(st.just(b"") | st.builds(close_payload, codes, TEXTS))
        specs.append(Spec(CLOSE, payload, masked=masked))
    return specs


def mutated(draw: st.DrawFn, specs: list[Spec]) -> list[Spec]:
    """The same with one to three faults in it."""
    specs = [*specs]
    for _ in range(draw(st.integers(1, 3))):
        i = draw(st.integers(0, len(specs) - 1))
        spec = specs[i]
        match draw(st.sampled_from("opcode fin rsv mask payload length drop repeat close".split())):
            case "opcode":
                spec = spec._replace(opcode=draw(st.integers(0, 15)))
            case "fin":
                spec = spec._replace(fin=not spec.fin)
            case "rsv":
                spec = spec._replace(rsv=draw(st.integers(1, 7)))
            case "mask":
                spec = spec._replace(masked=not spec.masked)
            case "payload" if spec.payload:
                data = bytearray(spec.payload)
                data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
                spec = spec._replace(payload=bytes(data))
            case "length":
                size = len(spec.payload)
                fields = [b"\x7f" + size.to_bytes(8, "big"), b"\x7f\xff" + bytes(7)]
                if size <= 0xFFFF:
                    fields.append(b"\x7e" + size.to_bytes(2, "big"))
                spec = spec._replace(length=draw(st.sampled_from(fields)))
            case "drop" if len(specs) > 1:
                del specs[i]
                continue
            case "repeat":
                specs.insert(draw(st.integers(0, len(specs))), spec)
                continue
            case "close":
                payload = draw(st.binary(max_size=1) | st.builds(close_payload, CODES, TEXTS))
                specs.insert(i, Spec(CLOSE, payload, masked=spec.masked))
                continue
        specs[i] = spec
    return specs


@st.composite
def broken_streams(draw: st.DrawFn, masked: bool = True) -> list[Spec]:
    specs = draw(valid_streams(masked).filter(bool))
    return mutated(draw, specs)


def streams(masked: bool) -> st.SearchStrategy[list[Spec]]:
    return valid_streams(masked) | broken_streams(masked)


CUTS = st.lists(st.integers(0, 1 << 17), max_size=6)
LIMITS = st.builds(
    Limits,
    max_size=st.none() | st.sampled_from([0, 5, 125, 126, 300, 70_000]),
    max_fragments=st.none() | st.sampled_from([1, 2, 3]),
)


def verdict_of(outcome: Outcome) -> Verdict:
    """Ours, as the others put theirs."""
    return Verdict(outcome.events, VIOLATIONS[outcome.error].code if outcome.error else None)


# ------------------------------------------------------------------------- the slow oracle


@settings(max_examples=400)
@given(
    stream=st.booleans().flatmap(lambda client: st.tuples(st.just(client), streams(not client))),
    limits=LIMITS,
    cuts=CUTS,
    keep=st.none() | st.integers(0, 400),
)
def test_every_stream_is_what_the_slow_oracle_makes_of_it(
    stream: tuple[bool, list[Spec]], limits: Limits, cuts: list[int], keep: int | None
) -> None:
    """Also where the stream ends somewhere: whole, and cut anywhere."""
    client, specs = stream
    data = written(specs)[:keep]
    expected = slow_outcome(data, client=client, limits=limits)
    event(f"error: {expected.error}")
    pieces = cut(data, [at % (len(data) + 1) for at in cuts])
    assert outcome_of(FrameParser(client=client, limits=limits), [data]) == expected
    assert outcome_of(FrameParser(client=client, limits=limits), pieces) == expected


@settings(max_examples=400)
@given(specs=valid_streams(), changes=st.lists(st.tuples(st.integers(0), st.integers(0, 255))))
def test_bytes_changed_anywhere(specs: list[Spec], changes: list[tuple[int, int]]) -> None:
    data = bytearray(written(specs))
    assume(data)
    for at, byte in changes:
        data[at % len(data)] = byte
    limits = Limits(max_size=1000)
    assert outcome_of(FrameParser(limits=limits), [bytes(data)]) == slow_outcome(
        bytes(data), limits=limits
    )


@given(data=st.binary(max_size=200), client=st.booleans())
def test_noise(data: bytes, client: bool) -> None:
    expected = slow_outcome(data, client=client)
    assert outcome_of(FrameParser(client=client), [data]) == expected


# -------------------------------------------------------------------- websockets, wsproto


def differs_as_websockets_does(ours: Outcome, theirs: Verdict) -> str | None:
    """Why ``websockets`` comes to another verdict, where that is known and ours is right."""
    begins_alike = theirs.events[: len(ours.events)] == ours.events
    last = ours.events[-1] if ours.events else None
    if ours.error == "LENGTH_NOT_MINIMAL" and begins_alike:
        return "it takes lengths that are not minimal"
    if ours.error == "CONTROL_TOO_LONG" and begins_alike:
        return "the same, in a control frame"
    if verdict_of(ours).code == 1002 and theirs == Verdict(ours.events, 1009):
        return "of two faults in one header it names the other"
    if ours.error is not None and theirs == Verdict(ours.events):
        return "it judges a frame when all of it is there"
    if ours.error == "INVALID_UTF8" and begins_alike:
        return "it leaves UTF-8 to be judged when the message is complete"
    if ours.error == "INVALID_CLOSE_CODE" and theirs == Verdict(ours.events, 1007):
        return "of two faults in one CLOSE it names the other"
    if isinstance(last, Close) and theirs == Verdict(ours.events[:-1], 1002):
        return "it refuses CLOSE inside a message"
    shared = len(theirs.events)
    refused = ours.events[shared] if shared < len(ours.events) else None
    is_control = isinstance(refused, (Ping, Pong, Close))
    if is_control and theirs == Verdict(ours.events[:shared], 1009):
        return "it counts control frames between fragments as part of the message"
    return None


def differs_as_wsproto_does(ours: Outcome, theirs: Verdict) -> str | None:
    """The same for ``wsproto``."""
    last = ours.events[-1] if ours.events else None
    if theirs.code == 1002:
        if isinstance(last, Close) and last.code == 1014 and theirs.events == ours.events[:-1]:
            return "it does not know 1014"
        if ours.error == "INVALID_CLOSE_REASON" and theirs.events == ours.events:
            return "the same, and of two faults in one CLOSE it names the other"
    return None


def check(
    ours: Outcome, theirs: Verdict, difference: Callable[[Outcome, Verdict], str | None]
) -> None:
    if verdict_of(ours) != theirs:
        reason = difference(ours, theirs)
        assert reason is not None, f"ours: {ours}\ntheirs: {theirs}"
        event(reason)


BOTH_ENDS = st.booleans().flatmap(lambda client: st.tuples(st.just(client), streams(not client)))


@settings(max_examples=300)
@given(stream=BOTH_ENDS, max_size=st.none() | st.sampled_from([125, 126, 300]))
@example(stream=(False, [Spec(TEXT, b"", fin=False), Spec(TEXT, b"new")]), max_size=None)
@example(stream=(False, [Spec(BINARY, b"", masked=False)]), max_size=None)
def test_websockets_agrees(stream: tuple[bool, list[Spec]], max_size: int | None) -> None:
    client, specs = stream
    data = written(specs)
    limits = Limits(max_size=max_size, max_fragments=None)
    ours = outcome_of(FrameParser(client=client, limits=limits), [data])
    theirs = websockets_verdict(data, client=client, max_size=max_size)
    check(ours, theirs, differs_as_websockets_does)


@settings(max_examples=300)
@given(stream=BOTH_ENDS)
@example(stream=(False, [Spec(CLOSE, close_payload(1014))]))
@example(stream=(False, [Spec(CLOSE, close_payload(5000))]))
@example(stream=(False, [Spec(TEXT, b"", fin=False), Spec(CLOSE, b""), Spec(CONT, b"late")]))
@example(stream=(False, [Spec(BINARY, b"x", length=b"\x7e\x00\x01")]))
def test_wsproto_agrees(stream: tuple[bool, list[Spec]]) -> None:
    client, specs = stream
    data = written(specs)
    ours = outcome_of(FrameParser(client=client, limits=UNLIMITED), [data])
    check(ours, wsproto_verdict(data, client=client), differs_as_wsproto_does)


# ------------------------------------------------------------------------ compression


@st.composite
def compressed_streams(draw: st.DrawFn) -> tuple[Deflate, list[Spec], list[Event]]:
    """Messages, some of them compressed, as zlib or our Deflater makes them; what they say."""
    deflate = Deflate(takeover=draw(st.booleans()), bits=draw(st.integers(9, 15)))
    foreign = zlib.compressobj(draw(st.integers(0, 9)), zlib.DEFLATED, -deflate.bits)
    own = Deflater(deflate.bits, deflate.takeover, 6, 8)
    use_own = draw(st.booleans())
    specs: list[Spec] = []
    said: list[Event] = []
    for _ in range(draw(st.integers(1, 4))):
        opcode = draw(st.sampled_from([TEXT, BINARY]))
        data = draw(TEXTS) * draw(st.sampled_from([1, 1, 30, 2000]))
        payload, rsv = data, 0
        if draw(st.booleans()):
            if use_own:
                payload = own.compress(data)
            else:
                flush = zlib.Z_SYNC_FLUSH if deflate.takeover else zlib.Z_FULL_FLUSH
                payload = (foreign.compress(data) + foreign.flush(flush))[:-4]
            rsv = 4
        specs += split(draw, opcode, payload, True, rsv)
        said.append(data.decode() if opcode == TEXT else data)
    return deflate, specs, said


def inflating(deflate: Deflate, limits: Limits = UNLIMITED) -> FrameParser:
    return FrameParser(limits=limits, inflater=Inflater(deflate.bits, deflate.takeover))


@settings(max_examples=300)
@given(stream=compressed_streams(), cuts=CUTS)
def test_compressed_streams_are_what_all_three_make_of_them(
    stream: tuple[Deflate, list[Spec], list[Event]], cuts: list[int]
) -> None:
    deflate, specs, said = stream
    data = written(specs)
    ours = outcome_of(inflating(deflate), [data])
    assert ours.error is None
    assert [event for event in ours.events if isinstance(event, (str, bytes))] == said
    pieces = cut(data, [at % (len(data) + 1) for at in cuts])
    assert outcome_of(inflating(deflate), pieces) == ours
    assert websockets_verdict(data, deflate=deflate) == verdict_of(ours)
    # wsproto forgets that a message is compressed at a first fragment that is empty, and at a
    # control frame between fragments.
    if not any((spec.rsv and not spec.payload) or spec.opcode >= CLOSE for spec in specs):
        event("wsproto too")
        assert wsproto_verdict(data, deflate=deflate) == verdict_of(ours)


@settings(max_examples=200)
@given(stream=compressed_streams(), max_size=st.integers(0, 300))
def test_the_limit_of_compressed_messages_is_that_of_websockets(
    stream: tuple[Deflate, list[Spec], list[Event]], max_size: int
) -> None:
    deflate, specs, said = stream
    data = written(specs)
    ours = outcome_of(inflating(deflate, Limits(max_size=max_size)), [data])
    sizes = [len(m.encode() if isinstance(m, str) else m) for m in said]
    assert (ours.error == "MESSAGE_TOO_BIG") == any(size > max_size for size in sizes)
    # Theirs is also on the bytes of each frame on the wire, and on control frames: it is the same
    # only where these are small.
    if all(spec.fin and len(spec.payload) <= max_size for spec in specs):
        event("websockets too")
        theirs = websockets_verdict(data, max_size=max_size, deflate=deflate)
        assert verdict_of(ours) == theirs


def has_final_block(deflate: Deflate, specs: list[Spec]) -> bool:
    """Whether a compressed message ends its DEFLATE stream, which a changed bit can bring about:
    ``websockets`` inflates nothing after that (RFC 7692 section 7.2.3.4 allows it)."""
    inflating = zlib.decompressobj(-deflate.bits)
    compressed, payload = False, b""
    for spec in specs:
        if spec.opcode in (TEXT, BINARY):
            compressed, payload = bool(spec.rsv), b""
        if spec.opcode in (TEXT, BINARY, CONT):
            payload += spec.payload
            if spec.fin and compressed:
                if not deflate.takeover:
                    inflating = zlib.decompressobj(-deflate.bits)
                try:
                    inflating.decompress(payload + b"\x00\x00\xff\xff")
                except zlib.error:
                    return False
                if inflating.eof:
                    return True
    return False


@settings(max_examples=300)
@example(
    stream=(
        Deflate(takeover=True, bits=9),
        [Spec(TEXT, b"J\x04\x00", rsv=4), Spec(TEXT, b"J\x04\x00", rsv=4)],
        [],
    ),
    changes=[(0, 0x63)],  # 0x4A with BFINAL
    cuts=[],
)
@given(
    stream=compressed_streams(),
    changes=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), min_size=1, max_size=3),
    cuts=CUTS,
)
def test_corrupt_compressed_data_is_1007_and_never_anything_else(
    stream: tuple[Deflate, list[Spec], list[Event]],
    changes: list[tuple[int, int]],
    cuts: list[int],
) -> None:
    deflate, specs, _ = stream
    for at, byte in changes:
        spec = specs[at % len(specs)]
        if spec.payload:
            data = bytearray(spec.payload)
            data[at % len(data)] = byte
            specs[at % len(specs)] = spec._replace(payload=bytes(data))
    wire = written(specs)
    ours = outcome_of(inflating(deflate), [wire])
    pieces = cut(wire, [at % (len(wire) + 1) for at in cuts])
    # Of text that is not UTF-8 and then cannot be inflated, zlib may tell the later fault first.
    assert verdict_of(outcome_of(inflating(deflate), pieces)) == verdict_of(ours)
    event(f"error: {ours.error}")
    assert ours.error in (None, "INVALID_DEFLATE", "INVALID_UTF8", "TOO_MANY_FINAL_BLOCKS")
    if has_final_block(deflate, specs):
        event("a final block")
        return
    theirs = websockets_verdict(wire, deflate=deflate)
    if ours.error is None:
        assert theirs == verdict_of(ours)
    else:
        assert theirs.events[: len(ours.events)] == ours.events
