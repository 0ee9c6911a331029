"""Find k6, its version, and the options of its `k6 run`."""

import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loadtest.common.processes import build_child_environment
from loadtest.errors import K6Error

MINIMUM = (1, 0, 0)

# Flags of a run. One that this version of k6 does not have is left out.
RUN_FLAGS = {
    **dict.fromkeys(("--quiet", "--no-color", "--no-usage-report", "--include-system-env-vars")),
    "--address": "127.0.0.1:0",
    "--new-machine-readable-summary": "false",
}


@dataclass(frozen=True)
class K6Binary:
    """A k6 executable; `source` is where it was found, `flags` are those that its `run` has."""

    path: Path
    version: str
    source: str
    flags: frozenset[str] = frozenset(RUN_FLAGS)

    def describe(self) -> str:
        """Return version, path and source as text."""
        return f"k6 {self.version}, {self.path} (from {self.source})"


def find_k6(variables: Mapping[str, str]) -> K6Binary:
    """Return `K6_BIN`, else the newer of k6 on PATH and k6 in the running environment."""
    if variables.get("K6_BIN"):
        return _inspect_binary(Path(variables["K6_BIN"]), "K6_BIN")
    own = Path(sysconfig.get_path("scripts"))
    elsewhere = os.pathsep.join(
        entry
        for entry in variables.get("PATH", os.defpath).split(os.pathsep)
        if entry and Path(entry).resolve() != own.resolve()
    )
    places = ((str(own), "this environment"), (elsewhere, "PATH"))
    paths = ((shutil.which("k6", path=path), source) for path, source in places)
    found: list[K6Binary] = []
    faults: list[K6Error] = []
    for path, source in paths:
        if path is not None:
            try:
                found.append(_inspect_binary(Path(path), source))
            except K6Error as fault:
                faults.append(fault)
    if found:
        return max(found, key=lambda binary: _parse_version(binary.version))
    if faults:
        raise faults[0]
    raise K6Error(
        "k6 was not found: install the extra `k6` of mcp-loadtest, use `nox -s k6`, or set K6_BIN "
        "to the path of your k6"
    )


def _inspect_binary(path: Path, source: str) -> K6Binary:
    match = re.search(r"\bk6(?:\.exe)? v(\d+\.\d+\.\d+\S*)", _ask(path, source, "version"))
    if match is None:
        raise K6Error(f"{path} ({source}) is not k6: `{path} version` names no version")
    if _parse_version(match[1]) < MINIMUM:
        least = ".".join(str(part) for part in MINIMUM)
        raise K6Error(f"{path} ({source}) is k6 {match[1]}, older than {least}: update it")
    flags = re.findall(r"(?<!\S)--[a-z][a-z-]+", _ask(path, source, "run", "--help"))
    return K6Binary(path, match[1], source, frozenset(flags))


def _ask(path: Path, source: str, *arguments: str) -> str:
    """Return what a k6 prints."""
    try:
        return subprocess.run(  # noqa: S603
            [str(path), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env=build_child_environment(os.environ),
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise K6Error(f"{path} ({source}) cannot be run: {failure.__class__.__name__}") from None


def _parse_version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
