"""`python -m tests.canary.driver TRACEBACKS`: runs tasks one after the other, as `inv` does each.

Reads `{"arguments": […], "variables": {…}}` by line and answers each with `{"code": …}` on standard
output; what the tasks print goes to standard error. Every exception that a task ends with is
written to TRACEBACKS whole, before it becomes one line.
"""

import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from invoke.program import Program

from loadtest.cli import exit_guard
from loadtest.cli.exit_guard import guard
from loadtest.context import Chain


def main(tracebacks: Path) -> None:
    """Run the requested tasks until the input ends."""

    @contextmanager
    def show(*, as_json: bool) -> Iterator[Chain]:
        with guard(as_json=as_json) as chain:
            try:
                yield chain
            except BaseException:
                with tracebacks.open("a") as file:
                    traceback.print_exc(file=file)
                raise

    setattr(exit_guard, "guard", show)  # noqa: B010 (the tasks look it up by this name)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    before = dict(os.environ)
    for line in sys.stdin:
        asked = json.loads(line)
        os.environ.clear()
        os.environ.update(before | asked["variables"])
        try:
            Program().run(["inv", *asked["arguments"]])
            code: object = 0
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
        sys.stderr.flush()
        print(json.dumps({"code": code}), file=answers, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
