"""What is kept of many observed numbers: how many, their sum, the least, the greatest, and their quantiles.  Pure.

Bins as in ``routing.sketches``, but nothing fades: merging the sketches of ten minutes gives the sketch of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from routing.sketches import HIGHEST, LOWEST, WIDTH


@dataclass(slots=True)
class Distribution:
    """Numbers >= 0, quantiles within 5 %; at most 266 bins."""

    count: int = 0
    total: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf
    bins: dict[int, int] = field(default_factory=dict)

    def add(self, value: float) -> None:
        """Count one more value."""
        place = math.floor(math.log(min(max(LOWEST, value), HIGHEST)) / WIDTH)
        self.bins[place] = self.bins.get(place, 0) + 1
        self.count += 1
        self.total += value
        self.lowest, self.highest = min(self.lowest, value), max(self.highest, value)

    def merge(self, other: Distribution) -> None:
        """Count all that ``other`` has counted too."""
        for place, count in other.bins.items():
            self.bins[place] = self.bins.get(place, 0) + count
        self.count += other.count
        self.total += other.total
        self.lowest, self.highest = min(self.lowest, other.lowest), max(self.highest, other.highest)

    def quantile(self, share: float) -> float | None:
        """Return the value below which ``share`` (0..1) of the others lie, within 5 %; None of nothing."""
        if not self.count:
            return None
        left = share * self.count
        place = 0
        for place in sorted(self.bins):
            left -= self.bins[place]
            if left < 0:
                break
        return min(max(math.exp((place + 0.5) * WIDTH), self.lowest), self.highest)

    def as_json(self) -> list[Any]:
        """Return it for ``of_json``."""
        bounds = [self.lowest, self.highest] if self.count else [0.0, 0.0]
        return [self.count, self.total, *bounds, [[place, count] for place, count in self.bins.items()]]

    @classmethod
    def of_json(cls, parts: Sequence[Any]) -> Distribution:
        """Return the distribution that ``as_json`` told of."""
        count, total, lowest, highest, bins = parts
        if not count:
            return cls()
        return cls(count, total, lowest, highest, {int(place): int(each) for place, each in bins})
