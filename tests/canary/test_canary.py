"""Secrets appear only in the files for them, whatever happens."""

import base64
import gzip
import html
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from loadtest.common.files import write_json
from loadtest.mint.browser.launcher import RECORD_VERSION, BrowserChoice
from loadtest.reference import server
from loadtest.reference.knobs import Knobs
from loadtest.reference.seeds import SeedClient, SeedUser
from loadtest.reference.server import ReferenceTarget
from tests.canary import watch
from tests.canary.leaks import Finder
from tests.canary.tap import Tap, write_site
from tests.canary.watch import watch_processes
from tests.cli.test_exit_guard import LONG, SMALL, start_inv
from tests.support.checkout import ROOT
from tests.support.github_server import TOKEN, serve_github
from tests.support.waiting import HANG_SECONDS

pytestmark = pytest.mark.slow


EMAIL = "canary@novamart.example"
# Bearers; registrations and refresh tokens; passwords.
THEIR_FILES = tuple(
    f".loadtest/*/{name}" for name in ("bearer.json", "clients.json", "credentials*.env")
)
EVERY_KIND = {
    *("access_token", "bearer", "client_secret", "code", "code_verifier", "cookie"),
    *("github token", "newPassword", "password", "refresh_token", "token", "totp secret"),
}

HEAD = '<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,">'
SIGN_IN = f"""{HEAD}<h1>Sign in</h1><form method="post" action="/second">
<label>Email <input name="email" type="email"></label>
<label>Password <input name="password" type="password"></label><button>Sign in</button></form>"""
CODE = f"""{HEAD}<h1>Two steps</h1><form method="post" action="/third">
<label>Verification code <input name="code" autocomplete="one-time-code"></label>
<button>Verify</button></form>"""
WRONG_CODE = '<p role="alert">Invalid code {typed}</p>'
CAPTCHA = SIGN_IN.replace("<button>", '<div class="h-captcha" style="height:80px"></div><button>')


def invent(kind: str) -> str:
    """Return a secret that is written differently in every encoding."""
    return f"{kind}-{secrets.token_hex(12)} <\"&'+%/ü>"


@dataclass(frozen=True)
class Case:
    """A mint that fails, or takes a detour: what is odd, and how each of its runs ends."""

    ends: Sequence[tuple[int, str]]
    user: Mapping[str, Any] = field(default_factory=dict)
    pages: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    options: Sequence[str] = ("--via", "browser")
    variables: Mapping[str, str] = field(default_factory=dict)
    forget_before: int | None = None


def fail(words: str, **odd: Any) -> Case:
    return Case(((14, words),), **odd)


LIVES = "the bearer is valid for"
SHORT = {"access_token_seconds": 100, "registration_auth": "client_secret_basic"}
# What is odd about the target, and what is tried there in turn.
CASES: Sequence[tuple[Mapping[str, Any], Sequence[Case]]] = (
    (
        {},
        (
            fail("Invalid email or password", variables={"LOADTEST_PASSWORD": invent("wrong")}),
            fail("locked", user={"locked": True}),
            fail("password", user={"must_change_password": True}),
            fail("captcha", pages={"/login": (200, CAPTCHA)}),
            fail(
                "HTTP 500",
                pages={
                    "/login": (200, SIGN_IN),
                    "/second": (500, f"{HEAD}<h1>Error</h1><p>{{typed}}</p>"),
                },
            ),
            fail(
                "Invalid code",
                pages={
                    "/login": (200, SIGN_IN),
                    "/second": (200, CODE),
                    "/third": (200, CODE.replace("<form", f"{WRONG_CODE}<form")),
                },
            ),
            fail("refuses the bearer", options=("--via", "given")),
            fail(
                "invalid_client",
                options=("--via", "client-credentials"),
                variables={
                    "LOADTEST_CLIENT_ID": "machine",
                    "LOADTEST_CLIENT_SECRET": invent("machine"),
                },
            ),
            Case(((0, "minted by browser"),), pages={"/api/auth/oauth2/token": (429, "")}),
        ),
    ),
    ({"deny_consent": True}, (fail("access_denied"),)),
    ({"token_replies": "garbage"}, (fail("does not match the request"),)),
    ({"token_replies": "html"}, (fail("does not match the request"),)),
    ({"wrong_issuer": "response"}, (fail("iss"),)),
    ({"wrong_issuer": "token"}, (fail("iss is"),)),
    ({"granted_scope": "offline_access"}, (fail("insufficient_scope"),)),
    ({"edge_refusal": "auth_unavailable"}, (fail("HTTP 503"),)),
    # A refresh that works, and one by a client that the server no longer knows.
    (
        SHORT,
        (
            Case(
                ((0, LIVES), (0, "by refresh"), (0, "no longer knows")), options=(), forget_before=2
            ),
        ),
    ),
    ({**SHORT, "refresh": "refused"}, (Case(((0, LIVES), (0, "by browser")), options=()),)),
)


