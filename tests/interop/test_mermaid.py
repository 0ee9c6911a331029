"""The charts of the reviewed comments, drawn by Mermaid itself (npm: mermaid) in a real browser."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import async_playwright

from loadtest.mint.browser.launcher import BrowserChoice, launch

MODULES = Path(__file__).with_name("node_modules")
# The newest version and an older one, because GitHub does not publish which it uses.
BUNDLES = {
    "newest": MODULES / "mermaid" / "dist" / "mermaid.min.js",
    "older": MODULES / "@mermaid-js" / "tiny" / "dist" / "mermaid.tiny.js",
}
GOLDEN = Path(__file__).parents[1] / "report" / "golden"
FENCE = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CHARTS = {
    path.name.removesuffix(".comment.md"): chart
    for path in sorted(GOLDEN.glob("*.comment.md"))
    for chart in FENCE.findall(path.read_text(encoding="utf-8"))
}
DRAW = """async (chart) => {
    mermaid.initialize({ startOnLoad: false, securityLevel: "strict" });
    document.body.innerHTML = (await mermaid.render("chart", chart)).svg;
    const read = (selector) => [...document.querySelectorAll(selector)].map((at) => at.textContent);
    return {
        role: document.querySelector("svg").getAttribute("aria-roledescription"),
        title: read(".chart-title text"),
        names: read(".bottom-axis .label text"),
        unit: read(".left-axis .title text"),
        marks: read(".left-axis .label text").map(Number),
        lines: [...document.querySelectorAll(".plot path")].map((at) => at.getAttribute("d")),
        text: document.body.innerText,
    };
}"""


async def draw(choice: BrowserChoice, bundle: Path, chart: str) -> dict[str, Any]:
    """Return what a chart shows; drawing it must send no request."""
    fetched: list[str] = []
    async with async_playwright() as playwright:
        browser = await launch(playwright, choice)
        page = await browser.new_page()
        page.on("request", lambda request: fetched.append(request.url))
        await page.set_content("<!doctype html><body></body>")
        await page.add_script_tag(content=bundle.read_text(encoding="utf-8"))
        drawn: dict[str, Any] = await page.evaluate(DRAW, chart)
        await browser.close()
    assert not fetched
    return drawn


def read_line(chart: str, word: str) -> str:
    return next(line.split(word)[1] for line in chart.splitlines() if line.startswith(f"  {word}"))


@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize("name", CHARTS)
def test_mermaid_draws_every_run_of_a_chart(
    browser_choice: BrowserChoice, name: str, bundle: str
) -> None:
    chart = CHARTS[name]
    drawn = asyncio.run(draw(browser_choice, BUNDLES[bundle], chart))
    names = json.loads(read_line(chart, "x-axis"))
    values = json.loads(read_line(chart, "line"))
    unit, top = read_line(chart, "y-axis").split(" 0 --> ")
    assert drawn["role"] == "xychart"
    assert drawn["title"] == [json.loads(read_line(chart, "title"))]
    assert drawn["names"] == names
    assert drawn["unit"] == [json.loads(unit)]
    assert min(drawn["marks"]) == 0
    assert max(drawn["marks"]) == float(top)
    assert len(drawn["marks"]) <= 12
    (line,) = drawn["lines"]
    heights = [float(point.split(",")[1]) for point in re.split("[ML]", line)[1:]]
    assert len(heights) == len(names) == len(values)
    assert heights.index(min(heights)) == values.index(max(values))
    assert "Syntax error" not in drawn["text"]


def test_the_charts_include_every_kind() -> None:
    assert {"compared", "regressed", "hostile-history"} <= CHARTS.keys()
