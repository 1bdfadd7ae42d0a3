"""The books that every rival of the fleet keeps: slots, failures, second attempts. The choice is a subclass's."""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass, field

from routing import events as e

BACKOFF_S = (1.0, 2.0)  # as the fleet waits before a failed task's next attempt


@dataclass(slots=True, eq=False)
class Job:
    """A task that has not ended."""

    spec: e.TaskSpec
    size: float
    attempt: int = 0
    agent: str = ""
    came_at: float = 0.0  # to the agent it is bound to
    began_at: float = 0.0
    failed_on: set[str] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Agent:
    """An agent, as a balancer sees it from outside."""

    name: str
    capacity: int
    running: dict[str, Job] = field(default_factory=dict)
    queue: deque[Job] = field(default_factory=deque)

    @property
    def is_free(self) -> bool:
        """Return whether a slot is free."""
        return len(self.running) < self.capacity

    @property
    def outstanding(self) -> int:
        """Return how many tasks it runs or keeps waiting."""
        return len(self.running) + len(self.queue)

    @property
    def load(self) -> float:
        """Return the tasks it has for each slot."""
        return self.outstanding / self.capacity


class Rival:
    """The books; a subclass chooses."""

    def __init__(self, *, sizes: dict[str, float], seed: int = 0) -> None:
        """``sizes`` are what is known of each task beforehand, the same for all."""
        self.agents: dict[str, Agent] = {}
        self.rng = random.Random(f"rival {seed}")
        self._sizes = sizes
        self._jobs: dict[str, Job] = {}
        self._timers: list[tuple[float, str]] = []  # second attempts
        self._out: list[e.Effect] = []

    # ---- what a subclass does -----------------------------------------------------------------------------------

    def take(self, job: Job, now: float) -> None:
        """Place a task that arrived, or that failed and may be tried again."""
        raise NotImplementedError

    def freed(self, agent: Agent, now: float) -> None:
        """Use a slot that became free."""
        raise NotImplementedError

    def learn(self, job: Job, agent: Agent, seconds: float, now: float, *, failed: bool) -> None:
        """See how an attempt ended that worked for ``seconds``."""

    # ---- the three doors ----------------------------------------------------------------------------------------

    def apply(self, fact: e.Fact, now: float) -> list[e.Effect]:
        """Return what follows from the fact; beats and starts say nothing new to a rival."""
        if isinstance(fact, e.Submitted):
            self._jobs[fact.task.id] = job = Job(fact.task, self._sizes[fact.task.id])
            self.take(job, now)
        elif isinstance(fact, e.Finished):
            self._finished(fact, now)
        elif isinstance(fact, e.RegistryChanged):
            self.agents = {spec.name: Agent(spec.name, spec.capacity) for spec in fact.agents}
        return self._drain()

    def due(self, now: float) -> list[e.Effect]:
        """Return the second attempts that are due."""
        while self._timers and self._timers[0][0] <= now:
            self.take(self._jobs[heapq.heappop(self._timers)[1]], now)
        return self._drain()

    def next_due(self) -> float | None:
        """Return when the next one is."""
        return self._timers[0][0] if self._timers else None

    # ---- books --------------------------------------------------------------------------------------------------

    def start(self, job: Job, agent: Agent, now: float) -> None:
        """Let the agent begin, which has a slot free."""
        job.attempt += 1
        job.agent, job.began_at = agent.name, now
        agent.running[job.spec.id] = job
        self._record(job, "assigned", now)
        self._out.append(
            e.Dispatch(task=job.spec.id, attempt=job.attempt, agent=agent.name, timeout_s=job.spec.timeout_s)
        )

    def untried(self, job: Job) -> list[Agent]:
        """Return the agents that have not failed the task, or all if all have."""
        if not job.failed_on:
            return list(self.agents.values())
        return [a for a in self.agents.values() if a.name not in job.failed_on] or list(self.agents.values())

    def _finished(self, fact: e.Finished, now: float) -> None:
        job = self._jobs[fact.task]
        agent = self.agents[job.agent]
        del agent.running[fact.task]
        self.learn(job, agent, now - job.began_at, now, failed=fact.error is not None)
        if fact.error is None:
            self._end(job, "completed", now)
        elif job.attempt >= job.spec.max_attempts:
            self._end(job, "failed", now)
        else:
            job.failed_on.add(agent.name)
            heapq.heappush(self._timers, (now + BACKOFF_S[min(job.attempt, len(BACKOFF_S)) - 1], fact.task))
        self.freed(agent, now)

    def _end(self, job: Job, kind: str, now: float) -> None:
        del self._jobs[job.spec.id]
        self._record(job, kind, now)

    def _record(self, job: Job, kind: str, now: float) -> None:
        spec = job.spec
        self._out.append(
            e.Recorded(task=spec.id, tenant=spec.tenant, skill=spec.skill, seq=0, kind=kind, at=now, agent=job.agent)
        )

    def _drain(self) -> list[e.Effect]:
        out, self._out = self._out, []
        return out
