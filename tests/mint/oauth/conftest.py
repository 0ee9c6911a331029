"""Mints that share one browser."""

import pytest

from tests.support.shared_browser import SharedBrowser


@pytest.fixture
def one_browser(shared_browser: SharedBrowser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sign in with the worker's browser, in a context of its own, instead of with a new browser."""
    monkeypatch.setattr("loadtest.mint.browser.session.run", shared_browser.run)
    monkeypatch.setattr("loadtest.mint.browser.session.open_browser", shared_browser.open)
