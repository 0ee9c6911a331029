"""Bearers renewed while k6 runs: asked for over loopback, and by a run that outlives them."""

import gzip
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from loadtest.common.redaction import SecretStr
from loadtest.errors import MintError
from loadtest.k6.bearer_renewal import Renewal
from loadtest.k6.binary import K6Binary
from loadtest.state.bearers import Bearer, write_bearers
from tests.k6.running import (
    Endpoint,
    build_settings,
    check_schedule,
    mint_again,
    pick,
    plan_run,
    run_alone,
)


def build(seconds: float, mark: str = "first", client: int = 0) -> Bearer:
    token = SecretStr(f"{mark}-{client}")
    return Bearer(token, time.time() + seconds, "http://127.0.0.1/mcp", "mcp:read", "session")


def ask(renewal: Renewal, path: str) -> dict[str, object]:
    found: dict[str, object] = httpx.get(f"{renewal.url}/{path}").raise_for_status().json()
    return found


def test_each_client_gets_its_own_bearer_and_others_get_none() -> None:
    bearers = [build(3600, client=0), build(3600, client=1)]
    with Renewal(bearers, lambda _: bearers, print) as renewal:
        assert ask(renewal, "0/0")["access_token"] == "first-0"
        assert ask(renewal, "3/0")["access_token"] == "first-1"
        guess = renewal.url.rsplit("/", 1)[0] + "/guess"
        for url in (guess, f"{guess}/0/0", f"{renewal.url}/x/0", renewal.url):
            assert httpx.get(url).status_code == 404
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{renewal.url}/0/0")


def test_bearers_are_renewed_before_half_of_their_lifetime_is_over() -> None:
    renewed = threading.Event()
    asked: list[float | None] = []

    def renew(needed: float | None) -> list[Bearer]:
        asked.append(needed)
        renewed.set()
        return [build(3600, "second")]

    with Renewal([build(1)], renew, print) as renewal:
        assert renewed.wait(10)
        deadline = time.monotonic() + 10
        while ask(renewal, "0/0")["serial"] == 0:
            assert time.monotonic() < deadline
        assert ask(renewal, "0/0")["access_token"] == "second-0"
    assert len(asked) == 1


def test_a_refused_bearer_is_replaced_once_for_all_clients() -> None:
    asked: list[float | None] = []

    def renew(needed: float | None) -> list[Bearer]:
        asked.append(needed)
        return [build(3600, f"number {len(asked)}")]

    with Renewal([build(3600)], renew, print) as renewal:
        assert ask(renewal, "0/0/refused")["serial"] == 1
        assert ask(renewal, "0/0/refused")["serial"] == 1
        # One that is refused as soon as it was made is not made again and again.
        assert ask(renewal, "0/1/refused")["serial"] == 1
    assert asked == [None]


def test_a_failed_renewal_is_reported_once_and_the_old_bearer_stays() -> None:
    told: list[str] = []

    def renew(_: float | None) -> list[Bearer]:
        raise MintError("no answer", "refresh")

    with Renewal([build(3600)], renew, told.append) as renewal:
        for _ in range(2):
            assert ask(renewal, "0/0/refused")["access_token"] == "first-0"
    assert told == ["the bearer cannot be renewed: mint failed at refresh: no answer"]


# A minute of the target's is this much of ours, so that a run outlives its bearers soon.
HASTE = 5


@pytest.mark.slow
def test_a_run_that_is_longer_than_a_bearers_lifetime_is_never_unauthorized(
    open_endpoint: Callable[..., Endpoint], tmp_path: Path, binary: K6Binary
) -> None:
    began = time.time()
    endpoint = open_endpoint(
        clock=lambda: began + (time.time() - began) * HASTE, account_limits=False
    )

    def renew(_: float | None = None) -> list[Bearer]:
        token = SecretStr(mint_again(endpoint, 60))
        expires_at = time.time() + 60 / HASTE
        bearers = [Bearer(token, expires_at, endpoint.mcp_url, "mcp:read", "session")]
        write_bearers(endpoint.bearer_file, bearers)
        return bearers

    with Renewal(renew(), renew, print) as renewal:
        settings = build_settings(VUS="3", DURATION="30", TARGET_RPS="6")
        plan = plan_run(settings, endpoint.mcp_url, endpoint.bearer_file)
        run = run_alone(plan, "tools", binary, tmp_path, renewal_url=renewal.url)
    row = pick(run, "tool", "all")
    assert run.result.outcome == "ok"
    check_schedule(row, 30, late_seconds=1)
    assert not row.failures
    secret = renewal.url.rsplit("/", 1)[1]
    assert not [path for path in tmp_path.iterdir() if secret.encode() in read_all(path)]


def read_all(path: Path) -> bytes:
    """Return what is in a file, also if it is packed."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("renewable", [True, False])
def test_a_refused_bearer_is_renewed_and_without_another_the_run_ends(
    open_endpoint: Callable[..., Endpoint], tmp_path: Path, binary: K6Binary, renewable: bool
) -> None:
    began = time.time()
    endpoint = open_endpoint(clock=lambda: began + (time.time() - began) * HASTE)
    # It ends in the middle of the run, and says that it lives longer.
    token = SecretStr(mint_again(endpoint, 60))
    first = Bearer(token, time.time() + 3600, endpoint.mcp_url, "mcp:read", "session")
    write_bearers(endpoint.bearer_file, [first])

    def renew(_: float | None) -> list[Bearer]:
        return [replace(first, access_token=SecretStr(mint_again(endpoint, 3600)))]

    with Renewal([first], renew, print) as renewal:
        settings = build_settings(VUS="1", DURATION="15", TARGET_RPS="5")
        plan = plan_run(settings, endpoint.mcp_url, endpoint.bearer_file)
        run = run_alone(
            plan, "tools", binary, tmp_path, renewal_url=renewal.url if renewable else None
        )
    row = pick(run, "tool", "all")
    assert row.failures == {"unauthorized": 1}
    if renewable:
        check_schedule(row, 15, late_seconds=1)
    else:
        assert run.result.outcome == "aborted"
        assert "refuses the bearer" in str(run.result.reason)
        assert 0 < row.ok < 75
