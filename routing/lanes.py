"""Tasks that wait, one lane per distinct set of requirements, and who could serve each lane.  Pure."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from routing import policy
from routing.events import AgentSpec, Labels, TaskSpec

AGEING = 0.25  # a second of waiting weighs as much as so many seconds of predicted work
KEPT_PLACES = 100  # outdated entries of a shelf are kept up to so many, and as many again as tasks wait
KEPT_LANES = 2_000  # empty lanes are kept for the next task of their kind, up to so many
WITH_DEADLINE, WITHOUT = 0, 1
_arrivals = itertools.count()

Usual = Callable[[int], float]  # size bucket → expected seconds of an attempt


class Place(NamedTuple):
    """Where a task stands among all that wait for one tenant; a smaller one goes first."""

    below: int  # minus the priority
    kind: int  # tasks with a deadline go before those without
    value: float  # the deadline; else predicted seconds less ``AGEING`` × seconds waited, up to a constant
    arrival: int
    task: str


_FIRST = Place(-10, WITH_DEADLINE, -math.inf, 0, "")  # before all others


@dataclass(frozen=True, slots=True)
class LaneKey:
    """What all tasks of a lane require of an agent."""

    tenant: str
    skill: str
    version: str
    labels: Labels
    requires: str
    pinned: str
    excluded: tuple[str, ...]
    alone: bool = False  # one at a time in the whole fleet: workers have died of them, or beside them

    @classmethod
    def of(cls, task: TaskSpec) -> LaneKey:
        """Return the key of the lane where ``task`` waits."""
        return cls(task.tenant, task.skill, task.version, task.labels, task.requires, task.pinned, task.excluded)

    def __str__(self) -> str:
        parts = [self.skill + (f"@{self.version}" if self.version else "")]
        parts += [f"{label}={value}" for label, value in self.labels]
        parts += [f"[{self.requires}]"] if self.requires else []
        parts += [f"→{self.pinned}"] if self.pinned else []
        parts += [f"-{name}" for name in self.excluded]
        parts += ["(one at a time)"] if self.alone else []
        return " ".join(parts)


@dataclass(slots=True)
class _Shelf:
    """Waiting tasks that differ in age alone: one concurrency key, priority and size, with or without a deadline."""

    below: int
    kind: int
    bucket: int
    heap: list[tuple[float, int, str]] = field(default_factory=list)  # (deadline or created at, arrival, task)
    count: int = 0  # without the outdated entries of the heap


@dataclass(slots=True)
class _Waiting:
    since: float
    key: str  # concurrency key
    shelf: _Shelf
    arrival: int


class Lane:
    """Waiting tasks that ask for the same: by priority, deadline, then the shortest predicted one, with ageing.

    What is equal in all of these stands on one shelf, in order of age, so the first of a million is found by a look
    at a few shelves. Tasks with a concurrency key that is in use are passed over until it is free (``park``).
    """

    def __init__(self, key: LaneKey) -> None:
        self.key = key
        self.able: frozenset[str] = frozenset()  # agents that could take them, as the registry stands
        self.excluded: dict[str, str] = {}  # skilled agents that could not → why
        self.in_order: tuple[str, ...] = ()  # the same by name
        self.reason = ""  # why nobody can, in words
        self.held = ""  # why the lane stands still although somebody could, in words
        self._shelves: dict[str, dict[tuple[int, int, int], _Shelf]] = {}  # by concurrency key
        self._parked: set[str] = set()
        self._heads: list[tuple[Place, str]] = []  # a heap of concurrency keys by where their first task stands
        self._waiting: dict[str, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, task: str) -> bool:
        return task in self._waiting

    def add(self, task: TaskSpec, now: float, *, bucket: int = 0) -> None:
        """Put a task in its place."""
        kind = WITHOUT if task.deadline is None else WITH_DEADLINE
        value = task.created_at if task.deadline is None else task.deadline
        shelves = self._shelves.setdefault(task.concurrency_key, {})
        name = (-task.priority, kind, bucket)
        shelf = shelves.get(name)
        if shelf is None:
            shelf = shelves[name] = _Shelf(*name)
        arrival = next(_arrivals)
        heapq.heappush(shelf.heap, (value, arrival, task.id))
        shelf.count += 1
        self._waiting[task.id] = _Waiting(now, task.concurrency_key, shelf, arrival)
        if shelf.heap[0][1] == arrival:  # its key may come earlier now
            self._offer(task.concurrency_key, Place(*name[:2], -math.inf, 0, ""))

    def remove(self, task: str) -> None:
        """Take a task out wherever it stands; its entry on the shelf is cleared when it comes up, or with others."""
        waiting = self._waiting.pop(task, None)
        if waiting is None:
            return
        shelf = waiting.shelf
        shelf.count -= 1
        if not shelf.count:
            self._drop(waiting.key, shelf)
        elif len(shelf.heap) > 2 * shelf.count + KEPT_PLACES:
            shelf.heap = [entry for entry in shelf.heap if self._stands(entry)]
            heapq.heapify(shelf.heap)

    def head(self, usual: Usual) -> Place | None:
        """Return the place of the first task that may go, or None when there is none."""
        while self._heads:
            key = self._heads[0][1]
            if key in self._parked or key not in self._shelves:
                heapq.heappop(self._heads)
                continue
            place = min(self._first(shelf, usual) for shelf in self._shelves[key].values())
            if place <= self._heads[0][0] or len(self._heads) == 1 or place <= min(self._heads[1:3])[0]:
                return place
            heapq.heapreplace(self._heads, (place, key))  # its first task has gone, or was predicted otherwise
        return None

    def park(self, key: str) -> None:
        """Pass over the tasks with this concurrency key."""
        self._parked.add(key)

    def unpark(self, key: str) -> bool:
        """Let the tasks with this concurrency key go again; return whether they were passed over."""
        if key not in self._parked:
            return False
        self._parked.discard(key)
        if key in self._shelves:
            self._offer(key, _FIRST)
        return True

    def unpark_all(self) -> None:
        """Let all tasks go again."""
        for key in list(self._parked):
            self.unpark(key)

    def since(self, task: str) -> float:
        """Return when the task came into the lane. Raises ``KeyError`` for one that is not here."""
        return self._waiting[task].since

    def oldest(self) -> float | None:
        """Return since when the longest waiting task waits, or None."""
        return next((waiting.since for waiting in self._waiting.values()), None)  # they stand in order of arrival

    def tasks(self) -> Iterator[str]:
        """Yield who waits, the longest waiting first."""
        return iter(self._waiting)

    def _offer(self, key: str, place: Place) -> None:
        """Have a look at the key's tasks as soon as ``place``, which is no later than any of them, is the first."""
        heapq.heappush(self._heads, (place, key))
        if len(self._heads) > 2 * len(self._shelves) + KEPT_PLACES:
            self._heads = [(_FIRST, known) for known in self._shelves if known not in self._parked]

    def _first(self, shelf: _Shelf, usual: Usual) -> Place:
        while not self._stands(shelf.heap[0]):
            heapq.heappop(shelf.heap)
        value, arrival, task = shelf.heap[0]
        if shelf.kind == WITHOUT:
            value = usual(shelf.bucket) + AGEING * value
        return Place(shelf.below, shelf.kind, value, arrival, task)

    def _stands(self, entry: tuple[float, int, str]) -> bool:
        waiting = self._waiting.get(entry[2])
        return waiting is not None and waiting.arrival == entry[1]

    def _drop(self, key: str, shelf: _Shelf) -> None:
        shelves = self._shelves[key]
        del shelves[shelf.below, shelf.kind, shelf.bucket]
        if not shelves:
            del self._shelves[key]


