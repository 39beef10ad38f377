"""The pytest plugin: a fixture that makes test clients, and closes them.

It needs no plugin for asynchronous tests, and goes with any::

    def test_echo(fastws_client):
        with fastws_client(app).websocket_connect("/ws") as session:
            session.send_text("hi")
            assert session.receive_text() == "hi"

    async def test_echo_too(fastws_client):
        async with fastws_client(app) as client, client.connect("/ws") as ws:
            await ws.send_text("hi")
            assert await ws.receive_text() == "hi"
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastws.testing import TestClient

__all__ = ["fastws_client"]


@pytest.fixture
def fastws_client() -> Iterator[Callable[..., TestClient]]:
    """Makes a :class:`fastws.testing.TestClient` from an application and the client's options.

    Without a block it runs the application from its first use on; in the end of the test all are
    closed. A test fails if what it has started then still runs: a handler that did not notice the
    end of its connection, or a task.
    """
    # Whoever does not ask for it does not wait for its import.
    from fastws.testing.fixture import Clients

    clients = Clients()
    yield clients.make
    problems = clients.close()
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
