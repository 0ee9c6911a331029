"""Read files of `NAME=value` lines: `.env`, `.env.<environment>` and the credentials."""

import re
from pathlib import Path

from loadtest.common.files import read_whole
from loadtest.common.redaction import learn_variables
from loadtest.errors import ConfigError


def name_env_file(root: Path, environment_name: str) -> Path:
    """Return the env file of one environment, which wins over `.env`."""
    return root / f".env.{environment_name}"


def parse_env_file(path: Path) -> dict[str, str]:
    """Read `NAME=value` lines (quotes optional, `#` comments); a ConfigError names the line."""
    values: dict[str, str] = {}
    try:
        text = read_whole(path).decode()
    except FileNotFoundError:
        return values
    except (OSError, UnicodeDecodeError) as failure:
        raise ConfigError(f"{path} cannot be read: {failure.__class__.__name__}") from None
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = re.fullmatch(r"(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*)", stripped)
        if match is None:
            raise ConfigError(f"{path}, line {number}: expected NAME=value")
        value = match[2]
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        values[match[1]] = value
    learn_variables(values)
    return values
