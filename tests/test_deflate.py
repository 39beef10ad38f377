"""permessage-deflate: what is negotiated, and rows C1 to C6 and C9 of the list of attacks."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import json
import random
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from websockets.exceptions import NegotiationError
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Frame, Opcode

from fastws import deflate
from fastws.codes import VIOLATIONS
from fastws.deflate import (
    MAX_FINAL_BLOCKS,
    DeflateParameters,
    Deflater,
    DeflateViolation,
    InflateError,
    InflateOverflow,
    Inflater,
    TooManyFinalBlocks,
    accept_offer,
    deflater_for,
    inflater_for,
    negotiate,
    offer,
)
from fastws.deflate_library import LIBRARIES, Library, zlib_module
from fastws.exceptions import HandshakeError
from fastws.handshake import Extension, parse_extensions
from fastws.limits import DeflateOptions

KIB = 1024
MIB = 1024 * KIB

DEDICATED = DeflateOptions(mode="dedicated", window_bits=12)
SHARED = DeflateOptions(mode="shared", window_bits=12)
WIDE = DeflateOptions(mode="dedicated", window_bits=15)

both = pytest.mark.parametrize("library", LIBRARIES)


def offers(value: str) -> list[Extension]:
    return parse_extensions([value.encode()])


def inflate(
    inflater: Inflater, pieces: bytes | Iterable[bytes | memoryview], room: int = -1
) -> bytes:
    """One whole message, given in one piece or several."""
    message = bytearray()
    for piece in [pieces] if isinstance(pieces, bytes) else pieces:
        message += inflater.inflate(piece, room - len(message) if room >= 0 else -1)
    message += inflater.finish(room - len(message) if room >= 0 else -1)
    return bytes(message)


def compress(data: bytes, *, bits: int = 15, level: int = 6) -> bytes:
    """One message, as any zlib-based peer would send it (RFC 7692 section 7.2.1)."""
    stream = zlib.compressobj(level, zlib.DEFLATED, -bits)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def compress_finally(data: bytes) -> bytes:
    """One message whose only data block has BFINAL=1 (RFC 7692 section 7.2.3.4)."""
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush(zlib.Z_FINISH) + b"\x00"


def documents(count: int, seed: int = 1) -> list[bytes]:
    generator = random.Random(seed)
    return [
        json.dumps(
            {"id": index, "name": f"user{generator.randrange(50)}", "text": "hello there " * 9}
        ).encode()
        for index in range(count)
    ]


# ------------------------------------------------------------------------------- negotiation


@pytest.mark.parametrize(
    ("offered", "options", "answer", "agreed"),
    [
        (
            "permessage-deflate",
            DEDICATED,
            "permessage-deflate; server_max_window_bits=12",
            DeflateParameters(False, False, 12, 15),
        ),
        (
            "permessage-deflate; client_max_window_bits",
            DEDICATED,
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
            DeflateParameters(False, False, 12, 12),
        ),
        (
            "permessage-deflate; client_max_window_bits=10; server_max_window_bits=9",
            DEDICATED,
            "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
            DeflateParameters(False, False, 9, 10),
        ),
        (
            "permessage-deflate; client_max_window_bits=8",
            DEDICATED,
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=8",
            DeflateParameters(False, False, 12, 8),
        ),
        (
            "permessage-deflate; server_no_context_takeover",
            DEDICATED,
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=12",
            DeflateParameters(True, False, 12, 15),
        ),
        (
            "permessage-deflate; client_no_context_takeover",
            DEDICATED,
            "permessage-deflate; client_no_context_takeover; server_max_window_bits=12",
            DeflateParameters(False, True, 12, 15),
        ),
        (
            "permessage-deflate; client_max_window_bits",
            SHARED,
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
            "server_max_window_bits=12; client_max_window_bits=12",
            DeflateParameters(True, True, 12, 12),
        ),
        ("permessage-deflate", WIDE, "permessage-deflate", DeflateParameters(False, False, 15, 15)),
        (
            "permessage-deflate; server_max_window_bits=15; client_max_window_bits",
            WIDE,
            "permessage-deflate; server_max_window_bits=15; client_max_window_bits=15",
            DeflateParameters(False, False, 15, 15),
        ),
    ],
)
def test_the_server_answers_an_offer(
    offered: str, options: DeflateOptions, answer: str, agreed: DeflateParameters
) -> None:
    assert negotiate(offers(offered), options) == (answer, agreed)


def test_the_first_acceptable_offer_is_taken() -> None:
    value = (
        "x-other; a=1, permessage-deflate; unknown, permessage-deflate; server_max_window_bits=8, "
        "permessage-deflate; server_max_window_bits=10, permessage-deflate"
    )
    chosen = negotiate(offers(value), DEDICATED)
    assert chosen is not None
    assert chosen[1].server_max_window_bits == 10


@pytest.mark.parametrize("name", ["server_max_window_bits", "client_max_window_bits"])
@pytest.mark.parametrize(
    "value",
    ["7", "16", "0", "-9", "+9", "99999999999999999999", "010", "0x9", "9.0", "1_0", "a", '"10"'],
)
def test_a7_bad_window_bits_are_declined(name: str, value: str) -> None:
    assert negotiate(offers(f"permessage-deflate; {name}={value}"), DEDICATED) is None


@pytest.mark.parametrize(
    "parameters",
    [
        [("server_max_window_bits", None)],
        [("server_max_window_bits", "")],
        [("client_max_window_bits", "")],
        [("client_max_window_bits", " 9")],
        [("client_max_window_bits", "\uff19")],
        [("client_max_window_bits", "9" * 8000)],
        [("server_no_context_takeover", "1")],
        [("client_no_context_takeover", "true")],
        [("server_no_context_takeover", None), ("server_no_context_takeover", None)],
        [("client_max_window_bits", None), ("client_max_window_bits", "10")],
        [("unknown", None)],
        [("Server_No_Context_Takeover", None)],
        [("", None)],
    ],
)
def test_a7_bad_parameters_are_declined(parameters: list[tuple[str, str | None]]) -> None:
    assert negotiate([("permessage-deflate", parameters)], DEDICATED) is None


def test_a7_a_window_of_8_bits_that_zlib_cannot_make_is_declined() -> None:
    assert negotiate(offers("permessage-deflate; server_max_window_bits=8"), DEDICATED) is None


@pytest.mark.parametrize("value", ["", "x-webkit-deflate-frame", "permessage-bzip2"])
def test_no_offer_of_ours_is_declined(value: str) -> None:
    assert negotiate(offers(value), DEDICATED) is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["permessage-deflate", "x", ""]) | st.text(max_size=3),
            st.lists(
                st.tuples(
                    st.sampled_from(
                        [
                            "server_no_context_takeover",
                            "client_no_context_takeover",
                            "server_max_window_bits",
                            "client_max_window_bits",
                        ]
                    )
                    | st.text(max_size=3),
                    st.none() | st.integers(-1, 99).map(str) | st.text(max_size=3),
                ),
                max_size=4,
            ),
        ),
        max_size=3,
    ),
    st.integers(9, 15),
    st.sampled_from(["shared", "dedicated"]),
)
def test_a7_negotiation_never_raises(offered: list[Extension], bits: int, mode: str) -> None:
    chosen = negotiate(offered, DeflateOptions(mode=mode, window_bits=bits))
    if chosen is not None:
        assert offers(chosen[0])[0][0] == "permessage-deflate"
        assert 9 <= chosen[1].server_max_window_bits <= bits
        assert 8 <= chosen[1].client_max_window_bits <= 15


PARAMETERS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "server_no_context_takeover",
                "client_no_context_takeover",
                "server_max_window_bits",
                "client_max_window_bits",
                "unknown",
            ]
        ),
        st.sampled_from([None, None, "7", "8", "9", "12", "15", "16", "010", "x"]),
    ),
    max_size=4,
)


@given(PARAMETERS, st.integers(9, 15))
def test_the_server_negotiates_as_websockets_does(
    parameters: list[tuple[str, str | None]], bits: int
) -> None:
    # It takes 8, which then fails when it compresses.
    assume(("server_max_window_bits", "8") not in parameters)
    factory = ServerPerMessageDeflateFactory(
        server_max_window_bits=bits, client_max_window_bits=bits
    )
    chosen = negotiate([("permessage-deflate", parameters)], DeflateOptions(window_bits=bits))
    try:
        _, theirs = factory.process_request_params(parameters, [])
    except NegotiationError:
        assert chosen is None
        return
    assert chosen is not None
    assert chosen[1] == DeflateParameters(
        theirs.local_no_context_takeover,
        theirs.remote_no_context_takeover,
        theirs.local_max_window_bits,
        theirs.remote_max_window_bits,
    )


@given(PARAMETERS, st.integers(9, 15), st.booleans())
def test_the_client_judges_an_answer_as_websockets_does(
    parameters: list[tuple[str, str | None]], bits: int, shared: bool
) -> None:
    # It takes 8 for itself, which then fails when it compresses.
    assume(("client_max_window_bits", "8") not in parameters)
    # With 15 bits nothing is asked of the server, which in its terms is None.
    asked = bits if bits < 15 else None
    factory = ClientPerMessageDeflateFactory(
        server_no_context_takeover=shared,
        client_no_context_takeover=shared,
        server_max_window_bits=asked,
        client_max_window_bits=asked or True,
    )
    options = DeflateOptions(mode="shared" if shared else "dedicated", window_bits=bits)
    try:
        theirs = factory.process_response_params(parameters, [])
    except NegotiationError:
        with pytest.raises(HandshakeError):
            accept_offer([("permessage-deflate", parameters)], options)
        return
    assert accept_offer([("permessage-deflate", parameters)], options) == DeflateParameters(
        theirs.remote_no_context_takeover,
        theirs.local_no_context_takeover,
        theirs.remote_max_window_bits,
        theirs.local_max_window_bits,
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            DEDICATED,
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
        ),
        (
            SHARED,
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
            "server_max_window_bits=12; client_max_window_bits=12",
        ),
        (WIDE, "permessage-deflate; client_max_window_bits"),
    ],
)
def test_the_client_offers_what_its_options_say(options: DeflateOptions, expected: str) -> None:
    assert offer(options) == expected


@pytest.mark.parametrize("client", [DEDICATED, SHARED, WIDE])
@pytest.mark.parametrize("server", [DEDICATED, SHARED, WIDE, DeflateOptions(window_bits=9)])
def test_both_sides_agree(client: DeflateOptions, server: DeflateOptions) -> None:
    chosen = negotiate(offers(offer(client)), server)
    assert chosen is not None
    assert accept_offer(offers(chosen[0]), client) == chosen[1]


def test_a_server_that_declines_leaves_the_client_without() -> None:
    assert accept_offer([], DEDICATED) is None


ALL_RIGHT = "permessage-deflate; server_max_window_bits=12"


@pytest.mark.parametrize(
    ("answer", "options", "complaint"),
    [
        ("x-other", DEDICATED, "not offered"),
        (f"{ALL_RIGHT}, {ALL_RIGHT}", DEDICATED, "more than one"),
        (f"{ALL_RIGHT}; unknown", DEDICATED, "unknown"),
        (f"{ALL_RIGHT}; server_max_window_bits=12", DEDICATED, "twice"),
        (f"{ALL_RIGHT}; client_max_window_bits", DEDICATED, "no value"),
        (f"{ALL_RIGHT}; client_max_window_bits=13", DEDICATED, "more than the 12 offered"),
        (f"{ALL_RIGHT}; client_max_window_bits=8", DEDICATED, "9 or more"),
        ("permessage-deflate", DEDICATED, "more than the 12 offered"),
        ("permessage-deflate; server_max_window_bits=13", DEDICATED, "more than the 12 offered"),
        ("permessage-deflate; server_max_window_bits=16", WIDE, "8 to 15"),
        ("permessage-deflate; server_max_window_bits", WIDE, "no value"),
        ("permessage-deflate; server_no_context_takeover=1", WIDE, "takes none"),
        (ALL_RIGHT, SHARED, "server_no_context_takeover"),
    ],
)
def test_an_answer_that_breaks_the_rules_fails_the_connection(
    answer: str, options: DeflateOptions, complaint: str
) -> None:
    with pytest.raises(HandshakeError, match=complaint) as caught:
        accept_offer(offers(answer), options)
    assert caught.value.status == 502


@both
def test_each_side_gets_what_was_agreed(library: Library) -> None:
    agreed = DeflateParameters(True, False, 10, 11, library=library)
    messages = [b"message " * 90] * 2
    server, client = (deflater_for(agreed, WIDE, client=side) for side in (False, True))
    from_server = [server.compress(message) for message in messages]
    from_client = [client.compress(message) for message in messages]
    assert from_server[0] == from_server[1]
    assert len(from_client[1]) < len(from_client[0])
    assert server._settings[0] == 10
    assert client._settings[0] == 11
    at_client, at_server = (inflater_for(agreed, client=side) for side in (True, False))
    assert [inflate(at_client, data) for data in from_server] == messages
    assert [inflate(at_server, data) for data in from_client] == messages
    assert at_client._window_bits == 10
    assert at_server._window_bits == 11


@both
@pytest.mark.parametrize("bits", [7, 16, 0, -15])
def test_windows_out_of_range_are_the_callers_mistake(library: Library, bits: int) -> None:
    with pytest.raises(ValueError, match="8 to 15"):
        Inflater(bits, True, library)
    with pytest.raises(ValueError, match="9 to 15"):
        Deflater(bits, True, 1, 5, library)


@both
def test_zlib_has_no_compressor_for_8_bits(library: Library) -> None:
    with pytest.raises(ValueError, match="9 to 15"):
        Deflater(8, True, 1, 5, library)


# -------------------------------------------------------------------------------- round trips


@both
@pytest.mark.parametrize("context_takeover", [True, False])
@pytest.mark.parametrize("bits", range(9, 16))
def test_messages_come_back(library: Library, bits: int, context_takeover: bool) -> None:
    generator = random.Random(bits)
    deflater = Deflater(bits, context_takeover, 1, 5, library)
    inflater = Inflater(bits, context_takeover, library)
    messages = [*documents(50), b"", generator.randbytes(100_000), b"", *documents(50), b"x" * MIB]
    for message in messages:
        assert inflate(inflater, deflater.compress(message)) == message


@both
@pytest.mark.parametrize("over", [-1, 0, 1, 1000, 40_000])
def test_messages_that_shrink_to_about_an_eighth_come_back(library: Library, over: int) -> None:
    # The first piece is asked for as if none shrank more than that. Noise, then so many zeros that
    # the message is longer than the piece by `over`.
    noise = random.Random(1).randbytes(300)
    size = 0
    for _ in range(50):
        message = noise + bytes(size)
        packed = Deflater(15, False, 1, 5, library).compress(message)
        missing = 1024 + 8 * len(packed) + over - len(message)
        if missing == 0:
            break
        size += missing
    assert missing == 0, "no such message was found"
    inflater = Inflater(15, False, library)
    assert inflate(inflater, packed) == message
    assert inflater.inflate(packed, len(message)) == message
    inflater.finish(0)
    with pytest.raises(InflateOverflow):
        inflater.inflate(packed, len(message) - 1)


@both
@given(
    st.lists(st.binary(max_size=60) | st.binary(max_size=3).map(lambda b: b * 9000), max_size=6),
    st.integers(9, 15),
    st.booleans(),
    st.integers(1, 9),
    st.randoms(use_true_random=False),
)
def test_any_messages_come_back_however_they_are_cut(
    library: Library,
    messages: list[bytes],
    bits: int,
    context_takeover: bool,
    level: int,
    cuts: random.Random,
) -> None:
    deflater = Deflater(bits, context_takeover, level, 1 + level % 9, library)
    inflater = Inflater(bits, context_takeover, library)
    for message in messages:
        data = deflater.compress(message)
        cut = cuts.randint(0, len(data))
        pieces: list[bytes | memoryview] = [memoryview(data)[:cut], b"", data[cut:]]
        assert inflate(inflater, pieces, len(message)) == message


@both
def test_every_split_point_gives_the_same_message(library: Library) -> None:
    first, second = documents(2)
    stream = Deflater(12, True, 1, 5, library)
    one, two = stream.compress(first), stream.compress(second)
    for cut in range(len(two) + 1):
        inflater = Inflater(12, True, library)
        assert inflate(inflater, [one[i : i + 1] for i in range(len(one))]) == first
        assert inflate(inflater, [two[:cut], two[cut:]]) == second


def test_context_takeover_makes_the_second_message_smaller() -> None:
    message = documents(1)[0]
    taking = Deflater(12, True, 1, 5)
    afresh = Deflater(12, False, 1, 5)
    assert len(taking.compress(message)) == len(afresh.compress(message))
    assert len(taking.compress(message)) < len(afresh.compress(message)) / 4


@both
def test_without_takeover_no_message_refers_to_another_connections(library: Library) -> None:
    secret, other = b"secret " * 30, b"public " * 30
    one, two = Deflater(12, False, 1, 5, library), Deflater(12, False, 1, 5, library)
    alone = two.compress(other)
    one.compress(secret)
    assert two.compress(other) == alone
    for data in (one.compress(secret), two.compress(other), one.compress(secret)):
        inflate(Inflater(12, False, library), data)


@both
@pytest.mark.parametrize("context_takeover", [True, False])
def test_the_tail_is_removed_and_is_all_that_is_missing(
    library: Library, context_takeover: bool
) -> None:
    deflater = Deflater(12, context_takeover, 1, 5, library)
    stream = zlib.decompressobj(-12)
    for message in documents(20):
        data = deflater.compress(message)
        assert not data.endswith(b"\x00\x00\xff\xff")
        assert stream.decompress(data + b"\x00\x00\xff\xff") == message


@both
def test_any_buffer_is_compressed(library: Library) -> None:
    deflater = Deflater(12, False, 1, 5, library)
    expected = deflater.compress(b"abc" * 10)
    assert deflater.compress(bytearray(b"abc" * 10)) == expected
    assert deflater.compress(memoryview(b"abc" * 10)) == expected
    assert deflater.compress(memoryview(b"")) == b"\x00"


class Interrupted:
    """A compressor that something stops between taking a message in and giving it out."""

    def __init__(self, stream: zlib._Compress) -> None:
        self.stream = stream

    def compress(self, data: bytes) -> bytes:
        return self.stream.compress(data)

    def flush(self, mode: int) -> bytes:
        raise KeyboardInterrupt


@both
@pytest.mark.parametrize("context_takeover", [True, False])
def test_an_interrupted_message_is_not_in_the_next(
    library: Library, context_takeover: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    deflater = Deflater(11, context_takeover, 1, 5, library)
    inflater = Inflater(11, context_takeover, library)
    messages = documents(3)
    assert inflate(inflater, deflater.compress(messages[0])) == messages[0]
    if context_takeover:
        deflater._stream = Interrupted(deflater._stream)  # type: ignore[arg-type, assignment]
    else:
        idle = deflate._shared_compressors.idle
        stream = Interrupted(idle[deflater._settings])
        idle[deflater._settings] = stream  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        deflater.compress(messages[1])
    assert inflate(inflater, deflater.compress(messages[2])) == messages[2]


@both
def test_each_thread_has_its_own_shared_compressors(library: Library) -> None:
    message = documents(1)[0]
    expected = Deflater(12, False, 1, 5, library).compress(message)
    results: list[bool] = []

    def work() -> None:
        deflater = Deflater(12, False, 1, 5, library)
        results.append(not deflate._shared_compressors.idle)
        results.append(all(deflater.compress(message) == expected for _ in range(300)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8


# --------------------------------------------------------------------------- websockets as peer


def websockets_peer(parameters: DeflateParameters, *, client: bool) -> PerMessageDeflate:
    """The other end, in websockets' terms, of a connection whose our side is ``client``."""
    ours = (
        parameters.client_no_context_takeover if client else parameters.server_no_context_takeover
    )
    theirs = (
        parameters.server_no_context_takeover if client else parameters.client_no_context_takeover
    )
    our_bits = parameters.client_max_window_bits if client else parameters.server_max_window_bits
    their_bits = parameters.server_max_window_bits if client else parameters.client_max_window_bits
    return PerMessageDeflate(ours, theirs, our_bits, their_bits)


