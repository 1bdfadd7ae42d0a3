"""How limits, budgets and containments stand, as watchers are told of it.  Pure."""

from __future__ import annotations

from heapq import nlargest
from typing import Any

from routing.amounts import window_end
from routing.budget_rules import BudgetSpec
from routing.budgets import Standing
from routing.containment import Containment
from routing.fleet import Fleet
from routing.limit_rules import LimitSpec
from routing.limits import LimitStanding
from routing.presence import iso

TOLD = 20  # values of each limit and budget, the fullest first


def rules(fleet: Fleet, now: float) -> dict[str, list[dict[str, Any]]]:
    """Return how every limit, budget and containment stands. Takes O(what they count, and lanes that wait)."""
    return {
        "limits": _limits(fleet, now),
        "budgets": _budgets(fleet, now),
        "containments": [_containment(fleet, c, now) for c in fleet.gates.containments.in_force(now)],
    }


def _limits(fleet: Fleet, now: float) -> list[dict[str, Any]]:
    limits = fleet.gates.limits
    by_name: dict[str, list[LimitStanding]] = {spec.name: [] for spec in limits.specs}
    for standing in limits.standings(now):
        by_name[standing.spec.name].append(standing)
    return [_limit(spec, by_name[spec.name]) for spec in sorted(limits.specs, key=lambda spec: spec.name)]


def _limit(spec: LimitSpec, standings: list[LimitStanding]) -> dict[str, Any]:
    fullest = nlargest(TOLD, standings, key=lambda s: (s.running, -(s.tokens or 0.0)))
    return {
        "limit": spec.name,
        "per": spec.per,
        "max_running": spec.max_running,
        "rate_per_s": spec.rate_per_s,
        "burst": spec.burst,
        "on_full": spec.on_full,
        "values": [{"value": s.value, "running": s.running, "tokens": _rounded(s.tokens)} for s in fullest],
        "more": len(standings) - len(fullest),
    }


def _budgets(fleet: Fleet, now: float) -> list[dict[str, Any]]:
    budgets = fleet.gates.budgets
    by_name: dict[str, list[tuple[str, Standing]]] = {spec.name: [] for spec in budgets.specs}
    for spec, value, standing in budgets.standings(now):
        by_name[spec.name].append((value, standing))
    return [_budget(spec, by_name[spec.name], now) for spec in sorted(budgets.specs, key=lambda spec: spec.name)]


def _budget(spec: BudgetSpec, standings: list[tuple[str, Standing]], now: float) -> dict[str, Any]:
    fullest = nlargest(TOLD, standings, key=lambda pair: pair[1].spent + pair[1].reserved)
    until = window_end(spec.period_s, now)
    return {
        "budget": spec.name,
        "unit": spec.unit,
        "scope": spec.scope,
        "amount": spec.amount,
        "hard": spec.hard,
        "until": None if until is None else iso(until),
        "values": [_spent(value, standing) for value, standing in fullest],
        "more": len(standings) - len(fullest),
    }


def _spent(value: str, standing: Standing) -> dict[str, Any]:
    left = standing.amount - standing.spent - standing.reserved
    return {
        "value": value,
        "spent": _rounded(standing.spent),
        "reserved": _rounded(standing.reserved),
        "left": _rounded(max(0.0, left)),
        "overshoot": _rounded(standing.overshoot),
    }


def _containment(fleet: Fleet, containment: Containment, now: float) -> dict[str, Any]:
    return {
        "containment": containment.name,
        "target": containment.target,
        "mode": containment.mode,
        "cancel_running": containment.cancel_running,
        "reason": containment.reason,
        "by": containment.by,
        "since": iso(containment.since),
        "until": None if containment.release_at is None else iso(containment.release_at),
        "tasks": _held(fleet, containment, now),
    }


def _held(fleet: Fleet, containment: Containment, now: float) -> int | None:
    """Return how many waiting tasks it holds, or how many it would have held if it is only observed.

    None for one that holds an agent: tasks go to others.
    """
    if containment.mode == "observe":
        return fleet.gates.containments.observed(containment.name)
    if containment.scope == "agent":
        return None
    containments, lanes = fleet.gates.containments, fleet.lanes
    return sum(len(lanes.all[key]) for key in lanes.waiting if containment in containments.holding(key, now))


def _rounded(amount: float | None) -> float | None:
    return None if amount is None else round(amount, 6)
