"""Schedules in the controller: due times are met in its own commit, so that no process of its own can be lost."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from coordination import schedules
from routing import events as e
from routing.reducers import Wish

LOOK_S = 0.5  # so soon a changed schedule is known


class Clock:
    """A ``routing.reducers.Reducer`` that knows when the next schedule is due."""

    def __init__(self) -> None:
        self._next: float | None = None  # seconds since the epoch
        self._due_at: float | None = None  # the moment to write for
        self._looked_at = float("-inf")

    def restore(self, now: float) -> Sequence[Wish]:
        """See what is due after a restart."""
        return self.look(now)

    def look(self, now: float) -> Sequence[Wish]:
        """See whether a schedule was changed."""
        if not 0 <= now - self._looked_at < LOOK_S:
            self._looked_at = now
            self._see()
        return ()

    def _see(self) -> None:
        found = schedules.next_at()
        self._next = None if found is None else found.timestamp()

    def hear(self, recorded: Sequence[e.Recorded], now: float) -> Sequence[Wish]:
        """Nothing that happens to tasks matters here."""
        return ()

    def awaits(self, task: str) -> bool:
        """Return False: no schedule looks at tasks."""
        return False

    def due(self, now: float) -> Sequence[Wish]:
        """Note that the time has come."""
        if self._next is not None and self._next <= now:
            self._due_at = now
        return ()

    def next_due(self) -> float | None:
        """Return when the first schedule is due."""
        return self._next

    def has_news(self) -> bool:
        """Return whether a schedule is to be met in this commit."""
        return self._due_at is not None

    def write(self) -> None:
        """Meet what is due."""
        if self._due_at is not None:
            schedules.fire_due(dt.datetime.fromtimestamp(self._due_at, dt.UTC))

    def committed(self) -> None:
        """See when the next one is due."""
        if self._due_at is not None:
            self._due_at = None
            self._see()
