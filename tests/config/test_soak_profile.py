"""The profile `soak`: its own scenario, its limits, and what does not fit together."""

from pathlib import Path

import pytest

from loadtest.config.loading import load_settings
from loadtest.config.settings import Settings
from loadtest.errors import ConfigError, UsageError
from loadtest.k6.command import build_phases, find_interval
from loadtest.k6.options import parse_scenarios
from loadtest.k6.run_facts import describe_load
from tests.support.checkout import ROOT


def load(profile: str = "soak", environment: str = "local", **variables: str) -> Settings:
    named = {f"LOADTEST_{name.upper()}": text for name, text in variables.items()}
    return load_settings(ROOT, environment, profile, process_env=named)


def test_the_profile_runs_its_own_scenario_only() -> None:
    assert parse_scenarios(None, load().profile) == ("soak",)
    assert parse_scenarios(None, load("smoke").profile) == (
        *("cold-start", "sessions", "tools", "streams"),
    )
    assert parse_scenarios("tools,soak", load().profile) == ("tools", "soak")


def test_a_soak_without_its_table_is_refused() -> None:
    with pytest.raises(UsageError, match="the profile has no table soak; use --profile soak"):
        parse_scenarios("soak", load("smoke").profile)
    with pytest.raises(ConfigError, match=r"--soak-vus \(LOADTEST_SOAK_VUS\): the profile has no"):
        load("smoke", soak_vus="3")


def test_only_the_scenarios_that_a_profile_names_count_for_its_length() -> None:
    settings = load()
    assert settings.profile.scheduled_seconds(settings.tools) == 7200


def test_a_soak_above_the_limits_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ConfigError, match="max_duration_seconds is 3600, requested 7200"):
        load(environment="staging")
    with pytest.raises(ConfigError, match="max_vus is 500, requested 501"):
        load(soak_vus="501")
    # 5 calls and 4 other requests per second and session.
    with pytest.raises(ConfigError, match="max_rps is 400, requested 500"):
        load(environment="staging", soak_seconds="60", soak_vus="100", session_seconds="1")


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("vus = 2, duration_seconds = 50", "a session of the soak cannot last longer"),
        (
            "vus = 2, duration_seconds = 50, session_seconds = 9, pace_seconds = 10",
            "too short for its pace",
        ),
        ('vus = 2, duration_seconds = 90, pace_seconds = "burst:4,5"', "no bursts"),
        ("vus = 0, duration_seconds = 90", "greater than 0"),
    ],
)
def test_knobs_that_do_not_fit_together_are_named(tmp_path: Path, toml: str, words: str) -> None:
    (tmp_path / "loadtest.toml").write_text(f"version = 1\n[profile.soak]\nsoak = {{ {toml} }}\n")
    with pytest.raises(ConfigError, match=words) as caught:
        load_settings(tmp_path, "local", "soak", process_env={})
    assert "\n" not in str(caught.value)


def test_a_profile_names_only_scenarios_that_it_can_run(tmp_path: Path) -> None:
    file = tmp_path / "loadtest.toml"
    file.write_text('version = 1\n[profile.smoke]\nscenarios = ["soak"]\n')
    with pytest.raises(ConfigError, match="names soak, but the profile has no table soak"):
        load_settings(tmp_path, "local", "smoke", process_env={})
    file.write_text('version = 1\n[profile.smoke]\nscenarios = ["sauk"]\n')
    with pytest.raises(ConfigError, match="'streams' or 'soak'"):
        load_settings(tmp_path, "local", "smoke", process_env={})


def test_the_load_is_described_before_the_run() -> None:
    settings = load(soak_vus="4", soak_seconds="600")
    assert describe_load(settings.profile, settings.tools, ["soak"], "session") == (
        "soak by 4 sessions at a time, a new one after 60 s, 1 call/s per session; about 10 min"
    )


@pytest.mark.parametrize(
    ("scenario", "profile", "variables", "seconds"),
    [
        ("soak", "soak", {}, 120),
        ("soak", "soak", {"soak_seconds": "600"}, 10),
        ("soak", "soak", {"soak_seconds": "600", "soak_vus": "500"}, 10),
        ("tools", "smoke", {}, 1),
        ("tools", "full", {}, 3),
        ("sessions", "full", {}, 15),
        ("cold-start", "full", {}, 1),
        ("tools", "smoke", {"vus": "400"}, 5),  # each VU prints a line per interval
    ],
)
def test_a_scenario_has_about_a_hundred_intervals(
    scenario: str, profile: str, variables: dict[str, str], seconds: int
) -> None:
    settings = load(profile, **variables)
    phases = build_phases(scenario, settings.profile, settings.tools)
    assert find_interval(scenario, settings.profile, phases) == seconds
