"""Golden files: reviewed texts beside the tests."""

import os
from pathlib import Path


def compare_golden(path: Path, text: str) -> None:
    """Compare with a golden file; LOADTEST_UPDATE_GOLDEN=1 writes it instead, to be reviewed."""
    if os.environ.get("LOADTEST_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8", newline="")
    assert text == path.read_bytes().decode()
