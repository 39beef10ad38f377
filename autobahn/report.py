"""One report out of the processes that each ran a part of the cases, and its overview page."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from autobahn.cases import Difference, Outcome, Role, case_order

__all__ = ["CaseRecord", "ReportError", "RoleReport", "merge_reports", "write_overview"]


class ReportError(Exception):
    """The suite left a report that is not in the form known here."""


class CaseRecord(Outcome):
    """An entry of the suite's ``index.json``; ``reportfile`` is the case's own JSON report."""

    duration: int
    remoteCloseCode: int | None
    reportfile: str


def merge_reports(parts: Sequence[Path], target: Path) -> dict[str, CaseRecord]:
    """Make one report directory out of those that several processes left.

    Moves the cases' own reports to ``target``, and writes there an ``index.html`` and an
    ``index.json`` over all of them. Returns the records by case.

    Raises ``ReportError`` where a part is not a report of exactly one agent.
    """
    records: dict[str, CaseRecord] = {}
    rows: dict[str, str] = {}
    pages: list[str] = []
    agent = ""
    target.mkdir(parents=True, exist_ok=True)
    for part in parts:
        agent, found = _read_index(part / "index.json")
        pages.append((part / "index.html").read_text(encoding="utf-8"))
        part_rows = _rows(pages[-1])
        for case in found.keys() - records.keys():
            if case not in part_rows:
                raise ReportError(f"{part / 'index.html'} has no row for case {case}")
            records[case], rows[case] = found[case], part_rows[case]
            report = part / found[case]["reportfile"]
            for file in (report, report.with_suffix(".html")):
                shutil.move(file, target / file.name)
    ordered = {case: records[case] for case in sorted(records, key=case_order)}
    (target / "index.json").write_text(
        json.dumps({agent: ordered}, indent=1) + "\n", encoding="utf-8"
    )
    if pages:
        (target / "index.html").write_text(_with_rows(pages[0], rows), encoding="utf-8")
    return ordered


def _read_index(path: Path) -> tuple[str, dict[str, CaseRecord]]:
    if not path.exists():
        raise ReportError(f"wstest wrote no {path}: see the wstest.log beside its directory")
    agents: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if len(agents) != 1:
        raise ReportError(
            f"{path} is about {', '.join(sorted(agents)) or 'no agent'}: expected one agent"
        )
    ((agent, records),) = agents.items()
    return agent, cast("dict[str, CaseRecord]", records)


# A row of the suite's table: a process's page has one for every case of the suite, with "Missing"
# where that process did not run it.
_ROW = re.compile(
    r'<tr class="agent_case_result_row">\s*'
    r'<td class="case"><a href="#case_desc_[\d_]+">Case (?P<case>[\d.]+)</a>.*?</tr>',
    re.DOTALL,
)


def _rows(page: str) -> dict[str, str]:
    return {match["case"]: match[0] for match in _ROW.finditer(page)}


def _with_rows(page: str, rows: dict[str, str]) -> str:
    return _ROW.sub(lambda match: rows.get(match["case"], match[0]), page)


@dataclass(frozen=True)
class RoleReport:
    """What the overview page says about one role."""

    role: Role
    summary: str
    differences: Sequence[Difference]
    #: The case's HTML report, relative to the overview page, for the cases that were run.
    links: dict[str, str]


def write_overview(path: Path, reports: Iterable[RoleReport]) -> None:
    """Write the page to open first: each role's counts and differences, with links."""
    sections = "\n".join(_section(report) for report in reports)
    path.write_text(_PAGE.replace("{sections}", sections), encoding="utf-8")


def _section(report: RoleReport) -> str:
    role, counts = html.escape(report.role), html.escape(report.summary.partition(": ")[2])
    kind = "different" if report.differences else "expected"
    count = len(report.differences)
    verdict = (
        f"{count} difference{'' if count == 1 else 's'} from expected.json"
        if report.differences
        else "as expected.json states, case by case"
    )
    rows = "\n".join(_difference_row(difference, report.links) for difference in report.differences)
    table = f"<table><tr>{_HEADINGS}</tr>\n{rows}\n</table>" if rows else ""
    return (
        f'<section class="{kind}"><h2>fastws as {role}</h2><p>{counts}</p>'
        f'<p class="verdict">{verdict}</p>{table}'
        f'<p><a href="{role}/index.html">All cases</a></p></section>'
    )


_HEADINGS = "<th>Case</th><th>What</th><th>Expected</th><th>Got</th>"


def _difference_row(difference: Difference, links: dict[str, str]) -> str:
    case = html.escape(difference.case)
    if difference.case in links:
        case = f'<a href="{html.escape(links[difference.case])}">{case}</a>'
    cells = (difference.what, difference.expected, difference.got)
    return f"<tr><td>{case}</td>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"


_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fastws: Autobahn conformance</title>
<style>
  :root { color-scheme: light dark; --good: #1a7f37; --bad: #cf222e; --line: #8885; }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 3rem auto;
         padding: 0 1rem; }
  section { border: 1px solid var(--line); border-left: .4rem solid var(--good);
            border-radius: .5rem; padding: .5rem 1.5rem; margin: 1.5rem 0; }
  section.different { border-left-color: var(--bad); }
  .verdict { color: var(--good); font-weight: 600; }
  .different .verdict { color: var(--bad); }
  table { border-collapse: collapse; width: 100%; }
  th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
</style>
</head>
<body>
<h1>Autobahn conformance</h1>
{sections}
</body>
</html>
"""
