"""What an engine is asked to run, and how its runners are watched and stopped."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from loadtest.k6.health import ABORT_SECONDS


@dataclass(frozen=True)
class ScenarioRequest:
    """One scenario for `parallelism` runners; sessions, rates and stages are of all together.

    `variables` are the script environment without places: knobs, limits and switches, no secret.
    `private_variables` are for k6 alone: what its outputs (`--out`) read, and what the target
    demands. The scenario lasts at most `seconds`; it is ended early if its target fails for
    `abort_seconds`. Runner n appends what its k6 prints to the private file `logs[n - 1]`.
    """

    scenario: str
    parallelism: int
    variables: Mapping[str, str]
    tools: str
    mcp_url: str
    bearer_file: Path | None
    seconds: float
    abort_seconds: float = ABORT_SECONDS
    logs: tuple[Path, ...] = ()
    outputs: tuple[str, ...] = ()
    private_variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    renewal_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class RunnerState:
    """A runner at this moment; `number` counts from 1.

    One that is `ended` has an exit code of k6. One that is `lost` ended in another way (killed,
    evicted, its node failed) and has a `reason`. `region` is where it runs; `cpu_share` is its
    share, from 0 to 1, of the processors that it may use. Both are None if unknown.
    """

    number: int
    phase: Literal["pending", "running", "ended", "lost"]
    exit_code: int | None = None
    reason: str | None = None
    region: str | None = None
    cpu_share: float | None = None
    peak_memory_mb: float | None = None


class Fleet(Protocol):
    """The runners of one scenario, which were requested already."""

    def look(self) -> tuple[RunnerState, ...]:
        """Return the runners by number; called a few times a second, so it must not block.

        Raises K6Error, in one line with its remedy, if the fleet cannot start or continue.
        """

    def stop(self) -> None:
        """Ask every runner to end gracefully, and wait for it up to a limit."""

    def close(self) -> str | None:
        """Remove everything that was created for this scenario; safe to repeat.

        Returns one line about what is slow to be removed. K6Error names what could not be removed.
        """


Launch = Callable[[ScenarioRequest], Fleet]
