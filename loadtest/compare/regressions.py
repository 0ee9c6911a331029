"""Distinguish a regression from noise: how far a figure is from those of comparable runs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median, median_low
from typing import Literal

from loadtest.compare.series import (
    COMMON,
    USUAL_RUNS,
    Series,
    Usual,
    estimate_spreads,
    find_height,
    find_value,
    is_worse,
    level_out,
)
from loadtest.results.history import Cell, Entry, Figure

# A drift is compared with this many baselines, so that it does not hide among them.
DRIFT_USUAL_RUNS = 50
DRIFT_LEAST_USUAL = 4
# The noise of a tail is larger than its spread shows: this many times. What it has had before can
# come again.
TAIL: Mapping[Figure, float] = {"p95": 1.5, "p99": 1.5, "failed": 1.5}
# A drift that is confirmed needs this part of the evidence to stay.
EASE = 2 / 3
# This many repeats must be worse too; one that is not ends the doubt.
LEAST_AGREEING = 2
# The control explains a shift of everything if it moved by at least this share of it.
EXPLAINED_SHARE = 0.5
# Without a control, all figures must be worse by this share: hosts differ by less.
UNCONTROLLED_SHARE = 0.5

Evidence = Literal["repeats", "two runs in a row", "drift"]


@dataclass(frozen=True)
class Rule:
    """How far the last `runs` runs must be above the usual level: by `share` and by `errors`.

    `errors` is a number of standard errors. One or two runs must each be so far above, more runs
    in the median.
    """

    runs: int
    share: float
    errors: float
    evidence: Evidence | None

    @property
    def is_drift(self) -> bool:
        """Return whether the rule looks for a change that is slow or small."""
        return self.evidence == "drift"

    def ease(self) -> "Rule":
        """Return the rule for a drift that is confirmed already: less is enough to stay."""
        return replace(self, share=self.share * EASE, errors=self.errors * EASE)


SUSPICION = Rule(1, 0.15, 2.7, None)
RULES = (
    Rule(2, 0.15, 3.6, "two runs in a row"),
    Rule(4, 0.1, 3.5, "drift"),
    Rule(8, 0.08, 3.8, "drift"),
)


@dataclass(frozen=True)
class Regression:
    """A figure that is worse than usual: confirmed if it has `evidence`, else suspected.

    `before` is the usual level, `after` the level since the run in which it changed; both are
    measured values. `since` is that run, None for the current run. `runs` is the number of runs
    from that run to the current one. `repeats` are the values of the figure when it was measured
    again, `agree` how many of them are worse too. `is_common`: all figures of the run are worse.
    `is_explained`: the control is worse too, so it is the network or a host.
    """

    before: float
    after: float
    since: Entry | None
    runs: int
    evidence: Evidence | None
    repeats: tuple[float, ...] = ()
    agree: int = 0
    is_common: bool = False
    is_explained: bool = False

    @property
    def is_open(self) -> bool:
        """Return whether measuring again can tell more."""
        return self.evidence is None and not self.is_common and not self.is_contradicted

    @property
    def is_contradicted(self) -> bool:
        """Return whether a repeat was as usual."""
        return self.agree < len(self.repeats)


def find_regressions(
    series: Sequence[Series],
    controls: Sequence[Series] = (),
    repeats: Mapping[Cell, Sequence[float]] | None = None,
) -> Iterator[tuple[Series, Regression]]:
    """Yield the figures that are worse than usual, with the evidence.

    One run confirms nothing: the same figure measured again at once does, or the next run, unless
    a repeat has contradicted one of both. Repeats share the hour and the host with their run, so a
    shift of all figures is confirmed by the next run alone, and only if the control has not moved
    as well.
    """
    levelled, common = level_out(series)
    spreads = estimate_spreads(levelled)
    shift = _judge_common(common, controls) if common else None
    shifted = []
    for each, level in zip(series, levelled, strict=True):
        own = _judge(level, spreads[each.cell], tuple((repeats or {}).get(each.cell, ())))
        if own is not None:
            yield each, own
        elif shift is not None and (part := _take_part(each, shift)) is not None:
            shifted.append((each, part))
    latencies = sum(each.cell.figure == "p50" for each in series)
    if 2 * sum(each.cell.figure == "p50" for each, _ in shifted) > latencies:
        yield from shifted


def _judge(series: Series, spread: float, repeats: tuple[float, ...]) -> Regression | None:
    """Return the regression of one figure, without the common shift of its run."""
    agree = _count_agreeing(series, spread, repeats)
    stays = series.is_regressed()
    is_sure = series.was_suspected() and agree == len(repeats)
    for rule in RULES:
        found = _apply(series, spread, rule.ease() if stays and rule.is_drift else rule)
        if found is not None and (rule.is_drift or is_sure):
            return replace(found, repeats=repeats, agree=agree)
    single = _apply(series, spread, SUSPICION)
    if single is None:
        return None
    evidence: Evidence | None = "repeats" if agree >= LEAST_AGREEING else None
    return replace(single, evidence=evidence, repeats=repeats, agree=agree)


def _count_agreeing(series: Series, spread: float, repeats: Sequence[float]) -> int:
    """Return how many repeats are suspicious as well; they have the common shift of their run."""
    usual = series.find_usual()
    if not usual.values:
        return 0
    shift = find_height(series.cell.figure, series.value) - series.heights[-1]
    rises = [find_height(series.cell.figure, each) - shift - usual.height for each in repeats]
    error = usual.widen(spread, 1)
    return sum(_is_above(series.cell, usual, SUSPICION, error, rise) for rise in rises)


def _judge_common(common: Series, controls: Sequence[Series]) -> Regression | None:
    """Return the regression of all figures together.

    Whatever two runs in a row have had before can come again: hosts are fast or slow, and stay.
    """
    spread = estimate_spreads([common])[COMMON]
    for rule in (*RULES, SUSPICION):
        if not controls and rule.evidence:
            rule = replace(rule, share=UNCONTROLLED_SHARE)
        found = _apply(common, spread, rule, has_memory=True)
        if found is not None:
            is_explained = _is_explained(common, controls, rule)
            evidence = None if is_explained else found.evidence
            return replace(found, evidence=evidence, is_common=True, is_explained=is_explained)
    return None


def _is_explained(common: Series, controls: Sequence[Series], rule: Rule) -> bool:
    """Return whether the control moved as well, by its share, in half of the runs."""
    moved: dict[str, list[float]] = {}
    for each in controls:
        usual = each.find_usual(rule.runs - 1)
        if usual.values:
            for run_id, height in zip(each.run_ids, each.heights, strict=True):
                moved.setdefault(run_id, []).append(height - usual.height)
    level = common.find_usual(rule.runs - 1).height
    latest = list(zip(common.run_ids, common.heights, strict=True))[-rule.runs :]
    explained = sum(
        median(moved[run_id]) >= EXPLAINED_SHARE * (height - level)
        for run_id, height in latest
        if run_id in moved
    )
    return 2 * explained >= rule.runs


def _take_part(series: Series, shift: Regression) -> Regression | None:
    """Return a figure's part in a shift of all figures, if it is worse itself."""
    usual = series.find_usual(shift.runs - 1)
    if not usual.values or not is_worse(
        series.cell.figure, usual.value, series.value, SUSPICION.share
    ):
        return None
    begin = max(0, len(series.entries) + 1 - shift.runs)
    after = median_low((*series.values[begin:], series.value))
    return replace(shift, before=usual.value, after=after)


