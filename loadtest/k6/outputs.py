"""The outputs of k6 itself (`--out`), with the variables that they read."""

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from loadtest.config.models import Engine
from loadtest.errors import UsageError

# Prefix of the variables that an output reads. k6 gets them only with that output.
OUTPUT_PREFIXES = {
    "csv": "K6_CSV_",
    "influxdb": "K6_INFLUXDB_",
    "opentelemetry": "K6_OTEL_",
    "prometheus-rw": "K6_PROMETHEUS_RW_",
    "statsd": "K6_STATSD_",
}
FILES = ("csv", "json")
PLACE = "{scenario}"
RUNNER_PLACE = "{runner}"
EXPERIMENTAL = "experimental-"


def parse_outputs(
    texts: Iterable[str], scenarios: Sequence[str], binary: Path, engine: Engine = "local"
) -> tuple[str, ...]:
    """Return outputs by the names of this k6; UsageError for one that it does not have.

    Some outputs lose their `experimental-` in a later version of k6: both names are accepted.
    """
    outputs = tuple(texts)
    if not outputs:
        return ()
    known = _ask_for_types(binary)
    return tuple(_parse(output, scenarios, known, engine) for output in outputs)


def build_output_flags(outputs: Iterable[str], scenario: str, runner: int = 1) -> list[str]:
    """Return the flags for the outputs of a scenario, in one k6 or in a runner."""
    return [
        f"--out={output.replace(PLACE, scenario).replace(RUNNER_PLACE, str(runner))}"
        for output in outputs
    ]


def select_variables(outputs: Iterable[str], variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that these outputs read."""
    kinds = {output.partition("=")[0].removeprefix(EXPERIMENTAL) for output in outputs}
    prefixes = tuple(OUTPUT_PREFIXES[kind] for kind in kinds if kind in OUTPUT_PREFIXES)
    return {name: value for name, value in variables.items() if name.startswith(prefixes)}


def _parse(output: str, scenarios: Sequence[str], known: frozenset[str], engine: Engine) -> str:
    kind, equals, argument = output.partition("=")
    bare = kind.removeprefix(EXPERIMENTAL)
    found = next((name for name in (kind, bare, EXPERIMENTAL + bare) if name in known), None)
    if found is None:
        raise UsageError(f"--out {output}: this k6 has {', '.join(sorted(known))}")
    if kind in FILES and PLACE not in argument and len(scenarios) > 1:
        raise UsageError(
            f"--out {output}: each scenario would overwrite the file of the last; "
            f"put {PLACE} into the name, as in {kind}={PLACE}.{kind}"
        )
    if kind in FILES and engine == "kubernetes":
        raise UsageError(
            f"--out {output}: a file in a pod is deleted with the pod; use another output"
        )
    if kind in FILES and engine == "segments" and RUNNER_PLACE not in argument:
        raise UsageError(
            f"--out {output}: all runners would write to one file; put {RUNNER_PLACE} in its name"
        )
    return f"{found}{equals}{argument}"


def _ask_for_types(binary: Path) -> frozenset[str]:
    """Return the outputs that k6 lists in its error for an unknown output."""
    done = subprocess.run(  # noqa: S603
        [str(binary), "run", "--quiet", "--no-color", "--out=?", "-"],
        input="export default function () {}",
        env={},  # without the user's settings for k6
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    listed = re.search(r"available types are: ([\w\-, ]+)", done.stderr)
    if listed is None:
        raise UsageError(f"{binary} does not list its outputs: omit --out")
    return frozenset(listed[1].split(", "))