class Lanes:
    """All lanes, which of them wait, and where an assignment may have become possible."""

    def __init__(self) -> None:
        self.all: dict[LaneKey, Lane] = {}
        self.waiting: set[LaneKey] = set()  # where somebody waits
        self.hopeful: set[LaneKey] = set()  # of those, where an assignment may have become possible
        self.touched: set[LaneKey] = set()  # since somebody last cleared it, for live pages
        self._of_agent: dict[str, set[LaneKey]] = {}  # agent → lanes it is able for
        self._agents: Mapping[str, AgentSpec] = {}

    def __len__(self) -> int:
        return sum(len(self.all[key]) for key in self.waiting)

    def follow(self, agents: Mapping[str, AgentSpec]) -> None:
        """Find anew who could serve each lane. Nobody is passed over any more, for the rules may be others too."""
        self._agents = agents
        for lane in self.all.values():
            self._match(lane)
            lane.unpark_all()
            self.touched.add(lane.key)
        self.hope()

    def lane(self, key: LaneKey) -> Lane:
        """Return the lane, made if it is new."""
        lane = self.all.get(key)
        if lane is None:
            lane = self.all[key] = Lane(key)
            self._match(lane)
        return lane

    def add(self, key: LaneKey, task: TaskSpec, now: float, *, bucket: int) -> None:
        """Let the task wait in its lane."""
        self.lane(key).add(task, now, bucket=bucket)
        self.waiting.add(key)
        self.hopeful.add(key)
        self.touched.add(key)

    def remove(self, key: LaneKey, task: str) -> None:
        """Take the task out of its lane."""
        lane = self.all[key]
        lane.remove(task)
        if not len(lane):
            self.waiting.discard(key)
            lane.held = ""
        self.touched.add(key)

    def hope(self, keys: Iterable[LaneKey] | None = None) -> None:
        """Try these lanes again, or all."""
        self.hopeful.update(self.waiting if keys is None else self.waiting.intersection(keys))

    def hope_for(self, agent: str) -> None:
        """Try again the lanes that the agent could serve."""
        self.hopeful.update(self._of_agent.get(agent, set()) & self.waiting)

    def is_waited_for(self, agent: str) -> bool:
        """Return whether somebody waits whom the agent could serve."""
        return not self.waiting.isdisjoint(self._of_agent.get(agent, ()))

    def unpark(self, key: LaneKey, concurrency_key: str) -> None:
        """Let the lane's tasks with this concurrency key go again."""
        lane = self.all.get(key)
        if lane is not None and lane.unpark(concurrency_key):
            self.hold(lane, "")
            self.hope([key])

    def hold(self, lane: Lane, why: str) -> None:
        """Say why the lane stands still, "" when it moves."""
        if lane.held != why:
            lane.held = why
            self.touched.add(lane.key)

    def drop_empty(self) -> None:
        """Forget the empty lanes when there are too many of them."""
        if len(self.all) - len(self.waiting) <= KEPT_LANES:
            return
        for key in [key for key in self.all if key not in self.waiting]:
            for name in self.all.pop(key).able:
                self._of_agent[name].discard(key)

    def _match(self, lane: Lane) -> None:
        key = lane.key
        probe = TaskSpec(
            id="", tenant=key.tenant, skill=key.skill, version=key.version,
            labels=key.labels, requires=key.requires, pinned=key.pinned, excluded=key.excluded,
        )  # fmt: skip
        specs = self._agents.values()
        reasons = {spec.name: policy.exclusion(spec, probe) for spec in specs if policy.is_skilled(spec, probe)}
        for name in lane.able:
            self._of_agent[name].discard(key)
        lane.able = frozenset(name for name, reason in reasons.items() if reason is None)
        lane.in_order = tuple(sorted(lane.able))
        lane.excluded = {name: reason for name, reason in reasons.items() if reason is not None}
        lane.reason = "" if lane.able else policy.why_none(list(specs), probe)
        for name in lane.able:
            self._of_agent.setdefault(name, set()).add(key)
