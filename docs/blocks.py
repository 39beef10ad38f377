"""Programs in pages: each Python block is the text of a file, so that what is read is what runs.

A block of a page stands below a marker that names a program, or a region of it::

    <!-- program: echo.py -->
    <!-- program: loops.py#plain -->

A region begins behind a line ``# -- plain --`` of the program and ends before the next such line;
what stands above the first one is the region ``head``. Blank lines around it do not count.

``python -m docs.blocks`` writes the programs' present text into the pages; the tests compare.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["DOCS", "PROGRAMS", "pages", "problems", "region", "rewritten", "uses"]

DOCS = Path(__file__).resolve().parent
PROGRAMS = DOCS / "programs"

_MARKER = r"<!-- program: (?P<file>[\w./]+)(?:#(?P<region>\w+))? -->"
_BLOCK = re.compile(rf"^{_MARKER}\n+```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
_FENCE = re.compile(r"^```(?P<language>\w*)\n.*?^```$", re.M | re.S)
_LANGUAGES = {".py": "python", ".html": "html"}


def pages() -> list[Path]:
    """Every page, in order."""
    return sorted(DOCS.rglob("*.md"))


def region(file: str, name: str | None = None) -> str:
    """The text of a program, or of a region of it.

    Parameters:
        file: its path below ``docs/programs``.
        name: the region; ``None`` is the whole program.

    Raises:
        OSError: there is no such file.
        LookupError: it has no such region.
    """
    text = (PROGRAMS / file).read_text(encoding="utf-8")
    if name is None:
        return text
    head, *parts = re.split(r"^# -- (\w+) --\n", text, flags=re.M)
    regions = {"head": head, **dict(zip(parts[::2], parts[1::2], strict=True))}
    if name not in regions:
        raise LookupError(f"{file} has no region {name!r}, only {', '.join(regions)}")
    return regions[name].strip("\n") + "\n"


def uses(page: str) -> Iterator[tuple[str, str | None]]:
    """The programs, and regions of them, that a page's text includes."""
    for block in _BLOCK.finditer(page):
        yield block["file"], block["region"]


def rewritten(page: str) -> str:
    """The page's text with every block as its program has it now.

    Raises:
        OSError, LookupError: a marker names what does not exist.
    """

    def replace(block: re.Match[str]) -> str:
        start, end = block.span("text")
        text = region(block["file"], block["region"])
        return block[0][: start - block.start()] + text + block[0][end - block.start() :]

    return _BLOCK.sub(replace, page)


def problems(page: str) -> list[str]:
    """What is wrong with the blocks of a page's text: a sentence each."""
    found = []
    marked = {block.end() for block in _BLOCK.finditer(page)}
    for fence in _FENCE.finditer(page):
        if fence["language"] == "python" and fence.end() not in marked:
            line = page.count("\n", 0, fence.start()) + 1
            found.append(f"line {line}: a Python block without a marker that names its program")
    for block in _BLOCK.finditer(page):
        line = page.count("\n", 0, block.start()) + 1
        try:
            text = region(block["file"], block["region"])
        except (OSError, LookupError) as error:
            found.append(f"line {line}: {error}")
            continue
        if block["language"] != _LANGUAGES.get(Path(block["file"]).suffix):
            found.append(f"line {line}: {block['file']} in a block of {block['language']}")
        if block["text"] != text:
            found.append(f"line {line}: {block['file']} has changed: run `python -m docs.blocks`")
    for marker in re.finditer(f"^{_MARKER}$", page, re.M):
        if all(marker.start() != block.start() for block in _BLOCK.finditer(page)):
            line = page.count("\n", 0, marker.start()) + 1
            found.append(f"line {line}: a marker without a block")
    return found


def main() -> None:
    for path in pages():
        text = path.read_text(encoding="utf-8")
        if (new := rewritten(text)) != text:
            path.write_text(new, encoding="utf-8")
            print(f"{path.relative_to(DOCS)}: written")


if __name__ == "__main__":
    main()
