"""The folder of a workflow's run, fetched from its artifact: whole and harmless, or not at all."""

import io
import stat
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZipFile, ZipInfo

import pytest
from ruamel.yaml import YAML

from loadtest.config.settings import Settings
from loadtest.errors import ConfigError, ReportError
from loadtest.github.client import OUTAGE_WAITS_SECONDS
from loadtest.publish.tracking_issue.artifact import (
    MOST_ARCHIVE_BYTES,
    MOST_FOLDER_BYTES,
    MOST_MEMBERS,
    fetch_run_artifact,
)
from loadtest.results.run import Repeat, ScenarioResult
from loadtest.results.run_folder import (
    create_run_folder,
    read_run_folder,
    write_repeat,
    write_rows,
    write_run,
)
from tests.publish.tracking_issue.full_run import full_run
from tests.support.github_server import TOKEN, Artifact, GithubServer

RUN_ID = "17654321098-2"
WHERE = f"artifact loadtest-{RUN_ID} of octo/loadtest"
ACTION = Path(__file__).parents[3] / "action.yml"

Fetch = Callable[..., Path]


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """Name where run folders lie, on a machine that has none yet."""
    return tmp_path / ".loadtest" / "runs"


@pytest.fixture
def fetch(
    github_settings: Callable[..., Settings], runs_dir: Path, pauses: list[float]
) -> Callable[..., Path]:
    """Fetch a run as a process of its own would."""

    def act(run_id: str = RUN_ID, **variables: str) -> Path:
        return fetch_run_artifact(github_settings(**variables), run_id, runs_dir, pauses.append)

    return act


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Make the folder of a run, as it is on the machine that made it."""
    entry = full_run(RUN_ID)
    folder = create_run_folder(tmp_path / "elsewhere", entry.run)
    for scenario in entry.run.scenarios:
        rows = tuple(row for row in entry.rows if row.scenario == scenario.name)
        folder = write_rows(folder, scenario.name, rows)
        (folder.scenario_dir(scenario.name) / "k6.log").write_bytes(b"\x00\xff\r\n" * 50_000)
    return folder.path


def pack(files: dict[str, bytes]) -> bytes:
    """Return an archive of these files."""
    packed = io.BytesIO()
    with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def word(number: int) -> bytes:
    """Return a number as an archive writes its sizes and checksums."""
    return struct.pack("<I", number)


def read_files(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder, by their path within."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def upload(github: GithubServer, content: bytes, **given: object) -> None:
    """Keep an archive as the workflow's run would, beside an artifact of an earlier attempt."""
    number = int(RUN_ID.partition("-")[0])
    github.artifacts = [
        Artifact(1, number, f"loadtest-{number}-1", b"no zip"),
        Artifact(2, number, f"loadtest-{RUN_ID}", content, **given),  # type: ignore[arg-type]
    ]


def fail(fetch: Fetch, runs_dir: Path, run_id: str = RUN_ID) -> str:
    """Return the line that fetching ends in; nothing may be left behind."""
    with pytest.raises(ReportError) as failure:
        fetch(run_id)
    message = str(failure.value)
    assert "\n" not in message
    assert TOKEN not in message
    assert list(runs_dir.parent.rglob("*")) in ([], [runs_dir])
    return message


def test_a_run_is_fetched_byte_for_byte(
    github: GithubServer, fetch: Fetch, runs_dir: Path, made: Path, pauses: list[float]
) -> None:
    upload(github, pack(read_files(made)))
    path = fetch()
    assert path == runs_dir / RUN_ID
    assert read_files(path) == read_files(made)
    assert read_run_folder(path).rows == read_run_folder(made).rows
    assert list(runs_dir.parent.iterdir()) == [runs_dir]
    assert github.list_calls() == [
        "GET /actions/runs/17654321098/artifacts",
        "GET /actions/artifacts/2/zip",
        f"GET {github.store_url}/artifacts/2",
    ]
    assert pauses == []


def test_a_fetched_run_has_what_was_measured_again(
    github: GithubServer, fetch: Fetch, made: Path
) -> None:
    folder = read_run_folder(made)
    name = folder.run.scenarios[0].name
    rows = tuple(row for row in folder.rows if row.scenario == name)
    write_repeat(folder, 1, name, rows)
    repeat = Repeat(1, {name: ()}, (ScenarioResult(name, "ok"),))
    write_run(replace(folder, run=replace(folder.run, repeats=(repeat,), repeats_note="a note")))
    upload(github, pack(read_files(made)))
    fetched = read_run_folder(fetch())
    assert fetched.repeats == (rows,)
    assert fetched.run.repeats_note == "a note"


