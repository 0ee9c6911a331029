"""What a search for the capacity found, in words."""

from collections.abc import Iterator

from loadtest.config.pace import DEFAULT_PACE
from loadtest.report.content.formatting import format_count
from loadtest.report.content.wording import clean, end_sentence, name_units
from loadtest.results.run import Capacity
from loadtest.results.run_folder import RunFolder


def describe_capacity(folder: RunFolder) -> str:
    """Return one sentence: how much is borne, how exactly that is known, what gave way beyond it.

    An empty text if the run is not a search.
    """
    found = folder.run.capacity
    if found is None:
        return ""
    load = name_load(folder, found.most)
    beyond = clean(found.beyond or "")
    stopped = f"; the search stopped: {clean(found.stopped)}" if found.stopped else ""
    if found.high is None and not found.most:
        return end_sentence(f"Nothing is known yet{stopped}")
    if not found.most:
        least = name_load(folder, min(step.load for step in found.steps))
        return end_sentence(f"Does not bear {least}: {beyond}{stopped}")
    if found.high is None:
        return end_sentence(f"Bears at least {load}{stopped}")
    within = f"within {format_count(found.low)} to {format_count(found.high)}"
    return end_sentence(f"Bears {load}, {within}; beyond it {beyond}{stopped}")


def name_capacity(folder: RunFolder) -> Iterator[str]:
    """Yield what a search found, for a headline: "bears 140 sessions at 1 call/s"."""
    found = folder.run.capacity
    if found is not None and found.most:
        least = "at least " if found.high is None else ""
        yield f"bears {least}{name_load(folder, found.most)}"


def name_load(folder: RunFolder, load: int) -> str:
    """Return a load in words: "140 sessions at 1 call/s", "25 calls/s"."""
    found = folder.run.capacity or Capacity("sessions", 0, 0, None)
    if found.unit == "calls":
        return f"{format_count(load)} calls/s"
    pace = "1 call/s" if found.pace == DEFAULT_PACE else f"a pace of {clean(found.pace)}"
    return f"{name_units(folder, load)} at {pace}"
