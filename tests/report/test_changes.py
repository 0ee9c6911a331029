"""What changed since the run before, in every medium: golden files, and what each mark means."""

from dataclasses import replace

import pytest

from loadtest.compare.changes import Change, Status
from loadtest.compare.comparison import Baseline, Comparison
from loadtest.report.content.formatting import format_change
from loadtest.report.content.report import build_report
from loadtest.report.content.trend import MOST_RUNS, Trend, build_trend
from loadtest.report.content.verdict import build_verdict
from loadtest.report.markdown import render_chart, render_markdown
from loadtest.report.terminal import render_terminal
from loadtest.results.history import Cell, Entry
from tests.report.compared_runs import (
    COMPARED,
    accepted,
    compared,
    good,
    improved,
    regressed,
    weekly,
    zeros,
)
from tests.report.report_golden import compare, draw
from tests.report.report_runs import COLD_START, LADDER, TOOLS, folder, stage


@pytest.mark.parametrize("name", COMPARED)
def test_changes_in_report_md_are_as_reviewed(name: str) -> None:
    case = COMPARED[name]()
    compare(f"{name}.md", render_markdown(case.folder, case.comparison))


@pytest.mark.parametrize("name", COMPARED)
def test_changes_in_a_terminal_are_as_reviewed(name: str) -> None:
    case = COMPARED[name]()
    text = draw(render_terminal(case.folder, case.comparison), 80)
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


def test_the_verdict_has_the_change_of_its_p95_and_counts_confirmed_regressions() -> None:
    verdict = build_verdict(good().folder, good().comparison)
    assert verdict.level == "good"
    assert verdict.text.startswith("Sustained all 100 sessions (100 calls/s, p95 25 ms, +3 %), ")
    verdict = build_verdict(regressed().folder, regressed().comparison)
    assert verdict.level == "bad"
    assert (
        "3 confirmed regressions: failures at 100 sessions, executeSQL p99, runMetric p50."
        in verdict.text
    )


def test_many_regressions_are_counted() -> None:
    rows = (*COLD_START, *LADDER, *TOOLS)
    cells = [Cell("tools", "tool", tool.name, "p50") for tool in TOOLS]
    case = compared(folder(rows), weekly(rows, 2), statuses=dict.fromkeys(cells, "confirmed"))
    text = build_verdict(case.folder, case.comparison).text
    assert "5 confirmed regressions: " in text
    assert " and 2 more." in text


def test_the_worst_of_many_regressions_are_described_in_full() -> None:
    rows = (*COLD_START, *LADDER, *TOOLS)
    cells = [Cell("tools", "tool", tool.name, p) for tool in TOOLS for p in ("p50", "p95", "p99")]
    case = compared(folder(rows), weekly(rows, 2), statuses=dict.fromkeys(cells, "confirmed"))
    news = build_report(case.folder, case.comparison).regressions
    assert len(news) == 11
    assert news[-1].text == "5 more regressions are marked in the tables."


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("worse", "1 figure is over 25 % worse than in the last run; that may be noise"),
        ("suspected", "1 suspected regression (the next run decides)"),
    ],
)
def test_a_run_that_is_worse_as_a_whole_is_a_warning_before_it_is_confirmed(
    status: Status, said: str
) -> None:
    rows = (*COLD_START, *LADDER, *TOOLS)
    for name, level in (("all", "warning"), ("runMetric", "good")):
        found: dict[Cell, Status] = {Cell("tools", "tool", name, "p95"): status}
        case = compared(folder(rows), weekly(rows, 5), statuses=found)
        verdict = build_verdict(case.folder, case.comparison)
        assert verdict.level == level
        assert f"{said}: {'all tools' if name == 'all' else name} p95." in verdict.text


def test_the_worst_comes_first() -> None:
    case = regressed()
    text = build_verdict(case.folder, case.comparison).text
    said = ("3 confirmed", "Did not sustain 100 sessions", "1 suspected", "1 figure")
    places = [text.index(words) for words in said]
    assert places == sorted(places)
    news = [line.status for line in build_report(case.folder, case.comparison).regressions]
    assert news == ["confirmed", "confirmed", "confirmed", "suspected"]


def test_an_accepted_regression_is_called_accepted_and_does_not_alert() -> None:
    case = accepted()
    verdict = build_verdict(case.folder, case.comparison)
    assert verdict.level == "good"
    assert "3 accepted regressions: failures at 100 sessions" in verdict.text
    assert "confirmed regression" not in verdict.text
    report = build_report(case.folder, case.comparison)
    assert [line.status for line in report.regressions].count("accepted") == 3
    assert report.regressions[1].text.endswith(". Confirmed: second run in a row; accepted.")
    assert report.accept_command == ""


def test_improvements_and_a_new_server_version_are_reported() -> None:
    case = improved()
    verdict = build_verdict(case.folder, case.comparison)
    assert verdict.level == "good"
    assert "1 regression is gone: executeSQL p95." in verdict.text
    assert "1 figure is over 25 % better than in the last run: executeSQL p50." in verdict.text
    line = build_report(case.folder, case.comparison).compared_with
    assert line is not None
    assert line.text.endswith("The server is now atlas 1.5.0 (was atlas 1.4.0).")


def test_a_drift_is_described_with_its_run_and_measured_levels() -> None:
    case = regressed()
    (said,) = (
        each
        for each in build_report(case.folder, case.comparison).regressions
        if "level" in each.text
    )
    assert said.text == (
        "runMetric p50: 1240 ms (+19 %), at about 1240 ms since run 20260608T120000Z-0000008; "
        "before that, 1042 ms. Confirmed: the level has changed."
    )
    assert said.url == case.earlier[6].url


def test_without_a_comparison_the_report_does_not_mention_earlier_runs() -> None:
    run = good().folder
    assert build_report(run).compared_with is None
    line = build_report(run, Comparison()).compared_with
    assert line is not None
    assert line.text == "First run: there is nothing to compare it with."


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
    assert 'y-axis "ms" 0 --> 5' in lines


def test_a_chart_contains_only_characters_that_mermaid_reads() -> None:
    lines = chart(("2026-08-03", 0.0), ('"]\n--- x', 1.25e7))
    assert 'title "x?? ?y?????init? ?quot? ?z, 2026-08-03 to ???--- x"' in lines[3:4]
    assert "line [0, 12500000]" in lines
    assert 'y-axis "ms" 0 --> 15000000' in lines
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
    assert (trend.title, trend.unit) == ("failures at 100 sessions", "%")
    assert round(trend.points[-1][1], 1) == 2.4


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
