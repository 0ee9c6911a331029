"""Draft the text of an environment, of its tools and of the workflow."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from loadtest.common.network import is_loopback
from loadtest.common.parsing import tidy_text
from loadtest.config.project import CONFIG_VERSION
from loadtest.init.entrance import Entrance
from loadtest.init.toml_text import write_key, write_text_value, write_value

if TYPE_CHECKING:
    from loadtest.k6.preflight import DraftedTable

# The first lines of a new `loadtest.toml`. It names no default environment: only who types --env
# tests a server.
HEAD = (
    "# Servers for mcp-loadtest. Their addresses and secrets are in .env.<environment>.",
    f"version = {CONFIG_VERSION}",
)
# Safe for a server that nobody knows: the profile smoke needs half of it.
LIMITS = {"max_vus": 20, "max_rps": 50, "max_duration_seconds": 600}
# What the workflow asks for, whatever the server; and what it takes besides.
WORKFLOW_SECRETS = (
    *("LOADTEST_BASE_URL", "LOADTEST_EMAIL", "LOADTEST_PASSWORD"),
    *("LOADTEST_WORKSPACE_ID", "LOADTEST_TRACKING_ISSUE"),
)
MORE_SECRETS = frozenset({"LOADTEST_API_KEY", "LOADTEST_CLIENT_ID", "LOADTEST_CLIENT_SECRET"})
MOST_LEFT_OUT = 20
MOST_CHARS = 200
# Labels of a host that say nothing about the server.
_COMMON_LABELS = frozenset({"api", "app", "mcp", "server", "www"})
_MOST_NAME_CHARS = 40


def suggest_name(host: str, server: str, taken: Mapping[str, Any]) -> str:
    """Return a name for an environment: from the host, on this machine from the server's name.

    `mcp.example.com` becomes `example`, `staging.mcp.example.com` becomes `staging`.
    """
    labels = [] if is_loopback(host) or re.fullmatch(r"[0-9.:]+", host) else host.split(".")[:-1]
    telling = [label for label in labels if label not in _COMMON_LABELS]
    text = (telling or labels or [server])[0][:MOST_CHARS].lower()
    slug = re.sub(r"[^a-z0-9]+", "-", text)[:_MOST_NAME_CHARS].strip("-") or "server"
    reserved = {"runs", *taken}
    if slug.startswith("url-"):
        slug = f"my-{slug}"
    names = (slug, *(f"{slug}-{number}" for number in range(2, len(reserved) + 3)))
    return next(name for name in names if name not in reserved)


def draft_environment(place: str, entrance: Entrance, mcp_path: str) -> Iterator[str]:
    """Yield the table of an environment; `place` is its key, as in `environment.prod`."""
    yield ""
    yield f"[{place}]"
    yield 'target = "hosted"'
    yield 'default_profile = "smoke"'
    yield 'provision = "none"'
    yield f"mcp_path = {write_text_value(mcp_path)}"
    yield f"auth = {write_text_value(entrance.auth)}"
    if entrance.via is not None:
        yield f"via = {write_text_value(entrance.via)}"
    if entrance.headers:
        yield f"headers = {write_value(entrance.headers)}"
    yield f"limits = {write_value(LIMITS)}"


def draft_quota(place: str, drafted: "DraftedTable") -> Iterator[str]:
    """Yield the quota that RateLimit headers announce, if they announce one per minute or less."""
    from loadtest.k6.quota_demand import parse_policy

    policy = drafted.limits.policy if drafted.limits else None
    quota = parse_policy(policy) if policy else None
    if quota is not None:
        yield ""
        yield "# The quota that its RateLimit headers announce; the mix stays within it."
        yield f"[{place}.quota]"
        yield f"units_per_minute = {quota.units_per_minute}"
        yield "fit = true"


def draft_tools(place: str, drafted: "DraftedTable", *, comments: bool) -> Iterator[str]:
    """Yield a table for each tool to call, and with `comments` one for each that is left out."""
    left_out = dict(drafted.left_out)
    for name, entry in drafted.tools.items():
        try:
            lines = _draft_tool(f"{place}.tools.{write_key(name)}", entry)
        except ValueError as failure:
            left_out[name] = entry | {"tried": f"{failure}: its arguments need a JSON file"}
            continue
        yield from ("", *lines)
    if not comments or not left_out:
        return
    yield ""
    yield "# Not called, with the reason. To call a tool, remove the # in front of its table."
    for name, entry in islice(left_out.items(), MOST_LEFT_OUT):
        yield f"# {write_key(name)}: {tidy_text(entry['tried'], MOST_CHARS)}"
        with suppress(ValueError):
            lines = _draft_tool(f"{place}.tools.{write_key(name)}", entry)
            yield from (f"# {line}" for line in lines)
    if len(left_out) > MOST_LEFT_OUT:
        yield f"# and {len(left_out) - MOST_LEFT_OUT} more"


def _draft_tool(place: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the table of one tool; raise ValueError if TOML cannot hold its arguments."""
    return (
        f"[{place}]",
        f"about = {write_text_value(tidy_text(entry['about'], MOST_CHARS))}",
        f"weight = {entry['weight']}",
        f"arguments = {write_value(entry['arguments'])}",
    )


def draft_workflow(name: str, entrance: Entrance, source: tuple[str, str] | None) -> Iterator[str]:
    """Yield a workflow that runs every Monday; `source` are repository and commit of the tool."""
    repository, commit = source or ("OWNER/mcp-loadtest", "COMMIT")
    later = "" if source else " # TODO: replace OWNER and COMMIT"
    own = (*entrance.variables, *entrance.optional)
    secrets = (*WORKFLOW_SECRETS, *(secret for secret in own if secret in MORE_SECRETS))
    yield "name: Load test"
    yield ""
    yield "on:"
    yield "  schedule:"
    yield '    - cron: "17 5 * * 1" # Mondays'
    yield "  workflow_dispatch:"
    yield ""
    yield "permissions: {}"
    yield ""
    yield "jobs:"
    yield "  loadtest:"
    yield "    permissions: { contents: read, issues: write, actions: read }"
    yield f"    uses: {repository}/.github/workflows/load-test-mcp.yml@{commit}{later}"
    yield f'    with: {{ env: "{name}" }}'
    yield "    # Set them in this repository, or in its GitHub environment"
    yield f"    # loadtest-{name}, which wins. For those that the server does not need,"
    yield "    # any text will do. LOADTEST_TRACKING_ISSUE is an issue, as in #12."
    yield "    secrets:"
    yield from (f"      {secret}: ${{{{ secrets.{secret} }}}}" for secret in secrets)
