"""Where a project's configuration is found, and what the defaults add to it."""

from pathlib import Path

import pytest

from loadtest.config.loading import load_settings
from loadtest.config.project import find_root, read_project
from loadtest.errors import ConfigError


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_nearest_configuration_upwards_is_the_project_s(tmp_path: Path) -> None:
    write(tmp_path / "loadtest.toml")
    write(tmp_path / "apps" / "api" / "pyproject.toml", "[tool.mcp-loadtest]\n")
    write(tmp_path / "apps" / "web" / "pyproject.toml", "[project]\nname = 'mcp-loadtest-user'\n")
    (tmp_path / "apps" / "api" / "src").mkdir()
    assert find_root(tmp_path / "apps" / "api" / "src") == tmp_path / "apps" / "api"
    assert find_root(tmp_path / "apps" / "web") == tmp_path
    assert find_root(tmp_path) == tmp_path


def test_without_a_configuration_the_current_folder_is_the_project_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_root() == tmp_path
    settings = load_settings(tmp_path, process_env={})
    assert settings.is_reference()
    assert settings.profile.sessions.stages == (1, 5, 10)
    assert settings.docs_pages == ()


def test_a_pyproject_configures_as_a_file_does(tmp_path: Path) -> None:
    write(
        tmp_path / "pyproject.toml",
        '[tool.mcp-loadtest]\ndocs_pages = ["a.mdx"]\n\n'
        '[tool.mcp-loadtest.environment.prod]\ntarget = "hosted"\ndefault_profile = "smoke"\n'
        "limits = { max_vus = 20, max_rps = 50, max_duration_seconds = 600 }\n",
    )
    settings = load_settings(tmp_path, "prod", process_env={})
    assert settings.docs_pages == (tmp_path / "a.mdx",)
    assert settings.environment.limits.max_rps == 50
    with pytest.raises(ConfigError, match=r"\[tool\.mcp-loadtest\] in .* has local, prod"):
        load_settings(tmp_path, "staging", process_env={})


def test_an_own_table_wins_over_a_default_key_by_key(tmp_path: Path) -> None:
    write(
        tmp_path / "loadtest.toml",
        '[environment.local]\nvia = "session"\n\n'
        "[profile.smoke]\ncold_start = { iterations = 3, vus = 1 }\n",
    )
    settings = load_settings(tmp_path, process_env={})
    assert settings.environment.via == "session"
    assert settings.is_reference()
    assert settings.profile.cold_start.iterations == 3
    assert settings.profile.tools.vus == 5


def test_two_configurations_in_a_folder_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "loadtest.toml")
    write(tmp_path / "pyproject.toml", "[tool.mcp-loadtest]\n")
    with pytest.raises(ConfigError, match="both exist: keep one of them"):
        read_project(tmp_path)


def test_a_damaged_file_of_somebody_else_is_not_ours_to_report(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", "[project\n")
    (tmp_path / "src").mkdir()
    assert find_root(tmp_path / "src") == tmp_path / "src"
    write(tmp_path / "pyproject.toml", "[tool.mcp-loadtest\n")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        find_root(tmp_path / "src")


@pytest.mark.parametrize("text", ["environment = 1", "profile = []", "environment.local = 1"])
def test_a_default_never_hides_a_wrong_table(tmp_path: Path, text: str) -> None:
    write(tmp_path / "loadtest.toml", text)
    with pytest.raises(ConfigError, match=r"loadtest\.toml: (environment|profile)"):
        load_settings(tmp_path, process_env={})
