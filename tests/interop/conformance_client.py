"""The client that the MCP conformance suite starts: `inv mint` for the server in the last argument.

The suite passes an id, a secret or a key to the client in a variable.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx


def main(checkout: Path, mcp_url: str) -> int:
    """Mint in the checkout like a user of such a server, and return the exit code."""
    given = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    with TemporaryDirectory() as folder:
        variables = describe_user(mcp_url, given, Path(folder))
        return subprocess.run(
            [sys.executable, "-m", "invoke", "mint", "--env", "conformance"],
            cwd=checkout,
            env=os.environ | variables,
            check=False,
        ).returncode


def describe_user(mcp_url: str, given: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the variables of a user of this server."""
    origin = mcp_url.removesuffix("/mcp")
    variables = {
        "LOADTEST_BASE_URL": origin,
        "LOADTEST_EMAIL": "loadtest@example.com",
        "LOADTEST_PASSWORD": "not used",
    }
    if "client_id" in given:
        variables["LOADTEST_CLIENT_ID"] = given["client_id"]
    if "client_secret" in given:
        variables["LOADTEST_CLIENT_SECRET"] = given["client_secret"]
    if "private_key_pem" in given:
        key = folder / "key.pem"
        key.write_text(given["private_key_pem"])
        variables["LOADTEST_CLIENT_KEY_FILE"] = str(key)
    if "client-credentials" in os.environ["MCP_CONFORMANCE_SCENARIO"]:
        metadata = httpx.get(f"{origin}/.well-known/oauth-protected-resource/mcp").json()
        variables["LOADTEST_ISSUER"] = metadata["authorization_servers"][0]
    return variables


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[-1]))
