"""Print what is missing before a run."""

from itertools import groupby

from loadtest.common.console import strip_controls
from loadtest.common.redaction import redact
from loadtest.config.settings import Settings
from loadtest.context import Chain
from loadtest.errors import ConfigError
from loadtest.k6.stage import close_earlier_sessions, find_closing_bearers


def doctor(chain: Chain, settings: Settings, *, close: bool = False) -> None:
    """Print the checks; raise ConfigError if something that a run needs is missing.

    With `close`, first close the sessions that an earlier run left open, with the bearers on disk.
    """
    from rich.table import Table
    from rich.text import Text

    from loadtest.doctor.checks import examine, has_valid_bearer
    from loadtest.state.run_lock import lock_environment

    base_url = settings.base_url
    if settings.is_reference() and has_valid_bearer(settings):
        base_url = chain.open_target(settings)
    if close:
        with lock_environment(settings.state_dir, settings.environment_name):
            close_earlier_sessions(chain, settings, find_closing_bearers(settings))
    colours = {"ok": "green", "later": "cyan", "warn": "yellow", "missing": "red"}
    table = Table("what", "state", "detail", box=None, pad_edge=False)
    missing = []
    checks = examine(settings, base_url, lambda line: chain.say("doctor", line))
    for (state, text, remedy), group in groupby(checks, lambda check: check.cause):
        names = [check.what for check in group]
        # Redact before the text is wrapped: wrapping can split a secret over two lines.
        detail = Text(strip_controls(redact(text)))
        if remedy:
            detail.append(f"\n→ {remedy}", "bold")
        table.add_row("\n".join(names), Text(state, style=colours[state]), detail)
        if state == "missing":
            missing += names
    chain.console.print(table)
    if missing:
        raise ConfigError(f"missing before a run: {', '.join(missing)} (see above)")
