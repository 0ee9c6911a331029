"""What a profile asks of a target: which tools, and how much of each client's quota in a minute."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from loadtest.config import Profile, Quota
from loadtest.k6 import OPEN_SECONDS, SCRIPTS, build_phases

WINDOW_SECONDS = 60
# A policy is a name or a bare number; its parameters are `q`, the quota, and `w`, its seconds.
_POLICY = re.compile(r'^\s*("[^"]*"|[^;\s]*)\s*(;.*)?$')


@dataclass(frozen=True)
class _Piece:
    """A part of the schedule in which the busiest client spends at one rate, in units a second."""

    begin: float
    end: float
    rate: float


def find_tools(profile: Profile) -> frozenset[str]:
    """Return the tools that a run calls."""
    return frozenset(_read_mix()) | {profile.sessions.tool}


def find_peak_units(profile: Profile, quota: Quota, clients: int) -> int:
    """Return the most that one client spends in a sliding minute, at the rates that are scheduled.

    Sessions are dealt to the clients in turn, each calls once a second. A tool mix without
    `target_rps` has no schedule and is left out: it goes as fast as the target answers.
    """
    pieces = tuple(_schedule(profile, quota, clients))
    edges = (*(piece.begin for piece in pieces), *(p.end - WINDOW_SECONDS for p in pieces))
    peak = max(sum(_spend(piece, edge) for piece in pieces) for edge in edges)
    return math.ceil(round(peak, 6))


def count_clients(profile: Profile, quota: Quota, units: int) -> int | None:
    """Return the fewest clients with which the schedule stays within `units` each; None if none."""
    most = max(*profile.sessions.stages, profile.tools.vus)
    return next(
        (n for n in range(1, most + 1) if find_peak_units(profile, quota, n) <= units), None
    )


def find_mix_rate(profile: Profile, quota: Quota, clients: int, units: int) -> int:
    """Return the highest `target_rps`, in calls/s, at which the mix stays within `units` each."""
    cost = _find_mix_weight(quota) * _find_busiest_share(profile, clients)
    return int(round(units / WINDOW_SECONDS / cost, 9))


def parse_policy(text: str) -> Quota | None:
    """Return the tightest policy of a RateLimit-Policy header, as calls a minute; None if none.

    Both forms in use are read, `"name";q=100;w=60` and `100;w=60`; windows beyond a minute allow
    bursts that no rate tells, and are left out.
    """
    found = [units for member in text.split(",") for units in _parse_member(member)]
    return Quota(units_per_minute=min(found)) if found else None


def _parse_member(member: str) -> Iterator[int]:
    match = _POLICY.match(member)
    if match is None:
        return
    parameters = dict(re.findall(r";\s*([a-z]+)=(\d{1,9})(?![^;\s])", match[2] or ""))
    quota: str = parameters.get("q") or match[1] or ""
    window = int(parameters.get("w", "0"))
    if quota.isascii() and quota.isdigit() and 0 < window <= WINDOW_SECONDS:
        yield max(1, int(quota) * WINDOW_SECONDS // window)


def _schedule(profile: Profile, quota: Quota, clients: int) -> Iterator[_Piece]:
    ladder, mix = profile.sessions, profile.tools
    begin = 0.0
    for stage, slot in zip(ladder.stages, build_phases("sessions", profile), strict=True):
        rate = math.ceil(stage / clients) * quota.weigh(ladder.tool)
        yield _Piece(begin + OPEN_SECONDS, begin + OPEN_SECONDS + ladder.stage_seconds, rate)
        begin += slot.seconds or 0.0
    if mix.target_rps is not None:
        share = _find_busiest_share(profile, clients)
        cost = mix.target_rps * share * _find_mix_weight(quota)
        yield _Piece(begin + OPEN_SECONDS, begin + OPEN_SECONDS + mix.duration_seconds, cost)


def _find_busiest_share(profile: Profile, clients: int) -> float:
    """Return the share of the mix that the client with most of its sessions calls."""
    return math.ceil(profile.tools.vus / clients) / profile.tools.vus


def _find_mix_weight(quota: Quota) -> float:
    """Return what a call of the tool mix costs on average, in units."""
    mix = _read_mix()
    return sum(share * quota.weigh(tool) for tool, share in mix.items()) / sum(mix.values())


def _spend(piece: _Piece, window_begin: float) -> float:
    begin = max(piece.begin, window_begin)
    end = min(piece.end, window_begin + WINDOW_SECONDS)
    return piece.rate * max(0.0, end - begin)


@cache
def _read_mix() -> Mapping[str, int]:
    """Return the tool mix of the k6 scripts: tools and their shares."""
    fixture = json.loads((SCRIPTS / "fixtures" / "novamart.json").read_text(encoding="utf-8"))
    return {tool: pool["weight"] for tool, pool in fixture["tools"].items()}
