"""Micro-benchmarks of the codec: `python -m benchmarks.micro --help`.

Masking and UTF-8 in C against `memcpy` of the same bytes (micro_c_helpers.c); reading and building
frames, and compression, as Python code calls them.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import timeit
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.report import Target
from benchmarks.running import HERE, BenchmarkError, compile_program
from fastws._codec import FrameParser, build_frame
from fastws.codes import Opcode
from fastws.deflate import Deflater, Inflater
from fastws.limits import DeflateOptions, Limits

KEY = "codec"
SECONDS = 20.0
"""About what all of it takes."""

ROUNDS = 30
QUICK_ROUNDS = 2
ROUND_SECONDS = 0.005
SIZES = (64, 1024, 65536)
BATCH = 16
MASKING_GOAL = Target("masking, 64 KiB: GB/s, × `memcpy`", 0.8, at_most=False)


@dataclass(frozen=True)
class Figure:
    """Time of one call on `size` bytes; `ratio` compares its speed with `memcpy`, or is None."""

    name: str
    size: int
    nanoseconds: float
    ratio: float | None = None

    @property
    def gigabytes_per_second(self) -> float:
        return self.size / self.nanoseconds


# ---------------------------------------------------------------------------- C

_LINE = re.compile(r"(?P<name>.+?) +(?P<size>\d+) B .* ratio +(?P<ratio>[\d.]+) +(?P<ns>[\d.]+) ns")


def c_helpers(rounds: int) -> list[Figure]:
    """Raises BenchmarkError when it cannot be compiled or run."""
    binary = compile_program("micro_c_helpers", ["micro_c_helpers.c"])
    done = subprocess.run([str(binary), str(rounds)], capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchmarkError(f"micro_c_helpers failed: {done.stderr}")
    return [
        Figure(m["name"], int(m["size"]), float(m["ns"]), float(m["ratio"]))
        for m in map(_LINE.match, done.stdout.splitlines())
        if m is not None
    ]


# ---------------------------------------------------------------------------- Python


def _nanoseconds(call: Callable[[], object], rounds: int) -> float:
    """The least time of a call: whatever else runs on the machine only adds to it."""
    timer = timeit.Timer(call)
    number = 1
    while (took := timer.timeit(number)) < ROUND_SECONDS / 4:
        number *= 2
    number = max(1, int(number * ROUND_SECONDS / took))
    return min(timer.repeat(repeat=rounds, number=number)) / number * 1e9


def _text(size: int) -> str:
    return ("The quick brown fox jumps over the lazy dog; " * (size // 45 + 1))[:size]


def _beyond_ascii(size: int) -> str:
    text = "Zwölf Boxkämpfer, Москва, 你好世界! " * (size // 50 + 1)
    encoded = text.encode()[:size].decode(errors="ignore")
    return encoded + "." * (size - len(encoded.encode()))


def _messages(size: int) -> tuple[tuple[str, str | bytes, int], ...]:
    return (
        ("text", _text(size), Opcode.TEXT),
        ("text beyond ASCII", _beyond_ascii(size), Opcode.TEXT),
        ("binary", (bytes(range(256)) * (size // 256 + 1))[:size], Opcode.BINARY),
    )


def _reading(message: str | bytes, opcode: int, count: int, rounds: int) -> float:
    """Nanoseconds a frame, so many of them in one read."""
    parser = FrameParser(limits=Limits())
    chunk = build_frame(opcode, message, mask=b"\x0b\xad\xf0\x0d") * count
    if parser.feed(chunk) != [message] * count:
        raise BenchmarkError(f"The parser did not read {count} message(s) of {len(message)}.")
    return _nanoseconds(partial(parser.feed, chunk), rounds) / count


def frames(rounds: int) -> list[Figure]:
    figures = []
    for size in SIZES:
        for kind, message, opcode in _messages(size):
            taken = _reading(message, opcode, 1, rounds)
            figures.append(Figure(f"read a frame, {kind}", size, taken))
            if size <= 1024:
                taken = _reading(message, opcode, BATCH, rounds)
                figures.append(Figure(f"read a frame, {kind}, {BATCH} in a read", size, taken))
            taken = _nanoseconds(partial(build_frame, opcode, message), rounds)
            figures.append(Figure(f"build a frame, {kind}", size, taken))
    return figures


def _order(size: int) -> bytes:
    items = [
        {"sku": f"{i * 2654435761 % 2**32:08X}", "count": i % 9, "price": i % 400 + 0.25}
        for i in range(1000)
    ]
    whole = json.dumps({"kind": "order", "items": items}, separators=(",", ":"))
    return whole[:size].encode()


def compression(rounds: int) -> list[Figure]:
    """Through this package's Deflater and Inflater; then what the libraries alone take."""
    message = _order(1024)
    options = DeflateOptions()
    figures = _ours("dedicated", True, message, options, rounds)
    figures += _ours("shared", False, message, options, rounds)
    for name in ("zlib", "zlib_ng.zlib_ng"):
        figures += _library(name, message, options, rounds)
    return figures


