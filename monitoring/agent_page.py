"""What the page of one agent shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Q

from monitoring import limits_page, words
from routing.amounts import MICRO, figure
from routing.models import TERMINAL, Agent, Attempt, AttemptState
from routing.scorecard import BreakerNow, Card, Counted
from routing.scorecards import scorecard

RECENT = 20
SERVERS = 12  # workers that are named
IN_FLIGHT = (AttemptState.ASSIGNED, AttemptState.WORKING)


def context(agent: Agent, snapshot: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return everything the page shows; ``snapshot`` None means that no controller reports."""
    row = live_row(agent.name, snapshot)
    card = scorecard(agent)
    running = _running(agent)
    return {
        "agent": agent,
        "is_live": snapshot is not None,
        "row": row,
        "switch": switch(row, snapshot),
        "state": row["state"] if row else known_state(agent),
        "labels": [f"{name}={value}" for name, value in sorted(agent.labels.items())],
        "cost": money(float(agent.cost_usd)),
        "servers": servers(agent.name, snapshot),
        "whole": card.breaker,
        "cards": [_shown(one) for one in card.cards],
        "since": card.since,
        "is_cut": card.is_cut,
        "running": [_attempt(attempt) for attempt in running],
        "recent": [_attempt(attempt) for attempt in _recent(agent, running)],
    }


def live_row(name: str, snapshot: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return what the controller says of the agent, None if it does not know it."""
    return next((row for row in (snapshot or {}).get("fleet", []) if row["agent"] == name), None)


def switch(row: Mapping[str, Any] | None, snapshot: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the containment that the agent's row names, None if there is none or the controller has yet to tell."""
    name = ((row or {}).get("contained") or {}).get("switch")
    told = (snapshot or {}).get("rules", {}).get("containments", [])
    return next((limits_page.containment(one) for one in told if one["containment"] == name), None)


def known_state(agent: Agent) -> str:
    """Return the state as far as the registry knows it."""
    return "disabled" if not agent.enabled else "draining" if agent.draining else "silent"


def servers(name: str, snapshot: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return which workers serve the agent: some ``names``, and how many ``more``. Those that drain are left out."""
    if snapshot is None:
        return {"names": [], "more": 0}
    lists = snapshot.get("serves", {})
    workers = [row["worker"] for row in snapshot.get("workers", []) if not row.get("draining")]
    names = [worker for worker in workers if worker not in lists or name in lists[worker]]
    return {"names": names[:SERVERS], "more": max(0, len(names) - SERVERS)}


def money(usd: float | None) -> str:
    """Return dollars as a person reads them, "–" for None."""
    if usd is None:
        return "–"
    whole, _, cents = figure(round(usd * MICRO), "usd", up=True).partition(".")
    return f"{whole}.{cents[:2]}{cents[2:].rstrip('0')}"


def _shown(card: Card) -> dict[str, Any]:
    """Return one line of both tables."""
    learned = card.learned
    return {
        "skill": card.skill,
        "version": card.version,
        "success": f"{learned.success:.0%}".replace("%", " %"),
        "deviation": f"± {learned.success_sd:.0%}".replace("%", " %"),
        "expected": words.duration(learned.expected_s),
        "p95": words.duration(learned.p95_s),
        "cost": money(learned.cost_usd),
        "samples": learned.samples,
        "learned_at": learned.learned_at,
        "breaker": card.breaker,
        "history": history(card.breaker),
        "feedback": card.feedback,
        "rating": "–" if card.feedback.mean is None else words.number(card.feedback.mean),
        "counted": _counted(card.counted),
    }


def _counted(counted: Counted) -> dict[str, Any]:
    return {
        "attempts": counted.attempts,
        "running": counted.running,
        "succeeded": counted.succeeded,
        "failed": sum(counted.failed.values()),
        "errors": ", ".join(f"{count} {kind}" for kind, count in counted.failed.items()),
        "other": counted.other,
        "p50": words.duration(counted.p50_s),
        "p95": words.duration(counted.p95_s),
        "cost": money(counted.cost_usd),
    }


def history(breaker: BreakerNow) -> str:
    """Return what the breaker has been through, "" if nothing."""
    parts = [f"opened {words.several(breaker.opens, 'time')} of late"] if breaker.opens else []
    parts += [f"ejected {words.several(breaker.ejections, 'time')} in all"] if breaker.ejections else []
    return ", ".join(parts)


def _running(agent: Agent) -> list[Attempt]:
    """Return what is in flight, the longest first. Live tasks are few, and have an index."""
    live = ~Q(task__state__in=TERMINAL) & Q(task__agent=agent.name)
    rows = Attempt.objects.filter(live, agent=agent.name, state__in=IN_FLIGHT).order_by("assigned_at")
    return list(rows.select_related("task").only(*_COLUMNS)[:RECENT])


def _recent(agent: Agent, running: Sequence[Attempt]) -> list[Attempt]:
    """Return the newest that have ended."""
    newest = Attempt.objects.filter(agent=agent.name, task__tenant=agent.tenant_id).order_by("-assigned_at")
    rows = newest.select_related("task").only(*_COLUMNS)[: RECENT + agent.capacity]
    return [row for row in rows if row.state not in IN_FLIGHT][:RECENT]


def _attempt(attempt: Attempt) -> dict[str, Any]:
    error = attempt.error or {}
    trouble = ": ".join(str(error[part]) for part in ("kind", "message") if error.get(part))
    return {"attempt": attempt, "skill": attempt.task.skill, "error": trouble}


_COLUMNS = (
    "task", "task__skill", "task__state", "number", "agent", "worker", "state", "error", "hedge",
    "assigned_at", "started_at", "finished_at",
)  # fmt: skip
