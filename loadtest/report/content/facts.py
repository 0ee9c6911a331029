"""The facts of a run (who measured what, when and how), and its caveats."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from urllib.parse import urlsplit

from loadtest.compare.comparison import Comparison
from loadtest.report.content.formatting import (
    NO_DATA,
    add_ms,
    format_change,
    format_count,
    format_ms,
    format_rate,
    format_share,
)
from loadtest.report.content.streams import describe_facts
from loadtest.report.content.wording import (
    clean,
    flatten,
    list_results,
    name_scenario,
    name_units,
)
from loadtest.results.history import CONTROL, Cell, pick_latency
from loadtest.results.run import Generator, Run
from loadtest.results.run_folder import RunFolder

LABELS = {"cpu_model": "processor", "address_class": "address"}  # of keys of a run's machine
SHARED = "shares_with_target"  # a key of a run's machine: shown as a caveat, not as a fact


def build_facts(
    folder: RunFolder, comparison: Comparison | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the facts by name, the most important first."""
    run = folder.run
    target = run.target
    server = " ".join(filter(None, (target.server_name, target.server_version)))
    protocol = target.protocol_version or "unknown"
    known = {name: value for name, value in run.machine.items() if name != SHARED}
    machine = ", ".join(flatten({LABELS.get(name, name): known[name] for name in known}))
    yield "time", _format_time(run.started, run.ended)
    yield "git SHA", run.git_sha or "none (not a git checkout)"
    yield "environment", run.environment
    yield "target", f"{target.host}, {server or 'unnamed server'}"
    if target.commit:
        of = f" of {target.repository}" if target.repository else ""
        yield "deployed commit", f"{target.commit}{of}"
    yield "protocol", f"{protocol} ({target.era} era)" if target.era else protocol
    yield "profile", run.profile
    arguments = run.knobs.get("arguments")
    if arguments and any(result.name != "cold-start" for result in run.scenarios):
        yield "arguments", _describe_arguments(str(arguments), run.knobs.get("different_calls"))
    if streams := describe_facts(folder):
        yield "streams", streams
    if run.clients != 1:
        yield "clients", format_count(run.clients)
    yield "k6", run.k6_version
    yield "machine", machine or NO_DATA
    if run.generators != 1 or run.engine != "local":
        where = f", in {', '.join(run.regions)}" if run.regions else ""
        yield "load generators", f"{format_count(run.generators)} ({run.engine}){where}"
    if generators := [result.generator for result in run.scenarios if result.generator]:
        yield "use of the load generator", _describe_load(generators)
    if run.scenarios:
        yield "control", _describe_control(folder, comparison or Comparison())
    if run.repeats or run.repeats_note:
        yield "measured again", _describe_repeats(run)
    if run.run_url:
        yield "workflow run", run.run_url
    yield "run folder", "/".join(folder.path.parts[-3:])


def build_caveats(folder: RunFolder, comparison: Comparison) -> Iterator[str]:
    """Yield reasons why the figures may mislead."""
    notes = dict.fromkeys(each.note for each in comparison.baselines if each.note)
    yield from (f"Compared through the control: {clean(note)}." for note in notes)
    host = urlsplit(f"//{folder.run.target.host}").hostname or ""
    shared = folder.run.machine.get(SHARED)
    if (
        shared
        or folder.run.environment == "local"
        or host in {"localhost", "::1"}
        or host.startswith("127.")
    ):
        yield (
            "Target and load generator ran on the same machine. These numbers measure both "
            "together and say little about a hosted target."
        )
    for row in folder.rows:
        if row.held_rate is not None and row.kind != CONTROL:
            yield (
                f"{name_scenario(row.scenario).capitalize()}: the environment's max_rps limited "
                f"the rate to {format_rate(row.held_rate)} calls/s. The target may sustain more."
            )
    for title, result in list_results(folder):
        if result.sessions_left:
            yield f"{name_units(folder, result.sessions_left)} could not be closed in {title}."


def _describe_control(folder: RunFolder, comparison: Comparison) -> str:
    """Return the latency of the control in each scenario, and how it changed."""
    parts = []
    for row in folder.rows:
        latency = pick_latency(row)
        if row.kind == CONTROL and row.name == "document" and latency:
            change = comparison.changes.get(Cell(row.scenario, row.kind, row.name, "p50"))
            moved = format_change("p50", change)
            after = f" ({moved})" if moved else ""
            ms = add_ms(format_ms(latency.p50))
            parts.append(f"{name_scenario(row.scenario)} p50 {ms}{after}")
    if parts:
        return f"a static document of the same origin: {', '.join(parts)}"
    return "none: a slow network or host looks like a slow target"


def _describe_repeats(run: Run) -> str:
    rounds = []
    for repeat in run.repeats:
        names = (
            " ".join((name_scenario(scenario), *stages))
            for scenario, stages in repeat.remeasured.items()
        )
        rounds.append(", ".join(names))
    parts = [f"{name} {count} time{'s' * (count != 1)}" for name, count in Counter(rounds).items()]
    return "; ".join(filter(None, (*parts, run.repeats_note)))


def _describe_arguments(arguments: str, different: object) -> str:
    count = f" ({format_count(different)} different calls)" if isinstance(different, int) else ""
    cached = "" if arguments == "varied" else ": a cache may have answered the fixed calls"
    return f"{arguments}{count}{cached}"


def _describe_load(generators: Sequence[Generator]) -> str:
    """Return the most that the load generator used in any scenario."""
    shares = [item.cpu_share for item in generators if item.cpu_share is not None]
    memory = [item.peak_memory_mb for item in generators if item.peak_memory_mb is not None]
    lateness = [item.lateness_p95_ms for item in generators if item.lateness_p95_ms is not None]
    parts = [
        *([f"{format_share(max(shares))} CPU"] if shares else []),
        *([f"{max(memory):.0f} MB memory"] if memory else []),
        *([f"calls sent {add_ms(format_ms(max(lateness)))} late (p95)"] if lateness else []),
    ]
    return f"at most {', '.join(parts)}" if parts else NO_DATA


def _format_time(started: str, ended: str | None) -> str:
    try:
        begin = datetime.fromisoformat(started)
        seconds = (datetime.fromisoformat(ended) - begin).total_seconds() if ended else None
    except (ValueError, TypeError):
        return started
    took = "did not end" if seconds is None else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{begin:%Y-%m-%d %H:%M:%S} UTC, {took.removeprefix('0 min ')}"
