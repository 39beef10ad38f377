"""The Autobahn runner's own rules: comparing, sharing out and merging. None of it needs wstest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autobahn.cases import (
    Difference,
    Outcome,
    Role,
    case_cost,
    case_order,
    compare,
    load_expected,
    select_cases,
    split_cases,
    summary,
)
from autobahn.report import ReportError, RoleReport, merge_reports, write_overview

EXPECTED = Path(__file__).parent.parent / "autobahn" / "expected.json"
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}


def outcome(behavior: str = "OK", behavior_close: str = "OK") -> Outcome:
    return {"behavior": behavior, "behaviorClose": behavior_close}


# expected.json


@pytest.mark.parametrize("role", ["server", "client"])
def test_expected_states_514_ok_and_3_informational_in_both_grades(role: Role) -> None:
    expected = load_expected(EXPECTED, role)
    assert len(expected) == 517
    for case, grades in expected.items():
        grade = "INFORMATIONAL" if case in INFORMATIONAL else "OK"
        assert grades == outcome(grade, grade), case
    assert expected.keys() >= INFORMATIONAL


def test_expected_without_the_role_or_with_a_grade_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "expected.json"
    path.write_text(json.dumps({"server": {"1.1.1": {"behavior": "OK"}}}))
    with pytest.raises(ValueError, match="no outcomes for the role 'client'"):
        load_expected(path, "client")
    with pytest.raises(ValueError, match=r"server, case 1\.1\.1: expected the keys"):
        load_expected(path, "server")


# Comparing


def test_equal_outcomes_have_no_difference() -> None:
    outcomes = {"1.1.1": outcome(), "7.1.6": outcome("INFORMATIONAL", "INFORMATIONAL")}
    assert compare(outcomes, outcomes, outcomes) == []


def test_each_grade_is_compared_on_its_own() -> None:
    expected = {"1.1.1": outcome()}
    assert compare(expected, {"1.1.1": outcome("NON-STRICT", "OK")}, expected) == [
        Difference("1.1.1", "behavior", "OK", "NON-STRICT")
    ]
    assert compare(expected, {"1.1.1": outcome("OK", "WRONG CODE")}, expected) == [
        Difference("1.1.1", "behaviorClose", "OK", "WRONG CODE")
    ]
    assert compare(expected, {"1.1.1": outcome("FAILED", "UNCLEAN")}, expected) == [
        Difference("1.1.1", "behavior", "OK", "FAILED"),
        Difference("1.1.1", "behaviorClose", "OK", "UNCLEAN"),
    ]


def test_a_better_grade_than_expected_is_a_difference() -> None:
    expected = {"7.1.6": outcome("INFORMATIONAL", "INFORMATIONAL")}
    assert compare(expected, {"7.1.6": outcome("OK", "INFORMATIONAL")}, expected) == [
        Difference("7.1.6", "behavior", "INFORMATIONAL", "OK")
    ]


def test_a_case_that_did_not_run_is_missing() -> None:
    expected = {"1.1.1": outcome(), "1.1.2": outcome()}
    assert compare(expected, {"1.1.1": outcome()}, expected) == [
        Difference("1.1.2", "case", "OK / OK", "missing")
    ]


def test_a_case_that_the_file_does_not_have_is_extra() -> None:
    expected = {"1.1.1": outcome()}
    got = {"1.1.1": outcome(), "14.1.1": outcome("OK", "UNCLEAN")}
    assert compare(expected, got, expected) == [
        Difference("14.1.1", "case", "none", "OK / UNCLEAN")
    ]


def test_a_selection_asks_only_for_its_own_cases() -> None:
    expected = {"1.1.1": outcome(), "1.1.2": outcome()}
    assert compare(expected, {"1.1.2": outcome()}, ["1.1.2"]) == []


def test_differences_come_in_the_order_of_the_suite() -> None:
    expected = {case: outcome() for case in ("10.1.1", "9.2", "9.10", "1.1.1")}
    assert [difference.case for difference in compare(expected, {}, expected)] == [
        "1.1.1",
        "9.2",
        "9.10",
        "10.1.1",
    ]


# The summary line


def test_summary_of_what_is_expected() -> None:
    assert summary("server", load_expected(EXPECTED, "server")) == (
        "server: 517 cases: 514 OK, 3 INFORMATIONAL, 0 NON-STRICT, 0 FAILED"
    )


def test_summary_also_counts_behaviours_that_should_not_be_there() -> None:
    got = {"1.1.1": outcome("FAILED"), "12.1.1": outcome("UNIMPLEMENTED")}
    assert summary("client", got) == (
        "client: 2 cases: 0 OK, 0 INFORMATIONAL, 0 NON-STRICT, 1 FAILED, 1 UNIMPLEMENTED"
    )
    assert summary("client", {"1.1.1": outcome()}).startswith("client: 1 case: 1 OK")


# Selecting and sharing out


def test_patterns_select_whole_numbers_in_order_and_once() -> None:
    known = ["1.1.1", "1.1.10", "1.1.2", "9.1.1", "10.1.1", "11.1.1"]
    assert select_cases(["*"], known) == ["1.1.1", "1.1.2", "1.1.10", "9.1.1", "10.1.1", "11.1.1"]
    assert select_cases(["1.*"], known) == ["1.1.1", "1.1.2", "1.1.10"]
    assert select_cases(["10.1.1", "1.1.1", "1.1.*"], known) == [
        "1.1.1",
        "1.1.2",
        "1.1.10",
        "10.1.1",
    ]
    assert select_cases(["1.1.1"], known) == ["1.1.1"], "the dot is not a wildcard"


def test_a_pattern_without_a_case_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no case matches '14\.\*'"):
        select_cases(["1.*", "14.*"], ["1.1.1"])


@pytest.mark.parametrize("jobs", [1, 2, 3, 8])
def test_every_case_goes_to_exactly_one_process(jobs: int) -> None:
    cases = list(load_expected(EXPECTED, "server"))
    shares = split_cases(cases, jobs)
    assert len(shares) == jobs
    assert sorted(case for share in shares for case in share) == sorted(cases)
    for share in shares:
        assert share == sorted(share, key=case_order)


@pytest.mark.parametrize("jobs", [2, 3, 8])
def test_the_shares_cost_about_the_same(jobs: int) -> None:
    shares = split_cases(load_expected(EXPECTED, "server"), jobs)
    costs = [sum(map(case_cost, share)) for share in shares]
    assert max(costs) - min(costs) < 0.02 * max(costs)


def test_no_process_without_a_case() -> None:
    assert split_cases(["1.1.1", "9.1.1"], 5) == [["9.1.1"], ["1.1.1"]]
    assert split_cases([], 2) == []
    with pytest.raises(ValueError, match="--jobs is 0"):
        split_cases(["1.1.1"], 0)


def test_long_cases_are_spread_first() -> None:
    cost = {"1.1": 1.0, "1.2": 1.0, "1.3": 1.0, "9.1": 3.0}
    assert split_cases(cost, 2, cost=lambda case: cost[case]) == [["9.1"], ["1.1", "1.2", "1.3"]]


# Merging


def write_part(directory: Path, ran: dict[str, str], known: list[str], agent: str = "us") -> Path:
    """A report as one wstest leaves it: a row for every case it knows, files for those it ran."""
    directory.mkdir()
    index = {}
    rows = []
    for case in known:
        cell = "Missing"
        if case in ran:
            name = f"us_case_{case.replace('.', '_')}"
            cell = f'<a href="{name}.html">{ran[case]}</a>'
            index[case] = {
                **outcome(ran[case]),
                "duration": 1,
                "remoteCloseCode": 1000,
                "reportfile": f"{name}.json",
            }
            for suffix in ("html", "json"):
                (directory / f"{name}.{suffix}").write_text(f"{suffix} of {case}")
        rows.append(
            '<tr class="agent_case_result_row">\n'
            f'  <td class="case"><a href="#case_desc_{case.replace(".", "_")}">Case {case}</a>'
            f"</td>\n  <td>{cell}</td>\n</tr>"
        )
    (directory / "index.json").write_text(json.dumps({agent: index}))
    (directory / "index.html").write_text(
        "<style>tr.agent_case_result_row a {}</style><table>\n" + "\n".join(rows) + "\n</table>end"
    )
    return directory


def test_merged_report_has_every_case_once_with_its_files(tmp_path: Path) -> None:
    known = ["1.1.1", "1.1.2", "9.1.1", "10.1.1"]
    parts = [
        write_part(tmp_path / "0", {"9.1.1": "OK", "1.1.2": "FAILED"}, known),
        write_part(tmp_path / "1", {"10.1.1": "OK"}, known),
    ]
    target = tmp_path / "merged"
    records = merge_reports(parts, target)

    assert list(records) == ["1.1.2", "9.1.1", "10.1.1"]
    assert records["1.1.2"]["behavior"] == "FAILED"
    assert json.loads((target / "index.json").read_text()) == {"us": records}
    page = (target / "index.html").read_text()
    assert page.startswith("<style>")
    assert page.endswith("</table>end")
    assert page.count("Missing") == 1, "case 1.1.1 was not run"
    for case, record in records.items():
        report = target / record["reportfile"]
        assert report.read_text() == f"json of {case}"
        assert report.with_suffix(".html").read_text() == f"html of {case}"
        assert page.count(f'href="{report.with_suffix(".html").name}"') == 1


def test_a_case_that_only_the_suite_knows_runs_in_every_part_and_shows_once(tmp_path: Path) -> None:
    known = ["1.1.1", "1.1.2", "14.1.1"]
    parts = [
        write_part(tmp_path / "0", {"1.1.1": "OK", "14.1.1": "OK"}, known),
        write_part(tmp_path / "1", {"1.1.2": "OK", "14.1.1": "FAILED"}, known),
    ]
    records = merge_reports(parts, tmp_path / "merged")
    assert list(records) == known
    assert records["14.1.1"]["behavior"] == "OK", "the first part's"


def test_a_part_without_report_or_of_two_agents_is_refused(tmp_path: Path) -> None:
    part = write_part(tmp_path / "0", {"1.1.1": "OK"}, ["1.1.1"])
    with pytest.raises(ReportError, match="wstest wrote no"):
        merge_reports([part, tmp_path / "none"], tmp_path / "merged")
    (part / "index.json").write_text(json.dumps({"us": {}, "them": {}}))
    with pytest.raises(ReportError, match="about them, us: expected one agent"):
        merge_reports([part], tmp_path / "again")
    (part / "index.json").write_text("{}")
    with pytest.raises(ReportError, match="about no agent"):
        merge_reports([part], tmp_path / "again")


def test_a_page_without_a_row_for_a_case_is_refused(tmp_path: Path) -> None:
    part = write_part(tmp_path / "0", {"1.1.1": "OK"}, ["1.1.1"])
    (part / "index.html").write_text("<table></table>")
    with pytest.raises(ReportError, match=r"no row for case 1\.1\.1"):
        merge_reports([part], tmp_path / "merged")


def test_overview_links_each_difference_to_its_report(tmp_path: Path) -> None:
    differences = [
        Difference("3.2", "behavior", "OK", "NON-STRICT"),
        Difference("3.3", "case", "OK / OK", "<missing>"),
    ]
    reports = [
        RoleReport("server", "server: 1 case: 0 OK", differences, {"3.2": "server/us_3_2.html"}),
        RoleReport("client", "client: 517 cases: 514 OK", [], {}),
    ]
    path = tmp_path / "index.html"
    write_overview(path, reports)
    page = path.read_text()
    assert '<a href="server/us_3_2.html">3.2</a>' in page
    assert "<td>3.3</td>" in page, "a missing case has no report"
    assert "&lt;missing&gt;" in page
    assert "2 differences from expected.json" in page
    assert "517 cases: 514 OK" in page
    assert page.count("as expected.json states") == 1
    assert 'href="server/index.html"' in page
    assert 'href="client/index.html"' in page
