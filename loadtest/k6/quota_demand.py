"""How many units of a target's quota a run needs, and what to do if that is too much."""

import math
import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from loadtest.common.command_name import spell
from loadtest.config.models import Profile, Quota
from loadtest.config.settings import Settings
from loadtest.config.tool_table import ToolTable
from loadtest.errors import ConfigError
from loadtest.k6.command import build_phases, find_open_seconds
from loadtest.state.quotas import read_raised
from loadtest.target.rate_limits import RateLimits

WINDOW_SECONDS = 60
MOSTLY = 0.5  # with a larger share of refusals, a scenario measures the quota and not the target
NOTABLE = 0.01  # with a larger share of refusals, latencies are not valid
# A fitted mix uses this share of the quota, less three standard deviations of a minute's cost.
FITTED_SHARE = 0.95
DEVIATIONS = 3
CALLING = ("sessions", "tools", "streams", "soak")  # the scenarios that call tools
# A policy is a name or a bare number; its parameters are `q`, the quota, and `w`, its seconds.
_POLICY = re.compile(r'^\s*("[^"]*"|[^;\s]*)\s*(;.*)?$')


@dataclass(frozen=True)
class Allowance:
    """What one client may spend in a minute, and the source of that number."""

    quota: Quota
    units: int
    seen: str

    def describe(self) -> str:
        """Return it as text."""
        return f"{self.units:,} units/min per client ({self.seen})"


@dataclass(frozen=True)
class _Piece:
    """A part of the schedule in which a client spends at one rate, in units per second."""

    scenario: str
    begin: float
    end: float
    rate: float

    def spend(self, begin: float, seconds: float) -> float:
        """Return the units that are spent from `begin` on, for these seconds."""
        return self.rate * max(0.0, min(self.end, begin + seconds) - max(self.begin, begin))


