"""Judging a run: what is like, what is worse, what is confirmed, and what is none of these."""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.compare.comparison import Comparison, compare_replies, compare_run
from loadtest.results.history import FIGURES, Entry
from loadtest.results.run import (
    Generator,
    Replies,
    Run,
    RunnerFault,
    ScenarioResult,
    Spread,
    Target,
)
from tests.compare.plain_runs import (
    ROWS,
    RUN,
    SQL,
    build_row,
    cell,
    compare_all,
    entry,
    remember,
    weeks,
)


def reason(comparison: Comparison, scenario: str = "tools") -> str | None:
    (found,) = (each for each in comparison.baselines if each.scenario == scenario)
    assert (found.previous is None) == (found.reason is not None)
    return found.reason


def outcomes(**changes: Any) -> tuple[ScenarioResult, ...]:
    return (ScenarioResult("sessions", "ok", 0), ScenarioResult("tools", **changes))


def test_a_first_run_reads_as_one() -> None:
    comparison = compare_run(entry(0), ())
    assert reason(comparison) == "first run"
    assert {change.status for change in comparison.changes.values()} == {"incomparable"}
    assert not comparison.confirmed


def test_an_unchanged_run_is_the_same_in_every_cell() -> None:
    comparison = compare_run(entry(9), weeks(9))
    assert {change.status for change in comparison.changes.values()} == {"same"}
    assert {each.previous.run.run_id for each in comparison.baselines if each.previous} == {
        "run-008"
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"environment": "staging"}, "first run"),
        ({"profile": "smoke"}, "unlike run run-002: profile standard, was smoke"),
        (
            {"profile": "smoke", "knobs": {**RUN.knobs, "timeout_seconds": 90.0}, "clients": 4},
            "unlike run run-002: profile standard, was smoke",
        ),
        ({"clients": 4}, "unlike run run-002: clients 1, was 4"),
        ({"streams": True}, "unlike run run-002: streams false, was true"),
        (
            {"engine": "segments", "generators": 4},
            "unlike run run-002: engine local, was segments; generators 1, was 4",
        ),
        ({"regions": ("eu-west-1",)}, "unlike run run-002: regions none, was eu-west-1"),
        (
            {"target": replace(RUN.target, protocol_version="2026-07-28", era="stateless")},
            "unlike run run-002: protocol 2025-11-25, was 2026-07-28; era handshake, was stateless",
        ),
        ({"knobs": {**RUN.knobs, "sessions": {"stages": [1]}}}, None),
        (
            {"knobs": {**RUN.knobs, "tools": {"vus": 5, "duration_seconds": 120}}},
            "unlike run run-002: vus 50, was 5",
        ),
        (
            {"knobs": {**RUN.knobs, "tool_table": "other (ffffffff)"}},
            "unlike run run-002: tool table novamart (0a1b2c3d), was other (ffffffff)",
        ),
        (
            {"knobs": {**RUN.knobs, "tools": {**RUN.knobs["tools"], "target_rps": None}}},
            None,  # a knob that is not set, as runs of earlier versions do not have it
        ),
        (
            {"knobs": {**RUN.knobs, "timeout_seconds": 90.0}},
            "unlike run run-002: time limit none, was 90.0",
        ),
        (
            {"knobs": {**RUN.knobs, "arguments": "varied"}},
            "unlike run run-002: arguments fixed, was varied",
        ),
        ({"knobs": {**RUN.knobs, "arguments": "fixed", "different_calls": 10}}, None),
        ({"target": replace(RUN.target, host="other.example.com", server_version="2")}, None),
        ({"git_sha": "f" * 40}, None),
        ({"knobs": {**RUN.knobs, "control": "/health"}}, None),
    ],
)
def test_only_comparable_runs_are_compared(changes: dict[str, Any], words: str | None) -> None:
    earlier = [entry(number, **changes) for number in range(3)]
    assert reason(compare_run(entry(3), earlier)) == words


