"""Which waiting task is next, and which agent gets it?  Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from functools import partial

from routing import events as e
from routing import policy
from routing.estimates import Estimates
from routing.fairness import FairShare
from routing.flights import LiveTask
from routing.lanes import Lane, LaneKey, Lanes, Place
from routing.roster import Roster

P95_RATIO = 3.0  # an attempt is overdue beyond so many times its predicted seconds


class Assignment:
    """Matches waiting tasks with free agents."""

    def __init__(self, roster: Roster, lanes: Lanes, estimates: Estimates) -> None:
        self.strategies: Mapping[tuple[str, str], str] = {}
        self.share = FairShare()
        self._roster = roster
        self._lanes = lanes
        self._estimates = estimates
        self._alone: set[str] = set()  # suspects in flight: at most one, but for those restored
        self._rated: dict[str, dict[tuple[str, str], policy.Ranked]] = {}  # agent → skill → its score at this instant

    def matches(self, tasks: Mapping[str, LiveTask], now: float) -> Iterator[tuple[LiveTask, e.DecisionMade]]:
        """Yield tasks with the decision for each, until nothing more fits.

        The caller sends each task away before it asks for the next.
        """
        room = self._roster.room()
        if not self._lanes.hopeful or room <= 0:
            return
        contest = _Contest(self._lanes, self._estimates, self.share)
        served = self._roster.served()
        self._rated.clear()
        while room > 0 and self._roster.free and (found := contest.next()) is not None:
            lane, place = found
            task = tasks[place.task]
            decision = self._decide(task, lane, served, now)
            if decision is None:
                continue
            self.share.serve(task.spec.tenant, self._estimates.usual_s(task.skill))
            yield task, decision
            room -= 1
            self._rated.pop(task.agent, None)
            contest.enter(lane)
        if self._roster.free:  # the workers are full: try again when one frees. Agents name their lanes themselves
            self._lanes.hope(contest.left())
        self._lanes.drop_empty()

    def began(self, task: LiveTask) -> None:
        """Note what is in flight now."""
        if task.lane.alone:
            self._alone.add(task.spec.id)

    def ended(self, task: LiveTask, agent: str) -> None:
        """Note that an attempt is in flight no more: others have new hope."""
        if task.spec.id in self._alone and not task.flights:
            self._alone.discard(task.spec.id)
            self._lanes.hope([key for key in self._lanes.waiting if key.alone])
        self._lanes.hope_for(agent)

    def _decide(self, task: LiveTask, lane: Lane, served: frozenset[str] | None, now: float) -> e.DecisionMade | None:
        """Return the decision for the first task of a lane, or None if nobody is free for it."""
        if lane.key.alone and self._alone:
            return None  # its end gives this lane new hope
        able = self._roster.free & lane.able
        names = able if served is None else able & served
        if not names:
            return None
        spec = task.spec
        strategy = self.strategies.get((spec.tenant, spec.skill), policy.DEFAULT_STRATEGY)
        ranked = policy.in_order([self._rate(name, task, strategy, now) for name in names])
        return self._decision(strategy, ranked, lane)

    def _decision(self, strategy: str, ranked: list[policy.Ranked], lane: Lane) -> e.DecisionMade:
        return e.DecisionMade(
            strategy=strategy,
            candidates=tuple(
                {"agent": r.candidate.agent, "score": round(r.score, 6), "terms": r.terms}
                for r in ranked[: policy.KEPT_CANDIDATES]
            ),
            exclusions=self._exclusions(lane, {r.candidate.agent for r in ranked}),
        )

    def _rate(self, name: str, task: LiveTask, strategy: str, now: float) -> policy.Ranked:
        """Return the agent with its score for the task, reckoned once as long as the agent gets nothing more."""
        if name in task.failed_on:
            return self._rate_anew(name, task, strategy, now)
        rated = self._rated.setdefault(name, {})
        if task.skill not in rated:
            rated[task.skill] = self._rate_anew(name, task, strategy, now)
        return rated[task.skill]

    def _rate_anew(self, name: str, task: LiveTask, strategy: str, now: float) -> policy.Ranked:
        seat = self._roster.agents[name]
        record = self._estimates.agents.get(name)
        candidate = policy.Candidate(
            agent=name,
            running=len(seat.running),
            capacity=seat.spec.capacity,
            predicted_s=self._estimates.predicted_s(name, task.skill),
            error=record.error if record else 0.0,
            lateness=self._lateness(name, now),
            failed_before=name in task.failed_on,
        )
        return policy.rate(candidate, strategy=strategy, usual_s=self._estimates.usual_s(task.skill))

    def _lateness(self, name: str, now: float) -> float:
        worst = 1.0
        for flight in self._roster.agents[name].running.values():
            if flight.phase == "working":
                worst = max(worst, (now - flight.began_at) / (P95_RATIO * flight.predicted_s))
        return worst

    def _exclusions(self, lane: Lane, candidates: set[str]) -> dict[str, str]:
        """Return why each skilled agent that was no candidate was none."""
        out = dict(lane.excluded)
        for name in sorted(lane.able - candidates):
            full = name not in self._roster.free
            slots = self._roster.agents[name].spec.capacity
            out[name] = f"all {slots} slots in use" if full else "no living worker serves it"
        return out


class _Contest:
    """The lanes worth a try at one instant, and the tenants' turns among them."""

    def __init__(self, lanes: Lanes, estimates: Estimates, share: FairShare) -> None:
        self._estimates = estimates
        self._share = share
        self._heads: dict[str, list[tuple[Place, LaneKey]]] = {}  # tenant → a heap of its lanes' first tasks
        self._lanes = lanes
        for key in lanes.hopeful:
            self.enter(lanes.all[key])
        lanes.hopeful.clear()

    def enter(self, lane: Lane) -> None:
        """Let the lane take part with its first task, if it has one."""
        skill = (lane.key.skill, lane.key.version)
        place = lane.head(partial(self._usual_s, skill))
        if place is not None:
            heapq.heappush(self._heads.setdefault(lane.key.tenant, []), (place, lane.key))

    def next(self) -> tuple[Lane, Place] | None:
        """Take out the lane whose task is next, or None when none is left."""
        if not self._heads:
            return None
        tenant = min(self._heads, key=self._turn) if len(self._heads) > 1 else next(iter(self._heads))
        place, key = heapq.heappop(self._heads[tenant])
        if not self._heads[tenant]:
            del self._heads[tenant]
        return self._lanes.all[key], place

    def left(self) -> list[LaneKey]:
        """Return the lanes that were not taken out."""
        return [key for heads in self._heads.values() for _, key in heads]

    def _turn(self, tenant: str) -> tuple[int, float, int]:
        """Return what decides between tenants: priority, then fairness, then who came first."""
        place = self._heads[tenant][0][0]
        return place.below, self._share.start_tag(tenant), place.arrival

    def _usual_s(self, skill: tuple[str, str], bucket: int) -> float:
        return self._estimates.usual_s(skill)
