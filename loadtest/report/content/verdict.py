"""The verdict: the result of a run in a few sentences."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from loadtest.compare.comparison import Comparison
from loadtest.compare.knee import (
    Break,
    Knee,
    count_failed,
    count_refused,
    find_failure_limit,
    find_knee,
    is_rate_limited,
    measure_rate_limited,
    pick_stages,
)
from loadtest.compare.lost_sessions import Cause, Losses, find_losses
from loadtest.report.content.changes import (
    describe_better,
    describe_gone,
    describe_regressions,
    describe_worse,
)
from loadtest.report.content.formatting import (
    NO_DATA,
    add_ms,
    format_cell,
    format_change,
    format_count,
    format_ms,
    format_rate,
    format_share,
)
from loadtest.report.content.wording import (
    clean,
    end_sentence,
    list_results,
    name_calls,
    name_row,
    name_scenario,
    name_units,
)
from loadtest.results.history import FIGURES, Cell, is_aggregate, pick_latency
from loadtest.results.run import (
    CALLED,
    MOST_CPU_SHARE,
    MOST_LATENESS_MS,
    SCENARIOS,
    Outcome,
    Row,
    ScenarioResult,
)
from loadtest.results.run_folder import RunFolder

_ENDINGS: Mapping[Outcome, str] = {
    "aborted": "was aborted",
    "interrupted": "was interrupted",
    "failed": "failed",
}

_EXPLANATIONS: Mapping[Cause, str] = {
    "replicas": ", again and again: replicas without sticky sessions look like this.",
    "deployment": ", all at one moment: a deployment or a restart looks like this.",
    "expiry": ", all at the same age: sessions that expire look like this.",
    "moment": (
        ", all at one moment and at the same age: a deployment, or sessions that expire. A stage "
        "that lasts twice as long shows which."
    ),
    "unclear": ", at different ages and moments.",
}

Level = Literal["good", "warning", "bad"]


@dataclass(frozen=True)
class Verdict:
    """The result of a run in a few sentences, the worst first."""

    level: Level
    text: str


def build_verdict(folder: RunFolder, comparison: Comparison | None = None) -> Verdict:
    """Return the verdict of a run, the worst first."""
    comparison = comparison or Comparison()
    confirmed = describe_regressions(folder, comparison, "confirmed")
    bad = [*_describe_failed(folder), *confirmed]
    warnings = [*_describe_partial(folder), *_describe_crossed(folder)]
    warnings += [*_describe_rate_limited(folder), *_describe_losses(folder)]
    warnings += [*_describe_generator(folder), *_describe_beyond(folder)]
    good: list[str] = []
    knee = find_knee(folder.run, folder.rows)
    if any(result.name == "sessions" for result in folder.run.scenarios):
        holding, sentence = _describe_knee(folder, knee, comparison)
        (good if holding else warnings).append(sentence)
    watched = warnings if _is_worse_overall(knee, comparison) else good
    watched += describe_regressions(folder, comparison, "suspected")
    watched += describe_worse(folder, comparison)
    good += describe_regressions(folder, comparison, "accepted")
    good += [*describe_gone(folder, comparison), *describe_better(folder, comparison)]
    good += _describe_not_ok(folder)
    level: Level = "bad" if bad else "warning" if warnings else "good"
    return Verdict(level, clean(" ".join([*bad, *warnings, *good])))


def _is_worse_overall(knee: Knee | None, comparison: Comparison) -> bool:
    """Return whether the run as a whole is worse, not just one of its many figures."""
    rows = [("tools", "tool", "all")]
    if knee is not None and knee.sustained is not None:
        rows.append((knee.sustained.scenario, knee.sustained.kind, knee.sustained.name))
    changes = (comparison.changes.get(Cell(*row, figure)) for row in rows for figure in FIGURES)
    return any(change and change.status in {"worse", "suspected"} for change in changes)


def _describe_failed(folder: RunFolder) -> Iterator[str]:
    if not folder.run.scenarios:
        yield "No scenario ran."
    for title, result in list_results(folder):
        if result.outcome in {"failed", "aborted"}:
            reason = end_sentence(result.reason or "no reason given")
            yield f"{result.outcome.capitalize()} in {title}: {reason}"


def _describe_partial(folder: RunFolder) -> Iterator[str]:
    cut = [title for title, result in list_results(folder) if result.outcome == "interrupted"]
    missing = [title for title, result in list_results(folder) if result.outcome == "not run"]
    if cut:
        yield f"Interrupted: the numbers of {', '.join(cut)} are partial."
    if missing:
        yield f"Not run: {', '.join(missing)}."
    for title, result in list_results(folder):
        if result.faults and result.outcome != "failed":
            faults = "; ".join(fault.describe() for fault in result.faults)
            yield f"Not every runner did its whole share in {title}: {end_sentence(faults)}"


def _describe_rate_limited(folder: RunFolder) -> Iterator[str]:
    """Yield a sentence that names the scenarios with too many rate-limited calls."""
    shares = [
        f"{format_share(measure_rate_limited(folder.rows, name))} in {name_scenario(name)}"
        for name in SCENARIOS
        if is_rate_limited(folder.rows, name)
    ]
    if shares:
        yield (
            f"The latencies are not valid, because calls were rate limited: {', '.join(shares)}. "
            "Raise the client's quota on the target, then run again."
        )


def _describe_losses(folder: RunFolder) -> Iterator[str]:
    """Yield how long the sessions lived that the server lost, and what that looks like."""
    losses = find_losses(folder.rows)
    if losses is None:
        return
    opened = f"{format_count(losses.count)} of {format_count(losses.opened)} sessions"
    if losses.ages_seconds is None or losses.calls is None:
        lived = "while they opened"
    else:
        lived = f"after {name_calls(round(losses.calls))} (the median) and {_name_ages(losses)}"
    yield f"The server lost {opened} {lived}{_EXPLANATIONS[losses.cause]}"


def _name_ages(losses: Losses) -> str:
    assert losses.ages_seconds is not None
    shortest, longest = (round(age) for age in losses.ages_seconds)
    return f"{longest} s" if shortest == longest else f"{shortest} to {longest} s"


def _describe_generator(folder: RunFolder) -> Iterator[str]:
    for title, result in list_results(folder):
        generator = result.generator
        if generator is None or not generator.is_bottleneck():
            continue
        late = generator.lateness_p95_ms
        faults = []
        if generator.cpu_share is not None and generator.cpu_share > MOST_CPU_SHARE:
            faults.append(f"{format_share(generator.cpu_share)} CPU")
        if late is not None and late > MOST_LATENESS_MS:
            faults.append(f"calls sent late: p95 {add_ms(format_ms(late))}")
        yield (
            f"The load generator was the bottleneck in {title} ({', '.join(faults)}): these "
            "numbers say nothing about the target. Use a larger machine or a smaller profile."
        )


def _describe_beyond(folder: RunFolder) -> Iterator[str]:
    """Yield how many calls took longer than many clients and proxies wait."""
    leaves = _leaves(folder.rows)
    minute, two_minutes = (
        sum(row.beyond.get(name, 0) for row in leaves) for name in ("60_s", "120_s")
    )
    if minute:
        calls = sum(row.count for row in leaves)
        yield (
            f"{_count(minute, calls, 'calls took longer than 60 s')}, when many clients give up, "
            f"and {format_count(two_minutes)} longer than 120 s, when most proxies do."
        )


def _describe_crossed(folder: RunFolder) -> Iterator[str]:
    for title, result in list_results(folder):
        if not _has_crossed(result):
            continue
        if failures := describe_excess(folder, result.name):
            yield f"Too many failures in {title}: {failures}."
        else:
            yield f"Thresholds crossed in {title}: {', '.join(result.crossed) or NO_DATA}."


def describe_excess(folder: RunFolder, scenario: str) -> str:
    """Return how many calls of a scenario failed, if that is over the limit, else an empty text.

    If the scenario as a whole is within the limit, the text is about its worst row.
    """
    leaves = _leaves(folder.rows, scenario)
    limit = find_failure_limit(folder.run)
    failed, calls = _count_failures(leaves)
    where = ""
    if calls and failed <= limit * calls:
        worst = max(
            (row for row in leaves if row.count), key=lambda row: count_failed(row) / row.count
        )
        failed, calls, where = count_failed(worst), worst.count, f" at {name_row(folder, worst)}"
    if failed <= limit * calls:
        return ""
    shares = f"{format_share(failed / calls)}, limit {format_share(limit)}"
    return f"{format_count(failed)} of {name_calls(calls)}{where} ({shares})"


def _has_crossed(result: ScenarioResult) -> bool:
    return result.outcome == "thresholds crossed"


def _describe_knee(
    folder: RunFolder, knee: Knee | None, comparison: Comparison
) -> tuple[bool, str]:
    """Return whether the ladder is good news, and sentences about it."""
    if knee is None:
        return False, "No stage of concurrent sessions was measured."
    held = int(knee.sustained.name) if knee.sustained else 0
    below = [fault for fault in knee.breaks if int(fault.stage.name) < held]
    above = [fault for fault in knee.breaks if int(fault.stage.name) > held]
    sentences = []
    if knee.sustained is None:
        sentences.append("No stage was sustained.")
    else:
        rate = f"{format_rate(knee.sustained.ok_rate)} calls/s"
        cell = Cell(knee.sustained.scenario, knee.sustained.kind, knee.sustained.name, "p95")
        change = format_change("p95", comparison.changes.get(cell))
        figures = ", ".join(filter(None, (rate, _p95(knee.sustained), change)))
        is_top = not above and not below
        is_whole = any(
            result.name == "sessions" and result.outcome in {"ok", "thresholds crossed"}
            for result in folder.run.scenarios
        )
        every = "all " if is_top and is_whole and held > 1 else ""
        most = f", the most that was {'tested' if is_whole else 'measured'}" if is_top else ""
        sentences.append(f"Sustained {every}{name_units(folder, held)} ({figures}){most}.")
    sentences += [_describe_break(folder, fault) for fault in (*below, *above[:1])]
    if knee.uncompared and knee.sustained is not None:
        sentences.append("Too few calls to say whether latency grows with sessions.")
    return knee.sustained is not None and not below, " ".join(sentences)


def _describe_break(folder: RunFolder, fault: Break) -> str:
    smallest = pick_stages(folder.rows)[0]
    stage = fault.stage
    reasons = []
    if fault.unfinished:
        reasons.append(f"the run {_ENDINGS.get(fault.unfinished, 'ended')} in this stage")
    if fault.rejected:
        reasons.append(_count(fault.rejected, fault.attempts, "refused by a full server"))
    if fault.limited:
        reasons.append(_count(fault.limited, stage.count, "rate limited"))
    if fault.failed:
        reasons.append(_count(fault.failed, stage.count, "calls failed"))
    if fault.no_data:
        reasons.append("no call succeeded" if stage.count else NO_DATA)
    if fault.pace is not None:
        reasons.append(
            f"more than half of the calls took longer than the {fault.pace.text} s between two "
            "calls of a session"
        )
    if fault.rate_share is not None:
        reasons.append(
            f"{format_rate(stage.ok_rate)} of {format_rate(stage.offered_rate)} calls/s "
            f"succeeded ({format_share(fault.rate_share)})"
        )
    if fault.slowdown is not None:
        reasons.append(
            f"{_p95(stage)}, {format_rate(fault.slowdown)} times that of "
            f"{name_units(folder, int(smallest.name))}"
        )
    return f"Did not sustain {name_units(folder, int(stage.name))}: {'; '.join(reasons)}."


def _count(part: int, whole: int, what: str) -> str:
    share = format_share(part / whole) if whole else NO_DATA
    return f"{format_count(part)} of {format_count(whole)} {what} ({share})"


def _p95(row: Row) -> str:
    return f"p95 {add_ms(format_cell(row, pick_latency(row), 'p95'))}"


def _leaves(rows: Iterable[Row], scenario: str | None = None) -> list[Row]:
    """Return rows that count each call once, without openings and without a sum beside its parts.

    Frames of a cold start are requests, not calls; they count only if `scenario` names it.
    """
    kinds = {"stage", *CALLED, "frame"} if scenario else {"stage", *CALLED}
    found = [row for row in rows if row.kind in kinds and scenario in {None, row.scenario}]
    parts = [row for row in found if not is_aggregate(row)]
    has_calls = any(row.kind in CALLED for row in parts)
    return parts if has_calls else found


def _count_failures(rows: Sequence[Row]) -> tuple[int, int]:
    """Return how many calls failed, without refusals, and how many there were."""
    return sum(map(count_failed, rows)), sum(row.count for row in rows)


def _describe_not_ok(folder: RunFolder) -> Iterator[str]:
    """Yield how many calls failed, unless another sentence has it, and how many were refused."""
    leaves = _leaves(folder.rows)
    failed, calls = _count_failures(leaves)
    refused = sum(map(count_refused, leaves))
    crossed = {result.name for result in folder.run.scenarios if _has_crossed(result)}
    unnamed, _ = _count_failures([row for row in leaves if row.scenario not in crossed])
    if calls and not failed:
        yield f"None of {name_calls(calls)} failed."
    elif unnamed:
        yield f"{_count(failed, calls, 'calls failed')}."
    if refused:
        yield f"{_count(refused, calls, 'calls were refused by a cap or a quota')}."
