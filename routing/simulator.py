"""A trace of arrivals through the shipped fleet, under a virtual clock, without Redis.  Pure.

``simulate`` is told which tasks arrive when and what the agents are truly like, and lets a decider choose: the shipped
``Fleet`` if nothing else is given, or anything else with its three doors. The same trace, fleet, decider and seed give
the same ``Report``, always.

The agents' side is played by one virtual worker with threads enough for all: it begins what it is sent at once, beats
every 3 seconds, and reports every end. An agent that may freeze has a worker of its own, which is silent meanwhile.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from routing import events as e
from routing.fleet import Fleet
from routing.policies import PolicySpec
from routing.report import Course, Report, summed_up
from routing.simulated import Pace, SimulatedAgent, SimulatedFleet
from routing.traces import Job

BEAT_S = 3.0
FAILS_AFTER_S = 0.05  # an attempt in a black hole
PATIENCE_S = 600.0  # without arrivals and with nobody at work, time goes on so long
SPINS_S = 0.001  # at least so far apart are two looks that the decider asks for
TIMEOUT_S = 3600.0
SHARED_WORKER = "simulated"
TERMINAL = frozenset({"completed", "failed", "canceled", "rejected"})


class Decider(Protocol):
    """What the simulator asks who gets what: a ``Fleet``, or what stands in its place."""

    def apply(self, fact: e.Fact, now: float) -> list[e.Effect]:
        """Return what follows from a fact."""
        ...

    def due(self, now: float) -> list[e.Effect]:
        """Return what is to be done now."""
        ...

    def next_due(self) -> float | None:
        """Return when ``due`` should be called at the latest, None for no time of its own."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt comes to."""

    seconds: float  # that it works, > 0
    error: e.Error | None = None


class Outcomes(Protocol):
    """What attempts come to, where that is known better than by size, speed and error rate."""

    def next(self, task: str, agent: str) -> Outcome:
        """Return what the task's next attempt on the agent comes to."""
        ...


def simulate(
    trace: Sequence[Job],
    fleet: SimulatedFleet,
    *,
    strategy: str = "balanced",
    seed: int = 0,
    decider: Decider | None = None,
    rules: e.RegistryChanged | None = None,
    outcomes: Outcomes | None = None,
) -> Report:
    """Return what comes of the trace, whose jobs stand in the order of their times and have different ids.

    ``rules`` is the registry that the decider is told of; it takes the place of ``strategy``, and its agents are those
    of ``fleet``.
    """
    plain = PolicySpec(name=strategy.replace("_", "-"), strategy=strategy)
    told = rules or e.RegistryChanged(agents=tuple(agent.spec() for agent in fleet.agents), policies=(plain,))
    return _Run(trace, fleet, told, seed, decider or Fleet(), outcomes).run()


def true_work(trace: Sequence[Job], fleet: SimulatedFleet, seed: int) -> dict[str, float]:
    """Return how many seconds each job truly takes an agent of speed 1: as recorded, or by its size and noise."""
    rng = random.Random(f"work {seed}")
    drawn = {job.id: job.size * fleet.seconds_per_unit * math.exp(rng.gauss(0.0, fleet.noise)) for job in trace}
    return drawn | {job.id: job.work_s for job in trace if job.work_s is not None}


class _Agent:
    """One agent at work."""

    def __init__(self, described: SimulatedAgent, origin: float, worker: _Worker) -> None:
        self.error_rate = described.error_rate
        self.pace = Pace(described, origin)
        self.worker = worker
        self._black_holes = [(origin + w.start, origin + w.end) for w in described.black_holes]

    def is_black_hole(self, now: float) -> bool:
        return any(start <= now < end for start, end in self._black_holes)