@both
@pytest.mark.parametrize("client", [True, False], ids=["we are client", "we are server"])
@pytest.mark.parametrize(
    "parameters",
    [
        DeflateParameters(False, False),
        DeflateParameters(True, True, 12, 12),
        DeflateParameters(True, False, 9, 15),
        DeflateParameters(False, True, 15, 9),
    ],
)
def test_websockets_reads_what_we_write_and_we_read_what_it_writes(
    library: Library, parameters: DeflateParameters, client: bool
) -> None:
    parameters = dataclasses.replace(parameters, library=library)
    peer = websockets_peer(parameters, client=client)
    deflater = deflater_for(parameters, WIDE, client=client)
    inflater = inflater_for(parameters, client=client)
    for message in [*documents(60), b"", b"x" * 200_000, b"", *documents(60, seed=2)]:
        ours = Frame(Opcode.BINARY, deflater.compress(message), True, True)
        assert bytes(peer.decode(ours).data) == message
        theirs = peer.encode(Frame(Opcode.BINARY, message))
        assert theirs.rsv1
        assert inflate(inflater, bytes(theirs.data), len(message)) == message


def test_websockets_fragments_are_read() -> None:
    peer = PerMessageDeflate(False, False, 15, 15)
    inflater = Inflater(15, True)
    for _ in range(3):
        frames = [
            peer.encode(Frame(Opcode.TEXT, b"a" * 1000, False)),
            peer.encode(Frame(Opcode.CONT, b"", False)),
            peer.encode(Frame(Opcode.CONT, b"b" * 1000, True)),
        ]
        expected = b"a" * 1000 + b"b" * 1000
        assert inflate(inflater, [bytes(frame.data) for frame in frames]) == expected


