"""Which agents are far worse than their peers at the same skill?  Pure.

Breakers see an agent that fails most of the time. This sees one that fails, or takes, much more than others that do the
same work: it is ejected, which is a breaker that opens with that reason. The comparison of success rates follows
Envoy's outlier detection (mean − 1.9 standard deviations), with two additions: the deviation is never taken for less
than chance alone would bring, and the gap has to matter.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from routing.breaker import Skill
from routing.breakers import Breakers

Group = tuple[str, Skill]  # (tenant, skill): its agents are each other's peers
KEPT_SECONDS = 40  # an agent's latest durations at a skill, of which the p95 is taken
KEPT_GROUPS = 5_000  # the one that heard nothing for longest is forgotten first


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierRule:
    """How much worse than its peers an agent must be to be ejected."""

    least_peers: int = 3
    least_seen: float = 20.0  # recent attempts of each agent that is compared
    deviations: float = 1.9  # below the peers' mean success rate
    least_gap: float = 0.1  # 0..1, and below it by at least this much
    slowness: float = 3.0  # its p95 is more than so many times the peers' median p95 …
    sustained_s: float = 30.0  # … for so long
    most_ejected: float = 0.5  # 0..1, share of the peers that are out at once
    look_s: float = 10.0  # peers are compared so often
    memory: float = 0.98  # 0..1, weight of an attempt after each later one

    def problems(self) -> list[str]:
        """Return in words what is wrong with the rule, empty if nothing is."""
        return [words for is_wrong, words in self._checks() if is_wrong]

    def _checks(self) -> Iterator[tuple[bool, str]]:
        is_memory = 0 < self.memory < 1
        most = 0.9 / (1 - self.memory) if is_memory else math.inf
        yield not is_memory, "memory must lie between 0 and 1."
        yield self.least_peers < 2, "least_peers must be at least 2."
        yield (
            not 1 <= self.least_seen <= 0.9 * most,
            f"least_seen must be at least 1 and, by memory, at most {most:.0f}.",
        )
        yield not self.deviations > 0, "deviations must be above 0."
        yield not 0 <= self.least_gap < 1, "least_gap must be at least 0 and below 1."
        yield not self.slowness > 1, "slowness must be above 1."
        yield not self.sustained_s >= 0, "sustained_s must not be below 0."
        yield not 0 <= self.most_ejected <= 0.5, "most_ejected must lie between 0 and 0.5."
        yield not self.look_s > 0, "look_s must be above 0."


class Row(TypedDict):
    """What one agent has lately shown at one skill, fit for JSON."""

    tenant: str
    skill: str
    version: str
    agent: str
    seen: float
    good: float
    seconds: list[float]
    slow_since: float | None


@dataclass(slots=True)
class _Shown:
    """What one agent has lately shown at one skill."""

    seen: float = 0.0  # attempts, the older the less they weigh
    good: float = 0.0  # of these, those that succeeded
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_SECONDS))
    slow_since: float | None = None

    @property
    def rate(self) -> float:
        """Return the share that succeeded, 0..1."""
        return self.good / self.seen

    @property
    def p95_s(self) -> float:
        """Return the 95th percentile (nearest rank) of its latest durations, 0 if it has none."""
        ordered = sorted(self.seconds)
        return ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else 0.0


class Outliers:
    """All comparisons of the fleet."""

    def __init__(self, rule: OutlierRule | None = None) -> None:
        self.rule = rule or OutlierRule()
        self._groups: dict[Group, dict[str, _Shown]] = {}  # the one that was heard of last stands last
        self._fresh: dict[Group, float] = {}  # groups with news → when to look at them, the first first

    def succeeded(self, tenant: str, skill: Skill, agent: str, now: float, seconds: float) -> None:
        """Note down that an attempt succeeded in ``seconds``."""
        self._count(tenant, skill, agent, now, good=True).seconds.append(seconds)

    def failed(self, tenant: str, skill: Skill, agent: str, now: float) -> None:
        """Note down that an attempt failed by the agent's fault."""
        self._count(tenant, skill, agent, now, good=False)

    def next_due(self) -> float | None:
        """Return when ``due`` should be called, None while there is nothing new."""
        return next(iter(self._fresh.values()), None)

    def due(self, now: float, breakers: Breakers) -> set[str]:
        """Compare peers where it is time, eject the worst in ``breakers``, and return who was ejected."""
        ejected: set[str] = set()
        while (at := self.next_due()) is not None and at <= now:
            group = next(iter(self._fresh))
            del self._fresh[group]
            ejected.update(self._look(group, now, breakers))
        return ejected

    def keep(self, agents: Container[str]) -> None:
        """Forget all other agents: they are registered no more."""
        for shown in self._groups.values():
            for agent in [name for name in shown if name not in agents]:
                del shown[agent]

    def snapshot(self) -> list[Row]:
        """Return everything, fit for JSON."""
        return [
            {
                "tenant": tenant,
                "skill": skill[0],
                "version": skill[1],
                "agent": agent,
                "seen": shown.seen,
                "good": shown.good,
                "seconds": list(shown.seconds),
                "slow_since": shown.slow_since,
            }
            for (tenant, skill), known in self._groups.items()
            for agent, shown in known.items()
        ]

    def restore(self, rows: Iterable[Row]) -> None:
        """Take over what ``snapshot`` returned. Peers are compared when the next attempt ends."""
        for row in rows:
            known = self._groups.setdefault((row["tenant"], (row["skill"], row["version"])), {})
            seconds = deque(row["seconds"], maxlen=KEPT_SECONDS)
            known[row["agent"]] = _Shown(row["seen"], row["good"], seconds, row["slow_since"])

    # ---- within -------------------------------------------------------------------------------------------------

    def _count(self, tenant: str, skill: Skill, agent: str, now: float, *, good: bool) -> _Shown:
        group = (tenant, skill)
        known = self._groups[group] = self._groups.pop(group) if group in self._groups else {}
        if len(self._groups) > KEPT_GROUPS:
            oldest = next(iter(self._groups))
            del self._groups[oldest]
            self._fresh.pop(oldest, None)
        self._fresh.setdefault(group, now + self.rule.look_s)
        shown = known.setdefault(agent, _Shown())
        shown.seen = shown.seen * self.rule.memory + 1
        shown.good = shown.good * self.rule.memory + good
        return shown

    def _look(self, group: Group, now: float, breakers: Breakers) -> Iterator[str]:
        """Eject the outliers of one group, the worst first, and yield them."""
        known = self._groups.get(group, {})
        skill = group[1]
        places = math.floor(self.rule.most_ejected * len(known))
        places -= sum(not breakers.is_closed(agent, skill) for agent in known)
        peers = {a: s for a, s in known.items() if s.seen >= self.rule.least_seen and breakers.is_closed(a, skill)}
        if len(peers) - 1 < self.rule.least_peers:
            return
        for agent, why in [*self._failing(peers), *self._slow(peers, now)]:
            if places > 0 and breakers.eject(agent, skill, now, why):
                known[agent] = _Shown()  # when it is back it is judged by what it does then
                places -= 1
                yield agent

    def _failing(self, peers: Mapping[str, _Shown]) -> Iterator[tuple[str, str]]:
        """Yield those that succeed far less often than their peers, with the reason, the worst first."""
        rates = {agent: shown.rate for agent, shown in peers.items()}
        total, squares, others = sum(rates.values()), sum(r * r for r in rates.values()), len(rates) - 1
        for agent, rate in sorted(rates.items(), key=lambda item: (item[1], item[0])):
            mean = (total - rate) / others
            if rate >= mean - self.rule.least_gap:
                return  # and the gap of those that follow is smaller still
            spread = math.sqrt(max(0.0, (squares - rate * rate) / others - mean * mean))
            deviation = max(spread, _by_chance(mean, others * self.rule.least_seen, peers[agent].seen))
            if rate < mean - self.rule.deviations * deviation:
                yield agent, f"{100 * rate:.0f} % success, peers {100 * mean:.0f} %"

    def _slow(self, peers: Mapping[str, _Shown], now: float) -> list[tuple[str, str]]:
        """Return those that have been far slower than their peers for long enough, with the reason, slowest first."""
        p95s = {agent: shown.p95_s for agent, shown in peers.items() if shown.seconds}
        ordered = sorted(p95s.values())
        found = []
        for agent, p95_s in sorted(p95s.items(), key=lambda item: (-item[1], item[0])):
            usual_s = _median_without(ordered, p95_s) if len(ordered) > self.rule.least_peers else math.inf
            shown = peers[agent]
            if p95_s <= self.rule.slowness * usual_s:
                shown.slow_since = None
            elif shown.slow_since is None:
                shown.slow_since = now
            if shown.slow_since is not None and now - shown.slow_since >= self.rule.sustained_s:
                found.append((agent, f"95 % of its attempts within {p95_s:.3g} s, peers {usual_s:.3g} s"))
        return found


def _by_chance(rate: float, seen: float, own: float) -> float:
    """Return the standard deviation of a share of ``own`` attempts, where ``seen`` others succeeded at ``rate``."""
    cautious = (rate * seen + 1) / (seen + 2)  # Laplace's rule: nobody is perfect for sure
    return math.sqrt(cautious * (1 - cautious) / own)


def _median_without(ordered: list[float], value: float) -> float:
    """Return the median of two or more sorted values when one ``value`` of them is left out."""
    left_out = bisect.bisect_left(ordered, value)
    count = len(ordered) - 1
    low, high = (place + (place >= left_out) for place in ((count - 1) // 2, count // 2))
    return (ordered[low] + ordered[high]) / 2
