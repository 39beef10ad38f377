"""Instruction counts of a fixed echo workload: `python -m benchmarks.instructions --help`.

A count, unlike a time, is the same on a busy machine, so that a change that makes a message 3 %
dearer is seen in that change. One that makes it as much cheaper has to record that: else the next
one could lose it again. Valgrind's callgrind counts what a process executes while it echoes
messages; the process itself tells it where the counted part begins and ends (callgrind_marks.c), so
that start-up, imports and the first messages are no part of it.

The workload has no socket and no clock: client frames go to `data_received()` of a connection whose
transport only counts, on asyncio's own loop, and a handler in Python echoes what they say.

Counts depend on the compiler, on the build of Python and of libc, and on what the CPU can do. The
committed file therefore has figures for each environment that was recorded; in any other one this
program says what is different, records there what it counts, and passes.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.running import HERE, BenchmarkError, compile_program
from fastws import FastWS, WebSocket, build_frame
from fastws.codes import Opcode
from fastws.config import Config
from fastws.http11 import HTTPProtocol
from fastws.hub import Hub

COMMITTED = HERE / "instructions.json"
TOLERANCE = 0.03
WARMUP, COUNTED = 320, 1_600
MASK = b"\x0b\xad\xf0\x0d"

WORKLOADS = {
    "text-64-1": (64, "text", 1),
    "text-64-16": (64, "text", 16),
    "binary-64-16": (64, "binary", 16),
    "json-1k-16": (1024, "json", 16),
    "utf8-1k-16": (1024, "utf8", 16),
    "binary-64k-1": (65536, "binary", 1),
}
"""Bytes, kind and messages that arrive in one read."""

# ---------------------------------------------------------------------------- what is counted

HANDSHAKE = (
    b"GET /%s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Sink(asyncio.Transport):
    """Takes everything at once and counts it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written = 0
        self.protocol: asyncio.BaseProtocol | None = None
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.written += len(data)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self.protocol is not None
        return self.protocol

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    def abort(self) -> None:
        self._closing = True

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        """Everything is read before the next bytes come."""

    def resume_reading(self) -> None:
        """It never paused."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever kept."""

    def get_write_buffer_size(self) -> int:
        return 0


def application() -> FastWS:
    app = FastWS()

    @app.websocket("/text")
    async def echo_text(ws: WebSocket) -> None:
        await ws.accept()
        while True:
            await ws.send_text(await ws.receive_text())

    @app.websocket("/binary")
    async def echo_binary(ws: WebSocket) -> None:
        await ws.accept()
        while True:
            await ws.send_bytes(await ws.receive_bytes())

    @app.websocket("/json")
    async def echo_json(ws: WebSocket) -> None:
        await ws.accept()
        while True:
            await ws.send_json(await ws.receive_json())

    return app


