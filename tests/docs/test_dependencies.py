"""The programs of docs/guide/dependencies.md, security.md and routers.md."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest

from tests.docs.conftest import Serve
from tests.docs.programs import Program, ask, ending, hear, kill
from tests.support import ROOT, TIMEOUT, run


async def first(program: Program, path: str, **headers: str) -> object:
    """The first message of a connection with these headers."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with program.open(path, additional_headers=names) as ws:
        return await hear(ws)


def test_dependencies_are_nested_and_take_parameters_of_their_own(serve: Serve) -> None:
    program = serve("dependencies")

    async def work() -> None:
        assert await first(program, "/greet") == ["en", "Good day"]
        assert await first(program, "/greet?lang=IS") == ["is", "Góðan daginn"]
        assert (await program.refusal("/greet?lang=deu")).complaints == [("query", "lang")]

    run(work())


def test_a_dependency_is_called_once_a_connection_unless_it_says_otherwise(serve: Serve) -> None:
    program = serve("dependencies")

    async def work() -> None:
        assert await first(program, "/tickets") == [True, False]

    run(work())


def test_a_dependency_that_yields_is_torn_down_when_the_connection_ends(serve: Serve) -> None:
    program = serve("dependencies", fresh=True)

    async def work() -> None:
        async with program.open("/people") as ws:
            assert await ask(ws, "1") == {"name": "Ada", "open": True}
            assert await ask(ws, "3") == {"name": None, "open": True}
            assert "closed" not in program.output
        await program.prints("the database is closed", times=1)
        ws = await program.open("/people")
        assert await ask(ws, "2") == {"name": "Grace", "open": True}
        kill(ws)
        await program.prints("the database is closed", times=2)

    run(work())


def test_a_dependency_of_the_handshake_is_torn_down_when_it_is_accepted(serve: Serve) -> None:
    program = serve("dependencies", fresh=True)

    async def work() -> None:
        async with program.open("/visit?user=1") as ws:
            await program.prints("the database is closed", times=1)
            assert await ask(ws, "hello") == "Ada: hello"
        refusal = await program.refusal("/visit?user=9")
        assert (refusal.status, refusal.json()) == (403, {"detail": "we have not met"})
        await program.prints("the database is closed", times=2)

    run(work())


def test_a_dependency_may_be_there_only_to_refuse(serve: Serve) -> None:
    program = serve("dependencies")

    async def work() -> None:
        assert await first(program, "/night?hour=23") == "Hoo."
        refusal = await program.refusal("/night?hour=12")
        assert (refusal.status, refusal.json()) == (403, {"detail": "come back at night"})
        assert (await program.refusal("/night")).complaints == [("query", "hour")]

    run(work())


def test_a_bearer_token_is_needed_before_the_connection_is_accepted(serve: Serve) -> None:
    program = serve("bearer")

    async def work() -> None:
        token = {"Authorization": "Bearer ada-s-token"}
        async with program.open("/desk", additional_headers=token) as ws:
            assert await hear(ws) == "Good morning, Ada"
            assert await ask(ws, "coffee?") == "Ada: coffee?"
        await program.prints("Ada left the desk")
        refusal = await program.refusal("/desk")
        assert refusal.status in (401, 403)
        assert "detail" in refusal.json()
        assert (await program.refusal("/desk", Authorization="Basic xyz")).status in (401, 403)
        refusal = await program.refusal("/desk", Authorization="Bearer forged")
        assert (refusal.status, refusal.json()) == (401, {"detail": "this token opens nothing"})

    run(work())


@pytest.mark.parametrize(
    ("path", "right", "wrong"),
    [
        ("/query?key={}", {}, {}),
        ("/header", {"X_Key": "{}"}, {}),
        ("/cookie", {"Cookie": "session={}"}, {}),
    ],
)
def test_a_key_may_be_in_the_query_a_header_or_a_cookie(
    serve: Serve, path: str, right: dict[str, str], wrong: dict[str, str]
) -> None:
    program = serve("keys")

    def filled(key: str) -> dict[str, str]:
        return {name: value.format(key) for name, value in right.items()}

    async def work() -> None:
        said = await first(program, path.format("open-sesame"), **filled("open-sesame"))
        assert said == "forty thieves"
        refusal = await program.refusal(path.format("open-barley"), **filled("open-barley"))
        assert (refusal.status, refusal.json()) == (403, {"detail": "wrong key"})
        assert (await program.refusal(path.partition("?")[0], **wrong)).status in (401, 403)

    run(work())


def test_a_password_by_basic_authentication(serve: Serve) -> None:
    program = serve("keys")

    def basic(password: str) -> str:
        return "Basic " + base64.b64encode(f"Ali:{password}".encode()).decode()

    async def work() -> None:
        said = await first(program, "/basic", Authorization=basic("open-sesame"))
        assert said == "welcome, Ali"
        for refusal in (
            await program.refusal("/basic", Authorization=basic("open:barley")),
            await program.refusal("/basic"),
        ):
            assert refusal.status == 401
            assert refusal.headers["www-authenticate"].startswith("Basic")

    run(work())


def test_routers_nest_with_their_prefixes_and_dependencies(serve: Serve) -> None:
    program = serve("routers")

    async def work() -> None:
        said = await first(program, "/house/floor/1?key=sesame")
        assert said == {"floor": 1, "above": "/house/floor/2"}
        refusal = await program.refusal("/house/floor/1")
        assert (refusal.status, refusal.json()) == (403, {"detail": "the door stays shut"})
        said = await first(program, "/garden/floor/1")
        assert said == {"floor": 1, "above": "/house/floor/2"}
        assert (await program.refusal("/floor/1")).status == 404

    run(work())


def test_a_route_is_an_object_that_matches_and_is_named(serve: Serve) -> None:
    program = serve("routes")

    async def work() -> None:
        async with program.open("/parcels/7") as ws:
            assert await ending(ws) == (["parcel 7 is on its way"], 1000, "")

    run(work())


def test_the_program_about_routes_prints_path_and_match() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.programs.routes"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=4 * TIMEOUT,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["/parcels/7", "FULL {'parcel': '7'}"]
