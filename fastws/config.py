"""Every option of the server, declared once.

The fields of :class:`Config` are the table. From it come the options of ``fastws run``, the
``FASTWS_*`` variables that it reads, the keywords of ``serve()``, the per-route options of
``@app.websocket`` and the documentation (print it with ``python -m fastws.config``).
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fastws.codes import CloseCode, is_valid_close_code
from fastws.limits import DEFAULT_LIMITS, DeflateOptions, Limits
from fastws.options import (
    FLAG,
    HEADERS,
    NAMES,
    ORIGINS,
    PEERS,
    PERMISSIONS,
    SECRET,
    SWITCH,
    TEXT,
    TEXTS,
    ConfigError,
    Kind,
    Option,
    choice,
    duration,
    format_size,
    number,
    size,
    text,
)

__all__ = [
    "GROUPS",
    "OPTIONS",
    "Config",
    "ConfigError",
    "options_from_environment",
    "options_markdown",
]

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


def _parse_close_code(value: object) -> int:
    code: int = number(1000, 4999).parse(value)
    if not is_valid_close_code(code):
        raise ValueError
    return code


_CLOSE_CODE = Kind("CODE", "a close code: 1000-1003, 1007-1014 or 3000-4999", _parse_close_code)

_PATH = text("PATH", "a path")


def _parse_url_path(value: object) -> str | None:
    if value is None or value == "none":
        return None
    if not isinstance(value, str) or not re.fullmatch(r"/[!-~]*", value) or set(value) & set("?#{"):
        raise ValueError
    return value


_URL_PATH = Kind(
    "PATH", "a path such as /metrics, or none", _parse_url_path, lambda value: value or "none"
)


def _parse_factory(value: object) -> object:
    if value is None or value == "none":
        return None
    if isinstance(value, str) and not re.fullmatch(r"[^:\s]+:[^:\s]+", value):
        raise ValueError
    if not isinstance(value, str) and not callable(value):
        raise ValueError
    return value


_FACTORY = Kind(
    "MODULE:ATTRIBUTE",
    "a function, or where it is: module:attribute",
    _parse_factory,
    lambda value: "none" if value is None else str(getattr(value, "__qualname__", value)),
)


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
    return dataclasses.field(default=default, metadata={"option": declared, "limit": limit})


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
    app_dir: str = _option(".", TEXT, "target", "Directory to import APP from")
    env_file: str | None = _option(
        None, _PATH, "target", "File of NAME=VALUE lines to put into the environment first"
    )
    lifespan: str = _option(
        "auto",
        choice("auto", "on", "off"),
        "target",
        "Whether the application's startup and shutdown run",
    )
    root_path: str = _option("", TEXT, "target", "Path under which a proxy mounts the application")

    host: str = _option("127.0.0.1", TEXT, "bind", "Address or name to listen on")
    port: int = _option(8000, number(0, 65535), "bind", "Port to listen on; 0 picks a free one")
    uds: str | None = _option(
        None, _PATH, "bind", "Unix socket to listen on, instead of host and port"
    )
    uds_permissions: int = _option(0o666, PERMISSIONS, "bind", "Who may connect to the Unix socket")
    fd: int | None = _option(
        None, number(0, nothing="none"), "bind", "Open file descriptor of a socket to listen on"
    )
    reuse_port: str = _option(
        "auto",
        choice("auto", "on", "off"),
        "bind",
        "Whether each process has a listening socket of its own; auto decides by what is shared"
        " fairly",
    )
    backlog: int = _option(2048, number(1), "bind", "Connections the kernel queues before accept")
    tcp_keepalive: float | None = _option(
        60.0, duration(optional=True), "bind", "Idle time before TCP probes a peer"
    )
    tcp_user_timeout: float | None = _option(
        40.0, duration(optional=True), "bind", "Time sent data may stay unacknowledged by TCP"
    )

    loop: str = _option(
        "auto",
        choice("auto", "uvloop", "asyncio"),
        "processes",
        "Event loop; auto takes uvloop where it is installed",
    )
    workers: int = _option(
        1, number(1), "processes", "Processes that serve", variables=("WEB_CONCURRENCY",)
    )
    timeout_worker_healthcheck: float = _option(
        5.0,
        duration(),
        "processes",
        "Time a worker has to say that it lives, before it is replaced",
    )

    ws_max_size: int | None = _limit(
        "max_size", size(least=1, optional=True), "queue", "Largest message, inflated, inclusive"
    )
    ws_max_fragments: int | None = _limit(
        "max_fragments", number(1, nothing="none"), "queue", "Most fragments of one message"
    )
    ws_max_queue: int = _limit(
        "max_queue", number(1), "queue", "Messages waiting for the handler; reading stops there"
    )
    ws_max_queue_bytes: int = _limit(
        "max_queue_bytes", size(least=1), "queue", "Bytes waiting for the handler"
    )

    ws_write_limit: int = _limit(
        "write_limit", size(least=1), "sending", "Unsent bytes above which an awaited send waits"
    )
    ws_max_backpressure: int = _limit(
        "max_backpressure",
        size(least=1),
        "sending",
        "Unsent bytes above which a send that nobody awaits ends the connection (1013)",
    )
    ws_write_timeout: float | None = _limit(
        "write_timeout",
        duration(optional=True),
        "sending",
        "Time in which a peer that reads nothing is cut",
    )

    ws_ping_interval: float | None = _limit(
        "ping_interval", duration(optional=True), "liveness", "Silence after which a ping is sent"
    )
    ws_ping_timeout: float | None = _limit(
        "ping_timeout", duration(optional=True), "liveness", "Time a peer has to react to a ping"
    )
    ws_idle_timeout: float | None = _limit(
        "idle_timeout",
        duration(optional=True),
        "liveness",
        "Time without a message, in either direction, after which a connection is closed",
    )
    ws_max_lifetime: float | None = _limit(
        "max_lifetime",
        duration(optional=True),
        "liveness",
        "Time after which a connection is closed, whatever it does",
    )
    ws_open_timeout: float | None = _limit(
        "open_timeout",
        duration(optional=True),
        "liveness",
        "Time from the TCP connection to the complete request",
        per_route=False,
    )
    ws_accept_timeout: float | None = _limit(
        "accept_timeout", duration(optional=True), "liveness", "Time the application has to accept"
    )
    ws_close_timeout: float = _limit(
        "close_timeout", duration(), "liveness", "Time the peer has to answer a close"
    )

    ws_per_message_deflate: str = _option(
        "off",
        choice(
            "off",
            "shared",
            "dedicated",
            synonyms={False: "off", "false": "off", True: "dedicated", "true": "dedicated"},
        ),
        "compression",
        "Compress messages: shared keeps no state between them, dedicated a window a connection",
        per_route=True,
    )
    ws_deflate_threshold: int = _option(
        _DEFLATE.threshold,
        size(),
        "compression",
        "Smaller messages are not compressed",
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
        _DEFLATE.mem_level, number(1, 9), "compression", "zlib's memory level", per_route=True
    )
    ws_deflate_level: int = _option(
        _DEFLATE.level, number(1, 9), "compression", "zlib's compression level", per_route=True
    )

    ws_origins: tuple[str, ...] = _option(
        ("any",), ORIGINS, "handshake", "Pages that may connect, by their origin", per_route=True
    )

    ws_subprotocols: tuple[str, ...] = _option(
        (),
        NAMES,
        "handshake",
        "Subprotocols to choose from; others are not shown to the handler; none keeps all",
        per_route=True,
    )

    limit_connections: int | None = _option(
        None,
        number(1, nothing="auto"),
        "limits",
        "Open connections, WebSockets included; auto is the limit of open files less 64",
        aliases=("limit-concurrency",),
    )
    limit_connections_per_ip: int | None = _option(
        None, number(1, nothing="none"), "limits", "Open connections of one address"
    )
    limit_message_rate: int | None = _limit(
        "message_rate",
        number(1, nothing="none"),
        "limits",
        "Messages a second that a peer may send; above that its connection is closed (1008)",
    )
    header_read_timeout: float | None = _option(
        10.0, duration(optional=True), "limits", "Time for each later request on a kept connection"
    )
    max_header_line: int = _limit(
        "max_header_line",
        size(least=64),
        "limits",
        "Longest request line and longest header line",
        per_route=False,
    )
    max_header_count: int = _limit(
        "max_header_count", number(1), "limits", "Most header lines of a request", per_route=False
    )
    max_header_size: int = _limit(
        "max_header_size", size(least=64), "limits", "Largest head of a request", per_route=False
    )

    timeout_graceful_shutdown: float | None = _option(
        30.0, duration(optional=True), "shutdown", "Time for handlers to end when the server stops"
    )
    shutdown_code: int = _option(
        int(CloseCode.SERVICE_RESTART), _CLOSE_CODE, "shutdown", "Close code when the server stops"
    )
    drain_window: float | None = _option(
        None,
        duration(optional=True),
        "shutdown",
        "Time over which a stopping server spreads its closes, so that not all peers come back at"
        " once",
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
        "Proxies to trust",
        variables=("FORWARDED_ALLOW_IPS",),
    )
    server_header: bool = _option(False, SWITCH, "http", "Name the server in responses")
    date_header: bool = _option(True, SWITCH, "http", "Send the Date header")
    header: tuple[tuple[str, str], ...] = _option(
        (), HEADERS, "http", "Header to add to every response; may be repeated"
    )

    ssl_certfile: str | None = _option(
        None, _PATH, "tls", "Certificate, and the chain to its authority (PEM); turns TLS on"
    )
    ssl_keyfile: str | None = _option(
        None, _PATH, "tls", "Its private key, where that is in a file of its own (PEM)"
    )
    ssl_keyfile_password: str | None = _option(None, SECRET, "tls", "Password of the private key")
    ssl_ca_certs: str | None = _option(
        None, _PATH, "tls", "Authorities that clients' certificates are checked against (PEM)"
    )
    ssl_cert_reqs: str = _option(
        "none",
        choice(
            "none",
            "optional",
            "required",
            synonyms={"0": "none", "1": "optional", 0: "none"}
            | {"2": "required", 1: "optional", 2: "required"},
        ),
        "tls",
        "Whether a client shows a certificate",
    )
    ssl_ciphers: str | None = _option(
        None, text("TEXT", "a list in OpenSSL's syntax"), "tls", "Ciphers for TLS 1.2"
    )
    ssl_min_version: str = _option(
        "1.2", choice("1.2", "1.3"), "tls", "Oldest version of TLS that is spoken"
    )
    ssl_context_factory: str | Callable[..., ssl.SSLContext] | None = _option(
        None, _FACTORY, "tls", "Function that makes the ssl.SSLContext: module:attribute"
    )
    ssl_handshake_timeout: float = _option(10.0, duration(), "tls", "Time for the TLS handshake")

    log_level: str = _option(
        "info",
        choice("critical", "error", "warning", "info", "debug"),
        "logs",
        "Least severe message to log",
    )
    log_format: str = _option(
        "text", choice("text", "json"), "logs", "How a line is written; json is one object a line"
    )
    log_config: str | None = _option(
        None, _PATH, "logs", "File with a logging configuration (JSON, TOML or INI), instead"
    )
    access_log: bool = _option(True, SWITCH, "logs", "Log each request, refusal and connection")
    metrics: str | None = _option(
        None, _URL_PATH, "logs", "URL path that shows figures for Prometheus"
    )
    health: str | None = _option(
        None, _URL_PATH, "logs", "URL path that says 200 while serving and 503 once stopping"
    )

    reload: bool = _option(False, FLAG, "development", "Start again when a source file changes")
    reload_dir: tuple[str, ...] = _option(
        (), TEXTS, "development", "Directory to watch; none is the one APP is imported from"
    )
    reload_include: tuple[str, ...] = _option(
        ("*.py",), TEXTS, "development", "Names of files to watch"
    )
    reload_exclude: tuple[str, ...] = _option(
        (".*", "*~"), TEXTS, "development", "Names of files and directories not to watch"
    )

    _routes: dict[int, tuple[Mapping[str, object], Config]] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for option in OPTIONS:
            parsed = option.parse(getattr(self, option.keyword))
            object.__setattr__(self, option.keyword, parsed)
        self._check_order("ws_write_limit", "ws_max_backpressure")
        self._check_order("max_header_line", "max_header_size")

    def _check_order(self, smaller: str, larger: str) -> None:
        low, high = getattr(self, smaller), getattr(self, larger)
        if low > high:
            raise ConfigError(
                f"{_BY_KEYWORD[smaller].name} is {format_size(low)}: expected at most "
                f"{_BY_KEYWORD[larger].name}, which is {format_size(high)}"
            )

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
            ConfigError: an option does not exist, or its value is not accepted.
        """
        values = {_find(name).keyword: value for name, value in options.items()}
        return cls(app, ssl_context, **values)  # type: ignore[arg-type]

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
            option = _find(name)
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
        )


