"""Every option of the server, declared once.

The fields of :class:`Config` are the table. From it come the options of ``fastws run``, the
``FASTWS_*`` variables and the keys of ``[tool.fastws]`` (``settings.py``), the keywords of
``serve()``, the options of ``@app.websocket`` and the documentation.
"""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fastws.codes import CloseCode
from fastws.combinations import check_combinations
from fastws.deflate_library import LIBRARIES, Library
from fastws.kinds import (
    AUTO_SWITCH,
    CLOSE_CODE,
    DIRECTORY,
    FACTORY,
    FLAG,
    HEADERS,
    NAMES,
    ORIGINS,
    PATH,
    PATHS,
    PEERS,
    PERMISSIONS,
    SECRET,
    SWITCH,
    TEXT,
    TEXTS,
    URL_PATH,
    choice,
    duration,
    number,
    size,
    text,
)
from fastws.limits import DEFAULT_LIMITS, DeflateOptions, Limits
from fastws.options import ConfigError, Kind, Option, did_you_mean

__all__ = ["GROUPS", "OPTIONS", "Config", "ConfigError", "find_option"]

_DEFLATE = DeflateOptions()

GROUPS = {
    "target": "Target",
    "bind": "Address",
    "processes": "Processes",
    "queue": "Size and queue",
    "sending": "Sending",
    "liveness": "Liveness",
    "compression": "Compression",
    "handshake": "Handshake",
    "limits": "Limits",
    "shutdown": "Shutdown",
    "http": "HTTP and proxies",
    "tls": "TLS",
    "logs": "Logs and figures",
    "development": "Development",
}
"""The headings of the options, in the order of ``--help``."""


def _option(
    default: Any,
    kind: Kind,
    group: str,
    help: str,
    *,
    per_route: bool = False,
    aliases: tuple[str, ...] = (),
    variables: tuple[str, ...] = (),
    limit: str | None = None,
) -> Any:
    """Declare a field of :class:`Config` as an option; the field's name becomes the option's."""
    declared: dict[str, Any] = {"kind": kind, "group": group, "help": help}
    declared |= {"per_route": per_route, "aliases": aliases, "variables": variables}
    metadata = {"option": declared, "limit": limit}
    return dataclasses.field(default=default, repr=not kind.is_secret, metadata=metadata)


def _limit(field: str, kind: Kind, group: str, help: str, *, per_route: bool = True) -> Any:
    """Declare an option that sets ``field`` of :class:`Limits`, whose default it takes."""
    default = getattr(DEFAULT_LIMITS, field)
    return _option(default, kind, group, help, per_route=per_route, limit=field)


