"""The slowest calls of a run, with what their owner needs to find them in a trace."""

from loadtest.report.content.formatting import format_ms
from loadtest.report.content.tables import Column, ReportTable, TableCell, drop_empty
from loadtest.report.content.wording import clean, name_called
from loadtest.results.run_folder import RunFolder

TITLE = "Slowest calls"
MOST_CALLS = 20


def build_slowest(folder: RunFolder) -> ReportTable | None:
    """Return the slowest calls, the slowest first; None if the run kept none."""
    calls = sorted(folder.slowest, key=lambda call: -call.ms)[:MOST_CALLS]
    headers = ("ms", "server says ms", "at (UTC)", "trace", "request id")
    columns = (Column(name, name, numeric=name.endswith("ms")) for name in headers)
    rows = tuple(
        (
            TableCell("", name=name_called(call.kind, call.name)),
            TableCell(format_ms(call.ms)),
            TableCell("" if call.server_ms is None else format_ms(call.server_ms)),
            TableCell(clean(call.at[11:23])),
            TableCell("", name=clean(call.trace_id or "")),
            TableCell("", name=clean(call.request_id or "")),
        )
        for call in calls
    )
    table = ReportTable(TITLE, (Column("called", "called", numeric=False), *columns), rows)
    return drop_empty(table) if rows else None
