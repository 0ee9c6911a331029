"""Talk to a workflow run of GitHub Actions: mask secrets, write the step summary and outputs."""

import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from loadtest.common.console import open_plain
from loadtest.common.redaction import SecretStr, redact


def build_mask(variables: Mapping[str, str]) -> Callable[[SecretStr], None]:
    """Return a function that masks a secret in the logs of GitHub Actions, else does nothing."""
    return mask if variables.get("GITHUB_ACTIONS") == "true" else lambda _: None


def mask(secret: SecretStr) -> None:
    """Print the workflow command that masks a secret."""
    value = _escape(secret.get_secret_value())
    print(f"::add-mask::{value}", flush=True, file=open_plain(sys.stdout))


def annotate(
    variables: Mapping[str, str], level: Literal["error", "warning"], title: str, text: str
) -> None:
    """Print an annotation of the workflow run in GitHub Actions; elsewhere do nothing."""
    if variables.get("GITHUB_ACTIONS") == "true":
        title = _escape(title).replace(":", "%3A").replace(",", "%2C")
        print(f"::{level} title={title}::{_escape(text)}", flush=True)


def _escape(text: str) -> str:
    """Return text that stays within its workflow command."""
    for character, escape in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
        text = text.replace(character, escape)
    return text


SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
OUTPUT_VARIABLE = "GITHUB_OUTPUT"


def write_summary(variables: Mapping[str, str], text: str) -> None:
    """Append Markdown to the step summary in GitHub Actions; elsewhere do nothing."""
    _append(variables.get(SUMMARY_VARIABLE), text.rstrip() + "\n\n")


def write_outputs(variables: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Set outputs of the step in GitHub Actions; elsewhere do nothing."""
    # A random delimiter, so that no value can set another output.
    end = secrets.token_hex(16)
    lines = (f"{name}<<{end}\n{value}\n{end}\n" for name, value in outputs.items())
    _append(variables.get(OUTPUT_VARIABLE), "".join(lines))


def build_run_url(variables: Mapping[str, str]) -> str | None:
    """Return the address of the workflow run that this is, or None outside a workflow."""
    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    if not all(variables.get(name) for name in names):
        return None
    server, repository, run = (variables[name] for name in names)
    return f"{server}/{repository}/actions/runs/{run}"


def _append(path: str | None, text: str) -> None:
    if path:
        with suppress(OSError), Path(path).open("a", encoding="utf-8", newline="\n") as file:
            file.write(redact(text))
