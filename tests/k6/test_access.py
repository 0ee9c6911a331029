"""Runs against servers that demand a header, an API key, a client certificate, or nothing."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from loadtest.common import tls
from loadtest.common.console import Console
from loadtest.common.redaction import SecretStr
from loadtest.config.loading import load_settings
from loadtest.config.project import CONFIG_FILE
from loadtest.config.settings import Settings
from loadtest.context import Chain
from loadtest.errors import LoadtestError, MintError, UsageError
from loadtest.k6.stage import k6
from loadtest.mint.options import MintOptions
from loadtest.mint.stage import mint, revoke
from loadtest.provision.stage import provision
from loadtest.reference.server import ReferenceTarget
from loadtest.results.run_folder import read_run_folder
from loadtest.target.rest_client import Accounts
from tests.k6.running import SHORT, name_knobs
from tests.support.certificates import build_server_tls, write_client
from tests.support.checkout import ROOT

BYPASS = "canary-bypass-0123456789"
KEY = "canary-key-0123456789"
pytestmark = pytest.mark.slow
Serve = Callable[..., ReferenceTarget]
LIMITS = "limits = { max_vus = 9, max_rps = 100, max_duration_seconds = 99 }\n"


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    """The context of the stages; its console writes to a file."""
    with ExitStack() as resources, (tmp_path / "said").open("w") as said:
        yield Chain(Console(file=said, width=300), resources)


def configure(root: Path, target: ReferenceTarget, lines: str, **variables: str) -> Settings:
    """Return settings of an environment `mine` with these lines, that points at the target."""
    head = f'[environment.mine]\ntarget = "hosted"\ndefault_profile = "smoke"\n{LIMITS}{lines}\n'
    text = (ROOT / CONFIG_FILE).read_text()
    (root / CONFIG_FILE).write_text(f"{text}\n{head}")
    given = {
        "LOADTEST_BASE_URL": target.api_url,
        "BYPASS": BYPASS,
        "KEY": KEY,
        **{name: os.environ.get(name, "") for name in ("PATH", "K6_BIN", "SSL_CERT_FILE")},
    }
    return load_settings(root, "mine", process_env=given | name_knobs(SHORT) | variables)


def make_workspace(target: ReferenceTarget) -> str:
    """Make a user with a workspace and data; return its id."""
    with Accounts(target.api_url, print) as accounts:
        accounts.sign_up("access@example.com", SecretStr("correct horse battery"))
        workspace_id, _ = accounts.ensure_workspace("access@example.com", None)
        accounts.attach_data()
    return workspace_id


def check_run(chain: Chain, target: ReferenceTarget) -> None:
    """Check that the newest run is fine, left no session open, and that no file has a secret."""
    assert chain.ending.run_dir is not None
    run = read_run_folder(chain.ending.run_dir).run
    assert [each.outcome for each in run.scenarios] == ["ok"] * len(run.scenarios)
    assert target.open_sessions == 0
    for path in chain.ending.run_dir.parents[1].rglob("*"):
        if path.is_file() and path.name not in {"bearer.json", "credentials.env"}:
            content = path.read_bytes()
            assert b"canary" not in content, path
            assert b"PRIVATE KEY" not in content, path


def test_a_server_with_an_api_key_is_measured_without_a_user_or_a_bearer(
    serve: Serve, chain: Chain, tmp_path: Path
) -> None:
    target = serve(api_key=f"X-Api-Key={KEY}", tool_quota=False)
    lines = 'auth = "header"\nheaders = { x-api-key = "$KEY" }'
    workspace_id = make_workspace(target)
    settings = configure(tmp_path, target, lines, LOADTEST_WORKSPACE_ID=workspace_id)
    provision(chain, settings, revoke=lambda: None)
    mint(chain, settings, MintOptions(), print_claims=False)
    k6(chain, settings, None)
    check_run(chain, target)
    assert not (settings.state_dir / "bearer.json").exists()
    revoke(chain, settings)
    chain.console.file.flush()
    said = (tmp_path / "said").read_text()
    assert 'nothing to mint: environment mine has auth = "header"' in said
    assert "nothing to provision in environment mine" in said
    assert "nothing to revoke" in said


def test_an_open_server_is_measured_with_an_authorization_of_nobody(
    serve: Serve, chain: Chain, tmp_path: Path
) -> None:
    target = serve(first_challenge="never", tool_quota=False)
    workspace_id = make_workspace(target)
    settings = configure(tmp_path, target, 'auth = "none"', LOADTEST_WORKSPACE_ID=workspace_id)
    k6(chain, settings, "cold-start,sessions", engine="segments", parallelism="1")
    check_run(chain, target)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            'auth = "header"\nheaders = { X-Api-Key = "$BYPASS" }',
            "refuses the key in the headers X-Api-Key: HTTP 401: invalid_key",
        ),
        (
            'auth = "none"',
            'needs credentials, but the environment has auth = "none": HTTP 401: invalid_key',
        ),
    ],
)
def test_a_refused_key_is_one_clear_line_before_k6_starts(
    serve: Serve, chain: Chain, tmp_path: Path, lines: str, words: str
) -> None:
    target = serve(api_key=f"X-Api-Key={KEY}")
    settings = configure(tmp_path, target, lines, LOADTEST_WORKSPACE_ID="ws")
    with pytest.raises(MintError) as caught:
        k6(chain, settings, "cold-start")
    assert words in str(caught.value)
    assert BYPASS not in str(caught.value)
    assert chain.ending.run_dir is None


def test_mint_as_typed_says_that_there_is_no_bearer(
    serve: Serve, chain: Chain, tmp_path: Path
) -> None:
    settings = configure(tmp_path, serve(), 'auth = "none"')
    with pytest.raises(UsageError, match='no bearer to mint: environment mine has auth = "none"'):
        mint(chain, settings, MintOptions(via="browser"), print_claims=False)


def test_a_header_of_a_protected_host_goes_with_every_request_of_the_chain(
    serve: Serve, chain: Chain, tmp_path: Path
) -> None:
    target = serve(required_header=f"X-Bypass={BYPASS}", tool_quota=False, account_limits=False)
    user = {"LOADTEST_EMAIL": "access@example.com"}
    lines = 'via = "session"\nscope = "mcp:read offline_access"\n'
    settings = configure(tmp_path, target, lines, **user)
    with pytest.raises(LoadtestError):
        provision(chain, settings, revoke=lambda: None)
    lines += 'headers = { X-Bypass = "$BYPASS" }'
    provision(chain, configure(tmp_path, target, lines, **user), revoke=lambda: None)
    settings = configure(tmp_path, target, lines, **user)
    k6(chain, settings, None)
    check_run(chain, target)


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write a server's and a client's certificate, whose authorities both sides trust."""
    folder = tmp_path / "certificates"
    folder.mkdir()
    build_server_tls(folder, "127.0.0.1")
    write_client(folder)
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "authority.pem"))
    tls._verifying.cache_clear()
    yield folder
    tls._verifying.cache_clear()


def test_a_client_certificate_lets_our_clients_and_k6_in(
    serve: Serve, chain: Chain, tmp_path: Path, trusted: Path
) -> None:
    target = serve(
        first_challenge="never",
        tool_quota=False,
        tls_certificate=str(trusted / "server.pem"),
        client_authority=str(trusted / "clients.pem"),
    )
    settings = configure(tmp_path, target, 'auth = "none"', LOADTEST_WORKSPACE_ID="ws")
    with pytest.raises(LoadtestError, match="client certificate"):
        k6(chain, settings, "cold-start")
    lines = (
        'auth = "none"\ntls_certificate = "certificates/client.pem"\n'
        'tls_key = "certificates/client.key"'
    )
    configure(tmp_path, target, lines)
    workspace_id = make_workspace(target)
    settings = configure(tmp_path, target, lines, LOADTEST_WORKSPACE_ID=workspace_id)
    k6(chain, settings, None)
    check_run(chain, target)