@dataclass(frozen=True)
class Demand:
    """What a profile with its tool table needs from a server with a quota per client.

    `loop_rate` is the estimated rate of a mix without `target_rps`, in calls/s; with None the mix
    is left out. `answer_seconds` is how long a call of the ladder takes, as far as that is known.
    """

    profile: Profile
    tools: ToolTable
    quota: Quota
    scenarios: Sequence[str] = CALLING
    loop_rate: float | None = None
    answer_seconds: float = 0.0

    def find_peak_units(self, clients: int) -> int:
        """Return the most that one client spends in any 60 s, at the scheduled rates.

        Sessions are given to the clients in turn; each calls at the pace of the ladder.
        """
        pieces = tuple(self._schedule(clients))
        edges = (*(piece.begin for piece in pieces), *(p.end - WINDOW_SECONDS for p in pieces))
        spent = (sum(piece.spend(edge, WINDOW_SECONDS) for piece in pieces) for edge in edges)
        return math.ceil(round(max(spent, default=0.0), 6))

    def find_refused(self, clients: int, units: int) -> dict[str, float]:
        """Return by scenario the share of calls that exceed the quota of their client.

        Counted second by second; a refused call costs nothing.
        """
        kinds = Counter(tuple(self._schedule(clients, client)) for client in range(clients))
        asked: dict[str, float] = defaultdict(float)
        refused: dict[str, float] = defaultdict(float)
        for pieces, count in kinds.items():
            window: deque[float] = deque(maxlen=WINDOW_SECONDS - 1)
            for second in range(math.ceil(max((piece.end for piece in pieces), default=0.0))):
                room = max(0.0, units - sum(window))
                taken = 0.0
                for piece in pieces:
                    wanted = piece.spend(second, 1.0)
                    given = min(wanted, room - taken)
                    taken += given
                    asked[piece.scenario] += wanted * count
                    refused[piece.scenario] += (wanted - given) * count
                window.append(taken)
        return {name: refused[name] / total for name, total in asked.items() if total}

    def count_clients(self, units: int) -> int | None:
        """Return the fewest clients that each need at most `units`, or None."""
        soak = self.profile.soak.vus if self.profile.soak else 1
        most = max(*self.profile.sessions.stages, self.profile.tools.vus, soak)
        return next((n for n in range(1, most + 1) if self.find_peak_units(n) <= units), None)

    def find_most_sessions(self, clients: int, units: int) -> int:
        """Return the largest single stage that stays within `units`; 0 if none does."""
        ladder = self.profile.sessions
        weight = self.quota.weigh(str(ladder.tool))
        cost = weight * min(WINDOW_SECONDS, ladder.stage_seconds) * self.find_session_rate()
        return clients * int(round(units / cost, 6))

    def find_mix_rate(self, clients: int, units: int) -> float:
        """Return the highest `target_rps`, in calls/s, with which the mix stays within `units`.

        Tools are drawn at random, so the cost of a minute varies; the rate leaves a margin for it.
        """
        mean, deviation = self.weigh_mix()
        share = self._find_busiest_share(clients)
        spread = DEVIATIONS * deviation
        root = math.sqrt(spread**2 + 4 * mean * units * FITTED_SHARE) - spread
        return _round_down((root / (2 * mean)) ** 2 / WINDOW_SECONDS / share)

    def weigh_mix(self) -> tuple[float, float]:
        """Return the mean cost of a call of the mix in units, and its standard deviation."""
        costs = [(weight, self.quota.weigh(tool)) for _, tool, weight in self.tools.list_weights()]
        total = sum(weight for weight, _ in costs)
        mean = sum(weight * cost for weight, cost in costs) / total
        squares = sum(weight * cost**2 for weight, cost in costs) / total
        return mean, math.sqrt(max(0.0, squares - mean**2))

    def find_session_rate(self) -> float:
        """Return the calls/s of one session of the ladder."""
        return self.profile.sessions.pace.find_rate(self.answer_seconds)

    def find_rate(self) -> float | None:
        """Return the rate of the mix in calls/s: the scheduled one, else the estimate."""
        return self.profile.tools.target_rps or self.loop_rate

    def _schedule(self, clients: int, client: int = 0) -> Iterator[_Piece]:
        """Yield the schedule of one client; the first client has the most sessions."""
        ladder, mix = self.profile.sessions, self.profile.tools
        begin = 0.0
        if "sessions" in self.scenarios:
            weight = self.quota.weigh(str(ladder.tool)) * self.find_session_rate()
            slots = build_phases("sessions", self.profile, self.tools)
            for stage, slot in zip(ladder.stages, slots, strict=True):
                cost = _deal(stage, clients, client) * weight
                opened = begin + find_open_seconds("sessions", self.profile)
                yield _Piece("sessions", opened, opened + ladder.stage_seconds, cost)
                begin += slot.seconds or 0.0
        rate = self.find_rate() if "tools" in self.scenarios else None
        if rate is not None:
            share = _deal(mix.vus, clients, client) / mix.vus
            opened = begin + find_open_seconds("tools", self.profile)
            end = opened + mix.duration_seconds
            mean, _ = self.weigh_mix()
            yield _Piece("tools", opened, end, rate * share * mean)
            if client == 0 and mix.observed_rps:
                yield _Piece("tools", opened, end, mix.observed_rps * mean)
            begin = end
        streams = self.profile.streams if "streams" in self.scenarios else None
        if streams is not None and client == 0:
            weight = self.quota.weigh(str(ladder.tool)) * self.find_session_rate()
            for slot in build_phases("streams", self.profile, self.tools):
                opened = begin + find_open_seconds("streams", self.profile)
                yield _Piece("streams", opened, opened + streams.stage_seconds, weight)
                begin += slot.seconds or 0.0
        soak = self.profile.soak if "soak" in self.scenarios else None
        if soak is not None:
            mean, _ = self.weigh_mix()
            calls = _deal(soak.vus, clients, client) * soak.pace.find_rate()
            opened = begin + find_open_seconds("soak", self.profile)
            yield _Piece("soak", opened, opened + soak.duration_seconds, calls * mean)

    def _find_busiest_share(self, clients: int) -> float:
        """Return the share of the mix that the client with the most sessions calls."""
        vus = self.profile.tools.vus
        return _deal(vus, clients, 0) / vus


