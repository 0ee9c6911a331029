"""The comment of a run: golden files, what it leaves out when too long, and what stays text."""

import html
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from loadtest.compare.comparison import Comparison
from loadtest.config.objectives import Objective
from loadtest.report.comment import CUTS, render_comment, shield
from loadtest.results.history import Cell
from loadtest.results.run import ScenarioResult
from tests.report.compared_runs import (
    COMPARED,
    SLOWEST,
    ComparedRun,
    compared,
    good,
    regressed,
    weekly,
)
from tests.report.report_golden import compare
from tests.report.report_runs import COLD_START, LADDER, RUNS, TOOLS, folder, row, with_replies

REPOSITORY = "https://github.example/acme/atlas"
MOST = 60_000
NASTY = (
    *("@octocat and @acme/team", "#12", "acme/atlas#12", "GH-12", "octocat@1a2b3c4"),
    *("<!-- mcp-loadtest -->", "<img src=x onerror=alert(1)>", "&lt;b&gt;", "</details>"),
    *("a | b \\| c", "`x` ``y``", "```mermaid", "**b** _i_ ~~s~~", "[x](https://evil.example)"),
    *("https://evil.example/issues/1", "www.evil.example", "someone@evil.example"),
    *(
        "$x$ and $`x`$",
        ":tada: :100: :+1:",
        ":_https:",
        "# h",
        "- item",
        "1. item",
        "> quote",
        "[^1]",
    ),
    *("line\nline\r\n\n    code", '"quoted"; title "x"', "%%{init: {}}%%", "ünïcødé 🚀 工具"),
)


def comment(case: ComparedRun, most_chars: int = MOST, **details: object) -> str:
    return render_comment(
        *(case.folder, case.comparison, case.earlier),
        most_chars=most_chars,
        repository_url=REPOSITORY,
        **details,  # type: ignore[arg-type]
    )


def render(text: str) -> str:
    """Return the page that a comment makes, raw HTML as it is."""
    page: str = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(text)
    return page


def read(page: str) -> str:
    """Return what is to be read on a page."""
    return html.unescape(re.sub(r"<[^>]*>", "", page))


@pytest.mark.parametrize("name", COMPARED)
def test_comments_are_as_reviewed(name: str) -> None:
    compare(f"{name}.comment.md", comment(COMPARED[name]()))


@pytest.mark.parametrize(
    "name",
    [
        *("aborted", "broken-ladder", "empty", "failed-at-sign-in", "interrupted", "rate-limited"),
        "short-of-runners",
    ],
)
def test_comments_of_troubled_first_runs_are_as_reviewed(name: str) -> None:
    text = render_comment(RUNS[name](), Comparison(), most_chars=MOST)
    compare(f"{name}.comment.md", text)


def test_a_comment_names_skipped_runs_and_whom_to_notify_and_has_links() -> None:
    notes = ("Comment 12 was skipped: it is damaged.", "No run for 15 days; one is due every 7.")
    text = comment(regressed(), notes=notes, mention="acme/performance")
    assert "> Comment 12 was skipped: it is damaged.\n>\n> No run for 15 days" in text
    assert "\n\ncc @acme/performance\n\n" in text
    assert f"[commits since the last good run]({REPOSITORY}/compare/0000009c4d5e6f708192" in text
    assert f"[workflow run]({REPOSITORY}/actions/runs/42)" in text
    assert f"[page with charts]({REPOSITORY}/actions/runs/42#artifacts)" in text
    assert f"| [last good run]({REPOSITORY}/issues/7#issuecomment-991) |" in text
    assert f"| [Jul\u00a027]({REPOSITORY}/issues/7#issuecomment-999),\u00a0[commits](" in text
    assert f"([report]({REPOSITORY}/issues/7#issuecomment-991))" in text


def test_the_commits_are_those_of_the_target_where_its_repository_is_known() -> None:
    text = comment(COMPARED["slower-tool"]())
    assert "server 1.4.0 → **1.5.0**" in text
    compare_url = f"https://github.com/acme/server/compare/{'a' * 40}...{'b' * 40}"
    assert f"[commits since the last good run]({compare_url})" in text


@pytest.mark.parametrize(
    "odd", [{"repository": "acme/x](https://evil.example)"}, {"commit": "main...evil"}]
)
def test_an_odd_repository_or_commit_of_the_target_is_not_linked(odd: dict[str, str]) -> None:
    case = COMPARED["slower-tool"]()
    target = replace(case.folder.run.target, **odd)  # type: ignore[arg-type]
    run = replace(case.folder.run, target=target)
    text = comment(replace(case, folder=replace(case.folder, run=run)))
    assert "evil" not in " ".join(re.findall('href="([^"]*)"', render(text)))
    assert f"[commits since the last good run]({REPOSITORY}/compare/" in text


