"""The page of tasks in docs/, made from the tasks: `python -m tests.documents.task_reference`."""

import inspect
import re
import runpy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from loadtest.common.files import write_text
from loadtest.config.knobs import KNOBS, name_variable
from tests.support.checkout import ROOT

PAGE = ROOT / "docs" / "reference" / "tasks.md"
COMMAND = "python -m tests.documents.task_reference"
MARKS = (f"<!-- tasks: written by `{COMMAND}` -->\n", "<!-- end of tasks -->\n")


def render_reference() -> str:
    """Return every task with its options; knobs have one table of their own."""
    # Import again: Invoke returns a task's help texts only once.
    collection = runpy.run_path(str(ROOT / "loadtest" / "tasks.py"))["namespace"]
    named = [(collection[name], name) for name in collection.task_names]
    options = {name: task.get_arguments() for task, name in named}
    parts = [
        part for task, name in named for part in _render_task(task, name, options[name], KNOBS)
    ]
    every = {option.name: option for name in options for option in options[name]}
    knobs = [(*_render_option(every[name]), f"`{name_variable(name)}`") for name in KNOBS]
    parts += ["## Knobs", _render_table(("option", "", "variable"), knobs)]
    return "\n".join(f"{part}\n" for part in parts)


def replace_reference(text: str) -> str:
    """Return the page with the reference between its marks written again."""
    begin, end = map(re.escape, MARKS)
    body = f"{MARKS[0]}\n{render_reference()}\n{MARKS[1]}"
    made, count = re.subn(f"{begin}.*?{end}", lambda _: body, text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{PAGE} must have one pair of marks: {' … '.join(MARKS)}")
    return made


def _render_task(
    task: Any, name: str, options: Sequence[Any], knobs: Sequence[str]
) -> Iterator[str]:
    own = [option for option in options if option.name not in knobs]
    first = ", ".join(f"`{pre.name}`" for pre in task.pre)
    title, *manual = inspect.cleandoc(task.__doc__).split("\n\n")
    sentences = [
        title,
        *([f"Runs {first} first"] if first else []),
        *(["Takes the [knobs](#knobs)"] if len(own) < len(options) else []),
    ]
    yield f"## `inv {name}`"
    yield ". ".join(sentences) + "."
    for paragraph in manual:
        yield _render_commands(paragraph) if paragraph.startswith("inv ") else paragraph
    yield _render_table(("option", ""), map(_render_option, own))


def _render_commands(lines: str) -> str:
    return "\n".join(("```sh", re.sub(r" {3,}", "  # ", lines), "```"))


def _render_option(option: Any) -> tuple[str, str]:
    flag = f"--{option.names[0]}"
    if option.positional:
        return f"`{option.name.upper()}`", option.help
    return f"`{flag} …`" if option.takes_value else f"`{flag}`", option.help


def _render_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))


if __name__ == "__main__":
    write_text(PAGE, replace_reference(PAGE.read_text(encoding="utf-8")))
