"""The JavaScript, inside the real k6."""

import os
import subprocess
from pathlib import Path

import pytest

from loadtest.common.scripts import SCRIPTS
from loadtest.config.tool_table import NOVAMART, parse_table
from loadtest.k6.__main__ import SMALLEST_RUN, inspect
from loadtest.k6.binary import K6Binary
from tests.support.waiting import HANG_SECONDS

HERE = Path(__file__).parent / "scripts"
ENTRIES = sorted(SCRIPTS.glob("*.js"))


def run_k6(binary: K6Binary, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run k6 with only PATH and the given variables."""
    return subprocess.run(
        [str(binary.path), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(HERE), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )


@pytest.mark.parametrize("script", ENTRIES, ids=lambda path: path.name)
def test_k6_accepts_each_entry_script_and_its_options(script: Path, binary: K6Binary) -> None:
    inspect(binary, script)


@pytest.mark.parametrize("script", ENTRIES, ids=lambda path: path.name)
def test_an_entry_script_has_at_most_40_lines(script: Path) -> None:
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 40


def test_one_module_reads_the_environment_and_one_writes_to_the_log() -> None:
    for script in SCRIPTS.rglob("*.js"):
        text = script.read_text(encoding="utf-8")
        assert ("__ENV[" in text) == (script.name == "env.js"), script
        assert "from 'http" not in text, script
        assert "k6/x/" not in text, script
        assert "k6/experimental" not in text, script
        assert ("console." in text) == (script.name == "log.js"), script


@pytest.mark.parametrize(
    "name",
    [
        "replies.js",
        "mix.js",
        "pace.js",
        "protocol.js",
        "uri_template.js",
        "json_path.js",
        "server_time.js",
        "streams.js",
    ],
)
def test_the_scripts_that_test_the_library_pass(name: str, binary: K6Binary, echo_url: str) -> None:
    done = run_k6(
        *(binary, "run", "--quiet", "--no-usage-report", "--include-system-env-vars"),
        str(HERE / name),
        ECHO_URL=echo_url,
        CALL_TIMEOUT_SECONDS="30",
        TOOLS_FILE=str(NOVAMART),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "level=error" not in done.stderr  # an exception alone does not fail k6


def test_values_of_pools_are_drawn_as_the_table_says(
    binary: K6Binary, echo_url: str, tmp_path: Path
) -> None:
    table = parse_table(
        {
            "pools": {
                "id": {"range": [10, 109], "step": 2},
                "seven": {"list": [7]},
                "many": {"list": [f"w {number}" for number in range(5000)]},
                "people": {"list": [{"name": 'Ann "A"'}, {"name": "Bob"}]},
                "sql": {"template": "name = '${people.name}' AND id = ${seven}"},
            },
            "tools": {
                "find": {
                    "weight": 1,
                    "arguments": [
                        {
                            "id": {"$pool": "id"},
                            "who": {"$pool": "people.name"},
                            "deep": {
                                "fixed": True,
                                "list": [{"name": {"$pool": "people.name"}}, 2],
                                "sql": {"$pool": "sql"},
                            },
                        }
                    ],
                },
                "whole": {"weight": 1, "arguments": [{"$pool": "people"}, {"literal": 1}]},
            },
            "resources": {
                "doc": {"weight": 1, "uri": "doc://{id}", "arguments": [{"id": {"$pool": "many"}}]}
            },
        },
        "t",
    )
    (tmp_path / "tools.json").write_text(table.render(), encoding="utf-8")
    done = run_k6(
        *(binary, "run", "--quiet", "--no-usage-report", "--include-system-env-vars"),
        str(HERE / "pools.js"),
        ECHO_URL=echo_url,
        CALL_TIMEOUT_SECONDS="30",
        TOOLS_FILE=str(tmp_path / "tools.json"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "level=error" not in done.stderr  # an exception alone does not fail k6


GOOD = {
    **SMALLEST_RUN,
    "MCP_URL": "http://127.0.0.1:1/mcp/ws",
    "SUMMARY_FILE": "summary.json",
    "TOOLS_FILE": str(NOVAMART),
    "STAGES": "1,2",
}


@pytest.mark.parametrize(
    ("script", "name", "value"),
    [
        ("cold-start", "MCP_URL", ""),
        ("cold-start", "MCP_URL", "ftp://127.0.0.1/mcp"),
        ("cold-start", "MCP_URL", "http://user@127.0.0.1/mcp"),
        ("cold-start", "MCP_BEARER_FILE", "/nowhere/bearer.json"),
        ("cold-start", "SUMMARY_FILE", ""),
        ("cold-start", "ITERATIONS", "0"),
        ("cold-start", "VUS", "two"),
        ("sessions", "STAGES", ""),
        ("sessions", "STAGES", "1,,5"),
        ("sessions", "STAGES", "5,5"),
        ("sessions", "STAGE_SECONDS", "-1"),
        ("sessions", "TOOL", "dropTable"),
        ("sessions", "PACE", "often"),
        ("sessions", "PACE", "exponential:0"),
        ("sessions", "TOOLS_FILE", ""),
        ("preflight", "TOOLS_FILE", "/nowhere/tools.json"),
        ("tools", "DURATION", ""),
        ("tools", "TARGET_RPS", "0.0"),
        ("tools", "MAX_FAILURE_SHARE", "2"),
        ("tools", "MCP_PROTOCOL", "latest"),
    ],
)
def test_a_missing_or_malformed_variable_is_refused_by_name(
    script: str, name: str, value: str, binary: K6Binary, tmp_path: Path
) -> None:
    bearer = tmp_path / "bearer.json"
    bearer.write_text('{"version": 2, "bearers": [{"access_token": "none"}]}', encoding="utf-8")
    variables = {**GOOD, "MCP_BEARER_FILE": str(bearer), name: value}
    done = run_k6(
        binary, "inspect", "--include-system-env-vars", str(SCRIPTS / f"{script}.js"), **variables
    )
    assert done.returncode != 0
    assert f"Error: {name} must be " in done.stderr


@pytest.mark.parametrize(
    ("script", "changes", "message"),
    [
        ("cold-start", {"LIMIT_HOST": "mcp.example.com"}, "MCP_URL must be on mcp.example.com"),
        ("cold-start", {"VUS": "3", "ITERATIONS": "3", "LIMIT_VUS": "2"}, "LIMIT_VUS is 2, asked"),
        ("sessions", {"LIMIT_VUS": "1"}, "LIMIT_VUS is 1, asked for 2"),
        ("sessions", {"LIMIT_RPS": "1"}, "LIMIT_RPS is 1, asked for 2"),
        ("sessions", {"STAGE_SECONDS": "30", "LIMIT_SECONDS": "59"}, "LIMIT_SECONDS is 59, asked"),
        ("tools", {"TARGET_RPS": "9", "LIMIT_RPS": "8"}, "LIMIT_RPS is 8, asked for 9"),
        ("tools", {"DURATION": "9", "LIMIT_SECONDS": "8"}, "LIMIT_SECONDS is 8, asked for 9"),
    ],
)
def test_the_scripts_too_refuse_what_exceeds_the_limits_of_the_environment(
    script: str, changes: dict[str, str], message: str, binary: K6Binary, tmp_path: Path
) -> None:
    bearer = tmp_path / "bearer.json"
    bearer.write_text('{"version": 2, "bearers": [{"access_token": "none"}]}', encoding="utf-8")
    path = str(SCRIPTS / f"{script}.js")
    variables = {**GOOD, "MCP_BEARER_FILE": str(bearer)}
    within = {"LIMIT_HOST": "127.0.0.1:1", "LIMIT_VUS": "9", "LIMIT_RPS": "9"}
    flags = ("inspect", "--include-system-env-vars", path)
    assert run_k6(binary, *flags, **{**variables, **within}).returncode == 0
    done = run_k6(binary, *flags, **{**variables, **changes})
    assert done.returncode != 0
    assert f"Error: {message}" in done.stderr


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "null",
        '{"tools": {}}',
        '{"tools": {"a": {"weight": 1}}}',
        '{"tools": {"a": {"weight": 0, "arguments": [{}]}}}',
        '{"tools": {"a": {"weight": 1, "arguments": []}}}',
    ],
)
def test_a_malformed_table_of_tools_is_refused(
    content: str, binary: K6Binary, tmp_path: Path
) -> None:
    table = tmp_path / "tools.json"
    table.write_text(content, encoding="utf-8")
    bearer = tmp_path / "bearer.json"
    bearer.write_text('{"version": 2, "bearers": [{"access_token": "none"}]}', encoding="utf-8")
    variables = {**GOOD, "MCP_BEARER_FILE": str(bearer), "TOOLS_FILE": str(table)}
    done = run_k6(
        binary, "inspect", "--include-system-env-vars", str(SCRIPTS / "tools.js"), **variables
    )
    assert done.returncode != 0
    assert "Error: TOOLS_FILE must be " in done.stderr


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"version": 2, "bearers": [{"access_token": "hid',
        '{"version": 1, "bearers": [{"access_token": "hidden"}]}',
        '{"version": 2, "bearers": [{"access_token": "hid\\nden"}]}',
        '{"version": 2, "bearers": [{"access_token": "hidden"}, null]}',
        '{"version": 2, "bearers": []}',
    ],
)
def test_a_malformed_bearer_file_is_refused_and_not_quoted(
    content: str, binary: K6Binary, tmp_path: Path
) -> None:
    bearer = tmp_path / "bearer.json"
    bearer.write_text(content, encoding="utf-8")
    variables = {**GOOD, "MCP_BEARER_FILE": str(bearer)}
    done = run_k6(
        binary, "inspect", "--include-system-env-vars", str(SCRIPTS / "tools.js"), **variables
    )
    assert done.returncode != 0
    assert "Error: MCP_BEARER_FILE must be " in done.stderr
    assert "hid" not in done.stdout + done.stderr
