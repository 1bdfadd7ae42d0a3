"""Does `adaptive` learn whom to trust?  Against the best fixed strategy and published bandits, on generated fleets.

`manage.py bench learning --rounds 10` shows the mean utility of a task for three profiles at two loads. What is fixed
cannot know the profile: shown is the best of all other strategies in hindsight, per line. `knowing` is `adaptive` with
the truth in place of estimates: nobody can reach it.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from routing.estimates import Estimates, Skill
from routing.strategies import STRATEGIES, Candidate, Occasion, rank
from tests.bench.bandits import LinUcb, Thompson, Ucb1
from tests.bench.figures import Figure
from tests.bench.worlds import AGENTS, Chooser, Job, Outcome, Profile, Scene, World, utility, world

PROFILES = (
    Profile(name="quality", usd=1.0, second=0.0005),
    Profile(name="balanced", usd=5.0, second=0.003),
    Profile(name="thrifty", usd=20.0, second=0.001),
)
LOADS = (0.4, 0.8)
FIXED = tuple(name for name in STRATEGIES if name != "adaptive")
NAMES = tuple(f"agent-{number}" for number in range(AGENTS))


def key(skill: int) -> Skill:
    """Return the skill's name and version."""
    return f"skill-{skill}", "1"


@dataclass(slots=True)
class Shipped:
    """The shipped estimates with one of the shipped strategies."""

    world: World
    strategy: str
    weights: Mapping[str, float] = field(default_factory=dict)
    estimates: Estimates = field(default_factory=Estimates)
    turn: int = 0
    chosen_at: dict[int, int] = field(default_factory=dict)

    def choose(self, free: Sequence[int], job: Job, scene: Scene) -> int:
        """Return the strategy's first choice."""
        occasion = Occasion(
            skill=key(job.skill)[0],
            affinity=str(job.skill),
            waiting=scene.waiting,
            busy=sum(scene.running.values()),
            slots=sum(self.world.capacity),
            order=NAMES,
            weights=self.weights,
        )
        candidates = [self._candidate(agent, job, scene) for agent in free]
        best = rank(candidates, strategy=self.strategy, occasion=occasion)[0].candidate.agent
        agent = NAMES.index(best)
        self.turn += 1
        self.chosen_at[agent] = self.turn
        return agent

    def learn(self, agent: int, skill: int, outcome: Outcome, now: float) -> None:
        """Tell the estimates as the fleet would: a failure, or a result and how it was rated."""
        name = NAMES[agent]
        if not outcome.is_success and not outcome.is_told:
            self.estimates.failed(name, key(skill), cost_usd=outcome.cost_usd, now=now)
            return
        self.estimates.succeeded(
            name, key(skill), seconds=outcome.seconds, size=outcome.size, cost_usd=outcome.cost_usd, now=now
        )
        if not outcome.is_success:
            self.estimates.rated(name, key(skill), 0.0)

    def _candidate(self, agent: int, job: Job, scene: Scene) -> Candidate:
        name, skill = NAMES[agent], key(job.skill)
        chance, deviation = self.estimates.success(name, skill)
        return Candidate(
            agent=name,
            running=scene.running[agent],
            capacity=self.world.capacity[agent],
            predicted_s=self.estimates.predicted_s(name, skill, job.size),
            usual_s=self.estimates.usual_s(skill),
            error=self.estimates.error(name),
            p_success=chance,
            p_sd=deviation,
            cost_usd=self.estimates.expected_cost_usd(name, skill),
            chosen_at=self.chosen_at.get(agent, 0),
        )


@dataclass(slots=True)
class Knowing(Shipped):
    """`adaptive` that need not estimate anything."""

    def _candidate(self, agent: int, job: Job, scene: Scene) -> Candidate:
        nature = self.world.nature(agent, job.skill, scene.now)
        amount = math.sqrt(job.size / 1000.0)
        return Candidate(
            agent=NAMES[agent],
            running=scene.running[agent],
            capacity=self.world.capacity[agent],
            predicted_s=nature.seconds * amount,
            usual_s=1.0,
            p_success=nature.p_success,
            cost_usd=nature.cost_usd * amount,
        )