def test_an_incomplete_run_is_never_among_the_runs(
    github: GithubServer, fetch: Fetch, runs_dir: Path, made: Path
) -> None:
    seen: list[list[Path]] = []
    github.before("GET 2", lambda: seen.append(list(runs_dir.iterdir())))
    upload(github, pack(read_files(made)))
    fetch()
    assert seen == [[]]


def test_the_store_never_sees_the_token(github: GithubServer, fetch: Fetch, made: Path) -> None:
    upload(github, pack(read_files(made)))
    fetch()
    *asked, stored = (str(dict(call.headers)) for call in github.calls)
    assert all(TOKEN in headers for headers in asked)
    assert TOKEN not in stored
    assert "authorization" not in stored


def test_the_artifact_is_the_one_that_the_action_uploads() -> None:
    (kept,) = (
        step["with"]
        for step in YAML().load(ACTION)["runs"]["steps"]
        if "upload-artifact" in step.get("uses", "")
    )
    run_id = "${{ github.run_id }}-${{ github.run_attempt }}"
    assert kept["name"] == f"loadtest-{run_id}"
    # Of a single folder the artifact has the contents at its root.
    assert kept["path"] == f".loadtest/runs/{run_id}"
    assert kept["retention-days"] == 30


@pytest.mark.parametrize("run_id", ["20260803T120000Z-1a2b3c4", "17654321098", "../x-1", "1-0", ""])
def test_a_run_of_another_machine_has_no_artifact(
    github: GithubServer, fetch: Fetch, runs_dir: Path, run_id: str
) -> None:
    assert fail(fetch, runs_dir, run_id) == (
        f"run {run_id!r} was not made by GitHub Actions (<GITHUB_RUN_ID>-<attempt>): its "
        "folder exists only where it was made"
    )
    assert not github.calls


def test_a_missing_token_and_repository_are_reported_together(fetch: Fetch) -> None:
    with pytest.raises(ConfigError) as failure:
        fetch(GITHUB_TOKEN="", GITHUB_REPOSITORY="")
    assert str(failure.value) == (
        f"artifact loadtest-{RUN_ID}: GITHUB_TOKEN is missing (permission 'Actions: read'); "
        "GITHUB_REPOSITORY is missing"
    )


def test_a_missing_run_and_a_missing_artifact_are_reported(
    github: GithubServer, fetch: Fetch, runs_dir: Path
) -> None:
    assert fail(fetch, runs_dir) == (
        f"{WHERE}: HTTP 404: there is no such workflow run, or GITHUB_TOKEN cannot see it: correct "
        "the run id or GITHUB_REPOSITORY, or give the token the permission 'Actions: read'"
    )
    upload(github, b"")
    github.artifacts.pop()
    assert fail(fetch, runs_dir) == (
        f"{WHERE}: https://github.com/octo/loadtest/actions/runs/17654321098 has no artifact: "
        "GitHub keeps it for 30 days"
    )


def test_an_expired_artifact_is_reported(
    github: GithubServer, fetch: Fetch, runs_dir: Path
) -> None:
    upload(github, b"", expired=True)
    assert fail(fetch, runs_dir) == f"{WHERE}: it has expired: GitHub keeps it for 30 days"
    upload(github, b"")
    github.refuse("GET zip", 410, message="Artifact has expired")
    told = f"{WHERE}: HTTP 410: it has expired: GitHub keeps it for 30 days"
    assert fail(fetch, runs_dir) == told


@pytest.mark.parametrize("what", ["GET artifacts", "GET zip"])
def test_a_token_without_permission_is_an_error_that_names_it(
    github: GithubServer, fetch: Fetch, runs_dir: Path, what: str
) -> None:
    upload(github, b"")
    github.refuse(what, 403)
    assert fail(fetch, runs_dir) == (
        f"{WHERE}: HTTP 403: GITHUB_TOKEN may not read it: it needs the permission 'Actions: read' "
        "(in a workflow `permissions: actions: read`)"
    )


@pytest.mark.parametrize("what", ["GET artifacts", "GET zip", "GET 2"])
def test_an_outage_is_waited_out(
    github: GithubServer, fetch: Fetch, made: Path, pauses: list[float], what: str
) -> None:
    upload(github, pack(read_files(made)))
    github.refuse(what, 503, times=1, message="Server Error")
    github.before(what, times=1)
    assert read_files(fetch()) == read_files(made)
    assert pauses == list(OUTAGE_WAITS_SECONDS[:2])


