"""What stands around the fleet in the simulated world: ledger, Redis, controllers and workers.  Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from routing import events as e
from routing.flights import Flight, Phase, Restored

if TYPE_CHECKING:
    from tests.simulation.world import World

BEAT_S = 3.0
LOOK_S = 0.5  # how often the controller looks into the ledger without a ring
RESTART_S = 1.0  # a dead worker process starts again after
GRACE_S = 2.0  # a stopping worker hands back after
STUCK_S = 1e6  # how long an attempt works that never ends by itself

TERMINAL = frozenset({"completed", "failed", "canceled", "rejected"})

Point = Literal["after_read", "before_commit", "after_commit", "after_publish"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One committed event as a client reads it."""

    task: str
    seq: int
    kind: str
    attempt: int | None
    at: float
    agent: str = ""
    capacity: int | None = None  # of ``assigned`` and ``hedged``: slots of the agent as the registry stood
    outcome: str = ""  # of ``requeued``
    output: Any = None  # of ``completed``


@dataclass(slots=True)
class History:
    """What could be seen from outside, in the order of the commits."""

    lines: list[Line] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)  # ids of tasks whose submission was answered with yes
    interrupted: list[tuple[str, float]] = field(default_factory=list)  # (task, when its running attempt was cut off)
    executions: list[tuple[str, int]] = field(default_factory=list)  # (task, attempt), each time one began
    ended_at: float = 0.0
    take_overs: int = 0
    refused_commits: int = 0


# ---- what survives a crash of the controller --------------------------------------------------------------------


@dataclass(slots=True)
class Row:
    """A task in the ledger."""

    spec: e.TaskSpec
    accepted: bool = False
    seq: int = 0
    attempt: int = 0
    tries: int = 0
    flights: dict[int, Flight] = field(default_factory=dict)  # attempts in flight
    cancel_asked: bool = False
    ended: bool = False

    @property
    def phase(self) -> Phase:
        """Return where the task is in its life, as far as the ledger knows."""
        return next((flight.phase for flight in self.flights.values()), "waiting")

    @property
    def agent(self) -> str:
        """Return who has it, "" if nobody."""
        return next((flight.agent for flight in self.flights.values()), "")

    def write(self, r: e.Recorded) -> None:
        """Bring the row up to date, like ``ledger._Pen``."""
        self.seq = r.seq
        attempt = r.attempt or 0
        if r.kind == "submitted":
            self.accepted = True
        elif r.kind in ("assigned", "hedged"):
            self.attempt = attempt
            self.flights[attempt] = Flight(r.task, attempt, r.agent, r.at)
        elif r.kind == "working" and attempt in self.flights:
            self.flights[attempt] = replace(self.flights[attempt], phase="working", began_at=r.at)
        elif r.kind in ("requeued", "dropped"):
            self.flights.pop(attempt, None)
            self.tries = r.data["tries"]
        elif r.kind == "cancel_requested":
            self.cancel_asked = True
        elif r.kind in TERMINAL:
            self.flights, self.ended = {}, True

    def restored(self) -> Restored:
        """Return the task as a new controller takes it up, like ``ledger.live``."""
        return Restored(
            spec=self.spec,
            seq=self.seq,
            attempt=self.attempt,
            tries=self.tries,
            flights=tuple(replace(flight) for flight in self.flights.values()),
            cancel_asked=self.cancel_asked,
        )


