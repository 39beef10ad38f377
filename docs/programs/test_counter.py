import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect

from docs.programs.counter import app, step
from fastws.config import Config
from fastws.server import Server


# -- server --
@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """The URL of the application, served on a free port in the test's own loop."""
    server = Server(Config(app, port=0))
    running = asyncio.create_task(server.serve())
    await server.started.wait()
    host, port = server.addresses[0]
    yield f"ws://{host}:{port}"
    server.stop()
    await running


def test_every_message_counts() -> None:
    async def scenario() -> None:
        async with serving() as url, connect(f"{url}/counter") as client:
            await client.send("one")
            assert await client.recv() == "1"
            await client.send(b"two")
            assert await client.recv() == "2"

    asyncio.run(scenario())


# -- override --
@pytest.fixture
def step_of_ten() -> Iterator[None]:
    app.dependency_overrides[step] = lambda: 10
    yield
    app.dependency_overrides.clear()


@pytest.mark.usefixtures("step_of_ten")
def test_the_step_is_a_dependency() -> None:
    async def scenario() -> None:
        async with serving() as url, connect(f"{url}/counter") as client:
            await client.send("one")
            assert await client.recv() == "10"

    asyncio.run(scenario())
