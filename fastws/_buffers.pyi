"""Memory in which a loop's connections gather what they send; an idle one has none."""

from typing_extensions import final

def keep_memory(largest: int, free_at_top: int) -> bool:
    """Have the C library keep freed memory for what comes next, in this whole process, from the
    first long message on. Before, as with connections that are idle, it would only keep what the
    tables of connections leave behind as they grow.

    Parameters:
        largest: bytes of an allocation up to which it is taken from the heap.
        free_at_top: bytes that may be free at the heap's end before they go back to the system.

    Returns:
        Whether it will; False where the C library is not glibc.
    """

@final
class Buffers:
    """The buffers of one loop, for other Cython modules: see ``_buffers.pxd``."""
