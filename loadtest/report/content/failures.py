"""The calls that failed: how many, where, and whether that is over the limit."""

from collections.abc import Iterable, Iterator, Sequence

from loadtest.compare.knee import count_failed, count_refused, find_failure_limit
from loadtest.report.content.formatting import NO_DATA, format_count, format_share
from loadtest.report.content.wording import name_calls, name_row
from loadtest.results.history import is_aggregate
from loadtest.results.run import CALLED, Row, ScenarioResult
from loadtest.results.run_folder import RunFolder


def describe_excess(folder: RunFolder, scenario: str) -> str:
    """Return how many calls of a scenario failed, if that is over the limit, else an empty text.

    If the scenario as a whole is within the limit, the text is about its worst row.
    """
    leaves = list_leaves(folder.rows, scenario)
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


def has_crossed(result: ScenarioResult) -> bool:
    """Return whether a scenario crossed one of its thresholds."""
    return result.outcome == "thresholds crossed"


def count_part(part: int, whole: int, what: str) -> str:
    """Return "4 of 24,310 calls failed (under 0.1 %)"."""
    share = format_share(part / whole) if whole else NO_DATA
    return f"{format_count(part)} of {format_count(whole)} {what} ({share})"


def list_leaves(rows: Iterable[Row], scenario: str | None = None) -> list[Row]:
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


def describe_not_ok(folder: RunFolder) -> Iterator[str]:
    """Yield how many calls failed, unless another sentence has it, and how many were refused."""
    leaves = list_leaves(folder.rows)
    failed, calls = _count_failures(leaves)
    refused = sum(map(count_refused, leaves))
    crossed = {result.name for result in folder.run.scenarios if has_crossed(result)}
    unnamed, _ = _count_failures([row for row in leaves if row.scenario not in crossed])
    if calls and not failed:
        yield f"None of {name_calls(calls)} failed."
    elif unnamed:
        yield f"{count_part(failed, calls, 'calls failed')}."
    if refused:
        yield f"{count_part(refused, calls, 'calls were refused by a cap or a quota')}."
