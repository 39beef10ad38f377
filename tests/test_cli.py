"""The command line: its options, and what it says and returns when something is wrong."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fastws import __version__, server
from fastws.cli import main
from fastws.config import GROUPS, OPTIONS, Config
from tests.support import ROOT, TIMEOUT, ServerProcess


def invoke(*words: str, env: dict[str, str] | None = None) -> Result:
    """Run the command in this process; the environment's own options are left out."""
    hidden = {name: None for name in os.environ if name.startswith("FASTWS_")}
    return CliRunner().invoke(main, words, env={**hidden, **(env or {})})


def command(*words: str, cwd: Path = ROOT, tree: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run ``python -m fastws`` from ``tree`` to its end."""
    environ = {name: value for name, value in os.environ.items() if "FASTWS" not in name}
    return subprocess.run(
        [sys.executable, "-m", "fastws", *words],
        cwd=cwd,
        env={**environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=4 * TIMEOUT,
        check=False,
    )


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The configurations that the command would have served."""
    configs: list[Config] = []
    monkeypatch.setattr(server, "run", configs.append)
    return configs


def test_the_version() -> None:
    result = invoke("--version")
    assert result.exit_code == 0
    assert __version__ in result.output


def test_the_help_has_every_option_under_its_heading() -> None:
    result = invoke("run", "--help")
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    positions = [text.index(f"{title}: --") for title in GROUPS.values()]
    assert positions == sorted(positions)
    for option in OPTIONS:
        assert f"--{option.name}" in text
        # Wrapped lines may split it anywhere.
        assert option.help.replace(" ", "") in text.replace(" ", "")


def test_options_reach_the_configuration(configured: list[Config]) -> None:
    words = "--port 0 --ws-max-size 64KiB --ws-ping-interval none --header X-A:b --header X-C:d"
    result = invoke("run", "chat:app", *words.split(), "--limit-concurrency=9", "--factory")
    assert result.exit_code == 0, result.output
    assert configured == [
        Config(
            "chat:app",
            port=0,
            ws_max_size=65536,
            ws_ping_interval=None,
            header=(("X-A", "b"), ("X-C", "d")),
            limit_connections=9,
            factory=True,
        )
    ]


@pytest.mark.parametrize(
    ("words", "is_on"),
    [
        ([], True),
        (["--access-log"], True),
        (["--access-log", "on"], True),
        (["--access-log", "off"], False),
        (["--no-access-log"], False),
    ],
)
def test_switches(configured: list[Config], words: list[str], is_on: bool) -> None:
    assert invoke("run", "chat:app", *words).exit_code == 0
    assert configured[0].access_log is is_on


def test_the_command_line_goes_before_the_environment(configured: list[Config]) -> None:
    env = {"FASTWS_PORT": "1", "FASTWS_HOST": "::1"}
    assert invoke("run", "chat:app", "--port", "2", env=env).exit_code == 0
    assert (configured[0].port, configured[0].host) == (2, "::1")


@pytest.mark.parametrize(
    ("words", "env", "sentence"),
    [
        (["--port", "http"], {}, "port is http: expected a whole number from 0 to 65535"),
        (["--access-log", "maybe"], {}, "access-log is maybe: expected on or off"),
        (["--loop", "twisted"], {}, "loop is twisted: expected auto, uvloop or asyncio"),
        (
            [],
            {"FASTWS_WS_CLOSE_TIMEOUT": "0s"},
            "ws-close-timeout is 0s: expected a time above zero such as 20s, 500ms or 2m "
            "(set by FASTWS_WS_CLOSE_TIMEOUT)",
        ),
    ],
)
def test_a_wrong_value_gets_one_sentence(
    words: list[str], env: dict[str, str], sentence: str
) -> None:
    result = invoke("run", "chat:app", *words, env=env)
    assert result.exit_code == 2
    assert result.output == f"fastws: {sentence}\n"


def test_an_unknown_option_gets_a_hint() -> None:
    result = invoke("run", "chat:app", "--ws-max-sise", "1")
    assert result.exit_code == 2
    assert "--ws-max-size" in result.output


def test_a_wrong_application_gets_one_sentence(tmp_path: Path) -> None:
    result = command("run", "missing_module:app", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == (
        f"fastws: there is no module 'missing_module' in {tmp_path} or on the import path\n"
    )
    (tmp_path / "empty.py").write_text("")
    result = command("run", "empty:nothing", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == "fastws: module 'empty' has no attribute 'nothing'\n"


def test_an_application_that_fails_shows_its_own_traceback_and_then_a_sentence(
    tmp_path: Path,
) -> None:
    (tmp_path / "raises.py").write_text("def divide():\n    1 / 0\n\ndivide()\n")
    result = command("run", "raises", cwd=tmp_path)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    # Nothing of what only led there.
    assert lines[1].endswith('raises.py", line 4, in <module>')
    expected = "fastws: importing 'raises' failed: ZeroDivisionError: division by zero"
    assert lines[-2:] == ["ZeroDivisionError: division by zero", expected]


def test_a_wrong_route_option_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(
        "from fastws import FastWS\n"
        "app = FastWS()\n"
        "@app.websocket('/', ws_max_sise=1)\n"
        "async def handler(ws): ...\n"
    )
    result = command("run", "wrong", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == (
        "fastws: route /: there is no option ws_max_sise: did you mean ws-max-size?\n"
    )


def test_a_busy_port_gets_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = command("run", "examples.echo:app", "--port", str(port))
    assert result.returncode == 1
    assert result.stderr == (
        f"fastws: port {port} is in use on 127.0.0.1: choose another with --port\n"
    )


def test_an_application_that_does_not_start_shows_why(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "from fastws import FastWS\n"
        "app = FastWS()\n"
        "@app.on_startup\n"
        "async def connect():\n"
        "    raise LookupError('no database')\n"
    )
    result = command("run", "broken", "--port=0", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback (most recent call last):")
    assert result.stderr.endswith(
        "fastws: the application failed to start or to stop: LookupError: no database\n"
    )


def test_a_missing_extension_gets_one_sentence(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("_codec.*.so", "_codec.*.pyd", "__pycache__", "*.c")
    shutil.copytree(ROOT / "fastws", tmp_path / "fastws", ignore=ignored)
    result = command("run", "chat:app", cwd=tmp_path, tree=tmp_path)
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    (sentence,) = result.stderr.splitlines()
    assert "_codec" in sentence
    assert "make build" in sentence


def test_the_server_runs_as_a_module_and_says_where() -> None:
    with ServerProcess("examples.echo:app", "--log-level=info") as process:
        assert process.stop() == 0
    assert f"http://127.0.0.1:{process.port}" in process.output
    assert "Ctrl-C" in process.output
