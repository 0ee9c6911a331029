"""The verdict: the result of a run in a headline and a few sentences."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from loadtest.common.command_name import spell
from loadtest.compare.comparison import Comparison
from loadtest.compare.findings import Finding
from loadtest.compare.knee import (
    Break,
    Knee,
    find_knee,
    is_rate_limited,
    measure_rate_limited,
    pick_stages,
)
from loadtest.compare.lost_sessions import Cause, Losses, find_losses
from loadtest.compare.objectives import JudgedObjective, judge_objectives
from loadtest.report.content.capacity import describe_capacity, name_capacity
from loadtest.report.content.changes import describe_gone, describe_worse
from loadtest.report.content.failures import (
    count_part,
    describe_excess,
    describe_not_ok,
    has_crossed,
    list_leaves,
)
from loadtest.report.content.findings import (
    count_unchanged,
    list_compared,
    list_counts,
    name_finding,
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
from loadtest.report.content.objectives import describe_missed, describe_objectives
from loadtest.report.content.rises import describe_rises
from loadtest.report.content.streams import count_stays, describe_beside, describe_held
from loadtest.report.content.wording import (
    clean,
    end_sentence,
    list_results,
    name_calls,
    name_scenario,
    name_units,
)
from loadtest.results.history import CONTROL, Cell, Entry, pick_latency
from loadtest.results.run import (
    MOST_CPU_SHARE,
    MOST_LATENESS_MS,
    SCENARIOS,
    Outcome,
    Row,
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

# Of a run that failed before it measured anything: where.
AT_SIGN_IN, AT_START = "at sign-in", "before the first call"

Level = Literal["failed", "missed", "bad", "warning", "watch", "good"]
MOST_PROBLEMS_NAMED = 2
# What a failure may name; it may quote a server, so nothing that removes or accepts anything.
_SAFE_COMMAND = re.compile(
    r"`((?:inv|mcp-loadtest) [a-z.]*(?:doctor|mint|provision)"
    r"(?: --(?:verify|headed|enroll-totp|via browser|env [\w.-]+))*)`",
    re.ASCII,
)


@dataclass(frozen=True)
class Verdict:
    """The result of a run: a headline with counts, and sentences.

    `problems` are reasons to doubt the figures, `sentences` what was sustained. `remedy` is the
    command that a failed run needs.
    """

    level: Level
    headline: str
    problems: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    remedy: str = ""

    @property
    def text(self) -> str:
        """Return everything as one line."""
        return " ".join((end_sentence(self.headline), *self.problems, *self.sentences))


@dataclass(frozen=True)
class _Problem:
    """A reason to doubt the figures: in the headline, and as a sentence."""

    name: str
    sentence: str


def build_verdict(folder: RunFolder, comparison: Comparison | None = None) -> Verdict:
    """Return the verdict of a run, the worst first."""
    counts = [*name_capacity(folder), *_list_counts(folder, comparison)]
    comparison = comparison or Comparison()
    failures = [*_describe_failed(folder)]
    judged = judge_objectives(Entry(folder.run, folder.rows))
    problems = [
        *_describe_missed(folder, judged),
        *_describe_partial(folder),
        *_describe_crossed(folder),
        *_describe_rising(folder),
        *_describe_rate_limited(folder),
        *_describe_losses(folder),
        *_describe_stays(folder),
        *_describe_generator(folder),
        *_describe_beyond(folder),
    ]
    sentences = []
    knee = find_knee(folder.run, folder.rows)
    has_ladder = any(result.name == "sessions" for result in folder.run.scenarios)
    if folder.run.capacity is not None:
        sentences.append(describe_capacity(folder))
    elif has_ladder and (knee is not None or not failures):
        is_good, sentence = _describe_knee(folder, knee, comparison)
        sentences.append(sentence)
        if not is_good and not failures:
            name = "a stage not sustained" if knee and knee.sustained else "no stage sustained"
            problems.append(_Problem(name, ""))
    sentences += [*describe_held(folder), *describe_beside(folder)]
    sentences += [*describe_objectives(folder, judged), *describe_not_ok(folder)]
    sentences += [*describe_worse(folder, comparison), *describe_gone(folder, comparison)]
    level = _find_level(failures, judged, problems, comparison)
    named = [each.name for each in problems][:MOST_PROBLEMS_NAMED]
    if failures:
        compared = counts if list_compared(comparison) else []
        sentences = [*map(end_sentence, failures[1:]), *_describe_counts(compared), *sentences]
        headline = failures[0]
    elif level == "bad":
        headline = " · ".join([counts[0], *named, *counts[1:]])
    else:
        headline = " · ".join([*named, *counts])
    headline = headline[:1].upper() + headline[1:]
    return Verdict(
        level,
        clean(headline),
        tuple(clean(each.sentence) for each in problems if each.sentence),
        tuple(map(clean, sentences)),
        _find_remedy(folder, failures[0]) if failures else "",
    )


def _find_level(
    failures: Sequence[str],
    judged: Sequence[JudgedObjective],
    problems: Sequence[_Problem],
    comparison: Comparison,
) -> Level:
    statuses = {finding.status for finding in comparison.findings}
    if failures:
        return "failed"
    if any(each.standing == "missed" for each in judged):
        return "missed"
    if "confirmed" in statuses:
        return "bad"
    if problems:
        return "warning"
    return "watch" if "suspected" in statuses else "good"


def _list_counts(folder: RunFolder, comparison: Comparison | None) -> Iterator[str]:
    """Yield the counts of the headline: "1 regression", "34 unchanged"."""
    measured = sum(cell.kind != CONTROL for cell in Entry(folder.run, folder.rows).figures)
    figures = f"{format_count(measured)} figure{'s' * (measured != 1)}"
    if comparison is None:
        yield from [f"{figures} measured"] if measured else []
        return
    findings = comparison.findings
    wide = [each for each in findings if each.scope in {"everything", "scenario"}]
    counts = [*list_counts(findings)]
    if len(findings) == 1 and wide:
        words = name_finding(folder, comparison, wide[0])
        counts = [f"{counts[0]}: {words.subject} {words.moved}"]
        if is_explained(wide[0]):
            counts[0] += ", control too: network or host"
    yield from counts
    unchanged = count_unchanged(comparison)
    if unchanged:
        yield f"{format_count(unchanged)} unchanged"
    reasons = [each.reason for each in comparison.baselines if each.reason]
    if not unchanged and not findings and measured:
        is_first = all(reason == "first run" for reason in reasons)
        first = f"first run: {figures}, nothing to compare with yet"
        yield first if is_first else f"nothing to compare {figures} with"
    elif measured:
        yield from _list_incomparable(folder, comparison)


def _list_incomparable(folder: RunFolder, comparison: Comparison) -> Iterator[str]:
    """Yield the scenarios that were measured, but have nothing to be compared with."""
    whole = {result.name for result in folder.run.scenarios if result.is_whole()}
    for each in comparison.baselines:
        if each.reason and each.scenario in whole:
            first = each.reason == "first run"
            state = "for the first time" if first else "not comparable"
            yield f"{name_scenario(each.scenario)} {state}"


def is_explained(finding: Finding) -> bool:
    """Return whether the control moved as well."""
    return finding.change.regression is not None and finding.change.regression.is_explained


def _describe_counts(counts: Sequence[str]) -> Iterator[str]:
    if counts:
        yield end_sentence(f"What was measured before that: {', '.join(counts)}")


def _find_remedy(folder: RunFolder, failure: str) -> str:
    """Return the command that a failure names, else the one that looks for the cause."""
    named = _SAFE_COMMAND.search(failure)
    command = named[1] if named else spell("doctor")
    environment = shlex.quote(clean(folder.run.environment))
    return command if " --env " in command else f"{command} --env {environment}"


def _describe_failed(folder: RunFolder) -> Iterator[str]:
    """Yield what failed and why; scenarios with the same reason are named together."""
    if not folder.run.scenarios:
        yield "No scenario ran"
    found: dict[tuple[str, str], list[str]] = {}
    for title, result in list_results(folder):
        if result.outcome in {"failed", "aborted"}:
            reason = result.reason or "no reason given"
            found.setdefault((result.outcome, reason), []).append(title)
    for (outcome, reason), titles in found.items():
        where = f"in {' and '.join(titles)}: "
        begins = any(reason.startswith(f"{each}: ") for each in (AT_SIGN_IN, AT_START))
        yield f"{outcome.capitalize()} {'' if begins else where}{reason}"


def _describe_partial(folder: RunFolder) -> Iterator[_Problem]:
    cut = [title for title, result in list_results(folder) if result.outcome == "interrupted"]
    missing = [title for title, result in list_results(folder) if result.outcome == "not run"]
    if cut:
        numbers = f"The numbers of {', '.join(cut)} are partial."
        yield _Problem("interrupted", numbers)
    if missing:
        yield _Problem(f"not run: {', '.join(missing)}", "")
    for title, result in list_results(folder):
        if result.faults and result.outcome != "failed":
            faults = "; ".join(fault.describe() for fault in result.faults)
            sentence = f"Not every runner did its whole share in {title}: {end_sentence(faults)}"
            yield _Problem("runners missing", sentence)


def _describe_rising(folder: RunFolder) -> Iterator[_Problem]:
    """Yield what rose within a soak."""
    sentences = [*describe_rises(folder)]
    if sentences:
        count = len(sentences)
        name = "a figure rose within the run" if count == 1 else f"{count} figures rose"
        text = " ".join(sentence[:1].upper() + sentence[1:] for sentence in sentences)
        yield _Problem(name, text)


def _describe_missed(folder: RunFolder, judged: Sequence[JudgedObjective]) -> Iterator[_Problem]:
    count = sum(each.standing == "missed" for each in judged)
    if count:
        name = f"{count} objective{'s' * (count != 1)} missed"
        yield _Problem(name, describe_missed(folder, judged))


def _describe_rate_limited(folder: RunFolder) -> Iterator[_Problem]:
    """Yield a sentence that names the scenarios with too many rate-limited calls."""
    shares = [
        f"{format_share(measure_rate_limited(folder.rows, name))} in {name_scenario(name)}"
        for name in SCENARIOS
        if is_rate_limited(folder.rows, name)
    ]
    if shares:
        yield _Problem(
            "refused by a quota",
            f"The latencies are not valid, because calls were rate limited: {', '.join(shares)}. "
            "Raise the client's quota on the target, then run again.",
        )


def _describe_losses(folder: RunFolder) -> Iterator[_Problem]:
    """Yield how long the sessions lived that the server lost, and what that looks like."""
    losses = find_losses(folder.rows)
    if losses is None:
        return
    opened = f"{format_count(losses.count)} of {format_count(losses.opened)} sessions"
    if losses.ages_seconds is None or losses.calls is None:
        lived = "while they opened"
    else:
        lived = f"after {name_calls(round(losses.calls))} (the median) and {_name_ages(losses)}"
    sentence = f"The server lost {opened} {lived}{_EXPLANATIONS[losses.cause]}"
    yield _Problem("lost sessions", sentence)


def _describe_stays(folder: RunFolder) -> Iterator[_Problem]:
    """Yield how many streams the server did not end together with their session."""
    stays, opened = count_stays(folder)
    if stays:
        part = count_part(stays, opened, "streams were still open after DELETE of their session")
        yield _Problem("streams stay after DELETE", f"{part}: the server does not release them.")


def _name_ages(losses: Losses) -> str:
    assert losses.ages_seconds is not None
    shortest, longest = (round(age) for age in losses.ages_seconds)
    return f"{longest} s" if shortest == longest else f"{shortest} to {longest} s"


def _describe_generator(folder: RunFolder) -> Iterator[_Problem]:
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
        yield _Problem(
            "limited by the load generator",
            f"The load generator was the bottleneck in {title} ({', '.join(faults)}): these "
            "numbers say nothing about the target. Use a larger machine or a smaller profile.",
        )


def _describe_beyond(folder: RunFolder) -> Iterator[_Problem]:
    """Yield how many calls took longer than many clients and proxies wait."""
    leaves = list_leaves(folder.rows)
    minute, two_minutes = (
        sum(row.beyond.get(name, 0) for row in leaves) for name in ("60_s", "120_s")
    )
    if minute:
        calls = sum(row.count for row in leaves)
        yield _Problem(
            "calls over 60 s",
            f"{count_part(minute, calls, 'calls took longer than 60 s')}, when many clients give "
            f"up, and {format_count(two_minutes)} longer than 120 s, when most proxies do.",
        )


def _describe_crossed(folder: RunFolder) -> Iterator[_Problem]:
    for title, result in list_results(folder):
        if not has_crossed(result):
            continue
        if failures := describe_excess(folder, result.name):
            too_many = f"too many failures in {title}"
            yield _Problem(too_many, f"T{too_many[1:]}: {failures}.")
        else:
            crossed = ", ".join(result.crossed) or NO_DATA
            yield _Problem("thresholds crossed", f"Thresholds crossed in {title}: {crossed}.")


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
        reasons.append(count_part(fault.rejected, fault.attempts, "refused by a full server"))
    if fault.limited:
        reasons.append(count_part(fault.limited, stage.count, "rate limited"))
    if fault.failed:
        reasons.append(count_part(fault.failed, stage.count, "calls failed"))
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


def _p95(row: Row) -> str:
    return f"p95 {add_ms(format_cell(row, pick_latency(row), 'p95'))}"
