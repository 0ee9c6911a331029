"""The reference target as a child process of a run."""

import secrets
from pathlib import Path

import psutil
import pytest

from loadtest.target.process import serve_reference

SECRETS = (
    *("LOADTEST_PASSWORD", "LOADTEST_TOTP_SECRET", "LOADTEST_BEARER", "LOADTEST_CLIENT_SECRET"),
    *("GITHUB_TOKEN", "LOADTEST_WEBHOOK_URL", "K6_CLOUD_TOKEN", "SOMEBODY_ELSES_KEY"),
)


@pytest.mark.slow
def test_the_reference_target_gets_no_secret_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = secrets.token_urlsafe(24)
    for name in SECRETS:
        monkeypatch.setenv(name, value)
    with serve_reference(tmp_path / "target") as reference:
        seen = psutil.Process(reference.process.pid).environ()
    assert not set(seen) & set(SECRETS)
    assert value not in str(seen)
    assert seen["PATH"]
