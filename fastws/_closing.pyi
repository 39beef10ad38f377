"""How a connection ends: the closing handshake in both directions, and the end of TCP."""

import asyncio
from collections.abc import Callable
from typing import Any

from typing_extensions import disjoint_base

from fastws._receiver import Receiver

@disjoint_base
class Closing(Receiver):
    """A connection's ends."""

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """The handler's, from its start until it is done."""

    def abort(self) -> None:
        """Cut TCP, whatever is unsent, and cancel the handler."""

    def call_at_end(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once, when the handler or TCP has ended; at once if TCP has."""