@dataclass(frozen=True)
class Config:
    """What to serve and how. Sizes are bytes, times are seconds, ``None`` is no limit.

    The options are parsed and checked on construction, so that ``ws_max_size="64KiB"`` and
    ``ws_max_size=65536`` are the same.

    Parameters:
        app: the application, or where to import it from: ``"module:attribute"``.
        ssl_context: serves TLS with it.

    Raises:
        ConfigError: a value is not accepted; the message names option, value and what is.
    """

    app: Any
    ssl_context: ssl.SSLContext | None = None

    factory: bool = _option(False, FLAG, "target", "APP is a function that returns the application")
    app_dir: str = _option(".", DIRECTORY, "target", "Directory to import APP from")
    env_file: str | None = _option(
        None, PATH, "target", "File of NAME=VALUE lines to put into the environment first"
    )
    root_path: str = _option(
        "", TEXT, "target", "Path under which a proxy publishes the application"
    )
    lifespan: str = _option(
        "auto",
        AUTO_SWITCH,
        "target",
        "Whether the application's startup and shutdown run; auto runs those it has",
    )

    host: str = _option("127.0.0.1", TEXT, "bind", "Address or name to listen on")
    port: int = _option(8000, number(0, 65535), "bind", "Port to listen on; 0 picks a free one")
    uds: str | None = _option(
        None, PATH, "bind", "Unix socket to listen on, instead of host and port"
    )
    uds_permissions: int = _option(
        0o666, PERMISSIONS, "bind", "Who may connect to the Unix socket, in octal"
    )
    fd: int | None = _option(
        None,
        number(0, nothing="none"),
        "bind",
        "Open file descriptor of a socket to listen on, instead of host and port",
    )
    backlog: int = _option(2048, number(1), "bind", "Connections that wait to be accepted")
    reuse_port: str = _option(
        "auto",
        AUTO_SWITCH,
        "bind",
        "Whether each worker listens with a socket of its own; auto takes what shares fairly",
    )
    tcp_keepalive: float | None = _option(
        60.0, duration(optional=True), "bind", "Silence after which TCP probes a peer"
    )
    tcp_user_timeout: float | None = _option(
        40.0, duration(optional=True), "bind", "Time TCP waits for sent data to be acknowledged"
    )

    workers: int = _option(
        1, number(1), "processes", "Processes that serve", variables=("WEB_CONCURRENCY",)
    )
    timeout_worker_healthcheck: float = _option(
        5.0, duration(), "processes", "Time in which a worker must say that it lives"
    )
    loop: str = _option(
        "auto",
        choice("auto", "uvloop", "asyncio"),
        "processes",
        "Event loop; auto takes uvloop where it is installed",
    )

    ws_max_size: int | None = _limit(
        "max_size",
        size(least=1, optional=True),
        "queue",
        "Largest message, inflated, over all its fragments (1009)",
    )
    ws_max_fragments: int | None = _limit(
        "max_fragments", number(1, nothing="none"), "queue", "Most fragments of a message (1008)"
    )
    ws_max_queue: int = _limit(
        "max_queue", number(1), "queue", "Messages that wait for the handler; reading stops there"
    )
    ws_max_queue_bytes: int = _limit(
        "max_queue_bytes",
        size(least=1),
        "queue",
        "Bytes that wait for the handler; reading stops there",
    )

    ws_write_limit: int = _limit(
        "write_limit", size(least=1), "sending", "Unsent bytes above which an awaited send waits"
    )
    ws_max_backpressure: int = _limit(
        "max_backpressure",
        size(least=1),
        "sending",
        "Unsent bytes above which a send that does not wait ends the connection (1013)",
    )
    ws_write_timeout: float | None = _limit(
        "write_timeout",
        duration(optional=True),
        "sending",
        "Time after which a peer that takes nothing of what waits for it is cut",
    )

    ws_ping_interval: float | None = _limit(
        "ping_interval", duration(optional=True), "liveness", "Silence after which a ping is sent"
    )
    ws_ping_timeout: float | None = _limit(
        "ping_timeout",
        duration(optional=True),
        "liveness",
        "Time a peer has to show life after a ping (1011)",
    )
    ws_idle_timeout: float | None = _limit(
        "idle_timeout",
        duration(optional=True),
        "liveness",
        "Time without a message in either direction after which a connection is closed",
    )
    ws_open_timeout: float | None = _limit(
        "open_timeout",
        duration(optional=True),
        "liveness",
        "Time from the TCP connection to the complete request",
        per_route=False,
    )
    ws_accept_timeout: float | None = _limit(
        "accept_timeout",
        duration(optional=True),
        "liveness",
        "Time the application has to accept or refuse",
    )
    ws_close_timeout: float = _limit(
        "close_timeout", duration(), "liveness", "Time a peer has to answer a close"
    )
    ws_max_lifetime: float | None = _limit(
        "max_lifetime",
        duration(optional=True),
        "liveness",
        "Time after which a connection is closed, whatever it does",
    )

    ws_per_message_deflate: str = _option(
        "off",
        choice("off", "shared", "dedicated", synonyms={"false": "off", "true": "dedicated"}),
        "compression",
        "Compress messages: shared keeps nothing between them, dedicated a window for each"
        " connection",
        per_route=True,
    )
    ws_deflate_threshold: int = _option(
        _DEFLATE.threshold,
        size(),
        "compression",
        "Size below which a message is not compressed",
        per_route=True,
    )
    ws_deflate_window_bits: int = _option(
        _DEFLATE.window_bits,
        number(9, 15),
        "compression",
        "Size of the compression window, as a power of two",
        per_route=True,
    )
    ws_deflate_mem_level: int = _option(
        _DEFLATE.mem_level,
        number(1, 9),
        "compression",
        "zlib's memory level: 9 is fastest and takes most",
        per_route=True,
    )
    ws_deflate_level: int = _option(
        _DEFLATE.level,
        number(1, 9),
        "compression",
        "zlib's compression level: 9 is smallest and slowest",
        per_route=True,
    )
    ws_deflate_library: Library = _option(
        _DEFLATE.library,
        choice(*LIBRARIES),
        "compression",
        "What compresses; zlib-ng, a package of its own, is faster and takes more memory",
        per_route=True,
    )

    ws_origins: tuple[str, ...] = _option(
        ("any",), ORIGINS, "handshake", "Pages that may connect, by their origin", per_route=True
    )
    ws_subprotocols: tuple[str, ...] = _option(
        (),
        NAMES,
        "handshake",
        "Subprotocols to choose from; none leaves all that are offered to the handler",
        per_route=True,
    )

    limit_connections: int | None = _option(
        None,
        number(1, nothing="auto"),
        "limits",
        "Open connections of a process (503); auto is its limit of open files less 64",
        aliases=("limit-concurrency",),
    )
    limit_connections_per_ip: int | None = _option(
        None, number(1, nothing="none"), "limits", "Open connections of one address"
    )
    limit_message_rate: int | None = _limit(
        "message_rate",
        number(1, nothing="none"),
        "limits",
        "Messages that a peer may send in a second (1008)",
    )
    header_read_timeout: float | None = _option(
        10.0, duration(optional=True), "limits", "Time for each later request on a kept connection"
    )
    max_header_line: int = _limit(
        "max_header_line",
        size(least=64),
        "limits",
        "Longest request line (414) and longest header line (431)",
        per_route=False,
    )
    max_header_count: int = _limit(
        "max_header_count",
        number(1),
        "limits",
        "Most header lines of a request (431)",
        per_route=False,
    )
    max_header_size: int = _limit(
        "max_header_size",
        size(least=64),
        "limits",
        "Largest head of a request (431)",
        per_route=False,
    )

    timeout_graceful_shutdown: float | None = _option(
        30.0, duration(optional=True), "shutdown", "Time handlers have to end when the server stops"
    )
    shutdown_code: int = _option(
        int(CloseCode.SERVICE_RESTART),
        CLOSE_CODE,
        "shutdown",
        "Close code that peers get when the server stops",
    )
    drain_window: float | None = _option(
        None,
        duration(optional=True),
        "shutdown",
        "Time over which the closes are spread when the server stops",
    )

    timeout_keep_alive: float = _option(
        5.0, duration(), "http", "Time a connection is kept for another request"
    )
    proxy_headers: bool = _option(
        True, SWITCH, "http", "Take scheme and client from a trusted proxy's X-Forwarded headers"
    )
    forwarded_allow_ips: tuple[str, ...] = _option(
        ("127.0.0.1",),
        PEERS,
        "http",
        "Proxies to trust: addresses, networks, unix (who comes through uds), or *",
        variables=("FORWARDED_ALLOW_IPS",),
    )
    server_header: bool = _option(False, SWITCH, "http", "Name the server in responses")
    date_header: bool = _option(True, SWITCH, "http", "Send the Date header")
    header: tuple[tuple[str, str], ...] = _option(
        (), HEADERS, "http", "Header to add to every response; may be repeated"
    )

    ssl_certfile: str | None = _option(
        None, PATH, "tls", "Certificate with the chain to its authority (PEM); turns TLS on"
    )
    ssl_keyfile: str | None = _option(
        None, PATH, "tls", "Private key (PEM), where it is not in the certificate's file"
    )
    ssl_keyfile_password: str | None = _option(
        None,
        SECRET,
        "tls",
        "Password of the private key; as a variable nobody sees it in a list of processes",
    )
    ssl_ca_certs: str | None = _option(
        None, PATH, "tls", "Authorities that clients' certificates are checked against (PEM)"
    )
    ssl_cert_reqs: str = _option(
        "none",
        choice(
            "none",
            "optional",
            "required",
            synonyms={"0": "none", "1": "optional", "2": "required"},
        ),
        "tls",
        "Whether a client shows a certificate",
    )
    ssl_ciphers: str | None = _option(
        None,
        text("LIST", "a list in OpenSSL's syntax"),
        "tls",
        "Ciphers for TLS 1.2 in OpenSSL's syntax; none takes ECDHE with AES-GCM or ChaCha20",
    )
    ssl_min_version: str = _option(
        "1.2", choice("1.2", "1.3"), "tls", "Oldest version of TLS that is spoken"
    )
    ssl_context_factory: str | Callable[..., ssl.SSLContext] | None = _option(
        None, FACTORY, "tls", "Function that makes the ssl.SSLContext"
    )
    ssl_handshake_timeout: float = _option(10.0, duration(), "tls", "Time for the TLS handshake")

    log_level: str = _option(
        "info",
        choice("critical", "error", "warning", "info", "debug"),
        "logs",
        "Least severe message to log",
    )
    log_config: str | None = _option(
        None, PATH, "logs", "File that sets logging up instead (JSON, TOML or INI)"
    )
    log_format: str = _option(
        "text", choice("text", "json"), "logs", "How a line is written; json is an object a line"
    )
    access_log: bool = _option(
        True, SWITCH, "logs", "Log requests, and connections as they open, are refused, and close"
    )
    metrics: str | None = _option(
        None, URL_PATH, "logs", "URL path that shows figures for Prometheus"
    )
    health: str | None = _option(
        None, URL_PATH, "logs", "URL path that says 200 while serving and 503 once stopping"
    )

    reload: bool = _option(False, FLAG, "development", "Start again when a source file changes")
    reload_dir: tuple[str, ...] = _option(
        (), PATHS, "development", "Directory to watch; none is app-dir; may be repeated"
    )
    reload_include: tuple[str, ...] = _option(
        ("*.py",), TEXTS, "development", "Names of files to watch; may be repeated"
    )
    reload_exclude: tuple[str, ...] = _option(
        (".*", "*~"),
        TEXTS,
        "development",
        "Names of files and directories not to watch; may be repeated",
    )

    _routes: dict[int, tuple[Mapping[str, object], Config]] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for option in OPTIONS:
            parsed = option.parse(getattr(self, option.keyword))
            object.__setattr__(self, option.keyword, parsed)
        check_combinations(self)

    @classmethod
    def from_options(
        cls,
        app: Any,
        options: Mapping[str, object],
        *,
        ssl_context: ssl.SSLContext | None = None,
    ) -> Config:
        """Make a configuration from options by name, values written in any accepted form.

        Parameters:
            app: the application, or where to import it from.
            options: by keyword, name or alias.
            ssl_context: serves TLS with it.

        Raises:
            ConfigError: an option does not exist, is given twice, or its value is not accepted.
        """
        values: dict[str, Any] = {}
        for name, value in options.items():
            option = find_option(name)
            if option.keyword in values:
                raise ConfigError(f"{option.name} is given twice: expected one value")
            values[option.keyword] = value
        return cls(app, ssl_context, **values)

    def to_options(self) -> dict[str, Any]:
        """The options that are not at their defaults, by keyword, for :meth:`from_options`.

        They are what another process needs to serve the same; secrets are among them.
        """
        return {
            option.keyword: value
            for option in OPTIONS
            if (value := getattr(self, option.keyword)) != option.default
        }

    def __reduce__(self) -> tuple[Any, ...]:
        # Not with what was worked out for the routes, which is kept by the identity of theirs.
        if self.ssl_context is not None:
            raise TypeError(
                "an ssl.SSLContext cannot be handed to another process: give ssl_certfile, or "
                "ssl_context_factory as module:attribute"
            )
        return _made_again, (self.app, self.to_options())

    def for_route(self, overrides: Mapping[str, object]) -> Config:
        """Return this configuration with a route's own options in place.

        The result is kept for as long as this configuration is: ``overrides`` must not change.

        Raises:
            ConfigError: an option does not exist or is not one of a route, or its value is not
                accepted.
        """
        if not overrides:
            return self
        # Keyed by identity, since a value may be a list; the mapping is kept, so no other takes
        # its id.
        known = self._routes.get(id(overrides))
        if known is not None:
            return known[1]
        values: dict[str, Any] = {}
        for name, value in overrides.items():
            option = find_option(name)
            if not option.per_route:
                raise ConfigError(f"{option.name} is an option of the server, not of a route")
            values[option.keyword] = value
        route = dataclasses.replace(self, **values)
        self._routes[id(overrides)] = (overrides, route)
        return route

    @cached_property
    def limits(self) -> Limits:
        """The limits of a connection."""
        return Limits(
            **{
                field.metadata["limit"]: getattr(self, field.name)
                for field in dataclasses.fields(self)
                if field.metadata.get("limit")
            }
        )

    @cached_property
    def deflate(self) -> DeflateOptions | None:
        """How to compress; ``None`` if compression is off."""
        if self.ws_per_message_deflate == "off":
            return None
        return DeflateOptions(
            mode=self.ws_per_message_deflate,
            threshold=self.ws_deflate_threshold,
            window_bits=self.ws_deflate_window_bits,
            mem_level=self.ws_deflate_mem_level,
            level=self.ws_deflate_level,
            library=self.ws_deflate_library,
        )


OPTIONS: tuple[Option, ...] = tuple(
    Option(name=field.name.replace("_", "-"), default=field.default, **field.metadata["option"])
    for field in dataclasses.fields(Config)
    if "option" in field.metadata
)
"""Every option, in the order of its declaration."""

_BY_NAME = {name: option for option in OPTIONS for name in (option.name, *option.aliases)}


def find_option(name: str) -> Option:
    """Return the option that goes by ``name``, written with ``-`` or with ``_``.

    Raises:
        ConfigError: there is none; the message has the name that is most like it.
    """
    written = name.replace("_", "-")
    option = _BY_NAME.get(written)
    if option is None:
        raise ConfigError(f"there is no option {name}{did_you_mean(written, _BY_NAME)}")
    return option


def _made_again(app: Any, options: Mapping[str, object]) -> Config:
    return Config.from_options(app, options)
