"""The search for the most load that a target bears: which load to try next, and what is known."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from loadtest.results.run import MOST_STRAIN, CapacityStep

MOST_TRIALS = 3
# Between a load that is borne and twice that load: three halvings, and both sides again.
STEPS_BETWEEN = 5
# Both sides of the edge are tried this often.
EDGE_TRIALS = 2
TOLERANCE = 0.1
# More than this is too much by more than chance.
LITTLE_STRAIN = 1.25
# Less strain than this says no more about where the edge is.
LEAST_STRAIN = 0.01


@dataclass(frozen=True)
class SearchRange:
    """Where to search: from `start`, at most `most`, until the edge is known to `tolerance`.

    No load is smaller than `least`, so that each of several runners has a part of it.
    """

    start: int
    most: int
    tolerance: float = TOLERANCE
    least: int = 1


@dataclass(frozen=True)
class Edge:
    """What is known: the highest load that is borne, and the lowest one above it that is not.

    `low` is 0 if no load is borne; `high` is None if no load was too much.
    """

    low: int
    high: int | None


def find_next(steps: Sequence[CapacityStep], span: SearchRange) -> int | None:
    """Return the load to try next; None if the edge is known.

    The load doubles until it is too much, then the range is halved, in ratios. A step that gave way
    but shows how much was borne leads there directly. Both sides of the edge are tried twice, and
    a third time if the answers differ and steps are left: a range takes at most five.
    """
    if not steps:
        return span.start
    trials, edge = _group(steps), find_edge(steps)
    if _count_between(steps, edge) >= STEPS_BETWEEN:
        return edge.high if edge.high and _is_doubtful(trials[edge.high]) else None
    if _is_open(trials[steps[-1].load]):
        return steps[-1].load
    if edge.high is None:
        if edge.low < span.most:
            return min(2 * edge.low, span.most)
        return _confirm(trials, edge)
    if edge.low == 0 and edge.high > span.least:
        bore = _find_bore(trials[edge.high])
        return max(span.least, min(bore or edge.high // 2, edge.high // 2))
    if edge.low == 0:
        return _confirm(trials, edge)
    if edge.high - edge.low <= 1 or edge.high <= edge.low * (1 + span.tolerance):
        return _confirm(trials, edge)
    return _divide(edge.low, edge.high, _find_bore(trials[edge.high]), span.tolerance)


def find_edge(steps: Sequence[CapacityStep]) -> Edge:
    """Return what these steps show, by all trials of each load together."""
    trials = _group(steps)
    too_much = [load for load, found in trials.items() if not _is_borne(found)]
    high = min(too_much, default=None)
    borne = [load for load in trials if _is_borne(trials[load]) and load < (high or math.inf)]
    return Edge(max(borne, default=0), high)


def estimate_most(steps: Sequence[CapacityStep]) -> int:
    """Return the load at which the strain reaches its limit: between both sides of the edge.

    A load that was refused shows only how much was borne.
    """
    trials, edge = _group(steps), find_edge(steps)
    if edge.high is None or edge.low == 0:
        return edge.low
    bore = _find_bore(trials[edge.high])
    below, above = _find_strain(trials[edge.low]), _find_strain(trials[edge.high])
    most = edge.low if bore is None else bore
    if above < math.log(MOST_STRAIN) and above > below:
        share = min(1.0, max(0.0, -below / (above - below)))
        between = edge.low + math.floor((edge.high - edge.low) * share)
        most = between if bore is None else min(between, bore)
    return max(edge.low, min(edge.high - 1, most))


def find_stretch(steps: Sequence[CapacityStep]) -> tuple[int, int | None]:
    """Return the range that the edge is in: wider than the edge if trials of a load differed."""
    trials = _group(steps)
    edge = find_edge(steps)
    always = [load for load in trials if load <= edge.low and all(_list_borne(trials[load]))]
    never = [
        load
        for load in trials
        if edge.high is not None and load >= edge.high and not any(_list_borne(trials[load]))
    ]
    return max(always, default=0), min(never, default=edge.high)


def _count_between(steps: Sequence[CapacityStep], edge: Edge) -> int:
    """Return how many steps were made since a load was borne and a higher one was too much."""
    if edge.low == 0 or edge.high is None:
        return 0
    borne = next(place for place, step in enumerate(steps) if step.is_borne)
    too_much = next(
        place for place, step in enumerate(steps) if not step.is_borne and step.load >= edge.high
    )
    return len(steps) - 1 - max(borne, too_much)


def _group(steps: Sequence[CapacityStep]) -> Mapping[int, Sequence[CapacityStep]]:
    found: dict[int, list[CapacityStep]] = {}
    for step in steps:
        found.setdefault(step.load, []).append(step)
    return found


def _list_borne(trials: Sequence[CapacityStep]) -> Iterator[bool]:
    return (step.is_borne for step in trials)


def _is_borne(trials: Sequence[CapacityStep]) -> bool:
    """Return whether a load was borne in most trials; if as many say no, by their mean strain."""
    borne = sum(_list_borne(trials))
    if 2 * borne != len(trials):
        return 2 * borne > len(trials)
    return _find_strain(trials) <= 0


def _find_strain(trials: Sequence[CapacityStep]) -> float:
    """Return the logarithm of the strain of a load, the mean of its trials."""
    return fmean(math.log(max(step.strain, LEAST_STRAIN)) for step in trials)


def _is_open(trials: Sequence[CapacityStep]) -> bool:
    """Return whether the trials of a load differ, and another one can decide."""
    return len(trials) < MOST_TRIALS and len({step.is_borne for step in trials}) > 1


def _is_doubtful(trials: Sequence[CapacityStep]) -> bool:
    """Return whether a load may have been too much by chance: once, and by little."""
    return len(trials) < EDGE_TRIALS and trials[0].strain < LITTLE_STRAIN


def _confirm(trials: Mapping[int, Sequence[CapacityStep]], edge: Edge) -> int | None:
    """Return the side of the edge that was not tried often enough."""
    sides = [load for load in (edge.high, edge.low) if load]
    return next((load for load in sides if len(trials[load]) < EDGE_TRIALS), None)


def _find_bore(trials: Sequence[CapacityStep]) -> int | None:
    """Return how much a load that was too much has shown to be borne."""
    found = [step.bore for step in trials if step.bore is not None]
    return round(fmean(found)) if found else None


def _divide(low: int, high: int, bore: int | None, tolerance: float) -> int:
    """Return a load between two loads: near what was borne, else in the middle of their ratio."""
    first, last = math.ceil(low * (1 + tolerance)), math.floor(high / (1 + tolerance))
    if bore is not None and bore >= low and first <= last:
        load = min(max(bore, first), last)
    else:
        load = round(math.sqrt(low * high))
    return min(max(load, low + 1), high - 1)
