"""What moved, and from one cause: figures that moved together are one finding."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Literal

from loadtest.compare.changes import Change, Status
from loadtest.results.history import CONTROL, FIGURES, Cell, is_aggregate

Scope = Literal["everything", "scenario", "stages", "row", "failures"]

# What a report counts, the worst first.
MOVED: tuple[Status, ...] = ("confirmed", "suspected", "accepted", "better")


@dataclass(frozen=True)
class Finding:
    """Figures that moved together: `cells`, and the one of them that stands for all, `lead`.

    `scope` tells what they have in common: `everything` that was measured, a whole `scenario`,
    neighbouring `stages` of the ladder, one `row` (a tool with what follows from it), or the
    `failures` of whatever rows. `follows` are the figures of the sum of all tools that follow from
    a tool. `change` is that of the lead. `factors` are the smallest and the largest change of the
    latencies and rates among `cells`, oriented: above 1 is worse; None if there are none.
    """

    status: Status
    scope: Scope
    scenario: str | None
    lead: Cell
    cells: tuple[Cell, ...]
    change: Change
    factors: tuple[float, float] | None = None
    follows: tuple[Cell, ...] = ()


def find_findings(changes: Mapping[Cell, Change]) -> tuple[Finding, ...]:
    """Return what moved, the worst first; a figure is in one finding at most."""
    moved = {
        cell: change
        for cell, change in changes.items()
        if change.status in MOVED and cell.kind != CONTROL
    }
    found = [
        _build(group, scope, changes)
        for is_better in (False, True)
        for scope, group in _group(
            [cell for cell in moved if (moved[cell].status == "better") == is_better], changes
        )
    ]
    return tuple(sorted(found, key=_rank))


def _rank(finding: Finding) -> tuple[int, float]:
    low, high = finding.factors or (1.0, 1.0)
    return MOVED.index(finding.status), -max(high, 1 / low)


def _group(
    cells: Sequence[Cell], changes: Mapping[Cell, Change]
) -> Iterator[tuple[Scope, list[Cell]]]:
    """Yield the cells of one direction in groups with one cause each."""
    failures = [cell for cell in cells if cell.figure == "failed"]
    if failures:
        yield "failures", failures
    rest = [cell for cell in cells if cell.figure != "failed"]
    common = [cell for cell in rest if _is_common(changes[cell])]
    if common:
        yield "everything", common
    rest = [cell for cell in rest if not _is_common(changes[cell])]
    if _covers(rest, [cell for cell in changes if _is_latency(cell)]) and len(_scenarios(rest)) > 1:
        yield "everything", rest
        return
    for scenario in _scenarios(rest):
        yield from _group_scenario([cell for cell in rest if cell.scenario == scenario], changes)


def _group_scenario(
    cells: Sequence[Cell], changes: Mapping[Cell, Change]
) -> Iterator[tuple[Scope, list[Cell]]]:
    """Yield the cells of one scenario in groups: all rows, neighbouring stages, or a row each."""
    scenario = cells[0].scenario
    latencies = [cell for cell in changes if cell.scenario == scenario and _is_latency(cell)]
    if len({cell[:3] for cell in latencies}) > 1 and _covers(cells, latencies):
        yield "scenario", list(cells)
        return
    if scenario == "sessions":
        names = sorted({cell.name for cell in latencies}, key=_order)
        for stages in _find_neighbours(names, {cell.name for cell in cells}):
            found = [cell for cell in cells if cell.name in stages]
            yield ("stages" if len(stages) > 1 else "row"), found
        return
    rows: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        rows.setdefault(cell[:3], []).append(cell)
    sums = [cell for cell in cells if is_aggregate(cell)]
    # The sum of all tools follows from its parts.
    sums = rows.pop(sums[0][:3]) if sums and len(rows) > 1 else []
    groups = sorted(rows.values(), key=lambda group: -_find_extreme(group, changes))
    groups[0] += sums
    for group in groups:
        yield "row", group


def _covers(cells: Iterable[Cell], latencies: Iterable[Cell]) -> bool:
    """Return whether every row with latencies is among the cells."""
    rows = {cell[:3] for cell in cells}
    return bool(rows) and rows >= {cell[:3] for cell in latencies}


def _find_neighbours(names: Sequence[str], wanted: set[str]) -> Iterator[list[str]]:
    """Yield the runs of neighbours among the names that are wanted."""
    run: list[str] = []
    for name in names:
        if name in wanted:
            run.append(name)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _build(cells: Sequence[Cell], scope: Scope, changes: Mapping[Cell, Change]) -> Finding:
    status = min((changes[cell].status for cell in cells), key=MOVED.index)
    worst = [cell for cell in cells if changes[cell].status == status]
    lead = _find_lead(worst, changes)
    scenarios = _scenarios(cells)
    ratios = [ratio for cell in cells if (ratio := changes[cell].ratio) is not None]
    follows = tuple(
        cell for cell in cells if scope == "row" and is_aggregate(cell) and not is_aggregate(lead)
    )
    return Finding(
        status,
        scope,
        scenarios[0] if len(scenarios) == 1 else None,
        lead,
        (lead, *(cell for cell in cells if cell != lead and cell not in follows)),
        changes[lead],
        (min(ratios), max(ratios)) if ratios else None,
        follows,
    )


def _find_lead(cells: Sequence[Cell], changes: Mapping[Cell, Change]) -> Cell:
    """Return the figure that stands for all: the first one that moved, of the middling row."""
    named = [cell for cell in cells if not is_aggregate(cell)] or list(cells)
    figure = min((cell.figure for cell in named), key=FIGURES.index)
    alike = [cell for cell in named if cell.figure == figure]
    if figure == "failed":
        return max(alike, key=lambda cell: abs(changes[cell].points or 0.0))
    ratios = {cell: changes[cell].ratio or 1.0 for cell in alike}
    middle = median_low(ratios.values())
    return next(cell for cell in alike if ratios[cell] == middle)


def _find_extreme(cells: Iterable[Cell], changes: Mapping[Cell, Change]) -> float:
    """Return how many times the latencies and rates changed at most, in either direction."""
    ratios = [changes[cell].ratio or 1.0 for cell in cells]
    return max(max(ratio, 1 / ratio) for ratio in ratios)


def _is_common(change: Change) -> bool:
    return change.regression is not None and change.regression.is_common


def _is_latency(cell: Cell) -> bool:
    return cell.figure == "p50" and cell.kind != CONTROL


def _scenarios(cells: Iterable[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.scenario for cell in cells))


def _order(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() else (0, name)
