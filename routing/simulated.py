"""Agents as the simulator plays them: how fast they truly are, and when they misbehave.  Pure.

A fleet is described by a mapping, in a file by YAML::

    seconds_per_unit: 1.0   # an agent of speed 1 works so long on one unit of size
    noise: 0.25             # standard deviation of ln(true / expected duration), one draw per task
    agents:
      - name: codex
        capacity: 4
        speed: 1.5          # 2 needs half the time
        skills: [work]
        cost_usd: 0.02      # of one attempt
        error_rate: 0.01    # share of attempts that fail, at their end
        slow: [{from: 60, to: 90, factor: 4}]
        freezes: [{from: 120, to: 128}]
        black_holes: [{from: 200, to: 260}]
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from routing import events as e

Name = Annotated[str, Field(min_length=1, max_length=100)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NOT_AT_ALL = math.inf  # the factor of a freeze


class BadFleet(ValueError):
    """A description of a fleet cannot be used; the message says where and why."""


class _Described(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Window(_Described):
    """A stretch of time, half open, in seconds after the trace's first arrival."""

    start: Annotated[Finite, Field(alias="from", ge=0)]
    end: Annotated[Finite, Field(alias="to")]

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.end <= self.start:
            raise ValueError("'to' comes after 'from'")
        return self

    def holds(self, at: float) -> bool:
        """Return whether ``at`` is in it."""
        return self.start <= at < self.end


class Slow(Window):
    """A time in which all work takes ``factor`` times as long."""

    factor: Annotated[Finite, Field(gt=0)]


class SimulatedAgent(_Described):
    """One agent: what the registry says of it, and what it is like."""

    name: Name
    tenant: Name = "default"
    skills: frozenset[Name] = frozenset({"work"})
    labels: Mapping[str, str] = Field(default_factory=dict)
    capacity: Annotated[int, Field(ge=1, le=10_000)] = 1
    speed: Annotated[Finite, Field(gt=0)] = 1.0
    cost_usd: Annotated[Finite, Field(ge=0)] = 0.0
    error_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    slow: tuple[Slow, ...] = ()
    freezes: tuple[Window, ...] = ()  # it stands still, and its worker is silent
    black_holes: tuple[Window, ...] = ()  # what begins then fails at once

    def spec(self) -> e.AgentSpec:
        """Return it as registered."""
        return e.AgentSpec(
            name=self.name,
            tenant=self.tenant,
            skills=frozenset((skill, "1") for skill in self.skills),
            capacity=self.capacity,
            labels=tuple(sorted(self.labels.items())),
            cost_usd=self.cost_usd,
        )


class SimulatedFleet(_Described):
    """All agents of a simulation."""

    agents: Annotated[tuple[SimulatedAgent, ...], Field(min_length=1)]
    seconds_per_unit: Annotated[Finite, Field(gt=0)] = 1.0
    noise: Annotated[float, Field(ge=0, le=3)] = 0.0

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [agent.name for agent in self.agents]
        if twice := sorted({name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()):
            raise ValueError(f"two agents are called {', '.join(twice)}")
        return self


def described(data: Any) -> SimulatedFleet:
    """Return the fleet that ``data`` describes, as read from YAML or JSON. Raises ``BadFleet``."""
    try:
        return SimulatedFleet.model_validate(data)
    except ValidationError as error:
        raise BadFleet("\n".join(_in_words(found) for found in error.errors())) from None


def _in_words(found: Mapping[str, Any]) -> str:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in found["loc"]).lstrip(".")
    return f"{place or 'fleet'}: {found['msg'].removeprefix('Value error, ')}"


class Pace:
    """How fast one agent works at each moment, in seconds of work per second."""

    def __init__(self, agent: SimulatedAgent, origin: float = 0.0) -> None:
        """``origin`` is the moment from which the windows count."""
        windows = [(w.start, w.end, w.factor) for w in agent.slow]
        windows += [(w.start, w.end, NOT_AT_ALL) for w in agent.freezes]
        edges = sorted({edge for start, end, _ in windows for edge in (start, end)})
        self._changes = [origin + edge for edge in edges]
        self._paces = [agent.speed]  # before the first change, and after each
        for edge in edges:
            factors = (factor for start, end, factor in windows if start <= edge < end)
            self._paces.append(agent.speed / math.prod(factors))

    def end_of(self, start: float, work_s: float) -> float:
        """Return when ``work_s`` seconds of an agent of speed 1 are done that begin at ``start``."""
        place = bisect_right(self._changes, start)
        pace, now = self._paces[place], start
        for change, next_pace in zip(self._changes[place:], self._paces[place + 1 :], strict=True):
            possible = (change - now) * pace
            if work_s <= possible:
                break
            work_s, now, pace = work_s - possible, change, next_pace
        return now + work_s / pace