def test_runs_with_different_controls_are_not_compared_but_one_may_have_none() -> None:
    now = entry(3, knobs={**RUN.knobs, "control": "/health"})
    other = entry(2, knobs={**RUN.knobs, "control": "/robots.txt"})
    wanted = "unlike run run-002: control /health, was /robots.txt"
    assert reason(compare_run(now, [other])) == wanted
    for none in (entry(2), entry(2, knobs={**RUN.knobs, "control": None})):
        assert reason(compare_run(now, [none])) is None


def test_ladders_of_different_paces_are_not_compared() -> None:
    ladder = {**RUN.knobs["sessions"], "pace_seconds": "exponential:20"}
    paced = entry(2, knobs={**RUN.knobs, "sessions": ladder})
    comparison = compare_run(entry(3), [paced])
    wanted = "unlike run run-002: pace seconds none, was exponential:20"
    assert reason(comparison, "sessions") == wanted
    assert reason(comparison, "tools") is None


def test_a_limited_loop_is_not_compared_with_an_unlimited_one() -> None:
    free, later = entry(2), entry(3)
    rows = tuple(
        replace(row, held_rate=50.0) if row.scenario == "tools" else row for row in free.rows
    )
    assert reason(compare_run(later, [replace(free, rows=rows)]), "tools") == (
        "unlike run run-002: calls/s limit none, was 50.0"
    )


def test_a_knob_of_another_scenario_does_not_matter() -> None:
    other = {**RUN.knobs, "sessions": {**RUN.knobs["sessions"], "stages": [1]}}
    comparison = compare_run(entry(3), [entry(2, knobs=other)])
    assert reason(comparison, "tools") is None
    assert reason(comparison, "sessions") == "unlike run run-002: stages [10, 50], was [1]"


def test_a_run_is_compared_with_a_comparable_one_however_old() -> None:
    comparison = compare_run(entry(3), [entry(1), entry(2, profile="smoke")])
    (tools,) = (each for each in comparison.baselines if each.scenario == "tools")
    assert tools.previous is not None
    assert tools.previous.run.run_id == "run-001"


def test_a_run_reported_again_is_not_compared_with_itself_or_later_ones() -> None:
    runs = weeks(6)
    assert compare_run(runs[3], runs).baselines == compare_run(runs[3], runs[:3]).baselines


BUSY = Generator(cpu_share=0.99, peak_memory_mb=100.0)
LATE = RunnerFault(2, "late", "it began 7.3 s after the first")


@pytest.mark.parametrize(
    ("result", "word"),
    [
        ({"outcome": "failed"}, "failed"),
        ({"outcome": "aborted"}, "was aborted"),
        ({"outcome": "interrupted"}, "was interrupted"),
        ({"outcome": "ok", "generator": BUSY}, "was limited by its load generator"),
        ({"outcome": "ok", "faults": (LATE,)}, "had a runner that was lost, late or partial"),
    ],
)
def test_a_failed_run_is_not_a_baseline_and_is_not_compared(
    result: dict[str, Any], word: str
) -> None:
    wrong = entry(1, 2.0, scenarios=outcomes(**result))
    assert reason(compare_run(entry(2), [wrong])) == f"no earlier run is usable: run-001 {word}"
    assert reason(compare_run(entry(2), [entry(0), wrong])) is None
    comparison = compare_run(wrong, [entry(0)])
    assert reason(comparison) == f"this run {word}"
    assert comparison.changes[cell("p50")].status == "incomparable"
    assert reason(comparison, "sessions") is None


def test_a_rate_limited_scenario_is_not_compared() -> None:
    limited = {"rate_limited": 100}
    run = entry(1)
    rows = (replace(row, ok=row.count - 100, failures=limited) for row in run.rows)
    run = replace(run, rows=tuple(rows))
    assert reason(compare_run(run, [entry(0)])) == "this run was rate limited"
    assert (
        reason(compare_run(entry(2), [run])) == "no earlier run is usable: run-001 was rate limited"
    )