# ------------------------------------------------------------------------------- C1, C2: bombs


def peak_of(step: Callable[[], object]) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        step()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def zeros(size: int) -> bytes:
    return compress(bytes(size), level=9)


@both
@pytest.mark.parametrize("limit", [0, 1, 1000, 32 * KIB - 1, 32 * KIB, 32 * KIB + 1, MIB])
def test_c1_the_limit_is_exact_to_the_byte(library: Library, limit: int) -> None:
    generator = random.Random(limit)
    for data in (bytes(limit), generator.randbytes(limit), (b"abcdefgh" * limit)[:limit]):
        assert inflate(Inflater(15, True, library), compress(data), limit) == data
        with pytest.raises(InflateOverflow):
            inflate(Inflater(15, True, library), compress(data + b"x"), limit)


@both
@pytest.mark.parametrize("limit", [KIB, 100 * KIB, MIB])
def test_c1_a_bomb_takes_no_more_memory_than_the_limit(library: Library, limit: int) -> None:
    bomb = zeros(64 * MIB)

    def explode() -> None:
        with pytest.raises(InflateOverflow):
            Inflater(15, True, library).inflate(bomb, limit)

    explode()  # what pytest.raises itself needs is there after this
    assert peak_of(explode) <= limit + 64 * KIB + len(bomb)


