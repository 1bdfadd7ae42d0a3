"""What a budget says, and what is wrong with one.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, get_args

from routing.amounts import MICRO, MOST, Unit, micros
from routing.matching import Match, Subject, is_number, name_problems

MAX_PERIOD_S = 10 * 366 * 86_400
Scope = Literal["all", "tenant", "run", "task", "agent"]


class Charged(Subject, Protocol):
    """What a budget may ask of a task."""

    @property
    def id(self) -> str: ...
    @property
    def context(self) -> str: ...  # the run it belongs to; "" is none


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSpec:
    """So much for the tasks that ``match`` speaks of, apart for each of the ``scope`` and in each period."""

    name: str
    unit: Unit
    amount: float  # >= 0, in the unit
    match: Match = field(default_factory=Match)
    scope: Scope = "all"
    period_s: float | None = None  # [k·period, (k+1)·period) UTC; None: once and for all
    hard: bool = True

    @property
    def micros(self) -> int:
        """Return the amount in millionths."""
        return round(self.amount * MICRO)

    @property
    def is_per_agent(self) -> bool:
        """Return whether it depends on which agent gets the task."""
        return self.scope == "agent" or self.match.names_agents

    @property
    def reach(self) -> Literal["lane", "task"]:
        """Return whether it concerns all tasks with the same requirements, or only some of them."""
        return "task" if self.scope in ("run", "task") or self.match.names_priorities else "lane"


class BudgetKey(NamedTuple):
    """A budget, for one value of its scope ("" for all)."""

    budget: str
    value: str = ""


def problems(spec: BudgetSpec) -> list[str]:
    """Return in words what keeps the budget from being used."""
    found = [*name_problems(spec.name), *spec.match.problems()]
    if spec.unit not in get_args(Unit):
        found.append(f"unit: use one of {', '.join(get_args(Unit))}, not {spec.unit!r}")
    if spec.scope not in get_args(Scope):
        found.append(f"scope: use one of {', '.join(get_args(Scope))}, not {spec.scope!r}")
    if not is_number(spec.amount) or not 0 <= spec.amount <= MOST:
        found.append(f"amount: use a number from 0 to {MOST:,.0f}, not {spec.amount}")
    if spec.period_s is not None and not _is_period(spec.period_s):
        found.append(f"period_s: use whole seconds from 1 to {MAX_PERIOD_S} (ten years), not {spec.period_s}")
    if spec.period_s is not None and spec.scope == "task":
        found.append("period_s: a budget per task is for all of its attempts; leave the period out")
    return found


def _is_period(period_s: float) -> bool:
    return is_number(period_s) and 1 <= period_s <= MAX_PERIOD_S and float(period_s).is_integer()


def key_of(spec: BudgetSpec, task: Charged, agent: str) -> BudgetKey | None:
    """Return where the task counts in the budget; None if it belongs to no run and the budget is per run."""
    if spec.scope == "all":
        return BudgetKey(spec.name)
    if spec.scope == "run":
        return BudgetKey(spec.name, run_of(task)) if task.context else None
    return BudgetKey(spec.name, {"tenant": task.tenant, "task": task.id, "agent": agent}[spec.scope])


def run_of(task: Charged) -> str:
    """Return what stands for the task's run: a caller chooses its context, so two tenants may choose the same."""
    return f"{task.tenant}/{task.context}"


def need_of(spec: BudgetSpec, estimate: Mapping[str, float]) -> int | None:
    """Return what an attempt will use of the budget in millionths, None if that is not known.

    It is one attempt, whatever else it is.
    """
    need = micros(estimate, spec.unit)
    return MICRO if need is None and spec.unit == "attempts" else need


def meaning(spec: BudgetSpec | None) -> tuple[object, ...]:
    """Return what has to stay the same for what was spent to mean the same."""
    return () if spec is None else (spec.unit, spec.scope, spec.period_s)
