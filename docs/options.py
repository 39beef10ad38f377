"""The tables of options in ``guide/options.md``, made from the one in ``fastws.config``.

``python -m docs.options`` writes them into the page; the tests compare.
"""

from __future__ import annotations

from collections.abc import Iterator

from docs.blocks import DOCS
from fastws.config import GROUPS, OPTIONS
from fastws.kinds import SWITCH
from fastws.options import Option

__all__ = ["PAGE", "rewritten", "tables"]

PAGE = DOCS / "guide" / "options.md"

BEGIN = "<!-- options: written by `python -m docs.options` -->\n"
END = "<!-- end of options -->\n"


def tables() -> str:
    """Every option under its heading, as Markdown."""
    sections = []
    for group, title in GROUPS.items():
        rows = [_row(option) for option in OPTIONS if option.group == group]
        head = ["| option | default | route | meaning |", "|---|---|---|---|"]
        sections.append("\n".join([f"### {title}", "", *head, *rows]) + "\n")
    return "\n".join(sections)


def _row(option: Option) -> str:
    metavar = f"[{option.kind.metavar}]" if option.kind is SWITCH else option.kind.metavar
    written = f"--{option.name} {metavar}".strip().replace("|", "\\|")
    route = "yes" if option.per_route else ""
    meaning = "; ".join([option.help, *_also(option)]).replace("*", "\\*")
    return f"| `{written}` | `{option.default_text}` | {route} | {meaning} |"


def _also(option: Option) -> Iterator[str]:
    names = [f"`--{alias}`" for alias in option.aliases]
    names += [f"`{variable}`" for variable in option.variables]
    if names:
        yield f"also {' and '.join(names)}"


def rewritten(page: str) -> str:
    """The page's text with the tables as they are now.

    Raises:
        ValueError: it has no place for them.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected {BEGIN.strip()} and {END.strip()} in the page")
    return f"{before}{begin}\n{tables()}\n{end}{after}"


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    if (new := rewritten(text)) != text:
        PAGE.write_text(new, encoding="utf-8")
        print(f"{PAGE.relative_to(DOCS)}: written")


if __name__ == "__main__":
    main()
