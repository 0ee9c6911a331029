"""Runs of unlike load generators are compared through their controls, or not at all."""

from dataclasses import replace

import pytest

from loadtest.compare.comparison import compare_run
from loadtest.results.history import Entry
from tests.compare.plain_runs import build_row, cell, entry, weeks

MACHINE = {"cpu_model": "Fast 3", "cpus": 4, "image": "ubuntu24 20261101.1", "region": "eastus"}


def on_machine(run: Entry, control_ms: float | None, **changes: object) -> Entry:
    """Return a run as this machine measured it; without `control_ms`, it has no control."""
    rows = run.rows
    if control_ms is not None:
        places = [(scenario, "control", "document") for scenario in ("sessions", "tools")]
        rows = (*rows, *(build_row(place, control_ms) for place in places))
    return replace(run, run=replace(run.run, machine={**MACHINE, **changes}), rows=rows)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cpu_model": "Slow 1"}, "CPU Slow 1, was Fast 3"),
        ({"cpus": 2}, "processors 2, was 4"),
        ({"image": "ubuntu26 20261101.1"}, "image ubuntu26, was ubuntu24"),
        ({"region": "westus"}, "region westus, was eastus"),
        ({"address_class": "public"}, None),
        ({"image": "ubuntu24 20261201.7"}, None),
    ],
)
def test_unlike_load_generators_are_not_compared_without_a_control(
    changes: dict[str, object], words: str | None
) -> None:
    before = on_machine(entry(0), None)
    comparison = compare_run(on_machine(entry(1), None, **changes), [before])
    wanted = words and f"unlike run run-000: {words}, and no control to compare through"
    assert {each.reason for each in comparison.baselines} == {wanted}


def test_a_new_version_of_k6_is_not_compared_silently() -> None:
    newer = entry(1, k6_version="2.2.0")
    (reason,) = {each.reason for each in compare_run(newer, [entry(0)]).baselines}
    assert reason == ("unlike run run-000: k6 2.2.0, was 1.1.0, and no control to compare through")


def test_the_ratio_of_the_controls_makes_up_for_a_slower_load_generator() -> None:
    earlier = [on_machine(run, 12.0) for run in weeks(8)]
    slow = on_machine(entry(8, 1.5), 18.0, cpu_model="Slow 1")
    comparison = compare_run(slow, earlier)
    assert {each.note for each in comparison.baselines} == {"CPU Slow 1, was Fast 3"}
    latencies = {each for each in comparison.changes if each.figure.startswith("p")}
    assert {comparison.changes[each].status for each in latencies} == {"same"}
    before = comparison.changes[cell("p50")].before
    assert before == pytest.approx(1.5 * earlier[-1].figures[cell("p50")])
    assert compare_run(on_machine(entry(8, 1.5), 18.0), earlier).suspected


def test_a_control_of_few_requests_makes_up_for_nothing() -> None:
    run = on_machine(entry(0), None)
    thin = [build_row(("tools", "control", "document"), 12.0, calls=20)]
    earlier = replace(run, rows=(*run.rows, *thin))
    comparison = compare_run(on_machine(entry(1), 12.0, cpus=2), [earlier])
    assert all(each.reason for each in comparison.baselines)
