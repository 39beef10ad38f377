"""Grade fastws with the Autobahn WebSocket test suite and compare with ``expected.json``.

    python autobahn/run.py server            fastws as server against the suite's fuzzingclient
    python autobahn/run.py client            fastws as client against the suite's fuzzingserver
    python autobahn/run.py all --jobs 2      both, the cases shared out over two processes
    python autobahn/run.py server --cases '9.*' 6.4.3

Writes ``autobahn/reports/index.html``. The exit status is 0 where every case has exactly the
expected outcome, 1 where one has not, 2 where the suite could not be run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Started as a script, only this file's directory is on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from autobahn.cases import (
    Difference,
    Role,
    compare,
    load_expected,
    select_cases,
    split_cases,
    summary,
)
from autobahn.report import ReportError, RoleReport, merge_reports, write_overview
from autobahn.wstest import Mode, Wstest, WstestError, find_wstest

__all__ = ["main"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
REPORTS = HERE / "reports"
CACHE = ROOT / ".cache" / "autobahn"

#: Seconds for a process to answer on its port, and to end when told to.
START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0
PROGRESS_INTERVAL = 15.0


class RunError(Exception):
    """A process of the run failed; the message says which, and where its output is."""


@dataclass(frozen=True)
class Options:
    """What the command line asks for; the two commands are run with the repository as directory."""

    jobs: int
    timeout: float
    server_command: Sequence[str]
    client_command: Sequence[str]


@dataclass(frozen=True)
class Shard:
    """One process's part of the cases: its directory holds the spec, the log and the report."""

    directory: Path
    cases: Sequence[str]

    @property
    def report(self) -> Path:
        return self.directory / "report"

    @property
    def wstest_log(self) -> Path:
        return self.directory / "wstest.log"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    namespace = parser.parse_args(arguments)
    # Turned into SystemExit, so that the processes started here end with this one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = Options(
        jobs=namespace.jobs,
        timeout=namespace.timeout,
        server_command=shlex.split(namespace.server_command),
        client_command=shlex.split(namespace.client_command),
    )
    roles: list[Role] = ["server", "client"] if namespace.role == "all" else [namespace.role]
    try:
        wstest = find_wstest(CACHE)
        print(f"wstest: {wstest.description}", flush=True)
        reports = [_grade(role, namespace.cases, wstest, options) for role in roles]
    except (WstestError, RunError, ReportError, ValueError) as error:
        print(f"autobahn: {error}", file=sys.stderr)
        return 2
    write_overview(REPORTS / "index.html", reports)
    for report in reports:
        _print_outcome(report)
    return 1 if any(report.differences for report in reports) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="autobahn/run.py", description="Grade fastws with the Autobahn WebSocket test suite."
    )
    parser.add_argument("role", choices=["server", "client", "all"])
    parser.add_argument(
        "--cases", nargs="+", default=["*"], metavar="CASE", help="such as 6.4.3 or '9.*'"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, help="processes that share the cases (default: 2)"
    )
    parser.add_argument(
        "--timeout", type=float, default=1800, help="seconds for one role (default: 1800)"
    )
    parser.add_argument(
        "--server-command",
        default=shlex.join([sys.executable, "-m", "autobahn.echo_server"]),
        help="the echo server to grade; gets the port as its last argument",
    )
    parser.add_argument(
        "--client-command",
        default=shlex.join([sys.executable, "-m", "autobahn.echo_client"]),
        help="the echo client to grade; gets the fuzzingserver's URL as its last argument",
    )
    return parser


def _grade(role: Role, patterns: Sequence[str], wstest: Wstest, options: Options) -> RoleReport:
    expected = load_expected(HERE / "expected.json", role)
    selected = select_cases(patterns, expected)
    directory = REPORTS / role
    shutil.rmtree(directory, ignore_errors=True)
    shards = [
        Shard(directory / "shards" / str(number), cases)
        for number, cases in enumerate(split_cases(selected, options.jobs))
    ]
    run = _run_server if role == "server" else _run_client
    run(shards, sorted(expected), wstest, options)
    records = merge_reports([shard.report for shard in shards], directory)
    links = {
        case: f"{role}/{Path(record['reportfile']).with_suffix('.html')}"
        for case, record in records.items()
    }
    differences = compare(expected, records, selected)
    return RoleReport(role, summary(role, records), differences, links)


def _run_server(
    shards: Sequence[Shard], known: Sequence[str], wstest: Wstest, options: Options
) -> None:
    """Grade the echo server: all fuzzingclients connect to the same one."""
    port = _free_port()
    log = shards[0].directory.parent / "echo_server.log"
    for shard in shards:
        _write_spec(shard, known, "fuzzingclient", wstest.testee_host, port)
    with contextlib.ExitStack() as processes:
        server = processes.enter_context(_running([*options.server_command, str(port)], ROOT, log))
        _wait_for_answer(port, server, log)
        clients = [_start_wstest(processes, shard, "fuzzingclient", wstest, 0) for shard in shards]
        _wait_for_all("server", shards, clients, options.timeout)
        if server.poll() is not None:
            raise RunError(
                f"the echo server ended with status {server.returncode} during the run: "
                f"see {_short(log)}"
            )


