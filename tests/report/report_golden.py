"""Golden files beside the tests, and how a terminal would show a report."""

import io
from pathlib import Path

from rich.console import Console, RenderableType

from tests.support.golden import compare_golden

GOLDEN = Path(__file__).parent / "golden"


def draw(report: RenderableType, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(report)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def compare(name: str, text: str) -> None:
    compare_golden(GOLDEN / name, text)
