"""The same FastAPI application on uvicorn, with this package's protocol class."""

from __future__ import annotations

from benchmarks.servers.fastapi_echo import app
from benchmarks.servers.on_uvicorn import serve

if __name__ == "__main__":
    serve(app, "fastws.integrations.uvicorn:WebSocketProtocol")
