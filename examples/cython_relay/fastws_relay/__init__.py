"""The core of a relay: what one WebSocket client sends, as frames for the others."""

from ._relay import Relay

__all__ = ["Relay"]
