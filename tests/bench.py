"""What the README promises, measured: wall times, and ratios to a floor taken side by side."""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtest.browser import find_choice, launch
from loadtest.config import load_settings

ROOT = Path(__file__).parent.parent
ROUNDS = 20
BROWSER_ROUNDS = 5


def run(*arguments: str, cwd: Path = ROOT) -> str:
    """Run Python with these arguments; return what it printed; raise when it fails."""
    done = subprocess.run(  # output shown only on failure
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def measure(rounds: int, *actions: Callable[[], object]) -> list[float]:
    """Return each action's median time in seconds, all taken in turn within the same rounds."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, taken in zip(actions, times, strict=True):
            began = time.perf_counter()
            action()
            taken.append(time.perf_counter() - began)
    return [statistics.median(taken) for taken in times]


def clone(folder: Path) -> Path:
    """Clone this repository's HEAD, so that nothing installed or kept is there."""
    target = folder / "fresh clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(target)], check=True)  # noqa: S607
    return target


def open_two_pages() -> None:
    """Launch the browser and load a page twice, with no OAuth: the floor of a browser mint."""
    from playwright.async_api import async_playwright

    choice = find_choice(load_settings(ROOT).browser_record)

    async def visit() -> None:
        async with async_playwright() as playwright:
            browser = await launch(playwright, choice)
            page = await (await browser.new_context()).new_page()
            for title in ("sign in", "consent"):
                await page.goto(f"data:text/html,<title>{title}</title><h1>{title}</h1>")
            await browser.close()

    asyncio.run(visit())


def bench_commands(table: Table) -> None:
    """Short commands against a bare interpreter that imports Invoke's program."""
    run("-m", "invoke", "mint")
    floor, listed, fresh = measure(
        ROUNDS,
        lambda: run("-c", "import invoke.program"),
        lambda: run("-m", "invoke", "--list"),
        lambda: run("-m", "invoke", "mint"),
    )
    table.add_row("floor: import Invoke", f"{floor:.2f}", "", "")
    table.add_row("inv --list", f"{listed:.2f}", f"{listed / floor:.1f}", "0.4")
    table.add_row("inv mint, bearer still fresh", f"{fresh:.2f}", f"{fresh / floor:.1f}", "0.6")


def bench_browser_mint(table: Table) -> None:
    """A browser mint on a target that is up, against launching the browser for two pages."""
    bearer = load_settings(ROOT).bearer_file
    splits: list[str] = []

    def mint() -> None:
        bearer.unlink(missing_ok=True)
        output = run("-m", "invoke", "mint")
        splits.append(next(line for line in output.splitlines() if "made in" in line))

    floor, whole = measure(BROWSER_ROUNDS, open_two_pages, mint)
    table.add_row("floor: browser, two pages", f"{floor:.2f}", "", "")
    table.add_row("inv mint by browser, process", f"{whole:.2f}", f"{whole / floor:.1f}", "")
    flow = [float(split.split("made in ")[1].split(" s")[0]) for split in splits]
    middle = sorted(range(len(flow)), key=flow.__getitem__)[len(flow) // 2]
    median = statistics.median(flow)
    table.add_row("… of this the flow", f"{median:.2f}", f"{median / floor:.1f}", "4")
    table.add_row(f"… {splits[middle].split('s (')[1].split(')')[0]}", "", "", "")


def bench_chain(table: Table) -> None:
    """The main job on a fresh clone, cold and warm, against the profile's scheduled time."""
    scheduled = load_settings(ROOT).profile.scheduled_seconds()
    with tempfile.TemporaryDirectory() as folder:
        fresh = clone(Path(folder))
        nox = ("-m", "nox", "-s", "loadtest")
        cold, warm = (measure(1, lambda: run(*nox, cwd=fresh))[0] for _ in range(2))
    table.add_row("floor: scheduled by the profile", f"{scheduled:.2f}", "", "")
    table.add_row("nox -s loadtest, fresh clone", f"{cold:.1f}", f"{cold / scheduled:.1f}", "")
    table.add_row("nox -s loadtest, again", f"{warm:.1f}", f"{warm / scheduled:.1f}", "")
    table.add_row("… beyond the schedule", f"{warm - scheduled:.1f}", "", "15")


BENCHES = {"commands": bench_commands, "mint": bench_browser_mint, "chain": bench_chain}


def main(chosen: Sequence[str]) -> None:
    """Run the benches named, or all."""
    unknown = set(chosen) - BENCHES.keys()
    if unknown:
        raise SystemExit(f"unknown bench {', '.join(unknown)}: there are {', '.join(BENCHES)}")
    table = Table("median, in seconds", "seconds", "÷ floor", "at most", box=None)
    for name in chosen or BENCHES:
        BENCHES[name](table)
    Console(width=max(80, os.get_terminal_size().columns if sys.stdout.isatty() else 80)).print(
        table
    )


if __name__ == "__main__":
    main(sys.argv[1:])
