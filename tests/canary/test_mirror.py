"""No secret comes back from a server that quotes everything that it received."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from loadtest.common.files import write_json
from loadtest.mint.browser.launcher import RECORD_VERSION, BrowserChoice
from loadtest.publish.tracking_issue.payload import decode_entry
from loadtest.reference import server
from loadtest.reference.knobs import Knobs
from loadtest.reference.server import ReferenceTarget
from tests.canary.leaks import Finder
from tests.canary.mirror import Mirror
from tests.canary.tap import Tap
from tests.canary.test_canary import EMAIL, Driver, invent, open_driver, scan
from tests.publish.delivering import listen
from tests.support.github_server import TOKEN, GithubServer, serve_github

pytestmark = pytest.mark.slow

SMOKE = ("--profile", "smoke")
TOOLS = (*SMOKE, "--vus", "2", "--duration", "2", "--scenarios", "tools")
KNOBS = Knobs(
    tool_quota=False,
    account_limits=False,
    registration_auth="client_secret_basic",
    revoked_bearers="refused",
)
# What must have crossed the wire, for this to be worth anything.
KINDS = {"bearer", "client_secret", "code", "code_verifier", "password", "refresh_token", "token"}


@dataclass(frozen=True)
class Stage:
    """Tasks as they are typed for one environment, against a target that is a mirror."""

    inv: Driver
    mirror: Mirror
    state: Path
    variables: dict[str, str]

    def run(
        self, *arguments: str, code: int = 0, words: str = "", more: Mapping[str, str] | None = None
    ) -> None:
        variables = {**self.variables, **(more or {})}
        self.inv.run(*arguments, "--env", "staging", code=code, words=words, **variables)

    def run_refused(
        self,
        place: str,
        status: int | str,
        *arguments: str,
        code: int,
        words: str = "***",
        more: Mapping[str, str] | None = None,
        after: int = 0,
    ) -> None:
        """Run a task that ends so because the target refuses this place, and is quoted."""
        self.mirror.refuse(place, status, after=after)
        self.run(*arguments, code=code, words=words, more=more)
        self.mirror.relent()


@pytest.fixture
def tap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tap:
    monkeypatch.setattr(server._Origins, "__call__", server._Origins.__call__)  # undone at the end
    made = Tap(tmp_path / "record")
    made.install(server._Origins)
    return made


@pytest.fixture
def mirror(tap: Tap) -> Mirror:
    made = Mirror(tap)
    made.install(server._Origins)
    return made


@pytest.fixture
def stage(
    checkout: Path, browser_choice: BrowserChoice, mirror: Mirror, tmp_path: Path
) -> Iterator[Stage]:
    write_json(checkout / ".loadtest" / "browser.json", RECORD_VERSION, asdict(browser_choice))
    traces = tmp_path / "traces"
    traces.mkdir()
    process = {"PATH": os.environ["PATH"], "COLUMNS": "80", "XDG_CONFIG_HOME": str(tmp_path)}
    with ReferenceTarget(KNOBS) as target, open_driver(checkout, traces, process) as inv:
        variables = {"LOADTEST_BASE_URL": target.api_url, "LOADTEST_EMAIL": EMAIL}
        # Exceptions hold what they hold; what counts is what becomes of them.
        variables["LOADTEST_ISSUER"] = f"{target.api_url}/api/auth"
        yield Stage(inv, mirror, checkout / ".loadtest" / "staging", variables)


def go_through_provision(stage: Stage) -> None:
    stage.run_refused("/sign-up/email", 400, "provision", code=12)
    stage.run("provision", words="made")
    stage.run_refused("/sign-in/email", 400, "provision", "--verify", code=12)


def go_through_mint(stage: Stage) -> None:
    mint = ("mint", *SMOKE, "--via")
    machine = {"LOADTEST_CLIENT_ID": "machine", "LOADTEST_CLIENT_SECRET": invent("machine")}
    stage.run_refused("/oauth2/authorize", 302, *mint, "browser", code=14)
    stage.run_refused("/oauth2/token", 400, *mint, "browser", code=14)
    stage.run_refused("initialize", 403, *mint, "browser", code=14, after=1)
    stage.run("mint", *SMOKE, words="minted by browser")
    (stage.state / "bearer.json").unlink()
    stage.mirror.refuse("/oauth2/token", 400, times=1)
    stage.run("mint", *SMOKE, words="the refresh is refused (HTTP 400: invalid_request")
    stage.run_refused("/load-test/mcp-token", 400, *mint, "session", code=12)
    stage.run_refused("/oauth2/token", 400, *mint, "client-credentials", code=14, more=machine)


def go_through_k6(stage: Stage) -> None:
    stage.run("doctor", *SMOKE, words="accepts the bearer")
    stage.run_refused("initialize", 401, "doctor", *SMOKE, code=10)
    for status in ("tool_error", "rpc_error", 500):
        stage.run_refused("tools/call", status, "k6", *TOOLS, code=15)
    stage.run_refused("initialize", "protocol", "k6", *TOOLS, code=15, words="preflight")


def go_through_reports(stage: Stage, github: GithubServer, folder: Path) -> list[str]:
    """Report a run that went well, one whose calls fail, and one that never began."""
    names = {"GITHUB_OUTPUT": "outputs", "GITHUB_STEP_SUMMARY": "summary"}
    files = {variable: str(folder / name) for variable, name in names.items()}
    with listen() as (url, heard):
        posting = {**github.variables, **files, "LOADTEST_WEBHOOK_URL": url}
        chain = ("loadtest", *TOOLS)
        stage.run(*chain, words="posted", more=posting)
        stage.run_refused("tools/call", 500, *chain, "--json", code=99, after=4, more=posting)
        stage.run_refused("tools/call", "tool_error", *chain, code=15, more=posting)
    stage.run("report", "--dry-run", code=15, words="before the first call")
    for task in ("history", "history --csv", "history --html"):
        stage.run(*task.split())
    return heard


def go_through_the_end(stage: Stage) -> None:
    stage.run_refused("/oauth2/revoke", 400, "revoke", code=14, words="stays")
    stage.run("revoke", words="revoke")
    stage.run("provision", "--teardown", code=12, words="not removed")


def list_posted(github: GithubServer) -> Iterator[str]:
    """Yield every comment, and what is packed into it."""
    for comment in (comment for issue in github.issues.values() for comment in issue.comments):
        yield comment.body
        yield repr(decode_entry(comment.body))


@pytest.mark.timeout(900)
def test_no_secret_comes_back_from_a_server_that_quotes_every_request(
    stage: Stage, tap: Tap, tmp_path: Path, checkout: Path
) -> None:
    with serve_github() as github:
        go_through_provision(stage)
        go_through_mint(stage)
        go_through_k6(stage)
        heard = go_through_reports(stage, github, tmp_path)
        go_through_the_end(stage)
        posted = list(list_posted(github))
    finder = Finder()
    finder.add("github token", TOKEN)
    for name, value in tap.read():
        finder.add(name, value)
    assert finder.values.keys() >= KINDS
    said = (tmp_path / "traces" / "driver.log").read_text()
    texts = {"said": said, "posted": "\n".join(posted), "heard": "\n".join(heard)}
    texts |= {name: (tmp_path / name).read_text() for name in ("outputs", "summary")}
    found = {name: finder.find(text.encode()) for name, text in texts.items()}
    assert found == {name: set() for name in texts}
    assert scan(finder, checkout) == {}
    # It did quote, all over.
    for name, text in texts.items():
        assert "***" in text.replace("\\", ""), name
    for pattern in ("run.json", "report.md", "report.html", "*/summary.json"):
        kept = [path.read_text() for path in checkout.glob(f".loadtest/runs/*/{pattern}")]
        assert any("***" in text.replace("\\", "") for text in kept), pattern
    assert not {"\x1b", "\x07", "\u009b", "\u202e"} & set(said)
