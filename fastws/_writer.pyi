"""From messages to frames, and sends that wait while a peer reads too slowly."""

from typing_extensions import disjoint_base, final

from fastws._awaitables import Awaitable
from fastws._outlet import Outlet

@disjoint_base
class Writer(Outlet):
    """A connection's sending side."""

@final
class Pause(Awaitable):
    """What a send returns while the write buffer is above its mark, and a close until the closing
    handshake is done."""

@final
class Breath(Awaitable):
    """What a send returns after many that did not have to wait: it lets the loop do one step."""

    def __init__(self, connection: Writer) -> None: ...
