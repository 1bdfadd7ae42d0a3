"""How long will an agent need, and how often does it fail?  Learned from what it did.  Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

SPEED_GAIN = 0.08
ERROR_GAIN = 0.1
CLIP = 2.5
KEEP = 200  # observations that a mean remembers
PRIOR_WEIGHT = 2.0
UNKNOWN_S = 1.0  # expected seconds before anything was seen


@dataclass(slots=True)
class Mean:
    """A mean over about the last ``KEEP`` values."""

    value: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        """Count one more value."""
        self.count = min(self.count + 1, KEEP)
        self.value += (value - self.value) / self.count


@dataclass(slots=True)
class Record:
    """What an agent has shown so far."""

    log_speed: float = 0.0  # ln(its time / the skill's usual time); 0 is usual, above is slower
    error: float = 0.0  # 0..1, share of late attempts that failed
    count: int = 0


@dataclass(slots=True)
class Estimates:
    """Learned durations per skill and speeds per agent (late binding with learned speed, dispatch model §1)."""

    skills: dict[tuple[str, str], Mean] = field(default_factory=dict)
    agents: dict[str, Record] = field(default_factory=dict)
    fleet: Mean = field(default_factory=Mean)

    def usual_s(self, skill: tuple[str, str]) -> float:
        """Return the expected seconds of one attempt at ``skill`` by a usual agent, > 0."""
        prior = self.fleet.value if self.fleet.count else UNKNOWN_S
        seen = self.skills.get(skill)
        if seen is None:
            return prior
        return (seen.value * seen.count + prior * PRIOR_WEIGHT) / (seen.count + PRIOR_WEIGHT)

    def predicted_s(self, agent: str, skill: tuple[str, str]) -> float:
        """Return the expected seconds of one attempt at ``skill`` by ``agent``, > 0."""
        record = self.agents.get(agent)
        return self.usual_s(skill) * (math.exp(record.log_speed) if record else 1.0)

    def succeeded(self, agent: str, skill: tuple[str, str], seconds: float) -> None:
        """Learn from an attempt that took ``seconds``."""
        seconds = max(seconds, 1e-4)
        record = self.agents.setdefault(agent, Record())
        surprise = math.log(seconds / self.usual_s(skill)) - record.log_speed
        record.count += 1
        gain = max(SPEED_GAIN, 1 / (record.count + 1))
        record.log_speed += gain * max(-CLIP, min(CLIP, surprise))
        record.error += ERROR_GAIN * (0 - record.error)
        usual = seconds / math.exp(record.log_speed)
        self.skills.setdefault(skill, Mean()).add(usual)
        self.fleet.add(usual)

    def failed(self, agent: str) -> None:
        """Learn that an attempt failed by the agent's fault."""
        record = self.agents.setdefault(agent, Record())
        record.error += ERROR_GAIN * (1 - record.error)