def test_a_scenario_that_did_not_run_says_so() -> None:
    run = entry(1, scenarios=outcomes(outcome="not run"))
    run = replace(run, rows=tuple(row for row in run.rows if row.scenario != "tools"))
    comparison = compare_run(run, [entry(0)])
    assert reason(comparison) == "this run did not run"
    assert cell("p50") not in comparison.changes


def shaken(number: int, slower: float = 1.0) -> Entry:
    """Return a run among which the figures of executeSQL are up and down by a fifth."""
    return entry(number, {SQL: slower * (1.0, 1.22, 0.85, 1.15, 0.82)[number % 5]})


def test_a_quarter_worse_is_only_worse_if_that_is_usual() -> None:
    runs = [shaken(number) for number in range(12)]
    change = compare_run(entry(12, {SQL: 1.2}), [*runs[:-1], entry(11, {SQL: 0.85})]).changes[
        cell("p95")
    ]
    assert change.status == "worse"
    assert change.ratio is not None
    assert change.ratio > 1.25


def test_a_figure_far_outside_in_one_run_is_suspected_and_confirms_nothing() -> None:
    comparison = compare_run(entry(12, {SQL: 3.0}), weeks(12))
    change = comparison.changes[cell("p50")]
    assert change.status == "suspected"
    assert change.before == weeks(12)[-1].figures[cell("p50")]
    assert change.regression is not None
    assert change.regression.before == 110.0
    assert (change.regression.evidence, change.regression.since) == (None, None)
    assert comparison.suspected == {cell(figure) for figure in ("p50", "p95", "p99")}
    assert not comparison.confirmed


def test_a_suspected_regression_that_does_not_return_is_forgotten() -> None:
    runs = [*weeks(12), entry(12, {SQL: 1.8}), entry(13), entry(14, {SQL: 1.8})]
    comparisons = compare_all(runs)
    assert comparisons[13].changes[cell("p50")].status == "same"
    assert comparisons[14].changes[cell("p50")].status == "suspected"
    assert not comparisons[14].confirmed


@pytest.mark.parametrize("factor", [1.6, 4.0])
def test_a_slowdown_of_all_figures_is_confirmed_by_the_next_run_alone(factor: float) -> None:
    runs = [*weeks(12), *(entry(number, factor) for number in (12, 13))]
    first, second = compare_all(runs)[-2:]
    assert {each.scenario for each in first.suspected} == {"sessions", "tools"}
    assert (first.confirmed, first.remeasure) == (frozenset(), {})
    again = replace(runs[12], repeats=(runs[12].rows,) * 3)
    assert not compare_run(again, runs[:12]).confirmed
    regression = second.changes[cell("p50")].regression
    assert regression is not None
    assert (regression.evidence, regression.runs) == ("two runs in a row", 2)
    assert regression.is_common
    assert {each.scenario for each in second.confirmed} == {"sessions", "tools"}


def test_what_stays_while_all_else_gets_faster_is_no_regression() -> None:
    comparison = compare_run(entry(10, 0.5), weeks(10))
    assert "better" in {change.status for change in comparison.changes.values()}
    assert not comparison.suspected
    kept = {key: 1.0 if key == SQL else 0.5 for key in ROWS}
    assert not compare_run(entry(10, kept), weeks(10)).suspected


def test_without_a_control_hosts_may_differ_by_half() -> None:
    runs = [*weeks(12), *(entry(number, 1.4) for number in range(12, 24))]
    comparisons = compare_all(runs)
    assert all(comparison.suspected for comparison in comparisons[12:14])
    assert not any(comparison.confirmed for comparison in comparisons)


def with_control(run: Entry, ms: float) -> Entry:
    rows = (build_row((scenario, "control", "document"), ms) for scenario in ("sessions", "tools"))
    return replace(run, rows=(*run.rows, *rows))


