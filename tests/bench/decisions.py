"""What does the pure fleet cost? Microseconds of CPU a task, by how many agents there are and how many tasks wait."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator
from itertools import count, cycle

from routing import events as e
from routing.fleet import Fleet
from tests.bench import keys
from tests.bench.figures import Figure

AGENTS = (10, 100, 1_000)
WAITING = (10, 10_000, 1_000_000)
SKILLS = tuple(f"skill-{number}" for number in range(4))
KEYS = 10_000  # concurrency keys of which tasks wait in one lane
CAPACITY = 4
BATCH = 20  # facts a turn of the controller handles before it lets tasks be assigned
BEAT_EVERY_S = 3.0
TASK_S = 5.0  # virtual
AIM_US = "< 300"


def measure(*, tasks: int, most_waiting: int) -> Iterator[Figure]:
    """Yield microseconds a task for each number of agents and waiting tasks, over ``tasks`` tasks from end to end.

    Numbers beyond ``most_waiting``, which is at least 10, are left out: a waiting task takes about 1 kB.

    A task costs what it takes to be submitted, wait, be assigned, begin and finish, with the beats of that time. As
    many tasks come as end. Where tasks wait all slots are busy; where half of them are free, many agents are compared.
    """
    found: dict[tuple[int, int], float] = {}
    for agents in AGENTS:
        for waiting in (number for number in WAITING if number <= most_waiting):
            cost_us = found[agents, waiting] = Crowd(agents=agents, waiting=waiting).cost_us(tasks)
            yield _figure(f"{agents:,} agents, {waiting:,} waiting", cost_us)
        idle_us = Crowd(agents=agents, waiting=0, is_half_idle=True).cost_us(tasks)
        yield _figure(f"{agents:,} agents, half idle", idle_us)
    yield Figure(name="dearest where tasks wait", value=max(found.values()), unit="µs/task", aim=AIM_US)
    yield from keys.measure(keys=min(KEYS, most_waiting), releases=tasks)
    flatness = max(found.values()) / min(found.values())
    yield Figure(name="dearest ÷ cheapest", value=flatness, unit="×", aim="≤ 1.20", is_ratio=True)


def _figure(name: str, cost_us: float) -> Figure:
    return Figure(name=name, value=cost_us, unit="µs/task", aim=AIM_US, detail={"tasks_per_s": 1e6 / cost_us})


class Crowd:
    """A fleet where every slot is busy and ``waiting`` tasks wait, or where half of the slots are free."""

    def __init__(self, *, agents: int, waiting: int, is_half_idle: bool = False) -> None:
        self.fleet = Fleet()
        self.now = 0.0
        self._numbers = count()
        self._skills = cycle(SKILLS)
        self._at_work: dict[tuple[str, int], None] = {}  # in the order in which they began
        self._threads = agents * CAPACITY
        self._beaten_at = 0.0
        specs = tuple(_agent(number) for number in range(agents))
        self._tell(e.RegistryChanged(agents=specs))
        self._beat()
        for number in range(self._threads // (2 if is_half_idle else 1) + waiting):
            self._submit()
            if number % BATCH == 0:
                self._turn()
        self._turn()

    def cost_us(self, tasks: int) -> float:
        """Return the microseconds a task, over ``tasks`` tasks or a few more."""
        batches = math.ceil(tasks / BATCH)
        gc.collect()
        gc.freeze()
        try:
            began = time.thread_time()
            for _ in range(batches):
                self._batch()
            seconds = time.thread_time() - began
        finally:
            gc.unfreeze()
        return 1e6 * seconds / (batches * BATCH)

    def _batch(self) -> None:
        """Let some tasks end and as many come."""
        ending = [key for key, _ in zip(self._at_work, range(BATCH), strict=False)]
        self.now += TASK_S * BATCH / self._threads
        for task, attempt in ending:
            del self._at_work[task, attempt]
            self._tell(e.Finished(task=task, attempt=attempt))
            self._submit()
        self._turn()
        if self.now >= self._beaten_at + BEAT_EVERY_S:
            self._beat()

    def _submit(self) -> None:
        number = next(self._numbers)
        self._tell(
            e.Submitted(task=e.TaskSpec(id=f"task-{number}", tenant="t", skill=next(self._skills), created_at=self.now))
        )

    def _turn(self) -> None:
        """Let waiting tasks be assigned, and begin them."""
        sent = [effect for effect in self.fleet.due(self.now) if isinstance(effect, e.Dispatch)]
        for message in sent:
            self._at_work[message.task, message.attempt] = None
            self._tell(e.Started(task=message.task, attempt=message.attempt, worker="w", incarnation="1"))

    def _beat(self) -> None:
        self._beaten_at = self.now
        attempts = tuple(self._at_work)
        self._tell(e.Beat(worker="w", incarnation="1", threads=self._threads, attempts=attempts))

    def _tell(self, fact: e.Fact) -> None:
        self.fleet.apply(fact, self.now)


def _agent(number: int) -> e.AgentSpec:
    """Return an agent with one of the skills: the others are not asked about it."""
    skills = frozenset({(SKILLS[number % len(SKILLS)], "1")})
    return e.AgentSpec(name=f"agent-{number}", tenant="t", skills=skills, capacity=CAPACITY)
