"""What the API reads from the ledger and the registry. Every query names its tenant."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from django.core import signing
from django.db.models import Model, Prefetch, Q, QuerySet
from ninja import Schema

from routing import errors, explanation, life, schemas, waiting
from routing.models import TERMINAL, Agent, Artifact, Attempt, Decision, Feedback, Skill, Task, TaskEvent, TaskState

BASE = "/api/v1"
EVENTS_SHOWN = 1000  # with the task itself
S = TypeVar("S", bound=Schema)


def find_task(tenant: str, task_id: UUID) -> Task:
    """Return the tenant's task. Raises ``NoSuchTask``, for another tenant's just the same."""
    task = Task.objects.filter(tenant_id=tenant, id=task_id).first()
    if task is None:
        raise errors.NoSuchTask(id=task_id)
    return task


def task_out(task: Task) -> schemas.TaskOut:
    """Return the task as the API shows it."""
    return _shape(schemas.TaskOut, task, tenant=task.tenant_id, links=_links(task), detail=waiting.detail(task))


def task_detail(task: Task) -> schemas.TaskDetail:
    """Return the task with its attempts, first events, last decision and artifacts."""
    events = events_after(task.pk, after=0, limit=EVENTS_SHOWN)
    if task.finished_at is None and any(event.kind in TERMINAL for event in events):
        task.refresh_from_db()  # it ended between the two looks
    attempts = _attempts(task.pk)
    decisions = [attempt.decision for attempt in attempts if attempt.decision is not None]
    artifacts = [
        _shape(schemas.ArtifactOut, row, href=f"{BASE}/tasks/{task.pk}/artifacts/{row.seq}")
        for row in Artifact.objects.filter(task_id=task.pk).order_by("seq")
    ]
    return _shape(
        schemas.TaskDetail,
        task,
        tenant=task.tenant_id,
        links=_links(task),
        detail=waiting.detail(task),
        decision=decisions[-1] if decisions else None,
        attempts=attempts,
        events=events,
        artifacts=artifacts,
    )


def decisions(task: Task) -> schemas.DecisionsOut:
    """Return why each attempt of the task went to its agent."""
    return schemas.DecisionsOut(
        task=task.pk, state=TaskState(task.state), detail=waiting.detail(task), attempts=_attempts(task.pk)
    )


def feedback_out(row: Feedback) -> schemas.FeedbackOut:
    """Return the word on a task as the API shows it."""
    return _shape(schemas.FeedbackOut, row, task=row.task_id)


def event_page(task: Task, query: schemas.EventQuery) -> schemas.EventPage:
    """Return the task's events after ``query.after``, in order."""
    events = events_after(task.pk, after=query.after, limit=query.limit)
    is_full = len(events) == query.limit
    more = urlencode({"after": events[-1].seq, "limit": query.limit}) if is_full else ""
    return schemas.EventPage(events=events, next=f"{BASE}/tasks/{task.pk}/events?{more}" if more else None)


def task_page(tenant: str, query: schemas.TaskQuery) -> schemas.TaskPage:
    """Return one page of the tenant's tasks, newest first. Raises ``BadCursor``.

    A cursor names the last task that was shown, so tasks that come meanwhile move nothing.
    """
    rows = list(_matching(tenant, query).defer("input", "output", "call")[: query.limit + 1])
    shown = rows[: query.limit]
    details = waiting.details(shown)
    lines = [
        _shape(schemas.TaskLine, row, tenant=row.tenant_id, links=_links(row), detail=details[row.pk]) for row in shown
    ]
    if len(rows) == len(shown):
        return schemas.TaskPage(tasks=lines, next=None)
    asked = query.model_dump(mode="json", exclude_none=True)
    more = urlencode({**asked, "cursor": _cursor(tenant, shown[-1])})
    return schemas.TaskPage(tasks=lines, next=f"{BASE}/tasks?{more}")


