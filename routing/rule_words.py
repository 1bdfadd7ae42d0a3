"""What a rule does, for a person who reads a list of them.  Pure."""

from __future__ import annotations

from routing.amounts import MICRO, figure
from routing.budget_rules import BudgetSpec
from routing.budget_rules import Scope as BudgetScope
from routing.containment import Containment
from routing.limit_rules import LimitSpec, OnFull, Per, rate_words
from routing.matching import HIGHEST, LOWEST, Match
from routing.policies import PolicySpec
from routing.selectors import Selector

PERIODS = {60: "minute", 3_600: "hour", 86_400: "day", 604_800: "week"}
UNITS = {"usd": "", "tokens": " tokens", "wall_s": " s of work", "attempts": " attempts"}
EACH_LIMIT: dict[Per, str] = {
    "all": "", "tenant": " for each tenant", "skill": " for each skill", "agent": " on each agent",
    "key": " for each concurrency key",
}  # fmt: skip
EACH_BUDGET: dict[BudgetScope, str] = {
    "all": "", "tenant": " for each tenant", "run": " for each run", "task": " for each task",
    "agent": " for each agent",
}  # fmt: skip
FULL: dict[OnFull, str] = {
    "queue": "others wait",
    "reject": "others are rejected",
    "cancel_oldest": "another cancels the oldest",
}


def match(spec: Match) -> str:
    """Return "tasks of code.* of tenant lab that ask for gpu=yes, priority 7 to 9", or "every task"."""
    parts = []
    if spec.skill != "*":
        parts.append(f"of {spec.skill}")
    if spec.tenant:
        parts.append(f"of tenant {spec.tenant}")
    if spec.agent != "*":
        parts.append(f"on {spec.agent}")
    if spec.labels != Selector():
        parts.append(f"that ask for {spec.labels}")
    if spec.low == spec.high:
        parts.append(f"of priority {spec.low}")
    elif (spec.low, spec.high) != (LOWEST, HIGHEST):
        parts.append(f"of priority {spec.low} to {spec.high}")
    return " ".join(["tasks", *parts]) if parts else "every task"


def policy(spec: PolicySpec) -> str:
    """Return "tasks of code.*: cheapest, at most 2 attempts of 60 s"."""
    said = [spec.strategy + (f" ({', '.join(spec.order)})" if spec.strategy == "ordered" else "")]
    if spec.weights:
        said.append("weights " + ", ".join(f"{name} {weight:g}" for name, weight in sorted(spec.weights.items())))
    if spec.max_attempts is not None:
        said.append("1 attempt" if spec.max_attempts == 1 else f"at most {spec.max_attempts} attempts")
    if spec.timeout_s is not None:
        said.append(f"{spec.timeout_s:g} s for each attempt")
    if spec.wait_s is not None:
        said.append(f"fails after waiting {spec.wait_s:g} s")
    if spec.when_shut == "fail":
        said.append("fails while every breaker is open")
    if spec.hedging.enabled:
        said.append("a second attempt beside a slow one")
    if spec.shadow:
        said.append(f"{spec.shadow} in its shadow")
    return f"{match(spec.match)}: {', '.join(said)}"


def limit(spec: LimitSpec) -> str:
    """Return "tasks of crawl: at most 5 at once on each agent, others wait"."""
    said = [] if spec.max_running is None else [f"at most {spec.max_running} at once"]
    if spec.rate_per_s is not None:
        said.append(rate_words(spec.rate_per_s) + (f" (up to {spec.burst} at once)" if spec.burst > 1 else ""))
    return f"{match(spec.match)}: {' and '.join(said)}{EACH_LIMIT[spec.per]}, {FULL[spec.on_full]}"


def budget(spec: BudgetSpec) -> str:
    """Return "every task: $5.00 each day for each tenant, then nothing begins"."""
    amount = figure(round(spec.amount * MICRO), spec.unit) + UNITS[spec.unit]
    then = "then nothing begins" if spec.hard else "beyond that it only warns"
    return f"{match(spec.match)}: {amount}{_each_period(spec.period_s)}{EACH_BUDGET[spec.scope]}, {then}"


def containment(spec: Containment, now: float) -> str:
    """Return what the switch holds, whether it is only tried, and since when."""
    if not spec.is_in_force(now):
        return f"{spec.target}: released by time"
    tried = "only observed: " if spec.mode == "observe" else ""
    return tried + spec.words() + (" (what runs is cancelled)" if spec.cancel_running else "")


def _each_period(period_s: float | None) -> str:
    if period_s is None:
        return ""
    name = PERIODS.get(int(period_s))
    return f" each {name}" if name else f" each {period_s:g} s"