def test_a_long_outage_of_the_store_is_reported_and_each_try_has_a_new_address(
    github: GithubServer, fetch: Fetch, runs_dir: Path, pauses: list[float]
) -> None:
    upload(github, b"")
    github.refuse("GET 2", 503, message="Server Busy")
    told = f"{WHERE}: its download failed (HTTP 503): try again later"
    assert fail(fetch, runs_dir) == told
    assert pauses == list(OUTAGE_WAITS_SECONDS)
    assert github.list_calls().count("GET /actions/artifacts/2/zip") == 4


def test_an_outage_of_github_is_waited_out_as_long_as_without_a_store(
    github: GithubServer, fetch: Fetch, runs_dir: Path, pauses: list[float]
) -> None:
    upload(github, b"")
    github.refuse("GET zip", 502, message="Server Error")
    assert fail(fetch, runs_dir).startswith(f"{WHERE}: HTTP 502: ")
    assert pauses == list(OUTAGE_WAITS_SECONDS)


def test_a_refusal_of_the_store_is_reported(
    github: GithubServer, fetch: Fetch, runs_dir: Path
) -> None:
    upload(github, b"")
    github.refuse("GET 2", 403, message="Signature not valid")
    assert fail(fetch, runs_dir) == f"{WHERE}: its download failed (HTTP 403): try again later"


@pytest.mark.parametrize(
    "address", ["http://192.0.2.1/artifact", "file:///etc/hosts", "//192.0.2.1/", "https://[", ""]
)
def test_nothing_is_fetched_without_encryption(
    github: GithubServer, fetch: Fetch, runs_dir: Path, address: str
) -> None:
    upload(github, b"")
    github.refuse("GET zip", 302, message="", location=address)
    told = f"{WHERE}: {github.api_url} does not name its address"
    assert fail(fetch, runs_dir) == told


def test_a_second_redirect_is_not_followed(
    github: GithubServer, fetch: Fetch, runs_dir: Path
) -> None:
    upload(github, b"")
    github.refuse("GET 2", 302, location=f"{github.store_url}/artifacts/1")
    assert fail(fetch, runs_dir) == f"{WHERE}: its download failed (HTTP 302): try again later"


def test_an_archive_that_is_too_large_is_not_read_to_its_end(
    github: GithubServer, fetch: Fetch, runs_dir: Path
) -> None:
    upload(github, bytes(MOST_ARCHIVE_BYTES + 1))
    told = f"{WHERE}: it is too large for a run: it was not unpacked"
    assert fail(fetch, runs_dir) == told


def test_an_archive_of_too_many_files_or_of_a_bomb_is_not_unpacked(
    github: GithubServer, fetch: Fetch, runs_dir: Path
) -> None:
    told = f"{WHERE} is too large for a run: it was not unpacked"
    upload(github, pack({f"{place}.log": b"" for place in range(MOST_MEMBERS + 1)}))
    assert fail(fetch, runs_dir) == told
    bomb = pack({"run.json": b"{}", "k6.log": bytes(3_141_592)})
    upload(github, bomb.replace(word(3_141_592), word(MOST_FOLDER_BYTES)))
    assert fail(fetch, runs_dir) == told


def test_a_bomb_that_lies_about_its_size_does_not_unpack(
    github: GithubServer, fetch: Fetch, runs_dir: Path
) -> None:
    bomb = bytes(1_000_000)
    packed = pack({"run.json": bomb}).replace(word(len(bomb)), word(100))
    upload(github, packed)
    assert fail(fetch, runs_dir) == f"{WHERE} is damaged: it was not unpacked"
    # Even with a checksum that fits what is left.
    upload(github, packed.replace(word(zlib.crc32(bomb)), word(zlib.crc32(bytes(100)))))
    assert fail(fetch, runs_dir).startswith(f"{WHERE} is not a run folder: run.json cannot be read")


@pytest.mark.parametrize(
    "name",
    [
        *("../run.json", "a/../../run.json", "..", "/etc/run.json", "//host/run.json"),
        *("..\\run.json", "a\\run.json", "C:\\run.json", "C:run.json", "\\run.json"),
    ],
)
def test_a_file_outside_of_the_folder_is_refused(
    github: GithubServer, fetch: Fetch, runs_dir: Path, made: Path, name: str
) -> None:
    upload(github, pack({**read_files(made), name: b"{}"}))
    told = f"{WHERE} contains {name!r}, which no run has: it was not unpacked"
    assert fail(fetch, runs_dir) == told


