"""Who waits for what, so that something freed gives hope to those who can use it and to nobody else.  Pure.

Whoever frees something says ``open``. Then the one who hands out work asks ``opened`` for what has come free, and
``next`` for the first who waited for it; only when that one was served or turned away for another reason, ``next``
again, until it is None. So a slot that frees costs as much as those who really try, however many wait.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

KEPT_PLACES = 100  # outdated places of a queue are kept up to so many, and as many again as somebody waits

Order = tuple[float, ...]  # smaller goes first
K = TypeVar("K", bound=Hashable)
W = TypeVar("W", bound=Hashable)


class Waiters(Generic[K, W]):
    """Queues by order, one for each thing that is waited for. Who waits for several leaves all when one calls."""

    def __init__(self) -> None:
        self._queues: dict[K, list[tuple[Order, int, W]]] = {}
        self._tickets: dict[W, int] = {}  # only the place with the last ticket counts
        self._numbers = itertools.count()
        self._open: dict[K, None] = {}  # in order: replays must not differ
        self._timers: list[tuple[float, int, K]] = []  # (when it opens by itself, number, what)
        self._times: dict[K, float] = {}  # only the timer with this time counts

    def __len__(self) -> int:
        return len(self._tickets)

    def __contains__(self, who: W) -> bool:
        return who in self._tickets

    def wait(self, who: W, order: Order, keys: Iterable[tuple[K, float | None]]) -> None:
        """Let ``who`` wait for any of the keys, with the time at which each opens by itself, or None.

        It gives up what it waited for before.
        """
        ticket = self._tickets[who] = next(self._numbers)
        for key, at in keys:
            queue = self._queues.setdefault(key, [])
            heapq.heappush(queue, (order, ticket, who))
            self._tidy(queue)
            if at is not None:
                self.open_at(key, at)

    def forget(self, who: W) -> None:
        """Let it wait no more."""
        self._tickets.pop(who, None)

    def open(self, key: K) -> None:
        """Say that there is room, if anybody waits for it."""
        if key in self._queues:
            self._open[key] = None

    def open_at(self, key: K, at: float) -> None:
        """Say when there will be room. An earlier time that is known already stays."""
        if key in self._queues and at < self._times.get(key, float("inf")):
            self._times[key] = at
            heapq.heappush(self._timers, (at, next(self._numbers), key))

    def opened(self, now: float) -> list[K]:
        """Return what has room and is waited for. Each stays in the list until ``next`` has none for it."""
        while self._timers and self._timers[0][0] <= now:
            at, _, key = heapq.heappop(self._timers)
            if self._times.get(key) == at:
                del self._times[key]
                self.open(key)
        return list(self._open)

    def next_opening(self) -> float | None:
        """Return when something opens by itself at the earliest, or None."""
        while self._timers and self._times.get(self._timers[0][2]) != self._timers[0][0]:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def next(self, key: K) -> W | None:
        """Return the first who waits for the key, who then waits no more; None if nobody does."""
        queue = self._queues.get(key, [])
        while queue:
            _, ticket, who = heapq.heappop(queue)
            if self._tickets.get(who) == ticket:
                del self._tickets[who]
                return who
        self._queues.pop(key, None)
        self.close(key)
        return None

    def close(self, key: K) -> None:
        """Say that there is no room any more."""
        self._open.pop(key, None)

    def clear(self) -> None:
        """Forget everybody: they will all try anew."""
        self._queues.clear()
        self._tickets.clear()
        self._open.clear()
        self._timers.clear()
        self._times.clear()

    def _tidy(self, queue: list[tuple[Order, int, W]]) -> None:
        """Clear outdated places once they are many."""
        if len(queue) > 2 * len(self._tickets) + KEPT_PLACES:
            queue[:] = [place for place in queue if self._tickets.get(place[2]) == place[1]]
            heapq.heapify(queue)
