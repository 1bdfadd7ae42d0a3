"""Is another attempt worth it, when, and where?  Pure.

A ``RetryPolicy`` answers for one task by the kind of its error; a ``RetryBudget`` bounds what retries add to the load
of the whole fleet. Over budget means waiting longer, never losing the task.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from routing import jitter

Where = Literal["another", "same", "any"]  # preferred; a task whose only able agent failed it goes there again

KINDS = (
    "agent", "timeout", "lost", "bad_input", "bad_output", "limit", "canceled", "unavailable", "deadline",
)  # fmt: skip
ANY = "*"  # stands for every kind that a policy does not name
FREE = frozenset({"lost"})  # its worker died: neither the task's fault nor the agent's, so the budget does not count it
MOST_STEPS = 64  # after so many failures a wait grows no more
LEAST_WAIT_S = 0.01  # who has to wait is not told 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRule:
    """How a task is tried again after one kind of error."""

    attempts: int | None = None  # at most so many that began, the first among them; None leaves it to the task
    backoff_s: float = 1.0  # the first wait, >= 0
    factor: float = 2.0  # each later wait is so many times as long, >= 1
    max_s: float = 30.0  # but never longer than this
    jitter: float = 0.0  # 0..1, waits are shorter by up to this share, so that not all come back at once
    on: Where = "another"

    def problems(self) -> list[str]:
        """Return in words what is wrong with the rule, empty if nothing is."""
        return [words for is_wrong, words in self._checks() if is_wrong]

    def _checks(self) -> Iterator[tuple[bool, str]]:
        is_count = self.attempts is None or 1 <= self.attempts <= 100
        yield not is_count, "attempts must lie between 1 (no retry) and 100, or be left out."
        yield not 0 <= self.backoff_s <= 3_600, "backoff_s must lie between 0 and 3600 seconds."
        yield not 1 <= self.factor <= 10, "factor must lie between 1 and 10."
        yield not 0 <= self.max_s <= 86_400, "max_s must lie between 0 and 86400 seconds."
        yield self.max_s < self.backoff_s, "max_s must not be below backoff_s."
        yield not 0 <= self.jitter <= 1, "jitter must lie between 0 and 1."
        yield self.on not in get_args(Where), f"on must be one of {', '.join(get_args(Where))}."


UNSTARTED = RetryRule()  # for attempts that never began: they go on without limit, for nothing was tried
DEFAULT_RULES: Mapping[str, RetryRule] = {ANY: RetryRule(), "lost": RetryRule(backoff_s=0.0, max_s=0.0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """A rule per kind of error. The key ``*`` stands for all kinds that have none of their own."""

    rules: Mapping[str, RetryRule] = field(default_factory=lambda: DEFAULT_RULES)

    def rule(self, kind: str) -> RetryRule:
        """Return the rule for the kind: its own, that for all, or what holds where a policy says nothing."""
        own = self.rules.get(kind) or self.rules.get(ANY)
        return own or DEFAULT_RULES.get(kind) or DEFAULT_RULES[ANY]

    def problems(self) -> list[str]:
        """Return in words what is wrong with the policy, empty if nothing is."""
        known = {ANY, *KINDS}
        unknown = [f"{kind}: no such kind of error. Known: {', '.join(sorted(known))}." for kind in self.rules
                   if kind not in known]  # fmt: skip
        return unknown + [f"{kind}: {words}" for kind, rule in self.rules.items() for words in rule.problems()]


def next_delay_s(policy: RetryPolicy, kind: str, tries: int, task: str, *, limit: int | None = None) -> float | None:
    """Return the seconds until the next attempt, None if there is none.

    ``tries`` are attempts that began and did not succeed, >= 1; ``limit`` is how many the task allows, None is any
    number. The smaller of its limit and the rule's holds. That the error can be mended by trying again is known.
    """
    rule = policy.rule(kind)
    limits = [most for most in (rule.attempts, limit) if most is not None]
    if any(tries >= most for most in limits):
        return None
    return wait_s(rule, tries, task)


def wait_s(rule: RetryRule, times: int, task: str) -> float:
    """Return the seconds to wait after ``times`` failures, 0 after none: the same for the same task, always."""
    if times < 1:
        return 0.0
    longest = min(rule.max_s, rule.backoff_s * rule.factor ** min(times - 1, MOST_STEPS))
    return longest * (1 - rule.jitter * jitter.share(task, times))


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRule:
    """How many retries the fleet affords."""

    share: float = 0.2  # 0..1, each first attempt pays for so much of a retry
    most: float = 100.0  # retries that can be saved up
    floor: float = 10.0  # so many can also a small or idle fleet make …
    refill_s: float = 5.0  # … and one more after each so many seconds
    max_wait_s: float = 60.0  # nobody waits longer before it asks again
    memory_s: float = 30.0  # the rate of first attempts is taken over about so long

    def problems(self) -> list[str]:
        """Return in words what is wrong with the rule, empty if nothing is."""
        return [words for is_wrong, words in self._checks() if is_wrong]

    def _checks(self) -> Iterator[tuple[bool, str]]:
        yield not 0 <= self.share <= 1, "share must lie between 0 and 1."
        yield not 1 <= self.floor <= self.most, "floor must be at least 1 and at most `most`."
        yield not 1 <= self.most <= 1e6, "most must lie between 1 and 1000000."
        for name in ("refill_s", "max_wait_s", "memory_s"):
            yield not 0 < getattr(self, name) <= 3_600, f"{name} must be above 0 and at most 3600 seconds."


class RetryBudget:
    """The fleet's account of retries. One token pays for one."""

    def __init__(self, rule: BudgetRule | None = None) -> None:
        self.rule = rule or BudgetRule()
        self.tokens = self.rule.floor
        self._at: float | None = None  # when the account was brought up to date
        self._rate = 0.0  # first attempts a second, lately
        self._queue_until = 0.0  # the last one who was told to wait comes then

    def first(self, now: float) -> None:
        """Note down that a task began for the first time."""
        self._advance(now)
        self._rate += 1 / self.rule.memory_s
        self.tokens = max(self.tokens, min(self.rule.most, self.tokens + self.rule.share))

    def spend(self, now: float, kind: str, task: str) -> float:
        """Return 0 if a retry after an error of this kind may go ahead, which is then paid for.

        Otherwise the seconds, > 0, after which to ask again. Those who wait are told different times, at about the rate
        at which the account fills, so that few of them ask in vain.
        """
        if kind in FREE:
            return 0.0
        self._advance(now)
        if self.tokens >= 1:
            self.tokens -= 1
            return 0.0
        rule = self.rule
        each_s = 1 / (1 / rule.refill_s + rule.share * self._rate)
        free_at = max(now + (1 - self.tokens) * each_s, self._queue_until + each_s)
        if free_at - now > rule.max_wait_s:
            return rule.max_wait_s * (1 - jitter.share(task, math.floor(now)) / 2)
        self._queue_until = free_at
        return max(free_at - now, LEAST_WAIT_S)

    def _advance(self, now: float) -> None:
        """Let time pass; a clock that goes back has stood still."""
        passed = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        self._rate *= math.exp(-passed / self.rule.memory_s)
        self.tokens = max(self.tokens, min(self.rule.floor, self.tokens + passed / self.rule.refill_s))

    def snapshot(self) -> dict[str, float | None]:
        """Return the account, fit for JSON."""
        return {"tokens": self.tokens, "at": self._at, "rate": self._rate, "queue_until": self._queue_until}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Take over what ``snapshot`` returned."""
        self.tokens, self._at = kept["tokens"], kept["at"]
        self._rate, self._queue_until = kept["rate"], kept["queue_until"]
