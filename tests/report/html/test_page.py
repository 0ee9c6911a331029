"""The page of a run and of a history: what it says, and that nothing in it leads elsewhere."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from loadtest.report.html.history_page import build_trends
from loadtest.report.html.page import render_history_page, render_page, write_page
from loadtest.report.html.vega import find_log_ticks, find_ticks, set_apart, shorten
from loadtest.results.history import Cell, Entry
from tests.report.compared_runs import compared, good, regressed
from tests.report.html.page_runs import PAGES, history
from tests.report.report_runs import TOOLS
from tests.support.golden import compare_golden

GOLDEN = Path(__file__).parent / "golden"
VOID = {"meta", "link", "br", "img", "input"}
BLOCKS = {
    "p",
    "h1",
    "h2",
    "h3",
    "li",
    "tr",
    "dt",
    "dd",
    "caption",
    "summary",
    "pre",
    "text",
    "title",
    "desc",
}


class Reader(HTMLParser):
    """Reads a page: its tags with their attributes, and its words, a block a line."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, Mapping[str, str | None]]] = []
        self.lines: list[str] = []
        self._open: list[str] = []
        self._words: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag in BLOCKS and self._words:
            self.lines.append(f"{tag}: {' '.join(self._words)}")
        if tag in BLOCKS:
            self._words = []

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self._words += data.split()


@pytest.mark.parametrize(
    "name",
    [
        "regressed",
        "accepted",
        "first-run",
        "failed",
        "rate-limited",
        "hostile-history",
        "larger",
    ],
)
def test_the_words_of_a_page_are_as_reviewed(name: str) -> None:
    compare(f"{name}.txt", PAGES[name]())


def test_the_words_of_a_history_are_as_reviewed() -> None:
    compare("history.txt", history())


def compare(name: str, page: str) -> None:
    compare_golden(GOLDEN / name, "\n".join(Reader(page).lines) + "\n")


@pytest.mark.parametrize("render", [*PAGES.values(), history], ids=[*PAGES, "history"])
def test_a_page_runs_nothing_and_fetches_nothing(render: Callable[[], str]) -> None:
    page = render()
    for tag, attributes in Reader(page).tags:
        assert tag not in {"script", "img", "iframe", "link", "object", "embed", "image", "use"}
        assert not attributes.keys() & {"src", "srcset", "style", "xlink:href", "action"}
        assert not [name for name in attributes if name.startswith("on")]
        if "href" in attributes:
            assert tag == "a"
            assert str(attributes["href"]).startswith("https://github.example/acme/atlas/")
    style = page.split("<style>")[1].split("</style>")[0]
    assert not re.search(r"url\(|@import|@font-face", style)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_the_same_every_time(name: str) -> None:
    assert PAGES[name]() == PAGES[name]()


def test_every_chart_has_a_name_a_description_and_its_figures() -> None:
    page = PAGES["regressed"]()
    figures = re.findall(r"<figure>(.*?)</figure>", page + PAGES["over-time"](), re.DOTALL)
    assert len(figures) == 13 + 9
    for figure in figures:
        assert re.search(r'<svg role="img" [^>]*><title>[^<]+</title><desc>[^<]+</desc>', figure)
        assert "<summary>Show the figures</summary>" in figure
        assert figure.count("<tbody>") == 1
    ids = [attributes["id"] for _, attributes in Reader(page).tags if "id" in attributes]
    assert ids == []


@pytest.mark.parametrize("name", ["regressed", "failed", "nasty"])
def test_no_part_of_a_chart_is_an_image_of_its_own(name: str) -> None:
    for tag, attributes in Reader(PAGES[name]()).tags:
        if tag not in {"svg", "div"}:
            assert not [each for each in attributes if each == "role" or each.startswith("aria-")]


def test_the_axis_of_many_stages_has_round_numbers_and_no_dots() -> None:
    page = PAGES["many-stages"]()
    picture = page.split("<h3>Latency</h3>")[1].split("</svg>")[0]
    labels = re.findall(r">([\d,]+)</text>", picture)
    assert labels[:5] == ["0", "50", "100", "150", "200"]
    assert count_marks(page, "Latency", "symbol") == 0


def count_marks(page: str, title: str, mark: str) -> int:
    """Return how many marks of a kind a chart has."""
    picture = page.split(f"<h3>{title}</h3>")[1].split("</svg>")[0]
    groups = re.findall(rf'<g class="mark-{mark} role-mark [^>]*>(.*?)</g>', picture)
    return sum(len(re.findall("<(?:path|line|text)", group)) for group in groups)


def test_every_figure_has_its_mark() -> None:
    page = PAGES["regressed"]()
    assert count_marks(page, "Latency", "line") == 3
    assert count_marks(page, "Latency", "symbol") == 3 * 4
    assert count_marks(page, "Throughput", "line") == 2
    assert count_marks(page, "Each tool of the mix", "symbol") == 2 * 5
    assert count_marks(page, "Each step of a cold start", "rule") == 3 * 4
    assert count_marks(page, "executeSQL p99", "line") == 1
    assert count_marks(page, "executeSQL p99", "symbol") == 15 + 1
    assert count_marks(page, "Failures by reason", "rect") == 2