class OneSpeed(Estimates):
    """Estimates without a speed per skill: an agent is as fast at one skill as at the other."""

    def _log_speed(self, agent: str, skill: Skill) -> float:
        known = self.agents.get(agent)
        return known.speed.log if known else 0.0


def choosers(world: World, profile: Profile, seed: int) -> dict[str, Chooser]:
    """Return everybody who is compared, by name."""
    weights = {"usd": profile.usd, "second": profile.second}
    return {
        "adaptive": Shipped(world, "adaptive", weights),
        **{name: Shipped(world, name) for name in FIXED},
        "Thompson": Thompson(profile, random.Random(seed)),
        "LinUCB": LinUcb(profile),
        "UCB1": Ucb1(profile),
        "knowing": Knowing(world, "adaptive", weights),
    }


def measured(profile: Profile, load: float, *, seeds: int, tasks: int) -> dict[str, list[float]]:
    """Return everybody's utility on each seed."""
    out: dict[str, list[float]] = {}
    for seed in range(seeds):
        fleet = world(seed, load=load, tasks=tasks)
        for name, chooser in choosers(fleet, profile, seed).items():
            out.setdefault(name, []).append(utility(fleet, chooser, profile))
    return out


def measure(*, seeds: int, tasks: int) -> Iterator[Figure]:
    """Yield a figure for each profile and load, and how well durations are predicted."""
    leads = []
    for profile in PROFILES:
        for load in LOADS:
            found = measured(profile, load, seeds=seeds, tasks=tasks)
            figure, lead = _cell(profile, load, found)
            leads.append(lead)
            yield figure
    for name, kind in (("speed per agent and skill", Estimates), ("speed per agent alone", OneSpeed)):
        errors = [speed_errors(kind(), seed=seed, tasks=tasks) for seed in range(seeds)]
        yield Figure(name=f"error, {name}", value=statistics.fmean(errors), unit="|ln|")
    yield Figure(name="least of adaptive ÷ best fixed", value=min(leads), unit="×", aim="> 1", is_ratio=True)


def _cell(profile: Profile, load: float, found: Mapping[str, Sequence[float]]) -> tuple[Figure, float]:
    """Return the utility of `adaptive` with everybody else's, and how many times the best fixed one's it is."""
    mean = {name: statistics.fmean(values) for name, values in found.items()}
    best = max(FIXED, key=lambda name: mean[name])
    ahead = [a - b for a, b in zip(found["adaptive"], found[best], strict=True)]
    error = statistics.stdev(ahead) / math.sqrt(len(ahead)) if len(ahead) > 1 else math.nan
    note = f"{statistics.fmean(ahead):+.3f} ± {error:.3f} before {best}"
    detail = {name: round(mean[name], 3) for name in (best, "Thompson", "LinUCB", "UCB1", "knowing")}
    name = f"adaptive, {profile.name}, load {load}"
    return Figure(name=name, value=mean["adaptive"], unit="utility", note=note, detail=detail), mean["adaptive"] / mean[
        best
    ]


def speed_errors(estimates: Estimates, *, seed: int, tasks: int) -> float:
    """Return the mean |ln(predicted / needed seconds)| over the later half of tasks that are dealt out evenly."""
    fleet, errors = world(seed, load=0.4, tasks=tasks), []
    for number, job in enumerate(fleet.jobs):
        able = fleet.able[job.skill]
        agent = able[number % len(able)]
        seconds = fleet.natures[0][agent, job.skill].seconds * math.sqrt(job.size / 1000.0) * job.stretch
        name, skill = NAMES[agent], key(job.skill)
        if number >= tasks // 2:
            errors.append(abs(math.log(estimates.predicted_s(name, skill, job.size) / seconds)))
        estimates.succeeded(name, skill, seconds=seconds, size=job.size)
    return statistics.fmean(errors)
