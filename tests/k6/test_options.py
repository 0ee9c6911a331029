"""The engine as typed."""

from dataclasses import replace

import pytest

from loadtest.config.loading import load_settings
from loadtest.config.models import USUAL_SCENARIOS, Kubernetes
from loadtest.config.settings import Settings
from loadtest.errors import ConfigError, UsageError
from loadtest.k6.command import build_knobs, build_phases
from loadtest.k6.health import count_cpus
from loadtest.k6.options import choose_runners, parse_scenarios
from loadtest.k6.plan import Runners
from tests.support.checkout import ROOT


@pytest.fixture
def settings() -> Settings:
    return load_settings(ROOT, "local", "smoke", process_env={})


def test_one_k6_runs_by_default(settings: Settings) -> None:
    assert choose_runners(settings, USUAL_SCENARIOS, None, None) == Runners("local", 1)


def test_segments_have_a_runner_per_processor_or_the_requested_number(settings: Settings) -> None:
    chosen = choose_runners(settings, ["tools"], "segments", None)
    assert chosen == Runners("segments", count_cpus())
    assert choose_runners(settings, USUAL_SCENARIOS, "segments", "4").count == 4


@pytest.mark.parametrize(
    ("engine", "parallelism", "words"),
    [
        ("cloud", None, "--engine cloud: there are local, segments, kubernetes"),
        (None, "2", "--parallelism needs --engine segments or kubernetes"),
        ("kubernetes", "2", "--engine kubernetes is for hosted environments"),
        ("segments", "0", "--parallelism must be a whole number above 0"),
        ("segments", "two", "--parallelism must be a whole number above 0"),
        ("segments", "5", "--parallelism 5: cold-start has 4 VUs to share; use at most 4"),
    ],
)
def test_impossible_options_are_refused_in_one_line(
    settings: Settings, engine: str | None, parallelism: str | None, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        choose_runners(settings, USUAL_SCENARIOS, engine, parallelism)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


def test_streams_need_a_table_in_the_profile(settings: Settings) -> None:
    assert parse_scenarios(None, settings.profile) == (*USUAL_SCENARIOS, "streams")
    assert parse_scenarios("streams", settings.profile) == ("streams",)
    without = settings.profile.model_copy(update={"streams": None})
    assert parse_scenarios(None, without) == USUAL_SCENARIOS
    with pytest.raises(
        UsageError, match=r"^--scenarios streams: the profile has no table streams$"
    ):
        parse_scenarios("streams", without)


def test_a_cluster_needs_a_namespace_and_a_number_of_runners() -> None:
    hosted = load_settings(ROOT, "staging", "smoke", process_env={})
    with pytest.raises(ConfigError, match=r"needs \[environment.staging.kubernetes\] in loadtest"):
        choose_runners(hosted, USUAL_SCENARIOS, "kubernetes", "2")
    where = Kubernetes(namespace="loadtest")
    there = replace(hosted, environment=hosted.environment.model_copy(update={"kubernetes": where}))
    with pytest.raises(UsageError, match="needs --parallelism"):
        choose_runners(there, USUAL_SCENARIOS, "kubernetes", None)
    assert choose_runners(there, USUAL_SCENARIOS, "kubernetes", "2") == Runners(
        "kubernetes", 2, where
    )


@pytest.mark.parametrize(
    ("stages", "generators", "seconds"), [("1,300", 1, 1), ("301", 1, 2), ("33334", 12, 10)]
)
def test_many_sessions_open_for_longer_and_more_runners_open_them_faster(
    stages: str, generators: int, seconds: int
) -> None:
    settings = load_settings(ROOT, "local", "smoke", process_env={})
    tools = settings.tools
    sessions = settings.profile.sessions.model_validate(
        {"stages": [int(stage) for stage in stages.split(",")], "stage_seconds": 300}
    )
    profile = settings.profile.model_copy(update={"sessions": sessions})
    assert build_knobs("sessions", profile, tools, generators)["OPEN_SECONDS"] == str(seconds)
    [*_, last] = build_phases("sessions", profile, tools, generators=generators)
    assert last.seconds == seconds + 300 + 10 + 1
