"""The objectives of a run as text: what each asks for, and whether it is met."""

from collections.abc import Iterator, Sequence

from loadtest.compare.objectives import JudgedObjective, Standing
from loadtest.config.objectives import ALL, Objective, ObjectiveFigure
from loadtest.report.content.formatting import (
    NO_DATA,
    add_ms,
    format_count,
    format_ms,
    format_share,
)
from loadtest.report.content.tables import Column, ReportTable, TableCell
from loadtest.report.content.wording import (
    name_called,
    name_mix,
    name_units,
)
from loadtest.results.run_folder import RunFolder

MOST_NAMED = 3
_COLUMNS = (
    Column("objective", "objective", numeric=False),
    Column("result", "result", numeric=False),
    Column("measured", "measured"),
    Column("margin", "margin"),
)


def build_objectives(folder: RunFolder, judged: Sequence[JudgedObjective]) -> ReportTable | None:
    """Return a table of all objectives, in their order; None if the run has none."""
    rows = []
    for each in judged:
        is_missed = each.standing == "missed"
        rows.append(
            (
                TableCell(
                    describe_limit(folder, each.objective),
                    name=_name_called(each.objective),
                ),
                TableCell(describe_standing(each), worse=is_missed),
                TableCell(_describe_value(folder, each)),
                TableCell(describe_margin(each)),
            )
        )
    return ReportTable("Objectives", _COLUMNS, tuple(rows)) if rows else None


def name_objective(folder: RunFolder, objective: Objective) -> str:
    """Return an objective in words: "executeSQL p95 at most 800 ms", "holds 100 sessions"."""
    words = _name_called(objective), describe_limit(folder, objective)
    return " ".join(filter(None, words))


def describe_limit(folder: RunFolder, objective: Objective) -> str:
    """Return what an objective asks for, without what a server calls the thing."""
    if objective.figure == "holds":
        return f"holds {_name_held(folder, objective, int(objective.limit))}"
    figure = "failures" if objective.figure == "failed" else objective.figure
    limit = format_limit(objective.figure, objective.limit)
    return " ".join(filter(None, (_name_sum(folder, objective), figure, "at most", limit)))


def format_limit(figure: ObjectiveFigure, value: float) -> str:
    """Return a value of a figure other than `holds` with its unit."""
    return format_share(value) if figure == "failed" else add_ms(format_ms(value))


def describe_standing(judged: JudgedObjective) -> str:
    """Return "met", "missed" or "cannot tell", with the reason."""
    return f"{judged.standing}: {judged.reason}" if judged.reason else judged.standing


def describe_margin(judged: JudgedObjective) -> str:
    """Return how much of the limit is left: "24 % left", "14 % over"; empty if it is unknown."""
    if judged.margin is None:
        return ""
    share = format_share(abs(judged.margin))
    if judged.objective.figure == "holds":
        return f"{share} {'above' if judged.margin >= 0 else 'short'}"
    return f"{share} {'left' if judged.margin >= 0 else 'over'}"


def describe_objectives(folder: RunFolder, judged: Sequence[JudgedObjective]) -> Iterator[str]:
    """Yield sentences about the objectives that are met, and those that nobody can tell."""
    met = [each for each in judged if each.standing == "met"]
    if met:
        count = f"{len(met)} of {len(judged)}" if len(met) < len(judged) else f"All {len(met)}"
        is_one = len(judged) == 1
        known = [each for each in met if each.margin is not None]
        least = min(known, key=lambda each: each.margin or 0.0) if known else None
        closest = ""
        if least is not None:
            name = "" if is_one else f", the closest is {name_objective(folder, least.objective)}"
            closest = f"{name} ({describe_margin(least)})"
        yield f"{'The objective is' if is_one else f'{count} objectives are'} met{closest}."
    unknown = _list_named(folder, judged, "cannot tell")
    if unknown:
        yield f"Cannot tell: {unknown}."


def describe_missed(folder: RunFolder, judged: Sequence[JudgedObjective]) -> str:
    """Return a sentence about the objectives that are missed, empty if none is."""
    missed = _list_named(folder, judged, "missed")
    return f"Missed: {missed}." if missed else ""


def describe_finding(folder: RunFolder, judged: JudgedObjective) -> str:
    """Return what was measured, or why nothing can be told."""
    if judged.reason is not None:
        return judged.reason
    margin = describe_margin(judged)
    value = _describe_value(folder, judged)
    return f"{value}, {margin}" if margin else value


def _list_named(folder: RunFolder, judged: Sequence[JudgedObjective], standing: Standing) -> str:
    found = [each for each in judged if each.standing == standing]
    named = [
        f"{name_objective(folder, each.objective)} ({describe_finding(folder, each)})"
        for each in found[:MOST_NAMED]
    ]
    more = len(found) - MOST_NAMED
    return "; ".join([*named, *([f"{more} more"] if more > 0 else [])])


def _name_called(objective: Objective) -> str:
    """Return what a server calls the thing that an objective is about; empty for a sum."""
    return "" if _is_sum(objective) else name_called(objective.kind, objective.name)


def _name_sum(folder: RunFolder, objective: Objective) -> str:
    if not _is_sum(objective):
        return ""
    if objective.kind == "stage":
        return "the ladder"
    return f"all {name_mix(folder.rows)}s"


def _is_sum(objective: Objective) -> bool:
    return objective.name == ALL


def _describe_value(folder: RunFolder, judged: JudgedObjective) -> str:
    if judged.value is None:
        return NO_DATA
    if judged.objective.figure == "holds":
        return _name_held(folder, judged.objective, int(judged.value))
    value = format_limit(judged.objective.figure, judged.value)
    if judged.stage is None:
        return value
    return f"{value} at {name_units(folder, int(judged.stage.name))}"


def _name_held(folder: RunFolder, objective: Objective, count: int) -> str:
    if objective.kind == "stream":
        return f"{format_count(count)} stream{'s' * (count != 1)}"
    return name_units(folder, count)
