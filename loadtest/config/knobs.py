"""The knobs of a run: each is an option and a variable."""

from collections.abc import Mapping

# Knob → its place in a profile.
PROFILE_KNOBS: Mapping[str, tuple[str, str]] = {
    "iterations": ("cold_start", "iterations"),
    "starts_per_second": ("cold_start", "starts_per_second"),
    "stages": ("sessions", "stages"),
    "stage_seconds": ("sessions", "stage_seconds"),
    "tool": ("sessions", "tool"),
    "pace_seconds": ("sessions", "pace_seconds"),
    "vus": ("tools", "vus"),
    "duration": ("tools", "duration_seconds"),
    "target_rps": ("tools", "target_rps"),
    "mix_pace_seconds": ("tools", "pace_seconds"),
    "stream_stages": ("streams", "stages"),
    "stream_seconds": ("streams", "stage_seconds"),
    "soak_vus": ("soak", "vus"),
    "soak_seconds": ("soak", "duration_seconds"),
    "session_seconds": ("soak", "session_seconds"),
}
KNOBS = ("protocol", "clients", "tools", "draft_tools", "timeout_seconds", *PROFILE_KNOBS)


def name_variable(knob: str) -> str:
    """Return the variable of a knob; its prefix keeps a CI's own `DURATION` out of a run."""
    return f"LOADTEST_{knob.upper()}"


def describe_knob(knob: str) -> str:
    """Return how a message names a knob."""
    return f"--{knob.replace('_', '-')} ({name_variable(knob)})"
