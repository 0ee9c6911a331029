"""The history as people ask for it: names of runs, golden tables, and the CSV."""

import csv
import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.errors import UsageError
from loadtest.report.history_tables import (
    CSV_COLUMNS,
    RUN_COLUMNS,
    build_line,
    find_entry,
    render_csv,
    render_history,
    render_pair,
    render_spark,
)
from loadtest.results.history import Entry
from loadtest.results.run import ScenarioResult
from tests.compare.plain_runs import RUN, SQL, build_row, cell, compare_all, entry, remember, weeks
from tests.report.compared_runs import COMPARED
from tests.report.report_golden import compare, draw

HOSTILE = "=[bold]x[/] | <b>\n\x1b[31m"
FIRST = ("cold-start", "frame", "first dispatch")


def build_history() -> tuple[Entry, ...]:
    """Return runs of two profiles: a regression, accepted; a failed run; one without a SHA; one
    that met a quota.
    """
    runs = [*weeks(10), *(entry(number, {SQL: 1.6}) for number in range(10, 13))]
    compared = zip(runs, compare_all(runs), strict=True)
    kept = [remember(run, comparison) for run, comparison in compared]
    kept[12] = replace(kept[12], accepted=True)
    failed = (ScenarioResult("sessions", "failed", 107, "the probe met HTTP 503"),)
    over = (ScenarioResult("tools", "thresholds crossed", 99),)
    smoke = entry(14, profile="smoke", git_sha=None, run_id="20260115T060000Z-1a2b3c4")
    return (
        *kept,
        replace(entry(13, scenarios=failed), rows=()),
        replace(smoke, rows=(*smoke.rows, build_row(FIRST, 130.0))),
        entry(15, profile="smoke", run_id="16234567890-1", scenarios=over, failed=200),
        limit(entry(16, profile="smoke")),
    )


def limit(run: Entry) -> Entry:
    """Return a run in which 83 % of the calls were refused by a quota."""
    rows = (replace(row, ok=1000, failures={"rate_limited": row.count - 1000}) for row in run.rows)
    return replace(run, rows=tuple(rows))


def test_a_rate_limited_run_is_not_ok_and_sustains_nothing() -> None:
    limited = limit(entry(1))
    line = dict(zip(RUN_COLUMNS, build_line(limited), strict=True))
    assert (line["outcome"], line["most"]) == ("rate limited", "-")
    assert "rate limited" in draw(render_pair(entry(0), limited))


def test_the_outcome_of_a_run_is_its_worst_one() -> None:
    found = frozenset({cell("p50")})
    over = (ScenarioResult("tools", "thresholds crossed", 99),)
    for run, outcome in (
        (replace(entry(0), suspected=found), "to watch"),
        (replace(entry(0), confirmed=found, suspected=found), "regressed"),
        (replace(entry(0, scenarios=over), confirmed=found), "regressed"),
        (replace(limit(entry(0)), confirmed=found), "regressed"),
        (replace(entry(0), confirmed=found, accepted=True), "accepted"),
        (replace(entry(0, scenarios=over), confirmed=found, accepted=True), "over limits"),
    ):
        line = dict(zip(RUN_COLUMNS, build_line(run), strict=True))
        assert line["outcome"] == outcome


def test_a_new_server_version_is_shown_between_two_runs() -> None:
    target = replace(RUN.target, server_version="1.5.0")
    text = draw(render_pair(entry(0), entry(1, target=target)))
    assert "The server is now atlas 1.5.0 (was atlas 1.4.0)." in text


def test_the_table_of_runs_is_as_reviewed() -> None:
    compare("history.txt", draw(render_history(build_history())))


def test_two_runs_side_by_side_are_as_reviewed() -> None:
    runs = build_history()
    compare("pair.txt", draw(render_pair(runs[9], runs[12])))
    larger = COMPARED["larger"]()
    now = Entry(larger.folder.run, larger.folder.rows)
    compare("pair-larger.txt", draw(render_pair(larger.earlier[-1], now)))
    compare("pair-incomparable.txt", draw(render_pair(runs[12], runs[15])))


def test_two_runs_are_compared_in_the_order_given() -> None:
    runs = weeks(3)
    reversed_pair = draw(render_pair(runs[2], runs[0]))
    assert "before  run-002" in reversed_pair
    assert "Reversed: the run before began after the other one." in reversed_pair
    assert "Reversed" not in draw(render_pair(runs[0], runs[2]))
    assert "Not comparable" not in draw(render_pair(runs[2], runs[0]))
    with pytest.raises(UsageError, match="both names mean run run-001: name two different runs"):
        render_pair(runs[1], runs[1])


