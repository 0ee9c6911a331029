"""How a line of a stage looks, wherever it comes from."""

from rich.console import Console


def say(console: Console, stage: str, text: str) -> None:
    """Print one line: the stage in bold, then the text as it is, never wrapped or marked up."""
    console.print(f"{stage:<11}", end=" ", style="bold", markup=False, highlight=False)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