class Ledger:
    """The database: it never lies, and refuses writers of an old epoch."""

    def __init__(self, history: History, *, epochs: bool) -> None:
        self.rows: dict[str, Row] = {}
        self.cancels: dict[str, None] = {}  # open requests
        self.memory: dict[tuple[str, str], Any] = {}  # (kind, name) → what the fleet has learned
        self.position = 0
        self.epoch = 0
        self.open = 0  # tasks that have not ended
        self._unaccepted: dict[str, None] = {}
        self._history = history
        self._epochs = epochs

    def insert(self, spec: e.TaskSpec) -> None:
        """Accept a task at the door."""
        self.rows[spec.id] = Row(spec)
        self._unaccepted[spec.id] = None
        self._history.accepted.append(spec.id)
        self.open += 1

    def unaccepted(self) -> list[e.TaskSpec]:
        """Return what no controller has taken in yet, oldest first."""
        return [self.rows[task].spec for task in self._unaccepted]

    def live(self) -> Iterator[Restored]:
        """Yield what a new controller has to take up."""
        return (row.restored() for row in self.rows.values() if row.accepted and not row.ended)

    def commit(self, effects: list[e.Effect], turn: Turn) -> bool:
        """Write what was recorded together with the position, or nothing if the epoch is not the leader's."""
        if self._epochs and turn.epoch != self.epoch:
            self._history.refused_commits += 1
            return False
        self.position = turn.position
        for r in effects:
            if isinstance(r, e.Recorded):
                self._write(r, turn.capacities)
            elif isinstance(r, e.Remembered):
                self._remember(r)
        for task in turn.done:
            self.cancels.pop(task, None)
        return True

    def _remember(self, r: e.Remembered) -> None:
        self.memory.pop((r.kind, r.name), None)
        if r.data is not None:
            self.memory[r.kind, r.name] = r.data

    def _write(self, r: e.Recorded, capacities: Mapping[str, int]) -> None:
        row = self.rows[r.task]
        self.open -= r.kind in TERMINAL and not row.ended
        row.write(r)
        self._unaccepted.pop(r.task, None)
        capacity = capacities.get(r.agent) if r.kind in ("assigned", "hedged") else None
        self._history.lines.append(
            Line(task=r.task, seq=r.seq, kind=r.kind, attempt=r.attempt, at=r.at, agent=r.agent,
                 capacity=capacity, outcome=r.data.get("outcome", ""), output=r.output)
        )  # fmt: skip


class Redis:
    """The log, the claims and the messages on their way."""

    def __init__(self) -> None:
        self.log: list[tuple[int, e.Fact]] = []
        self.claims: set[tuple[str, int]] = set()  # claimed or fenced
        self.messages: list[e.Dispatch] = []
        self.paused_until = 0.0
        self.losses = 0  # how often everything was lost
        self._ids = itertools.count(1)

    def add(self, fact: e.Fact) -> None:
        """Put a fact at the end of the log."""
        self.log.append((next(self._ids), fact))

    def read(self, position: int) -> list[tuple[int, e.Fact]]:
        """Return the entries after ``position``."""
        return [entry for entry in self.log if entry[0] > position]

    def trim(self, position: int) -> None:
        """Forget what is committed."""
        self.log = self.read(position)

    def empty(self) -> None:
        """Lose everything."""
        self.log, self.claims, self.messages = [], set(), []
        self.losses += 1


# ---- processes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn of a controller wants committed besides the effects."""

    epoch: int
    position: int
    done: list[str]
    capacities: Mapping[str, int]


