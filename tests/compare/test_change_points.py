"""Levels in a series of numbers: where they change, and how much is noise."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.compare.change_points import find_change_points, find_spread


def draw(*levels: tuple[int, float], seed: int = 1) -> list[float]:
    """Return so many values around each level, in turn, with a standard deviation of 1."""
    rng = random.Random(seed)  # noqa: S311
    return [rng.gauss(level, 1.0) for runs, level in levels for _ in range(runs)]


def test_levels_are_separated_at_the_run_where_they_change() -> None:
    values = draw((30, 0.0), (20, 6.0), (30, -3.0))
    assert find_change_points(values, 1.0) == (0, 30, 50)


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_one_level(seed: int) -> None:
    assert find_change_points(draw((200, 0.0), seed=seed), 1.0) == (0,)


def test_one_outlier_is_not_a_level() -> None:
    values = draw((40, 0.0))
    values[20] = 1000.0
    values[-1] = 1000.0
    assert find_change_points(values, 1.0) == (0,)


def test_the_spread_does_not_grow_by_a_change_of_level_or_an_outlier() -> None:
    values = draw((40, 0.0), (40, 50.0))
    values[60] = 1000.0
    found = find_spread(values, values[-20:])
    assert found == pytest.approx(1.0, rel=0.35)


def test_three_values_have_no_spread() -> None:
    assert find_spread([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) is None


@given(st.lists(st.floats(-1e6, 1e6)), st.floats(0.001, 1e3))
def test_change_points_are_places_in_the_series_and_levels_not_too_short(
    values: list[float], spread: float
) -> None:
    starts = find_change_points(values, spread)
    assert starts[0] == 0
    ends = (*starts[1:], len(values))
    if len(starts) > 1:
        assert min(end - begin for begin, end in zip(starts, ends, strict=True)) >= 4
