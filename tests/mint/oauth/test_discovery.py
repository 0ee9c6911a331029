"""Discovery for the doctor: everything up to the browser, and nothing left on the server."""

import pytest

from loadtest.errors import MintError
from loadtest.mint.oauth.discovery import discover
from loadtest.reference.server import ReferenceTarget
from tests.mint.minting import SLUG, build_target


def endpoint(target: ReferenceTarget) -> str:
    (workspace,) = (found for found in target.workspaces() if found.slug == SLUG)
    return f"{target.api_url}/mcp/{workspace.id}"


def test_discovery_names_the_issuer_and_registers_nobody() -> None:
    with build_target(client_metadata_documents=True) as target:
        found = discover(endpoint(target))
        assert found.issuer == f"{target.api_url}/api/auth"
        assert found.takes_registrations
        assert found.takes_documents
        assert abs(found.skew_seconds) < 2
        assert target.registrations == 0


def test_discovery_measures_the_clock() -> None:
    with build_target(clock_skew_seconds=-90) as target:
        assert -92 < discover(endpoint(target)).skew_seconds < -88


def test_discovery_refuses_what_mint_would_refuse() -> None:
    with build_target(s256="absent") as target, pytest.raises(MintError, match="PKCE with S256"):
        discover(endpoint(target))


def test_a_server_whose_metadata_name_another_origin_is_reported() -> None:
    with build_target() as target, pytest.raises(MintError) as caught:
        discover(endpoint(target).replace("127.0.0.1", "localhost"))
    asked = target.api_url.replace("127.0.0.1", "localhost")
    assert str(caught.value) == (
        f"mint failed at discovery: the server's metadata name {target.api_url}, but we used "
        f"{asked}: set LOADTEST_BASE_URL (or --mcp-url) to {target.api_url}, if that is its name"
    )