@pytest.mark.parametrize(("slower", "is_explained"), [(1.0, False), (1.1, False), (1.4, True)])
def test_nothing_is_confirmed_if_the_control_moved_as_much(
    slower: float, is_explained: bool
) -> None:
    runs = [with_control(run, 12.0) for run in weeks(12)]
    runs += [with_control(entry(number, 1.4), 12.0 * slower) for number in (12, 13)]
    comparison = compare_all(runs)[-1]
    regression = comparison.changes[cell("p50")].regression
    assert regression is not None
    assert regression.is_explained is is_explained
    assert bool(comparison.confirmed) is not is_explained
    assert {each.kind for finding in comparison.findings for each in finding.cells} == {
        "stage",
        "tool",
    }


def test_a_level_that_all_figures_have_had_before_is_no_regression() -> None:
    levels = (1.0,) * 8 + (1.7,) * 5 + (1.0,) * 5 + (1.7,) * 4
    runs = [entry(number, level) for number, level in enumerate(levels)]
    comparisons = compare_all([replace(run, accepted=True) for run in runs])
    assert comparisons[9].confirmed
    assert not any(comparison.confirmed for comparison in comparisons[18:])


def again(run: Entry, *slower: float) -> Entry:
    """Return a run with a repeat of the tools per factor; executeSQL is slower by that factor."""
    rounds = (
        tuple(row for row in entry(99 + number, {SQL: factor}).rows if row.scenario == "tools")
        for number, factor in enumerate(slower)
    )
    return replace(run, repeats=tuple(rounds))


def test_repeats_that_agree_confirm_in_the_same_run() -> None:
    run = entry(12, {SQL: 1.4})
    assert compare_run(run, weeks(12)).remeasure == {"tools": ()}
    one = compare_run(again(run, 1.4), weeks(12))
    assert (one.confirmed, one.remeasure) == (frozenset(), {"tools": ()})
    two = compare_run(again(run, 1.4, 1.38), weeks(12))
    regression = two.changes[cell("p50")].regression
    assert regression is not None
    assert (regression.evidence, regression.agree, regression.since) == ("repeats", 2, None)
    assert regression.repeats == pytest.approx((154.0, 151.8), rel=0.05)
    assert {each.name for each in two.confirmed} == {SQL[2]}
    assert two.remeasure == {}


def test_a_repeat_that_does_not_agree_ends_the_doubt() -> None:
    comparison = compare_run(again(entry(12, {SQL: 2.0}), 1.0), weeks(12))
    regression = comparison.changes[cell("p50")].regression
    assert regression is not None
    assert (regression.agree, len(regression.repeats)) == (0, 1)
    assert (comparison.confirmed, comparison.remeasure) == (frozenset(), {})
    assert comparison.changes[cell("p50")].status == "suspected"
    noise = remember(entry(12, {SQL: 2.0}), comparison)
    assert not compare_run(entry(13, {SQL: 2.0}), [*weeks(12), noise]).confirmed


def test_repeats_outweigh_the_run_before() -> None:
    before = entry(12, {SQL: 1.5})
    earlier = [*weeks(12), remember(before, compare_run(before, weeks(12)))]
    run = entry(13, {SQL: 1.5})
    assert compare_run(run, earlier).confirmed
    assert not compare_run(again(run, 1.0), earlier).confirmed


def test_only_the_suspicious_stages_of_a_ladder_are_measured_again() -> None:
    run = entry(12, {("sessions", "stage", "50"): 1.5})
    assert compare_run(run, weeks(12)).remeasure == {"sessions": ("50",)}


def test_all_changes_are_since_the_last_run_before_an_open_regression() -> None:
    runs = [*weeks(12), *(entry(number, {SQL: 1.6}) for number in range(12, 16))]
    for comparison in compare_all(runs)[13:]:
        for baseline in comparison.baselines:
            assert baseline.previous is not None
            assert baseline.previous.run.run_id == "run-011"
        for each, change in comparison.changes.items():
            assert change.before == runs[11].figures[each]


def with_rate(run: Entry, rate: float) -> Entry:
    rows = (replace(row, achieved_rate=rate) if row.name == "all" else row for row in run.rows)
    return replace(run, rows=tuple(rows))


ALL = ("tools", "tool", "all")


