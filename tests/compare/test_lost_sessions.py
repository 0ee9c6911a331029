"""Lost sessions: replicas, a deployment and an expiry are distinguished."""

from dataclasses import replace

import pytest

from loadtest.compare.lost_sessions import Cause, find_losses
from loadtest.results.run import LostSessions, Row
from tests.report.report_runs import COLD_START, LADDER, TOOLS, opening, row, stage


def lose(
    sessions: int,
    count: int,
    calls: tuple[float, float],
    ages: tuple[float, float],
    moments: tuple[float, float],
    seconds: float = 60,
) -> tuple[Row, Row]:
    """Return a stage that calls once a second, and its openings with what was lost."""
    least, median = calls
    lost = LostSessions(count, median, least, ages, moments)
    opened = replace(opening(sessions, sessions + count), lost=lost, seconds=seconds)
    return stage(sessions, 9.0, seconds=seconds), opened


def test_a_run_that_lost_no_session_has_no_losses() -> None:
    assert find_losses((*COLD_START, *LADDER, *TOOLS, opening(10, 10))) is None


# A stage without a loss.
LATER = replace(opening(20, 20), seconds=60)


@pytest.mark.parametrize(
    ("cause", "rows"),
    [
        # Half of the calls reach the replica that does not know the session.
        ("replicas", lose(10, 300, (0, 1), (0.1, 9.0), (0.2, 59.8))),
        ("replicas", (*lose(2, 4, (0, 0), (0.1, 2.0), (0.5, 4.0)),)),
        ("deployment", (*lose(10, 10, (29, 30), (30.1, 31.0), (30.0, 30.9)), LATER)),
        # A session that is replaced at 20 s would expire again at 40 s.
        ("deployment", lose(10, 10, (19, 20), (20.1, 21.0), (20.0, 20.9))),
        # One of two replicas is replaced; its sessions are sticky.
        ("deployment", lose(100, 50, (19, 20), (20.1, 21.0), (20.0, 20.9))),
        ("expiry", lose(10, 20, (19, 20), (20.0, 21.0), (20.1, 41.9))),
        (
            "expiry",
            (
                *lose(1, 1, (30, 30), (30.5, 30.5), (30.4, 30.4)),
                *lose(10, 10, (29, 30), (30.1, 31.0), (30.2, 30.9)),
            ),
        ),
        ("moment", lose(10, 10, (39, 40), (40.0, 41.0), (40.1, 40.9))),
        ("unclear", lose(10, 4, (3, 20), (3.1, 41.0), (3.1, 55.0))),
        ("unclear", lose(10, 1, (20, 20), (20.5, 20.5), (20.5, 20.5), seconds=25)),
    ],
)
def test_the_cause_is_named_by_calls_ages_and_moments(cause: Cause, rows: tuple[Row, ...]) -> None:
    losses = find_losses((*rows, opening(5, 5)))
    assert losses is not None
    assert losses.cause == cause


def test_sessions_that_are_lost_while_they_open_look_like_replicas() -> None:
    first = row("cold-start", "frame", "first dispatch", 5, 9.0, failures={"session_lost": 5})
    ladder = opening(10, 4, {"session_lost": 6, "timeout": 1})
    losses = find_losses((first, ladder))
    assert losses is not None
    assert (losses.cause, losses.count, losses.opened) == ("replicas", 11, 20)
    assert (losses.calls, losses.ages_seconds) == (None, None)