def _ours(
    mode: str, takeover: bool, message: bytes, options: DeflateOptions, rounds: int
) -> list[Figure]:
    deflater = Deflater(options.window_bits, takeover, options.level, options.mem_level)
    inflater = Inflater(options.window_bits, takeover)
    # What starts afresh can be inflated over and over again.
    fresh = Deflater(options.window_bits, False, options.level, options.mem_level)
    compressed = fresh.compress(message)

    def inflate() -> bytes:
        return inflater.inflate(compressed, 1 << 20) + inflater.finish(1 << 20)

    if inflate() != message:
        raise BenchmarkError("The inflater did not restore the message.")
    taken = _nanoseconds(partial(deflater.compress, message), rounds)
    return [
        Figure(f"compress JSON, {mode}", len(message), taken),
        Figure(f"inflate JSON, {mode}", len(message), _nanoseconds(inflate, rounds)),
    ]


def _library(name: str, message: bytes, options: DeflateOptions, rounds: int) -> list[Figure]:
    try:
        library: Any = import_module(name)
    except ImportError:
        return []
    stream = library.compressobj(
        options.level, library.DEFLATED, -options.window_bits, options.mem_level
    )

    def compress() -> bytes:
        beginning: bytes = stream.compress(message)
        return beginning + bytes(stream.flush(zlib.Z_FULL_FLUSH))

    compressed = compress()
    reader = library.decompressobj(-options.window_bits)
    return [
        Figure(f"{name} alone: compress JSON", len(message), _nanoseconds(compress, rounds)),
        Figure(
            f"{name} alone: inflate JSON",
            len(message),
            _nanoseconds(lambda: reader.decompress(compressed), rounds),
        ),
    ]


# ---------------------------------------------------------------------------- results


def everything(rounds: int) -> list[Figure]:
    return [*c_helpers(rounds), *frames(rounds), *compression(rounds)]


def measure(python: Path, quick: bool) -> list[Figure]:
    """Run in `python`, which may have the faster zlib; raises BenchmarkError when it fails."""
    command = [str(python), "-m", "benchmarks.micro", "--json"]
    command += ["--rounds", str(QUICK_ROUNDS if quick else ROUNDS)]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchmarkError(f"The micro-benchmarks failed:\n{done.stderr}")
    return [Figure(**figure) for figure in json.loads(done.stdout)]


def goals_table(figures: Sequence[Figure]) -> list[str]:
    for figure in figures:
        if (figure.name, figure.size, figure.ratio) == ("mask", 65536, figure.ratio):
            assert figure.ratio is not None
            verdict = MASKING_GOAL.verdict(figure.ratio)
            header = ["| figure | measured | goal |", "|---|---|---|"]
            return [*header, f"| {MASKING_GOAL.figure} | {figure.ratio:.2f} | {verdict} |", ""]
    return []


def tables(figures: Sequence[Figure]) -> list[str]:
    if not figures:
        return []
    lines = [
        "### The codec alone",
        "",
        "| what | bytes | ns | GB/s | × `memcpy` |",
        "|---|---|---|---|---|",
    ]
    for figure in figures:
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        lines.append(
            f"| {figure.name} | {figure.size:,} | {figure.nanoseconds:,.0f} "
            f"| {figure.gigabytes_per_second:.2f} | {ratio} |"
        )
    return [*lines, ""]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.micro", description="Speed of the codec's parts."
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="the best of (%(default)s)")
    parser.add_argument("--json", action="store_true", help="figures for a program to read")
    options = parser.parse_args()
    try:
        figures = everything(options.rounds)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps([asdict(figure) for figure in figures]))
    else:
        print("\n".join([*goals_table(figures), *tables(figures)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
