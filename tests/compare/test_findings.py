"""Figures that moved together are one finding."""

from collections.abc import Mapping

import pytest

from loadtest.compare.changes import Change, Status
from loadtest.compare.findings import Finding, find_findings
from loadtest.results.history import Cell, Figure

ROWS = (
    ("cold-start", "frame", "initialize"),
    ("cold-start", "frame", "first dispatch"),
    *(("sessions", "stage", name) for name in ("1", "10", "50", "100")),
    *(("tools", "tool", name) for name in ("executeSQL", "listEntities", "all")),
)
LATENCIES: tuple[Figure, ...] = ("p50", "p95", "p99")


def change_all(
    ratios: Mapping[tuple[str, str], float], status: Status = "confirmed"
) -> dict[Cell, Change]:
    """Return the changes of a run in which these rows, by scenario and name, got slower."""
    changes = {}
    for row in ROWS:
        ratio = ratios.get((row[0], row[2]), 1.0)
        for figure in LATENCIES:
            moved: Status = status if ratio != 1.0 else "same"
            changes[Cell(*row, figure)] = Change(100.0 * ratio, moved, 100.0, ratio)
        changes[Cell(*row, "failed")] = Change(0.0, "same", 0.0, None, 0.0)
    return changes


def list_names(finding: Finding) -> list[str]:
    return sorted({cell.name for cell in finding.cells})


def test_percentiles_of_a_tool_and_the_sum_that_follows_are_one_finding() -> None:
    (finding,) = find_findings(change_all({("tools", "executeSQL"): 1.4, ("tools", "all"): 1.2}))
    assert (finding.status, finding.scope, finding.scenario) == ("confirmed", "row", "tools")
    assert finding.lead == Cell("tools", "tool", "executeSQL", "p50")
    assert list_names(finding) == ["executeSQL"]
    assert {cell.name for cell in finding.follows} == {"all"}
    assert finding.factors == (1.2, 1.4)


def test_neighbouring_stages_are_one_finding_and_others_are_not() -> None:
    slow = {("sessions", "50"): 1.5, ("sessions", "100"): 1.6}
    (finding,) = find_findings(change_all(slow))
    assert (finding.scope, list_names(finding)) == ("stages", ["100", "50"])
    apart = {("sessions", "1"): 1.5, ("sessions", "100"): 1.6}
    found = find_findings(change_all(apart))
    assert [(each.scope, list_names(each)) for each in found] == [("row", ["100"]), ("row", ["1"])]


@pytest.mark.parametrize("scenario", ["cold-start", "sessions", "tools"])
def test_all_rows_of_a_scenario_are_one_finding(scenario: str) -> None:
    slow = {(row[0], row[2]): 1.3 for row in ROWS if row[0] == scenario}
    (finding,) = find_findings(change_all(slow))
    assert (finding.scope, finding.scenario) == ("scenario", scenario)


def test_everything_is_one_finding() -> None:
    (finding,) = find_findings(change_all({(row[0], row[2]): 2.0 for row in ROWS}))
    assert (finding.scope, finding.scenario, finding.factors) == ("everything", None, (2.0, 2.0))
    assert len(finding.cells) == len(ROWS) * len(LATENCIES)


def test_two_tools_are_two_findings_the_worst_first() -> None:
    changes = change_all({("tools", "executeSQL"): 1.3, ("cold-start", "initialize"): 1.9})
    found = find_findings(changes)
    assert [each.lead.name for each in found] == ["initialize", "executeSQL"]


def test_failures_of_any_rows_are_one_finding_beside_latencies() -> None:
    changes = change_all({("tools", "executeSQL"): 1.3})
    for name, points in (("executeSQL", 2.0), ("listEntities", 5.0)):
        cell = Cell("tools", "tool", name, "failed")
        changes[cell] = Change(points / 100, "suspected", 0.0, None, points)
    row, failures = find_findings(changes)
    assert (row.scope, failures.scope, failures.status) == ("row", "failures", "suspected")
    assert failures.lead.name == "listEntities"


def test_what_got_better_is_a_finding_of_its_own_after_the_regressions() -> None:
    changes = change_all({("tools", "executeSQL"): 1.3})
    faster = change_all({("tools", "listEntities"): 0.6}, "better")
    changes |= {cell: change for cell, change in faster.items() if cell.name == "listEntities"}
    assert [each.status for each in find_findings(changes)] == ["confirmed", "better"]


def test_nothing_that_moved_is_no_finding() -> None:
    assert find_findings(change_all({})) == ()
    assert find_findings({}) == ()
