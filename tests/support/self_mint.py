"""A bearer that the reference target mints itself, for a session over HTTP."""

import time

import httpx

from loadtest.common.redaction import SecretStr
from loadtest.config.settings import Settings
from loadtest.state.bearers import Bearer


def self_mint(settings: Settings) -> Bearer:
    """Sign in over HTTP and have the target mint a bearer for the user's workspace."""
    who = settings.credentials
    assert settings.base_url is not None
    assert who.password is not None
    with httpx.Client(base_url=settings.base_url) as http:
        form = {"email": who.email, "password": who.password.get_secret_value()}
        session = http.post("/api/auth/sign-in/email", json=form).json()["token"]
        http.cookies.clear()
        http.headers["Authorization"] = f"Bearer {session}"
        workspace = {"organizationId": who.workspace_id}
        http.post("/api/auth/organization/set-active", json=workspace).raise_for_status()
        body = {"ttlSeconds": 3600}
        minted = http.post("/api/v1/me/load-test/mcp-token", json=body).raise_for_status().json()
    return Bearer(
        access_token=SecretStr(minted["bearer"]),
        expires_at=time.time() + 3600,
        mcp_url=settings.build_mcp_url(settings.base_url, who.workspace_id),
        scope="mcp:read",
        via="session",
        workspace_id=who.workspace_id,
        client_id="ours",
    )
