"""Whatever files, variables, options and tables hold: a task ends in one line, by its own code."""

import json
import os
import shutil
import subprocess
import sys
import time
import zlib
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tasks
from loadtest.compare.comparison import compare_run
from loadtest.config.knobs import KNOBS, name_variable
from loadtest.config.loading import load_settings
from loadtest.config.project import CONFIG_FILE
from loadtest.errors import LoadtestError
from loadtest.k6.summary import build_rows, find_crossed, parse_summary
from loadtest.mint.browser.launcher import read_choice
from loadtest.provision.records import DataRecord, read_repositories
from loadtest.publish.tracking_issue.artifact import _unpack
from loadtest.publish.tracking_issue.payload import decode_entry, encode_entry
from loadtest.report.comment import render_comment
from loadtest.report.history_tables import render_csv, render_history
from loadtest.results.run_folder import RunFolder
from loadtest.state.bearers import parse_claims
from tests.compare.plain_runs import entry, put
from tests.support.checkout import ROOT
from tests.support.odd_inputs import (
    NOT_TEXT,
    damaged_documents,
    damaged_tables,
    odd_texts,
    put_in_the_way,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# Nobody answers there: a task that would go on ends at once.
HOSTED = {
    "LOADTEST_BASE_URL": "http://127.0.0.1:9",
    "LOADTEST_EMAIL": "a@example.com",
    "LOADTEST_PASSWORD": "a canary",
}
STAGING = ("--env", "staging")
PROD = ("--env", "prod")
K6 = "#!/bin/sh\necho 'k6 v1.1.0 (go1.24, linux/amd64)'\n"


def tries(count: int) -> settings:
    """Return how often a property is tried, always with the same inputs."""
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@contextmanager
def refuse_in_one_line(word: str) -> Iterator[None]:
    """Accept only our own error, of one line, with this word."""
    try:
        yield
    except LoadtestError as failure:
        if word not in str(failure) or "\n" in str(failure):
            raise AssertionError(str(failure)) from failure


class Place:
    """A checkout with state and runs, and a process that runs tasks in it."""

    def __init__(self, root: Path, process: "subprocess.Popen[str]", log: Path) -> None:
        self.root = root
        self.state = root / ".loadtest"
        self._process = process
        self._log = log

    def run(self, *arguments: str, **variables: str) -> tuple[int, str]:
        """Run a task; assert that it does not end with a bug, and prints the reason in one line."""
        before = self._log.stat().st_size
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        k6 = {"K6_BIN": str(self.root / "k6-stub"), "SSL_CERT_FILE": ""}
        asked = {"arguments": arguments, "variables": {**k6, **variables}}
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        code = json.loads(self._process.stdout.readline())["code"]
        said = self._log.read_bytes()[before:].decode(errors="backslashreplace")
        what = (arguments, variables, code, said[-3000:])
        assert code != 70, what
        assert "Traceback" not in said, what
        last = said.rstrip("\n").rpartition("\n")[2]
        assert code in {0, 1, 143} or last.startswith("loadtest: "), what
        return code, said

    def restore(self) -> None:
        """Restore the state as it was made."""
        shutil.rmtree(self.state, ignore_errors=True)
        shutil.copytree(self.root / "pristine", self.state)


def write_state(state: Path) -> None:
    """Write one good file of each kind."""
    later = time.time() + 10**8
    mcp_url = "http://127.0.0.1:9/mcp/w"
    bearer = {"access_token": "a.b.c", "expires_at": later, "mcp_url": mcp_url, "scope": "mcp:read"}
    bearer |= {"via": "browser", "workspace_id": "w", "client_id": "c"}
    client = {"slot": 0, "client": {"client_id": "c", "redirect_uris": ["http://127.0.0.1/x"]}}
    client |= {"issuer": "http://127.0.0.1:9", "refresh_token": "r", "mcp_url": mcp_url}
    client |= {"audience": "http://127.0.0.1:9/mcp", "scope": "mcp:read"}
    client |= {"metadata": {"revocation_endpoint": "http://127.0.0.1:9/revoke"}}
    client |= {"management_url": "http://127.0.0.1:9/c", "management_token": "m"}
    session = {"id": "s", "client": 0, "protocol": "2025-11-25", "mcp_url": mcp_url}
    place = {"api_url": "http://127.0.0.1:9", "repository": "o/r"}
    who = {"base_url": HOSTED["LOADTEST_BASE_URL"], "email": "a@example.com", "workspace_id": "w"}
    browser = {"source": "system", "playwright_version": version("playwright")}
    files: dict[str, tuple[int, Mapping[str, object]]] = {
        "staging/bearer.json": (2, {"bearers": [bearer]}),
        "staging/clients.json": (1, {"clients": [client]}),
        "staging/provision.json": (1, {"for": who, "verified_at": time.time()}),
        "staging/data.json": (1, {"workspace_id": "w", "state": "attaching", "since": 1.0}),
        "staging/owned.json": (1, {"user": "a@example.com"}),
        "staging/handed.json": (1, {"repositories": [place]}),
        "staging/quota.json": (1, {"raised": {"c": 3600}}),
        "staging/sessions.json": (1, {"sessions": [session]}),
        "browser.json": (1, browser | {"browser_version": "x", "executable": sys.executable}),
    }
    for name, (number, body) in files.items():
        path = state / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"version": number, **body}))
        path.chmod(0o600)
    lines = "LOADTEST_EMAIL=a@example.com\nLOADTEST_PASSWORD=a canary\nLOADTEST_WORKSPACE_ID=w\n"
    (state / "staging" / "credentials.env").write_text(lines)
    (state / "staging" / "credentials.env").chmod(0o600)
    for number in range(3):
        run = put(state / "runs", entry(number))
        body = {"version": 1, "confirmed": [], "accepted": False}
        (run / "judgement.json").write_text(json.dumps(body))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Make the checkout once; each try restores its state."""
    root = tmp_path_factory.mktemp("a checkout")
    for name in ("loadtest", "k6", "tasks.py", "docs"):
        (root / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / CONFIG_FILE, root)
    (root / "k6-stub").write_text(K6)
    (root / "k6-stub").chmod(0o755)
    write_state(root / "pristine")
    log = root / "said.log"
    with log.open("w") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.canary.driver", str(root / "tracebacks.log")],
            cwd=root,
            env={"PATH": os.environ["PATH"], "HOME": str(root), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            text=True,
        )
        with process:
            yield Place(root, process, log)
            process.kill()


# Which task reads which file.
READERS: dict[str, list[tuple[str, ...]]] = {
    "staging/bearer.json": [("mint", *STAGING), ("mint", "--print-claims", *STAGING)],
    "staging/clients.json": [("revoke", *STAGING), ("provision", "--teardown", *STAGING)],
    "staging/provision.json": [("provision", *STAGING)],
    "staging/quota.json": [("doctor", *STAGING)],
    "staging/sessions.json": [("doctor", *STAGING), ("doctor", "--close", *STAGING)],
    "runs/run-002/run.json": [
        *(("report", *PROD), ("report", "--dry-run", *PROD), ("history", *PROD)),
        *(("compare", "previous", "last", *PROD), ("history", "--html", *PROD)),
        *(("history", "--csv", *PROD), ("history", "--check", *PROD), ("report", "--json", *PROD)),
        *(("docs-update", *PROD), ("history", "--accept", "last", *PROD)),
    ],
}
READERS["runs/run-002/sessions/rows.json"] = READERS["runs/run-002/run.json"]
READERS["runs/run-002/judgement.json"] = READERS["runs/run-002/run.json"]


@pytest.mark.parametrize("name", READERS)
@tries(100)
@given(data=st.data())
def test_a_damaged_state_file_ends_a_task_in_one_line(
    place: Place, name: str, data: st.DataObject
) -> None:
    place.restore()
    path = place.state / name
    path.write_bytes(data.draw(damaged_documents(path.read_text())))
    place.run(*data.draw(st.sampled_from(READERS[name])), **HOSTED)


@pytest.mark.parametrize("kind", ["folder", "loop", "nowhere"])
def test_something_else_in_the_place_of_a_file_ends_a_task_in_one_line(
    place: Place, kind: str
) -> None:
    ways = READERS | {
        "staging/credentials.env": [("provision", *STAGING)],
        "staging/run.lock": [("k6", *STAGING), ("doctor", "--close", *STAGING)],
        "staging/mint.lock": [("mint", *STAGING), ("revoke", *STAGING)],
        "staging/provision.lock": [("provision", "--verify", *STAGING)],
        "staging/holder.json": [("k6", *STAGING)],
        "staging/k6.log": [("doctor", *STAGING), ("doctor", "--close", *STAGING)],
        "staging/history.html": [("history", "--html", *STAGING)],
        "prod/history.html": [("history", "--html", *PROD)],
        "runs/run-002/report.md": [("report", *PROD)],
        "local/target/target.log": [("target",)],
        "local/target/lock": [("target",)],
        "local": [("provision",), ("target",), ("revoke",), ("provision", "--teardown")],
        "staging": [("mint", *STAGING)],
        "runs": [("report", *PROD), ("history", *PROD), ("docs-update", *PROD)],
    }
    for name, readers in ways.items():
        for arguments in readers:
            place.restore()
            shutil.rmtree(place.state / name, ignore_errors=True)
            put_in_the_way(place.state / name, kind)
            if name != "local" or kind != "folder":
                place.run(*arguments, **HOSTED)


TASKS: Sequence[tuple[str, ...]] = (
    *(("report", *PROD), ("history", *PROD), ("compare", "previous", "last", *PROD)),
    *(("docs-update", "--check", *PROD), ("provision", *STAGING), ("mint", *STAGING)),
    *(("mint", "--via", "given", *STAGING), ("k6", *STAGING), ("k6", "--render", *STAGING)),
    *(("revoke", *STAGING), ("doctor", *STAGING), ("loadtest", *STAGING)),
    *(("history", "--check", *PROD), ("mint", "--via", "client-credentials", *STAGING)),
)
VARIABLES = (
    *("LOADTEST_ENV", "LOADTEST_PROFILE", "LOADTEST_BASE_URL", "LOADTEST_EMAIL"),
    *("LOADTEST_PASSWORD", "LOADTEST_WORKSPACE_ID", "LOADTEST_SIGN_IN_ORIGINS"),
    *("LOADTEST_TOTP_SECRET", "LOADTEST_CLIENT_ID", "LOADTEST_CLIENT_SECRET", "LOADTEST_ISSUER"),
    *("LOADTEST_CLIENT_KEY_FILE", "LOADTEST_BEARER", "LOADTEST_PASSWORD_NEXT"),
    *("LOADTEST_TRACKING_ISSUE", "LOADTEST_WEBHOOK_URL", "GITHUB_REPOSITORY", "GITHUB_ACTIONS"),
    *("GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_SERVER_URL", "GITHUB_OUTPUT"),
    *("GITHUB_STEP_SUMMARY", "K6_BIN", "COLUMNS", "NO_COLOR", "SSL_CERT_FILE"),
    *map(name_variable, KNOBS),
)


@tries(450)
@given(data=st.data())
def test_an_odd_variable_ends_a_task_in_one_line(place: Place, data: st.DataObject) -> None:
    place.restore()
    chosen = data.draw(st.sets(st.sampled_from(VARIABLES), min_size=1, max_size=3))
    odd = {name: data.draw(odd_texts) for name in sorted(chosen)}
    given = HOSTED if data.draw(st.booleans()) else {}
    place.run(*data.draw(st.sampled_from(TASKS)), **{**given, **odd})


@tries(350)
@given(data=st.data())
def test_an_odd_option_ends_a_task_in_one_line(place: Place, data: st.DataObject) -> None:
    place.restore()
    first = data.draw(st.sampled_from([task for task in TASKS if list_options(task[0])]))
    takes = list_options(first[0])
    chosen = data.draw(st.lists(st.sampled_from(takes), min_size=1, max_size=3, unique=True))
    arguments = [*first]
    for flag, takes_value in chosen:
        arguments.append(f"{flag}={data.draw(odd_texts)}" if takes_value else flag)
    place.run(*arguments)


def list_options(task: str) -> list[tuple[str, bool]]:
    """Return the flags of a task, each with whether it takes a value; but for the environment.

    By the signature: Invoke forgets the help of an argument that it was asked for.
    """
    parameters = list(signature(tasks.namespace[task].body).parameters.values())[1:]
    return [
        (f"--{each.name.strip('_').replace('_', '-')}", not isinstance(each.default, bool))
        for each in parameters
        if each.name not in {"env", "before", "after"}
    ]


@tries(300)
@given(data=st.data())
def test_odd_settings_end_a_task_in_one_line(place: Place, data: st.DataObject) -> None:
    place.restore()
    path = place.root / CONFIG_FILE
    good = path.read_text(encoding="utf-8")
    try:
        path.write_text(data.draw(damaged_tables(good)), encoding="utf-8")
        place.run(*data.draw(st.sampled_from(TASKS)), **HOSTED)
    finally:
        path.write_text(good, encoding="utf-8")


@tries(150)
@given(data=st.data())
def test_an_odd_table_of_tools_ends_a_task_in_one_line(place: Place, data: st.DataObject) -> None:
    pool = {"weight": 1, "arguments": [{"at": "x", "deep": {"n": [1, 2.5, None]}}], "about": "x"}
    drawn = {"weight": 1, "arguments": [{"at": {"$pool": "rows.a"}, "n": {"$pool": "text"}}]}
    pools = {
        "id": {"range": [1, 9], "step": 2},
        "rows": {"list": [{"a": 1}, {"a": "x"}]},
        "words": {"file": "words.txt"},
        "text": {"template": "${id} ${rows.a}"},
    }
    good = json.dumps({"tools": {"look": pool, "find": drawn}, "pools": pools})
    path = place.root / "tools.json"
    path.with_name("words.txt").write_text("a\nb\n", encoding="utf-8")
    path.write_bytes(data.draw(damaged_documents(good)))
    place.run("k6", *STAGING, LOADTEST_TOOLS=str(path))
    place.run("k6", "--render", *STAGING, LOADTEST_TOOLS=str(path))


@pytest.mark.parametrize("flags", ["'", '"', "\\", "--nope", "--port x", "--error-share nan", "\0"])
def test_odd_options_of_the_target_end_it_in_one_line(place: Place, flags: str) -> None:
    code, _ = place.run("target", "--flags", flags)
    assert code in {2, 11}


@tries(150)
@given(data=st.data())
def test_an_odd_record_is_an_error_of_its_stage(place: Place, data: st.DataObject) -> None:
    place.restore()
    name = data.draw(st.sampled_from(["staging/data.json", "staging/handed.json", "browser.json"]))
    path = place.state / name
    path.write_bytes(data.draw(damaged_documents(path.read_text())))
    loaded = load_settings(place.root, "staging", process_env=HOSTED)
    with refuse_in_one_line(path.name):
        if name == "browser.json":
            read_choice(path)
        elif name == "staging/handed.json":
            read_repositories(loaded)
        else:
            DataRecord(path, "w").unsettled_seconds()


@tries(150)
@given(data=st.data())
def test_a_damaged_summary_of_k6_is_an_error_that_names_it(
    place: Place, data: st.DataObject
) -> None:
    own = {"version": 1, "scenario": "sessions", "tools": ["look"], "clients": 1, "began": 1.0}
    server = {"name": "n", "version": "1", "protocol": "2025-11-25", "era": "handshake"}
    piece = {"name": "10", "vus": 10, "seconds": 5, "rate": 10, "begins": 1}
    own |= {"slices": [piece], "server": server, "elapsed_ms": 10_000.0}
    duration: dict[str, object] = {
        "count": 5,
        "p(50)": 1.0,
        "p(90)": 2.0,
        "p(95)": 2.0,
        "p(99)": 3.0,
        "max": 4.0,
    }
    duration |= {"thresholds": {"p(95)<1": True}}
    metrics = {"mcp_duration{stage:10}": duration, "mcp_response{stage:10}": duration}
    metrics |= {"mcp_failures{stage:10,reason:timeout}": {"count": 1}}
    path = place.root / "summary.json"
    good = json.dumps({"loadtest": own, "metrics": metrics})
    path.write_bytes(data.draw(damaged_documents(good)))
    with refuse_in_one_line("summary.json"):
        summary = parse_summary(path, "sessions")
        build_rows(summary)
        find_crossed(summary)


@tries(150)
@given(data=st.data())
def test_a_damaged_payload_of_a_comment_is_skipped_or_compared(data: st.DataObject) -> None:
    run = entry(1)
    body = {"run": asdict(run.run), "rows": [asdict(row) for row in run.rows]}
    good = json.dumps(body | {"confirmed": [["tools", "tool", "all", "p50"]], "accepted": False})
    packed = zlib.compress(data.draw(damaged_documents(good)))
    head, _, _ = encode_entry(run).partition("sha256=")
    mark = f"sha256={sha256(packed).hexdigest()[:16]}\n{b64encode(packed).decode()}\n-->"
    found = None
    with refuse_in_one_line("damaged"):
        found = decode_entry(head + mark)
    if found is None:
        return
    comparison = compare_run(found, (entry(0),))
    folder = RunFolder(Path("x/.loadtest/runs/r"), found.run, found.rows)
    render_comment(folder, comparison, (entry(0),), most_chars=60_000)
    render_csv((entry(0), found))
    render_history((entry(0), found))


@tries(100)
@given(names=st.lists(odd_texts.map(lambda text: text[:300]), min_size=1, max_size=3))
def test_an_archive_with_odd_names_is_refused_or_unpacked_completely(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("archive")
    with ZipFile(folder / "a.zip", "w") as archive:
        for name in dict.fromkeys(name.replace(NOT_TEXT, "x") for name in names):
            member = ZipInfo("x")
            member.filename = name
            archive.writestr(member, "x")
    with refuse_in_one_line("artifact x"):
        _unpack(folder / "a.zip", folder / "unpacked", "artifact x")
    assert {path.name for path in folder.iterdir()} <= {"a.zip", "unpacked"}


@tries(100)
@given(token=odd_texts | st.binary(max_size=40).map(lambda raw: f"a.{b64encode(raw).decode()}.c"))
def test_a_token_of_any_kind_has_claims_or_none(token: str) -> None:
    claims = parse_claims(token)
    assert claims is None or isinstance(claims, dict)
