"""What a benchmark starts: the compiled load generator, a server on its own core, a load on it."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
SOURCES = ("load.c", "load_connection.c")
HEADERS = ("load_connection.h", "load_histogram.h", "load_stream.h")
START_SECONDS = 20.0
STOP_SECONDS = 10.0
# The load generator gives up by itself after 10 s of silence; this is for when it does not.
LOAD_GRACE_SECONDS = 60.0


class BenchmarkError(Exception):
    """A measurement could not be made; the message is a sentence for the user."""


@dataclass(frozen=True)
class Server:
    """A server under test.

    `module`, below benchmarks.servers, runs it; `packages` are what it needs, the tested one first;
    `mode` is the load generator's.
    """

    name: str
    title: str
    module: str
    packages: tuple[str, ...]
    mode: str = "ws"


@dataclass(frozen=True)
class Cores:
    """The CPU each side is bound to, and the niceness both get (below 0 needs privileges)."""

    server: int
    load: int
    nice: int = 0


@dataclass(frozen=True)
class Workload:
    key: str
    title: str
    connections: int
    inflight: int
    size: int


@dataclass(frozen=True)
class Sample:
    """What one run of the load saw in its measured window. Latencies in microseconds."""

    messages: int
    seconds: float
    messages_per_second: float
    p50_us: float
    p99_us: float
    server_cpu_seconds: float
    server_wait_seconds: float
    load_cpu_seconds: float

    @property
    def cpu_us(self) -> float:
        """CPU time of the server for each message, in microseconds."""
        return self.server_cpu_seconds / self.messages * 1e6

    @property
    def server_busy(self) -> float:
        return self.server_cpu_seconds / self.seconds

    @property
    def server_lost(self) -> float:
        """Share of the window in which the server was ready but another process had its core."""
        return self.server_wait_seconds / self.seconds

    @property
    def load_busy(self) -> float:
        return self.load_cpu_seconds / self.seconds


@dataclass(frozen=True)
class IdleMemory:
    """Growth of the server's resident memory for each open connection, in bytes."""

    opened: float
    exchanged: float


def build_load() -> Path:
    """Compile the load generator unless the binary is newer than its sources; return its path."""
    binary = BUILD / "load"
    inputs = [HERE / name for name in (*SOURCES, *HEADERS)]
    if binary.exists() and binary.stat().st_mtime > max(i.stat().st_mtime for i in inputs):
        return binary
    compiler = os.environ.get("CC") or shutil.which("cc")
    if compiler is None:
        raise BenchmarkError("The load generator needs a C compiler: name one in CC.")
    BUILD.mkdir(exist_ok=True)
    flags = ["-O3", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
    command = [*compiler.split(), *flags, "-o", str(binary), *(str(HERE / s) for s in SOURCES)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchmarkError(f"The load generator does not compile:\n{done.stderr}")
    return binary


def _bound_to(core: int, nice: int) -> Callable[[], None]:
    """Return what a child process calls to take its core and niceness before its program starts."""

    def bind() -> None:
        os.sched_setaffinity(0, {core})
        if nice:
            os.nice(nice)

    return bind


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _read_line(stream: IO[str], seconds: float) -> str | None:
    """Return the next line without its end, or None when none comes in time or none is left."""
    ready, _, _ = select.select([stream], [], [], seconds)
    return stream.readline().rstrip("\n") or None if ready else None


def _tail(file: IO[str]) -> str:
    file.seek(0)
    lines = file.read().splitlines()
    return "\n".join(lines[-15:])


def _await_listening(port: int, deadline: float) -> bool:
    """Connect until the port answers: some servers can say "ready" only just before it is open."""
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1.0):
                return True
        except OSError:
            time.sleep(0.02)
    return False


@dataclass
class RunningServer:
    server: Server
    pid: int
    port: int
    stderr: IO[str]

    def resident_bytes(self) -> int:
        """Resident memory of the server's process, from the kernel's exact account."""
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as rollup:
            for line in rollup:
                if line.startswith("Rss:"):
                    return int(line.split()[1]) * 1024
        raise BenchmarkError("/proc/PID/smaps_rollup has no line Rss.")

    def settled_bytes(self) -> int:
        """Return resident memory once three readings, 0.2 s apart, are the same (or after 10 s)."""
        readings = [self.resident_bytes()]
        while len(readings) < 50:
            time.sleep(0.2)
            readings.append(self.resident_bytes())
            if readings[-3:].count(readings[-1]) == 3:
                break
        return readings[-1]


@contextmanager
def running(server: Server, cores: Cores) -> Iterator[RunningServer]:
    """Run a server, bound to its core, for the length of the `with` block.

    Raises BenchmarkError, with the end of the server's stderr, when it does not listen within
    START_SECONDS.
    """
    port = _free_port()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.servers.{server.module}", "127.0.0.1", str(port)],
            cwd=HERE.parent,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            preexec_fn=_bound_to(cores.server, cores.nice),
        )
        assert process.stdout is not None
        try:
            deadline = time.monotonic() + START_SECONDS
            while (line := _read_line(process.stdout, START_SECONDS)) not in (None, "ready"):
                pass
            if line is None or not _await_listening(port, deadline):
                raise BenchmarkError(f"{server.name} does not start:\n{_tail(stderr)}")
            yield RunningServer(server, process.pid, port, stderr)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def _load_command(load: Path, mode: str, target: RunningServer, connections: int) -> list[str]:
    command = [str(load), mode, "--port", str(target.port), "--connections", str(connections)]
    return [*command, "--server-pid", str(target.pid)]