@both
@pytest.mark.parametrize("context_takeover", [True, False])
def test_c1_after_the_limit_nothing_is_left(library: Library, context_takeover: bool) -> None:
    inflater = Inflater(15, context_takeover, library)
    with pytest.raises(InflateOverflow):
        inflater.inflate(zeros(MIB), 10)
    assert inflater._stream is None


@both
def test_c1_no_limit_is_no_limit(library: Library) -> None:
    assert len(inflate(Inflater(15, True, library), zeros(3 * MIB), -1)) == 3 * MIB


@both
def test_c2_a_limit_counts_over_fragments(library: Library) -> None:
    data = bytes(range(256)) * 4000
    message = compress(data)
    third = len(message) // 3
    pieces = [message[:third], message[third : 2 * third], message[2 * third :]]
    assert inflate(Inflater(15, True, library), pieces, len(data)) == data
    with pytest.raises(InflateOverflow):
        inflate(Inflater(15, True, library), pieces, len(data) - 1)


@both
@pytest.mark.parametrize("size", [64, 1000, 1 << 20])
def test_c2_a_bomb_over_fragments_takes_no_more_memory_than_the_limit(
    library: Library, size: int
) -> None:
    limit = MIB
    bomb = zeros(16 * MIB)
    fragments = [bomb[i : i + size] for i in range(0, len(bomb), size)]

    def fill(kept: list[bytes]) -> None:
        inflater = Inflater(15, True, library)
        room = limit
        for fragment in fragments:
            for piece in inflater.pieces(fragment, room):
                kept.append(piece)
                room -= len(piece)

    def explode() -> None:
        kept: list[bytes] = []
        with pytest.raises(InflateOverflow):
            fill(kept)
        assert limit - 64 * KIB < sum(map(len, kept)) <= limit

    explode()
    assert peak_of(explode) <= limit + 64 * KIB + len(bomb)


