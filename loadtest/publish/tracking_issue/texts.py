"""The texts on a tracking issue besides reports, and the hidden links between issues."""

import re

TITLE = "MCP load-test results history"
COLOURS = {"load-test-history": "0e8a16", "regressed": "d93f0b", "failed": "b60205"}

_LINK = "<!-- mcp-loadtest {kind}={number} -->"


def build_body(predecessor: int | None) -> str:
    """Return the description of a tracking issue."""
    text = (
        "Each run of the load test is one comment on this issue. The newest comment is the last.\n"
        "\n"
        "- The first line counts what moved; figures with one cause are counted once. A table "
        "says what it is, since which run, and why it is believed.\n"
        "- ❌ is a regression that repeats, the next run or a drift confirmed. Only that fails the "
        "job and sets the label `regressed`. It does not become the baseline until you run the "
        "command in its comment. 👀 is clearly outside the usual spread, but not confirmed yet. "
        "**Bold** figures are over 25 % worse than in the last good run, which may be noise.\n"
        "- When a regression is gone or accepted, the comment that reported it says so.\n"
        "- A run that failed is listed with its reason, and sets the label `failed`.\n"
        "\n"
        "This issue is also the database: each comment contains the figures of its run as hidden "
        "text, and later runs are compared with them. Only comments by the reporting account are "
        "read back, so feel free to discuss here. Do not delete a report: its run would be missing "
        "from the history. Keep the label `load-test-history`: it is how this issue is found."
    )
    if predecessor is None:
        return text
    link = _LINK.format(kind="predecessor", number=predecessor)
    return f"Earlier runs are in #{predecessor}.\n\n{text}\n\n{link}"


def build_successor_comment(successor: int) -> str:
    """Return the last comment of a tracking issue, which links to the next one."""
    link = _LINK.format(kind="successor", number=successor)
    return f"This issue is nearly full: the history continues in #{successor}.\n\n{link}"


def find_link(kind: str, text: str | None) -> int | None:
    """Return the issue that a hidden link of this kind names, None without a link."""
    pattern = re.escape(_LINK).replace(r"\{kind\}", kind).replace(r"\{number\}", r"(\d{1,9})")
    found = re.search(pattern, text or "", re.ASCII)
    return int(found[1]) if found else None
