"""The README's pictures, of real runs: `nox -s pictures` takes them again, in about five minutes.

A run of the quick start as a terminal shows it; then runs against a reference target that becomes
slower, posted to a loopback GitHub: the last one's comment and page.
"""

import asyncio
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

# As in conftest.py: two threads that import it at once trip up.
import mcp.client  # noqa: F401
from markdown_it import MarkdownIt
from playwright.async_api import Page, async_playwright
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from loadtest.config.project import CONFIG_FILE
from loadtest.context import REGRESSED_EXIT_CODE
from loadtest.mint.browser.launcher import BrowserChoice, find_choice, launch
from loadtest.reference.knobs import Knobs
from loadtest.reference.server import ReferenceTarget
from tests.bench.common import clone
from tests.support.checkout import ROOT
from tests.support.github_server import BOT, GithubServer, serve_github

PICTURES = ROOT / "docs" / "pictures"
BUNDLE = ROOT / "tests" / "interop" / "node_modules" / "mermaid" / "dist" / "mermaid.min.js"
COLUMNS = 100
RUN = (
    *("loadtest", "--env", "staging", "--profile", "smoke", "--stages", "1,10,25"),
    *("--stage-seconds", "6", "--iterations", "60", "--duration", "8"),
)
# What each tool call is slowed by, run by run, in ms: a regression, confirmed by its second run.
SLOWED = (2, 2, 2, 2, 25, 25)
# Colour emoji need a font that few machines have.
SIGNS = {
    "✅": '<span style="color: #1a7f37">✔</span>',
    "❌": '<span style="color: #d1242f">✖</span>',
    "⚠️": '<span style="color: #9a6700">⚠</span>',
    "👀": '<b style="color: #9a6700">?</b>',
}
STYLE = """
body { margin: 0; padding: 16px; font: 14px/1.5 system-ui, sans-serif; color: #1f2328; }
article { border: 1px solid #d1d9e0; border-radius: 6px; }
header { padding: 8px 16px; background: #f6f8fa; border-bottom: 1px solid #d1d9e0; color: #59636e; }
header b { color: #1f2328; }
main { padding: 0 16px 8px; }
table { border-collapse: collapse; margin: 12px 0; font-size: 13px; }
td, th { border: 1px solid #d1d9e0; padding: 4px 10px; }
blockquote { margin: 0; padding: 0 12px; border-left: 4px solid #d1d9e0; color: #59636e; }
a { color: #0969da; text-decoration: none; }
sub { color: #59636e; }
.mermaid { text-align: center; }
"""


def main() -> None:
    """Make all pictures."""
    choice = find_choice(ROOT / ".loadtest" / "browser.json")
    with TemporaryDirectory() as folder, serve_github() as github:
        checkout = clone(Path(folder))
        drop_quota(checkout / CONFIG_FILE)
        draw_terminal(run(checkout, "loadtest"), PICTURES / "run.svg")
        github.account = BOT
        measure(checkout, Path(folder, "target"), github)
        (issue,) = github.issues.values()
        newest = max((checkout / ".loadtest" / "runs").iterdir(), key=lambda at: at.stat().st_mtime)
        asyncio.run(shoot(choice, issue.comments[-1].body, newest / "report.html"))


def drop_quota(config: Path) -> None:
    """Remove the quota of staging: our target has none, and the mix is to run at full speed."""
    text = config.read_text(encoding="utf-8")
    text = re.sub(r"^\[environment\.staging\.quota\]\n(?:.+\n)+", "", text, flags=re.MULTILINE)
    config.write_text(text, encoding="utf-8")


def run(checkout: Path, *arguments: str, fine: tuple[int, ...] = (0,), **variables: str) -> str:
    """Run a task as a terminal would show it; return what it printed."""
    shown = {"FORCE_COLOR": "1", "TTY_INTERACTIVE": "0", "COLUMNS": str(COLUMNS)}
    done = subprocess.run(
        [sys.executable, "-m", "invoke", *arguments],
        cwd=checkout,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]} | shown | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode not in fine:
        raise SystemExit(done.stdout)
    return done.stdout.replace(sys.prefix, ".venv")


def draw_terminal(output: str, path: Path) -> None:
    """Draw what a task printed; the picture fetches no font."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(f"$ inv loadtest\n{output.rstrip()}"))
    template = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    console.save_svg(str(path), title="mcp-loadtest", code_format=template, unique_id="run")


def measure(checkout: Path, state_dir: Path, github: GithubServer) -> None:
    """Measure a server that becomes slower, run by run."""
    for slowed in SLOWED:
        with serve_slowed(state_dir, slowed) as target:
            run(
                checkout,
                *RUN,
                fine=(0, REGRESSED_EXIT_CODE),
                LOADTEST_BASE_URL=target.api_url,
                LOADTEST_EMAIL="loadtest@example.com",
                **github.variables,
            )


@contextmanager
def serve_slowed(state_dir: Path, slowed: int) -> Iterator[ReferenceTarget]:
    knobs = Knobs(
        tool_latency=f"constant:{slowed}", tool_quota=False, account_limits=False, eras="handshake"
    )
    with ReferenceTarget(knobs, state_dir=state_dir) as target:
        yield target


async def shoot(choice: BrowserChoice, comment: str, report: Path) -> None:
    """Take the pictures of the comment, as GitHub would show it, and of the page."""
    async with async_playwright() as playwright:
        browser = await launch(playwright, choice)
        page = await browser.new_page(viewport={"width": 900, "height": 1150})
        await show_comment(page, comment)
        await page.locator("article").screenshot(path=PICTURES / "comment.png")
        await page.set_viewport_size({"width": 1080, "height": 1600})
        await page.goto(report.as_uri())
        await page.screenshot(path=PICTURES / "page.png")
        await browser.close()


async def show_comment(page: Page, comment: str) -> None:
    body = MarkdownIt("commonmark", {"html": True}).enable("table").render(comment)
    body = re.sub(
        r'<pre><code class="language-mermaid">(.*?)</code></pre>',
        r'<div class="mermaid">\1</div>',
        body,
        flags=re.DOTALL,
    )
    for sign, drawn in SIGNS.items():
        body = body.replace(sign, drawn)
    head = f"<b>{BOT.removesuffix('[bot]')}</b> bot commented"
    await page.set_content(
        f"<!doctype html><style>{STYLE}</style>"
        f"<article><header>{head}</header><main>{body}</main></article>"
    )
    await page.add_script_tag(path=BUNDLE)
    await page.evaluate("mermaid.initialize({ startOnLoad: false }); mermaid.run()")


if __name__ == "__main__":
    main()