class Driver:
    """Runs tasks in one process, and looks at how they end."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process = process
        self._log = log

    def run(self, *arguments: str, code: int, words: str, **variables: str) -> None:
        """Run a task; assert its exit code and a text in its output."""
        before = self._log.stat().st_size
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"arguments": arguments, "variables": variables}
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        ended = json.loads(self._process.stdout.readline())["code"]
        said = self._log.read_bytes()[before:].decode()
        assert (ended, words in " ".join(said.split())) == (code, True), (arguments, ended, said)


@contextmanager
def open_driver(root: Path, traces: Path, variables: Mapping[str, str]) -> Iterator[Driver]:
    """Start the process, in a checkout; what it prints and raises is kept in `traces`."""
    log = traces / "driver.log"
    with log.open("w") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.canary.driver", str(traces / "tracebacks.log")],
            cwd=root,
            env={**variables, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            text=True,
        )
        with process:
            try:
                yield Driver(process, log)
                assert process.stdin is not None
                process.stdin.close()
                assert process.wait(HANG_SECONDS) == 0
            finally:
                process.kill()


def mint_badly(inv: Driver, tap: Tap, given: Mapping[str, str]) -> None:
    """Run the cases, each with its own user and workspace."""
    client = SeedClient("machine", secret=invent("right"), grant_types=("client_credentials",))
    for knobs, cases in CASES:
        users = [build_user(number, case, given) for number, case in enumerate(cases)]
        with ReferenceTarget(Knobs(**knobs), users=users, clients=[client]) as target:
            for case, user in zip(cases, users, strict=True):
                mint_by_case(inv, tap, target, case, {**given, "LOADTEST_EMAIL": user.email})
            assert target.open_sessions == 0


def build_user(number: int, case: Case, given: Mapping[str, str]) -> SeedUser:
    user: dict[str, Any] = {"must_change_password": False, **case.user}
    email, password = f"user-{number}@example.com", given["LOADTEST_PASSWORD"]
    return SeedUser(email, password, workspace=f"of-user-{number}", **user)


def mint_by_case(
    inv: Driver, tap: Tap, target: ReferenceTarget, case: Case, given: Mapping[str, str]
) -> None:
    slug = f"of-{given['LOADTEST_EMAIL'].partition('@')[0]}"
    (workspace,) = (found for found in target.workspaces() if found.slug == slug)
    variables = {
        **given,
        "LOADTEST_WORKSPACE_ID": workspace.id,
        "LOADTEST_ISSUER": f"{target.api_url}/api/auth",
        **case.variables,
    }
    url = f"{target.api_url}/mcp/{workspace.id}"
    options = ("--env", "staging", "--profile", "smoke", "--mcp-url", url, *case.options)
    tap.pages = dict(case.pages)
    for number, (code, words) in enumerate(case.ends):
        if number == case.forget_before:
            target.forget_clients()
        inv.run("mint", *options, code=code, words=words, **variables)
    tap.pages = {}


def run_well_and_badly(inv: Driver, tap: Tap, root: Path, finder: Finder) -> None:
    """Run the stages of a hosted environment, with failures of every stage but the mint."""
    state = root / ".loadtest" / "staging"
    with (
        ReferenceTarget(Knobs(tool_quota=False, account_limits=False)) as target,
        serve_github() as github,
    ):
        here = {"LOADTEST_BASE_URL": target.api_url, "LOADTEST_EMAIL": EMAIL, **github.variables}

        def run(*arguments: str, code: int = 0, words: str = "") -> None:
            inv.run(*arguments, "--env", "staging", code=code, words=words, **here)

        run("provision", "--github-secrets", words="made: GitHub secrets")
        run("mint", "--profile", "smoke", "--print-claims", words="minted by browser")
        assert_known(tap, finder, state / "bearer.json", {"access_token"})
        assert_known(tap, finder, state / "clients.json", {"refresh_token"})
        run(
            "mint",
            "--profile",
            "smoke",
            "--min-ttl",
            "7200",
            code=14,
            words="the bearer is valid for",
        )
        run("doctor", "--profile", "smoke", words="accepts the bearer")
        run("mint", "--profile", "smoke", "--via", "session", words="minted by session")
        spoil(state / "bearer.json", finder)
        run("doctor", "--profile", "smoke", code=10, words="invalid_bearer")
        run("k6", *SMALL, "--scenarios", "tools", code=15, words="server/discover: unauthorized")
        github.refuse("PUT LOADTEST_PASSWORD", 403, times=1)
        run("provision", "--rotate", code=12, words="the old one stays")
        run("provision", "--rotate", words="made: new password")
        assert_known(tap, finder, state / "credentials.env", {"newPassword"})
        run("revoke", words="revoke")
        run("provision", "--teardown", code=12, words="not removed")
        for name, value in github.secrets.items():
            if "PASSWORD" in name:
                finder.add("password", value)


def assert_known(tap: Tap, finder: Finder, path: Path, kinds: set[str]) -> None:
    """Assert that what crossed the wire is what the file holds: the finder can find it."""
    for name, value in tap.read():
        finder.add(name, value)
    assert kinds <= finder.find(path.read_bytes()), path


def spoil(path: Path, finder: Finder) -> None:
    """Make the bearer on disk one that the endpoint refuses."""
    body = json.loads(path.read_text())
    (entry,) = body["bearers"]
    head, _, tail = entry["access_token"].rpartition(".")
    entry["access_token"] = f"{head}.{tail[::-1]}"
    finder.add("bearer", entry["access_token"])
    path.write_text(json.dumps(body))


def run_whole_chain(root: Path, traces: Path, variables: Mapping[str, str]) -> None:
    """Run everything by `inv` on the local target, then interrupt a second run."""
    with start_inv(root, "loadtest", *SMALL, **variables) as (process, _):
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    with start_inv(root, "k6", *LONG, **variables) as (process, read_to):
        lines = [read_to("sessions: 2 sessions"), read_to("sessions: 2 sessions")]
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=HANG_SECONDS)
        assert process.returncode == 130, rest
    (traces / "inv.log").write_text("".join([output, *lines, rest]))


def scan(finder: Finder, *folders: Path) -> dict[str, set[str]]:
    """Return the secrets and where they are, except in the files for them."""
    found: dict[str, set[str]] = {}
    for path in (path for folder in folders for path in list_files(folder)):
        names = finder.find(os.fsencode(path) + b"\n" + path.read_bytes())
        if names and not any(path.match(pattern) for pattern in THEIR_FILES):
            found[str(path)] = names
    return found


def list_files(folder: Path) -> Iterator[Path]:
    """Return every file, but for the sources that a checkout links to."""
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not Path(where, name).is_symlink()]
        yield from (path for name in names if (path := Path(where, name)).is_file())


def list_visible(root: Path) -> list[str]:
    """Return what git would offer to commit."""
    shutil.copy(ROOT / ".gitignore", root)
    git = ["git", "-C", str(root)]
    subprocess.run([*git, "init", "-q"], check=True)
    command = [*git, "status", "--porcelain", "-uall"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [line[3:].strip('"') for line in done.stdout.splitlines()]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Return a short path, because Chromium's sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="c-") as name:
        yield Path(name)


@pytest.mark.timeout(600)
@pytest.mark.skipif(not watch.PROC.exists(), reason="no command lines to look at")
def test_secrets_appear_only_in_the_files_for_them(
    checkout: Path,
    browser_choice: BrowserChoice,
    temporary: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traces = tmp_path / "traces"
    traces.mkdir()
    write_json(checkout / ".loadtest" / "browser.json", RECORD_VERSION, asdict(browser_choice))
    finder, given = Finder(), invent_all()
    tap = Tap(tmp_path / "record")
    monkeypatch.setattr(server._Origins, "__call__", server._Origins.__call__)  # undone at the end
    tap.install(server._Origins)
    variables = {
        "PATH": os.environ["PATH"],
        "COLUMNS": "80",
        "TMPDIR": str(temporary),
        "XDG_CONFIG_HOME": str(temporary),
    }
    local = Tap(tmp_path / "local record")
    site = write_site(tmp_path / "site", local.record)
    listening = os.pathsep.join(map(str, (site, ROOT)))
    with watch_processes() as seen, ThreadPoolExecutor(1) as pool:
        chain = pool.submit(
            run_whole_chain, checkout, traces, {**variables, "PYTHONPATH": listening}
        )
        with open_driver(checkout, traces, variables) as inv:
            run_well_and_badly(inv, tap, checkout, finder)
            mint_badly(inv, tap, given)
        chain.result()
    (traces / "command lines").write_bytes(b"\n".join(seen.command_lines))
    (traces / "environments of k6").write_bytes(b"\n".join(seen.k6_environments))

    assert {name for name, _ in local.read()} >= {"code", "code_verifier", "refresh_token"}
    learn(finder, [*tap.read(), *local.read()], given)
    assert finder.values.keys() >= EVERY_KIND
    assert scan(finder, checkout, traces, temporary) == {}
    check_seen(checkout, traces)
    assert not [path for path in list_visible(checkout) if path.startswith((".loadtest", ".env"))]
    check_that_it_would_be_found(finder, checkout, traces)


def invent_all() -> dict[str, str]:
    """Return the variables of a user, each secret in it new."""
    totp_secret = base64.b32encode(secrets.token_bytes(20)).decode()
    return {
        "LOADTEST_EMAIL": EMAIL,
        "LOADTEST_PASSWORD": invent("password"),
        # A code a second: the second one is not long in coming.
        "LOADTEST_TOTP_SECRET": f"otpauth://totp/canary?secret={totp_secret}&period=1",
        "LOADTEST_BEARER": ".".join(["given", secrets.token_hex(24), secrets.token_hex(24)]),
    }


def learn(finder: Finder, seen: Iterable[tuple[str, str]], given: Mapping[str, str]) -> None:
    """Have the finder know what crossed the wire, and what was put into variables."""
    for name, value in seen:
        finder.add(name, value)
    finder.add("github token", TOKEN)
    finder.add("password", given["LOADTEST_PASSWORD"])
    finder.add("bearer", given["LOADTEST_BEARER"])
    finder.add("totp secret", given["LOADTEST_TOTP_SECRET"].partition("secret=")[2].split("&")[0])
    for case in (case for _, cases in CASES for case in cases):
        finder.add("password", case.variables.get("LOADTEST_PASSWORD", ""))
        finder.add("client_secret", case.variables.get("LOADTEST_CLIENT_SECRET", ""))


def check_seen(root: Path, traces: Path) -> None:
    """Assert that there was something to look at, in each kind of place."""
    ran = (traces / "command lines").read_text(errors="replace")
    for program in ("k6\0run", "chrom", "loadtest.reference", "tests.canary.driver"):
        assert program in ran, program
    assert "MCP_BEARER_FILE=" in (traces / "environments of k6").read_text()
    assert "Traceback" in (traces / "tracebacks.log").read_text()
    texts = [path.read_text() for path in root.glob(".loadtest/*/failures/*.txt")]
    assert len(texts) == len(list(root.glob(".loadtest/*/failures/*.png"))) >= 6
    # The page that echoes what was typed, and the one that echoes a code.
    assert sum("***" in text for text in texts) >= 2, texts
    runs = root / ".loadtest" / "runs"
    for kept in ("report.md", "*/k6.log", "*/dashboard.html", "*/summary.json", "run.json"):
        assert list(runs.glob(f"*/{kept}")), kept
    assert list(root.glob(".loadtest/local/target/target.log"))


def check_that_it_would_be_found(finder: Finder, root: Path, traces: Path) -> None:
    """Plant secrets where none belong, and find them."""
    run = next((root / ".loadtest" / "runs").iterdir())
    places: dict[Path, Callable[[str], bytes]] = {
        traces / "driver.log": lambda value: b"\n".join(map(str.encode, value)),  # wrapped
        traces / "tracebacks.log": lambda value: f"SomeError: {value!r}".encode(),
        traces / "command lines": lambda value: b"k6\0run\0" + value.encode(),
        run / "report.md": lambda value: html.escape(f"<td>{value}</td>").encode(),
        run / "run.json": lambda value: json.dumps({"knob": value}).encode(),
        run / "dashboard.html": lambda value: base64.b64encode(gzip.compress(value.encode() * 9)),
        root / ".loadtest" / "staging.log": lambda value: quote(f"?x={value}", safe="").encode(),
        root / "docs" / "page.mdx": lambda value: base64.b64encode(f"user:{value}".encode()),
    }
    # Each kind in turn, and each place: there are fewer places than kinds.
    for kind, (path, write) in zip(sorted(EVERY_KIND), cycle(places.items()), strict=False):
        value = min(finder.values[kind])
        before = path.read_bytes() if path.exists() else None
        path.write_bytes((before or b"") + b" " + write(value))
        assert kind_of(finder, value) & scan(finder, path.parent)[str(path)], (kind, path.name)
        path.unlink() if before is None else path.write_bytes(before)


def kind_of(finder: Finder, value: str) -> set[str]:
    """Return all names of a value; some values are sent under several names."""
    return {name for name, values in finder.values.items() if value in values}


def test_a_secret_in_an_argument_list_or_in_the_environment_of_k6_is_found(tmp_path: Path) -> None:
    canary = secrets.token_hex(16)
    finder = Finder()
    finder.add("canary", canary)
    fake = tmp_path / "k6"
    fake.symlink_to("/bin/sleep")
    with watch_processes() as seen:
        argued = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", canary])
        environed = subprocess.Popen([fake, "60"], env={"MCP_BEARER": canary})
        for process in (argued, environed):
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1)
            process.kill()
            process.wait()
    assert finder.find(b"\n".join(seen.command_lines))
    assert finder.find(b"\n".join(seen.k6_environments))
