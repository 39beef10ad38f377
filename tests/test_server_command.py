"""How options are typed, and how they are shown by --help."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from fastws.config import GROUPS, OPTIONS
from fastws.server_command import ServerCommand, given_options


def typed(*words: str) -> dict[str, object]:
    """What a command is given for these words."""
    given: dict[str, object] = {}

    def command(**values: object) -> None:
        given.update(given_options(values))

    result = CliRunner().invoke(ServerCommand("serve", OPTIONS, command), words)
    assert result.exit_code == 0, result.output
    return given


def refused(*words: str) -> Result:
    result = CliRunner().invoke(ServerCommand("serve", OPTIONS, lambda **_: None), words)
    assert result.exit_code == 2
    return result


def help_lines(*keywords: str) -> list[str]:
    """The help of a command with these options, or with all of them."""
    chosen = [option for option in OPTIONS if option.keyword in keywords] if keywords else OPTIONS
    command = ServerCommand("serve", chosen, lambda **_: None)
    return CliRunner().invoke(command, "--help", env={"COLUMNS": "80"}).output.splitlines()


# Typing


def test_values_are_handed_on_as_they_were_typed() -> None:
    words = "chat:app --port 0 --ws-max-size=64KiB --header X-A:b --header X-C:d --log-level loud"
    assert typed(*words.split()) == {
        "app": "chat:app",
        "port": "0",
        "ws_max_size": "64KiB",
        "header": ("X-A:b", "X-C:d"),
        "log_level": "loud",
    }
    assert typed() == {}


def test_an_alias() -> None:
    assert typed("--limit-concurrency=9") == {"limit_connections": "9"}


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--access-log"], "on"),
        (["--access-log", "off"], "off"),
        (["--access-log", "False"], "False"),
        (["--access-log=off"], "off"),
        (["--access-log=maybe"], "maybe"),
        (["--no-access-log"], "off"),
        (["--no-access-log", "--access-log"], "on"),
        (["--access-log", "--no-access-log"], "off"),
    ],
)
def test_a_switch_does_not_take_the_application_for_its_value(words: list[str], value: str) -> None:
    assert typed(*words, "chat:app") == {"app": "chat:app", "access_log": value}
    assert typed("chat:app", *words) == {"app": "chat:app", "access_log": value}


def test_flags_can_be_turned_on_and_off() -> None:
    assert typed("--reload", "chat:app") == {"app": "chat:app", "reload": "on"}
    assert typed("chat:app", "--no-reload", "--factory=off") == {
        "app": "chat:app",
        "reload": "off",
        "factory": "off",
    }


def test_a_list_may_be_repeated() -> None:
    words = "--ws-origins https://a.example,same --ws-origins https://b.example --reload-dir src"
    assert typed(*words.split()) == {
        "ws_origins": "https://a.example,same,https://b.example",
        "reload_dir": "src",
    }


def test_what_follows_two_dashes_is_no_option() -> None:
    assert typed("--reload", "--", "--access-log") == {"app": "--access-log", "reload": "on"}


def test_an_unknown_option_gets_a_hint() -> None:
    assert "--ws-max-size" in refused("chat:app", "--ws-max-sise", "1").output


def test_an_option_that_only_uvicorn_has_gets_a_hint() -> None:
    output = refused("chat:app", "--ws", "wsproto").output
    assert "--ws is an option of uvicorn's: leave it out; there is only one" in output
    assert "use --ssl-min-version" in refused("chat:app", "--ssl-version", "2").output
    assert "the log has no colours" in refused("--no-use-colors", "chat:app").output


# Help


def test_the_help_has_every_option_under_its_heading() -> None:
    lines = help_lines()
    assert max(map(len, lines)) <= 80
    headings = [lines.index(f"{title}:") for title in GROUPS.values()]
    assert headings == sorted(headings)
    # Wrapped lines may split it anywhere.
    text = "".join(lines).replace(" ", "")
    for option in OPTIONS:
        assert [line for line in lines if f"{line} ".startswith(f"  --{option.name} ")]
        assert option.help.replace(" ", "") in text
        if option.kind.metavar:
            mark = "*" if option.per_route else ""
            assert f"[{option.default_text}]{mark}".replace(" ", "") in text


def test_a_command_shows_the_options_that_it_has() -> None:
    lines = help_lines("factory", "port")
    starts = [line.split()[0] for line in lines if line.startswith("  -")]
    assert starts == ["--factory", "--port", "-h,"]
    # What is said of values would be of no use.
    assert "Sizes are written" not in "".join(lines)