def agent_list(tenant: str) -> schemas.AgentList:
    """Return the tenant's agents. Their options stay inside: they may name files and programs."""
    rows = Agent.objects.filter(tenant_id=tenant).prefetch_related("skills")
    return schemas.AgentList(agents=[agent_out(row) for row in rows])


def agent_out(row: Agent) -> schemas.AgentOut:
    """Return the agent as the API shows it."""
    return _shape(schemas.AgentOut, row, skills=_skill_refs(row))


def skill_list(tenant: str) -> schemas.SkillList:
    """Return the tenant's skills with the names of the agents that have them."""
    rows = Skill.objects.filter(tenant_id=tenant).prefetch_related(Prefetch("agents", Agent.objects.only("name")))
    return schemas.SkillList(
        skills=[_shape(schemas.SkillOut, row, agents=sorted(agent.name for agent in row.agents.all())) for row in rows]
    )


def find_artifact(task: Task, seq: int) -> Artifact:
    """Return the artifact. Raises ``NoSuchArtifact``."""
    row = Artifact.objects.filter(task_id=task.pk, seq=seq).first()
    if row is None:
        raise errors.NoSuchArtifact(id=task.pk, seq=seq)
    return row


def _matching(tenant: str, query: schemas.TaskQuery) -> QuerySet[Task]:
    wanted = query.model_dump(include={"state", "skill", "agent", "parent"}, exclude_none=True)
    rows = Task.objects.filter(tenant_id=tenant, **wanted).order_by("-created_at", "-id")
    if query.since is not None:
        rows = rows.filter(created_at__gte=query.since)
    if query.until is not None:
        rows = rows.filter(created_at__lt=query.until)
    if query.cursor is not None:
        at, last = _place(tenant, query.cursor)
        # The first condition alone lets the index do the work.
        rows = rows.filter(created_at__lte=at).filter(Q(created_at__lt=at) | Q(id__lt=last))
    return rows


def _cursor(tenant: str, last: Task) -> str:
    return signing.dumps([last.created_at.isoformat(), last.pk.hex], salt=f"tasks of {tenant}")


def _place(tenant: str, cursor: str) -> tuple[datetime, UUID]:
    try:
        at, last = signing.loads(cursor, salt=f"tasks of {tenant}")
    except signing.BadSignature:
        raise errors.BadCursor(pointer="/cursor") from None
    return datetime.fromisoformat(at), UUID(last)


def events_after(task_id: UUID, *, after: int, limit: int) -> list[schemas.EventOut]:
    """Return the task's events after one, in order."""
    rows = TaskEvent.objects.filter(task_id=task_id, seq__gt=after).order_by("seq")[:limit]
    return [_shape(schemas.EventOut, row) for row in rows]


def _attempts(task_id: UUID) -> list[schemas.AttemptOut]:
    told = {number: explanation.explain(choice).lines() for number, choice in life.choices(task_id).items()}
    found = {
        row.attempt: _shape(schemas.DecisionOut, row, explanation=told.get(row.attempt, []))
        for row in Decision.objects.filter(task_id=task_id)
    }
    rows = Attempt.objects.filter(task_id=task_id).order_by("number")
    return [_shape(schemas.AttemptOut, row, decision=found.get(row.number)) for row in rows]


def _links(task: Task) -> schemas.Links:
    here = f"{BASE}/tasks/{task.pk}"
    return schemas.Links(self=here, events=f"{here}/events", cancel=f"{here}:cancel")


def _skill_refs(agent: Agent) -> list[schemas.SkillRef]:
    return [schemas.SkillRef(name=skill.name, version=skill.version) for skill in agent.skills.all()]


def _shape(schema: type[S], row: Model, **more: Any) -> S:
    """Return the row in the schema's shape; ``more`` gives the fields that are not the row's own."""
    own: Iterable[str] = schema.model_fields.keys() - more.keys()
    return schema(**{field: getattr(row, field) for field in own}, **more)
