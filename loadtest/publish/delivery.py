"""A run's report: compared with the history, written, posted and announced."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from loadtest.compare.cadence import describe_gap
from loadtest.compare.changes import REGRESSED
from loadtest.compare.comparison import Comparison, compare_run
from loadtest.compare.objectives import JudgedObjective, judge_objectives
from loadtest.config.settings import Settings
from loadtest.errors import ReportError, UsageError
from loadtest.github.workflow_commands import annotate, write_outputs, write_summary
from loadtest.publish.tracking_issue.schemas import PostedComment
from loadtest.publish.tracking_issue.tracker import MOST_CHARS, Tracker
from loadtest.publish.webhook import WEBHOOK_VARIABLE, call_webhook
from loadtest.report.badge import write_badge
from loadtest.report.comment import render_closing, render_comment
from loadtest.report.content.findings import name_finding
from loadtest.report.content.objectives import describe_finding, name_objective
from loadtest.report.content.verdict import Verdict, build_verdict
from loadtest.report.content.wording import end_sentence
from loadtest.report.history_tables import as_folder
from loadtest.report.html.page import write_page
from loadtest.report.markdown import render_markdown, write_report
from loadtest.results.history import Cell, Entry, History
from loadtest.results.history_files import keep_comparison, read_entry, read_local_history
from loadtest.results.run_folder import RunFolder, read_run_folder

# At most this many skipped comments are named one by one.
MOST_SKIPPED = 5
# The webhook's line names at most this many findings.
MOST_NAMED = 3


@dataclass(frozen=True)
class PreparedReport:
    """A run, the runs before it (oldest first), and its comment.

    `comparison` is None if the history could not be read; the report then does not mention it.
    `text` is the comment without its hidden figures. `others` are all other runs of the history.
    """

    folder: RunFolder
    entry: Entry
    text: str
    comparison: Comparison | None = None
    earlier: tuple[Entry, ...] = ()
    others: tuple[Entry, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Return the verdict in a few sentences."""
        return build_verdict(self.folder, self.comparison)

    def list_findings(self) -> list[dict[str, Any]]:
        """Return what moved as the JSON document has it."""
        comparison = self.comparison or Comparison()
        return [
            {
                "status": finding.status,
                "scope": finding.scope,
                "figure": str(finding.lead),
                "before": finding.change.before,
                "now": finding.change.value,
                "figures": [str(cell) for cell in (*finding.cells, *finding.follows)],
            }
            for finding in comparison.findings
        ]

    @property
    def judged(self) -> tuple[JudgedObjective, ...]:
        """Return the objectives of the run, judged."""
        return judge_objectives(self.entry)

    def list_objectives(self) -> list[dict[str, Any]]:
        """Return the objectives as the JSON document has them."""
        return [
            {
                "objective": name_objective(self.folder, each.objective),
                "standing": each.standing,
                **asdict(each.objective),
                "value": each.value,
                "margin": each.margin,
                "reason": each.reason,
            }
            for each in self.judged
        ]

    def count_confirmed(self) -> int:
        """Return the number of findings that are a confirmed regression."""
        return sum(finding["status"] == "confirmed" for finding in self.list_findings())

    @property
    def needs_attention(self) -> bool:
        """Return whether the run failed, missed an objective or has a confirmed regression."""
        is_missed = any(each.standing == "missed" for each in self.judged)
        return self.folder.run.has_failed() or is_missed or self.entry.has_regressed()


def read_history(settings: Settings, tracker: Tracker | None) -> History:
    """Return all runs of the environment, from the tracking issue, else from the run folders."""
    history = read_local_history(settings.runs_dir) if tracker is None else tracker.read_all()
    name = settings.environment_name
    entries = (entry for entry in history.entries if entry.run.environment == name)
    return replace(history, entries=tuple(entries))


