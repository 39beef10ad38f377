"""FastAPI's WebSocket API on a compiled frame codec."""

__version__ = "0.1.0"
