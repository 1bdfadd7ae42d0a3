"""How many may begin per second?  Token buckets that fill by themselves.  Pure.

A bucket is one number, the time at which it is full again (the generic cell rate algorithm, ITU-T I.371): no clock, no
refilling, and the answer "at this very moment" is exact, so nobody wakes a moment too early. A bucket that nobody knows
is full.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

KEPT_FULL = 1_000  # buckets that have filled up are kept up to so many, and as many again as are in use

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Rate:
    """So many per second on average, and at most ``burst`` at once."""

    per_s: float  # > 0
    burst: int  # >= 1

    @property
    def interval_s(self) -> float:
        """Return the seconds in which one token comes."""
        return 1 / self.per_s

    @property
    def filling_s(self) -> float:
        """Return the seconds in which an empty bucket fills."""
        return self.burst / self.per_s


class Buckets(Generic[K]):
    """Token buckets by key, each with the rate that the caller names."""

    def __init__(self) -> None:
        self._full_at: dict[K, float] = {}
        self._dirty: dict[K, None] = {}
        self._tidy_at = KEPT_FULL

    def __len__(self) -> int:
        return len(self._full_at)

    def ready_at(self, key: K, rate: Rate, now: float) -> float:
        """Return when the next token is there; it is there now if that is ``now`` or before."""
        full_at = self._full_at.get(key)
        if full_at is None:
            return now
        return min(full_at, now + rate.filling_s) - (rate.burst - 1) * rate.interval_s

    def tokens(self, key: K, rate: Rate, now: float) -> float:
        """Return how many tokens are there, 0 to ``burst``."""
        missing = (self._full_at.get(key, now) - now) * rate.per_s
        return min(max(rate.burst - missing, 0.0), float(rate.burst))

    def take(self, key: K, rate: Rate, now: float) -> None:
        """Take one token. Without one the bucket stays empty: it owes nothing."""
        full_at = max(self._full_at.get(key, now), now) + rate.interval_s
        self._full_at[key] = min(full_at, now + rate.filling_s)
        self._dirty[key] = None
        if len(self._full_at) > self._tidy_at:
            self._tidy(now)

    def convert(self, key: K, old: Rate, new: Rate, now: float) -> None:
        """Let the bucket have the new rate, with as many tokens missing as before."""
        full_at = self._full_at.get(key)
        if full_at is not None and full_at > now:
            missing = min((full_at - now) * old.per_s, float(new.burst))
            self._full_at[key] = now + missing * new.interval_s
            self._dirty[key] = None

    def known(self) -> list[K]:
        """Return the keys of the buckets that may not be full."""
        return list(self._full_at)

    def drop(self, key: K) -> None:
        """Forget the bucket."""
        self._full_at.pop(key, None)
        self._dirty.pop(key, None)

    def changed(self) -> list[tuple[K, float]]:
        """Return (key, time at which it is full) of each bucket that changed since the last call."""
        rows = [(key, self._full_at[key]) for key in self._dirty if key in self._full_at]
        self._dirty.clear()
        return rows

    def rows(self, now: float) -> list[tuple[K, float]]:
        """Return (key, time at which it is full) of each bucket that is not full."""
        return [(key, full_at) for key, full_at in self._full_at.items() if full_at > now]

    def restore(self, rows: Iterable[tuple[K, float]], now: float) -> None:
        """Take up buckets as ``rows`` or ``changed`` told them."""
        self._full_at.update((key, full_at) for key, full_at in rows if math.isfinite(full_at) and full_at > now)

    def _tidy(self, now: float) -> None:
        """Forget the full ones, and look again when as many more have come."""
        self._full_at = dict(self.rows(now))
        self._tidy_at = 2 * len(self._full_at) + KEPT_FULL
