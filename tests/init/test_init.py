"""`init` against real servers: what it finds out, drafts, leaves alone, and whether that runs."""

import os
import pty
import re
import select
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from loadtest.common.console import Console
from loadtest.config.loading import load_settings
from loadtest.config.settings import Settings
from loadtest.context import Chain
from loadtest.doctor.checks import examine
from loadtest.errors import CertificateError, ConfigError, LoadtestError, TargetError, UsageError
from loadtest.init.stage import InitOptions, init
from loadtest.k6.stage import k6
from loadtest.reference.server import ReferenceTarget
from tests.k6.any_server import AnyServer, AnyTool
from tests.k6.running import SHORT, name_knobs
from tests.support.certificates import build_server_tls
from tests.support.checkout import ROOT
from tests.support.hostile_server import (
    PROTOCOL,
    HostileServer,
    Request,
    answer_to,
    endless_body,
    gzip_bomb,
    many_tools,
    send_json,
    speak_mcp,
    trickling_body,
)
from tests.support.waiting import HANG_SECONDS

pytestmark = pytest.mark.slow
Serve = Callable[..., ReferenceTarget]
Init = Callable[..., str]

KEY = "canary-key-0123456789"
WORD = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
TOOLS = {
    "search": AnyTool(WORD, description="Search.", read_only=True),
    "send": AnyTool({"type": "object"}),
}
FILES = [".env.any", ".github/workflows/load-test.yml", ".gitignore", "loadtest.toml"]
TINY = ("--iterations", "2", "--stages", "1", "--stage-seconds", "1", "--vus", "1")


@pytest.fixture
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Give the context of the stages; its console writes to a file."""
    with ExitStack() as resources:
        said = resources.enter_context((tmp_path_factory.mktemp("said") / "said").open("w+"))
        yield Chain(Console(file=said, width=300), resources)


@pytest.fixture
def draft(chain: Chain, tmp_path: Path) -> Init:
    """Run `init` in a folder, by default an empty one; return what it printed."""

    def run(url: str, *, root: Path = tmp_path, yes: bool = True, **options: Any) -> str:
        file: Any = chain.console.file
        begin = file.seek(0, os.SEEK_END)
        init(chain, root, url, InitOptions(yes=yes, **options))
        file.seek(begin)
        return str(file.read())

    return run


def list_files(root: Path) -> list[str]:
    """Return the files below a folder, without our own state."""
    files = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(str(path) for path in files if path.parts[0] not in {".loadtest", ".git"})


def read_environment(root: Path, name: str) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((root / "loadtest.toml").read_text())["environment"]
    return dict(table[name])


def list_missing(settings: Settings) -> list[str]:
    """Return what the doctor finds missing."""
    checks = examine(settings, settings.base_url)
    return [check.what for check in checks if check.state == "missing"]


def type_command(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command as a new user does, in a folder of the user's."""
    return subprocess.run(
        [sys.executable, "-m", "loadtest", *arguments],
        cwd=root,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_SECONDS,
    )


def test_two_commands_lead_from_an_empty_folder_to_figures(tmp_path: Path) -> None:
    with AnyServer(TOOLS) as server:
        drafted = type_command(tmp_path, "init", server.mcp_url, "--yes")
        assert drafted.returncode == 0, drafted.stderr
        assert list_files(tmp_path) == FILES
        said = "next: mcp-loadtest doctor --env any, then mcp-loadtest loadtest --env any"
        assert said in drafted.stdout
        assert [name for name, _ in server.called] == ["search"]
        checked = type_command(tmp_path, "doctor", "--env", "any")
        assert checked.returncode == 0, checked.stdout
        measured = type_command(tmp_path, "loadtest", "--duration", "1", *TINY)
        assert measured.returncode == 0, measured.stderr
        assert "Tool-call mix" in measured.stdout
        assert {name for name, _ in server.called} == {"search"}


