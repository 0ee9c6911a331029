"""Service-level objectives: what a run must reach, as `[environment.<name>.slo]` sets it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from loadtest.config.tool_table import ToolTable, list_names
from loadtest.errors import ConfigError

ObjectiveFigure = Literal["p50", "p95", "p99", "failed", "holds"]

Ms = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Clients = Annotated[int, Field(gt=0, le=10**9)]

# The name of a row that stands for every stage of the ladder, or for the sum of all tools.
ALL = "all"


@dataclass(frozen=True)
class Objective:
    """The most that a figure of a row may be; for `holds`, how much the ladder must sustain.

    `limit` is in ms, for `failed` a share (0 to 1), for `holds` a number of sessions or streams.
    """

    scenario: str
    kind: str
    name: str
    figure: ObjectiveFigure
    limit: float


class ObjectiveLimits(BaseModel):
    """What the figures of one tool, frame or scenario may be at most.

    Latencies are in milliseconds; `failed` is the share of calls that are not ok.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    p50_ms: Ms | None = None
    p95_ms: Ms | None = None
    p99_ms: Ms | None = None
    failed: Share | None = None

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("an objective has at least one of p50_ms, p95_ms, p99_ms and failed")
        found = {name: getattr(self, name) for name in ("p50_ms", "p95_ms", "p99_ms")}
        given = [(name, limit) for name, limit in found.items() if limit is not None]
        for (lower, low), (higher, high) in pairwise(given):
            if low > high:
                raise ValueError(
                    f"{higher} = {high:g} contradicts {lower} = {low:g}: the higher percentile "
                    "needs the higher limit"
                )
        return self

    def list_limits(self) -> Iterator[tuple[ObjectiveFigure, float]]:
        """Yield the figures that have a limit."""
        limits: Mapping[ObjectiveFigure, float | None] = {
            "p50": self.p50_ms,
            "p95": self.p95_ms,
            "p99": self.p99_ms,
            "failed": self.failed,
        }
        yield from ((figure, limit) for figure, limit in limits.items() if limit is not None)


class Slo(BaseModel):
    """The objectives of an environment: what is held, and by name those of what is measured."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, ObjectiveLimits] = Field(init=False)

    holds: Clients | None = None
    holds_streams: Clients | None = None

    @property
    def limits(self) -> Mapping[str, ObjectiveLimits]:
        """Return the objectives of tools, frames and scenarios, by the name in the settings."""
        return self.__pydantic_extra__


class _Subject(NamedTuple):
    """The rows that a name in the settings stands for, one in each of the scenarios."""

    what: str
    scenarios: tuple[str, ...]
    kind: str
    name: str


_MEASURED = {
    "cold_start": _Subject("scenario", ("cold-start",), "frame", "first dispatch"),
    "sessions": _Subject("scenario", ("sessions",), "stage", ALL),
    "tools": _Subject("scenario", ("tools",), "tool", ALL),
    "soak": _Subject("scenario", ("soak",), "tool", ALL),
    "connect": _Subject("frame", ("cold-start",), "frame", "connect"),
    "initialize": _Subject("frame", ("cold-start",), "frame", "initialize"),
    "server_discover": _Subject("frame", ("cold-start",), "frame", "server/discover"),
    "tools_list": _Subject("frame", ("cold-start",), "frame", "tools/list"),
    "first_dispatch": _Subject("frame", ("cold-start", "soak"), "frame", "first dispatch"),
}


def list_objectives(slo: Slo, tools: ToolTable, *, is_own_table: bool) -> tuple[Objective, ...]:
    """Return the objectives of an environment; raise ConfigError that lists every wrong name.

    A name is that of something in the tool table, of a frame of the cold start or of a scenario.
    What the mix and the soak both measure has an objective in each. If the table is not the
    environment's own, objectives of what it lacks are left out.
    """
    called = {
        name: _Subject(kind, ("tools", "soak"), kind, name)
        for name in (*tools.entries, *tools.steps, *tools.flows)
        for kind in [tools.find_kind(name)]
    }
    found: dict[tuple[str, str, str, str], Objective] = {}
    faults = []
    for key, limits in slo.limits.items():
        try:
            subject = _find_subject(key, called)
        except KeyError as unknown:
            if is_own_table:
                faults.append(str(unknown.args[0]))
            continue
        except ValueError as ambiguous:
            faults.append(str(ambiguous))
            continue
        for figure, limit in limits.list_limits():
            rows = [(each, subject.kind, subject.name) for each in subject.scenarios]
            if any((*row, figure) in found for row in rows):
                faults.append(f"{list_names((key,))} sets {figure} of {subject.name} a second time")
            found |= {(*row, figure): Objective(*row, figure, limit) for row in rows}
    if faults:
        raise ConfigError("; ".join(f"slo: {fault}" for fault in faults))
    held = {("sessions", "stage"): slo.holds, ("streams", "stream"): slo.holds_streams}
    holds = (Objective(*row, ALL, "holds", limit) for row, limit in held.items() if limit)
    return (*found.values(), *holds)


def _find_subject(key: str, called: Mapping[str, _Subject]) -> _Subject:
    """Return what a name stands for; KeyError if it is nothing, ValueError if it is two things."""
    shown = list_names((key,))
    measured = _MEASURED.get(key.replace("-", "_").replace("/", "_"))
    if measured is not None and key in called:
        kinds = measured.what, called[key].what
        names = " or ".join(f'"{kind}:{shown}"' for kind in kinds)
        raise ValueError(f"{shown} is a {' and a '.join(kinds)}: write {names}")
    if subject := measured or called.get(key):
        return subject
    what, _, name = key.partition(":")
    for subject in filter(None, (_MEASURED.get(name), called.get(name))):
        if subject.what == what:
            return subject
    raise KeyError(
        f"{shown} names no tool, frame or scenario: the table has {list_names(called)}; besides "
        f"there are {', '.join(_MEASURED)}, holds and holds_streams"
    )
