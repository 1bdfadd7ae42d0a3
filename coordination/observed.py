"""Canvases that were called as Celery's own: their tasks as one tree, seen from outside, for the pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from coordination import gantt
from coordination.models import Run
from routing.models import TERMINAL, Attempt, Task, TaskState

ORIGIN = "celery"
LOOKED_AT = 2_000  # of the newest tasks, for the list
LISTED = 20
SHOWN = 500  # tasks of one canvas


def newest() -> list[dict[str, Any]]:
    """Return the canvases among the newest tasks, newest first: their root, how many tasks, and how they stand."""
    rows = Task.objects.order_by("-created_at", "-id").values("context", "origin", "skill", "state", "created_at")
    found: dict[UUID, dict[str, Any]] = {}
    for row in rows[:LOOKED_AT]:
        if row["origin"] == ORIGIN and row["context"] is not None:
            one = found.setdefault(row["context"], {"root": row["context"], "tasks": 0, "states": [], "skills": set()})
            one["tasks"] += 1
            one["states"].append(row["state"])
            one["skills"].add(row["skill"])
            one["began"] = row["created_at"]
    known = set(Run.objects.filter(id__in=list(found)).values_list("id", flat=True))
    listed = [one for root, one in found.items() if root not in known][:LISTED]
    for one in listed:
        one |= {"state": together(one["states"]), "skills": ", ".join(sorted(one["skills"])[:4])}
    return listed


def together(states: list[str]) -> str:
    """Return how several tasks stand as one: as the one that needs attention most."""
    for state in (TaskState.FAILED, TaskState.REJECTED, TaskState.CANCELED):
        if state in states:
            return str(state)
    return "completed" if all(state in TERMINAL for state in states) else "running"


def tasks(root: UUID) -> list[Task]:
    """Return the tasks of the canvas, the first to be submitted first."""
    of_it = Task.objects.filter(Q(context=root) | Q(id=root)).defer("input", "output", "call")
    return list(of_it.order_by("created_at", "id")[:SHOWN])


def tree(rows: list[Task]) -> list[tuple[int, Task]]:
    """Return the tasks with how deep each stands, every one below the task that submitted it."""
    ids = {row.id for row in rows}
    below: dict[UUID | None, list[Task]] = {}
    for row in rows:
        below.setdefault(row.parent if row.parent in ids and row.parent != row.id else None, []).append(row)
    found: list[tuple[int, Task]] = []
    waiting = [(0, row) for row in reversed(below.get(None, []))]
    seen: set[UUID] = set()
    while waiting:
        depth, row = waiting.pop()
        if row.id not in seen:
            seen.add(row.id)
            found.append((depth, row))
            waiting += [(depth + 1, child) for child in reversed(below.get(row.id, []))]
    return found


def times(placed: list[tuple[int, Task]]) -> str | None:
    """Return when the tasks waited and worked, as SVG."""
    attempts: dict[UUID, list[Attempt]] = {}
    for attempt in Attempt.objects.filter(task_id__in=[row.id for _, row in placed]).order_by("number"):
        attempts.setdefault(attempt.task_id, []).append(attempt)
    lines = [
        gantt.Line(name=f"{'  ' * depth}{row.skill}", state=row.state, bars=list(_bars(row, attempts.get(row.id, []))))
        for depth, row in placed
    ]
    return gantt.svg(lines, now=timezone.now().timestamp())


def _bars(task: Task, attempts: list[Attempt]) -> Iterator[gantt.Bar]:
    free = task.created_at.timestamp()
    for attempt in attempts:
        began = (attempt.started_at or attempt.assigned_at).timestamp()
        ended = None if attempt.finished_at is None else attempt.finished_at.timestamp()
        yield gantt.Bar(kind="wait", begin=free, end=began, state="waiting", words="waited")
        words = f"attempt {attempt.number} on {attempt.agent}, {attempt.state}"
        yield gantt.Bar(kind="work", begin=began, end=ended, state=attempt.state, words=words)
        free = ended or began
    if not attempts:
        end = None if task.finished_at is None else task.finished_at.timestamp()
        yield gantt.Bar(kind="wait", begin=free, end=end, state="waiting", words="waits")
