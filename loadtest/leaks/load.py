"""What the options of `inv leaks` ask for, within the limits of the environment."""

from collections.abc import Mapping
from dataclasses import dataclass

from loadtest.common.parsing import parse_count
from loadtest.config.settings import Settings
from loadtest.errors import UsageError
from loadtest.state.bearers import SPARE_SECONDS

USUAL_CYCLES = 10
ABANDONED_SHARE = 0.05  # of the sessions of a cycle, at least one
REQUESTS_PER_CLIENT = 4  # two that open, the stream, DELETE
CYCLE_SECONDS = 10.0  # of waiting, at most, in a cycle of a server that is quick
PROBES = 5  # new clients that are measured after each cycle
CALLS = 10  # of each of them


@dataclass(frozen=True)
class Load:
    """What every cycle does: up to `sessions` clients, of which `abandoned` leave without DELETE.

    `most_rate` is in requests per second; nothing begins after `most_seconds`. After the last cycle
    the abandoned sessions are followed for `wait_seconds`. `settle_seconds` is how long the server
    gets to refuse streams, and to end what clients have left.
    """

    cycles: int
    sessions: int
    abandoned: int
    most_rate: float
    most_seconds: float
    wait_seconds: float = 0.0
    settle_seconds: float = 1.0


def plan_load(settings: Settings, typed: Mapping[str, str | None]) -> Load:
    """Return what the options ask for; raise UsageError if the limits do not allow it."""
    limits = settings.environment.limits
    cycles = _parse("cycles", typed.get("cycles")) or USUAL_CYCLES
    sessions = _parse("sessions", typed.get("sessions")) or limits.max_vus
    wait_seconds = 60.0 * _parse("wait-minutes", typed.get("wait_minutes"), least=0)
    if sessions > limits.max_vus:
        raise UsageError(
            f"--sessions {sessions} is above max_vus, which is {limits.max_vus} in environment "
            f"{settings.environment_name}: type fewer, or raise the limit"
        )
    load = Load(
        cycles=cycles,
        sessions=sessions,
        abandoned=max(1, round(sessions * ABANDONED_SHARE)),
        most_rate=limits.max_rps,
        most_seconds=limits.max_duration_seconds,
        wait_seconds=wait_seconds,
    )
    if (seconds := find_seconds(load)) > limits.max_duration_seconds:
        raise UsageError(
            f"{cycles} cycles of {sessions} sessions take up to {seconds:.0f} s, and environment "
            f"{settings.environment_name} allows {limits.max_duration_seconds} s: type fewer "
            "--cycles or --sessions, or raise max_duration_seconds"
        )
    return load


def find_seconds(load: Load) -> float:
    """Return how long the cycles take, at most, if the server is quick."""
    requests = load.sessions * REQUESTS_PER_CLIENT + PROBES * (CALLS + REQUESTS_PER_CLIENT)
    cycle_seconds = requests / load.most_rate + CYCLE_SECONDS
    return load.cycles * cycle_seconds + load.wait_seconds + SPARE_SECONDS


def _parse(name: str, text: str | None, least: int = 1) -> int:
    try:
        return parse_count(text, least=least) if text else 0
    except ValueError:
        raise UsageError(f"--{name} must be a whole number of at least {least}") from None
