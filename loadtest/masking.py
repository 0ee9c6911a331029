"""Secrets that GitHub Actions is told of, so that it blots them out of its logs."""

import sys
from collections.abc import Callable, Mapping

from loadtest.common.console import open_plain
from loadtest.common.redaction import SecretStr


def build_mask(variables: Mapping[str, str]) -> Callable[[SecretStr], None]:
    """Return what masks a secret in the logs of GitHub Actions; elsewhere it does nothing."""
    return mask if variables.get("GITHUB_ACTIONS") == "true" else lambda _: None


def mask(secret: SecretStr) -> None:
    """Print the workflow command that masks a secret."""
    value = secret.get_secret_value()
    for character, escape in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
        value = value.replace(character, escape)
    print(f"::add-mask::{value}", flush=True, file=open_plain(sys.stdout))