def _run_client(
    shards: Sequence[Shard], known: Sequence[str], wstest: Wstest, options: Options
) -> None:
    """Grade the echo client: a fuzzingserver numbers its cases itself, so each has its own."""
    with contextlib.ExitStack() as processes:
        clients: list[subprocess.Popen[bytes]] = []
        for shard in shards:
            port = _free_port()
            _write_spec(shard, known, "fuzzingserver", wstest.listen_host, port)
            fuzzer = _start_wstest(processes, shard, "fuzzingserver", wstest, port)
            _wait_for_answer(port, fuzzer, shard.wstest_log)
            command = [*options.client_command, f"ws://127.0.0.1:{port}"]
            log = shard.directory / "echo_client.log"
            clients.append(processes.enter_context(_running(command, ROOT, log)))
        _wait_for_all("client", shards, clients, options.timeout)
        for shard, client in zip(shards, clients, strict=True):
            if client.returncode != 0:
                raise RunError(
                    f"the echo client ended with status {client.returncode}: "
                    f"see {_short(shard.directory / 'echo_client.log')}"
                )


def _write_spec(shard: Shard, known: Sequence[str], mode: Mode, host: str, port: int) -> None:
    """Write the shard's spec: the committed one at this address, less the others' cases.

    Excluding the rest, rather than naming the shard's own, lets a case show that only the suite
    knows of.
    """
    spec = json.loads((HERE / f"{mode}.json").read_text(encoding="utf-8"))
    endpoint = spec["servers"][0] if mode == "fuzzingclient" else spec
    endpoint["url"] = f"ws://{host}:{port}"
    spec["exclude-cases"] = [case for case in known if case not in set(shard.cases)]
    shard.directory.mkdir(parents=True)
    (shard.directory / "spec.json").write_text(json.dumps(spec, indent=1), encoding="utf-8")


def _start_wstest(
    processes: contextlib.ExitStack, shard: Shard, mode: Mode, wstest: Wstest, port: int
) -> subprocess.Popen[bytes]:
    command = wstest.command(mode, shard.directory, port)
    return processes.enter_context(_running(command, shard.directory, shard.wstest_log))


@contextlib.contextmanager
def _running(
    command: Sequence[str], directory: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """The process for as long as the block lasts; its output goes to the log."""
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command, cwd=directory, stdout=output, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise RunError(f"{command[0]} could not be started: {error}") from error
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _wait_for_answer(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the process answers HTTP: docker accepts connections before wstest listens."""
    deadline = time.monotonic() + START_TIMEOUT
    request = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RunError(
                f"a process ended with status {process.returncode} before it listened on port "
                f"{port}: see {_short(log)}"
            )
        with contextlib.suppress(OSError):
            with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
                probe.sendall(request)
                if probe.recv(1):
                    return
        time.sleep(0.05)
    raise RunError(f"nothing answers on port {port} after {START_TIMEOUT:g} s: see {_short(log)}")


def _wait_for_all(
    role: Role,
    shards: Sequence[Shard],
    processes: Sequence[subprocess.Popen[bytes]],
    timeout: float,
) -> None:
    """Wait until all have ended, and say from time to time how far they are."""
    total = sum(len(shard.cases) for shard in shards)
    started = report_at = time.monotonic()
    while any(process.poll() is None for process in processes):
        now = time.monotonic()
        if now - started > timeout:
            raise RunError(
                f"{role}: {_cases_begun(shards)} of {total} cases begun after {timeout:g} s: "
                "give more with --timeout"
            )
        if now - report_at >= PROGRESS_INTERVAL:
            report_at = now
            print(f"{role}: {_cases_begun(shards)} of {total} cases begun", flush=True)
        time.sleep(0.2)
    print(f"{role}: done in {time.monotonic() - started:.0f} s", flush=True)


def _cases_begun(shards: Sequence[Shard]) -> int:
    return sum(shard.wstest_log.read_bytes().count(b"Running test case ID") for shard in shards)


def _print_outcome(report: RoleReport) -> None:
    if report.differences:
        print(f"\n{report.role}: differences from {_short(HERE / 'expected.json')}")
        _print_table(report.differences, report.links)
    print(f"report: {_short(REPORTS / report.role / 'index.html')}")
    print(report.summary, flush=True)


def _print_table(differences: Sequence[Difference], links: dict[str, str]) -> None:
    rows = [("case", "what", "expected", "got", "report")]
    for difference in differences:
        link = links.get(difference.case)
        shown = _short(REPORTS / link) if link else "-"
        grades = (difference.expected, difference.got)
        rows.append((difference.case, difference.what, *grades, shown))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        padded = [cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)]
        print("  ", "  ".join([*padded, row[4]]))


def _short(path: Path) -> str:
    return os.path.relpath(path)


if __name__ == "__main__":
    sys.exit(main())
