"""Generated fleets of unequal agents, and an event loop that hands them tasks one by one with late binding.  Pure.

Everything follows from the seed, and chance is drawn per task beforehand: whoever chooses meets the same luck.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

AGENTS, SKILLS = 10, 8
WINDOW = 24  # waiting tasks that are looked at when an agent frees
ABLE = 0.8  # share of the skills that an agent has


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What somebody wants: a success is worth 1."""

    name: str
    usd: float  # worth of a dollar
    second: float  # worth of a second between submission and result


@dataclass(frozen=True, slots=True, kw_only=True)
class Nature:
    """What an agent is really like at a skill."""

    p_success: float
    cost_usd: float  # at a task of usual size
    seconds: float  # likewise


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One task and its luck."""

    at: float
    skill: int
    size: float
    luck: float  # 0..1, an agent succeeds whose chance is above it
    stretch: float  # of the time
    is_told: bool  # a bad result comes back as a result, and only its rating tells


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A fleet, the same after the drift, and the tasks."""

    capacity: tuple[int, ...]
    able: tuple[tuple[int, ...], ...]  # per skill
    natures: tuple[dict[tuple[int, int], Nature], ...]  # before and after the drift
    drift_at: float
    jobs: tuple[Job, ...]

    def nature(self, agent: int, skill: int, at: float) -> Nature:
        """Return what the agent is like at ``at``."""
        return self.natures[at >= self.drift_at][agent, skill]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an attempt came to."""

    is_success: bool
    is_told: bool
    cost_usd: float
    seconds: float
    size: float


@dataclass(slots=True)
class Scene:
    """What somebody who chooses may see, at one moment."""

    now: float = 0.0
    running: dict[int, int] = field(default_factory=dict)  # agent → attempts in flight
    waiting: int = 0  # tasks, beside the one in question


class Chooser(Protocol):
    """Something that gives tasks to agents and learns from what comes of it."""

    def choose(self, free: Sequence[int], job: Job, scene: Scene) -> int: ...

    def learn(self, agent: int, skill: int, outcome: Outcome, now: float) -> None: ...


def world(seed: int, *, load: float, tasks: int) -> World:
    """Return a fleet with its tasks. ``load`` is the share of all slots in use if tasks were dealt out evenly."""
    rng = random.Random(seed)
    capacity = tuple(rng.choice((1, 2, 2, 3)) for _ in range(AGENTS))
    able = tuple(_able(rng) for _ in range(SKILLS))
    before = _natures(rng)
    after = _drifted(rng, before)
    mean_s = sum(n.seconds for n in before.values()) / len(before) * math.exp(0.5 * 0.5**2)  # stretch has such a mean
    rate = load * sum(capacity) / mean_s
    jobs, at = [], 0.0
    for _ in range(tasks):
        at += rng.expovariate(rate)
        jobs.append(_job(rng, at))
    return World(capacity=capacity, able=able, natures=(before, after), drift_at=jobs[tasks // 2].at, jobs=tuple(jobs))


def utility(world: World, chooser: Chooser, profile: Profile) -> float:
    """Return the mean worth of a task when ``chooser`` decides who gets it."""
    scene, total, seq = Scene(running=dict.fromkeys(range(AGENTS), 0)), 0.0, 0
    waiting: list[Job] = []
    ends: list[tuple[float, int, int, Job, Outcome]] = []
    arrivals = iter(world.jobs)
    coming = next(arrivals, None)
    while coming is not None or ends:
        if coming is not None and (not ends or coming.at <= ends[0][0]):
            scene.now = coming.at
            waiting.append(coming)
            coming = next(arrivals, None)
        else:
            scene.now, _, agent, job, outcome = heapq.heappop(ends)
            scene.running[agent] -= 1
            chooser.learn(agent, job.skill, outcome, scene.now)
            total += outcome.is_success - profile.usd * outcome.cost_usd - profile.second * (scene.now - job.at)
        for agent, job in _assigned(world, chooser, scene, waiting):
            seq += 1
            outcome = _outcome(world.nature(agent, job.skill, scene.now), job)
            heapq.heappush(ends, (scene.now + outcome.seconds, seq, agent, job, outcome))
    return total / len(world.jobs)


def _assigned(world: World, chooser: Chooser, scene: Scene, waiting: list[Job]) -> list[tuple[int, Job]]:
    """Return who gets which of the waiting tasks now, the oldest first, and take them from ``waiting``."""
    out = []
    for job in waiting[:WINDOW]:
        free = [agent for agent in world.able[job.skill] if scene.running[agent] < world.capacity[agent]]
        if not free:
            continue
        scene.waiting = len(waiting) - 1
        agent = chooser.choose(free, job, scene)
        scene.running[agent] += 1
        waiting.remove(job)
        out.append((agent, job))
    return out


def _outcome(nature: Nature, job: Job) -> Outcome:
    amount = math.sqrt(job.size / 1000.0)
    return Outcome(
        is_success=job.luck < nature.p_success,
        is_told=job.is_told,
        cost_usd=nature.cost_usd * amount,
        seconds=nature.seconds * amount * job.stretch,
        size=job.size,
    )


def _job(rng: random.Random, at: float) -> Job:
    return Job(
        at=at,
        skill=rng.randrange(SKILLS),
        size=1000.0 * rng.lognormvariate(0.0, 0.8),
        luck=rng.random(),
        stretch=rng.lognormvariate(0.0, 0.3),
        is_told=rng.random() < 0.5,
    )


def _able(rng: random.Random) -> tuple[int, ...]:
    while True:
        able = tuple(agent for agent in range(AGENTS) if rng.random() < ABLE)
        if len(able) >= AGENTS // 2:
            return able


def _natures(rng: random.Random) -> dict[tuple[int, int], Nature]:
    """Return fleets where some agents are good at all, some skills are hard for all, and some pairs are special."""
    ability = [rng.gauss(0.0, 0.8) for _ in range(AGENTS)]
    ease = [rng.gauss(0.9, 0.8) for _ in range(SKILLS)]
    price = [0.02 * math.exp(rng.gauss(0.0, 0.9) + 0.3 * ability[agent]) for agent in range(AGENTS)]
    pace = [10.0 * math.exp(rng.gauss(0.0, 0.5)) for _ in range(AGENTS)]
    work = [math.exp(rng.gauss(0.0, 0.5)) for _ in range(SKILLS)]
    return {
        (agent, skill): Nature(
            p_success=_sigmoid(ability[agent] + ease[skill] + rng.gauss(0.0, 0.7)),
            cost_usd=price[agent] * work[skill] * math.exp(rng.gauss(0.0, 0.2)),
            seconds=pace[agent] * work[skill] * math.exp(rng.gauss(0.0, 0.4)),
        )
        for agent in range(AGENTS)
        for skill in range(SKILLS)
    }


def _drifted(rng: random.Random, before: dict[tuple[int, int], Nature]) -> dict[tuple[int, int], Nature]:
    """Return the fleet after two agents became worse, two better, one slower by half and one twice as dear."""
    order = rng.sample(range(AGENTS), 6)
    shift = {order[0]: -1.5, order[1]: -1.5, order[2]: 1.0, order[3]: 1.0}
    return {
        (agent, skill): Nature(
            p_success=_sigmoid(math.log(n.p_success / (1 - n.p_success)) + shift.get(agent, 0.0)),
            cost_usd=n.cost_usd * (2.0 if agent == order[5] else 1.0),
            seconds=n.seconds * (1.5 if agent == order[4] else 1.0),
        )
        for (agent, skill), n in before.items()
    }


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))
