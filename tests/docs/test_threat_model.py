"""The threat model names tests: they exist."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support import ROOT

PAGE = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")


def existing_tests() -> set[str]:
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 40
    assert named - existing_tests() == set()


@pytest.mark.parametrize(
    "row", [line for line in PAGE.splitlines() if line.startswith("| ") and "tried" not in line]
)
def test_every_row_has_an_answer(row: str) -> None:
    assert all(cell.strip() for cell in re.split(r"(?<!\\)\|", row)[2:-1])
