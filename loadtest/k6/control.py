"""The control of a run: a static document of the same origin, asked for beside every scenario."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import httpx2

from loadtest.common.http import explain, open_client
from loadtest.config.models import Environment, Limits, Profile
from loadtest.results.run import SCENARIOS

# Requests per second; fewer where they would take more than a twentieth of the environment's limit.
CONTROL_RPS = 2.0
CONTROL_SHARE = 1 / 20
# Of the protected resource metadata (RFC 9728, section 3.1), below which a resource has its own.
METADATA_PATH = "/.well-known/oauth-protected-resource"
ASK_SECONDS = 10.0
MOST_BYTES = 256 * 1024
_WORKSPACE = "{workspace_id}"


@dataclass(frozen=True)
class Control:
    """The document that is asked for: `path` on the target's origin; `name` has no workspace id."""

    path: str
    name: str

    @property
    def variables(self) -> dict[str, str]:
        """Return the address for k6; like that of the endpoint, it may contain the workspace."""
        return {"CONTROL_PATH": self.path}


@dataclass(frozen=True)
class ControlSearch:
    """The control of a run, or `missing`: one line that says why there is none."""

    control: Control | None
    missing: str | None = None


def find_control(environment: Environment, mcp_url: str) -> ControlSearch:
    """Return the first document that answers 200, asked for once and without a bearer."""
    answers = []
    with open_client(ASK_SECONDS, most_bytes=MOST_BYTES) as http:
        for control in _list_places(environment, mcp_url):
            try:
                status = http.get(urljoin(mcp_url, control.path)).status_code
            except httpx2.HTTPError as failure:
                answers.append(f"{control.name}: {explain(failure)}")
                continue
            if status == httpx2.codes.OK:
                return ControlSearch(control)
            answers.append(f"{control.name}: HTTP {status}")
    remedy = "correct" if environment.control_path else "name a static document with"
    return ControlSearch(
        None,
        f"no control, so a slow network looks like a slow target: {remedy} control_path "
        f"({'; '.join(answers)})",
    )


def _list_places(environment: Environment, mcp_url: str) -> Iterator[Control]:
    before, _, after = environment.mcp_path.partition(_WORKSPACE)
    workspace_id = urlsplit(mcp_url).path.removeprefix(before).removesuffix(after)
    names = (METADATA_PATH + environment.mcp_path.partition("?")[0].rstrip("/"), METADATA_PATH)
    for name in (environment.control_path,) if environment.control_path else dict.fromkeys(names):
        yield Control(name.replace(_WORKSPACE, workspace_id), name)


def find_rate(scenario: str, profile: Profile, limits: Limits) -> float | None:
    """Return the control's requests per second; None if the limits leave no room for it."""
    rate = round(min(CONTROL_RPS, limits.max_rps * CONTROL_SHARE), 3)
    fits = profile.count_vus()[scenario] < limits.max_vus
    fits = fits and profile.find_rates()[scenario] + rate <= limits.max_rps
    return rate if fits else None


def describe_lack(scenarios: Sequence[str], profile: Profile, limits: Limits) -> str | None:
    """Return in one line which of these scenarios leave no room for a control; None if all do."""
    full = [
        name for name in SCENARIOS if name in scenarios and not find_rate(name, profile, limits)
    ]
    if not full:
        return None
    return (
        f"no control in {', '.join(full)}: it needs a VU and {CONTROL_RPS:g} requests/s more than "
        f"max_vus {limits.max_vus} and max_rps {limits.max_rps} leave"
    )
