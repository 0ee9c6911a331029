"""The options of `inv capacity` as typed, and the loads that an environment allows."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

from loadtest.capacity.search import TOLERANCE
from loadtest.common.parsing import parse_count
from loadtest.config.models import Profile
from loadtest.config.settings import Settings
from loadtest.errors import ConfigError, UsageError
from loadtest.results.run import CapacityUnit

if TYPE_CHECKING:
    from loadtest.k6.plan import Runners

START = 10
STEP_SECONDS = 10
LEAST_TOLERANCE, MOST_TOLERANCE = 0.01, 1.0


@dataclass(frozen=True)
class CapacityOptions:
    """Where a search begins, in its unit, how exact it is, and how long a step is at least."""

    unit: CapacityUnit = "sessions"
    start: int = START
    tolerance: float = TOLERANCE
    step_seconds: int = STEP_SECONDS


def parse_options(
    find: str | None, start: str | None, tolerance: str | None, step_seconds: str | None
) -> CapacityOptions:
    """Return the options; raise UsageError for a wrong one."""
    units: tuple[CapacityUnit, ...] = get_args(CapacityUnit)
    unit = next((unit for unit in units if unit == (find or "sessions")), None)
    if unit is None:
        raise UsageError(f"--find {find}: there are {', '.join(units)}")
    return CapacityOptions(
        unit,
        _parse_count("--start", start, START),
        _parse_tolerance(tolerance),
        _parse_count("--step-seconds", step_seconds, STEP_SECONDS),
    )


def choose_search_runners(
    settings: Settings, options: CapacityOptions, engine: str | None, parallelism: str | None
) -> "Runners":
    """Return the runners of a search; raise if its first step is above a limit, or too small."""
    from loadtest.k6.options import choose_runners

    settings = replace(settings, profile=find_start_profile(settings, options))
    scenario = "sessions" if options.unit == "sessions" else "tools"
    return choose_runners(settings, (scenario,), engine, parallelism)


def find_start_profile(settings: Settings, options: CapacityOptions) -> Profile:
    """Return the profile of the first step; raise ConfigError if it is above a limit."""
    from loadtest.capacity.steps import build_profile

    limits, ladder = settings.environment.limits, settings.profile.sessions
    rate = ladder.pace.find_rate() if options.unit == "sessions" else 1.0
    bounds = find_bounds(settings, rate)
    bound = min(bounds, key=lambda name: bounds[name])
    if options.start > bounds[bound]:
        raise ConfigError(
            f"--start {options.start} is above {bound} of environment "
            f"{settings.environment_name}, which allows {bounds[bound]} {options.unit}"
        )
    if options.step_seconds > limits.max_duration_seconds:
        raise ConfigError(
            f"--step-seconds {options.step_seconds} is above max_duration_seconds "
            f"{limits.max_duration_seconds} of environment {settings.environment_name}"
        )
    return build_profile(settings.profile, options.unit, options.start, options.step_seconds)


def find_bounds(settings: Settings, rate: float) -> dict[str, int]:
    """Return by limit the most load that an environment allows; `rate` is the calls/s of a unit."""
    limits = settings.environment.limits
    return {"max_vus": limits.max_vus, "max_rps": int(limits.max_rps / rate)}


def _parse_count(option: str, text: str | None, default: int) -> int:
    try:
        return default if text is None else parse_count(text)
    except ValueError:
        raise UsageError(f"{option} must be a whole number above 0") from None


def _parse_tolerance(text: str | None) -> float:
    if text is None:
        return TOLERANCE
    try:
        tolerance = float(text)
    except ValueError:
        tolerance = 0.0
    if not LEAST_TOLERANCE <= tolerance <= MOST_TOLERANCE:
        raise UsageError(
            f"--tolerance must be a share from {LEAST_TOLERANCE:g} to {MOST_TOLERANCE:g}, as 0.1"
        )
    return tolerance
