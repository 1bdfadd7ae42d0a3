"""Quantiles of positive numbers in bounded space: mergeable, forgetting, and plain JSON.  Pure.

Bins of equal relative width, after DDSketch (Masson, Rim, Lee 2019, PVLDB 12:2195); a quantile is right within 5 %.
Why not the package: see docs/decisions, quantile sketches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

LOWEST, HIGHEST = 1e-4, 1e7  # values beyond are counted as these; so there are at most 266 bins
WIDTH = math.log(1.1)  # of a bin, in natural logarithms
KEEP = 400.0  # above this weight everything kept is halved: older values fade
FADED = 0.05  # a bin that weighs less is dropped


@dataclass(slots=True)
class Sketch:
    """How often values fell into which bin."""

    bins: dict[int, float] = field(default_factory=dict)
    weight: float = 0.0  # of all bins together

    def add(self, value: float) -> None:
        """Count one more value, > 0."""
        place = math.floor(math.log(min(max(LOWEST, value), HIGHEST)) / WIDTH)
        self.bins[place] = self.bins.get(place, 0.0) + 1.0
        self.weight += 1.0
        if self.weight > KEEP:
            self._fade()

    def merge(self, other: Sketch) -> None:
        """Count all that ``other`` has counted too."""
        for place, weight in other.bins.items():
            self.bins[place] = self.bins.get(place, 0.0) + weight
        self.weight += other.weight
        while self.weight > KEEP:
            self._fade()

    def quantile(self, share: float) -> float | None:
        """Return the value below which ``share`` (0..1) of the others lie, within 5 %; None before the first one."""
        if not self.bins:
            return None
        places = sorted(self.bins)
        left = share * self.weight
        for place in places:
            left -= self.bins[place]
            if left < 0:
                break
        return math.exp((place + 0.5) * WIDTH)

    def as_json(self) -> list[Any]:
        """Return the weight and the bins as [place, weight], for ``of_json``."""
        return [self.weight, [[place, weight] for place, weight in self.bins.items()]]

    @classmethod
    def of_json(cls, parts: Sequence[Any]) -> Sketch:
        """Return the sketch that ``as_json`` told of, the same to the last bit."""
        weight, bins = parts
        return cls({int(place): float(each) for place, each in bins}, float(weight))

    def _fade(self) -> None:
        self.bins = {place: weight / 2 for place, weight in self.bins.items() if weight / 2 >= FADED}
        self.weight = sum(self.bins.values())
