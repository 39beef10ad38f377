"""From the transport's bytes to the application's receive calls."""

from typing_extensions import disjoint_base, final

from fastws._awaitables import Awaitable
from fastws._liveness import Liveness

@disjoint_base
class Receiver(Liveness):
    """A connection's receiving side."""

@final
class Receive(Awaitable):
    """What a receive returns: the next message, for one task."""
