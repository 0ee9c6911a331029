"""Find the most load that a target bears under its objectives, as a run of its own."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from loadtest.capacity.options import (
    CapacityOptions,
    choose_search_runners,
    find_bounds,
    find_start_profile,
)
from loadtest.config.settings import Settings, check_allowed
from loadtest.context import Chain
from loadtest.errors import ConfigError

if TYPE_CHECKING:
    from loadtest.capacity.search import SearchRange
    from loadtest.capacity.steps import Criteria
    from loadtest.k6.stage import ReadyRun
    from loadtest.results.run import Run

PROFILE = "capacity"


def capacity(
    chain: Chain,
    settings: Settings,
    options: CapacityOptions,
    *,
    report: Callable[[], None],
    engine: str | None = None,
    parallelism: str | None = None,
) -> None:
    """Search for the capacity, report it, and end with one sentence about it.

    The run folder has what is known, whenever the search ends: Ctrl-C keeps the steps so far. The
    search stops at the limits of the environment, at the quota, and as soon as most calls fail,
    because that harms the target.
    """
    from loadtest.capacity.steps import choose_criteria
    from loadtest.capacity.trials import Trials
    from loadtest.k6.stage import begin_run, open_generator, prepare_run
    from loadtest.report.content.capacity import describe_capacity

    def say(text: str) -> None:
        chain.say("capacity", text)

    check_allowed(settings, "capacity")
    runners = choose_search_runners(settings, options, engine, parallelism)
    settings = replace(settings, profile=find_start_profile(settings, options))
    criteria = choose_criteria(settings, settings.profile, options.unit)
    if not criteria.objectives:
        say(
            f"no objective of {settings.environment_name} can be judged by these steps, so the "
            "usual limits hold"
        )
    say(f"a step is borne if: {'; '.join(criteria.list_limits())}")
    ready = prepare_run(chain, settings, (criteria.scenario,), runners)
    span, bound = _find_range(settings, ready, options, criteria)
    say(f"from {span.start:,} to at most {span.most:,} ({bound})")
    run = _describe_run(ready.run, criteria, options)
    folder = begin_run(chain, settings, ready, run)
    with open_generator(chain, settings, ready) as generator:
        trials = Trials(ready.plan, generator, folder, criteria, span, bound, options, tell=say)
        try:
            folder = trials.run()
        except (KeyboardInterrupt, SystemExit):
            if known := describe_capacity(trials.folder):
                say(known)
            raise
    chain.ending.note(folder.run)
    report()
    say(describe_capacity(folder))


def _find_range(
    settings: Settings, ready: "ReadyRun", options: CapacityOptions, criteria: "Criteria"
) -> "tuple[SearchRange, str]":
    """Return the loads to try, and what bounds them."""
    from loadtest.capacity.search import SearchRange
    from loadtest.capacity.steps import build_profile
    from loadtest.k6.quota_demand import WINDOW_SECONDS, Demand

    bounds = find_bounds(settings, criteria.rate)
    # Steps follow each other, so that each window of the quota is full of calls.
    profile = build_profile(settings.profile, options.unit, options.start, WINDOW_SECONDS)
    for allowance in ready.allowances:
        demand = Demand(profile, settings.tools, allowance.quota)
        find_most = (
            demand.find_most_sessions if options.unit == "sessions" else demand.find_mix_rate
        )
        most = int(find_most(ready.clients, allowance.units))
        bounds[f"the quota, {allowance.describe()}"] = most
    bound = min(bounds, key=lambda name: bounds[name])
    if bounds[bound] < options.start:
        raise ConfigError(
            f"--start {options.start} is above what {bound} allows: {bounds[bound]} {options.unit}"
        )
    least = ready.plan.runners.count
    return SearchRange(options.start, bounds[bound], options.tolerance, least), bound


def _describe_run(run: "Run", criteria: "Criteria", options: CapacityOptions) -> "Run":
    """Return the facts of a search: it is compared only with searches of the same kind."""
    knobs = dict(run.knobs)
    scenario = criteria.scenario
    kept = ("tool", "pace_seconds") if scenario == "sessions" else ()
    knobs[scenario] = {name: knobs[scenario][name] for name in kept} | {
        "search": options.unit,
        "limits": list(criteria.list_limits()),
    }
    held = tuple(
        each for each in run.objectives if each.figure == "holds" and each.scenario == scenario
    )
    return replace(run, profile=PROFILE, knobs=knobs, objectives=held)