class Controller:
    """One controller process that leads, or thinks it does."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.epoch = world.ledger.epoch
        self.position = world.ledger.position
        self.alive = True
        self.busy = False  # in the middle of a turn
        self.wake_at: float | None = None
        self.fleet = world.make_fleet()
        self._losses = world.redis.losses
        self._revision = -1
        self._capacities: dict[str, int] = {}
        self._heard_at = self._looked_at = world.now
        effects = self._follow_registry()
        self.fleet.recall([(kind, name, data) for (kind, name), data in world.ledger.memory.items()])
        for restored in world.ledger.live():
            effects += self.fleet.restore(restored, world.now)
        self._publish(effects)

    def turn(self) -> Iterator[Point]:
        """Read, decide, commit, publish; stops at each named point, where a fault may strike."""
        world, redis = self.world, self.world.redis
        effects = self._after_silence()
        entries = redis.read(self.position)
        yield "after_read"
        for _, fact in entries:
            effects += self.fleet.apply(fact, world.now)
        position = entries[-1][0] if entries else self.position
        done: list[str] = []
        if world.rung or world.now >= self._looked_at + LOOK_S:
            effects += self._look(done)
        effects += self.fleet.due(world.now)
        yield "before_commit"
        if not world.ledger.commit(effects, Turn(self.epoch, position, done, self._capacities)):
            self.alive = False
            return
        self.position = position
        redis.trim(position)
        yield "after_commit"
        self._publish(effects)
        yield "after_publish"

    def _after_silence(self) -> list[e.Effect]:
        """Return what follows from a time without Redis, or from the loss of its data."""
        gap = self.world.now - self._heard_at
        self._heard_at = self.world.now
        effects = self.fleet.apply(e.Stalled(seconds=gap), self.world.now) if gap > 1.0 else []
        if self._losses != self.world.redis.losses:
            self._losses = self.world.redis.losses
            effects += self.fleet.apply(e.MessagesLost(), self.world.now)
        return effects

    def _look(self, done: list[str]) -> list[e.Effect]:
        world = self.world
        self._looked_at, world.rung = world.now, False
        effects = self._follow_registry()
        for spec in world.ledger.unaccepted():
            if spec.id not in self.fleet.tasks:
                effects += self.fleet.apply(e.Submitted(task=spec), world.now)
        for task in world.ledger.cancels:
            effects += self.fleet.apply(e.CancelAsked(task=task, by="client"), world.now)
            done.append(task)
        return effects

    def _follow_registry(self) -> list[e.Effect]:
        world = self.world
        if self._revision == world.revision:
            return []
        self._revision = world.revision
        self._capacities = {spec.name: spec.capacity for spec in world.registry}
        scenario = world.scenario
        fact = e.RegistryChanged(
            agents=world.registry,
            policies=scenario.policies,
            limits=scenario.limits,
            budgets=scenario.budgets,
            containments=scenario.containments,
            weights=scenario.weights,
        )
        return self.fleet.apply(fact, world.now)

    def _publish(self, effects: list[e.Effect]) -> None:
        """Tell the world: fences first, so that nothing stale can begin."""
        for effect in effects:
            if isinstance(effect, e.Fence):
                self.world.redis.claims.add((effect.task, effect.attempt))
            elif isinstance(effect, e.Stop):
                self.world.push(effect)
        for effect in effects:
            if isinstance(effect, e.Dispatch):
                self.world.send(effect)


class Worker:
    """A worker process with its threads."""

    def __init__(self, world: World, name: str, threads: int) -> None:
        self.world = world
        self.name, self.threads = name, threads
        self.life = 0  # rises when the process starts and when it ends
        self.alive = self.draining = False
        self.frozen_until = 0.0
        self.running: dict[tuple[str, int], None] = {}
        self._in_hand: list[e.Dispatch] = []  # taken from the queue by a process that then froze

    @property
    def is_frozen(self) -> bool:
        return self.world.now < self.frozen_until

    def can_take(self) -> bool:
        """Return whether a message would come to this process now."""
        if not self.alive or self.draining:
            return False
        return not self._in_hand if self.is_frozen else len(self.running) < self.threads

    def start(self) -> None:
        """Begin a new life."""
        self.life += 1
        self.alive, self.draining, self.frozen_until = True, False, 0.0
        self._beat()
        self.world.deliver()

    def _end(self) -> str:
        """End this life, and return the incarnation's name. The supervisor starts another one."""
        incarnation = str(self.life)
        self.life += 1
        self.alive, self.frozen_until, self._in_hand = False, 0.0, []
        self.running.clear()
        self.world.after(RESTART_S, self.start)
        return incarnation

    def take(self, message: e.Dispatch) -> None:
        """Claim the attempt and begin it, unless somebody has or must not any more."""
        if self.is_frozen:
            self._in_hand.append(message)
            return
        key = (message.task, message.attempt)
        if key in self.world.redis.claims:
            return
        self.world.redis.claims.add(key)
        self.running[key] = None
        self._tell(e.Started(task=message.task, attempt=message.attempt, worker=self.name))
        self._execute(key, message)

    def _execute(self, key: tuple[str, int], message: e.Dispatch) -> None:
        world = self.world
        arrival, count = world.count_execution(key)
        size_s = arrival.size_s / world.speeds[message.agent]
        if count <= arrival.hangs:
            size_s = STUCK_S
        half = e.Noted(task=key[0], attempt=key[1], kind="progress", data={"fraction": 0.5})
        world.after(size_s / 2, self._if_same(lambda: self._note(key, half)))
        if arrival.kills_worker:
            world.after(min(size_s, 0.5), self._if_same(self.kill))
        elif size_s > message.timeout_s:
            error = e.Error(kind="timeout", message="took too long", retryable=True)
            if size_s < STUCK_S:
                world.after(message.timeout_s, self._if_same(lambda: self._finish(key, error)))
        elif count <= arrival.failures:
            error = e.Error(kind="agent", message="did not work", retryable=arrival.retryable)
            world.after(size_s, self._if_same(lambda: self._finish(key, error, arrival.again_in_s)))
        else:
            world.after(size_s, self._if_same(lambda: self._finish(key, None)))

    def _note(self, key: tuple[str, int], note: e.Noted) -> None:
        if key in self.running:
            self._tell(note)

    def _finish(self, key: tuple[str, int], error: e.Error | None, again_in_s: float | None = None) -> None:
        if key in self.running:
            del self.running[key]
            task, attempt = key
            output = None if error else {"task": task, "attempt": attempt}
            self._tell(e.Finished(task=task, attempt=attempt, output=output, error=error, retry_in_s=again_in_s))
            self.world.deliver()

    def stop_attempt(self, stop: e.Stop) -> None:
        """Do as the controller says."""
        key = (stop.task, stop.attempt)
        if key not in self.running or self.is_frozen or self.world.arrivals[stop.task].deaf:
            return
        if stop.reason == "canceled":
            self._finish(key, e.Error(kind="canceled", message="stopped as asked", retryable=False))
        else:
            del self.running[key]
            self.world.deliver()

    def kill(self) -> None:
        """End like by ``kill -9``, and start again soon."""
        if not self.alive:
            return
        self._cut_off(list(self.running))
        gone = e.WorkerGone(worker=self.name, incarnation=self._end())
        if self.world.rng.random() < 0.5:  # the supervisor may see it, or not
            self.world.after(0.3, lambda: self.world.with_redis(lambda: self.world.append(gone)))

    def freeze(self, seconds: float) -> None:
        """Stand still like by SIGSTOP; whatever was due comes when it goes on."""
        if self.alive:
            self.frozen_until = self.world.now + seconds
            self.world.history.interrupted += [(task, self.world.now) for task, _ in self.running]
            self.world.after(seconds, self._if_same(self._thaw))

    def _thaw(self) -> None:
        messages, self._in_hand = self._in_hand, []
        for message in messages:
            self.world.with_redis(self._if_same(partial(self.take, message)))
        self.world.deliver()

    def lose_thread(self) -> None:
        """Let one attempt vanish without a word."""
        if self.running:
            self._cut_off([self.world.rng.choice(list(self.running))])

    def shut_down(self) -> None:
        """Stop in good order, like by SIGTERM: take nothing new, finish, hand the rest back, start again."""
        if self.alive and not self.draining and not self.is_frozen:
            self.draining = True
            self._tell_beat()
            self.world.after(GRACE_S, self._if_same(self._hand_back))

    def _hand_back(self) -> None:
        for task, attempt in self.running:
            self._tell(e.HandedBack(task=task, attempt=attempt))
        self._tell(e.WorkerGone(worker=self.name, incarnation=str(self.life)))
        self._end()

    def _cut_off(self, keys: list[tuple[str, int]]) -> None:
        for key in keys:
            del self.running[key]
            self.world.history.interrupted.append((key[0], self.world.now))

    def _beat(self) -> None:
        self._tell_beat()
        self.world.after(BEAT_S, self._if_same(self._beat))

    def _tell_beat(self) -> None:
        self._tell(
            e.Beat(
                worker=self.name,
                incarnation=str(self.life),
                threads=self.threads,
                attempts=tuple(self.running),
                draining=self.draining,
            )
        )

    def _tell(self, fact: e.Fact) -> None:
        """Put a fact in the log, or keep it until Redis is back; it may come twice, as retried writes do."""
        append = self._if_same(lambda: self.world.append(fact))
        self.world.with_redis(append)
        if self.world.chance("duplicate"):
            self.world.after(self.world.rng.uniform(0, 5), append)

    def _if_same(self, action: Callable[[], None]) -> Callable[[], None]:
        """Return ``action`` such that it has no effect in another life, and waits while the process is frozen."""
        life = self.life

        def act() -> None:
            if self.life == life and self.is_frozen:
                self.world.after(self.frozen_until - self.world.now, act)
            elif self.life == life:
                action()

        return act
