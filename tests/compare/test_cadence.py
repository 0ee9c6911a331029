"""Whether a missed schedule is noticed, and a late one is not."""

from datetime import UTC, datetime, timedelta

import pytest

from loadtest.compare.cadence import check_cadence, describe_gap
from loadtest.errors import HistoryError
from loadtest.results.run import Capacity, Outcome, ScenarioResult
from tests.compare.plain_runs import entry, weeks

# The run of day 0 began on 2026-01-01 at 06:00.
BEGAN = datetime(2026, 1, 1, 6, tzinfo=UTC)


@pytest.mark.parametrize("age", [timedelta(0), timedelta(days=7), timedelta(days=7, hours=23)])
def test_a_run_that_is_due_or_late_by_hours_is_on_time(age: timedelta) -> None:
    check_cadence([entry(0)], "prod", 7, BEGAN + age)


def test_a_missed_run_fails_with_its_age_and_what_to_look_at() -> None:
    with pytest.raises(HistoryError) as caught:
        check_cadence(weeks(3), "prod", 7, BEGAN + timedelta(days=2 + 9))
    assert str(caught.value).startswith(
        "the newest run of prod is 9 days old; one is due every 7 days: "
    )
    assert "\n" not in str(caught.value)


def test_runs_of_other_environments_do_not_count() -> None:
    with pytest.raises(HistoryError, match="the history has no run of prod"):
        check_cadence([entry(0, environment="staging")], "prod", 7, BEGAN)


def test_a_search_for_the_capacity_is_not_the_run_that_is_due() -> None:
    search = entry(20, capacity=Capacity("sessions", 40, 40, 44))
    with pytest.raises(HistoryError, match="the newest run of prod is 21 days old"):
        check_cadence([entry(0), search], "prod", 7, BEGAN + timedelta(days=21))
    assert describe_gap(search, [entry(0)], 7) is None


def test_the_next_run_says_that_runs_were_missed() -> None:
    earlier = [entry(0), entry(20, environment="staging")]
    assert describe_gap(entry(21), earlier, 7) == (
        "No run for 21 days before this one; one is due every 7 days."
    )


@pytest.mark.parametrize(("number", "cadence_days"), [(7, 7), (8, 7), (21, None)])
def test_a_kept_cadence_or_none_has_no_note(number: int, cadence_days: int | None) -> None:
    assert describe_gap(entry(number), [entry(0)], cadence_days) is None


def test_a_first_run_and_one_without_a_readable_time_have_no_note() -> None:
    assert describe_gap(entry(9), [], 7) is None
    assert describe_gap(entry(9), [entry(0, started="yesterday")], 7) is None
    assert describe_gap(entry(9, started="today"), [entry(0)], 7) is None


@pytest.mark.parametrize("outcome", ["interrupted", "not run"])
def test_a_run_that_was_cut_off_does_not_count(outcome: Outcome) -> None:
    cut = entry(8, scenarios=(ScenarioResult("sessions", "ok"), ScenarioResult("tools", outcome)))
    now = BEGAN + timedelta(days=8)
    assert check_cadence([entry(1), cut], "prod", 7, now) == BEGAN + timedelta(days=1)
    with pytest.raises(HistoryError, match="the history has no run of prod"):
        check_cadence([cut], "prod", 7, now)
    assert describe_gap(entry(21), [entry(0), cut], 7) == (
        "No run for 21 days before this one; one is due every 7 days."
    )
