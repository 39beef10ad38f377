"""From messages to the transport: frames gathered to one write a step, and sends that wait."""

from typing_extensions import disjoint_base, final

from fastws._awaitables import Awaitable
from fastws._standing import Standing

@disjoint_base
class Writer(Standing):
    """A connection's sending side."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes that were sent and that the transport still holds; 0 once TCP is lost."""

    def on_step_end(self) -> None:
        """Write the frames that this step of the loop has gathered."""

@final
class Pause(Awaitable):
    """What a send returns while the write buffer is above its mark, and a close until the closing
    handshake is done."""
