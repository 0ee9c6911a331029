"""How the user types a task: `inv mint`, `inv loadtest.mint` or `mcp-loadtest mint`."""

import sys
from pathlib import Path

from loadtest.common.scripts import IS_PACKAGED, PACKAGE

CONSOLE_SCRIPT = "mcp-loadtest"

_collection = ""


def set_collection(prefix: str) -> None:
    """Set what stands before a task's name, such as `loadtest.`."""
    global _collection
    _collection = prefix


def spell(command: str) -> str:
    """Return a command, such as `mint --via browser`, as this user types it."""
    called = Path(sys.argv[0])
    by_invoke = called.stem in {"inv", "invoke"} or called.parent.name == "invoke"
    # The GitHub action runs our checkout in another project, which has no `tasks.py` for `inv`.
    is_module = called.resolve() == PACKAGE / "__main__.py"
    is_elsewhere = is_module and not Path.cwd().is_relative_to(PACKAGE.parent)
    program = CONSOLE_SCRIPT if (IS_PACKAGED or is_elsewhere) and not by_invoke else "inv"
    return f"{program} {_collection}{command}"