OPTIONS: tuple[Option, ...] = tuple(
    Option(name=field.name.replace("_", "-"), default=field.default, **field.metadata["option"])
    for field in dataclasses.fields(Config)
    if "option" in field.metadata
)
"""Every option, in the order of its declaration."""

_BY_KEYWORD = {option.keyword: option for option in OPTIONS}
_BY_NAME = {name: option for option in OPTIONS for name in (option.name, *option.aliases)}


def _find(name: str) -> Option:
    """Return the option that goes by ``name``, written with ``-`` or with ``_``."""
    option = _BY_NAME.get(name.replace("_", "-"))
    if option is None:
        close = difflib.get_close_matches(name.replace("_", "-"), _BY_NAME, n=1)
        hint = f": did you mean {close[0]}?" if close else ""
        raise ConfigError(f"there is no option {name}{hint}")
    return option


def options_from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    """Return the options, by keyword, that ``FASTWS_*`` variables set.

    Other variables with that prefix are none of the server's.

    Raises:
        ConfigError: a value is not accepted.
    """
    options: dict[str, object] = {}
    for option in OPTIONS:
        variable = f"FASTWS_{option.keyword.upper()}"
        if variable in environ:
            try:
                options[option.keyword] = option.parse(environ[variable])
            except ConfigError as error:
                raise ConfigError(f"{error} (set by {variable})") from None
    return options


def options_markdown() -> str:
    """The documentation's table of options, grouped, as Markdown."""
    lines = []
    for group, title in GROUPS.items():
        lines += [f"### {title}", "", "| option | default | route | meaning |", "|---|---|---|---|"]
        for option in OPTIONS:
            if option.group == group:
                metavar = option.kind.metavar.replace("|", "\\|")
                written = f"--{option.name} {metavar}".strip()
                route = "yes" if option.per_route else ""
                default = option.default_text
                lines.append(f"| `{written}` | `{default}` | {route} | {option.help} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(options_markdown())
