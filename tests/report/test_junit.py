"""The objectives of a run for machines: JUnit XML, and the badge of shields.io."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from loadtest.compare.objectives import JudgedObjective, judge_objectives
from loadtest.config.objectives import Objective
from loadtest.report.badge import write_badge
from loadtest.report.junit import render_junit, write_junit
from loadtest.results.history import Entry
from loadtest.results.run_folder import RunFolder
from tests.report.report_runs import hostile, with_objectives


def judge(folder: RunFolder) -> tuple[JudgedObjective, ...]:
    return judge_objectives(Entry(folder.run, folder.rows))


def read(folder: RunFolder) -> ElementTree.Element:
    text = render_junit(folder, judge(folder))
    return ElementTree.fromstring(text.encode())  # noqa: S314 (our own)


def test_each_objective_is_a_test_case(tmp_path: Path) -> None:
    folder = with_objectives()
    path = write_junit(tmp_path / "junit.xml", folder, judge(folder))
    (suite,) = ElementTree.parse(path).getroot()  # noqa: S314
    counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped")]
    assert counts == ["6", "1", "0", "1"]
    assert suite.get("name") == folder.run.run_id
    cases = {case.get("name"): case for case in suite}
    assert cases.keys() >= {"holds 50 sessions", "executeSQL p95 at most 60 ms"}
    assert not [*cases["executeSQL p95 at most 60 ms"]]
    (missed,) = cases["runMetric p95 at most 2000 ms"]
    assert (missed.tag, missed.get("message")) == ("failure", "missed: 2108 ms, 5.4 % over")
    (unknown,) = cases["first dispatch p95 at most 1500 ms"]
    assert unknown.tag == "skipped"
    assert unknown.get("message") == "cannot tell: 200 ok calls, 300 needed"


@pytest.mark.parametrize("text", ['"><failure/>', "]]>", "\ufffe\x1b[31m", "\ud800", "&amp;"])
def test_a_hostile_name_stays_within_its_attribute(text: str) -> None:
    folder = hostile()
    objective = Objective("tools", "tool", text, "p95", 1)
    folder = replace(
        folder, run=replace(folder.run, objectives=(objective, *folder.run.objectives))
    )
    ((first, second),) = read(folder)
    assert [case.tag for case in (first, second)] == ["testcase", "testcase"]
    assert [case.tag for case in first] == ["skipped"]
    name = first.get("name") or ""
    assert name.endswith("p95 at most 1.0 ms")
    assert "\x1b" not in name


@pytest.mark.parametrize(
    ("kept", "message", "color"),
    [
        ((0, 2, 4, 5), "4 objectives met", "brightgreen"),
        ((0, 3), "cannot tell 1 of 2 objectives", "lightgrey"),
        (range(6), "1 of 6 objectives missed", "red"),
    ],
)
def test_a_badge_tells_the_worst(
    tmp_path: Path, kept: tuple[int, ...], message: str, color: str
) -> None:
    folder = replace(with_objectives(), path=tmp_path)
    judged = judge(folder)
    path = write_badge(folder, [judged[place] for place in kept])
    assert path == tmp_path / "badge.json"
    assert json.loads(path.read_text()) == {
        "schemaVersion": 1,
        "label": "load test of staging",
        "message": message,
        "color": color,
    }


def test_a_run_without_objectives_has_no_badge(tmp_path: Path) -> None:
    assert write_badge(replace(with_objectives(), path=tmp_path), ()) is None
    assert not [*tmp_path.iterdir()]
