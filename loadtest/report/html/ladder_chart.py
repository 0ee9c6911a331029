"""Charts of the ladder: latency and throughput by number of concurrent sessions."""

from collections.abc import Iterator, Mapping, Sequence

from loadtest.compare.knee import Knee, find_knee, pick_stages
from loadtest.report.content.formatting import (
    PERCENTILES,
    add_ms,
    format_count,
    format_ms,
    format_rate,
)
from loadtest.report.content.tables import MOST_STAGES, ReportTable
from loadtest.report.content.wording import name_unit, name_units
from loadtest.report.html.vega import (
    LEFT,
    RIGHT,
    WIDTH,
    Axis,
    Chart,
    Layer,
    draw,
    find_ticks,
    layer,
    set_apart,
)
from loadtest.results.history import pick_latency
from loadtest.results.run import Row
from loadtest.results.run_folder import RunFolder

LADDER_HEIGHT = 190
RATE_RIGHT = 70  # holds longer words
NARROWEST_TICKS = 24


def build_ladder(folder: RunFolder, data: ReportTable) -> Iterator[Chart]:
    """Yield a chart of latency and one of throughput, if a stage has data."""
    stages = [stage for stage in pick_stages(folder.rows) if pick_latency(stage)]
    if not stages:
        return
    knee = find_knee(folder.run, folder.rows)
    unit = f"{name_unit(folder)}s"
    yield _build_latency(folder, stages, knee, unit, data)
    yield _build_throughput(folder, stages, knee, unit, data)


def _build_latency(
    folder: RunFolder, stages: Sequence[Row], knee: Knee | None, unit: str, data: ReportTable
) -> Chart:
    found = [(int(stage.name), latency) for stage in stages if (latency := pick_latency(stage))]
    y = _scale(latency.p99 for _, latency in found)
    lines: dict[str, list[tuple[float, float]]] = {
        name: [(float(count), getattr(latency, name)) for count, latency in found]
        for name in PERCENTILES
    }
    ends = {name: format_ms(points[-1][1]) for name, points in lines.items()}
    layers = [*_mark_knee(stages, knee, y)]
    layers += _draw_lines(lines, {name: name for name in lines}, y)
    last = stages[-1]
    description = (
        f"Response time by number of concurrent {unit}; at {name_units(folder, int(last.name))}: "
        f"{', '.join(f'{name} {add_ms(text)}' for name, text in ends.items())}. "
        f"{_describe_knee(folder, knee)}"
    )
    return Chart(
        "Latency", description, draw(layers, _scale_x(stages, unit), y, LADDER_HEIGHT), data
    )


def _build_throughput(
    folder: RunFolder, stages: Sequence[Row], knee: Knee | None, unit: str, data: ReportTable
) -> Chart:
    answered = [(float(stage.name), stage.ok_rate) for stage in stages]
    offered = [
        (float(stage.name), stage.offered_rate)
        for stage in stages
        if stage.offered_rate is not None
    ]
    y = _scale((rate for _, rate in (*answered, *offered)), "calls/s")
    lines = {"offered": offered, "answered": answered}
    layers = [*_mark_knee(stages, knee, y)]
    names = {"answered": "ok"}
    layers += _draw_lines({name: each for name, each in lines.items() if each}, names, y)
    last = stages[-1]
    asked = f" of {format_rate(last.offered_rate)} offered" if last.offered_rate else ""
    description = (
        f"Successful calls per second by number of concurrent {unit}; at "
        f"{name_units(folder, int(last.name))}: {format_rate(last.ok_rate)}{asked}."
    )
    x = _scale_x(stages, unit, RATE_RIGHT)
    return Chart(
        "Throughput", description, draw(layers, x, y, LADDER_HEIGHT, right=RATE_RIGHT), data
    )


def _draw_lines(
    lines: Mapping[str, list[tuple[float, float]]], names: dict[str, str], y: Axis
) -> Iterator[Layer]:
    """Yield a line for each, with its name at its end; names do not overlap."""
    heights = [
        (points[-1][1] - y.low) / (y.high - y.low) * LADDER_HEIGHT for points in lines.values()
    ]
    for (name, points), height, place in zip(
        lines.items(), heights, set_apart(heights), strict=True
    ):
        data = [{"x": x, "y": value} for x, value in points]
        dashes = [4, 4] if name == "offered" else [1, 0]
        yield layer("line", data, name, strokeWidth=2, strokeDash=dashes)
        if name != "offered" and len(data) <= MOST_STAGES:
            yield layer("point", data, name, filled=True, size=26, opacity=1)
        end = {**data[-1], "label": names.get(name, name)}
        yield layer(
            "text",
            [end],
            name,
            align="left",
            baseline="middle",
            dx=7,
            dy=height - place,
            fontWeight=600,
        )


def _mark_knee(stages: Sequence[Row], knee: Knee | None, y: Axis) -> Iterator[Layer]:
    """Yield a labelled rule at the highest sustained stage, and a shade over the stages above."""
    if knee is None or knee.sustained is None:
        return
    at, end = int(knee.sustained.name), int(stages[-1].name)
    if any(int(fault.stage.name) > at for fault in knee.breaks):
        span = {"x": at, "x2": end, "y": y.low, "y2": y.high}
        yield layer("rect", [span], "shade")
    rule = {"x": at, "y": y.low, "y2": y.high}
    yield layer("rule", [rule], "quiet", strokeDash=[2, 3])
    label = {"x": at, "y": y.high, "label": f"{format_count(at)} sustained"}
    side = "right" if at > end / 2 else "left"
    yield layer("text", [label], "text", align=side, dy=-7, fontWeight=600)


def _describe_knee(folder: RunFolder, knee: Knee | None) -> str:
    if knee is None or knee.sustained is None:
        return "No stage was sustained."
    return f"Sustained: {name_units(folder, int(knee.sustained.name))}."


def _scale_x(stages: Sequence[Row], unit: str, right: int = RIGHT) -> Axis:
    """Return an axis with a tick for each stage, without ticks that would touch.

    For many stages, the ticks are round numbers.
    """
    counts = [int(stage.name) for stage in stages]
    if len(counts) > MOST_STAGES:
        round_ticks = tuple(tick for tick in find_ticks(counts[-1]) if tick <= counts[-1])
        return Axis(0, counts[-1], unit, round_ticks, grid=False)
    room = (WIDTH - LEFT - right) / counts[-1]
    ticks = [counts[-1]]
    for count in reversed(counts[:-1]):
        if (ticks[-1] - count) * room >= NARROWEST_TICKS:
            ticks.append(count)
    return Axis(0, counts[-1], unit, tuple(float(tick) for tick in ticks), grid=False)


def _scale(values: Iterator[float], unit: str = "ms") -> Axis:
    ticks = find_ticks(max(values))
    return Axis(ticks[0], ticks[-1], unit, ticks)
