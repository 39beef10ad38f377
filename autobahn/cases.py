"""What the suite must report, how its cases are shared out, and where a run differs from it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict, cast

__all__ = [
    "Difference",
    "Outcome",
    "Role",
    "case_cost",
    "case_order",
    "compare",
    "load_expected",
    "select_cases",
    "split_cases",
    "summary",
]

#: Which side fastws takes: as ``server`` the suite's fuzzingclient connects to it, as ``client``
#: it connects to the suite's fuzzingserver.
Role = Literal["server", "client"]


class Outcome(TypedDict):
    """A case's two grades, in the suite's own words (``OK``, ``NON-STRICT``, ``FAILED``, ...)."""

    behavior: str
    behaviorClose: str


@dataclass(frozen=True)
class Difference:
    """One point in which a run is not what ``expected.json`` states."""

    case: str
    what: str
    expected: str
    got: str


def case_order(case: str) -> tuple[int, ...]:
    """The sort key that puts case 9.2 before 10.1, as the suite runs them."""
    return tuple(int(number) for number in case.split("."))


def load_expected(path: Path, role: Role) -> dict[str, Outcome]:
    """The outcome of every case for one role, from ``expected.json``.

    Raises ``ValueError`` where the file does not hold that role, or a case lacks a grade.
    """
    roles = json.loads(path.read_text(encoding="utf-8"))
    if role not in roles:
        raise ValueError(f"{path.name} has no outcomes for the role {role!r}")
    for case, outcome in roles[role].items():
        if set(outcome) != {"behavior", "behaviorClose"}:
            raise ValueError(
                f"{path.name}, {role}, case {case}: expected the keys behavior and behaviorClose, "
                f"found {', '.join(sorted(outcome)) or 'none'}"
            )
    return cast("dict[str, Outcome]", roles[role])


def select_cases(patterns: Sequence[str], known: Iterable[str]) -> list[str]:
    """The known cases that match any of the patterns, in the suite's order.

    Parameters:
        patterns: case numbers, where ``*`` stands for any text: ``9.*``, ``6.4.3``.
        known: the cases to choose from.

    Raises ``ValueError`` for a pattern that matches nothing: a typing error would pass otherwise.
    """
    known = list(known)
    chosen: set[str] = set()
    for pattern in patterns:
        expression = re.compile(re.escape(pattern).replace(r"\*", ".*"))
        matching = {case for case in known if expression.fullmatch(case)}
        if not matching:
            raise ValueError(
                f"no case matches {pattern!r}: expected numbers such as 6.4.3, or patterns such "
                "as 9.* (in quotes, so that the shell leaves them alone)"
            )
        chosen |= matching
    return sorted(chosen, key=case_order)


def split_cases(
    cases: Iterable[str], jobs: int, cost: Callable[[str], float] | None = None
) -> list[list[str]]:
    """Share the cases out over processes so that all end at about the same time.

    The longest case first, each to the process with the least work so far. Returns at most
    ``jobs`` lists, none of them empty, each in the suite's order.

    Raises ``ValueError`` where ``jobs`` is less than 1.
    """
    if jobs < 1:
        raise ValueError(f"--jobs is {jobs}: expected 1 or more")
    cost = cost or case_cost
    shares: list[list[str]] = [[] for _ in range(jobs)]
    loads = [0.0] * jobs
    for case in sorted(cases, key=lambda case: (-cost(case), case_order(case))):
        least = loads.index(min(loads))
        shares[least].append(case)
        loads[least] += cost(case)
    return [sorted(share, key=case_order) for share in shares if share]


# Seconds a case took where this was measured. The compression cases (12 and 13) send 1,000
# messages of a size given by their last number: 16, 64 and 256 bytes, 1, 4, 8, 16, 32, 64 and
# 128 KiB; then 8, 16, 32, 64 and 128 KiB in fragments of 256 bytes, and 128 KiB in fragments of
# 1, 4 and 32 KiB. The text of some compresses well, the pictures of others do not.
_TEXT = (0.6, 0.6, 0.6, 0.7, 0.8, 1.0, 1.2, 1.8, 2.9, 5.5, 0.9, 1.3, 1.9, 3.1, 5.8, 5.5, 5.2, 5.4)
_OTHER = (0.3, 0.3, 0.3, 0.4, 0.6, 1.0, 1.6, 3, 6, 11.7, 1.6, 2.7, 4.6, 9.7, 19.5, 13.5, 11.7, 12)
_OTHER_DATA = ("12.2.", "12.3.", "12.5.")
_WAITING = {"5.19": 1.0, "5.20": 1.0, "6.4.1": 1.0, "6.4.2": 1.0, "6.4.3": 1.0, "6.4.4": 1.0}


def case_cost(case: str) -> float:
    """About how many seconds a case takes; only the ratios matter, for ``split_cases``."""
    category, *_, last = case_order(case)
    if category in (12, 13) and last <= len(_TEXT):
        return (_OTHER if case.startswith(_OTHER_DATA) else _TEXT)[last - 1]
    if category == 9:
        return 0.15
    return _WAITING.get(case, 0.005)


def compare(
    expected: Mapping[str, Outcome], got: Mapping[str, Outcome], selected: Iterable[str]
) -> list[Difference]:
    """Every difference between a run and what is expected of it, both ways, in the suite's order.

    Parameters:
        expected: the outcome of every case that the suite is known to have.
        got: the outcomes that the suite reported.
        selected: the cases that were to run; a selected case without an outcome is missing.

    A grade that is better than expected is a difference as well: the file then needs the change.
    So is a case that was reported without being selected: the suite has it and the file does not.
    """
    selected = set(selected)
    differences: list[Difference] = []
    for case in sorted(selected | set(got), key=case_order):
        if case not in got:
            differences.append(Difference(case, "case", _grades(expected[case]), "missing"))
        elif case not in selected:
            differences.append(Difference(case, "case", "none", _grades(got[case])))
        else:
            wanted, found = expected[case], got[case]
            if wanted["behavior"] != found["behavior"]:
                differences.append(
                    Difference(case, "behavior", wanted["behavior"], found["behavior"])
                )
            if wanted["behaviorClose"] != found["behaviorClose"]:
                differences.append(
                    Difference(
                        case, "behaviorClose", wanted["behaviorClose"], found["behaviorClose"]
                    )
                )
    return differences


def _grades(outcome: Outcome) -> str:
    return f"{outcome['behavior']} / {outcome['behaviorClose']}"


def summary(role: Role, got: Mapping[str, Outcome]) -> str:
    """One line: the role, how many cases were reported, and how many of each behaviour."""
    counts = Counter(outcome["behavior"] for outcome in got.values())
    always = ("OK", "INFORMATIONAL", "NON-STRICT", "FAILED")
    behaviors = [*always, *sorted(set(counts) - set(always))]
    graded = ", ".join(f"{counts[behavior]} {behavior}" for behavior in behaviors)
    return f"{role}: {len(got)} case{'' if len(got) == 1 else 's'}: {graded}"
