"""A run as a comment on the tracking issue, within GitHub's limit of length."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from loadtest.compare.comparison import Comparison
from loadtest.compare.findings import MOVED
from loadtest.report.content.changes import SHA, ReportLine
from loadtest.report.content.findings import format_day
from loadtest.report.content.report import Report, build_report
from loadtest.report.content.tables import ReportTable
from loadtest.report.content.wording import clean, name_subject
from loadtest.report.markdown import (
    MARKS_LEGEND,
    SIGNS,
    escape,
    render_accept,
    render_chart,
    render_grid,
    render_link,
    render_remedy,
    render_table,
)
from loadtest.results.history import Cell, Entry
from loadtest.results.run_folder import RunFolder

# The parts that are left out if a comment would be too long, in this order.
CUTS = (
    "how this was measured",
    "replies",
    "slowest calls",
    "failures by reason",
    "trend",
    "rows in which nothing moved",
    "notes",
    "tables",
    "objectives",
    "findings",
)
MOST_NAME = 40
MOST_FULL_NAME = 200
MOST_TEXT = 400
MOST_NAMED = 3
MOST_KNOBS = 4000
MOST_LEGEND = 1000
_HEAD = ("environment", "profile", "workflow run", "git SHA", "time")
_PLAIN_NAME = re.compile(r"[\w.:/-]+", re.ASCII)
# Plain text that GitHub turns into mentions, references, links and emoji. The names of emoji may
# contain an underscore, which is already escaped.
_LIVE = re.compile(
    r"@|#(?=\d)|\bGH-(?=\d)|:(?=//)|\bwww(?=\.)|:(?=(?:[\w+\\-]*[a-z+-][\w+\\-]*|100|1234):)",
    re.IGNORECASE,
)


def render_comment(
    folder: RunFolder,
    comparison: Comparison,
    earlier: Sequence[Entry] = (),
    *,
    most_chars: int,
    notes: Sequence[str] = (),
    mention: str | None = None,
    repository_url: str | None = None,
) -> str:
    """Return a run as Markdown for GitHub, of at most `most_chars` characters.

    `notes` are about the history itself, such as skipped runs; `mention` is an account or a team to
    notify; commits are linked below `repository_url`. A comment that is too long loses its parts in
    the order of `CUTS` until headline and facts are left; then the headline is cut.
    """
    report = build_report(folder, comparison, earlier, brief=True, repository_url=repository_url)
    call = f"cc @{escape(mention.removeprefix('@'))}" if mention else ""
    facts = _render_facts(folder, report, repository_url)
    for count in range(len(CUTS) + 1):
        head = (_render_headline(report, MOST_TEXT), facts, call)
        text = _join(*head, *_render_parts(report, notes, CUTS[:count]))
        if len(text) <= most_chars:
            return text
    for rest in ((facts, call), (call,), ()):
        for most in (MOST_TEXT, MOST_NAME, 0):
            text = _join(_render_headline(report, most), *rest)
            if len(text) <= most_chars:
                return text
    return ""


def render_closing(folder: RunFolder, cells: Sequence[Cell], url: str, *, is_accepted: bool) -> str:
    """Return the line for an earlier comment whose regressions are accepted or gone with a run."""
    names = [*dict.fromkeys(name_subject(folder, cell) for cell in cells)]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    shown = ", ".join(_show_name(name) for name in names[:MOST_NAMED]) + more
    run = folder.run
    day = render_link(shield(format_day(run.started, run.started)), url)
    what = "☑️ Accepted with" if is_accepted else "✅ Gone since"
    return f"> **{what} the run of {day}**: {shown}."


def shield(text: str, most: int = MOST_TEXT) -> str:
    """Return `text` escaped for GitHub: no markup, mention, link or formula."""
    text = clean(text)
    text = text if len(text) <= most else f"{text[: max(0, most - 1)]}…"
    # A dollar begins a formula even if it is escaped.
    text = escape(text).replace("\\$", "<span>$</span>")
    return _LIVE.sub(lambda match: f"{match[0]}&#8203;", text)


def _join(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _render_headline(report: Report, most: int) -> str:
    return f"### {SIGNS[report.verdict.level]} {shield(report.verdict.headline, most)}"


def _render_facts(folder: RunFolder, report: Report, repository_url: str | None) -> str:
    """Return one line: where and when this was measured, and what changed on the target."""
    run = folder.run
    when = f"{run.started[:16].replace('T', ' ')} UTC"
    parts = [f"**{shield(run.environment)}**", shield(when), f"profile {shield(run.profile)}"]
    if run.run_url:
        parts.append(render_link("workflow run", run.run_url))
        parts.append(render_link("page with charts", f"{run.run_url}#artifacts"))
    if report.versions:
        before, after = (shield(version, MOST_NAME) for version in report.versions)
        parts.append(f"server {before} → **{after}**")
    if report.commits_url:
        parts.append(render_link("commits since the last good run", report.commits_url))
    elif run.git_sha and SHA.fullmatch(run.git_sha):
        address = f"{repository_url}/commit/{run.git_sha}" if repository_url else None
        parts.append(f"commit {render_link(run.git_sha[:7], address)}")
    return " · ".join(parts)


def _render_line(line: ReportLine) -> str:
    link = render_link("report", line.url)
    return shield(line.text) if link == "report" else f"{shield(line.text)} ({link})"


def _render_parts(report: Report, notes: Sequence[str], cuts: Collection[str]) -> Iterator[str]:
    """Yield the parts after headline and facts, in order."""
    verdict = report.verdict
    if "findings" not in cuts and report.findings:
        yield render_table(report.findings, shield, show_name=_show_name, compact=True)
    yield "\n>\n".join(f"> {shield(problem, MOST_TEXT * 2)}" for problem in verdict.problems)
    yield shield(" ".join(verdict.sentences), MOST_TEXT * 3)
    if "objectives" not in cuts and report.objectives:
        yield _fold("Objectives, with what is left of each", _render_table(report.objectives))
    if "findings" not in cuts:
        yield render_accept(report.accept_command) if report.accept_command else ""
        yield render_remedy(verdict.remedy) if verdict.remedy else ""
    if "notes" not in cuts:
        yield "\n>\n".join(f"> {shield(note)}" for note in (*report.caveats, *notes))
    if "tables" not in cuts:
        is_measured = any(table.rows for table in report.tables)
        is_whole = "rows in which nothing moved" not in cuts
        for table in report.tables if is_measured or verdict.level != "failed" else ():
            is_open = table is report.tables[0] and report.has_regressed()
            yield _render_scenario(table, whole=is_whole, is_open=is_open)
    if "slowest calls" not in cuts and report.slowest:
        summary = "Slowest calls, with their trace ids"
        yield _fold(summary, _render_table(report.slowest))
    if "failures by reason" not in cuts:
        yield _render_failures(report)
    if "replies" not in cuts and report.replies:
        yield _render_replies(report.replies)
    if "how this was measured" not in cuts:
        yield _render_conditions(report)
    if "trend" not in cuts:
        yield from _render_trends(report)
    if "tables" not in cuts and any(table.rows for table in report.tables):
        legend = [shield(line) for line in report.legend]
        legend += [MARKS_LEGEND] if report.is_compared() else []
        yield f"<sub>{' '.join(legend)}</sub>"
    if cuts:
        yield f"<sub>Left out to keep the comment short enough: {', '.join(cuts)}.</sub>"


def _render_scenario(table: ReportTable, *, whole: bool, is_open: bool) -> str:
    """Return a scenario; if not `whole`, only rows in which something moved, or an empty text."""
    rows = tuple(
        row
        for row in table.rows
        if whole or any(cell.worse or cell.status in MOVED for cell in row)
    )
    parts = [
        shield(table.note or ""),
        _render_line(table.compared_with) if table.compared_with else "",
        _render_table(replace(table, rows=rows)) if rows else "",
    ]
    if not any(parts):
        return ""
    news = f": {table.news}" if table.news else ""
    return _fold(f"<b>{table.title}</b>{news}", "\n\n".join(filter(None, parts)), is_open=is_open)


def _render_table(table: ReportTable) -> str:
    """Return a table in which long names are cut, and below it the whole names."""
    names = dict.fromkeys(cell.name for row in table.rows for cell in row)
    whole = [f"- {shield(name, MOST_FULL_NAME)}" for name in names if len(name) > MOST_NAME]
    grid = render_table(table, shield, show_name=_show_name, compact=True)
    return "\n".join((grid, "", "In full:", "", *whole)) if whole else grid


def _show_name(name: str) -> str:
    """Return a name as code if it is harmless there, else as escaped text."""
    is_plain = _PLAIN_NAME.fullmatch(name) and len(name) <= MOST_NAME
    return f"`{name}`" if is_plain else shield(name, MOST_NAME)


def _render_trends(report: Report) -> Iterator[str]:
    """Yield the charts; they are folded if nothing moved."""
    if report.ladder:
        yield render_chart(report.ladder)
    if report.trend:
        chart = render_chart(report.trend)
        yield chart if report.findings else _fold("Trend over the last runs", chart)


def _render_failures(report: Report) -> str:
    lines = [
        line
        for table in report.tables
        if table.details
        for line in ("", f"{table.title}:", "", *(f"- {shield(each)}" for each in table.details))
    ]
    return _fold("Failures by reason", "\n".join(lines[1:])) if lines else ""


def _render_replies(table: ReportTable) -> str:
    legend = f"<sub>{shield(table.note or '', MOST_LEGEND)}</sub>"
    return _fold("Replies: size, first byte, silence", f"{_render_table(table)}\n\n{legend}")


def _render_conditions(report: Report) -> str:
    rows = [("run", shield(report.run_id))]
    rows += [("baseline", _render_line(line)) for line in [report.compared_with] if line]
    rows += [(name, shield(text)) for name, text in report.facts if name not in _HEAD[:3]]
    rows.append(("knobs", shield(report.knobs, MOST_KNOBS)))
    grid = render_grid(("Fact", "Value"), (False, False), rows, compact=True)
    return _fold("How this was measured", grid)


def _fold(summary: str, text: str, *, is_open: bool = False) -> str:
    opening = "<details open>" if is_open else "<details>"
    return f"{opening}<summary>{summary}</summary>\n\n{text}\n\n</details>"