def test_without_agreement_nothing_is_written_and_the_flag_is_named(tmp_path: Path) -> None:
    with AnyServer(TOOLS) as server:
        shown = type_command(tmp_path, "init", server.mcp_url)
    assert shown.returncode == 0
    assert list(tmp_path.iterdir()) == []
    assert "  + [environment.any.tools.search]" in shown.stdout
    assert "nothing was written: --yes writes it" in shown.stdout


def test_a_second_time_nothing_is_missing(draft: Init, tmp_path: Path) -> None:
    with AnyServer(TOOLS) as server:
        with pytest.raises(ConfigError, match=r"missing: .*loadtest\.toml \(environment any, its "):
            draft(server.mcp_url, yes=False, check=True)
        assert list_files(tmp_path) == []
        draft(server.mcp_url)
        before = {name: (tmp_path / name).read_bytes() for name in list_files(tmp_path)}
        assert "nothing is missing" in draft(server.mcp_url)
        assert "nothing is missing" in draft(server.mcp_url, yes=False, check=True)
    assert before == {name: (tmp_path / name).read_bytes() for name in list_files(tmp_path)}


def test_what_a_killed_init_did_not_write_is_written_the_next_time(
    draft: Init, tmp_path: Path
) -> None:
    with AnyServer(TOOLS) as server:
        draft(server.mcp_url)
        for name in ("loadtest.toml", ".github/workflows/load-test.yml"):
            (tmp_path / name).unlink()
        draft(server.mcp_url)
    assert list_files(tmp_path) == FILES


def test_tools_that_nobody_declares_read_only_are_called_once_they_are_named(
    draft: Init, tmp_path: Path
) -> None:
    with AnyServer({"send": TOOLS["send"], "drop": TOOLS["send"]}) as server:
        said = draft(server.mcp_url)
        assert server.called == []
        assert f"init {server.mcp_url} --call-tools send,drop`" in said
        assert "tools" not in read_environment(tmp_path, "any")
        draft(server.mcp_url)
        assert (tmp_path / "loadtest.toml").read_text().count("# send: ") == 1
        with pytest.raises(ConfigError, match="no tool sned, only send, drop"):
            draft(server.mcp_url, call_tools=("sned",))
        draft(server.mcp_url, call_tools=("send",))
        assert server.called == [("send", {})]
        said = draft(server.mcp_url, call_tools=("drop",))
        assert "--call-tools adds nothing: the environment has its tools already" in said
    assert list(read_environment(tmp_path, "any")["tools"]) == ["send"]


