"""What changed since the run before, in every medium: golden files, and what each mark means."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from loadtest.compare.changes import Change, Status
from loadtest.compare.comparison import Baseline, Comparison
from loadtest.report.content.findings import count_unchanged, list_compared
from loadtest.report.content.formatting import format_change
from loadtest.report.content.report import build_report
from loadtest.report.content.trend import MOST_RUNS, Trend, build_trend
from loadtest.report.content.verdict import build_verdict
from loadtest.report.markdown import render_chart, render_markdown
from loadtest.report.terminal import render_terminal
from loadtest.results.history import Cell, Entry
from tests.report.compared_runs import (
    COMPARED,
    ComparedRun,
    accepted,
    compared,
    good,
    host_noise,
    improved,
    many_stages,
    regressed,
    scale,
    slowed,
    slower_tool,
    weekly,
    zeros,
)
from tests.report.report_golden import compare, draw
from tests.report.report_runs import COLD_START, LADDER, folder, stage


@pytest.mark.parametrize("name", COMPARED)
def test_changes_in_report_md_are_as_reviewed(name: str) -> None:
    case = COMPARED[name]()
    compare(f"{name}.md", render_markdown(case.folder, case.comparison, case.earlier))


@pytest.mark.parametrize("name", COMPARED)
def test_changes_in_a_terminal_are_as_reviewed(name: str) -> None:
    case = COMPARED[name]()
    text = draw(render_terminal(case.folder, case.comparison, case.earlier), 80)
    compare(f"{name}.txt", text)
    assert max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.parametrize(
    ("figure", "change", "text"),
    [
        ("p95", None, ""),
        ("p95", Change(31.0, "incomparable"), ""),
        ("p95", Change(31.0, "new"), "new"),
        ("p95", Change(31.0, "same", 29.8, 31 / 29.8), "+4 %"),
        ("p95", Change(31.0, "same", 31.1, 31 / 31.1), "±0 %"),
        ("p95", Change(0.0, "same", 0.0, 1.0), "±0 %"),
        ("p95", Change(31.0, "worse", 0.0), "from 0"),
        ("p95", Change(0.0, "better", 31.0), "-100 %"),
        ("p95", Change(500.0, "worse", 31.0, 500 / 31), "+1,513 %"),
        ("rate", Change(70.0, "worse", 100.0, 100 / 70), "-30 %"),
        ("failed", Change(0.0, "same", 0.0, None, 0.0), ""),
        ("failed", Change(0.02, "same", 0.02, None, 0.0), "±0.0 pp"),
        ("failed", Change(0.0, "better", 0.02, None, -2.0), "-2.0 pp"),
        ("failed", Change(0.054, "worse", 0.0, None, 5.4), "+5.4 pp"),
    ],
)
def test_a_change_reads_as_the_figure_moved(figure: str, change: Change | None, text: str) -> None:
    assert format_change(figure, change) == text  # type: ignore[arg-type]


def test_the_headline_counts_findings_and_the_sentences_say_what_was_sustained() -> None:
    verdict = build_verdict(good().folder, good().comparison)
    assert (verdict.level, verdict.headline) == ("good", "57 unchanged")
    assert verdict.sentences[0].startswith(
        "Sustained all 100 sessions (100 calls/s, p95 25 ms, +3 %), "
    )
    verdict = build_verdict(regressed().folder, regressed().comparison)
    assert (verdict.level, verdict.headline) == ("bad", "3 regressions · 1 to watch · 52 unchanged")
    worse = "1 figure is over 25 % worse than in the last good run, within the usual spread: calls"
    assert worse in verdict.text


def test_every_figure_that_was_compared_is_in_a_finding_or_unchanged() -> None:
    for case in (regressed(), accepted(), slower_tool(), host_noise(), many_stages()):
        findings = case.comparison.findings
        moved = sum(len((*each.cells, *each.follows)) for each in findings)
        compared = list_compared(case.comparison)
        assert moved + count_unchanged(case.comparison) == len(compared)
        assert not [cell for cell in compared if cell.kind == "control"]


def read_findings(case: ComparedRun) -> list[list[str]]:
    """Return the table of what moved as text."""
    table = build_report(case.folder, case.comparison, case.earlier).findings
    return [[cell.words or cell.change for cell in row] for row in table.rows] if table else []


def test_a_slower_tool_is_one_finding_with_what_follows_and_what_speaks_for_it() -> None:
    sql, start, entities = read_findings(slower_tool())
    assert sql == [
        "executeSQL slower: p50 (p95 +37 %, p99 +37 %; throughput of the mix follows)",
        *("32 ms", "44 ms", "+37 %", "this run"),
        "3 repeats agree (44 to 45 ms); control unchanged (-6 %); usually 29 to 33 ms (8 runs); "
        "server time +12 ms",
    ]
    assert start[0] == "initialize slower in cold start: p50"
    assert start[5].startswith("1 of 3 repeats agrees (4.2 to 5.4 ms); likely noise; control")
    assert entities[0] == "listEntities faster: p50 (p95 -29 %)"
    assert entities[5] == "control unchanged (-6 %); usually 7.7 to 8.6 ms (8 runs)"


def test_without_a_control_or_repeats_a_finding_says_so() -> None:
    sql, metric, failures, listing = read_findings(regressed())
    assert sql[4:] == ["Jul 27", "2 runs in a row; no control; usually 71 to 79 ms (13 runs)"]
    assert metric[5].startswith("level changed, to about 1240 ms; no control; usually ")
    assert failures[:4] == ["100 sessions with more failures", "0 %", "2.4 %", "+2.4 pp"]
    assert listing[5].startswith("not measured again; the next run decides; no control; usually ")


@pytest.mark.parametrize(
    ("status", "value", "said"),
    [
        ("same", 3.3, "control unchanged (+6 %); "),
        ("same", 3.9, "control +26 %; "),
        ("worse", 6.2, "control +100 %; "),
        ("thin", 6.2, "too few requests to the control (+100 %); "),
    ],
)
def test_a_control_is_called_unchanged_only_if_it_is(
    status: Status, value: float, said: str
) -> None:
    case = slower_tool()
    control = Cell("tools", "control", "document", "p50")
    change = Change(value, status, 3.1, value / 3.1)
    comparison = replace(case.comparison, changes={**case.comparison.changes, control: change})
    assert said in read_findings(replace(case, comparison=comparison))[0][5]


def test_a_note_says_why_nothing_was_measured_again() -> None:
    case = regressed()
    run = replace(case.folder.run, repeats_note="the quota leaves no room to measure again")
    case = replace(case, folder=replace(case.folder, run=run))
    assert read_findings(case)[3][5].startswith("the quota leaves no room to measure again; ")


@pytest.mark.parametrize(
    ("build", "headline", "why"),
    [
        (
            slowed,
            "1 to watch: everything about 2.0× slower (39 of 57 figures) · 18 unchanged",
            "2 repeats in the same hour agree (11 to 12 ms); the next run decides; control "
            "unchanged (±0 %); ",
        ),
        (
            host_noise,
            "1 to watch: everything about 1.5× slower (39 of 57 figures), control too: network or "
            "host · 18 unchanged",
            "2 repeats in the same hour agree (11 to 12 ms); the next run decides; control too "
            "(+60 %): network or host; ",
        ),
    ],
)
def test_everything_at_once_is_one_finding(
    build: Callable[[], ComparedRun], headline: str, why: str
) -> None:
    case = build()
    verdict = build_verdict(case.folder, case.comparison)
    assert (verdict.level, verdict.headline) == ("watch", headline)
    (row,) = read_findings(case)
    assert row[5].startswith(why)


def test_repeats_of_a_shift_of_everything_are_reported_though_they_confirm_nothing() -> None:
    case = slowed()
    changes = {
        cell: replace(change, regression=replace(change.regression, repeats=(), agree=0))
        if change.regression
        else change
        for cell, change in case.comparison.changes.items()
    }
    comparison = replace(case.comparison, changes=changes)
    (row,) = read_findings(replace(case, comparison=comparison))
    assert row[5].startswith("the next run decides; control unchanged")
    for again, said in ((LADDER, "1 repeat in the same hour agrees (11 ms)"), ((), "")):
        rows = again or [replace(each, response=scale(each.response, 0.5)) for each in LADDER]
        run = replace(case.folder, repeats=(tuple(rows),))
        (row,) = read_findings(replace(case, folder=run, comparison=comparison))
        said = said or "1 repeat in the same hour does not agree (5.7 ms)"
        assert row[5].startswith(f"{said}; the next run decides; control unchanged")


def test_neighbouring_stages_are_one_finding() -> None:
    ((moved, *_),) = read_findings(many_stages())
    assert moved == ("121 to 200 sessions slower: p50 +42 to +58 %, such as p50 at 122 sessions")


def test_all_changes_are_against_the_last_run_before_an_open_regression() -> None:
    case = regressed()
    report = build_report(case.folder, case.comparison, case.earlier)
    assert report.compared_with is not None
    assert report.compared_with.text == "Compared with run 20260601T120000Z-0000009."
    assert report.findings is not None
    assert report.findings.columns[1].url == case.earlier[5].url


def test_an_accepted_regression_is_called_accepted_and_does_not_alert() -> None:
    case = accepted()
    verdict = build_verdict(case.folder, case.comparison)
    assert (verdict.level, verdict.headline) == ("watch", "1 to watch · 3 accepted · 52 unchanged")
    assert build_report(case.folder, case.comparison).accept_command == ""


def test_improvements_and_a_new_server_version_are_reported() -> None:
    case = improved()
    verdict = build_verdict(case.folder, case.comparison)
    assert (verdict.level, verdict.headline) == ("good", "1 improved · 56 unchanged")
    assert "1 regression is gone: executeSQL p95." in verdict.text
    report = build_report(case.folder, case.comparison)
    assert report.versions == ("1.4.0", "1.5.0")
    assert report.compared_with is not None
    assert report.compared_with.text.endswith("The server is now atlas 1.5.0 (was atlas 1.4.0).")


def test_without_a_comparison_the_report_does_not_mention_earlier_runs() -> None:
    run = good().folder
    assert build_report(run).compared_with is None
    first = build_report(run, Comparison())
    assert first.compared_with is None
    assert first.verdict.headline == "First run: 57 figures, nothing to compare with yet"


def test_the_usual_baseline_is_on_top_and_a_different_one_at_its_scenario() -> None:
    case = good()
    older = Baseline("tools", case.earlier[0])
    baselines = (*case.comparison.baselines[:2], older)
    report = build_report(case.folder, replace(case.comparison, baselines=baselines))
    assert report.compared_with is not None
    assert "Compared with run 20260727T" in report.compared_with.text
    said = [table.compared_with for table in report.tables]
    assert said[:2] == [None, None]
    assert said[2] is not None
    assert "Compared with run 20260427T" in said[2].text
    assert said[2].url == case.earlier[0].url


def test_a_row_that_is_gone_is_named() -> None:
    report = build_report(zeros().folder, zeros().comparison)
    assert report.tables[2].note == "No longer measured: gone."


def test_marks_stay_if_changes_do_not_fit_a_terminal() -> None:
    rows = (*COLD_START, stage(1, 9.0), stage(500, 12000.0, seconds=300))
    cell = Cell("sessions", "stage", "500", "p95")
    case = compared(folder(rows), weekly(rows, 1, factor=0.000012), statuses={cell: "confirmed"})
    text = draw(render_terminal(case.folder, case.comparison), 80)
    assert max(len(line) for line in text.splitlines()) <= 80
    ladder = text.split("Concurrent sessions")[1].split("Latency in ms")[0]
    assert "%" not in ladder
    assert ladder.count("!!") == 1


def chart(*points: tuple[str, float]) -> list[str]:
    text = render_chart(Trend('x"] `y`\n%%{init} #quot; @z', "ms", points))
    return [line.strip() for line in text.splitlines()]


def test_a_chart_has_a_separate_place_for_each_run_of_a_day() -> None:
    day = "2026-08-03"
    lines = chart((day, 1.0), (day, 2.25), ("2026-08-04", 3.0), (day, 4.0))
    assert 'x-axis ["08-03", "08-03.2", "08-04", "08-03.3"]' in lines
    assert "line [1, 2.25, 3, 4]" in lines
    assert 'y-axis "ms" 0 --> 4' in lines
    assert 'y-axis "ms" 0 --> 200' in chart((day, 137.0), ("2026-08-04", 196.0))


def test_a_chart_contains_only_characters_that_mermaid_reads() -> None:
    lines = chart(("2026-08-03", 0.0), ('"]\n--- x', 1.25e7))
    assert 'title "x?? ?y?????init? ?quot? ?z, 2026-08-03 to ???--- x"' in lines[3:4]
    assert "line [0, 12500000]" in lines
    assert 'y-axis "ms" 0 --> 16000000' in lines
    assert 'y-axis "ms" 0 --> 0.01' in chart(("2026-08-03", 0.0), ("2026-08-04", 0.0))


def test_the_trend_shows_the_last_comparable_runs() -> None:
    case = good()
    unlike = weekly((*COLD_START, *LADDER), 3, environment="prod")
    trend = build_trend(case.folder, case.comparison, (*case.earlier, *unlike))
    assert trend is not None
    assert trend.title == "p95 at 100 sessions"
    assert len(trend.points) == MOST_RUNS
    assert trend.points[-1] == ("2026-08-03", LADDER[-1].response.p95)  # type: ignore[union-attr]
    assert [day for day, _ in trend.points[-3:]] == ["2026-07-20", "2026-07-27", "2026-08-03"]


def test_the_trend_shows_the_worst_confirmed_regression_if_there_is_one() -> None:
    case = regressed()
    trend = build_trend(case.folder, case.comparison, case.earlier)
    assert trend is not None
    assert (trend.title, trend.unit) == ("executeSQL p99", "ms")
    assert trend.points[-1][1] == 104.0


def test_a_first_run_has_no_trend() -> None:
    assert build_trend(good().folder, Comparison(), ()) is None


def test_a_run_reported_again_is_in_its_trend_once_and_last() -> None:
    case = good()
    again = Entry(case.folder.run, case.folder.rows)
    late = replace(case.folder.run, run_id="later", started="2026-08-10T12:00:00Z")
    earlier = (*case.earlier, again, Entry(late, case.folder.rows))
    assert build_trend(case.folder, case.comparison, earlier) == build_trend(
        case.folder, case.comparison, case.earlier
    )
