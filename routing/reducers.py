"""Who else decides inside the controller's commit.

An app above routing registers its reducer when Django is ready, so routing imports nothing above it. The controller
makes one of each when it begins to lead, tells it what was recorded of tasks, does what it wishes, and has it write its
rows in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from routing import events as e


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A task to be taken in at once. Its row is the reducer's to insert, by ``write``, in the same transaction."""

    task: e.TaskSpec
    input: Any  # JSON
    call: Any = None  # a recorded Celery call in its place


Wish = Submission | e.CancelAsked


class Reducer(Protocol):
    """Decides beside the fleet. What it wants written waits until ``committed``: a commit may be tried again."""

    def restore(self, now: float) -> Sequence[Wish]:
        """Take up what was under way when the last controller ended."""
        ...

    def look(self, now: float) -> Sequence[Wish]:
        """Take in what people and programs asked for; called at each look into the ledger."""
        ...

    def hear(self, recorded: Sequence[e.Recorded], now: float) -> Sequence[Wish]:
        """Learn what happened to tasks."""
        ...

    def awaits(self, task: str) -> bool:
        """Return whether something begins when this task ends: then its end is not kept waiting for company."""
        ...

    def due(self, now: float) -> Sequence[Wish]:
        """Let time pass."""
        ...

    def next_due(self) -> float | None:
        """Return when ``due`` should be called at the latest, None if nothing is scheduled."""
        ...

    def has_news(self) -> bool:
        """Return whether there is anything to write."""
        ...

    def write(self) -> None:
        """Write everything since the last ``committed``, in the open transaction. May be called again if it failed."""
        ...

    def committed(self) -> None:
        """What was written is committed: tell the world, and forget it."""
        ...


_FACTORIES: dict[str, Callable[[], Reducer]] = {}


def register(name: str, factory: Callable[[], Reducer]) -> None:
    """Have the controller make a reducer by ``factory`` each time it begins to lead."""
    _FACTORIES[name] = factory


def unregister(name: str) -> None:
    """Take it back."""
    _FACTORIES.pop(name, None)


def make() -> list[Reducer]:
    """Return one of each, in the order in which they were registered."""
    return [factory() for factory in _FACTORIES.values()]