def find_allowances(
    settings: Settings, clients: Sequence[str | None], limits: RateLimits | None
) -> tuple[Allowance, ...]:
    """Return the quotas of each client: the configured one, and the one that the target announces.

    `clients` are their ids, `limits` is what RateLimit headers announce. If quotas were raised, the
    lowest of them counts.
    """
    found = []
    quota = settings.environment.quota
    if quota is not None:
        units = quota.units_per_minute
        if clients and len(clients) >= settings.clients:
            raised = read_raised(settings.state_dir)
            units = min(raised.get(str(client), units) for client in clients)
        base = quota.units_per_minute
        seen = f"raised from {base}" if units > base else "configured"
        found.append(Allowance(quota, units, seen))
    announced = parse_policy(limits.policy) if limits and limits.policy else None
    if announced is not None:
        found.append(Allowance(announced, announced.units_per_minute, "its RateLimit headers"))
    return tuple(found)


def estimate_loop(settings: Settings, durations_ms: Mapping[str, float]) -> tuple[float, str]:
    """Return the most calls/s that a closed loop will make, and the calculation as text.

    `durations_ms` are of one call of each tool, made before the run; without them, only the limit
    of the environment is known.
    """
    vus, most = settings.profile.tools.vus, settings.environment.limits.max_rps
    weights = [(name, weight) for name, _, weight in settings.tools.list_weights()]
    spent = sum(weight * durations_ms.get(name, 0.0) for name, weight in weights)
    mean_ms = spent / sum(weight for _, weight in weights)
    pace = settings.profile.tools.pace
    if pace is not None:
        return (paced := vus * pace.find_rate(mean_ms / 1000)), f"{paced:.3g} calls/s"
    if not spent:
        return most, f"up to {most:,} calls/s by max_rps"
    reached = vus * 1000 / mean_ms
    text = f"{vus} VUs that call again after {mean_ms:,.0f} ms reach {reached:,.0f} calls/s"
    if reached > most:
        return most, f"{text}, of which max_rps allows {most:,}"
    return reached, text


def check_quota(
    settings: Settings,
    profile: Profile,
    scenarios: Sequence[str],
    allowances: Sequence[Allowance],
    durations_ms: Mapping[str, float],
    clients: int,
) -> Iterator[str]:
    """Yield warnings about calls that a quota will refuse; ConfigError if those are most calls.

    The calls are not made to find out, because a target logs each refusal.
    """
    _, arithmetic = estimate_loop(settings, durations_ms)
    for allowance in allowances:
        demand = _build_demand(settings, profile, scenarios, allowance, durations_ms)
        refused = demand.find_refused(clients, allowance.units)
        over = {name: share for name, share in refused.items() if share > NOTABLE}
        if not over:
            continue
        demand = replace(demand, scenarios=tuple(over))
        parts = [
            f"about {share:.0%} of the calls of {_describe(demand, name, arithmetic)}"
            for name, share in over.items()
        ]
        remedies = " or ".join(list_remedies(settings, demand, clients, allowance.units))
        text = (
            f"the target's quota would refuse {' and '.join(parts)}: it allows "
            f"{allowance.describe()}, by {_count_clients(clients)}. To measure the target: "
            f"{remedies}"
        )
        if max(over.values()) > MOSTLY:
            raise ConfigError(f"not started: {text}")
        yield text


def needs_pause(
    settings: Settings,
    profile: Profile,
    scenarios: Sequence[str],
    allowances: Sequence[Allowance],
    durations_ms: Mapping[str, float],
    clients: int,
) -> bool:
    """Return whether a minute must pass before these scenarios may call again.

    It need not if the quotas allow their highest rate for a whole minute.
    """
    ladder = profile.sessions.model_copy(update={"stage_seconds": WINDOW_SECONDS})
    mix = profile.tools.model_copy(update={"duration_seconds": WINDOW_SECONDS})
    steady = profile.model_copy(update={"sessions": ladder, "tools": mix})
    return any(
        _build_demand(settings, steady, scenarios, allowance, durations_ms).find_peak_units(clients)
        > allowance.units
        for allowance in allowances
    )


def _build_demand(
    settings: Settings,
    profile: Profile,
    scenarios: Sequence[str],
    allowance: Allowance,
    durations_ms: Mapping[str, float],
) -> Demand:
    rate, _ = estimate_loop(settings, durations_ms)
    answer_seconds = durations_ms.get(str(profile.sessions.tool), 0.0) / 1000
    return Demand(profile, settings.tools, allowance.quota, scenarios, rate, answer_seconds)


