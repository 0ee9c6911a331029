"""Link the TBD cells of the pages, or write a preview to the newest run's folder."""

from dataclasses import replace

from loadtest.config.settings import Settings
from loadtest.context import Chain


def docs_update(chain: Chain, settings: Settings, *, check: bool) -> None:
    """Link the TBD cells of the pages, or write a preview to the newest run's folder."""
    from loadtest.docs.pages import check_updates, update_docs

    if not settings.docs_pages:
        chain.say("docs", "no page to update: docs_pages names none")
        return
    run_dir = None
    if settings.tracking_issue is None:
        settings = replace(settings, tracking_issue=chain.tracking_issue)
    if settings.tracking_issue is None and not check:
        run_dir = chain.ending.run_dir or chain.find_newest_run(settings, "docs")
    updates = update_docs(settings, run_dir, check=check)
    for update in updates:
        if check and update.diff:
            chain.console.print(update.diff, markup=False, highlight=False, soft_wrap=True, end="")
        chain.say("docs", update.describe())
    if check:
        check_updates(updates, has_issue=settings.tracking_issue is not None)
