"""The C helpers ``_mask.h`` and ``_utf8.h``: against byte-wise oracles, and within their bounds.

The headers are compiled into a shared library of their own, once for each path that this machine
can run, with the system's C compiler. ``CC`` and ``CFLAGS`` are honoured, and so is
``FASTWS_SANITIZE``, with which ``make asan`` builds everything under ASan and UBSan.
"""

from __future__ import annotations

import codecs
import ctypes
import itertools
import os
import random
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="the guard pages are made with mmap and mprotect"
)

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "tests" / "c" / "helpers.c"
SANITIZERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"]
PATHS = {"default": [], "no-avx2": ["-DFASTWS_NO_AVX2"], "no-simd": ["-DFASTWS_NO_SIMD"]}
KEY = bytes.fromhex("37fa213d")

# ---- building ------------------------------------------------------------------------------------


def compiler() -> list[str]:
    """The command of the C compiler: ``CC``, else what built this Python, else ``cc``."""
    for command in (os.environ.get("CC"), sysconfig.get_config_var("CC"), "cc"):
        words = shlex.split(command or "")
        if words and shutil.which(words[0]):
            return words
    pytest.fail("no C compiler was found: install one, or name it in the variable CC")


def compile_helpers(command: list[str], output: Path, *options: str) -> None:
    """Builds the helpers with every warning an error; fails with what the compiler said."""
    # A sanitizer's runtime that is preloaded for the tests must not judge the compiler.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    flags = ["-O2", "-fPIC", "-shared", *WARNINGS, f"-I{ROOT / 'fastws'}", *options]
    if os.environ.get("FASTWS_SANITIZE"):
        flags += SANITIZERS
    flags += shlex.split(os.environ.get("CFLAGS", ""))
    done = subprocess.run(
        [*command, *flags, "-o", str(output), str(SOURCE)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{shlex.join(done.args)}\n{done.stderr}")


class Utf8State(ctypes.Structure):
    """``fastws_utf8``."""

    _fields_ = [("due", ctypes.c_uint8), ("low", ctypes.c_uint8), ("high", ctypes.c_uint8)]


class Helpers:
    """The compiled helpers, on ``bytes``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        library = ctypes.CDLL(str(path))
        pointer, size, word, number = (
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_uint32,
            ctypes.c_uint,
        )
        for name, result, arguments in (
            ("t_mask_rotate", word, [word, number]),
            ("t_mask", None, [pointer, pointer, size, word, number]),
            ("t_mask_or", number, [pointer, pointer, size, word, number]),
            ("t_copy_or", number, [pointer, pointer, size]),
            ("t_utf8_reset", None, [pointer]),
            ("t_utf8_feed", ctypes.c_int, [pointer, ctypes.c_char_p, size]),
            ("t_utf8_complete", ctypes.c_int, [pointer]),
            ("t_uses_avx2", ctypes.c_int, []),
            ("check_masking", ctypes.c_char_p, [size, size, size]),
            ("check_high_bit_positions", ctypes.c_char_p, [size, size, size]),
            ("check_guard_pages", ctypes.c_char_p, [size]),
            ("touch_guard_page", ctypes.c_int, [ctypes.c_int]),
            ("classify_three_byte_sequences", None, [pointer]),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        self.library = library

    def check(self, name: str, *arguments: int) -> None:
        """Runs one of the checks written in C."""
        fault = getattr(self.library, name)(*arguments)
        assert fault is None, fault.decode()

    def run(self, name: str, data: bytes, *arguments: int, in_place: bool) -> tuple[bytes, int]:
        """Applies a masking helper; returns the result and the function's own return value."""
        source = ctypes.create_string_buffer(data, max(len(data), 1))
        target = source if in_place else ctypes.create_string_buffer(max(len(data), 1))
        value = getattr(self.library, f"t_{name}")(target, source, len(data), *arguments)
        return target.raw[: len(data)], value


class Validator:
    """One ``fastws_utf8`` being fed."""

    def __init__(self, helpers: Helpers) -> None:
        self.library = helpers.library
        self.state = Utf8State(0xFF, 0xFF, 0xFF)
        self.reset()

    def reset(self) -> None:
        self.library.t_utf8_reset(ctypes.byref(self.state))

    def feed(self, data: bytes) -> bool:
        """Whether the text can still be valid."""
        result = self.library.t_utf8_feed(ctypes.byref(self.state), data, len(data))
        assert result in (0, -1)
        return bool(result == 0)

    def is_complete(self) -> bool:
        return bool(self.library.t_utf8_complete(ctypes.byref(self.state)))


@pytest.fixture(scope="session", params=PATHS)
def helpers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Helpers:
    library = tmp_path_factory.mktemp("c_helpers") / f"helpers-{request.param}.so"
    compile_helpers(compiler(), library, *PATHS[request.param])
    return Helpers(library)


@pytest.mark.parametrize("standard", ["c99", "c11"])
@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_compiles_without_a_warning(name: str, standard: str, tmp_path: Path) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed here; the other tests use {compiler()[0]}")
    compile_helpers([name], tmp_path / "helpers.so", f"-std={standard}")


def test_paths_left_out_are_left_out(helpers: Helpers) -> None:
    if "default" not in helpers.path.name:
        assert not helpers.library.t_uses_avx2()


# ---- masking -------------------------------------------------------------------------------------


def key_word(key: bytes) -> int:
    return int.from_bytes(key, sys.byteorder)


def masked(data: bytes, key: bytes, phase: int) -> bytes:
    """RFC 6455 section 5.3, one byte at a time."""
    return bytes(byte ^ key[(phase + i) % 4] for i, byte in enumerate(data))


@pytest.mark.parametrize("phase", range(4))
def test_rotate_brings_the_phase_to_the_front(helpers: Helpers, phase: int) -> None:
    rotated = helpers.library.t_mask_rotate(key_word(KEY), phase)
    assert rotated == key_word(KEY[phase:] + KEY[:phase])


def test_every_length_offset_and_phase(helpers: Helpers) -> None:
    helpers.check("check_masking", 0, 300, 1)


def test_lengths_about_and_beyond_the_wide_path(helpers: Helpers) -> None:
    helpers.check("check_masking", 500, 1300, 21)


def test_a_single_high_bit_is_noticed_at_every_position(helpers: Helpers) -> None:
    helpers.check("check_high_bit_positions", 0, 300, 1)


def test_a_single_high_bit_is_noticed_in_a_large_block(helpers: Helpers) -> None:
    helpers.check("check_high_bit_positions", 500, 1300, 13)


@pytest.mark.parametrize("in_place", [False, True])
def test_agrees_with_the_python_oracle(helpers: Helpers, in_place: bool) -> None:
    chance = random.Random(6455)
    lengths = [*range(70), 125, 126, 127, 128, 255, 256, 511, 512, 1023, 4097, 65535, 65536]
    for length, phase in itertools.product(lengths, range(4)):
        key = chance.randbytes(4)
        plain = chance.randbytes(length)
        if chance.random() < 0.5:
            plain = bytes(byte & 0x7F for byte in plain)
        wire = masked(plain, key, phase)
        word = key_word(key)
        assert helpers.run("mask", wire, word, phase, in_place=in_place)[0] == plain
        result, high = helpers.run("mask_or", wire, word, phase, in_place=in_place)
        assert (result, high == 0) == (plain, plain.isascii())
        result, high = helpers.run("copy_or", plain, in_place=in_place)
        assert (result, high == 0) == (plain, plain.isascii())


def test_pieces_with_their_phase_equal_the_whole(helpers: Helpers) -> None:
    chance = random.Random(53)
    for _ in range(300):
        data = chance.randbytes(chance.randrange(1500))
        pieces = b""
        for piece in cut(data, chance):
            phase = len(pieces) % 4
            pieces += helpers.run("mask", piece, key_word(KEY), phase, in_place=False)[0]
        assert pieces == masked(data, KEY, 0)


def test_masks_the_example_of_the_rfc(helpers: Helpers) -> None:
    # RFC 6455 section 5.7: a single-frame masked text message.
    wire = bytes.fromhex("7f9f4d5158")
    assert helpers.run("mask", wire, key_word(KEY), 0, in_place=True)[0] == b"Hello"


def run_alone(helpers: Helpers, call: str) -> subprocess.CompletedProcess[str]:
    """Makes a call in a process of its own, whose death is a result and not the end of the run."""
    program = (
        f"import ctypes; library = ctypes.CDLL({str(helpers.path)!r})\n"
        "library.check_guard_pages.restype = ctypes.c_char_p\n"
        "library.check_guard_pages.argtypes = [ctypes.c_size_t]\n"
        f"print(library.{call})"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )


def test_nothing_beyond_the_buffers_is_touched(helpers: Helpers) -> None:
    done = run_alone(helpers, "check_guard_pages(1300)")
    assert (done.returncode, done.stdout.strip()) == (0, "None"), done.stderr


@pytest.mark.parametrize("after", [0, 1])
def test_the_guard_pages_guard(helpers: Helpers, after: int) -> None:
    assert run_alone(helpers, f"touch_guard_page({after})").returncode != 0


# ---- UTF-8 ---------------------------------------------------------------------------------------

VALID = [
    "",
    "plain ASCII, longer than one block of sixteen bytes, and then longer than sixty-four of them",
    "\x00\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff",
    "κόσμε",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich",
    "Привет, мир! Как дела? Сегодня хороший день.",
    "你好,世界。こんにちは。안녕하세요",
    "😀😃😄 in the middle 😁 and at the end 😆",
    "x" * 15 + "é" + "x" * 63 + "漢" + "x" * 64 + "😀",
    "\ufeffbyte order mark",
]
STRAY_OR_FORBIDDEN = ["80", "bf", "c0", "c1", "f5", "ff", "fe", "f8888080", "fc8480808080"]
OVERLONG = ["c080", "c1bf", "e08080", "e09fbf", "f0808080", "f08fbfbf"]
SURROGATES_AND_TOO_LARGE = ["eda080", "edbfbf", "f4908080", "78eda0bdedb880"]
MISSING_CONTINUATION = ["c328", "e228a1", "e28228", "f0288cbc", "f09028bc", "f0908c28", "c3c3a9"]
TRUNCATED = ["c3", "e4bd", "f09f98", "cebae1bdb9cf83cebcceb5f09f98"]
INVALID = [
    bytes.fromhex(digits)
    for digits in itertools.chain(
        STRAY_OR_FORBIDDEN, OVERLONG, SURROGATES_AND_TOO_LARGE, MISSING_CONTINUATION, TRUNCATED
    )
]


def cut(data: bytes, chance: random.Random) -> Iterator[bytes]:
    """Splits data at random places; some pieces are empty."""
    position = 0
    while position < len(data):
        length = chance.choice([0, 1, 2, 3, 5, 16, 17, 40, 200])
        yield data[position : position + length]
        position += length


@cache
def code_points() -> tuple[frozenset[bytes], frozenset[bytes]]:
    """Every encoded code point, and every beginning of one that is not all of it."""
    whole = set()
    for point in itertools.chain(range(0xD800), range(0xE000, 0x110000)):
        whole.add(chr(point).encode())
    begun = {point[:length] for point in whole for length in range(1, len(point))}
    return frozenset(whole), frozenset(begun)


def follow(pending: bytes, byte: int) -> bytes | None:
    """What is begun of a code point after one more byte; None if no text goes on like this.

    The definition itself, by search: of the code points and their beginnings, is it one?
    """
    whole, begun = code_points()
    pending += bytes([byte])
    if pending in whole:
        return b""
    return pending if pending in begun else None


def judge(data: bytes) -> tuple[int | None, bool]:
    """The index of the first byte after which data cannot be made valid, and if it is complete."""
    pending = b""
    for i, byte in enumerate(data):
        after = follow(pending, byte)
        if after is None:
            return i, False
        pending = after
    return None, not pending


def decodes(data: bytes) -> bool:
    try:
        codecs.utf_8_decode(data, "strict", True)
    except UnicodeDecodeError:
        return False
    return True


def assert_judged_alike(validator: Validator, data: bytes, pieces: Iterator[bytes]) -> None:
    """Fed piece by piece: the piece with the first impossible byte fails, and none before it."""
    fault, complete = judge(data)
    validator.reset()
    fed = 0
    for piece in pieces:
        fed += len(piece)
        possible = fault is None or fed <= fault
        assert validator.feed(piece) is possible, (data, fed, fault)
        if not possible:
            return
    assert fault is None
    assert validator.is_complete() is complete, data


def test_one_and_two_byte_sequences_agree_with_the_decoder(helpers: Helpers) -> None:
    validator = Validator(helpers)
    for length in (1, 2):
        for sequence in itertools.product(range(256), repeat=length):
            data = bytes(sequence)
            validator.reset()
            assert (validator.feed(data) and validator.is_complete()) is decodes(data), data


def test_three_byte_sequences_fail_at_the_earliest_byte(helpers: Helpers) -> None:
    verdicts = (ctypes.c_uint8 * 2**24)()
    helpers.library.classify_three_byte_sequences(verdicts)
    got = bytes(verdicts)

    @cache
    def third(pending: bytes) -> bytes:
        after = (follow(pending, byte) for byte in range(256))
        return bytes(3 if left is None else 4 if left else 0 for left in after)

    for first, second in itertools.product(range(256), repeat=2):
        begun = follow(b"", first)
        after = None if begun is None else follow(begun, second)
        expected = bytes([1 if begun is None else 2]) * 256 if after is None else third(after)
        start = first << 16 | second << 8
        assert got[start : start + 256] == expected, f"{first:02x} {second:02x}"


def test_the_definition_agrees_with_the_decoder() -> None:
    """The oracle of these tests is itself tested: on all that can start a three-byte code point."""
    for first, second in itertools.product(range(0xDF, 0xF1), range(256)):
        for third in (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF):
            data = bytes([first, second, third])
            assert judge(data)[1] is decodes(data), data


def test_boundary_four_byte_sequences(helpers: Helpers) -> None:
    edges = (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF)
    leads = (0xE0, 0xED, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF7, 0xFF)
    validator = Validator(helpers)
    for sequence in itertools.product(leads, range(256), edges, edges):
        data = bytes(sequence)
        validator.reset()
        assert (validator.feed(data) and validator.is_complete()) is decodes(data), data
    for sequence in itertools.product(leads, edges, edges, edges):
        data = bytes(sequence)
        assert_judged_alike(validator, data, (data[i : i + 1] for i in range(4)))


@pytest.mark.parametrize("data", [text.encode() for text in VALID] + INVALID)
def test_every_split_in_two_and_three(helpers: Helpers, data: bytes) -> None:
    validator = Validator(helpers)
    places = range(len(data) + 1)
    for one, two in itertools.combinations_with_replacement(places, 2):
        assert_judged_alike(validator, data, iter((data[:one], data[one:two], data[two:])))


@pytest.mark.parametrize("text", VALID)
def test_valid_text_ends_complete(helpers: Helpers, text: str) -> None:
    validator = Validator(helpers)
    assert validator.feed(text.encode())
    assert validator.is_complete()


@pytest.mark.parametrize("data", INVALID)
def test_invalid_text_is_refused_or_incomplete(helpers: Helpers, data: bytes) -> None:
    validator = Validator(helpers)
    assert not (validator.feed(data) and validator.is_complete())


def test_a_fault_is_found_at_every_place_among_blocks(helpers: Helpers) -> None:
    validator = Validator(helpers)
    for filler, fault in itertools.product(("a", "é", "漢", "😀"), INVALID):
        for before in range(70):
            data = b"a" * (before % 4) + filler.encode() * before + fault + b"a" * 80
            assert_judged_alike(validator, data, iter((data,)))


def test_random_text_with_random_cuts(helpers: Helpers) -> None:
    chance = random.Random(3629)
    validator = Validator(helpers)
    alphabets = ["abcdefgh ", "aé", "при вет", "漢字か ", "😀a", "".join(VALID)]
    for _ in range(4000):
        text = "".join(
            "".join(chance.choices(chance.choice(alphabets), k=chance.randrange(40)))
            for _ in range(chance.randrange(6))
        )
        data = bytearray(text.encode())
        if data and chance.random() < 0.6:
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.2:
            del data[chance.randrange(len(data) + 1) :]
        assert_judged_alike(validator, bytes(data), cut(bytes(data), chance))


def test_random_bytes_fail_at_the_earliest_byte(helpers: Helpers) -> None:
    chance = random.Random(7)
    validator = Validator(helpers)
    leads_and_tails = bytes([0x41, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC2, 0xE0, 0xE1, 0xED])
    leads_and_tails += bytes([0xF0, 0xF1, 0xF4])
    for _ in range(20_000):
        data = bytes(chance.choices(leads_and_tails, k=chance.randrange(1, 9)))
        assert_judged_alike(validator, data, (bytes([byte]) for byte in data))


def test_large_text(helpers: Helpers) -> None:
    validator = Validator(helpers)
    data = ("ASCII at first. " * 50 + "".join(VALID)).encode() * 200
    assert validator.feed(data)
    assert validator.is_complete()
    assert not validator.feed(data + b"\xff" + data)


def test_a_fault_lasts_until_reset(helpers: Helpers) -> None:
    validator = Validator(helpers)
    for fault in (b"\xff", b"x" * 64 + b"\xff", b"\xe4x"):
        assert not validator.feed(fault)
        assert not validator.feed(b"valid")
        assert not validator.feed(b"")
        assert not validator.is_complete()
        validator.reset()
        assert validator.feed(b"valid")
        assert validator.is_complete()


def test_a_fault_in_a_later_piece_lasts_too(helpers: Helpers) -> None:
    validator = Validator(helpers)
    assert validator.feed(b"\xe4")
    assert not validator.feed(b"x")
    assert not validator.feed(b"\xbd\xa0")


def test_feeding_nothing_changes_nothing(helpers: Helpers) -> None:
    validator = Validator(helpers)
    assert validator.feed(b"")
    assert validator.is_complete()
    assert validator.feed(b"\xf0\x9f")
    assert validator.feed(b"")
    assert not validator.is_complete()
    assert validator.feed(b"\x98\x80")
    assert validator.is_complete()


def test_zeroed_memory_is_a_reset_state(helpers: Helpers) -> None:
    validator = Validator(helpers)
    validator.state = Utf8State()
    assert validator.is_complete()
    assert validator.feed("é漢😀".encode())
    assert validator.is_complete()


def test_the_state_tells_what_is_due(helpers: Helpers) -> None:
    validator = Validator(helpers)
    for data, due, low, high in (
        (b"\xc3", 1, 0x80, 0xBF),
        (b"\xe0", 2, 0xA0, 0xBF),
        (b"\xed", 2, 0x80, 0x9F),
        (b"\xe4\xbd", 1, 0x80, 0xBF),
        (b"\xf0", 3, 0x90, 0xBF),
        (b"\xf3", 3, 0x80, 0xBF),
        (b"\xf4", 3, 0x80, 0x8F),
        (b"\xf4\x8f", 2, 0x80, 0xBF),
        (b"x" * 30 + b"\xf4\x8f\xbf", 1, 0x80, 0xBF),
    ):
        validator.reset()
        assert validator.feed(data)
        state = validator.state
        assert (state.due, state.low, state.high) == (due, low, high), data
