import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.common.files import STATE_DIR
from loadtest.config import models, settings
from loadtest.config.env_file import parse_env_file
from loadtest.config.loading import load_settings, parse_base_url
from loadtest.config.models import find_unit
from loadtest.config.project import CONFIG_FILE
from loadtest.errors import ConfigError
from tests.support.checkout import ROOT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copy(ROOT / CONFIG_FILE, tmp_path)
    return tmp_path


def refuse(root: Path, **arguments: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(root, **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_default_is_the_reference_target_with_the_smoke_profile(root: Path) -> None:
    settings = load_settings(root, process_env={})
    assert settings.is_reference()
    assert (settings.environment_name, settings.profile_name) == ("local", "smoke")
    assert settings.profile.sessions.stages == (1, 5, 10)


def test_prod_has_its_own_default_profile(root: Path) -> None:
    settings = load_settings(root, "prod", process_env={})
    assert settings.profile_name == "full"
    assert settings.profile.scheduled_seconds(settings.tools) == 5 * 300 + 300 + 3 * 60


def test_an_option_wins_over_a_variable_and_a_variable_over_the_env_file(root: Path) -> None:
    (root / ".env").write_text(
        "LOADTEST_VUS=2\nLOADTEST_STAGES=1,2\nLOADTEST_DURATION=7\nDURATION=8\n"
    )
    settings = load_settings(
        root,
        knobs={"vus": "4", "stages": None},
        process_env={"LOADTEST_VUS": "3", "LOADTEST_STAGES": "1,3", "DURATION": "9"},
    )
    assert settings.profile.tools.vus == 4
    assert settings.profile.sessions.stages == (1, 3)
    assert settings.profile.tools.duration_seconds == 7


def test_each_environment_has_its_own_env_file_which_wins_over_the_shared_one(root: Path) -> None:
    (root / ".env").write_text("LOADTEST_EMAIL=shared@example.com\nLOADTEST_VUS=2\n")
    (root / ".env.prod").write_text("LOADTEST_BASE_URL=https://prod.example\nLOADTEST_VUS=3\n")
    (root / ".env.staging").write_text("LOADTEST_BASE_URL=https://staging.example\n")
    prod = load_settings(root, "prod", process_env={})
    assert (prod.base_url, prod.profile.tools.vus) == ("https://prod.example", 3)
    assert prod.credentials.email == "shared@example.com"
    staging = load_settings(root, process_env={"LOADTEST_ENV": "staging"})
    assert (staging.base_url, staging.profile.tools.vus) == ("https://staging.example", 2)
    named = {"LOADTEST_ENV": "staging", "LOADTEST_BASE_URL": "https://third.example"}
    prod = load_settings(root, "prod", process_env=named)
    assert (prod.environment_name, prod.base_url) == ("prod", "https://third.example")


def test_the_shared_env_file_may_choose_the_environment_but_not_an_environments_own(
    root: Path,
) -> None:
    (root / ".env").write_text("LOADTEST_ENV=prod\n")
    assert load_settings(root, process_env={}).environment_name == "prod"
    (root / ".env.prod").write_text("LOADTEST_ENV=staging\n")
    assert "move the line to .env" in refuse(root, process_env={})


def test_a_typed_address_does_not_get_the_credentials_of_the_default_environment(
    root: Path,
) -> None:
    (root / ".env.prod").write_text("LOADTEST_EMAIL=prod@example.com\n")
    (root / ".env").write_text("LOADTEST_ENV=prod\n")
    url = "https://else.example/mcp"
    assert load_settings(root, process_env={}, mcp_url=url).credentials.email is None
    settings = load_settings(root, "prod", process_env={}, mcp_url=url)
    assert settings.credentials.email == "prod@example.com"


def test_the_ladder_calls_the_tool_of_its_environment_unless_one_is_typed(root: Path) -> None:
    assert load_settings(root, "prod", process_env={}).profile.sessions.tool == "listEntities"
    assert load_settings(root, "local", process_env={}).profile.sessions.tool == "executeSQL"
    typed = load_settings(root, "prod", knobs={"tool": "runMetric"}, process_env={})
    assert typed.profile.sessions.tool == "runMetric"
    other = root / "other.json"
    other.write_text('{"tools": {"search": {"weight": 1, "arguments": [{}]}}}')
    settings = load_settings(root, "prod", knobs={"tools": str(other)}, process_env={})
    assert settings.profile.sessions.tool == "search"


def test_an_unknown_environment_and_profile_are_named_with_the_known_ones(root: Path) -> None:
    assert "unknown environment 'mars'" in refuse(root, environment_name="mars", process_env={})
    message = refuse(root, profile_name="heroic", process_env={})
    assert "unknown profile 'heroic'" in message
    assert "smoke, standard, full" in message


def test_every_wrong_knob_is_reported_at_once_by_name(root: Path) -> None:
    knobs = {"stages": "1,x", "vus": "0", "tool": "rm"}
    message = refuse(root, knobs=knobs, process_env={})
    assert all(f"--{name} (LOADTEST_{name.upper()})" in message for name in knobs)


def test_the_protocol_is_an_option_a_variable_or_the_environments_own(root: Path) -> None:
    config_file = root / CONFIG_FILE
    text = config_file.read_text(encoding="utf-8")
    assert load_settings(root, "prod", process_env={}).protocol == "auto"
    head = "[environment.prod]\n"
    config_file.write_text(text.replace(head, f'{head}protocol = "2025-06-18"\n'))
    assert load_settings(root, "prod", process_env={}).protocol == "2025-06-18"
    given = {"LOADTEST_PROTOCOL": "2025-11-25"}
    settings = load_settings(root, "prod", process_env=given)
    assert (settings.protocol, find_unit(settings.protocol)) == ("2025-11-25", "session")
    settings = load_settings(root, "prod", knobs={"protocol": "2026-07-28"}, process_env=given)
    assert (settings.protocol, find_unit(settings.protocol)) == ("2026-07-28", "client")
    assert "(LOADTEST_PROTOCOL) must be one of auto" in refuse(
        root, process_env={"LOADTEST_PROTOCOL": "2024-11-05"}
    )


def test_tools_are_an_option_a_table_of_the_environment_or_novamarts(root: Path) -> None:
    assert load_settings(root, "prod", process_env={}).tools.source == "novamart"
    config_file = root / CONFIG_FILE
    text = config_file.read_text(encoding="utf-8")
    text = text.replace('tools = "novamart"\nladder_tool = "listEntities"\n', "")
    table = '[environment.prod.tools.look]\nweight = 2\narguments = [{ at = "x" }]\n\n'
    config_file.write_text(f"{text}\n{table}")
    settings = load_settings(root, "prod", process_env={})
    assert settings.tools.source == "loadtest.toml, environment prod"
    assert (list(settings.tools.tools), settings.profile.sessions.tool) == (["look"], "look")
    assert not settings.tools_assumed
    assert settings.list_calls(("cold-start",)) == ()
    assumed = load_settings(root, "staging", process_env={})
    assert (assumed.tools.source, assumed.tools_assumed) == ("novamart", True)
    file = root / "mine.json"
    file.write_text('{"tools": {"a": {"weight": 1, "arguments": [{}]}, "b": '
                    '{"weight": 1, "arguments": [{}]}}}')  # fmt: skip
    given = {"LOADTEST_TOOLS": str(file)}
    settings = load_settings(root, "prod", knobs={"tool": "b"}, process_env=given)
    assert (settings.tools.source, settings.profile.sessions.tool) == (str(file), "b")
    assert settings.list_calls(("sessions",)) == ("b",)
    assert settings.list_calls(("sessions", "tools")) == ("a", "b")
    message = refuse(root, environment_name="prod", knobs={"tool": "c"}, process_env=given)
    assert message == (
        f"--tool (LOADTEST_TOOL): {file} has only a, b; set it, or ladder_tool, to one of these"
    )


def test_an_environments_tools_may_be_in_a_file_beside_the_settings(root: Path) -> None:
    (root / "mine.json").write_text('{"tools": {"a": {"weight": 1, "arguments": [{}]}}}')
    config_file = root / CONFIG_FILE
    text = config_file.read_text(encoding="utf-8")
    text = text.replace('tools = "novamart"', 'tools = "mine.json"')
    config_file.write_text(text)
    assert "has only a" in refuse(root, environment_name="prod", process_env={})
    config_file.write_text(text.replace('ladder_tool = "listEntities"', 'ladder_tool = "a"'))
    assert list(load_settings(root, "prod", process_env={}).tools.tools) == ["a"]
    (root / "mine.json").write_text("{}")
    message = refuse(root, environment_name="prod", process_env={})
    assert message.startswith("mine.json has no tools")


def test_pools_of_an_environment_belong_to_its_own_tools(root: Path) -> None:
    config_file = root / CONFIG_FILE
    text = config_file.read_text(encoding="utf-8").replace('ladder_tool = "listEntities"\n', "")
    (root / "words.txt").write_text("a\nb\n")
    table = (
        '[environment.prod.tools.look]\nweight = 1\narguments = [{ at = { "$pool" = "w" }, '
        'day = { "$pool" = "d" } }]\n[environment.prod.pools]\nw = { file = "words.txt" }\n'
        "d = { range = [2026-01-01, 2026-01-02] }\n"
    )
    config_file.write_text(text.replace('tools = "novamart"\n', "") + "\n" + table)
    tools = load_settings(root, "prod", process_env={}).tools
    found = [arguments for _, arguments in tools.spread_arguments("look", 2)]
    assert found == [{"at": "a", "day": "2026-01-01"}, {"at": "b", "day": "2026-01-02"}]
    config_file.write_text(text + '\n[environment.prod.pools]\nw = { list = ["a"] }\n')
    message = refuse(root, environment_name="prod", process_env={})
    assert message.startswith(
        "loadtest.toml, environment prod: pools is only for tools that are tables"
    )


def test_only_an_environment_that_allows_it_may_be_brought_to_its_edge(root: Path) -> None:
    settings.check_allowed(load_settings(root), "leaks")
    with pytest.raises(ConfigError, match=r"environment prod does not allow it: .* allow"):
        settings.check_allowed(load_settings(root, "prod"), "leaks")


def test_streams_of_our_own_profile_are_left_out_where_only_they_exceed_a_limit(root: Path) -> None:
    file = root / CONFIG_FILE
    file.write_text(
        f"{file.read_text()}\n[profile.smoke]\nsessions = {{ stages = [2], stage_seconds = 5 }}\n"
    )
    text = file.read_text()
    file.write_text(text.replace("max_vus = 200,", "max_vus = 5,"))
    assert load_settings(root, "staging", "smoke").profile.streams is None
    assert load_settings(root, "prod", "smoke").profile.streams is not None
    typed = refuse(
        root, environment_name="staging", profile_name="smoke", knobs={"stream_stages": "5"}
    )
    assert typed == "over the limits of environment staging: max_vus is 5, requested 6"
    file.write_text(f"{file.read_text()}streams = {{ stages = [7], stage_seconds = 5 }}\n")
    written = refuse(root, environment_name="staging", profile_name="smoke")
    assert written == "over the limits of environment staging: max_vus is 5, requested 8"


def test_equal_stages_are_refused_because_they_are_the_keys_of_rows(root: Path) -> None:
    assert "stages must differ" in refuse(root, knobs={"stages": "5,5"}, process_env={})


def test_a_knob_above_the_limit_is_refused(root: Path) -> None:
    message = refuse(root, environment_name="prod", knobs={"stages": "1,202"}, process_env={})
    assert "max_vus is 201, requested 202" in message


def test_a_reference_target_never_gets_the_credentials_of_a_hosted_one(root: Path) -> None:
    hosted = {"LOADTEST_EMAIL": "me@example.com", "LOADTEST_PASSWORD": "not for local"}
    assert load_settings(root, "local", process_env=hosted).credentials.email is None
    assert load_settings(root, "prod", process_env=hosted).credentials.email == "me@example.com"


def test_stored_credentials_of_another_user_are_not_used(root: Path) -> None:
    kept = root / STATE_DIR / "prod" / settings.CREDENTIALS_FILE
    kept.parent.mkdir(parents=True)
    kept.write_text("LOADTEST_EMAIL=a@example.com\nLOADTEST_PASSWORD=x\nLOADTEST_WORKSPACE_ID=w\n")
    kept.chmod(0o600)
    same = load_settings(root, "prod", process_env={"LOADTEST_EMAIL": "a@example.com"})
    assert same.credentials.workspace_id == "w"
    other = load_settings(root, "prod", process_env={"LOADTEST_EMAIL": "b@example.com"})
    assert other.credentials.workspace_id is None
    assert other.credentials.password is None


def test_credentials_that_others_can_read_are_refused(root: Path) -> None:
    kept = root / STATE_DIR / "local" / settings.CREDENTIALS_FILE
    kept.parent.mkdir(parents=True)
    kept.write_text("LOADTEST_EMAIL=a@example.com\n")
    kept.chmod(0o644)
    assert "can be read by others" in refuse(root, process_env={})


def test_a_password_is_in_no_representation_of_the_settings(root: Path) -> None:
    env = {"LOADTEST_EMAIL": "me@example.com", "LOADTEST_PASSWORD": "canary"}
    assert "canary" not in repr(load_settings(root, "prod", process_env=env))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("api.example.com", "is not an http(s) origin"),
        ("ftp://api.example.com", "is not an http(s) origin"),
        ("https://user:pw@api.example.com", "is not an http(s) origin"),
        ("http://api.example.com", "must be https"),
        ("https://api.example.com/mcp", "remove path"),
    ],
)
def test_a_wrong_base_url_is_refused_without_quoting_it(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_base_url(text)
    assert words in str(caught.value)
    assert "user:pw" not in str(caught.value)


def test_an_origin_loses_its_slash_and_loopback_may_be_plain_http() -> None:
    assert parse_base_url("https://api.example.com/") == "https://api.example.com"
    assert parse_base_url("http://127.0.0.1:8000") == "http://127.0.0.1:8000"


def test_a_wrong_line_of_the_env_file_is_named_by_number_not_by_content(root: Path) -> None:
    (root / ".env").write_text("# fine\nLOADTEST_PASSWORD swordfish\n")
    message = refuse(root, process_env={})
    assert "line 2" in message
    assert "swordfish" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version = '1'", "version: Input should be 1"),
        ("version = 9", "update mcp-loadtest"),
        ("version = ", "is not valid TOML"),
    ],
)
def test_a_wrong_configuration_file_is_named(root: Path, text: str, words: str) -> None:
    (root / CONFIG_FILE).write_text(text)
    message = refuse(root, process_env={})
    assert words in message
    assert CONFIG_FILE in message


