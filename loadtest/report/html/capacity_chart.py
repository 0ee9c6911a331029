"""The chart of a search for the capacity: each step, and the range that the edge is in."""

from collections.abc import Iterator

from loadtest.report.content.capacity import describe_capacity
from loadtest.report.content.formatting import format_count, format_share
from loadtest.report.content.tables import Column, ReportTable, TableCell
from loadtest.report.content.wording import clean
from loadtest.report.html.vega import RIGHT, Axis, Chart, Layer, draw, find_ticks, layer
from loadtest.results.run import MOST_STRAIN, Capacity
from loadtest.results.run_folder import RunFolder

HEIGHT = 190
_COLUMNS = (
    Column("step", "step"),
    Column("load", "load"),
    Column("result", "result", numeric=False),
    Column("of its limit", "of its limit"),
)


def build_capacity(folder: RunFolder) -> Chart | None:
    """Return the chart of a search, None for another run or before the first step."""
    found = folder.run.capacity
    if found is None or not found.steps:
        return None
    unit = "calls/s" if found.unit == "calls" else found.unit
    ticks = find_ticks(max(step.load for step in found.steps))
    count = len(found.steps)
    x = Axis(0.5, count + 0.5, "step", tuple(range(1, count + 1)), grid=False)
    y = Axis(0, ticks[-1], unit, ticks)
    picture = draw([*_mark_edge(found, x), *_draw_steps(found)], x, y, HEIGHT, right=RIGHT)
    return Chart("Search", describe_capacity(folder), picture, _build_data(found))


def _mark_edge(found: Capacity, x: Axis) -> Iterator[Layer]:
    """Yield a shade over the range that the edge is in, and a rule at what is borne."""
    if found.high is not None:
        yield layer("rect", [{"x": x.low, "x2": x.high, "y": found.low, "y2": found.high}], "shade")
    if found.most:
        rule = {"x": x.low, "x2": x.high, "y": found.most, "y2": found.most}
        yield layer("rule", [rule], "quiet", strokeDash=[2, 3])
        label = {"x": x.high, "y": found.most, "label": format_count(found.most)}
        yield layer("text", [label], "text", align="left", dx=4, baseline="middle", fontWeight=600)


def _draw_steps(found: Capacity) -> Iterator[Layer]:
    """Yield a line through all steps, and a mark for each: a dot if it was borne, else a cross."""
    points = [
        {"x": number, "y": step.load, "borne": step.is_borne}
        for number, step in enumerate(found.steps, 1)
    ]
    yield layer("line", points, "track", strokeWidth=1.5)
    borne = [point for point in points if point["borne"]]
    too_much = [point for point in points if not point["borne"]]
    yield layer("point", borne, "good", filled=True, size=60, opacity=1)
    yield layer("point", too_much, "bad", shape="cross", filled=True, size=80, opacity=1)


def _build_data(found: Capacity) -> ReportTable:
    return ReportTable("Steps of the search", _COLUMNS, tuple(_list_steps(found)))


def _list_steps(found: Capacity) -> Iterator[tuple[TableCell, ...]]:
    for number, step in enumerate(found.steps, 1):
        reason = clean(step.reason or "")
        yield (
            TableCell(str(number)),
            TableCell(format_count(step.load)),
            TableCell("borne" if step.is_borne else f"too much: {reason}"),
            TableCell("" if step.strain >= MOST_STRAIN else format_share(step.strain)),
        )
