"""What moved, in words: one line per finding, since when, and what speaks for it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from statistics import median

from loadtest.compare.baselines import find_peers
from loadtest.compare.changes import Change, Status
from loadtest.compare.comparison import Comparison
from loadtest.compare.findings import Finding
from loadtest.compare.regressions import Regression
from loadtest.compare.series import USUAL_RUNS, find_baselines
from loadtest.report.content.changes import build_commits_url, find_previous
from loadtest.report.content.formatting import (
    NO_DATA,
    add_ms,
    format_change,
    format_changes,
    format_figure,
    format_ms,
    format_span,
    is_bold,
)
from loadtest.report.content.tables import Column, ReportTable, TableCell
from loadtest.report.content.wording import (
    clean,
    name_cell,
    name_scenario,
    name_subject,
    name_units,
)
from loadtest.results.history import CONTROL, Cell, Entry, Figure, is_aggregate, read_figures
from loadtest.results.run import Row
from loadtest.results.run_folder import RunFolder

TITLE = "What moved"
MOST_MEMBERS = 4
# Factors that differ by no more are one factor: "about 2.0×".
ALIKE = 1.3
# A control that moved by no more is called unchanged.
CONTROL_SHARE = 0.1
THIS_RUN = "this run"
_COUNTED: Mapping[Status, tuple[str, str]] = {
    "confirmed": ("regression", "regressions"),
    "suspected": ("to watch", "to watch"),
    "accepted": ("accepted", "accepted"),
    "better": ("improved", "improved"),
}
_WORSE: Mapping[Figure, str] = {"rate": "with lower throughput", "failed": "with more failures"}
_BETTER: Mapping[Figure, str] = {"rate": "with higher throughput", "failed": "with fewer failures"}
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class FindingWords:
    """A finding in words: `subject` is what moved, `moved` how, `example` the figure shown.

    `is_name`: the subject is what the server calls it.
    """

    subject: str
    moved: str
    example: str = ""
    is_name: bool = False

    def join(self, *, without_name: bool = False) -> str:
        """Return the whole as one text."""
        subject = "" if self.is_name and without_name else self.subject
        return clean(f"{subject} {self.moved}{self.example}")


def count_findings(findings: Sequence[Finding], status: Status) -> str:
    """Return "1 regression", "2 to watch"; an empty text if there is none."""
    count = sum(finding.status == status for finding in findings)
    return f"{count} {_COUNTED[status][count != 1]}" if count else ""


def list_counts(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield how many findings there are of each status, the worst first."""
    yield from filter(None, (count_findings(findings, status) for status in _COUNTED))


def list_compared(comparison: Comparison, scenario: str | None = None) -> list[Cell]:
    """Return the figures that were compared, of one scenario or of all."""
    return [
        cell
        for cell, change in comparison.changes.items()
        if change.status not in {"incomparable", "new", "thin"} and cell.kind != CONTROL
        if scenario in {None, cell.scenario}
    ]


def count_unchanged(comparison: Comparison) -> int:
    """Return how many of the figures that were compared are in no finding."""
    moved = {cell for each in comparison.findings for cell in (*each.cells, *each.follows)}
    return sum(cell not in moved for cell in list_compared(comparison))


def name_finding(folder: RunFolder, comparison: Comparison, finding: Finding) -> FindingWords:
    """Return a finding in words."""
    lead, changes = finding.lead, comparison.changes
    better = finding.status == "better"
    default = "faster" if better else "slower"
    moved = (_BETTER if better else _WORSE).get(lead.figure, default)
    example = f", such as {name_cell(folder, lead)}"
    if finding.scope in {"everything", "scenario"}:
        compared = len(list_compared(comparison, finding.scenario))
        whole = f"{len(finding.cells)} of {compared} figures"
        subject = f"all of {name_scenario(finding.scenario or '')}"
        subject = subject if finding.scope == "scenario" else "everything"
        return FindingWords(subject, f"{_describe_factor(finding, changes)} ({whole})", example)
    if finding.scope == "stages":
        stages = sorted({int(cell.name) for cell in finding.cells if cell.name.isdecimal()})
        subject = f"{stages[0]} to {name_units(folder, stages[-1])}" if stages else "stages"
        span = format_changes(
            lead.figure, [changes[cell] for cell in finding.cells if cell.figure == lead.figure]
        )
        return FindingWords(subject, f"{moved}: {_name_figure(lead)} {span}", example)
    subject = name_subject(folder, lead)
    is_name = lead.kind not in {"stage", "opening"} and not is_aggregate(lead)
    if finding.scope == "failures":
        more = len({cell[:3] for cell in finding.cells}) - 1
        rest = f" (and {more} more like it)" if more else ""
        return FindingWords(subject, f"{moved}{rest}", is_name=is_name)
    where = f" in {name_scenario(lead.scenario)}" if lead.scenario == "cold-start" else ""
    of = "" if lead.figure == "rate" else f": {_name_figure(lead)}"
    members = _describe_members(folder, finding, changes)
    return FindingWords(subject, f"{moved}{where}{of}{members}", is_name=is_name)