@pytest.mark.parametrize(("rate", "status"), [(75.1, "same"), (74.9, "worse"), (125.1, "better")])
def test_a_rate_is_worse_when_more_than_a_quarter_is_lost(rate: float, status: str) -> None:
    before = [with_rate(entry(number), 100.0 - 30 * (number % 2)) for number in range(9)]
    assert (
        compare_run(with_rate(entry(9), rate), before).changes[cell("rate", ALL)].status == status
    )


def test_the_ratio_of_a_rate_is_oriented_too() -> None:
    change = compare_run(with_rate(entry(1), 50.0), [with_rate(entry(0), 100.0)]).changes[
        cell("rate", ALL)
    ]
    assert (change.status, change.ratio) == ("suspected", 2.0)


def test_one_slow_tool_of_a_closed_loop_moves_no_rate_but_that_of_all() -> None:
    run = entry(9, {SQL: 1.6})
    rows = (replace(row, achieved_rate=row.achieved_rate * 0.6) for row in run.rows)
    changes = compare_run(replace(run, rows=tuple(rows)), weeks(9)).changes
    tools = [each.name for each in changes if (each.scenario, each.figure) == ("tools", "rate")]
    assert tools == ["all"]


def test_failed_calls_do_not_count_as_throughput() -> None:
    run = replace(entry(1), rows=(replace(entry(1).rows[-1], ok=1500),))
    assert run.figures[cell("rate", ALL)] == pytest.approx(25.0)


def test_one_jump_of_a_tail_is_not_confirmed() -> None:
    run = entry(12)
    rows = []
    for row in run.rows:
        assert row.duration is not None
        rows.append(replace(row, duration=replace(row.duration, p99=row.duration.p99 * 5)))
    comparison = compare_run(replace(run, rows=tuple(rows)), weeks(12))
    assert comparison.changes[cell("p99")].status == "suspected"
    assert not comparison.confirmed


def test_a_step_of_30_percent_is_confirmed_by_the_second_run() -> None:
    comparisons = compare_all([*weeks(12), entry(12, {SQL: 1.3}), entry(13, {SQL: 1.3})])
    regression = comparisons[-1].changes[cell("p50")].regression
    assert regression is not None
    assert regression.evidence == "two runs in a row"


@pytest.mark.parametrize("step", [1.3, 1.6, 3.0])
def test_a_step_keeps_the_date_and_the_levels_of_its_first_run(step: float) -> None:
    runs = [*weeks(12), *(entry(number, {SQL: step}) for number in range(12, 40))]
    levels = {run.figures[cell("p50")] for run in runs}
    for comparison in compare_all(runs)[13:]:
        regression = comparison.changes[cell("p50")].regression
        assert regression is not None
        assert regression.since is not None
        assert regression.since.run == runs[12].run
        assert regression.evidence is not None
        assert regression.before == 110.0
        assert regression.after == pytest.approx(110.0 * step, rel=0.04)
        assert {regression.before, regression.after} <= levels


def test_runs_with_a_suspected_regression_before_a_confirmed_one_are_not_baselines() -> None:
    runs = [*weeks(2), *(entry(number, {SQL: 1.6}) for number in range(2, 12))]
    for comparison in compare_all(runs)[3:]:
        change = comparison.changes[cell("p50")]
        assert change.regression is not None
        assert (change.status, change.regression.before) == ("confirmed", 110.0)


def test_a_step_of_15_percent_is_confirmed_within_four_runs() -> None:
    runs = [*weeks(12), *(entry(number, {SQL: 1.15}) for number in range(12, 16))]
    comparisons = compare_all(runs)
    assert not any(comparison.confirmed for comparison in comparisons[:12])
    regression = comparisons[-1].changes[cell("p50")].regression
    assert regression is not None
    assert regression.since is not None
    assert regression.since.run == runs[12].run
    assert regression.after / regression.before == pytest.approx(1.15, rel=0.03)


