"""What was configured: one environment, one profile, credentials and paths."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.common.access import NO_ACCESS, Access
from loadtest.common.files import STATE_DIR
from loadtest.common.redaction import SecretStr
from loadtest.config.models import EdgeTask, Environment, Profile, parse_origin
from loadtest.config.objectives import Objective
from loadtest.config.tool_table import ToolTable
from loadtest.errors import ConfigError

CREDENTIALS_FILE = "credentials.env"


@dataclass(frozen=True)
class Credentials:
    """Who signs in and where: from LOADTEST_* variables, else from provision's file."""

    email: str | None = None
    password: SecretStr | None = None
    workspace_id: str | None = None
    totp_secret: SecretStr | None = None


@dataclass(frozen=True)
class Settings:
    """Everything that was configured: one environment, one profile, credentials and paths.

    `tools_assumed`: no tools are configured, so NovaMart's are called if the target has them.
    `draft_tools`: tools that a draft may call though the target does not declare them read-only.
    """

    root: Path
    environment_name: str
    environment: Environment
    profile_name: str
    profile: Profile
    base_url: str | None
    credentials: Credentials
    tools: ToolTable
    objectives: tuple[Objective, ...] = ()
    tools_assumed: bool = False
    draft_tools: tuple[str, ...] = ()
    access: Access = NO_ACCESS
    clients: int = 1
    protocol: str = "auto"
    tracking_issue: str | None = None
    repository: str | None = None
    docs_pages: tuple[Path, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def state_dir(self) -> Path:
        """Return where this environment keeps its bearer and credentials (0700)."""
        return self.root / STATE_DIR / self.environment_name

    @property
    def runs_dir(self) -> Path:
        """Return the folder of all run folders."""
        return self.root / STATE_DIR / "runs"

    @property
    def credentials_file(self) -> Path:
        """Return the 0600 env file that provision writes."""
        return self.state_dir / CREDENTIALS_FILE

    @property
    def browser_record(self) -> Path:
        """Return the file that stores the choice of browser, for all environments."""
        return self.root / STATE_DIR / "browser.json"

    def build_mcp_url(self, base_url: str, workspace_id: str | None) -> str:
        """Return the MCP endpoint, with the workspace if the path contains one."""
        return base_url + self.environment.build_mcp_path(workspace_id)

    def find_variable(self, name: str) -> str | None:
        """Return a variable of a hosted target; the reference target has none of them."""
        return None if self.is_reference() else self.variables.get(name)

    def find_sign_in_origins(self) -> frozenset[str]:
        """Return the origins where credentials may be typed, besides the servers' own."""
        text = self.find_variable("LOADTEST_SIGN_IN_ORIGINS") or ""
        try:
            given = {parse_origin(part.strip()) for part in text.split(",") if part.strip()}
        except ValueError as failure:
            raise ConfigError(f"LOADTEST_SIGN_IN_ORIGINS: {failure}") from None
        return frozenset(given) | frozenset(self.environment.pages.sign_in_origins)

    def find_secret(self, name: str) -> SecretStr | None:
        """Return such a variable as a secret."""
        value = self.find_variable(name)
        return SecretStr(value) if value else None

    def list_calls(self, scenarios: Collection[str]) -> tuple[str, ...]:
        """Return the names of what these scenarios call from the table."""
        if not {"tools", "soak"}.isdisjoint(scenarios):
            return self.tools.list_names()
        has_ladder = not {"sessions", "streams"}.isdisjoint(scenarios)
        return (str(self.profile.sessions.tool),) if has_ladder else ()

    def is_reference(self) -> bool:
        """Return whether the target is the embedded reference target."""
        return self.environment.target == "reference"


def check_hosted(settings: Settings, *needed: str) -> None:
    """Raise ConfigError that names every variable that a hosted environment lacks."""
    if settings.is_reference():
        return
    have = {
        "LOADTEST_BASE_URL": settings.base_url,
        "LOADTEST_EMAIL": settings.credentials.email,
        "LOADTEST_PASSWORD": settings.credentials.password,
        "LOADTEST_WORKSPACE_ID": settings.credentials.workspace_id,
    }
    missing = [name for name in needed if not have[name]] + list(settings.access.lacking)
    if missing:
        raise ConfigError(
            f"environment {settings.environment_name} lacks {', '.join(missing)}: set "
            + (
                "it as a variable or in .env"
                if len(missing) == 1
                else "them as variables or in .env"
            )
        )
    if settings.access.faults:
        raise ConfigError(
            f"environment {settings.environment_name}: {'; '.join(settings.access.faults)}"
        )


def check_allowed(settings: Settings, task: EdgeTask) -> None:
    """Raise ConfigError unless the environment bears a task that brings it to its edge."""
    if task not in settings.environment.allow:
        raise ConfigError(
            f"{task} brings a server to its edge, and environment {settings.environment_name} does "
            f'not allow it: if its server may fail, set allow = ["{task}"] in its table'
        )