class _Worker:
    """A virtual worker process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.freezes: list[tuple[float, float]] = []
        self.attempts: dict[tuple[str, int], None] = {}  # in flight
        self.begun: set[tuple[str, int]] = set()
        self._threads = 0
        self._serves: frozenset[str] = frozenset()

    def employ(self, described: SimulatedAgent, origin: float) -> None:
        """Serve one more agent."""
        self._threads += described.capacity
        self._serves |= {described.name}
        self.freezes += [(origin + w.start, origin + w.end) for w in described.freezes]

    def goes_on_at(self, now: float) -> float:
        """Return the end of the freeze it is in, ``now`` if it is in none."""
        return max((end for start, end in self.freezes if start <= now < end), default=now)

    def beat(self) -> e.Beat:
        """Return what it tells every few seconds."""
        return e.Beat(
            worker=self.name,
            incarnation="1",
            threads=self._threads,
            attempts=tuple(self.attempts),
            serves=self._serves,
        )


class _Run:
    """The clock, and all that happens by it."""

    def __init__(
        self,
        trace: Sequence[Job],
        fleet: SimulatedFleet,
        rules: e.RegistryChanged,
        seed: int,
        decider: Decider,
        outcomes: Outcomes | None,
    ) -> None:
        self._trace, self._fleet, self._decider = trace, fleet, decider
        self._rules, self._outcomes = rules, outcomes
        self._seed = seed
        self._work = true_work(trace, fleet, seed)
        self._now = self._origin = trace[0].at if trace else 0.0
        self._workers: dict[str, _Worker] = {}
        self._agents = {agent.name: self._employ(agent) for agent in fleet.agents}
        self._fenced: set[tuple[str, int]] = set()
        self._courses: dict[str, Course] = {}
        self._open = len(trace)  # tasks that have not ended
        self._attempts: Counter[str] = Counter()
        self._agenda: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()

    def _employ(self, described: SimulatedAgent) -> _Agent:
        """Give the agent a worker: the shared one unless it may freeze."""
        name = f"worker of {described.name}" if described.freezes else SHARED_WORKER
        worker = self._workers.setdefault(name, _Worker(name))
        worker.employ(described, self._origin)
        return _Agent(described, self._origin, worker)

    def run(self) -> Report:
        """Let everything happen, and sum it up."""
        self._tell(self._rules)
        for worker in self._workers.values():
            self._beat_on(worker)
            for _, end in worker.freezes:
                self._at(end, self._beat, worker)
        self._let_pass()
        costs = {agent.name: agent.cost_usd for agent in self._fleet.agents}
        return summed_up(self._courses, attempts=self._attempts, costs_usd=costs)

    def _let_pass(self) -> None:
        """Go from moment to moment until every task has ended, or nothing more is to be hoped for."""
        arrivals = iter(self._trace)
        job = next(arrivals, None)
        busy_at = self._now
        while self._open and self._now < busy_at + PATIENCE_S:
            arrives_at = math.inf if job is None else job.at
            self._now = min(arrives_at, self._agenda[0][0], self._look_at())
            if job is not None and arrives_at == self._now:
                self._arrive(job)
                job = next(arrivals, None)
            elif self._agenda[0][0] == self._now:
                _, _, action, details = heapq.heappop(self._agenda)
                action(*details)
            self._carry_out(self._decider.due(self._now))
            if job is not None or any(worker.attempts for worker in self._workers.values()):
                busy_at = self._now

    def _look_at(self) -> float:
        due = self._decider.next_due()
        return math.inf if due is None else max(due, self._now + SPINS_S)

    def _at(self, moment: float, action: Callable[..., None], *details: Any) -> None:
        heapq.heappush(self._agenda, (moment, next(self._order), action, details))

    # ---- what the decider is told -------------------------------------------------------------------------------

    def _tell(self, fact: e.Fact) -> None:
        self._carry_out(self._decider.apply(fact, self._now))

    def _arrive(self, job: Job) -> None:
        spec = _spec(job)
        self._courses[job.id] = Course(job.at, spec.deadline)
        self._tell(e.Submitted(task=spec))

    def _beat_on(self, worker: _Worker) -> None:
        self._beat(worker)
        self._at(self._now + BEAT_S, self._beat_on, worker)

    def _beat(self, worker: _Worker) -> None:
        if worker.goes_on_at(self._now) == self._now:
            self._tell(worker.beat())

    # ---- what it says -------------------------------------------------------------------------------------------

    def _carry_out(self, effects: list[e.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, e.Recorded):
                self._note(effect)
            elif isinstance(effect, e.Dispatch):
                self._deliver(effect)
            elif isinstance(effect, e.Fence):
                self._fenced.add((effect.task, effect.attempt))
            elif isinstance(effect, e.Stop):
                self._stop(effect)

    def _note(self, recorded: e.Recorded) -> None:
        course = self._courses[recorded.task]
        if recorded.agent:
            course.agent = recorded.agent
        if recorded.kind in TERMINAL:
            course.outcome, course.ended_at = recorded.kind, recorded.at
            self._open -= 1

    def _deliver(self, message: e.Dispatch) -> None:
        """Begin the attempt, when its worker goes on if it is frozen; a second message begins nothing."""
        worker = self._agents[message.agent].worker
        if (message.task, message.attempt) in worker.begun or (message.task, message.attempt) in self._fenced:
            return
        goes_on_at = worker.goes_on_at(self._now)
        if goes_on_at > self._now:
            self._at(goes_on_at, self._deliver, message)
        else:
            self._begin(message)

    def _begin(self, message: e.Dispatch) -> None:
        agent = self._agents[message.agent]
        key = (message.task, message.attempt)
        agent.worker.begun.add(key)
        agent.worker.attempts[key] = None
        course = self._courses[message.task]
        course.attempts += 1
        course.began_at = self._now if course.began_at is None else course.began_at
        self._attempts[message.agent] += 1
        end, error = self._outcome(agent, message)
        self._at(end, self._finish, agent.worker, key, error)
        self._tell(e.Started(task=message.task, attempt=message.attempt, worker=agent.worker.name, incarnation="1"))

    def _outcome(self, agent: _Agent, message: e.Dispatch) -> tuple[float, e.Error | None]:
        """Return when the attempt ends, and what goes wrong with it."""
        if agent.is_black_hole(self._now):
            return self._now + FAILS_AFTER_S, {"kind": "agent", "message": "failed at once", "retryable": True}
        told = self._outcomes.next(message.task, message.agent) if self._outcomes is not None else None
        end = agent.pace.end_of(self._now, self._work[message.task] if told is None else told.seconds)
        if end - self._now > message.timeout_s:
            stopped_at = agent.worker.goes_on_at(self._now + message.timeout_s)
            return stopped_at, {"kind": "timeout", "message": "took too long", "retryable": True}
        if told is not None:
            return end, told.error
        if agent.error_rate and self._chance(message) < agent.error_rate:
            return end, {"kind": "agent", "message": "did not work", "retryable": True}
        return end, None

    def _chance(self, message: e.Dispatch) -> float:
        """Return 0..1: an attempt's luck is its own, whoever else had which."""
        return random.Random(f"{self._seed} {message.task} {message.attempt}").random()

    def _finish(self, worker: _Worker, key: tuple[str, int], error: e.Error | None) -> None:
        if key in worker.attempts:
            del worker.attempts[key]
            self._tell(e.Finished(task=key[0], attempt=key[1], error=error))

    def _stop(self, stop: e.Stop) -> None:
        """End an attempt as asked to; a frozen worker does it when it goes on."""
        key = (stop.task, stop.attempt)
        worker = next((worker for worker in self._workers.values() if key in worker.attempts), None)
        if worker is None:
            return
        goes_on_at = worker.goes_on_at(self._now)
        if goes_on_at > self._now:
            self._at(goes_on_at, self._stop, stop)
        elif stop.reason == "stale":
            del worker.attempts[key]
        else:
            self._finish(worker, key, {"kind": "canceled", "message": "stopped as asked", "retryable": False})


def _spec(job: Job) -> e.TaskSpec:
    """Return what the fleet is told of the job."""
    if job.task is not None:
        return job.task
    return e.TaskSpec(
        id=job.id,
        tenant=job.tenant,
        skill=job.skill,
        priority=job.priority,
        deadline=None if job.deadline_s is None else job.at + job.deadline_s,
        timeout_s=TIMEOUT_S,
        created_at=job.at,
        size=job.size,
    )
