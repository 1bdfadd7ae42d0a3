"""Published ways to learn which arm to pull, to compare with: Thompson sampling, UCB1, LinUCB.  Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.bench.worlds import AGENTS, SKILLS, Job, Outcome, Profile, Scene

Arm = tuple[int, int]  # agent, skill


@dataclass(slots=True)
class _Pulls:
    count: int = 0
    good: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0
    reward: float = 0.0


def _reward(outcome: Outcome, profile: Profile) -> float:
    return outcome.is_success - profile.usd * outcome.cost_usd - profile.second * outcome.seconds


@dataclass(slots=True)
class Thompson:
    """Each (agent, skill) on its own: a draw from its Beta posterior, less its mean price and time."""

    profile: Profile
    rng: random.Random
    arms: dict[Arm, _Pulls] = field(default_factory=dict)

    def choose(self, free: Sequence[int], job: Job, scene: Scene) -> int:
        """Return the free agent with the highest draw."""
        return max(free, key=lambda agent: self._draw(self.arms.get((agent, job.skill), _Pulls())))

    def learn(self, agent: int, skill: int, outcome: Outcome, now: float) -> None:
        """Count what came of it."""
        arm = self.arms.setdefault((agent, skill), _Pulls())
        arm.count += 1
        arm.good += outcome.is_success
        arm.cost_usd += (outcome.cost_usd - arm.cost_usd) / arm.count
        arm.seconds += (outcome.seconds - arm.seconds) / arm.count

    def _draw(self, arm: _Pulls) -> float:
        drawn = self.rng.betavariate(1 + arm.good, 1 + arm.count - arm.good)
        return drawn - self.profile.usd * arm.cost_usd - self.profile.second * arm.seconds


@dataclass(slots=True)
class Ucb1:
    """Auer, Cesa-Bianchi, Fischer 2002 (Machine Learning 47:235), per skill."""

    profile: Profile
    arms: dict[Arm, _Pulls] = field(default_factory=dict)
    rounds: dict[int, int] = field(default_factory=dict)

    def choose(self, free: Sequence[int], job: Job, scene: Scene) -> int:
        """Return the free agent with the highest upper bound, one never tried first."""
        return max(free, key=lambda agent: self._bound(self.arms.get((agent, job.skill)), job.skill))

    def learn(self, agent: int, skill: int, outcome: Outcome, now: float) -> None:
        """Count what came of it."""
        arm = self.arms.setdefault((agent, skill), _Pulls())
        arm.count += 1
        arm.reward += (_reward(outcome, self.profile) - arm.reward) / arm.count
        self.rounds[skill] = self.rounds.get(skill, 0) + 1

    def _bound(self, arm: _Pulls | None, skill: int) -> float:
        if arm is None:
            return math.inf
        return arm.reward + math.sqrt(2 * math.log(self.rounds[skill]) / arm.count)


class LinUcb:
    """Li, Chu, Langford, Schapire 2010 (WWW 10:661): one linear model over who the agent and what the skill is."""

    def __init__(self, profile: Profile, breadth: float = 0.5) -> None:
        self.profile, self.breadth = profile, breadth
        size = 1 + AGENTS + SKILLS
        self.inverse = [[float(i == j) for j in range(size)] for i in range(size)]
        self.sums = [0.0] * size

    def choose(self, free: Sequence[int], job: Job, scene: Scene) -> int:
        """Return the free agent with the highest upper bound."""
        theta = [sum(a * b for a, b in zip(row, self.sums, strict=True)) for row in self.inverse]
        return max(free, key=lambda agent: self._bound(theta, self._places(agent, job.skill)))

    def learn(self, agent: int, skill: int, outcome: Outcome, now: float) -> None:
        """Add the observation (Sherman and Morrison's formula)."""
        places = self._places(agent, skill)
        column = [sum(row[place] for place in places) for row in self.inverse]
        scale = 1.0 + sum(column[place] for place in places)
        for row, left in zip(self.inverse, column, strict=True):
            for j, right in enumerate(column):
                row[j] -= left * right / scale
        for place in places:
            self.sums[place] += _reward(outcome, self.profile)

    def _bound(self, theta: Sequence[float], places: Sequence[int]) -> float:
        variance = sum(self.inverse[i][j] for i in places for j in places)
        return sum(theta[place] for place in places) + self.breadth * math.sqrt(max(0.0, variance))

    @staticmethod
    def _places(agent: int, skill: int) -> tuple[int, ...]:
        return (0, 1 + agent, 1 + AGENTS + skill)