@both
def test_c2_a_bomb_that_takes_context_over_takes_no_more_memory_than_the_limit(
    library: Library,
) -> None:
    limit = 64 * KIB
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    harmless = (stream.compress(bytes(limit)) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]
    bomb = (stream.compress(bytes(16 * MIB)) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]

    def explode() -> None:
        inflater = Inflater(15, True, library)
        for _ in range(3):
            assert len(inflate(inflater, harmless, limit)) == limit
        with pytest.raises(InflateOverflow):
            inflater.inflate(bomb, limit)

    explode()
    # The harmless messages are joined from several pieces.
    assert peak_of(explode) <= 2 * limit + 64 * KIB + len(bomb)


# --------------------------------------------------------------------- C3, C4: final blocks

HELLO_FINAL = bytes.fromhex("f348cdc9c90700")  # RFC 7692 section 7.2.3.4


@both
@pytest.mark.parametrize("context_takeover", [True, False])
@pytest.mark.parametrize(
    "message",
    [
        HELLO_FINAL,
        HELLO_FINAL + b"\x00",
        bytes.fromhex("010500faff") + b"Hello" + b"\x00",
        bytes.fromhex("f248050000 00ffff cac9c90700"),  # two blocks: section 7.2.3.5
    ],
    ids=["alone", "and an empty block", "stored", "two blocks"],
)
def test_c3_a_final_block_then_another_message(
    library: Library, message: bytes, context_takeover: bool
) -> None:
    inflater = Inflater(15, context_takeover, library)
    for _ in range(3):
        assert inflate(inflater, message) == b"Hello"
        assert inflate(inflater, HELLO_FINAL) == b"Hello"
        assert inflate(inflater, compress(b"another")) == b"another"


