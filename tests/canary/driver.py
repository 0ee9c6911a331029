"""`python -m tests.canary.driver TRACEBACKS`: runs tasks one after the other, as `inv` does each.

Reads `{"arguments": […], "variables": {…}}` by line and answers each with `{"code": …}` on standard
output; what the tasks print goes to standard error. With a `"root"`, the task runs in that checkout
and knows no secret of the tasks before. Every exception that a task ends with is written to
TRACEBACKS whole, before it becomes one line.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert
from invoke.main import program

from loadtest.cli import exit_guard
from loadtest.cli.exit_guard import guard
from loadtest.common import redaction
from loadtest.common.secret_index import SecretIndex
from loadtest.context import Chain


def remember(draw: Callable[..., str]) -> Callable[..., str]:
    """Draw each chart once: it depends on nothing else, and reports of the same runs repeat it."""

    @cache
    def draw_text(given: str) -> str:
        spec, options = json.loads(given)
        return draw(spec, **options)

    def draw_spec(spec: Any, **options: Any) -> str:
        return draw_text(json.dumps([spec, options]))

    return draw_spec


def enter(root: str) -> None:
    """Be as a new process in another checkout."""
    os.chdir(root)
    redaction.known = SecretIndex()


def main(tracebacks: Path) -> None:
    """Run the requested tasks until the input ends."""
    vl_convert.vegalite_to_svg = remember(vl_convert.vegalite_to_svg)

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
        if "root" in asked:
            enter(asked["root"])
        os.environ.clear()
        os.environ.update(before | asked["variables"])
        try:
            program.run(["inv", *asked["arguments"]])
            code: object = 0
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
        sys.stderr.flush()
        print(json.dumps({"code": code}), file=answers, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
