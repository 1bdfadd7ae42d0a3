"""What the fleet keeps of a live task and of its attempts in flight.  Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from routing.events import TaskSpec
from routing.lanes import LaneKey
from routing.policies import PolicySpec
from routing.retries import RetryPolicy

Phase = Literal["waiting", "delayed", "assigned", "working"]


@dataclass(slots=True)
class Flight:
    """One attempt that was sent to an agent and has not ended."""

    task: str
    attempt: int
    agent: str
    began_at: float  # when its present phase began
    predicted_s: float = 1.0  # seconds it was expected to work when it was sent, > 0
    phase: Phase = "assigned"  # or working
    worker: str = ""  # "" is not known
    incarnation: str = ""  # of the worker; "" is not known
    lease_until: float = 0.0
    late_s: float = 3.0  # seconds that 95 of 100 attempts like it stay below, > 0
    usage: Mapping[str, float] = field(default_factory=dict)  # what it says it has used, by unit
    hedge_at: float = math.inf  # when a second attempt beside it is worth a thought


@dataclass(slots=True)
class LiveTask:
    """A task that has not ended."""

    spec: TaskSpec
    skill: tuple[str, str]
    lane: LaneKey
    policy: PolicySpec
    seq: int = 0
    attempt: int = 0  # the number of its last attempt
    tries: int = 0  # attempts that began and did not succeed
    unstarted: int = 0  # assignments in a row that never began
    flights: list[Flight] = field(default_factory=list)  # the attempt in flight, and a hedge beside it
    delayed_until: float | None = None
    is_aside: bool = False  # delayed because what it waits for concerns it alone; called when that may have changed
    is_asking: bool = False  # delayed because its agent needs an answer; only that, a deadline or a cancel ends it
    look_at: float = math.inf  # when ``due`` looks at it next
    losses: int = 0  # attempts that were lost with their worker
    cancel_asked_at: float | None = None
    failed_on: set[str] = field(default_factory=set)  # agents
    stays_on: str = ""  # the agent that is to try it again
    waited_for: str = ""  # what kept it from beginning when it was looked at last, in words
    used: dict[str, float] = field(default_factory=dict)  # of its own budget, by unit
    owes: str = ""  # the kind of error whose retry the fleet's account has not paid for yet
    waiting_since: float = math.inf  # it could begin, but for what it waits for
    give_up_at: float = math.inf  # when it has waited too long

    @property
    def retries(self) -> RetryPolicy:
        """Return by which rules it is tried again: its own, or its policy's."""
        return self.spec.retries or self.policy.retries

    @property
    def wait_s(self) -> float | None:
        """Return how long it may wait, None for any time."""
        return self.policy.wait_s if self.spec.wait_s is None else self.spec.wait_s

    @property
    def phase(self) -> Phase:
        """Return where it is in its life."""
        if not self.flights:
            return "waiting" if self.delayed_until is None else "delayed"
        return self.flights[0].phase

    @property
    def agent(self) -> str:
        """Return who has it, "" if nobody."""
        return self.flights[0].agent if self.flights else ""

    def flight(self, attempt: int) -> Flight | None:
        """Return the attempt if it is in flight."""
        return next((flight for flight in self.flights if flight.attempt == attempt), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A task that was live when the last controller ended, as the ledger tells it."""

    spec: TaskSpec
    seq: int
    attempt: int = 0
    tries: int = 0
    flights: tuple[Flight, ...] = ()
    cancel_asked: bool = False
    is_asking: bool = False
    used: Mapping[str, float] = field(default_factory=dict)  # by the attempts that have ended, by unit