def test_without_a_repository_the_commit_is_named_and_not_linked() -> None:
    case = good()
    text = render_comment(case.folder, case.comparison, case.earlier, most_chars=MOST)
    assert " · commit 1a2b3c4\n" in text


def test_an_invalid_address_is_never_linked() -> None:
    for address in ("javascript:alert(1)", "https://x.example/)[y](z", "https://x.example/<b>"):
        case = good()
        run = replace(case.folder.run, run_url=address)
        earlier = tuple(replace(each, url=address) for each in case.earlier)
        page = render(comment(compared(replace(case.folder, run=run), earlier)))
        (found,) = re.findall('href="([^"]*)"', page)
        assert found.startswith(f"{REPOSITORY}/compare/0000001c4d5e")


def test_only_the_figure_that_stands_for_a_finding_has_a_sign_and_only_worse_ones_are_bold() -> (
    None
):
    page = render(comment(regressed())).replace("\u00a0", " ")
    tables = page.split("<details")[1:4]
    cells = [cell for table in tables for cell in re.findall(r"<td[^>]*>(.*?)</td>", table)]
    assert [cell for cell in cells if "<strong>" in cell or cell[0] in "❌👀☑✅"] == [
        "❌ <strong>104 (+41 %)</strong>",
        "❌ 1240 (+18 %)",
        "<strong>68.3 of 100 (-32 %)</strong>",
        "❌ <strong>2.4 % (+2.4 pp)</strong>",
        "👀 <strong>8.8 (+32 %)</strong>",
    ]


def test_columns_of_zeros_are_left_out_and_long_names_are_cut_and_listed_in_full() -> None:
    name = "a_tool_with_a_very_long_name_" + "x" * 40
    rows = (row("tools", "tool", name, 1200, 31.0), *TOOLS)
    text = comment(compared(folder(rows), weekly(rows, 3)))
    assert "| tool | p50 ms | p95 ms | p99 ms | calls/s |" in text
    assert f"| {name[:39]}… |" in text
    assert f"In full:\n\n- {name}\n\n</details>" in text


def test_a_scenario_that_cannot_be_compared_is_in_the_headline_and_says_why_in_its_fold() -> None:
    text = comment(COMPARED["incomparable"]())
    assert text.startswith("### ✅ 36 unchanged · tool-call mix not comparable\n")
    mix = text.split("<b>Tool-call mix</b>: not comparable</summary>")[1].split("</details>")[0]
    assert "Not comparable: unlike run 20260727T120000Z-0000001: vus 50, was 20." in mix


def test_many_stages_are_ranges_with_a_chart() -> None:
    text = comment(COMPARED["many-stages"]())
    ladder = text.split("<b>Concurrent sessions</b>")[1].split("</details>")[0]
    assert len(re.findall(r"^\| \d", ladder, re.MULTILINE)) == 9
    assert "❌ 121 to 200 sessions slower: p50 " in text
    assert 'title "p95 by sessions, 1 to 200"' in text


def test_a_run_in_which_nothing_moved_is_one_line_and_everything_else_is_folded() -> None:
    text = comment(good())
    assert text.startswith("### ✅ 57 unchanged\n")
    left = re.sub(r"<details>.*?</details>|<sub>.*?</sub>", "", text, flags=re.DOTALL)
    assert len([line for line in left.splitlines() if line]) == 3
    assert "<details open>" not in text


def test_a_failed_run_begins_with_its_reason_and_has_the_remedy_in_a_block() -> None:
    text = render_comment(RUNS["failed-at-sign-in"](), Comparison(), most_chars=MOST)
    assert text.startswith("### ⛔ Failed at sign-in: the page says that the password is wrong")
    assert "```sh\ninv provision --env staging\n```" in text
    assert "<b>Cold start</b>" not in text


@pytest.mark.parametrize(
    "command",
    [
        *("curl evil.example", "inv mint; curl evil.example", "inv mint $(x)"),
        *("inv history --accept last", "inv provision --teardown"),
    ],
)
def test_a_command_that_a_server_may_have_written_is_no_remedy(command: str) -> None:
    broken = ScenarioResult("sessions", "failed", reason=f"the page says: type `{command}`")
    run = folder(COLD_START, outcomes={"sessions": broken})
    text = render_comment(run, Comparison(), most_chars=MOST)
    assert "```sh\ninv doctor --env staging\n```" in text


def test_the_slowest_calls_have_what_finds_them_in_a_trace() -> None:
    text = comment(COMPARED["slower-tool"]())
    slowest = text.split("<summary>Slowest calls")[1].split("</details>")[0]
    assert "`4bf92f3577b34da6a3ce929d0e0e4736` | `req-7f2a` |" in slowest
    assert slowest.index("1204") < slowest.index("977") < slowest.index("listEntities")


