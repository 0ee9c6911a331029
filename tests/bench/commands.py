"""Short commands against a bare interpreter that imports Invoke's program."""

from rich.table import Table

from tests.bench.common import measure, run

ROUNDS = 20


def bench(table: Table) -> None:
    """Measure what a person waits for when nothing has to be done."""
    run("-m", "invoke", "mint")
    floor, listed, fresh = measure(
        ROUNDS,
        lambda: run("-c", "import invoke.program"),
        lambda: run("-m", "invoke", "--list"),
        lambda: run("-m", "invoke", "mint"),
    )
    table.add_row("floor: import Invoke", f"{floor:.2f}", "", "")
    table.add_row("inv --list", f"{listed:.2f}", f"{listed / floor:.1f}", "0.4")
    table.add_row("inv mint, bearer still fresh", f"{fresh:.2f}", f"{fresh / floor:.1f}", "0.6")