def test_a_stage_without_data_is_not_drawn_and_the_others_are() -> None:
    page = PAGES["interrupted"]()
    assert count_marks(page, "Latency", "line") == 3
    assert count_marks(page, "Latency", "symbol") == 3 * 2


def test_the_charts_of_a_ladder_name_the_highest_sustained_stage() -> None:
    assert PAGES["regressed"]().count(">50 sustained</text>") == 2
    assert PAGES["stateless"]().count(">100 sustained</text>") == 2
    assert "holds" not in PAGES["failed"]()


def test_a_change_of_level_is_described_with_its_day() -> None:
    page = PAGES["moved"]()
    assert "level changed from 17 ms to 25 ms (+43 %) on 2026-04-20" in page


def test_a_drift_begins_a_level() -> None:
    words = " ".join(Reader(PAGES["regressed"]()).lines)
    assert "runMetric p50" in words
    assert "level changed from 1042 ms to 1240 ms (+19 %) on 2026-06-08" in words


def test_a_confirmed_regression_begins_a_level_in_its_first_run() -> None:
    words = " ".join(Reader(PAGES["regressed"]()).lines)
    assert "level changed from 74 ms to 104 ms (+40 %) on 2026-07-27" in words


def test_the_worst_figure_comes_first_on_a_page() -> None:
    lines = Reader(PAGES["regressed"]()).lines
    place = lines.index("p: Regressed")
    assert lines[place + 1] == "h1: 3 regressions · 1 to watch · 52 unchanged"
    moved = lines[lines.index("caption: What moved, the worst first") :]
    assert moved[2].startswith("tr: ▲ executeSQL slower: p99 74 ms 104 ms +41 % Jul 27")


def test_an_accepted_run_is_not_called_regressed() -> None:
    lines = Reader(PAGES["accepted"]()).lines
    assert "p: To watch" in lines
    assert any(line.startswith("tr: ✓ executeSQL slower: p99 ") for line in lines)


def test_a_run_that_failed_or_was_rate_limited_claims_no_more_than_it_measured() -> None:
    assert "No call failed" not in PAGES["failed"]()
    assert "p: No call failed." in Reader(PAGES["compared"]()).lines
    limited = PAGES["rate-limited"]()
    assert ">no stage<" in limited
    assert "5,230 of 10,073 calls were refused" in limited
    assert "100 sustained" not in limited.lower()


def test_a_page_draws_the_worst_regressions_and_always_the_key_figures() -> None:
    case = good()
    cells = [
        Cell("tools", "tool", tool.name, figure)
        for tool in TOOLS[:-1]
        for figure in ("p50", "p95", "p99")
    ]
    case = compared(case.folder, case.earlier, statuses=dict.fromkeys(cells, "confirmed"))
    trends = build_trends(case.folder, case.comparison, case.earlier)
    assert len(trends) == 4 + 4
    assert trends[-1].title == "first dispatch p50"


def test_a_history_without_runs_says_how_to_begin() -> None:
    assert "No run in the history yet" in render_history_page([])


def test_a_page_is_written_beside_the_run(tmp_path: Path) -> None:
    case = good()
    folder = replace(case.folder, path=tmp_path)
    path = write_page(folder, case.comparison, case.earlier)
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8") == render_page(folder, case.comparison, case.earlier)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 37, (0, 10, 20, 30, 40)),
        (0, 0, (0, 0.25)),
        (21, 29, (20, 22, 24, 26, 28, 30)),
        (0, 0.02, (0, 0.005, 0.01, 0.015, 0.02)),
    ],
)
def test_ticks_are_round_and_contain_all_values(
    low: float, high: float, ticks: tuple[float, ...]
) -> None:
    assert find_ticks(high, low) == ticks


def test_a_logarithmic_axis_has_powers_of_ten_or_finer_ticks() -> None:
    assert find_log_ticks(0.8, 2000) == (1, 10, 100, 1000)
    assert find_log_ticks(0.8, 40) == (1, 3, 10, 30)
    assert find_log_ticks(2, 70) == (3, 10, 30)


def test_names_at_the_end_of_lines_do_not_overlap() -> None:
    assert set_apart([10.0, 80.0, 12.0], 14) == [10.0, 80.0, 24.0]


def test_long_names_are_cut_by_the_columns_they_take() -> None:
    assert shorten("executeSQL", 10) == "executeSQL"
    assert shorten("x" * 300, 10) == "x" * 9 + "…"
    assert shorten("工具工具工具", 6) == "工具…"


def test_an_accepted_regression_is_not_marked_in_the_history() -> None:
    case = regressed()
    entry = Entry(case.folder.run, case.folder.rows, case.comparison.confirmed)
    assert "regressed ▲" in " ".join(Reader(render_history_page([entry])).lines)
    accepted = " ".join(Reader(render_history_page([replace(entry, accepted=True)])).lines)
    assert "accepted" in accepted
    assert "▲" not in accepted
