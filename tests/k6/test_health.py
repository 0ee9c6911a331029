"""When a run is broken off, and what is known of its generator."""

import os
import time

import pytest

from loadtest.k6.health import ABORT_SECONDS, AbortRule, Vitals
from loadtest.k6.progress import Live
from loadtest.results.run import Generator


def feed(rule: AbortRule, failures_per_second: float, **reasons: float) -> list[str]:
    """Tell a rule of 60 s with ten requests each second; return what it said."""
    said = []
    for second in range(61):
        counted = {reason: int(count * second) for reason, count in reasons.items()}
        live = Live(10 * second, int(failures_per_second * second), None, counted)
        fault = rule.find_reason(live, float(second))
        if fault is not None:
            said.append(f"{second}: {fault}")
    return said


def test_more_than_half_failed_for_thirty_seconds_ends_a_run() -> None:
    said = feed(AbortRule(), 6)
    assert said[0] == f"{ABORT_SECONDS:.0f}: 60% of the requests of the last 30 s failed"


@pytest.mark.parametrize("share", [0, 1, 5])
def test_half_or_less_does_not(share: int) -> None:
    assert feed(AbortRule(), share) == []


@pytest.mark.parametrize("reason", ["capacity", "rate_limited", "session_lost"])
def test_refusals_at_a_limit_do_not_count(reason: str) -> None:
    assert feed(AbortRule(), 9, **{reason: 9.0}) == []


def test_a_target_that_fails_late_ends_a_run_and_one_that_recovers_does_not() -> None:
    rule = AbortRule()
    for second in range(100):
        assert rule.find_reason(Live(10 * second, 0, None), float(second)) is None
    verdicts = [
        rule.find_reason(Live(1000 + 10 * second, 10 * second, None), 100.0 + second)
        for second in range(29)
    ]
    assert [second for second, verdict in enumerate(verdicts) if verdict] == list(range(16, 29))
    rule = AbortRule()
    lives = [Live(10 * second, min(100, 10 * second), None) for second in range(60)]
    assert not any(rule.find_reason(live, float(second)) for second, live in enumerate(lives))


def test_without_answers_the_rule_does_not_end_a_run() -> None:
    rule = AbortRule()
    assert [rule.find_reason(Live(7, 7, None), float(second)) for second in (0, 40, 80)] == [
        None
    ] * 3


def test_the_figures_of_a_process_are_read_while_it_runs() -> None:
    vitals = Vitals(os.getpid())
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    vitals.look()
    found = vitals.describe()
    assert found.cpu_share is not None
    assert found.cpu_share > 0
    assert found.peak_memory_mb is not None
    assert found.peak_memory_mb > 10


@pytest.mark.parametrize(
    ("generator", "bound"),
    [
        (Generator(0.5, 100, 20), False),
        (Generator(0.5, 100, None), False),
        (Generator(0.9, 100, None), True),
        (Generator(0.5, 100, 150), True),
    ],
)
def test_a_busy_or_a_late_generator_is_the_bottleneck(generator: Generator, bound: bool) -> None:
    assert generator.is_bottleneck() is bound
