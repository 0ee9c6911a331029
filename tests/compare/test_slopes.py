"""Slopes: found where there is one, and rarely where there is none, whatever the noise."""

import math
import random
from collections.abc import Sequence

import pytest

from loadtest.compare.slopes import LEAST_POINTS, fit_shares, fit_slope


def make_noise(count: int, likeness: float, seed: int, *, heavy: bool = False) -> list[float]:
    """Return noise of spread 1 whose neighbours correlate by `likeness` (AR(1))."""
    rng = random.Random(seed)  # noqa: S311
    values, last = [], rng.gauss(0, 1)
    for _ in range(count):
        tail = math.sqrt(sum(rng.gauss(0, 1) ** 2 for _ in range(3)) / 3) if heavy else 1.0
        last = likeness * last + math.sqrt(1 - likeness**2) * rng.gauss(0, 1) / tail
        values.append(last)
    return values


def place(values: Sequence[float]) -> list[tuple[float, float]]:
    return [(float(at), value) for at, value in enumerate(values)]


def test_a_straight_line_has_its_slope_without_an_error() -> None:
    slope = fit_slope([(hour, 100 + 12 * hour) for hour in range(6)])
    assert slope is not None
    assert (slope.per_unit, slope.error) == pytest.approx((12, 0))
    assert (slope.start, slope.span, slope.change) == pytest.approx((100, 5, 60))
    assert slope.is_clear


def test_equal_values_have_no_slope() -> None:
    slope = fit_slope(place([7.0] * 10))
    assert slope is not None
    assert slope.per_unit == 0
    assert not slope.is_clear


def test_a_falling_line_is_clear_as_well() -> None:
    slope = fit_slope([(cycle, 40.0 - cycle) for cycle in range(8)])
    assert slope is not None
    assert slope.per_unit == pytest.approx(-1)
    assert slope.is_clear


def test_too_few_places_have_no_slope() -> None:
    assert fit_slope(place([1.0] * (LEAST_POINTS - 1))) is None
    assert fit_slope([(1.0, 1.0)] * 20) is None
    assert fit_slope([]) is None


@pytest.mark.parametrize("likeness", [0.0, 0.6, 0.8])
def test_a_rise_in_noise_is_found_and_lies_within_its_errors(likeness: float) -> None:
    found = 0
    for seed in range(20):
        noise = make_noise(100, likeness, seed)
        slope = fit_slope(place([100 + 0.2 * at + each for at, each in enumerate(noise)]))
        assert slope is not None
        assert abs(slope.per_unit - 0.2) < 4 * slope.error
        found += slope.is_clear
    assert found >= 19


def test_a_stall_is_not_a_slope() -> None:
    values = [100 + each for each in make_noise(60, 0.3, 1)]
    values[52:57] = [5000.0] * 5
    slope = fit_slope(place(values))
    assert slope is not None
    assert not slope.is_clear


@pytest.mark.parametrize(
    ("count", "likeness", "most"),
    [(5, 0.0, 1), (8, 0.3, 3), (30, 0.6, 3), (60, 0.6, 1), (60, 0.9, 5), (100, 0.8, 3)],
)
@pytest.mark.parametrize("heavy", [False, True])
def test_noise_alone_is_rarely_a_clear_slope(
    count: int, likeness: float, most: int, *, heavy: bool
) -> None:
    slopes = [
        fit_slope(place(make_noise(count, likeness, seed, heavy=heavy))) for seed in range(300)
    ]
    assert sum(slope is not None and slope.is_clear for slope in slopes) <= most


def count(shares: Sequence[float], each: int = 50) -> list[tuple[float, int, int]]:
    return [(float(at), round(share * each), each) for at, share in enumerate(shares)]


@pytest.mark.parametrize("begin", [30, 60, 80])
def test_refusals_that_begin_and_stay_are_a_rise(begin: int) -> None:
    slope = fit_shares(count([0.0] * begin + [0.6] * (100 - begin)))
    assert slope is not None
    assert slope.is_clear
    assert 0 < slope.error < slope.per_unit
    assert slope.start == pytest.approx(0, abs=0.11)
    assert slope.change == pytest.approx(0.6, rel=0.4)


def test_a_few_failures_or_one_burst_are_not_a_rise() -> None:
    rng = random.Random(1)  # noqa: S311
    found = 0
    for _ in range(300):
        few = [(float(at), int(rng.random() < 0.4), 50) for at in range(100)]
        burst = rng.randrange(96)
        few[burst : burst + 4] = [(float(at), 50, 50) for at in range(burst, burst + 4)]
        slope = fit_shares(few)
        assert slope is not None
        found += slope.is_clear
    assert found <= 2


def test_failures_that_go_away_are_no_rise() -> None:
    slope = fit_shares(count([0.5] * 40 + [0.0] * 60))
    assert slope is not None
    assert not slope.is_clear
    assert fit_shares(count([0.5] * 19)) is None
