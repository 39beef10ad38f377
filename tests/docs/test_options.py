"""The page of options: its tables are those of the one table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.options import PAGE, rewritten, tables
from fastws.config import GROUPS, OPTIONS
from fastws.settings import load_settings


def test_the_page_has_the_options_as_they_are() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert rewritten(page) == page, "run `python -m docs.options`"


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_an_option_has_one_row(option) -> None:  # type: ignore[no-untyped-def]
    start = f"| `--{option.name}"
    rows = [
        line
        for line in tables().splitlines()
        if line.startswith(start) and line[len(start)] in " `"
    ]
    assert len(rows) == 1
    assert f"| `{option.default_text}` |" in rows[0]
    assert rows[0].count("|") - rows[0].count("\\|") == 5


def test_the_headings_are_those_of_the_help() -> None:
    headings = [line[4:] for line in tables().splitlines() if line.startswith("###")]
    assert headings == list(GROUPS.values())


def test_a_page_without_a_place_for_them() -> None:
    with pytest.raises(ValueError, match="end of options"):
        rewritten("# Options")


def test_the_pages_example_of_a_file_is_one(tmp_path: Path) -> None:
    found = re.search(r"^```toml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert found is not None
    (tmp_path / "pyproject.toml").write_text(found[1], encoding="utf-8")
    config = load_settings({}, environ={}, directory=tmp_path).config
    assert (config.app, config.port, config.ws_max_size) == ("chat:app", 9000, 64 * 1024)
    assert config.header == (("X-Served-By", "fastws"),)
    assert config.ssl_certfile == str(tmp_path / "tls" / "chat.pem")
