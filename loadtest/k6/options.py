"""The options of `inv k6` as typed: scenarios, engine, runners."""

from collections.abc import Sequence

from loadtest.common.parsing import parse_count
from loadtest.config.models import ENGINES, Kubernetes, Profile
from loadtest.config.settings import Settings
from loadtest.errors import ConfigError, UsageError
from loadtest.k6.health import count_cpus
from loadtest.k6.plan import Runners
from loadtest.results.run import SCENARIOS


def parse_scenarios(text: str | None, profile: Profile) -> tuple[str, ...]:
    """Return the named scenarios, or the profile's; UsageError for one that cannot run."""
    if not text:
        return profile.choose_scenarios()
    chosen = tuple(part.strip() for part in text.split(","))
    unknown = [name for name in chosen if name not in SCENARIOS]
    if unknown:
        raise UsageError(f"unknown scenario '{unknown[0]}': there are {', '.join(SCENARIOS)}")
    for name in chosen:
        if name not in profile.count_vus():
            hint = "; use --profile soak" if name == "soak" else ""
            raise UsageError(f"--scenarios {name}: the profile has no table {name}{hint}")
    return chosen


def check_fit(scenarios: Sequence[str]) -> None:
    """Raise UsageError if there is no mix to fit; a ladder's rate is its number of sessions."""
    if "tools" not in scenarios:
        raise UsageError(
            "--fit-quota changes only the tool mix, which --scenarios omits; to fit a ladder, use "
            "--stages, --tool or --clients"
        )


def choose_runners(
    settings: Settings, scenarios: Sequence[str], engine: str | None, parallelism: str | None
) -> Runners:
    """Return the runners that these options ask for; raise UsageError if they cannot run.

    `segments` has a runner per processor by default.
    """
    name = next((name for name in ENGINES if name == (engine or "local")), None)
    if name is None:
        raise UsageError(f"--engine {engine}: there are {', '.join(ENGINES)}")
    if name == "local":
        if parallelism is not None:
            raise UsageError("--parallelism needs --engine segments or kubernetes")
        return Runners()
    cluster = _find_cluster(settings, parallelism) if name == "kubernetes" else None
    count = count_cpus() if parallelism is None else _parse(parallelism)
    _check_shares(settings.profile, scenarios, count)
    return Runners(name, count, cluster)


def _find_cluster(settings: Settings, parallelism: str | None) -> Kubernetes:
    """Return the cluster of the environment; raise if it cannot run the environment."""
    if settings.is_reference():
        raise UsageError(
            "--engine kubernetes is for hosted environments: pods do not reach the reference "
            "target on this machine; use --engine segments"
        )
    cluster = settings.environment.kubernetes
    if cluster is None:
        table = f"[environment.{settings.environment_name}.kubernetes]"
        raise ConfigError(f"--engine kubernetes needs {table} in loadtest.toml, with a namespace")
    if parallelism is None:
        raise UsageError("--engine kubernetes needs --parallelism: how many runners share the load")
    return cluster


def _parse(text: str) -> int:
    try:
        return parse_count(text)
    except ValueError:
        raise UsageError("--parallelism must be a whole number above 0") from None


def _check_shares(profile: Profile, scenarios: Sequence[str], count: int) -> None:
    """Raise UsageError if a runner would have nothing to do."""
    most = profile.count_vus() | {"tools": profile.tools.vus}
    least = min(scenarios, key=lambda scenario: most[scenario])
    if count > most[least]:
        raise UsageError(
            f"--parallelism {count}: {least} has {most[least]} VUs to share; use at most "
            f"{most[least]}, or a larger profile"
        )
