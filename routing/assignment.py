"""Which waiting task is next, and which agent gets it?  Pure."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from routing import events as e
from routing import strategies
from routing.estimates import Estimates
from routing.fairness import FairShare
from routing.flights import Flight, LiveTask
from routing.gates import Gates, Turned
from routing.lanes import Lane, LaneKey, Lanes, Place
from routing.policies import Policies, PolicySpec
from routing.roster import Roster
from routing.strategies import Candidate, Occasion, Ranked

KEPT_CANDIDATES = 12  # of a decision, best first
KEPT_EXCLUSIONS = 12
SHORTLIST = 24  # of more free agents than this, only the best by what was reckoned before are weighed anew
NO_SLOT = "a free slot of an agent"


@dataclass(frozen=True, slots=True)
class Match:
    """A waiting task and what is to become of it: an agent by ``decision``, or turned away."""

    task: LiveTask
    decision: e.DecisionMade | None = None
    turned: Turned | None = None


class Assignment:
    """Matches waiting tasks with free agents."""

    def __init__(self, roster: Roster, lanes: Lanes, estimates: Estimates, gates: Gates) -> None:
        self.policies = Policies()
        self.share = FairShare()
        self._roster = roster
        self._lanes = lanes
        self._estimates = estimates
        self._gates = gates
        self._alone: set[str] = set()  # suspects in flight: at most one, but for those restored
        self._turn = 0
        self._chosen: Counter[str] = Counter()  # agent → the turn at which it was chosen last

    def matches(self, tasks: Mapping[str, LiveTask], now: float) -> Iterator[Match]:
        """Yield tasks and what becomes of each, until nothing more fits.

        The caller sends each task away, or lets it end, before it asks for the next.
        """
        room = self._roster.room()
        if not self._lanes.hopeful or room <= 0:
            return
        contest = _Contest(self._lanes, self._estimates, self.share)
        served = self._roster.served()
        while room > 0 and self._roster.free and (found := contest.next()) is not None:
            lane, place = found
            match = self._match(tasks[place.task], lane, served, now)
            if match is None:
                continue
            if match.decision is not None:
                room -= 1
                self._count(match.task, match.decision)
            yield match
            contest.enter(lane)
        if self._roster.free:  # the workers are full: try again when one frees. Agents name their lanes themselves
            self._lanes.hope(contest.left())
        self._lanes.drop_empty()

    def second(self, task: LiveTask, first: Flight, now: float) -> e.DecisionMade | None:
        """Return the decision for a second attempt beside the first, or None if no other agent is free for it."""
        lane = self._lanes.lane(task.lane)
        if self._lanes.waiting or self._roster.room() <= 0 or self._gates.turns_away(task, now):
            return None
        free = self._free(lane, self._roster.served()) - {first.agent} - task.failed_on
        decision = self._decide(task, lane, free, now)
        if decision is not None:
            self._count(task, decision)
        return decision

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

    # ---- one task -----------------------------------------------------------------------------------------------

    def _match(self, task: LiveTask, lane: Lane, served: frozenset[str] | None, now: float) -> Match | None:
        """Return what becomes of the first task of a lane, or None if the lane stands still."""
        if lane.key.alone and self._alone:
            self._lanes.hold(lane, "another task that was lost before runs: they run one at a time")
            return None  # its end gives this lane new hope
        free = self._free(lane, served)
        if not free:
            self._lanes.hold(lane, "")
            task.waited_for = NO_SLOT
            return None
        turned = self._gates.turns_away(task, now)
        if turned is not None:
            return self._turn_away(task, lane, turned)
        decision = self._decide(task, lane, free, now)
        if decision is not None:
            self._lanes.hold(lane, "")
            return Match(task, decision=decision)
        if task.policy.when_shut == "fail" and (shut := self._shut(task, lane, now)):
            return Match(task, turned=Turned(words=f"no agent is healthy ({shut})", ends=True))
        return None

    def _turn_away(self, task: LiveTask, lane: Lane, turned: Turned) -> Match | None:
        task.waited_for = turned.words
        self._lanes.hold(lane, turned.words)
        if turned.key is not None:
            lane.park(turned.key)
        if turned.key is not None or turned.alone or turned.ends or turned.rejects or turned.cancels:
            return Match(task, turned=turned)
        return None

    def _free(self, lane: Lane, served: frozenset[str] | None) -> frozenset[str]:
        able = lane.able & self._roster.free
        return able if served is None else able & served

    def _shut(self, task: LiveTask, lane: Lane, now: float) -> str:
        """Return in words what breakers say of all able agents, "" if not all are shut out by them."""
        admission = self._gates.breakers.admitted(lane.able, task.skill, now)
        return "; ".join(f"{name}: {words}" for name, words in admission.excluded.items()) if admission.is_shut else ""

    def _decide(self, task: LiveTask, lane: Lane, free: frozenset[str], now: float) -> e.DecisionMade | None:
        """Return the choice among the free agents, or None if none of them may take the task."""
        admission = self._gates.admit(task, lane, free, now)
        if not admission.admitted:
            words = next(iter(admission.excluded.values()), "")
            task.waited_for = words or task.waited_for
            self._lanes.hold(lane, words)
            return None
        policy, occasion = task.policy, self._occasion(task, lane)
        candidates = [self._candidate(name, task, now) for name in admission.admitted]
        ranked = strategies.rank(candidates, strategy=policy.strategy, occasion=occasion)
        return e.DecisionMade(
            policy=policy.name,
            revision=self.policies.revision,
            strategy=policy.strategy,
            candidates=_told(ranked[:KEPT_CANDIDATES], policy.strategy, occasion),
            waited_for=task.waited_for,
            shadow=_shadow(policy, candidates, occasion),
            **self._left_out(lane, {c.agent for c in candidates}, admission.excluded, len(ranked)),
        )

    def _occasion(self, task: LiveTask, lane: Lane) -> Occasion:
        spec, policy = task.spec, task.policy
        return Occasion(
            skill=spec.skill,
            tenant=spec.tenant,
            affinity=spec.affinity or spec.context,
            waiting=max(0, len(lane) - 1),
            slots=max(1, lane.slots),
            slack_s=None,
            order=policy.order,
            weights=policy.weights,
        )

    def _candidate(self, name: str, task: LiveTask, now: float) -> Candidate:
        seat, estimates, skill = self._roster.agents[name], self._estimates, task.skill
        p_success, p_sd = estimates.success(name, skill)
        return Candidate(
            agent=name,
            running=len(seat.running),
            capacity=seat.spec.capacity,
            predicted_s=estimates.predicted_s(name, skill, task.spec.size),
            usual_s=estimates.usual_s(skill, task.spec.size),
            error=estimates.error(name),
            lateness=self._lateness(name, now),
            p_success=p_success,
            p_sd=p_sd,
            cost_usd=estimates.expected_cost_usd(name, skill, seat.spec.cost_usd or None),
            chosen_at=self._chosen[name],
            failed_before=name in task.failed_on,
        )

    def _lateness(self, name: str, now: float) -> float:
        worst = 1.0
        for flight in self._roster.agents[name].running.values():
            if flight.phase == "working":
                worst = max(worst, (now - flight.began_at) / flight.late_s)
        return worst

    def _left_out(self, lane: Lane, candidates: set[str], turned: Mapping[str, str], ranked: int) -> dict[str, Any]:
        """Return why each skilled agent that was no candidate was none, up to some, and how many more there are."""
        out = {**turned, **lane.excluded}
        busy = lane.able - candidates - turned.keys()
        for name in heapq.nsmallest(max(0, KEPT_EXCLUSIONS - len(out)), busy):
            full = name not in self._roster.free
            slots = self._roster.agents[name].spec.capacity
            out[name] = f"all {slots} slots in use" if full else "no living worker serves it"
        kept = dict(list(out.items())[:KEPT_EXCLUSIONS])
        left_out = len(turned) + len(lane.excluded) + len(busy) - len(kept)
        return {"exclusions": kept, "more": left_out + max(0, ranked - KEPT_CANDIDATES)}

    def _count(self, task: LiveTask, decision: e.DecisionMade) -> None:
        self.share.serve(task.spec.tenant, self._estimates.usual_s(task.skill, task.spec.size))
        self._turn += 1
        self._chosen[str(decision.candidates[0]["agent"])] = self._turn


def _told(ranked: Sequence[Ranked], strategy: str, occasion: Occasion) -> tuple[Mapping[str, Any], ...]:
    terms = strategies.STRATEGIES[strategy].terms
    return tuple(
        {
            "agent": r.candidate.agent,
            "score": round(r.score, 6),
            "terms": {name: round(value, 6) for name, value in terms(r.candidate, occasion).items()},
        }
        for r in ranked
    )


def _shadow(policy: PolicySpec, candidates: Sequence[Candidate], occasion: Occasion) -> Mapping[str, Any] | None:
    """Return what another strategy would have done, where the policy asks for that."""
    if not policy.shadow:
        return None
    first = strategies.rank(candidates, strategy=policy.shadow, occasion=occasion)[0]
    return {"strategy": policy.shadow, "agent": first.candidate.agent}


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
        return self._estimates.usual_s(skill, 2.0**bucket)
