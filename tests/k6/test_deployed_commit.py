"""Which commit of the server is deployed: from a variable, a header or its version."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.common.redaction import learn
from loadtest.config.loading import load_settings
from loadtest.config.settings import Settings
from loadtest.context import Chain
from loadtest.errors import ConfigError
from loadtest.k6 import stage
from loadtest.k6.preflight import Checked
from loadtest.k6.run_facts import find_commit
from loadtest.reference.server import ReferenceTarget
from loadtest.report.content.facts import build_facts
from loadtest.results.run_folder import read_run_folder
from loadtest.state.bearers import bearer_path, write_bearers
from tests.k6.running import build_settings
from tests.provision.gate import open_gate
from tests.support.self_mint import self_mint

SHA = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
CONFIG = """
[environment.mine]
target = "hosted"
default_profile = "smoke"
limits = {{ max_vus = 90, max_rps = 100, max_duration_seconds = 99 }}
{line}
"""


def with_source(settings: Settings, source: str) -> Settings:
    update = {"deployed_commit": source, "repository": "example/app"}
    return replace(settings, environment=settings.environment.model_copy(update=update))


def find(text: str | None, source: str = "version") -> tuple[str | None, str | None]:
    """Return what is found if the server reports this text as its version."""
    settings = with_source(build_settings(RELEASE=text or ""), source)
    headers = {"x-commit": text} if text else {}
    checked = Checked("auto", settings.tools, headers=headers, server_version=text)
    return find_commit(settings, checked)


@pytest.mark.parametrize("source", ["$RELEASE", "header:x-commit", "version"])
def test_a_commit_is_read_from_a_variable_a_header_or_the_version(source: str) -> None:
    assert find(f" {SHA} ", source) == (SHA, None)


@pytest.mark.parametrize(
    "text", [SHA, SHA[:7], "v1.4.0", "1.4.0-rc.1", "1.4.0+a1b2c3d", "release_2026-11-30", "7"]
)
def test_a_sha_and_a_name_like_that_of_a_tag_are_kept(text: str) -> None:
    assert find(text) == (text, None)


@pytest.mark.parametrize(
    "text",
    [
        *("latest", "v1..0", "1.4.", ".1", "-1", "a/b1", "1 2", "v1\n2", "1" * 65, "v\uff11.4"),
        *("[v1](https://evil.example)", "<b>1</b>", "`1`", "1|2", "../../1", "$(1)", "1\x1b[31m"),
    ],
)
def test_anything_else_is_ignored_and_not_quoted(text: str) -> None:
    commit, why = find(text)
    assert commit is None
    assert why == (
        "deployed_commit is not known: the version that the server reports is neither a commit "
        "nor a tag"
    )


def test_a_secret_of_ours_that_a_server_answers_with_is_ignored() -> None:
    secret = "canary-0123456789abcdef"
    assert find(secret)[0] == secret
    learn(secret)
    assert find(secret)[0] is None


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("$RELEASE", "the variable RELEASE"),
        ("header:X-Commit", "the header X-Commit of the server's replies"),
        ("version", "the version that the server reports"),
    ],
)
def test_a_missing_commit_is_named_in_one_line(source: str, place: str) -> None:
    assert find(None, source) == (None, f"deployed_commit is not known: {place} is missing")


def test_an_environment_without_these_settings_has_no_commit_and_no_warning() -> None:
    settings = build_settings()
    assert find_commit(settings, Checked("auto", settings.tools)) == (None, None)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('repository = "app"', "repository is the owner and the name"),
        ('repository = "https://github.com/example/app"', "repository is the owner"),
        ('repository = "example/.."', "repository is the owner"),
        ('repository = "-x/app"', "repository is the owner"),
        ('repository = "example/a b"', "repository is the owner"),
        ('repository = "example/app\\n"', "repository is the owner"),
        ('deployed_commit = "1a2b3c4"', 'deployed_commit is "$VARIABLE", "header:NAME" or'),
        ('deployed_commit = "$"', "deployed_commit is"),
        ('deployed_commit = "header:"', "deployed_commit is"),
        ('deployed_commit = "header:X Commit"', "deployed_commit is"),
        ('deployed_commit = "$DEPLOY_TOKEN"', "by its name, $DEPLOY_TOKEN is a secret"),
        ("deployed_commit = 1", "valid string"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "loadtest.toml").write_text(CONFIG.format(line=line), encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load_settings(tmp_path, "mine", process_env={})
    assert words in str(refused.value)
    assert f"environment.mine.{line.split(' ')[0]}: " in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_right_setting_is_read(tmp_path: Path) -> None:
    line = 'repository = "example/my.app_2"\ndeployed_commit = "header:X-Commit"'
    (tmp_path / "loadtest.toml").write_text(CONFIG.format(line=line), encoding="utf-8")
    environment = load_settings(tmp_path, "mine", process_env={}).environment
    assert environment.repository == "example/my.app_2"
    assert environment.deployed_commit == "header:X-Commit"


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["cold-start", "tools"])
def test_a_run_keeps_the_commit_that_a_header_names(
    scenario: str,
    serve: Callable[..., ReferenceTarget],
    provisioned: Callable[[ReferenceTarget], Settings],
    chain: Chain,
) -> None:
    settings = provisioned(serve(tool_quota=False))
    with open_gate(settings.base_url or "") as gate:
        gate.headers["X-Commit"] = SHA
        settings = with_source(replace(settings, base_url=gate.url), "header:x-commit")
        environment = settings.environment.model_copy(update={"quota": None})
        mix = settings.profile.tools.model_copy(update={"vus": 2, "duration_seconds": 2})
        profile = settings.profile.model_copy(update={"tools": mix})
        settings = replace(settings, environment=environment, profile=profile)
        write_bearers(bearer_path(settings.state_dir), (self_mint(settings),))
        stage.k6(chain, settings, scenario)
    assert chain.ending.run_dir is not None
    folder = read_run_folder(chain.ending.run_dir)
    target = folder.run.target
    assert (target.repository, target.commit) == ("example/app", SHA)
    assert target.server_version
    assert ("deployed commit", f"{SHA} of example/app") in tuple(build_facts(folder))
    assert folder.run.machine["address_class"] == "loopback"
