"""The pace of a session and the time limit of a call, as configured."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from loadtest.config.loading import load_settings
from loadtest.config.models import Quota
from loadtest.config.pace import parse_pace
from loadtest.config.settings import Settings
from loadtest.errors import ConfigError
from loadtest.k6.command import build_knobs, build_phases, build_switches
from loadtest.k6.preflight import find_slow_calls
from loadtest.k6.quota_demand import Demand, estimate_loop
from loadtest.k6.run_facts import describe_load

CONFIG = """
version = 1
default_environment = "local"

[environment.local]
target = "reference"
default_profile = "short"
limits = {{ max_vus = 50, max_rps = 40, max_duration_seconds = 1000 }}
{environment}

[environment.local.tools.look]
weight = 1
arguments = [{{}}]
{tool}

[profile.short]
cold_start = {{ iterations = 100, vus = 4 {cold_start} }}
sessions = {{ stages = [1, 10], stage_seconds = 60 {sessions} }}
tools = {{ vus = 2, duration_seconds = 60 }}
{profile}
"""
NO_KNOBS: Mapping[str, str] = {}
PLACES = ("environment", "tool", "cold_start", "sessions", "profile")


def load(root: Path, knobs: Mapping[str, str] = NO_KNOBS, **places: str) -> Settings:
    """Return the settings of a configuration with these lines in it."""
    text = CONFIG.format_map(dict.fromkeys(PLACES, "") | places)
    (root / "loadtest.toml").write_text(text, encoding="utf-8")
    return load_settings(root, knobs=knobs, process_env={})


@pytest.mark.parametrize(
    ("text", "mean", "calls", "rate"),
    [
        ("20", 20, 1, 0.05),
        ("0.5", 0.5, 1, 2),
        ("exponential:10", 10, 1, 1 / 15),
        ("log-normal:10,0", 10, 1, 1 / 15),
        ("uniform:5,15", 10, 1, 1 / 15),
        ("burst:4,10", 10, 4, 4 / 15),
    ],
)
def test_a_pace_has_a_mean_and_a_rate_for_answers_of_5_s(
    text: str, mean: float, calls: int, rate: float
) -> None:
    pace = parse_pace(text)
    assert (pace.mean_seconds, pace.calls) == (mean, calls)
    assert pace.find_rate(5) == pytest.approx(rate)


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "-1", "1e3", "nan", "fast", "99999999", "interval:5", "log-normal:5,9"),
        *("exponential", "exponential:", "exponential:1,2", "uniform:9,1"),
        *("burst:1,5", "burst:2.5,5", "burst:4,0", "burst:4"),
    ],
)
def test_an_odd_pace_is_refused_in_one_line_that_names_the_option(
    text: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (each has its own words)
        parse_pace(text)
    if text:
        with pytest.raises(ConfigError) as failure:
            load(tmp_path, {"pace_seconds": text})
        assert "--pace-seconds (LOADTEST_PACE_SECONDS)" in str(failure.value)
        assert "\n" not in str(failure.value)


def test_the_pace_is_an_options_else_the_tools_the_profiles_or_the_environments(
    tmp_path: Path,
) -> None:
    places = {"environment": "pace_seconds = 2"}
    assert load(tmp_path, NO_KNOBS, **places).profile.sessions.pace_seconds == "2"
    places["sessions"] = ', pace_seconds = "exponential:3"'
    assert load(tmp_path, NO_KNOBS, **places).profile.sessions.pace_seconds == "exponential:3"
    places["tool"] = "pace_seconds = 4.5"
    assert load(tmp_path, NO_KNOBS, **places).profile.sessions.pace_seconds == "4.5"
    given = load(tmp_path, {"pace_seconds": "burst:2,6"}, **places)
    assert given.profile.sessions.pace_seconds == "burst:2,6"


def test_a_call_per_second_is_the_default_however_it_is_written(tmp_path: Path) -> None:
    plain = load(tmp_path)
    assert load(tmp_path, sessions=", pace_seconds = 1").profile == plain.profile
    assert plain.profile.sessions.pace.text == "1"
    assert plain.profile.most_rps() == 10


def test_the_time_limit_is_an_options_else_the_tools_the_profiles_or_the_environments(
    tmp_path: Path,
) -> None:
    def limit(knobs: Mapping[str, str] = NO_KNOBS, **places: str) -> tuple[float, str]:
        settings = load(tmp_path, knobs, **places)
        switches = build_switches("auto", settings.profile)
        return settings.tools.find_timeout(("look",)), switches["CALL_TIMEOUT_SECONDS"]

    assert limit() == (30, "30")
    assert limit(environment="timeout_seconds = 40") == (40, "40.0")
    places = {"environment": "timeout_seconds = 40", "profile": "timeout_seconds = 50"}
    assert limit(NO_KNOBS, **places) == (50, "50.0")
    places["tool"] = "timeout_seconds = 90"
    assert limit(NO_KNOBS, **places) == (90, "50.0")
    assert limit({"timeout_seconds": "70"}, **places) == (70, "70.0")
    for text in ("0", "-5", "soon", "nan", "3601"):
        with pytest.raises(ConfigError, match=r"--timeout-seconds \(LOADTEST_TIMEOUT_SECONDS\)"):
            limit({"timeout_seconds": text})


def test_the_time_to_measure_again_is_the_profiles_else_the_environments(tmp_path: Path) -> None:
    def read(**places: str) -> float | None:
        return load(tmp_path, NO_KNOBS, **places).profile.remeasure_minutes

    assert read() is None
    assert read(environment="remeasure_minutes = 0.5") == 0.5
    assert read(environment="remeasure_minutes = 5", profile="remeasure_minutes = 0") == 0
    for text in ("-1", "nan", "inf", "1441", '"soon"'):
        with pytest.raises(ConfigError, match=r"profile\.short\.remeasure_minutes: ") as refused:
            read(profile=f"remeasure_minutes = {text}")
        assert "\n" not in str(refused.value)


def test_a_tools_own_time_limit_changes_its_table_and_a_pace_does_not(tmp_path: Path) -> None:
    plain = load(tmp_path).tools
    assert load(tmp_path, tool="pace_seconds = 9").tools.describe() == plain.describe()
    limited = load(tmp_path, tool="timeout_seconds = 90").tools
    assert limited.describe() != plain.describe()
    assert '"timeout_seconds": 90' in limited.render()
    assert "timeout_seconds" not in plain.render()


@pytest.mark.parametrize(
    ("knobs", "problem"),
    [
        ({"pace_seconds": "61"}, "a stage of 60 s is too short for --pace-seconds"),
        ({"pace_seconds": "exponential:90"}, "give it --stage-seconds (LOADTEST_STAGE_SECONDS)"),
        ({"starts_per_second": "0.1"}, "100 cold starts at 0.1 per second take 1,000 s"),
        ({"pace_seconds": "0.1"}, "max_rps is 40, requested 100"),
        ({"pace_seconds": "burst:10,2"}, "max_rps is 40, requested 50"),
        ({"starts_per_second": "11"}, "max_rps is 40, requested 44"),
        ({"mix_pace_seconds": "0.02"}, "max_rps is 40, requested 100"),
        ({"mix_pace_seconds": "90"}, "a mix of 60 s is too short for --mix-pace-seconds"),
        ({"mix_pace_seconds": "burst:2,5"}, "one call at a time: no bursts"),
        ({"mix_pace_seconds": "2", "target_rps": "2"}, "either target_rps or pace_seconds"),
        ({"pace_seconds": "exponential:9", "timeout_seconds": "600"}, "max_duration_seconds is"),
    ],
)
def test_a_pace_that_allows_no_call_or_too_many_is_refused_before_the_first_request(
    knobs: Mapping[str, str], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as failure:
        load(tmp_path, knobs)
    assert problem in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("knobs", "stage", "mix"),
    [
        ({}, 6, 6),
        ({"pace_seconds": "20"}, 26, 6),
        ({"pace_seconds": "40", "timeout_seconds": "25"}, 25, 25),
        ({"pace_seconds": "uniform:1,9", "timeout_seconds": "45"}, 45, 45),
        ({"timeout_seconds": "50"}, 6, 50),
    ],
)
def test_the_last_calls_get_a_pace_more_or_their_time_limit(
    knobs: Mapping[str, str], stage: float, mix: float, tmp_path: Path
) -> None:
    settings = load(tmp_path, knobs)
    for scenario, seconds in (("sessions", stage), ("tools", mix)):
        built = build_knobs(scenario, settings.profile, settings.tools)
        assert float(built["DRAIN_SECONDS"]) == seconds
        phases = build_phases(scenario, settings.profile, settings.tools)
        assert {phase.seconds for phase in phases} == {1 + 60 + seconds + 1}
    spare = 2 * max(0, stage - 10) + max(0, mix - 10)
    assert settings.profile.scheduled_seconds(settings.tools) == 3 * 60 + spare


def test_the_mix_has_a_pace_only_if_it_is_given(tmp_path: Path) -> None:
    plain = load(tmp_path, {"pace_seconds": "5"})
    assert "PACE" not in build_knobs("tools", plain.profile, plain.tools)
    paced = load(tmp_path, {"mix_pace_seconds": "exponential:4"})
    assert build_knobs("tools", paced.profile, paced.tools)["PACE"] == "exponential:4"
    assert build_knobs("sessions", paced.profile, paced.tools)["PACE"] == "1"
    assert paced.profile.tools.scheduled_rps == 0.5
    text = describe_load(paced.profile, paced.tools, ("tools",), "session")
    assert text.startswith("tool mix by 2 for 60 s, 4 s of think time per session")
    assert estimate_loop(paced, {"look": 1000.0}) == (0.4, "0.4 calls/s")
    assert estimate_loop(paced, {}) == (0.5, "0.5 calls/s")


@pytest.mark.parametrize(
    ("seconds", "scenarios", "words"),
    [
        (0.9, ("sessions", "tools"), []),
        (3.2, ("sessions",), ["a call of look took 3.2 s, but a session makes one every 1 s: no"]),
        (3.2, ("tools",), []),
        (20, ("tools",), ["a call of look took up to 20.0 s, but the mix waits 6 s"]),
    ],
)
def test_a_tool_that_is_too_slow_for_its_schedule_is_named_before_the_run(
    seconds: float, scenarios: tuple[str, ...], words: list[str], tmp_path: Path
) -> None:
    settings = load(tmp_path)
    durations = {"look": seconds * 1000}
    found = list(find_slow_calls(settings.profile, settings.tools, scenarios, durations))
    assert [text[: len(word)] for text, word in zip(found, words, strict=True)] == words


def test_a_slow_tool_at_its_own_pace_needs_no_warning(tmp_path: Path) -> None:
    settings = load(tmp_path, {"pace_seconds": "30", "timeout_seconds": "60"})
    durations = {"look": 20_000.0}
    scenarios = ("sessions", "tools")
    assert not list(find_slow_calls(settings.profile, settings.tools, scenarios, durations))


@pytest.mark.parametrize(
    ("pace", "answer_seconds", "peak", "most"),
    [
        ("1", 0, 600, 6),
        ("20", 9, 30, 120),
        ("exponential:5", 5, 60, 60),
        ("burst:4,10", 2, 200, 18),
    ],
)
def test_the_quota_demand_follows_the_pace(
    pace: str, answer_seconds: float, peak: int, most: int, tmp_path: Path
) -> None:
    settings = load(tmp_path, {"pace_seconds": pace, "stages": "10"})
    quota = Quota(units_per_minute=360)
    demand = Demand(settings.profile, settings.tools, quota, answer_seconds=answer_seconds)
    assert demand.find_peak_units(1) == peak
    assert demand.find_most_sessions(1, 360) == most


@pytest.mark.parametrize(
    ("pace", "words"),
    [
        ("1", "1 call/s per session, 660 calls"),
        ("20", "a call every 20 s per session, 33 calls"),
        ("exponential:5", "5 s of think time per session (exponential:5), at most 132 calls"),
        ("burst:4,10", "bursts of 4 calls and 10 s of pause per session, at most 264 calls"),
    ],
)
def test_a_run_first_prints_its_pace(pace: str, words: str, tmp_path: Path) -> None:
    settings = load(tmp_path, {"pace_seconds": pace, "starts_per_second": "5"})
    chosen = ("cold-start", "sessions")
    load_text = describe_load(settings.profile, settings.tools, chosen, "session")
    assert load_text.startswith("100 cold starts by 4, 5 per second; 1, 10 sessions for 60 s each")
    assert f"each, {words}; " in load_text
