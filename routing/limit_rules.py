"""What a limit on tasks in flight says, and what is wrong with one.  Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, get_args

from routing.matching import Match, Subject, is_number, is_whole, name_problems
from routing.rates import Rate

MAX_RUNNING = 1_000_000
MIN_RATE_PER_S = 1e-6  # one in 12 days
MAX_RATE_PER_S = 100_000.0
MAX_BURST = 1_000_000

Per = Literal["all", "tenant", "skill", "agent", "key"]
OnFull = Literal["queue", "reject", "cancel_oldest"]
Reach = Literal[
    "lane", "key", "task"
]  # all tasks with the same requirements, those with its concurrency key, or others
SEVERITY: dict[OnFull, int] = {"reject": 0, "queue": 1, "cancel_oldest": 2}  # cancelling helps if all else has room


class Limited(Subject, Protocol):
    """What a limit may ask of a task."""

    @property
    def id(self) -> str: ...
    @property
    def concurrency_key(self) -> str: ...  # "" is none


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSpec:
    """One limit over the tasks that ``match`` speaks of, counted apart for each value of ``per``.

    A skill or a task's own key means the same only within one tenant, so those are counted per tenant too.
    """

    name: str
    match: Match = field(default_factory=Match)
    per: Per = "all"
    max_running: int | None = None  # attempts at once, >= 1
    rate_per_s: float | None = None  # attempts that begin per second, > 0
    burst: int = 1  # attempts that may begin at once after a quiet time, >= 1
    on_full: OnFull = "queue"

    @property
    def is_per_agent(self) -> bool:
        """Return whether it can be decided only once the agent is known."""
        return self.per == "agent" or self.match.names_agents

    @property
    def reach(self) -> Reach:
        """Return whom it concerns together with a task; a lane's tasks differ in priority and concurrency key."""
        if self.match.names_priorities:
            return "task"
        return "key" if self.per == "key" else "lane"

    @property
    def rate(self) -> Rate | None:
        """Return its token bucket's rate, or None."""
        return None if self.rate_per_s is None else Rate(self.rate_per_s, self.burst)


class LimitKey(NamedTuple):
    """One thing that is counted: a limit, for one value of its ``per`` ("" for all)."""

    limit: str
    value: str = ""


def problems(spec: LimitSpec) -> list[str]:
    """Return in words what keeps the limit from being used."""
    found = [*name_problems(spec.name), *spec.match.problems()]
    if spec.per not in get_args(Per):
        found.append(f"per: use one of {', '.join(get_args(Per))}, not {spec.per!r}")
    if spec.on_full not in SEVERITY:
        found.append(f"on_full: use one of {', '.join(SEVERITY)}, not {spec.on_full!r}")
    if spec.max_running is None and spec.rate_per_s is None:
        found.append("it limits nothing: give max_running, rate_per_s or both")
    found += _number_problems(spec)
    if spec.on_full == "cancel_oldest" and spec.rate_per_s is not None:
        found.append("on_full: cancelling the oldest makes no room in a rate; use queue or reject")
    return found


def _number_problems(spec: LimitSpec) -> list[str]:
    found = []
    if spec.max_running is not None and not (is_whole(spec.max_running) and 1 <= spec.max_running <= MAX_RUNNING):
        found.append(
            f"max_running: use a whole number from 1 to {MAX_RUNNING:,}, not {spec.max_running}; to stop everything, "
            "disable the agents instead"
        )
    rate = spec.rate_per_s
    if rate is not None and not (is_number(rate) and MIN_RATE_PER_S <= rate <= MAX_RATE_PER_S):
        found.append(f"rate_per_s: use a number from {MIN_RATE_PER_S:f} to {MAX_RATE_PER_S:,.0f}, not {rate}")
    if not is_whole(spec.burst) or not 1 <= spec.burst <= MAX_BURST:
        found.append(f"burst: use a whole number from 1 to {MAX_BURST:,}, not {spec.burst}")
    return found


def key_of(spec: LimitSpec, task: Limited, agent: str) -> LimitKey | None:
    """Return where the task counts in the limit; None if it has no key of its own and the limit is per key."""
    if spec.per == "all":
        return LimitKey(spec.name)
    if spec.per == "tenant":
        return LimitKey(spec.name, task.tenant)
    if spec.per == "agent":
        return LimitKey(spec.name, agent)
    if spec.per == "skill":
        return LimitKey(spec.name, f"{task.tenant}/{task.skill}")
    return LimitKey(spec.name, f"{task.tenant}/{task.concurrency_key}") if task.concurrency_key else None


def title(spec: LimitSpec, key: LimitKey) -> str:
    """Return "limit crawl for agent jules"."""
    return f"limit {spec.name}" + (f" for {spec.per} {key.value}" if key.value else "")


def rate_words(per_s: float) -> str:
    """Return "5 per second", or per minute or hour where that reads better."""
    for seconds, unit in ((1, "second"), (60, "minute")):
        if per_s * seconds >= 1:
            return f"{per_s * seconds:g} per {unit}"
    return f"{per_s * 3600:g} per hour"
