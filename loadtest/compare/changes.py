"""How one figure changed since an earlier run."""

from dataclasses import dataclass
from typing import Literal

from loadtest.compare.regressions import Regression

# same: changed by no more than WORSE_SHARE. better, worse: changed by more; better also means
# better than usual. suspected: outside the spread of the last runs, but not yet for long enough.
# confirmed: a regression. accepted: a confirmed regression that somebody made the new baseline.
# thin: too few calls to know. new: no baseline has this figure.
# incomparable: the scenario has no baseline; its `reason` tells why.
Status = Literal[
    "same",
    "better",
    "worse",
    "suspected",
    "confirmed",
    "accepted",
    "thin",
    "new",
    "incomparable",
]
# The statuses of a regression, the worst first.
REGRESSED: tuple[Status, ...] = ("confirmed", "suspected", "accepted")
BOLD: tuple[Status | None, ...] = ("confirmed", "suspected", "worse")


@dataclass(frozen=True)
class Change:
    """How one figure changed since the previous comparable run.

    `ratio` is oriented: above 1 is worse. For failure shares it is None, and `points` is the change
    in percentage points. If one of the values is zero, `ratio` is None. `before` is None
    if there is nothing to compare. A regression is compared with the usual level before it, the
    median of the last baselines; `regression` tells since when, and what confirms it.
    """

    value: float
    status: Status
    before: float | None = None
    ratio: float | None = None
    points: float | None = None
    regression: Regression | None = None
