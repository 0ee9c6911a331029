"""Lines to add to the user's files: at the end, and nothing else is changed."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from loadtest.common.files import read_whole, write_text
from loadtest.config.env_file import name_env_file, parse_env_file
from loadtest.errors import ConfigError

WORKFLOWS = Path(".github") / "workflows"
OWN_WORKFLOW = WORKFLOWS / "load-test.yml"
CALLED_WORKFLOW = "load-test-mcp.yml"
# What git must ignore, and the other lines that do the same.
IGNORED = {
    ".env": {"/.env", ".env*", "*.env"},
    ".env.*": {"/.env.*", ".env*"},
    ".loadtest/": {".loadtest", "/.loadtest", "/.loadtest/"},
}


@dataclass(frozen=True)
class Addition:
    """Lines for the end of a file; `before` is its text, None if the file does not exist.

    `what` names the lines for people. `private` makes the file readable only by its owner.
    """

    path: Path
    what: str
    lines: tuple[str, ...]
    before: str | None = None
    private: bool = False

    @property
    def text(self) -> str:
        """Return the whole text of the file, with its own kind of line ends."""
        before = self.before or ""
        end = "\r\n" if "\r\n" in before else "\n"
        gap = end if before and not before.endswith("\n") else ""
        return before + gap + "".join(f"{line}{end}" for line in self.lines)

    def write(self) -> None:
        """Write the file; raise ConfigError if it is no longer as it was."""
        if read_text(self.path) != self.before:
            raise ConfigError(f"{self.path} was changed meanwhile: run this again")
        # A link stays a link.
        write_text(self.path.resolve(), self.text, private=self.private)


def read_text(path: Path) -> str | None:
    """Return the text of a file, None if there is none."""
    try:
        return read_whole(path).decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text in UTF-8") from None


def find_repository(root: Path) -> Path:
    """Return the nearest folder upwards with a `.git`, else `root`."""
    return next((each for each in (root, *root.parents) if (each / ".git").exists()), root)


def add_variables(root: Path, name: str, values: dict[str, str]) -> Addition | None:
    """Return the variables that the file of an environment lacks; None if it has all."""
    path = name_env_file(root, name)
    known = parse_env_file(path)
    lacking = {key: value for key, value in values.items() if key not in known}
    if not lacking:
        return None
    lines = tuple(f"{key}={value}" for key, value in lacking.items())
    return Addition(path, ", ".join(lacking), lines, read_text(path), private=True)


def add_ignored(root: Path) -> Addition | None:
    """Return the lines that the `.gitignore` lacks; those of the folders above count, too."""
    top = find_repository(root)
    folders = [root, *(each for each in root.parents if each.is_relative_to(top))]
    texts = (read_text(folder / ".gitignore") or "" for folder in folders)
    known = {line.strip() for text in texts for line in text.splitlines()}
    lacking = tuple(line for line, same in IGNORED.items() if not known & {line, *same})
    path = root / ".gitignore"
    return Addition(path, ", ".join(lacking), lacking, read_text(path)) if lacking else None


def find_workflow(root: Path) -> Path | None:
    """Return the workflow of the repository that runs load tests, if there is one."""
    folder = find_repository(root) / WORKFLOWS
    for path in sorted((*folder.glob("*.yml"), *folder.glob("*.yaml"))):
        if path.name == CALLED_WORKFLOW or _calls(read_text(path) or ""):
            return path
    return None


def add_workflow(root: Path, lines: Iterable[str]) -> Addition | None:
    """Return the workflow as a new file; None if another file has its name."""
    path = find_repository(root) / OWN_WORKFLOW
    return None if path.exists() else Addition(path, "a run every Monday", tuple(lines))


def _calls(text: str) -> bool:
    return re.search(rf"^\s*uses:.*/{re.escape(CALLED_WORKFLOW)}@", text, re.MULTILINE) is not None