@both
def test_c3_final_blocks_anywhere_in_a_message_at_every_split_point(library: Library) -> None:
    final = compress_finally(b"one ")[:-1]
    # A flush before the last final block makes the stream whole again.
    message = final + compress(b"two ") + b"\x00\x00\xff\xff" + final + b"\x00"
    expected = b"one two one "
    for cut in range(len(message) + 1):
        inflater = Inflater(15, True, library)
        assert inflate(inflater, [message[:cut], message[cut:]]) == expected
        assert inflate(inflater, [message[i : i + 1] for i in range(len(message))]) == expected
        assert inflate(inflater, compress(b"next")) == b"next"


@both
def test_c3_a_peer_that_makes_each_message_final_is_understood(library: Library) -> None:
    inflater = Inflater(15, True, library)
    for message in documents(50):
        assert inflate(inflater, compress_finally(message)) == message


@both
def test_c3_the_limit_is_exact_over_final_blocks(library: Library) -> None:
    message = compress_finally(b"x" * 100)[:-1] * 10 + b"\x00"
    assert inflate(Inflater(15, True, library), message, 1000) == b"x" * 1000
    with pytest.raises(InflateOverflow):
        inflate(Inflater(15, True, library), message, 999)


EMPTY_FINAL = b"\x03\x00"


@both
def test_c4_final_blocks_are_bounded_in_each_message(library: Library) -> None:
    inflater = Inflater(15, True, library)
    allowed = EMPTY_FINAL * MAX_FINAL_BLOCKS
    for _ in range(3):
        assert inflate(inflater, allowed) == b""
        assert inflate(inflater, [EMPTY_FINAL] * MAX_FINAL_BLOCKS) == b""
    with pytest.raises(TooManyFinalBlocks):
        inflater.inflate(allowed + EMPTY_FINAL, -1)


@both
def test_c4_final_blocks_do_not_copy_the_rest_of_the_message_each_time(library: Library) -> None:
    """What zlib leaves over it copies: of a large message that must be a slice, not the rest."""
    message = EMPTY_FINAL * (2 * MIB)
    module = zlib_module(library)
    copied = 0

    class Counting:
        def __init__(self, window_bits: int) -> None:
            self.stream = module.decompressobj(window_bits)

        def decompress(self, data: bytes, room: int) -> bytes:
            nonlocal copied
            plain: bytes = self.stream.decompress(data, room)
            copied += len(self.stream.unused_data) + len(self.stream.unconsumed_tail)
            return plain

        def __getattr__(self, name: str) -> object:
            return getattr(self.stream, name)

    counting = type("Z", (), {"decompressobj": Counting, "error": module.error})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deflate, "zlib_module", lambda library: counting)
        with pytest.raises(TooManyFinalBlocks):
            Inflater(15, True, library).inflate(message, -1)
        assert copied <= MAX_FINAL_BLOCKS * deflate.SLICE
        # The same for a bomb, whose input is taken in many steps, and for what does not shrink.
        for data in (bytes(8 * MIB), random.Random(1).randbytes(MIB)):
            copied = 0
            packed = compress(data)
            assert inflate(Inflater(15, True, library), packed) == data
            steps = len(data) // deflate.STEP + len(packed) // deflate.SLICE + 2
            assert copied <= steps * deflate.SLICE


# ------------------------------------------------------------------ C5, C6: data that is none


@both
@pytest.mark.parametrize(
    "data",
    [
        b"\x06",  # block type 3
        b"\x07",
        bytes.fromhex("000500faf0") + b"Hello",  # length and its complement differ
        bytes.fromhex("04") + b"\xff" * 20,
        b"\xff" * 100,
        bytes.fromhex("f248cdc9c907") + b"\xff" * 9,
    ],
)
@pytest.mark.parametrize("context_takeover", [True, False])
def test_c5_corrupt_data_is_refused(library: Library, data: bytes, context_takeover: bool) -> None:
    inflater = Inflater(15, context_takeover, library)
    with pytest.raises(InflateError) as caught:
        inflate(inflater, data)
    assert inflater._stream is None
    assert caught.value.violation == "INVALID_DEFLATE"


