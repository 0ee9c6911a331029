"""Serve the reference target until Ctrl-C."""

import shlex
from collections.abc import Callable

from loadtest.config.settings import Settings
from loadtest.errors import UsageError


def target(
    settings: Settings, port: str | None, flags: str, say: Callable[[str, str], None]
) -> None:
    """Serve the reference target in the foreground until Ctrl-C; print its address."""
    from loadtest.target.process import serve_reference

    try:
        options = [*(["--port", port] if port else []), *shlex.split(flags)]
    except ValueError as failure:
        raise UsageError(f"--flags cannot be split into options ({failure})") from None
    with serve_reference(settings.state_dir / "target", *options) as reference:
        say("target", f"reference target at {reference.api_url}; Ctrl-C stops it")
        reference.process.wait()
