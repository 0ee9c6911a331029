"""What an engine is asked to run, and how a fleet of k6 runners is watched and ended."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol


@dataclass(frozen=True)
class Order:
    """One scenario for `parallelism` runners; sessions, rates and stages are the whole fleet's.

    `variables` are what the script reads besides places: knobs, limits and switches, no secret.
    `outputs` are k6's own (`--out`), which read `output_variables`. `seconds` is how long the
    scenario lasts at most. Runner n appends what its k6 prints to the private file `logs[n - 1]`.
    """

    scenario: str
    parallelism: int
    variables: Mapping[str, str]
    tools: str
    mcp_url: str
    bearer_file: Path
    seconds: float
    logs: tuple[Path, ...] = ()
    outputs: tuple[str, ...] = ()
    output_variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    renewal_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class RunnerState:
    """A runner of a fleet at this moment: `number` counts from 1.

    `ended` has an exit code of k6; `lost` ended without one of its own (killed, evicted, node gone)
    and has a `reason`. `region` is where it runs, `cpu_share` what it takes of the processors that
    it may use, from 0 to 1, each as far as that is known.
    """

    number: int
    phase: Literal["pending", "running", "ended", "lost"]
    exit_code: int | None = None
    reason: str | None = None
    region: str | None = None
    cpu_share: float | None = None
    peak_memory_mb: float | None = None


class Fleet(Protocol):
    """The runners of one scenario, already asked for."""

    def look(self) -> tuple[RunnerState, ...]:
        """Return the runners in order; called a few times a second, so it must not block.

        Raises K6Error, in one line with its remedy, when the fleet cannot start or go on.
        """

    def stop(self) -> None:
        """Ask every runner to end gracefully, and wait for it within bounds."""

    def close(self) -> str | None:
        """Remove whatever was made for this scenario; safe to repeat.

        Returns in one line what is slow to go; K6Error names what stays.
        """


Launch = Callable[[Order], Fleet]