def is_whole(data: bytes) -> bool:
    """Whether ``data`` and its tail end between two blocks, by asking for a last block there."""
    if not data:
        return True
    stream = zlib.decompressobj(-15)
    try:
        stream.decompress(data)
        if stream.eof:
            return is_whole(stream.unused_data)
        if stream.decompress(b"\x00\x00\xff\xff") or stream.eof:
            return False
        return not stream.decompress(b"\x03\x00") and stream.eof and not stream.unused_data
    except zlib.error:
        return False


def packed_in_many_ways() -> list[bytes]:
    generator = random.Random(7)
    words = [bytes(generator.choices(range(97, 123), k=5)) for _ in range(300)]
    text = b" ".join(generator.choices(words, k=1500))
    return [
        compress(text),  # dynamic codes
        compress(b"short text, short text"),  # fixed codes
        compress(text[:1500], level=1),
        compress(generator.randbytes(300)),  # stored
        compress_finally(text[:1000]),
        compress(bytes(100_000)),
        compress(generator.randbytes(20_000).translate(bytes(range(128)) * 2)),
    ]


@both
@pytest.mark.parametrize("context_takeover", [True, False])
@pytest.mark.parametrize("index", range(7))
def test_c5_a_message_that_stops_half_way_is_refused(
    library: Library, index: int, context_takeover: bool
) -> None:
    data = packed_in_many_ways()[index]
    assert is_whole(data)
    refused = 0
    for cut in range(min(len(data), 3000)):
        inflater = Inflater(15, context_takeover, library)
        if is_whole(data[:cut]):
            inflate(inflater, data[:cut])
            continue
        refused += 1
        with pytest.raises(InflateError):
            inflate(inflater, data[:cut])
    assert refused > 0


@both
def test_c5_a_tail_that_was_not_removed_is_refused(library: Library) -> None:
    with pytest.raises(InflateError):
        inflate(Inflater(15, True, library), compress(b"Hello") + b"\x00\x00\xff\xff")


@both
@given(st.lists(st.binary(max_size=80), max_size=4), st.booleans(), st.integers(0, 300))
def test_c5_any_bytes_are_inflated_or_refused(
    library: Library, pieces: list[bytes], context_takeover: bool, room: int
) -> None:
    inflater = Inflater(15, context_takeover, library)
    try:
        message = inflate(inflater, pieces, room)
    except DeflateViolation as error:
        assert error.violation in VIOLATIONS  # noqa: PT017
    else:
        assert len(message) <= room
        if b"".join(pieces):
            assert is_whole(b"".join(pieces))


@both
@given(st.data())
def test_c5_any_damaged_message_is_inflated_or_refused(
    library: Library, data: st.DataObject
) -> None:
    packed = bytearray(compress(documents(1)[0] * 3))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    inflater = Inflater(15, True, library)
    try:
        assert len(inflate(inflater, bytes(packed), 5000)) <= 5000
    except DeflateViolation as error:
        assert error.violation in VIOLATIONS  # noqa: PT017


@both
def test_c6_a_distance_beyond_the_window_is_refused_across_messages(library: Library) -> None:
    generator = random.Random(3)
    secret, filler = generator.randbytes(400), generator.randbytes(1600)
    peer = zlib.compressobj(9, zlib.DEFLATED, -15)  # it agreed to 9 bits, and takes 15
    inflater = Inflater(9, True, library)
    for message in (secret, filler):
        data = (peer.compress(message) + peer.flush(zlib.Z_SYNC_FLUSH))[:-4]
        assert inflate(inflater, data) == message
    data = (peer.compress(secret) + peer.flush(zlib.Z_SYNC_FLUSH))[:-4]
    with pytest.raises(InflateError):
        inflate(inflater, data)


@both
def test_c6_a_distance_beyond_the_beginning_is_refused(library: Library) -> None:
    peer = zlib.compressobj(9, zlib.DEFLATED, -15)
    message = documents(1)[0]
    first, second = (
        (peer.compress(message) + peer.flush(zlib.Z_SYNC_FLUSH))[:-4] for _ in range(2)
    )
    afresh = Inflater(15, False, library)
    assert inflate(afresh, first) == message
    with pytest.raises(InflateError):
        inflate(afresh, second)


@pytest.mark.parametrize("context_takeover", [True, False])
def test_c6_a_compressed_message_without_payload_is_empty(context_takeover: bool) -> None:
    deflater = Deflater(15, context_takeover, 6, 8)
    inflater = Inflater(15, context_takeover)
    for message in documents(3):
        assert inflate(inflater, b"") == b""
        assert inflate(inflater, [b"", b""]) == b""
        assert inflate(inflater, deflater.compress(message)) == message
        assert inflate(inflater, b"\x00") == b""


# ------------------------------------------------------------------------ C7, C9: state


def test_c7_both_sides_stay_in_step_for_ten_thousand_messages() -> None:
    deflater, inflater = Deflater(12, True, 1, 5), Inflater(12, True)
    generator = random.Random(5)
    for message in documents(10_000):
        # The plain ones in between are none of zlib's business.
        if generator.random() < 0.5:
            assert inflate(inflater, deflater.compress(message), len(message)) == message


