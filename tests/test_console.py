"""`fastws connect`: on a terminal, which is a real pseudo-terminal here, and in pipes."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from fastws import FastWS, WebSocket
from fastws.console import Close, Help, Mistake, Ping, parse_line
from fastws.terminal import escaped, hex_dump
from tests.http_peers import CERTIFICATE
from tests.support import ROOT, TIMEOUT, ServerProcess, free_port

# The server: this module's own, in a process of its own.

app = FastWS()


@app.websocket("/echo")
async def echo(ws: WebSocket) -> None:
    await ws.accept("b" if "b" in ws.subprotocols else None)
    async for message in ws:
        if message == "bye":
            await ws.close(4000, "see you\x1b[2J")
        elif message == "end":
            await ws.close()
        elif message == "headers":
            await ws.send_json(ws.headers.multi_items())
        elif isinstance(message, str):
            await ws.send_text(message)
        else:
            await ws.send_bytes(message)


@app.websocket("/hostile")
async def hostile(ws: WebSocket) -> None:
    await ws.accept()
    await ws.send_text("\x1b]0;owned\x07\x1b[2J\u202e")
    await ws.send_bytes(b"\x1b[2J" + bytes(600))
    async for _ in ws:
        pass


@app.websocket("/refused")
async def refused(ws: WebSocket) -> None:
    await ws.send_denial_response(403, {}, "not\x1b[2J you")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ServerProcess("tests.test_console:app") as running:
        yield running.url


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "fastws", "connect", *words]


def environ(**added: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_proxy")}
    return {**kept, "PYTHONPATH": str(ROOT), **added}


def pipe(*words: str, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command with ``text`` as its input."""
    return subprocess.run(
        command(*words), input=text, capture_output=True, timeout=4 * TIMEOUT, env=environ()
    )


