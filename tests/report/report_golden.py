"""Golden files beside the tests, and how a terminal would show a report."""

import io
import os
from pathlib import Path

from rich.console import Console, RenderableType

GOLDEN = Path(__file__).parent / "golden"


def draw(report: RenderableType, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(report)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def compare(name: str, text: str) -> None:
    """Compare with a golden file; LOADTEST_UPDATE_GOLDEN=1 writes it instead, to be reviewed."""
    path = GOLDEN / name
    if os.environ.get("LOADTEST_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