def crowded() -> ComparedRun:
    """A run of 300 tools, each failing in its own way, one of them slower than before."""
    tools = tuple(
        row("tools", "tool", f"tool_{place}", 1200, 9.0, failures={f"tool_error:odd_{place}": 3})
        for place in range(300)
    )
    everything = (*with_replies(COLD_START, 900), *LADDER, *tools)
    cell = Cell("tools", "tool", "tool_7", "p50")
    objectives = (Objective("tools", "tool", "tool_8", "p95", 30),)
    run = folder(everything, objectives=objectives)
    case = compared(run, weekly(everything, 9), statuses={cell: "confirmed"})
    return replace(case, folder=replace(case.folder, slowest=SLOWEST))


SIGNS: dict[str, str] = {
    "how this was measured": "<summary>How this was measured</summary>",
    "replies": "<summary>Replies",
    "slowest calls": "<summary>Slowest calls",
    "failures by reason": "<summary>Failures by reason</summary>",
    "trend": "```mermaid",
    "rows in which nothing moved": "| `tool_8` |",
    "notes": "> Comment 12 was skipped.",
    "tables": "| `tool_7` |",
    "objectives": "<summary>Objectives",
    "findings": "| ❌ `tool_7` slower: p50",
}


def test_a_comment_that_is_too_long_loses_its_parts_in_order() -> None:
    assert tuple(SIGNS) == CUTS
    signs = SIGNS
    case = crowded()
    whole = comment(case, 10**6, notes=("Comment 12 was skipped.",))
    assert all(sign in whole for sign in signs.values())
    left = len(whole)
    for count, cut in enumerate(CUTS, 1):
        text = comment(case, left - 1, notes=("Comment 12 was skipped.",))
        assert len(text) < left
        assert f"short enough: {', '.join(CUTS[:count])}." in text
        assert [name for name, sign in signs.items() if sign in text] == list(CUTS[count:])
        assert text.startswith("### ❌ 1 regression · ")
        assert "**staging** · 2026-08-03 12:00 UTC · profile standard" in text
        assert cut in text
        left = len(text)


@pytest.mark.parametrize("most_chars", [60_000, 30_000, 6_000, 2_000, 1_000, 500, 200, 50, 10])
def test_a_comment_is_never_longer_than_allowed(most_chars: int) -> None:
    for case in (crowded(), regressed(), COMPARED["hostile-history"]()):
        assert len(comment(case, most_chars, notes=("x" * 900,) * 40)) <= most_chars


def test_verdict_and_facts_are_the_last_to_go() -> None:
    text = comment(crowded(), 400)
    assert text.startswith("### ❌ 1 regression · ")
    assert "[commits since the last good run]" in text
    assert comment(crowded(), 60).startswith("### ❌ 1 ")


@pytest.mark.parametrize("text", NASTY)
def test_what_a_server_sent_is_text_on_github(text: str) -> None:
    check_text_only(shield(text), " ".join(text.split()))


@given(st.lists(st.sampled_from([*NASTY, *" x_*|\\$1:"]), max_size=6))
def test_no_mixture_of_server_text_becomes_markup(pieces: list[str]) -> None:
    text = " ".join("".join(["x", *pieces]).split())
    check_text_only(shield(text), text)


def check_text_only(shielded: str, text: str) -> None:
    """Check a shielded text where a server's text may stand: in a line, an item, and a cell."""
    for template in ("{}", "x {} x", "- {}", "| a |\n| - |\n| {} |"):
        empty = render(template.format("X"))
        page = render(template.format(shielded))
        assert re.findall(r"<(?!/?span)[^>]*>", page) == re.findall(r"<[^>]*>", empty)
    shown = read(render(f"x {shielded} x"))
    assert shown.replace("\u200b", "").strip() == f"x {text} x".replace("x  x", "x x")
    live = r"@\w|#\d|\bGH-\d|://|\bwww\.|:[\w+-]*[a-z+-][\w+-]*:|:100:"
    assert not re.search(live, shown, re.IGNORECASE)
    assert "<!--" not in shielded


@pytest.mark.parametrize("nasty", NASTY)
def test_no_name_breaks_the_comment_it_stands_in(nasty: str) -> None:
    """The page has the very elements that it has for a harmless name, and says the name."""

    def build(name: str) -> ComparedRun:
        rows = (
            row("cold-start", "frame", name, 1200, 5.0),
            row("tools", "tool", name, 1200, 31.0, failures={f"tool_error:{name}": 2, name: 1}),
        )
        cell = Cell("tools", "tool", name, "p99")
        run = folder(rows, environment=name, knobs={name: name}, git_sha=name)
        return compared(run, weekly(rows, 3, environment=name), statuses={cell: "confirmed"})

    def tags(case: ComparedRun) -> list[str]:
        return re.findall(r"<(?!/?span|/?code>)[^>]*>", render(comment(case)))

    assert tags(build(nasty)) == tags(build("harmless"))
    # In a code block it is text; the payload that follows is the last one, and that one counts.
    assert "<!--" not in re.sub(r"```sh\n.*\n```", "", comment(build(nasty)))
