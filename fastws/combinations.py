"""Which options fit together, and to what is installed: what no value by itself is refused for.

Those of TLS are checked where their files are read, in ``tls.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fastws.deflate_library import zlib_module
from fastws.kinds import format_duration, format_size
from fastws.options import ConfigError

if TYPE_CHECKING:
    from fastws.config import Config

__all__ = ["check_combinations"]


def check_combinations(config: Config) -> None:
    """Refuse options that contradict each other, or need a package that is missing.

    Raises:
        ConfigError: with a sentence that names both.
    """
    for problems in (_wrong_orders, _contradictions, _missing_packages, _process_problems):
        for problem in problems(config):
            raise problem


def _wrong_orders(config: Config) -> Iterator[ConfigError]:
    for smaller, larger, show in (
        ("ws_write_limit", "ws_max_backpressure", format_size),
        ("max_header_line", "max_header_size", format_size),
        ("drain_window", "timeout_graceful_shutdown", format_duration),
    ):
        low, high = getattr(config, smaller), getattr(config, larger)
        if low is not None and high is not None and low > high:
            yield ConfigError(
                f"{_name(smaller)} is {show(low)}: expected at most {_name(larger)}, which is "
                f"{show(high)}",
                (smaller, larger),
            )


def _contradictions(config: Config) -> Iterator[ConfigError]:
    if config.uds is not None and config.fd is not None:
        yield ConfigError(
            f"uds is {config.uds} and fd is {config.fd}: expected at most one of them",
            ("uds", "fd"),
        )
    if config.reload and config.workers > 1:
        yield ConfigError(
            f"reload is on and workers is {config.workers}: expected 1 worker while files are "
            "watched",
            ("reload", "workers"),
        )
    if config.metrics is not None and config.metrics == config.health:
        yield ConfigError(
            f"metrics and health are both {config.metrics}: expected different paths",
            ("metrics", "health"),
        )


def _missing_packages(config: Config) -> Iterator[ConfigError]:
    # Also where compression is off: a route may turn it on.
    try:
        zlib_module(config.ws_deflate_library, _name("ws_deflate_library"))
    except ValueError as error:
        yield ConfigError(str(error), ("ws_deflate_library",))


def _process_problems(config: Config) -> Iterator[ConfigError]:
    """What cannot be handed to the processes that an option asks for."""
    if config.reload:
        option, start = "reload", "reload is on: expected"
    elif config.workers > 1:
        option, start = "workers", f"workers is {config.workers}: expected"
    else:
        return
    if not isinstance(config.app, str):
        yield ConfigError(
            f"{start} an application given as module:attribute, which another process can import",
            (option,),
        )
    if config.ssl_context is not None:
        yield ConfigError(
            f"{start} ssl-certfile or ssl-context-factory in the place of ssl_context, which "
            "another process cannot be given",
            (option,),
        )
    if callable(config.ssl_context_factory):
        yield ConfigError(
            f"{start} ssl-context-factory given as module:attribute, which another process can "
            "import",
            (option, "ssl_context_factory"),
        )


def _name(keyword: str) -> str:
    return keyword.replace("_", "-")
