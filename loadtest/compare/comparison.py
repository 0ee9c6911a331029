"""Compare a run with the runs before it: each figure gets a status, such as worse or confirmed."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from loadtest.compare.baselines import find_peers
from loadtest.compare.changes import Change, Status
from loadtest.compare.findings import Finding, find_findings
from loadtest.compare.knee import MIN_SAMPLES
from loadtest.compare.regressions import Regression, find_regressions
from loadtest.compare.series import (
    LEAST_MS,
    Series,
    build_series,
    is_better,
    is_measured,
    is_worse,
    orient,
)
from loadtest.results.history import (
    CONTROL,
    Cell,
    Entry,
    Figure,
    ReplyFigure,
    read_figures,
    read_reply_figures,
)
from loadtest.results.run import SCENARIOS, Replies, Row

# A figure that is worse than in the previous run by more than this is bold, even if it is noise.
WORSE_SHARE = 0.25
# A regression is gone when the figure improves by more than this.
GONE_SHARE = 0.1
# Sizes of replies that differ by less are the same.
LEAST_BYTES = 100
# The failures of two runs differ if their shares differ by this many standard errors.
WORSE_ERRORS = 3.0


@dataclass(frozen=True)
class Baseline:
    """What one scenario is compared with: a run, or the reason why there is none.

    `note` names what differs in a run that is compared all the same, through the control.
    """

    scenario: str
    previous: Entry | None
    reason: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Comparison:
    """The result of comparing a run with earlier runs; only `confirmed` alerts.

    `gone` are the figures whose regression was in the previous run and is not in this one.
    """

    baselines: tuple[Baseline, ...] = ()
    changes: Mapping[Cell, Change] = field(default_factory=dict)
    gone: frozenset[Cell] = frozenset()

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """Return what moved, the worst first: figures with one cause are one finding."""
        return find_findings(self.changes)

    @property
    def confirmed(self) -> frozenset[Cell]:
        """Return the cells whose regression is confirmed, accepted or not."""
        return self._pick("confirmed", "accepted")

    @property
    def suspected(self) -> frozenset[Cell]:
        """Return the cells whose regression is suspected, and not contradicted by a repeat."""
        return frozenset(
            cell
            for cell in self._pick("suspected")
            if not ((found := self.changes[cell].regression) and found.is_contradicted)
        )

    @property
    def remeasure(self) -> dict[str, tuple[str, ...]]:
        """Return what to measure again at once: scenarios, with the stages of the ladder.

        No stages: the whole scenario.
        """
        found: dict[str, tuple[str, ...]] = {}
        for cell, change in self.changes.items():
            if change.regression is not None and change.regression.is_open:
                stages = (cell.name,) if cell.scenario == "sessions" else ()
                before = found.get(cell.scenario, ())
                found[cell.scenario] = tuple(dict.fromkeys((*before, *stages)))
        return found

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
    """Compare a run with earlier runs, oldest first; only comparable ones among them are used.

    All changes are since one run: the previous one, or the last one before an open regression.
    """
    scenarios = [*_find_scenarios(entry, tuple(earlier))]
    judged = [each for scenario in scenarios for each in scenario.build_series(entry)]
    regressions = {
        each.cell: regression
        for each, regression in find_regressions(
            [each for each in judged if each.cell.kind != CONTROL],
            [each for each in judged if each.cell.kind == CONTROL and each.cell.figure == "p50"],
            _read_repeats(entry),
        )
    }
    series = {each.cell: each for each in judged}
    regressed = _find_regressed(series.values(), regressions)
    comparison = _apply_rule(entry, scenarios, regressed)
    changes = dict(comparison.changes)
    for cell, change in comparison.changes.items():
        if cell in regressions:
            status: Status = "confirmed" if regressions[cell].evidence else "suspected"
            changes[cell] = replace(change, status=status, regression=regressions[cell])
        elif change.status == "better" and not _is_better_than_usual(series.get(cell)):
            changes[cell] = replace(change, status="same")
    gone = frozenset(
        each.cell for each in judged if each.cell not in regressions and _is_back(each)
    )
    return replace(comparison, changes=changes, gone=gone)


def compare_pair(before: Entry, after: Entry) -> Comparison:
    """Compare two runs by WORSE_SHARE alone, in the order given, whichever came first."""
    if before.run.environment != after.run.environment:
        reason = f"environment {after.run.environment}, was {before.run.environment}"
        names = [result.name for result in after.run.scenarios]
        return Comparison(tuple(Baseline(name, None, reason) for name in names))
    run = replace(before.run, started=after.run.started)
    earlier = (replace(before, run=run, confirmed=frozenset()),)
    return _apply_rule(after, [*_find_scenarios(after, earlier)], frozenset())


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


@dataclass(frozen=True)
class _Scenario:
    """One scenario of a run, its rows, and the runs that it is compared with, oldest first."""

    name: str
    rows: Mapping[tuple[str, str], Row]
    peers: tuple[Entry, ...]
    reason: str | None
    note: str | None

    def build_series(self, entry: Entry) -> Iterator[Series]:
        """Yield the figures with enough calls over the comparable runs."""
        peers = [(peer, _index(peer, self.name)) for peer in self.peers]
        for cell, value in self.list_figures(entry):
            row = self.rows[cell.kind, cell.name]
            if peers and is_measured(row, cell.figure):
                yield build_series(cell, value, row.count, peers)

    def list_figures(self, entry: Entry) -> list[tuple[Cell, float]]:
        """Return the figures of the scenario."""
        figures = entry.figures.items()
        return [(cell, value) for cell, value in figures if cell.scenario == self.name]


def _find_scenarios(entry: Entry, earlier: Sequence[Entry]) -> Iterator[_Scenario]:
    for name in SCENARIOS:
        rows = _index(entry, name)
        if rows or any(result.name == name for result in entry.run.scenarios):
            yield _Scenario(name, rows, *find_peers(entry, earlier, name))


def _read_repeats(entry: Entry) -> dict[Cell, list[float]]:
    """Return the values of each figure that was measured again, in order."""
    found: dict[Cell, list[float]] = {}
    for row in (row for rows in entry.repeats for row in rows):
        for cell, value in read_figures(row).items():
            if is_measured(row, cell.figure):
                found.setdefault(cell, []).append(value)
    return found


def _find_regressed(
    series: Iterable[Series], regressions: Mapping[Cell, Regression]
) -> frozenset[str]:
    """Return the ids of the earlier runs that have a regression which this run still has."""
    regressed: set[str] = set()
    for each in series:
        regression = regressions.get(each.cell)
        if regression is None or regression.evidence is None:
            continue
        begin = len(each.entries) + 1 - regression.runs
        for place, entry in enumerate(each.entries):
            if place >= begin or not each.usable[place]:
                regressed.add(entry.run.run_id)
    return frozenset(regressed)


def _apply_rule(
    entry: Entry, scenarios: Iterable[_Scenario], regressed: frozenset[str]
) -> Comparison:
    """Compare a run by WORSE_SHARE alone with the last run that has no open regression."""
    baselines = []
    changes: dict[Cell, Change] = {}
    for scenario in scenarios:
        sound = tuple(each for each in scenario.peers if each.run.run_id not in regressed)
        peer = next(reversed(sound or scenario.peers), None)
        baselines.append(Baseline(scenario.name, peer, scenario.reason, scenario.note))
        before = _index(peer, scenario.name) if peer else {}
        for cell, value in scenario.list_figures(entry):
            row, earlier = scenario.rows[cell.kind, cell.name], before.get((cell.kind, cell.name))
            if peer is None:
                changes[cell] = Change(value, "incomparable")
            elif earlier is None or cell not in peer.figures:
                changes[cell] = Change(value, "new")
            else:
                status = _find_status(cell.figure, peer.figures[cell], value, earlier, row)
                changes[cell] = _build_change(cell.figure, value, peer.figures[cell], status)
    return Comparison(tuple(baselines), changes)


def _is_better_than_usual(series: Series | None) -> bool:
    usual = series.find_usual() if series else None
    if series is None or usual is None or not usual.values:
        return True
    return is_better(series.cell.figure, usual.value, series.value, WORSE_SHARE)


def _is_back(series: Series) -> bool:
    """Return whether the previous run had a regression that this run does not have."""
    return series.is_regressed() and is_better(
        series.cell.figure, series.values[-1], series.value, GONE_SHARE
    )


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


def _build_change(figure: Figure, value: float, before: float, status: Status) -> Change:
    if figure == "failed":
        return Change(value, status, before, None, (value - before) * 100)
    return Change(value, status, before, orient(figure, before, value))


def _index(entry: Entry, scenario: str) -> dict[tuple[str, str], Row]:
    return {(row.kind, row.name): row for row in entry.rows if row.scenario == scenario}