def fit_mix(settings: Settings, allowances: Sequence[Allowance], clients: int) -> Profile:
    """Return the profile with the mix as an open loop, at a rate that every quota allows."""
    if not allowances:
        raise ConfigError(
            "--fit-quota: no quota is known: set it in "
            f"[environment.{settings.environment_name}.quota] of loadtest.toml"
        )
    profile = settings.profile
    rates = [
        Demand(profile, settings.tools, each.quota).find_mix_rate(clients, each.units)
        for each in allowances
    ]
    rate = min(*rates, settings.environment.limits.max_rps, profile.tools.scheduled_rps or math.inf)
    if rate <= 0:
        raise ConfigError("--fit-quota: the quota allows less than one call in 100 s")
    tools = profile.tools.model_copy(update={"target_rps": rate, "pace_seconds": None})
    return profile.model_copy(update={"tools": tools})


def list_remedies(settings: Settings, demand: Demand, clients: int, units: int) -> Iterator[str]:
    """Yield remedies: more clients, a higher quota, a lower rate."""
    peak = demand.find_peak_units(clients)
    needed = demand.count_clients(units)
    if needed is not None:
        yield f"--clients {needed}"
    most = demand.quota.most_units_per_minute
    is_ours = settings.environment.provision == "novamart"
    who = f" ({spell('provision')} does that if it is allowed to)" if is_ours else ""
    if most is None or peak <= most:
        yield f"have the quota raised to {peak:,}{who}"
    elif units < most:
        with_most = demand.count_clients(most)
        if with_most is not None:
            yield f"have the quota raised to {most:,}{who}, with --clients {with_most}"
    if "sessions" in demand.scenarios:
        sessions = demand.find_most_sessions(clients, units)
        lower = f"--stages of {sessions} at most" if sessions else "fewer --stages"
        yield f"{lower}, or a --tool that costs less"
    if "streams" in demand.scenarios and "sessions" not in demand.scenarios:
        yield "a longer --pace-seconds, or a --tool that costs less"
    if "tools" in demand.scenarios and demand.find_rate() is not None:
        rate = demand.find_mix_rate(clients, units)
        yield f"--fit-quota, which is --target-rps {rate:g}" if rate else "cheaper tools"


def parse_policy(text: str) -> Quota | None:
    """Return the lowest quota of a RateLimit-Policy header in calls a minute; None if it has none.

    Both forms in use are read, `"name";q=100;w=60` and `100;w=60`. Windows longer than a minute are
    ignored, because they allow bursts.
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
    if quota.isascii() and quota.isdigit() and len(quota) <= 9 and 0 < window <= WINDOW_SECONDS:
        yield max(1, int(quota) * WINDOW_SECONDS // window)


def _describe(demand: Demand, scenario: str, arithmetic: str) -> str:
    """Return what a scenario sends, as text."""
    ladder = demand.profile.sessions
    if scenario in {"sessions", "streams"}:
        rate, cost = demand.find_session_rate(), float(demand.quota.weigh(str(ladder.tool)))
        most = max(ladder.stages)
        what, text = "ladder", f"{most} sessions make {most * rate:.3g} calls/s"
        if scenario == "streams":
            what, text = "client beside the streams", f"{rate:.3g} calls/s"
    elif scenario == "soak" and demand.profile.soak is not None:
        soak, cost = demand.profile.soak, demand.weigh_mix()[0]
        what = "soak"
        text = f"{soak.vus} sessions make {soak.vus * soak.pace.find_rate():.3g} calls/s"
    else:
        target, cost = demand.profile.tools.target_rps, demand.weigh_mix()[0]
        what, text = "tool mix", arithmetic if target is None else f"{target:g} calls/s"
    return f"the {what} ({text}, at {cost:.2g} unit{'' if cost == 1 else 's'} a call)"


def _count_clients(clients: int) -> str:
    return f"{clients} client{'' if clients == 1 else 's'}"


def _deal(count: int, clients: int, client: int) -> int:
    """Return how many of `count` sessions a client gets, if each gets one in turn."""
    return count // clients + (client < count % clients)


def _round_down(rate: float) -> float:
    """Return the rate with two or three digits, rounded down."""
    step = 1 if rate >= 10 else 10 if rate >= 1 else 100
    rounded = math.floor(round(rate * step, 6)) / step
    return int(rounded) if rounded.is_integer() else rounded
