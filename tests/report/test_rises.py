"""What rose within a soak, as a reader sees it, and as an exit code."""

from dataclasses import replace

import pytest

from loadtest.context import Ending
from loadtest.report.content.rises import describe_rises
from loadtest.report.content.verdict import build_verdict
from loadtest.results.run import Outcome, Rise, ScenarioResult
from loadtest.results.run_folder import RunFolder
from tests.report.report_runs import folder, row

SQL = Rise("tool", "executeSQL", "p95", 12.0, 3.1, 40.0, 64.0)
DISPATCH = Rise("frame", "first dispatch", "p50", 720.0, 90.0, 30.0, 150.0)
REFUSED = Rise("opening", "all", "refused", 0.315, 0.004, 0.0, 0.63)


def soaked(*rises: Rise, outcome: Outcome = "ok") -> RunFolder:
    made = folder((row("soak", "tool", "executeSQL", 36000, 40.0),))
    result = ScenarioResult("soak", outcome, 0, rises=rises)
    return replace(made, run=replace(made.run, scenarios=(result,)))


@pytest.mark.parametrize(
    ("rise", "sentence"),
    [
        (SQL, "p95 of executeSQL rose by 12 ms an hour (plus or minus 3.1), from 40 ms to 64 ms."),
        (
            DISPATCH,
            "p50 of first dispatch rose by 12 ms a minute (plus or minus 1.5), from 30 ms to "
            "150 ms.",
        ),
        (
            REFUSED,
            "the share of refused openings rose by 32 points an hour (plus or minus 0.4), from 0 % "
            "to 63 %.",
        ),
        (
            replace(SQL, is_explained=True),
            "p95 of executeSQL rose by 12 ms an hour (plus or minus 3.1), from 40 ms to 64 ms. The "
            "control rose too: network or host.",
        ),
    ],
)
def test_a_rise_is_a_sentence_with_its_error(rise: Rise, sentence: str) -> None:
    assert [*describe_rises(soaked(rise))] == [sentence]


def test_the_verdict_names_what_rose() -> None:
    verdict = build_verdict(soaked(SQL, REFUSED))
    assert verdict.level == "warning"
    assert verdict.headline.startswith("2 figures rose")
    assert verdict.problems[0].startswith("P95 of executeSQL rose by 12 ms an hour")


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (soaked(SQL), 94),
        (soaked(replace(SQL, is_explained=True)), 0),
        (soaked(), 0),
        (soaked(SQL, outcome="thresholds crossed"), 99),
    ],
)
def test_the_exit_code_says_that_something_rose(run: RunFolder, code: int) -> None:
    ending = Ending()
    ending.note(run.run)
    assert ending.exit_code == code
    if code == 94:
        assert ending.message is not None
        assert ending.message.endswith("1 figure rose within the run")
