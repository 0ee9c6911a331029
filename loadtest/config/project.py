"""The user's project: where its configuration is, and what it says."""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from loadtest.common.files import read_whole
from loadtest.common.parsing import check_text
from loadtest.errors import ConfigError

CONFIG_FILE = "loadtest.toml"
PYPROJECT = "pyproject.toml"
TOOL = "mcp-loadtest"
CONFIG_VERSION = 1


@dataclass(frozen=True)
class Project:
    """A configuration, completed by the defaults; `source` names where it was read, for messages.

    `path` is its file, or None if there is none: then only the reference target can be tested.
    """

    path: Path | None
    source: str
    data: dict[str, Any]

    def has_default(self, kind: str, name: str, key: str) -> bool:
        """Return whether a key of a table is as in the defaults."""
        default = _read_defaults()[kind].get(name, {}).get(key)
        return default is not None and self.data[kind][name].get(key) == default


def find_root(start: Path | None = None) -> Path:
    """Return the nearest folder upwards that configures mcp-loadtest, else `start` itself.

    `start` is the current folder unless it is given.
    """
    start = (start or Path.cwd()).absolute()
    for folder in (start, *start.parents):
        if (folder / CONFIG_FILE).is_file() or _read_table(folder / PYPROJECT) is not None:
            return folder
    return start


def read_project(root: Path) -> Project:
    """Read a folder's configuration over the defaults; raise ConfigError if it is damaged."""
    file, pyproject = root / CONFIG_FILE, root / PYPROJECT
    has_table = _read_table(pyproject) is not None
    if file.is_file() and has_table:
        raise ConfigError(f"{file} and [tool.{TOOL}] in {PYPROJECT} both exist: keep one of them")
    if not file.is_file() and not has_table:
        return Project(None, "no configuration", _read_defaults())
    path = pyproject if has_table else file
    return parse_project(path, _read_text(path))


def parse_project(path: Path, text: str) -> Project:
    """Return the configuration in the text of a file, which need not be written yet."""
    data, source = _parse(path, text), path.name
    if path.name == PYPROJECT:
        data, source = data["tool"][TOOL], f"[tool.{TOOL}] in {PYPROJECT}"
    return Project(path, source, _merge(_read_defaults(), data))


def _read_defaults() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("defaults.toml").read_text("utf-8"))


def _read_text(path: Path) -> str:
    try:
        return read_whole(path).decode()
    except (OSError, ValueError) as failure:
        raise ConfigError(f"{path} is not valid TOML: {failure}") from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        data = tomllib.loads(text)
        check_text(data)
    except RecursionError:
        raise ConfigError(f"{path} is not valid TOML: it is nested too deeply") from None
    except ValueError as failure:
        raise ConfigError(f"{path} is not valid TOML: {failure}") from None
    if isinstance(data.get("version"), int) and data["version"] > CONFIG_VERSION:
        raise ConfigError(f"{path} has version {data['version']}: update mcp-loadtest")
    return data


def _read_table(path: Path) -> dict[str, Any] | None:
    """Return our table of a `pyproject.toml`; a file without one is none of our business."""
    try:
        text = read_whole(path).decode()
    except (OSError, ValueError):
        return None
    if TOOL not in text:
        return None
    tool = _parse(path, text).get("tool")
    table = tool.get(TOOL) if isinstance(tool, dict) else None
    return table if isinstance(table, dict) else None


def _merge(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return `own` with the environments and profiles of `defaults` that it does not replace."""
    merged = dict(own)
    for kind, tables in defaults.items():
        given = own.get(kind, {})
        if not isinstance(given, dict):  # the check of the whole file reports it
            continue
        merged[kind] = {**tables, **given}
        for name in tables.keys() & given.keys():
            if isinstance(given[name], dict):
                merged[kind][name] = {**tables[name], **given[name]}
    return merged
