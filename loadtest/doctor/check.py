"""The result of one check, and the MCP endpoint that several checks need."""

from dataclasses import dataclass
from typing import Literal

from loadtest.common.command_name import spell
from loadtest.config.settings import Settings
from loadtest.errors import ConfigError

CheckState = Literal["ok", "later", "warn", "missing"]


@dataclass(frozen=True)
class Check:
    """One line of the doctor's table, with what to do if it is not ok.

    `later`: a stage of the chain will make it. `warn`: a run starts anyway. `missing`: no run
    starts.
    """

    what: str
    state: CheckState
    detail: str
    remedy: str = ""

    @property
    def cause(self) -> tuple[CheckState, str, str]:
        """Return what checks with the same cause have in common."""
        return self.state, self.detail, self.remedy


def find_endpoint(settings: Settings, base_url: str | None) -> tuple[str | None, tuple[str, str]]:
    """Return the MCP endpoint, or None with the detail and remedy of what cannot be checked yet."""
    if base_url is None:
        return None, ("the target is not up", "checked when it is up")
    try:
        return settings.build_mcp_url(base_url, settings.credentials.workspace_id), ("", "")
    except ConfigError:
        return None, ("no workspace yet", f"{spell('provision')} makes one")
