"""Compare a run with the runs before it: each figure gets a status, such as worse or confirmed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from loadtest.compare.baselines import find_peers
from loadtest.compare.knee import MIN_SAMPLES
from loadtest.compare.regressions import (
    LEAST_MS,
    Peers,
    Regression,
    Series,
    build_series,
    find_baselines,
    find_regressions,
    is_better,
    is_measured,
    is_worse,
    orient,
)
from loadtest.results.history import Cell, Entry, Figure, ReplyFigure, read_reply_figures
from loadtest.results.run import SCENARIOS, Replies, Row

# A figure that is worse than in the previous run by more than this is bold, even if it is noise.
WORSE_SHARE = 0.25
# A regression is gone when the figure improves by more than this.
GONE_SHARE = 0.1
# Sizes of replies that differ by less are the same.
LEAST_BYTES = 100
# The failures of two runs differ if their shares differ by this many standard errors.
WORSE_ERRORS = 3.0

# same: changed by no more than WORSE_SHARE. better, worse: changed by more; better also means
# better than usual. suspected: outside the spread of the last runs, but not yet for long enough.
# confirmed: a regression. accepted: a confirmed regression that somebody made the new baseline.
# thin: too few calls to know. new: no baseline has this figure.
# incomparable: the scenario has no baseline; its `reason` tells why.
Status = Literal[
    "same",
    "better",
    "worse",
    "suspected",
    "confirmed",
    "accepted",
    "thin",
    "new",
    "incomparable",
]
# The statuses of a regression, the worst first.
REGRESSED: tuple[Status, ...] = ("confirmed", "suspected", "accepted")
BOLD: tuple[Status | None, ...] = ("confirmed", "suspected", "worse")


@dataclass(frozen=True)
class Change:
    """How one figure changed since the previous comparable run.

    `ratio` is oriented: above 1 is worse. For failure shares it is None, and `points` is the change
    in percentage points. If one of the values is zero, `ratio` is None. `before` is None
    if there is nothing to compare. A regression is compared with the usual level before it, the
    median of the last baselines; `regression` tells since when, and what confirms it.
    """

    value: float
    status: Status
    before: float | None = None
    ratio: float | None = None
    points: float | None = None
    regression: Regression | None = None


@dataclass(frozen=True)
class Baseline:
    """What one scenario is compared with: a run, or the reason why there is none."""

    scenario: str
    previous: Entry | None
    reason: str | None = None


@dataclass(frozen=True)
class Comparison:
    """The result of comparing a run with earlier runs; only `confirmed` alerts.

    `gone` are the figures whose regression was in the previous run and is not in this one.
    """

    baselines: tuple[Baseline, ...] = ()
    changes: Mapping[Cell, Change] = field(default_factory=dict)
    gone: frozenset[Cell] = frozenset()

    @property
    def confirmed(self) -> frozenset[Cell]:
        """Return the cells whose regression is confirmed, accepted or not."""
        return self._pick("confirmed", "accepted")

    @property
    def suspected(self) -> frozenset[Cell]:
        """Return the cells whose regression is suspected."""
        return self._pick("suspected")

    def accept(self, confirmed: frozenset[Cell]) -> "Comparison":
        """Return the comparison with these regressions, and those it found itself, accepted."""
        cells = self.confirmed | confirmed
        changes = {
            cell: replace(change, status="accepted") if cell in cells else change
            for cell, change in self.changes.items()
        }
        return replace(self, changes=changes)

    def _pick(self, *statuses: Status) -> frozenset[Cell]:
        return frozenset(cell for cell, change in self.changes.items() if change.status in statuses)


def compare_run(entry: Entry, earlier: Iterable[Entry]) -> Comparison:
    """Compare a run with earlier runs, oldest first; only comparable ones among them are used."""
    comparison, series = _compare(entry, tuple(earlier))
    changes = dict(comparison.changes)
    regressions = {each.cell: regression for each, regression in find_regressions(series)}
    gone = set()
    for each in series:
        cell, regression = each.cell, regressions.get(each.cell)
        status = changes[cell].status
        if regression is not None:
            changes[cell] = _build_regression(cell.figure, each.value, regression)
        elif status == "better" and not _is_better_than_usual(each):
            changes[cell] = replace(changes[cell], status="same")
        if regression is None and _is_back(each):
            gone.add(cell)
    return replace(comparison, changes=changes, gone=frozenset(gone))


def compare_pair(before: Entry, after: Entry) -> Comparison:
    """Compare two runs by WORSE_SHARE alone, in the order given, whichever came first."""
    if before.run.environment != after.run.environment:
        reason = f"environment {after.run.environment}, was {before.run.environment}"
        return Comparison(tuple(Baseline(scenario, None, reason) for scenario in SCENARIOS))
    run = replace(before.run, started=after.run.started)
    comparison, _ = _compare(after, [replace(before, run=run, confirmed=frozenset())])
    return comparison


def compare_replies(before: Replies | None, after: Replies) -> dict[ReplyFigure, Change]:
    """Compare replies by WORSE_SHARE alone: they explain latencies, and never alert.

    A maximum is one reply, so it is never worse. Upper bounds of a silence are not compared.
    """
    values = read_reply_figures(after)
    if before is None:
        return {figure: Change(value, "incomparable") for figure, value in values.items()}
    earlier = read_reply_figures(before)
    changes = {
        figure: Change(
            value,
            _find_reply_status(figure, earlier[figure], value, min(before.count, after.count)),
            earlier[figure],
            orient("p50", earlier[figure], value),
        )
        for figure, value in values.items()
    }
    if before.silence is None or after.silence is None:
        changes["longest silence"] = Change(values["longest silence"], "incomparable")
    return changes


def _find_reply_status(figure: ReplyFigure, before: float, value: float, count: int) -> Status:
    least = LEAST_BYTES if figure.startswith("bytes") else LEAST_MS
    if not figure.endswith(("p50", "p95")) or abs(value - before) < least:
        return "same"
    if count < MIN_SAMPLES["p95" if figure.endswith("p95") else "p50"]:
        return "thin"
    if value > before * (1 + WORSE_SHARE):
        return "worse"
    return "better" if before > value * (1 + WORSE_SHARE) else "same"


def _compare(entry: Entry, earlier: Sequence[Entry]) -> tuple[Comparison, list[Series]]:
    """Compare a run by WORSE_SHARE alone; return also the series to look for regressions in."""
    baselines = []
    changes: dict[Cell, Change] = {}
    series: list[Series] = []
    for scenario in SCENARIOS:
        cells = [cell for cell in entry.figures if cell.scenario == scenario]
        if not cells and all(result.name != scenario for result in entry.run.scenarios):
            continue
        found, reason = find_peers(entry, earlier, scenario)
        baselines.append(Baseline(scenario, found[-1] if found else None, reason))
        rows = _index(entry, scenario)
        peers = [(peer, _index(peer, scenario)) for peer in found]
        for cell in cells:
            value, row = entry.figures[cell], rows[cell.kind, cell.name]
            changes[cell] = _apply_rule(cell, value, row, peers)
            if peers and is_measured(row, cell.figure):
                series.append(build_series(cell, value, row.count, peers))
    return Comparison(tuple(baselines), changes), series


def _is_better_than_usual(series: Series) -> bool:
    usual = series.find_usual()
    return not usual.values or is_better(series.cell.figure, usual.value, series.value, WORSE_SHARE)


def _is_back(series: Series) -> bool:
    """Return whether the previous run had a regression that this run does not have."""
    before = series.entries[-1] if series.entries else None
    if before is None or series.cell not in before.confirmed or before.accepted:
        return False
    return is_better(series.cell.figure, series.values[-1], series.value, GONE_SHARE)


def _apply_rule(cell: Cell, value: float, row: Row, peers: Peers) -> Change:
    """Compare a figure with the newest run that is a baseline for it."""
    having = [(entry, rows) for entry, rows in peers if cell in entry.figures]
    usable = find_baselines(cell, [entry for entry, _ in having])
    for (entry, rows), is_baseline in zip(reversed(having), reversed(usable), strict=True):
        if is_baseline:
            before = entry.figures[cell]
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
    if is_worse(figure, before, value, WORSE_SHARE):
        return "worse"
    return "better" if is_better(figure, before, value, WORSE_SHARE) else "same"


def _build_regression(figure: Figure, value: float, regression: Regression) -> Change:
    status: Status = "confirmed" if regression.evidence else "suspected"
    return replace(_build_change(figure, value, regression.before, status), regression=regression)


def _build_change(figure: Figure, value: float, before: float, status: Status) -> Change:
    if figure == "failed":
        return Change(value, status, before, None, (value - before) * 100)
    return Change(value, status, before, orient(figure, before, value))


def _index(entry: Entry, scenario: str) -> dict[tuple[str, str], Row]:
    return {(row.kind, row.name): row for row in entry.rows if row.scenario == scenario}
