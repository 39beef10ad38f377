"""The same FastAPI application on uvicorn, with this package's protocol class."""

from __future__ import annotations

from benchmarks.servers.fastapi_echo import serve

if __name__ == "__main__":
    serve("fastws.integrations.uvicorn:WebSocketProtocol")
