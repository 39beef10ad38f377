import asyncio
from collections.abc import Callable, Iterator

import pytest

from docs.programs.counter import app, step
from fastws import FastWS, WebSocket, WebSocketDisconnect
from fastws.testing import NotInTime, TestClient, WebSocketDenialResponse


# -- sync --
def test_every_message_counts() -> None:
    with TestClient(app) as client:
        with client.websocket_connect("/counter") as session:
            session.send_text("one")
            assert session.receive_json() == 1
            session.send_bytes(b"two")
            assert session.receive_json() == 2


# -- async --
async def count_twice() -> None:
    async with TestClient(app) as client:
        async with client.connect("/counter") as one, client.connect("/counter") as two:
            await one.send_text("one")
            await two.send_text("one")
            assert await one.receive_json() == await two.receive_json() == 1


def test_two_connections_count_by_themselves() -> None:
    asyncio.run(count_twice())


# -- missing --
def test_nobody_answers_before_he_is_asked() -> None:
    with TestClient(app) as client, client.websocket_connect("/counter") as session:
        with pytest.raises(NotInTime, match="no message arrived within"):
            session.receive_json(timeout=0.1)


# -- failing --
def test_failures_of_a_handler_are_raised_in_the_test() -> None:
    broken = FastWS()

    @broken.websocket("/")
    async def divide(ws: WebSocket) -> None:
        await ws.accept()
        await ws.send_json(1 / int(await ws.receive_text()))

    with TestClient(broken) as client, client.websocket_connect("/") as session:
        session.send_text("0")
        with pytest.raises(ZeroDivisionError):
            session.receive_json()


# -- refused --
def test_an_alarm_in_two_hours_is_refused() -> None:
    with TestClient(app) as client:
        with pytest.raises(WebSocketDenialResponse) as refused:
            with client.websocket_connect("/alarm/120"):
                pass
    assert refused.value.status == 403
    assert refused.value.header("content-type") == "application/json"
    assert refused.value.json() == {"detail": "an hour at most"}


# -- time --
def test_the_alarm_goes_off_in_an_hour() -> None:
    with TestClient(app) as client, client.websocket_connect("/alarm/60") as session:
        client.advance(59 * 60)
        assert all(frame.opcode.name == "PING" for frame in session.frames)
        client.advance(60)
        assert session.receive_text() == "time is up"


# -- faults --
def test_a_client_that_vanishes_is_noticed() -> None:
    codes = []
    watched = FastWS()

    @watched.websocket("/")
    async def watch(ws: WebSocket) -> None:
        await ws.accept()
        try:
            await ws.receive_text()
        except WebSocketDisconnect as end:
            codes.append(end.code)

    with TestClient(watched, ws_ping_interval=5, ws_ping_timeout=5) as client:
        with client.websocket_connect("/") as session:
            session.drop()
            client.advance(12)
            assert codes == [1011]
        with client.websocket_connect("/") as session:
            session.reset()
            assert codes == [1011, 1006]
        with client.websocket_connect("/") as session:
            session.send_raw(b"\x81\x02no")  # a frame that is not masked
            assert session.frames[-1].close_code == 1002


# -- override --
@pytest.fixture
def step_of_ten() -> Iterator[None]:
    app.dependency_overrides[step] = lambda: 10
    yield
    app.dependency_overrides.clear()


@pytest.mark.usefixtures("step_of_ten")
def test_the_step_is_a_dependency() -> None:
    with TestClient(app) as client, client.websocket_connect("/counter") as session:
        session.send_text("one")
        assert session.receive_json() == 10


# -- fixture --
def test_with_the_fixture(fastws_client: Callable[..., TestClient]) -> None:
    client = fastws_client(app)
    with client.websocket_connect("/counter") as session:
        session.send_text("one")
        assert session.receive_json() == 1
