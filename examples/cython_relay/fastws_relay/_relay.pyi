"""What one client sends, as frames for the others."""

from fastws import Limits

class Relay:
    """Reads one client's bytes, after its opening handshake.

    Each message becomes one frame, however many it came in, so that the others take it from memory
    as it is; PING, CLOSE and violations are answered and go no further.

    Parameters:
        limits: ``max_size`` and ``max_fragments`` apply.
    """

    messages: int
    """Messages relayed."""
    payload_bytes: int
    """Bytes in them, text as UTF-8."""
    is_finished: bool
    """Whether the answer was a CLOSE: write it, then end this side of TCP."""

    def __init__(self, limits: Limits = ...) -> None: ...
    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take the client's next bytes.

        Returns:
            Frames for all others, and frames that answer this one; each may be empty.
        """
