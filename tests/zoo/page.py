"""The page in the docs that lists the servers; each test compares its own line."""

import os

from filelock import FileLock

from tests.support.checkout import ROOT
from tests.zoo.catalog import NODE_MODULES, SERVERS_OF_OTHERS, Server, Shown

PAGE = ROOT / "docs" / "reference" / "tried-servers.md"
HEADER = "| server | version | language | revision | sustained | failed calls |"


def render_row(server: Server, shown: Shown) -> str:
    """Return the line of a server."""
    sustained = f"{shown.sustained or 'none'} of {server.stages[-1]}"
    failures = ", ".join(f"`{reason}`" for reason in shown.failures) or "none"
    if shown.lost_by is not None:
        failures += f", by {shown.lost_by}"
    version = server.find_version().removeprefix("v")
    cells = (server.title, version, server.language, shown.revision, sustained, failures)
    return f"| {' | '.join(cells)} |"


def read_names() -> list[str]:
    """Return the servers of the page."""
    return [_find_title(line) for line in _read_rows()]


def compare_row(server: Server, shown: Shown) -> None:
    """Compare a line of the page; LOADTEST_UPDATE_GOLDEN=1 writes it instead, to be reviewed."""
    if os.environ.get("LOADTEST_UPDATE_GOLDEN"):
        _write_row(server, render_row(server, shown))
    else:
        assert render_row(server, shown) in _read_rows()


def _read_rows() -> list[str]:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return lines[_find_rows(lines)]


def _find_rows(lines: list[str]) -> slice:
    """Return where the lines of the table are, below its two lines of header."""
    start = lines.index(HEADER) + 2
    return slice(start, lines.index("", start))


def _write_row(server: Server, row: str) -> None:
    """Replace the line of a server, or add it; servers keep the order of the catalog."""
    with FileLock(NODE_MODULES / ".page.lock"):
        lines = PAGE.read_text(encoding="utf-8").splitlines()
        rows = _find_rows(lines)
        by_title = {_find_title(line): line for line in lines[rows]} | {server.title: row}
        titles = (each.title for each in SERVERS_OF_OTHERS)
        lines[rows] = [by_title[title] for title in titles if title in by_title]
        PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _find_title(row: str) -> str:
    return row.split("|")[1].strip()
