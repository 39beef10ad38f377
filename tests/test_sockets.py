"""Sockets to listen on: Unix sockets and their files, and sockets that come from outside.

The addresses of ``host`` and ``port`` are tested with the server, in ``test_server.py``.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import sys
from pathlib import Path

import pytest

from fastws import FastWS, WebSocket, sockets
from fastws.config import Config, ConfigError
from fastws.server import Server, banner
from fastws.sockets import BindError, bind_for_workers, bind_sockets, listen, name_of, path_of
from tests.processes import Process, open_socket
from tests.serving import Client, handshake, serving, status_of
from tests.support import run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors are those of POSIX")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "fastws.sock")


def bind(**options: object) -> socket.socket:
    (bound,) = bind_sockets(Config.from_options("module:app", options))
    return bound


def connects_to(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


# Unix sockets


def test_a_unix_socket_has_its_permissions_before_anybody_can_connect(path: str) -> None:
    with bind(uds=path, uds_permissions="600") as bound:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert not connects_to(path)
        listen([bound], Config("x"))
        assert connects_to(path)


def test_its_file_goes_when_it_is_closed(path: str) -> None:
    bind(uds=path).close()
    assert not os.path.exists(path)


def test_its_file_is_that_of_the_path_at_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bound = bind(uds="fastws.sock")
    monkeypatch.chdir("/")
    bound.close()
    assert not list(tmp_path.iterdir())


def test_a_file_that_another_server_has_put_in_its_place_stays(path: str) -> None:
    first = bind(uds=path)
    os.unlink(path)
    with bind(uds=path) as second:
        first.close()
        listen([second], Config("x"))
        assert connects_to(path)


def test_another_process_with_the_socket_leaves_the_file(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = bind(uds=path)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    bound.close()
    assert os.path.exists(path)


def test_the_file_of_a_server_that_is_gone_is_replaced(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(path)
        gone.listen()
    with bind(uds=path) as bound:
        listen([bound], Config("x"))
        assert connects_to(path)


def test_a_socket_that_somebody_listens_on_is_not(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        with pytest.raises(
            BindError, match=r"^another server listens on the Unix socket .* --uds$"
        ):
            bind(uds=path)
        assert connects_to(path)


def test_a_file_that_is_no_socket_is_not(path: str) -> None:
    Path(path).write_text("precious")
    with pytest.raises(BindError, match="exists and is not a socket: remove it, or choose another"):
        bind(uds=path)
    assert Path(path).read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("missing/fastws.sock", "its directory does not exist"),
        ("x" * 120, "its path is longer than the system allows for a socket"),
    ],
)
def test_a_path_that_cannot_be_bound_gets_a_sentence(name: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(BindError) as raised:
        bind(uds=str(tmp_path / name))
    assert str(raised.value) == f"cannot listen on the Unix socket {tmp_path / name}: {why}"


class Seen:
    """An application that notes whom it serves."""

    def __init__(self) -> None:
        self.app = FastWS()
        self.clients: list[object] = []

        @self.app.websocket("/")
        async def handler(ws: WebSocket) -> None:
            self.clients.append(ws.client)
            await ws.accept()


def test_a_websocket_through_a_unix_socket_has_no_client_address(path: str) -> None:
    seen = Seen()

    async def main() -> None:
        async with serving(seen.app, uds=path) as server:
            assert server.addresses == []
            assert server.paths == [path]
            assert f"  unix:{path}\n" in banner(server)
            client = Client(*await asyncio.open_unix_connection(path))
            await client.send(handshake())
            assert status_of(await client.head()) == 101
            await client.close()

    run(main())
    assert not os.path.exists(path)
    assert seen.clients == [None]


def test_a_busy_unix_socket_does_not_cost_a_start(path: str) -> None:
    app = FastWS()
    started: list[bool] = []
    app.on_startup(lambda: started.append(True))

    async def main() -> None:
        with bind(uds=path) as other:
            listen([other], Config("x"))
            with pytest.raises(BindError):
                await Server(Config(app, uds=path)).serve()

    run(main())
    assert not started


# Descriptors


def test_a_descriptor_is_listened_on() -> None:
    seen = Seen()
    made = socket.create_server(("127.0.0.1", 0))
    address = made.getsockname()

    async def main() -> None:
        async with serving(seen.app, fd=made.detach()) as server:
            assert server.addresses == [address]
            client = Client(*await asyncio.open_connection(*address))
            await client.send(handshake())
            assert status_of(await client.head()) == 101
            await client.close()

    run(main())
    assert seen.clients


def test_a_descriptor_of_a_unix_socket_keeps_its_file(path: str) -> None:
    made = socket.socket(socket.AF_UNIX)
    made.bind(path)
    with bind(fd=made.detach()) as bound:
        assert path_of(bound) == path
        assert name_of(bound) == f"unix:{path}"
    assert os.path.exists(path)


def test_an_inherited_tcp_socket_gets_the_options_of_connections() -> None:
    made = socket.create_server(("127.0.0.1", 0))
    with bind(fd=made.detach(), tcp_keepalive=33) as bound:
        assert bound.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not bound.get_inheritable()


def test_a_descriptor_that_is_not_open_gets_a_sentence() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(BindError) as raised:
        bind(fd=reader)
    assert str(raised.value) == (
        f"fd is {reader}, which is not open in this process: "
        "expected the descriptor of a listening socket"
    )


def test_a_descriptor_of_something_else_gets_a_sentence_and_stays_open() -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(BindError, match=f"^fd is {reader}, which is not a socket: "):
            bind(fd=reader)
        os.fstat(reader)
    finally:
        os.close(reader)
        os.close(writer)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        with pytest.raises(BindError, match=r"of another kind \(AF_INET, SOCK_DGRAM\): expected"):
            bind(fd=datagrams.fileno())
        os.fstat(datagrams.fileno())


# Socket activation


def activate(
    monkeypatch: pytest.MonkeyPatch, *handed: socket.socket, pid: int | None = None, names: str = ""
) -> None:
    """Hand sockets over as systemd does, from another descriptor on: 3 is one of pytest's."""
    start = 500
    for index, each in enumerate(handed):
        os.dup2(each.fileno(), start + index)
        each.close()
    monkeypatch.setattr(sockets, "FIRST_ACTIVATED_FD", start)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() if pid is None else pid))
    monkeypatch.setenv("LISTEN_FDS", str(len(handed)))
    monkeypatch.setenv("LISTEN_FDNAMES", names)


