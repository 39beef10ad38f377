"""The programs of docs/guide/path-parameters.md and parameters.md."""

from __future__ import annotations

import pytest

from tests.docs.conftest import Serve
from tests.docs.programs import ask, ending, hear, kill, shown
from tests.support import run

DEVICE = "6f1a0e3c-12f0-4f6e-8a63-0123456789ab"


def test_a_path_parameter_is_text_and_percent_decoded(serve: Serve) -> None:
    program = serve("paths")

    async def work() -> None:
        async with program.open("/tables/window") as ws:
            assert await ending(ws) == (["Welcome to window"], 1000, "")
        async with program.open("/tables/caf%C3%A9%20r%C3%A9serv%C3%A9") as ws:
            assert await hear(ws) == "Welcome to café réservé"

    run(work())


def test_a_path_parameter_is_converted_by_its_annotation(serve: Serve) -> None:
    program = serve("paths")

    async def work() -> None:
        async with program.open("/seats/41") as ws:
            assert await ask(ws, "sh!") == "seat 41, next to 42: sh!"
            kill(ws)
        await program.prints("seat 41 is free")

    run(work())


def test_a_path_parameter_that_does_not_convert_is_refused_with_422_and_the_reason(
    serve: Serve,
) -> None:
    program = serve("paths")

    async def work() -> None:
        refusal = await program.refusal("/seats/front")
        assert refusal.complaints == [("path", "seat")]
        assert [refusal.json()] == shown("path-parameters.md")
        refusal = await program.refusal("/devices/7/deafening")
        assert sorted(refusal.complaints) == [("path", "device"), ("path", "level")]

    run(work())


def test_path_parameters_of_other_types_come_by_name(serve: Serve) -> None:
    program = serve("paths")

    async def work() -> None:
        async with program.open(f"/devices/{DEVICE}/loud") as ws:
            assert await hear(ws) == {"device": DEVICE, "level": "loud", "version": 4}

    run(work())


def test_a_convertor_decides_what_a_path_matches(serve: Serve) -> None:
    program = serve("paths")

    async def work() -> None:
        async with program.open("/numbers/7") as ws:
            assert await hear(ws) == 8
        assert (await program.refusal("/numbers/seven")).status == 404
        async with program.open("/files/a/b/c.txt") as ws:
            assert await hear(ws) == ["a", "b", "c.txt"]

    run(work())


def test_an_unknown_path_is_404_and_a_page_request_to_a_websocket_426(serve: Serve) -> None:
    program = serve("paths")

    async def work() -> None:
        assert (await program.refusal("/nowhere")).status == 404

    run(work())
    assert program.get("/nowhere").status == 404
    answer = program.get("/seats/1")
    assert answer.status == 426
    assert answer.headers["upgrade"] == "websocket"


def test_query_parameters_are_required_converted_and_bounded(serve: Serve) -> None:
    program = serve("query")

    async def work() -> None:
        async with program.open("/seat?hall=Blue%20Hall&row=3") as ws:
            assert await hear(ws) == "Blue Hall, row 3: the curtain rises"
            assert await ask(ws, "hush") == "row 3 whispers: hush"
        await program.prints("row 3 of Blue Hall went home")
        refusal = await program.refusal("/seat")
        assert refusal.complaints == [("query", "hall"), ("query", "row")]
        assert (await program.refusal("/seat?hall=x&row=front")).complaints == [("query", "row")]
        assert (await program.refusal("/seat?hall=x&row=41")).complaints == [("query", "row")]

    run(work())


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("text=tea", ["tea", 10, "new", [], None]),
        ("text=&limit=3&order=old", ["", 3, "old", [], None]),
        ("text=tea&tag=hot&tag=green&to=7", ["tea", 10, "new", ["hot", "green"], 7]),
    ],
)
def test_query_parameters_may_be_optional_lists_and_literals(
    serve: Serve, query: str, values: list[object]
) -> None:
    program = serve("query")

    async def work() -> None:
        async with program.open(f"/search?{query}") as ws:
            assert await hear(ws) == values

    run(work())


def test_every_wrong_query_parameter_is_listed(serve: Serve) -> None:
    program = serve("query")

    async def work() -> None:
        refusal = await program.refusal("/search?limit=all&order=best&to=noon")
        assert sorted(refusal.complaints) == [
            ("query", "limit"),
            ("query", "order"),
            ("query", "text"),
            ("query", "to"),
        ]

    run(work())


def test_headers_and_cookies_are_parameters(serve: Serve) -> None:
    program = serve("headers")

    async def work() -> None:
        async with program.open("/visit") as ws:
            assert await hear(ws) == {"language": "en", "traces": [], "visits": 1}
            assert ws.response is not None
            assert ws.response.headers["set-cookie"].startswith("visits=1;")
        headers = [
            ("Accept-Language", "is"),
            ("X-Trace", "a"),
            ("X-Trace", "b"),
            ("Cookie", "visits=4; other=x"),
        ]
        async with program.open("/visit", additional_headers=headers) as ws:
            assert await hear(ws) == {"language": "is", "traces": ["a", "b"], "visits": 5}
        refusal = await program.refusal("/visit", Cookie="visits=many")
        assert refusal.complaints == [("cookie", "visits")]

    run(work())
