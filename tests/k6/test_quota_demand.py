"""What a profile asks of a target's quota, compared with calls counted one by one."""

import random
from collections import defaultdict, deque
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.config.models import Profile, Quota
from loadtest.config.tool_table import NOVAMART, read_table
from loadtest.k6.command import build_phases, find_open_seconds
from loadtest.k6.quota_demand import Demand, parse_policy

# The first user's server (wire contract, "quota").
TABLE = read_table(NOVAMART)
QUOTA = Quota(units_per_minute=60, weights={"executeSQL": 5, "runMetric": 3})


def build_profile(
    stages: tuple[int, ...] = (1,), seconds: int = 60, tool: str = "executeSQL", **tools: float
) -> Profile:
    return Profile.model_validate(
        {
            "cold_start": {"iterations": 1, "vus": 1},
            "sessions": {"stages": stages, "stage_seconds": seconds, "tool": tool},
            "tools": {"vus": 1, "duration_seconds": 10} | tools,
        }
    )


def demand(profile: Profile) -> Demand:
    return Demand(profile, TABLE, QUOTA)


def count_most(profile: Profile, weight: int, clients: int) -> int:
    """Deal the ladder's sessions to clients, and count each client's units minute by minute."""
    spent: dict[int, list[float]] = defaultdict(list)
    begin, opening = 0.0, find_open_seconds("sessions", profile)
    slots = build_phases("sessions", profile, TABLE)
    for stage, slot in zip(profile.sessions.stages, slots, strict=True):
        for session in range(stage):
            for second in range(profile.sessions.stage_seconds):
                spent[session % clients].append(begin + opening + second)
        begin += slot.seconds or 0
    return weight * max(
        sum(1 for moment in moments if start <= moment < start + 60)
        for moments in spent.values()
        for start in moments
    )


@given(
    stages=st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True).map(tuple),
    seconds=st.integers(1, 90),
    clients=st.integers(1, 12),
)
def test_the_peak_is_what_counting_call_by_call_finds(
    stages: tuple[int, ...], seconds: int, clients: int
) -> None:
    profile = build_profile(stages, seconds)
    counted = count_most(profile, 5, clients)
    found = demand(profile).find_peak_units(clients)
    # A call stands for the second that it begins: a window may cut that second once per stage.
    assert counted <= found + 5 * max(stages)
    assert found <= counted + 5 * max(stages)


@pytest.mark.parametrize(
    ("stages", "seconds", "clients", "peak"),
    [
        ((1,), 60, 1, 300),
        ((1, 10, 50, 100), 60, 1, 30_000),
        ((1, 10, 50, 100, 200), 300, 17, 3_600),
        ((1, 5, 10), 5, 1, 400),  # 16 sessions for 5 s each, all within a minute
        ((1, 5, 10), 5, 10, 75),
        ((3,), 10, 2, 100),  # one client has two of the sessions
    ],
)
def test_sessions_are_given_to_the_clients_in_turn(
    stages: tuple[int, ...], seconds: int, clients: int, peak: int
) -> None:
    assert demand(build_profile(stages, seconds)).find_peak_units(clients) == peak


def test_a_lighter_tool_costs_less() -> None:
    assert demand(build_profile(tool="listEntities")).find_peak_units(1) == 60
    assert demand(build_profile(tool="runMetric")).find_peak_units(1) == 180


def test_a_mix_counts_if_it_has_a_rate() -> None:
    # 60 % of 5, 30 % of 1 and 10 % of 3 units: 3.6 a call.
    assert demand(build_profile((1,), 1, duration_seconds=60)).find_peak_units(1) == 5
    mix = build_profile((1,), 1, duration_seconds=60, target_rps=10, vus=4)
    assert demand(mix).find_peak_units(1) == 2_160
    assert demand(mix).find_peak_units(2) == 1_080
    assert demand(mix).find_peak_units(3) == 1_080  # one client has two of the four sessions


@given(clients=st.integers(1, 8), vus=st.integers(1, 8), units=st.integers(60, 4_000))
def test_the_rate_for_a_mix_stays_within_the_quota_and_twice_the_rate_does_not(
    clients: int, vus: int, units: int
) -> None:
    rate = demand(build_profile(vus=vus)).find_mix_rate(clients, units)
    mix = {"duration_seconds": 60, "vus": vus}
    over = build_profile((1,), 1, tool="listEntities", target_rps=2 * rate, **mix)
    assert demand(over).find_peak_units(clients) > units
    within = build_profile((1,), 1, tool="listEntities", target_rps=rate, **mix)
    assert demand(within).find_peak_units(clients) <= units


