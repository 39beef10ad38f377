"""From frames to the kernel: gathered, and past a transport that holds nothing back."""

from typing_extensions import disjoint_base

from fastws._standing import Standing

@disjoint_base
class Outlet(Standing):
    """The way out of a connection."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes that were sent and that the transport still holds, or that wait for the end of the
        step; 0 once TCP is lost."""
