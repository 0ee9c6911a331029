"""Mints against the reference target, compared with a browser that loads the same pages."""

import asyncio
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlencode

from rich.table import Table

from loadtest.config.loading import load_settings
from loadtest.config.models import Via
from loadtest.config.project import CONFIG_FILE
from loadtest.config.settings import Settings
from loadtest.errors import LoadtestError
from loadtest.mint.browser.launcher import BrowserChoice, find_choice, launch
from loadtest.mint.oauth.request import Timings
from loadtest.mint.options import MintOptions
from loadtest.mint.pool import MintRequest, mint_slots
from loadtest.provision.provisioner import provision
from loadtest.state.bearers import bearer_path
from loadtest.state.clients import ClientStore
from loadtest.target.process import serve_reference
from tests.bench.common import measure, run
from tests.support.checkout import ROOT

ROUNDS = 20
CONSECUTIVE = 200
RACE_SHARE = 0.2
QUIET = ("--no-account-limits", "--no-tool-quota")


@dataclass(frozen=True)
class Place:
    """A target that is up, and settings of a hosted environment that points at it."""

    settings: Settings
    api_url: str

    def mint(self, via: Via) -> Timings:
        """Mint again; raise MintError if that fails."""
        mcp_url = self.settings.build_mcp_url(self.api_url, self.settings.credentials.workspace_id)
        request = MintRequest(self.settings, MintOptions(via=via), mcp_url, 60, lambda _: None)
        return mint_slots(request, (0,))[1]


@contextmanager
def open_place(*options: str) -> Iterator[Place]:
    """Serve a target with a provisioned user, in a checkout that ends with the block."""
    with (
        tempfile.TemporaryDirectory() as name,
        serve_reference(Path(name) / "target", *QUIET, *options) as target,
    ):
        root = Path(name) / "checkout"
        root.mkdir()
        for part in ("loadtest", "tasks.py", CONFIG_FILE):
            (root / part).symlink_to(ROOT / part)
        variables = {
            "LOADTEST_BASE_URL": target.api_url,
            "LOADTEST_EMAIL": "bench@novamart.example",
        }
        (root / ".env").write_text("".join(f"{k}={v}\n" for k, v in variables.items()))
        settings = load_settings(root, "staging", "smoke", process_env={})
        shutil.copytree(ROOT / ".loadtest", settings.browser_record.parent, dirs_exist_ok=True)
        done = provision(settings, target.api_url, lambda _: None)
        yield Place(replace(settings, credentials=done.credentials), target.api_url)


def find_pages(place: Place) -> tuple[str, str, dict[str, str]]:
    """Return the addresses of the sign-in and the consent page, and a session's cookies."""
    import httpx

    who = place.settings.credentials
    assert who.password is not None
    found = ClientStore(place.settings.state_dir).read()[0]
    query = urlencode(
        {
            "client_id": found.client.client_id,
            "redirect_uri": "http://127.0.0.1/callback",
            "response_type": "code",
            "code_challenge": "c" * 43,
            "code_challenge_method": "S256",
            "state": "bench",
            "scope": place.settings.environment.scope or "",
            "prompt": "consent",
        }
    )
    url = f"{found.metadata['authorization_endpoint']}?{query}"
    with httpx.Client() as http:
        signed_out = http.get(url).headers["location"]
        body = {"email": who.email, "password": who.password.get_secret_value()}
        http.post(f"{place.api_url}/api/auth/sign-in/email", json=body).raise_for_status()
        return signed_out, http.get(url).headers["location"], dict(http.cookies)


def visit(choice: BrowserChoice, sign_in: str, consent: str, cookies: dict[str, str]) -> None:
    """Launch the browser and load the two pages of a mint, with no OAuth: its floor."""
    from playwright.async_api import async_playwright

    async def load() -> None:
        async with async_playwright() as playwright:
            browser = await launch(playwright, choice)
            context = await browser.new_context(locale="en-US")
            page = await context.new_page()
            await page.goto(sign_in)
            await context.add_cookies(
                [{"name": name, "value": value, "url": consent} for name, value in cookies.items()]
            )
            await page.goto(consent)
            await browser.close()

    asyncio.run(load())


def bench_split(table: Table) -> None:
    """A browser mint, split by step, against its floor; both in one warm process."""
    with open_place() as place:
        place.mint("browser")
        choice = find_choice(place.settings.browser_record)
        pages = find_pages(place)
        visit(choice, *pages)
        splits: list[Timings] = []
        floor, whole = measure(
            ROUNDS, lambda: visit(choice, *pages), lambda: splits.append(place.mint("browser"))
        )
    table.add_row("floor: browser, the same two pages", f"{floor:.2f}", "", "")
    table.add_row("browser mint", f"{whole:.2f}", f"{whole / floor:.2f}", "1.5")
    for step in ("browser", "pages", "protocol"):
        seconds = statistics.median(getattr(split, f"{step}_seconds") for split in splits)
        table.add_row(f"… of this {step}", f"{seconds:.2f}", "", "")


def bench_refresh(table: Table) -> None:
    """`inv mint` as a whole process where the bearer is spent and a refresh token is there."""
    with open_place() as place:
        place.mint("browser")
        root, bearer = place.settings.root, bearer_path(place.settings.state_dir)

        def refresh() -> None:
            bearer.unlink(missing_ok=True)
            output = run("-m", "invoke", "mint", "--env", "staging", cwd=root)
            if "by refresh" not in output:
                raise SystemExit(f"no refresh:\n{output}")

        floor, whole = measure(ROUNDS, lambda: run("-c", "import invoke.program"), refresh)
    table.add_row("inv mint by refresh, process", f"{whole:.2f}", f"{whole / floor:.1f}", "0.7 s")


def bench_race(table: Table) -> None:
    """Consecutive browser mints while a share of sign-ins lands on the front page."""
    minted = 0
    with open_place("--race-share", str(RACE_SHARE)) as place:
        for _ in range(CONSECUTIVE):
            with suppress(LoadtestError):
                place.mint("browser")
                minted += 1
    what = f"mints of {CONSECUTIVE}, race at {RACE_SHARE:.0%}"
    table.add_row(what, "", str(minted), f"{CONSECUTIVE} wanted")


def bench(table: Table) -> None:
    """Measure the time of a mint, and whether it always succeeds."""
    bench_split(table)
    bench_refresh(table)
    bench_race(table)
