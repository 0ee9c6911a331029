"""Simulated targets with a known edge, and searches for it: ours, and the first that violates."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from loadtest.capacity.search import SearchRange, find_next
from loadtest.results.run import MOST_STRAIN, CapacityStep

Trial = Callable[[int], CapacityStep]


def search(trial: Trial, start: int = 10, most: int = 1000) -> list[CapacityStep]:
    """Return the steps of a search to its end."""
    steps: list[CapacityStep] = []
    while (load := find_next(steps, SearchRange(start, most))) is not None:
        steps.append(trial(load))
        assert len(steps) < 60
    return steps


def cap(sessions: int, noise: float = 0.0, seed: int = 0) -> Trial:
    """Return a target that refuses sessions above a number."""
    rng = random.Random(seed)  # noqa: S311

    def trial(load: int) -> CapacityStep:
        if load > sessions:
            return CapacityStep(load, MOST_STRAIN, sessions, "the session cap refuses")
        return CapacityStep(load, 0.5 * math.exp(rng.gauss(0, noise)))

    return trial


def saturate(rate: float, noise: float = 0.0, seed: int = 0) -> Trial:
    """Return a target whose workers serve a rate; its latency grows as in a queue."""
    rng = random.Random(seed)  # noqa: S311

    def trial(load: int) -> CapacityStep:
        busy = load / rate
        slow = min(1 / (1 - busy) if busy < 1 else math.inf, 100) * math.exp(rng.gauss(0, noise))
        lost = max(0.0, 1 - 1 / busy) * 10
        bore = math.floor(rate * math.exp(rng.gauss(0, noise / 5))) if lost > 1 else None
        return CapacityStep(load, max(slow / 40, lost), bore)

    return trial


def slow_down(
    begin: int, noise: float = 0.0, seed: int = 0, *, usual: float = 0.5, by: float = 0.1
) -> Trial:
    """Return a target whose latency grows from a number of sessions on; `usual` is its share."""
    rng = random.Random(seed)  # noqa: S311

    def trial(load: int) -> CapacityStep:
        strain = usual + by * max(0, load - begin)
        return CapacityStep(load, strain * math.exp(rng.gauss(0, noise)))

    return trial


def find_truth(trial: Trial) -> int:
    """Return the most that a target without noise bears."""
    return next(load for load in range(1, 10_000) if not trial(load + 1).is_borne)


def climb(trial: Trial, start: int = 10) -> list[CapacityStep]:
    """Return the steps of the usual search: 10 % more, until the first that violates a limit."""
    steps = [trial(start)]
    while steps[-1].is_borne:
        steps.append(trial(find_higher(steps[-1].load)))
    return steps


def find_last_borne(steps: Sequence[CapacityStep]) -> int:
    """Return what the usual search answers: the last load before the one that violates a limit."""
    return max((step.load for step in steps if step.is_borne), default=0)


def find_higher(load: int) -> int:
    """Return the load of the next step up: 10 % more."""
    return max(load + 1, round(load * 1.1))


# The known ceilings: a session cap, workers that serve a rate, latency that grows from a number of
# sessions on; the last one also with a limit that is near the usual latency.
CEILINGS: Mapping[str, Callable[..., Trial]] = {
    "cap of 40": partial(cap, 40),
    "workers for 25/s": partial(saturate, 25),
    "latency from 60": partial(slow_down, 60),
    "latency from 60, tight limit": partial(slow_down, 60, usual=0.8, by=0.05),
}