def _describe_factor(finding: Finding, changes: Mapping[Cell, Change]) -> str:
    better = finding.status == "better"
    ratios = [ratio for cell in finding.cells if (ratio := changes[cell].ratio)]
    factors = sorted(1 / ratio if better else ratio for ratio in ratios) or [1.0]
    low, high = factors[0], factors[-1]
    about = f"about {median(factors):.1f}×" if high <= low * ALIKE else f"{low:.1f}× to {high:.1f}×"
    return f"{about} {'faster' if better else 'slower'}"


def _describe_members(folder: RunFolder, finding: Finding, changes: Mapping[Cell, Change]) -> str:
    """Return what moved along with the lead, in brackets."""
    members = []
    for cell in finding.cells[1:]:
        alike = cell[:3] == finding.lead[:3]
        name = _name_figure(cell) if alike else name_cell(folder, cell)
        members.append(f"{name} {format_change(cell.figure, changes[cell])}")
    more = len(members) - MOST_MEMBERS
    parts = [", ".join([*members[:MOST_MEMBERS], *([f"{more} more"] if more > 0 else [])])]
    if finding.follows:
        is_rate = any(cell.figure == "rate" for cell in finding.follows)
        parts.append(f"{'throughput' if is_rate else 'latency'} of the mix follows")
    said = "; ".join(filter(None, parts))
    return f" ({said})" if said else ""


def _name_figure(cell: Cell) -> str:
    return {"rate": "calls/s", "failed": "failures"}.get(cell.figure, cell.figure)


def build_findings(
    folder: RunFolder,
    comparison: Comparison,
    earlier: Sequence[Entry] = (),
    repository_url: str | None = None,
) -> ReportTable | None:
    """Return the table of what moved, the worst first; None if nothing did."""
    findings = comparison.findings
    previous = find_previous(comparison)
    rows = []
    for finding in findings:
        words, figure, change = (
            name_finding(folder, comparison, finding),
            finding.lead.figure,
            finding.change,
        )
        regression = change.regression
        before = NO_DATA if change.before is None else format_figure(figure, change.before)
        since = regression.since if regression else None
        commits = None
        if previous is not None and since is not None and previous.run.started < since.run.started:
            commits = build_commits_url(previous.run, since.run, repository_url)
        why = "; ".join(explain_finding(folder, comparison, finding, earlier))
        rows.append(
            (
                TableCell(
                    words.join(without_name=True),
                    status=finding.status,
                    name=words.subject if words.is_name else "",
                    leads=True,
                ),
                TableCell(before),
                TableCell(format_figure(figure, change.value)),
                TableCell(format_change(figure, change), worse=is_bold(figure, change)),
                TableCell(
                    format_day(since.run.started, folder.run.started) if since else THIS_RUN,
                    url=since.url if since else None,
                    commits_url=commits,
                ),
                TableCell(why),
            )
        )
    columns = (
        Column("what moved", "", numeric=False),
        Column("last good run", "", url=previous.url if previous else None),
        Column("now", ""),
        Column("change", ""),
        Column("since", "", numeric=False, holds=True),
        Column("why", "", numeric=False, holds=True),
    )
    return ReportTable(TITLE, columns, tuple(rows)) if rows else None


def explain_finding(
    folder: RunFolder, comparison: Comparison, finding: Finding, earlier: Sequence[Entry] = ()
) -> Iterator[str]:
    """Yield what speaks for a finding: repeats, control, the usual level, the server's own time."""
    regression, figure = finding.change.regression, finding.lead.figure
    if regression is not None:
        yield from _describe_evidence(folder, regression, finding.lead)
    if figure != "failed":
        yield _describe_control(comparison, finding, regression)
    usual = _describe_usual(folder, finding, earlier)
    if usual:
        yield usual
    if regression is not None and finding.scope in {"row", "stages"} and figure != "rate":
        yield from _describe_server_time(folder, comparison, finding.lead)


def _describe_evidence(folder: RunFolder, regression: Regression, lead: Cell) -> Iterator[str]:
    figure = lead.figure
    if regression.evidence == "two runs in a row":
        yield f"{max(regression.runs, 2)} runs in a row"
    elif regression.evidence == "drift":
        yield f"level changed, to about {format_figure(figure, regression.after)}"
    values, agree = _find_repeats(folder, regression, lead)
    if values:
        yield _describe_repeats(figure, values, agree, is_common=regression.is_common)
    elif folder.run.repeats_note and regression.evidence is None:
        yield clean(folder.run.repeats_note)
    elif regression.evidence is None and not regression.is_common:
        yield "not measured again"
    if regression.evidence is None:
        is_contradicted = agree < len(values) and not regression.is_common
        yield "likely noise" if is_contradicted else "the next run decides"


