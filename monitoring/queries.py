"""What pages read from the ledger and the registry."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Q, QuerySet
from django.urls import reverse

from coordination.models import Workflow
from monitoring import words
from monitoring.overview import Known
from routing.models import Agent, Skill, Task, TaskEvent, Tenant

RECENT = 30
PAGE = 50
PLACES = 2_000  # of each kind
EVENTS_AT_ONCE = 500


def known_agents() -> dict[str, Known]:
    """Return what the registry says of every agent, by name."""
    agents = Agent.objects.prefetch_related("skills").order_by("name")
    return {
        agent.name: {
            "tenant": agent.tenant_id or "",
            "skills": sorted({skill.name for skill in agent.skills.all()}),
            "capacity": agent.capacity,
            "state": "disabled" if not agent.enabled else "draining" if agent.draining else "silent",
        }
        for agent in agents
    }


def places() -> list[dict[str, str]]:
    """Return what a person may go to by name, each with its address: agents, skills and workflows, 2,000 of each."""
    agents = Agent.objects.order_by("name").values_list("name", flat=True)[:PLACES]
    workflows = Workflow.objects.order_by("name").values_list("name", flat=True).distinct()[:PLACES]
    return [
        *({"kind": "agent", "name": name, "href": reverse("agent", args=[name])} for name in agents),
        *({"kind": "tasks of", "name": name, "href": f"{reverse('tasks')}?{urlencode({'skill': name})}"}
          for name in skill_names()[:PLACES]),
        *({"kind": "workflow", "name": name, "href": reverse("workflow", args=[name])} for name in workflows),
    ]  # fmt: skip


def skill_names() -> list[str]:
    """Return the names of all skills."""
    return sorted(set(Skill.objects.values_list("name", flat=True)))


def _newest(tasks: QuerySet[Task], limit: int) -> list[dict[str, Any]]:
    """Return the newest tasks as rows, newest first: tenant by tenant, because the index begins with the tenant."""
    fields = ("id", "tenant", "state", "skill", "agent", "seq", "attempt", "progress", "detail")
    times = ("created_at", "started_at", "finished_at")
    rows: list[dict[str, Any]] = []
    for tenant in Tenant.objects.values_list("name", flat=True):
        of_tenant = tasks.filter(tenant=tenant).order_by("-created_at", "-id")
        rows += of_tenant.values(*fields, *times)[:limit]
    rows.sort(key=lambda row: (row["created_at"], row["id"]), reverse=True)
    return [row | {"id": str(row["id"])} for row in rows[:limit]]


def recent_tasks(limit: int = RECENT) -> list[dict[str, Any]]:
    """Return the newest tasks as rows, newest first."""
    return _newest(Task.objects.all(), limit)


def page_of_tasks(
    *, state: str = "", skill: str = "", before: tuple[datetime, UUID] | None = None
) -> tuple[list[dict[str, Any]], bool]:
    """Return up to 50 tasks that fit, the newest older than ``before``, newest first; and whether there are more."""
    tasks = Task.objects.all()
    if state:
        tasks = tasks.filter(state=state)
    if skill:
        tasks = tasks.filter(skill=skill)
    if before is not None:
        at, id = before
        tasks = tasks.filter(Q(created_at__lt=at) | Q(created_at=at, id__lt=id))
    rows = _newest(tasks, PAGE + 1)
    return rows[:PAGE], len(rows) > PAGE


def events_after(task: str, seq: int, limit: int = EVENTS_AT_ONCE) -> list[dict[str, Any]]:
    """Return a task's events after ``seq`` in order, each with its words."""
    events = TaskEvent.objects.filter(task_id=task, seq__gt=seq).order_by("seq")[:limit]
    return [event_row(event) for event in events]


def event_row(event: TaskEvent) -> dict[str, Any]:
    """Return the event as the task page shows it."""
    return {
        "seq": event.seq,
        "at": event.at,
        "kind": event.kind,
        "attempt": event.attempt,
        "level": str(event.data.get("level", "info")) if event.kind == "log" else "",
        "fraction": event.data.get("fraction") if event.kind == "progress" else None,
        "title": words.title(event.kind),
        "detail": words.detail(event.kind, event.data, attempt=event.attempt),
    }


def cursor(row: dict[str, Any]) -> str:
    """Return the keyset position of a row, for the address of the page after it."""
    return f"{row['created_at'].astimezone(UTC).isoformat()}_{row['id']}"


def parse_cursor(text: str) -> tuple[datetime, UUID] | None:
    """Return the position, None if there is none or it was tampered with."""
    at, _, id = text.partition("_")
    try:
        moment = datetime.fromisoformat(at)
        return (moment, UUID(id)) if moment.tzinfo else None
    except ValueError:
        return None
