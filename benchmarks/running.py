"""What a benchmark starts: the compiled load generator, a server on its own core, a load on it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
PEERS = BUILD / "peers"
"""The environment that `make bench-peers` makes: Python's packages, and Node's beside them."""
PEERS_PYTHON = PEERS / "bin" / "python"

SOURCES = ("load.c", "load_options.c", "load_connection.c", "load_receive.c")
START_SECONDS = 20.0
STOP_SECONDS = 3.0
FILES = 65536
# The load generator gives up by itself after 10 s of silence; this is for when it does not.
LOAD_GRACE_SECONDS = 60.0


class BenchmarkError(Exception):
    """A measurement could not be made; the message is a sentence for the user.

    `brief` is its first line, without what the server wrote to stderr.
    """

    @property
    def brief(self) -> str:
        return str(self).partition("\n")[0]


@dataclass(frozen=True)
class Server:
    """A server under test.

    `module`, below benchmarks.servers, runs it, with `variant` as its argument; `packages` are what
    it needs, the tested one first. `raw` servers speak TCP without WebSocket. `awaits` says that
    its users write coroutines in Python. `program` is what runs the module: python, node, or c for
    one that is compiled. `only` has the keys of what it is measured in, if that is not everything.
    `exact` has the compressions whose parameters (servers/arguments.py) it takes or has anyway;
    in the others it compresses as it is made to.
    """

    name: str
    title: str
    module: str
    packages: tuple[str, ...]
    raw: bool = False
    variant: str = ""
    awaits: bool = False
    program: str = "python"
    only: tuple[str, ...] = ()
    exact: tuple[str, ...] = ()

    def takes_part_in(self, key: str) -> bool:
        """Whether it is measured in the workload, or as the idle connections, of that key."""
        return not self.only or key in self.only


@dataclass(frozen=True)
class Cores:
    """The CPU each side is bound to, and the niceness both get (below 0 needs privileges)."""

    server: int
    load: int
    nice: int = 0


@dataclass(frozen=True)
class Workload:
    """What the load does: `activity`, `payload` and `compression` are its own words for it.

    In a fan-out one of the `connections` publishes. `unit` is what is counted.
    """

    key: str
    title: str
    connections: int
    inflight: int
    size: int
    activity: str = "echo"
    payload: str = "ascii"
    compression: str = "off"
    path: str = "/ws"
    unit: str = "message"


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
    unclosed: int
    """Connections that the server left open after the closing handshake."""

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


def compile_program(name: str, sources: Sequence[str], options: Sequence[str] = ()) -> Path:
    """Compile a program unless it is newer than its sources; return its path."""
    binary = BUILD / name
    inputs = [HERE / source for source in sources]
    inputs += [*HERE.glob("load_*.h"), *HERE.glob("../fastws/_*.h")]
    if binary.exists() and binary.stat().st_mtime > max(i.stat().st_mtime for i in inputs):
        return binary
    compiler = os.environ.get("CC") or shutil.which("cc")
    if compiler is None:
        raise BenchmarkError("The load generator needs a C compiler: name one in CC.")
    BUILD.mkdir(parents=True, exist_ok=True)
    flags = ["-O3", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"]
    # Whoever else compiles or runs it at this moment never meets half a program.
    unfinished = BUILD / f"{name}.{os.getpid()}"
    command = [*compiler.split(), *flags, "-o", str(unfinished)]
    command += [str(HERE / source) for source in sources]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchmarkError(f"{name} does not compile:\n{done.stderr}")
    unfinished.replace(binary)
    return binary


def build_load() -> Path:
    """Compile the load generator; without zlib's headers it is one that cannot compress."""
    try:
        return compile_program("load", SOURCES, ["-DLOAD_ZLIB", "-lz"])
    except BenchmarkError as error:
        if "zlib.h" not in str(error):
            raise
    print("no zlib.h (zlib1g-dev on Debian): no compressed workload", file=sys.stderr)
    return compile_program("load", SOURCES)


def most_files() -> int:
    """Return how many open files a server and the load may have, after raising that if allowed."""
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY or most >= FILES:
        return FILES
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (usual, FILES))
    except ValueError:  # the hard limit is not everybody's to raise
        return most
    return FILES


def _bound_to(core: int, nice: int) -> Callable[[], None]:
    """Return what a child process calls to take its core and niceness before its program starts."""
    files = most_files()

    def bind() -> None:
        os.sched_setaffinity(0, {core})
        if nice:
            os.nice(nice)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

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


def _command(server: Server, python: Path, port: int, compression: str) -> list[str]:
    address = ["127.0.0.1", str(port)]
    match server.program:
        case "c":
            binary = compile_program(server.module, [f"servers/{server.module}.c"])
            return [str(binary), *address]
        case "node":
            script = HERE / "servers" / f"{server.module}.js"
            return ["node", str(script), *address, "--compression", compression]
    command = [str(python), "-m", f"benchmarks.servers.{server.module}", *address]
    return [*command, "--compression", compression, "--variant", server.variant]