def read_recent_history(settings: Settings, tracker: Tracker | None) -> History:
    """Return the runs that a run is compared with: from the same place as `read_history`."""
    return read_local_history(settings.runs_dir) if tracker is None else tracker.read_recent()


def prepare_report(
    settings: Settings,
    folder: RunFolder,
    tracker: Tracker | None,
    accepted: frozenset[Cell] | None = None,
) -> PreparedReport:
    """Compare a run with the history and return its report.

    `accepted` are regressions that are accepted from now on, beside those that were before.
    """
    history = read_recent_history(settings, tracker)
    run = folder.run
    others = tuple(entry for entry in history.entries if entry.run.run_id != run.run_id)
    earlier = history.list_earlier(run)
    entry = Entry(run, folder.rows, repeats=folder.repeats)
    comparison = compare_run(entry, earlier)
    if accepted is None:
        accepted = _find_accepted(history, folder)
    if accepted is not None:
        comparison = comparison.accept(_add_members(accepted, comparison))
    entry = replace(
        entry,
        confirmed=comparison.confirmed | (accepted or frozenset()),
        accepted=accepted is not None,
        suspected=comparison.suspected,
    )
    prepared = PreparedReport(folder, entry, "", comparison, earlier, others)
    text = render_comment(
        folder,
        comparison,
        earlier,
        most_chars=MOST_CHARS if tracker is None else tracker.count_room(entry),
        notes=tuple(_list_notes(settings, history, entry, earlier)),
        mention=settings.environment.mention if prepared.needs_attention else None,
        repository_url=None if tracker is None else tracker.repository_url,
    )
    return replace(prepared, text=text)


def prepare_without_history(folder: RunFolder) -> PreparedReport:
    """Return the report of a run if the history cannot be read."""
    return PreparedReport(folder, Entry(folder.run, folder.rows), render_markdown(folder))


def write_files(prepared: PreparedReport) -> tuple[Path, ...]:
    """Write report and badge into the run folder, for a compared run also page and regressions.

    Returns the files that people can read.
    """
    folder, comparison = prepared.folder, prepared.comparison
    report = write_report(folder, comparison, prepared.earlier)
    write_badge(folder, prepared.judged)
    if comparison is None:
        return (report,)
    keep_comparison(folder.path, prepared.entry)
    return report, write_page(folder, comparison, prepared.earlier)


def post(prepared: PreparedReport, tracker: Tracker) -> PostedComment:
    """Post or update the run's comment, and set the labels of the tracking issue.

    The comments that reported a regression say when it is accepted or gone.
    """
    posted = tracker.post(prepared.entry, prepared.text)
    for reporter, cells in _find_closed(prepared).values():
        is_accepted = prepared.entry.accepted
        note = render_closing(prepared.folder, cells, posted.url, is_accepted=is_accepted)
        tracker.add_note(reporter.run, note)
    _set_labels(tracker, (*prepared.others, prepared.entry))
    return posted


def accept(settings: Settings, tracker: Tracker | None, entry: Entry) -> None:
    """Make a run the baseline of its confirmed regressions, and update its report and comment."""
    if not entry.confirmed:
        raise UsageError(f"run {entry.run.run_id} has no confirmed regression to accept")
    path = settings.runs_dir / entry.run.run_id
    folder = read_run_folder(path) if path.is_dir() else as_folder(entry)
    prepared = prepare_report(settings, folder, tracker, entry.confirmed)
    if path.is_dir():
        write_files(prepared)
    if tracker is not None:
        post(prepared, tracker)


