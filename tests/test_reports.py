"""What `fastws check` and `fastws routes` say about options and routes."""

from __future__ import annotations

from typing import Annotated

from click import unstyle

from fastws import Depends, FastWS, WebSocket
from fastws.config import OPTIONS, Config
from fastws.reports import options_report, route_options_report, route_problems, routes_report
from fastws.settings import Origin, Settings


def words(text: str) -> list[list[str]]:
    return [line.split() for line in unstyle(text).splitlines()]


def test_every_option_is_shown_with_its_origin() -> None:
    config = Config("chat:app", port=1, ssl_keyfile_password="hunter2")
    report = options_report(Settings(config, {"port": Origin("FASTWS_PORT", "set by it")}))
    rows = words(report)
    assert ["app", "chat:app", "default"] in rows
    assert ["port", "1", "FASTWS_PORT"] in rows
    assert ["ssl-keyfile-password", "(not", "shown)", "default"] in rows
    assert "hunter2" not in report
    assert {row[0] for row in rows if len(row) > 2} >= {option.name for option in OPTIONS}


def test_what_is_not_at_its_default_stands_out() -> None:
    report = options_report(Settings(Config("a:b"), {"port": Origin("FASTWS_PORT", "set by it")}))
    styled = {line for line in report.splitlines() if unstyle(line) != line}
    assert any("host" in line for line in styled)
    assert not any("FASTWS_PORT" in line for line in styled)


def user() -> str:
    return "ann"


def room(user: Annotated[str, Depends(user)]) -> str:
    return user


def application() -> FastWS:
    app = FastWS()

    @app.websocket("/ws/{name}", name="chat", ws_max_size="64KiB", dependencies=[Depends(user)])
    async def handler(ws: WebSocket, name: str, room: Annotated[str, Depends(room)]) -> None: ...

    @app.get("/")
    def page() -> None: ...

    return app


def test_routes_in_a_table() -> None:
    head, first, second = words(routes_report(application()))
    assert head == ["kind", "path", "name", "handler", "dependencies", "options"]
    # One of the two dependencies is asked for twice, and called once.
    name = "tests.test_reports"
    expected = f"websocket /ws/{{name}} chat {name}:handler 2 ws-max-size 64KiB"
    assert first == expected.split()
    assert second == f"http / page {name}:page 0".split()
    assert routes_report(FastWS()) == "The application has no routes."


def test_the_options_of_routes_beside_the_servers() -> None:
    rows = words(route_options_report(Config("a:b"), application()))
    assert rows == [
        ["Options", "of", "routes"],
        ["/ws/{name}"],
        "ws-max-size 64KiB route; the server has 1MiB".split(),
    ]
    assert route_options_report(Config("a:b"), FastWS()) == ""


def test_every_wrong_route_is_told() -> None:
    app = application()
    for path, options in (("/a", {"port": 1}), ("/b", {"ws_max_size": "big"}), ("/c", {"zzz": 1})):

        @app.websocket(path, **options)
        async def handler(ws: WebSocket) -> None: ...

    problems = route_problems(Config("a:b"), app)
    assert [problem.partition(":")[0] for problem in problems] == [
        "route /a",
        "route /b",
        "route /c",
    ]
    assert problems[0] == "route /a: port is an option of the server, not of a route"
    # The table shows them as they were written.
    assert "ws-max-size big" in routes_report(app)
