"""Judging a run against the runs before it: worse, confirmed worse, or slowly drifting."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from loadtest.history import Cell, Entry

# same: within the rule. better, worse: beyond it. confirmed: a regression, not noise. thin: too
# few calls to tell. new: was not measured before. incomparable: the scenario's comparison says why.
Status = Literal["same", "better", "worse", "confirmed", "thin", "new", "incomparable"]


@dataclass(frozen=True)
class Change:
    """How one figure stands against that of the previous comparable run.

    `ratio` is oriented: above 1 is worse. Of failure shares it is None, and `points` is how many
    percentage points more of the calls fail. `before` is None where there is nothing to compare.
    """

    value: float
    status: Status
    before: float | None = None
    ratio: float | None = None
    points: float | None = None


@dataclass(frozen=True)
class Comparison:
    """What one scenario is compared with: a run, or the reason why there is none."""

    scenario: str
    previous: Entry | None
    reason: str | None = None


@dataclass(frozen=True)
class Drift:
    """A figure that moved slowly: from about `before` to about `after`, since the run named."""

    cell: Cell
    before: float
    after: float
    ratio: float
    since: Entry


@dataclass(frozen=True)
class Judgement:
    """All that comparing a run says; `confirmed` alone alerts."""

    comparisons: tuple[Comparison, ...] = ()
    changes: Mapping[Cell, Change] = field(default_factory=dict)
    drifts: tuple[Drift, ...] = ()

    @property
    def confirmed(self) -> frozenset[Cell]:
        """Return the cells whose regression is confirmed."""
        return frozenset(
            cell for cell, change in self.changes.items() if change.status == "confirmed"
        )