def _apply(
    series: Series, spread: float, rule: Rule, *, has_memory: bool = False
) -> Regression | None:
    """Return the regression that a rule finds. With a memory, runs resemble their neighbours."""
    runs = rule.runs
    usual = series.find_usual(runs - 1, DRIFT_USUAL_RUNS if rule.is_drift else USUAL_RUNS)
    least = DRIFT_LEAST_USUAL if rule.is_drift else 1
    if len(series.values) < runs or len(usual.values) < least:
        return None
    heights = series.heights[-runs:]
    if rule.is_drift or has_memory or series.cell.figure in TAIL:
        window = max(2, runs) if has_memory else runs if rule.is_drift else 1
        margin = math.log1p(rule.share) / 2 if has_memory else 0.0
        if median_low(heights) <= usual.find_ceiling(window) + margin:
            return None
    height = median_low(heights) if rule.is_drift else min(heights)
    rise = height - usual.height
    averaged = runs if rule.is_drift and not has_memory else 1
    has_recovered = heights[-1] - usual.height <= rise / 2
    # If all others got better, a figure that stayed as it was has not become worse.
    value = median((*series.values, series.value)[-runs:])
    has_stayed = not is_worse(series.cell.figure, usual.value, value, rule.share / 2)
    error = usual.widen(spread, averaged)
    if has_recovered or has_stayed or not _is_above(series.cell, usual, rule, error, rise):
        return None
    begin = min(_find_begin(series, usual.height, rise), len(series.values) + 1 - runs)
    return _build_finding(series, begin, usual.value, rule.evidence)


def _is_above(cell: Cell, usual: Usual, rule: Rule, error: float, rise: float) -> bool:
    """Return whether a rise above the usual height is far enough, and its value so much worse."""
    if rise <= rule.errors * TAIL.get(cell.figure, 1.0) * error:
        return False
    value = find_value(cell.figure, find_height(cell.figure, usual.value) + rise)
    return is_worse(cell.figure, usual.value, value, rule.share)


def _build_finding(
    series: Series, begin: int, before: float, evidence: Evidence | None
) -> Regression:
    since = series.entries[begin] if begin < len(series.entries) else None
    after = median_low((*series.values[begin:], series.value))
    return Regression(before, after, since, len(series.entries) + 1 - begin, evidence)


def _find_begin(series: Series, level: float, rise: float) -> int:
    """Return the index of the run in which the level rose, given about how far."""
    begin = _split(series, level, rise)
    return _split(series, level, median(series.heights[begin:]) - level)


def _split(series: Series, level: float, rise: float) -> int:
    """Return the index from which runs are nearer to the risen level than to the one before."""
    begin, most, total = len(series.entries), -math.inf, 0.0
    for place in range(len(series.entries), series.start - 1, -1):
        total += min(max(series.heights[place] - level, 0.0), rise) - rise / 2
        if total > most:
            begin, most = place, total
    return begin
