"""The console script `mcp-loadtest`: the same tasks as with `inv`, without a `tasks.py`."""

import sys

from loadtest import __version__
from loadtest.common.command_name import CONSOLE_SCRIPT


def main() -> None:
    """Run the task that was typed."""
    if sys.argv[1:] in (["--version"], ["-V"]):  # at once, without the tasks
        print(f"{CONSOLE_SCRIPT} {__version__}")
        return
    from invoke.program import Program

    from loadtest.cli.executor import ChainExecutor
    from loadtest.tasks import namespace

    program = Program(
        version=__version__,
        namespace=namespace,
        name=CONSOLE_SCRIPT,
        binary=CONSOLE_SCRIPT,
        binary_names=[CONSOLE_SCRIPT],
        executor_class=ChainExecutor,
    )
    program.run()


if __name__ == "__main__":
    main()
