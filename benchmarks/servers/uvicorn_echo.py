"""uvicorn with a bare ASGI application, on uvloop and httptools; the variant is its option `ws`."""

from __future__ import annotations

from benchmarks.servers.asgi_app import app
from benchmarks.servers.on_uvicorn import serve

if __name__ == "__main__":
    serve(app)
