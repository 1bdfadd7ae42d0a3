"""The shipped fleet in a small simulated world, under a virtual clock and with seeded faults.  Pure.

The world is what stands around the fleet in production: the ledger, Redis (log, claims, the broker's messages), worker
processes and a controller with its standby. A ``Scenario`` holds everything that will happen; the same scenario gives
the same ``History``, always. What the agents do is given as a trace: tasks with their times of arrival and sizes.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from routing import events as e
from routing.budget_rules import BudgetSpec
from routing.containment import Containment
from routing.fleet import Fleet
from routing.limit_rules import LimitSpec
from routing.policies import PolicySpec
from tests.simulation.processes import LOOK_S, Controller, History, Ledger, Point, Redis, Worker

TAKE_OVER_S = 2.5  # from a leader's silence to the next one's first step
HOP_S = 0.002  # one message's way
LINGER_S = 40.0  # the world goes on so long after the last task ended: late results must do no harm
PATIENCE_S = 3000.0  # and it ends at the latest so long after the last arrival or fault: breakers hold work back

FaultKind = Literal[
    "kill_worker",
    "freeze_worker",
    "stop_worker",
    "lose_thread",
    "crash_controller",
    "pause_controller",
    "empty_redis",
    "pause_redis",
    "edit_agents",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A task that a client submits, and how it will behave."""

    at: float
    task: e.TaskSpec
    size_s: float  # an agent of speed 1 works on it so long
    failures: int = 0  # so many executions fail before one succeeds
    retryable: bool = True  # what the failures say of themselves
    again_in_s: float | None = None  # with each failure the agent asks for another attempt after so long
    hangs: int = 0  # so many executions never end by themselves
    kills_worker: bool = False  # every execution takes its worker process with it
    deaf: bool = False  # it does not stop when asked to
    cancel_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SimAgent:
    """An agent as registered, and how fast it really is."""

    spec: e.AgentSpec
    speed: float = 1.0  # 2 needs half the time


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong, or is changed, at one moment."""

    at: float
    kind: FaultKind
    target: int = 0  # which worker, modulo their number
    seconds: float = 0.0  # how long it lasts
    point: Point = "after_read"  # where it meets the controller
    agents: tuple[e.AgentSpec, ...] = ()  # the registry after an edit


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How often small things go wrong until ``until``: chances 0..1 for each message."""

    until: float = 0.0
    drop: float = 0.0  # a Celery message, a ring or a push is lost
    duplicate: float = 0.0  # a Celery message, ring or entry of the log comes twice
    delay: float = 0.0  # a Celery message comes late, so others overtake it
    delay_s: float = 15.0  # at most so late


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All that will happen in one simulated world."""

    seed: int = 0
    agents: tuple[SimAgent, ...]
    workers: tuple[int, ...] = (8, 8)  # threads of each worker process
    arrivals: tuple[Arrival, ...]
    faults: tuple[Fault, ...] = ()
    noise: Noise = Noise()
    policies: tuple[PolicySpec, ...] = ()
    limits: tuple[LimitSpec, ...] = ()
    budgets: tuple[BudgetSpec, ...] = ()
    containments: tuple[Containment, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)  # of tenants


def simulate(scenario: Scenario, *, make_fleet: Callable[[], Fleet] = Fleet, epochs: bool = True) -> History:
    """Return what happens in ``scenario``. ``epochs`` False lets a deposed controller write, to see what that does."""
    return World(scenario, make_fleet, epochs).run()


# ---- the world --------------------------------------------------------------------------------------------------


class World:
    """The clock, and everything that acts by it."""

    def __init__(self, scenario: Scenario, make_fleet: Callable[[], Fleet], epochs: bool) -> None:
        self.scenario = scenario
        self.make_fleet = make_fleet
        self.now = 0.0
        self.rng = random.Random(scenario.seed)
        self.history = History()
        self.ledger = Ledger(self.history, epochs=epochs)
        self.redis = Redis()
        self.registry = tuple(agent.spec for agent in scenario.agents)
        self.revision = 0
        self.rung = False
        self.speeds = {agent.spec.name: agent.speed for agent in scenario.agents}
        self.arrivals = {arrival.task.id: arrival for arrival in scenario.arrivals}
        self.workers = [Worker(self, f"w{n}", threads) for n, threads in enumerate(scenario.workers, 1)]
        self._executions: dict[str, int] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._struck: dict[Point, Fault] = {}  # faults that wait for a controller to come by
        self._to_arrive = len(scenario.arrivals)
        self._leader = Controller(self)

    def run(self) -> History:
        """Let everything happen, and return what was seen."""
        for arrival in self.scenario.arrivals:
            self.after(arrival.at, partial(self._arrive, arrival))
        for fault in self.scenario.faults:
            self.after(fault.at, partial(self._strike, fault))
        for worker in self.workers:
            worker.start()
        self._wake(self._leader, 0.0)
        moments = [a.at for a in self.scenario.arrivals] + [f.at + f.seconds for f in self.scenario.faults]
        end, lingers = max([self.scenario.noise.until, *moments]) + PATIENCE_S, False
        while self._agenda[0][0] < end:
            self.now, _, action = heapq.heappop(self._agenda)
            action()
            if not lingers and not self._to_arrive and not self.ledger.open:
                end, lingers = min(end, self.now + LINGER_S), True
                self.history.ended_at = self.now
        return self.history

    # ---- time and chance ----------------------------------------------------------------------------------------

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do it later."""
        heapq.heappush(self._agenda, (self.now + seconds, next(self._order), action))

    def with_redis(self, action: Callable[[], None]) -> None:
        """Do it now, or when Redis answers again."""
        if self.now < self.redis.paused_until:
            self.after(self.redis.paused_until - self.now, lambda: self.with_redis(action))
        else:
            action()

    def chance(self, what: Literal["drop", "duplicate", "delay"]) -> bool:
        """Return whether noise strikes now."""
        noise = self.scenario.noise
        return self.now < noise.until and self.rng.random() < getattr(noise, what)

    def count_execution(self, key: tuple[str, int]) -> tuple[Arrival, int]:
        """Note down that an attempt begins, and return its task's behaviour and how many have begun."""
        self.history.executions.append(key)
        count = self._executions[key[0]] = self._executions.get(key[0], 0) + 1
        return self.arrivals[key[0]], count

    # ---- messages -----------------------------------------------------------------------------------------------

    def append(self, fact: e.Fact) -> None:
        """Put a fact in the log, and wake the controller."""
        self.redis.add(fact)
        self._wake(self._leader, HOP_S)

    def send(self, message: e.Dispatch) -> None:
        """Send a Celery message, as well as the broker can."""
        for _ in range(2 if self.chance("duplicate") else 1):
            if not self.chance("drop"):
                late_s = self.rng.uniform(0, self.scenario.noise.delay_s) if self.chance("delay") else HOP_S
                queue = partial(self._queue, message, self.redis.losses)
                self.after(late_s, partial(self.with_redis, queue))

    def _queue(self, message: e.Dispatch, losses: int) -> None:
        if losses == self.redis.losses:
            self.redis.messages.append(message)
            self.deliver()

    def deliver(self) -> None:
        """Hand waiting messages to workers with a free thread."""
        if self.now < self.redis.paused_until:
            return
        messages, self.redis.messages = self.redis.messages, []
        for message in messages:
            able = [worker for worker in self.workers if worker.can_take()]
            if able:
                self.rng.choice(able).take(message)
            else:
                self.redis.messages.append(message)

    def push(self, stop: e.Stop) -> None:
        """Tell every worker to stop an attempt; whoever does not hear it hears it after the next beat."""
        if not self.chance("drop"):
            self.after(HOP_S, lambda: self._pushed(stop))

    def _pushed(self, stop: e.Stop) -> None:
        for worker in self.workers:
            worker.stop_attempt(stop)

    # ---- clients ------------------------------------------------------------------------------------------------

    def _arrive(self, arrival: Arrival) -> None:
        self._to_arrive -= 1
        self.ledger.insert(arrival.task)
        if arrival.cancel_at is not None:
            self.after(max(0.0, arrival.cancel_at - self.now), lambda: self._cancel(arrival.task.id))
        self._ring()

    def _cancel(self, task: str) -> None:
        if not self.ledger.rows[task].ended:
            self.ledger.cancels[task] = None
            self._ring()

    def _ring(self) -> None:
        for _ in range(2 if self.chance("duplicate") else 1):
            if not self.chance("drop"):
                self.with_redis(self._rung)

    def _rung(self) -> None:
        self.rung = True
        self._wake(self._leader, HOP_S)

    # ---- controllers --------------------------------------------------------------------------------------------

    def _wake(self, controller: Controller, seconds: float) -> None:
        """Let the controller turn at the latest so much later."""
        at = self.now + seconds
        if controller.wake_at is None or at < controller.wake_at:
            controller.wake_at = at
            self.after(seconds, lambda: self._woken(controller, at))

    def _woken(self, controller: Controller, at: float) -> None:
        if controller.wake_at != at or not controller.alive or controller.busy:
            return
        controller.wake_at = None
        if self.now < self.redis.paused_until:
            self._wake(controller, self.redis.paused_until - self.now)
            return
        controller.busy = True
        self._go_on(controller, controller.turn())

    def _go_on(self, controller: Controller, turn: Iterator[Point]) -> None:
        """Take the turn from point to point; a fault that waits at one strikes there."""
        for point in turn:
            fault = self._struck.pop(point, None)
            if fault is None:
                continue
            self.after(TAKE_OVER_S, self._take_over)
            if fault.kind == "crash_controller":
                controller.alive = False
            else:
                self.after(fault.seconds, lambda: self.with_redis(lambda: self._go_on(controller, turn)))
            return
        controller.busy = False
        if controller.alive:
            due = controller.fleet.next_due()
            self._wake(controller, LOOK_S if due is None else min(LOOK_S, max(HOP_S, due - self.now)))

    def _take_over(self) -> None:
        self.history.take_overs += 1
        self.ledger.epoch += 1
        self._leader = Controller(self)
        self._wake(self._leader, HOP_S)

    # ---- faults -------------------------------------------------------------------------------------------------

    def _strike(self, fault: Fault) -> None:
        worker = self.workers[fault.target % len(self.workers)]
        match fault.kind:
            case "kill_worker":
                worker.kill()
            case "freeze_worker":
                worker.freeze(fault.seconds)
            case "stop_worker":
                worker.shut_down()
            case "lose_thread":
                worker.lose_thread()
            case "crash_controller" | "pause_controller":
                self._struck[fault.point] = fault
            case "empty_redis":
                self.redis.empty()
            case "pause_redis":
                self.redis.paused_until = self.now + fault.seconds
                self.after(fault.seconds, self.deliver)
            case "edit_agents":
                self.registry, self.revision = fault.agents, self.revision + 1