@pytest.mark.parametrize(
    "kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK]
)
def test_a_link_or_a_device_is_refused(
    github: GithubServer, fetch: Fetch, runs_dir: Path, kind: int
) -> None:
    packed = io.BytesIO()
    with ZipFile(packed, "w") as archive:
        link = ZipInfo("run.json")
        link.external_attr = (kind | 0o777) << 16
        archive.writestr(link, "/etc/hosts")
    upload(github, packed.getvalue())
    told = f"{WHERE} contains 'run.json', which no run has: it was not unpacked"
    assert fail(fetch, runs_dir) == told


def test_an_encrypted_or_unusual_archive_is_refused(
    github: GithubServer, fetch: Fetch, runs_dir: Path
) -> None:
    told = f"{WHERE} contains 'run.json', which no run has: it was not unpacked"
    packed = io.BytesIO()
    with ZipFile(packed, "w", ZIP_BZIP2) as archive:
        archive.writestr("run.json", b"{}")
    upload(github, packed.getvalue())
    assert fail(fetch, runs_dir) == told
    sealed = bytearray(pack({"run.json": b"{}"}))
    sealed[sealed.rindex(b"PK\x01\x02") + 8] |= 1
    upload(github, bytes(sealed))
    assert fail(fetch, runs_dir) == told


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a//b", "a/b"), ("a\nb", "a\nb/c")])
def test_files_that_overlap_are_damage(
    github: GithubServer, fetch: Fetch, runs_dir: Path, names: tuple[str, ...]
) -> None:
    upload(github, pack(dict.fromkeys(names, b"")))
    assert fail(fetch, runs_dir) == f"{WHERE} is damaged: it was not unpacked"


@pytest.mark.parametrize("name", [".", "./", "a/.."])
def test_a_member_without_a_name_is_refused(
    github: GithubServer, fetch: Fetch, runs_dir: Path, name: str
) -> None:
    upload(github, pack({name: b""}))
    assert (
        fail(fetch, runs_dir) == f"{WHERE} contains {name!r}, which no run has: it was not unpacked"
    )


def test_a_damaged_archive_is_reported_wherever_the_damage_is(
    github: GithubServer, fetch: Fetch, runs_dir: Path, made: Path
) -> None:
    content = pack({name: each for name, each in read_files(made).items() if "k6" not in name})
    places = [len(content) * part // 12 for part in range(12)]
    damaged = [content[:place] for place in places]
    damaged += [content[:place] + bytes(40) + content[place + 40 :] for place in places]
    for each in damaged:
        upload(github, each)
        assert fail(fetch, runs_dir).startswith(WHERE)


def test_an_archive_of_something_else_or_of_another_run_is_refused(
    github: GithubServer, fetch: Fetch, runs_dir: Path, made: Path
) -> None:
    upload(github, pack({f"{RUN_ID}/run.json": b"{}"}))
    assert fail(fetch, runs_dir) == f"{WHERE} is not a run folder: run.json does not exist"
    upload(github, pack({**read_files(made), "tools/rows.json": b'{"version": 1}'}))
    assert fail(fetch, runs_dir).startswith(
        f"{WHERE} is not a run folder: tools/rows.json is damaged at rows: "
    )
    another = (made / "run.json").read_bytes().replace(b"098-2", b"098-3")
    upload(github, pack({**read_files(made), "run.json": another}))
    assert fail(fetch, runs_dir) == f"{WHERE} is the folder of another run: '17654321098-3'"


def test_an_existing_run_is_not_overwritten(github: GithubServer, fetch: Fetch, made: Path) -> None:
    upload(github, pack(read_files(made)))
    path = fetch()
    (path / "report.md").write_text("made here", encoding="utf-8")
    with pytest.raises(ReportError, match="cannot be written: Directory not empty"):
        fetch()
    assert (path / "report.md").read_text(encoding="utf-8") == "made here"


def test_a_folder_that_cannot_be_written_is_reported(
    github: GithubServer, fetch: Fetch, runs_dir: Path
) -> None:
    runs_dir.parent.mkdir()
    runs_dir.write_text("a file", encoding="utf-8")
    with pytest.raises(ReportError, match="cannot be written: "):
        fetch()
    assert not github.calls