def test_a_step_of_one_tool_is_found_although_whole_runs_vary() -> None:
    hours = (1.0, 1.12, 0.9, 1.1, 0.92, 1.05)
    runs = []
    for number in range(24):
        hour = hours[number % len(hours)]
        slower = {key: hour * (1.18 if number >= 18 and key == SQL else 1.0) for key in ROWS}
        runs.append(entry(number, slower))
    comparisons = compare_all(runs)
    assert not any(comparison.confirmed for comparison in comparisons[:18])
    assert cell("p50") in comparisons[-1].confirmed
    assert {each.name for each in comparisons[-1].confirmed} == {SQL[2]}


def test_a_slow_drift_of_15_percent_is_found_though_no_run_is_worse_than_the_one_before() -> None:
    runs = [
        *weeks(20),
        *(entry(20 + step, {SQL: 1 + 0.005 * step}) for step in range(30)),
        *(entry(number, {SQL: 1.15}) for number in range(50, 60)),
    ]
    comparisons = compare_all(runs)
    assert all(comparison.changes[cell("p50")].status != "worse" for comparison in comparisons)
    regression = comparisons[-1].changes[cell("p50")].regression
    assert regression is not None
    assert regression.evidence == "drift"
    assert regression.since is not None
    assert "run-025" < regression.since.run.run_id < "run-045"
    assert not any(comparison.confirmed for comparison in comparisons[:20])


def test_a_confirmed_regression_stays_confirmed_and_is_not_a_baseline() -> None:
    runs = [*weeks(12), *(entry(number, {SQL: 1.6}) for number in range(12, 40))]
    comparisons = compare_all(runs)
    for comparison in comparisons[13:]:
        change = comparison.changes[cell("p50")]
        assert change.status == "confirmed"
        assert change.before == pytest.approx(110.0, rel=0.02)


def test_a_regression_that_went_away_is_no_longer_confirmed() -> None:
    runs = [
        *weeks(12),
        *(entry(number, {SQL: 1.6}) for number in range(12, 15)),
        entry(15),
        entry(16),
    ]
    comparisons = compare_all(runs)
    assert cell("p50") in comparisons[14].confirmed
    assert not comparisons[15].confirmed
    assert comparisons[15].gone == comparisons[14].confirmed
    assert not comparisons[16].confirmed
    assert not comparisons[16].gone


def test_better_means_better_than_usual_and_not_a_recovery_from_a_bad_day() -> None:
    comparisons = compare_all([*weeks(9), entry(9, {SQL: 0.6}), entry(10, 2.0), entry(11)])
    assert comparisons[9].changes[cell("p50")].status == "better"
    assert {change.status for change in comparisons[11].changes.values()} == {"same"}


def test_a_regression_that_was_accepted_reads_as_accepted_and_is_still_known() -> None:
    comparison = compare_all([*weeks(9), entry(9, {SQL: 1.6}), entry(10, {SQL: 1.6})])[-1]
    accepted = comparison.accept(comparison.confirmed)
    assert accepted.changes[cell("p50")].status == "accepted"
    assert accepted.confirmed == comparison.confirmed
    other = compare_run(entry(10), weeks(9)).accept(frozenset({cell("p50")}))
    assert other.changes[cell("p50")].status == "accepted"


def test_an_accepted_regression_is_the_baseline_from_then_on() -> None:
    confirmed = frozenset(cell(figure) for figure in ("p50", "p95", "p99"))
    regressed = [
        replace(entry(number, {SQL: 1.6}), confirmed=confirmed) for number in range(12, 15)
    ]
    accepted = replace(regressed[1], accepted=True)
    earlier = [*weeks(12), regressed[0], accepted, regressed[2]]
    comparison = compare_run(entry(15, {SQL: 1.6}), earlier)
    assert not comparison.confirmed
    assert comparison.changes[cell("p50")].before == regressed[2].figures[cell("p50")]
    again = replace(entry(15, {SQL: 1.6}), confirmed=comparison.confirmed)
    worse = [replace(entry(number, {SQL: 2.2})) for number in (16, 17)]
    first = compare_run(worse[0], [*earlier, again])
    second = compare_run(worse[1], [*earlier, again, remember(worse[0], first)])
    assert cell("p50") in second.confirmed