def talking(*words: str) -> subprocess.Popen[bytes]:
    """Run the command for a test that answers what it writes."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command(*words), stdin=pipe, stdout=pipe, stderr=pipe, env=environ())


# In a pipe


def test_each_line_is_a_message_and_each_message_a_line(server: str) -> None:
    done = pipe(f"{server}/echo", text='one\r\n\nzwei ü\n{"a": 1}\nbye'.encode())
    assert done.stdout.decode() == 'one\n\nzwei ü\n{"a": 1}\n'
    assert done.stderr.decode().splitlines() == [
        f"connected to {server}/echo",
        r"closed with 4000: see you\x1b[2J",
    ]
    assert done.returncode == 3


def test_it_waits_for_the_server_to_close(server: str) -> None:
    done = pipe(f"{server}/echo", text=b"one\nend\n")
    assert (done.returncode, done.stdout) == (0, b"one\n")


def test_it_waits_no_longer_than_told(server: str) -> None:
    started = time.monotonic()
    done = pipe(f"{server}/echo", "--wait", "300ms", "-q", text=b"one\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"one\n", b"")
    assert time.monotonic() - started >= 0.3


def test_a_file_goes_through_unchanged(server: str, tmp_path: Path) -> None:
    file = tmp_path / "numbers"
    file.write_text("".join(f"{number} {'x' * (number % 300)}\n" for number in range(3000)) + "end")
    with file.open() as stream:
        done = subprocess.run(
            command(f"{server}/echo", "-q"),
            stdin=stream,
            capture_output=True,
            timeout=4 * TIMEOUT,
            env=environ(),
        )
    assert done.stdout.decode() + "end" == file.read_text()
    assert done.returncode == 0


def test_in_a_pipe_slashes_mean_nothing_unless_asked(server: str) -> None:
    done = pipe(f"{server}/echo", "-q", text=b"/hex 01\n//x\nend\n")
    assert done.stdout == b"/hex 01\n//x\n"


def test_in_a_pipe_commands_are_read_if_asked(server: str) -> None:
    with talking(f"{server}/echo", "--commands") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"/hex 01 ff\n//x\n/ping p\n/nope\n")
        process.stdin.flush()
        # Whoever closes before the echoes have come does not get them.
        assert [process.stdout.readline() for _ in range(2)] == [b"/hex 01ff\n", b"/x\n"]
        out, notes = process.communicate(b"/close 4001 why\n", timeout=4 * TIMEOUT)
    assert out == b""
    assert b"PONG after " in notes
    assert b"there is no command /nope" in notes
    assert process.returncode == 3


def test_what_is_not_utf_8_is_not_sent(server: str) -> None:
    done = pipe(f"{server}/echo", "-q", text=b"one\n\xff\n")
    assert done.returncode == 2
    assert b"line 2 of the input is not UTF-8" in done.stderr


def test_a_reader_that_leaves_ends_it(server: str) -> None:
    with talking(f"{server}/echo", "-q") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"one\n"
        process.stdout.close()
        process.stdin.write(b"two\n")
        process.stdin.flush()
        assert process.wait(2 * TIMEOUT) == 1
        assert b"Traceback" not in process.stderr.read()


def test_its_options_reach_the_handshake(server: str) -> None:
    words = "-s a -s b -H X-One:1 -H X-Two:2 --origin https://example.org --compression shared"
    done = pipe(f"{server}/echo", *words.split(), text=b"headers\nend\n")
    assert b"subprotocol b" in done.stderr
    for part in (b'["x-one","1"]', b'["x-two","2"]', b"https://example.org", b"a, b", b"deflate"):
        assert part in done.stdout


def test_without_a_scheme_it_is_ws(server: str) -> None:
    done = pipe(f"{server.removeprefix('ws://')}/echo", "-q", text=b"one\nend\n")
    assert (done.returncode, done.stdout) == (0, b"one\n")


def test_tls_is_verified_unless_told_otherwise() -> None:
    tls = ["--ssl-certfile", str(CERTIFICATE)]
    with ServerProcess("tests.test_console:app", *tls) as running:
        url = f"wss://localhost:{running.port}/echo"
        assert pipe(url, text=b"end").returncode == 1
        assert pipe(url, "--insecure", text=b"end").returncode == 0
        assert pipe(url, "--ca-certs", str(CERTIFICATE), text=b"end").returncode == 0


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["http://host/"], 2, "must begin with ws:// or wss://"),
        (["ws://host/", "--wait", "soon"], 2, "wait is soon: expected a time"),
        (["ws://host/", "--ws-max-size", "many"], 2, "ws-max-size is many"),
        (["ws://host/", "-H", "nothing"], 2, "header is nothing: expected NAME:VALUE"),
        (["ws://host/", "--proxy", "socks5://host"], 2, "kind socks5"),
        (["wss://host/", "--ca-certs", "/does/not/exist"], 2, "ca-certs is /does/not/exist"),
        ([], 2, "Missing argument 'URL'"),
        (["ws://127.0.0.1:PORT/"], 1, "no connection to ws://127.0.0.1"),
        (["SERVER/refused"], 1, "the server answered 403 'Forbidden'"),
        (["SERVER/refused"], 1, r"not\x1b[2J you"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    words: list[str], status: int, sentence: str, server: str
) -> None:
    words = [word.replace("SERVER", server).replace("PORT", str(free_port())) for word in words]
    done = pipe(*words)
    assert done.returncode == status
    assert sentence in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


# On a terminal


class Terminal:
    """The command on a pseudo-terminal, and somebody who types and reads."""

    def __init__(self, *words: str, home: Path) -> None:
        import fcntl
        import pty
        import termios

        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            command(*words),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            # Without it Ctrl-C would interrupt nobody.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            # Nobody answers here where the cursor is.
            env=environ(TERM="xterm", XDG_STATE_HOME=str(home), PROMPT_TOOLKIT_NO_CPR="1"),
        )
        os.close(slave)
        self.raw = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(TIMEOUT)
        os.close(self._master)

    @property
    def text(self) -> str:
        """What was written, without the sequences that colour it and move the cursor."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]", "", self.raw.decode("utf-8", "replace"))

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read until the pattern is seen."""
        deadline = time.monotonic() + 2 * TIMEOUT
        while (found := re.search(pattern, self.text)) is None:
            ready, _, _ = select.select([self._master], [], [], deadline - time.monotonic())
            assert ready, f"no {pattern!r} in {self.text!r}"
            try:
                self.raw += os.read(self._master, 65536)
            except OSError:  # the other side is closed
                pytest.fail(f"no {pattern!r} in {self.text!r}")
        return found

    def status(self) -> int:
        """Wait for the end of the command."""
        try:
            while select.select([self._master], [], [], 2 * TIMEOUT)[0]:
                self.raw += os.read(self._master, 65536)
        except OSError:  # the other side is closed
            pass
        return self._process.wait(TIMEOUT)


needs_terminal = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty module")

TIME = r"\d\d:\d\d:\d\d\.\d{3}"


@needs_terminal
def test_a_conversation(server: str, tmp_path: Path) -> None:
    with Terminal(f"{server}/echo", home=tmp_path) as terminal:
        terminal.wait_for(rf"{TIME} - connected to {server}/echo")
        terminal.type("hello\r")
        terminal.wait_for(rf"{TIME} < hello")
        terminal.type("/hex 00 41 ff\r")
        terminal.wait_for(rf"{TIME} > 3 bytes\s+00000000  00 41 ff +\|\.A\.\|")
        terminal.wait_for(rf"{TIME} < 3 bytes\s+00000000  00 41 ff +\|\.A\.\|")
        terminal.type("//slash\r")
        terminal.wait_for(rf"{TIME} < /slash")
        terminal.type("/ping\r")
        terminal.wait_for(rf"{TIME} - PONG after [\d.]+ ms")
        terminal.type("/nope\r")
        terminal.wait_for(rf"{TIME} ! there is no command /nope")
        terminal.type("/close 99\r")
        terminal.wait_for(rf"{TIME} ! .*99")
        terminal.type("/help\r")
        terminal.wait_for(r"/close \[CODE")
        terminal.type("/close 1000 bye\r")
        assert terminal.status() == 0
        assert re.search(rf"{TIME} - closed with 1000", terminal.text)
        # Colours, and nothing that went wrong.
        assert b"\x1b[" in terminal.raw
        assert "Traceback" not in terminal.text


@needs_terminal
def test_the_server_closes_while_the_prompt_waits(server: str, tmp_path: Path) -> None:
    with Terminal(f"{server}/echo", home=tmp_path) as terminal:
        terminal.wait_for("connected to")
        terminal.type("bye\r")
        terminal.wait_for(r"closed with 4000: see you\\x1b\[2J")
        assert terminal.status() == 3


@needs_terminal
@pytest.mark.parametrize("key", ["\x04", "\x03"], ids=["Ctrl-D", "Ctrl-C"])
def test_leaving_by_a_key(key: str, server: str, tmp_path: Path) -> None:
    with Terminal(f"{server}/echo", home=tmp_path) as terminal:
        terminal.wait_for("connected to")
        terminal.type("hello\r")
        terminal.wait_for(f"{TIME} < hello")
        terminal.type(key)
        terminal.wait_for("closed with 1000")
        assert terminal.status() == 0


@needs_terminal
def test_what_was_typed_is_remembered(server: str, tmp_path: Path) -> None:
    for text in ("first", "second"):
        with Terminal(f"{server}/echo", home=tmp_path) as terminal:
            terminal.wait_for("connected to")
            if text == "second":
                # The arrow up.
                terminal.type("\x1b[A\r")
                terminal.wait_for(f"{TIME} < first")
            terminal.type(f"{text}\r")
            terminal.wait_for(f"{TIME} < {text}")
            terminal.type("\x04")
            assert terminal.status() == 0
    (history,) = tmp_path.rglob("connect-history")
    assert history.stat().st_mode & 0o077 == 0


@needs_terminal
def test_a_peer_cannot_drive_the_terminal(server: str, tmp_path: Path) -> None:
    with Terminal(f"{server}/hostile", home=tmp_path) as terminal:
        terminal.wait_for(r"\\x1b\]0;owned\\x07\\x1b\[2J\\u202e")
        terminal.wait_for(r"604 bytes\s+00000000  1b 5b 32 4a")
        terminal.wait_for("… and 92 more bytes")
        terminal.type("\x04")
        assert terminal.status() == 0
        assert b"\x1b]0;" not in terminal.raw
        assert b"\x1b[2J" not in terminal.raw


@needs_terminal
def test_without_its_package_it_says_which(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "prompt_toolkit"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('not there')")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    monkeypatch.setitem(
        globals(), "environ", lambda **added: {**os.environ, **added} | {"PYTHONPATH": path}
    )
    with Terminal(f"{server}/echo", home=tmp_path) as terminal:
        assert terminal.status() == 2
        assert "needs the package prompt-toolkit" in " ".join(terminal.text.split())
    # A pipe does without.
    assert pipe(f"{server}/echo", text=b"end").returncode == 0


# The parts


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("text", "text"),
        (" /text", " /text"),
        ("//text", "/text"),
        ("/hex", b""),
        ("/hex 01 fF", b"\x01\xff"),
        ("/ping", Ping(b"")),
        ("/ping ü", Ping("ü".encode())),
        ("/close", Close(1000, "")),
        ("/close 4000", Close(4000, "")),
        ("/close 4000 good bye", Close(4000, "good bye")),
        ("/help", Help()),
    ],
)
def test_lines(line: str, expected: Any) -> None:
    assert parse_line(line) == expected


@pytest.mark.parametrize("line", ["/", "/nope", "/hex 0", "/hex xx", "/close now", "/close ²"])
def test_lines_that_mean_nothing(line: str) -> None:
    with pytest.raises(Mistake):
        parse_line(line)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": "\\n"}', '{"a": "\\n"}'),
        ("a\nb", "a\nb"),
        ("\x1b[0m\r\x00\x9b", r"\x1b[0m\r\x00\x9b"),
        ("\u202eabc\u2028", r"\u202eabc\u2028"),
        ("ü日本", "ü日本"),
    ],
)
def test_texts_are_made_harmless(text: str, expected: str) -> None:
    assert escaped(text) == expected


def test_a_dump() -> None:
    assert list(hex_dump(b"")) == []
    assert list(hex_dump(b"0123456789abcdef\x00~\x7f")) == [
        "00000000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  |0123456789abcdef|",
        "00000010  00 7e 7f                                         |.~.|",
    ]
    assert list(hex_dump(bytes(20), most=16))[1:] == ["… and 4 more bytes"]
