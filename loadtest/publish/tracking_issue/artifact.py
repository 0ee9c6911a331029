"""Fetch the folder of a workflow's run, which GitHub keeps as an artifact."""

import re
import shutil
import stat
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from tempfile import TemporaryDirectory
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from loadtest.common.tls import is_secure
from loadtest.config.settings import Settings
from loadtest.errors import ReportError, ResultsError
from loadtest.github.client import Github, GithubRefusal, open_github
from loadtest.publish.tracking_issue.schemas import ARTIFACTS, Artifact
from loadtest.results.run_folder import read_run_folder

ARTIFACT_PERMISSION = "Actions: read"
# Far more than any run folder needs.
MOST_ARCHIVE_BYTES = 64 * 2**20
DOWNLOAD_SECONDS = 300.0
MOST_FOLDER_BYTES = 512 * 2**20
LONGEST_NAME = 255  # bytes, as most file systems allow
MOST_MEMBERS = 4000

_KEPT = "GitHub keeps it for 30 days"
_REMEDIES = {
    301: "the repository was renamed: correct GITHUB_REPOSITORY",
    403: f"GITHUB_TOKEN may not read it: it needs the permission '{ARTIFACT_PERMISSION}' (in a "
    "workflow `permissions: actions: read`)",
    404: "there is no such workflow run, or GITHUB_TOKEN cannot see it: correct the run id or "
    f"GITHUB_REPOSITORY, or give the token the permission '{ARTIFACT_PERMISSION}'",
    410: f"it has expired: {_KEPT}",
}


def fetch_run_artifact(
    settings: Settings,
    run_id: str,
    runs_dir: Path,
    pause: Callable[[float], None] = time.sleep,
) -> Path:
    """Download the folder of a workflow's run into `runs_dir`, completely or not at all.

    Raises ReportError, or ConfigError where variables are missing.
    """
    number = re.fullmatch(r"([1-9]\d{0,17})-[1-9]\d{0,3}", run_id, re.ASCII)
    if number is None:
        raise ReportError(
            f"run {run_id!r} was not made by GitHub Actions (<GITHUB_RUN_ID>-<attempt>): its "
            "folder exists only where it was made"
        )
    name = f"loadtest-{run_id}"
    github = open_github(settings.variables, f"artifact {name}", ARTIFACT_PERMISSION, pause)
    where = f"artifact {name} of {github.repository}"
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        # Not among the run folders, so that an incomplete one is never listed.
        with TemporaryDirectory(dir=runs_dir.parent, prefix=".fetch-") as temporary:
            archive, folder = Path(temporary, "artifact.zip"), Path(temporary, run_id)
            with _explain_refusals(where):
                artifact = _find_artifact(github, int(number[1]), name)
                github.retry(lambda: _download(_find_address(github, artifact, where), archive))
            _unpack(archive, folder, where)
            _check_run(folder, where)
            return folder.rename(runs_dir / run_id)
    except OSError as failure:
        raise ReportError(f"{runs_dir / run_id} cannot be written: {failure.strerror}") from None


@contextmanager
def _explain_refusals(where: str) -> Iterator[None]:
    try:
        yield
    except GithubRefusal as refusal:
        raise ReportError(refusal.explain(where, _REMEDIES)) from None


def _find_artifact(github: Github, number: int, name: str) -> Artifact:
    listed = github.fetch(
        ARTIFACTS, "actions.list_workflow_run_artifacts", run_id=number, name=name
    ).artifacts
    if not listed:
        raise GithubRefusal(
            f"{github.repository_url}/actions/runs/{number} has no artifact: {_KEPT}"
        )
    if listed[0].expired:
        raise GithubRefusal(_REMEDIES[410])
    return listed[0]


def _find_address(github: Github, artifact: Artifact, where: str) -> str:
    """Return the artifact's download address, which is valid without a token for a minute."""
    with _explain_refusals(where):
        try:
            github.ask("actions.download_artifact", artifact_id=artifact.id, archive_format="zip")
        except GithubRefusal as refusal:
            if refusal.status != 302:
                raise
            if refusal.location and is_secure(refusal.location):
                return refusal.location
        raise GithubRefusal(f"{github.api_url} does not name its address")


def _download(address: str, archive: Path) -> None:
    import httpx2

    from loadtest.common.http import explain, open_client

    try:
        with (
            open_client(DOWNLOAD_SECONDS, most_bytes=MOST_ARCHIVE_BYTES + 1) as http,
            http.stream("GET", address) as answer,
            archive.open("wb") as file,
        ):
            if answer.status_code != 200:
                raise GithubRefusal(
                    f"its download failed (HTTP {answer.status_code}): try again later",
                    is_outage=answer.status_code >= 500,
                )
            for chunk in answer.iter_raw():
                if file.tell() + len(chunk) > MOST_ARCHIVE_BYTES:
                    raise GithubRefusal("it is too large for a run: it was not unpacked")
                file.write(chunk)
    except (httpx2.HTTPError, httpx2.InvalidURL) as failure:
        words = f"its download failed ({explain(failure)}): try again later"
        raise GithubRefusal(words, is_outage=True) from None


def _unpack(archive: Path, folder: Path, where: str) -> None:
    """Check all files of an archive, then write them into a new folder."""
    folder.mkdir()
    try:
        with ZipFile(archive) as packed:
            _check_members(packed.infolist(), where)
            for member in packed.infolist():
                path = folder / member.filename
                if member.is_dir():
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(member) as source, path.open("xb") as target:
                    shutil.copyfileobj(source, target)
    except (
        *(BadZipFile, EOFError, RuntimeError, ValueError, zlib.error),
        *(FileExistsError, IsADirectoryError, NotADirectoryError),
    ):
        raise ReportError(f"{where} is damaged: it was not unpacked") from None


def _check_members(members: Sequence[ZipInfo], where: str) -> None:
    size = sum(member.file_size for member in members)
    if len(members) > MOST_MEMBERS or size > MOST_FOLDER_BYTES:
        raise ReportError(f"{where} is too large for a run: it was not unpacked")
    for member in members:
        # Windows rules are the stricter ones: both slashes separate, and a drive may lead outside.
        path = PureWindowsPath(member.filename)
        is_inside = not path.anchor and ".." not in path.parts and "\\" not in member.filename
        is_name = path.parts != () and all(
            len(part.encode()) <= LONGEST_NAME for part in path.parts
        )
        kind = stat.S_IFMT(member.external_attr >> 16)
        is_plain = kind in {0, stat.S_IFREG, stat.S_IFDIR} and not member.flag_bits & 1
        if not (
            is_inside
            and is_name
            and is_plain
            and member.compress_type in {ZIP_STORED, ZIP_DEFLATED}
        ):
            raise ReportError(
                f"{where} contains {member.filename!r}, which no run has: it was not unpacked"
            )


def _check_run(folder: Path, where: str) -> None:
    try:
        run_id = read_run_folder(folder).run.run_id
    except ResultsError as failure:
        words = str(failure).replace(f"{folder}/", "")
        raise ReportError(f"{where} is not a run folder: {words}") from None
    if run_id != folder.name:
        raise ReportError(f"{where} is the folder of another run: {run_id!r}")
