"""Which rules speak of a task?  Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, Protocol, TypeVar

from routing.events import Labels
from routing.selectors import Selector

KEPT_ANSWERS = 10_000  # kinds of tasks whose rules are remembered
LOWEST, HIGHEST = 0, 9  # priorities
NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
GLOB = re.compile(r"[a-z0-9._*?-]{1,64}")


class Subject(Protocol):
    """What a rule may ask of a task."""

    @property
    def tenant(self) -> str: ...
    @property
    def skill(self) -> str: ...
    @property
    def priority(self) -> int: ...
    @property
    def labels(self) -> Labels: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which tasks, and where it matters on which agents, a rule speaks of. The plain one speaks of all."""

    skill: str = "*"  # a name, or a pattern with * and ?, such as code.*
    tenant: str = ""  # "" is any
    agent: str = "*"  # a name or pattern, like skill
    labels: Selector = field(default_factory=Selector)  # over the labels that the task asks for
    low: int = LOWEST  # priorities from
    high: int = HIGHEST  # to, inclusive

    def matches(self, task: Subject) -> bool:
        """Return whether the rule speaks of the task, whichever agent gets it."""
        return (
            self.tenant in ("", task.tenant)
            and self.low <= task.priority <= self.high
            and fits(self.skill, task.skill)
            and self.labels.matches(task.labels)
        )

    def includes(self, agent: str) -> bool:
        """Return whether the rule speaks of work on this agent."""
        return fits(self.agent, agent)

    @property
    def names_agents(self) -> bool:
        """Return whether the rule depends on the agent at all."""
        return self.agent != "*"

    @property
    def names_priorities(self) -> bool:
        """Return whether the rule depends on the priority at all."""
        return self.low > LOWEST or self.high < HIGHEST

    @property
    def specificity(self) -> tuple[int, ...]:
        """Return how narrow the rule is; a greater one goes first. Skill counts before tenant, agent, labels."""
        width = self.high - self.low
        return (*_narrowness(self.skill), int(self.tenant != ""), *_narrowness(self.agent),
                len(self.labels.requirements), -width)  # fmt: skip

    def problems(self) -> list[str]:
        """Return in words what keeps the rule from ever speaking of a task."""
        found = [
            f"{name}: use a name or a pattern of a-z, 0-9, dot, dash, underscore, * and ?, not {pattern!r}"
            for name, pattern in (("skill", self.skill), ("agent", self.agent))
            if not GLOB.fullmatch(pattern)
        ]
        if self.tenant and not NAME.fullmatch(self.tenant):
            found.append(f"tenant: no tenant can be called {self.tenant!r}")
        if not all(is_whole(bound) and LOWEST <= bound <= HIGHEST for bound in (self.low, self.high)):
            found.append(f"priority: use whole numbers from 0 to 9, not {self.low} to {self.high}")
        elif self.low > self.high:
            found.append(f"priority: {self.low} to {self.high} is empty, the lower one comes first")
        if label := self.labels.contradiction():
            found.append(f"labels: nothing can meet all that is asked of {label} ({self.labels})")
        return found


class Matched(Protocol):
    """A rule that says which tasks it speaks of."""

    @property
    def match(self) -> Match: ...


R = TypeVar("R", bound=Matched)


class Rules(Generic[R]):
    """Rules in a fixed order, which answers at once for a kind of task it has been asked about before."""

    def __init__(self, rules: Iterable[R] = ()) -> None:
        self.all = tuple(rules)
        self._known: dict[tuple[str, str, Labels, int], tuple[R, ...]] = {}

    def of(self, task: Subject) -> tuple[R, ...]:
        """Return the rules that speak of the task, whichever agent gets it."""
        kind = (task.tenant, task.skill, task.labels, task.priority)
        known = self._known.get(kind)
        if known is None:
            if len(self._known) >= KEPT_ANSWERS:
                self._known.clear()
            known = self._known[kind] = tuple(rule for rule in self.all if rule.match.matches(task))
        return known


def fits(pattern: str, name: str) -> bool:
    """Return whether the name fits the pattern, in which * is any text and ? any one character."""
    if "*" in pattern or "?" in pattern:
        return pattern == "*" or _compiled(pattern).fullmatch(name) is not None
    return pattern == name


def name_problems(name: str) -> list[str]:
    """Return in words why no rule can be called so."""
    if NAME.fullmatch(name):
        return []
    return [f"name: use 1 to 64 of a-z, 0-9, dot, dash and underscore, a letter or digit at both ends, not {name!r}"]


def is_whole(value: object) -> bool:
    """Return whether it is a whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Return whether it is a finite number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@lru_cache(maxsize=1_000)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Return the pattern as an expression. Each * gives nothing back, so no name takes long."""
    parts = [re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", pattern)]
    middle = "".join(f"(?>.*?{part})" for part in parts[1:-1])
    tail = f".*{parts[-1]}" if len(parts) > 1 else ""
    return re.compile(parts[0] + middle + tail, re.DOTALL)


def _narrowness(pattern: str) -> tuple[int, int]:
    """Return (1 for a plain name, else 0; how many characters are given)."""
    literal = len(pattern.replace("*", "").replace("?", ""))
    return int(literal == len(pattern)), literal
