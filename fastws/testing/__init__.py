"""Tests of an application: in process, on the test's own loop, byte for byte as over TCP.

::

    from fastws.testing import TestClient

    with TestClient(app) as client:
        with client.websocket_connect("/ws") as session:
            session.send_text("hi")
            assert session.receive_text() == "hi"

    async with TestClient(app) as client:
        async with client.connect("/ws") as ws:
            await ws.send_text("hi")
            assert await ws.receive_text() == "hi"

There is no port and no thread. Client and server are the real ones, from the request's first byte
to the end of TCP; only TCP itself is played in memory (``transports.py``), which is what allows to
break it on demand. The other rooms: ``site.py`` serves the application, ``clock.py`` moves time,
``wire.py`` tells what arrived; ``client.py`` and ``websocket.py`` are the asynchronous face,
``sync.py`` and ``session.py`` the other.
"""

from __future__ import annotations

from fastws.testing.client import AsyncTestClient
from fastws.testing.clock import Clock
from fastws.testing.errors import NotInTime, WebSocketDenialResponse
from fastws.testing.http import TestResponse
from fastws.testing.session import WebSocketTestSession
from fastws.testing.sync import TestClient
from fastws.testing.websocket import TestWebSocket
from fastws.testing.wire import Frame

__all__ = [
    "AsyncTestClient",
    "Clock",
    "Frame",
    "NotInTime",
    "TestClient",
    "TestResponse",
    "TestWebSocket",
    "WebSocketDenialResponse",
    "WebSocketTestSession",
]
