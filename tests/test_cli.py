"""The command line: its options, and what it says and returns when something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from click.testing import CliRunner, Result

from fastws import FastWS, WebSocket, __version__, cli
from fastws.cli import main
from fastws.config import OPTIONS, Config
from tests.support import ROOT, TIMEOUT, ServerProcess


def invoke(*words: str, env: dict[str, str] | None = None) -> Result:
    """Run the command in this process; the environment's own options are left out."""
    hidden: dict[str, str | None] = {
        variable: None
        for option in OPTIONS
        for variable in option.environment
        if variable in os.environ
    }
    return CliRunner().invoke(main, words, env={**hidden, **(env or {})})


def command(*words: str, cwd: Path = ROOT, tree: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run ``python -m fastws`` from ``tree`` to its end."""
    variables = {variable for option in OPTIONS for variable in option.environment}
    environ = {name: value for name, value in os.environ.items() if name not in variables}
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
    monkeypatch.setattr(cli, "launch", configs.append)
    return configs


def test_the_version() -> None:
    result = invoke("--version")
    assert result.exit_code == 0
    assert __version__ in result.output


def test_the_help_of_the_program_has_every_command() -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    for name in ("run", "dev", "check", "routes", "connect"):
        assert f"\n  {name}  " in result.output
    assert invoke("-h").output == result.output


UVICORN = """
    --proxy-headers --host 0.0.0.0 --port 80 --workers 2 --ws-max-size 16777216 --ws-max-queue 32
    --ws-ping-interval 20.0 --ws-ping-timeout 20 --ws-per-message-deflate True --no-server-header
    --no-date-header --no-access-log --log-level INFO --lifespan on --loop uvloop --backlog 512
    --limit-concurrency 100 --timeout-keep-alive 5 --timeout-graceful-shutdown 10
    --timeout-worker-healthcheck 5 --forwarded-allow-ips=* --root-path /api --header X-A:b
    --ssl-keyfile key.pem --ssl-certfile cert.pem --ssl-cert-reqs 0 --app-dir src --factory
"""


def test_a_command_line_of_uvicorns(configured: list[Config]) -> None:
    result = invoke("run", *UVICORN.split(), "chat:app")
    assert result.exit_code == 0, result.output
    (config,) = configured
    assert config.proxy_headers is True
    assert config.ws_ping_interval == 20
    assert config.ws_per_message_deflate == "dedicated"
    assert (config.server_header, config.date_header, config.access_log) == (False, False, False)
    assert (config.limit_connections, config.ssl_cert_reqs) == (100, "none")


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


def test_dev_is_run_with_reload_and_a_debug_log(configured: list[Config]) -> None:
    assert invoke("dev", "chat:app", env={"WEB_CONCURRENCY": "4"}).exit_code == 0
    assert invoke("dev", "chat:app", "--log-level=info", "--port=1").exit_code == 0
    assert configured == [
        Config("chat:app", reload=True, log_level="debug"),
        Config("chat:app", reload=True, log_level="info", port=1),
    ]


def test_nothing_to_serve() -> None:
    result = invoke("run")
    assert result.exit_code == 2
    assert result.output.startswith("fastws: there is nothing to serve: name an application")


def test_the_command_line_goes_before_the_environment(configured: list[Config]) -> None:
    env = {"FASTWS_PORT": "1", "FASTWS_HOST": "::1"}
    assert invoke("run", "chat:app", "--port", "2", env=env).exit_code == 0
    assert (configured[0].port, configured[0].host) == (2, "::1")


@pytest.mark.parametrize(
    ("words", "env", "sentence"),
    [
        (
            ["--port", "http"],
            {},
            "port is http: expected a whole number from 0 to 65535 (set on the command line)",
        ),
        (
            ["--access-log=maybe"],
            {},
            "access-log is maybe: expected on or off (set on the command line)",
        ),
        (
            ["--uds", "a.sock"],
            {"FASTWS_FD": "3"},
            "uds is a.sock and fd is 3: expected at most one of them "
            "(uds set on the command line, fd set by FASTWS_FD)",
        ),
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


# check and routes


CHAT = """
from fastws import Depends, FastWS, WebSocket
from os import environ

app = FastWS()

def user():
    return environ.get("CHAT_USER", "nobody")

@app.websocket("/rooms/{room}", ws_max_size="64KiB", origins="same")
async def room(ws: WebSocket, room: str, user: str = Depends(user)): ...

@app.get("/")
def page(): ...
"""


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    """A directory with an application, settings of its own, and a secret."""
    (tmp_path / "chat.py").write_text(CHAT)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.fastws]\napp = "chat:app"\nws-max-queue = 3\nenv-file = "chat.env"\n'
    )
    (tmp_path / "chat.env").write_text("FASTWS_SSL_KEYFILE_PASSWORD=hunter2\nFASTWS_PROT=1\n")
    return tmp_path


def test_check_shows_the_options_and_where_they_come_from(chat: Path) -> None:
    (chat / "chat.env").write_text("FASTWS_PORT=9000\nFASTWS_PROT=1\n")
    result = command("check", "--ws-max-size=2MiB", cwd=chat)
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    for row in (
        "app chat:app pyproject.toml",
        "port 9000 FASTWS_PORT, env-file",
        "ws-max-size 2MiB command line",
        "ws-max-queue 3 pyproject.toml",
        "ws-write-limit 64KiB default",
        "ws-max-size 64KiB route; the server has 2MiB",
        "ws-origins same route; the server has any",
        "Note: FASTWS_PROT sets no option: did you mean FASTWS_PORT?",
    ):
        assert row.split() in rows
    assert result.stdout.endswith("\nchat:app can be served: 2 routes.\n")


def test_check_shows_no_secrets(chat: Path) -> None:
    result = command("check", cwd=chat)
    # A password alone turns TLS not on.
    assert result.returncode == 2
    assert "(not shown)" in result.stdout
    assert "hunter2" not in result.stdout + result.stderr


def test_check_tells_every_wrong_route(chat: Path) -> None:
    (chat / "chat.env").write_text("")
    (chat / "wrong.py").write_text(
        "from chat import app\n"
        "for number in range(2):\n"
        "    @app.websocket(f'/{number}', port=number)\n"
        "    async def handler(ws): ...\n"
    )
    result = command("check", "wrong", cwd=chat)
    assert result.returncode == 2
    assert result.stderr == "".join(
        f"fastws: route /{number}: port is an option of the server, not of a route\n"
        for number in range(2)
    )


@pytest.mark.parametrize("word", ["run", "check"])
def test_a_missing_zlib_ng_is_told(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zlib_ng.zlib_ng", None)
    sentence = (
        "ws-deflate-library is zlib-ng, which needs the package zlib-ng, and that cannot be "
        "imported: install fastws[fast-deflate] (`pip install '.[fast-deflate]'` in the source "
        "tree), or choose zlib"
    )
    result = invoke(word, "examples.echo:app", "--ws-deflate-library", "zlib-ng")
    assert result.exit_code == 2
    assert f"fastws: {sentence}" in result.stderr
    result = invoke(word, "examples.echo:app", env={"FASTWS_WS_DEFLATE_LIBRARY": "zlib-ng"})
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "FASTWS_WS_DEFLATE_LIBRARY" in result.stderr


def test_check_of_a_missing_zlib_ng_on_a_route(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zlib_ng.zlib_ng", None)
    app = FastWS()

    @app.websocket("/here", ws_deflate_library="zlib-ng")
    async def handler(ws: WebSocket) -> None: ...

    monkeypatch.setattr("examples.echo.app", app)
    result = invoke("check", "examples.echo:app")
    assert result.exit_code == 2
    assert "fastws: route /here: ws-deflate-library is zlib-ng, which needs" in result.stderr


def test_check_of_what_cannot_be_imported(tmp_path: Path) -> None:
    result = command("check", "missing_module", cwd=tmp_path)
    assert result.returncode == 1
    assert "missing_module" in result.stdout
    assert result.stderr.startswith("fastws: there is no module 'missing_module'")


def test_the_routes_as_a_table(chat: Path) -> None:
    result = command("routes", cwd=chat)
    assert result.returncode == 0, result.stderr
    head, room, page = result.stdout.splitlines()
    assert head.split() == ["kind", "path", "name", "handler", "dependencies", "options"]
    assert room.split(maxsplit=5) == [
        *["websocket", "/rooms/{room}", "room", "chat:room", "1"],
        "ws-max-size 64KiB, ws-origins same",
    ]
    assert page.split() == ["http", "/", "page", "chat:page", "0"]
    assert head.index("path") == room.index("/rooms") == page.index("/")


def test_workers_have_the_options_of_the_process_that_started_them(chat: Path) -> None:
    (chat / "chat.env").write_text("FASTWS_WORKERS=2\nFASTWS_SERVER_HEADER=on\nCHAT_USER=ann\n")
    (chat / "told.py").write_text(
        "import os\n"
        "from fastws import FastWS\n"
        "app = FastWS()\n"
        "@app.get('/')\n"
        "def page():\n"
        "    return {'user': os.environ['CHAT_USER'], 'pid': os.getpid()}\n"
    )
    words = ("--header", "X-A:b", "--limit-connections-per-ip", "none")
    with ServerProcess("told", *words, cwd=chat) as process:
        page = urlopen(f"http://127.0.0.1:{process.port}/", timeout=TIMEOUT)
        with page:
            told = json.load(page)
            assert told["user"] == "ann"
            assert told["pid"] != process.process.pid
            assert page.headers["X-A"] == "b"
            assert page.headers["Server"] == "fastws"
        assert process.stop() == 0
