"""What a profile asks of a target: how much of each client's quota in a minute."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from loadtest.config import Profile, Quota
from loadtest.k6 import build_phases, find_open_seconds
from loadtest.tools import ToolTable

WINDOW_SECONDS = 60
# A policy is a name or a bare number; its parameters are `q`, the quota, and `w`, its seconds.
_POLICY = re.compile(r'^\s*("[^"]*"|[^;\s]*)\s*(;.*)?$')


@dataclass(frozen=True)
class _Piece:
    """A part of the schedule in which the busiest client spends at one rate, in units a second."""

    begin: float
    end: float
    rate: float


@dataclass(frozen=True)
class Demand:
    """What a profile with its table of tools asks of a server that meters each client."""

    profile: Profile
    tools: ToolTable
    quota: Quota

    def find_peak_units(self, clients: int) -> int:
        """Return the most that one client spends in a sliding minute, at the rates scheduled.

        Sessions are dealt to the clients in turn, each calls once a second. A tool mix without
        `target_rps` has no schedule and is left out: it goes as fast as the target answers.
        """
        pieces = tuple(self._schedule(clients))
        edges = (*(piece.begin for piece in pieces), *(p.end - WINDOW_SECONDS for p in pieces))
        peak = max(sum(_spend(piece, edge) for piece in pieces) for edge in edges)
        return math.ceil(round(peak, 6))

    def count_clients(self, units: int) -> int | None:
        """Return the fewest clients with which the schedule stays within `units` each, or None."""
        most = max(*self.profile.sessions.stages, self.profile.tools.vus)
        return next((n for n in range(1, most + 1) if self.find_peak_units(n) <= units), None)

    def find_mix_rate(self, clients: int, units: int) -> int:
        """Return the highest `target_rps`, in calls/s, with which the mix stays within `units`."""
        cost = self._find_mix_weight() * self._find_busiest_share(clients)
        return int(round(units / WINDOW_SECONDS / cost, 9))

    def _schedule(self, clients: int) -> Iterator[_Piece]:
        ladder, mix = self.profile.sessions, self.profile.tools
        weight = self.quota.weigh(str(ladder.tool))
        begin = 0.0
        slots = build_phases("sessions", self.profile)
        for stage, slot in zip(ladder.stages, slots, strict=True):
            rate = math.ceil(stage / clients) * weight
            opened = begin + find_open_seconds("sessions", self.profile)
            yield _Piece(opened, opened + ladder.stage_seconds, rate)
            begin += slot.seconds or 0.0
        if mix.target_rps is not None:
            cost = mix.target_rps * self._find_busiest_share(clients) * self._find_mix_weight()
            opened = begin + find_open_seconds("tools", self.profile)
            yield _Piece(opened, opened + mix.duration_seconds, cost)

    def _find_busiest_share(self, clients: int) -> float:
        """Return the share of the mix that the client with most of its sessions calls."""
        vus = self.profile.tools.vus
        return math.ceil(vus / clients) / vus

    def _find_mix_weight(self) -> float:
        """Return what a call of the tool mix costs on average, in units."""
        shares = {name: pool.weight for name, pool in self.tools.tools.items()}
        spent = sum(share * self.quota.weigh(tool) for tool, share in shares.items())
        return spent / sum(shares.values())


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


def _spend(piece: _Piece, window_begin: float) -> float:
    begin = max(piece.begin, window_begin)
    end = min(piece.end, window_begin + WINDOW_SECONDS)
    return piece.rate * max(0.0, end - begin)