@pytest.mark.parametrize("units", [60, 400, 3600])
def test_a_fitted_mix_is_almost_never_refused_although_its_tools_are_drawn_at_random(
    units: int,
) -> None:
    rate = demand(build_profile()).find_mix_rate(1, units)
    draw = random.Random(7)  # noqa: S311 (a seeded draw, as the mix makes)
    spent: deque[tuple[float, int]] = deque()
    taken = calls = refused = 0
    for calls in range(1, int(rate * 3600)):
        now = calls / rate
        while spent and spent[0][0] <= now - 60:
            taken -= spent.popleft()[1]
        cost = draw.choices((5, 1, 3), (6, 3, 1))[0]
        if taken + cost > units:
            refused += 1
        else:
            taken += cost
            spent.append((now, cost))
    assert refused <= calls / 100


@pytest.mark.parametrize(
    ("stages", "seconds", "clients", "units", "share"),
    [
        ((1,), 60, 1, 300, 0.0),
        ((1,), 60, 1, 60, 0.8),
        ((10,), 60, 1, 60, 0.98),
        ((1,), 120, 1, 150, 0.5),  # what is a minute old makes room again
        ((2,), 60, 2, 300, 0.0),
        ((3,), 60, 2, 300, 1 / 3),  # one client has two of the sessions
        ((1, 10), 60, 10, 300, 0.0),
    ],
)
def test_refusals_are_counted_without_a_call(
    stages: tuple[int, ...], seconds: int, clients: int, units: int, share: float
) -> None:
    found = demand(build_profile(stages, seconds)).find_refused(clients, units)
    assert found == {"sessions": pytest.approx(share, abs=0.001)}


def test_a_ladder_that_used_the_quota_leaves_nothing_for_the_mix_after_it() -> None:
    both = replace(demand(build_profile((1,), 30, duration_seconds=10)), loop_rate=100.0)
    assert both.find_refused(1, 150) == {"sessions": 0.0, "tools": 1.0}
    alone = replace(both, scenarios=("tools",), loop_rate=4.0)
    assert alone.find_refused(1, 150) == {"tools": 0.0}


@given(
    stages=st.lists(st.integers(1, 60), min_size=1, max_size=4, unique=True).map(tuple),
    units=st.integers(1, 4_000),
)
def test_the_number_of_clients_is_enough_and_one_less_is_not(
    stages: tuple[int, ...], units: int
) -> None:
    profile = build_profile(stages)
    needed = demand(profile).count_clients(units)
    if needed is None:
        assert demand(profile).find_peak_units(max(stages)) > units
        return
    assert demand(profile).find_peak_units(needed) <= units
    assert needed == 1 or demand(profile).find_peak_units(needed - 1) > units


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ('"default";q=100;w=60', 100),
        ("100;w=60", 100),
        ("10;w=1, 50;w=60", 50),
        ('"burst";q=100;w=60,"daily";q=1000;w=86400', 100),
        ('"a";w=30;q=7;pk=:c2Vzc2lvbg==:', 14),
        ('"daily";q=1000;w=86400', None),
        ("100", None),
        ('"a";q=-1;w=60', None),
        ('"a";q=5;w=0', None),
        ("", None),
    ],
)
def test_a_policy_header_is_read_as_calls_a_minute(text: str, units: int | None) -> None:
    found = parse_policy(text)
    assert (found.units_per_minute if found else None) == units
    assert found is None or found.weigh("executeSQL") == 1


@given(st.text(max_size=60))
def test_a_malformed_policy_header_is_not_an_error(text: str) -> None:
    found = parse_policy(text)
    assert found is None or found.units_per_minute > 0


def test_the_calls_of_an_observer_count_for_the_quota_of_the_first_client() -> None:
    alone = build_profile(vus=2, duration_seconds=60, target_rps=2)
    observed = build_profile(vus=2, duration_seconds=60, target_rps=2, observe_seconds=1)
    peaks = [
        replace(demand(profile), scenarios=("tools",)).find_peak_units(clients)
        for clients in (1, 2)
        for profile in (alone, observed)
    ]
    assert peaks[1] - peaks[0] == peaks[3] - peaks[2] == peaks[0] / 2
