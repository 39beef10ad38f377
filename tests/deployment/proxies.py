"""The documentation's proxy configurations, run as they are but for addresses and paths."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support import ROOT, TIMEOUT, ServerProcess, free_port

__all__ = ["PAGES", "CERTIFICATE", "Behind", "behind_caddy", "behind_nginx", "needs", "tls"]

PAGES = ROOT / "docs" / "deployment"
CERTIFICATE = ROOT / "tests" / "localhost.pem"
LISTENED = "/run/fastws/fastws.sock"


def needs(program: str) -> str:
    """The path of a program that is no package of Python's; CI has all of them."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found is None:
        sentence = f"{program} is not installed: `apt-get install` has it"
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    return found


def tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(CERTIFICATE))


class Behind:
    """A proxy in front of ``fastws run`` on a Unix socket."""

    def __init__(self, port: int, server: ServerProcess, log: Path) -> None:
        self.port = port
        self.server = server
        self.log = log
        self.host = f"localhost:{port}"
        self.url = f"wss://{self.host}"


@contextlib.contextmanager
def _served(directory: Path, *options: str) -> Iterator[tuple[Path, ServerProcess]]:
    listened = directory / "fastws.sock"
    with ServerProcess(
        "tests.deployment.application:app",
        *("--uds", str(listened), "--forwarded-allow-ips", "unix"),
        *("--health", "/health", "--metrics", "/metrics", *options),
        uds=listened,
    ) as server:
        yield listened, server


@contextlib.contextmanager
def _running(
    command: list[str], port: int, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(env or {})},
        )
    try:
        deadline = time.monotonic() + 4 * TIMEOUT
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT).close()
                break
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{command[0]} does not serve:\n{log.read_text(errors='replace')}")
            # A listening socket cannot be awaited from outside.
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        try:
            process.wait(2 * TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(TIMEOUT)


@contextlib.contextmanager
def behind_nginx(directory: Path, *options: str) -> Iterator[Behind]:
    program = needs("nginx")
    port = free_port()
    with _served(directory, *options) as (listened, server):
        included = (PAGES / "nginx.conf").read_text()
        for written, here in (
            (LISTENED, str(listened)),
            ("443 ssl", f"127.0.0.1:{port} ssl"),
            ("example.org;", "localhost;"),
            ("/etc/ssl/example.org.pem", str(CERTIFICATE)),
            ("/etc/ssl/example.org.key", str(CERTIFICATE)),
        ):
            assert written in included
            included = included.replace(written, here)
        (directory / "fastws.conf").write_text(included)
        places = "".join(
            f"{name}_temp_path {directory}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        main = directory / "nginx.conf"
        main.write_text(
            f"daemon off; worker_processes 1; pid {directory}/nginx.pid;\n"
            f"user {_user()};\n"
            f"error_log stderr warn;\n"
            "events { worker_connections 512; }\n"
            f"http {{ access_log off; {places} include {directory}/fastws.conf; }}\n"
        )
        log = directory / "proxy.log"
        with _running([program, "-e", "stderr", "-c", str(main)], port, log):
            yield Behind(port, server, log)


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


@contextlib.contextmanager
def behind_caddy(directory: Path, *options: str) -> Iterator[Behind]:
    program = needs("caddy")
    port = free_port()
    with _served(directory, *options) as (listened, server):
        written = (PAGES / "Caddyfile").read_text()
        assert LISTENED in written
        assert written.count("example.org {") == 1
        written = written.replace(LISTENED, str(listened)).replace(
            "example.org {", f"https://localhost:{port} {{\n\ttls {CERTIFICATE} {CERTIFICATE}"
        )
        # Without a server for its own administration, and without files outside this directory.
        options_block = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"
        (directory / "Caddyfile").write_text(options_block + written)
        command = [program, "run", "--config", str(directory / "Caddyfile")]
        command += ["--adapter", "caddyfile"]
        log = directory / "proxy.log"
        home = {"HOME": str(directory), "XDG_DATA_HOME": str(directory)}
        with _running(command, port, log, {**home, "XDG_CONFIG_HOME": str(directory)}):
            yield Behind(port, server, log)