def test_a_percentile_of_too_few_calls_is_thin_on_either_side() -> None:
    thin = compare_run(entry(1, {SQL: 3.0}, calls=200), [entry(0, calls=200)])
    assert thin.changes[cell("p50")].status == "suspected"
    assert thin.changes[cell("p95")].status == "thin"
    assert thin.changes[cell("p99")].status == "thin"
    assert compare_run(entry(1, 3.0), [entry(0, calls=20)]).changes[cell("p50")].status == "thin"


def test_less_than_a_millisecond_is_never_worse() -> None:
    runs = []
    for number in range(14):
        row = build_row(SQL, 0.2 if number < 12 else 0.4)
        runs.append(replace(entry(number), rows=(row,)))
    comparisons = compare_all(runs)
    assert comparisons[12].changes[cell("p50")].status == "same"
    assert comparisons[12].changes[cell("p50")].ratio == 2.0
    assert not comparisons[13].confirmed


def test_failures_are_compared_in_percentage_points() -> None:
    change = compare_run(entry(1, failed=300), [entry(0, failed=6)]).changes[cell("failed")]
    assert (change.status, change.ratio) == ("suspected", None)
    assert change.points == pytest.approx(4.9)
    few = compare_run(entry(1, failed=30), [entry(0)]).changes[cell("failed")]
    assert few.status == "same"
    chance = compare_run(entry(1, calls=40, failed=1), [entry(0, calls=40)]).changes[cell("failed")]
    assert chance.status == "same"
    assert chance.points == pytest.approx(2.5)


def test_failures_that_come_again_are_confirmed() -> None:
    runs = [*weeks(8), entry(8, failed=100), entry(9, failed=100)]
    first, second = compare_all(runs)[-2:]
    assert first.changes[cell("failed")].status == "suspected"
    change = second.changes[cell("failed")]
    assert (change.status, change.before) == ("confirmed", 0.0)


def test_a_cell_that_no_baseline_has_is_new_and_a_missing_one_is_left_out() -> None:
    earlier = replace(entry(0), rows=tuple(row for row in entry(0).rows if row.name != SQL[2]))
    comparison = compare_run(entry(1), [earlier])
    assert comparison.changes[cell("p50")].status == "new"
    assert cell("p50") not in compare_run(earlier, [entry(-1)]).changes


def test_a_zero_has_no_ratio_and_is_still_distinguished() -> None:
    zero = replace(entry(0), rows=(build_row(SQL, 0.0),))
    change = compare_run(replace(entry(1), rows=(build_row(SQL, 30.0),)), [zero]).changes[
        cell("p50")
    ]
    assert (change.before, change.ratio, change.status) == (0.0, None, "suspected")
    back = compare_run(zero_again := replace(zero, run=entry(2).run), [entry(1)]).changes[
        cell("p50")
    ]
    assert (back.value, back.ratio, back.status) == (0.0, None, "better")
    same = compare_run(zero_again, [zero]).changes[cell("p50")]
    assert (same.ratio, same.status) == (1.0, "same")


NUMBERS = st.floats(min_value=0.0, max_value=1e9) | st.sampled_from(
    [0.0, float("inf"), float("nan"), 1e-320]
)


@st.composite
def any_entry(draw: st.DrawFn) -> Entry:
    rows = []
    for key in draw(st.sets(st.sampled_from(sorted(ROWS)))):
        row = build_row(key, draw(NUMBERS))
        count = draw(st.integers(0, 2000))
        ok = draw(st.integers(0, count))
        rows.append(replace(row, count=count, ok=ok, achieved_rate=draw(NUMBERS)))
    confirmed = draw(st.sets(st.builds(cell, st.sampled_from(FIGURES), st.sampled_from([SQL]))))
    run: Run = replace(RUN, run_id=draw(st.sampled_from("abcdefgh")), target=Target("x"))
    return Entry(run, tuple(rows), frozenset(confirmed), draw(st.booleans()))


