"""The life of a task in words: what governs it, what each attempt came to and why it went where, why it waits now."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.utils import timezone

from routing import explanation, ledger, registry, remedies, rule_words, rulebook, waiting
from routing.explanation import Choice, Explanation
from routing.models import TERMINAL, Attempt, AttemptState, Decision, Task, TaskEvent, TaskState
from routing.quantities import duration, several

ENDED = frozenset(AttemptState) - {AttemptState.ASSIGNED, AttemptState.WORKING}


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptTold:
    """One attempt in words."""

    number: int
    agent: str
    words: str  # "completed after 3.2 s"
    choice: Choice | None
    explanation: Explanation | None

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        lines = self.explanation.lines() if self.explanation is not None else []
        return {"number": self.number, "agent": self.agent, "words": self.words, "explanation": lines}


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A task in words."""

    id: str
    headline: str
    governed: str
    attempts: tuple[AttemptTold, ...]
    now: str  # what it does or waits for; "" when it has ended
    helps: tuple[str, ...]  # what would help one that waits

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "task": self.id,
            "headline": self.headline,
            "governed": self.governed,
            "attempts": [attempt.as_dict() for attempt in self.attempts],
            "now": self.now,
            "helps": list(self.helps),
        }


def told(task: Task) -> Life:
    """Return the task's life as the ledger, the rules and the controller's last snapshot tell it."""
    now, helps = present(task, timezone.now())
    return Life(
        id=str(task.id),
        headline=_headline(task),
        governed=_governed(task),
        attempts=tuple(attempts(task)),
        now=now,
        helps=tuple(helps),
    )


def attempts(task: Task) -> Iterator[AttemptTold]:
    """Yield the attempts of the task in words, the first one first."""
    known = choices(task.id)
    for row in Attempt.objects.filter(task_id=task.id).order_by("number"):
        choice = known.get(row.number)
        yield AttemptTold(
            number=row.number,
            agent=row.agent,
            words=_attempt(row),
            choice=choice,
            explanation=explanation.explain(choice) if choice is not None else None,
        )


def choices(task_id: UUID) -> dict[int, Choice]:
    """Return why each attempt of the task went to its agent, by its number."""
    rows = TaskEvent.objects.filter(task_id=task_id, kind__in=("assigned", "hedged"))
    begun = {attempt: (kind, data) for attempt, kind, data in rows.values_list("attempt", "kind", "data")}
    decisions = Decision.objects.filter(task_id=task_id).order_by("attempt")
    return {row.attempt: _choice(row, *begun.get(row.attempt, ("", {}))) for row in decisions}


def _choice(row: Decision, kind: str, data: Mapping[str, Any]) -> Choice:
    return Choice(
        agent=row.agent,
        strategy=row.strategy,
        policy=row.policy,
        revision=row.revision,
        candidates=row.candidates,
        exclusions=row.exclusions,
        more=row.more,
        waited_for=row.waited_for,
        shadow=row.shadow,
        waited_s=data.get("waited_s"),
        hedge=kind == "hedged",
        beside=data.get("beside"),
    )


# ---- what was ---------------------------------------------------------------------------------------------------


def _headline(task: Task) -> str:
    """Return "code.review of tenant default, priority 5: completed by codex after 12 s, attempt 2"."""
    what = f"{task.skill}{f' v{task.version}' if task.version else ''} of tenant {task.tenant_id}"
    by = f" by {task.agent}" if task.agent and task.state == TaskState.COMPLETED else ""
    end = task.finished_at or timezone.now()
    took = duration((end - task.created_at).total_seconds())
    after = f"after {took}" if task.state in TERMINAL else f"for {took} now"
    why = f": {message}" if (message := (task.error or {}).get("message")) else ""
    return f"{what}, priority {task.priority}: {task.state}{by} {after}{why}"


def _governed(task: Task) -> str:
    spec = rulebook.policy_of(task.tenant_id, task.skill, task.labels, task.priority)
    return f"policy {spec.name}, as it stands now ({rule_words.policy(spec)})"


def _attempt(row: Attempt) -> str:
    begin, end = row.started_at or row.assigned_at, row.finished_at
    verb = "worked" if row.started_at else "was not begun"
    if row.state not in ENDED or end is None:
        since = duration((timezone.now() - begin).total_seconds())
        return f"{row.state} for {since} now" + (f", on {row.worker}" if row.worker else "")
    error = row.error or {}
    why = ": " + ": ".join(str(error[part]) for part in ("kind", "message") if error.get(part)) if error else ""
    return f"{row.state} after it {verb} for {duration((end - begin).total_seconds())}{why}"


# ---- what is ----------------------------------------------------------------------------------------------------


def present(task: Task, now: dt.datetime) -> tuple[str, list[str]]:
    """Return what the task does or waits for now, and what would help it."""
    if task.state in TERMINAL:
        return "", []
    if task.accepted_at is None:
        helps = ["If none is running, start one: python3 manage.py up. python3 manage.py doctor says what is wrong."]
        return "It waits for a controller to accept it.", helps
    if task.agent:
        return (
            f"{task.agent} works at it." if task.state == TaskState.WORKING else f"{task.agent} is to begin it."
        ), []
    if task.not_before is not None and task.not_before > now:
        return waiting.detail(task), ["Nothing: it begins by itself then."]
    if (pause_s := _pause_s(task, now)) > 0:
        return f"It waits {duration(pause_s)} more before its next attempt.", ["Nothing: it tries again by itself."]
    return _in_lane(task)


def _in_lane(task: Task) -> tuple[str, list[str]]:
    live = waiting.snapshot()
    if live is None:
        detail = f" What was said when it came: {task.detail}." if task.detail else ""
        return f"Why it waits is not known: no controller reports.{detail}", [
            "python3 manage.py doctor says what is wrong."
        ]
    lane = waiting.lane(task, live)
    reason = str((lane or {}).get("reason") or "")
    agents, spec = registry.agent_specs(), ledger.spec_of(task)
    helps = remedies.remedies(agents, spec, held=reason or ("" if lane else task.detail), workers=len(live["workers"]))
    if lane is None:
        return "It has just come, or has stepped aside and looks again by itself within half a minute.", helps
    others = f" ({several(lane['waiting'], 'task')} in its lane)" if lane["waiting"] > 1 else ""
    return f"It waits: {reason or 'for a free slot of an agent'}{others}.", helps


def _pause_s(task: Task, now: dt.datetime) -> float:
    """Return how many seconds are left before a task that is tried again may wait in its lane, 0 if none."""
    rows = TaskEvent.objects.filter(task_id=task.id, kind="requeued").order_by("-seq")
    last = rows.values_list("at", "data").first()
    if last is None:
        return 0.0
    at, data = last
    return max(0.0, (at - now).total_seconds() + float(data.get("retry_in_s") or 0.0))
