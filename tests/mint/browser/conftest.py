"""The browser that other tests share is not there when a test looks for all browsers."""

import pytest

from tests.support.shared_browser import SharedBrowser


@pytest.fixture
def no_shared_browser(shared_browser: SharedBrowser) -> None:
    """End the browser that tests share."""
    shared_browser.close()