def test_an_unknown_key_is_refused_with_its_place(root: Path) -> None:
    path = root / CONFIG_FILE
    path.write_text(path.read_text().replace("max_vus = 200", "max_vuz = 200"))
    assert "environment.staging.limits.max_vuz" in refuse(root, process_env={})


NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]*", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=("C", "Z"))).filter(
    lambda text: text[:1] not in {'"', "'"}
)


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_an_env_file_reads_back_as_written(values: dict[str, str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "env"
        path.write_text("".join(f"{n}={v}\n" for n, v in values.items()), encoding="utf-8")
        assert parse_env_file(path) == values


@pytest.mark.parametrize(
    "name",
    ["..", ".", "", "runs", "RUNS", "browser.json", "url-x", "a/b", "a\\\\b", "ä", "-x", "a b"],
)
def test_an_environment_cannot_have_the_name_of_another_file_in_the_state_folder(
    root: Path, name: str
) -> None:
    config_file = root / CONFIG_FILE
    text = config_file.read_text(encoding="utf-8")
    config_file.write_text(text.replace("[environment.prod]", f'[environment."{name}"]'))
    assert "an environment" in refuse(root, process_env={})


def test_an_address_has_its_own_state_folder_by_host_and_hash(root: Path) -> None:
    addresses = (
        *("https://mcp.example.com/a", "https://mcp.example.com/b", "http://[::1]:8020/mcp"),
        *("https://staging/mcp", "https://runs/mcp", "https://url-x/mcp"),
    )
    folders = [load_settings(root, process_env={}, mcp_url=each).state_dir for each in addresses]
    assert len(set(folders)) == len(addresses)
    assert folders[0].name.startswith("url-mcp.example.com-")
    assert {folder.parent for folder in folders} == {root / ".loadtest"}
    assert all(folder.name.startswith("url-") for folder in folders)


@pytest.mark.parametrize(
    "address",
    ["https://../mcp", "https://.", "http://[::1", "https://a]b/mcp", "https://[x]/", "mcp", "",
     "https://x:99999/mcp", "https://x:0", "https://\ud800.example/", "https://\u00e4.example/"],
)  # fmt: skip
def test_a_wrong_address_is_refused_in_one_line(root: Path, address: str) -> None:
    words = "--mcp-url is not an address"
    assert words in refuse(root, process_env={}, mcp_url=address)
    if address:
        variables = {"LOADTEST_BASE_URL": address}
        assert "LOADTEST_BASE_URL" in refuse(root, environment_name="prod", process_env=variables)
    with pytest.raises(ValueError, match="an origin is like"):
        models.parse_origin(address)
