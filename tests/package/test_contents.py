"""What the wheel and the source archive hold."""

import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

from packaging.requirements import Requirement

from loadtest import __version__
from tests.support.checkout import ROOT

MOST_BYTES = 2**20
INFO = f"mcp_loadtest-{__version__}.dist-info"


def list_sources(folder: str, target: str) -> set[str]:
    """Return the files of a folder of the checkout, as they are called in the wheel."""
    return {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_package_the_scripts_and_the_pins_and_no_file_more(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    assert names == {
        *list_sources("loadtest", "loadtest"),
        *list_sources("k6", "loadtest/scripts"),
        "loadtest/pins.txt",
        *(f"{INFO}/{name}" for name in info),
    }
    assert wheel.stat().st_size <= MOST_BYTES


def test_the_source_archive_holds_what_the_wheel_is_built_from(dist: Path) -> None:
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {Path(*Path(name).parts[1:]).as_posix() for name in archive.getnames()}
    beside = {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "PKG-INFO"}
    assert names == {
        *list_sources("loadtest", "loadtest"),
        *list_sources("k6", "k6"),
        "requirements/all.txt",
        *beside,
    }
    assert source.stat().st_size <= MOST_BYTES


def test_the_package_asks_for_ranges_and_only_a_stage_s_extra_for_its_packages(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read(f"{INFO}/METADATA").decode())
    assert metadata["Version"] == __version__
    asked = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    assert all(each.specifier or each.extras for each in asked)
    assert not any("==" in str(each.specifier) for each in asked)
    always = {each.name for each in asked if each.marker is None}
    assert always == {"invoke", "pydantic", "rich"}
    extras = {"target", "provision", "mint", "k6", "report", "docs-update", "all", "nox"}
    assert set(metadata.get_all("Provides-Extra", [])) == extras
