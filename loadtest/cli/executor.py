"""Run tasks: pre-tasks get the options of their caller, and an error prints one line."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from invoke.exceptions import Exit
from invoke.executor import Executor
from invoke.tasks import Call, Task

from loadtest.cli.options import StageTask, load, pick_knobs
from loadtest.common.command_name import set_collection
from loadtest.common.parsing import check_text
from loadtest.config.settings import check_allowed
from loadtest.context import Chain
from loadtest.errors import BusyError, ConfigError, LoadtestError, UsageError, explain_refusal


class ChainExecutor(Executor):
    """Pass the options of our tasks to their pre-tasks; print one line for an error.

    Tasks of the user, in the same collection, run as with Invoke's own executor.
    """

    # The first arguments of each of our tasks. Invoke declares them as strings, hence Any.
    _arguments: Any = ()

    def execute(self, *tasks: Any) -> Any:
        """Run the calls in their order, ours that follow each other in one guard."""
        if not tasks:  # the default task
            return self._execute_guarded() if self._needs_chain() else super().execute()
        results: dict[Any, Any] = {}
        for ours, group in groupby(tasks, self._needs_chain):
            calls = tuple(group)
            results |= self._execute_guarded(*calls) if ours else super().execute(*calls)
        return results

    def _needs_chain(self, *tasks: Any) -> bool:
        calls = self.expand_calls(self.normalize(tasks))
        return any(isinstance(call.task, StageTask) for call in calls)

    def _execute_guarded(self, *tasks: Any) -> dict[Any, Any]:
        """Run the calls in one guard, which closes what they opened."""
        from loadtest.cli import exit_guard

        results: dict[Any, Any] = {}
        as_json = any(call.kwargs.get("json") for call in self.normalize(tasks))
        with exit_guard.guard(as_json=as_json) as chain:
            self._arguments = (chain,)
            ours = [call for call in self.normalize(tasks) if isinstance(call.task, StageTask)]
            set_collection(self._find_collection(ours))
            runs = [check(call) for call in ours]
            try:
                for settings in filter(None, runs):
                    hold(chain, settings)
                results = super().execute(*tasks)
            except (LoadtestError, OSError) as caught:
                failure = explain_refusal(caught) if isinstance(caught, OSError) else caught
                for call in ours:
                    report_failed(chain, call, failure)
                raise failure from None
            finally:
                for call in ours:
                    revoke_after(chain, call)
        if chain.ending.exit_code:
            raise Exit(code=chain.ending.exit_code)
        return results

    def _find_collection(self, calls: Sequence[Call]) -> str:
        """Return what stands before our tasks' names, if they are in a collection of their own."""
        for name, collection in self.collection.collections.items():
            if any(call.task in collection.tasks.values() for call in calls):
                return f"{name}."
        return ""

    def expand_calls(self, calls: Sequence[Call | Task[Any]]) -> list[Call]:
        """Pass every option that a pre-task shares with its caller to the pre-task."""
        expanded: list[Call] = []
        for call in calls:
            call = Call(call) if isinstance(call, Task) else call
            if not isinstance(call.task, StageTask):
                expanded += super().expand_calls([call])
                continue
            call.args = self._arguments
            # Invoke runs equal calls once: set every option, so that equal calls compare equal.
            call.kwargs = fill_options(call)
            # A task that only prints needs no earlier stage.
            for pre in [] if call.kwargs.get("render") else call.pre:
                shared = {option.name for option in options(pre)} & call.kwargs.keys()
                passed = {name: call.kwargs[name] for name in shared}
                expanded += self.expand_calls([Call(pre, kwargs=passed)])
            expanded.append(call)
        return expanded


def options(call: Call | Task[Any]) -> Any:
    """Return a task's options, each with `name` and `default`."""
    return call.get_arguments()


def fill_options(call: Call) -> dict[str, Any]:
    """Return the options of a call, with their defaults where they were not typed."""
    return {option.name: option.default for option in options(call)} | call.kwargs


def check(call: Call) -> Any:
    """Check a task's options before an earlier task makes anything.

    Returns the settings if the task starts a run.
    """
    given = fill_options(call)
    for name, value in given.items():
        try:
            check_text(value)
        except ValueError as failure:
            raise UsageError(f"--{name.strip('_').replace('_', '-')}: {failure}") from None
    if "stages" in given:
        settings = load(given["env"], given["profile"], pick_knobs(given), given.get("mcp_url"))
        if given.get("junit") and not settings.objectives:
            raise ConfigError(
                "--junit needs objectives: set [environment."
                f"{settings.environment_name}.slo] in the settings"
            )
    if call.task.name == "leaks":
        from loadtest.leaks.load import plan_load

        settings = load(given["env"])
        check_allowed(settings, "leaks")
        plan_load(settings, given)
        return settings
    if call.task.name == "capacity":
        from loadtest.capacity.options import choose_search_runners, parse_options
        from loadtest.k6.stage import check_cluster

        check_allowed(settings, "capacity")
        typed = (given[name] for name in ("find", "start", "tolerance", "step_seconds"))
        fleet = given["engine"], given["parallelism"]
        check_cluster(settings, choose_search_runners(settings, parse_options(*typed), *fleet))
        return settings
    if "scenarios" in given:
        from loadtest.k6 import stage
        from loadtest.k6.options import check_fit, choose_runners, parse_scenarios

        chosen = parse_scenarios(given["scenarios"], settings.profile)
        runners = choose_runners(settings, chosen, given["engine"], given["parallelism"])
        if given.get("fit_quota"):
            check_fit(chosen)
        if not given.get("render"):
            stage.check_cluster(settings, runners)
            return settings
    return None


def hold(chain: Chain, settings: Any) -> None:
    """Lock the environment before a pre-task signs in."""
    from loadtest.k6 import stage

    stage.hold(chain, settings)


def report_failed(chain: Chain, call: Call, failure: LoadtestError) -> None:
    """Report a chain that failed before its report, but not a wrong option or a second process.

    A check of the sign-in that failed is announced.
    """
    given = fill_options(call)
    checks = call.task.name == "mint" and given["check"]
    if not (call.task.name == "loadtest" or checks) or chain.ending.is_reported:
        return
    if isinstance(failure, UsageError | BusyError):
        return
    from loadtest.publish import sign_in_check, stage

    settings = load(given["env"], given["profile"], pick_knobs(given))
    if checks:
        sign_in_check.announce(chain, settings, failure)
        return
    try:
        stage.report_failed(chain, settings, given["scenarios"], failure)
    except LoadtestError as other:
        chain.say("report", f"warning: the failure was not reported: {other}")


def revoke_after(chain: Chain, call: Call) -> None:
    """Revoke what a chain left on the server at its end, or list it."""
    if call.task.name != "loadtest":
        return
    from loadtest.mint import stage

    given = fill_options(call)
    try:
        settings = load(given["env"], given["profile"])
    except ConfigError:  # without settings, the chain has left nothing
        return
    stage.revoke_after(chain, settings)
