"""What is found on targets that leak on purpose, and that nothing is found on a sound one."""

import _thread
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.config.loading import load_settings
from loadtest.config.models import STATELESS
from loadtest.errors import TargetError, UsageError
from loadtest.k6.open_sessions import find_left
from loadtest.leaks.cycles import Observation, observe
from loadtest.leaks.findings import describe, find_leaks
from loadtest.leaks.load import Load, plan_load
from loadtest.reference.knobs import Knobs
from loadtest.reference.server import ReferenceTarget
from loadtest.state.bearers import read_bearers
from tests.k6.running import mint_by_session
from tests.support.checkout import ROOT

pytestmark = pytest.mark.slow

HANDSHAKE = "2025-11-25"
LOAD = Load(
    cycles=8, sessions=12, abandoned=1, most_rate=2000, most_seconds=300, settle_seconds=0.3
)
Look = Callable[..., Observation]


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """Run the cycles against a target with these knobs; they must leave nothing that can go."""

    def run(
        load: Load = LOAD,
        protocol: str = HANDSHAKE,
        tell: Callable[[str], None] = lambda _: None,
        **knobs: Any,
    ) -> Observation:
        with ReferenceTarget(Knobs(**knobs)) as target:
            mint_by_session(target.api_url, tmp_path / "bearer.json")
            bearers = read_bearers(tmp_path / "bearer.json")
            try:
                return observe(tmp_path, bearers, protocol, load, tell)
            finally:
                assert find_left(tmp_path) == ()
                if not knobs.get("leaked_session_share") and knobs.get("deletes", True):
                    assert target.open_sessions == 0

    return run


def test_a_sound_server_has_no_leak_and_its_cap_is_named(look: Look) -> None:
    seen = look(session_cap=10)
    assert find_leaks(seen) == ()
    assert [cycle.opened for cycle in seen.cycles] == [10, 9, 8, 7, 6, 5, 5, 5]
    assert [cycle.streams for cycle in seen.cycles] == [10, 9, 8, 7, 6, 5, 5, 5]
    said = list(describe(seen))
    assert said[0] == "it refuses session 11: HTTP 503: too_many_sessions"
    assert said[-1].startswith("abandoned sessions live longer than ")


def test_sessions_that_stay_after_delete_are_counted_and_take_room(look: Look) -> None:
    found = find_leaks(
        look(replace(LOAD, cycles=10, sessions=40), session_cap=40, leaked_session_share=0.08)
    )
    assert "sessions still answer after their DELETE" in found[0]
    assert "streams stay open after the DELETE of their session" in found[1]
    assert found[2].startswith("Room for sessions shrinks by ")


def test_streams_that_stay_after_delete_are_named(look: Look) -> None:
    (found,) = find_leaks(look(streams_stay=True))
    assert found == "90 streams stay open after the DELETE of their session (90 sessions)."


def test_places_of_ended_streams_that_do_not_come_back_are_found(look: Look) -> None:
    (found,) = find_leaks(look(stream_cap=12, leaked_stream_share=0.2))
    assert found.startswith("Room for streams shrinks by ")


def test_memory_that_every_request_reads_is_found_in_the_latency(look: Look) -> None:
    # On a busy machine, 8 cycles would not show a trend.
    found = find_leaks(look(replace(LOAD, cycles=12, sessions=2), leaked_kib=1024))
    assert found[-1].startswith("The latency of a call rises by ")


def test_the_life_of_abandoned_sessions_is_found(look: Look) -> None:
    load = replace(LOAD, cycles=1, sessions=8, abandoned=8, wait_seconds=12)
    seen = look(load, session_idle_seconds=6.0)
    assert {life.is_alive for life in seen.lives if life.age_seconds < 5} <= {True}
    assert {life.is_alive for life in seen.lives if life.age_seconds > 8} == {False}


def test_a_server_without_delete_is_filled_once_and_what_is_left_has_a_time(look: Look) -> None:
    seen = look(replace(LOAD, wait_seconds=8), deletes=False, session_idle_seconds=3.0)
    assert len(seen.cycles) == 1
    (found,) = find_leaks(seen)
    assert found.startswith("Sessions cannot be deleted (HTTP 405)")
    left, ended = list(describe(seen))[-2:]
    assert ended == "there are no more cycles: the next ones would fill the server with sessions"
    # 5 probes before, 12 clients, 5 probes after.
    assert re.fullmatch(
        r"22 sessions could not be deleted; .* ends the last of them by .* UTC", left
    )


def test_a_server_without_sessions_or_streams_says_so(look: Look) -> None:
    seen = look(protocol=STATELESS, eras="stateless", streams=False)
    assert list(describe(seen)) == [
        "the server has no sessions: only streams, first dispatch and latency were checked",
        "the server has no streams",
    ]
    assert find_leaks(seen) == ()
    seen = look(protocol=STATELESS, eras="stateless")
    assert [cycle.streams for cycle in seen.cycles] == [12] * 8


def test_a_server_that_lets_nobody_in_is_an_error(look: Look) -> None:
    with pytest.raises(TargetError, match="no client is let in: HTTP 503: auth_unavailable"):
        look(edge_refusal="auth_unavailable")


def test_after_ctrl_c_every_session_is_closed(look: Look) -> None:
    def interrupt(_: str) -> None:
        _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt):
        look(tell=interrupt)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"sessions": "501"}, "--sessions 501 is above max_vus, which is 500"),
        ({"sessions": "0"}, "--sessions must be a whole number of at least 1"),
        ({"cycles": "many"}, "--cycles must be a whole number of at least 1"),
        ({"wait_minutes": "9000"}, "10 cycles of 500 sessions take up to 540"),
    ],
)
def test_a_load_above_the_limits_is_refused_before_the_first_request(
    typed: dict[str, str], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        plan_load(load_settings(ROOT, "local", process_env={}), typed)
    assert words in str(caught.value)
