"""Other ways to choose an agent, behind the three doors of the fleet, so that only the choice differs.

``Push`` binds early: a task goes to an agent's own queue when it arrives. ``Pull`` binds late: tasks wait together
until a slot is free.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

from tests.bench.books import Agent, Job, Rival

# ---- early binding ----------------------------------------------------------------------------------------------


class Push(Rival):
    """A queue in each agent, first come first served."""

    def choose(self, job: Job, agents: list[Agent], now: float) -> Agent:
        """Return the agent for a task, among those that have not failed it."""
        raise NotImplementedError

    def take(self, job: Job, now: float) -> None:
        """Bind the task at once."""
        agent = self.choose(job, self.untried(job), now)
        job.came_at = now
        agent.queue.append(job)
        self.freed(agent, now)

    def freed(self, agent: Agent, now: float) -> None:
        """Begin the next of the agent's own queue."""
        while agent.queue and agent.is_free:
            self.start(agent.queue.popleft(), agent, now)


class Random(Push):
    """Any agent."""

    def choose(self, job: Job, agents: list[Agent], now: float) -> Agent:
        """Return one by chance."""
        return self.rng.choice(agents)


class RoundRobin(Push):
    """One after the other."""

    turn = 0

    def choose(self, job: Job, agents: list[Agent], now: float) -> Agent:
        """Return the next."""
        self.turn += 1
        return agents[self.turn % len(agents)]


class ShortestQueue(Push):
    """Join the shortest queue, by tasks for each slot."""

    def choose(self, job: Job, agents: list[Agent], now: float) -> Agent:
        """Return the least occupied, any of equals."""
        return min(agents, key=lambda agent: (agent.load, self.rng.random()))


class TwoChoices(Push):
    """The less occupied of two (Mitzenmacher 2001, IEEE TPDS 12:1094)."""

    def choose(self, job: Job, agents: list[Agent], now: float) -> Agent:
        """Return the better of two by chance."""
        return min(self.rng.sample(agents, min(2, len(agents))), key=lambda agent: agent.load)


class PeakEwma(Push):
    """The better of two by a latency that jumps up and decays, times what is outstanding (as Finagle's balancer)."""

    DECAY_S = 10.0

    def __init__(self, *, sizes: dict[str, float], seed: int = 0) -> None:
        super().__init__(sizes=sizes, seed=seed)
        self._seen: dict[str, tuple[float, float]] = {}  # agent → (seconds, when)

    def choose(self, job: Job, agents: list[Agent], now: float) -> Agent:
        """Return the better of two by chance."""
        two = self.rng.sample(agents, min(2, len(agents)))
        return min(two, key=lambda agent: self._peak(agent) * (agent.outstanding + 1) / agent.capacity)

    def _peak(self, agent: Agent) -> float:
        return self._seen.get(agent.name, (1e-3, 0.0))[0]

    def learn(self, job: Job, agent: Agent, seconds: float, now: float, *, failed: bool) -> None:
        """Take a longer response time as it is, and go to a shorter one slowly."""
        response = now - job.came_at
        old, at = self._seen.get(agent.name, (0.0, now))
        keep = math.exp(-(now - at) / self.DECAY_S)
        self._seen[agent.name] = (max(response, old * keep + response * (1 - keep)), now)


class CubicSelection(Push):
    """C3: response time, and the cube of the queue times the service time (Suresh et al. 2015, NSDI)."""

    GAIN = 0.1

    def __init__(self, *, sizes: dict[str, float], seed: int = 0) -> None:
        super().__init__(sizes=sizes, seed=seed)
        self._response: dict[str, float] = {}
        self._service: dict[str, float] = {}

    def choose(self, job: Job, agents: list[Agent], now: float) -> Agent:
        """Return the lowest score, any of equals."""
        return min(agents, key=lambda agent: (self._score(agent), self.rng.random()))

    def _score(self, agent: Agent) -> float:
        service = self._service.get(agent.name, 1e-3)
        waiting = self._response.get(agent.name, 1e-3) - service / agent.capacity
        return waiting + (1 + agent.load) ** 3 * service

    def learn(self, job: Job, agent: Agent, seconds: float, now: float, *, failed: bool) -> None:
        """Move both averages."""
        for kept, seen in ((self._response, now - job.came_at), (self._service, seconds)):
            old = kept.get(agent.name, seen)
            kept[agent.name] = old + self.GAIN * (seen - old)


