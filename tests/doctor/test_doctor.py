"""The doctor's findings on a target, its sign-in, a bearer and a quota; and that it only reads."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtest.common import tls
from loadtest.common.files import write_json
from loadtest.common.redaction import SecretStr
from loadtest.config.loading import load_settings
from loadtest.config.models import Quota
from loadtest.config.project import CONFIG_FILE
from loadtest.config.settings import Credentials, Settings
from loadtest.doctor.check import Check
from loadtest.doctor.checks import examine
from loadtest.mint.browser.launcher import RECORD_VERSION, BrowserChoice
from loadtest.mint.oauth.discovery import REDIRECT_URI
from loadtest.provision.provisioner import provision
from loadtest.reference.server import ReferenceTarget
from loadtest.state.bearers import Bearer, bearer_path, write_bearers
from tests.provision.gate import open_gate
from tests.support.certificates import build_server_tls
from tests.support.checkout import ROOT
from tests.support.github_server import REPOSITORY, GithubServer
from tests.support.loopback import serve_loopback
from tests.support.self_mint import self_mint
from tests.support.waiting import HANG_SECONDS

EMAIL = "loadtest@example.com"
Serve = Callable[..., ReferenceTarget]
Make = Callable[[ReferenceTarget], Settings]

LINES = (
    *("settings", "browser", "k6", "target", "TLS", "credentials", "authorization", "clock"),
    *("sign-in page", "bearer", "endpoint", "replicas", "workspace", "tools", "quota"),
    *("sessions", "report"),
)


def look(settings: Settings) -> dict[str, Check]:
    """Return the doctor's findings by name; each that is not ok has a remedy."""
    findings = list(examine(settings, settings.base_url))
    assert len({finding.what for finding in findings}) == len(findings)
    assert all(finding.remedy for finding in findings if finding.state != "ok")
    return {finding.what: finding for finding in findings}


@pytest.fixture(scope="module")
def target() -> Iterator[ReferenceTarget]:
    """One target for all tests that only read."""
    with ReferenceTarget() as running:
        yield running


