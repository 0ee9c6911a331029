"""The console script `mcp-loadtest`: the same tasks as with `inv`, without a `tasks.py`."""

from invoke.program import Program

from loadtest import __version__
from loadtest.cli.executor import ChainExecutor
from loadtest.common.command_name import CONSOLE_SCRIPT
from loadtest.tasks import namespace


def main() -> None:
    """Run the task that was typed."""
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
