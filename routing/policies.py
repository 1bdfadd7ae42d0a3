"""Which policy governs a task, and what does it say?  Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from routing import strategies
from routing.matching import Match, Rules, Subject, name_problems
from routing.retries import RetryPolicy

MAX_SECONDS = 7 * 24 * 3600.0

WhenShut = Literal["wait", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hedging:
    """When a second attempt flies beside one that takes long. Only for skills that say that twice does no harm."""

    enabled: bool = False
    share: float = 0.05  # 0..1, of all attempts at most so many are second ones
    busy: float = 0.8  # 0..1, not when more of the slots than this are in use

    def problems(self) -> list[str]:
        """Return in words what is wrong with it."""
        found = [] if 0 < self.share <= 0.5 else [f"hedging: share must be above 0 and at most 0.5, not {self.share}"]
        return found + ([] if 0 < self.busy <= 1 else [f"hedging: busy must be above 0 and at most 1, not {self.busy}"])


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySpec:
    """How tasks that ``match`` speaks of are routed. What is None or empty is left to the task or its skill."""

    name: str
    match: Match = field(default_factory=Match)
    position: int = 100  # the smaller goes first; of equals the narrower match
    strategy: str = strategies.DEFAULT_STRATEGY
    weights: Mapping[str, float] = field(default_factory=dict)  # of the strategy, those that differ from its own
    order: tuple[str, ...] = ()  # agents, the preferred first, for the strategy ``ordered``
    wait_s: float | None = None  # a task that has waited so long fails
    timeout_s: float | None = None  # of one attempt
    max_attempts: int | None = None
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    when_shut: WhenShut = "wait"  # what becomes of tasks while breakers exclude every able agent
    hedging: Hedging = field(default_factory=Hedging)
    shadow: str = ""  # a strategy that decides beside the real one; what it would have done is kept with the decision

    def problems(self) -> list[str]:
        """Return in words what keeps the policy from being used."""
        return list(self._problems())

    def _problems(self) -> Iterator[str]:
        yield from name_problems(self.name)
        yield from self.match.problems()
        yield from (f"strategy: {words}" for words in strategies.weights_problems(self.strategy, self.weights))
        if self.shadow and self.shadow not in strategies.STRATEGIES:
            yield f"shadow: there is no strategy {self.shadow!r}; there are {', '.join(sorted(strategies.STRATEGIES))}"
        if self.strategy == "ordered" and not self.order:
            yield "order: name the agents, the preferred first, for the strategy ordered"
        for name in ("wait_s", "timeout_s"):
            seconds = getattr(self, name)
            if seconds is not None and not (math.isfinite(seconds) and 0 < seconds <= MAX_SECONDS):
                yield f"{name}: use seconds above 0 and at most 7 days, not {seconds}"
        if self.max_attempts is not None and not 1 <= self.max_attempts <= 100:
            yield f"max_attempts: use a whole number from 1 to 100, not {self.max_attempts}"
        if self.when_shut not in get_args(WhenShut):
            yield f"when_shut: use one of {', '.join(get_args(WhenShut))}, not {self.when_shut!r}"
        yield from (f"retries: {words}" for words in self.retries.problems())
        yield from self.hedging.problems()


DEFAULT = PolicySpec(name="default", position=1_000_000)


class Policies:
    """The policies in their order."""

    def __init__(self, specs: Iterable[PolicySpec] = (), *, revision: int = 0) -> None:
        self.revision = revision  # of the configuration, kept with each decision
        self._rules: Rules[PolicySpec] = Rules(sorted(specs, key=_place))

    def of(self, task: Subject) -> PolicySpec:
        """Return the first policy that speaks of the task, or the default."""
        return next(iter(self._rules.of(task)), DEFAULT)


def _place(spec: PolicySpec) -> tuple[object, ...]:
    return spec.position, tuple(-n for n in spec.match.specificity), spec.name
