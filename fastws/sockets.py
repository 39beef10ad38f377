"""Sockets to listen on, and how many connections they may bring."""

from __future__ import annotations

import errno
import os
import socket
import sys
from typing import Any

from fastws.config import Config

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

__all__ = ["BindError", "bind_error", "bind_sockets", "connection_limit"]

SPARE_FILES = 64
"""Open files that connections leave for everything else."""


class BindError(OSError):
    """The address cannot be listened on. The message is one sentence for the user."""


def bind_sockets(config: Config) -> list[socket.socket]:
    """Bind (without listening yet) every address that ``host`` stands for.

    Raises:
        BindError: an address is in use, does not exist here, or may not be used.
    """
    host, port = config.host, config.port
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
                bound.append(_bind(socket.socket(family, kind, protocol), address, config))
            except OSError as error:
                # Such as ::1, one of localhost's two, where IPv6 is turned off.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                unusable = error
        if unusable is not None and not bound:
            raise unusable
    except OSError as error:
        for listening in bound:
            listening.close()
        raise bind_error(host, port, error) from None
    return bound


def _bind(listening: socket.socket, address: tuple[Any, ...], config: Config) -> socket.socket:
    try:
        _set_socket_options(listening, config)
        listening.bind(address)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _set_socket_options(listening: socket.socket, config: Config) -> None:
    """Set what the accepted connections inherit."""
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    if os.name == "posix":
        # Elsewhere it would let another program take the port over.
        options.append((socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))
    if listening.family == socket.AF_INET6:
        # Its IPv4 twin, if wanted, is a socket of its own.
        options.append((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1))
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


def connection_limit(config: Config) -> int | None:
    """How many connections may be open: the option, else what the open-files limit allows."""
    if config.limit_connections is not None or resource is None:
        return config.limit_connections
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else max(1, soft - SPARE_FILES)