def _failure(target: RunningServer, load_stderr: str) -> BenchmarkError:
    said = _tail(target.stderr)
    reason = load_stderr.strip() or "the load generator ended without a figure"
    return BenchmarkError(f"{target.server.name}: {reason}" + (f"\n{said}" if said else ""))


def run_load(
    load: Path,
    target: RunningServer,
    workload: Workload,
    cores: Cores,
    warmup: float,
    seconds: float,
) -> Sample:
    """Run one closed-loop echo load and return its figures.

    Raises BenchmarkError when a reply is wrong or missing, or the server closes a connection.
    """
    command = _load_command(load, target.server.mode, target, workload.connections)
    command += ["--inflight", str(workload.inflight), "--size", str(workload.size)]
    command += ["--warmup", str(warmup), "--duration", str(seconds)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=warmup + seconds + LOAD_GRACE_SECONDS,
            preexec_fn=_bound_to(cores.load, cores.nice),
        )
    except subprocess.TimeoutExpired:
        raise _failure(target, "the load generator did not end") from None
    if done.returncode != 0:
        raise _failure(target, done.stderr)
    figures = json.loads(done.stdout)
    return Sample(**{name: figures[name] for name in Sample.__dataclass_fields__})


def _hold(
    load: Path, target: RunningServer, connections: int, cores: Cores, before: int
) -> IdleMemory:
    process = subprocess.Popen(
        _load_command(load, "idle", target, connections),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_bound_to(cores.load, cores.nice),
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def await_line(wanted: str) -> None:
        assert process.stdout is not None
        if _read_line(process.stdout, LOAD_GRACE_SECONDS) != wanted:
            process.kill()
            raise _failure(target, process.communicate()[1])

    with process:
        await_line("open")
        opened = target.settled_bytes()
        process.stdin.write("exchange\n")
        process.stdin.flush()
        await_line("exchanged")
        exchanged = target.settled_bytes()
        errors = process.communicate()[1]
    if process.returncode != 0:
        raise _failure(target, errors)
    return IdleMemory((opened - before) / connections, (exchanged - before) / connections)


def measure_idle_memory(load: Path, server: Server, connections: int, cores: Cores) -> IdleMemory:
    """Open `connections` connections to a fresh server and return its growth for each of them.

    Raises BenchmarkError like `run_load`.
    """
    with running(server, cores) as target:
        # First connections load modules and fill caches that no later one needs again.
        _hold(load, target, 10, cores, 0)
        return _hold(load, target, connections, cores, target.settled_bytes())
