"""The search for the capacity, on simulated targets with a known edge."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.capacity.search import (
    Edge,
    SearchRange,
    estimate_most,
    find_edge,
    find_next,
    find_stretch,
)
from loadtest.results.run import MOST_STRAIN, CapacityStep
from tests.capacity.simulated import CEILINGS, cap, find_truth, search

MOST_STEPS = 9
SEARCHES = 100


TARGETS = list(CEILINGS)[:3]


@pytest.mark.parametrize("name", TARGETS)
def test_a_known_ceiling_is_found_within_a_tenth_in_nine_steps(name: str) -> None:
    steps = search(CEILINGS[name]())
    assert len(steps) <= MOST_STEPS
    truth = find_truth(CEILINGS[name]())
    assert abs(estimate_most(steps) / truth - 1) <= 0.1
    low, high = find_stretch(steps)
    assert low <= truth < (high or math.inf)


@pytest.mark.parametrize("name", TARGETS)
def test_with_noise_of_a_tenth_a_ceiling_is_found_in_95_of_100_searches(name: str) -> None:
    truth = find_truth(CEILINGS[name]())
    found = 0
    for seed in range(SEARCHES):
        steps = search(CEILINGS[name](0.1, seed))
        is_near = abs(estimate_most(steps) / truth - 1) <= 0.1
        found += is_near and len(steps) <= MOST_STEPS
    assert found >= 95


def test_both_sides_of_the_edge_are_tried_twice() -> None:
    loads = [step.load for step in search(cap(40))]
    assert loads == [10, 20, 40, 80, 44, 44, 40]


def test_one_bad_step_does_not_decide() -> None:
    seen = list[int]()
    sound = cap(40)

    def trial(load: int) -> CapacityStep:
        seen.append(load)
        is_first = seen.count(20) == 1 and load == 20
        return CapacityStep(load, 1.2) if is_first else sound(load)

    assert estimate_most(search(trial)) == 40


@given(ceiling=st.integers(1, 5000), start=st.integers(1, 500))
def test_any_cap_is_found_from_any_start(ceiling: int, start: int) -> None:
    steps = search(cap(ceiling), start, 100_000)
    assert estimate_most(steps) == ceiling
    edge = find_edge(steps)
    assert edge.low <= ceiling < (edge.high or 0)
    assert (edge.high or 0) - edge.low <= max(1, 0.1 * edge.low) or len(steps) > MOST_STEPS


def test_a_target_that_bears_nothing_is_tried_down_to_one() -> None:
    steps = search(lambda load: CapacityStep(load, MOST_STRAIN, None, "refused"))
    assert [step.load for step in steps] == [10, 5, 2, 1, 1]
    assert (find_edge(steps), estimate_most(steps)) == (Edge(0, 1), 0)


def test_no_load_is_smaller_than_the_number_of_runners() -> None:
    steps: list[CapacityStep] = []
    while (load := find_next(steps, SearchRange(10, 100, least=4))) is not None:
        steps.append(CapacityStep(load, MOST_STRAIN, None, "refused"))
    assert [step.load for step in steps] == [10, 5, 4, 4]


def test_a_search_ends_at_the_most_that_is_allowed() -> None:
    steps = search(cap(500), most=50)
    assert [step.load for step in steps] == [10, 20, 40, 50, 50]
    assert find_edge(steps) == Edge(50, None)
    assert (estimate_most(steps), find_stretch(steps)) == (50, (50, None))


def test_trials_that_differ_make_the_stretch_wider_than_the_edge() -> None:
    steps = [
        CapacityStep(10, 0.5),
        CapacityStep(20, 0.9),
        CapacityStep(20, 1.1),
        CapacityStep(20, 0.9),
        CapacityStep(22, 1.2),
        CapacityStep(40, 3.0),
    ]
    assert find_edge(steps) == Edge(20, 22)
    assert find_stretch(steps) == (10, 22)
    contested = [CapacityStep(10, 0.5), *(CapacityStep(20, each) for each in (1.2, 0.9, 1.2))]
    assert find_stretch(contested) == (10, 20)
