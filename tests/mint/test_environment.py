"""The bearer settings of an environment: the grant type, and revocation after a run."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.common.console import Console
from loadtest.common.files import write_json
from loadtest.config.loading import load_settings
from loadtest.config.project import CONFIG_FILE
from loadtest.config.settings import Settings
from loadtest.context import Chain
from loadtest.errors import MintError
from loadtest.mint.browser.launcher import RECORD_VERSION, BrowserChoice
from loadtest.mint.options import MintOptions
from loadtest.mint.stage import (
    check_sign_in,
    ensure_bearers,
    renew_bearers,
    revoke,
    revoke_after,
)
from loadtest.provision.provisioner import provision
from loadtest.reference.server import ReferenceTarget
from loadtest.state.bearers import bearer_path, parse_claims, read_bearers, write_bearers
from loadtest.state.clients import ClientInformation, ClientStore, StoredClient
from tests.support.checkout import ROOT
from tests.support.waiting import HANG_SECONDS

Serve = Callable[..., ReferenceTarget]
Provisioned = Callable[[ReferenceTarget], Settings]

LEAST = MintOptions(min_ttl_seconds=20)


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    """The context of the stages; its console writes to a file."""
    with ExitStack() as resources, (tmp_path / "said").open("w") as said:
        yield Chain(Console(file=said, width=300), resources)


def change(settings: Settings, **changes: Any) -> Settings:
    return replace(settings, environment=settings.environment.model_copy(update=changes))


def read(chain: Chain) -> str:
    chain.console.file.flush()
    return Path(chain.console.file.name).read_text()


def test_a_run_and_its_renewal_use_the_grant_type_of_the_environment(
    serve: Serve, provisioned: Provisioned, chain: Chain
) -> None:
    settings = change(provisioned(serve(account_limits=False)), via="session")
    (bearer,), made = ensure_bearers(chain, settings, LEAST)
    assert made
    assert bearer.via == "session"
    claims = parse_claims(bearer.access_token.get_secret_value())
    assert claims is not None
    assert claims["sub"].startswith("loadtest:")
    assert ensure_bearers(chain, settings, LEAST) == ((bearer,), False)
    assert [each.via for each in renew_bearers(chain, settings, None)] == ["session"]
    write_bearers(bearer_path(settings.state_dir), [replace(bearer, via="browser")])
    (other,), made = ensure_bearers(chain, settings, LEAST)
    assert made
    assert other.via == "session"


def test_the_headers_of_a_protected_host_pass_discovery_registration_sign_in_and_revocation(
    serve: Serve, tmp_path: Path, chain: Chain, browser_choice: BrowserChoice
) -> None:
    target = serve(required_header="X-Bypass=canary-bypass-0123456789", account_limits=False)
    text = (ROOT / CONFIG_FILE).read_text()
    head = "[environment.staging]\n"
    (tmp_path / CONFIG_FILE).write_text(
        text.replace(head, f'{head}headers = {{ X-Bypass = "$BYPASS" }}\n')
    )
    variables = {
        "LOADTEST_BASE_URL": target.api_url,
        "LOADTEST_EMAIL": "bypass@example.com",
        "BYPASS": "canary-bypass-0123456789",
    }
    settings = load_settings(tmp_path, "staging", "smoke", process_env=variables)
    done = provision(settings, target.api_url, lambda _: None)
    settings = replace(settings, credentials=done.credentials)
    write_json(settings.browser_record, RECORD_VERSION, asdict(browser_choice))
    (bearer,), made = ensure_bearers(chain, settings, LEAST)
    assert (made, bearer.via) == (True, "browser")
    with pytest.raises(MintError, match="could not be revoked"):
        revoke(chain, settings)
    assert "deleted: client 1's registration" in read(chain)
    assert "canary" not in read(chain)


@pytest.mark.parametrize("via", ["session", "given"])
def test_a_soak_that_outlives_its_bearer_needs_one_that_can_be_minted_again(
    serve: Serve, provisioned: Provisioned, chain: Chain, via: str
) -> None:
    settings = change(provisioned(serve(account_limits=False)), via="session")
    (bearer,), _ = ensure_bearers(chain, settings, LEAST)
    profile = load_settings(ROOT, "local", "soak", process_env={}).profile
    settings = replace(change(settings, via=via), profile=profile, profile_name="soak")
    given = {"LOADTEST_BEARER": bearer.access_token.get_secret_value()}
    settings = replace(settings, variables={**settings.variables, **given})
    words = r"the bearer is valid for \d+ s, but profile soak needs 7\d{3} s: "
    if via == "given":
        with pytest.raises(MintError, match=f"{words}choose a shorter profile"):
            ensure_bearers(chain, settings, MintOptions())
    else:
        ensure_bearers(chain, settings, MintOptions())
        assert re.search(f"{words}k6 gets new ones during the run", read(chain))


def test_a_bearer_that_expires_on_its_own_fails_revoke_but_not_a_run(
    serve: Serve, provisioned: Provisioned, chain: Chain
) -> None:
    settings = change(provisioned(serve(account_limits=False)), via="session", revoke_after=True)
    ensure_bearers(chain, settings, LEAST)
    revoke_after(chain, settings)
    assert chain.ending.exit_code == 0
    assert "stays: bearer by session (the server still accepts it; it expires at" in read(chain)
    with pytest.raises(MintError, match=r"1 thing could not be revoked.*kept: bearer.json"):
        revoke(chain, settings)


def test_a_check_mints_again_calls_a_tool_and_revokes(
    serve: Serve, provisioned: Provisioned, chain: Chain
) -> None:
    target = serve(account_limits=False)
    settings = change(provisioned(target), via="session")
    (earlier,), _ = ensure_bearers(chain, settings, LEAST)
    done = check_sign_in(chain, settings, MintOptions())
    assert done == "signed in by session; executeSQL answered; 1 ended, 1 stays"
    (newer,) = read_bearers(bearer_path(settings.state_dir))
    assert newer.access_token != earlier.access_token
    assert target.open_sessions == 0


def test_a_check_without_a_table_lists_the_tools(
    serve: Serve, provisioned: Provisioned, chain: Chain
) -> None:
    settings = change(provisioned(serve(account_limits=False)), via="session")
    done = check_sign_in(chain, replace(settings, tools_assumed=True), MintOptions())
    assert "; 4 tools listed, none called: no tool is configured; " in done


def test_a_check_fails_at_a_tool_that_fails_and_still_revokes(
    serve: Serve, provisioned: Provisioned, chain: Chain, new_state: Callable[[], Path]
) -> None:
    state_dir = new_state()
    target = serve(state_dir)
    settings = change(provisioned(target), via="session")
    target.stop()
    serve(state_dir, error_share=1.0, account_limits=False)
    with pytest.raises(MintError, match="mint failed at tool call: executeSQL answered an error"):
        check_sign_in(chain, settings, MintOptions())
    assert "revoke      1 ended, 1 stays" in read(chain)


def test_a_check_fails_if_the_server_refuses_a_revocation_that_it_offers(
    serve: Serve, provisioned: Provisioned, chain: Chain
) -> None:
    target = serve(account_limits=False)
    settings = change(provisioned(target), via="session")
    offered = {"revocation_endpoint": f"{target.api_url}/no-such-endpoint"}
    for metadata, refused in (({}, False), (offered, True)):
        remembered = StoredClient(
            client=ClientInformation(client_id="unknown"),
            refresh_token="r",
            metadata=metadata,
            mcp_url=settings.build_mcp_url(target.api_url, settings.credentials.workspace_id),
        )
        ClientStore(settings.state_dir).keep(0, remembered)
        if refused:
            with pytest.raises(MintError, match="at revocation: stays: client 1's refresh token"):
                check_sign_in(chain, settings, MintOptions())
        else:
            assert " stays" in check_sign_in(chain, settings, MintOptions())


def test_a_refresh_token_that_a_run_could_not_revoke_fails_it(
    serve: Serve, provisioned: Provisioned, chain: Chain
) -> None:
    settings = change(provisioned(serve(account_limits=False)), revoke_after=True)
    remembered = StoredClient(client=ClientInformation(client_id="unknown"), refresh_token="r")
    ClientStore(settings.state_dir).keep(0, remembered)
    chain.ending.exit_code = 99
    revoke_after(chain, settings)
    assert chain.ending.exit_code == 99
    chain.ending.exit_code = 0
    revoke_after(chain, settings)
    assert chain.ending.exit_code == MintError.exit_code
    assert "not revoked after the run: client 1's refresh token" in str(chain.ending.message)


def test_the_number_of_things_that_a_run_leaves_is_reported(
    serve: Serve, provisioned: Provisioned, chain: Chain
) -> None:
    settings = change(provisioned(serve(account_limits=False)), via="session")
    ensure_bearers(chain, settings, LEAST)
    for slot in range(2):
        client = ClientInformation(client_id=f"client-{slot}")
        remembered = StoredClient(client=client, refresh_token="r")
        ClientStore(settings.state_dir).keep(slot, remembered)
    chain.sign_ins = 1
    revoke_after(chain, settings)
    said = read(chain)
    assert "left on the server: 2 registered clients, 2 refresh tokens, 1 signed-in session" in said
    assert "1 bearer until " in said


@pytest.mark.slow
def test_a_failed_chain_leaves_nothing_either(checkout: Path, serve: Serve) -> None:
    target = serve(account_limits=False, deny_consent=True)
    config = checkout / CONFIG_FILE
    head = "[environment.staging]\n"
    text = config.read_text().replace(head, f"{head}revoke_after = true\n")
    config.unlink()
    config.write_text(text)
    variables = {
        "LOADTEST_BASE_URL": target.api_url,
        "LOADTEST_EMAIL": "loadtest@example.com",
        "LOADTEST_SIGN_IN_ORIGINS": target.web_url,
    }
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "loadtest", "--env", "staging", "--profile", "smoke"],
        cwd=checkout,
        env={"PATH": os.environ["PATH"], "COLUMNS": "300"} | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )
    assert done.returncode == MintError.exit_code, done.stdout + done.stderr
    assert "access_denied" in done.stderr
    assert "deleted: client 1's registration" in done.stdout
    assert "ended: the user's other sessions" in done.stdout
    assert target.clients() == []
