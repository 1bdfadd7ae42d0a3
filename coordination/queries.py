"""What pages read of workflows, runs and approvals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Count, Max, Q
from django.urls import reverse
from django.utils import timezone
from redis.exceptions import RedisError

from coordination.models import ENDED, Approval, MapItem, Run, RunState, StepTask, Workflow
from routing import broker
from routing.models import DEFAULT_TENANT, Attempt, Task

PAGE = 50
RECENT = timedelta(hours=24)
ITEMS_LINKED = 5  # of a map's items so many link their tasks
LINKS = 2_000
ANSWERED = 30

Cursor = tuple[datetime, UUID]


def workflow_rows() -> list[dict[str, Any]]:
    """Return all workflows by name, with their newest version and how many runs are active and began lately."""
    active = _counts(Q(state__in=[state for state in RunState if state not in ENDED]))
    recent = _counts(Q(created_at__gte=timezone.now() - RECENT))
    return [
        {
            "workflow": row,
            "tenant": "" if tenant == DEFAULT_TENANT else tenant,
            "address": address(tenant, row.name),
            "active": active.get((tenant, row.name), 0),
            "recent": recent.get((tenant, row.name), 0),
        }
        for row in Workflow.objects.annotate(newest=Max("versions__number")).order_by("name", "tenant")
        for tenant in [row.tenant_id or ""]
    ]


def address(tenant: str, name: str) -> str:
    """Return the address of the workflow's page."""
    asked = "" if tenant == DEFAULT_TENANT else f"?{urlencode({'tenant': tenant})}"
    return reverse("workflow", args=[name]) + asked


def _counts(which: Q) -> dict[tuple[str, str], int]:
    rows = Run.objects.filter(which).order_by().values("tenant_id", "workflow").annotate(count=Count("id"))
    return {(row["tenant_id"], row["workflow"]): row["count"] for row in rows}


def page_of_runs(
    *, state: str = "", workflow: str = "", tenant: str = "", before: Cursor | None = None
) -> tuple[list[Run], bool]:
    """Return up to 50 runs that fit, the newest older than ``before``, newest first; and whether there are more."""
    runs = Run.objects.defer("input", "output", "seeds", "overrides", "commands")
    if "\0" in state + workflow:  # PostgreSQL refuses to look for it
        return [], False
    if state:
        runs = runs.filter(state=state)
    if workflow:
        runs = runs.filter(workflow=workflow)
    if tenant:
        runs = runs.filter(tenant_id=tenant)
    if before is not None:
        at, id = before
        runs = runs.filter(Q(created_at__lt=at) | Q(created_at=at, id__lt=id))
    rows = list(runs.order_by("-created_at", "-id")[: PAGE + 1])
    return rows[:PAGE], len(rows) > PAGE


def cursor(run: Run) -> str:
    """Return the keyset position of a run, for the address of the page after it."""
    return f"{run.created_at.astimezone(UTC).isoformat()}_{run.id}"


def parse_cursor(text: str) -> Cursor | None:
    """Return the position, None if there is none or it was tampered with."""
    at, _, id = text.partition("_")
    try:
        moment = datetime.fromisoformat(at)
        return (moment, UUID(id)) if moment.tzinfo else None
    except ValueError:
        return None


def tasks_by_step(run: Run) -> dict[str, list[StepTask]]:
    """Return the tasks of each step, the oldest round first; of a map those of its first items."""
    few = Q(item__isnull=True) | Q(item__lt=ITEMS_LINKED)
    found: dict[str, list[StepTask]] = {}
    for row in StepTask.objects.filter(few, run_id=run.id).order_by("round", "item", "use")[:LINKS]:
        found.setdefault(row.step, []).append(row)
    return found


@dataclass(frozen=True, slots=True)
class Work:
    """A task of a step: when it was submitted and ended, and its attempts. Times in seconds since the epoch."""

    begin: float
    end: float | None
    attempts: list[tuple[int, str, str, float, float | None]]  # number, agent, state, began, ended


def work_by_step(run: Run, steps: Sequence[str]) -> dict[str, list[Work]]:
    """Return the tasks of each of the steps with their attempts, in the order in which they were submitted."""
    of = dict(StepTask.objects.filter(run_id=run.id, step__in=steps).values_list("task", "step")[:LINKS])
    attempts: dict[UUID, list[Any]] = {}
    fields = ("task_id", "number", "agent", "state", "assigned_at", "started_at", "finished_at")
    for task, number, agent, state, assigned, started, finished in (
        Attempt.objects.filter(task_id__in=of).order_by("number").values_list(*fields)
    ):
        row = (number, agent, state, (started or assigned).timestamp(), _seconds(finished))
        attempts.setdefault(task, []).append(row)
    found: dict[str, list[Work]] = {}
    for task, created, finished in (
        Task.objects.filter(id__in=of).order_by("created_at").values_list("id", "created_at", "finished_at")
    ):
        work = Work(created.timestamp(), _seconds(finished), attempts.get(task, []))
        found.setdefault(of[task], []).append(work)
    return found


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def is_led() -> bool:
    """Return whether a controller leads, so that what a page shows goes on."""
    try:
        return bool(broker.client().exists(broker.SNAPSHOT))
    except RedisError:
        return False


def items_by_step(run: Run) -> dict[tuple[str, int], dict[str, int]]:
    """Return how many items of each map, and of each round of it, have ended in which state."""
    found: dict[tuple[str, int], dict[str, int]] = {}
    rows = MapItem.objects.filter(run_id=run.id).order_by().values("step", "round", "state")
    for row in rows.annotate(count=Count("item")):
        found.setdefault((row["step"], row["round"]), {})[row["state"]] = row["count"]
    return found


def children_by_step(run: Run) -> dict[str, list[Run]]:
    """Return the sub-runs of each step, the newest last."""
    found: dict[str, list[Run]] = {}
    for child in Run.objects.filter(parent=run.id).only("id", "state", "parent_step").order_by("created_at")[:LINKS]:
        found.setdefault(child.parent_step, []).append(child)
    return found


def approvals(*, is_open: bool, only: Iterable[UUID] | None = None) -> list[Approval]:
    """Return open approvals, the oldest first, or the last ones that were answered, expired or called off."""
    rows = Approval.objects.all()
    if only is not None:
        rows = rows.filter(run_id__in=list(only))
    if is_open:
        return list(rows.filter(state=Approval.State.OPEN).order_by("asked_at")[:200])
    return list(rows.exclude(state=Approval.State.OPEN).order_by("-asked_at")[:ANSWERED])
