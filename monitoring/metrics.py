"""Metrics as values: their names, points, roll-ups and down-sampling.  Pure.

A *series* is a metric name with its labels. A gauge is what was so at a moment; a counter only grows, until its process
starts again; a distribution is what was observed since the point before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from itertools import groupby, pairwise
from typing import Any

from monitoring.sketches import Distribution

NAME = re.compile(r"[a-z][a-z0-9_]{0,99}\Z")
MOST_POINTS = 2_000
Value = float | Distribution


class Kind(StrEnum):
    """How the numbers of a metric are to be read."""

    GAUGE = "gauge"
    COUNTER = "counter"
    DISTRIBUTION = "distribution"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What is known of a metric before anything is measured. The name ends with its unit, as Prometheus wants it."""

    name: str
    kind: Kind
    unit: str  # of the figures: "s", "bytes", "ratio" (0..1), "usd", "1"
    help: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measured number."""

    name: str
    value: Value
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Point:
    """What a series was in ``[at, at + step)``; a raw point has one value, so that low, high, mean and last are it."""

    at: float  # seconds since the epoch
    low: float
    high: float
    total: float
    count: int
    last: float
    distribution: Distribution | None = None

    @property
    def mean(self) -> float:
        """Return the mean of what was measured or observed."""
        return self.total / self.count if self.count else 0.0

    @classmethod
    def of(cls, at: float, value: Value) -> Point:
        """Return the raw point."""
        if not isinstance(value, Distribution):
            return cls(at, value, value, value, 1, value)
        low, high = (value.lowest, value.highest) if value.count else (0.0, 0.0)
        mean = value.total / value.count if value.count else 0.0
        return cls(at, low, high, value.total, value.count, mean, value)

    def as_json(self) -> list[Any]:
        """Return it for ``of_json``."""
        row = [self.at, self.low, self.high, self.total, self.count, self.last]
        return row if self.distribution is None else [*row, self.distribution.as_json()]

    @classmethod
    def of_json(cls, row: Sequence[Any]) -> Point:
        """Return the point that ``as_json`` told of."""
        distribution = Distribution.of_json(row[6]) if len(row) > 6 else None
        return cls(row[0], row[1], row[2], row[3], row[4], row[5], distribution)


def key(name: str, labels: Mapping[str, str]) -> str:
    """Return what tells the series from all others, as Prometheus writes it."""
    if not labels:
        return name
    inner = ",".join(f'{label}="{escaped(value)}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inner}}}"


def alike(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three of the known names that may have been meant."""
    return get_close_matches(name, list(known), n=3, cutoff=0.7)


def escaped(value: str) -> str:
    """Return the label's value as it stands between quotes in Prometheus' text format."""
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def rolled(points: Iterable[Point], step_s: float) -> list[Point]:
    """Return one point a step, each at the step's begin; ``points`` in order of time."""
    found = groupby(points, key=lambda point: math.floor(point.at / step_s) * step_s)
    return [joined(at, list(group)) for at, group in found]


def joined(at: float, points: Sequence[Point]) -> Point:
    """Return the points, at least one, as one at ``at``: its low and high are the least and the greatest of all."""
    if len(points) == 1 and points[0].at == at:
        return points[0]
    distribution: Distribution | None = None
    if points[0].distribution is not None:
        distribution = Distribution()
        for point in points:
            if point.distribution is not None:
                distribution.merge(point.distribution)
    full = [point for point in points if point.count] or list(points)
    return Point(
        at,
        min(point.low for point in full),
        max(point.high for point in full),
        math.fsum(point.total for point in points),
        sum(point.count for point in points),
        full[-1].last,
        distribution,
    )


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Return at most ``most`` points that together have the same least and greatest values as all."""
    if len(points) <= most:
        return list(points)
    span = (points[-1].at - points[0].at) / most or 1.0
    first = points[0].at
    found = groupby(points, key=lambda point: min(most - 1, int((point.at - first) / span)))
    return [joined(group[0].at, group) for _, each in found if (group := list(each))]


def increases(points: Sequence[Point]) -> Iterator[tuple[float, float, float]]:
    """Yield (at, seconds since the point before, growth) of a counter. One that fell has begun again at 0."""
    for before, after in pairwise(points):
        if after.at > before.at:
            growth = after.last - before.last
            yield after.at, after.at - before.at, growth if growth >= 0 else after.last


def increase(points: Sequence[Point]) -> float:
    """Return how much a counter grew over the points."""
    return math.fsum(growth for _, _, growth in increases(points))


def rate(points: Sequence[Point]) -> float | None:
    """Return a counter's growth per second over the points; None for less than two."""
    span = points[-1].at - points[0].at if points else 0.0
    return increase(points) / span if span > 0 else None
