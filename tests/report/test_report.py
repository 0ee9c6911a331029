"""The report of a run: golden tables and pages, and what must never be read out of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from loadtest.compare.comparison import Comparison
from loadtest.errors import ReportError
from loadtest.report.content.failures import describe_excess
from loadtest.report.content.formatting import NO_DATA, add_ms, format_ms, format_rate, format_share
from loadtest.report.content.report import build_report
from loadtest.report.content.verdict import build_verdict
from loadtest.report.content.wording import format_reasons
from loadtest.report.html.page import render_page
from loadtest.report.markdown import render_markdown, write_report
from loadtest.report.terminal import render_terminal
from loadtest.results.run import Generator, ScenarioResult, Target
from loadtest.results.run_folder import RunFolder
from tests.report.report_golden import compare, draw
from tests.report.report_runs import (
    COLD_START,
    LADDER,
    RUN,
    RUNS,
    TOOLS,
    folder,
    hostile,
    row,
    smoke,
    spread,
    stage,
)


@pytest.mark.parametrize("name", RUNS)
def test_report_md_is_as_reviewed(name: str) -> None:
    compare(f"{name}.md", render_markdown(RUNS[name]()))


@pytest.mark.parametrize("name", RUNS)
def test_terminal_tables_are_as_reviewed(name: str) -> None:
    compare(f"{name}.txt", draw(render_terminal(RUNS[name]()), 80))


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_cut_or_too_wide(name: str, width: int) -> None:
    text = draw(render_terminal(RUNS[name]()), width)
    assert "\u2026" not in text
    assert max(len(line) for line in text.splitlines()) <= width


def test_a_slow_and_crowded_ladder_still_fits_80_columns() -> None:
    failures = {"timeout": 50000}
    run = folder((stage(1, 9.0), stage(500, 12000.0, seconds=300, failures=failures)))
    line = next(
        line for line in draw(render_terminal(run), 80).splitlines() if line.startswith("      500")
    )
    assert line.split() == [
        *("500", "500", "333", "100,000", "50,000"),
        *("12.0s", "20.4s", "28.8s", "12.2s", "20.8s", "29.4s"),
    ]


@pytest.mark.parametrize(
    ("arguments", "count", "words"),
    [
        ("fixed", 10, "fixed (10 different calls): a cache may have answered the fixed calls"),
        ("varied", 1000, "varied (1,000 different calls)"),
        (
            "varied, but fixed for ping",
            5,
            "varied, but fixed for ping (5 different calls): a cache may have answered the fixed "
            "calls",
        ),
    ],
)
def test_the_facts_say_whether_arguments_were_fixed(arguments: str, count: int, words: str) -> None:
    run = folder(TOOLS, knobs={"arguments": arguments, "different_calls": count})
    assert dict(build_report(run).facts)["arguments"] == words
    starts = replace(run, run=replace(run.run, scenarios=(ScenarioResult("cold-start", "ok"),)))
    assert "arguments" not in dict(build_report(starts).facts)


def test_markup_in_names_is_shown_as_text() -> None:
    terminal = draw(render_terminal(hostile()), 120)
    assert "[bold red]x[/] | <img src=x onerror=alert(1)>" in terminal
    assert "\x1b" not in terminal
    assert "\u202e" not in terminal
    html = MarkdownIt("commonmark").enable("table").render(render_markdown(hostile()))
    assert "<img" not in html
    assert "<code>" not in html
    assert "<em>" not in html
    assert "<strong>" not in html
    assert html.count("<h1>") == 1
    assert "[bold red]x[/] | &lt;img src=x onerror=alert(1)&gt; # `pwn` **b** _i_ ?[31m?" in html


def test_every_row_of_report_md_has_as_many_cells_as_its_header() -> None:
    for build in RUNS.values():
        html = MarkdownIt("commonmark").enable("table").render(render_markdown(build()))
        for table in html.split("<table>")[1:]:
            head, _, body = table.split("</table>")[0].partition("</thead>")
            rows = body.split("</tr>")[:-1]
            assert rows
            assert {row.count("<td") for row in rows} == {head.count("<th") - 1}


def test_missing_percentiles_read_as_no_data_and_never_as_zero() -> None:
    # k6 reports p99 = 0 for a series without a sample; ok == 0 tells it from a real zero.
    empty = replace(TOOLS[0], count=0, ok=0, duration=replace(TOOLS[0].duration, p99=0.0))  # type: ignore[type-var]
    (tools,) = (s for s in build_report(folder((empty,))).tables if s.title == "Tool-call mix")
    assert [cell.words for cell in tools.rows[0]] == ["executeSQL", *[NO_DATA] * 6]


@pytest.mark.parametrize(
    ("ok", "cells"),
    [
        (29, ("~31", "~53", "~74")),
        (30, ("31", "~53", "~74")),
        (300, ("31", "53", "~74")),
        (1000, ("31", "53", "74")),
    ],
)
def test_a_percentile_of_too_few_calls_is_marked_thin(ok: int, cells: tuple[str, ...]) -> None:
    report = build_report(folder((row("tools", "tool", "executeSQL", ok, 31.0),)))
    assert tuple(cell.text for cell in report.tables[2].rows[0][-3:]) == cells
    assert any(line.startswith("~ too few") for line in report.legend) == ("~" in "".join(cells))


def of(name: str) -> Callable[[], RunFolder]:
    return RUNS[name]


@pytest.mark.parametrize(
    ("build", "level", "text"),
    [
        (
            of("good"),
            "good",
            "57 figures measured. Sustained all 100 sessions (100 calls/s, p95 25 ms), the most "
            "that was tested. None of 21,643 calls failed.",
        ),
        (
            of("broken-ladder"),
            "warning",
            "Too many failures in concurrent sessions · 64 figures measured. "
            "Too many failures in concurrent sessions: 325 of 15,660 calls (2.1 %, limit 1 %). "
            "Sustained 100 sessions (100 calls/s, p95 25 ms). Did not sustain 200 sessions: 100 of "
            "200 refused by a full server (50 %); 325 of 6,000 calls failed (5.4 %); 94.6 of 200 "
            "calls/s succeeded (47.3 %); p95 106 ms, 6.6 times that of 1 session.",
        ),
        (
            of("interrupted"),
            "warning",
            "Interrupted · not run: tool-call mix · 26 figures measured. The numbers of concurrent "
            "sessions are partial. Sustained 1 session (1.0 calls/s, p95 ~16 ms). Did not sustain "
            "10 sessions: the run was interrupted in this stage. None of 260 calls failed.",
        ),
        (
            of("failed"),
            "failed",
            "Failed in concurrent sessions and tool-call mix: the probe met HTTP 503.",
        ),
        (
            of("rate-limited"),
            "warning",
            "Refused by a quota · no stage sustained · 40 figures measured. The latencies are not "
            "valid, because calls were rate limited: 50 % in concurrent sessions, 96.9 % in "
            "tool-call mix. Raise the client's quota on the target, then run again. No stage was "
            "sustained. Did not sustain 1 session: 30 of 60 rate limited (50 %); "
            "0.50 of 1.0 calls/s succeeded (50 %). 1 of 10,073 calls failed (under 0.1 %). "
            "5,230 of 10,073 calls were refused by a cap or a quota (51.9 %).",
        ),
        (
            of("empty"),
            "failed",
            "No scenario ran.",
        ),
    ],
)
def test_the_verdict_says_the_worst_first(
    build: Callable[[], RunFolder], level: str, text: str
) -> None:
    verdict = build_verdict(build())
    assert (verdict.level, verdict.text) == (level, text)


def test_an_interrupted_ladder_does_not_claim_that_every_stage_was_tested() -> None:
    outcomes = {"sessions": ScenarioResult("sessions", "interrupted")}
    text = build_verdict(folder(LADDER[:2], outcomes=outcomes)).text
    assert "Sustained 10 sessions (10.0 calls/s, p95 17 ms), the most that was measured." in text


def test_a_lower_stage_that_broke_is_not_hidden_by_a_higher_one_that_was_sustained() -> None:
    verdict = build_verdict(folder((stage(1, 9.0), stage(10, 40.0), stage(50, 10.0))))
    assert verdict.level == "warning"
    assert "Sustained 50 sessions (" in verdict.text
    assert "Did not sustain 10 sessions: p95 69 ms, 4.4 times that of 1 session." in verdict.text


def test_thresholds_crossed_without_a_failure_are_named() -> None:
    crossed = ScenarioResult("tools", "thresholds crossed", 99, crossed=("refused: rate<0.01",))
    text = build_verdict(folder(TOOLS, outcomes={"tools": crossed})).text
    assert "Thresholds crossed in tool-call mix: refused: rate<0.01." in text


def test_a_scenario_that_was_not_requested_is_not_a_warning() -> None:
    verdict = build_verdict(folder(TOOLS, scenarios=(ScenarioResult("tools", "ok", 0),)))
    assert verdict.level == "good"
    assert "concurrent sessions" not in verdict.text


def test_a_failure_count_is_reported_once() -> None:
    failing = row("tools", "tool", "executeSQL", 97, 31.0, failures={"timeout": 3})
    crossed = ScenarioResult("tools", "thresholds crossed", 99, crossed=("x",))
    alone = build_verdict(folder((failing,), scenarios=(crossed,))).text
    assert alone == (
        "Too many failures in tool-call mix · 4 figures measured. Too many failures in tool-call "
        "mix: 3 of 100 calls (3 %, limit 1 %)."
    )
    # Failures elsewhere are counted in all, since no sentence names them.
    others = (stage(1, 9.0), row("sessions", "stage", "10", 97, 9.0, failures={"timeout": 2}))
    text = build_verdict(folder(others, (failing,), outcomes={"tools": crossed})).text
    assert "3 of 100 calls" in text
    assert " 5 of 259 calls failed" in text


def test_a_row_over_the_limit_is_named_if_the_scenario_as_a_whole_is_within_it() -> None:
    failing = stage(10, 9.0, failures={"timeout": 30})
    outcomes = {"sessions": ScenarioResult("sessions", "thresholds crossed", 99)}
    run = folder((stage(1, 9.0), failing, stage(100, 9.0)), outcomes=outcomes)
    assert describe_excess(run, "sessions") == ("30 of 600 calls at 10 sessions (5 %, limit 1 %)")


def test_an_aborted_run_says_why_and_that_its_numbers_are_partial() -> None:
    why = "60% of the requests of the last 30 s failed"
    aborted = ScenarioResult("tools", "aborted", 105, reason=why)
    run = folder(LADDER, TOOLS, outcomes={"tools": aborted})
    assert build_verdict(run).text.startswith(f"Aborted in tool-call mix: {why}.")
    assert "The numbers are partial." in render_markdown(run)


def test_a_generator_that_was_the_bottleneck_is_named_instead_of_the_target() -> None:
    busy = ScenarioResult("tools", "ok", 0, generator=Generator(0.93, 210.4))
    late = ScenarioResult("sessions", "ok", 0, generator=Generator(0.4, 98.0, 230.0))
    run = folder(LADDER, TOOLS, outcomes={"sessions": late, "tools": busy})
    verdict = build_verdict(run)
    assert verdict.level == "warning"
    bottleneck = "The load generator was the bottleneck in"
    assert f"{bottleneck} concurrent sessions (calls sent late: p95 230 ms): " in verdict.text
    assert f"{bottleneck} tool-call mix (93 % CPU): these numbers say nothing" in verdict.text
    assert "at most 93 % CPU, 210 MB memory, calls sent 230 ms late (p95)" in render_markdown(run)


def test_a_quota_met_in_the_mix_leaves_the_ladder_valid() -> None:
    limited = (row("tools", "tool", "executeSQL", 97, 31.0, failures={"rate_limited": 3}),)
    text = build_verdict(folder(LADDER, limited)).text
    assert "rate limited: 3 % in tool-call mix." in text
    assert "Sustained all 100 sessions" in text
    one_per_cent = (row("tools", "tool", "executeSQL", 99, 31.0, failures={"rate_limited": 1}),)
    assert build_verdict(folder(LADDER, one_per_cent)).level == "good"


def test_an_aggregate_row_is_not_counted_again() -> None:
    assert "None of 11,983 calls failed." in build_verdict(folder(TOOLS)).text
    assert "None of 11,983 calls failed." in build_verdict(folder(TOOLS[-1:])).text


def test_the_aggregate_stands_below_the_tools() -> None:
    table = build_report(folder(tuple(reversed(TOOLS)))).tables[2]
    assert table.rows[-1][0].text == "all"


def test_only_loopback_targets_have_the_caveat_of_a_shared_machine() -> None:
    assert any("ran on the same machine" in text for text in build_report(smoke()).caveats)
    for host in ("localhost:1", "127.0.0.1:8080", "[::1]:8080"):
        assert build_report(folder(target=Target(host))).caveats
    assert not build_report(folder(target=Target("api.example.com:443"))).caveats


def test_a_loop_that_the_environment_limited_has_a_caveat() -> None:
    held = replace(row("tools", "tool", "all", 600, 31.0), held_rate=50.0)
    (caveat,) = build_report(folder((held,))).caveats
    assert caveat == (
        "Tool-call mix: the environment's max_rps limited the rate to 50.0 calls/s. The target "
        "may sustain more."
    )


def test_calls_that_others_would_have_given_up_are_said() -> None:
    slow = replace(TOOLS[0], beyond={"60_s": 12, "120_s": 3})
    verdict = build_verdict(folder((slow, *TOOLS[1:])))
    assert verdict.level == "warning"
    assert (
        "12 of 11,983 calls took longer than 60 s (0.1 %), when many clients give up, and 3 longer "
        "than 120 s, when most proxies do." in verdict.text
    )
    assert "longer than 60 s" not in build_verdict(folder(TOOLS)).text


def test_a_ladder_with_a_pace_explains_what_its_stages_must_keep() -> None:
    knobs = {**RUN.knobs, "sessions": {**RUN.knobs["sessions"], "pace_seconds": "20"}}
    slow = replace(LADDER[0], offered_rate=0.05, response=spread(21_000))
    report = build_report(folder((slow,), knobs=knobs))
    assert "Half of its calls must also be answered within the pace of 20 s." in report.legend
    assert (
        "more than half of the calls took longer than the 20 s between two calls of a session"
        in report.verdict.text
    )


def test_the_stateless_era_has_clients_instead_of_sessions() -> None:
    target = Target("api.example.com", "atlas", "2", "2026-07-28", "stateless")
    turned_away = row("sessions", "opening", "200", 100, 40.0, failures={"timeout": 3})
    report = build_report(folder(COLD_START, (*LADDER, turned_away), target=target))
    assert report.verdict.sentences[0].startswith("Sustained all 100 clients")
    assert "opening 200 clients: 3 timeouts (of 103)" in report.tables[1].details
    assert report.tables[1].title == "Concurrent clients"
    assert report.tables[1].columns[0].header == "clients"


def test_the_rows_of_the_control_are_not_among_the_tools() -> None:
    control = row("tools", "control", "document", 90, 2.0, failures={"http_404": 10})
    report = build_report(folder((*TOOLS, control)))
    alone = build_report(folder(TOOLS))
    assert (report.tables, report.verdict) == (alone.tables, alone.verdict)
    assert dict(report.facts)["control"] == (
        "a static document of the same origin: tool-call mix p50 2.0 ms"
    )
    assert dict(alone.facts)["control"].startswith("none: ")


def test_an_open_loop_mix_shows_the_offered_rate_and_the_time_from_the_schedule() -> None:
    report = build_report(folder((row("tools", "tool", "all", 600, 31.0, offered=10.0),)))
    assert [column.header for column in report.tables[2].columns] == [
        *("tool", "offered/s", "ok/s", "ok", "failed"),
        *("call p50", "call p95", "call p99", "due p50", "due p95", "due p99"),
    ]


def test_a_tool_without_a_rate_of_its_own_has_nothing_in_the_offered_column() -> None:
    tool = row("tools", "tool", "executeSQL", 360, 31.0)
    report = build_report(folder((tool, row("tools", "tool", "all", 600, 31.0, offered=10.0))))
    assert [cells[1].text for cells in report.tables[2].rows] == ["", "10.0"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, NO_DATA),
        (float("nan"), NO_DATA),
        (float("inf"), NO_DATA),
        (0.0, "0.0"),
        (0.001, "<0.01"),
        (0.42, "0.42"),
        (0.999, "1.0"),
        (9.94, "9.9"),
        (9.96, "10"),
        (31.4, "31"),
        (1240.0, "1240"),
        (9999.4, "9999"),
        (9999.6, "10.0s"),
        (30000.0, "30.0s"),
    ],
)
def test_times_have_their_significant_digits(value: float | None, text: str) -> None:
    assert format_ms(value) == text


@pytest.mark.parametrize(("value", "text"), [(31.4, "31 ms"), (30000.0, "30.0 s")])
def test_times_in_a_sentence_have_a_space_before_their_unit(value: float, text: str) -> None:
    assert add_ms(format_ms(value)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, NO_DATA),
        (0.0, "0.0"),
        (0.5, "0.50"),
        (9.94, "9.9"),
        (99.4, "99.4"),
        (1234.5, "1,234"),
    ],
)
def test_rates_keep_a_decimal_below_a_hundred(value: float | None, text: str) -> None:
    assert format_rate(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (0.0001, "under 0.1 %"),
        (0.009, "0.9 %"),
        (0.5, "50 %"),
        (0.9999, "over 99.9 %"),
        (1, "100 %"),
    ],
)
def test_shares_round_neither_to_nothing_nor_to_all(share: float, text: str) -> None:
    assert format_share(share) == text


def test_failures_are_named_in_words() -> None:
    failures = {
        "capacity": 100,
        "tool_error:internal_error": 12,
        "http_502": 3,
        "timeout": 2,
        "unparseable": 1,
        "rpc_error": 0,
        "new_reason": 1,
    }
    assert format_reasons(failures) == (
        "100 refused by a full server, 12 tool errors internal_error, 3 x HTTP 502, 2 timeouts, "
        "1 new_reason, 1 unreadable reply"
    )
    assert format_reasons({}) == ""


def test_the_report_is_in_the_run_folder(tmp_path: Path) -> None:
    run = replace(smoke(), path=tmp_path / "run")
    path = write_report(run)
    assert path == tmp_path / "run" / "report.md"
    assert path.read_text(encoding="utf-8") == render_markdown(run)
    assert [item.name for item in path.parent.iterdir()] == ["report.md"]


def test_a_report_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReportError, match=r"report\.md cannot be written: "):
        write_report(replace(smoke(), path=tmp_path / "file"))


def test_what_is_not_a_tool_says_what_it_is() -> None:
    rows = (
        row("tools", "tool", "all", 900, 20.0),
        row("tools", "tool", "search", 300, 20.0),
        row("tools", "resource", "note", 200, 4.0),
        row("tools", "prompt", "summarize", 100, 5.0),
        row("tools", "completion", "topics", 100, 3.0),
        row("tools", "step", "look/find", 105, 21.0),
        row("tools", "step", "look/open", 95, 9.0, failures={"no_argument": 10}),
        row("tools", "flow", "look", 95, 30.0, failures={"no_argument": 10}),
    )
    run = folder(rows)
    text = render_markdown(run)
    names = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert [name for name in names if name.strip("-")][-9:] == [
        *("call", "search", "note (resource)", "summarize (prompt)", "topics (completion)"),
        *("look/find", "look/open", "look (flow)", "all"),
    ]
    assert "look/open: 10 steps without their argument (of 105 calls)" in text
    assert "(flow): the calls of its steps together, without the pauses between them." in text
    # The flow is not counted beside its steps.
    assert "10 of 910 calls failed" in text
    page = render_page(run, Comparison())
    assert "look (flow)" in page
    assert "all calls" in page
