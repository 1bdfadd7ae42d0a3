"""How long will an agent need, how well will it do, and what will it cost?  Learned from what it did.  Pure.

Three things are told apart. *Time*: a base duration per (skill, size) times the speed of the agent. *Success*: a
posterior per (agent, skill) that borrows from the agent and from the skill as long as it knows little (empirical
Bayes). *Money*: a mean per (agent, skill), drawn to the agent's and the fleet's. Older observations fade in all three.

Every call takes constant time. What changed since the last ``snapshot`` is told by the next one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from routing.records import AgentRecord, Cell, FleetRecord, Record, SkillRecord, bucket_of

Skill = tuple[str, str]  # (name, version)

UNKNOWN_S = 1.0  # expected seconds before anything was seen
SHORTEST_S, LONGEST_S = 1e-4, 1e7  # attempts are taken to last so long at least and at most
DURATION_PRIOR = 2.0  # samples that a duration of the next wider kind counts for
CELL_SPEED_PRIOR = 4.0  # and an agent's speed in all, for its speed at one skill
P95_RATIO, P95_PRIOR = 3.0, 20.0  # what a skill's p95 ratio is taken for before it is known, and the samples it counts
SETTLED = 5  # durations of a skill before the ratios to its predictions are worth keeping
CELL_PRIOR = 6.0  # observations that the borrowed chance of success counts for
SHARE_PRIOR = 4.0  # likewise the fleet's share of successes, for an agent's and for a skill's
OWN_VARIANCE = 0.15  # how much agents differ at one skill from what their two averages say
CELL_MEAN_PRIOR, AGENT_MEAN_PRIOR = 3.0, 2.0  # samples that the agent's mean counts for, and the fleet's
DISCOUNT = 0.995  # what an agent's counts of successes keep with each further observation of it
KEPT_AGENTS, KEPT_SKILLS, KEPT_CELLS = 5_000, 2_000, 20_000  # those longest unheard of are forgotten first

Key = tuple[str, ...]  # ("fleet",), ("agent", name), ("skill", name, version), ("cell", agent, name, version)


class Estimates:
    """What the fleet has learned about its agents and skills."""

    def __init__(self) -> None:
        self.fleet = FleetRecord()
        self.agents: dict[str, AgentRecord] = {}
        self.skills: dict[Skill, SkillRecord] = {}
        self.cells: dict[tuple[str, Skill], Cell] = {}
        self._changed: dict[Key, None] = {}
        self._usual: dict[tuple[Skill, int | None], float] = {}
        self._p95: dict[Skill, float] = {}  # reckoned once after each observation

    # ---- what to expect -----------------------------------------------------------------------------------------

    def usual_s(self, skill: Skill, size: float | None = None) -> float:
        """Return the expected seconds of one attempt by a usual agent, > 0; of a usual size if none is given."""
        return self.usual_in(skill, None if size is None else bucket_of(size))

    def usual_in(self, skill: Skill, bucket: int | None) -> float:
        """Return the same for a size bucket. Reckoned once between two observations: it is asked for all the time."""
        known = self._usual.get((skill, bucket))
        if known is None:
            known = self._usual[skill, bucket] = self._usual_in(skill, bucket)
        return known

    def _usual_in(self, skill: Skill, bucket: int | None) -> float:
        fleet, known = self.fleet.usual, self.skills.get(skill)
        usual = fleet.value if fleet.count else UNKNOWN_S
        if known is None:
            return usual
        usual = known.usual.drawn_to(usual, DURATION_PRIOR)
        of_size = None if bucket is None else known.buckets.get(bucket)
        return usual if of_size is None else of_size.drawn_to(usual, DURATION_PRIOR)

    def predicted_s(self, agent: str, skill: Skill, size: float | None = None) -> float:
        """Return the expected seconds of one attempt by ``agent`` that succeeds, > 0."""
        return self.usual_s(skill, size) * self.slowness(agent, skill)

    def slowness(self, agent: str, skill: Skill) -> float:
        """Return how many times as long as usual ``agent`` needs at the skill, > 0."""
        return math.exp(self._log_speed(agent, skill))

    def p95_ratio(self, skill: Skill) -> float:
        """Return what 95 % of successful attempts stay below, as a multiple of their predicted seconds, >= 1."""
        known = self.skills.get(skill)
        if known is None:
            return P95_RATIO
        if skill not in self._p95:
            self._p95[skill] = _p95_ratio(known)
        return self._p95[skill]

    def error(self, agent: str) -> float:
        """Return the share of the agent's late attempts that failed, 0..1."""
        known = self.agents.get(agent)
        return known.error if known else 0.0

    def success(self, agent: str, skill: Skill) -> tuple[float, float]:
        """Return the chance that an attempt does well, 0..1, and the standard deviation of what is known about it.

        Before an agent was seen at a skill, its odds are the agent's times the skill's over the fleet's.
        """
        known, of_skill = self.agents.get(agent), self.skills.get(skill)
        mean = (self.fleet.good + 3.0) / (self.fleet.good + self.fleet.bad + 4.0)
        odds = mean / (1.0 - mean)
        if known is not None:
            odds *= _odds_ratio(known.good, known.bad, mean)
        if of_skill is not None:
            odds *= _odds_ratio(of_skill.good, of_skill.bad, mean)
        borrowed = odds / (1.0 + odds)
        good, seen = self._counts(agent, skill, known) if known is not None else (0.0, 0.0)
        of_agent = known.good + known.bad if known is not None else 0.0
        trust = CELL_PRIOR / (CELL_PRIOR + seen)
        spread = trust * trust / (of_agent + SHARE_PRIOR) + OWN_VARIANCE / (CELL_PRIOR + seen)
        chance = (CELL_PRIOR * borrowed + good) / (CELL_PRIOR + seen)
        return chance, math.sqrt(borrowed * (1.0 - borrowed) * spread)

    def expected_cost_usd(self, agent: str, skill: Skill, listed_usd: float | None = None) -> float:
        """Return the expected price of one attempt, >= 0. ``listed_usd`` is what the agent says it costs, if it does.

        Without a list price an unknown agent is taken to cost what the fleet's attempts do.
        """
        cost = self.fleet.cost_usd.value if listed_usd is None else listed_usd
        known, cell = self.agents.get(agent), self.cells.get((agent, skill))
        if known is not None:
            cost = known.cost_usd.drawn_to(cost, AGENT_MEAN_PRIOR)
        return cost if cell is None else cell.cost_usd.drawn_to(cost, CELL_MEAN_PRIOR)

    def expected_s(self, agent: str, skill: Skill) -> float:
        """Return the mean seconds of the agent's attempts at the skill, whatever their size, > 0.

        ``predicted_s`` knows better how long one task will take; this is what an agent's record shows.
        """
        seconds = self.fleet.seconds.value if self.fleet.seconds.count else UNKNOWN_S
        known, cell = self.agents.get(agent), self.cells.get((agent, skill))
        if known is not None:
            seconds = known.seconds.drawn_to(seconds, AGENT_MEAN_PRIOR)
        return seconds if cell is None else cell.seconds.drawn_to(seconds, CELL_MEAN_PRIOR)

    # ---- what happened ------------------------------------------------------------------------------------------

    def succeeded(
        self,
        agent: str,
        skill: Skill,
        *,
        seconds: float,
        size: float | None = None,
        cost_usd: float | None = None,
        now: float = 0.0,
    ) -> None:
        """Learn from an attempt that took ``seconds`` and came to a result; its price if that is known."""
        seconds = min(max(SHORTEST_S, seconds), LONGEST_S)  # in this order NaN becomes a number too
        known, of_skill, cell = self._records(agent, skill)
        if of_skill.usual.count >= SETTLED:
            of_skill.ratios.add(seconds / self.predicted_s(agent, skill, size))
            self._p95.pop(skill, None)
        self._learn_duration(agent, skill, seconds, size)
        cell.took(seconds, now)
        known.seconds.add(seconds)
        self.fleet.seconds.add(seconds)
        self._ended(agent, skill, 1.0, cost_usd, now)

    def failed(self, agent: str, skill: Skill, *, cost_usd: float | None = None, now: float = 0.0) -> None:
        """Learn that an attempt failed by the agent's fault. It says nothing of speed: to fail at once is not fast."""
        self._records(agent, skill)
        self._ended(agent, skill, 0.0, cost_usd, now)

    def rated(self, agent: str, skill: Skill, score: float, *, before: float = 1.0) -> None:
        """Let a result that counted ``before`` (1 unless it was rated already) count ``score`` from now on, both 0..1.

        A rating of .3 makes three tenths of a success of it. Of what has faded meanwhile no more is taken back than
        is left. Nothing happens if nothing is known of the agent any more.
        """
        cell = self.cells.get((agent, skill))
        if cell is None:
            return
        known, of_skill = self.agents[agent], self.skills[skill]
        self._count(of_skill, cell, 0.0, 0.0, known.observed)
        moved = min(max(-cell.bad, before - score), cell.good)
        for record in (cell, known, of_skill, self.fleet):
            record.move(-moved, moved)
        self._mark(agent, skill)

    def forget(self, agent: str) -> None:
        """Unlearn everything about an agent, but not what it taught about durations and prices in general."""
        for key in [key for key in self.cells if key[0] == agent]:
            self._drop_cell(key)
        known = self.agents.pop(agent, None)
        if known is not None:
            self.fleet.move(-known.good, -known.bad)
            self._changed |= {("agent", agent): None, ("fleet",): None}

    # ---- over restarts ------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return what changed since the last call: key → a value for JSON, or None for what is forgotten.

        The caller keeps the newest value of each key. The keys are JSON arrays, for instance ``["agent", "codex"]``.
        """
        changed, self._changed = self._changed, {}
        return {json.dumps(key): self._as_json(key) for key in changed}

    def restore(self, slices: Mapping[str, Any]) -> None:
        """Take up what snapshots told: all predictions are the same to the last bit. None values are skipped."""
        self._p95.clear()
        self._usual.clear()
        for text, value in slices.items():
            kind, *names = json.loads(text)
            if value is None:
                continue
            if kind == "fleet":
                self.fleet = FleetRecord.of_json(value)
            elif kind == "agent":
                self.agents[names[0]] = AgentRecord.of_json(value)
            elif kind == "skill":
                self.skills[names[0], names[1]] = SkillRecord.of_json(value)
            elif kind == "cell":
                self.cells[names[0], (names[1], names[2])] = Cell.of_json(value)

    # ---- inside -------------------------------------------------------------------------------------------------

    def _log_speed(self, agent: str, skill: Skill) -> float:
        """Return ln(the agent's time / the usual time): what it shows at the skill, drawn to what it shows in all."""
        known = self.agents.get(agent)
        if known is None:
            return 0.0
        cell = self.cells.get((agent, skill))
        if cell is None:
            return known.speed.log
        share = cell.speed.count / (cell.speed.count + CELL_SPEED_PRIOR)
        return known.speed.log + share * (cell.speed.log - known.speed.log)

    def _counts(self, agent: str, skill: Skill, known: AgentRecord) -> tuple[float, float]:
        """Return the successes of an agent at a skill and all its outcomes there, as they have faded until now."""
        cell = self.cells.get((agent, skill))
        if cell is None:
            return 0.0, 0.0
        left = DISCOUNT ** (known.observed - cell.faded_at)
        return cell.good * left, (cell.good + cell.bad) * left

    def _learn_duration(self, agent: str, skill: Skill, seconds: float, size: float | None) -> None:
        of_skill = self.skills[skill]
        bucket = of_skill.usual if size is None else of_skill.bucket(bucket_of(size))
        if bucket.count:  # the first of its kind tells how long the kind takes, not how fast the agent is
            observed = math.log(seconds / self.usual_s(skill, size))
            self.agents[agent].speed.add(observed)
            self.cells[agent, skill].speed.add(observed)
        usual = seconds / math.exp(self._log_speed(agent, skill))
        if size is not None:
            bucket.add(usual)
        of_skill.usual.add(usual)
        self.fleet.usual.add(usual)
        self._usual.clear()

    def _ended(self, agent: str, skill: Skill, good: float, cost_usd: float | None, now: float) -> None:
        """Count an attempt's outcome, 1 or 0, and its price everywhere."""
        known, of_skill, cell = self.agents[agent], self.skills[skill], self.cells[agent, skill]
        more, less = good + known.good * (DISCOUNT - 1.0), 1.0 - good + known.bad * (DISCOUNT - 1.0)
        self.fleet.move(more, less)
        known.move(more, less)
        known.ended(good)
        self._count(of_skill, cell, good, 1.0 - good, known.observed)
        cell.observed += 1
        for record in (cell, known, of_skill, self.fleet):
            record.updated_at = now
        if cost_usd is not None and 0.0 <= cost_usd < math.inf:
            for cost in (cell.cost_usd, known.cost_usd, self.fleet.cost_usd):
                cost.add(cost_usd)
        self._mark(agent, skill)

    def _count(self, of_skill: SkillRecord, cell: Cell, good: float, bad: float, observed: int) -> None:
        """Let the cell's counts fade until the agent's ``observed``-th observation, then add to them.

        A skill's counts are the sum of its cells', each as it stood when it was counted last.
        """
        faded = DISCOUNT ** (observed - cell.faded_at) - 1.0
        more, less = good + cell.good * faded, bad + cell.bad * faded
        cell.move(more, less)
        of_skill.move(more, less)
        cell.faded_at = observed

    def _records(self, agent: str, skill: Skill) -> tuple[AgentRecord, SkillRecord, Cell]:
        """Return what is kept of the agent, the skill and both, new where there was nothing yet."""
        known, of_skill, cell = self.agents.get(agent), self.skills.get(skill), self.cells.get((agent, skill))
        if known is None:
            self._make_room(self.agents, KEPT_AGENTS, self.forget)
            known = self.agents[agent] = AgentRecord()
        if of_skill is None:
            self._make_room(self.skills, KEPT_SKILLS, self._forget_skill)
            of_skill = self.skills[skill] = SkillRecord()
        if cell is None:
            self._make_room(self.cells, KEPT_CELLS, self._drop_cell)
            cell = self.cells[agent, skill] = Cell(faded_at=known.observed)
        return known, of_skill, cell

    def _make_room(self, table: Mapping[Any, Record], kept: int, drop: Callable[[Any], None]) -> None:
        """Drop the tenth that was longest not heard of if the table is full."""
        if len(table) >= kept:
            for key in sorted(table, key=lambda key: (table[key].updated_at, key))[: max(1, kept // 10)]:
                drop(key)

    def _drop_cell(self, key: tuple[str, Skill]) -> None:
        cell = self.cells.pop(key)
        agent, skill = key
        self.skills[skill].move(-cell.good, -cell.bad)
        self._changed |= {("cell", agent, *skill): None, ("skill", *skill): None}

    def _forget_skill(self, skill: Skill) -> None:
        for key in [key for key in self.cells if key[1] == skill]:
            self._drop_cell(key)
        del self.skills[skill]
        self._usual.clear()
        self._p95.pop(skill, None)
        self._changed["skill", *skill] = None

    def _mark(self, agent: str, skill: Skill) -> None:
        self._changed |= {("cell", agent, *skill): None, ("skill", *skill): None, ("agent", agent): None, _FLEET: None}

    def _as_json(self, key: Key) -> Any:
        kind, *names = key
        record: Record | None = None
        if kind == "fleet":
            record = self.fleet
        elif kind == "agent":
            record = self.agents.get(names[0])
        elif kind == "skill":
            record = self.skills.get((names[0], names[1]))
        else:
            record = self.cells.get((names[0], (names[1], names[2])))
        return None if record is None else record.as_json()


def _odds_ratio(good: float, bad: float, mean: float) -> float:
    """Return the odds of a share of successes, drawn to the fleet's ``mean``, over the odds of that mean."""
    share = (good + SHARE_PRIOR * mean) / (good + bad + SHARE_PRIOR)
    return share / (1.0 - share) * (1.0 - mean) / mean


def _p95_ratio(known: SkillRecord) -> float:
    """Return what the skill's attempts show, drawn to what is supposed of unknown skills."""
    weight = known.ratios.weight
    seen = known.ratios.quantile(0.95) or P95_RATIO
    return max(1.0, (seen * weight + P95_RATIO * P95_PRIOR) / (weight + P95_PRIOR))


_FLEET: Key = ("fleet",)
