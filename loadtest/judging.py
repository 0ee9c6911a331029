"""Judging a run against the runs before it: worse, confirmed worse, or slowly drifting."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from loadtest.baselines import find_peers
from loadtest.evidence import (
    Evidence,
    Peers,
    Series,
    build_series,
    estimate_spreads,
    find_at_once,
    find_drift,
    find_twice,
    is_measured,
    is_worse,
    level_out,
    orient,
)
from loadtest.history import Cell, Entry, Figure
from loadtest.results import SCENARIOS, Row

# The rule of thumb: what is so much worse than the run before is bold, noise or not.
WORSE_RATIO = 1.25
# Failures of two runs differ when their shares do by so many standard errors.
WORSE_ERRORS = 3.0
# Beside runs that are levelled out, those that are not must show more.
STRICTNESS = 1.15

# same: within the rule. better, worse: beyond it. confirmed: a regression, not noise. thin: too
# few calls to tell. new: no baseline has it. incomparable: the scenario's comparison says why.
Status = Literal["same", "better", "worse", "confirmed", "thin", "new", "incomparable"]


@dataclass(frozen=True)
class Change:
    """How one figure stands against that of the previous comparable run.

    `ratio` is oriented: above 1 is worse. Of failure shares it is None, and `points` is how many
    percentage points more of the calls fail; against a zero both are None. `before` is None where
    there is nothing to compare. A confirmed change is told against the level that was usual before
    it, the median of the last baselines, and `evidence` says what confirms it.
    """

    value: float
    status: Status
    before: float | None = None
    ratio: float | None = None
    points: float | None = None
    evidence: Evidence | None = None


@dataclass(frozen=True)
class Comparison:
    """What one scenario is compared with: a run, or the reason why there is none."""

    scenario: str
    previous: Entry | None
    reason: str | None = None


@dataclass(frozen=True)
class Drift:
    """A figure whose level moved, slowly or at once: from about `before` to about `after`.

    `since` is the first run of the first level above; `ratio` is None of failure shares.
    """

    cell: Cell
    before: float
    after: float
    ratio: float | None
    since: Entry


@dataclass(frozen=True)
class Judgement:
    """All that comparing a run says; `confirmed` alone alerts, and a drift confirms its cell."""

    comparisons: tuple[Comparison, ...] = ()
    changes: Mapping[Cell, Change] = field(default_factory=dict)
    drifts: tuple[Drift, ...] = ()

    @property
    def confirmed(self) -> frozenset[Cell]:
        """Return the cells whose regression is confirmed."""
        return frozenset(
            cell for cell, change in self.changes.items() if change.status == "confirmed"
        )


def judge(entry: Entry, earlier: Iterable[Entry]) -> Judgement:
    """Compare a run with earlier ones, oldest first and of any kind: like is compared with like."""
    earlier = tuple(earlier)
    comparisons = []
    changes: dict[Cell, Change] = {}
    series: list[Series] = []
    for scenario in SCENARIOS:
        cells = [cell for cell in entry.figures if cell.scenario == scenario]
        if not cells and all(result.name != scenario for result in entry.run.scenarios):
            continue
        found, reason = find_peers(entry, earlier, scenario)
        comparisons.append(Comparison(scenario, found[-1] if found else None, reason))
        rows = _index(entry, scenario)
        peers = [(peer, _index(peer, scenario)) for peer in found]
        for cell in cells:
            value, row = entry.figures[cell], rows[cell.kind, cell.name]
            changes[cell] = _apply_rule(cell, value, row, peers)
            if peers and is_measured(row, cell.figure):
                series.append(build_series(cell, value, row.count, peers))
    drifts = _confirm(series, changes)
    return Judgement(tuple(comparisons), changes, drifts)


def compare_pair(before: Entry, after: Entry) -> Judgement:
    """Compare two runs by the rule alone, in the order given; which came first does not matter."""
    if before.run.environment != after.run.environment:
        reason = f"environment {after.run.environment}, was {before.run.environment}"
        return Judgement(tuple(Comparison(scenario, None, reason) for scenario in SCENARIOS))
    run = replace(before.run, started=after.run.started)
    return judge(after, [replace(before, run=run, confirmed=frozenset())])


def _confirm(series: Sequence[Series], changes: dict[Cell, Change]) -> tuple[Drift, ...]:
    """Mark the changes that are confirmed, and return the drifts."""
    levelled = level_out(series)
    plain, fine = estimate_spreads(series), estimate_spreads(levelled)
    drifts = []
    for each, level in zip(series, levelled, strict=True):
        cell, figure = each.cell, each.cell.figure
        views = ((level, fine[cell]), (each, STRICTNESS * plain[cell]))
        moves = [move for view, spread in views if (move := find_drift(view, spread))]
        drifts += [
            Drift(
                cell, move.before, move.after, orient(figure, move.before, move.after), move.since
            )
            for move in moves[:1]
        ]
        found: list[tuple[float | None, Evidence]] = [
            (find_at_once(level, fine[cell]), "at once"),
            *((find_twice(view, spread), "twice in a row") for view, spread in views),
            *((move.before, "drift") for move in moves),
        ]
        for before, evidence in found:
            if before is not None:
                changes[cell] = _build_change(figure, each.value, before, "confirmed", evidence)
                break
    return tuple(drifts)


def _apply_rule(cell: Cell, value: float, row: Row, peers: Peers) -> Change:
    """Compare a figure with that of the newest run that is a baseline for it."""
    for entry, rows in reversed(peers):
        before = entry.figures.get(cell)
        if before is not None and (entry.accepted or cell not in entry.confirmed):
            status = _find_status(cell.figure, before, value, rows[cell.kind, cell.name], row)
            return _build_change(cell.figure, value, before, status)
    return Change(value, "new" if peers else "incomparable")


def _find_status(figure: Figure, before: float, value: float, earlier: Row, row: Row) -> Status:
    if not (is_measured(earlier, figure) and is_measured(row, figure)):
        return "thin"
    if figure == "failed":
        share = (earlier.count - earlier.ok + row.count - row.ok) / (earlier.count + row.count)
        error = math.sqrt(max(0.0, share * (1 - share)) * (1 / earlier.count + 1 / row.count))
        if abs(value - before) <= WORSE_ERRORS * error:
            return "same"
    if is_worse(figure, before, value, WORSE_RATIO):
        return "worse"
    return "better" if is_worse(figure, value, before, WORSE_RATIO) else "same"


def _build_change(
    figure: Figure, value: float, before: float, status: Status, evidence: Evidence | None = None
) -> Change:
    if figure == "failed":
        return Change(value, status, before, None, (value - before) * 100, evidence)
    return Change(value, status, before, orient(figure, before, value), None, evidence)


def _index(entry: Entry, scenario: str) -> dict[tuple[str, str], Row]:
    return {(row.kind, row.name): row for row in entry.rows if row.scenario == scenario}
