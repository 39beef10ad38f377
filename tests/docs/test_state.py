"""The programs of docs/guide/state.md."""

from __future__ import annotations

from tests.docs.conftest import Serve
from tests.docs.programs import ask, ending, kill
from tests.support import run


def test_what_the_lifespan_yields_is_in_the_state_of_each_connection(serve: Serve) -> None:
    program = serve("state", fresh=True)

    async def work() -> None:
        async with program.open("/translate") as ws:
            assert await ask(ws, "tea") == {"word": "Tee", "unknown": 0, "lookups": 1}
            assert await ask(ws, "moon") == {"word": None, "unknown": 1, "lookups": 2}
            async with program.open("/translate") as other:
                # A state of its own, and the application's that all have in common.
                assert await ask(other, "cake") == {"word": "Kuchen", "unknown": 0, "lookups": 3}
            assert await ask(ws, "sun") == {"word": None, "unknown": 2, "lookups": 4}

    run(work())
    program.stop()
    lines = [line for line in program.output.splitlines() if line.startswith(("the ", "ready "))]
    assert lines == ["the dictionary is open", "ready to translate", "the dictionary is shut"]


def test_client_state_is_a_number_in_a_while(serve: Serve) -> None:
    program = serve("state")

    async def work() -> None:
        async with program.open("/while") as ws:
            assert await ask(ws, "one") == "still here: one"
            assert await ask(ws, "two") == "still here: two"
        async with program.open("/while") as ws:
            assert await ask(ws, "one") == "still here: one"
            kill(ws)

    run(work())


def test_client_state_has_names(serve: Serve) -> None:
    program = serve("state")

    async def work() -> None:
        async with program.open("/names") as ws:
            assert await ending(ws) == (["connected"], 1000, "")
        await program.prints("CONNECTING=0 CONNECTED=1 DISCONNECTED=3")

    run(work())
