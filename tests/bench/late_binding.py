"""Late binding with learned speed and size in its plainest form, to see what each part of it is worth.

Not the shipped fleet: that has leases, lanes, decisions to explain and much more. What this reaches, it can reach.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Literal

from tests.bench.books import Agent, Job, Rival

SPEED_GAIN, ERROR_GAIN, CLIP = 0.08, 0.1, 2.5
KEEP, PRIOR = 200, 2.0
FAILURES_IN_A_ROW, ERROR_LIMIT = 3, 0.5
OPEN_S, MOST_OPENS, JITTER = 10.0, 6, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What is switched on."""

    sizes: bool = True  # a base duration for each bucket of sizes, not one for all
    order: Literal["fifo", "window", "heads"] = "heads"  # heads: the oldest of each bucket compete
    ageing: float = 0.25  # seconds of predicted work that a second of waiting makes good
    window: int = 24  # the oldest so many compete, with ``order`` window
    lateness: bool = True
    p95_ratio: float = 2.0
    breaker: bool = True


@dataclass(slots=True)
class Mean:
    """A mean over about the last ``KEEP`` values."""

    value: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        """Count one more value."""
        self.count = min(self.count + 1, KEEP)
        self.value += (value - self.value) / self.count


@dataclass(slots=True)
class Known:
    """What is known of an agent."""

    log_speed: float = 0.0
    error: float = 0.0
    count: int = 0
    failures: int = 0  # in a row
    opens: int = 0  # of its breaker, since its last success
    open_until: float = -math.inf
    predicted: dict[str, float] = field(default_factory=dict)  # task in flight → predicted seconds


class LateBinding(Rival):
    """Shortest predicted first with ageing, to the agent that is predicted to be fastest."""

    def __init__(self, *, sizes: dict[str, float], seed: int = 0, parts: Parts | None = None) -> None:
        super().__init__(sizes=sizes, seed=seed)
        self.parts = parts or Parts()
        self._lines: dict[int, deque[tuple[float, int, Job]]] = {}  # bucket → (since, number, job), oldest first
        self._arrivals = count()
        self._agents: dict[str, Known] = {}
        self._bases: dict[int, Mean] = {}
        self._fleet = Mean()

    # ---- estimates ----------------------------------------------------------------------------------------------

    def learn(self, job: Job, agent: Agent, seconds: float, now: float, *, failed: bool) -> None:
        """Learn the agent's speed and the bucket's base duration, or that it failed."""
        known = self._known(agent)
        known.predicted.pop(job.spec.id, None)
        if failed:
            known.error += ERROR_GAIN * (1 - known.error)
            known.failures += 1
            self._open(known, now)
            return
        bucket = self._bucket(job)
        surprise = math.log(max(seconds, 1e-4) / self._base(bucket)) - known.log_speed
        known.count += 1
        known.log_speed += max(SPEED_GAIN, 1 / (known.count + 1)) * max(-CLIP, min(CLIP, surprise))
        known.error -= ERROR_GAIN * known.error
        known.failures = known.opens = 0
        usual = seconds / math.exp(known.log_speed)
        self._bases.setdefault(bucket, Mean()).add(usual)
        self._fleet.add(usual)

    def _known(self, agent: Agent) -> Known:
        return self._agents.setdefault(agent.name, Known())

    def _bucket(self, job: Job) -> int:
        return math.floor(math.log2(job.size)) if self.parts.sizes else 0

    def _base(self, bucket: int) -> float:
        prior = self._fleet.value if self._fleet.count else 1.0
        seen = self._bases.get(bucket, Mean())
        return (seen.value * seen.count + prior * PRIOR) / (seen.count + PRIOR)

    def _predicted(self, agent: Agent, bucket: int, now: float) -> float:
        known = self._known(agent)
        late = 1.0
        if self.parts.lateness:
            for task, seconds in known.predicted.items():
                late = max(late, (now - agent.running[task].began_at) / (seconds * self.parts.p95_ratio))
        service = math.exp(known.log_speed) * late * self._base(bucket)
        return service / (1 - min(known.error, 0.95)) + 2 * known.error * self._fleet.value

    # ---- breaker ------------------------------------------------------------------------------------------------

    def _open(self, known: Known, now: float) -> None:
        """Open the breaker after too many failures, or after one when it was half open."""
        if known.opens or known.failures >= FAILURES_IN_A_ROW or known.error > ERROR_LIMIT:
            known.opens += 1
            seconds = OPEN_S * min(known.opens, MOST_OPENS) * self.rng.uniform(1 - JITTER, 1 + JITTER)
            known.open_until = max(known.open_until, now + seconds)

    def _fit(self, now: float) -> Sequence[Agent]:
        """Return the agents with a free slot and a closed breaker; a half-open one takes one task at a time."""
        agents = list(self.agents.values())
        if self.parts.breaker:
            closed = [agent for agent in agents if self._known(agent).open_until <= now]
            if 2 * len(closed) >= len(agents):
                agents = [agent for agent in closed if not (self._known(agent).opens and agent.running)]
        return [agent for agent in agents if agent.is_free]

    # ---- order --------------------------------------------------------------------------------------------------

    def take(self, job: Job, now: float) -> None:
        """Let the task wait, if only for this moment."""
        self._lines.setdefault(self._bucket(job), deque()).append((now, next(self._arrivals), job))
        self._serve(now)

    def freed(self, agent: Agent, now: float) -> None:
        """Use the slot."""
        self._serve(now)

    def _serve(self, now: float) -> None:
        while (fit := self._fit(now)) and (job := self._next(now)):
            bucket = self._bucket(job)
            untried = [agent for agent in fit if agent.name not in job.failed_on] or fit
            agent = min(untried, key=lambda agent: (self._predicted(agent, bucket, now), agent.load, agent.name))
            known = self._known(agent)
            known.predicted[job.spec.id] = math.exp(known.log_speed) * self._base(bucket)
            self.start(job, agent, now)

    def _next(self, now: float) -> Job | None:
        """Take out the task whose turn it is."""
        lines = {bucket: line for bucket, line in self._lines.items() if line}
        if not lines:
            return None
        if self.parts.order == "fifo":
            bucket = min(lines, key=lambda bucket: lines[bucket][0][1])
        else:
            heads = [(bucket, line[0][0]) for bucket, line in lines.items()]
            if self.parts.order == "window":
                heads = self._oldest(lines)
            bucket, _ = min(heads, key=lambda head: self._base(head[0]) - self.parts.ageing * (now - head[1]))
        return lines[bucket].popleft()[2]

    def _oldest(self, lines: dict[int, deque[tuple[float, int, Job]]]) -> list[tuple[int, float]]:
        """Return (bucket, since) of the tasks in the window."""
        size = self.parts.window
        entries = ((number, bucket, since) for bucket, line in lines.items() for since, number, _ in islice(line, size))
        return [(bucket, since) for _, bucket, since in heapq.nsmallest(size, entries)]
