"""The failed calls by reason: each counted once, over all scenarios."""

from collections import Counter
from collections.abc import Iterator

from loadtest.report.content.formatting import format_count, format_share
from loadtest.report.content.tables import Column, ReportTable, TableCell
from loadtest.report.content.wording import TITLES, format_reasons, name_row
from loadtest.report.html.vega import Axis, Chart, draw, find_ticks, layer, shorten
from loadtest.results.history import is_aggregate
from loadtest.results.run import CALLED, Row
from loadtest.results.run_folder import RunFolder

BAR_HEIGHT = 34
MARGIN = 8
MOST_REASONS = 8
MOST_REASON_NAME = 46


def build_failures(folder: RunFolder) -> Chart | None:
    """Return a chart of the commonest reasons, and all of them per row; None without any."""
    found = list(_list_failures(folder))
    if not found:
        return None
    counts: Counter[str] = Counter()
    for _, reason, count in found:
        counts[reason] += count
    shown = counts.most_common(MOST_REASONS)
    height = BAR_HEIGHT * len(shown)
    ticks = find_ticks(shown[0][1])
    places = [height - BAR_HEIGHT * place - 24 for place in range(len(shown))]
    bars = [
        {"x": 0, "x2": count, "y": y - 4, "y2": y + 4}
        for (_, count), y in zip(shown, places, strict=True)
    ]
    labels = [
        {"x": 0, "y": y + 7, "label": shorten(format_reasons({reason: count}), MOST_REASON_NAME)}
        for (reason, count), y in zip(shown, places, strict=True)
    ]
    picture = draw(
        [layer("rect", bars, "bad"), layer("text", labels, align="left", baseline="bottom")],
        Axis(0, ticks[-1], "calls", ticks),
        Axis(0, height, "", shown=False),
        height,
        left=MARGIN,
        right=MARGIN * 2,
        top=0,
    )
    more = (
        f" The chart shows the {MOST_REASONS} most frequent." if len(counts) > MOST_REASONS else ""
    )
    total = counts.total()
    failures = f"{format_count(total)} failure{'s' * (total != 1)}"
    kinds = f"{len(counts)} kind{'s' * (len(counts) != 1)}"
    description = f"{failures} of {kinds}.{more}"
    return Chart("Failures by reason", description, picture, _build_data(folder, found))


def _list_failures(folder: RunFolder) -> Iterator[tuple[Row, str, int]]:
    for row in folder.rows:
        parts = any(
            other.scenario == row.scenario and other.kind in CALLED and not is_aggregate(other)
            for other in folder.rows
        )
        if (is_aggregate(row) and parts) or row.kind in {"flow", "stream", "control"}:
            continue
        for reason, count in row.failures.items():
            if count:
                yield row, reason, count


def _build_data(folder: RunFolder, found: list[tuple[Row, str, int]]) -> ReportTable:
    texts = ("scenario", "where", "reason", "share")
    columns = tuple(Column(text, text, numeric=text == "share") for text in texts)
    rows = []
    for row, reason, count in found:
        name = name_row(folder, row)
        where = f"opening {name}" if row.kind == "opening" else name
        cells = (TITLES.get(row.scenario, row.scenario), where, format_reasons({reason: count}))
        rows.append(tuple(map(TableCell, (*cells, format_share(count / row.count)))))
    return ReportTable("Failures by reason", columns, tuple(rows))
