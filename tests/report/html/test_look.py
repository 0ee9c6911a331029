"""The pages in a real browser: nothing happens, nothing overflows, and all of it can be read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.report.html.page_runs import PAGES, history
from tests.support.shared_browser import SharedBrowser

pytestmark = pytest.mark.slow
LEAST_CONTRAST = 4.5
LOOKED_AT = {
    name: PAGES[name]
    for name in (
        "slower-tool",
        "many-stages",
        "failed",
        "hostile-history",
        "stateless",
        "nasty",
        "over-time",
    )
} | {"history": history}
PHONE, DESK = 360, 1280
# Of every text on the page: what it says, and its contrast (WCAG 2.2) with what lies behind it.
LOOK = """() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const read = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const luminance = (colour) => {
        const [r, g, b] = read(colour).slice(0, 3).map((part) => {
            const share = part / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if (read(colour)[3] === 255) return colour;
        }
        return "white";
    };
    const texts = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || element.closest("title, desc")) continue;
        const style = getComputedStyle(element);
        const colour = element instanceof SVGElement ? style.fill : style.color;
        const both = [luminance(colour), luminance(behind(element))];
        const contrast = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
        texts.push([walker.currentNode.data.trim(), contrast]);
    }
    return {
        texts,
        width: document.documentElement.scrollWidth,
        scripts: document.scripts.length,
        background: read(behind(document.body)).slice(0, 3),
        unpainted: [...document.querySelectorAll("svg [stroke^=var]")]
            .filter((at) => getComputedStyle(at).stroke === "none").length,
        outside: [...document.querySelectorAll("svg text")].filter((at) => {
            const box = at.getBoundingClientRect();
            const room = at.ownerSVGElement.getBoundingClientRect();
            return box.width && (box.left < room.left - 1 || box.right > room.right + 1);
        }).map((at) => at.textContent),
    };
}"""


async def look(
    browser: SharedBrowser, path: Path, width: int, scheme: Literal["light", "dark"]
) -> tuple[Mapping[str, Any], list[str]]:
    """Return what is to be seen on a page, and all that happened: messages, dialogs, requests."""
    events: list[str] = []
    viewport = {"width": width, "height": 800}
    async with browser.open_page(viewport=viewport, color_scheme=scheme) as page:
        page.on("console", lambda message: events.append(message.text))
        page.on("pageerror", lambda error: events.append(str(error)))
        page.on("dialog", lambda dialog: events.append(dialog.message))
        page.on("request", lambda request: events.append(request.url))
        await page.goto(path.as_uri())
        await page.evaluate("document.querySelectorAll('details').forEach((at) => at.open = true)")
        seen: dict[str, Any] = await page.evaluate(LOOK)
    assert events.pop(0) == path.as_uri()
    return seen, events


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "light"), (PHONE, "dark"), (DESK, "dark")])
@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_page_does_not_move_fits_the_window_and_is_legible(
    name: str,
    width: int,
    scheme: Literal["light", "dark"],
    tmp_path: Path,
    shared_browser: SharedBrowser,
) -> None:
    path = tmp_path / "page.html"
    path.write_text(LOOKED_AT[name](), encoding="utf-8")
    seen, events = shared_browser.run(look(shared_browser, path, width, scheme))
    assert events == []
    assert seen["width"] == width
    assert seen["scripts"] == 0
    assert seen["unpainted"] == 0
    assert seen["outside"] == []
    assert (sum(seen["background"]) < 3 * 128) == (scheme == "dark")
    assert len(seen["texts"]) > 20
    assert [text for text in seen["texts"] if text[1] < LEAST_CONTRAST] == []


def test_hostile_names_are_shown_as_they_were_sent(
    tmp_path: Path, shared_browser: SharedBrowser
) -> None:
    path = tmp_path / "page.html"
    path.write_text(LOOKED_AT["nasty"](), encoding="utf-8")
    seen, _ = shared_browser.run(look(shared_browser, path, PHONE, "light"))
    words = [text for text, _ in seen["texts"]]
    for name in ("<img src=x onerror=alert(1)>", "</svg></style><script>alert(1)</script>"):
        assert name in words
    assert {"x" * 300, "{{ 7 * 7 }}", "datum.value", "new line"} <= set(words)
