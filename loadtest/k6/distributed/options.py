"""The engine and how many runners, as typed."""

from collections.abc import Sequence
from dataclasses import replace

from loadtest.common.parsing import parse_count
from loadtest.config.models import ENGINES, Profile
from loadtest.config.settings import Settings
from loadtest.errors import ConfigError, UsageError
from loadtest.k6.health import count_cpus


def choose_engine(
    settings: Settings, scenarios: Sequence[str], engine: str | None, parallelism: str | None
) -> Settings:
    """Return the settings with the engine; UsageError for what cannot be.

    `segments` has a runner per processor unless told otherwise.
    """
    name = next((name for name in ENGINES if name == (engine or "local")), None)
    if name is None:
        raise UsageError(f"--engine {engine}: there are {', '.join(ENGINES)}")
    if name == "local":
        if parallelism is not None:
            raise UsageError("--parallelism goes with --engine segments or kubernetes")
        return settings
    if name == "kubernetes":
        _check_cluster(settings, parallelism)
    count = count_cpus() if parallelism is None else _parse(parallelism)
    _check_shares(settings.profile, scenarios, count)
    return replace(settings, engine=name, parallelism=count)


def _check_cluster(settings: Settings, parallelism: str | None) -> None:
    """Refuse what no cluster can run."""
    if settings.is_reference():
        raise UsageError(
            "--engine kubernetes is for hosted environments: pods do not reach the reference "
            "target on this machine; take --engine segments"
        )
    if settings.environment.kubernetes is None:
        table = f"[environment.{settings.environment_name}.kubernetes]"
        raise ConfigError(f"--engine kubernetes needs {table} in loadtest.toml, with a namespace")
    if parallelism is None:
        raise UsageError("--engine kubernetes needs --parallelism: how many runners share the load")


def _parse(text: str) -> int:
    try:
        return parse_count(text)
    except ValueError:
        raise UsageError("--parallelism must be a whole number above 0") from None


def _check_shares(profile: Profile, scenarios: Sequence[str], count: int) -> None:
    """Refuse a fleet in which a runner would have nothing to do."""
    most = {
        "cold-start": profile.cold_start.vus,
        "sessions": max(profile.sessions.stages),
        "tools": profile.tools.vus,
    }
    least = min(scenarios, key=lambda scenario: most[scenario])
    if count > most[least]:
        raise UsageError(
            f"--parallelism {count}: {least} has {most[least]} VUs to share out; take "
            f"{most[least]} at most, or a larger profile"
        )
