"""The objectives of a run as JUnit XML, which CI systems show as tests."""

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from loadtest.compare.objectives import JudgedObjective
from loadtest.report.content.objectives import describe_finding, name_objective
from loadtest.report.content.wording import clean
from loadtest.report.markdown import write_readable
from loadtest.results.run_folder import RunFolder

# What XML 1.0 cannot contain, not even as a reference (section 2.2, Char).
_UNFIT = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(path: Path, folder: RunFolder, judged: Sequence[JudgedObjective]) -> Path:
    """Write a file with a test case for each objective, and return its path."""
    return write_readable(path, render_junit(folder, judged))


def render_junit(folder: RunFolder, judged: Sequence[JudgedObjective]) -> str:
    """Return one test suite: a missed objective is a failure, one that cannot be told is skipped.

    Readers of JUnit XML do not count a skipped test as passed.
    """
    run = folder.run
    standings = [each.standing for each in judged]
    counts = {
        "tests": str(len(judged)),
        "failures": str(standings.count("missed")),
        "errors": "0",
        "skipped": str(standings.count("cannot tell")),
    }
    name = _fit(f"load test of {run.environment}")
    root = Element("testsuites", {"name": name, **counts})
    facts = {"name": _fit(run.run_id), "timestamp": _fit(run.started.removesuffix("Z"))}
    suite = SubElement(root, "testsuite", {**facts, **counts})
    for each in judged:
        where = {"classname": _fit(f"{run.environment}.{each.objective.scenario}")}
        what = _fit(name_objective(folder, each.objective))
        case = SubElement(suite, "testcase", {**where, "name": what})
        if each.standing != "met":
            kind = "failure" if each.standing == "missed" else "skipped"
            found = _fit(f"{each.standing}: {describe_finding(folder, each)}")
            SubElement(case, kind, {"message": found})
    indent(root)
    return f"{tostring(root, encoding='unicode', xml_declaration=False)}\n"


def _fit(text: str) -> str:
    return _UNFIT.sub("?", clean(text))
