"""Refusals and lost sessions in the words of many servers: the real k6 against the reference."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.compare.knee import find_knee
from loadtest.config.refusals import RefusalPattern
from loadtest.k6.binary import K6Binary
from loadtest.k6.health import ABORT_SECONDS, AbortRule
from loadtest.k6.progress import Live, NoWatcher
from loadtest.k6.scenario import ScenarioRun
from loadtest.report.content.verdict import build_verdict
from tests.k6.running import Endpoint, build_settings, new_folder, pick, plan_run, run_alone

pytestmark = pytest.mark.slow

CAP = 3


class Seen(NoWatcher):
    """Keeps the last numbers that k6 counted while it ran."""

    def __init__(self) -> None:
        self.live: Live | None = None

    def tick(self, live: Live | None) -> None:
        """Keep the numbers of this moment."""
        self.live = live or self.live


@pytest.mark.parametrize(
    "style", ["atlas", "sdk", "http-429", "retry-after", "inside-200", "tool-error"]
)
def test_the_cap_of_a_ladder_is_found_however_the_server_refuses(
    style: str,
    open_endpoint: Callable[..., Endpoint],
    tmp_path: Path,
    measure: Callable[..., ScenarioRun],
    binary: K6Binary,
) -> None:
    endpoint = open_endpoint(session_cap=CAP, cap_refusal=style)
    seen = Seen()
    run = measure("sessions", endpoint, seen, STAGES=f"1,{CAP},{CAP * 4}", STAGE_SECONDS="2")
    assert run.result.outcome == "ok"
    assert {reason for row in run.rows for reason in row.failures} == {"capacity"}
    folder = new_folder(tmp_path, binary, ("sessions",))
    knee = find_knee(folder.run.note(run.result), run.rows)
    assert knee is not None
    assert knee.sustained is not None
    assert knee.sustained.name == str(CAP)
    assert [(each.stage.name, each.rejected > 0) for each in knee.breaks] == [(str(CAP * 4), True)]
    assert endpoint.target.open_sessions == 0
    assert seen.live is not None
    assert may_go_on(replace(seen.live, requests=seen.live.failures))


def test_an_environment_adds_its_own_words(
    open_endpoint: Callable[..., Endpoint], tmp_path: Path, binary: K6Binary
) -> None:
    endpoint = open_endpoint(session_cap=1, cap_refusal="own")
    plan = plan_run(build_settings(STAGES="3"), endpoint.mcp_url, endpoint.bearer_file)
    run = run_alone(plan, "sessions", binary, tmp_path / "unknown")
    assert pick(run, "opening", "3").failures == {"http_other": 2}
    words = {"headers": {"X-Pool": "^exhausted$"}, "text": "come .* later", "status": [503, 529]}
    pattern = RefusalPattern.model_validate({"reason": "capacity", **words})
    run = run_alone(replace(plan, refusals=(pattern,)), "sessions", binary, tmp_path / "known")
    assert run.result.outcome == "ok"
    assert pick(run, "opening", "3").failures == {"capacity": 2}


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"replicas": 2}, "again and again: replicas without sticky sessions look like this."),
        ({"restart_at_seconds": 4.0}, "all at one moment: a deployment or a restart looks"),
        ({"session_age_seconds": 3.5}, "all at the same age: sessions that expire look like this."),
    ],
)
def test_the_verdict_recognises_why_sessions_were_lost(
    knobs: dict[str, float],
    words: str,
    open_endpoint: Callable[..., Endpoint],
    tmp_path: Path,
    measure: Callable[..., ScenarioRun],
    binary: K6Binary,
) -> None:
    endpoint = open_endpoint(**knobs)
    run = measure("sessions", endpoint, STAGES="3", STAGE_SECONDS="14")
    folder = new_folder(tmp_path, binary, ("sessions",))
    folder = replace(folder, run=folder.run.note(run.result), rows=run.rows)
    (sentence,) = re.findall(r"The server lost .*?this\.", build_verdict(folder).text)
    assert words in sentence
    assert pick(run, "stage", "3").ok > 0
    assert set(pick(run, "stage", "3").failures) == {"session_lost"}


def may_go_on(live: Live) -> bool:
    """Return whether a run with these numbers for as long as the rule looks back goes on."""
    rule = AbortRule()
    assert rule.find_reason(Live(0, 0, None), 0.0) is None
    return rule.find_reason(live, ABORT_SECONDS) is None


@pytest.mark.parametrize("style", ["atlas", "http-429", "inside-200", "403"])
def test_a_quota_is_recognised_however_the_server_refuses(
    style: str, open_endpoint: Callable[..., Endpoint], measure: Callable[..., ScenarioRun]
) -> None:
    endpoint = open_endpoint(tool_quota=True, quota_units=10, quota_refusal=style)
    run = measure("tools", endpoint)
    assert run.result.outcome == "ok"
    row = pick(run, "tool", "all")
    assert set(row.failures) == {"rate_limited"}
    assert row.ok > 0


@pytest.mark.parametrize("answer", ["404", "400", "401", "200"])
@pytest.mark.parametrize("scenario", ["sessions", "tools"])
def test_a_client_replaces_a_lost_session_and_goes_on(
    answer: str,
    scenario: str,
    open_endpoint: Callable[..., Endpoint],
    measure: Callable[..., ScenarioRun],
) -> None:
    endpoint = open_endpoint(session_age_seconds=1.5, lost_session=answer)
    run = measure(scenario, endpoint, STAGES="2", STAGE_SECONDS="4", VUS="2", DURATION="4")
    kind, name = {"sessions": ("stage", "2"), "tools": ("tool", "all")}[scenario]
    calls, opened = pick(run, kind, name), pick(run, "opening", name)
    assert set(calls.failures) == {"session_lost"}
    assert calls.ok >= calls.failures["session_lost"]
    assert opened.lost is not None
    assert opened.lost.count == calls.failures["session_lost"] >= 2
    assert opened.ok == 2 + opened.lost.count
    least, most = opened.lost.ages_seconds
    assert 1 < least <= most < 4
    assert 1 <= opened.lost.least_calls <= opened.lost.calls
    assert endpoint.target.open_sessions == 0
    assert run.result.sessions_left == 0
