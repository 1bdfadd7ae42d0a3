"""What is kept of an agent, a skill, and an agent at a skill: the state that ``estimates`` reckons from.  Pure.

All of it is bounded, fades, and goes through JSON without losing a bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

from routing.sketches import Sketch

KEEP = 200  # observations that a mean remembers
SPEED_GAIN = 0.08
CLIP = 2.5  # one observation says at most that an agent is so many e-folds slower or faster than usual
ERROR_GAIN = 0.1
PEAK_FADES_S = 300.0  # a peak of the latency comes down with this time constant
LARGEST = 2.0**63  # sizes above are taken for this


def bucket_of(size: float) -> int:
    """Return which size bucket a task belongs to, 0..63: each is twice as large as the one before it.

    Sizes below 1, and what is no number, belong to the first.
    """
    return max(0, math.frexp(min(size, LARGEST))[1] - 1) if size >= 1 else 0


@dataclass(slots=True)
class Mean:
    """A mean over about the last ``KEEP`` values."""

    value: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        """Count one more value."""
        self.count = min(self.count + 1, KEEP)
        self.value += (value - self.value) / self.count

    def drawn_to(self, prior: float, weight: float) -> float:
        """Return the mean with ``prior`` counted as ``weight`` more values, > 0."""
        return (self.value * self.count + prior * weight) / (self.count + weight)

    def as_json(self) -> list[float]:
        """Return the fields in order."""
        return [self.value, self.count]

    @classmethod
    def of_json(cls, parts: Sequence[float]) -> Mean:
        """Return the mean that ``as_json`` told of."""
        return cls(parts[0], int(parts[1]))


@dataclass(slots=True)
class Speed:
    """How slow something is against what is usual."""

    log: float = 0.0  # ln(its time / the usual time); 0 is usual, above is slower
    count: int = 0

    def add(self, observed: float) -> None:
        """Learn from one more logarithm of time over usual time: the first ones count most."""
        self.count += 1
        gain = max(SPEED_GAIN, 1 / (self.count + 1))
        self.log += gain * (max(-CLIP, min(CLIP, observed)) - self.log)

    def as_json(self) -> list[float]:
        """Return the fields in order."""
        return [self.log, self.count]

    @classmethod
    def of_json(cls, parts: Sequence[float]) -> Speed:
        """Return the speed that ``as_json`` told of."""
        return cls(parts[0], int(parts[1]))


@dataclass(slots=True)
class Record:
    """What several observations have left, and when the last one was made."""

    good: float = 0.0  # successes, faded; a rating of .3 is three tenths of one
    bad: float = 0.0  # failures, likewise
    updated_at: float = 0.0  # seconds since the epoch

    def move(self, good: float, bad: float) -> None:
        """Count so much more; less if negative, but never below nothing."""
        self.good = max(0.0, self.good + good)
        self.bad = max(0.0, self.bad + bad)

    def as_json(self) -> dict[str, Any]:
        """Return the fields by name, for ``of_json``."""
        return {name: _plain(getattr(self, name)) for name in _names(type(self))}

    @classmethod
    def of_json(cls, parts: Mapping[str, Any]) -> Self:
        """Return the record that ``as_json`` told of. Names no longer known are skipped, missing ones start anew."""
        known = {name: parts[name] for name in _names(cls) if name in parts}
        return cls(**{name: _READ[name](value) if name in _READ else value for name, value in known.items()})


@dataclass(slots=True)
class FleetRecord(Record):
    """All agents at all skills: what everything unknown is taken for."""

    usual: Mean = field(default_factory=Mean)  # seconds of an agent of usual speed
    seconds: Mean = field(default_factory=Mean)
    cost_usd: Mean = field(default_factory=Mean)


@dataclass(slots=True)
class AgentRecord(Record):
    """One agent at all its skills."""

    speed: Speed = field(default_factory=Speed)
    error: float = 0.0  # 0..1, share of late attempts that failed
    observed: int = 0  # attempts that ended: the clock by which its counts fade
    seconds: Mean = field(default_factory=Mean)
    cost_usd: Mean = field(default_factory=Mean)

    def ended(self, good: float) -> None:
        """Count one more attempt that went well (1) or failed (0) in the share of errors."""
        self.observed += 1
        self.error += ERROR_GAIN * (1.0 - good - self.error)


@dataclass(slots=True)
class SkillRecord(Record):
    """One skill, whoever does it."""

    usual: Mean = field(default_factory=Mean)  # seconds of an agent of usual speed, at tasks of all sizes
    buckets: dict[int, Mean] = field(default_factory=dict)  # size bucket → the same, at tasks of this size
    ratios: Sketch = field(default_factory=Sketch)  # seconds over predicted seconds

    def bucket(self, number: int) -> Mean:
        """Return the mean of a size bucket, a new one if it is the first of its size."""
        return self.buckets.setdefault(number, Mean())


@dataclass(slots=True)
class Cell(Record):
    """One agent at one skill. ``good`` and ``bad`` stand as when the agent had ``faded_at`` observations."""

    observed: int = 0  # attempts that ended
    faded_at: int = 0
    speed: Speed = field(default_factory=Speed)
    seconds: Mean = field(default_factory=Mean)  # of successful attempts
    cost_usd: Mean = field(default_factory=Mean)
    peak_s: float = 0.0  # follows a slower attempt at once, a faster one slowly
    latency: Sketch = field(default_factory=Sketch)  # seconds of successful attempts

    def took(self, seconds: float, now: float) -> None:
        """Count the time of one more successful attempt; before ``updated_at`` is moved on to ``now``."""
        self.seconds.add(seconds)
        self.latency.add(seconds)
        if seconds >= self.peak_s:
            self.peak_s = seconds
        else:
            left = math.exp(-max(0.0, now - self.updated_at) / PEAK_FADES_S)
            self.peak_s = seconds + (self.peak_s - seconds) * left


def _names(kind: type[Record]) -> tuple[str, ...]:
    if kind not in _NAMES:
        _NAMES[kind] = tuple(part.name for part in fields(kind))
    return _NAMES[kind]


def _plain(value: Any) -> Any:
    if isinstance(value, Mean | Speed | Sketch):
        return value.as_json()
    return [[number, *mean.as_json()] for number, mean in value.items()] if isinstance(value, dict) else value


_NAMES: dict[type[Record], tuple[str, ...]] = {}
_READ: dict[str, Callable[[Any], Any]] = {
    "usual": Mean.of_json,
    "seconds": Mean.of_json,
    "cost_usd": Mean.of_json,
    "speed": Speed.of_json,
    "ratios": Sketch.of_json,
    "latency": Sketch.of_json,
    "buckets": lambda rows: {int(number): Mean.of_json(parts) for number, *parts in rows},
}