@given(any_entry(), st.lists(any_entry(), max_size=30))
def test_a_comparison_never_raises_and_confirms_only_cells_of_the_run(
    run: Entry, earlier: list[Entry]
) -> None:
    comparison = compare_run(run, earlier)
    assert set(comparison.changes) == set(run.figures)
    assert comparison.confirmed <= set(run.figures)
    assert not comparison.suspected & comparison.confirmed
    assert comparison.gone <= set(run.figures) - comparison.confirmed


@given(st.floats(0.2, 5.0))
def test_slower_is_above_1_for_every_figure_and_faster_below(slower: float) -> None:
    run = entry(7, slower)
    rows = tuple(replace(row, achieved_rate=row.achieved_rate / slower) for row in run.rows)
    changes = compare_run(replace(run, rows=rows), [entry(0)]).changes
    for each, change in changes.items():
        if each.figure != "failed" and change.status != "suspected":
            assert change.ratio == pytest.approx(slower)
        if each.figure != "failed":
            assert (change.ratio or 0) > 1 or slower <= 1


@cache
def find_confirmed(step: float, scale: float) -> list[frozenset[object]]:
    """Return what each run confirms of a step, with all times in another unit."""
    made = []
    for run in (*weeks(10), entry(10, {SQL: step}), entry(11, {SQL: step})):
        rows = (build_row((r.scenario, r.kind, r.name), scale * r.duration.p50) for r in run.rows)  # type: ignore[union-attr]
        made.append(replace(run, rows=tuple(rows)))
    return [comparison.confirmed for comparison in compare_all(made)]


@given(st.floats(20.0, 2000.0), st.sampled_from([1.0, 1.3, 1.8]))
def test_confirmed_regressions_do_not_depend_on_the_unit(scale: float, step: float) -> None:
    assert find_confirmed(step, 20.0) == find_confirmed(step, scale)


def replies(
    size: float, first_ms: float, *, count: int = 1000, silence: float | None = None
) -> Replies:
    observed = None if silence is None else Spread(0.0, silence, silence)
    times = Spread(first_ms, first_ms * 2, first_ms * 3)
    return Replies(count, Spread(size, size * 2, size * 9), times, Spread(1, 2, 30), observed)


def test_larger_and_later_replies_are_worse_but_a_maximum_is_one_reply() -> None:
    changes = compare_replies(replies(1000, 10), replies(1300, 14))
    assert {name: change.status for name, change in changes.items()} == {
        "bytes p50": "worse",
        "bytes p95": "worse",
        "bytes max": "same",
        "first byte p50": "worse",
        "first byte p95": "worse",
        "longest silence": "incomparable",
    }
    assert changes["bytes p50"].ratio == 1.3
    assert compare_replies(replies(1300, 14), replies(1000, 10))["bytes p50"].status == "better"


def test_small_differences_and_few_replies_say_nothing() -> None:
    near = compare_replies(replies(90, 0.5), replies(150, 1.4))
    assert near["bytes p50"].status == near["first byte p50"].status == "same"
    few = compare_replies(replies(1000, 10, count=299), replies(2000, 20))
    assert (few["bytes p50"].status, few["bytes p95"].status) == ("worse", "thin")


def test_only_measured_silences_are_compared() -> None:
    one = compare_replies(replies(1, 1), replies(1, 1, silence=60_000.0))["longest silence"]
    assert (one.value, one.before) == (60_000.0, None)
    both = compare_replies(replies(1, 1, silence=500.0), replies(1, 1, silence=60_000.0))
    assert (both["longest silence"].before, both["longest silence"].status) == (500.0, "same")


def test_replies_without_earlier_ones_have_no_change() -> None:
    changes = compare_replies(None, replies(1000, 10))
    assert {change.before for change in changes.values()} == {None}


def test_sizes_of_replies_are_no_regression() -> None:
    runs = [*weeks(10), entry(10)]
    rows = tuple(replace(row, replies=replies(10**6, 10**4)) for row in runs[-1].rows)
    assert compare_all([*runs[:-1], replace(runs[-1], rows=rows)])[-1].confirmed == frozenset()
