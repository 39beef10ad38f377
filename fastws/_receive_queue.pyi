"""The messages received that no receive call has taken yet, for other Cython modules."""

from typing_extensions import disjoint_base

from fastws._protocol import Session

@disjoint_base
class ReceiveQueue(Session):
    """A connection's room for the messages that wait to be received."""

    @property
    def queued_bytes(self) -> int:
        """Bytes of memory of the messages that were received and wait for a receive call."""
