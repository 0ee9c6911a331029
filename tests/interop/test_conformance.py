"""`inv mint` against the servers of the MCP conformance suite (npm), scenario by scenario."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loadtest.config.project import CONFIG_FILE
from tests.support.waiting import HANG_SECONDS

SUITE = Path(__file__).with_name("node_modules") / "@modelcontextprotocol" / "conformance" / "dist"
CLIENT = Path(__file__).with_name("conformance_client.py")
# The suite's only tool, and the only client metadata document that its server accepts.
ENVIRONMENT = """
[environment.conformance]
target = "hosted"
default_profile = "smoke"
provision = "none"
mcp_path = "/mcp"
client_metadata_url = "https://conformance-test.local/client-metadata.json"
limits = { max_vus = 10, max_rps = 10, max_duration_seconds = 60 }
tools = { test-tool = { weight = 1, arguments = [{}] } }
"""
# Our client does not support cross-app access (an extension). RFC 8414, section 3.3, forbids using
# the metadata of the first scenario, because its issuer differs from the requested one.
REFUSED = {
    "auth/2025-03-26-oauth-metadata-backcompat": "issuer mismatch",
    "auth/cross-app-access-complete-flow": "unsupported_grant_type",
}
ACCEPTED = (
    "auth/metadata-default",
    "auth/metadata-var1",
    "auth/metadata-var2",
    "auth/metadata-var3",
    "auth/basic-cimd",
    "auth/scope-from-www-authenticate",
    "auth/scope-from-scopes-supported",
    "auth/scope-omitted-when-undefined",
    "auth/scope-step-up",
    "auth/scope-retry-limit",
    "auth/token-endpoint-auth-basic",
    "auth/token-endpoint-auth-post",
    "auth/token-endpoint-auth-none",
    "auth/pre-registration",
    "auth/2025-03-26-oauth-endpoint-fallback",
    "auth/resource-mismatch",
    "auth/offline-access-scope",
    "auth/offline-access-not-supported",
    "auth/client-credentials-jwt",
    "auth/client-credentials-basic",
)

Run = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(node: str, checkout: Path, tmp_path: Path) -> Run:
    """Return a function that runs a scenario; the suite's client command has no spaces."""
    config = checkout / CONFIG_FILE
    text = config.read_text(encoding="utf-8") + ENVIRONMENT
    config.unlink()
    config.write_text(text, encoding="utf-8")
    command = shlex.join([sys.executable, str(CLIENT), str(checkout)])
    script = tmp_path / "mint-for-the-suite"
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    script.chmod(0o700)

    def start(scenario: str) -> "subprocess.CompletedProcess[str]":
        options = ["--scenario", scenario, "--command", script.name, "--timeout", "100000"]
        return subprocess.run(
            [node, str(SUITE / "index.js"), "client", *options],
            env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=HANG_SECONDS,
        )

    return start


def test_every_scenario_of_the_suite_is_listed(node: str) -> None:
    listed = subprocess.run(
        [node, str(SUITE / "index.js"), "list", "--client"],
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_SECONDS,
    ).stdout.split()
    assert {word for word in listed if word.startswith("auth/")} == {*ACCEPTED, *REFUSED}


@pytest.mark.parametrize("scenario", ACCEPTED)
def test_our_client_conforms_in_a_scenario(run: Run, scenario: str) -> None:
    done = run(scenario)
    assert "OVERALL: PASSED" in done.stdout, done.stdout


@pytest.mark.parametrize("scenario", REFUSED)
def test_a_server_that_violates_the_standard_is_refused_in_one_line(
    run: Run, scenario: str
) -> None:
    output = run(scenario).stdout
    assert REFUSED[scenario] in output
    assert "Traceback" not in output
