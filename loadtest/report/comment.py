"""A run as a comment on the tracking issue, within GitHub's limit of length."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from loadtest.compare.changes import BOLD
from loadtest.compare.comparison import Comparison
from loadtest.report.content.changes import ReportLine
from loadtest.report.content.report import Report, build_report
from loadtest.report.content.tables import ReportTable
from loadtest.report.content.verdict import Level
from loadtest.report.content.wording import clean, is_address
from loadtest.report.markdown import (
    MARKS,
    MARKS_LEGEND,
    escape,
    render_accept,
    render_chart,
    render_grid,
    render_table,
)
from loadtest.results.history import Entry
from loadtest.results.run_folder import RunFolder

# The parts that are left out if a comment would be too long, in this order.
CUTS = (
    "how this was measured",
    "replies",
    "failures by reason",
    "trend",
    "rows that are not worse",
    "notes",
    "tables",
    "regressions in detail",
)
MOST_NAME = 80
MOST_TEXT = 400
MOST_KNOBS = 4000
MOST_LEGEND = 1000
_SIGNS: dict[Level, str] = {"good": "✅", "warning": "⚠️", "bad": "❌"}
_HEAD = ("environment", "target", "profile", "protocol", "time", "git SHA", "workflow run")
# Plain text that GitHub turns into mentions, references, links and emoji. The names of emoji may
# contain an underscore, which is already escaped.
_LIVE = re.compile(
    r"@|#(?=\d)|\bGH-(?=\d)|:(?=//)|\bwww(?=\.)|:(?=(?:[\w+\\-]*[a-z+-][\w+\\-]*|100|1234):)",
    re.IGNORECASE,
)
_SHA = re.compile(r"[0-9a-f]{7,64}")


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
    the order of `CUTS` until verdict and facts are left; then the verdict is cut.
    """
    report = build_report(folder, comparison, earlier, brief=True)
    call = f"cc @{escape(mention.removeprefix('@'))}" if mention else ""
    facts = _render_facts(folder, report, repository_url)
    for count in range(len(CUTS) + 1):
        head = (_render_verdict(report, MOST_TEXT * 4), facts, call)
        text = _join(*head, *_render_parts(report, notes, CUTS[:count]))
        if len(text) <= most_chars:
            return text
    for rest in ((facts, call), (call,), ()):
        for most in (MOST_TEXT, MOST_NAME, 0):
            text = _join(_render_verdict(report, most), *rest)
            if len(text) <= most_chars:
                return text
    return ""


def shield(text: str, most: int = MOST_TEXT) -> str:
    """Return `text` escaped for GitHub: no markup, mention, link or formula."""
    text = clean(text)
    text = text if len(text) <= most else f"{text[: max(0, most - 1)]}…"
    # A dollar begins a formula even if it is escaped.
    text = escape(text).replace("\\$", "<span>$</span>")
    return _LIVE.sub(lambda match: f"{match[0]}&#8203;", text)


def _join(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _render_verdict(report: Report, most: int) -> str:
    return f"{_SIGNS[report.verdict.level]} **{shield(report.verdict.text, most)}**"


def _render_facts(folder: RunFolder, report: Report, repository_url: str | None) -> str:
    """Return lines with the target, the time and commit, and the baseline."""
    run = folder.run
    shown = {name: shield(value) for name, value in report.facts}
    if run.git_sha and _SHA.fullmatch(run.git_sha):
        address = f"{repository_url}/commit/{run.git_sha}" if repository_url else None
        shown["git SHA"] = _link(run.git_sha[:7], address) or run.git_sha[:7]
    for name, label in (("profile", "profile"), ("protocol", "protocol"), ("git SHA", "commit")):
        shown[name] = f"{label} {shown[name]}"
    if run.run_url:
        shown["workflow run"] = _link("workflow run", run.run_url) or shown["workflow run"]
    lines = [
        " · ".join(shown[name] for name in names if name in shown)
        for names in (_HEAD[:4], _HEAD[4:])
    ]
    if report.compared_with:
        lines.append(_render_line(report.compared_with))
    return "\\\n".join(lines)


def _link(text: str, address: str | None) -> str:
    """Return a link, or an empty text if the address is not valid."""
    return f"[{text}]({address})" if address and is_address(address) else ""


def _render_line(line: ReportLine) -> str:
    link = _link("report", line.url)
    return f"{shield(line.text)} ({link})" if link else shield(line.text)


def _render_regression(line: ReportLine) -> str:
    mark = f"{MARKS[line.status]} " if line.status in MARKS else ""
    return f"- {mark}{_render_line(line)}"


def _render_parts(report: Report, notes: Sequence[str], cuts: Collection[str]) -> Iterator[str]:
    """Yield the parts after verdict and facts, in order."""
    if "regressions in detail" not in cuts:
        yield "\n".join(_render_regression(line) for line in report.regressions)
        yield render_accept(report.accept_command) if report.accept_command else ""
    if "notes" not in cuts:
        yield "\n>\n".join(f"> {shield(note)}" for note in (*report.caveats, *notes))
    if "tables" not in cuts:
        for table in report.tables:
            yield _render_scenario(table, whole="rows that are not worse" not in cuts)
    if "trend" not in cuts and report.trend:
        yield render_chart(report.trend)
    if "failures by reason" not in cuts:
        yield _render_failures(report)
    if "replies" not in cuts and report.replies:
        yield _render_replies(report.replies)
    if "how this was measured" not in cuts:
        yield _render_conditions(report)
    if "tables" not in cuts and any(table.rows for table in report.tables):
        legend = [shield(line) for line in report.legend]
        legend += [MARKS_LEGEND] if report.is_compared() else []
        yield f"<sub>{' '.join(legend)}</sub>"
    if cuts:
        yield f"<sub>Left out to keep the comment short enough: {', '.join(cuts)}.</sub>"


def _render_scenario(table: ReportTable, *, whole: bool) -> str:
    """Return a scenario; if not `whole`, only rows that are worse, or an empty text."""
    rows = tuple(row for row in table.rows if whole or any(cell.status in BOLD for cell in row))
    parts = [
        shield(table.note or ""),
        _render_line(table.compared_with) if table.compared_with else "",
        render_table(replace(table, rows=rows), _shield_name, compact=True) if rows else "",
    ]
    return "\n\n".join((f"#### {table.title}", *filter(None, parts))) if any(parts) else ""


def _shield_name(text: str) -> str:
    return shield(text, MOST_NAME)


def _render_failures(report: Report) -> str:
    lines = [
        line
        for table in report.tables
        if table.details
        for line in ("", f"{table.title}:", "", *(f"- {shield(each)}" for each in table.details))
    ]
    return _fold("Failures by reason", "\n".join(lines[1:])) if lines else ""


def _render_replies(table: ReportTable) -> str:
    grid = render_table(table, _shield_name, compact=True)
    legend = f"<sub>{shield(table.note or '', MOST_LEGEND)}</sub>"
    return _fold("Replies: size, first byte, silence", f"{grid}\n\n{legend}")


def _render_conditions(report: Report) -> str:
    facts = [fact for fact in report.facts if fact[0] not in _HEAD]
    rows = [(name, shield(text)) for name, text in facts]
    rows.append(("knobs", shield(report.knobs, MOST_KNOBS)))
    grid = render_grid(("Fact", "Value"), (False, False), rows, compact=True)
    return _fold("How this was measured", grid)


def _fold(summary: str, text: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{text}\n\n</details>"