def _find_repeats(
    folder: RunFolder, regression: Regression, lead: Cell
) -> tuple[Sequence[float], int]:
    """Return the values of a figure when it was measured again, and how many are worse, too.

    Repeats do not confirm a shift of all figures, so its regression has none.
    """
    if regression.repeats:
        return regression.repeats, regression.agree
    rows = (row for rows in folder.repeats for row in rows)
    values = [value for row in rows for cell, value in read_figures(row).items() if cell == lead]
    middle = (regression.before + regression.after) / 2
    is_higher = regression.after > regression.before
    return values, sum((value > middle) == is_higher for value in values)


def _describe_repeats(
    figure: Figure, values: Sequence[float], agree: int, *, is_common: bool
) -> str:
    count = len(values)
    span = format_span(*(format_figure(figure, each(values)) for each in (min, max)))
    repeats = f"repeat{'s' * (count != 1)}"
    same = " in the same hour" if is_common else ""
    if agree == count:
        return f"{count} {repeats}{same} agree{'s' * (count == 1)} ({span})"
    if agree == 0:
        return f"{count} {repeats}{same} do{'es' * (count == 1)} not agree ({span})"
    return f"{agree} of {count} repeats{same} agree{'s' * (agree == 1)} ({span})"


def _describe_control(
    comparison: Comparison, finding: Finding, regression: Regression | None
) -> str:
    """Return how the control moved in the scenario of a finding."""
    controls = {
        cell: change
        for cell, change in comparison.changes.items()
        if cell.kind == CONTROL and cell.figure == "p50" and change.ratio is not None
        if finding.scenario in {None, cell.scenario}
    }
    if not controls:
        return "no control"
    change = controls[min(controls, key=lambda cell: (cell.name != "document", cell))]
    said = format_change("p50", change)
    if regression is not None and regression.is_explained:
        return f"control too ({said}): network or host"
    if change.status == "thin":
        return f"too few requests to the control ({said})"
    is_same = max(change.ratio or 1.0, 1 / (change.ratio or 1.0)) <= 1 + CONTROL_SHARE
    return f"control unchanged ({said})" if is_same else f"control {said}"


def _describe_usual(folder: RunFolder, finding: Finding, earlier: Sequence[Entry]) -> str:
    """Return the range of the figure in the baselines before it moved."""
    cell, regression = finding.lead, finding.change.regression
    peers, *_ = find_peers(Entry(folder.run, folder.rows), earlier, cell.scenario)
    entries = [each for each in peers if cell in each.figures]
    if regression is not None and regression.since is not None:
        entries = [each for each in entries if each.run.started < regression.since.run.started]
    usable = find_baselines(cell, entries)
    pairs = zip(entries, usable, strict=True)
    values = [each.figures[cell] for each, is_usable in pairs if is_usable][-USUAL_RUNS:]
    if len(values) > 1:
        low, high = (format_figure(cell.figure, each(values)) for each in (min, max))
        return f"usually {format_span(low, high)} ({len(values)} runs)"
    return f"usually {format_figure(cell.figure, regression.before)}" if regression else ""


def _describe_server_time(folder: RunFolder, comparison: Comparison, cell: Cell) -> Iterator[str]:
    """Yield how much longer the server says that it worked."""
    previous = (each.previous for each in comparison.baselines if each.scenario == cell.scenario)
    before = _find_server_ms(next((each.rows for each in previous if each), ()), cell)
    after = _find_server_ms(folder.rows, cell)
    if after is None:
        return
    if before is None:
        yield f"server time {add_ms(format_ms(after))}"
    else:
        apart = after - before
        sign = "±" if abs(apart) < 0.5 else "+" if apart > 0 else "-"
        yield f"server time {sign}{add_ms(format_ms(abs(apart)))}"


def _find_server_ms(rows: Sequence[Row], cell: Cell) -> float | None:
    times = (row.server_time for row in rows if (row.scenario, row.kind, row.name) == cell[:3])
    return next((getattr(each, cell.figure) for each in times if each), None)


def format_day(moment: str, now: str) -> str:
    """Return the day of a run: "Nov 23"; with the year if it is another year than that of now."""
    text = moment[:10]
    if not _DAY.fullmatch(text):
        return clean(text)
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return text
    return f"{day:%b} {day.day}" + (f", {day.year}" if text[:4] != now[:4] else "")
