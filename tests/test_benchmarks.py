"""The benchmarks measure what they say. How fast anything is, is theirs to find out, not ours."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import instructions, micro, report
from benchmarks.bench import (
    ECHO,
    Bench,
    baseline_of,
    choose_cores,
    estimate_seconds,
    parse_options,
)
from benchmarks.contenders import FASTWS, FASTWS_ZLIB_NG, SEND_LOOP, SERVERS, TCP_ECHO
from benchmarks.goals import GOALS, goals_table
from benchmarks.plots import PLOTS, bars
from benchmarks.report import Compared, Spread
from benchmarks.running import (
    HERE,
    BenchmarkError,
    IdleMemory,
    RunningServer,
    Sample,
    Server,
    Workload,
    build_load,
    measure_idle_memory,
    run_load,
    running,
)
from benchmarks.workloads import IDLE, WORKLOADS
from tests.support import TIMEOUT

pytestmark = [
    pytest.mark.measures,
    pytest.mark.skipif(sys.platform != "linux", reason="the load generator needs epoll"),
]

SECONDS = TIMEOUT / 50
CORES = choose_cores(0)


@pytest.fixture(scope="module")
def load() -> Path:
    return build_load()


@pytest.fixture(scope="module")
def fastws_server() -> Iterator[RunningServer]:
    with running(FASTWS, CORES, compression="dedicated") as server:
        yield server


def few(workload: Workload) -> Workload:
    return replace(workload, connections=min(workload.connections, 20))


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.key)
def test_the_load_accepts_every_reply_of_fastws(
    load: Path, fastws_server: RunningServer, workload: Workload
) -> None:
    sample = run_load(load, fastws_server, few(workload), CORES, 0.0, SECONDS)
    assert sample.messages > 0
    assert sample.server_cpu_seconds > 0
    assert 0 < sample.p50_us <= sample.p99_us


@pytest.mark.parametrize("key", FASTWS_ZLIB_NG.only)
def test_the_load_accepts_every_reply_of_zlib_ng(load: Path, key: str) -> None:
    workload = next(workload for workload in WORKLOADS if workload.key == key)
    with running(FASTWS_ZLIB_NG, CORES, compression=workload.compression) as server:
        assert run_load(load, server, few(workload), CORES, 0.0, SECONDS).messages > 0


@pytest.mark.parametrize("baseline", [TCP_ECHO, SEND_LOOP], ids=lambda server: server.name)
def test_the_baselines_move_the_same_bytes(load: Path, baseline: Server) -> None:
    with running(baseline, CORES) as server:
        for workload in WORKLOADS:
            if baseline_of(workload) is baseline:
                assert run_load(load, server, few(workload), CORES, 0.0, SECONDS).messages > 0


@pytest.mark.parametrize(
    ("workload", "sentence"),
    [
        (Workload("", "", 2, 1, 64, path="/receive"), "closed a connection with code 1000"),
        (
            Workload("", "", 2, 1, 64, path="/nowhere"),
            "refused the opening handshake: HTTP/1.1 404",
        ),
        # A handler of text that gets binary, and one of JSON that gets other text.
        (Workload("", "", 2, 1, 64, payload="binary"), "closed a connection with code 1003"),
        (Workload("", "", 2, 1, 64, path="/json"), "closed a connection with code"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.path,
)
def test_a_wrong_answer_is_a_failure_and_no_figure(
    load: Path, fastws_server: RunningServer, workload: Workload, sentence: str
) -> None:
    with pytest.raises(BenchmarkError, match=sentence) as caught:
        run_load(load, fastws_server, workload, CORES, 0.0, SECONDS)
    assert caught.value.brief.startswith("fastws: ")
    assert fastws_server.is_alive


def test_a_server_that_agrees_on_no_compression_is_said_to(load: Path) -> None:
    workload = next(workload for workload in WORKLOADS if workload.compression == "dedicated")
    with running(FASTWS, CORES) as server, pytest.raises(BenchmarkError, match="no compression"):
        run_load(load, server, few(workload), CORES, 0.0, SECONDS)


def test_a_server_that_does_not_start_says_why() -> None:
    missing = replace(FASTWS, module="no_such_server")
    with pytest.raises(
        BenchmarkError, match="fastws: ended with status 1: does not start"
    ) as caught:
        RunningServer(missing, CORES)
    assert "no_such_server" in str(caught.value)


def test_idle_connections_are_counted_one_by_one(load: Path) -> None:
    memory = measure_idle_memory(load, FASTWS, 50, CORES, compression="dedicated")
    assert memory.exchanged >= memory.opened >= 0


# ---------------------------------------------------------------------------- what is declared


def test_every_server_has_its_module_and_pinned_packages() -> None:
    text = (HERE / "peers.txt").read_text(encoding="utf-8")
    pinned = {name.lower() for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}
    pinned |= set(re.findall(r"^# npm: ([\w.-]+)@", text, re.MULTILINE))
    for server in SERVERS.values():
        suffix = {"python": "py", "node": "js", "c": "c"}[server.program]
        assert (HERE / "servers" / f"{server.module}.{suffix}").exists(), server.name
        unpinned = {package.lower() for package in server.packages} - pinned - {"fastws"}
        assert not unpinned, server.name


def test_what_is_declared_refers_to_what_is_there() -> None:
    keys = [workload.key for workload in (*WORKLOADS, *IDLE)]
    assert len(set(keys)) == len(keys)
    assert {plot.key for plot in PLOTS} <= set(keys)
    assert [workload.key for workload, _ in ECHO] == ["echo-64-1", "echo-64-16"]
    for server in SERVERS.values():
        assert set(server.only) <= set(keys), server.name


def test_a_server_is_measured_only_in_what_it_takes_part_in(tmp_path: Path) -> None:
    options = parse_options(["--quick", "--only", "echo-64-1", "deflate-shared", "idle-5k"])
    servers = [FASTWS, FASTWS_ZLIB_NG]
    bench = Bench(options, tmp_path / "load", CORES, Path(sys.executable), servers)
    assert bench._turns("deflate-shared", 0) == [[FASTWS, FASTWS_ZLIB_NG]]
    assert bench._turns("deflate-shared", 1) == [[FASTWS_ZLIB_NG, FASTWS]]
    for key in ("echo-64-1", "json-1k", "idle-5k-deflate"):
        assert bench._turns(key, 1) == [[FASTWS]]

    def estimate(key: str) -> float:
        return estimate_seconds(options, [key], servers) - estimate_seconds(
            options, [key], [FASTWS]
        )

    assert estimate("deflate-shared") > 0
    assert estimate("echo-64-1") == estimate("idle-5k") == 0


def test_a_server_is_not_started_for_the_idle_connections_it_has_no_part_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def measure(load: Path, server: Server, *_: object) -> IdleMemory:
        started.append(server.name)
        return IdleMemory(1.0, 2.0)

    monkeypatch.setattr("benchmarks.bench.measure_idle_memory", measure)
    options = parse_options(["--quick"])
    bench = Bench(options, tmp_path / "load", CORES, Path(sys.executable), [FASTWS, FASTWS_ZLIB_NG])
    bench.idle(IDLE[0])
    assert started == [TCP_ECHO.name, FASTWS.name]


def test_only_takes_patterns_that_name_something(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse_options(["--only", "echo-64*", "fastws"]).only == ["echo-64*", "fastws"]
    with pytest.raises(SystemExit):
        parse_options(["--only", "nothing"])
    assert "--only nothing names none of" in capsys.readouterr().err


# ---------------------------------------------------------------------------- reporting


def sample(cpu: float, rate: float = 1000.0) -> Sample:
    """One second, `cpu` µs a message."""
    messages = int(rate)
    return Sample(messages, 1.0, rate, 10.0, 20.0, cpu * messages / 1e6, 0.0, 0.5, 0)


def rows(**ratios: float) -> report.Rows:
    measured = {
        name: report.server_figures([Compared.between(sample(2), sample(2 * ratio), sample(2))])
        for name, ratio in ratios.items()
    }
    return {"tcp": report.sample_figures([sample(2)])} | measured


def test_a_ratio_is_to_the_baseline_on_both_sides() -> None:
    pair = Compared.between(sample(1, 1000), sample(3, 1000), sample(2, 3000))
    assert pair.cpu_ratio == pytest.approx(2.0)
    assert pair.throughput_ratio == pytest.approx(0.5)


def test_a_table_has_the_cheapest_first_and_failures_last() -> None:
    workload, _ = ECHO[0]
    servers = {server.name: server for server in (TCP_ECHO, *SERVERS.values())}
    lines = report.workload_table(
        workload,
        rows(websockets=3.0, fastws=1.1),
        TCP_ECHO,
        servers,
        {"socketify": ["socketify: crashed with SIGSEGV: x"], "websockets": ["websockets: y"]},
    )
    order = [line.split(" | ")[0].strip("| ") for line in lines if line.startswith("| ")]
    assert order == [
        "server",
        TCP_ECHO.title,
        FASTWS.title,
        "websockets",
        SERVERS["socketify"].title,
    ]
    assert any("crashed with SIGSEGV" in line for line in lines)
    assert "- websockets failed in 1 round(s): y." in lines


def goal_cells(results: dict[str, report.Rows]) -> list[tuple[str, str]]:
    """What was measured and the verdict, goal by goal."""
    cells = [line.strip("| ").split(" | ") for line in goals_table(results)[4:-1]]
    return [(measured, verdict[0] if verdict else "") for _, measured, *verdict in cells]


def test_a_goal_says_whom_it_is_against() -> None:
    # picows has callbacks, so the best peer with coroutines is aiohttp.
    results = {"json-1k": rows(fastws=2.0, aiohttp=5.0, picows=1.0)}
    assert goal_cells(results) == [("0.40 (aiohttp)", "≤ 0.50: met")]
    # aiohttp compresses with parameters of its own, and picows.websockets with zlib's.
    given = {"fastws": 2.0, "fastws-zlib-ng": 1.2, "websockets": 3.0, "aiohttp": 1.0}
    given["picows-websockets"] = 2.5
    results = {"deflate-shared": rows(**given)}
    assert [measured for measured, _ in goal_cells(results)] == [
        "0.67 (websockets)",
        "0.40 (websockets)",
    ]
    results = {"deflate-full": rows(**given)}
    assert [measured for measured, _ in goal_cells(results)] == [
        "0.80 (picows-websockets)",
        "0.48 (picows-websockets)",
    ]
    assert len({goal.title for goal in GOALS}) == len(GOALS)


def test_a_goal_is_not_met_by_those_who_are_missing() -> None:
    assert goals_table({}) == []
    assert goal_cells({"json-1k": rows(fastws=2.0, picows=1.0)}) == [("not measured", "")]
    assert goal_cells({"json-1k": rows(aiohttp=5.0)}) == [("not measured", "")]
    assert goal_cells({"json-1k": {}}) == [("not measured", "")]


def test_a_server_that_dies_behind_its_figure_has_failed(tmp_path: Path) -> None:
    class Dead:
        is_alive = False
        stopped = False

        def failure(self, reason: str) -> BenchmarkError:
            return BenchmarkError(f"fastws: ended with status 1: {reason}")

        def stop(self) -> None:
            self.stopped = True

    bench = Bench(parse_options(["--quick"]), tmp_path, CORES, Path(sys.executable), [FASTWS])
    dead: Any = Dead()
    with bench.round():
        bench._processes[FASTWS, "off"] = dead
        bench._last[FASTWS, "off"] = "json-1k"
    assert dead.stopped
    assert bench.failures == {
        "json-1k": {"fastws": ["fastws: ended with status 1: after its measured window"]}
    }


def test_only_a_run_of_everything_is_written_where_results_are_committed() -> None:
    assert parse_options(["--peers"]).output == HERE
    for partial in ([], ["--peers", "--only", "echo-64*"], ["--peers", "--quick"], ["--quick"]):
        assert HERE / "build" in parse_options(partial).output.parents


def test_a_plot_has_the_best_first() -> None:
    plot = next(plot for plot in PLOTS if plot.name == "echo")
    spread = {"median": 1.2, "lowest": 1.1, "highest": 1.3}
    results = {
        "echo-64-1": {
            "tcp": {"cpu_us": spread},
            "websockets": {"cpu_ratio": {**spread, "median": 3.0}},
            "fastws": {"cpu_ratio": spread},
        }
    }
    assert bars(plot, results) == [("tcp", 1.0), ("fastws", 1.2), ("websockets", 3.0)]


def test_a_spread_shows_its_range_only_where_there_is_one() -> None:
    assert Spread.of([1.0, 3.0, 2.0]).show() == "2.00 (1.00–3.00)"
    assert Spread.of([1.0]).show(1) == "1.0"


# ---------------------------------------------------------------------------- the codec, callgrind


def test_the_codec_is_measured_in_every_part() -> None:
    figures = micro.frames(1) + micro.compression(1)
    assert all(figure.nanoseconds > 0 for figure in figures)
    assert {"read a frame, text", "build a frame, binary", "compress JSON, shared"} <= {
        figure.name for figure in figures
    }


def test_the_counted_workloads_echo_whole_messages(tmp_path: Path) -> None:
    marks = tmp_path / "marks.c"
    marks.write_text("void start(void) {}\nvoid stop(const char *name) { (void)name; }\n")
    library = tmp_path / "marks.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, marks], check=True)
    # In a process of its own: it turns garbage collection off and on.
    command = [sys.executable, "-m", "benchmarks.instructions", "--echo", str(library)]
    subprocess.run(command, check=True, cwd=HERE.parent)


@pytest.mark.parametrize(
    ("counted", "sound", "said"),
    [
        (102.9, True, "+2.9%"),
        (103.1, False, "too much"),
        (97.1, True, "-2.9%"),
        (96.9, False, "record it"),
    ],
)
def test_counts_may_be_three_percent_off_what_is_committed(
    counted: float, sound: bool, said: str
) -> None:
    lines, verdict = instructions.compare({"echo": 100.0}, {"echo": counted})
    assert verdict is sound
    assert said in lines[0]


def test_another_environment_is_named_and_not_compared() -> None:
    records = [{"environment": {"libc": "glibc 2.36", "cpu": "avx2"}, "instructions": {"echo": 1}}]
    here = {"libc": "glibc 2.41", "cpu": "avx2"}
    assert instructions.find(records, here) is None
    assert instructions.differences(records, here) == [
        "libc: 'glibc 2.36' there, 'glibc 2.41' here"
    ]


def test_committed_counts_are_of_workloads_that_there_are() -> None:
    for record in json.loads(instructions.COMMITTED.read_text(encoding="utf-8")):
        assert record["instructions"].keys() <= instructions.WORKLOADS.keys()
        assert record["environment"].keys() == instructions.environment().keys()
