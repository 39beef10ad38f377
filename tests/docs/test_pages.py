"""The pages: what they show is what runs, where they point there is something."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.blocks import DOCS, PROGRAMS, pages, problems, region, rewritten, uses
from tests.support import ROOT

PAGES = pages()
NAMES = sorted(path.stem for path in PROGRAMS.glob("*.py") if path.stem != "__init__")
TESTS = sorted(Path(__file__).parent.glob("test_*.py"))

page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def links(text: str) -> Iterator[str]:
    yield from re.findall(r"\[[^\]\n]*\]\(([^)\s]+)\)", text)


# Blocks


@page
def test_every_python_block_is_its_program(path: Path) -> None:
    assert problems(text_of(path)) == []


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ("```python\nprint()\n```", "without a marker"),
        ("<!-- program: hello.py -->\n```python\nprint()\n```", "has changed"),
        ("<!-- program: nobody.py -->\n```python\n```", "nobody.py"),
        ("<!-- program: loops.py#nowhere -->\n```python\n```", "no region 'nowhere'"),
        ("<!-- program: journal.html -->\n```python\n```", "in a block of python"),
        ("<!-- program: hello.py -->\n\nText.", "a marker without a block"),
    ],
)
def test_a_block_that_is_not_its_program_is_found(wrong: str, complaint: str) -> None:
    found = problems(f"# Title\n\n{wrong}\n\nText.\n")
    assert any(complaint in problem for problem in found), found


def test_blocks_are_rewritten_from_the_programs() -> None:
    before = (
        "One\n\n<!-- program: hello.py -->\n```python\nold\n```\n\n"
        "<!-- program: loops.py#plain -->\n\n```python\n```\nTwo\n"
    )
    after = rewritten(before)
    assert problems(after) == []
    assert list(uses(after)) == [("hello.py", None), ("loops.py", "plain")]
    assert after.startswith("One\n\n<!--")
    assert after.endswith("```\nTwo\n")
    assert rewritten(after) == after


def test_a_region_ends_where_the_next_begins() -> None:
    plain = region("loops.py", "plain")
    assert plain.startswith('@app.websocket("/plain")\n')
    assert plain.endswith("await ws.send_text(text.upper())\n")
    assert region("loops.py", "head").startswith("from fastws import")


# Programs


@pytest.mark.parametrize("name", NAMES)
def test_every_program_is_on_a_page_of_the_guide_and_in_a_test(name: str) -> None:
    shown = {file for path in PAGES for file, _ in uses(text_of(path))}
    assert f"{name}.py" in shown
    started = {
        node.value
        for path in TESTS
        for node in ast.walk(ast.parse(text_of(path)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert name in started or any(name in word for word in started if "docs" in word)


@pytest.mark.parametrize("name", NAMES)
def test_every_part_of_a_program_is_on_a_page(name: str) -> None:
    """But for what stands above the parts, and is plain from them."""
    file = f"{name}.py"
    shown = {part for path in PAGES for used, part in uses(text_of(path)) if used == file}
    parts = set(re.findall(r"^# -- (\w+) --$", text_of(PROGRAMS / file), re.MULTILINE))
    assert None in shown or parts <= shown


@page
def test_commands_name_programs_that_exist(path: Path) -> None:
    for name in re.findall(r"docs\.programs\.(\w+)", text_of(path)):
        assert name in NAMES


# Links


@page
def test_links_lead_somewhere(path: Path) -> None:
    for link in links(text_of(path)):
        if not link.startswith(("http://", "https://")):
            assert (path.parent / link.partition("#")[0]).resolve().exists(), link


def test_every_page_is_linked_from_the_first() -> None:
    index = DOCS / "README.md"
    linked = {(DOCS / link).resolve() for link in links(text_of(index))}
    assert set(PAGES) - {index} <= linked


@pytest.mark.parametrize("path", sorted((DOCS / "documents").glob("*.md")), ids=lambda p: p.name)
def test_what_a_document_page_names_exists(path: Path) -> None:
    """Each row of its tables names a program, and paths in it, or a file of tests."""
    rows = re.findall(r"^\|(.*)\|(.*)\|$", text_of(path), re.MULTILINE)
    rows = [(left, right) for left, right in rows if not set(left) <= set("- |")]
    assert rows
    for left, right in rows:
        if right.strip() == "covered by":
            continue
        files: list[Path] = []
        for word in re.findall(r"`([^`]+)`", right):
            if word.startswith("/"):
                assert any(f'"{word}' in text_of(file) for file in files), (left, word)
            else:
                places = [ROOT / word, PROGRAMS / word]
                files = [place for place in places if place.is_file()]
                assert files, (left, word)
        assert files or "every program" in right or "guide's" in right, left
