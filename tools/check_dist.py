"""Installs what `make dist` built in empty environments, and sees that it works there.

    python tools/check_dist.py dist

For the sdist and for the wheel: a new virtual environment outside the tree, installation with pip,
then, from a directory that is not the tree: import, `fastws --version`, and an application whose
echo comes back. The wheel must hold the sources that Cython users need, and no generated C.
"""

from __future__ import annotations

import argparse
import ast
import base64
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: Seconds for pip (an sdist compiles), and for each of the short steps.
INSTALL_TIMEOUT = 900
STEP_TIMEOUT = 60

#: What `import fastws` users and Cython users find beside the .py files; and what they must not.
SHIPPED = {".py", ".pyi", ".pyx", ".pxd", ".h", ".so", ".pyd", ".typed"}

APPLICATION = """
from fastws import FastWS, WebSocket

app = FastWS()


@app.websocket("/echo")
async def echo(ws: WebSocket) -> None:
    await ws.accept()
    await ws.send_text(await ws.receive_text())
"""


class Failed(Exception):
    """The message is what the user reads."""


def version() -> str:
    """The version that the tree says it has."""
    for node in ast.parse((ROOT / "fastws" / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
            return str(ast.literal_eval(node.value))
    raise Failed("fastws/__init__.py does not assign __version__")


def check_contents(archive: Path) -> None:
    """The package's files are those of the tree; compiled modules are in the wheel only."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            names = wheel.namelist()
    else:
        with tarfile.open(archive) as sdist:
            names = [name.partition("/")[2] for name in sdist.getnames()]
    held = {name for name in names if name.startswith("fastws/") and Path(name).suffix}
    unwanted = sorted(name for name in held if Path(name).suffix not in SHIPPED)
    if unwanted:
        raise Failed(f"{archive.name} holds {', '.join(unwanted)}")
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "fastws").rglob("*")
        if path.suffix in SHIPPED - {".so", ".pyd"} and "__pycache__" not in path.parts
    }
    lacking = sorted(wanted - held)
    if lacking:
        raise Failed(f"{archive.name} lacks {', '.join(lacking)}")
    compiled = {name.split(".")[0] for name in held if Path(name).suffix in {".so", ".pyd"}}
    sources = {name.split(".")[0] for name in wanted if name.endswith(".pyx")}
    if compiled != (sources if archive.suffix == ".whl" else set()):
        raise Failed(f"{archive.name} holds the compiled modules {sorted(compiled)}")


def check_installed(archive: Path, folder: Path) -> None:
    """Install in an empty environment, and use it from a directory that holds only app.py."""
    environment = folder / "venv"
    venv.create(environment, with_pip=True)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    python = str(scripts / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    step([*pip, str(archive)], cwd=folder, timeout=INSTALL_TIMEOUT)

    work = folder / "work"
    work.mkdir()
    (work / "app.py").write_text(APPLICATION)
    where = step([python, "-c", "import fastws; print(fastws.__file__)"], cwd=work).strip()
    if not Path(where).is_relative_to(environment):
        raise Failed(f"fastws was imported from {where}, not from the new environment")
    shown = step([str(scripts / "fastws"), "--version"], cwd=work)
    if version() not in shown:
        raise Failed(f"`fastws --version` of {archive.name} says {shown!r}, not {version()}")
    check_echo([str(scripts / "fastws"), "run", "app:app"], work)


def step(command: list[str], *, cwd: Path, timeout: float = STEP_TIMEOUT) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=clean_environment(), timeout=timeout, capture_output=True, text=True
    )
    if done.returncode:
        raise Failed(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def clean_environment() -> dict[str, str]:
    """Nothing of the tree may help: neither a path to it nor a variant of the build."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "FASTWS_", "VIRTUAL_ENV"))
    }


def check_echo(command: list[str], work: Path) -> None:
    """Serve the application and send it one text message over a plain socket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = work / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=work,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        with connect(port, server) as connection:
            connection.settimeout(STEP_TIMEOUT)
            received = echo(connection, port)
    except (OSError, Failed) as error:
        raise Failed(f"{error}; the server said:\n{log.read_text()}") from None
    finally:
        server.terminate()
        try:
            server.wait(STEP_TIMEOUT)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    if received != b"\x81\x05hello":
        raise Failed(f"the echo of 'hello' was the frame {received!r}")


def connect(port: int, server: subprocess.Popen[bytes]) -> socket.socket:
    deadline = time.monotonic() + STEP_TIMEOUT
    while time.monotonic() < deadline and server.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=STEP_TIMEOUT)
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise Failed("the server did not start")


def echo(connection: socket.socket, port: int) -> bytes:
    """One opening handshake and one masked text frame (RFC 6455, sections 4.1 and 5.3)."""
    request = [
        "GET /echo HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}",
    ]
    connection.sendall("\r\n".join([*request, "", ""]).encode())
    stream = connection.makefile("rb")
    status = stream.readline()
    if b" 101 " not in status:
        raise Failed(f"the server answered {status!r} to the opening handshake")
    while stream.readline() not in (b"\r\n", b""):
        pass
    # A mask of zeros leaves the payload as it is.
    connection.sendall(b"\x81\x85" + bytes(4) + b"hello")
    return stream.read(7)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where the sdist and the wheel are")
    folder = parser.parse_args().folder.resolve()
    archives = sorted([*folder.glob("fastws-*.tar.gz"), *folder.glob("fastws-*.whl")])
    if len(archives) != 2:
        names = [archive.name for archive in archives]
        print(f"{folder} should hold one sdist and one wheel, and holds {names}", file=sys.stderr)
        return 1
    for archive in archives:
        try:
            check_contents(archive)
            with tempfile.TemporaryDirectory(prefix="fastws-dist-") as scratch:
                check_installed(archive, Path(scratch).resolve())
        except Failed as error:
            print(f"{archive.name}: {error}", file=sys.stderr)
            return 1
        print(f"{archive.name}: installs, imports, shows its version, serves an echo")
    return 0


if __name__ == "__main__":
    sys.exit(main())
