"""Which waiting task is next, and which agent gets it?  Pure."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from routing import events as e
from routing import strategies
from routing.estimates import Estimates
from routing.fairness import FairShare
from routing.flights import Flight, LiveTask
from routing.gates import OWN_BUDGET, Gates, Refusal, Turned
from routing.lanes import Lane, LaneKey, Lanes, Place
from routing.policies import Policies, PolicySpec
from routing.roster import Roster, Seat
from routing.strategies import Candidate, Occasion, Ranked

KEPT_CANDIDATES = 8  # of a decision, best first
KEPT_EXCLUSIONS = 8
KEPT_BACK = 3  # free agents that a gate kept back are scored, up to so many
SHORTLIST = 12  # of more free agents than this, only the best by what was reckoned before are weighed anew
RANKED_S = 1.0  # that reckoning is so old at most
KEPT_RANKINGS = 200
LONGEST_RUNNING = 32  # attempts of an agent, the first to be sent, tell whether it is late
NO_SLOT = "a free slot of an agent"


@dataclass(frozen=True, slots=True)
class Match:
    """A waiting task and what is to become of it: an agent by ``decision``, or turned away."""

    task: LiveTask
    decision: e.DecisionMade | None = None
    turned: Turned | None = None

    @property
    def makes_way(self) -> bool:
        """Return whether another task of the lane comes first now."""
        turned = self.turned
        return turned is None or turned.ends or turned.rejects or turned.alone or turned.key is not None


@dataclass(slots=True)
class _Ranking:
    """A lane's agents as they were ranked at one time."""

    names: Sequence[str]
    able: frozenset[str]
    strategy: str
    at: float
    uses: int = 0

    def is_fresh(self, able: frozenset[str], strategy: str, now: float) -> bool:
        self.uses += 1
        is_young = self.uses < max(50, len(self.names) // 4) and now < self.at + RANKED_S
        return is_young and self.able is able and self.strategy == strategy


class _Nobody(NamedTuple):
    """Why no free agent may take a task."""

    words: str
    refused: dict[str, Refusal]  # by agent; empty if breakers keep all of them away


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
        self._rankings: dict[LaneKey, _Ranking] = {}
        self._chosen: dict[str, int] = {}  # agent → the turn at which it was chosen last

    def matches(self, tasks: Mapping[str, LiveTask], now: float) -> Iterator[Match]:
        """Yield tasks and what becomes of each, until nothing more fits.

        The caller sends each task away, or lets it end, before it asks for the next.
        """
        room = self._roster.room()
        if not self._lanes.hopeful or room <= 0:
            return
        contest = _Contest(self._lanes, self._estimates, self.share)
        while room > 0 and self._roster.free and (found := contest.next()) is not None:
            lane, place = found
            served = self._roster.served()
            match = self._match(tasks[place.task], lane, served, now)
            if match is None:
                continue
            if match.decision is not None:
                room -= 1
                self._count(match.task, match.decision)
            yield match
            if match.makes_way:
                contest.enter(lane)
        if self._roster.free:  # the workers are full: try again when one frees. Agents name their lanes themselves
            self._lanes.hope(contest.left())
        self._lanes.drop_empty()

    def second(self, task: LiveTask, first: Flight, now: float) -> e.DecisionMade | None:
        """Return the decision for a second attempt beside the first, or None if no other agent is free for it.

        An agent for whom somebody waits is not free for that.
        """
        lane = self._lanes.lane(task.lane)
        if self._roster.room() <= 0 or self._gates.objection(task, now) is not None:
            return None
        free = self._free(lane, self._roster.served()) - {first.agent} - task.failed_on
        free = frozenset(name for name in free if not self._lanes.is_waited_for(name))
        decision = self._decide(task, lane, free, now)
        if not isinstance(decision, e.DecisionMade):
            return None
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
        objection = self._gates.objection(task, now)
        if objection is not None:
            return self._turned(task, lane, self._gates.turn_away(task, [objection], by_all=True))
        if not task.waited_for and now > task.waiting_since:
            task.waited_for = NO_SLOT
        decision = self._decide(task, lane, free, now)
        if isinstance(decision, e.DecisionMade):
            self._lanes.hold(lane, "")
            return Match(task, decision=decision)
        if decision.refused:
            return self._turned(task, lane, self._refused(task, lane, decision.refused, now))
        task.waited_for = decision.words or task.waited_for
        self._lanes.hold(lane, decision.words)
        if task.policy.when_shut == "fail" and (shut := self._shut(task, lane, now)):
            return Match(task, turned=Turned(words=f"no agent is healthy ({shut})", ends=True))
        return None

    def _refused(self, task: LiveTask, lane: Lane, refused: Mapping[str, Refusal], now: float) -> Turned:
        """Return what follows when all agents that could begin the task now are kept from it."""
        gives_up = all(refusal.is_final or refusal.is_rejection for refusal in refused.values())
        others = lane.able - refused.keys()
        if gives_up and others:
            refused = {**refused, **self._gates.refusals(task, sorted(others), now)}
        by_all = gives_up and len(refused) == len(lane.able)
        return self._gates.turn_away(task, list(refused.values()), by_all=by_all)

    def _turned(self, task: LiveTask, lane: Lane, turned: Turned) -> Match:
        task.waited_for = turned.words
        match = Match(task, turned=turned)
        if turned.key is not None:
            lane.park(turned.key)
        if turned.key is not None or not match.makes_way:
            self._lanes.hold(lane, turned.words)
        return match

    def _free(self, lane: Lane, served: frozenset[str] | None) -> frozenset[str]:
        able = lane.able & self._roster.free
        return able if served is None else able & served

    def _shut(self, task: LiveTask, lane: Lane, now: float) -> str:
        """Return in words what breakers say of all able agents, "" if not all are shut out by them."""
        admission = self._gates.breakers.admitted(lane.able, task.skill, now)
        return "; ".join(f"{name}: {words}" for name, words in admission.excluded.items()) if admission.is_shut else ""

    def _decide(self, task: LiveTask, lane: Lane, free: frozenset[str], now: float) -> e.DecisionMade | _Nobody:
        """Return the choice among the free agents, or why none of them may take the task."""
        admission = self._gates.admit(task, lane, free, now)
        names, refused = self._allowed(task, lane, admission.admitted, now)
        excluded = {**admission.excluded, **{name: refusal.words for name, refusal in refused.items()}}
        if not names:
            return _Nobody(next((_whose(*pair) for pair in excluded.items()), ""), refused)
        policy, occasion = task.policy, self._occasion(task, lane, now)
        candidates = self._candidates(names, task, now)
        ranked = strategies.rank(candidates, strategy=policy.strategy, occasion=occasion)
        return e.DecisionMade(
            policy=policy.name,
            revision=self.policies.revision,
            strategy=policy.strategy,
            candidates=(
                *_told(ranked[:KEPT_CANDIDATES], policy.strategy, occasion),
                *self._kept_back(excluded, task, occasion, now),
            ),
            waited_for=task.waited_for,
            shadow=_shadow(policy, candidates, occasion),
            **self._left_out(lane, {c.agent for c in candidates}, excluded),
        )

    def _allowed(
        self, task: LiveTask, lane: Lane, admitted: frozenset[str], now: float
    ) -> tuple[Collection[str], dict[str, Refusal]]:
        """Return the agents worth a score that nothing keeps from the task, and what does of those asked.

        Of many agents the likeliest are asked first, and the others only if it is none of them.
        """
        if not admitted:
            return (), {}
        few = self._few(admitted, task, lane, now)
        refused = self._gates.refusals(task, sorted(few), now)
        if len(refused) == len(few) < len(admitted):
            refused |= self._gates.refusals(task, sorted(admitted.difference(few)), now)
            left = admitted - refused.keys()
            return (self._few(left, task, lane, now) if left else ()), refused
        return ([name for name in few if name not in refused] if refused else few), refused

    def _occasion(self, task: LiveTask, lane: Lane, now: float) -> Occasion:
        spec, policy = task.spec, task.policy
        return Occasion(
            skill=spec.skill,
            tenant=spec.tenant,
            affinity=spec.affinity or spec.context,
            waiting=max(0, len(lane) - 1),
            busy=self._roster.busy,
            slots=max(1, self._roster.slots),
            slack_s=None if spec.deadline is None else spec.deadline - now,
            order=policy.order,
            weights=policy.weights,
        )

    def _candidates(self, names: Collection[str], task: LiveTask, now: float) -> list[Candidate]:
        """Return the agents as the policy's strategy, and the one that decides beside it, have to know them."""
        asks = strategies.STRATEGIES[task.policy.strategy].asks
        if task.policy.shadow:
            asks |= strategies.STRATEGIES[task.policy.shadow].asks
        sized_s = self._estimates.usual_s(task.skill, task.spec.size)
        return [self._candidate(name, task, asks, sized_s, now) for name in names]

    def _candidate(
        self, name: str, task: LiveTask, asks: frozenset[strategies.Asked], sized_s: float, now: float
    ) -> Candidate:
        seat, estimates, skill = self._roster.agents[name], self._estimates, task.skill
        p_success, p_sd = estimates.success(name, skill) if "success" in asks else (0.0, 0.0)
        listed_usd = seat.spec.cost_usd or None
        return Candidate(
            agent=name,
            running=len(seat.running),
            capacity=seat.spec.capacity,
            predicted_s=sized_s * estimates.slowness(name, skill),
            usual_s=estimates.usual_s(skill),
            error=estimates.error(name),
            lateness=self._lateness(seat, now),
            p_success=p_success,
            p_sd=p_sd,
            cost_usd=estimates.expected_cost_usd(name, skill, listed_usd) if "cost" in asks else 0.0,
            chosen_at=self._chosen.get(name, 0),
            failed_before=name != task.stays_on if task.stays_on else name in task.failed_on,
        )

    def _kept_back(
        self, excluded: Mapping[str, str], task: LiveTask, occasion: Occasion, now: float
    ) -> Iterator[Mapping[str, Any]]:
        """Yield what some of those would have scored that a gate kept back: then it can be told what that costs."""
        if excluded:
            kept = self._candidates(list(islice(excluded, KEPT_BACK)), task, now)
            ranked = strategies.rank(kept, strategy=task.policy.strategy, occasion=occasion)
            yield from ({**told, "admitted": False} for told in _told(ranked, task.policy.strategy, occasion))

    def _few(self, free: AbstractSet[str], task: LiveTask, lane: Lane, now: float) -> Collection[str]:
        """Return the free agents that are worth a score: all of them, but of very many only the likeliest."""
        glance = strategies.STRATEGIES[task.policy.strategy].glance
        if len(free) <= SHORTLIST or glance == "all":
            return free
        agents = self._roster.agents
        if glance == "load":
            return heapq.nsmallest(SHORTLIST, free, key=lambda n: (len(agents[n].running) / agents[n].spec.capacity, n))
        if glance == "turn":
            return heapq.nsmallest(SHORTLIST, free, key=lambda n: (self._chosen.get(n, 0), n))
        return list(islice((name for name in self._ranking(task, lane, now) if name in free), SHORTLIST))

    def _ranking(self, task: LiveTask, lane: Lane, now: float) -> Sequence[str]:
        """Return the lane's agents, the best first, as they stood up to a second and so many choices ago."""
        ranking, strategy = self._rankings.get(lane.key), task.policy.strategy
        if ranking is not None and ranking.is_fresh(lane.able, strategy, now):
            return ranking.names
        everyone = self._candidates(lane.able, task, now)
        ranked = strategies.rank(everyone, strategy=strategy, occasion=self._occasion(task, lane, now))
        names = [r.candidate.agent for r in ranked]
        if len(self._rankings) >= KEPT_RANKINGS:
            self._rankings.clear()
        self._rankings[lane.key] = _Ranking(names, lane.able, strategy, now)
        return names

    def _lateness(self, seat: Seat, now: float) -> float:
        if not seat.running:
            return 1.0
        worst = 1.0
        for flight in islice(seat.running.values(), LONGEST_RUNNING):
            if flight.phase == "working":
                worst = max(worst, (now - flight.began_at) / flight.late_s)
        return worst

    def _left_out(self, lane: Lane, candidates: set[str], turned: Mapping[str, str]) -> dict[str, Any]:
        """Return why skilled agents were no candidates, up to some, and how many agents are not listed at all."""
        listed = min(len(candidates), KEPT_CANDIDATES)
        out = dict(islice({**turned, **lane.excluded}.items(), KEPT_EXCLUSIONS))
        for name in lane.in_order:
            if len(out) >= KEPT_EXCLUSIONS:
                break
            if name not in candidates and name not in turned:
                out[name] = self._why_not(name)
        return {"exclusions": out, "more": len(lane.able) + len(lane.excluded) - len(out) - listed}

    def _why_not(self, name: str) -> str:
        seat = self._roster.agents[name]
        if len(seat.running) >= seat.spec.capacity:
            return f"all {seat.spec.capacity} slots in use"
        served = self._roster.served()
        return "no living worker serves it" if served is not None and name not in served else "others looked better"

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
            **({"failed_before": True} if r.candidate.failed_before else {}),
        }
        for r in ranked
    )


def _whose(agent: str, words: str) -> str:
    """Return why the agent is kept back, naming it where the words do not; a task's own budget speaks of no agent."""
    return words if agent in words or words.startswith(OWN_BUDGET) else f"{agent}: {words}"


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
        return self._estimates.usual_in(skill, bucket)