class Prequal(Push):
    """Probes of requests in flight and latency, hot-cold lexicographic (Wydrowski et al. 2024, NSDI)."""

    POOL = 16
    PROBES = 3  # for each task
    REUSES = 2
    HOT_QUANTILE = 0.84
    KEPT_S = 5.0
    KEPT_LATENCIES = 200

    def __init__(self, *, sizes: dict[str, float], seed: int = 0) -> None:
        super().__init__(sizes=sizes, seed=seed)
        self._pool: list[list[float]] = []  # [when, agent's number, in flight, latency, uses left]
        self._latencies: dict[str, deque[tuple[int, float]]] = {}
        self._in_flight: deque[float] = deque(maxlen=100)  # as probed lately, all agents
        self._found: dict[str, int] = {}  # task → in flight when it came

    def choose(self, job: Job, agents: list[Agent], now: float) -> Agent:
        """Return the cold one with the lowest latency; if all are hot, the one with the fewest in flight."""
        everyone = list(self.agents.values())
        self._probe(everyone, now)
        allowed = [p for p in self._pool if everyone[int(p[1])] in agents]
        if len(allowed) < 2:
            return self._bind(job, self.rng.choice(agents))
        ranked = sorted(self._in_flight)
        hot = ranked[min(len(ranked) - 1, int(self.HOT_QUANTILE * len(ranked)))]
        cold = [p for p in allowed if p[2] <= hot]
        best = min(cold, key=lambda p: p[3]) if cold else min(allowed, key=lambda p: p[2])
        for probe in self._pool:
            if probe[1] == best[1]:
                probe[2] += 1 / everyone[int(best[1])].capacity  # it has one more now
        best[4] -= 1
        self._remove_used()
        return self._bind(job, everyone[int(best[1])])

    def _bind(self, job: Job, agent: Agent) -> Agent:
        self._found[job.spec.id] = agent.outstanding
        return agent

    def _probe(self, everyone: list[Agent], now: float) -> None:
        self._pool = [p for p in self._pool if now - p[0] < self.KEPT_S]
        for number in self.rng.sample(range(len(everyone)), min(self.PROBES, len(everyone))):
            agent = everyone[number]
            self._in_flight.append(agent.load)
            self._pool.append([now, number, agent.load, self._latency(agent), self.REUSES])
        self._pool = self._pool[-self.POOL :]

    def _latency(self, agent: Agent) -> float:
        """Return the median of its late response times that met about as many in flight, 0 of none."""
        seen = self._latencies.get(agent.name, ())
        near = sorted(seen, key=lambda entry: abs(entry[0] - agent.outstanding))[:16]
        return sorted(latency for _, latency in near)[len(near) // 2] if near else 0.0

    def _remove_used(self) -> None:
        """Drop used probes, and the worst one each time so that the pool does not fill with bad ones."""
        self._pool = [p for p in self._pool if p[4] > 0]
        if self._pool:
            self._pool.remove(max(self._pool, key=lambda p: (p[2], p[3])))

    def learn(self, job: Job, agent: Agent, seconds: float, now: float, *, failed: bool) -> None:
        """Keep the response time with what was in flight when the task came."""
        kept = self._latencies.setdefault(agent.name, deque(maxlen=self.KEPT_LATENCIES))
        kept.append((self._found.pop(job.spec.id, 0), now - job.came_at))


# ---- late binding -----------------------------------------------------------------------------------------------


class Pull(Rival):
    """One queue for all, first come first served, until a slot is free."""

    def __init__(self, *, sizes: dict[str, float], seed: int = 0) -> None:
        super().__init__(sizes=sizes, seed=seed)
        self.waiting: deque[Job] = deque()

    def take(self, job: Job, now: float) -> None:
        """Let the task wait."""
        self.waiting.append(job)
        self.serve(now)

    def freed(self, agent: Agent, now: float) -> None:
        """Serve whoever waits."""
        self.serve(now)

    def serve(self, now: float) -> None:
        """Give the first waiting task to the best free agent, as long as both are there."""
        while self.waiting and (free := list(self.free())):
            job = self.waiting.popleft()
            untried = [agent for agent in free if agent.name not in job.failed_on]
            self.start(job, self.best(job, untried or free, now), now)

    def free(self) -> Iterator[Agent]:
        """Yield the agents with a free slot."""
        return (agent for agent in self.agents.values() if agent.is_free)

    def best(self, job: Job, free: list[Agent], now: float) -> Agent:
        """Return the least loaded, any of equals."""
        return min(free, key=lambda agent: (agent.load, self.rng.random()))


class LeastLoaded(Pull):
    """Late binding to the least loaded agent."""


PUSHES: dict[str, type[Rival]] = {
    "random": Random,
    "round robin": RoundRobin,
    "shortest queue": ShortestQueue,
    "two choices": TwoChoices,
    "peak-EWMA": PeakEwma,
    "C3": CubicSelection,
    "Prequal": Prequal,
}