def announce(
    variables: Mapping[str, str], prepared: PreparedReport, url: str | None
) -> Iterator[str]:
    """Write step summary, outputs and annotations, call the webhook if needed; yield warnings."""
    run, verdict = prepared.folder.run, prepared.verdict
    for each in prepared.judged:
        if each.standing != "met":
            level: Literal["error", "warning"] = "error" if each.reason is None else "warning"
            title = f"{name_objective(prepared.folder, each.objective)}: {each.standing}"
            annotate(variables, level, title, describe_finding(prepared.folder, each))
    write_summary(variables, prepared.text)
    outputs = {
        "run-id": run.run_id,
        "outcome": run.outcome(),
        "verdict": verdict.headline,
        "confirmed": str(prepared.count_confirmed()),
        "comment-url": url or "",
    }
    write_outputs(variables, outputs)
    webhook = variables.get(WEBHOOK_VARIABLE)
    if webhook and prepared.needs_attention:
        where = url or run.run_url or f"run {run.run_id}"
        try:
            call_webhook(
                webhook,
                f"Load test of {run.environment}: {end_sentence(_build_line(prepared))} {where}",
            )
        except ReportError as failure:
            yield f"warning: {failure}"


def _build_line(prepared: PreparedReport) -> str:
    """Return the headline, and what moved in words."""
    comparison = prepared.comparison or Comparison()
    names = [
        name_finding(prepared.folder, comparison, finding).join()
        for finding in comparison.findings
        if finding.status == "confirmed"
    ][:MOST_NAMED]
    return ": ".join(filter(None, (prepared.verdict.headline, "; ".join(names))))


def _find_closed(prepared: PreparedReport) -> dict[str, tuple[Entry, list[Cell]]]:
    """Return what this run closes, by the run that reported it first."""
    entry = prepared.entry
    gone = prepared.comparison.gone if prepared.comparison else frozenset()
    found: dict[str, tuple[Entry, list[Cell]]] = {}
    for cell in sorted(entry.confirmed if entry.accepted else gone):
        reporter = _find_reporter(cell, prepared)
        if reporter is not None:
            found.setdefault(reporter.run.run_id, (reporter, []))[1].append(cell)
    return found


def _find_reporter(cell: Cell, prepared: PreparedReport) -> Entry | None:
    """Return the first of the runs before this one in which a regression is confirmed and open."""
    reporter = None
    for each in reversed(prepared.earlier):
        if each.run.environment != prepared.entry.run.environment or cell not in each.figures:
            continue
        if cell not in each.confirmed or each.accepted:
            break
        reporter = each
    return reporter


def _add_members(accepted: frozenset[Cell], comparison: Comparison) -> frozenset[Cell]:
    """Return these figures with all that became worse for the same cause."""
    accepted |= comparison.confirmed
    for finding in comparison.findings:
        if finding.status in REGRESSED and accepted & set(finding.cells):
            accepted |= {*finding.cells, *finding.follows}
    return accepted


def _find_accepted(history: History, folder: RunFolder) -> frozenset[Cell] | None:
    """Return the accepted regressions of a run; None if it was not accepted."""
    known = [entry for entry in history.entries if entry.run.run_id == folder.run.run_id]
    known += [read_entry(folder.path)] if folder.path.is_dir() else []
    accepted = [entry.confirmed for entry in known if entry.accepted]
    return frozenset().union(*accepted) if accepted else None


def _list_notes(
    settings: Settings, history: History, entry: Entry, earlier: Iterable[Entry]
) -> Iterator[str]:
    """Yield the comment's notes about the history itself."""
    gap = describe_gap(entry, earlier, settings.environment.cadence_days)
    if gap:
        yield gap
    yield from history.skipped[:MOST_SKIPPED]
    more = len(history.skipped) - MOST_SKIPPED
    if more > 0:
        yield f"{more} more were skipped."


def _set_labels(tracker: Tracker, entries: Iterable[Entry]) -> None:
    """Label the tracking issue by the newest run and the newest search of each environment."""
    newest: dict[tuple[str, bool], Entry] = {}
    for entry in sorted(entries, key=lambda entry: entry.run.started):
        newest[entry.run.environment, entry.run.capacity is not None] = entry
    tracker.mark(
        regressed=any(entry.has_regressed() for entry in newest.values()),
        failed=any(entry.run.has_failed() for entry in newest.values()),
    )