@pytest.mark.parametrize("context_takeover", [True, False])
def test_c9_there_is_no_zlib_state_before_the_first_message(context_takeover: bool) -> None:
    def make() -> tuple[Sequence[Deflater], Sequence[Inflater]]:
        return (
            [Deflater(12, context_takeover, 1, 5) for _ in range(1000)],
            [Inflater(12, context_takeover) for _ in range(1000)],
        )

    assert peak_of(make) / 1000 < 400
    deflaters, inflaters = make()
    assert all(deflater._stream is None for deflater in deflaters)
    assert all(inflater._stream is None for inflater in inflaters)


def test_c9_there_is_no_zlib_state_between_messages_without_takeover() -> None:
    deflater, inflater = Deflater(12, False, 1, 5), Inflater(12, False)
    assert inflate(inflater, deflater.compress(b"message")) == b"message"
    assert deflater._stream is None
    assert inflater._stream is None


def test_every_violation_has_an_answer() -> None:
    for violation in (InflateError, InflateOverflow, TooManyFinalBlocks):
        assert issubclass(violation, ValueError)
        assert violation.violation in VIOLATIONS


# ---------------------------------------------------------------------------- which library

MIXED = [pair for pair in itertools.product(LIBRARIES, repeat=2) if pair != ("zlib", "zlib")]


def test_what_was_agreed_carries_the_choice_of_each_side() -> None:
    quick = dataclasses.replace(DEDICATED, library="zlib-ng")
    chosen = negotiate(offers(offer(DEDICATED)), quick)
    assert chosen is not None
    assert chosen[0] == "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"
    agreed = accept_offer(offers(chosen[0]), DEDICATED)
    assert agreed == dataclasses.replace(chosen[1], library="zlib")
    assert accept_offer(offers(chosen[0]), quick) == chosen[1]
    for client in (True, False):
        assert deflater_for(chosen[1], quick, client=client).key == (12, 1, 5, "zlib-ng")
        assert inflater_for(chosen[1], client=client)._zlib.__name__ == "zlib_ng.zlib_ng"
        assert inflater_for(agreed, client=client)._zlib is zlib


@pytest.mark.parametrize(("ours", "theirs"), MIXED)
@pytest.mark.parametrize("context_takeover", [True, False])
@pytest.mark.parametrize("bits", range(9, 16))
def test_each_library_reads_the_other(
    bits: int, context_takeover: bool, ours: Library, theirs: Library
) -> None:
    """Above all: neither compresses with a larger window than it was told to."""
    generator = random.Random(bits)
    noise = generator.randbytes(40_000)
    messages = [*documents(20), noise, noise[5_000:], documents(1)[0] * 200, b"", b"x" * 100_000]
    for level, mem_level in [(1, 5), (2, 9), (3, 1), (6, 8), (9, 9)]:
        deflater = Deflater(bits, context_takeover, level, mem_level, ours)
        inflater = Inflater(bits, context_takeover, theirs)
        for message in messages:
            assert inflate(inflater, deflater.compress(message), len(message)) == message


def outcome(library: Library, data: Sequence[bytes], room: int) -> bytes | str:
    """The message, or the name of what is wrong with it."""
    try:
        return inflate(Inflater(12, True, library), list(data), room)
    except DeflateViolation as error:
        return error.violation


@given(st.data())
def test_both_libraries_judge_a_damaged_message_alike(data: st.DataObject) -> None:
    made: Library = data.draw(st.sampled_from(LIBRARIES))
    deflater = Deflater(12, False, data.draw(st.integers(1, 9)), 5, made)
    packed = bytearray(deflater.compress(documents(1)[0] * 3 + bytes(range(256))))
    for _ in range(data.draw(st.integers(0, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    packed = packed[: data.draw(st.integers(0, len(packed)))]
    cut = data.draw(st.integers(0, len(packed)))
    pieces = [bytes(packed[:cut]), bytes(packed[cut:])]
    # Without room for all of it, what is found first depends on how far each runs ahead.
    assert outcome("zlib", pieces, MIB) == outcome("zlib-ng", pieces, MIB)


def test_compressors_of_different_libraries_are_not_shared() -> None:
    one, other = Deflater(12, False, 1, 5), Deflater(12, False, 1, 5, "zlib-ng")
    assert one.key != other.key
    message = documents(1)[0]
    # Each goes on with what is its own, and they do not make the same bytes.
    assert one.compress(message) != other.compress(message)
    idle = deflate._shared_compressors.idle
    assert type(idle[one.key]) is not type(idle[other.key])


def test_a_library_is_imported_only_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zlib_ng.zlib_ng", None)
    assert inflate(Inflater(12, True), Deflater(12, True, 1, 5).compress(b"message")) == b"message"
    sentence = r"^deflate library is zlib-ng, which needs the package zlib-ng, .* or choose zlib$"
    with pytest.raises(ValueError, match=sentence):
        DeflateOptions(library="zlib-ng")
    with pytest.raises(ValueError, match=sentence):
        Inflater(12, True, "zlib-ng")
    with pytest.raises(ValueError, match=sentence):
        Deflater(12, True, 1, 5, "zlib-ng")
