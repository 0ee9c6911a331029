"""Check that runs come as often as they should: schedules can be delayed, dropped or disabled."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from loadtest.errors import HistoryError
from loadtest.results.history import Entry

# A run that is late by less than this is not missed.
GRACE = timedelta(days=1)


def check_cadence(
    entries: Iterable[Entry], environment: str, cadence_days: int, now: datetime
) -> datetime:
    """Return when the newest run began; runs that were cut off and searches do not count.

    Raises HistoryError when that is longer ago than the cadence allows.
    """
    times = list(_list_times(entries, environment))
    if not times:
        raise HistoryError(
            f"the history has no run of {environment}; one is due every {_days(cadence_days)}: "
            "check that the workflow runs, then start it"
        )
    age = now - max(times)
    if age > timedelta(days=cadence_days) + GRACE:
        raise HistoryError(
            f"the newest run of {environment} is {_days(age.days)} old; one is due every "
            f"{_days(cadence_days)}: check that the schedule is still enabled (GitHub disables it "
            "after 60 days without a commit), then start the workflow"
        )
    return max(times)


def describe_gap(entry: Entry, earlier: Iterable[Entry], cadence_days: int | None) -> str | None:
    """Return a sentence for the comment if the cadence was missed before this run, else None."""
    environment = entry.run.environment
    now = _read_time(entry, environment)
    if cadence_days is None or now is None or entry.run.capacity is not None:
        return None
    times = (time for time in _list_times(earlier, environment) if time < now)
    before = max(times, default=None)
    if before is None or now - before <= timedelta(days=cadence_days) + GRACE:
        return None
    return (
        f"No run for {_days((now - before).days)} before this one; one is due every "
        f"{_days(cadence_days)}."
    )


def _list_times(entries: Iterable[Entry], environment: str) -> Iterator[datetime]:
    """Yield when runs began, without those that were cut off, and searches for the capacity."""
    for entry in entries:
        time = _read_time(entry, environment)
        if time is not None and entry.run.has_ended() and entry.run.capacity is None:
            yield time


def _read_time(entry: Entry, environment: str) -> datetime | None:
    if entry.run.environment != environment:
        return None
    try:
        time = datetime.fromisoformat(entry.run.started)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _days(count: int) -> str:
    return f"{count} day{'s' * (count != 1)}"
