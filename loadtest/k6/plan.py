"""What a run will do: a value that is made once, before the first scenario."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from loadtest.common.access import Access
from loadtest.config.models import Engine, Kubernetes, Limits, Profile, find_unit
from loadtest.config.refusals import RefusalPattern
from loadtest.config.settings import Settings
from loadtest.config.tool_table import ToolTable
from loadtest.k6.control import Control
from loadtest.k6.outputs import select_variables
from loadtest.state.bearers import bearer_path


@dataclass(frozen=True)
class Runners:
    """The k6 processes that share the load; they are pods if there is a `cluster`."""

    engine: Engine = "local"
    count: int = 1
    cluster: Kubernetes | None = None


@dataclass(frozen=True)
class RunPlan:
    """The scenarios of a run, and everything that they need.

    `host` is the only one that the scripts may call. `bearer_file` is None for a target that takes
    no bearer. With `streams`, each session holds one. `outputs` are k6's own (`--out`).
    `private_variables` are for k6 alone: what these
    outputs read, what the target demands, and the address of the `control`.
    """

    scenarios: tuple[str, ...]
    profile: Profile
    tools: ToolTable
    protocol: str
    limits: Limits
    mcp_url: str
    host: str
    bearer_file: Path | None
    state_dir: Path
    runners: Runners = Runners()
    outputs: tuple[str, ...] = ()
    refusals: tuple[RefusalPattern, ...] = ()
    control: Control | None = None
    streams: bool = True
    private_variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def unit(self) -> str:
        """Return what a stage of the ladder counts."""
        return find_unit(self.protocol)


def build_plan(
    settings: Settings,
    scenarios: Sequence[str],
    mcp_url: str,
    *,
    runners: Runners | None = None,
    outputs: tuple[str, ...] = (),
    profile: Profile | None = None,
    protocol: str | None = None,
    tools: ToolTable | None = None,
    control: Control | None = None,
) -> RunPlan:
    """Return the plan of a run; what is not given is as configured."""
    return RunPlan(
        scenarios=tuple(scenarios),
        profile=profile or settings.profile,
        tools=tools or settings.tools,
        protocol=protocol or settings.protocol,
        limits=settings.environment.limits,
        mcp_url=mcp_url,
        host=find_host(settings, mcp_url),
        bearer_file=find_bearer_file(settings),
        state_dir=settings.state_dir,
        runners=runners or Runners(),
        outputs=outputs,
        refusals=settings.environment.refusals,
        control=control,
        streams=settings.environment.streams,
        private_variables=select_variables(outputs, settings.variables)
        | build_access_variables(settings.access)
        | (control.variables if control else {}),
    )


def build_access_variables(access: Access) -> dict[str, str]:
    """Return what the scripts need to be let in by the target, besides a bearer: all secret."""
    variables = {"MCP_HEADERS": json.dumps(dict(access.headers))} if access.headers else {}
    if access.certificate is not None:
        key = access.certificate.key.get_secret_value()
        variables |= {"TLS_CERTIFICATE": access.certificate.chain, "TLS_KEY": key}
    return variables


def find_bearer_file(settings: Settings) -> Path | None:
    """Return the file of the bearers, None if the target takes no bearer."""
    return bearer_path(settings.state_dir) if settings.environment.auth == "bearer" else None


def find_host(settings: Settings, mcp_url: str) -> str:
    """Return the host that a run may call: the configured one.

    The reference target is started for the run, so its address is the one of its endpoint.
    """
    return urlsplit(mcp_url if settings.is_reference() else settings.base_url or "").netloc