def test_sockets_of_systemd_take_the_place_of_host_and_port(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tcp = socket.create_server(("127.0.0.1", 0))
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(path)
    unix.listen()
    port = tcp.getsockname()[1]
    activate(monkeypatch, tcp, unix)

    async def main() -> None:
        async with serving(Seen().app) as server:
            assert server.addresses == [("127.0.0.1", port)]
            assert server.paths == [path]
            opened = [
                await asyncio.open_connection("127.0.0.1", port),
                await asyncio.open_unix_connection(path),
            ]
            for client in [Client(*pair) for pair in opened]:
                await client.send(handshake())
                assert status_of(await client.head()) == 101
                await client.close()

    run(main())
    assert not any(variable.startswith("LISTEN_") for variable in os.environ)
    assert os.path.exists(path)  # systemd's


def test_sockets_for_another_process_are_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    with bind(port=0) as bound:
        assert bound.family == socket.AF_INET
    assert os.environ["LISTEN_FDS"] == "1"


def test_an_option_goes_before_the_sockets_of_systemd(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    with bind(uds=path) as bound:
        assert path_of(bound) == path


def test_a_wrong_socket_of_systemd_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    good = socket.create_server(("127.0.0.1", 0))
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    activate(monkeypatch, good, datagrams, names="web:metrics")
    try:
        with pytest.raises(BindError, match=r"^systemd's socket metrics \(descriptor 501\) is of"):
            bind()
    finally:
        os.close(501)


def test_a_wrong_number_of_sockets_gets_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "many")
    with pytest.raises(BindError, match=r"^LISTEN_FDS is 'many': expected the number of sockets"):
        bind()


ACTIVATE = """
import os, socket, sys
handed = [socket.create_server(("127.0.0.1", int(sys.argv[1]))), socket.socket(socket.AF_UNIX)]
handed[1].bind(sys.argv[2])
handed[1].listen()
# Out of the way first: one of them may have a number that the other is to get.
spare = [os.dup2(each.fileno(), 100 + index) for index, each in enumerate(handed)]
for index, fd in enumerate(spare):
    os.dup2(fd, 3 + index)
    os.close(fd)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "tcp:unix"}
os.execv(sys.argv[3], sys.argv[3:])
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_command_that_is_activated_serves_all_the_sockets(workers: str, tmp_path: Path) -> None:
    path = tmp_path / "fastws.sock"
    server = Process("tests.processes:app", "--workers", workers)
    server.command = [sys.executable, "-c", ACTIVATE, str(server.port), str(path), *server.command]

    async def main() -> None:
        through_tcp = await open_socket(server)
        server.path = path
        through_unix = await open_socket(server)
        assert through_tcp.client is not None
        assert through_tcp.client[0] == "127.0.0.1"
        assert through_unix.client is None
        await through_tcp.close()
        await through_unix.close()

    with server:
        assert f"  http://127.0.0.1:{server.port}\n  unix:{path}\n" in server.output
        run(main())
        assert server.stop() == 0
    assert path.exists()


# Sockets for several processes


def test_workers_have_sockets_of_their_own_on_one_port() -> None:
    groups = bind_for_workers(Config("module:app", port=0, workers=3))
    try:
        bound = [each for group in groups for each in group]
        assert len({each.getsockname() for each in bound}) == 1
        assert len({id(each) for each in bound}) == (3 if sys.platform == "linux" else 1)
    finally:
        for group in groups:
            for each in group:
                each.close()


@pytest.mark.parametrize("options", [{"reuse_port": "off"}, {"uds": "fastws.sock"}, {"fd": -1}])
def test_or_there_is_one_for_all(
    options: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "fd" in options:
        options = {"fd": socket.create_server(("127.0.0.1", 0)).detach()}
    config = Config.from_options("module:app", {"port": 0, "workers": 3, **options})
    (shared,) = bind_for_workers(config)
    for each in shared:
        each.close()


def test_workers_do_not_take_a_port_that_is_in_use() -> None:
    """Which two sets of sockets with SO_REUSEPORT would do, and share its connections."""
    config = Config("module:app", port=0, workers=2)
    groups = bind_for_workers(config)
    try:
        for group in groups:
            listen(group, config)
        port = groups[0][0].getsockname()[1]
        with pytest.raises(BindError, match=f"^port {port} is in use on 127.0.0.1"):
            bind_for_workers(Config("module:app", port=port, workers=2))
    finally:
        for group in groups:
            for each in group:
                each.close()


@pytest.mark.skipif(sys.platform != "linux", reason="SO_REUSEPORT shares a port on Linux")
def test_servers_share_a_port_that_both_were_told_to_reuse() -> None:
    with bind(port=0, reuse_port="on") as first:
        port = first.getsockname()[1]
        with bind(port=port, reuse_port="on") as second:
            listen([first, second], Config("x"))


def test_a_socket_that_cannot_be_reused_gets_a_sentence(path: str) -> None:
    with pytest.raises(ConfigError, match=r"^reuse-port is on: expected auto or off with fd, uds"):
        bind(uds=path, reuse_port="on")
    assert not os.path.exists(path)
