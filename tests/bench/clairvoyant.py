"""A scheduler that knows the future, as the yardstick.

It knows how long each task will truly take each agent at each moment, and when agents fail or stand still. Whenever a
slot is free it takes the waiting task with the least true work and gives it to the free agent where it ends soonest,
never to one that would fail it. It does not interrupt, divide, or hold a task for a busy agent (holding made it worse
in every condition). It is a strong rule, not a proven optimum: nobody computes that for unequal agents.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from itertools import count

from routing.simulated import Pace, SimulatedFleet
from tests.bench.books import Agent, Job, Rival


class Clairvoyant(Rival):
    """Shortest true work first, to where it ends soonest."""

    def __init__(self, *, work: Mapping[str, float], fleet: SimulatedFleet, origin: float) -> None:
        """``work`` is the true work of each task; the fleet's windows count from ``origin``."""
        super().__init__(sizes=dict(work))
        self._paces = {agent.name: Pace(agent, origin) for agent in fleet.agents}
        self._holes = {a.name: [(origin + w.start, origin + w.end) for w in a.black_holes] for a in fleet.agents}
        self._waiting: list[tuple[float, int, Job]] = []
        self._arrivals = count()

    def take(self, job: Job, now: float) -> None:
        """Let the task wait, if only for this moment."""
        heapq.heappush(self._waiting, (job.size, next(self._arrivals), job))
        self._serve(now)

    def freed(self, agent: Agent, now: float) -> None:
        """Use the slot."""
        self._serve(now)

    def _serve(self, now: float) -> None:
        while self._waiting and (free := [agent for agent in self.agents.values() if self._is_fit(agent, now)]):
            job = heapq.heappop(self._waiting)[2]
            ends = ((self._paces[agent.name].end_of(now, job.size), agent.name) for agent in free)
            self.start(job, self.agents[min(ends)[1]], now)

    def _is_fit(self, agent: Agent, now: float) -> bool:
        return agent.is_free and not any(start <= now < end for start, end in self._holes[agent.name])
