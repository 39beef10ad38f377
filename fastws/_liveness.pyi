"""What a connection does by the clock while it is open: keepalive, ``ping()``, its timeouts."""

from typing_extensions import disjoint_base, final

from fastws._awaitables import Awaitable
from fastws._writer import Writer

@final
class Queued:
    """How a PING fares behind much data that a slow peer has yet to take."""

@disjoint_base
class Liveness(Writer):
    """What a connection does by the clock as long as it is open."""

    @property
    def opened_at(self) -> float:
        """When the opening handshake was done, in seconds on the loop's clock
        (``loop.time()``); 0.0 before that, and if it never was."""

    @property
    def round_trip(self) -> float | None:
        """Seconds from the last PING that was answered to its PONG, whether keepalive or
        ``ping()`` sent it; ``None`` before the first."""

@final
class RoundTrip(Awaitable):
    """What a ping returns: the seconds to its PONG."""