def test_runs_of_two_environments_are_not_comparable() -> None:
    text = draw(render_pair(entry(0, environment="staging"), entry(1)))
    assert "Not comparable: environment prod, was staging." in text


def test_the_csv_is_as_reviewed() -> None:
    compare("history.csv", render_csv(build_history()[11:]))


def test_an_empty_history_says_how_to_start_one() -> None:
    assert draw(render_history(())) == "No run in the history yet: start with `inv k6`.\n"
    assert render_csv(()).strip().split(",") == list(CSV_COLUMNS)


def test_a_long_history_shows_its_newest_runs_and_fits_80_columns() -> None:
    runs = [entry(number, run_id=f"20260803T1200{number:02}Z-1a2b3c4") for number in range(50)]
    text = draw(render_history(runs))
    assert "30 older runs are not shown" in text
    assert "20260803T120029Z" not in text
    assert "20260803T120049Z-1a2b3c4" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_hostile_names_from_a_server_are_shown_as_text() -> None:
    row = build_row(("tools", "tool", HOSTILE), 30.0)
    runs = [
        replace(entry(number, git_sha=HOSTILE, profile=HOSTILE), rows=(row,)) for number in (0, 1)
    ]
    for text in (draw(render_history(runs), 200), draw(render_pair(*runs), 200)):
        assert "[bold]x[/] | <b>" in text
        assert "\x1b" not in text
    (first, _) = csv.DictReader(io.StringIO(render_csv(runs)))
    assert first["name"] == "'=[bold]x[/] | <b> ?[31m"


@pytest.mark.parametrize(
    ("name", "run_id"),
    [
        ("last", "run-004"),
        ("previous", "run-003"),
        ("run-001", "run-001"),
        ("beef", "run-003"),
        ("BEEF01", "run-003"),
    ],
)
def test_a_run_is_found_by_any_of_its_names(name: str, run_id: str) -> None:
    runs = [entry(n, git_sha="beef01" + "0" * 34 if n in {2, 3} else "a" * 40) for n in range(5)]
    assert find_entry(runs, name).run.run_id == run_id


@pytest.mark.parametrize("name", ["bee", "ffff", "run-9", "", "x\ny"])
def test_an_unknown_run_is_an_error_that_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_entry(weeks(12), name)
    message = str(caught.value)
    assert message.startswith("no run '")
    assert "use last, previous, the start of a SHA, or one of: run-011, run-010" in message
    assert message.endswith("run-002 and 2 older")
    assert "\n" not in message


def test_previous_needs_two_runs() -> None:
    with pytest.raises(UsageError, match="there is no previous run: use last, "):
        find_entry(weeks(1), "previous")
    with pytest.raises(UsageError, match="there is no last run: the history is empty"):
        find_entry((), "last")


def test_a_pair_has_a_summary_whole_ids_and_the_worst_change_first() -> None:
    run_id = f"{'12345678901234567890'}-{'x' * 40}"
    text = draw(render_pair(entry(0), entry(1, {SQL: 1.6}, run_id=run_id)))
    assert text.startswith("3 worse · 20 within 25 %\n")
    assert run_id in text
    mix = text.split("Tool-call mix")[1].splitlines()
    assert [line.split()[0] for line in mix[4:7]] == ["executeSQL"] * 3


def test_the_csv_names_what_a_run_confirmed() -> None:
    found = frozenset({cell("p99"), cell("p50")})
    run = replace(entry(0), confirmed=found, suspected=frozenset({cell("p95")}))
    lines = {line["name"]: line for line in csv.DictReader(io.StringIO(render_csv([run])))}
    assert lines["executeSQL"]["confirmed"] == "p50 p99"
    assert lines["executeSQL"]["suspected"] == "p95"
    assert lines["listEntities"]["confirmed"] == ""


@given(st.lists(st.floats(0, 1e12), min_size=1))
def test_a_spark_has_a_bar_for_each_value_and_higher_is_never_lower(values: list[float]) -> None:
    bars = render_spark(values)
    assert len(bars) == len(values)
    assert [bar for _, bar in sorted(zip(values, bars, strict=True))] == sorted(bars)