def payload(kind: str, size: int) -> str | bytes:
    if kind == "binary":
        return (bytes(range(256)) * (size // 256 + 1))[:size]
    if kind == "utf8":
        text = ("Zwölf Москва 你好 " * size).encode()[:size].decode(errors="ignore")
        return text + "." * (size - len(text.encode()))
    if kind == "json":
        items = [{"sku": f"AB{i:06d}", "count": i % 9, "price": 19.25} for i in range(size)]
        text = json.dumps({"items": items}, separators=(",", ":"))[: size - 50]
        text = text[: text.rindex(",{")]
        return text + '],"note":"' + "x" * (size - len(text) - 12) + '"}'
    return ("The quick brown fox jumps over the lazy dog; " * size)[:size]


class Marks:
    """Where the counted part of one workload begins and ends."""

    def __init__(self, library: ctypes.CDLL, workload: str) -> None:
        self.start = library.start
        self._stop = library.stop
        self._name = workload.encode()

    def stop(self) -> None:
        self._stop(self._name)


def echo_each(workloads: Sequence[str], library: str) -> None:
    """What callgrind runs."""
    loaded = ctypes.CDLL(library)
    for workload in workloads:
        asyncio.run(echo(*WORKLOADS[workload], Marks(loaded, workload)))


async def steps_until(transport: Sink, written: int) -> None:
    """No more steps of the loop than it takes: each would be counted."""
    for _ in range(20):
        if transport.written >= written:
            return
        await asyncio.sleep(0)


async def echo(size: int, kind: str, batch: int, marks: Marks) -> None:
    """Echo messages; raises RuntimeError when one does not come back whole."""
    loop = asyncio.get_running_loop()
    app = application()
    hub = Hub(Config(app, access_log=False, ws_ping_interval=None), app, loop)
    transport = Sink()
    http = HTTPProtocol(hub)
    http.connection_made(transport)
    path = "text" if kind == "utf8" else kind
    http.data_received(HANDSHAKE % path.encode())
    await steps_until(transport, 1)
    # Any: a compiled protocol need not derive from asyncio's.
    connection: Any = transport.protocol
    data = payload(kind, size)
    opcode = Opcode.BINARY if isinstance(data, bytes) else Opcode.TEXT
    chunk = build_frame(opcode, data, mask=MASK) * batch
    reply = len(build_frame(opcode, data)) * batch

    async def burst() -> None:
        due = transport.written + reply
        connection.data_received(chunk)
        await steps_until(transport, due)
        if transport.written != due:
            raise RuntimeError(f"{transport.written - due + reply} bytes came back, not {reply}")

    for _ in range(WARMUP // batch):
        await burst()
    # Collections at moments of their own would make the counts differ.
    gc.collect()
    gc.disable()
    marks.start()
    for _ in range(COUNTED // batch):
        await burst()
    marks.stop()
    gc.enable()
    connection.connection_lost(None)
    await asyncio.sleep(0)


# ---------------------------------------------------------------------------- counting


def count(workloads: Sequence[str]) -> dict[str, float]:
    """Instructions for each message, by workload.

    Raises BenchmarkError when valgrind is missing or the process fails.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise BenchmarkError("Instruction counts need valgrind (the package of that name).")
    marks = compile_program("callgrind_marks.so", ["callgrind_marks.c"], ["-shared", "-fPIC"])
    with tempfile.TemporaryDirectory() as folder:
        command = [valgrind, "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        command += [sys.executable, "-m", "benchmarks.instructions"]
        command += ["--echo", str(marks), "--only", *workloads]
        # Hashes, and with them the collisions in dictionaries, must be the same in every run. The
        # length of the environment moves the stack.
        environment = {"PATH": os.defpath, "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            command, cwd=HERE.parent, env=environment, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise BenchmarkError(f"The workloads could not be counted:\n{done.stderr[-2000:]}")
        counted = dict(map(_read_dump, Path(folder).glob("out.*")))
    return {workload: counted[workload] / COUNTED for workload in workloads}


def _read_dump(path: Path) -> tuple[str, int]:
    """The workload and its instructions."""
    text = path.read_text(encoding="utf-8", errors="replace")
    name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
    total = re.search(r"^(?:summary|totals): (\d+)", text, re.MULTILINE)
    if total is None:
        raise BenchmarkError(f"Callgrind's {path.name} has no sum.")
    return name[1] if name else "the end", int(total[1])


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return "none"
    return done.stdout.partition("\n")[0]


def environment() -> dict[str, str]:
    """Everything that is known to change the counts, and is no part of this project."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
        flags = re.search(r"^flags\s*:(.*)", info.read(), re.MULTILINE)
    known = set(flags[1].split()) if flags else set()
    # What valgrind passes on to programs, and the codec or libc choose by.
    chosen = [flag for flag in ("avx2", "bmi2", "erms", "fsrm") if flag in known]
    return {
        "machine": platform.machine(),
        "cpu": " ".join(chosen),
        "python": sys.version.replace("\n", " "),
        "compiler": _first_line(os.environ.get("CC", "cc"), "--version"),
        "libc": " ".join(platform.libc_ver()),
        "valgrind": _first_line("valgrind", "--version"),
        "packages": ", ".join(f"{name} {_version(name)}" for name in ("Cython", "orjson")),
    }


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


# ---------------------------------------------------------------------------- comparing

Record = dict[str, Any]
"""`environment` and `instructions`, those by workload and for each message."""


def read_records() -> list[Record]:
    if not COMMITTED.exists():
        return []
    records: list[Record] = json.loads(COMMITTED.read_text(encoding="utf-8"))
    return records


def write_records(records: Sequence[Record]) -> None:
    COMMITTED.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def find(records: Sequence[Record], here: dict[str, str]) -> Record | None:
    return next((record for record in records if record["environment"] == here), None)


def differences(records: Sequence[Record], here: dict[str, str]) -> list[str]:
    """What tells this environment from the recorded one that is most like it."""
    if not records:
        return ["nothing is recorded yet"]

    def unlike(record: Record) -> list[str]:
        known = record["environment"]
        return [
            f"{name}: {known.get(name, 'unknown')!r} there, {value!r} here"
            for name, value in here.items()
            if known.get(name) != value
        ]

    return min(map(unlike, records), key=len)


def compare(recorded: dict[str, float], counted: dict[str, float]) -> tuple[list[str], bool]:
    """Lines of a table, and whether every workload takes what is recorded, to within TOLERANCE."""
    lines, sound = [], True
    for workload, instructions in counted.items():
        before = recorded.get(workload)
        if before is None:
            lines.append(f"{workload:14} {instructions:>10,.0f}   new")
            continue
        change = instructions / before - 1
        verdict = ""
        if change > TOLERANCE:
            sound, verdict = False, f"more than {TOLERANCE:.0%} above: too much"
        elif change < -TOLERANCE:
            sound, verdict = False, f"more than {TOLERANCE:.0%} below: record it with --record"
        lines.append(f"{workload:14} {instructions:>10,.0f} {change:+8.1%}   {verdict}")
    return lines, sound


def record(records: list[Record], here: dict[str, str], counted: dict[str, float]) -> None:
    rounded = {workload: round(instructions) for workload, instructions in counted.items()}
    others = [known for known in records if known["environment"] != here]
    known = find(records, here)
    merged = {**(known["instructions"] if known else {}), **rounded}
    write_records([*others, {"environment": here, "instructions": merged}])


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.instructions",
        description="Instructions that an echoed message takes, compared with the committed ones.",
    )
    parser.add_argument("--record", action="store_true", help="commit to what is counted now")
    parser.add_argument(
        "--only", nargs="+", choices=WORKLOADS, metavar="WORKLOAD", help="only these"
    )
    parser.add_argument("--echo", help=argparse.SUPPRESS)  # what callgrind runs
    options = parser.parse_args()
    workloads = options.only or list(WORKLOADS)
    if options.echo:
        echo_each(workloads, options.echo)
        return 0
    try:
        counted = count(workloads)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    here, records = environment(), read_records()
    known = find(records, here)
    if known is None or options.record:
        lines, _ = compare({}, counted)
        print("\n".join(lines))
        if known is None:
            print("No figures were recorded in this environment, so nothing is compared:")
            print("\n".join(f"  {line}" for line in differences(records, here)))
        record(records, here, counted)
        print(f"Recorded in {COMMITTED.relative_to(HERE.parent)}.")
        return 0
    lines, sound = compare(known["instructions"], counted)
    print("\n".join(lines))
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
