"""Announce a check of the sign-in: step summary and outputs, and the webhook if it failed."""

from loadtest.config.settings import Settings
from loadtest.context import Chain
from loadtest.errors import LoadtestError, ReportError
from loadtest.github.workflow_commands import build_run_url, write_outputs, write_summary
from loadtest.publish.webhook import WEBHOOK_VARIABLE, call_webhook
from loadtest.report.markdown import escape


def announce(chain: Chain, settings: Settings, result: str | LoadtestError) -> None:
    """Announce what happened, or the failure."""
    has_failed = isinstance(result, LoadtestError)
    variables = settings.variables
    verdict = (
        f"Sign-in to {settings.environment_name} {'failed' if has_failed else 'works'}: {result}"
    )
    write_summary(variables, f"{'❌' if has_failed else '✅'} **{escape(verdict)}**")
    write_outputs(variables, {"outcome": "failed" if has_failed else "ok", "verdict": verdict})
    if not has_failed:
        chain.say("mint", verdict)
    elif webhook := variables.get(WEBHOOK_VARIABLE):
        try:
            call_webhook(webhook, " ".join(filter(None, (verdict, build_run_url(variables)))))
        except ReportError as failure:
            chain.say("mint", f"warning: {failure}")