class RunningServer:
    """A server's process, bound to its core, from construction to :meth:`stop`.

    Raises BenchmarkError, with the end of the server's stderr, when it does not listen within
    START_SECONDS.
    """

    def __init__(
        self,
        server: Server,
        cores: Cores,
        python: Path = Path(sys.executable),
        compression: str = "off",
    ) -> None:
        self.server = server
        self.port = _free_port()
        # stop() closes it.
        self._stderr = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            _command(server, python, self.port, compression),
            cwd=HERE.parent,
            env={**os.environ, "NODE_PATH": str(PEERS / "node_modules")},
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            # Some servers are several processes: they end together.
            start_new_session=True,
            preexec_fn=_bound_to(cores.server, cores.nice),
        )
        self.pid = self._process.pid
        """The process that serves: the one whose CPU and memory count."""
        try:
            self._await_ready()
        except BaseException:
            self.stop()
            raise

    def _await_ready(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        deadline = time.monotonic() + START_SECONDS
        while (line := _read_line(stdout, START_SECONDS)) is not None:
            if line.startswith("ready "):
                break
        if line is None or not _await_listening(self.port, deadline):
            raise self.failure("does not start")
        self.pid = int(line.split()[1])

    def failure(self, reason: str) -> BenchmarkError:
        """What went wrong, a crash above all, with what the server said about it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._process.wait(0.5)
            if status < 0:
                reason = f"crashed with {signal.Signals(-status).name}: {reason}"
            else:
                reason = f"ended with status {status}: {reason}"
        said = _tail(self._stderr)
        return BenchmarkError(f"{self.server.name}: {reason}" + (f"\n{said}" if said else ""))

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End it at once, with all its processes and whatever connections it has."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._stderr.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def resident_bytes(self) -> int:
        """Resident memory of the server's process, from the kernel's exact account."""
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as rollup:
            for line in rollup:
                if line.startswith("Rss:"):
                    return int(line.split()[1]) * 1024
        raise BenchmarkError("/proc/PID/smaps_rollup has no line Rss.")

    def settled_bytes(self) -> int:
        """Return resident memory once three readings, 0.1 s apart, are the same (or after 4 s)."""
        readings = [self.resident_bytes()]
        while len(readings) < 40:
            time.sleep(0.1)
            readings.append(self.resident_bytes())
            if readings[-3:].count(readings[-1]) == 3:
                break
        return readings[-1]


@contextlib.contextmanager
def running(
    server: Server,
    cores: Cores,
    python: Path = Path(sys.executable),
    compression: str = "off",
) -> Iterator[RunningServer]:
    """Run a server for the length of the `with` block; raises like :class:`RunningServer`."""
    process = RunningServer(server, cores, python, compression)
    try:
        yield process
    finally:
        process.stop()


def _load_command(
    load: Path, activity: str, target: RunningServer, connections: int, compression: str
) -> list[str]:
    command = [str(load), activity, "--port", str(target.port), "--server-pid", str(target.pid)]
    command += ["--connections", str(connections), "--compression", compression]
    return [*command, "--raw"] if target.server.raw else command


def _failure(target: RunningServer, load_stderr: str) -> BenchmarkError:
    reason = load_stderr.strip().removeprefix("load: ")
    return target.failure(reason or "the load generator ended without a figure")


def run_load(
    load: Path,
    target: RunningServer,
    workload: Workload,
    cores: Cores,
    warmup: float,
    seconds: float,
) -> Sample:
    """Run one closed-loop load and return its figures.

    Raises BenchmarkError when a reply is wrong or missing, or the server closes a connection.
    """
    command = _load_command(
        load, workload.activity, target, workload.connections, workload.compression
    )
    command += ["--inflight", str(workload.inflight), "--size", str(workload.size)]
    command += ["--payload", workload.payload, "--path", workload.path]
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


@contextlib.contextmanager
def _holding(
    load: Path, target: RunningServer, connections: int, cores: Cores, compression: str
) -> Iterator[Callable[[str, str], None]]:
    """Hold so many connections for the length of the `with` block.

    What is returned sends the load a line and waits for another; it raises BenchmarkError when that
    does not come.
    """
    process = subprocess.Popen(
        _load_command(load, "idle", target, connections, compression),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_bound_to(cores.load, cores.nice),
    )

    def exchange(said: str, wanted: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            process.stdin.write(said)
            process.stdin.flush()
        if _read_line(process.stdout, LOAD_GRACE_SECONDS) != wanted:
            process.kill()
            raise _failure(target, process.communicate()[1])

    try:
        exchange("", "open")
        yield exchange
    finally:
        process.kill()
        # Unlike Popen's own `with`, this does not mind a broken pipe.
        process.communicate()


def measure_idle_memory(
    load: Path,
    server: Server,
    connections: int,
    cores: Cores,
    python: Path = Path(sys.executable),
    compression: str = "off",
) -> IdleMemory:
    """Open `connections` connections to a fresh server and return its growth for each of them.

    Raises BenchmarkError like `run_load`.
    """
    target = RunningServer(server, cores, python, compression)
    try:
        # First connections load modules and fill caches that no later one needs again.
        with _holding(load, target, 10, cores, compression) as exchange:
            exchange("exchange\n", "exchanged")
            before = target.settled_bytes()
            with _holding(load, target, connections, cores, compression) as exchange:
                opened = target.settled_bytes()
                exchange("exchange\n", "exchanged")
                exchanged = target.settled_bytes()
    finally:
        target.kill()
    return IdleMemory((opened - before) / connections, (exchanged - before) / connections)
