"""The tracking issue: where every run's comment lies, and with it the history."""

from loadtest.tracking.artifact import fetch_run_artifact
from loadtest.tracking.shapes import LABEL, Posted
from loadtest.tracking.tracker import MOST_CHARS, Tracker, find_tracker, open_tracker

__all__ = [
    "LABEL",
    "MOST_CHARS",
    "Posted",
    "Tracker",
    "fetch_run_artifact",
    "find_tracker",
    "open_tracker",
]
