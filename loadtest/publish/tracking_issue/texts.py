"""What is written on a tracking issue beside reports, and the hidden links between issues."""

import re

TITLE = "MCP load-test results history"
COLOURS = {"load-test-history": "0e8a16", "regressed": "d93f0b", "failed": "b60205"}

_LINK = "<!-- mcp-loadtest {kind}={number} -->"


def build_body(predecessor: int | None) -> str:
    """Return what a tracking issue says of itself."""
    text = (
        "Each run of the load test is one comment here; the newest comes last.\n"
        "\n"
        "- The first line is the verdict. Tables follow: a row per stage or tool, with percentiles "
        "in milliseconds, and the change against the previous comparable run in the cell.\n"
        "- **Bold** is more than 25 % worse than that run. A *suspected* regression also "
        "stands out from the spread of the runs before, a *confirmed* one in more than one run; "
        "it alone fails the job and sets the label `regressed`, and it is no baseline until the "
        "command below it was typed.\n"
        "- A run that failed is here too, with its reason and the label `failed`.\n"
        "\n"
        "This issue is also the database: each comment carries its run's figures, hidden, and "
        "later runs are compared with them. They are believed only of comments by the account that "
        "writes the reports, so discuss freely; but deleting a report takes its run out of the "
        "history. The label `load-test-history` is how the issue is found."
    )
    if predecessor is None:
        return text
    link = _LINK.format(kind="predecessor", number=predecessor)
    return f"Earlier runs are on #{predecessor}.\n\n{text}\n\n{link}"


def build_successor_comment(successor: int) -> str:
    """Return what the last comment of a tracking issue says."""
    link = _LINK.format(kind="successor", number=successor)
    return f"This issue is nearly full: the history goes on in #{successor}.\n\n{link}"


def find_link(kind: str, text: str | None) -> int | None:
    """Return the issue that a hidden link of this kind names, None without one."""
    pattern = re.escape(_LINK).replace(r"\{kind\}", kind).replace(r"\{number\}", r"(\d{1,9})")
    found = re.search(pattern, text or "", re.ASCII)
    return int(found[1]) if found else None
