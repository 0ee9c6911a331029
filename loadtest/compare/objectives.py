"""Whether a run met its objectives, and with what margin."""

from dataclasses import dataclass, replace
from typing import Literal

from loadtest.compare.baselines import find_fault
from loadtest.compare.knee import MIN_SAMPLES, Percentile, find_knee, is_thin, pick_stages
from loadtest.config.objectives import Objective
from loadtest.results.history import Entry, pick_latency
from loadtest.results.run import Capacity, Row

Standing = Literal["met", "missed", "cannot tell"]

# If nothing failed in three times 1 ÷ share calls, the share is lower, at a confidence of 95 %.
RULE_OF_THREE = 3
# A limit of no failures at all needs as many calls as the rarest percentile.
MOST_CALLS_NEEDED = MIN_SAMPLES["p99"]
_PERCENTILES: tuple[Percentile, ...] = ("p50", "p95", "p99")


@dataclass(frozen=True)
class JudgedObjective:
    """One objective of a run: `value` is the figure, None without data.

    `margin` is the part of the limit that is left, negative if the objective is missed; None
    without a value, or for a limit of 0. `reason` says why nothing can be told. `stage` is the
    stage of the ladder that decided.
    """

    objective: Objective
    standing: Standing
    value: float | None = None
    margin: float | None = None
    reason: str | None = None
    stage: Row | None = None


def judge_objectives(entry: Entry) -> tuple[JudgedObjective, ...]:
    """Judge the objectives that were in force for a run.

    A figure of too few calls is never met. It is missed only if more calls could not change that:
    a lower percentile with enough calls is over the limit too, or too many calls have failed
    already. A scenario that did not reach its end, or that says more about a quota or the load
    generator than about the target, tells nothing.
    """
    return tuple(_judge(entry, objective) for objective in entry.run.objectives)


def _judge(entry: Entry, objective: Objective) -> JudgedObjective:
    fault = find_fault(entry, objective.scenario)
    if fault is not None:
        return JudgedObjective(objective, "cannot tell", reason=f"the scenario {fault}")
    if objective.figure == "holds" and objective.kind == "stream":
        return _judge_held_streams(entry, objective)
    if objective.figure == "holds":
        return _judge_holds(entry, objective)
    if objective.kind == "stage":
        return _judge_ladder(entry, objective)
    row = next((row for row in entry.rows if _is_about(row, objective)), None)
    return judge_row(objective, row)


def _is_about(row: Row, objective: Objective) -> bool:
    place = objective.scenario, objective.kind, objective.name
    return (row.scenario, row.kind, row.name) == place


def judge_row(objective: Objective, row: Row | None) -> JudgedObjective:
    """Judge the limit of one figure by the row that it is about; None: it was not measured."""
    if row is None or not row.count:
        return JudgedObjective(objective, "cannot tell", reason="it was not measured")
    if objective.figure == "failed":
        return _judge_failed(objective, row)
    return _judge_latency(objective, row)


def count_needed(share: float) -> int:
    """Return how many calls show that at most this share of them fails."""
    return min(MOST_CALLS_NEEDED, round(RULE_OF_THREE / share) if share else MOST_CALLS_NEEDED)


def _judge_failed(objective: Objective, row: Row) -> JudgedObjective:
    limit, failed = objective.limit, row.count - row.ok
    needed = count_needed(limit)
    share = failed / row.count
    margin = (limit - share) / limit if limit else None
    if failed > limit * max(row.count, needed):
        return JudgedObjective(objective, "missed", share, margin)
    if row.count < needed:
        reason = f"{row.count:,} calls, {needed:,} needed"
        return JudgedObjective(objective, "cannot tell", share, None, reason)
    return JudgedObjective(objective, "met", share, margin)


def _judge_latency(objective: Objective, row: Row) -> JudgedObjective:
    latency = pick_latency(row)
    if latency is None:
        return JudgedObjective(objective, "cannot tell", reason="no call was ok")
    percentile = next(each for each in _PERCENTILES if each == objective.figure)
    value: float = getattr(latency, percentile)
    margin = (objective.limit - value) / objective.limit
    lower = _PERCENTILES[: _PERCENTILES.index(percentile) + 1]
    if any(not is_thin(row, each) and getattr(latency, each) > objective.limit for each in lower):
        return JudgedObjective(objective, "missed", value, margin)
    if is_thin(row, percentile):
        reason = f"{row.ok:,} ok calls, {MIN_SAMPLES[percentile]:,} needed"
        return JudgedObjective(objective, "cannot tell", value, None, reason)
    return JudgedObjective(objective, "met", value, margin)


def _judge_ladder(entry: Entry, objective: Objective) -> JudgedObjective:
    """Judge a limit by the largest stage that the ladder is to hold, else by the largest one."""
    limits = (each.limit for each in entry.run.objectives if each.figure == "holds")
    holds = next(limits, None)
    stages = [
        stage for stage in pick_stages(entry.rows) if holds is None or int(stage.name) <= holds
    ]
    stage = stages[-1] if stages else None
    return replace(judge_row(objective, stage), stage=stage)


def _judge_found(capacity: Capacity, objective: Objective) -> JudgedObjective:
    """Judge what is to be held by what a search found."""
    margin = (capacity.most - objective.limit) / objective.limit
    if margin < 0 and capacity.high is None:
        reason = f"the search ended at {capacity.most:,}: {capacity.stopped}"
        return JudgedObjective(objective, "cannot tell", capacity.most, None, reason)
    standing: Standing = "met" if margin >= 0 else "missed"
    return JudgedObjective(objective, standing, capacity.most, margin)


def _judge_holds(entry: Entry, objective: Objective) -> JudgedObjective:
    if entry.run.capacity is not None:
        return _judge_found(entry.run.capacity, objective)
    knee = find_knee(entry.run, entry.rows)
    stages = pick_stages(entry.rows)
    if knee is None:
        return JudgedObjective(objective, "cannot tell", reason="it was not measured")
    held = int(knee.sustained.name) if knee.sustained else 0
    margin = (held - objective.limit) / objective.limit
    most = int(stages[-1].name)
    if held >= objective.limit:
        if knee.sustained in knee.uncompared:
            reason = f"too few calls at {held:,} to compare its latency"
            return JudgedObjective(objective, "cannot tell", held, None, reason)
        return JudgedObjective(objective, "met", held, margin, stage=knee.sustained)
    if most < objective.limit:
        reason = f"the ladder ended at {most:,}"
        return JudgedObjective(objective, "cannot tell", held, None, reason)
    return JudgedObjective(objective, "missed", held, margin, stage=knee.sustained)


def _judge_held_streams(entry: Entry, objective: Objective) -> JudgedObjective:
    stages = [row for row in entry.rows if (row.scenario, row.kind) == ("streams", "stream")]
    if not any(row.count for row in stages):
        return JudgedObjective(objective, "cannot tell", reason="no stream was asked for")
    held = max(row.held_streams for row in stages)
    most = max(row.count for row in stages)
    if held < objective.limit > most:
        reason = f"the ladder ended at {most:,}"
        return JudgedObjective(objective, "cannot tell", held, None, reason)
    margin = (held - objective.limit) / objective.limit
    return JudgedObjective(objective, "met" if margin >= 0 else "missed", held, margin)
