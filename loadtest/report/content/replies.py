"""The replies of a run as a table: how large they were, and when their bytes came."""

from collections.abc import Iterator

from loadtest.compare.comparison import Comparison, compare_replies
from loadtest.report.content.formatting import (
    UNCHANGED,
    format_change,
    format_count,
    format_reply,
)
from loadtest.report.content.tables import Column, ReportTable, TableCell
from loadtest.report.content.wording import name_row
from loadtest.results.history import REPLY_FIGURES, is_aggregate
from loadtest.results.run import SCENARIOS, Replies, Row
from loadtest.results.run_folder import RunFolder

TITLE = "Replies"
LEGEND = (
    "Bytes: the body of a successful call's reply, with the framing of events and without HTTP "
    "headers. Times in ms (s where marked). First byte: counted from sending. Longest silence: "
    "between two pieces of a reply, after its first byte; ≤ marks an upper bound, which is the "
    "time from first to last byte. Of fast calls, only some replies are measured; ~ marks too "
    "few for a steady value."
)


def build_replies(folder: RunFolder, comparison: Comparison) -> ReportTable | None:
    """Return the replies of every step, stage and tool; None if the run measured none."""
    rows = tuple(
        (TableCell(_name(folder, row)), *_build_cells(replies, _find_before(comparison, row)))
        for row, replies in list_replies(folder)
    )
    if not rows:
        return None
    headers = (*REPLY_FIGURES, "measured")
    columns = (Column(header, header.replace(" ", "\n")) for header in headers)
    first = Column("reply to", "reply to", numeric=False)
    return ReportTable(TITLE, (first, *columns), rows, note=LEGEND)


def list_replies(folder: RunFolder) -> Iterator[tuple[Row, Replies]]:
    """Yield the rows that have replies, in the order of the other tables."""
    for scenario in SCENARIOS:
        rows = [row for row in folder.rows if row.scenario == scenario]
        for row in sorted(rows, key=is_aggregate):
            if row.replies is not None:
                yield row, row.replies


def _build_cells(replies: Replies, before: Replies | None) -> Iterator[TableCell]:
    for figure, change in compare_replies(before, replies).items():
        text = format_reply(figure, change.value, replies)
        moved = format_change(figure, change)
        shown = "" if moved == UNCHANGED else moved
        yield TableCell(text, shown, change.status, worse=change.status == "worse")
    observed = f", {format_count(replies.streamed)} observed" if replies.streamed else ""
    yield TableCell(f"{format_count(replies.count)}{observed}")


def _find_before(comparison: Comparison, row: Row) -> Replies | None:
    """Return the replies of the same row in the run that its scenario is compared with."""
    previous = (each.previous for each in comparison.baselines if each.scenario == row.scenario)
    rows = (earlier for entry in previous if entry is not None for earlier in entry.rows)
    key = (row.scenario, row.kind, row.name)
    same = (each for each in rows if (each.scenario, each.kind, each.name) == key)
    return next((each.replies for each in same), None)


def _name(folder: RunFolder, row: Row) -> str:
    return "all tools" if is_aggregate(row) else name_row(folder, row)
