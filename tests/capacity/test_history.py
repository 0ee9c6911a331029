"""A search in the history: compared with like, and judged by what is to be held."""

from dataclasses import replace

from loadtest.compare.comparison import compare_run
from loadtest.compare.objectives import judge_objectives
from loadtest.config.objectives import Objective
from loadtest.report.content.capacity import describe_capacity
from loadtest.report.html.capacity_chart import build_capacity
from loadtest.report.html.page import render_page
from loadtest.results.history import Cell, Entry
from loadtest.results.run import Capacity
from loadtest.results.run_folder import RunFolder
from tests.report.compared_runs import compared, entry
from tests.report.report_runs import COLD_START, LADDER, TOOLS, searched

FOUND = Cell("sessions", "capacity", "capacity", "rate")


def build(day: int, most: int = 40) -> Entry:
    """Return a search of that day in January."""
    found = searched()
    assert found.run.capacity is not None
    capacity = replace(found.run.capacity, most=most)
    started = f"2026-01-{day:02}T06:00:00Z"
    run = replace(found.run, run_id=f"run-{day}", started=started, capacity=capacity)
    rows = (
        replace(row, achieved_rate=float(most)) if row.kind == "capacity" else row
        for row in found.rows
    )
    return Entry(run, tuple(rows))


def describe(**changes: object) -> str:
    found = searched()
    assert found.run.capacity is not None
    capacity = replace(found.run.capacity, **changes)  # type: ignore[arg-type]
    return describe_capacity(replace(found, run=replace(found.run, capacity=capacity)))


def judge(capacity: Capacity, limit: int) -> tuple[str, float | None]:
    holds = Objective("sessions", "stage", "all", "holds", limit)
    found = build(1)
    run = replace(found.run, capacity=capacity, objectives=(holds,))
    (judged,) = judge_objectives(replace(found, run=run))
    return judged.standing, judged.margin


def test_only_what_was_found_is_a_figure_of_a_search() -> None:
    assert build(1).figures == {FOUND: 40.0}


def test_a_search_is_compared_with_the_search_before_it() -> None:
    comparison = compare_run(build(2, most=24), (build(1),))
    assert comparison.changes[FOUND].status in {"worse", "suspected"}
    assert comparison.changes[FOUND].before == 40.0


def test_a_search_is_never_compared_with_an_ordinary_run() -> None:
    ordinary = entry((*COLD_START, *LADDER, *TOOLS), 1)
    found = replace(searched().run, started="2030-01-01T06:00:00Z")
    comparison = compare_run(Entry(found, searched().rows), (ordinary,))
    (baseline,) = comparison.baselines
    assert baseline.previous is None
    assert "profile capacity, was standard" in (baseline.reason or "")


def test_a_search_with_other_limits_is_not_compared() -> None:
    other = build(1)
    knobs = {"sessions": {**other.run.knobs["sessions"], "limits": ["nothing refused"]}}
    comparison = compare_run(build(2), (replace(other, run=replace(other.run, knobs=knobs)),))
    assert "limits" in (comparison.baselines[0].reason or "")


def test_what_is_to_be_held_is_judged_by_what_was_found() -> None:
    known = Capacity("sessions", 40, 40, 44)
    assert judge(known, 40) == ("met", 0.0)
    assert judge(known, 50) == ("missed", -0.2)
    assert judge(replace(known, high=None, stopped="max_vus allows 40"), 50) == (
        "cannot tell",
        None,
    )


def test_the_sentence_says_what_is_known() -> None:
    assert describe() == (
        "Bears 40 sessions at 1 call/s, within 40 to 44; beyond it the session cap refuses (4 of "
        "44 were refused)."
    )
    assert describe(high=None, stopped="max_vus allows 40") == (
        "Bears at least 40 sessions at 1 call/s; the search stopped: max_vus allows 40."
    )
    assert describe(pace="exponential:20").startswith("Bears 40 sessions at a pace of exponential")
    assert describe(unit="calls").startswith("Bears 40 calls/s, within 40 to 44; beyond it ")
    assert describe(most=0, high=1, beyond="no call was made") == (
        "Does not bear 10 sessions at 1 call/s: no call was made."
    )
    assert describe(most=0, high=None, stopped="it was interrupted") == (
        "Nothing is known yet; the search stopped: it was interrupted."
    )


def test_the_page_of_a_search_has_its_chart_and_figures() -> None:
    found: RunFolder = searched()
    chart = build_capacity(found)
    assert chart is not None
    assert [row[1].text for row in chart.data.rows] == ["10", "20", "40", "80", "44", "44", "40"]
    case = compared(found)
    page = render_page(case.folder, case.comparison, case.earlier)
    assert "<h2>Capacity</h2>" in page
    assert "too much: the session cap refuses (40 of 80 were refused)" in page
    assert "Bears 40 sessions at 1 call/s" in page