@pytest.fixture(scope="module")
def ready(target: ReferenceTarget, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return settings of a user with a workspace and data on that target."""
    root = tmp_path_factory.mktemp("ready")
    shutil.copy(ROOT / CONFIG_FILE, root)
    variables = {"LOADTEST_BASE_URL": target.api_url, "LOADTEST_EMAIL": EMAIL}
    knobs = {"tool": "executeSQL"}  # a call costs 5 units
    settings = load_settings(root, "staging", "smoke", knobs, variables)
    done = provision(settings, target.api_url, lambda _: None)
    return replace(settings, credentials=done.credentials)


@pytest.fixture(scope="module")
def minted(ready: Settings) -> Bearer:
    """Return a bearer from the target's self-mint endpoint."""
    return self_mint(ready)


@pytest.fixture
def settings(ready: Settings, browser_choice: BrowserChoice, tmp_path: Path) -> Settings:
    """Return those settings with a state directory per test, and the browser that was found."""
    settings = replace(ready, root=tmp_path)
    write_json(settings.browser_record, RECORD_VERSION, asdict(browser_choice))
    return settings


def keep(settings: Settings, bearer: Bearer, **changes: Any) -> None:
    """Write a bearer to disk."""
    write_bearers(bearer_path(settings.state_dir), (replace(bearer, **changes),))


def register(settings: Settings, redirect_uri: str = REDIRECT_URI) -> None:
    """Register a client, and remember it as mint would."""
    metadata = {
        "redirect_uris": [redirect_uri],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
        "scope": settings.environment.scope,
    }
    url = f"{settings.base_url}/api/auth/oauth2/register"
    client = httpx.post(url, json=metadata).raise_for_status().json()
    entry = {"slot": 0, "client": client, "issuer": f"{settings.base_url}/api/auth"}
    write_json(settings.state_dir / "clients.json", 1, {"clients": [entry]}, private=True)


def with_quota(settings: Settings, quota: Quota | None) -> Settings:
    environment = settings.environment.model_copy(update={"quota": quota})
    return replace(settings, environment=environment)


def test_everything_is_ok_after_a_mint_and_the_doctor_changes_nothing(
    target: ReferenceTarget, settings: Settings, minted: Bearer
) -> None:
    settings = with_quota(settings, None)
    keep(settings, minted)
    register(settings)
    before = (target.registrations, target.tool_calls, len(target.users()))
    found = look(settings)
    assert tuple(found) == LINES
    assert {finding.state for finding in found.values()} == {"ok"}, found
    assert found["sign-in page"].detail == f"a form at {target.web_url}, the server's own"
    assert "revision 2025-11-25" in found["endpoint"].detail
    assert found["replicas"].detail == "one session answers 20 calls over 20 connections"
    assert found["workspace"].detail.startswith(str(settings.credentials.workspace_id))
    assert found["tools"].detail == "all 4 that the profile calls, of 4"
    assert (target.registrations, target.tool_calls, len(target.users())) == before
    assert target.open_sessions == 0


def test_the_report_finding_names_the_tracking_issue(
    settings: Settings, github: GithubServer
) -> None:
    assert look(settings)["report"].detail == (
        "stays on this machine: GITHUB_REPOSITORY is not set"
    )
    variables = {**settings.variables, **github.variables}
    settings = replace(settings, repository=REPOSITORY, variables=variables)
    assert look(settings)["report"].detail == "posted on an issue that the first run opens"
    github.add_issue(12)
    found = look(replace(settings, tracking_issue="#12"))["report"]
    assert found.cause[:2] == ("ok", "posted on https://github.com/octo/loadtest/issues/12")
    found = look(replace(settings, tracking_issue="13"))["report"]
    assert found.state == "missing"
    assert "issues/13: HTTP 404: there is no such issue" in found.detail
    variables = {name: value for name, value in variables.items() if name != "GITHUB_TOKEN"}
    found = look(replace(settings, variables=variables))["report"]
    assert found.state == "missing"
    assert "GITHUB_TOKEN is missing" in found.detail


def test_before_provisioning_what_cannot_be_checked_is_later(
    target: ReferenceTarget, settings: Settings
) -> None:
    users = len(target.users())
    found = look(replace(settings, credentials=Credentials(email=EMAIL)))
    assert {name for name, finding in found.items() if finding.state == "missing"} == set()
    assert found["credentials"].detail == "no password, workspace yet"
    later = {name for name, finding in found.items() if finding.state == "later"}
    assert {"sign-in page", "endpoint", "workspace"} < later
    assert found["authorization"].state == found["clock"].state == "ok"
    assert len(target.users()) == users


def test_the_sign_in_page_is_checked_before_there_is_a_user(settings: Settings) -> None:
    register(settings, "http://127.0.0.1/callback")
    found = look(replace(settings, credentials=Credentials(email=EMAIL)))
    assert found["sign-in page"].state == "ok"


def test_an_endpoint_that_sends_no_challenge_without_a_workspace_is_later(
    serve: Serve, settings: Settings
) -> None:
    settings = replace(settings, base_url=serve(s256="plain").api_url)
    found = look(replace(settings, credentials=Credentials(email=EMAIL)))
    assert found["authorization"].state == "later"
    assert found["authorization"].detail.startswith("cannot be checked without a workspace: ")


def test_a_server_that_shows_no_page_to_an_unregistered_client_is_later(
    target: ReferenceTarget, settings: Settings
) -> None:
    before = target.registrations
    found = look(settings)
    assert found["authorization"].state == "ok"
    assert found["sign-in page"].state == "later"
    assert "invalid_client" in found["sign-in page"].detail
    assert target.registrations == before


def test_a_server_that_accepts_only_the_registered_port_shows_its_page(
    serve: Serve, settings: Settings
) -> None:
    settings = replace(settings, base_url=serve(redirect_ports="registered").api_url)
    register(settings, "http://127.0.0.1:4321/callback")
    assert look(settings)["sign-in page"].state == "ok"


@pytest.mark.parametrize("password", ["s3cret", "Performance"])
def test_a_password_that_cannot_be_redacted_is_a_warning(settings: Settings, password: str) -> None:
    who = replace(settings.credentials, password=SecretStr(password))
    found = look(replace(settings, credentials=who))["credentials"]
    assert (found.state, "8 characters" in found.remedy) == ("warn", True)
    assert password not in found.detail + found.remedy


def test_missing_credentials_that_provision_does_not_make_are_named(settings: Settings) -> None:
    environment = settings.environment.model_copy(update={"provision": "none", "mcp_path": "/mcp"})
    settings = replace(settings, environment=environment)
    assert look(settings)["credentials"].detail == f"{EMAIL}, nothing to provision"
    found = look(replace(settings, credentials=Credentials(email=EMAIL)))["credentials"]
    assert (found.state, found.detail) == ("later", "no LOADTEST_PASSWORD")


@pytest.mark.parametrize(
    ("skew", "state", "detail"),
    [(-3, "ok", "ahead of"), (30, "warn", "behind"), (90, "missing", "behind")],
)
def test_the_clock_is_compared_with_the_server_s(
    serve: Serve, settings: Settings, skew: int, state: str, detail: str
) -> None:
    skewed = serve(clock_skew_seconds=skew)
    found = look(replace(settings, base_url=skewed.api_url))["clock"]
    assert found.state == state
    assert detail in found.detail


def test_a_refused_bearer_is_missing_with_the_server_s_message(
    settings: Settings, minted: Bearer
) -> None:
    head, _, _ = minted.access_token.get_secret_value().rpartition(".")
    bad = replace(minted, access_token=SecretStr(f"{head}.AAAA"))
    write_bearers(bearer_path(settings.state_dir), (minted, bad))
    found = look(replace(settings, clients=2))
    assert found["endpoint"].state == "missing"
    assert "HTTP 401: invalid_bearer" in found["endpoint"].detail
    assert found["endpoint"].remedy == "inv mint --via browser makes a new one"
    assert found["tools"].state == "later"


def test_an_edge_that_fails_is_not_blamed_on_the_bearer(
    serve: Serve, settings: Settings, minted: Bearer
) -> None:
    url = serve(edge_refusal="auth_unavailable").api_url
    keep(settings, minted, mcp_url=f"{url}/mcp/{settings.credentials.workspace_id}")
    found = look(replace(settings, base_url=url))
    assert "HTTP 503: auth_unavailable" in found["endpoint"].detail
    assert "mint" not in found["endpoint"].remedy


def test_a_bearer_for_another_workspace_is_missing(settings: Settings, minted: Bearer) -> None:
    assert settings.base_url is not None
    keep(settings, minted, mcp_url=settings.build_mcp_url(settings.base_url, "another"))
    who = replace(settings.credentials, workspace_id="another")
    found = look(replace(settings, credentials=who))
    assert "cross_workspace_denied" in found["endpoint"].detail
    assert found["workspace"].state == "missing"
    assert found["workspace"].detail.endswith("not for another")


def test_a_bearer_for_another_endpoint_is_minted_again_later(
    settings: Settings, minted: Bearer
) -> None:
    keep(settings, minted, mcp_url="https://elsewhere.example/mcp")
    found = look(settings)
    assert found["endpoint"].state == "later"
    assert "https://elsewhere.example/mcp" in found["endpoint"].detail


def test_a_bearer_file_that_others_can_read_is_missing(settings: Settings, minted: Bearer) -> None:
    keep(settings, minted)
    bearer_path(settings.state_dir).chmod(0o644)
    found = look(settings)["bearer"]
    assert found.state == "missing"
    assert "can be read by others" in found.detail


@pytest.mark.parametrize(
    ("seconds_left", "clients", "detail"),
    [(-5, 1, "expired"), (10, 1, "the profile takes"), (3600, 2, "1 of 2 clients")],
)
def test_a_bearer_that_expires_too_early_is_made_by_the_run(
    settings: Settings, minted: Bearer, seconds_left: float, clients: int, detail: str
) -> None:
    settings = replace(settings, clients=clients)
    keep(settings, minted, expires_at=time.time() + seconds_left)
    found = look(settings)["bearer"]
    assert found.state == "later"
    assert detail in found.detail


def test_sign_in_origins_that_are_not_origins_are_named(settings: Settings) -> None:
    variables = {**settings.variables, "LOADTEST_SIGN_IN_ORIGINS": "login.example.com"}
    found = look(replace(settings, variables=variables))["sign-in page"]
    assert found.state == "missing"
    assert "LOADTEST_SIGN_IN_ORIGINS" in found.detail


# Quotas: the smoke profile's ladder is 16 sessions for 5 s, so 80 executeSQL in a minute.


def with_rate(settings: Settings, rate: int) -> Settings:
    tools = settings.profile.tools.model_copy(update={"target_rps": rate})
    return replace(settings, profile=settings.profile.model_copy(update={"tools": tools}))


@pytest.mark.parametrize(
    ("quota", "rate", "clients", "state", "detail", "remedy"),
    [
        ((60, None), None, 1, "warn", "spends 400 with 1 client:", "have the quota raised to 400"),
        (
            (60, 300),
            None,
            1,
            "warn",
            "spends 400",
            "raised to 300 (inv provision does that if it is allowed to), with --clients 2",
        ),
        ((100, 300), None, 1, "warn", "spends 400", "--clients 5, or have the quota raised to 300"),
        (
            (60, 70),
            None,
            1,
            "warn",
            "spends 400",
            "--stages of 2 at most, or a --tool that costs less",
        ),
        (
            (400, None),
            None,
            1,
            "warn",
            "the mix depends on the target's speed",
            "--target-rps 1.5 or less",
        ),
        (
            (400, None),
            None,
            5,
            "warn",
            "spends 100 with 5 clients",
            "--target-rps 7.6 or less, or --fit-quota",
        ),
        ((100, None), None, 5, "warn", "the mix depends", "--target-rps 1.6 or less"),
        ((50_000, None), 10, 1, "ok", "the profile spends 760 with 1 client", ""),
    ],
)
def test_a_quota_is_compared_with_the_profile(
    settings: Settings,
    quota: tuple[int, int | None],
    rate: int | None,
    clients: int,
    state: str,
    detail: str,
    remedy: str,
) -> None:
    units, most = quota
    weights = {"executeSQL": 5, "runMetric": 3}
    table = Quota(units_per_minute=units, most_units_per_minute=most, weights=weights)
    settings = replace(with_quota(settings, table), clients=clients, base_url=None)
    profile = settings.profile.model_copy(update={"streams": None})
    settings = replace(settings, profile=profile)
    found = look(with_rate(settings, rate) if rate else settings)["quota"]
    assert found.state == state
    assert f"{units:,} units/min per client (configured)" in found.detail
    assert detail in found.detail
    assert remedy in found.remedy


def test_a_raised_quota_counts(settings: Settings, minted: Bearer) -> None:
    settings = with_rate(replace(settings, base_url=None), 1)
    keep(settings, minted)
    path = settings.state_dir / "quota.json"
    write_json(path, 1, {"raised": {"ours": 3600}}, private=True)
    found = look(settings)["quota"]
    assert found.state == "ok"
    assert "3,600 units/min per client (raised from 60)" in found.detail
    # The second client does not exist yet, so its quota is not raised.
    assert "60 units/min" in look(replace(settings, clients=2))["quota"].detail


def test_a_quota_that_the_server_announces_is_compared(
    target: ReferenceTarget, settings: Settings, minted: Bearer
) -> None:
    settings = with_quota(settings, None)
    with open_gate(target.api_url) as gate:
        gate.headers["RateLimit-Policy"] = '"default";q=30;w=60'
        keep(settings, minted, mcp_url=f"{gate.url}/mcp/{settings.credentials.workspace_id}")
        found = look(replace(settings, base_url=gate.url))["quota"]
    assert "30 units/min per client (its RateLimit headers); the profile spends 83" in found.detail
    assert "--clients 5" in found.remedy


@pytest.mark.parametrize(
    ("remaining", "state", "words"),
    [
        ("4", "warn", "4 left, reset in 3,000 s; the profile makes 10 calls/s at most: calls will"),
        (
            "90000",
            "ok",
            "a limit of 90,000 calls, 90,000 left, reset in 3,000 s; the profile makes",
        ),
    ],
)
def test_a_limit_for_longer_than_a_minute_is_compared_with_the_rate(
    remaining: str,
    state: str,
    words: str,
    target: ReferenceTarget,
    settings: Settings,
    minted: Bearer,
) -> None:
    with open_gate(target.api_url) as gate:
        figures = {"Limit": "90000", "Remaining": remaining, "Reset": "3000"}
        gate.headers |= {f"X-RateLimit-{name}": value for name, value in figures.items()}
        keep(settings, minted, mcp_url=f"{gate.url}/mcp/{settings.credentials.workspace_id}")
        found = look(with_quota(replace(settings, base_url=gate.url), None))["quota"]
    assert found.state == state
    assert words in found.detail


# TLS


@contextmanager
def serve_https(
    folder: Path, name: str, days: float, *, by_authority: bool = True
) -> Iterator[str]:
    """Serve https with a certificate for `name`; the certificate authority is in `folder`."""
    context = build_server_tls(folder, name, days, by_authority=by_authority)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def do_POST(self) -> None:
            self.send_error(404)

    with serve_loopback(Handler, context) as origin:
        yield origin


@pytest.fixture
def trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Trust only the certificate authority whose certificate is in the folder."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    tls._verifying.cache_clear()
    yield tmp_path
    tls._verifying.cache_clear()


@pytest.mark.parametrize(
    ("name", "days", "by_authority", "state", "detail", "remedy"),
    [
        ("127.0.0.1", 80.5, True, "ok", "certificate by Canary Authority, valid for 80 days", ""),
        ("127.0.0.1", 3.5, True, "warn", "valid for 3 days", "renew"),
        ("127.0.0.1", -1, True, "missing", "certificate has expired", "renew"),
        ("localhost", 80, True, "missing", "mismatch", "LOADTEST_BASE_URL"),
        ("127.0.0.1", 80, False, "missing", "self-signed certificate", "SSL_CERT_FILE"),
    ],
)
def test_a_certificate_is_checked(
    trust: Path,
    settings: Settings,
    name: str,
    days: float,
    by_authority: bool,
    state: str,
    detail: str,
    remedy: str,
) -> None:
    with serve_https(trust, name, days, by_authority=by_authority) as url:
        found = look(replace(settings, base_url=url))
    assert found["target"].state == "ok"
    assert found["TLS"].state == state, found["TLS"]
    assert detail in found["TLS"].detail
    assert remedy in found["TLS"].remedy
    if state == "ok":
        assert found["TLS"].detail.startswith("TLSv1.3")


# The printed table


def inv_doctor(checkout: Path, *options: str, **variables: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "doctor", *options],
        cwd=checkout,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "80"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert max(map(len, done.stdout.splitlines())) <= 80
    return done.returncode, done.stdout


def test_the_table_fits_80_columns_and_uses_the_knobs(
    checkout: Path, target: ReferenceTarget
) -> None:
    address = {"LOADTEST_BASE_URL": target.api_url, "LOADTEST_EMAIL": EMAIL}
    load = ("--stages", "2", "--stage-seconds", "60", "--clients", "2", "--tool", "executeSQL")
    code, output = inv_doctor(checkout, "--env", "staging", *load, **address)
    assert code == 0, output
    text = " ".join(output.split())
    assert "the profile spends 300 with 2 clients: calls will be refused" in text
    assert "→ have the quota raised to 300" in text


def test_the_reference_target_is_started_only_if_there_is_a_valid_bearer(
    checkout: Path, serve: Serve, provisioned: Make
) -> None:
    code, output = inv_doctor(checkout)
    assert code == 0, output
    assert "started for the run" in output
    assert not (checkout / ".loadtest").exists()

    state = checkout / ".loadtest" / "local"
    target = serve(state / "target")
    settings = provisioned(target)
    write_bearers(state / "bearer.json", (self_mint(settings),))
    (state / "credentials.env").write_bytes(settings.credentials_file.read_bytes())
    (state / "credentials.env").chmod(0o600)
    target.stop()
    code, output = inv_doctor(checkout)
    assert code == 0, output
    assert "the reference target," in output
    assert "accepts the bearer" in output
    assert json.loads((state / "bearer.json").read_text())["bearers"][0]["via"] == "session"


def configure(root: Path, target: ReferenceTarget, lines: str, **variables: str) -> Settings:
    """Return settings of an environment `mine` with these lines, that points at the target."""
    limits = "limits = { max_vus = 99, max_rps = 99, max_duration_seconds = 999 }"
    head = f'[environment.mine]\ntarget = "hosted"\ndefault_profile = "smoke"\n{limits}\n{lines}\n'
    text = (ROOT / CONFIG_FILE).read_text()
    (root / CONFIG_FILE).write_text(f"{text}\n{head}")
    given = {"LOADTEST_BASE_URL": target.api_url, "LOADTEST_WORKSPACE_ID": "ws"}
    return load_settings(root, "mine", process_env=given | variables)


def test_a_server_with_an_api_key_needs_no_browser_no_user_and_no_bearer(
    serve: Serve, tmp_path: Path
) -> None:
    target = serve(api_key="X-Api-Key=canary-key-0123456789")
    lines = 'auth = "header"\nheaders = { X-Api-Key = "$KEY" }'
    found = look(configure(tmp_path, target, lines, KEY="canary-key-0123456789"))
    assert not {"browser", "authorization", "sign-in page", "bearer", "workspace"} & found.keys()
    assert found["access"].detail == f"the headers X-Api-Key, only to {target.api_url}"
    assert found["credentials"].detail == 'no user and no bearer needed: auth = "header"'
    assert "accepts the headers, revision" in found["endpoint"].detail
    assert found["tools"].state == "ok"
    found = look(configure(tmp_path, target, lines, KEY="another-key-0123456789"))
    assert found["endpoint"].state == "missing"
    assert "HTTP 401: invalid_key" in found["endpoint"].detail
    assert "correct the variable of the key" in found["endpoint"].remedy
    found = look(configure(tmp_path, target, lines, KEY="short"))
    assert found["access"].state == "warn"
    assert found["access"].detail.startswith("KEY: too short or plain to be redacted")
    found = look(configure(tmp_path, target, lines))
    assert found["access"].detail == ("environment mine lacks KEY: set it as a variable or in .env")
    assert found["target"].state == "missing"


def test_an_open_server_is_reported_as_open_and_a_closed_one_as_closed(
    serve: Serve, tmp_path: Path
) -> None:
    found = look(configure(tmp_path, serve(first_challenge="never"), 'auth = "none"'))
    assert "accepts everyone, revision" in found["endpoint"].detail
    assert "access" not in found
    found = look(configure(tmp_path, serve(), 'auth = "none"'))
    assert found["endpoint"].state == "missing"
    assert found["endpoint"].remedy == 'set auth = "bearer" or "header" in loadtest.toml'
