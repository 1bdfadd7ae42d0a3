"""Tasks that wait, one lane per distinct set of requirements.  Pure."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field

from routing.events import Labels, TaskSpec

Order = tuple[int, float, int]  # (-priority, created at, arrival): smaller goes first
KEPT_PLACES = 100  # outdated entries of a lane's heap are kept up to so many, and as many again as tasks wait
_arrivals = itertools.count()


@dataclass(frozen=True, slots=True)
class LaneKey:
    """What all tasks of a lane require of an agent."""

    tenant: str
    skill: str
    version: str
    labels: Labels
    pinned: str
    excluded: tuple[str, ...]
    alone: bool = False  # one at a time in the whole fleet: workers have died of them, or beside them

    @classmethod
    def of(cls, task: TaskSpec) -> LaneKey:
        """Return the key of the lane where ``task`` waits."""
        return cls(task.tenant, task.skill, task.version, task.labels, task.pinned, task.excluded)

    def __str__(self) -> str:
        parts = [self.skill + (f"@{self.version}" if self.version else "")]
        parts += [f"{label}={value}" for label, value in self.labels]
        parts += [f"→{self.pinned}"] if self.pinned else []
        parts += [f"-{name}" for name in self.excluded]
        parts += ["(one at a time)"] if self.alone else []
        return " ".join(parts)


@dataclass(slots=True)
class Lane:
    """Waiting tasks that ask for the same, by priority, then age."""

    key: LaneKey
    able: frozenset[str] = frozenset()  # agents that could take them, as the registry stands
    excluded: dict[str, str] = field(default_factory=dict)  # skilled agents that could not → why
    reason: str = ""  # why nobody can, in words
    _heap: list[tuple[Order, str]] = field(default_factory=list)
    _waiting: dict[str, tuple[Order, float]] = field(default_factory=dict)  # task → (order, waits since)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, task: TaskSpec, now: float) -> None:
        """Put a task in its place."""
        order = (-task.priority, task.created_at, next(_arrivals))
        self._waiting[task.id] = (order, now)
        heapq.heappush(self._heap, (order, task.id))

    def remove(self, task: str) -> None:
        """Take a task out wherever it stands; its place in the heap is cleared when it comes up or with others."""
        self._waiting.pop(task, None)
        if len(self._heap) > 2 * len(self._waiting) + KEPT_PLACES:
            self._heap = [(order, name) for name, (order, _) in self._waiting.items()]
            heapq.heapify(self._heap)

    def head(self) -> tuple[Order, str] | None:
        """Return the first task with its order, or None when nobody waits."""
        while self._heap:
            order, task = self._heap[0]
            known = self._waiting.get(task)
            if known is not None and known[0] == order:
                return self._heap[0]
            heapq.heappop(self._heap)
        return None

    def since(self, task: str) -> float:
        """Return when the task came into the lane. Raises ``KeyError`` for one that is not here."""
        return self._waiting[task][1]

    def oldest(self) -> float | None:
        """Return since when the longest waiting task waits, or None."""
        return next((since for _, since in self._waiting.values()), None)  # they stand in order of arrival