@pytest.mark.usefixtures("browser_choice")
def test_an_oauth_server_is_drafted_in_two_steps_and_then_runs(
    serve: Serve,
    provisioned: Callable[[ReferenceTarget], Settings],
    draft: Init,
    chain: Chain,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("own")
    target = serve(tool_quota=False)
    who = provisioned(target).credentials
    assert who.password is not None
    url = f"{target.api_url}/mcp/{who.workspace_id}"
    said = draft(url, root=root, env="prod")
    assert "OAuth at" in said
    assert "fill in LOADTEST_EMAIL, LOADTEST_PASSWORD in .env.prod" in said
    variables = (root / ".env.prod").read_text()
    assert variables.endswith("\nLOADTEST_EMAIL=\nLOADTEST_PASSWORD=\n")
    assert read_environment(root, "prod")["auth"] == "bearer"
    secret = who.password.get_secret_value()
    filled = variables.replace("EMAIL=", f"EMAIL={who.email}").replace("WORD=", f"WORD={secret}")
    (root / ".env.prod").write_text(filled)
    draft(url, root=root)
    assert (root / ".env.prod").read_text() == filled
    assert "listEntities" in read_environment(root, "prod")["tools"]
    for name in list_files(root):
        if name != ".env.prod":
            assert secret not in (root / name).read_text()
    settings = load_settings(root, "prod", process_env=name_knobs({**os.environ, **SHORT}))
    assert list_missing(settings) == []
    k6(chain, settings, "cold-start,tools")
    assert chain.ending.exit_code in {0, 99}  # a busy machine may cross a threshold
    assert chain.sign_ins == 1


@pytest.mark.parametrize(("header", "scheme"), [("Authorization", "Bearer "), ("X-Api-Key", "")])
def test_the_header_of_a_key_is_found_out(
    draft: Init,
    chain: Chain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    header: str,
    scheme: str,
) -> None:
    with AnyServer(TOOLS, key=(header, f"{scheme}{KEY}")) as server:
        said = draft(server.mcp_url)
        assert "fill in LOADTEST_API_KEY in .env.server" in said
        (tmp_path / "loadtest.toml").unlink()
        monkeypatch.setenv("LOADTEST_API_KEY", KEY)
        draft(server.mcp_url)
        settings = load_settings(
            tmp_path, "server", process_env=name_knobs({**os.environ, **SHORT})
        )
        k6(chain, settings, "cold-start")
    assert chain.ending.exit_code == 0
    found = read_environment(tmp_path, "server")
    assert found["auth"] == "header"
    assert found["headers"] == {header: f"{scheme}$LOADTEST_API_KEY"}
    assert list(found["tools"]) == ["search"]
    assert KEY not in (tmp_path / ".env.server").read_text()


def test_a_key_that_is_refused_is_named_and_the_rest_is_drafted(
    draft: Init, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOADTEST_API_KEY", "canary-key-of-somebody-else")
    with AnyServer(TOOLS, key=("X-Api-Key", KEY)) as server:
        said = draft(server.mcp_url)
    assert "the tools are not drafted: " in said
    assert "refuses the key in the headers Authorization: HTTP 401" in said
    assert read_environment(tmp_path, "server")["auth"] == "header"


def test_the_header_of_a_key_can_be_named(draft: Init, tmp_path: Path) -> None:
    with AnyServer(TOOLS, key=("X-Own", KEY)) as server:
        with pytest.raises(ConfigError, match="X-Own-Key looks like a secret"):
            draft(server.mcp_url, header="X-Own-Key: canary")
        draft(server.mcp_url, header="X-Own: Key $OWN_KEY")
    assert read_environment(tmp_path, "server")["headers"] == {"X-Own": "Key $OWN_KEY"}
    assert "\nOWN_KEY=\n" in (tmp_path / ".env.server").read_text()


def test_a_bearer_that_was_given_needs_no_user(
    draft: Init, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOADTEST_BEARER", KEY)
    with AnyServer(TOOLS, key=("Authorization", f"Bearer {KEY}")) as server:
        draft(server.mcp_url)
    assert read_environment(tmp_path, "server")["via"] == "given"
    assert "\nLOADTEST_BEARER=\n" in (tmp_path / ".env.server").read_text()


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_configuration_that_is_there_only_grows(draft: Init, tmp_path: Path, end: str) -> None:
    before = f"# mine{end or chr(10)}version = 1{end}"
    path = tmp_path / "loadtest.toml"
    path.write_bytes(before.encode())
    with AnyServer(TOOLS) as server:
        draft(server.mcp_url)
    after = path.read_bytes().decode()
    assert after.startswith(before)
    assert ("\r\n" in after) == (end == "\r\n")
    assert "default_environment" not in after
    assert load_settings(tmp_path, "any", process_env={}).list_calls(("tools",)) == ("search",)


def test_a_pyproject_that_configures_us_gets_the_environment(draft: Init, tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text('[project]\nname = "mine"\n\n[tool.mcp-loadtest]\ndocs_pages = []\n')
    with AnyServer(TOOLS) as server:
        draft(server.mcp_url)
    assert not (tmp_path / "loadtest.toml").exists()
    assert load_settings(tmp_path, "any", process_env={}).list_calls(("tools",)) == ("search",)


def test_a_table_that_cannot_grow_is_left_and_the_lines_are_printed(
    draft: Init, chain: Chain, tmp_path: Path
) -> None:
    path = tmp_path / "loadtest.toml"
    path.write_text("environment = {}\n")
    with AnyServer(TOOLS) as server, pytest.raises(ConfigError, match="add them yourself"):
        draft(server.mcp_url)
    assert path.read_text() == "environment = {}\n"
    file: Any = chain.console.file
    file.seek(0)
    assert "[environment.any]" in file.read()
    assert list_files(tmp_path) == ["loadtest.toml"]


def test_an_environment_of_the_same_name_is_left(draft: Init, tmp_path: Path) -> None:
    with AnyServer(TOOLS) as first, AnyServer(TOOLS) as second:
        draft(first.mcp_url)
        before = (tmp_path / "loadtest.toml").read_text()
        with pytest.raises(ConfigError, match="any is for another address: choose another name"):
            draft(second.mcp_url, env="any")
        assert (tmp_path / "loadtest.toml").read_text() == before
        said = draft(second.mcp_url)
        assert "load-test.yml is left as it is: add a job for environment any-2" in said
    assert (tmp_path / "loadtest.toml").read_text().startswith(before)
    assert read_environment(tmp_path, "any-2")["auth"] == "none"


def test_another_workflow_of_the_same_name_is_left(draft: Init, tmp_path: Path) -> None:
    path = tmp_path / ".github" / "workflows" / "load-test.yml"
    path.parent.mkdir(parents=True)
    path.write_text("on: push\n")
    with AnyServer(TOOLS) as server:
        said = draft(server.mcp_url)
    assert "load-test.yml is there already, but runs no load test: rename it" in said
    assert path.read_text() == "on: push\n"
    assert list_files(tmp_path) == FILES


def test_a_list_of_tools_without_an_end_is_one_error(draft: Init, tmp_path: Path) -> None:
    with HostileServer(speak_mcp(many_tools(2001))) as server, pytest.raises(TargetError):
        draft(f"{server.url}/mcp")
    assert list_files(tmp_path) == []


def test_in_a_folder_of_a_repository_everything_goes_to_its_top(
    draft: Init, tmp_path: Path
) -> None:
    (tmp_path / ".git").mkdir()
    folder = tmp_path / "apps" / "api"
    folder.mkdir(parents=True)
    with AnyServer(TOOLS) as server:
        draft(server.mcp_url, root=folder)
        assert list_files(tmp_path) == FILES
        (folder / "loadtest.toml").write_text("")
        draft(server.mcp_url, root=folder)
    assert list_files(folder) == [".env.any", "loadtest.toml"]


def test_a_person_is_asked_for_a_name_the_tools_and_the_agreement(tmp_path: Path) -> None:
    with AnyServer({"send": TOOLS["send"]}) as server:
        code, shown = type_answers(
            tmp_path,
            server.mcp_url,
            ("Name of the environment [any]: ", "mine"),
            ("Which of them may a load test call, as in a,b? [none]: ", "send"),
            ("Write this? [y/N]: ", "y"),
        )
    assert code == 0, shown
    assert list(read_environment(tmp_path, "mine")["tools"]) == ["send"]


def test_a_person_who_does_not_agree_gets_nothing(tmp_path: Path) -> None:
    with AnyServer(TOOLS) as server:
        questions = (("Name of the environment [any]: ", ""), ("Write this? [y/N]: ", ""))
        code, _ = type_answers(tmp_path, server.mcp_url, *questions)
    assert code == 0
    assert list_files(tmp_path) == []


def type_answers(root: Path, url: str, *questions: tuple[str, str]) -> tuple[int, str]:
    """Run `init` on a terminal, and answer its questions; return exit code and output."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtest", "init", url],
        cwd=root,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown, waiting = "", list(questions)
    try:
        while True:
            assert select.select([ours], [], [], HANG_SECONDS)[0], f"nothing answers: {shown}"
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            shown += piece.decode()
            if waiting and waiting[0][0] in shown:
                os.write(ours, f"{waiting.pop(0)[1]}\n".encode())
        return process.wait(HANG_SECONDS), shown
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def greet_as(name: str) -> Callable[[Request], Iterator[bytes]]:
    """Answer as an open MCP server with this name and no tool."""
    usual = speak_mcp(lambda request: iter((send_json(answer_to(request.message, {"tools": []})),)))

    def answer(request: Request) -> Iterator[bytes]:
        if request.message.get("method") != "initialize":
            yield from usual(request)
            return
        result = {"protocolVersion": PROTOCOL, "capabilities": {"tools": {}}}
        named = result | {"serverInfo": {"name": name, "version": "1"}}
        yield send_json(answer_to(request.message, named))

    return answer


@pytest.mark.parametrize(
    "name",
    [
        'x"\n[environment.evil]\n',
        "\x1b[2J\x1b]0;evil\x07",
        "[bold]x[/bold]",
        "a: &a [*a]\n- b",
        "../../etc/passwd",
        "x" * 10 * 2**20,
        "\u202e\u200bevil",
        "",
    ],
    ids=["toml", "terminal", "markup", "yaml", "path", "large", "bidi", "empty"],
)
def test_a_hostile_name_is_only_a_name(draft: Init, tmp_path: Path, name: str) -> None:
    with HostileServer(greet_as(name)) as server:
        said = draft(f"{server.url}/mcp")
    assert "the server lists no tool" in said or "it sends more than 4 MiB" in said
    assert len(said) < 10_000
    assert all(char.isprintable() or char == "\n" for char in said)
    (found,) = tomllib.loads((tmp_path / "loadtest.toml").read_text())["environment"]
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", found)
    assert list_files(tmp_path) == [f".env.{found}", *FILES[1:]]
    load_settings(tmp_path, process_env={})


@pytest.mark.parametrize("answer", [endless_body, gzip_bomb(64), trickling_body])
def test_a_server_without_an_end_is_one_error(
    draft: Init, tmp_path: Path, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.target.mcp_client.CALL_SECONDS", 2.0)
    with HostileServer(answer) as server, pytest.raises(LoadtestError) as caught:
        draft(f"{server.url}/mcp")
    assert "\n" not in str(caught.value)
    assert list_files(tmp_path) == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mcp.example.com", "not an http(s) address"),
        ("https://a b/mcp", "no valid host"),
        ("https://me@example.com/mcp", "contains a user name"),
        ("https://mcp.example.com/mcp?key=1", "has a query or a fragment: remove it"),
        ("http://mcp.example.com/mcp", "must be https"),
    ],
)
def test_an_address_that_is_none_is_one_error(draft: Init, url: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        draft(url)
    assert words in str(caught.value)


def test_a_server_that_is_down_or_no_mcp_endpoint_is_one_error(draft: Init, serve: Serve) -> None:
    with pytest.raises(TargetError, match=r"does not answer .* that the server is up"):
        draft("http://127.0.0.1:9/mcp")
    with pytest.raises(TargetError, match="check the address, whose path is often /mcp"):
        draft(f"{serve().api_url}/nothing")


def test_a_certificate_that_nobody_trusts_is_one_error(draft: Init, tmp_path: Path) -> None:
    with (
        HostileServer(greet_as("x"), build_server_tls(tmp_path, "127.0.0.1")) as server,
        pytest.raises(
            CertificateError, match=r"the certificate of https://127\.0\.0\.1.* is refused"
        ),
    ):
        draft(f"https://127.0.0.1:{server.port}/mcp")


def test_a_name_that_is_none_is_refused(draft: Init) -> None:
    with AnyServer(TOOLS) as server, pytest.raises(UsageError, match=r"--env: .* has only letters"):
        draft(server.mcp_url, env="../x")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".github").write_text("in the way")
    with AnyServer(TOOLS) as server:
        refused = type_command(tmp_path, "init", server.mcp_url, "--yes")
    assert refused.returncode == 74
    assert len(refused.stderr.splitlines()) == 1
    assert "move away what is in its place" in refused.stderr
