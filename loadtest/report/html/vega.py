"""Charts as SVG: drawn by vl-convert from Vega-Lite, in the colours of the page's style sheet."""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import vl_convert
from markupsafe import Markup

from loadtest.report.content.tables import ReportTable

GRAMMAR = "6.4"
# Of the whole picture, in its own units: about as wide as a phone, so that text stays legible.
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 380, 44, 32, 28, 32
LINE = 14
_ROOT = re.compile(r"^<svg [^>]*>|</svg>\s*$")
# The whole picture is an image with a text; a screen reader must not look for one in its parts.
_TAG = re.compile(r"<[a-z][^>]*>")
_PART = re.compile(r' (?:role|aria-[a-z]+)="[^"]*"')
_TEXT = {"labelColor": "var(--quiet)", "titleColor": "var(--quiet)"}
_SIZES = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
# Nothing depends on the fonts of a machine, because no text is measured.
_CONFIG = {
    "aria": False,
    "background": None,
    "view": {"stroke": None},
    "axis": {
        **_TEXT,
        **_SIZES,
        "domain": False,
        "ticks": False,
        "grid": True,
        "gridColor": "var(--line)",
        "labelPadding": 6,
        "labelOverlap": False,
        "labelBound": False,
        "labelFlush": False,
        "labelLimit": 0,
        "titleLimit": 0,
    },
    "text": {"color": "var(--text)", "fontSize": 12, "limit": 0},
}

Layer = Mapping[str, Any]
Datum = Mapping[str, object]


@dataclass(frozen=True)
class Picture:
    """An SVG without its root element, `width` by `height` in its own units."""

    body: Markup
    height: int
    width: int = WIDTH


@dataclass(frozen=True)
class Chart:
    """A picture, its description, and its figures."""

    title: str
    description: str
    picture: Picture
    data: ReportTable


@dataclass(frozen=True)
class Axis:
    """The range of an axis, its ticks and its unit."""

    low: float
    high: float
    unit: str
    ticks: tuple[float, ...] = ()
    log: bool = False
    grid: bool = True
    shown: bool = True


def layer(mark: str, data: Iterable[Datum], color: str = "text", **style: Any) -> Layer:
    """Return marks at `x` and `y` (to `x2`, `y2` where given); a text shows `label`."""
    values = list(data)
    keys = values[0].keys() if values else set()
    encoding = {key: {"field": key} for key in ("x2", "y2") if key in keys}
    if mark == "text":
        encoding["text"] = {"field": "label"}
    shade = {"fill" if mark in {"text", "rect", "bar"} else "color": f"var(--{color})"}
    return {
        "data": {"values": values},
        "mark": {"type": mark, **shade, **style},
        "encoding": encoding,
    }


def draw(
    layers: Sequence[Layer],
    x: Axis,
    y: Axis,
    plot_height: int,
    *,
    left: int = LEFT,
    right: int = RIGHT,
    top: int = TOP,
) -> Picture:
    """Draw marks over the axes; those without data are left out."""
    plot_width = WIDTH - left - right
    spec = {
        "width": plot_width,
        "height": plot_height,
        "autosize": "none",
        "padding": {"left": left, "right": right, "top": top, "bottom": BOTTOM},
        "config": _CONFIG,
        "layer": [each for each in layers if each["data"]["values"]],
        "encoding": {
            "x": _encode(
                "x",
                x,
                titleAnchor="end",
                titleAlign="right",
                titleX=plot_width + right - 2,
                titleY=22,
            ),
            "y": _encode("y", y, titleAngle=0, titleAlign="left", titleX=4 - left, titleY=-14),
        },
    }
    svg = vl_convert.vegalite_to_svg(spec, vl_version=GRAMMAR, allowed_base_urls=[])
    body = _TAG.sub(lambda tag: _PART.sub("", tag[0]), _ROOT.sub("", svg))
    # The library escapes what it draws.
    return Picture(Markup(body), top + plot_height + BOTTOM)  # noqa: S704


def _encode(field: str, axis: Axis, **title: Any) -> dict[str, Any]:
    how: dict[str, Any] | None = None
    if axis.shown:
        how = {"title": axis.unit, "grid": axis.grid, **title}
        # As in tables: counts with separators, times without.
        how |= {"values": list(axis.ticks), "format": ".6~f" if axis.unit == "ms" else ",.6~f"}
    scale = {"type": "log" if axis.log else "linear", "nice": False, "zero": False}
    return {
        "field": field,
        "type": "quantitative",
        "scale": {**scale, "domain": [axis.low, axis.high]},
        "axis": how,
    }


def find_ticks(high: float, low: float = 0.0) -> tuple[float, ...]:
    """Return about five round values from below `low` to above `high`."""
    step = (high - low or 1.0) / 4
    power = 10.0 ** math.floor(math.log10(step))
    step = next(power * by for by in (1, 2, 2.5, 5, 10) if power * by >= step * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(round(step * place, 9) for place in range(first, max(last, first + 1) + 1))


def find_log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Return powers of ten between two values, or finer ticks if these are fewer than three."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for parts in ((1,), (1, 3), (1, 2, 5)):
        ticks = [by * 10.0**power for power in powers for by in parts]
        within = tuple(tick for tick in ticks if low * 0.999 <= tick <= high * 1.001)
        if len(within) >= 3:
            break
    return within


def set_apart(places: Sequence[float], least: float = LINE) -> list[float]:
    """Return places on a line, moved so that each is at least `least` from the next."""
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = list(places)
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + least)
    return moved


def shorten(text: str, most: int) -> str:
    """Return `text` in at most `most` columns, counted as a terminal does."""
    width = 0
    for place, char in enumerate(text):
        width += 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if width > most:
            return f"{text[: max(0, place - 1)]}…"
    return text
