"""The pages, checked for accessibility by axe (npm: axe-core) in a real browser."""

import asyncio
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import async_playwright

from loadtest.mint.browser.launcher import BrowserChoice, launch
from tests.report.html.page_runs import PAGES, history

AXE = Path(__file__).with_name("node_modules") / "axe-core" / "axe.min.js"
CHECKED = {
    name: PAGES[name]
    for name in (
        "slower-tool",
        "many-stages",
        "failed",
        "rate-limited",
        "larger",
        "nasty",
        "over-time",
    )
} | {"history": history}
RUN = "async () => (await axe.run()).violations"


async def find_violations(
    choice: BrowserChoice, page_text: str, scheme: Literal["light", "dark"]
) -> list[dict[str, Any]]:
    async with async_playwright() as playwright:
        browser = await launch(playwright, choice)
        # The page's own policy forbids scripts.
        page = await browser.new_page(bypass_csp=True, color_scheme=scheme)
        await page.set_content(page_text)
        await page.evaluate("document.querySelectorAll('details').forEach((at) => at.open = true)")
        await page.evaluate(AXE.read_text(encoding="utf-8"))
        found: list[dict[str, Any]] = await page.evaluate(RUN)
        await browser.close()
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", CHECKED)
def test_axe_finds_nothing_wrong_with_a_page(
    browser_choice: BrowserChoice, name: str, scheme: Literal["light", "dark"]
) -> None:
    found = asyncio.run(find_violations(browser_choice, CHECKED[name](), scheme))
    assert [
        (each["id"], node["html"][:200], node["failureSummary"])
        for each in found
        for node in each["nodes"]
    ] == []
