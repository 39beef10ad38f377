"""How a configuration is served: in this process, by several workers, or again and again."""

from __future__ import annotations

from fastws import server
from fastws.config import Config

__all__ = ["launch"]


def launch(config: Config) -> None:
    """Serve until a signal.

    With ``reload`` this process watches the files and runs another that serves; with ``workers``
    above one it supervises so many. Otherwise it serves itself.

    Raises:
        ApplicationError, BindError, ConfigError: as :meth:`fastws.server.Server.serve`.
    """
    # Most servers need neither of them.
    if config.reload:
        from fastws import reload

        reload.run(config)
    elif config.workers > 1:
        from fastws import workers

        workers.run(config)
    else:
        server.run(config)
