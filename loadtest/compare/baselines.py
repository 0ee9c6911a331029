"""Choose the earlier runs that a scenario is compared with, or say why there are none."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loadtest.compare.generators import describe_generators, match_generator
from loadtest.compare.knee import is_rate_limited
from loadtest.results.history import Entry
from loadtest.results.run import Outcome

_FAULTS: Mapping[Outcome, str] = {
    "failed": "failed",
    "aborted": "was aborted",
    "interrupted": "was interrupted",
    "not run": "did not run",
}


def find_fault(entry: Entry, scenario: str) -> str | None:
    """Return why a scenario's figures cannot be compared, such as `was interrupted`; else None."""
    result = next((each for each in entry.run.scenarios if each.name == scenario), None)
    if result is None and not any(row.scenario == scenario for row in entry.rows):
        return "did not run"
    if result is not None and result.outcome in _FAULTS:
        return _FAULTS[result.outcome]
    if result is not None and result.generator is not None and result.generator.is_bottleneck():
        return "was limited by its load generator"
    if result is not None and result.faults:
        return "had a runner that was lost, late or partial"
    return "was rate limited" if is_rate_limited(entry.rows, scenario) else None


def find_peers(
    entry: Entry, earlier: Sequence[Entry], scenario: str
) -> tuple[tuple[Entry, ...], str | None, str | None]:
    """Return the runs that a scenario is compared with, oldest first, or why there are none.

    The last value names what differs in a load generator, if the control makes up for it.

    A run is never compared with itself or a later run, so an old run can be reported again.
    """
    fault = find_fault(entry, scenario)
    if fault is not None:
        return (), f"this run {fault}", None
    known = [
        other
        for other in earlier
        if other.run.environment == entry.run.environment
        and other.run.run_id != entry.run.run_id
        and other.run.started <= entry.run.started
        and find_fault(other, scenario) != "did not run"
    ]
    if not known:
        return (), "first run", None
    conditions = _find_conditions(entry, scenario)
    alike = [other for other in known if not _list_differences(other, scenario, conditions)]
    if not alike:
        return (), _describe_difference(known[-1], scenario, conditions), None
    usable = [other for other in alike if find_fault(other, scenario) is None]
    if not usable:
        newest = alike[-1]
        reason = f"no earlier run is usable: {newest.run.run_id} {find_fault(newest, scenario)}"
        return (), reason, None
    peers = tuple(peer for other in usable if (peer := match_generator(entry, other, scenario)))
    newest = peers[-1] if peers else usable[-1]
    difference = describe_generators(entry.run, newest.run)
    if not peers:
        why = f"unlike run {newest.run.run_id}: {difference}, and no control to compare through"
        return (), why, None
    return peers, None, difference


def _find_conditions(entry: Entry, scenario: str) -> dict[str, Any]:
    """Return by name what must be equal in both runs; a knob that is not set is no condition."""
    found = _list_conditions(entry, scenario)
    return {name: value for name, value in found if value is not None}


def _list_conditions(entry: Entry, scenario: str) -> Iterator[tuple[str, Any]]:
    """Yield by name what must be equal in both runs, besides the environment."""
    run = entry.run
    yield "profile", run.profile
    knobs = run.knobs.get(scenario.replace("-", "_"))
    if isinstance(knobs, Mapping):
        yield from ((name.replace("_", " "), value) for name, value in sorted(knobs.items()))
    if scenario not in {"cold-start", "streams"}:
        yield "streams", bool(run.streams)
    if scenario == "streams" and isinstance(ladder := run.knobs.get("sessions"), Mapping):
        yield from ((name.replace("_", " "), ladder.get(name)) for name in ("tool", "pace_seconds"))
    yield "time limit", run.knobs.get("timeout_seconds")
    if scenario != "cold-start":
        yield "tool table", run.knobs.get("tool_table")
        yield (
            "arguments",
            run.knobs.get("arguments", "fixed"),
        )  # earlier versions could not vary them
    held = (row.held_rate for row in entry.rows if row.scenario == scenario)
    yield "calls/s limit", next(filter(None, held), None)
    yield "protocol", run.target.protocol_version
    yield "era", run.target.era
    yield "clients", run.clients
    yield "refusals", run.knobs.get("refusals")
    yield "control", run.knobs.get("control")
    yield "auth", run.knobs.get("auth", "bearer")
    yield "engine", run.engine
    yield "generators", run.generators
    yield "regions", ", ".join(run.regions) or None


def _list_differences(other: Entry, scenario: str, conditions: Mapping[str, Any]) -> list[str]:
    """Return the names of what differs; runs with and without a control do not differ by it."""
    before = _find_conditions(other, scenario)
    names = [name for name in {**conditions, **before} if conditions.get(name) != before.get(name)]
    return [name for name in names if name != "control" or {name} <= conditions.keys() & before]


def _describe_difference(other: Entry, scenario: str, conditions: Mapping[str, Any]) -> str:
    """Name what differs: `unlike run ID: vus 4, was 2`; of another profile, nothing else."""
    before = _find_conditions(other, scenario)
    names = _list_differences(other, scenario, conditions)
    if "profile" in names:
        names = ["profile"]
    changed = (f"{name} {_show(conditions, name)}, was {_show(before, name)}" for name in names)
    return f"unlike run {other.run.run_id}: {'; '.join(changed)}"


def _show(conditions: Mapping[str, Any], name: str) -> str:
    value = conditions.get(name)
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, default=str)
