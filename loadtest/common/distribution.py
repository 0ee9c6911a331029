"""Where this installation of mcp-loadtest came from."""

import json
import re
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

DISTRIBUTION = "mcp-loadtest"


def read_origin() -> dict[str, Any] | None:
    """Return the file or commit that was installed (PEP 610); None for a release or a checkout."""
    try:
        text = distribution(DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    origin: dict[str, Any] | None = json.loads(text or "null")
    return origin


def find_commit() -> tuple[str, str] | None:
    """Return the repository on GitHub and the commit that was installed, if they are known."""
    origin = read_origin() or {}
    found = re.search(r"github\.com[/:]([\w.-]+/[\w.-]+?)(?:\.git)?/?$", origin.get("url", ""))
    commit = origin.get("vcs_info", {}).get("commit_id")
    return (found[1], commit) if found and commit else None
