"""Sockets to listen on: bound, inherited or handed over; and how many connections they may bring.

A server listens on one of these, in this order: the descriptor that ``fd`` names, the Unix socket
that ``uds`` names, what systemd handed over, the addresses that ``host`` and ``port`` stand for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Iterable
from typing import Any

from fastws.config import Config, ConfigError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

__all__ = [
    "BindError",
    "UnixListener",
    "bind_for_workers",
    "bind_sockets",
    "connection_limit",
    "listen",
    "name_of",
    "path_of",
]

SPARE_FILES = 64
"""Open files that connections leave for everything else."""

FIRST_ACTIVATED_FD = 3
"""Where the descriptors begin that systemd hands over: sd_listen_fds(3), SD_LISTEN_FDS_START."""


class BindError(OSError):
    """The address cannot be listened on. The message is one sentence for the user."""


def bind_sockets(config: Config) -> list[socket.socket]:
    """Have every socket that ``config`` asks for; those that are made here do not listen yet.

    They are the caller's to close.

    Raises:
        BindError: an address is in use, does not exist here, or may not be used; a descriptor is
            no socket that can be listened on.
        ConfigError: ``reuse_port`` is on, and these sockets cannot have it.
    """
    if config.fd is not None:
        inherited = [_inherited(config.fd, f"fd is {config.fd}, which", config)]
    elif config.uds is not None:
        inherited = [_bind_unix(config.uds, config)]
    else:
        inherited = _activated(config)
    if not inherited:
        return _bind_addresses(config)
    if config.reuse_port == "on":
        _close(inherited)
        raise ConfigError(
            "reuse-port is on: expected auto or off with fd, uds or systemd's sockets, "
            "which processes can only share"
        )
    return inherited


def bind_for_workers(config: Config) -> list[list[socket.socket]]:
    """Have the sockets that each of ``config.workers`` processes listens on; or one group for all.

    On Linux each process has sockets of its own for the same addresses (SO_REUSEPORT): the kernel
    spreads connections over them by a hash of the peer's address. Of Unix sockets, of descriptors
    from outside, and on other systems there is one group only, which somebody has to share out:
    see :mod:`fastws.distributor`.

    Raises:
        BindError, ConfigError: as :func:`bind_sockets`.
    """
    first = bind_sockets(config)
    groups = [first]
    internet = all(listening.family in (socket.AF_INET, socket.AF_INET6) for listening in first)
    inherited = config.fd is not None or any(_listens(listening) for listening in first)
    wanted = config.reuse_port == "on" or (config.reuse_port == "auto" and sys.platform == "linux")
    if not (wanted and internet) or inherited:
        return groups
    try:
        for listening in first:
            # Only now that it is bound: with it, two servers on one port would not see each other.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for _ in range(1, config.workers):
            groups.append(twins := [])
            for listening in first:
                twin = socket.socket(listening.family, listening.type, listening.proto)
                twins.append(_bind(twin, listening.getsockname(), config, reuse_port=True))
    except OSError as error:
        for group in groups:
            _close(group)
        raise bind_error(config.host, config.port, error) from None
    return groups


def listen(sockets: Iterable[socket.socket], config: Config) -> None:
    """Let the kernel accept connections for ``sockets``.

    Raises:
        BindError: another program listens there by now.
    """
    for listening in sockets:
        try:
            listening.listen(config.backlog)
        except OSError as error:
            if listening.family not in (socket.AF_INET, socket.AF_INET6):
                raise BindError(f"cannot listen on {name_of(listening)}: {error}") from None
            raise bind_error(config.host, listening.getsockname()[1], error) from None


def name_of(listening: socket.socket) -> str:
    """Where a socket listens, for a line of text."""
    path = path_of(listening)
    if path is not None:
        return f"unix:{path}"
    host, port = listening.getsockname()[:2]
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def path_of(listening: socket.socket) -> str | None:
    """The path of a Unix socket, ``@`` first if it is abstract; ``None`` for one with a port."""
    if not hasattr(socket, "AF_UNIX") or listening.family != socket.AF_UNIX:
        return None
    path: str | bytes = listening.getsockname()
    if isinstance(path, str):
        return path
    return os.fsdecode(path).replace("\0", "@", 1)


def _close(sockets: Iterable[socket.socket]) -> None:
    for each in sockets:
        each.close()


def _listens(listening: socket.socket) -> bool:
    if not hasattr(socket, "SO_ACCEPTCONN"):
        return False
    return bool(listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


# Addresses


def _bind_addresses(config: Config) -> list[socket.socket]:
    host, port = config.host, config.port
    reuse_port = config.reuse_port == "on"
    if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigError("reuse-port is on, which this system does not have: expected auto or off")
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise BindError(f"host {host!r} cannot be resolved: {error.strerror}") from None
    bound: list[socket.socket] = []
    unusable: OSError | None = None
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            if port == 0 and bound:
                # One free port for all the addresses of a name.
                address = (address[0], bound[0].getsockname()[1], *address[2:])
            try:
                made = socket.socket(family, kind, protocol)
                bound.append(_bind(made, address, config, reuse_port=reuse_port))
            except OSError as error:
                # Such as ::1, one of localhost's two, where IPv6 is turned off.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                unusable = error
        if unusable is not None and not bound:
            raise unusable
    except OSError as error:
        _close(bound)
        raise bind_error(host, port, error) from None
    return bound


def _bind(
    listening: socket.socket, address: tuple[Any, ...], config: Config, *, reuse_port: bool
) -> socket.socket:
    try:
        if os.name == "posix":
            # Elsewhere it would let another program take the port over.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if listening.family == socket.AF_INET6:
            # Its IPv4 twin, if wanted, is a socket of its own.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _set_tcp_options(listening, config)
        listening.bind(address)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _set_tcp_options(listening: socket.socket, config: Config) -> None:
    """Set what the accepted connections inherit."""
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    if config.tcp_keepalive is not None:
        options.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))
        if sys.platform == "linux":
            idle = max(1, round(config.tcp_keepalive))
            options.append((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle))
            options.append((socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10))
            options.append((socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3))
    if config.tcp_user_timeout is not None and sys.platform == "linux":
        milliseconds = max(1, round(config.tcp_user_timeout * 1000))
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds))
    for level, name, value in options:
        listening.setsockopt(level, name, value)


def bind_error(host: str, port: int, error: OSError) -> BindError:
    """Say in a sentence why ``host`` and ``port`` could not be listened on."""
    where = f"{f'[{host}]' if ':' in host else host}:{port}"
    match error.errno:
        case errno.EADDRINUSE:
            return BindError(f"port {port} is in use on {host}: choose another with --port")
        case errno.EACCES:
            return BindError(f"this user may not listen on {where}: choose another --port")
        case errno.EADDRNOTAVAIL:
            return BindError(f"{host} is not an address of this machine: choose another --host")
        case _:
            return BindError(f"cannot listen on {where}: {error.strerror or error}")


# Unix sockets


class UnixListener(socket.socket):
    """A Unix socket bound to a path, whose file goes when it is closed.

    Only the process that made the file removes it, and only while it is that file: by then another
    server may have put its own in its place.
    """

    def __init__(self, path: str) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path = os.path.abspath(path)
        self._made: tuple[int, int] | None = None
        self._maker = os.getpid()

    def bind_with(self, permissions: int) -> None:
        """Bind, with a file of these permissions. Nobody can connect before ``listen()``."""
        self.bind(self._path)
        self._made = _identity(os.lstat(self._path))
        os.chmod(self._path, permissions)

    def close(self) -> None:
        if self._made is not None and os.getpid() == self._maker:
            with contextlib.suppress(OSError):  # it is gone already
                if _identity(os.lstat(self._path)) == self._made:
                    os.unlink(self._path)
        self._made = None
        super().close()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _bind_unix(path: str, config: Config) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise BindError(f"uds is {path}: this system has no Unix sockets; expected host and port")
    _remove_stale(path)
    listening = UnixListener(path)
    try:
        listening.bind_with(config.uds_permissions)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        match error.errno:
            case errno.ENOENT:
                why = "its directory does not exist"
            case errno.EACCES | errno.EPERM:
                why = "this user may not write to its directory"
            case errno.EADDRINUSE:
                why = "another server has just begun to listen there"
            case None:
                why = "its path is longer than the system allows for a socket"
            case _:
                why = error.strerror or str(error)
        raise BindError(f"cannot listen on the Unix socket {path}: {why}") from None
    return listening


def _remove_stale(path: str) -> None:
    """Remove the socket file of a server that has ended without doing so.

    Raises:
        BindError: somebody listens on it, or the file is none of a server's.
    """
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return  # There is none; whatever else is wrong, bind() says.
    if not stat.S_ISSOCK(mode):
        raise BindError(
            f"{path} exists and is not a socket: remove it, or choose another path with --uds"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            refusal = probe.connect_ex(path)
        except OSError:
            return  # Its path is too long, which bind() says as well.
    if refusal == errno.ECONNREFUSED:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    elif refusal in (0, errno.EAGAIN):  # EAGAIN: more wait there than its backlog allows
        raise BindError(
            f"another server listens on the Unix socket {path}: choose another path with --uds"
        )
    elif refusal != errno.ENOENT:
        raise BindError(
            f"the Unix socket {path} exists, and whether anybody listens on it cannot be told: "
            f"{os.strerror(refusal)}"
        )


# Sockets from outside


def _activated(config: Config) -> list[socket.socket]:
    """Take over the sockets that systemd, or who speaks its protocol, hands over: sd_listen_fds(3).

    Once: the variables are removed, so that no process that this one starts takes them for its own.
    """
    environ = os.environ
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environ.get("LISTEN_FDS", "")
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environ.pop(variable, None)
    if not (count.isascii() and count.isdigit()):
        raise BindError(f"LISTEN_FDS is {count!r}: expected the number of sockets handed over")
    taken: list[socket.socket] = []
    try:
        for index, fd in enumerate(range(FIRST_ACTIVATED_FD, FIRST_ACTIVATED_FD + int(count))):
            name = names[index] if index < len(names) else ""
            what = f"systemd's socket {name or index} (descriptor {fd})"
            taken.append(_inherited(fd, what, config))
    except BindError:
        _close(taken)
        raise
    return taken


def _inherited(fd: int, what: str, config: Config) -> socket.socket:
    """Take over an open descriptor; ``what`` is the subject of a sentence about it."""
    try:
        os.set_inheritable(fd, False)
        taken = socket.socket(fileno=fd)
    except OSError as error:
        if error.errno == errno.EBADF:
            why = "is not open in this process"
        elif error.errno == errno.ENOTSOCK:
            why = "is not a socket"
        else:
            why = f"cannot be listened on: {error.strerror}"
        raise BindError(f"{what} {why}: expected the descriptor of a listening socket") from None
    families = {socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", None)}
    if taken.type != socket.SOCK_STREAM or taken.family not in families:
        kind = f"{_name(taken.family)}, {_name(taken.type)}"
        taken.detach()  # It stays open: it is not ours after all.
        raise BindError(f"{what} is of another kind ({kind}): expected a TCP or a Unix socket")
    taken.setblocking(False)
    if taken.family in (socket.AF_INET, socket.AF_INET6):
        _set_tcp_options(taken, config)
    return taken


def _name(constant: int) -> str:
    return getattr(constant, "name", str(constant))


def connection_limit(config: Config) -> int | None:
    """How many connections may be open: the option, else what the open-files limit allows."""
    if config.limit_connections is not None or resource is None:
        return config.limit_connections
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else max(1, soft - SPARE_FILES)
